"""What every test has: a directory and a network of its own, and no process left behind."""
import ctypes
import os
import resource
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from echo import Client, Server, program
from processes import children_of, is_alive, run, signal_all, until

PR_SET_CHILD_SUBREAPER = 36
CLONE_NEWNET = 0x40000000
FAILED = pytest.StashKey[bool]()
libc = ctypes.CDLL(None)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Notes whether the test itself has failed: its fixtures then only clean up."""
    item.stash[FAILED] = item.stash.get(FAILED, False) or call.excinfo is not None
    yield


@pytest.fixture(scope="session", autouse=True)
def own_process_settings():
    """Makes the children of a killed server ours, and allows a crowd of clients."""
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, max(4096, hard)))
    os.environ["LC_ALL"] = "C"


@pytest.fixture(scope="session", autouse=True)
def own_network():
    """Moves into a new network namespace, so that tests side by side cannot meet at a port."""
    if hasattr(libc, "unshare") and libc.unshare(CLONE_NEWNET) == 0:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=10)


@pytest.fixture(autouse=True)
def working_directory():
    """A new directory, in which the test runs, and which others can enter."""
    before = os.getcwd()
    path = tempfile.mkdtemp(prefix="echo-test.")
    os.chmod(path, 0o777)
    os.chdir(path)
    yield Path(path)
    os.chdir(before)
    shutil.rmtree(path)


@pytest.fixture(autouse=True)
def no_process_left(working_directory):
    """Fails if the test leaves a process, and ends it."""

    def left():
        for pid in set(children_of(os.getpid())) - before:
            if not is_alive(pid):
                os.waitpid(pid, 0)
        return set(children_of(os.getpid())) - before

    before = set(children_of(os.getpid()))
    yield
    if not until(lambda: not left(), 2):
        commands = {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in left()}
        # With a server and its watcher, also the children that they leave to us.
        until(lambda: signal_all(left(), signal.SIGKILL, pause=0.05) or not left())
        pytest.fail(f"these processes were left: {commands}")


@pytest.fixture
def start_server(no_process_left, request):
    """Starts servers: start_server("-v", "tcp4:0"). See Server for what else it takes.

    A server that the test has not ended must end on SIGTERM with status 0, and leave no process.
    """
    servers = []

    def start(*arguments, **more):
        servers.append(Server(*arguments, **more))
        return servers[-1]

    yield start
    for server in servers:
        print(f"The log of server {server.pid}:\n{server.log()}")
    still = [server for server in servers if not server.has_ended()]
    try:
        if not request.node.stash[FAILED]:
            assert [server.end(signal.SIGTERM) for server in still] == [0] * len(still)
    finally:
        for server in servers:
            server.kill()


@pytest.fixture
def client(no_process_left):
    """Runs clients: client(endpoint, data=...), client.start(endpoint). See Client."""
    client = Client()
    yield client
    client.kill_all()


@pytest.fixture(scope="session")
def unixpacket():
    """Skips the test where there are no packets over AF_UNIX: on macOS."""
    if "Protocol not supported" in run(*program("client", "unixpacket:none")).errors:
        pytest.skip("the system has no unixpacket")


@pytest.fixture
def ip():
    """Runs ip(8) with each of the command lines."""

    def ip(*command_lines):
        for line in command_lines:
            subprocess.run(["ip", *line.split()], check=True, timeout=10)

    return ip


@pytest.fixture
def namespace(ip, no_process_left):
    """Makes network namespaces: namespace() returns its name. In it, only loopback is up."""
    names = []

    def make():
        names.append(f"echo-test-{os.getpid()}-{len(names)}")
        ip(f"netns add {names[-1]}", f"-n {names[-1]} link set lo up")
        return names[-1]

    yield make
    ip(*(f"netns del {name}" for name in names))
