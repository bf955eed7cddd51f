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
export TEST_SECONDS=240 PROGRAMS="$PWD"
icmp='ip link set lo up; echo "0 2147483647" >/proc/sys/net/ipv4/ping_group_range; exec sh test.sh'
run 250 unshare -n sh -c "$icmp"
run 150 python3 .ci/hostile.py
run 60 python3 .ci/activation.py
run 60 sh .ci/interop.sh
run 300 python3 .ci/inject.py

gcovr --json coverage.json
gcovr --add-tracefile coverage.json | sed -n '/^File/,/^TOTAL/p'
echo "lines not executed:"
python3 - <<'END'
import json
for file in json.load(open("coverage.json"))["files"]:
    text = open(file["file"]).read().split("\n")
    for line in file["lines"]:
        if line["count"] == 0 and not line["gcovr/noncode"]:
            number = line["line_number"]
            print(f"{file['file']}:{number}: {text[number - 1].strip()}")
END
