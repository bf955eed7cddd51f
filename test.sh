#!/bin/sh
# test.sh - the echo server and its client at work.
#
# usage: sh test.sh        run the tests; the last line is "N passed, N failed"
#        sh test.sh demo   show a server, and a client on each kind of socket
#        sh test.sh bench  measure the server
#
# Each server listens on port 0, so the system picks a free one, and a test waits
# until the server has announced it. All files go to a temporary directory.

set -u
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d "${TMPDIR:-/tmp}/echo-test.XXXXXX") && cd "$dir" || exit 1
server='' held='' starts=0 passed=0 failed=0 skipped=0

# ---- Helpers ----------------------------------------------------------------
# check NAME COMMAND...: passes if the command succeeds.
check() {
    name=$1
    shift
    if "$@"; then
        passed=$((passed + 1))
        echo "ok      $name"
    else
        failed=$((failed + 1))
        echo "FAILED  $name"
    fi
}
skip() {
    skipped=$((skipped + 1))
    echo "SKIP    $1"
}
not() {
    ! "$@"
}

# run COMMAND...: with a deadline, and in a way that lets signals interrupt us.
command -v timeout >/dev/null || timeout() {
    shift
    "$@"
}
run() {
    { timeout 20 "$@" <&9 9<&- & } 9<&0
    wait $!
}
client() {
    run "$here/client" "$@"
}
# until_true COMMAND...: waits for something that happens soon.
until_true() {
    tries=0
    until "$@"; do
        tries=$((tries + 1))
        [ $tries -lt 200 ] || return 1
        sleep 0.05
    done
}
# start ARGUMENT...: starts a server, and waits until it listens. Its processes
# hold the write end of a pipe: when the last has exited, cat gets end of file.
start() {
    [ -z "$server" ] || stop KILL
    starts=$((starts + 1)) gone=gone.$starts
    rm -f log && mkfifo "alive.$starts"
    { cat "alive.$starts" && : >"$gone"; } 8>&- &
    "$here/server" "$@" 2>log 3>"alive.$starts" 8>&- &
    server=$!
    until_true grep -Eqs 'listening on|server: .*: ' log
}

# address NETWORK: where the server listens.
address() {
    sed -n "s/.*listening on \($1:.*\)/\1/p" log | head -n 1
}

# stop [SIGNAL]: ends the server; its exit status is the result.
stop() {
    kill -s "${1:-TERM}" "$server" 2>/dev/null
    wait "$server" 2>/dev/null
    status=$?
    server=''
    return $status
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
    run "$@" </dev/null >out 2>err
    [ $? -eq "$want" ] && head -n 1 err | grep -q "$pattern" && [ ! -s out ] &&
        [ "$(wc -l <err)" -eq "$want" ] && { [ "$want" -eq 1 ] || grep -q "^try '[a-z]* -h'$" err; }
}

# hold ENDPOINT: a client that stays connected until its input, descriptor 8, is
# closed. It has had one line echoed.
hold() {
    rm -f held.* && mkfifo held.in
    "$here/client" -w 20 "$1" <held.in >held.out 2>held.err 8>&- &
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
# shellcheck disable=SC2046 # one word for each process
cleanup() {
    exec 2>/dev/null
    kill -s KILL $(ps -A -o pid= -o ppid= | awk -v root=$$ '
        { parent[$1] = $2 }
        END {
            for (pid in parent) {
                for (p = pid; p in parent && p != root; p = parent[p]);
                if (p == root && pid != root) print pid
            }
        }')
    cd / && rm -rf "$dir"
}
trap cleanup EXIT
trap 'echo "interrupted, or out of time"; exit 1' HUP INT PIPE TERM
{ sleep "${TEST_SECONDS:-${1:+6}120}" && kill -s TERM $$; } & # the benchmark takes longer

# ---- The demonstration, the benchmark ---------------------------------------
demo() {
    start tcp:0 udp:0 unix unixgram unixpacket
    echo "\$ ./server tcp:0 udp:0 unix unixgram unixpacket &"
    logged unixpacket && cat log
    # shellcheck disable=SC2013 # no address has a space
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
    [ -z "$3" ] || bulk=$(head -c 200000000 /dev/zero | "$here/client" -v "$3" 2>&1 >/dev/null |
        awk '/MB.s/ { print int($(NF - 1)) }')
    shift 3
    for clients in 8:1 100:1 1000:1 8:0 100:0 1000:0; do # clients:kept
        keep=${clients#*:}
        timeout 60 redis-benchmark "$@" -t ping_mbulk -n $((keep ? 100000 : 5000)) -c "${clients%:*}" \
            -k "$keep" --csv 2>/dev/null | awk -F'"' '/PING/ { n = int($4) } END { printf "%7s", n ? n : "-" }'
    done
    printf '%8s\n' "$bulk"
}

[ $# -eq 0 ] || { "$1" && exit; }

# ---- A server in the background, several clients, and the end ---------------
: >empty
printf 'no newline' >short
number=0
while [ $number -lt 1000 ]; do echo "line $((number += 1))"; done >lines
head -c 16777216 /dev/urandom >big
{ head -c 4086 big && printf 'no newline'; } >bytes

# same ENDPOINT FILE: does the file come back from the endpoint unchanged?
same() {
    client -w 10 "$1" <"$2" >out && cmp -s out "$2"
}

networks='unix unixgram unixpacket'
for n in tcp4 udp4 tcp6 udp6 mptcp; do
    if start $n:0 && grep -q listening log; then
        networks="$networks $n:0"
    else
        skip "$n: not on this host: $(cat log)"
    fi
done
# shellcheck disable=SC2086 # one word for each network
start -v $networks
for n in $networks; do
    n=${n%:0}
    at=$(address "$n")
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
        { sed "s/^/$i /" lines | timeout 20 "$here/client" -w 10 "$1" >"out.$i"; } &
        pids="$pids $!"
    done
    for pid in $pids; do wait "$pid" || return 1; done
    for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        sed "s/^/$i /" lines | cmp -s - "out.$i" || return 1
    done
}
for n in tcp4 unix unixgram; do
    check "$n: 20 clients at once get their own lines back" crowd "$(address $n)"
done
check "-v logs who connected, how many bytes were echoed, and why it ended" \
    logged '^server: closed tcp4:127.* on tcp4:127.* after 4096 bytes: end of file$'
check "SIGTERM ends the server with status 0" stop
check "no process of the server is left" until_true [ -e "$gone" ]
check "no socket file is left" not ls ./*.sock 2>/dev/null

# One client never costs another anything.
start tcp4:0
tcp=$(address tcp4)
silent() {
    hold "$tcp" && same "$tcp" big && release
}
check "a silent client does not delay the others" silent

# ---- The end of the server --------------------------------------------------
graceful() { # graceful SIGNAL
    start tcp4:0
    tcp=$(address tcp4)
    hold "$tcp" && kill -s "$1" "$server"
    logged 'waiting up to 5 s for 1 connection; signal again' &&
        until_true not same "$tcp" short 2>/dev/null &&
        still_served && release && wait "$server" && until_true [ -e "$gone" ]
}
check "SIGTERM: graceful shutdown; the old client can finish" graceful TERM
check "SIGHUP: the same" graceful HUP
ignored() {
    (trap '' HUP INT && exec "$here/server" unix) 2>log &
    server=$!
    logged 'listening on' && kill -s HUP "$server" && kill -s INT "$server"
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
    hold "$(address tcp4)" && kill -s TERM "$server"
    logged waiting && sleep 0.2 # a signal within 100 ms counts as one
    stop && until_true [ -e "$gone" ] && not release && grep -q 'Connection reset' held.err
}
check "a second signal resets the connections" second_signal
same_port() { # the server closes first: its port is then in TIME_WAIT
    start -v -t 1 tcp4:0
    tcp=$(address tcp4)
    hold "$tcp" && logged 'after 5 bytes: idle for 1 s$' && wait "$held" && exec 8>&- &&
        stop && start "$tcp" && same "$tcp" short
}
check "-t 1: an idle connection is closed; the next server can have the port at once" same_port
killed_parent() {
    start tcp4:0 unix
    tcp=$(address tcp4) old=$gone
    hold unix && stop KILL
    start "$tcp" unix && same "$tcp" short && same unix short &&
        still_served && release && until_true [ -e "$old" ] && stop
}
check "kill -9: children finish with their clients, and a new server starts at once" killed_parent

# ---- Socket files -----------------------------------------------------------
start unix
check "a socket file is for its owner alone" [ "$(find unix.sock -type s ! -perm -040 ! -perm -04)" ]
check "bind fails if a live server has the socket file" \
    fails 1 '^server: unix:unix.sock: bind: Address .*in use$' "$here/server" unix
check "bind fails if a socket of another type has the file" \
    fails 1 '^server: unixgram:unix.sock: bind: Address .*in use$' "$here/server" unixgram:unix.sock
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
        fails 1 "^server: unix:$path: bind: Address .*in use$" "$here/server" "unix:$path"
done
check "file, directory and link stay as they were" [ "$(cat link)$(ls -d directory)" = preciousdirectory ]
replaced() {
    start unix
    mv unix.sock moved && mv file unix.sock
    stop && [ "$(cat unix.sock)" = precious ] && rm unix.sock
}
check "the server does not remove a file that is not its own" replaced
check "a socket path that is too long is a usage error" \
    fails 2 'socket path too long (at most [0-9]* bytes)$' "$here/server" "unix:$(printf %0200d 0)"
check "a server that fails to start prints one line" \
    fails 1 '^server: unix:none/x: bind: No such file or directory$' "$here/server" tcp4:0 unix unix:none/x
check "a server that fails to start leaves no socket file" not ls ./*.sock 2>/dev/null

# ---- Limits and processes ---------------------------------------------------
one_at_a_time() {
    start -m 1 tcp4:0 unix
    tcp=$(address tcp4)
    hold "$tcp"
    "$here/client" -w 10 "$tcp" <short >second 8>&- &
    second=$!
    fails 1 'timed out: nothing' "$here/client" -w 1 "$tcp" && same unix short &&
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
# shellcheck disable=SC2046 # one word for each child
signalled() { # signalled SIGNAL: to all idle children
    start unix
    crowd unix && kill -s "$1" $(children) && sleep 0.5 && crowd unix && kill -s CONT $(children) && stop
}
check "idle children are killed: no client notices" signalled KILL
check "idle children are stopped: no client notices" signalled STOP

# ---- Standard input, output and error ---------------------------------------
works() {
    server=$!
    until_true [ -S unix.sock ] && same unix bytes && stop
}
# With 2 closed the next socket would get that number, and its peer our log.
stop
"$here/server" -v unix <&- >&- 2>&- &
check "the server works with standard input, output and error closed" works

start unix unixgram
[ -c /dev/full ] || skip "standard output is full: there is no /dev/full"
for n in unix unixgram; do
    client="exec '$here/client' -w 10 $n"
    check "$n client: standard input is closed" \
        fails 1 '^client: standard input: read: Bad file descriptor$' sh -c "$client <&-"
    check "$n client: standard output is closed" \
        fails 1 '^client: standard output: write: Bad file descriptor$' sh -c "$client <short >&-"
    [ ! -c /dev/full ] || check "$n client: standard output is full" \
        fails 1 '^client: standard output: write: No space left on device$' sh -c "$client <short >/dev/full"
done

# ---- Servers that do not answer ---------------------------------------------
stop
start tcp4:0 udp4:0
tcp=$(address tcp4) udp=$(address udp4)
# shellcheck disable=SC2046
kill -s STOP "$server" $(children)
check "-w 1 ends a connection on which nothing comes back" \
    fails 1 "^client: $tcp: timed out: nothing sent or received for 1 s$" sh -c "'$here/client' -w 1 $tcp <short"
check "-w 1: a datagram that is never answered is reported" \
    fails 1 "^client: $udp: recv: .*timed out$" sh -c "'$here/client' -w 1 $udp <short"
# shellcheck disable=SC2046
kill -s CONT "$server" $(children)
stop
check "tcp4: no listener" fails 1 "^client: $tcp: connect: Connection refused$" "$here/client" "$tcp"
check "udp4: no listener" \
    fails 1 "^client: $udp: recv: Connection refused$" sh -c "'$here/client' $udp <short"
check "unix: there is no socket file" \
    fails 1 '^client: unix:unix.sock: connect: No such file or directory$' "$here/client" unix
check "a host that does not exist" \
    fails 1 '^client: tcp:no.such.host.invalid:80: getaddrinfo: ' "$here/client" tcp:no.such.host.invalid:80
for n in icmp icmp6; do
    if client $n <empty 2>err; then
        check "$n: the kernel echoes 1000 lines" same $n lines
    else
        skip "$n: $(cat err)"
    fi
done

# ---- Endpoints and usage errors ---------------------------------------------
start tcp4:0 udp4:0 ./unix.sock
tcp=$(address tcp4) udp=$(address udp4)
for at in "127.0.0.1:${tcp##*:}" "localhost:${tcp##*:}" "tcp:${tcp##*:}" "udp:${udp##*:}" ./unix.sock "unix:$dir/unix.sock"; do
    check "client ${at%%[0-9]*}...: an endpoint like that is understood" same "$at" short
done
stop
helps() {
    run "$here/$1" "$2" >out 2>err && grep -q "^usage: $1 " out && [ ! -s err ]
}
for program in server client; do
    check "$program -h prints the usage" helps $program -h
    check "$program --help prints the usage" helps $program --help
    for wrong in '' tcp: unix: tcp:70000 tcp:: tcp:::1 tcp:x:y '[::1' ::1; do
        check "$program '$wrong' is a usage error" fails 2 "^$program: $wrong: [a-z]" "$here/$program" "$wrong"
    done
    check "$program -Z is a usage error" fails 2 "^$program: unknown option '-Z'$" "$here/$program" -Z
done
for wrong in -k-1 -kx -t -m0 '-i tcp' icmp; do
    # shellcheck disable=SC2086 # some are two words
    check "server $wrong is a usage error" fails 2 ^server: "$here/server" $wrong
done
for wrong in -w '-w 1s' 'tcp:*:7777' 'localhost 7777'; do
    # shellcheck disable=SC2086
    check "client $wrong is a usage error" fails 2 ^client: "$here/client" $wrong
done

[ $skipped -eq 0 ] || passes=", $skipped skipped"
echo "$passed passed, $failed failed${passes:-}"
[ $failed -eq 0 ]
