"""Sockets that other programs have opened: those of systemd (LISTEN_FDS), and of inetd (-i)."""
import fcntl
import os
import signal
import socket
import subprocess
import time

import pytest

from echo import Load, program
from processes import run, until
from sockets import END, HERE, echoes, receive_all, reset, send_as, succeeds, udp_socket
from sockets import unixgram_socket

SO_TIMESTAMP, IP_RECVORIGDSTADDR, IP_RECVERR = 29, 20, 11


@pytest.fixture
def adopt(start_server):
    """Starts a server for these sockets, as systemd does."""

    def adopt(*sockets):
        moved = [fcntl.fcntl(s, fcntl.F_DUPFD, 60) for s in sockets]
        moves = "".join(f"exec {3 + i}<&{fd} {fd}<&-; " for i, fd in enumerate(moved))
        server = start_server(
            before=("bash", "-c", moves + 'export LISTEN_PID=$$; exec "$@"', "sh"),
            environment={"LISTEN_FDS": str(len(sockets))},
            pass_fds=moved,
        )
        for fd in moved:
            os.close(fd)
        until(lambda: len(server.endpoints()) == len(sockets) or server.has_ended(), 2)
        return server

    return adopt


# ---- Datagrams


@pytest.mark.linux
@pytest.mark.parametrize(
    "level, option",
    [
        pytest.param(socket.SOL_SOCKET, SO_TIMESTAMP, id="timestamps"),
        pytest.param(socket.IPPROTO_IP, IP_RECVERR, id="IP_RECVERR"),
        pytest.param(socket.IPPROTO_IP, IP_RECVORIGDSTADDR, id="original address"),
    ],
)
def test_an_adopted_udp_socket_answers_although_it_has_an_option(adopt, level, option):
    u = udp_socket()
    u.setsockopt(level, option, 1)
    adopt(u)
    assert echoes(udp_socket(to=u.getsockname()))


@pytest.mark.linux
def test_clients_that_are_gone_do_not_make_an_adopted_socket_with_ip_recverr_spin(adopt):
    u = udp_socket()
    u.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    server = adopt(u)
    for _ in range(5):
        udp_socket(to=u.getsockname()).send(b"x")  # the reply is an error for the server
    assert not server.spins()
    assert echoes(udp_socket(to=u.getsockname()))


def test_an_adopted_udp_socket_that_is_shut_down_does_not_make_the_server_spin(adopt):
    u = udp_socket()
    server = adopt(u)
    succeeds(u.shutdown, socket.SHUT_RD)  # it works, though it says ENOTCONN
    assert not server.spins()


@pytest.mark.linux
def test_an_adopted_unixgram_socket_that_is_shut_down_does_not_make_the_server_spin(adopt):
    u = unixgram_socket("unixgram.sock")
    server = adopt(u)
    u.shutdown(socket.SHUT_RD)
    assert not server.spins()


def test_an_adopted_unixgram_socket_does_not_answer_itself(adopt):
    server = adopt(unixgram_socket("unixgram.sock"))
    send_as("unixgram.sock")
    assert not server.spins()


# ---- Connections


@pytest.mark.linux
@pytest.mark.parametrize("clients", [0, 6])  # as many children wait, or one
@pytest.mark.parametrize("network", ["tcp4", "unix"])
def test_a_listener_that_is_shut_down_ends_the_server_which_says_why_once(adopt, network, clients):
    if network == "tcp4":
        listener = socket.create_server((HERE, 0))
        name = f"tcp4:{HERE}:{listener.getsockname()[1]}"
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind("unix.sock")
        listener.listen()
        name = "unix:unix.sock"
    server = adopt(listener)
    crowd = [server.connect(network) for _ in range(clients)]
    assert all(echoes(c) for c in crowd)
    for c in crowd:
        c.close()
    time.sleep(0.3)
    listener.shutdown(socket.SHUT_RDWR)
    assert server.process.wait(5) == 1
    after_the_start = server.log().partition("listening on ")[2].partition("\n")[2]
    assert after_the_start == f"server: {name}: accept: Invalid argument\n"


@pytest.mark.linux
def test_an_adopted_listener_that_is_non_blocking_is_served(adopt, client):
    listener = socket.create_server((HERE, 0))
    listener.setblocking(False)
    server = adopt(listener)
    assert all(client.echoes(server.endpoint("tcp4")) for _ in range(10))


def test_a_connection_is_refused_as_a_listener(adopt):
    listener = socket.create_server((HERE, 0))
    server = adopt(socket.create_connection(listener.getsockname()))
    assert server.process.wait(5) == 1
    assert server.log().count(": accept: Invalid argument\n") == 1


@pytest.mark.linux
def test_a_socket_of_another_family_is_refused(adopt):
    server = adopt(socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM))
    assert server.process.wait(5) == 1
    assert "unknown kind" in server.log()


# ---- One server after another at the same sockets


@pytest.mark.alone
def test_40_servers_in_turn_at_the_same_sockets_lose_no_connection(adopt):
    tcp, unix = socket.create_server((HERE, 0), backlog=4096), socket.socket(socket.AF_UNIX)
    unix.bind("unix.sock")
    unix.listen(4096)
    server = adopt(tcp, unix)

    def connect_to_unix():
        s = socket.socket(socket.AF_UNIX)
        s.connect("unix.sock")
        return s

    def connect_to_tcp():
        return socket.create_connection(tcp.getsockname())

    with Load(connect_to_tcp, threads=3) as tcp_load, Load(connect_to_unix, threads=3) as unix_load:
        for _ in range(20):
            assert server.end(signal.SIGTERM) == 0
            server = adopt(tcp, unix)  # comes after the old one has left
            new = adopt(tcp, unix)  # comes before the old one leaves
            assert server.end(signal.SIGTERM) == 0
            server = new
    assert set(tcp_load.ends) == set(unix_load.ends) == {"served"}


def test_a_server_leaves_the_file_of_an_adopted_socket(adopt):
    unix = socket.socket(socket.AF_UNIX)
    unix.bind("unix.sock")
    unix.listen()
    assert adopt(unix).end(signal.SIGTERM) == 0
    assert os.path.exists("unix.sock")


# ---- A connection on standard input, -i


def test_option_i_refuses_a_datagram_socket():
    got = run(*program("server", "-i"), stdin=unixgram_socket("me"))
    assert got.status == 1
    assert got.errors.startswith("server: descriptor 0: getpeername: ")


def test_option_i_writes_only_the_echo_to_a_connection_that_is_standard_error_too():
    ours, theirs = socket.socketpair()
    command = program("server", "-i", "-v")
    with theirs:
        process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs)
    assert echoes(ours)
    ours.shutdown(socket.SHUT_WR)
    assert receive_all(ours) == (b"", END)
    assert process.wait(5) == 0


def test_option_i_keeps_its_log_if_standard_error_is_another_socket():
    ours, theirs = socket.socketpair()
    log, its_log = socket.socketpair()
    with theirs, its_log:
        process = subprocess.Popen(program("server", "-i", "-v"), stdin=theirs, stderr=its_log)
    assert echoes(ours)
    ours.shutdown(socket.SHUT_WR)
    assert process.wait(5) == 0
    assert b"server: closed client" in receive_all(log)[0]


class OnStandardInput:
    """A server that serves a TCP connection, its standard input, and the connection's other end."""

    def __init__(self, *options):
        with socket.create_server((HERE, 0)) as listener:
            self.connection = socket.create_connection(listener.getsockname())
            with listener.accept()[0] as theirs:
                self.process = subprocess.Popen(program("server", "-i", *options), stdin=theirs)
        assert echoes(self.connection)


def test_option_i_exits_with_0_after_a_client_that_ended_in_order():
    server = OnStandardInput()
    server.connection.shutdown(socket.SHUT_WR)
    assert receive_all(server.connection) == (b"", END)
    assert server.process.wait(5) == 0


def test_option_i_exits_with_1_after_a_client_that_reset():
    server = OnStandardInput()
    reset(server.connection)
    assert server.process.wait(5) == 1


def test_option_i_exits_with_0_after_an_idle_client():
    server = OnStandardInput("-t", "1")
    assert receive_all(server.connection) == (b"", END)
    assert server.process.wait(5) == 0
