#!/bin/sh
# test.sh - the echo server and its client at work.
#
# usage: sh test.sh        run the tests; the last line is "N passed, N failed"
#        sh test.sh demo   show a server, and a client on each kind of socket
#        sh test.sh bench  measure the server, with children that stay and without
#
# The servers take port 0, so that the system gives them a free one, and are
# used when they have announced it: no port is fixed, and nothing has to guess
# how long a server takes to start. Everything happens in a folder of its own.

set -u
LC_ALL=C
export LC_ALL
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d "${TMPDIR:-/tmp}/echo-test.XXXXXX") || exit 1
cd "$dir" || exit 1
mkdir private
TMPDIR=$dir/private # where the client makes its private folders
export TMPDIR
server='' keeper='' held='' starts=0 gone='' passed=0 failed=0 skipped=0

# ---- Helpers ----------------------------------------------------------------

pass() {
    passed=$((passed + 1))
    echo "ok      $1"
}

fail() {
    failed=$((failed + 1))
    echo "FAILED  $1"
}

skip() {
    skipped=$((skipped + 1))
    echo "SKIP    $1"
}

# check NAME COMMAND...: passes if the command succeeds.
check() {
    name=$1
    shift
    if "$@"; then pass "$name"; else fail "$name"; fi
}

# A deadline for everything: 124 is the status of what took longer.
command -v timeout >/dev/null || timeout() {
    shift
    "$@"
}

client() {
    timeout 20 "$here/client" "$@"
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

# start ARGUMENT...: starts a server in the background, with its log in the file
# "log", and waits until it listens. Every process of the server has the writing
# end of a pipe; its reader sees end of file when the last one is gone.
start() {
    [ -z "$server" ] || stop KILL
    starts=$((starts + 1))
    gone=gone.$starts
    : >log
    mkfifo "alive.$starts"
    {
        cat "alive.$starts"
        : >"$gone"
    } &
    keeper=$!
    "$here/server" "$@" 2>>log 3>"alive.$starts" &
    server=$!
    until_true announced
}

announced() {
    grep -q 'listening on' log || [ -e "$gone" ]
}

# endpoint NETWORK: one that nobody else uses.
endpoint() {
    case $1 in
    tcp* | udp* | mptcp) echo "$1:0" ;;
    *) echo "$1" ;;
    esac
}

# address NETWORK [PATTERN]: where the server listens.
address() {
    until_true grep -q "listening on $1:.*${2:-}" log
    sed -n "s/.*listening on \($1:.*${2:-}.*\)/\1/p" log | head -n 1
}

# stop [SIGNAL]: ends the server; its exit status is the result.
stop() {
    kill -s "${1:-TERM}" $server 2>/dev/null
    wait $server 2>/dev/null
    status=$?
    server=''
    return $status
}

# Have all processes of the server ended?
all_gone() {
    until_true [ -e "$gone" ]
}

not() {
    ! "$@"
}

# refused STATUS PATTERN COMMAND...: does it end with that status, and a line on
# standard error that matches? For status 2 the usage follows. The words for an
# errno differ from one C library to the next: only what they share is looked at.
refused() {
    want=$1 pattern=$2
    shift 2
    timeout 10 "$@" </dev/null >out 2>err
    [ $? -eq "$want" ] && head -n 1 err | grep -q "$pattern" && [ ! -s out ] || return 1
    if [ "$want" -eq 2 ]; then grep -q '^usage: ' err; else [ "$(wc -l <err)" -eq 1 ]; fi
}

# However this ends, no process and no file is left.
cleanup() {
    kill -s TERM $watchdog
    for pid in $server $held $keeper; do
        kill -s KILL "$pid" 2>/dev/null
    done
    cd / && rm -rf "$dir"
}
trap cleanup EXIT
trap 'echo "interrupted, or out of time"; exit 1' HUP INT PIPE TERM

# It never takes longer than that, whatever goes wrong.
{
    trap 'kill $!; exit' TERM
    sleep "${TEST_SECONDS:-120}" &
    wait $!
    kill -s TERM $$
} &
watchdog=$!

# ---- The demonstration ------------------------------------------------------

demo() {
    start tcp:0 udp:0 unix unixgram unixpacket
    address unixpacket >/dev/null
    echo "\$ ./server tcp:0 udp:0 unix unixgram unixpacket &"
    cat log
    # shellcheck disable=SC2013 # no address has a space
    for where in $(sed -n 's/.*listening on //p' log); do
        echo "\$ echo 'Hello, ${where%%:*}!' | ./client $where"
        echo "Hello, ${where%%:*}!" | client "$where" || failed=1
    done
    echo "\$ kill %1"
    stop && [ $failed -eq 0 ]
}

# ---- The benchmark ----------------------------------------------------------

# load ARGUMENT...: the line of results of a load, without its first word.
load() {
    "$here/client" -w 10 "$@" | sed -n 's/^all //p'
}

# bench_row LABEL NETWORK CONNECTIONS
bench_row() {
    at=$(address "$2")
    case $2 in
    udp* | unixgram) rate='- - - - - -' bulk='- - - - - -' large='- - - - - -' ;;
    *)
        rate=$(load -n "$3" -c 8 "$at")
        large=$(load -n 1 -r 10000 -s 16384 "$at")
        case $2 in
        unixpacket) bulk=$(load -n 1 -r 5000 -s 65507 "$at") ;;
        *) bulk=$(load -n 1 -r 5 -s 100000000 "$at") ;;
        esac
        ;;
    esac
    small=$(load -n 1 -r 20000 "$at")
    # shellcheck disable=SC2086 # results are six words each
    set -- "$1" "$2" $rate $small $large $bulk
    printf '%-11s %-9s %8s %8s %6s %6s %7s %8s %8s\n' \
        "$2" "$1" "$3" "${10}" "${12}" "${13}" "${14}" "${16}" "${23}"
}

bench() {
    echo '                      clients  one client'
    echo '                            8  64-byte round trips             16 KiB     bulk'
    echo 'network     server     conn/s trips/s 50% us 99% us 100% us  trips/s     MB/s'
    for n in tcp4 unix unixpacket udp4 unixgram; do
        start -k 0 "$(endpoint $n)"
        bench_row '-k 0' $n 1000
        stop
        start "$(endpoint $n)"
        bench_row '-k 32' $n 10000
        stop
    done
}

case ${1:-} in
demo)
    demo
    exit
    ;;
bench)
    bench
    exit
    ;;
esac

# ---- The input --------------------------------------------------------------

i=0 # all 256 byte values, and no newline at the end
while [ $i -lt 256 ]; do
    # shellcheck disable=SC2059 # the format is the point
    printf "\\$(printf %03o $i)"
    i=$((i + 1))
done >bytes
: >empty
printf 'no newline' >short
head -c 16777216 /dev/urandom >big
i=0
while [ $i -lt 1000 ]; do
    echo "line $i"
    i=$((i + 1))
done >lines

# same ENDPOINT FILE: does the file come back from there as it was?
same() {
    client -w 10 "$1" <"$2" >out && cmp -s out "$2"
}

# ---- Every network ----------------------------------------------------------

networks='tcp4 udp4 unix unixgram unixpacket'
for n in tcp6 udp6 mptcp udplite; do
    if start $n:0 && [ ! -e "$gone" ]; then
        networks="$networks $n"
    else
        skip "$n: this machine has none: $(head -n 1 log)"
    fi
    stop 2>/dev/null
done

# shellcheck disable=SC2046 # one word for each network is what we want
start -v $(for n in $networks; do endpoint "$n"; done)
for n in $networks; do
    at=$(address "$n")
    check "$n: all 256 byte values, no newline at the end" same "$at" bytes
    check "$n: a short message" same "$at" short
    check "$n: empty input" same "$at" empty
    check "$n: 1000 lines, complete and in order" same "$at" lines
    case $n in
    udp* | unixgram) ;; # a datagram at a time: not for large input
    *) check "$n: 16 MiB both ways at once" same "$at" big ;;
    esac
done

# ---- Many clients, and bad ones ---------------------------------------------

tcp=$(address tcp4)

twenty_at_once() {
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
check "tcp4: 20 clients at once, each gets its own" twenty_at_once "$tcp"
check "unix: 20 clients at once, each gets its own" twenty_at_once unix
check "unixgram: 20 clients at once, each gets its own" twenty_at_once unixgram

# hold NAME ENDPOINT: a client that stays connected, until its input, the pipe
# "NAME.in" on descriptor 8, is closed. It has had one line echoed.
hold() {
    mkfifo "$1.in"
    "$here/client" -w 20 "$2" <"$1.in" >"$1.out" 2>"$1.err" 8>&- &
    held=$!
    exec 8>"$1.in"
    echo hold >&8
    until_true grep -qs hold "$1.out"
}

# release: closes the input of the client that is held; its status is the result
release() {
    exec 8>&-
    wait $held
    released=$?
    held=''
    return $released
}

held_client_is_alone() {
    hold idle "$tcp"
    same "$tcp" big
    alone=$?
    release && return $alone
}
check "a client that says nothing holds up nobody" held_client_is_alone

# Its echo fills all buffers, the server's child blocks, and nobody else.
deaf_client_is_alone() {
    mkfifo deaf.out
    "$here/client" "$tcp" <big >deaf.out 2>deaf.err &
    deaf=$!
    exec 7<deaf.out
    same "$tcp" big
    alone=$?
    exec 7<&- # reads nothing: the client gets EPIPE
    wait $deaf
    [ $? -eq 1 ] && grep -q 'standard output: write: Broken pipe' deaf.err &&
        return $alone
}
check "a client that does not read holds up nobody" deaf_client_is_alone

killed_client_is_alone() {
    hold killed "$tcp"
    kill -s KILL $held
    release 2>/dev/null
    same "$tcp" bytes
}
check "a client that is killed harms nobody" killed_client_is_alone

logged() {
    grep -q "$1.* connected" log && grep -q "$1.* closed at .* after 256 bytes: end of file" log
}
check "-v logs who, when, how many bytes, and why" logged tcp4:127.0.0.1
check "the server ends with status 0 at SIGTERM" stop
check "no process of the server is left" all_gone
check "no socket file is left" not ls ./*.sock 2>/dev/null
check "no file of a client is left" rmdir private
mkdir private

for n in icmp icmp6; do
    if client $n <empty 2>err; then
        for file in bytes short empty lines; do
            check "$n: the kernel echoes the same: $file" same $n $file
        done
    else
        skip "$n: $(cat err)"
    fi
done
check "icmp: no server for it" refused 2 'icmp: only the kernel' "$here/server" icmp

# ---- The end of the server --------------------------------------------------

# With nobody there, at once; with a client, when that is done.
drains() {
    start tcp4:0
    hold drain "$(address tcp4)"
    kill -s "$1" $server
    until_true not same "$(address tcp4)" short 2>/dev/null || return 1
    echo 'still served' >&8
    until_true grep -q 'still served' drain.out || return 1
    release && wait $server && all_gone && rm drain.*
}
survives_hangup() {
    [ -z "$server" ] || stop KILL
    : >log
    (trap '' HUP && exec "$here/server" unix) 2>log & # as nohup does
    server=$!
    until_true grep -q 'listening on' log
    kill -s HUP $server
    same unix short && stop
}
check "SIGHUP: nothing happens if it was ignored from the start" survives_hangup
check "SIGTERM: no new clients, the old one is served to its end" drains TERM
check "SIGINT: the same" drains INT

# Two different ones: two SIGTERMs might become one on the way.
kill_twice() {
    kill -s TERM $server
    kill -s INT $server
    wait $server
}

cut_short() {
    start tcp4:0
    hold cut "$(address tcp4)"
    from=$(date +%s)
    kill_twice && all_gone && [ $(($(date +%s) - from)) -le 3 ] || return 1
    release
    [ $? -eq 1 ] && grep -q 'recv: Connection reset' cut.err && rm cut.*
}
check "a second signal cuts that short" cut_short

five_seconds() {
    start tcp4:0
    hold slow "$(address tcp4)"
    from=$(date +%s)
    stop && all_gone && took=$(($(date +%s) - from))
    [ "$took" -ge 4 ] && [ "$took" -le 6 ] || return 1
    release
    [ $? -le 1 ] && rm slow.*
}
check "a client that never ends is cut off after 5 seconds" five_seconds

# The server closes first, so that its port is in TIME_WAIT afterwards.
starts_again() {
    start tcp4:0
    at=$(address tcp4)
    hold again "$at"
    kill_twice
    release
    start "$at" && same "$at" short && stop && rm again.*
}
check "another server can use the port at once" starts_again

# ---- The socket file --------------------------------------------------------

private_file() {
    start unix
    [ "$(find unix.sock -type s ! -perm -040 ! -perm -020 ! -perm -04 ! -perm -02)" ]
}
check "it is for its owner alone" private_file
check "a live server's is refused" \
    refused 1 '^server: unix:unix.sock: bind: Address .*in use$' "$here/server" unix
check "another type of socket, too" \
    refused 1 'unixgram:unix.sock: bind: Address .*in use$' "$here/server" unixgram:unix.sock
check "and it still works" same unix short

stale() {
    stop KILL 2>/dev/null
    [ -S unix.sock ] && start unix && same unix short && stop && [ ! -e unix.sock ]
}
check "one that a killed server left is replaced" stale

echo precious >file
mkdir folder
ln -s file link
ln -s nowhere dangling
for path in file folder link dangling; do
    check "a $path is not replaced" \
        refused 1 "^server: unix:$path: bind: Address .*in use$" "$here/server" "unix:$path"
done
check "and stays as it was" [ "$(cat link)$(ls -d folder)$(readlink dangling)" = preciousfoldernowhere ]

not_mine() {
    start unix
    mv unix.sock mine
    echo precious >unix.sock
    stop && [ "$(cat unix.sock)" = precious ] && rm unix.sock mine
}
check "at the end, only the server's own is removed" not_mine

long=$(printf '%0200d' 0)
check "a path that is too long is an error" \
    refused 1 "^server: unix:$long: sun_path: File *name too long$" "$here/server" "unix:$long"
check "a folder that is missing, too" \
    refused 1 '^server: unix:none/x: bind: No such file or directory$' "$here/server" unix:none/x
check "a start that fails leaves nothing behind" \
    refused 1 'none/x' "$here/server" tcp4:0 unix unixgram unix:none/x
check "neither file nor announcement" not ls unix.sock unixgram.sock 2>/dev/null

# ---- Limits -----------------------------------------------------------------

one_at_a_time() {
    start -m 1 tcp4:0
    at=$(address tcp4)
    hold first "$at"
    "$here/client" -w 10 "$at" <short >second.out 8>&- &
    second=$!
    refused 1 'poll: nothing' "$here/client" -w 1 "$at" || return 1 # waits
    release && wait $second && cmp -s short second.out && stop && rm first.*
}
check "-m 1: the second client waits, and is served" one_at_a_time

nothing_moves() {
    start -v -t 1 tcp4:0
    hold idle2 "$(address tcp4)"
    until_true grep -q 'after 5 bytes: .* timed out' log || return 1
    release
    stop && rm idle2.*
}
check "-t 1: a connection on which nothing moves is closed" nothing_moves

does_not_read() {
    start -v -t 1 unix
    mkfifo deaf2.out
    "$here/client" unix <big >deaf2.out 2>deaf2.err &
    deaf=$!
    exec 7<deaf2.out
    until_true grep -q 'after [0-9]* bytes: .* timed out' log || return 1
    exec 7<&-
    wait $deaf
    stop
}
check "-t 1: nor does one last whose client does not read" does_not_read

# 0, 1, 2, two pipes, the socket: no descriptor is left for a connection,
# and poll() says all the time that there is one to accept.
no_descriptors() {
    [ -z "$server" ] || stop KILL
    : >log
    # shellcheck disable=SC3045 # not in POSIX sh, but in every one
    (ulimit -n 8 && exec "$here/server" unix) 2>log &
    server=$!
    until_true grep -q 'listening on' log
    refused 1 'poll: nothing' "$here/client" -w 1 unix &&
        [ "$(grep -c 'unix:unix.sock: accept: .*; trying again$' log)" = 1 ] && stop
}
check "out of descriptors: the server says so, once, and goes on" no_descriptors

crowd_waits() {
    start -m 4 unix
    client -w 10 -n 300 -c 300 -r 10 unix >/dev/null && stop
}
check "-m 4: of 300 clients at once, all are served in the end" crowd_waits

# ---- Another user, and sockets from somebody else ---------------------------

# The socket file is made by the user, and so can be removed by him.
as_nobody() {
    chmod 711 . && mkdir open && chmod 777 open
    start -u nobody tcp4:0 unix:open/sock
    [ -n "$(find open/sock -user nobody)" ] && same "$(address tcp4)" short || return 1
    if [ -r /proc/$server/status ]; then # real, effective, saved, for files; and the others
        awk '/^(Uid|Gid|Groups):/ { $1 = ""; print }' /proc/$server/status >rights
        user=$(id -u nobody) group=$(id -g nobody)
        printf ' %s\n' "$user $user $user $user" "$group $group $group $group" "$group" |
            cmp -s - rights || return 1
    fi
    stop && [ ! -e open/sock ]
}
if [ "$(id -u)" -eq 0 ]; then
    check "-u nobody: has that user's rights, and no others" as_nobody
else
    check "-u is for root" refused 1 '^server: -u nobody: setgroups: ' "$here/server" -u nobody
fi
check "-u: a user that does not exist" \
    refused 1 '^server: -u no.such.user: getpwnam: ' "$here/server" -u no.such.user tcp:0

handed() { # handed STATUS PATTERN: descriptor 3 from somebody else
    refused "$1" "$2" sh -c "LISTEN_PID=\$\$ LISTEN_FDS=1 exec '$here/server' 3</dev/null"
}
check "LISTEN_FDS: a descriptor that is no socket" handed 1 '^server: descriptor 3: getsockopt: '
check "LISTEN_FDS: not a number" refused 1 '^server: LISTEN_FDS x: ' \
    sh -c "LISTEN_PID=\$\$ LISTEN_FDS=x exec '$here/server'"

# ---- Children that stay -----------------------------------------------------

children() {
    # shellcheck disable=SC2009 # not every ps can do what pgrep does
    ps -A -o ppid= -o pid= | awk -v parent="$server" '$1 == parent { print $2 }'
}
count_is() {
    [ "$(children | wc -l)" -eq "$1" ]
}
crowd() { # ten clients, long enough to be there at the same time
    client -w 10 -n 10 -c 10 -r 1000 unix >/dev/null
}
only() { # only N OPTION...: how many children are left when all have gone?
    left=$1
    shift
    start "$@" unix
    crowd && until_true count_is "$left"
}
same_child() {
    start -v -k 1 -m 1 -t 1 unix
    same unix short && first=$(children)
    hold reused unix
    [ "$first" = "$(children)" ] &&
        until_true grep -q 'after 5 bytes: .* timed out' log || return 1
    release
    rm reused.*
}
killed_idle() {
    start unix
    crowd || return 1
    # shellcheck disable=SC2046
    kill -s KILL $(children)
    until_true count_is 0 && twenty_at_once unix && stop
}
one_is_alive() { # of the family; a zombie is not
    [ "$(ps -A -o pid= -o stat= | awk -v family="$family" '
        BEGIN { split(family, pids, " "); for (i in pids) ours[pids[i]] }
        $1 in ours && $2 !~ /^Z/ { n++ }
        END { print n + 0 }')" -eq 1 ]
}
killed_parent() {
    start -k 5 unix
    crowd && until_true count_is 5 || return 1
    hold orphan unix
    family=$(children | tr '\n' ' ')
    stop KILL
    until_true one_is_alive || return 1
    echo 'still served' >&8
    until_true grep -q 'still served' orphan.out || return 1
    [ ! -e "$gone" ] || return 1
    release && all_gone && rm orphan.* unix.sock
}
if ps -A -o ppid= -o pid= >/dev/null 2>&1; then
    check "-k 0: no child stays" only 0 -k 0
    check "-k 3: three stay" only 3 -k 3
    check "-m 4 -k 9: there are no more than 4" only 4 -m 4 -k 9
    check "a child serves one client after the other, -t holds for each" same_child
    check "idle children are killed: nobody waits" killed_idle
    check "the server is killed: idle children end, busy ones finish" killed_parent
else
    skip "children that stay: there is no ps to count them"
fi

# ---- The load generator -----------------------------------------------------

start tcp4:0 udp4:0 unix unixgram unixpacket
loaded() {
    client -v -n 50 -c 5 -r 3 -s 10000 "$(address "$1")" >out && [ "$(wc -l <out)" -eq 7 ]
}
for n in tcp4 udp4 unix unixgram unixpacket; do
    check "$n: 50 connections by 5 clients, 3 round trips on each" loaded $n
done
large() {
    client -n 1 -s 20000000 unix >out
}
check "a round trip larger than all buffers" large
stop
check "-n with nobody there" refused 1 'connect: ' \
    sh -c "'$here/client' -n 2 unix >/dev/null"

# ---- Standard input, output and error ---------------------------------------

# The next socket would have been number 2, and its peer would get the log.
works() {
    server=$!
    until_true [ -S unix.sock ] && same unix bytes && stop
}
[ -z "$server" ] || stop KILL
"$here/server" -v unix <&- >&- 2>&- &
check "server: started with 0, 1 and 2 closed" works
if [ -c /dev/full ]; then
    "$here/server" -v unix 2>/dev/full &
    check "server: its log is full" works
else
    skip "server: its log is full: there is no /dev/full"
fi
mkfifo unread
"$here/server" -v unix 2>unread &
exec 7<unread 7<&-
check "server: nobody reads its log any more" works

start unix unixgram
for network in unix unixgram; do
    client="'$here/client' -w 10 $network"
    check "$network client: standard input is closed" \
        refused 1 '^client: standard input: read: Bad file descriptor$' \
        sh -c "$client <&-"
    check "$network client: standard input is a folder" \
        refused 1 '^client: standard input: read: Is a directory$' \
        sh -c "$client </"
    check "$network client: standard output is closed" \
        refused 1 '^client: standard output: write: Bad file descriptor$' \
        sh -c "echo x | $client >&-"
    if [ -c /dev/full ]; then
        check "$network client: standard output is full" \
            refused 1 '^client: standard output: write: No space left on device$' \
            sh -c "echo x | $client >/dev/full"
    else
        skip "$network client: standard output is full: there is no /dev/full"
    fi
done
stop

# ---- A server that does not do its part -------------------------------------

# Frozen, it is still reachable; it just does not answer.
start tcp4:0 udp4:0 unixgram
tcp=$(address tcp4) udp=$(address udp4)
kill -s STOP $server
check "a connection that gets no answer: -w ends it" \
    refused 1 "^client: $tcp: poll: nothing sent or received for 1 s$" \
    sh -c "echo x | '$here/client' -w 1 $tcp"
check "a datagram that gets no answer is reported as lost" \
    refused 1 "^client: $udp: recv: no echo of message 1 (2 bytes)" \
    sh -c "echo x | '$here/client' -w 1 $udp"

folders() {
    ls private/*/socket
}
killed_midway() {
    echo x | "$here/client" -w 20 unixgram >/dev/null &
    held=$!
    until_true folders >/dev/null 2>&1 && kill -s KILL $held
    until_true rmdir private 2>/dev/null && mkdir private
}
check "unixgram: a client that is killed leaves no file" killed_midway

answers_late() {
    "$here/client" -w 1 "$udp" <lines >late.out &
    held=$!
    sleep 2 # the client has sent the first line twice, and gets it twice
    kill -s CONT "$server"
    wait $held && cmp -s lines late.out
}
check "udp4: late and double answers do no harm" answers_late
stop

check "nobody listens: tcp4" \
    refused 1 "^client: $tcp: connect: Connection refused$" "$here/client" "$tcp"
check "nobody listens: udp4" \
    refused 1 "^client: $udp: recv: Connection refused$" sh -c "echo x | '$here/client' $udp"
check "no socket file" \
    refused 1 '^client: unix:unix.sock: connect: No such file or directory$' "$here/client" unix
second_address() { # no host: ::1 is tried first, if there is one
    start "$1:0"
    at=$(address "$1")
    same "${1%4}:${at##*:}" short && stop
}
check "nobody at the first address: tcp" second_address tcp4
check "nobody at the first address: udp" second_address udp4
check "unixgram: no room for the path of a file of its own" \
    refused 1 '^client: unixgram:unixgram.sock: mkdtemp: File *name too long$' \
    env TMPDIR="/$long" "$here/client" unixgram
check "a host that does not exist" \
    refused 1 '^client: tcp:no.such.host.invalid:80: getaddrinfo: ' \
    "$here/client" tcp:no.such.host.invalid:80

closes_early() {
    start -t 1 tcp4:0
    hold early "$(address tcp4)"
    wait $held # its input is open, but nothing in it was left unsent
    early=$?
    exec 8>&-
    held=''
    [ $early -eq 0 ] && stop && rm early.*
}
check "the client ends when the server has closed" closes_early

# ---- Wrong usage ------------------------------------------------------------

helps() {
    "$here/$1" "$2" >out 2>err && grep -q "^usage: $1 " out && [ ! -s err ]
}
for program in server client; do
    check "$program -h" helps $program -h
    check "$program --help" helps $program --help
    if [ -c /dev/full ]; then
        check "$program -h: standard output is full" refused 1 \
            "^$program: standard output: write: " sh -c "'$here/$program' -h >/dev/full"
    else
        skip "$program -h: standard output is full: there is no /dev/full"
    fi
    for wrong in "tcp:$long$long:1" nosuch tcp5 '' tcp: unix: tcp:70000 tcp:-1 tcp:x tcp:: tcp:::1 \
        tcp::80 'tcp:[::1]' tcp:localhost: udp:65536 tcp4:127.0.0.1:99999999999999999999; do
        check "$program '$wrong' is wrong usage" \
            refused 2 "^$program: .*: [A-Za-z]" "$here/$program" "$wrong"
    done
    check "$program: an unknown option" refused 2 "^.*$program: .*" "$here/$program" -Z
done
for wrong in -k-1 -kx -t -t-1 -tx -t9999999999 -m0 '-m ' '-i tcp' '-i -u x'; do
    # shellcheck disable=SC2086 # some are two words
    check "server $wrong is wrong usage" refused 2 server: "$here/server" $wrong
done
for wrong in -w -w-1 '-w 1s' 'tcp udp' -n0 -c2 '-n 1 -s 65508 udp'; do
    # shellcheck disable=SC2086
    check "client $wrong is wrong usage" refused 2 client: "$here/client" $wrong
done

# ---- The result -------------------------------------------------------------

check "no file of a client is left" rmdir private
if [ $skipped -gt 0 ]; then
    echo "$passed passed, $failed failed, $skipped skipped"
else
    echo "$passed passed, $failed failed"
fi
[ $failed -eq 0 ]
