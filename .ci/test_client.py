"""The client: servers that answer wrongly, late or not at all, and what the client then says."""
import os
import re
import select
import shlex
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest

from echo import program
from processes import holds, run, signal_all, spins
from sockets import HERE, fill, receive, reset, udp_socket, unixgram_socket

PIPE = subprocess.PIPE
TEN_LINES = b"".join(b"line %d\n" % i for i in range(10))


# ---- UDP services


class UdpService:
    """A UDP server that answers with the list that reply(number, datagram, earlier) returns.

    number: 1 for the first datagram; earlier: all that came before it
    """

    def __init__(self, reply, address=(HERE, 0)):
        self.socket = udp_socket(address)
        self.endpoint = f"udp4:{HERE}:{self.socket.getsockname()[1]}"
        self.reply = reply
        self.received = []
        self.going = True
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        self.socket.settimeout(0.1)
        while self.going:
            try:
                datagram, peer = self.socket.recvfrom(70000)
            except TimeoutError:
                continue
            self.received.append(datagram)
            earlier = self.received[:-1]
            for answer in self.reply(len(self.received), datagram, earlier):
                self.socket.sendto(answer, peer)

    def stop(self):
        self.going = False
        self.thread.join(5)


@pytest.fixture
def udp_service():
    """Starts UDP services: udp_service(reply). See UdpService."""
    services = []

    def start(*arguments):
        services.append(UdpService(*arguments))
        return services[-1]

    yield start
    for service in services:
        service.stop()


ODD_ECHOES = {
    "doubled": lambda number, data, earlier: [data, data],
    "after the one before": lambda number, data, earlier: earlier[-1:] + [data],
    "before all older ones": lambda number, data, earlier: [data] + earlier[::-1],
    "damaged once": lambda number, data, earlier: [data[:-1] + b"?" if number == 3 else data],
    "cut short once": lambda number, data, earlier: [data[:-1] if number == 3 else data],
    "lost once": lambda number, data, earlier: [] if number == 3 else [data],
}


@pytest.mark.parametrize("how", ODD_ECHOES)
def test_a_udp_echo_that_comes_oddly_leaves_the_output_right(client, udp_service, how):
    service = udp_service(ODD_ECHOES[how])
    assert client(service.endpoint, data=TEN_LINES) == (0, TEN_LINES, "")


def test_the_answer_of_a_name_server_is_written_as_it_is_and_the_query_is_sent_once(
    client, udp_service
):
    query = struct.pack("!HHHHHH", 77, 0x100, 1, 0, 0, 0) + b"\4host\4test\0\0\1\0\1"
    answer = query[:2] + b"\x81\x80" + query[4:] + b"the answer"
    service = udp_service(lambda *_: [answer])
    assert client(service.endpoint, data=query) == (0, answer, "")
    assert service.received == [query]


def test_stray_datagrams_do_not_prolong_a_try_without_end(client, udp_service):
    service = udp_service(lambda number, data, _: [data] if number == 1 else [b"stray"] * 150)
    got = client(service.endpoint, "-w", "20", data=b"a\nb\n", deadline=9)
    assert (got.status, got.output) == (1, b"a\n")


def test_unasked_replies_are_shown_while_the_client_waits_for_input(client, udp_service):
    service = udp_service(lambda *_: [b"one\n", b"two\n"])
    process = client.start(service.endpoint, stdout=PIPE)
    os.write(process.stdin.fileno(), b"hello\n")
    got = b""
    while got != b"one\ntwo\n" and select.select([process.stdout], [], [], 3)[0]:
        got += os.read(process.stdout.fileno(), 100) or b"end"
    assert got == b"one\ntwo\n"
    assert process.communicate(timeout=5)[0] == b""  # ends the input
    assert process.returncode == 0


class SilentAndEcho:
    """A port at which nothing answers over IPv6, and an echo service over IPv4."""

    def __init__(self, udp_service):
        self.silent = udp_socket(("::1", 0))
        self.port = self.silent.getsockname()[1]
        udp_service(lambda number, data, _: [data], (HERE, self.port))


@pytest.fixture
def silent_and_echo(udp_service):
    return SilentAndEcho(udp_service)


def test_the_client_goes_on_to_the_next_address_after_silence(client, silent_and_echo):
    assert client(f"udp:{silent_and_echo.port}", data=b"x\n") == (0, b"x\n", "")
    assert [receive(silent_and_echo.silent) for _ in range(3)] == [b"x\n"] * 3


def test_silence_is_an_error_after_three_tries(client, silent_and_echo):
    port = silent_and_echo.port
    says = f"client: udp6:[::1]:{port}: recv: Connection timed out\n"
    assert client(f"udp6:{port}", data=b"y\n") == (1, b"", says)
    assert [receive(silent_and_echo.silent) for _ in range(3)] == [b"y\n"] * 3
    assert receive(silent_and_echo.silent, 0.1) is None


def test_a_client_that_is_stopped_and_goes_on_awaits_a_datagrams_reply_as_before(client):
    silent = udp_socket()
    port = silent.getsockname()[1]
    process = client.start(f"udp4:{port}", "-w", "3", stdout=PIPE)
    os.write(process.stdin.fileno(), b"x\n")
    datagram, peer = silent.recvfrom(100)
    for _ in range(4):  # one more than it has tries
        signal_all([process.pid], signal.SIGSTOP, signal.SIGCONT, pause=0.1)
    assert receive(silent, 0.5) is None
    silent.sendto(datagram, peer)
    assert process.communicate(timeout=5)[0] == b"x\n"
    assert process.returncode == 0


# ---- TCP services


class TcpService:
    """A TCP server for one client; serve(connection) is what it does. It then keeps it open."""

    def __init__(self, serve):
        self.listener = socket.create_server((HERE, 0))
        self.listener.settimeout(10)
        self.endpoint = f"tcp4:{HERE}:{self.listener.getsockname()[1]}"
        self.serve = serve
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self):
        self.connection = self.listener.accept()[0]
        self.serve(self.connection)


def test_a_server_that_resets_is_an_error(client):
    def take_a_byte_and_reset(connection):
        connection.recv(1)
        reset(connection)

    service = TcpService(take_a_byte_and_reset)
    got = client(service.endpoint, data=bytes(1 << 20))
    assert (got.status, got.output) == (1, b"")
    assert "reset" in got.errors


def test_the_client_times_out_when_a_server_never_reads(client):
    service = TcpService(lambda connection: None)
    says = f"client: {service.endpoint}: timed out: nothing sent or received for 1 s\n"
    assert client(service.endpoint, "-w", "1", data=bytes(1 << 24)) == (1, b"", says)


def test_an_urgent_byte_from_a_server_is_kept(client):
    def send_an_urgent_byte(connection):
        connection.send(b"a")
        connection.send(b"b", socket.MSG_OOB)
        connection.send(b"c")
        connection.close()

    service = TcpService(send_an_urgent_byte)
    assert client(service.endpoint) == (0, b"abc", "")


def test_a_server_that_ends_its_half_too_early_is_an_error(client):
    def end_early(connection):
        connection.recv(1 << 16)
        connection.shutdown(socket.SHUT_WR)

    service = TcpService(end_early)
    got = client(service.endpoint, "-w", "3", data=bytes(1 << 24))
    assert got.status == 1
    assert got.errors.startswith(f"client: {service.endpoint}: ")


@pytest.mark.parametrize("more_input, status", [(b"", 0), (b"LAST\n", 1)])
def test_input_that_comes_after_the_server_closed_is_an_error(client, more_input, status):
    listener = socket.create_server((HERE, 0))
    for _ in range(20):
        process = client.start(
            f"tcp4:{HERE}:{listener.getsockname()[1]}", stdout=PIPE, stderr=subprocess.DEVNULL
        )
        connection = listener.accept()[0]
        os.write(process.stdin.fileno(), b"x" * 1000)
        assert receive(connection) == b"x" * 1000
        if more_input:
            signal_all([process.pid], signal.SIGSTOP, pause=0)
            os.write(process.stdin.fileno(), more_input)
        connection.sendall(b"bye\n")
        connection.close()
        signal_all([process.pid], signal.SIGCONT, pause=0)
        assert process.wait(5) == status  # although its input stays open
        assert more_input or process.stdout.read() == b"bye\n"


# ---- Servers that take no client, or no message


class FullBacklog:
    """A listening socket whose backlog is full."""

    def __init__(self, network):
        if network == "tcp4":
            self.listener = socket.create_server((HERE, 0), backlog=0)
            self.endpoint = f"tcp4:{HERE}:{self.listener.getsockname()[1]}"
        else:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind("full.sock")
            self.listener.listen(0)
            self.endpoint = "unix:full.sock"
        self.listener.settimeout(10)
        self.first = socket.socket(self.listener.family)
        self.first.connect(self.listener.getsockname())


@pytest.fixture(params=["tcp4", "unix"])
def full_backlog(request):
    full = FullBacklog(request.param)
    with full.listener, full.first:
        yield full


@pytest.mark.linux
def test_a_full_backlog_is_an_error_after_option_w(client, full_backlog):
    says = f"client: {full_backlog.endpoint}: connect: Connection timed out\n"
    assert client(full_backlog.endpoint, "-w", "1") == (1, b"", says)


@pytest.mark.linux
def test_a_client_that_is_stopped_and_goes_on_while_it_connects_gets_its_turn(client, full_backlog):
    process = client.start(full_backlog.endpoint, "-w", "8", stdout=PIPE)
    time.sleep(0.2)
    for _ in range(3):
        signal_all([process.pid], signal.SIGSTOP, signal.SIGCONT, pause=0.1)
    assert holds(lambda: process.poll() is None, 0.5)
    assert not spins(process.pid)
    full_backlog.listener.accept()[0].close()  # makes room
    with full_backlog.listener.accept()[0] as connection:
        connection.sendall(b"hello\n")
    assert process.communicate(timeout=5)[0] == b"hello\n"
    assert process.returncode == 0


@pytest.mark.linux
def test_a_client_that_was_stopped_while_it_connects_times_out(client, full_backlog):
    process = client.start(full_backlog.endpoint, "-w", "2", stderr=PIPE)
    time.sleep(0.2)
    signal_all([process.pid], signal.SIGSTOP, signal.SIGCONT, pause=0.1)
    assert process.wait(6) == 1
    says = f"client: {full_backlog.endpoint}: connect: Connection timed out\n"
    assert process.stderr.read().decode() == says


@pytest.mark.linux
def test_a_unixgram_server_whose_queue_is_full_is_an_error(client):
    server = unixgram_socket("gram.sock")
    fill(unixgram_socket("me", to="gram.sock"), b"x")
    says = "client: unixgram:gram.sock: recv: Connection timed out\n"
    assert client("unixgram:gram.sock", data=b"x\n") == (1, b"", says)
    server.close()


@pytest.mark.usefixtures("unixpacket")
def test_option_w_fires_while_half_a_line_is_typed_for_unixpacket(client):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind("packet.sock")
    listener.listen()
    process = client.start("unixpacket:packet.sock", "-w", "1", stderr=PIPE)
    os.write(process.stdin.fileno(), b"half a line")
    assert process.wait(5) == 1
    assert b"timed out" in process.stderr.read()


@pytest.fixture
def unused_port():
    """A port at which no socket listens, and none will."""
    with socket.socket() as s:
        s.bind((HERE, 0))
        yield s.getsockname()[1]


def test_the_error_is_that_of_the_last_address(client, unused_port):
    got = client(f"tcp:{unused_port}")
    says = rf"client: tcp:.*:{unused_port}: connect: Connection refused\n"
    assert got.status == 1
    assert re.fullmatch(says, got.errors)


def test_option_v_reports_each_attempt_as_it_is_made(client, unused_port):
    attempt = "client: trying (.*)\nclient: \\2: connect: Connection refused\n"
    got = client(f"tcp:{unused_port}", "-v")
    assert re.fullmatch(f"({attempt}){{2}}", got.errors)


@pytest.mark.linux
def test_a_client_never_connects_to_itself(namespace):
    few_ports = "echo 20000 20007 >/proc/sys/net/ipv4/ip_local_port_range"
    command = shlex.join(program("client", f"tcp4:{HERE}:20004"))
    script = f"{few_ports}; for i in $(seq 100); do {command} </dev/null 2>&1; done"
    got = run("ip", "netns", "exec", namespace(), "sh", "-c", script)
    assert got.output.count(b"connect: Connection refused\n") == 100


# ---- Waiting


@pytest.mark.parametrize("network", ["tcp4:0", "unix"])
def test_a_client_with_more_input_than_the_buffers_hold_gets_all_of_it_back(
    start_server, client, network
):
    assert client.echoes(start_server(network).endpoints()[0], os.urandom(1 << 24))


def test_a_client_that_waits_for_the_server_after_its_input_does_not_spin(client):
    listener = socket.create_server((HERE, 0))
    endpoint = f"tcp4:{HERE}:{listener.getsockname()[1]}"
    process = client.start(endpoint, stdin=subprocess.DEVNULL)
    time.sleep(0.1)
    assert not spins(process.pid)
