#!/usr/bin/env python3
"""A server that is never away: the sockets are made here and handed to one server after the other (LISTEN_FDS), while
clients connect all the time; not one connection may fail. From the project's root, after make."""
import os, socket, subprocess, sys, tempfile, time

root = os.getcwd()
os.chdir(tempfile.mkdtemp())
passed = failed = servers = 0


def check(name, ok):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    print("ok     " if ok else "FAILED ", name, flush=True)


def hold(number, sock, address):
    """A socket that stays open here, as the descriptor with this number; the address that it got."""
    sock.bind(address)
    if sock.type != socket.SOCK_DGRAM:
        sock.listen(4096)
    name = sock.getsockname()
    os.dup2(sock.detach(), number)
    return name


def server():
    global servers
    servers += 1
    log = f"log{servers}"
    process = subprocess.Popen(["sh", "-c", 'LISTEN_PID=$$ LISTEN_FDS=4 exec "$0"', f"{root}/server"],
                               stderr=open(log, "w"), pass_fds=(3, 4, 5, 6))
    while open(log).read().count("listening") < 4 and process.poll() is None:
        time.sleep(0.01)
    return process


def stop(process):
    process.terminate()
    return process.wait(10)


def client(*args):
    return subprocess.Popen([f"{root}/client", "-w", "10", *args], stdout=subprocess.PIPE)


# A program that has just started has no descriptor 3 to 6.
port = hold(3, socket.socket(), ("127.0.0.1", 0))[1]
udp_port = hold(4, socket.socket(type=socket.SOCK_DGRAM), ("0.0.0.0", 0))[1]
hold(5, socket.socket(socket.AF_UNIX), "unix.sock")
hold(6, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM), "unixgram.sock")

old = server()
for name in f"tcp:127.0.0.1:{port}", f"udp:0.0.0.0:{udp_port}", "unix:unix.sock", "unixgram:unixgram.sock":
    check(f"{name} is known for what it is", f"listening on {name}\n" in open("log1").read())
for endpoint in f"tcp4:127.0.0.1:{port}", f"udp4:127.1.2.3:{udp_port}", "unix", "unixgram":
    check(f"{endpoint} works", client("-n", "3", "-r", "3", endpoint).wait(30) == 0)


def restart(endpoint, overlap):
    """20 servers in turn, under load. Returns whether no server and no client had any trouble."""
    global old
    load = [client("-n", "1000000", "-c", "2", endpoint) for _ in range(2)]
    ended = []
    for _ in range(20):
        if not overlap:
            ended.append(stop(old))
            time.sleep(0.05)  # there is none
        new = server()
        if overlap:
            ended.append(stop(old))
        old = new
        time.sleep(0.05)
    running = [l.poll() is None for l in load]
    for l in load:
        l.kill()
        l.wait()
    return all(running) and not any(ended)


for endpoint in f"tcp4:127.0.0.1:{port}", "unix":
    for overlap, when in (True, "before the old one ends"), (False, "a moment after the old one has ended"):
        check(f"{endpoint}: 20 times a new server, {when}: no connection fails", restart(endpoint, overlap))
check("the last server ends with status 0", stop(old) == 0)
check("it leaves the socket files, which it did not make", os.path.exists("unix.sock") and os.path.exists("unixgram.sock"))


def refused(says, sock):
    """Does a server refuse this socket?"""
    os.dup2(sock.fileno(), 3)
    got = subprocess.run(["sh", "-c", 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$0"', f"{root}/server"], capture_output=True,
                         text=True, timeout=10, pass_fds=(3,))
    return got.returncode == 1 and says in got.stderr


# One of two is shut down by whoever has it, too: the other goes on.
dead, alive = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
dead_at, alive_at = (f"tcp4:127.0.0.1:{s.getsockname()[1]}" for s in (dead, alive))
held = [os.dup(dead.fileno()) for _ in range(5)]  # out of the way of 3 and 4
os.dup2(held[-1], 3)
os.dup2(alive.fileno(), 4)
two = subprocess.Popen(["sh", "-c", 'LISTEN_PID=$$ LISTEN_FDS=2 exec "$0"', f"{root}/server"], stderr=open("log", "w"),
                       pass_fds=(3, 4))
while open("log").read().count("listening") < 2:
    time.sleep(0.01)
socket.socket(fileno=os.dup(3)).shutdown(socket.SHUT_RD)
check("a socket that is shut down: the others go on", client("-n", "100", alive_at).wait(30) == 0)
check("the log says so, once", open("log").read().count(": accept: Invalid argument\n") == 1)
check("the server ends with status 0", stop(two) == 0)


check("a socket that does not listen is refused", refused(": not listening", socket.socket()))
check("a socket of a network that is not in the table, too",
      refused("Protocol not supported", socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM)))
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
