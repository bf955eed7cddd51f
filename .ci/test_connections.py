"""Connections: urgent bytes, resets, packets, killed children, and what the log says of them."""
import re
import signal
import socket

import pytest

from processes import descriptors, signal_all, until
from sockets import END, RESET, echoes, enlarge_send_buffer, receive, receive_all, reset


def child_with_a_client(server):
    """The child that has a connection: a socket more than those that wait."""
    (child,) = [
        pid
        for pid in server.children()
        if sum("socket" in name for name in descriptors(pid).values()) == 2
    ]
    return child


def test_urgent_bytes_come_back_in_their_places(start_server):
    c = start_server("tcp4:0").connect()
    for piece, flags in (b"ab", 0), (b"!", socket.MSG_OOB), (b"cd", 0), (b"?", socket.MSG_OOB):
        c.send(piece, flags)
    c.shutdown(socket.SHUT_WR)
    assert receive_all(c) == (b"ab!cd?", END)


@pytest.mark.parametrize("size", [0, 10_000])
def test_clients_that_reset_harm_no_other_client(start_server, size):
    server = start_server("tcp4:0")
    for _ in range(100):
        c = server.connect()
        c.send(bytes(size))
        reset(c)
    assert echoes(server.connect())


def test_the_log_names_a_reset(start_server):
    server = start_server("-v", "tcp4:0")
    c = server.connect()
    assert echoes(c)
    reset(c)
    assert until(lambda: "after 4 bytes: Connection reset by peer" in server.log())


@pytest.mark.linux
def test_a_packet_of_200000_bytes_comes_back_in_one_piece(start_server):
    c = start_server("unixpacket").connect("unixpacket")
    enlarge_send_buffer(c)
    assert echoes(c, b"x")
    assert echoes(c, bytes(range(250)) * 800)


@pytest.mark.usefixtures("unixpacket")
def test_a_packet_that_is_too_large_ends_the_connection(start_server):
    c = start_server("unixpacket").connect("unixpacket")
    enlarge_send_buffer(c)
    c.send(bytes(262145))
    assert receive(c) in (END, RESET)


def test_a_client_whose_child_is_killed_gets_a_reset(start_server):
    server = start_server("tcp4:0")
    c = server.connect()
    assert echoes(c)
    signal_all([child_with_a_client(server)], signal.SIGKILL)
    assert receive_all(c) == (b"", RESET)


def test_the_log_names_a_killed_child_and_the_signal(start_server):
    server = start_server("tcp4:0")
    c = server.connect()
    assert echoes(c)
    child = child_with_a_client(server)
    signal_all([child], signal.SIGKILL)
    assert f"child {child}: killed by signal 9" in server.log()


def test_the_log_says_who_came_how_many_bytes_came_and_why_it_ended(start_server):
    server = start_server("-v", "tcp4:0")
    c = server.connect()
    name = re.escape("tcp4:%s:%d" % c.getsockname())
    assert echoes(c)
    c.shutdown(socket.SHUT_WR)
    assert receive_all(c) == (b"", END)
    accepted = rf"accepted {name} on tcp4:\S+, child \d+\n"
    closed = rf"closed {name} on tcp4:\S+ after 4 bytes: end of file\n"
    assert until(lambda: re.search(f"{accepted}(.*\n)*.*{closed}", server.log()))
