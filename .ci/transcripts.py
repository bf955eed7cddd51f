#!/usr/bin/env python3
"""The README's transcripts, each one typed again in a copy of the tree: every block that is marked "console". Its lines
with a "$" (and then a ">") are commands, the others their output, where "..." stands for anything, and a number of five
digits for any number. In the chapter "Break it yourself" the
same commands, but for the sed that breaks the source, must then not give that output. From the project's root."""
import concurrent.futures, os, re, shutil, subprocess, sys, tempfile

passed = failed = 0
blocks, chapter, section = [], "", ""
for block in re.finditer(r"^## ([^\n]*)$|^### ([^\n]*)$|^```console\n(.*?)^```$", open("README.md").read(), re.M | re.S):
    chapter = block[1] or chapter
    section = block[1] or block[2] or section
    if block[3]:
        blocks.append((chapter, section, block[3]))


def run(transcript):
    """Types the commands of the transcript. Returns what is then on the screen."""
    with tempfile.TemporaryDirectory() as tree:
        os.chmod(tree, 0o755)
        for name in ("Makefile", "README.md", "server.c", "client.c", "common.h", "test.sh"):
            shutil.copy(name, tree)
        subprocess.run(["make", "-s"], cwd=tree, check=True)
        script = ""
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
        return "".join(line for line in open(screen, errors="replace") if not line.startswith("make:"))


def quote(text):
    return "'" + text.replace("'", "'\\''") + "'"


def matches(screen, transcript):
    pattern = re.escape(transcript).replace(r"\.\.\.", ".*")
    pattern = re.sub(r"\b\d{5}\b", r"\\d+", pattern)
    return re.fullmatch(pattern, screen, re.S) is not None


def check(name, ok, screen):
    global passed, failed
    passed, failed = passed + ok, failed + (not ok)
    print("ok     " if ok else "FAILED ", name, flush=True)
    if not ok:
        print(screen)


jobs = []  # what to type, what must come of it or must not, and a name for that
for chapter, section, transcript in blocks:
    if len(sys.argv) > 1 and sys.argv[1] not in section:
        continue
    jobs.append((transcript, True, section))
    if chapter == "Break it yourself":
        whole = "".join(line for line in transcript.splitlines(True) if not line.startswith("$ sed -i"))
        jobs.append((whole, False, section + ": not so with the source as it is"))
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    for (transcript, wanted, name), screen in zip(jobs, pool.map(lambda job: run(job[0]), jobs)):
        check(name, matches(screen, transcript) == wanted, screen)
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0 or passed == 0)
