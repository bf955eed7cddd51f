#!/bin/sh
# coverage.sh - which lines no test executes: both programs are built with
# counters, in a copy of the tree, and all tests are run there. They need not
# pass (a program that ends writes its counts, which some tests are not made
# for); what they execute is counted. Needs gcovr, and what the tests need.
set -eu
cd "$(dirname "$0")/.."

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r Makefile README.md ./*.c ./*.h test.sh .ci "$copy"
cd "$copy"
# Static, as inject.py wants them. A server that is killed loses its counts.
make -s CC=gcc CFLAGS="-g -O0 -w --coverage -include .ci/flush.h" LDFLAGS=-static 2>/dev/null
sed -i 's/|| stop KILL/|| stop/' test.sh
# Who has become another user must be able to write the counts, too.
chmod 711 .
for notes in *.gcno; do
    : >"${notes%gcno}gcda"
    chmod 666 "${notes%gcno}gcda"
done

# run SECONDS COMMAND...
run() {
    seconds=$1
    shift
    timeout "$seconds" "$@" >log 2>&1 || true
    echo "$*: $(tail -n 1 log)"
}
mkdir counts
chmod 777 counts
export TEST_SECONDS=240 PROGRAMS="$PWD" COUNTS="$PWD/counts"
icmp='ip link set lo up; echo "0 2147483647" >/proc/sys/net/ipv4/ping_group_range; exec sh test.sh'
run 250 unshare -n sh -c "$icmp"
run 150 python3 .ci/hostile.py
run 60 python3 .ci/activation.py
run 60 sh .ci/interop.sh
run 300 python3 .ci/inject.py
# A fault may have hit the writing of counts, too: such a file is left out.
merge() (
    mkdir "merge.$1" && cd "merge.$1" && mkdir total
    cp "../$1.gcda" total/
    for counts in ../counts/*/"$1.gcda"; do
        mkdir one
        cp "$counts" one/
        if gcov-tool merge total one -o sum >/dev/null 2>&1; then
            rm -r total && mv sum total
        fi
        rm -rf one sum
    done
    cp "total/$1.gcda" ..
)
merge server &
merge client
wait
rm -r merge.* counts

gcovr --json coverage.json
gcovr --add-tracefile coverage.json | sed -n '/^File/,/^TOTAL/p'
echo "lines not executed, and why:"
python3 - <<'END'
import json, sys

MEMORY = "a few bytes, early: there is no way to refuse just these"
RACE = "only if two processes meet within microseconds"
REASONS = {
    "client.c": {
        'err(1, "malloc");': MEMORY,
        'err(1, "calloc");': MEMORY,
        "read_input();": RACE,  # the input that comes when the server has closed
        "break; /* a router says so; the next try goes in fragments */": "it takes a router",
    },
    "server.c": {
        'err(1, "realloc");': MEMORY,
        'err(1, "calloc");': MEMORY,
        "return 0;": "in ask_destination(): for systems that cannot tell",
        "errno = EADDRINUSE;": RACE,  # two servers at one path
        "return -1;": RACE,
        "return false;": "in next_connection(): a child has fewer descriptors than its parent, and always room for one",
        "unserved = *c;": RACE,  # a child killed between two calls
        "exit(1);": "-i, the log is the connection, and there is no /dev/null",
    },
}
unexplained = 0
for file in json.load(open("coverage.json"))["files"]:
    text = open(file["file"]).read().split("\n")
    for line in file["lines"]:
        if line["count"] == 0 and not line["gcovr/noncode"]:
            number = line["line_number"]
            code = text[number - 1].strip()
            reason = REASONS.get(file["file"], {}).get(code)
            unexplained += reason is None
            print(f"{file['file']}:{number}: {code}  [{reason or 'NOT EXPLAINED: no test executes it'}]")
sys.exit(unexplained > 0)
END
