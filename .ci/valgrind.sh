#!/bin/sh
# valgrind.sh - parent, children and clients under valgrind's memcheck: no wrong
# access, no lost memory, and at the end of a process no socket left open that
# it has accepted, connected or listened on. (The pipes of the server, and a
# child's channel, are open for as long as the process lives.)
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
dir=$(mktemp -d) && cd "$dir"
cp "$here/test.sh" text
server=''
trap 'kill $server 2>/dev/null || true; cd / && rm -rf "$dir"' EXIT

# To be run in a subshell: valgrind takes its place, and its signals.
checked() {
    exec valgrind --quiet --log-file=memcheck.%p --leak-check=full --errors-for-leak-kinds=definite \
        --track-fds=yes --error-exitcode=99 "$@"
}
checked "$here/server" -k 1 -t 20 tcp4:0 udp4:0 unix unixgram unixpacket 2>log &
server=$!
until grep -q unixpacket log; do sleep 0.1; done
# shellcheck disable=SC2013 # no address has a space
for at in $(sed -n 's/.*listening on //p' log); do
    (checked "$here/client" -w 20 "$at") <text >out
    cmp out text
    (checked "$here/client" -w 20 -n 6 -c 3 -r 2 -s 5000 "$at") >/dev/null
done
kill -s TERM $server
wait $server

if grep -A 9 -E 'Invalid|uninit|lost|Process terminating' memcheck.*; then exit 1; fi
if grep -A 9 -E ': (accept|socket|recvmsg) \(' memcheck.*; then exit 1; fi
processes=$(find . -name 'memcheck.*' | wc -l)
echo "$processes processes: no error, no lost memory, no socket left open"
