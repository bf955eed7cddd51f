"""Endpoints and the command line: what is accepted, and what is said of the rest."""
import os
import re
import shutil
import signal
from pathlib import Path

import pytest

from echo import PROGRAMS, program
from processes import run

LONGEST_PATH = "p" * 107


def test_a_socket_path_of_107_bytes_works(start_server, client):
    start_server("unix:" + LONGEST_PATH)
    assert client.echoes("unix:" + LONGEST_PATH)


@pytest.mark.parametrize("name", ["server", "client"])
def test_a_socket_path_of_108_bytes_is_an_error(name):
    endpoint = f"unix:{LONGEST_PATH}p"
    problem = f"{name}: {endpoint}: socket path too long (at most 107 bytes)\n"
    got = run(*program(name, endpoint))
    assert (got.status, got.errors) == (2, f"{problem}try '{name} -h'\n")


@pytest.mark.parametrize("name", ["server", "client"])
def test_a_port_of_320_digits_is_an_error(name):
    got = run(*program(name, f"tcp4:{8000:0320}"))
    assert got.status == 2
    assert "address empty or too long" in got.errors


def test_a_server_with_too_many_sockets_leaves_no_file():
    got = run(*program("server", *(f"unix:{n}" for n in range(257))))
    assert (got.status, got.errors) == (1, "server: more than 256 sockets\n")
    assert os.listdir() == []


def test_a_socket_file_is_for_its_owner_alone(start_server):
    start_server("unix")
    assert os.stat("unix.sock").st_mode & 0o77 == 0


def test_the_socket_file_of_a_live_server_is_not_taken(start_server, client):
    start_server("unix")
    got = run(*program("server", "unix"))
    says = "server: unix:unix.sock: bind: Address already in use\n"
    assert (got.status, got.errors) == (1, says)
    assert client.echoes("unix")


def test_a_server_removes_no_file_but_its_own(start_server):
    server = start_server("unix")
    os.rename("unix.sock", "moved")
    Path("unix.sock").touch()
    assert server.end(signal.SIGTERM) == 0
    assert os.path.exists("unix.sock")


# ---- Words that people type


@pytest.mark.parametrize(
    "endpoint, is_announced_as",
    [
        ("tcp://127.0.0.1:7701", "tcp:127.0.0.1:7701"),
        ("TCP4:127.0.0.1:7702", "tcp4:127.0.0.1:7702"),
        ("unix://./x.sock", "unix:./x.sock"),
        ("unix://{here}/x.sock", "unix:{here}/x.sock"),
        ("x.sock", "unix:x.sock"),
    ],
)
def test_an_endpoint_as_it_may_be_typed(
    start_server, client, working_directory, endpoint, is_announced_as
):
    endpoint = endpoint.format(here=working_directory)
    server = start_server(endpoint)
    assert server.endpoints() == [is_announced_as.format(here=working_directory)]
    assert client.echoes(endpoint)


@pytest.mark.parametrize("name", ["server", "client"])
@pytest.mark.parametrize(
    "argument, problem",
    [
        ("http://localhost:80", "http://localhost:80: unknown network (for a list, see -h)"),
        ("--port", "unknown option '--port'"),
        ("--version", "unknown option '--version'"),
    ],
)
def test_what_is_unknown_is_a_usage_error_that_names_it(name, argument, problem):
    says = f"{name}: {problem}\ntry '{name} -h'\n"
    assert run(*program(name, argument)) == (2, b"", says)


@pytest.mark.parametrize("name", ["server", "client"])
def test_a_hyphen_among_the_letters_of_the_last_option_is_a_usage_error(name):
    got = run(*program(name, "-v-"))
    assert (got.status, got.output) == (2, b"")
    assert got.errors.startswith(f"{name}: unknown option ")


@pytest.mark.parametrize("name", ["server", "client"])
def test_help_comes_also_after_other_options(name):
    got = run(*program(name, "-v", "--help"))
    assert (got.status, got.errors) == (0, "")
    assert got.output.startswith(b"usage: %s [-h" % name.encode())


@pytest.mark.parametrize("name", ["server", "client"])
def test_the_usage_names_the_program_as_it_was_called(name):
    shutil.copy(PROGRAMS / name, f"echo-{name}")
    assert run(f"./echo-{name}", "-h").output.startswith(b"usage: echo-%s [-h" % name.encode())
    assert f"try 'echo-{name} -h'" in run(f"./echo-{name}", "-x").errors


# ---- Addresses that this host lacks


class WithoutIPv6:
    """A host that has no IPv6 address, although it knows IPv6."""

    def __init__(self, namespace):
        off = "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6"
        self.command = "ip", "netns", "exec", namespace()
        assert run(*self.command, "sh", "-c", off).status == 0


@pytest.fixture
def without_ipv6(namespace):
    return WithoutIPv6(namespace)


@pytest.mark.parametrize("network", ["tcp", "udp"])
def test_an_address_that_this_host_lacks_is_named_and_the_others_are_served(
    start_server, without_ipv6, network
):
    server = start_server(f"{network}:0", before=without_ipv6.command)
    # The port is 0, or that of an address before.
    says = rf"server: {network}:\[::1\]:\d+: not served: bind: Cannot assign requested address\n"
    assert len(re.findall(says, server.log())) == 1
    assert re.fullmatch(rf"{network}:127\.0\.0\.1:\d+", " ".join(server.endpoints()))
    got = run(*without_ipv6.command, *program("client", *server.endpoints()), data=b"x\n")
    assert got == (0, b"x\n", "")


def test_an_endpoint_without_any_address_of_this_host_is_an_error(without_ipv6):
    says = "server: tcp6:[::1]:0: not served: bind: Cannot assign requested address\n"
    assert run(*without_ipv6.command, *program("server", "tcp6:0")) == (1, b"", says)


def test_a_name_with_an_address_that_this_host_lacks_is_served_at_the_other(start_server, client):
    Path("hosts").write_text("10.99.99.99 two.test\n127.0.0.1 two.test\n")
    with_own_hosts = ("sh", "-c", 'mount --bind hosts /etc/hosts && exec "$@"', "sh")
    server = start_server("tcp4:two.test:0", before=("unshare", "--mount", *with_own_hosts))
    says = r"server: tcp4:10.99.99.99:\d+: not served: bind: Cannot assign requested address\n"
    assert len(re.findall(says, server.log())) == 1
    assert client.echoes(server.endpoint("tcp4"))


def test_a_host_and_then_a_port_is_a_usage_error_of_the_server_that_shows_the_right_form():
    got = run(*program("server", "0.0.0.0", "8123"))
    assert (got.status, got.output) == (2, b"")
    assert got.errors.startswith(
        "server: unexpected argument '8123' (an endpoint is tcp:HOST:PORT)\n"
    )
