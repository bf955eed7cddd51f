#!/usr/bin/env python3
"""The README's transcripts, each one typed again in a copy of the tree: every block that is marked "console". Its lines
with a "$" (and then a ">") are commands, the others their output, where "..." stands for anything, and a number of five
digits for any number. The block marked "c" is there as first.c, and must compile as its transcript has it. In the
chapter "Break it yourself" the block marked "sh" is typed first, the lines that break_it has changed are left out, and
the same commands with a sed that changes nothing must then not give that output. From the project's root."""
import concurrent.futures, os, re, shutil, subprocess, sys, tempfile
sys.dont_write_bytecode = True  # nothing is left beside the source
from checks import check, finish

blocks, chapter, section, BREAK = [], "", "", "Break it yourself"
readme = open("README.md").read()
first = re.search(r"^```c\n(.*?)^```$", readme, re.M | re.S)[1]
function = re.search(r"^## " + BREAK + r"$.*?^```sh\n(.*?)^```$", readme, re.M | re.S)[1]
for block in re.finditer(r"^## ([^\n]*)$|^### ([^\n]*)$|^```console\n(.*?)^```$", readme, re.M | re.S):
    chapter = block[1] or chapter
    section = block[1] or block[2] or section
    if block[3]:
        blocks.append((chapter, section, block[3]))


def run(transcript, before):
    """Types the commands of the transcript. Returns what is then on the screen."""
    with tempfile.TemporaryDirectory() as tree:
        os.chmod(tree, 0o755)
        for name in ("Makefile", "README.md", "server.c", "client.c", "common.h", "test.sh"):
            shutil.copy(name, tree)
        open(os.path.join(tree, "first.c"), "w").write(first)
        subprocess.run(["make", "-s"], cwd=tree, check=True)
        script = before.replace("/tmp/broken", tree + "/broken")
        for command in re.findall(r"^\$ .*\n(?:> .*\n)*", transcript, re.M):
            script += f"printf %s {quote(command)}\n" + re.sub(r"^[$>] ", "", command, flags=re.M)
            if command.endswith("&\n"):
                script += "sleep 1\n"  # as long as anybody needs to type on
        screen = os.path.join(tree, ".screen")
        shell = subprocess.Popen(["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c",
                                  "ip link set lo up; exec >.screen 2>&1 </dev/null\n" + script], cwd=tree)
        try:
            shell.wait(60)
        except subprocess.TimeoutExpired:
            shell.kill()
            shell.wait()
        return "".join(line for line in open(screen, errors="replace") if not line.startswith(("make:", "< ", "> ") if before else "make:"))


def quote(text):
    return "'" + text.replace("'", "'\\''") + "'"


def matches(screen, transcript):
    pattern = re.escape(transcript).replace(r"\.\.\.", ".*")
    pattern = re.sub(r"\b\d{5}\b", r"\\d+", pattern)
    return re.fullmatch(pattern, screen, re.S) is not None


# The commands in the table of the quick start, except those for other hosts and those that wait for Ctrl-C.
rows = re.findall(r"^\| `(.*?)` \|", readme[readme.index("## Quick start") : readme.index("## Where")], re.M)
rows = [row.replace("\\|", "|") for row in rows if not re.search(r"^nc|example|'tcp", row)]
lines = ["$ " + row + "\n" + ("Hello\n" if "Hello" in row else "") for row in rows]
blocks.append(("Quick start", "Quick start", "$ ./server 2>log &\n" + "".join(lines)))
jobs = []  # what to type, before that, what must come of it or must not, and a name for that
for chapter, section, transcript in blocks:
    if len(sys.argv) > 1 and sys.argv[1] not in section:
        continue
    jobs.append((transcript, function if chapter == BREAK else "", True, section))
    if chapter == BREAK:
        jobs.append((transcript, function.replace('sed "$2"', "sed ''"), False, section + ": not so with the source as it is"))
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    for (transcript, _, wanted, name), screen in zip(jobs, pool.map(lambda job: run(*job[:2]), jobs)):
        check(name, matches(screen, transcript) == wanted, screen)
finish()
