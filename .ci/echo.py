"""The programs under test: the server, the client, and a load of many clients.

PROGRAMS=DIR in the environment is the directory of the programs (by default the project's root);
PRELOAD=LIBRARY is put into their environment, and no other process's, as LD_PRELOAD.
"""
import collections
import os
import re
import resource
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from processes import children_of, is_alive, read_text, run, signal_all, spins, state_and_times
from processes import until
from sockets import END, HERE, receive_all

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = Path(os.environ.get("PROGRAMS", ROOT)).resolve()
PRELOAD = [str(Path(os.environ["PRELOAD"]).resolve())] if os.environ.get("PRELOAD") else []
SOCKET_TYPES = {
    "tcp4": socket.SOCK_STREAM,
    "udp4": socket.SOCK_DGRAM,
    "unix": socket.SOCK_STREAM,
    "unixpacket": socket.SOCK_SEQPACKET,
}


def program(name, *arguments, preload=()):
    """The command line for "server" or "client", in which env(1) preloads the libraries."""
    libraries = [*map(str, preload), *PRELOAD]
    environment = ["env", "LD_PRELOAD=" + ":".join(libraries)] if libraries else []
    return [*environment, str(PROGRAMS / name), *arguments]


class Server:
    """A server that has announced its sockets (or has ended instead).

    before: a command line that comes before the server's, to run it in some other way
    environment: variables to set; limits: {resource.RLIMIT_...: soft limit}
    ignore: signals that the server is to ignore from its start; user: a user id to run as
    preload: libraries; log: a descriptor to be the standard error, instead of the file for log()
    anything else is for subprocess.Popen()
    """

    def __init__(
        self,
        *arguments,
        before=(),
        environment=None,
        limits=None,
        ignore=(),
        user=None,
        preload=(),
        log=None,
        **popen,
    ):
        def prepare():
            for number in ignore:
                signal.signal(number, signal.SIG_IGN)
            if user:
                os.setgroups([])
                os.setuid(user)
            for limit, value in (limits or {}).items():
                resource.setrlimit(limit, (value, resource.getrlimit(limit)[1]))

        descriptor, self.log_path = tempfile.mkstemp(dir=os.getcwd(), prefix="log")
        if ignore or user or limits:
            popen["preexec_fn"] = prepare
        self.process = subprocess.Popen(
            [*before, *program("server", *arguments, preload=preload)],
            stderr=descriptor if log is None else log,
            env={**os.environ, **(environment or {})},
            **popen,
        )
        os.close(descriptor)
        self.pid = self.process.pid
        until(lambda: log is not None or "listening" in self.log() or self.has_ended(), 10)
        until(lambda: self.has_ended() or len(self.children()) >= self.listeners())
        # Until they wait, and the one that forks the watcher is gone; a load can prevent it.
        until(lambda: self.has_ended() or self.only_waits(), 0.3)

    def log(self):
        """What the server has written to its standard error so far."""
        return read_text(self.log_path)

    def endpoints(self):
        """All endpoints that the server has announced."""
        return re.findall("listening on (.*)", self.log())

    def endpoint(self, network):
        """The first endpoint on that network."""
        return next(e for e in self.endpoints() if e.startswith(network + ":"))

    def port(self, network="tcp4"):
        return int(self.endpoint(network).rpartition(":")[2])

    def connect(self, network="tcp4", receive_buffer=None):
        """A socket that is connected to the server."""
        local = network.startswith("unix")
        family = socket.AF_UNIX if local else socket.AF_INET
        s = socket.socket(family, SOCKET_TYPES[network])
        if receive_buffer:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        s.settimeout(10)
        s.connect(network + ".sock" if local else (HERE, self.port(network)))
        return s

    def children(self):
        return children_of(self.pid)

    def listeners(self):
        """The number of sockets that it has announced; 1 if there is no log to read."""
        return max(1, self.log().count("listening"))

    def only_waits(self):
        """Are there enough children, and does none of them compute, or end?"""
        states = [state_and_times(pid)[0] for pid in self.children()]
        return len(states) >= self.listeners() and set(states) == {"S"}

    def has_ended(self):
        return self.process.poll() is not None

    def spins(self):
        """Does the server, or any child, compute without a pause?"""
        return spins(self.pid, *self.children())

    def names_a_connection(self):
        """Does the log name a connection that the shutdown waited for, or cut off?"""
        return any(word in self.log() for word in ("waiting", "killed"))

    def end(self, *signals, seconds=8):
        """Sends signals, waits for the end of all processes, and returns the exit status."""
        family = self.children()
        signal_all([self.pid], *signals, pause=0)
        status = self.process.wait(seconds)
        assert until(lambda: not any(map(is_alive, family)), 1), "a child outlives its server"
        return status

    def kill(self):
        """Ends all processes at once."""
        family = self.children() if not self.has_ended() else []
        self.process.kill()
        self.process.wait(5)
        signal_all(family, signal.SIGKILL, pause=0)


class Client:
    """Runs clients. An instance remembers which it has started."""

    def __init__(self):
        self.started = []

    def __call__(self, endpoint, *options, data=b"", deadline=20, preload=(), **popen):
        """Runs a client to its end: client("tcp4:...", "-w", "5", data=...). Returns a Result."""
        command = program("client", *options, endpoint, preload=preload)
        return run(*command, data=data, deadline=deadline, **popen)

    def echoes(self, endpoint, data=b"some text\n" * 1000):
        """Does a client get back all that it sends, and status 0?"""
        return self(endpoint, "-w", "5", data=data) == (0, data, "")

    def start(self, endpoint, *options, **popen):
        """Starts a client, with a pipe as its input unless told otherwise. Returns a Popen."""
        popen = {"stdin": subprocess.PIPE, **popen}
        self.started.append(subprocess.Popen(program("client", *options, endpoint), **popen))
        return self.started[-1]

    def kill_all(self):
        for process in self.started:
            process.kill()
            process.wait(5)
            for stream in process.stdin, process.stdout, process.stderr:
                if stream:
                    try:
                        stream.close()
                    except BrokenPipeError:  # what is left in Python's buffer
                        pass


class Load:
    """Threads of clients that come again and again: "with Load(server.connect) as load:".

    Afterwards load.ends counts how the connections ended: "served", "reset", "not connected",
    "short" (an end of file before the whole echo) or "None" (no answer).
    """

    def __init__(self, connect, threads=8, hold=0):
        self.connect = connect
        self.hold = hold  # seconds for which each client stays before it ends its input
        self.ends = collections.Counter()
        self.going = True
        self.threads = [threading.Thread(target=self.loop, daemon=True) for _ in range(threads)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.going = False
        for thread in self.threads:
            thread.join(30)

    def loop(self):
        while self.going:
            self.ends[self.one_client()] += 1

    def one_client(self):
        data = os.urandom(3000)
        try:
            with self.connect() as s:
                s.sendall(data)
                time.sleep(self.hold)
                s.shutdown(socket.SHUT_WR)
                echo, end = receive_all(s)
        except (ConnectionRefusedError, FileNotFoundError):
            return "not connected"
        except OSError:
            return "reset"
        if (echo, end) == (data, END):
            return "served"
        return "short" if end == END else str(end)
