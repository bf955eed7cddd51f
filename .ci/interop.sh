#!/bin/sh
# interop.sh - our server with other people's clients, our client with other
# people's servers. Needs socat, nc (OpenBSD's), telnet, xinetd, tcpserver,
# systemd-socket-activate and python3; a check whose program is missing is
# skipped, and says so.
set -u
here=$(cd "$(dirname "$0")/.." && pwd)
dir=$(mktemp -d) && cd "$dir" || exit 1
pids='' passed=0 failed=0 skipped=0
cleanup() {
    for pid in $pids; do kill "$pid" 2>/dev/null; done
    cd / && rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

# check PROGRAM NAME COMMAND: the shell command must print the file "text".
check() {
    if ! command -v "$1" >/dev/null; then
        skipped=$((skipped + 1))
        echo "SKIP    $2: there is no $1"
    elif timeout 30 sh -c "$3" >out 2>err && cmp -s text out; then
        passed=$((passed + 1))
        echo "ok      $2"
    else
        failed=$((failed + 1))
        echo "FAILED  $2"
        head -c 500 out err
    fi
}
listens() { # waits until a TCP port of 127.0.0.1 answers
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        "$here/client" -w 1 "tcp4:127.0.0.1:$1" </dev/null >/dev/null 2>&1 && return
        sleep 0.1
    done
}
client=$here/client server=$here/server
export client server

printf 'Hello\nworld\n' >text
"$server" tcp4:0 udp4:0 unix unixgram unixpacket 2>log &
pids="$pids $!"
until grep -q unixpacket log; do sleep 0.05; done
port=$(sed -n 's/.*tcp4:127.0.0.1://p' log) udp=$(sed -n 's/.*udp4:127.0.0.1://p' log)

check nc "nc: tcp" "nc -N 127.0.0.1 $port <text"
check nc "nc: unix" "nc -N -U unix.sock <text"
check nc "nc: udp" "nc -u -w 1 127.0.0.1 $udp <text"
check socat "socat: tcp" "socat -t 5 - TCP4:127.0.0.1:$port <text"
check socat "socat: udp" "socat -t 1 - UDP4:127.0.0.1:$udp <text"
check socat "socat: unix" "socat -t 5 - UNIX-CONNECT:unix.sock <text"
check socat "socat: unixgram" "socat -t 1 - UNIX-CLIENT:unixgram.sock,type=2,bind=mine.sock <text"
check socat "socat: unixpacket" "socat -t 1 - UNIX-CONNECT:unixpacket.sock,type=5 <text"
check telnet "telnet: tcp" "(cat text; sleep 1) | telnet 127.0.0.1 $port 2>/dev/null | tr -d '\r' | tail -n 2"

base=$((20000 + $$ % 10000))
if command -v xinetd >/dev/null; then
    cat >xinetd.conf <<END
defaults
{
    instances = 20
}
service echo
{
    type = INTERNAL UNLISTED
    id = echo-stream
    socket_type = stream
    protocol = tcp
    user = root
    wait = no
    port = $base
    bind = 127.0.0.1
}
service echo
{
    type = INTERNAL UNLISTED
    id = echo-dgram
    socket_type = dgram
    protocol = udp
    user = root
    wait = yes
    port = $base
    bind = 127.0.0.1
}
service ours
{
    type = UNLISTED
    socket_type = stream
    protocol = tcp
    user = root
    wait = no
    server = $server
    server_args = -iv
    port = $((base + 1))
    bind = 127.0.0.1
}
END
    xinetd -dontfork -f xinetd.conf 2>xinetd.log &
    pids="$pids $!"
    listens $base
    listens $((base + 1))
fi
seq 6 >many # each second one is lost, and sent again: xinetd drops what comes
           # right behind its reply
check xinetd "our client, xinetd's echo: tcp" "\$client tcp4:127.0.0.1:$base <text"
check xinetd "our client, xinetd's echo: udp" "\$client -v udp4:127.0.0.1:$base <many >out2 && cmp many out2 && cat text"
check xinetd "xinetd starts server -iv" "\$client tcp4:127.0.0.1:$((base + 1)) <text"
if command -v tcpserver >/dev/null; then
    tcpserver -RHl0 127.0.0.1 $((base + 2)) "$server" -i &
    pids="$pids $!"
    listens $((base + 2))
fi
check tcpserver "tcpserver starts server -i" "\$client tcp4:127.0.0.1:$((base + 2)) <text"
if command -v socat >/dev/null; then
    socat UNIX-LISTEN:socat.sock,fork EXEC:"$server -i" &
    pids="$pids $!"
    socat UNIX-RECVFROM:cat.sock,fork EXEC:cat &
    pids="$pids $!"
    until [ -S socat.sock ] && [ -S cat.sock ]; do sleep 0.05; done
fi
check socat "socat starts server -i" "\$client unix:socat.sock <text"
check socat "our client, socat's echo: unixgram" "\$client unixgram:cat.sock <text"
if command -v systemd-socket-activate >/dev/null; then
    systemd-socket-activate -l 127.0.0.1:$((base + 4)) "$server" 2>activate.log &
    pids="$pids $!"
    systemd-socket-activate -l 127.0.0.1:$((base + 5)) --inetd -a "$server" -i 2>inetd.log &
    pids="$pids $!"
    systemd-socket-activate -d -l "$PWD/activated.sock" "$server" 2>dgram.log &
    pids="$pids $!"
    listens $((base + 4))
    listens $((base + 5))
    until [ -S activated.sock ]; do sleep 0.05; done
fi
check systemd-socket-activate "systemd-socket-activate starts server, with a listening socket" \
    "\$client tcp4:127.0.0.1:$((base + 4)) <text && grep -q 'server: listening on tcp:127' activate.log"
check systemd-socket-activate "and with one that takes datagrams" "\$client unixgram:activated.sock <text"
check systemd-socket-activate "systemd-socket-activate --inetd -a starts server -i" \
    "\$client tcp4:127.0.0.1:$((base + 5)) <text"
if command -v python3 >/dev/null; then
    python3 -m http.server -b 127.0.0.1 $((base + 3)) >/dev/null 2>&1 &
    pids="$pids $!"
    listens $((base + 3))
fi
check python3 "a small wget" "printf 'GET /text HTTP/1.0\r\n\r\n' | \$client tcp:localhost:$((base + 3)) | sed '1,/^\r*\$/d'"

echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
