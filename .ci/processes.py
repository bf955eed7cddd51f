"""Processes: their children, whether they run, signals for them, and waiting with a deadline."""
import os
import subprocess
import time
from pathlib import Path
from typing import NamedTuple


class Result(NamedTuple):
    """How a command ended."""

    status: int
    output: bytes
    errors: str


def run(*command, data=b"", deadline=20, **popen):
    """Runs a command to its end, with `data` as its input. Returns a Result."""
    pipe = subprocess.PIPE
    streams = {"stdin": pipe, "stdout": pipe, "stderr": pipe, **popen}
    with subprocess.Popen(command, **streams) as process:
        try:
            output, errors = process.communicate(data or None, timeout=deadline)
        except BaseException:
            process.kill()
            raise
    return Result(process.returncode, output, (errors or b"").decode(errors="replace"))


def until(condition, seconds=5):
    """Waits until the condition holds. Returns whether it did in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def holds(condition, seconds):
    """Returns whether the condition holds all the time, for that long."""
    return not until(lambda: not condition(), seconds)


def read_text(path):
    """A file's text; nothing if there is no such file."""
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def children_of(pid):
    """The process ids of the children of a process, of all its threads."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in lists for child in read_text(path).split()]


def state_and_times(pid):
    """The fields of /proc/PID/stat from the state on; a zombie's if the process is gone."""
    return read_text(f"/proc/{pid}/stat").rpartition(")")[2].split() or ["Z"] + ["0"] * 20


def is_alive(pid):
    """Is there such a process, and is it no zombie?"""
    return state_and_times(pid)[0] != "Z"


def ticks(*pids):
    """The hundredths of a second for which these processes have computed."""
    return sum(int(n) for pid in pids for n in state_and_times(pid)[11:13])


def spins(*pids):
    """Do these processes compute for more than a quarter of the next second?"""
    before = ticks(*pids)
    time.sleep(1)
    return ticks(*pids) - before > 25


def signal_all(pids, *numbers, pause=0.3):
    """Sends each signal in turn to those of the processes that live, with a pause after it."""
    for number in numbers:
        for pid in filter(is_alive, pids):
            os.kill(pid, number)
        time.sleep(pause)


def descriptors(pid):
    """What each open descriptor of a process refers to, by its number."""
    folder = f"/proc/{pid}/fd"
    return {fd: os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder)}


def full_pipe():
    """Both ends of a pipe that has no more room: to read from, to write to."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, bytes(65536))
    except BlockingIOError:
        os.set_blocking(writer, True)
        return reader, writer
