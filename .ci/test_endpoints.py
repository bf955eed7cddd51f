"""Endpoints and the command line: what is accepted, and what is said of the rest."""
import os
import signal
from pathlib import Path

import pytest

from echo import program
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
