"""Faults on purpose: strace(1) makes one system call of a program fail.

Whatever the call and the error, the programs must end in a right echo or in a clear message, and
leave nothing behind. A Laboratory runs scenarios, each with one fault: a server, a server on
standard input, and a client on each network.
"""
import collections
import concurrent.futures
import errno
import functools
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from echo import PROGRAMS, ROOT
from processes import read_text, ticks, until

DEADLINE = 15  # seconds, for any one program; a server takes up to 5 to end
NETWORKS = ["tcp4", "udp4", "unix", "unixpacket", "unixgram"]
AT_ONCE = 8  # scenarios that run side by side


class Call(NamedTuple):
    """A system call."""

    names: str  # in Linux
    errors: str  # from its manual page, the most likely one first
    also: str = ""  # what a message may name instead: what failed in consequence


# By their names in POSIX.
CALLS = {
    "accept": Call("accept accept4", "EMFILE ECONNABORTED EINTR ENOMEM EAGAIN"),
    "bind": Call("bind", "EADDRINUSE EACCES EADDRNOTAVAIL ENOENT"),
    "connect": Call(
        "connect",
        "ECONNREFUSED EAGAIN EINTR ETIMEDOUT EADDRNOTAVAIL EHOSTUNREACH",
        also="bind send recv",
    ),
    "fcntl": Call("fcntl fcntl64", "EPERM", also="connect bind"),
    "fork": Call("fork clone clone3", "EAGAIN ENOMEM"),
    "stat": Call("fstat newfstatat stat lstat statx", "EACCES EIO ENOENT", also="bind getaddrinfo"),
    "getpeername": Call("getpeername", "ENOTCONN"),
    "getsockname": Call("getsockname", "ENOBUFS", also="connect getaddrinfo"),
    "getsockopt": Call("getsockopt", "ENOPROTOOPT ENOBUFS"),
    "listen": Call("listen", "EADDRINUSE"),
    "mmap": Call("mmap", "ENOMEM", also="getaddrinfo"),
    "open": Call("open openat", "EMFILE ENOENT ENOMEM", also="getaddrinfo"),
    "pipe": Call("pipe pipe2", "EMFILE ENFILE"),  # then there is no watcher
    "poll": Call("poll ppoll", "EINTR ENOMEM", also="recv send getaddrinfo"),
    "pselect": Call("pselect6", "EINTR ENOMEM"),
    "read": Call("read", "EINTR EAGAIN EIO ECONNRESET ENOMEM", also="getaddrinfo recv"),
    "recv": Call(
        "recvmsg recvfrom readv",
        "EINTR EAGAIN ECONNRESET ENOMEM ECONNREFUSED",
        also="send getaddrinfo",
    ),
    "send": Call(
        "sendmsg sendto",
        "EINTR EAGAIN EPIPE ECONNRESET EMSGSIZE ENOBUFS EPERM EHOSTUNREACH",
        also="recv",
    ),
    "setsockopt": Call("setsockopt", "ENOPROTOOPT ENOMEM EINVAL"),
    "socket": Call("socket", "EMFILE EAFNOSUPPORT EACCES ENOBUFS", also="getaddrinfo bind"),
    "unlink": Call("unlink unlinkat", "EACCES EROFS"),
    "wait": Call("wait4", "EINTR ECHILD"),
    "write": Call("write", "EINTR EAGAIN ENOSPC EPIPE EIO ECONNRESET ENOBUFS"),
}
# The calls that each scenario makes, by their names in POSIX. A C library need not make them all.
SCENARIOS = {
    "server": """accept bind connect fcntl fork stat getsockname listen mmap pipe poll pselect read
        recv send setsockopt socket unlink wait write""",
    "server -i": "fcntl stat getpeername getsockname getsockopt read setsockopt write",
    "client tcp4": """connect fcntl stat getpeername getsockname getsockopt mmap open poll read recv
        send setsockopt socket write""",
    "client udp4": """connect fcntl stat getpeername getsockname mmap open poll read recv send
        setsockopt socket write""",
    "client unix": """connect fcntl getpeername getsockname getsockopt poll read recv send
        setsockopt socket write""",
    "client unixpacket": """connect fcntl getpeername getsockname getsockopt poll read recv send
        setsockopt socket write""",
    "client unixgram": """bind connect fcntl getpeername getsockname poll read recv send setsockopt
        socket write""",
}
# strace does not make the call that fails. So a close() or shutdown() that fails leaves something
# open, which no kernel does. A kill() of an own child, and the rest, cannot fail, or belong to the
# C library's start, before main().
LEFT_OUT = set(
    """close shutdown kill arch_prctl brk clock_gettime clock_nanosleep execve exit exit_group futex
    getpid getppid getrandom ioctl lseek mprotect munmap prlimit64 readlink readlinkat
    restart_syscall rseq rt_sigaction rt_sigprocmask rt_sigreturn set_robust_list set_tid_address
    umask uname""".split()
)
# The client replaces these errors by clearer ones, or passes over them.
GIVEN_OTHERWISE = ("EADDRNOTAVAIL", "ETIMEDOUT", "EAGAIN", "EAFNOSUPPORT")
# After these calls have failed a file may be left. (The last two never fail so in earnest.)
MAY_LEAVE_A_FILE = ("unlink", "stat", "getsockname", "listen")


class Fault(NamedTuple):
    """The error that a call gives, and when: "2", the second time; "1+", always; "2+3", ..."""

    call: str
    error: str
    when: str

    def __str__(self):
        return f"{self.call}: {self.error} when={self.when}"


def faults_of(scenario, call, trace):
    """The faults of a call that make sense, given the trace of a run without faults."""
    names = CALLS[call].names.split()
    counts = collections.Counter(re.findall(r"^(\d+) +(\w+)\(", trace, re.M))
    most = max([count for (_, name), count in counts.items() if name in names], default=0)
    for i, error in enumerate(CALLS[call].errors.split() if most else []):
        for when in range(1, min(most, 8 if i == 0 else 2) + 1):
            yield Fault(call, error, str(when))
        if most > 1 and i == 0:
            yield Fault(call, error, "2+3")
        # A server must also survive that a call always fails, but not EINTR or ECONN... without end
        if scenario == "server" and call in ("accept", "fork", "recv") and error[1] not in "IC":
            yield Fault(call, error, "1+")


def undeclared_calls(scenario, trace):
    """The system calls in a trace that the tables above do not have."""
    made = set(re.findall(r"^\d+ +(\w+)\(", trace, re.M))
    names = {name for call in SCENARIOS[scenario].split() for name in CALLS[call].names.split()}
    return made - LEFT_OUT - names


def strace(fault):
    """The command line that comes before a program's. Without a fault strace only takes notes."""
    command = ["strace", "-D", "-I2", "-f", "-qq", "-o", "trace"]
    if fault:
        names = ",".join("?" + name for name in CALLS[fault.call].names.split())
        inject = f"inject={names}:error={fault.error}:when={fault.when}"
        command += ["-e", "trace=" + names, "-e", inject]
    return command


def tracer(pid):
    """The process id of the strace that watches this process, or 0."""
    status = read_text(f"/proc/{pid}/status")
    return int((re.search(r"TracerPid:\s*(\d+)", status) or [0, 0])[1])


def at_work_in(folder):
    """The processes whose working directory is this one, by name: a scenario has its own."""
    found = {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        try:
            if os.readlink(f"/proc/{pid}/cwd").startswith(str(folder)):
                found[pid] = read_text(f"/proc/{pid}/comm").strip()
        except OSError:
            pass
    return found


def complaints_about_message(program, text, fault):
    """What is wrong with the message of a program that failed.

    It must be one line that names the call that failed and the reason.
    """
    if fault and fault.call == "write" and not text:
        return []  # it was the message that could not be written
    if not re.fullmatch(program + r"(: .+)+\n", text):
        return [f"status 1, but the message is {text!r}"]
    if not fault:
        return []
    names = [fault.call, "not an address", *CALLS[fault.call].also.split()]
    if not any(f": {name}" in text for name in names):
        return [f"the message names another call: {text!r}"]
    reason = os.strerror(getattr(errno, fault.error))
    if f": {fault.call}: " in text and fault.error not in GIVEN_OTHERWISE and reason not in text:
        return [f"the message gives another reason: {text!r}"]
    return []


def wait_for_listening(folder, process, count, seconds):
    def is_ready():
        return read_text(folder / "log").count("listening") >= count or process.poll() is not None

    until(is_ready, seconds)
    return re.findall(r"listening on (.*)\n", read_text(folder / "log"))


class Laboratory:
    """Copies of the programs that are linked statically (or the first calls would be the loader's),
    a server without faults for the clients, and a folder for each run."""

    def __init__(self):
        self.home = Path(tempfile.mkdtemp(prefix="echo-faults."))
        source = PROGRAMS if (PROGRAMS / "server.c").exists() else ROOT
        for name in "server", "client":
            command = ["cc", "-O1", "-w", "-static", "-o", self.home / name, source / f"{name}.c"]
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        self.shared = self.home / "shared"
        self.shared.mkdir()
        endpoints = [n + ":0" if n.endswith("4") else n for n in NETWORKS]
        with open(self.shared / "log", "w") as log:
            command = [self.home / "server", *endpoints]
            self.server = subprocess.Popen(command, cwd=self.shared, stderr=log)
        endpoints = wait_for_listening(self.shared, self.server, len(NETWORKS), 9)
        assert len(endpoints) == len(NETWORKS), read_text(self.shared / "log")
        self.endpoints = {e.partition(":")[0]: e for e in endpoints}

    def close(self):
        """Ends the server for the clients. Returns its exit status."""
        try:
            self.server.terminate()
            return self.server.wait(DEADLINE)
        finally:
            self.end_all_in(self.home)
            shutil.rmtree(self.home, ignore_errors=True)

    @staticmethod
    def end_all_in(folder):
        for pid in at_work_in(folder):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    @functools.cache
    def run_without_fault(self, scenario):
        """Returns what is wrong, which must be nothing, and the trace."""
        return self.run(scenario, None)

    def run_all(self, scenario, call):
        """Runs a scenario with every fault of a call: {fault: what is wrong}, or [] for right."""
        faults = list(faults_of(scenario, call, self.run_without_fault(scenario)[1]))
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            runs = pool.map(lambda fault: self.run(scenario, fault), faults)
            results = {}
            for fault, (wrong, trace) in zip(faults, runs):
                # How often a call is made depends on who is faster, but it is made at least once.
                if fault.when in ("1", "1+") and "INJECTED" not in trace:
                    wrong.append("strace made no call fail")
                results[str(fault)] = wrong
            return results

    def run(self, scenario, fault):
        """Runs a scenario in a folder of its own. Returns what went wrong, and strace's notes."""
        folder = Path(tempfile.mkdtemp(dir=self.home))
        try:
            wrong = self.run_in(folder, scenario, fault)
        except Exception as e:
            wrong = [f"{type(e).__name__}: {e}"]
        if not until(lambda: not at_work_in(folder), 2):
            wrong.append(f"leaves processes: {at_work_in(folder)}")
            self.end_all_in(folder)
        left = [name for name in os.listdir(folder) if name not in ("log", "trace")]
        if left and not (fault and fault.call in MAY_LEAVE_A_FILE):
            wrong.append(f"leaves files: {left}")
        trace = read_text(folder / "trace")
        shutil.rmtree(folder, ignore_errors=True)
        return wrong, trace

    def run_in(self, folder, scenario, fault):
        if scenario == "server":
            return self.run_server(folder, fault)
        if scenario == "server -i":
            return self.run_server_on_standard_input(folder, fault)
        return self.run_client_of(scenario.removeprefix("client "), folder, fault)

    # ---- The scenarios: each returns a list of what is wrong

    def run_server(self, folder, fault):
        """A server that has the fault when it starts, and in each of its children; then without."""
        stale = socket.socket(socket.AF_UNIX)
        stale.bind(str(folder / "unix.sock"))  # the file of a killed server
        stale.close()
        with open(folder / "log", "w") as log:
            networks = [n + ":0" if n.endswith("4") else n for n in NETWORKS]
            command = [*strace(fault), self.home / "server", "-m4", "-k1", *networks]
            process = subprocess.Popen(command, cwd=folder, stderr=log)
        wrong = []
        endpoints = wait_for_listening(folder, process, len(NETWORKS), 3 if fault else 9)
        if process.poll() is None:
            for endpoint in endpoints * 2:
                wrong += self.run_client(folder, endpoint, fault, of_faulty_server=True)
            if self.server_spins(folder):
                wrong.append("spins")
            if fault is None or fault.when != "1+":
                wrong += self.run_without_tracer(folder, process, endpoints)
            process.terminate()
        try:
            status = process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            return wrong + ["SIGTERM does not end it"]
        log = read_text(folder / "log")
        if status == 1:
            message = re.sub(".*(again|killed by|listening).*\n", "", log)
            wrong += complaints_about_message("server", message, fault)
            (folder / "unix.sock").unlink(missing_ok=True)
        if status not in (0, 1) or status == 1 and not fault:
            wrong.append(f"status {status}: {log!r}")
        return wrong

    def server_spins(self, folder):
        servers = [pid for pid, name in at_work_in(folder).items() if name == "server"]
        before = ticks(*servers)
        until(lambda: False, 0.3)
        return ticks(*servers) - before > 10

    def run_without_tracer(self, folder, process, endpoints):
        """Ends strace, so that nothing fails any more, and runs clients."""
        if tracer(process.pid):
            os.kill(tracer(process.pid), signal.SIGTERM)
            until(lambda: tracer(process.pid) == 0)
        return [w for endpoint in endpoints for w in self.run_client(folder, endpoint)]

    def run_server_on_standard_input(self, folder, fault):
        ours, theirs = socket.socketpair()
        with open(folder / "log", "w") as log, theirs:
            command = [*strace(fault), self.home / "server", "-i"]
            process = subprocess.Popen(command, cwd=folder, stdin=theirs, stderr=log)
        ours.settimeout(DEADLINE)
        got = b""
        try:
            ours.sendall(b"ping")
            ours.shutdown(socket.SHUT_WR)
            while piece := ours.recv(100):
                got += piece
            status = process.wait(DEADLINE)
        except ConnectionError:
            process.kill()
            process.wait(DEADLINE)
            return []
        except (OSError, subprocess.TimeoutExpired) as e:
            process.kill()
            process.wait(DEADLINE)
            return [repr(e)]
        if status == 1 and fault and fault.call == "read":
            return []  # only with -v it would say that the connection has failed
        if status == 1:
            return complaints_about_message("server", read_text(folder / "log"), fault)
        if status != 0 or got != b"ping" and not fault:
            return [f"status {status}, echo {got}"]
        return []

    def run_client_of(self, network, folder, fault):
        """A client with the fault, of the server without."""
        endpoint = self.endpoints[network]
        if network.startswith("unix"):
            endpoint = endpoint.replace(":", ":../shared/")
        return self.run_client(folder, endpoint, fault, traced=True)

    def run_client(self, folder, endpoint, fault=None, traced=False, of_faulty_server=False):
        """Runs a client, which has the fault if it is traced, and looks at how it ends."""
        if endpoint.partition(":")[0] in ("tcp4", "unix"):
            data = bytes(range(1, 256)) * 400
        else:
            data = b"".join(b"%d" % i * 500 + b"\n" for i in range(3))
        process = subprocess.Popen(
            [*(strace(fault) if traced else []), self.home / "client", "-w", "2", endpoint],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            output, errors = process.communicate(data, DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            return [f"client {endpoint} hangs"]
        message, status = errors.decode(errors="replace"), process.returncode
        # A faulty server resets a connection. AF_UNIX has no reset, and EAGAIN is the idle timeout.
        may_be_short = of_faulty_server and (
            endpoint.startswith("unix") or fault and fault.error == "EAGAIN"
        )
        wrong = []
        if not data.startswith(output):
            wrong.append("a wrong byte")
        elif status == 0 and output != data and not may_be_short:
            wrong.append(f"status 0 after {len(output)} of {len(data)} bytes")
        no_reader = traced and fault and fault.call == "write" and fault.error == "EPIPE"
        if status == -signal.SIGPIPE and no_reader and not message:
            pass  # as it must
        elif status not in (0, 1) or status == 1 and not fault:
            wrong.append(f"status {status}: {message!r}")
        elif status == 1:
            wrong += complaints_about_message(
                "client", message, None if of_faulty_server else fault
            )
        elif message:
            wrong.append(f"status 0, but the message {message!r}")
        return [f"client {endpoint}: {w}" for w in wrong]
