"""The end of a server: by signals, with connections open, under load, and by SIGKILL."""
import os
import signal
import socket
import time

import pytest

from echo import Load
from processes import is_alive, signal_all, until
from sockets import END, HERE, RESET, echoes, receive_all, succeeds

TERM, INT, HUP, KILL = signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL


@pytest.fixture
def server(start_server):
    return start_server("tcp4:0", "unix")


def busy_clients(server, networks=("tcp4",)):
    """Clients of which each has had an answer."""
    clients = [server.connect(network) for network in networks]
    assert all(echoes(c) for c in clients)
    return clients


# ---- Signals


@pytest.mark.alone
def test_two_signals_at_once_end_an_idle_server_at_once(server):
    busy_clients(server)
    time.sleep(0.3)  # the client has left
    assert server.end(TERM, TERM, seconds=2) == 0
    assert not server.names_a_connection()


def test_the_log_counts_the_open_connections(server):
    clients = busy_clients(server, ["tcp4", "tcp4", "unix"])
    signal_all([server.pid], TERM)
    says = "waiting up to 5 s for 3 connections; signal again to exit now\n"
    assert says in server.log()
    del clients


def test_sigterm_removes_the_socket_file_and_refuses_new_connections_at_once(server):
    clients = busy_clients(server)
    signal_all([server.pid], TERM)
    assert not os.path.exists("unix.sock")
    assert not succeeds(server.connect)
    del clients


def test_open_connections_are_served_to_their_end_after_sigterm(server):
    clients = busy_clients(server, ["tcp4", "tcp4", "unix"])
    signal_all([server.pid], TERM)
    assert all(echoes(c) for c in clients)
    for c in clients:
        c.shutdown(socket.SHUT_WR)
    assert [receive_all(c) for c in clients] == [(b"", END)] * 3
    assert server.end(seconds=2) == 0


def test_a_second_signal_at_once_is_the_same_wish(server):
    (busy,) = busy_clients(server)
    signal_all([server.pid], TERM, TERM, pause=0)
    time.sleep(0.5)
    assert echoes(busy)


@pytest.mark.alone
def test_a_later_signal_ends_the_server_at_once_and_resets_its_clients(server):
    (busy,) = busy_clients(server)
    signal_all([server.pid], TERM, pause=0.5)
    assert echoes(busy)
    assert server.end(INT, seconds=2) == 0
    assert receive_all(busy) == (b"", RESET)
    assert "killed by signal 9" in server.log()


def test_an_earlier_sigalrm_does_not_cut_the_5_seconds_short(server):
    signal_all([server.pid], signal.SIGALRM)
    (busy,) = busy_clients(server)
    signal_all([server.pid], TERM, pause=0.5)
    assert echoes(busy)


@pytest.mark.alone
def test_open_connections_get_5_seconds(server):
    clients = busy_clients(server)
    began = time.monotonic()
    assert server.end(HUP) == 0
    assert 4.5 < time.monotonic() - began < 6.5
    del clients


@pytest.mark.parametrize("number", [HUP, INT])
def test_a_signal_that_was_ignored_from_the_start_stays_so(start_server, number):
    server = start_server("tcp4:0", ignore=[number, signal.SIGCHLD])
    signal_all([server.pid], number)
    assert echoes(server.connect())


@pytest.mark.alone
def test_no_client_sees_a_short_echo_when_a_server_under_load_ends(server):
    with Load(server.connect) as load:
        time.sleep(0.5)
        assert server.end(TERM) == 0
    assert "short" not in load.ends
    assert load.ends["served"] > 0


def test_a_stopped_child_without_a_client_does_not_delay_the_end(server):
    signal_all(server.children(), signal.SIGSTOP)
    assert server.end(TERM, seconds=2) == 0
    assert not server.names_a_connection()


# ---- SIGKILL


class Killed:
    """A killed server, its children, a client that one of them serves, and the next server."""

    def __init__(self, start_server):
        self.old = start_server("tcp4:0", "unix", "udp4:0")
        children = self.old.children()
        (self.busy,) = busy_clients(self.old)
        self.family = {*children, *self.old.children()}
        signal_all([self.old.pid], KILL, pause=0)
        addresses = self.old.endpoint("tcp4"), "unix", self.old.endpoint("udp4")
        self.new = start_server(*addresses)

    def left(self):
        """The children of the killed server that live."""
        return [pid for pid in self.family if is_alive(pid)]


@pytest.fixture
def killed(start_server):
    killed = Killed(start_server)
    yield killed
    killed.busy.close()
    signal_all(killed.left(), KILL, pause=0)


def test_a_new_server_starts_at_once_at_the_addresses_of_a_killed_one(killed):
    assert not killed.new.has_ended()


def test_idle_children_end_with_a_killed_parent_and_the_busy_one_serves_on(killed):
    assert until(lambda: len(killed.left()) == 1, 2)
    assert echoes(killed.busy)


def test_sigterm_does_not_cut_off_the_client_of_a_child_whose_parent_is_killed(killed):
    assert until(lambda: len(killed.left()) == 1, 2)
    signal_all(killed.left(), TERM)
    assert echoes(killed.busy)


def test_the_child_of_a_killed_parent_leaves_after_its_client(killed):
    killed.busy.close()
    assert until(lambda: not killed.left(), 2)


def test_the_new_server_serves_while_a_child_of_the_killed_one_is_busy(killed, client):
    assert until(lambda: len(killed.left()) == 1, 2)
    assert client.echoes(killed.old.endpoint("tcp4"))
    assert client.echoes("unix")
    assert killed.new.end(TERM) == 0


@pytest.mark.alone
def test_every_restart_right_after_a_busy_server_is_killed_succeeds(start_server):
    server = start_server("-k", "0", "tcp4:0", "unix")
    endpoint, port = server.endpoint("tcp4"), server.port()
    with Load(lambda: socket.create_connection((HERE, port))):
        for _ in range(40):
            time.sleep(0.05)
            kill_it_first = ("sh", "-c", f'kill -9 {server.pid}; exec "$@"', "sh")
            server = start_server("-k", "0", endpoint, "unix", before=kill_it_first)
            assert not server.has_ended()
            assert "listening on unix:" in server.log()
    assert server.end(TERM) == 0
