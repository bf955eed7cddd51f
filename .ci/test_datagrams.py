"""Datagrams, UDP and unixgram: sizes, addresses, and who gets no reply."""
import array
import os
import re
import signal
import socket

import pytest

from echo import program
from processes import descriptors, run, until
from sockets import HERE, echoes, enlarge_send_buffer, receive, send_as, succeeds, udp_socket
from sockets import unixgram_socket


# ---- UDP


@pytest.mark.parametrize("size", [0, 1, 1472, 1473, 65507])
def test_udp_echoes_a_datagram(start_server, size):
    s = start_server("udp4:0").connect("udp4")
    s.send(bytes(size))
    assert receive(s) == bytes(size)


def test_udp_echoes_over_ipv6(start_server):
    server = start_server("udp6:0")
    assert echoes(udp_socket(("::1", 0), to=("::1", server.port("udp6"))))


@pytest.mark.linux
def test_a_udp_reply_comes_from_the_address_that_the_client_sent_to(start_server):
    server = start_server("udp4:*:0")
    s = udp_socket(("0.0.0.0", 0), to=("127.1.2.3", server.port("udp4")))
    assert echoes(s)  # a connected socket takes nothing from other addresses


def test_a_sender_with_a_port_below_1024_gets_no_reply(start_server):
    server = start_server("udp4:0")
    low = udp_socket((HERE, 1023), to=(HERE, server.port("udp4")))
    low.send(b"x")
    assert receive(low, 0.3) is None


def test_a_sender_at_the_servers_port_on_another_host_gets_no_reply(start_server):
    server = start_server("udp4:0")
    port = server.port("udp4")
    same = udp_socket(("127.0.0.2", port), to=(HERE, port))
    same.send(b"x")
    assert receive(same, 0.3) is None


def test_no_other_program_can_take_the_servers_udp_port(start_server):
    port = start_server("udp4:*:0").port("udp4")
    thief = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    assert not succeeds(thief.bind, ("127.9.9.9", port))


# ---- UDP on a host with several links


class Links:
    """A server's host, a router, and a client's host, each a network namespace.

    Links 1 and 2 connect server and router, link 3 connects router and client. The client's
    datagrams come over link 1; the server's route back leads over link 2.
    """

    def __init__(self, ip, namespace):
        self.server, self.router, self.client = namespace(), namespace(), namespace()
        for name in "ipv4/ip_forward", "ipv6/conf/all/forwarding":
            self.set_sysctl(self.router, name, 1)
        for name in "all", "default":
            self.set_sysctl(self.router, f"ipv4/conf/{name}/rp_filter", 0)
        for i, host in (1, self.server), (2, self.server), (3, self.client):
            ip(f"-n {host} link add l{i} type veth peer name l{i} netns {self.router}")
            for number, end in (1, host), (2, self.router):
                ip(f"-n {end} addr add 10.99.{i}.{number}/24 dev l{i}")
                ip(f"-n {end} addr add fd99:{i}::{number}/64 dev l{i} nodad")
                ip(f"-n {end} link set l{i} up")
        for i, host in (2, self.server), (3, self.client):
            ip(f"-n {host} route add default via 10.99.{i}.2")
            ip(f"-n {host} route add default via fd99:{i}::2")
        assert until(lambda: "tentative" not in self.addresses(), 10)
        self.link_local = re.search(r"inet6 (fe80\S*)/", self.addresses("dev l1 scope link"))[1]

    def set_sysctl(self, host, name, value):
        self.run_on(host, "sh", "-c", f"echo {value} >/proc/sys/net/{name}")

    def run_on(self, host, *command):
        return run("ip", "netns", "exec", host, *command)

    def addresses(self, which=""):
        """The IPv6 addresses of the server's and the router's hosts."""
        hosts = [self.server, self.router]
        command = ["addr", "show", *which.split()]
        return "".join(run("ip", "-n", h, "-6", *command).output.decode() for h in hosts)


@pytest.fixture
def links(ip, namespace):
    return Links(ip, namespace)


@pytest.fixture
def server_on_links(links, start_server):
    return start_server("udp:*:7777", before=("ip", "netns", "exec", links.server))


@pytest.mark.linux
@pytest.mark.parametrize("address", ["10.99.1.1", "[fd99:1::1]"])
def test_a_reply_has_the_right_source_though_the_route_back_leads_over_another_link(
    links, server_on_links, address
):
    command = program("client", f"udp:{address}:7777")
    got = run("ip", "netns", "exec", links.client, *command, data=b"x\n")
    assert got == (0, b"x\n", "")


def test_a_link_local_address_gets_a_reply(links, server_on_links):
    command = program("client", f"udp:[{links.link_local}%l1]:7777")
    got = run("ip", "netns", "exec", links.router, *command, data=b"x\n")
    assert got == (0, b"x\n", "")


ASK = """
import socket, sys
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.bind(("fd99:1::2", 0))
s.settimeout(3)
s.sendto(b"x", (sys.argv[1], 7777, 0, socket.if_nametoindex("l1")))
s.recv(9)
"""


def test_a_global_address_gets_a_reply_from_a_link_local_one(links, server_on_links):
    got = links.run_on(links.router, "python3", "-c", ASK, links.link_local)
    assert got == (0, b"", "")


# ---- unixgram


@pytest.fixture
def unixgram(start_server):
    """A unixgram server."""
    return start_server("unixgram")


@pytest.fixture
def s(unixgram):
    """A socket with an address, connected to the server."""
    s = unixgram_socket("me", to="unixgram.sock")
    enlarge_send_buffer(s)
    return s


@pytest.mark.linux
def test_unixgram_echoes_200000_bytes_in_one_piece(s):
    assert echoes(s, bytes(range(250)) * 800)


def test_unixgram_does_not_echo_a_part_of_a_message_that_is_too_large(s):
    s.send(bytes(262145))
    assert receive(s, 0.5) is None
    assert echoes(s)


def test_a_sender_without_an_address_harms_no_other(s):
    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"no address", "unixgram.sock")
    assert echoes(s)


@pytest.mark.linux
def test_unixgram_answers_an_abstract_address(unixgram):
    assert echoes(unixgram_socket(f"\0echo-test{os.getpid()}", to="unixgram.sock"))


def test_unixgram_keeps_no_descriptor_that_a_client_sends_along(unixgram, s):
    (child,) = unixgram.children()
    assert echoes(s)
    before = descriptors(child)
    for _ in range(20):
        rights = array.array("i", [0] * 20)
        s.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        assert receive(s) == b"x"
    assert descriptors(child) == before


def test_a_client_that_takes_no_replies_holds_up_no_other_client(s):
    full = unixgram_socket("full")
    full.settimeout(0.2)
    for _ in range(1000):
        if not succeeds(full.sendto, b"x", "unixgram.sock"):
            break  # the server's queue is full
    assert echoes(s)


def test_unixgram_does_not_answer_itself(unixgram, s):
    send_as("unixgram.sock")
    assert not unixgram.spins()
    assert echoes(s)


def test_unixgram_does_not_answer_itself_at_a_path_with_a_control_character(start_server):
    server = start_server("unixgram:a\1b.sock")
    send_as("a\1b.sock")
    assert not server.spins()


def test_the_server_removes_its_unixgram_socket_file(unixgram):
    assert unixgram.end(signal.SIGTERM) == 0
    assert not os.path.exists("unixgram.sock")
