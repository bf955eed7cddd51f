"""Odd surroundings: pipes that are full or non-blocking, a terminal, closed descriptors."""
import fcntl
import os
import pty
import re
import resource
import select
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from echo import program
from processes import full_pipe, holds, read_text, run, signal_all, spins
from sockets import END, echoes, receive_all

PIPE = subprocess.PIPE

# ---- Pipes and files


@pytest.mark.parametrize("network", ["tcp4:0", "unix"])
def test_full_non_blocking_pipes_lose_no_byte_and_option_w_does_not_fire(
    start_server, client, network
):
    server = start_server(network)
    data = os.urandom(3_000_000)
    (their_input, our_output), (our_input, their_output) = os.pipe(), os.pipe()
    for fd in their_input, their_output:
        os.set_blocking(fd, False)
    streams = {"stdin": their_input, "stdout": their_output, "stderr": PIPE}
    process = client.start(server.endpoints()[0], "-w", "1", **streams)
    os.close(their_input)
    os.close(their_output)
    writer = threading.Thread(target=lambda: open(our_output, "wb").write(data), daemon=True)
    writer.start()
    time.sleep(2.5)  # here what the client writes is not read
    with open(our_input, "rb") as output:
        comes_back_whole = output.read() == data
    assert (process.wait(5), process.stderr.read()) == (0, b"")
    assert comes_back_whole


def test_a_client_that_waits_for_input_does_not_spin(start_server, client):
    process = client.start(start_server("tcp4:0").endpoint("tcp4"))
    assert not spins(process.pid)


def test_a_client_whose_output_is_full_does_not_spin(start_server, client):
    endpoint = start_server("tcp4:0").endpoint("tcp4")
    source, sink = full_pipe(), full_pipe()
    process = client.start(endpoint, stdin=source[0], stdout=sink[1])
    assert not spins(process.pid)
    client.kill_all()
    for fd in *source, *sink:
        os.close(fd)


def test_an_interrupted_unixgram_client_leaves_no_file(start_server, client):
    start_server("unixgram")
    before = os.listdir(".")
    process = client.start("unixgram")
    time.sleep(0.3)
    # Where the system has no abstract names, the client makes a file. Here are those of this host.
    files = re.findall(r"/tmp/echo-client\S+", read_text("/proc/net/unix"))
    signal_all([process.pid], signal.SIGINT)
    assert process.wait(5) == -signal.SIGINT
    assert os.listdir(".") == before
    assert not any(map(os.path.exists, files))


def test_a_line_longer_than_a_datagram_is_cut_up(start_server, client):
    start_server("unixgram")
    assert client.echoes("unixgram", b"a" * 65507 + b"b" * 100 + b"\n")


def test_a_line_without_a_newline_is_sent_at_the_end_of_the_input(start_server, client):
    start_server("unixgram")
    assert client.echoes("unixgram", b"a\nb")


@pytest.mark.parametrize("network", ["tcp4:0", "unixgram"])
def test_a_full_standard_output_is_an_error(start_server, client, network):
    endpoint = start_server(network).endpoints()[0]
    with open("/dev/full", "w") as full:
        got = client(endpoint, data=b"x\n", stdout=full)
    assert got.status == 1
    assert got.errors == "client: standard output: write: No space left on device\n"


# ---- A client whose output nobody reads any more

NETWORKS = ["tcp4:0", "udp4:0", "unix"]


@pytest.mark.parametrize("network", NETWORKS)
def test_a_client_ends_by_sigpipe_when_the_reader_of_its_output_leaves(
    start_server, client, network
):
    endpoint = start_server(network).endpoints()[0]
    process = client.start(endpoint, stdout=PIPE, stderr=PIPE)
    os.write(process.stdin.fileno(), b"one\n")
    assert process.stdout.readline() == b"one\n"
    process.stdout.close()
    assert process.wait(2) == -signal.SIGPIPE  # although its input stays open
    assert process.stderr.read() == b""


def test_a_client_with_sigpipe_blocked_reports_a_broken_pipe(start_server, client):
    endpoint = start_server("unix").endpoints()[0]
    reader, writer = os.pipe()
    os.close(reader)

    def block():
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGPIPE])

    got = client(endpoint, data=b"x", stdout=writer, preexec_fn=block)
    assert (got.status, got.errors) == (1, "client: standard output: write: Broken pipe\n")


@pytest.mark.parametrize("network", NETWORKS)
def test_a_client_without_input_ends_by_sigpipe_when_nobody_reads_its_output(
    start_server, client, network
):
    endpoint = start_server(network).endpoints()[0]
    reader, writer = os.pipe()
    process = client.start(endpoint, stdout=writer, stderr=PIPE)
    os.close(writer)
    os.close(reader)
    assert process.wait(2) == -signal.SIGPIPE
    assert process.stderr.read() == b""


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("output", ["/dev/null", "a file"])
def test_a_client_whose_output_is_no_pipe_goes_on(start_server, client, network, output):
    endpoint = start_server(network).endpoints()[0]
    with open(output, "w") as file:
        process = client.start(endpoint, stdout=file)
    assert holds(lambda: process.poll() is None, 0.5)
    process.communicate(b"x\n", timeout=5)
    assert process.returncode == 0


USER = 200_000 + os.getpid()  # a user with no other pipes
SIZE_OF_A_PIPE_BESIDE_62_CLIENTS = """
import fcntl, os, subprocess, sys, time
pipe = subprocess.PIPE
clients = [subprocess.Popen(sys.argv[1:], stdin=pipe, stdout=pipe) for _ in range(62)]
time.sleep(0.5)
print(fcntl.fcntl(os.pipe()[0], fcntl.F_GETPIPE_SZ))
for client in clients:
    client.stdin.close()
    client.wait()
"""


def test_idle_clients_leave_a_users_later_pipes_as_large_as_ever(start_server):
    command = program("client", start_server("tcp4:0").endpoint("tcp4"))
    as_user = ("setpriv", f"--reuid={USER}", "--clear-groups")
    got = run(*as_user, sys.executable, "-c", SIZE_OF_A_PIPE_BESIDE_62_CLIENTS, *command)
    assert got == (0, b"65536\n", "")


# ---- A log that takes no more


@pytest.fixture
def full_log():
    """A descriptor for the log: a pipe with room for a few lines, which nobody reads."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    yield writer
    os.close(reader)
    os.close(writer)


def serves(server, clients):
    """Do so many clients in turn get their echo, and then an end of file?"""
    for _ in range(clients):
        c = server.connect("unix")
        if not echoes(c):
            return False
        c.shutdown(socket.SHUT_WR)
        if receive_all(c) != (b"", END):
            return False
    return True


def test_a_log_that_nobody_reads_stops_neither_the_service_nor_the_end(start_server, full_log):
    server = start_server("-v", "unix", log=full_log)
    assert serves(server, 450)
    assert server.end(signal.SIGTERM, seconds=2) == 0


def test_with_a_log_that_nobody_reads_a_second_signal_ends_the_server(start_server, full_log):
    server = start_server("-v", "unix", log=full_log)
    assert serves(server, 100)
    held = server.connect("unix")
    assert echoes(held)
    signal_all([server.pid], signal.SIGTERM, pause=0.5)
    assert echoes(held)
    assert server.end(signal.SIGTERM, seconds=2) == 0


@pytest.mark.parametrize("size", [512, 1024])
def test_a_log_that_has_reached_the_limit_for_files_stops_no_service(start_server, size):
    server = start_server("-v", "unix", limits={resource.RLIMIT_FSIZE: size})
    first = server.children()
    assert serves(server, 20)
    assert len(server.log()) == size
    assert set(first) <= set(server.children())


def test_a_log_whose_reader_is_gone_stops_no_service(start_server):
    reader, writer = os.pipe()
    os.close(reader)
    server = start_server("-v", "unix", log=writer)
    os.close(writer)
    assert serves(server, 20)


# ---- A terminal


class Terminal:
    """A pseudo-terminal at which a client runs."""

    def __init__(self, client, endpoint):
        self.master, slave = pty.openpty()
        self.process = client.start(endpoint, stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        self.screen = b""

    def type(self, line):
        os.write(self.master, line)

    def shows(self, text, times=1):
        """Waits until the text is on the screen. Returns whether that happened in time."""
        while self.screen.count(text) < times:
            if not select.select([self.master], [], [], 5)[0]:
                return False
            try:
                self.screen += os.read(self.master, 10000)
            except OSError:  # the client has ended
                return False
        return True


@pytest.fixture
def terminal(start_server, client):
    """A terminal with a client of a unix server; terminal.server is the server."""
    server = start_server("unix")
    terminal = Terminal(client, "unix")
    terminal.server = server
    yield terminal
    client.kill_all()
    os.close(terminal.master)


def test_at_a_terminal_the_client_says_how_to_end(terminal):
    assert terminal.shows(b"connected to unix:unix.sock; Ctrl-D ends the input")


def test_at_a_terminal_the_client_says_that_the_server_closed(terminal):
    assert terminal.shows(b"Ctrl-D")
    terminal.type(b"typed\n")
    assert terminal.shows(b"typed", times=2)
    signal_all([terminal.server.pid], signal.SIGTERM)
    signal_all([terminal.server.pid], signal.SIGTERM)
    assert terminal.shows(b"the server closed the connection")


# ---- Closed descriptors

SERVER_RUNS_ON, CLIENT_FAILS = 124, 1  # what timeout(1) and the client exit with


@pytest.mark.parametrize("name, status", [("server", SERVER_RUNS_ON), ("client", CLIENT_FAILS)])
def test_closed_standard_descriptors_do_no_harm(name, status):
    command = shlex.join(program(name, "unix:none"))
    assert run("sh", "-c", f"timeout 0.5 {command} 0<&- 1>&- 2>&-").status == status


@pytest.mark.parametrize("name", ["server", "client"])
def test_no_dev_null_for_a_closed_descriptor_is_an_error(name):
    command = shlex.join(program(name, "tcp:1"))
    script = f"mount -t tmpfs none /dev; exec {command} <&-"
    assert run("unshare", "--mount", "sh", "-c", script) == (1, b"", "")


def test_no_message_goes_to_the_server_when_standard_error_is_closed(start_server):
    endpoint = start_server("tcp4:0").endpoint("tcp4")
    command = shlex.join(program("client", "-v", endpoint))
    assert run("sh", "-c", f"{command} 2>&-", data=b"x\n") == (0, b"x\n", "")
