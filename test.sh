#!/bin/sh
# SPDX-License-Identifier: 0BSD
# test.sh - the echo server and its client at work.
#
# usage: sh test.sh        run the tests; the last line is "N passed, N failed"
#        sh test.sh demo   show a server, and a client on each kind of socket
#        sh test.sh bench  measure the server
#
# Each server listens on port 0, so the system picks a free one, and a test waits
# until the server has announced it. All files go to a temporary directory.

# shellcheck disable=SC2013,SC2046,SC2086 # lists are split into words on purpose
set -u
export LC_ALL=C
case $#${1-} in 0 | 1demo | 1bench) ;; *) echo 'usage: sh test.sh [demo | bench]' >&2 && exit 2 ;; esac
here=$(CDPATH='' cd "$(dirname "$0")" && pwd)
dir='' server='' held='' at='' networks='' starts=0 deadline=20 passed=0 failed=0 skipped=0
exec </dev/null 9<&0 6>&2 7>&2 8>&1 8>&- # 9 and 6: standard input and error in run(); 7: of this shell

# ---- Helpers ----------------------------------------------------------------
# check NAME COMMAND...: passes if the command succeeds. Exits if it cannot print.
check() {
    name=$1
    shift
    if "$@"; then
        passed=$((passed + 1))
        echo "ok      $name" || exit
    else
        failed=$((failed + 1))
        echo "FAILED  $name" || exit
    fi
}
skip() {
    skipped=$((skipped + 1))
    echo "SKIP    $1" || exit
}
# check_on NETWORK NAME COMMAND...: the same, if the host has the network.
check_on() {
    has "$1" || { skip "$2: no $1" && return; }
    shift
    check "$@"
}
has() {
    case "$networks " in *" $1 "* | *" $1:0 "*) ;; *) return 1 ;; esac
}
not() {
    ! "$@"
}

# run COMMAND...: runs it with a deadline; signals can still interrupt this shell. The
# clock kills the command, or the end of the command kills the clock.
run() {
    sleep $deadline &
    clock=$!
    (
        trap 'kill $!' TERM
        trap 'kill -s KILL $clock 2>/dev/null' EXIT
        "$@" <&9 2>&6 &
        wait $!
    ) &
    wait $clock 2>/dev/null && kill $!
    wait $!
}
client() {
    run ./client "$@" 9<&0
}
# until_true COMMAND...: waits for something that happens soon.
until_true() {
    tries=0
    until "$@"; do
        [ $((tries += 1)) -lt 200 ] || return 1
        sleep 0.05
    done
}
# start ARGUMENT...: starts a server, waits until it listens, and sets `at` to the first
# endpoint. Its processes hold a pipe open: when the last exits, cat gets end of file.
start() {
    stop KILL
    starts=$((starts + 1)) gone=gone.$starts
    rm -f log && mkfifo "alive.$starts"
    { exec 8>&- && cat "alive.$starts" && : >"$gone"; } &
    ./server "$@" 2>log 3>"alive.$starts" 8>&- &
    server=$!
    for last; do :; done
    until_true listens_or_gone && at=$(address)
}
listens_or_gone() {
    grep -qs "listening on ${last%%:*}:" log || [ -e "$gone" ]
}
# address [NETWORK]: where the server listens, on that network.
address() {
    sed -n "s/.*listening on \(${1-}.*\)/\1/p" log | head -n 1
}
# stop [SIGNAL]: ends the server; its exit status is the result.
stop() {
    [ "$server" ] || return
    kill -s "${1:-TERM}" "$server" 2>/dev/null
    wait "$server" 2>/dev/null
    status=$?
    server=''
    return $status
}

# probe ENDPOINT...: finds out which of these networks the host has.
probe() {
    for n; do
        start "$n"
        client -w 5 "$at" >out 6>err
        stop
        {
            grep -q 'listening on' log || grep -E ': (socket|not served|getaddrinfo)' log
            grep -E ': (socket|getaddrinfo|connect): ' err
        } >why
        if [ -s why ]; then
            skip "${n%:0}: not on this host: $(head -n 1 why)"
        else
            networks="$networks $n"
        fi
    done
}

# logged PATTERN: does the server's log say so, or will it soon?
logged() {
    until_true grep -q "$1" log
}

# fails STATUS PATTERN COMMAND...: does it end with that status, without output,
# and with one error line that matches (for 2, usage error, a second one says
# where help is)? The words for an errno differ from one C library to the next.
fails() {
    want=$1 pattern=$2
    shift 2
    run "$@" >out 6>err
    [ $? -eq "$want" ] && head -n 1 err | grep -q "$pattern" && [ ! -s out ] &&
        [ "$(wc -l <err)" -eq "$want" ] && { [ "$want" -eq 1 ] || grep -q "^try '[a-z]* -h'$" err; }
}

# hold ENDPOINT: starts a client that stays connected until its input, descriptor 8, is
# closed. Returns when it has had one line echoed.
hold() {
    rm -f held.* && mkfifo held.in
    ./client -w 20 "$1" <held.in >held.out 2>held.err 8>&- &
    held=$!
    exec 8>held.in
    echo hold >&8
    until_true grep -qs hold held.out
}
still_served() {
    echo 'still served' >&8
    until_true grep -q 'still served' held.out
}
release() { # closes the held client's input; returns the client's exit status
    exec 8>&-
    wait "$held" 2>/dev/null
}

# Whatever happens, leaves no file, and no process that this shell has started.
cleanup() {
    trap '' $signals
    exec 2>/dev/null
    [ -z "$late" ] || echo "$late" >&7 || echo "$late" >/dev/tty
    for signal in STOP STOP KILL; do # a process that is stopped starts no other
        kill -s $signal $(ps -A -o pid= -o ppid= | awk -v root=$$ '
            { parent[$1] = $2 }
            END { for (pid in parent) {
                for (p = pid; p in parent && p != root && p != parent[p]; p = parent[p]);
                if (p == root && pid != root) print pid
            } }')
    done
    cd / && rm -rf "$dir"
    [ -z "$late" ] || exit 1
}
# This also kills the clock, because zsh sometimes waits for it.
late='' clock='' signals='HUP INT QUIT PIPE TERM'
trap cleanup EXIT
trap 'trap "" $signals; late="interrupted, or out of time"; kill -s KILL $clock 2>/dev/null; exit 1' $signals
{ sleep "${TEST_SECONDS:-${1:+6}120}" && kill -s TERM $$; } & # the benchmark takes longer
dir=$(mktemp -d "${TMPDIR:-/tmp}/echo-test.XXXXXX") && cd "$dir" && dir=$PWD || exit 1
ln -s "$here/server" "$here/client" .
for program in server client; do [ -x $program ] || { echo "no $program: type make" >&2; exit 1; }; done

# ---- The demonstration, the benchmark ---------------------------------------
demo() {
    probe tcp:0 udp:0 unix unixgram unixpacket
    start $networks
    echo "\$ ./server$networks &"
    cat log
    for where in $(sed -n 's/.*listening on //p' log); do
        echo "\$ echo 'Hello, ${where%%:*}!' | ./client $where"
        echo "Hello, ${where%%:*}!" | client "$where" || failed=1
    done
    echo "\$ kill %1"
    stop && [ $failed -eq 0 ]
}
bench() { # closed loop: each client waits for a reply before it sends again
    for need in redis-benchmark:redis-tools dnsperf:dnsperf socat:socat redis-server:redis-server; do
        command -v "${need%:*}" >/dev/null || echo "no ${need%:*}: apt install ${need#*:}"
    done
    deadline=60
    echo 'replies a second, closed loop  connections kept      one for each request    bulk'
    echo 'network  server           8    100   1000       8    100   1000    MB/s'
    for idle in 0 32; do
        start -m 2000 -k $idle tcp4:0 udp4:0 unix
        port=$(address tcp4) port=${port##*:} udp=$(address udp4)
        bench_row tcp4 "server -k $idle" tcp4:127.0.0.1:"$port" -h 127.0.0.1 -p "$port"
        bench_row unix "server -k $idle" unix -s unix.sock
    done
    echo 'example.org A' >query # dnsperf takes the echo of its query for an answer
    printf 'udp4     server      '
    for clients in 8 100 1000; do
        dnsperf -s 127.0.0.1 -p "${udp##*:}" -d query -c $clients -q $clients -l 2 2>/dev/null |
            awk '/per second/ { n = $4 } END { printf "%7s", n ? int(n) : "-" }'
    done
    echo
    stop # the others get the port that it had
    bench_other socat TCP4-LISTEN:"$port",bind=127.0.0.1,reuseaddr,fork,backlog=4096 PIPE
    bench_other redis-server --bind 127.0.0.1 --port "$port" --save ''
}
bench_other() {
    command -v "$1" >/dev/null || return 0
    "$@" >/dev/null 2>&1 &
    held=$!
    sleep 1
    bench_row tcp4 "$1" '' -h 127.0.0.1 -p "$port"
    kill $held && wait $held 2>/dev/null
}
bench_row() { # NETWORK LABEL ENDPOINT WHERE...: the endpoint, if any, is for bulk
    printf '%-8s %-12s' "$1" "$2"
    bulk=''
    [ -z "$3" ] || bulk=$(dd if=/dev/zero bs=100000 count=2000 2>/dev/null |
        client -v "$3" 6>&1 >/dev/null | awk '/MB.s/ { print int($(NF - 1)) }')
    shift 3
    for clients in 8:1 100:1 1000:1 8:0 100:0 1000:0; do # clients:kept
        keep=${clients#*:}
        run redis-benchmark "$@" -t ping_mbulk -n $((keep ? 100000 : 5000)) -c "${clients%:*}" -k "$keep" \
            --csv 6>/dev/null | awk -F'"' '/PING/ { n = int($4) } END { printf "%7s", n ? n : "-" }'
    done
    printf '%8s\n' "$bulk"
}

[ $# -eq 0 ] || { "$1"; exit; }

# ---- A server in the background, several clients, and the end ---------------
: >empty
printf 'no newline' >short
awk 'BEGIN { while (n < 1000) print "line", ++n }' >lines
dd if=/dev/urandom of=big bs=65536 count=256 2>/dev/null
{ dd if=big bs=4086 count=1 2>/dev/null && printf 'no newline'; } >bytes

# same ENDPOINT FILE: does the file come back from the endpoint unchanged?
same() {
    client -w 10 "$1" <"$2" >out && cmp -s out "$2"
}

probe unix unixgram unixpacket tcp4:0 udp4:0 tcp6:0 udp6:0 mptcp:0
stream=tcp4:0 datagram=udp4:0 # where the network does not matter
has tcp4 || stream=unix:stream.sock
has udp4 || datagram=unixgram:datagram.sock
start -v $networks
for n in $networks; do
    n=${n%:0} at=$(address ${n%:0})
    check "$n: random bytes come back, with no newline at the end" same "$at" bytes
    check "$n: empty input gives empty output" same "$at" empty
    check "$n: 1000 lines come back complete and in order" same "$at" lines
    case $n in
    udp* | unixgram) ;; # a datagram at a time: not for large input
    *) check "$n: 16 MiB go both ways at the same time" same "$at" big ;;
    esac
done

# Each of 20 clients at once sends lines of its own.
crowd() {
    pids=''
    for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        { sed "s/^/$i /" lines | client -w 10 "$1" >"out.$i"; } &
        pids="$pids $!"
    done
    for pid in $pids; do wait "$pid" || return 1; done
    for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        sed "s/^/$i /" lines | cmp -s - "out.$i" || return 1
    done
}
for n in tcp4 unix unixgram; do
    check_on $n "$n: 20 clients at once get their own lines back" crowd "$(address $n)"
done
check_on tcp4 "-v logs who connected, how many bytes were echoed, and why it ended" \
    logged '^server: closed tcp4:127.* on tcp4:127.* after 4096 bytes: end of file$'
check "SIGTERM ends the server with status 0" stop
check "no process of the server is left" until_true [ -e "$gone" ]
check "no socket file is left" not ls ./*.sock 2>/dev/null

# One client never delays another.
start $stream
silent() {
    hold "$at" && same "$at" big && release
}
check "a silent client does not delay the others" silent

# ---- The end of the server --------------------------------------------------
graceful() { # graceful SIGNAL
    start $stream
    hold "$at" && kill -s "$1" "$server"
    logged 'waiting up to 5 s for 1 connection; signal again' &&
        until_true not same "$at" short 6>/dev/null &&
        still_served && release && wait "$server" && until_true [ -e "$gone" ]
}
check "SIGTERM: graceful shutdown; the old client can finish" graceful TERM
check "SIGHUP: the same" graceful HUP
ignored() {
    (trap '' HUP INT && exec ./server unix) 2>log &
    server=$!
    until_true same unix short 6>/dev/null && kill -s HUP "$server" && kill -s INT "$server"
    same unix short && stop
}
check "SIGHUP and SIGINT stay ignored if they were ignored at startup (nohup)" ignored
idle_children() {
    start unix
    crowd unix && stop && [ "$(wc -l <log)" -eq 1 ]
}
check "a server without clients exits at once" idle_children
second_signal() {
    start tcp4:0
    hold "$at" && kill -s TERM "$server"
    logged waiting && sleep 0.2 # a signal within 100 ms counts as one
    stop && until_true [ -e "$gone" ] && not release && grep -q 'Connection reset' held.err
}
check_on tcp4 "a second signal resets the connections" second_signal
same_port() { # the server closes first: its port is then in TIME_WAIT
    start -v -t 1 $stream
    hold "$at" && logged 'after 5 bytes: idle timeout$' && wait "$held" && exec 8>&- &&
        stop && start "$at" && same "$at" short
}
check "-t 1: an idle connection is closed; the next server can have the port at once" same_port
killed_parent() {
    start $stream unix
    old=$gone
    hold unix && stop KILL
    start "$at" unix && same "$at" short && same unix short &&
        still_served && release && until_true [ -e "$old" ] && stop
}
check "kill -9: children finish with their clients, and a new server starts at once" killed_parent

# ---- Socket files -----------------------------------------------------------
start unix
check "a socket file is for its owner alone" [ "$(find unix.sock -type s ! -perm -040 ! -perm -04)" ]
check "bind fails if a live server has the socket file" \
    fails 1 '^server: unix:unix.sock: bind: Address .*in use$' ./server unix
check "bind fails if a socket of another type has the file" \
    fails 1 '^server: unixgram:unix.sock: bind: Address .*in use$' ./server unixgram:unix.sock
check "the live server still works after that" same unix short
stale() {
    stop KILL
    [ -S unix.sock ] && start unix && same unix short && stop && [ ! -e unix.sock ]
}
check "a socket file left behind by a killed server is replaced" stale
echo precious >file
mkdir directory
ln -s file link
for path in file directory link; do
    check "bind fails if there is a $path at the path" \
        fails 1 "^server: unix:$path: bind: Address .*in use$" ./server "unix:$path"
done
check "file, directory and link stay as they were" [ "$(cat link)$(ls -d directory)" = preciousdirectory ]
replaced() {
    start unix
    mv unix.sock moved && mv file unix.sock
    stop && [ "$(cat unix.sock)" = precious ] && rm unix.sock
}
check "the server does not remove a file that is not its own" replaced
check "a socket path that is too long is a usage error" \
    fails 2 'socket path too long (at most [0-9]* bytes)$' ./server "unix:$(printf %0200d 0)"
check "a server that fails to start prints one line" \
    fails 1 '^server: unix:none/x: bind: No such file or directory$' ./server $stream unix unix:none/x
check "a server that fails to start leaves no socket file" not ls ./*.sock 2>/dev/null

# ---- Limits and processes ---------------------------------------------------
one_at_a_time() {
    start -m 1 $stream unix
    hold "$at"
    ./client -w 10 "$at" <short >second 8>&- &
    second=$!
    fails 1 'timed out: nothing' ./client -w 1 "$at" && same unix short &&
        release && wait "$second" && cmp -s short second && stop
}
check "-m 1: a second client waits, and is served; another socket is not affected" one_at_a_time
children() {
    ps -A -o ppid= -o pid= -o stat= | awk -v parent="$server" '$1 == parent && $3 !~ /^Z/ { print $2 }'
}
few_children() {
    [ "$(children | wc -l)" -le 3 ]
}
reused() {
    start -k 3 -m 5 unix
    crowd unix && until_true few_children && stop
}
check "-k 3 -m 5: all 20 clients are served, and at most three children stay" reused
signalled() { # signalled SIGNAL: to all idle children
    start unix
    crowd unix && kill -s "$1" $(children) && sleep 0.5 && crowd unix && kill -s CONT $(children) && stop
}
check "idle children are killed: no client notices" signalled KILL
check "idle children are stopped: no client notices" signalled STOP

# ---- Standard input, output and error ---------------------------------------
works() {
    server=$!
    until_true same unix bytes 6>/dev/null && stop
}
# With 2 closed the next socket would get that number, and its peer our log.
stop
./server -v unix <&- >&- 2>&- &
check "the server works with standard input, output and error closed" works

start unix unixgram
[ -c /dev/full ] || skip "standard output is full: there is no /dev/full"
for n in unix unixgram; do
    client="exec ./client -w 10 $n"
    check "$n client: standard input is closed" \
        fails 1 '^client: standard input: read: Bad file descriptor$' sh -c "$client <&-"
    check "$n client: standard output is closed" \
        fails 1 '^client: standard output: write: Bad file descriptor$' sh -c "$client <short >&-"
    [ ! -c /dev/full ] || check "$n client: standard output is full" \
        fails 1 '^client: standard output: write: No space left on device$' sh -c "$client <short >/dev/full"
done

# ---- Servers that do not answer ---------------------------------------------
stop
start $stream $datagram
udp=$(address "${datagram%:*}")
kill -s STOP "$server" $(children)
check "-w 1 ends a connection on which nothing comes back" \
    fails 1 "^client: $at: timed out: nothing sent or received for 1 s$" sh -c "exec ./client -w 1 $at <short"
check "-w 1: a datagram that is never answered is reported" \
    fails 1 "^client: $udp: recv: .*timed out$" sh -c "exec ./client -w 1 $udp <short"
kill -s CONT "$server" $(children)
stop
check_on tcp4 "tcp4: no listener" fails 1 "^client: $at: connect: Connection refused$" ./client "$at"
check_on udp4 "udp4: no listener" \
    fails 1 "^client: $udp: recv: Connection refused$" sh -c "exec ./client $udp <short"
check "unix: there is no socket file" \
    fails 1 '^client: unix:unix.sock: connect: No such file or directory$' ./client unix
check "a host that does not exist" \
    fails 1 '^client: tcp:no.such.host.invalid:80: getaddrinfo: ' ./client tcp:no.such.host.invalid:80

# ---- Endpoints and usage errors ---------------------------------------------
start ./unix.sock $datagram $stream
tcp=$(address tcp4) tcp=${tcp##*:} udp=$(address udp4) udp=${udp##*:}
for at in "127.0.0.1:$tcp" "localhost:$tcp" "tcp:$tcp" "udp:$udp" ./unix.sock "unix:$dir/unix.sock"; do
    case $at in */*) n=unix ;; udp:*) n=udp4 ;; *) n=tcp4 ;; esac
    [ ${#at} -le 100 ] || n='room for its path'
    check_on "$n" "client ${at%%[0-9]*}...: an endpoint like that is understood" same "$at" short
done
stop
helps() {
    run "./$1" "$2" >out 6>err && grep -q "^usage: $1 " out && [ ! -s err ]
}
for program in server client; do
    check "$program -h prints the usage" helps $program -h
    check "$program --help prints the usage" helps $program --help
    for wrong in '' tcp: unix: tcp:70000 tcp:: tcp:::1 tcp:x:y '[::1' ::1; do
        check "$program '$wrong' is a usage error" fails 2 "^$program: $wrong: [a-z]" "./$program" "$wrong"
    done
    check "$program -Z is a usage error" fails 2 "^$program: unknown option '-Z'$" "./$program" -Z
done
for wrong in -k-1 -kx -t -m0 '-i tcp' 'localhost 7777' http://localhost:80 --port; do
    check "server $wrong is a usage error" fails 2 ^server: ./server $wrong
done
for wrong in -w '-w 1s' 'tcp:*:7777' 'localhost 7777'; do
    check "client $wrong is a usage error" fails 2 ^client: ./client $wrong
done

[ $skipped -eq 0 ] || passes=", $skipped skipped"
echo "$passed passed, $failed failed${passes:-}" && [ $failed -eq 0 ]
