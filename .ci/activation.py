#!/usr/bin/env python3
"""A server that is never away: sockets are made here and handed to one server after the other (LISTEN_FDS), while
clients connect all the time; not one connection may fail. From the project's root, after make."""
import os, socket, subprocess, sys, tempfile, time

root = os.getcwd()
os.chdir(tempfile.mkdtemp())
passed = failed = 0


def check(name, ok):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    print("ok     " if ok else "FAILED ", name, flush=True)


def hold(sock, address, number):
    """Has the socket be descriptor `number`, for the servers to inherit."""
    sock.bind(address)
    if sock.type != socket.SOCK_DGRAM:
        sock.listen(4096)
    os.dup2(sock.fileno(), number)
    return sock.getsockname()


def server():
    n = server.count = getattr(server, "count", 0) + 1
    log = open(f"log{n}", "w")
    process = subprocess.Popen(["sh", "-c", 'LISTEN_PID=$$ LISTEN_FDS=4 exec "$0"', f"{root}/server"],
                               stderr=log, pass_fds=(3, 4, 5, 6))
    while open(f"log{n}").read().count("listening") < 4 and process.poll() is None:
        time.sleep(0.01)
    return process


def stop(process):
    process.terminate()
    return process.wait(10)


def client(*args, **more):
    return subprocess.Popen([f"{root}/client", "-w", "10", *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True, **more)


# Made in a function's absence of other descriptors: 3 to 6 are free in a program that has just started.
port = hold(socket.socket(), ("127.0.0.1", 0), 3)[1]
udp_port = hold(socket.socket(type=socket.SOCK_DGRAM), ("0.0.0.0", 0), 4)[1]
hold(socket.socket(socket.AF_UNIX), "unix.sock", 5)
hold(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM), "unixgram.sock", 6)

old = server()
log = open("log1").read()
check("each socket is known for what it is",
      all(f"listening on {name}\n" in log for name in
          (f"tcp:127.0.0.1:{port}", f"udp:0.0.0.0:{udp_port}", "unix:unix.sock", "unixgram:unixgram.sock")))
for endpoint in (f"tcp4:127.0.0.1:{port}", f"udp4:127.1.2.3:{udp_port}", "unix", "unixgram"):
    check(f"{endpoint} works", client("-n", "3", "-r", "3", endpoint).wait() == 0)
me = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
os.mkdir("link")
me.bind("link/me")
os.rename("unixgram.sock", "moved")
os.rename("link/me", "unixgram.sock")  # another's file now has the name
os.rename("unixgram.sock", "link/me")
os.rename("moved", "unixgram.sock")


def restarts(overlap, endpoint):
    """20 servers in turn, under load; with no overlap there is a moment without any."""
    global old
    ended = []
    load = [client("-n", "1000000", "-c", "2", endpoint) for _ in range(2)]
    for _ in range(20):
        if overlap:
            new = server()
            ended.append(stop(old))
        else:
            ended.append(stop(old))
            time.sleep(0.05)
            new = server()
        old = new
        time.sleep(0.05)
    running = [l.poll() is None for l in load]
    for l in load:
        l.kill()
        l.wait()
    return all(running) and not any(ended)


for name in (f"tcp4:127.0.0.1:{port}", "unix"):
    check(f"{name}: 20 restarts, the new one before the old one ends: no connection fails", restarts(True, name))
    check(f"{name}: 20 restarts, the new one after that: no connection fails", restarts(False, name))
check("the last server ends with status 0", stop(old) == 0)
check("and leaves the socket files, which it did not make", os.path.exists("unix.sock") and os.path.exists("unixgram.sock"))
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
