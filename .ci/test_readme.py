"""The README: its transcripts typed again in bash and in zsh, and its C code compiled.

A block marked "console" is a transcript. Its lines with a "$" (and then a ">") are commands, the
others their output, where "..." stands for anything, and a number of five digits for any number.
In the chapter "Break it yourself" the block marked "sh" is typed first, the lines that break_it has
changed are left out, and the same commands with a sed that changes nothing must then not give that
output.

A block marked "c" that has a main() must compile without a warning. One that has none is a
function; the program that tests it is functions/NAME.c, where NAME is the first function's.
"""
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest

from echo import ROOT

README = (ROOT / "README.md").read_text()
FILES = ["Makefile", "README.md", "server.c", "client.c", "common.h", "test.sh"]
FUNCTIONS = Path(__file__).with_name("functions")
SHELLS = {"bash": ["bash", "--norc"], "zsh": ["zsh", "-f"]}
BREAK = "Break it yourself"
DEADLINE = 60  # seconds, for one transcript


class Block(NamedTuple):
    """A block of the README that is marked, as ```console is."""

    chapter: str  # the heading with ## above it
    section: str  # the heading with ## or ### above it
    mark: str
    text: str


def read_blocks(text):
    chapter = section = ""
    for part in re.finditer(r"^(##|###) ([^\n]*)$|^```(\w*)\n(.*?)^```$", text, re.M | re.S):
        hashes, heading, mark, block = part.groups()
        if hashes:
            section = heading
            chapter = heading if hashes == "##" else chapter
        else:
            yield Block(chapter, section, mark, block)


BLOCKS = list(read_blocks(README))
C_BLOCKS = [block.text for block in BLOCKS if block.mark == "c"]
TRANSCRIPTS = [block for block in BLOCKS if block.mark == "console"]
(BREAK_IT,) = [block.text for block in BLOCKS if (block.chapter, block.mark) == (BREAK, "sh")]
BREAK_NOTHING = BREAK_IT.replace('sed "$2"', "sed ''")
(FIRST_SERVER,) = [text for text in C_BLOCKS if " main(" in text]


def quick_start_table():
    """A transcript of the commands in the table of the quick start.

    Those for other hosts are left out, and those that wait for Ctrl-C.
    """
    chapter = README[README.index("## Quick start") : README.index("## Endpoints")]
    rows = [row.replace("\\|", "|") for row in re.findall(r"^\| `(.*?)` \|", chapter, re.M)]
    commands = [row for row in rows if not re.search(r"^nc|example|'tcp", row)]
    outputs = ["Hello\n" if "Hello" in command else "" for command in commands]
    lines = [f"$ {command}\n{output}" for command, output in zip(commands, outputs)]
    return Block("Quick start", "Quick start table", "console", "".join(lines))


def names(blocks):
    """A name for each block: its section, with a number if the section has several."""
    sections = [block.section for block in blocks]
    for i, section in enumerate(sections):
        number = sections[: i + 1].count(section)
        yield f"{section} ({number})" if sections.count(section) > 1 else section


# ---- Typing


@pytest.fixture
def tree():
    """A copy of the project, built, with the README's first server as first.c."""
    with tempfile.TemporaryDirectory(prefix="echo-readme.") as tree:
        os.chmod(tree, 0o755)
        for name in FILES:
            shutil.copy(ROOT / name, tree)
        Path(tree, "first.c").write_text(FIRST_SERVER)
        subprocess.run(["make", "-s"], cwd=tree, check=True, timeout=DEADLINE)
        yield Path(tree)


def commands_of(transcript):
    """The commands: each a line with "$", and those with ">" after it."""
    return re.findall(r"^\$ .*\n(?:> .*\n)*", transcript, re.M)


def type_in(shell, tree, transcript, before="", hidden=("make:",)):
    """Types the commands of a transcript in a shell that is alone on its host.

    Returns the screen, without the lines that begin with one of the `hidden`.
    """
    script = "ip link set lo up; exec >.screen 2>&1 </dev/null\n"
    script += before.replace("/tmp/broken", f"{tree}/broken")
    for command in commands_of(transcript):
        script += f"printf %s {shlex.quote(command)}\n" + re.sub(r"^[$>] ", "", command, flags=re.M)
        if command.endswith("&\n"):
            script += "sleep 1\n"  # as long as a user needs to type on
    alone = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    with subprocess.Popen([*alone, *SHELLS[shell], "-c", script], cwd=tree) as process:
        try:
            process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()  # and, by --kill-child, all others
    lines = (tree / ".screen").read_text(errors="replace").splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(hidden))


def matches(screen, transcript):
    pattern = re.escape(transcript).replace(r"\.\.\.", ".*")
    pattern = re.sub(r"\b\d{5}\b", r"\\d+", pattern)
    return re.fullmatch(pattern, screen, re.S) is not None


EXPERIMENTS = [block for block in TRANSCRIPTS if block.chapter == BREAK]
OTHERS = [block for block in TRANSCRIPTS if block.chapter != BREAK]
CHANGED_LINES = ("make:", "< ", "> ")
in_each_shell = pytest.mark.parametrize("shell", SHELLS)
each_experiment = pytest.mark.parametrize("block", EXPERIMENTS, ids=names(EXPERIMENTS))
pytestmark = [pytest.mark.linux, pytest.mark.timeout(2 * DEADLINE)]


@in_each_shell
@pytest.mark.parametrize("block", OTHERS, ids=names(OTHERS))
def test_a_transcript_comes_out_as_it_is_in_the_readme(shell, tree, block):
    screen = type_in(shell, tree, block.text)
    assert matches(screen, block.text), screen


@in_each_shell
def test_the_commands_of_the_quick_start_table_do_what_it_says(shell, tree):
    table = quick_start_table().text
    assert len(commands_of(table)) == 3
    transcript = "$ ./server 2>log &\n" + table
    screen = type_in(shell, tree, transcript)
    assert matches(screen, transcript), screen


@in_each_shell
@each_experiment
def test_an_experiment_comes_out_as_it_is_in_the_readme(shell, tree, block):
    screen = type_in(shell, tree, block.text, before=BREAK_IT, hidden=CHANGED_LINES)
    assert matches(screen, block.text), screen


@in_each_shell
@each_experiment
def test_an_experiment_that_changes_nothing_comes_out_otherwise(shell, tree, block):
    screen = type_in(shell, tree, block.text, before=BREAK_NOTHING, hidden=CHANGED_LINES)
    assert not matches(screen, block.text), screen
    assert "no matches found" not in screen  # it has got as far as the experiment


def test_no_command_has_a_comment():
    """A zsh at which a user types takes "#" for a command."""
    for block in TRANSCRIPTS:
        assert not [c for c in commands_of(block.text) if re.search(r"(^\$|\s)#\s", c)]


@in_each_shell
def test_a_shell_at_which_a_user_types_understands_each_command(shell):
    """It expands "!", unlike a script. Here it puts each command into a function, and runs none."""
    commands = [
        re.sub(r"^[$>] ", "", c, flags=re.M) for b in TRANSCRIPTS for c in commands_of(b.text)
    ]
    got = subprocess.run(
        [*SHELLS[shell], "-i"],
        input="".join(f"f() {{\n{command}}}\n" for command in [*commands, BREAK_IT, "echo end\n"])
        + "f\n",
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        start_new_session=True,
    )
    assert got.stdout.endswith("end\n"), got.stderr
    assert not re.search("not found|error", got.stderr), got.stderr


# ---- C code


def first_function(text):
    """The name of the first function that a block of C code defines."""
    return re.search(r"^[a-z].*?(\w+)\([^;{]*?\)\s*^\{", text, re.M | re.S)[1]


def compile_c(*options):
    command = ["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", *options]
    got = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
    assert got.returncode == 0, got.stderr


def is_program(text):
    return first_function(text) == "main" or " main(" in text


@pytest.mark.parametrize("text", filter(is_program, C_BLOCKS), ids=first_function)
def test_a_program_of_the_readme_compiles_without_a_warning(text):
    Path("program.c").write_text(text)
    compile_c("-o", "program", "program.c")


def check_function(text, folder=FUNCTIONS):
    """Compiles a function of the README as part of the program that tests it, and runs that."""
    test = folder / f"{first_function(text)}.c"
    assert test.exists(), f"the README's function has no test: write {test}"
    Path("function.h").write_text(text)
    compile_c("-D_GNU_SOURCE", "-I.", "-o", "program", test)
    got = subprocess.run(["./program"], capture_output=True, text=True, timeout=DEADLINE)
    assert got.returncode == 0, got.stderr


def test_the_functions_of_the_readme_do_what_it_says():
    for text in C_BLOCKS:
        if not is_program(text):
            check_function(text)


DOUBLE = """/* Returns twice n. */
static int
twice(int n)
{
    return n + %s;
}
"""
TEST_OF_DOUBLE = """#include <assert.h>
#include "function.h"

int main(void)
{
    assert(twice(3) == 6);
}
"""


@pytest.mark.parametrize("summand, is_right", [("n", True), ("1", False)])
def test_a_wrong_function_in_a_readme_is_found(working_directory, summand, is_right):
    Path("twice.c").write_text(TEST_OF_DOUBLE)
    if is_right:
        check_function(DOUBLE % summand, working_directory)
    else:
        with pytest.raises(AssertionError, match="twice"):
            check_function(DOUBLE % summand, working_directory)
