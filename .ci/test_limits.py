"""Limits: descriptors, processes, -k, -m, -t; children that die or stop; crowds of clients."""
import os
import random
import re
import resource
import signal
import socket
import subprocess
import threading
import time

import pytest

from echo import Load
from processes import descriptors, holds, is_alive, read_text, run, signal_all, until
from sockets import END, RESET, echoes, fill, receive, receive_all, succeeds

# ---- Descriptors and processes


@pytest.fixture
def out_of_descriptors(start_server):
    """A server of which no process can open a descriptor."""
    return start_server("tcp4:0", limits={resource.RLIMIT_NOFILE: 4})


def test_out_of_descriptors_a_client_waits_and_nothing_spins(out_of_descriptors):
    c = out_of_descriptors.connect()
    c.send(b"ping")
    assert receive(c, 0.5) is None
    assert not out_of_descriptors.spins()


@pytest.mark.linux
def test_out_of_descriptors_the_log_says_so_once(out_of_descriptors):
    time.sleep(0.5)
    says = re.findall("trying.*", out_of_descriptors.log())
    assert says == ["trying again: accept: Too many open files"]


def test_the_client_that_waited_is_served_when_there_are_descriptors(out_of_descriptors):
    c = out_of_descriptors.connect()
    c.send(b"ping")
    assert receive(c, 0.5) is None
    for pid in out_of_descriptors.children():
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (100, 4096))
    assert receive(c) == b"ping"


USER = 100_000 + os.getpid()  # a user with no other processes


@pytest.fixture
def four_processes(start_server):
    """A server that can have only four processes: the parent, its watcher and two children."""
    limits = {resource.RLIMIT_NPROC: 4}
    return start_server("-k", "2", "tcp4:0", limits=limits, user=USER)


def set_limits(four_processes, *options):
    """Runs prlimit(1) as the user whose server it is: root may lack the right."""
    as_user = ("setpriv", f"--reuid={USER}", "--clear-groups")
    assert run(*as_user, "prlimit", f"--pid={four_processes.pid}", *options).status == 0


@pytest.mark.alone
def test_four_processes_serve_all_of_16_clients(four_processes):
    with Load(four_processes.connect, threads=16) as load:
        time.sleep(3)
    assert set(load.ends) == {"served"}
    assert load.ends["served"] > 50


def test_out_of_processes_nothing_spins_and_the_log_says_so_once(four_processes):
    idle = [four_processes.connect() for _ in range(4)]
    time.sleep(1)
    assert not four_processes.spins()
    assert four_processes.log().count("fork: Resource temporarily unavailable") == 1
    del idle


def test_out_of_processes_a_server_of_100_sockets_ends_soon(start_server):
    endpoints = [f"unix:{n}.sock" for n in range(100)]
    server = start_server(*endpoints, limits={resource.RLIMIT_NPROC: 1}, user=USER)
    assert server.end(signal.SIGTERM, seconds=1) == 0


def test_the_clients_that_waited_are_served_when_there_are_processes(four_processes):
    waiting = [four_processes.connect() for _ in range(4)]
    assert until(lambda: "fork: Resource temp" in four_processes.log())
    set_limits(four_processes, "--nproc=99")
    assert all(echoes(c) for c in waiting)


def test_each_trouble_is_reported_once_and_once_more_after_it_has_passed(start_server):
    server = start_server("-m", "1", "tcp4:0")
    (child,) = server.children()
    for times in 1, 2:
        resource.prlimit(child, resource.RLIMIT_NOFILE, (4, 4096))
        with server.connect() as c:
            assert echoes(c)  # the child had reserved the descriptor before
        assert until(lambda: server.log().count("accept: Too many open files\n") == times)
        time.sleep(0.3)
        resource.prlimit(child, resource.RLIMIT_NOFILE, (100, 4096))
        with server.connect() as c:
            assert echoes(c)
        time.sleep(0.3)  # the child waits again
    assert server.log().count("accept: Too many open files\n") == 2


def test_a_child_reports_its_trouble_after_the_parent_has_reported_another(four_processes):
    waiting = [four_processes.connect() for _ in range(4)]
    assert until(lambda: "fork: Resource temp" in four_processes.log())
    set_limits(four_processes, "--nofile=4:")
    set_limits(four_processes, "--nproc=99")
    assert until(lambda: "trying again: accept: Too many" in four_processes.log())
    del waiting


# ---- The options -m and -k


@pytest.mark.alone
def test_a_unix_client_is_served_while_16_tcp_clients_take_turns_at_one_connection(start_server):
    server = start_server("-m", "1", "tcp4:0", "unix")
    with Load(server.connect, threads=16, hold=0.02):
        time.sleep(0.5)
        assert all(echoes(server.connect("unix")) for _ in range(3))


@pytest.mark.parametrize("idle, stay", [(0, 1), (3, 3)])
def test_as_many_children_stay_as_option_k_says(start_server, idle, stay):
    server = start_server("-k", str(idle), "tcp4:0")
    crowd = [server.connect() for _ in range(20)]
    assert all(echoes(c) for c in crowd)
    for c in crowd:
        c.close()
        time.sleep(0.05)  # two that end at the same time may both leave
    assert until(lambda: len(server.children()) == stay)
    assert holds(lambda: len(server.children()) == stay, 0.3)


# ---- Children that are killed or stopped


def any_child(server):
    """One of its children. It can have none: it waits 100 ms after a death before it forks."""
    while not (children := server.children()):
        time.sleep(0.01)
    return random.choice(children)


@pytest.mark.alone
def test_300_killed_children_cost_no_more_than_their_own_clients(start_server):
    server = start_server("tcp4:0")
    with Load(server.connect) as load:
        for _ in range(300):
            signal_all([any_child(server)], signal.SIGKILL, pause=0.01)
    assert load.ends["reset"] <= 300 < load.ends["served"]
    assert set(load.ends) <= {"served", "reset"}  # no client sees an orderly end


@pytest.mark.alone
def test_no_client_notices_60_children_that_are_stopped_for_a_moment(start_server):
    server = start_server("tcp4:0")
    with Load(server.connect) as load:
        for _ in range(60):
            signal_all([any_child(server)], signal.SIGSTOP, signal.SIGCONT, pause=0.02)
    assert set(load.ends) == {"served"}


class AllStopped:
    """A server of which all waiting children are stopped, those children, and five clients."""

    def __init__(self, start_server):
        self.server = start_server("tcp4:0")
        for c in [self.server.connect() for _ in range(5)]:
            c.close()
        time.sleep(0.5)
        self.children = self.server.children()
        signal_all(self.children, signal.SIGSTOP)
        self.crowd = [self.server.connect() for _ in range(5)]


@pytest.fixture
def all_stopped(start_server):
    stopped = AllStopped(start_server)
    yield stopped
    signal_all(stopped.children, signal.SIGCONT, pause=0)
    for c in stopped.crowd:
        c.close()


def test_clients_are_served_although_all_waiting_children_are_stopped(all_stopped):
    assert all(echoes(c) for c in all_stopped.crowd)


@pytest.mark.parametrize("number", [signal.SIGCONT, signal.SIGKILL])
def test_stopped_children_that_go_on_or_die_harm_no_client(all_stopped, number):
    assert all(echoes(c) for c in all_stopped.crowd)
    signal_all(all_stopped.children, number)
    assert all(echoes(c) or receive(c) == RESET for c in all_stopped.crowd)
    assert echoes(all_stopped.server.connect())


def test_a_client_whose_child_dies_before_serving_it_is_reset_or_served(start_server):
    server = start_server("tcp4:0")
    assert echoes(server.connect())
    time.sleep(0.3)
    stopped = server.children()
    signal_all(stopped, signal.SIGSTOP)
    c = server.connect()
    c.send(b"ping")
    signal_all(stopped, signal.SIGKILL)
    assert receive(c) in (b"ping", RESET)  # but no end of file


def test_children_that_are_stopped_and_go_on_are_not_replaced_again_and_again(start_server):
    server = start_server("tcp4:0")
    for cycle in range(1, 6):
        signal_all(server.children(), signal.SIGSTOP, signal.SIGCONT, pause=0.2)
        assert len(server.children()) <= 1 + cycle
    assert server.end(signal.SIGTERM, seconds=1) == 0
    assert not server.names_a_connection()


def test_a_child_that_was_stopped_and_goes_on_serves_again(start_server):
    server = start_server("-v", "tcp4:0")
    (first,) = server.children()
    signal_all([first], signal.SIGSTOP, signal.SIGCONT)
    others = set(server.children()) - {first}
    assert others
    signal_all(others, signal.SIGKILL)
    assert server.children() == [first]  # one that waits is enough
    assert echoes(server.connect())
    assert until(lambda: re.search(rf"accepted .*, child {first}\n", server.log()))


DEADLY = """
#include <signal.h>
#include <unistd.h>
int accept(int fd, void *address, void *size)
{
    (void)fd, (void)address, (void)size;
    usleep(20000);
    raise(SIGKILL);
    return -1;
}
"""


def test_a_server_whose_children_die_at_once_forks_about_ten_times_a_second(start_server):
    command = ["cc", "-shared", "-fPIC", "-o", "deadly.so", "-x", "c", "-"]
    subprocess.run(command, input=DEADLY.encode(), check=True)
    server = start_server("tcp4:0", preload=[os.path.abspath("deadly.so")])
    before = server.log().count("killed by signal 9")
    time.sleep(2)
    assert 2 <= server.log().count("killed by signal 9") - before <= 24


def test_children_that_are_not_its_own_leave_no_zombie(start_server):
    has_a_child_already = ("sh", "-c", 'sleep 0.3 & exec "$@"', "sh")
    server = start_server("tcp4:0", before=has_a_child_already)
    assert until(lambda: len(server.children()) == 1, 2)
    assert is_alive(server.children()[0])
    assert echoes(server.connect())


# ---- Crowds


@pytest.mark.alone
def test_1000_clients_that_stay_are_served_and_their_children_leave(start_server):
    server = start_server("-m", "1200", "tcp4:0")
    crowd = [server.connect() for _ in range(1000)]
    began = time.monotonic()
    for c in crowd:
        c.send(b"ping")
    assert all(receive(c, 10) == b"ping" for c in crowd)
    assert time.monotonic() - began < 15
    for c in crowd:
        c.close()
    assert until(lambda: len(server.children()) <= 32, 10)


@pytest.mark.alone
def test_thousands_of_clients_leave_memory_and_descriptors_as_they_were(start_server, client):
    server = start_server("tcp4:0", "unix", "unixpacket", "udp4:0", "unixgram")

    def memory(pid):
        """The kilobytes that are the process's own."""
        return int(re.search(r"RssAnon:\s*(\d+)", read_text(f"/proc/{pid}/status"))[1])

    def load_and_look():
        """Serves a load. Returns memory, and descriptors: of the parent, and the most of any."""
        loads = [
            Load(lambda network=network: server.connect(network), threads=16)
            for network in ("tcp4", "unix", "unixpacket")
        ]
        with loads[0], loads[1], loads[2]:
            assert all([client.echoes(e, b"1\n" * 2000) for e in server.endpoints()])
            time.sleep(1)
        assert [set(load.ends) for load in loads] == [{"served"}] * 3
        time.sleep(1)
        family = [server.pid, *server.children()]
        most = max(map(memory, family))
        return memory(server.pid), most, max(len(descriptors(pid)) for pid in family)

    first, second = load_and_look(), load_and_look()
    growth = [b - a for a, b in zip(first, second)]
    assert abs(growth[0]) <= 100 and abs(growth[1]) <= 300 and growth[2] == 0, (first, second)


# ---- The idle timeout, -t


@pytest.fixture
def two_seconds(start_server):
    """A server that closes connections that are idle for two seconds."""
    return start_server("-t", "2", "-v", "tcp4:0", "unix")


def client_that_reads_nothing(server, network):
    c = fill(server.connect(network, receive_buffer=4096))
    c.shutdown(socket.SHUT_WR)
    return c


@pytest.mark.alone
def test_a_client_that_sends_a_byte_a_second_is_not_idle(two_seconds):
    c = two_seconds.connect()
    for _ in range(6):
        assert echoes(c, b"x")
        time.sleep(1)
    assert echoes(c)


@pytest.mark.alone
def test_a_client_that_reads_slowly_without_a_pause_is_not_idle(two_seconds):
    c = two_seconds.connect(receive_buffer=4096)
    send_much = (c.sendall, bytes(30_000_000))
    thread = threading.Thread(target=succeeds, args=send_much, daemon=True)
    thread.start()
    end = time.monotonic() + 6
    while time.monotonic() < end:  # about 100 kB/s
        assert len(c.recv(10_000)) > 0
        time.sleep(0.09)
    c.shutdown(socket.SHUT_RDWR)  # sendall() fails, and the thread ends
    thread.join(5)


def test_a_silent_client_is_closed_in_order(two_seconds):
    c = two_seconds.connect()
    assert receive_all(c) == (b"", END)
    assert until(lambda: "after 0 bytes: idle timeout\n" in two_seconds.log())


def test_clients_that_read_nothing_are_reset(two_seconds):
    crowd = [client_that_reads_nothing(two_seconds, "tcp4") for _ in range(5)]
    time.sleep(8)
    assert [receive_all(c)[1] for c in crowd] == [RESET] * 5


def test_the_log_says_that_a_client_was_not_reading(two_seconds):
    c = client_that_reads_nothing(two_seconds, "unix")
    says = r"closed unix:.*: Connection timed out\n"
    assert until(lambda: re.search(says, two_seconds.log()), 10)
    del c


@pytest.mark.linux
def test_clients_that_read_nothing_leave_nothing_in_the_kernel(two_seconds):
    crowd = [client_that_reads_nothing(two_seconds, "tcp4") for _ in range(5)]
    # For this one all is echoed, but most of it is still in the kernel.
    crowd.append(two_seconds.connect(receive_buffer=4096))
    crowd[-1].sendall(bytes(200_000))
    time.sleep(8)
    fields = [line.split() for line in open("/proc/net/tcp")]
    port = f":{two_seconds.port():04X}"
    states = {f[3] for f in fields if f[1].endswith(port)}
    FIN_WAIT1, LAST_ACK = "04", "09"
    assert not states & {FIN_WAIT1, LAST_ACK}
