#!/usr/bin/env python3
"""What a shell cannot do to the server and the client: odd datagrams, resets, killed and stopped children, limits,
crowds, servers that answer wrongly, terminals, odd surroundings. Run it from the project's root, after make.
usage: hostile.py [WORD...]  runs only the groups whose names contain a WORD. PROGRAMS=DIR: tests the programs there"""
import array, collections, ctypes, fcntl, os, pty, random, re, resource, select, shutil, signal, socket, struct
import subprocess, sys, tempfile, threading, time
programs, here = os.path.abspath(os.environ.get("PROGRAMS", ".")), "127.0.0.1"
sys.dont_write_bytecode = True  # nothing is left beside the source
from checks import check, finish, until
started = []  # the processes that the current group started
PR_SET_CHILD_SUBREAPER, SO_TIMESTAMP, IP_RECVORIGDSTADDR, IP_RECVERR = 36, 29, 20, 11
def start(*command, **more):
    started.append(subprocess.Popen(command, **more))
    return started[-1]
def run(*command, data=b"", wait=20, **more):
    """Runs a command. Returns its status, its output and its errors."""
    pipe = subprocess.PIPE; process = start(*command, **{"stdin": pipe, "stdout": pipe, "stderr": pipe, **more})
    out, error = process.communicate(data or None, timeout=wait)
    return process.returncode, out, error.decode()
def client(*args, **more): return run(f"{programs}/client", *args, **more)
def echoed(at, data=b"some text\n" * 1000): return client("-w", "5", at, data=data) == (0, data, "")
def children_of(pid):
    lists = [open(f"/proc/{pid}/task/{task}/children").read() for task in os.listdir(f"/proc/{pid}/task")]
    return [int(child) for child in " ".join(lists).split()]
def sockets(pid): return sum("socket" in os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd"))
def stat(pid):
    try: return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    except OSError: return ["Z"] + ["0"] * 20
def alive(pid): return stat(pid)[0] != "Z"
def kill(pids, *numbers, pause=0.3):
    for number in numbers:
        for pid in filter(alive, pids): os.kill(pid, number)
        time.sleep(pause)
def spins(*pids):
    before = sum(int(n) for pid in pids for n in stat(pid)[11:13]); time.sleep(1)
    return sum(int(n) for pid in pids for n in stat(pid)[11:13]) - before > 25  # of 100

class Server:
    """A server that has announced its sockets. As a context it is ended, and how it ends is checked."""
    def __init__(self, *args, limits={}, before=(), ignore=(), env={}, user=None, **more):
        def prepare():
            for number in ignore: signal.signal(number, signal.SIG_IGN)
            if user: os.setgroups([]); os.setuid(user)
            for which, value in limits.items(): resource.setrlimit(which, (value, resource.getrlimit(which)[1]))
        self.log = tempfile.mkstemp(dir=".", prefix="log")[1]
        with open(self.log, "w") as log:
            self.process = start(*before, f"{programs}/server", *args, stderr=log, preexec_fn=prepare,
                                 env={**os.environ, **env}, **more)
        self.pid = self.process.pid; until(lambda: "listening" in self.text() or self.process.poll() is not None, 10)
        until(lambda: self.process.poll() is not None or len(self.children()) >= self.text().count("listening"))
    def text(self): return open(self.log).read()
    def at(self, network): return re.search(f"listening on ({network}:.*)", self.text())[1]
    def port(self, network="tcp4"): return int(self.at(network).rpartition(":")[2])
    def connect(self, network="tcp4", buffer=None):
        kind = {"unixpacket": socket.SOCK_SEQPACKET, "udp4": socket.SOCK_DGRAM}.get(network, socket.SOCK_STREAM)
        s = socket.socket(socket.AF_UNIX if network.startswith("unix") else socket.AF_INET, kind)
        if buffer: s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        s.settimeout(10); s.connect(network + ".sock" if network.startswith("unix") else (here, self.port(network)))
        return s
    def children(self): return children_of(self.pid)
    def spins(self): return spins(self.pid, *self.children())
    def ends(self, *numbers, seconds=8):
        """Sends signals and waits for the end. Returns whether it has status 0, and no process is left."""
        family = self.children(); kill([self.pid], *numbers, pause=0)
        return self.process.wait(seconds) == 0 and until(lambda: not any(map(alive, family)), 1)
    def __enter__(self): return self
    def __exit__(self, kind, *_):
        if kind is None: check("the server ends with status 0 and leaves no process", self.ends(signal.SIGTERM))
def receive(s, wait=5.0):
    """Returns a piece; None if nothing came in time; "reset"."""
    s.settimeout(wait)
    try: return s.recv(1 << 20)
    except socket.timeout: return None
    except ConnectionResetError: return "reset"
def receive_all(s):
    """Returns what came, and how it ended: b"" is the end of file."""
    data = b""
    while isinstance(piece := receive(s, 10), bytes) and piece: data += piece
    return data, piece
def answers(s, data=b"ping"):
    try:
        s.sendall(data)
        return receive(s) == data
    except OSError: return False
def bound(address="", family=socket.AF_UNIX, to=None):
    s = socket.socket(family, socket.SOCK_DGRAM); s.bind(address)
    if to: s.connect(to)
    return s
def fill(s, data=bytes(1 << 16)):
    """Sends until the buffers on the way are full."""
    s.setblocking(False)
    try:
        while True: s.send(data)
    except BlockingIOError: return s
def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)); s.close()

class Load:
    """Threads of clients that come again and again, until stop() returns how many ended in which way."""
    def __init__(self, make, threads=8, hold=0):
        self.make, self.hold, self.ends, self.going = make, hold, collections.Counter(), True
        self.threads = [threading.Thread(target=self.loop, daemon=True) for _ in range(threads)]
        for thread in self.threads: thread.start()
    def one(self):
        data = os.urandom(3000)
        try:
            with self.make() as s:
                s.sendall(data); time.sleep(self.hold); s.shutdown(socket.SHUT_WR); got = receive_all(s)
        except OSError as e:
            return "not connected" if isinstance(e, (ConnectionRefusedError, FileNotFoundError)) else "reset"
        return "served" if got == (data, b"") else "short" if got[1] == b"" else str(got[1])
    def loop(self):
        while self.going: self.ends[self.one()] += 1
    def stop(self, seconds=0):
        time.sleep(seconds); self.going = False
        for thread in self.threads: thread.join(30)
        return dict(self.ends)

# ---- Datagrams

def group_udp():
    with Server("udp4:*:0", "udp6:*:0") as server:
        port, s = server.port("udp4"), server.connect("udp4")
        check("UDP echoes 0, 1, 1472, 1473 and 65507 bytes", all(
            answers(s, os.urandom(n)) for n in (1, 1472, 1473, 65507)) and s.send(b"") == 0 and receive(s) == b"")
        s.connect(("127.1.2.3", port))
        check("a UDP reply comes from the address that the client sent to", answers(s))
        check("UDP echoes over IPv6", answers(bound(("::1", 0), socket.AF_INET6, ("::1", server.port("udp6")))))
        for low_port in range(1023, 900, -1):
            try:
                low = bound((here, low_port), socket.AF_INET, (here, port))
                break
            except OSError: pass  # another program has it
        check("a sender with a port below 1024 gets no reply", low.send(b"x") and receive(low, 0.3) is None)
        check("the log names the sender that got no reply", f"no reply to udp4:{here}:{low_port}" in server.text())
        own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        check("no other program can take the server's UDP port", own.connect_ex((here, port)) or not quiet(
            lambda: own.bind(("127.9.9.9", port))))
    with Server("udp4:0") as server:
        port = server.port("udp4"); same = bound(("127.0.0.2", port), socket.AF_INET, (here, port))
        check("a sender at the server's own port on another host gets no reply", same.send(b"x") and same.send(
            b"x") and receive(same, 0.3) is None and server.text().count("no reply to") == 1)
def quiet(call):
    """Returns whether the call works."""
    try: call(); return True
    except OSError: return False

def group_unixgram():
    with Server("unixgram") as server:
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"no address", "unixgram.sock")
        s = bound("me", to="unixgram.sock"); s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1000000)
        check("unixgram echoes 200,000 bytes in one piece", answers(s, b"x") and answers(s, os.urandom(200000)))
        check("unixgram does not echo a part of a message that is too large",
              s.send(bytes(262145)) and receive(s, 0.5) is None and answers(s))
        check("unixgram answers an abstract address", answers(bound(f"\0hostile{os.getpid()}", to="unixgram.sock")))
        (child,) = server.children(); before = os.listdir(f"/proc/{child}/fd")
        for _ in range(20):
            s.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * 20))]); receive(s)
        check("unixgram keeps no descriptor that a client sends along", os.listdir(f"/proc/{child}/fd") == before)
        full = bound("full"); full.settimeout(0.2)
        quiet(lambda: [full.sendto(b"x", "unixgram.sock") for _ in range(1000)])
        check("a client that takes no replies holds up no other client", answers(s))
        os.mkdir("elsewhere"); os.chdir("elsewhere")
        bound("unixgram.sock").sendto(b"loop", "../unixgram.sock")  # a name that is the server's own where it looks
        os.chdir("..")
        check("unixgram does not answer itself", not server.spins() and answers(s))
    check("the server removes its socket file", not os.path.exists("unixgram.sock"))

def group_links():
    a, b, c = (f"hostile-{x}{os.getpid()}" for x in "src")  # the server, the router, the client
    def ip(*commands):
        for command in commands: subprocess.run(["ip", *command.split()], check=True, timeout=10)
    for ns in a, b, c: ip(f"netns add {ns}", f"-n {ns} link set lo up")
    try:
        subprocess.run(["ip", "netns", "exec", b, "sh", "-c", "cd /proc/sys/net; echo 1 >ipv4/ip_forward; echo 1 >ipv6/"
                        "conf/all/forwarding; for i in all default; do echo 0 >ipv4/conf/$i/rp_filter; done"])
        # Two links between server and router, one to the client. The client's datagrams come over link 1; the server's
        # route back leads over link 2.
        for i, ns in (1, a), (2, a), (3, c):
            ip(f"-n {ns} link add l{i} type veth peer name l{i} netns {b}")
            for end, host in (1, ns), (2, b):
                ip(f"-n {host} addr add 10.99.{i}.{end}/24 dev l{i}", f"-n {host} link set l{i} up",
                   f"-n {host} addr add fd99:{i}::{end}/64 dev l{i} nodad")
        for i, ns in (2, a), (3, c):
            ip(f"-n {ns} route add default via 10.99.{i}.2", f"-n {ns} route add default via fd99:{i}::2")
        time.sleep(2.5)  # until the link-local addresses have passed duplicate address detection
        server = Server("udp:*:7777", before=("ip", "netns", "exec", a))
        got = run("ip", "-n", a, "-6", "addr", "show", "dev", "l1", "scope", "link")[1].decode()
        local = re.search(r"inet6 (fe80\S*)/", got)[1]
        for name, ns, address in (("IPv4: the route back leads over another link", c, "10.99.1.1"),
                                  ("IPv6: the route back leads over another link", c, "[fd99:1::1]"),
                                  ("IPv6: a link-local address", b, f"[{local}%l1]")):
            got = run("ip", "netns", "exec", ns, f"{programs}/client", f"udp:{address}:7777", data=b"x\n")
            check(f"udp:* answers over {name}", got == (0, b"x\n", ""))
        ask = f"s.bind(('fd99:1::2', 0)); s.settimeout(3); s.sendto(b'x', ('{local}', 7777, 0, if_nametoindex('l1')))"
        got = run("ip", "netns", "exec", b, "python3", "-c", "from socket import *; s = socket(10, 2); " + ask + "; s.recv(9)")
        check("udp:* answers from a link-local address to a global one", got == (0, b"", ""))
        check("the server on two links ends with status 0", server.ends(signal.SIGTERM))
    finally: ip(*(f"netns del {ns}" for ns in (a, b, c)))

# ---- Sockets that another program has opened
def adopt(*sockets):
    """A server for these sockets, started as systemd does."""
    moved = [fcntl.fcntl(s, fcntl.F_DUPFD, 60) for s in sockets]
    script = "".join(f"exec {3 + i}<&{fd} {fd}<&-; " for i, fd in enumerate(moved)) + 'export LISTEN_PID=$$; exec "$@"'
    server = Server(before=("bash", "-c", script, "sh"), env={"LISTEN_FDS": str(len(sockets))}, pass_fds=moved)
    for fd in moved: os.close(fd)
    until(lambda: server.text().count("listening") == len(sockets) or server.process.poll() is not None, 2)
    return server

def group_adopted():
    for name, level, option in (("timestamps", socket.SOL_SOCKET, SO_TIMESTAMP), ("IP_RECVERR", 0, IP_RECVERR),
                                ("the original address", 0, IP_RECVORIGDSTADDR)):
        u = bound((here, 0), socket.AF_INET); u.setsockopt(level, option, 1)
        with adopt(u) as server:
            s = bound((here, 0), socket.AF_INET, u.getsockname())
            check(f"an adopted UDP socket with {name} answers", answers(s))
            if option == IP_RECVERR:
                for _ in range(5):  # who is gone before the reply comes: an error for the socket
                    bound((here, 0), socket.AF_INET, u.getsockname()).send(b"x")
                check("an adopted UDP socket with IP_RECVERR does not make the server spin", not server.spins())
                quiet(lambda: socket.socket(fileno=os.dup(u.fileno())).shutdown(socket.SHUT_RD))
                check("an adopted UDP socket that is shut down does not make the server spin", not server.spins())
    dead, live = socket.create_server((here, 0)), socket.create_server((here, 0)); live.setblocking(False)
    with adopt(dead, live) as server:
        dead.shutdown(socket.SHUT_RD)
        check("an adopted listener that is shut down does not make the server spin", not server.spins())
        at = f"tcp4:{here}:{live.getsockname()[1]}"
        check("the other adopted listener, which is non-blocking, is served", all([echoed(at) for _ in range(10)]))
        check("the log reports the trouble once", re.findall("(.*): trying again: accept: ", server.
              text()) == [f"server: tcp4:{here}:{dead.getsockname()[1]}"])
    for name, s, says in (("that is a connection", socket.create_connection(live.getsockname()), ": listen: "),
                          ("of another family", socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM), "unknown kind")):
        server = adopt(s)
        check(f"a socket {name} is refused", server.process.wait(5) == 1 and says in server.text())

def group_handover():
    tcp, unix = socket.create_server((here, 0), backlog=4096), socket.socket(socket.AF_UNIX)
    unix.bind("unix.sock"); unix.listen(4096); server = adopt(tcp, unix)
    loads = [Load(lambda: Server.connect(server, "unix"), 3), 
          Load(lambda: socket.create_connection(tcp.getsockname()), 3)]
    good = True
    for i in range(40):  # by turns a new server comes before the old one leaves, or after it
        if i % 2: good &= server.ends(signal.SIGTERM)
        new = adopt(tcp, unix); good &= bool(i % 2) or server.ends(signal.SIGTERM); server = new
    ends = [load.stop() for load in loads]
    check(f"40 servers in turn at the same sockets lose no connection {ends}", good and all(
        list(e) == ["served"] for e in ends))
    check("a server leaves an adopted socket's file", server.ends(signal.SIGTERM) and os.path.exists("unix.sock"))

# ---- Connections

def group_connections():
    with Server("-v", "tcp4:0", "unixpacket") as server:
        c = server.connect()
        for piece, flags in (b"ab", 0), (b"!", socket.MSG_OOB), (b"cd", 0), (b"?", socket.MSG_OOB):
            c.send(piece, flags)
        c.shutdown(socket.SHUT_WR)
        check("urgent bytes come back in their places", receive_all(c) == (b"ab!cd?", b""))
        for i in range(200): c = server.connect(); c.send(b"x" * 10000 * (i % 2)); reset(c)
        check("200 clients that reset harm no other client", answers(server.connect()))
        check("the log names the reset", "reset by the client" in server.text())
        p = server.connect("unixpacket"); p.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1000000)
        check("unixpacket echoes 200,000 bytes in one piece", answers(p, b"x") and answers(p, os.urandom(200000)))
        p.send(bytes(262145))
        check("unixpacket closes on a message that is too large", receive(p) in (b"", "reset"))
        c = server.connect(); good = answers(c); (child,) = [pid for pid in server.children() if sockets(pid) == 2]
        kill([child], signal.SIGKILL)
        check("the client of a killed child gets a reset", good and receive_all(c) == (b"", "reset"))
        check("the log names the child and the signal", f"child {child}: killed by signal 9" in server.text())
        c = server.connect(); name, good = "%s:%d" % c.getsockname(), answers(c); c.shutdown(socket.SHUT_WR)
        log = rf"accepted tcp4:{name} on tcp4:\S+, child \d+\n(.*\n)*.*closed tcp4:{name} on \S+ after 4 bytes: end of"
        check("the log tells who came, how many bytes came, and why the connection ended", good and receive_all(c) == (
            b"", b"") and until(lambda: re.search(log, server.text())))

def group_children():
    with Server("tcp4:0") as server:
        load = Load(server.connect)
        for _ in range(300): kill(random.sample(server.children(), 1), signal.SIGKILL, pause=0.01)
        ends = load.stop()
        check(f"300 killed children cost no more than their own clients {ends}", ends.get("reset", 0) <= 300 < ends[
            "served"] and set(ends) <= {"served", "reset"})  # and no client sees an orderly end
        load = Load(server.connect)
        for _ in range(60): kill(random.sample(server.children(), 1), signal.SIGSTOP, signal.SIGCONT, pause=0.02)
        ends = load.stop()
        check(f"no client notices 60 children that are stopped for a moment {ends}", list(ends) == ["served"])
    for number, name in (signal.SIGCONT, "go on"), (signal.SIGKILL, "die"):
        with Server("tcp4:0") as server:
            for c in [server.connect() for _ in range(5)]: c.close()
            time.sleep(0.5); stopped = server.children(); kill(stopped, signal.SIGSTOP)
            crowd = [server.connect() for _ in range(5)]
            check("clients are served although all waiting children are stopped", all(answers(c) for c in crowd))
            kill(stopped, number)
            check(f"stopped children that {name} harm no client", all(answers(c) or receive(c) == "reset" for c in
                                                                      crowd) and answers(server.connect()))
    with Server("tcp4:0") as server:  # on the first edition the client got an end of file
        good = answers(server.connect()) and not time.sleep(0.3); stopped = server.children()
        kill(stopped, signal.SIGSTOP); c = server.connect(); c.send(b"ping"); kill(stopped, signal.SIGKILL)
        check("a client whose child dies before serving it is reset", good and receive(c) in (b"ping", "reset"))

def group_ends():
    server, began = Server("tcp4:0", "unix"), time.time(); good = answers(server.connect()) and not time.sleep(0.3)
    check("two signals at once end an idle server at once, and no connection is named", good and server.ends(
        signal.SIGTERM, signal.SIGTERM, seconds=2) and not re.search("cut|wait", server.text()))
    server = Server("tcp4:0", "unix"); busy = [server.connect(), server.connect(), server.connect("unix")]
    good = all(answers(c) for c in busy); kill([server.pid], signal.SIGTERM)
    check("the log counts the open connections",
          "waiting up to 5 s for 3 connections; signal again to exit now\n" in server.text())
    check("SIGTERM removes the socket file and refuses new connections at once",
          not os.path.exists("unix.sock") and not quiet(server.connect))
    check("open connections are served after SIGTERM", good and all(answers(c) for c in busy))
    for c in busy: c.shutdown(socket.SHUT_WR)
    check("open connections end normally after SIGTERM", all(receive_all(c) == (b"", b"") for c in busy))
    check("the server ends after its last client", server.ends(seconds=2))
    server = Server("tcp4:0"); busy = server.connect(); good = answers(busy)
    kill([server.pid], signal.SIGTERM, signal.SIGTERM, pause=0)
    check("a second signal at once is the same wish", good and not time.sleep(0.5) and answers(busy))
    check("a later signal ends the server at once", server.ends(signal.SIGINT, seconds=2))
    check("a connection that is cut off is reset", receive_all(busy) == (b"", "reset"))
    check("the log names the child that is cut off", "cut off by signal 9" in server.text())
    server = Server("tcp4:0"); busy = server.connect(); good, began = answers(busy), time.time()
    check("open connections get 5 seconds", good and server.ends(signal.SIGHUP) and 4.5 < time.time() - began < 6.5)
    for number in signal.SIGHUP, signal.SIGINT:
        with Server("tcp4:0", ignore=[number, signal.SIGCHLD]) as server:
            kill([server.pid], number)
            check(f"{number.name} that was ignored from the start stays so", answers(server.connect()))
    server = Server("tcp4:0"); load = Load(server.connect)
    good, ends = not time.sleep(0.5) and server.ends(signal.SIGTERM), load.stop()
    check(f"a server under load ends normally and no client sees a short echo {ends}", good and "short" not in ends)

def group_killed_parent():
    server = Server("tcp4:0", "unix", "udp4:0")
    at, busy, family = server.at("tcp4"), server.connect(), server.children(); good = answers(busy)
    kill([server.pid], signal.SIGKILL, pause=0); again = Server(at, "unix", server.at("udp4"))
    check("a new server starts at once at the addresses of a killed one", again.process.poll() is None)
    until(lambda: sum(map(alive, family)) == 1, 2); left = list(filter(alive, family))
    check("idle children end with a killed parent, the busy one serves on", len(left) == 1 and good and answers(busy))
    kill(left, signal.SIGTERM)
    check("SIGTERM does not cut off its client", answers(busy))
    check("the new server serves meanwhile", echoed(at) and echoed("unix"))
    busy.close()
    check("the busy child leaves after its client", until(lambda: not any(map(alive, left)), 2))
    check("the new server ends with status 0", again.ends(signal.SIGTERM))
    server = Server("-k", "0", "tcp4:0", "unix"); at, port = server.at("tcp4"), server.port()
    load, starts = Load(lambda: socket.create_connection((here, port))), 0
    for _ in range(40):
        time.sleep(0.05)
        server = Server("-k", "0", at, "unix", before=("sh", "-c", f'kill -9 {server.pid}; exec "$@"', "sh"))
        starts += server.process.poll() is None and "listening on unix:" in server.text()
    load.stop()
    check(f"{starts} of 40 restarts right after kill -9 of a busy server succeed", starts == 40)
    check("the last restarted server ends with status 0", server.ends(signal.SIGTERM))

# ---- Limits and crowds

def group_limits():
    with Server("tcp4:0", limits={resource.RLIMIT_NOFILE: 4}) as server:
        c = server.connect(); c.send(b"ping")
        check("out of descriptors: the client waits, and nothing spins", receive(c, 0.5) is None and not server.spins())
        check("out of descriptors: the log says so once", re.findall("trying.*", server.text()) == [
            "trying again: accept: Too many open files"])
        for pid in server.children(): resource.prlimit(pid, resource.RLIMIT_NOFILE, (100, 4096))
        check("descriptors again: the client is served", receive(c) == b"ping")
    os.chmod(".", 0o777); uid = 100000 + os.getpid()
    with Server("-k", "2", "tcp4:0", limits={resource.RLIMIT_NPROC: 3}, user=uid) as server:
        ends = Load(server.connect, 16).stop(3)
        check(f"3 processes serve all of 16 clients {ends}", list(ends) == ["served"] and ends["served"] > 50)
        idle = [server.connect() for _ in range(4)]
        check("out of processes: nothing spins, and the log says so once", not time.sleep(1) and not server.spins() and
              server.text().count("fork: Resource temp") == 1)
        run("setpriv", f"--reuid={uid}", "--clear-groups", "prlimit", f"--pid={server.pid}", "--nproc=99")
        check("processes again: the clients are served", all(answers(c) for c in idle))
    with Server("-m", "1", "tcp4:0", "unix") as server:
        load, good = Load(server.connect, 16, hold=0.02), not time.sleep(0.5)
        good = all(answers(server.connect("unix")) for _ in range(3)); load.stop()
        check("a unix client is served while 16 TCP clients take turns at -m 1", good)
    for idle in 0, 3:
        with Server("-k", str(idle), "tcp4:0") as server:
            crowd = [server.connect() for _ in range(20)]; good = all(answers(c) for c in crowd)
            for c in crowd:
                c.close(); time.sleep(0.03)  # two that end at the same time may both leave
            stay = max(1, idle)
            check(f"-k {idle}: {stay} children stay", good and until(
                lambda: len(server.children()) == stay) and not time.sleep(0.3) and len(server.children()) == stay)

def group_crowds():
    with Server("-m", "1200", "tcp4:0") as server:
        crowd, began = [server.connect() for _ in range(1000)], time.time()
        for c in crowd: c.send(b"ping")
        good = all(receive(c, 10) == b"ping" for c in crowd)
        check(f"1,000 clients that stay are served in {time.time() - began:.1f} s", good and time.time() - began < 15)
        for c in crowd: c.close()
        check("the children of 1,000 clients leave, but for 32", until(lambda: len(server.children()) <= 32, 10))
    with Server("tcp4:0", "unix", "unixpacket", "udp4:0", "unixgram") as server:
        def load_and_look():
            """Returns memory in kB and descriptors: of the parent, and the most of any process."""
            loads = [Load(lambda n=n: server.connect(n), 16) for n in ("tcp4", "unix", "unixpacket")]
            good = all([echoed(at, b"1\n" * 2000) for at in re.findall("listening on (.*)", server.text())])
            good &= all(list(load.stop(1)) == ["served"] for load in loads) and not time.sleep(1)
            family = [server.pid, *server.children()]
            memory = [int(re.search(r"RssAnon:\s*(\d+)", open(f"/proc/{pid}/status").read())[1]) for pid in family]
            return good, memory[0], max(memory), max(len(os.listdir(f"/proc/{pid}/fd")) for pid in family)
        first, last = load_and_look(), load_and_look()
        check(f"thousands of clients leave memory and descriptors as they were {first} {last}", first[0] and all(
            abs(a - b) <= limit for a, b, limit in zip(first, last, (0, 100, 300, 0))))

def group_idle():
    with Server("-t", "2", "-v", "tcp4:0", "unix") as server:
        slow, silent, steady = server.connect(), server.connect(), server.connect(buffer=4096)
        crowd = [fill(server.connect(buffer=4096)) for _ in range(5)] + [fill(server.connect("unix"))]
        lazy = server.connect(buffer=4096); lazy.sendall(bytes(200_000))  # all echoed, but most is still in the kernel
        for c in crowd: c.shutdown(socket.SHUT_WR)
        threading.Thread(target=lambda: steady.sendall(bytes(30_000_000)), daemon=True).start()
        good, end = True, time.time() + 6
        while time.time() < end:
            good &= answers(slow, b"x")
            for _ in range(10):  # about 100 kB/s
                good &= len(steady.recv(10000)) > 0; time.sleep(0.09)
        check("-t 2: a client that sends a byte a second, and one that reads slowly without a pause, stay", good)
        check("-t 2: a silent client is closed normally", receive_all(silent) == (b"", b""))
        check("-t 2: the log says why", "after 0 bytes: idle for 2 s\n" in server.text() and re.search(
            r"closed unix:.*: client not reading for 2 s\n", server.text()))
        time.sleep(2)
        states = [line.split()[3] for line in open("/proc/net/tcp") if line.split()[1].endswith(f":{server.port():04X}")]
        check(f"-t 2: clients that read nothing leave nothing in the kernel {states}", not {"09", "04"} & set(states))
        check("-t 2: clients that read nothing are reset", all(receive_all(c)[1] == "reset" for c in crowd[:-1]))

# ---- Servers that answer wrongly, for the client to put up with
def udp_service(answer, address=(here, 0)):
    """A server that sends what answer(number, datagram, those before) gives. Returns its port, and what it gets."""
    u, seen = bound(address, socket.AF_INET), []
    def serve():
        while True:
            data, peer = u.recvfrom(70000); seen.append(data)
            for reply in answer(len(seen), data, seen[:-1]): u.sendto(reply, peer)
    threading.Thread(target=serve, daemon=True).start()
    return u.getsockname()[1], seen

def group_udp_services():
    text = b"".join(b"line %d\n" % i for i in range(10))
    for name, how in (("is doubled", lambda n, data, seen: [data, data]), ("comes after the one before", lambda n,
          data, seen: seen[-1:] + [data]), ("comes before all older ones", lambda n, data, seen: [data] + seen[::-1]),
          ("is damaged, then sent again", lambda n, data, seen: [data[:-1] + b"?"] if n == 3 else [data]),
          ("is cut short, then sent again", lambda n, data, seen: [data[:-1]] if n == 3 else [data]),
          ("is lost, then sent again", lambda n, data, seen: [] if n == 3 else [data])):
        check(f"UDP: an echo that {name} leaves the output right",
              client(f"udp4:{here}:{udp_service(how)[0]}", data=text) == (0, text, ""))
    port, seen = udp_service(lambda n, data, _: [data[:2] + b"\x81\x80" + data[4:] + b"the answer"])
    query = struct.pack("!HHHHHH", 77, 0x100, 1, 0, 0, 0) + b"\4host\4test\0\0\1\0\1"
    got = client(f"udp4:{here}:{port}", data=query)
    check("UDP: the answer of a name server is written as it is, and the query is sent once", got == (
        0, query[:2] + b"\x81\x80" + query[4:] + b"the answer", "") and seen == [query])
    port, seen = udp_service(lambda n, data, _: [data] if n == 1 else [b"stray"] * 150)
    check("UDP: stray datagrams do not prolong a try forever", client("-w", "20", f"udp4:{here}:{port}", data=b"a\nb\n", wait=9)[:2] == (1, b"a\n"))
    port, seen = udp_service(lambda n, data, _: [b"one\n", b"two\n"])
    process = start(f"{programs}/client", f"udp4:{here}:{port}", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    os.write(process.stdin.fileno(), b"hello\n"); got = b""
    while got != b"one\ntwo\n" and select.select([process.stdout], [], [], 3)[0]:
        got += os.read(process.stdout.fileno(), 100) or b"end"
    check("UDP: replies that nobody asked for are shown while the client waits for input", got == b"one\ntwo\n")
    check("UDP: the client ends after its input", process.communicate(timeout=5)[0] == b"" and process.returncode == 0)
    silent = bound(("::1", 0), socket.AF_INET6)
    port, seen = udp_service(lambda n, data, _: [data], (here, silent.getsockname()[1]))
    check("UDP: the client goes on to the next address after silence", client(f"udp:{port}", data=b"x\n") == (
        0, b"x\n", ""))
    check("UDP: silence is an error after 3 tries", client(f"udp6:{port}", data=b"y\n") == (1, b"", "client: udp6:[::1]"
          f":{port}: recv: Connection timed out\n") and [silent.recv(9) for _ in range(6)] == [
              b"x\n"] * 3 + [b"y\n"] * 3)

def group_tcp_services():
    listener = socket.create_server((here, 0)); at, held = f"tcp4:{here}:{listener.getsockname()[1]}", []
    def serve(what, *args, data=b""):
        """Runs the client against a server that is a function of a connection."""
        def accept():
            held.append(listener.accept()[0]); what(held[-1])
        threading.Thread(target=accept, daemon=True).start()
        return client(*args, at, data=data)
    status, out, error = serve(lambda c: (c.recv(1), reset(c)), data=bytes(1 << 20))
    check("a server that resets: an error", (status, out) == (1, b"") and "reset" in error)
    check("a server that never reads: the client times out", serve(lambda c: None, "-w", "1", data=bytes(1 << 24)) == (
        1, b"", f"client: {at}: timed out: nothing sent or received for 1 s\n"))
    check("an urgent byte from a server is kept", serve(lambda c: (
        c.send(b"a"), c.send(b"b", socket.MSG_OOB), c.send(b"c"), c.close())) == (0, b"abc", ""))
    status, out, error = serve(lambda c: (c.recv(1 << 16), c.shutdown(socket.SHUT_WR)), "-w", "3", data=bytes(1 << 24))
    check("a server that ends its half too early: an error", status == 1 and error.startswith(f"client: {at}: "))
    failures, pipe = 0, subprocess.PIPE
    for i in range(40):  # the server reads what came so far, answers and closes; in half of the cases more comes
        process = start(f"{programs}/client", at, stdin=pipe, stdout=pipe, stderr=pipe)
        c = listener.accept()[0]; os.write(process.stdin.fileno(), b"x" * 1000); receive(c)
        if i % 2: kill([process.pid], signal.SIGSTOP, pause=0); os.write(process.stdin.fileno(), b"LAST\n")
        c.sendall(b"bye\n"); c.close(); kill([process.pid], signal.SIGCONT, pause=0)
        failures += process.wait(5) != i % 2 or not i % 2 and process.stdout.read() != b"bye\n"
    check("bytes that come after the server closed: status 1; no bytes: 0, while the input is open", failures == 0)
    with socket.create_server((here, 0), backlog=0) as full, socket.socket(socket.AF_UNIX) as unix:
        at, first = f"tcp4:{here}:{full.getsockname()[1]}", socket.create_connection(full.getsockname())
        unix.bind("full.sock"); unix.listen(0); second = socket.socket(socket.AF_UNIX); second.connect("full.sock")
        for endpoint in at, "unix:full.sock":
            check("the backlog of the server is full: an error", client("-w", "1", endpoint) == (
                1, b"", f"client: {endpoint}: connect: Connection timed out\n"))
    gram = bound("gram.sock"); fill(bound("me", to="gram.sock"), b"x")
    check("unixgram: the queue of the server is full: an error", gram and client("unixgram:gram.sock", data=b"x\n") == (
        1, b"", "client: unixgram:gram.sock: recv: Connection timed out\n"))
    packets = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); packets.bind("packet.sock"); packets.listen()
    process = start(f"{programs}/client", "-w", "1", "unixpacket:packet.sock", stdin=pipe, stderr=pipe)
    os.write(process.stdin.fileno(), b"half a line")
    check("unixpacket: -w fires while half a line is typed", process.wait(5) == 1 and b"timed" in process.stderr.read())
    with socket.socket() as nobody:
        nobody.bind((here, 0)); port = nobody.getsockname()[1]
        refused = [f"client: tcp:{host}:{port}: connect: Connection refused" for host in (here, "[::1]")]
        status, out, error = client(f"tcp:{port}")
        check("an error names each address that was tried", (status, sorted(error.splitlines())) == (1, refused))
        check("-v reports each attempt as it is made", re.fullmatch(
            "(client: trying (.*)\nclient: \\2: connect: Connection refused\n){2}", client("-v", f"tcp:{port}")[2]))
    got = run("unshare", "-n", "sh", "-c", "ip link set lo up; sysctl -qw net.ipv4.ip_local_port_range='20000 20007'; "
              f"for i in $(seq 100); do {programs}/client tcp4:{here}:20004 </dev/null 2>&1; done", wait=60)
    check("a client never connects to itself", got[1].count(b"connect: Connection refused\n") == 100)

# ---- The surroundings

def group_pipes():
    with Server("tcp4:0", "unix", "unixgram") as server:
        data = os.urandom(3_000_000)
        for network in "tcp4", "unix":
            (their_in, our_out), (our_in, their_out) = os.pipe(), os.pipe()
            for fd in their_in, their_out: os.set_blocking(fd, False)
            process = start(f"{programs}/client", "-w", "1", server.at(network), stdin=their_in, stdout=their_out,
                            stderr=subprocess.PIPE)
            os.close(their_in); os.close(their_out)
            threading.Thread(target=lambda: (open(our_out, "wb").write(data)), daemon=True).start()
            time.sleep(2.5)  # while nobody reads what the client writes
            got = open(our_in, "rb").read()
            check(f"{network}: non-blocking pipes, full for 2.5 s, lose no byte, and -w 1 does not fire",
                  (process.wait(5), process.stderr.read(), got) == (0, b"", data))
        idle = start(f"{programs}/client", server.at("tcp4"), stdin=subprocess.PIPE)
        check("a client that waits for input does not spin", not spins(idle.pid))
        idle = start(f"{programs}/client", server.at("tcp4"), stdin=fill_pipe(), stdout=fill_pipe(1))
        check("a client whose output is full does not spin", not spins(idle.pid))
        held = socket.create_server((here, 0))
        idle = start(f"{programs}/client", f"tcp4:{here}:{held.getsockname()[1]}", stdin=subprocess.DEVNULL)
        check("a client that waits for the server after its input does not spin", not spins(idle.pid))
        gram, before = start(f"{programs}/client", "unixgram", stdin=subprocess.PIPE), sorted(os.listdir("."))
        kill([gram.pid], signal.SIGINT)
        check("an interrupted unixgram client leaves no file", gram.wait(5) == -2 and sorted(os.listdir(".")) == before)
        check("a line longer than a datagram is cut up", echoed("unixgram", b"a" * 65507 + b"b" * 100 + b"\n"))
        check("a line without a newline is sent at the end of the input", echoed("unixgram", b"a\nb"))
        for at in "tcp4", "unixgram":
            with open("/dev/full", "w") as full: got = client(server.at(at), data=b"x\n", stdout=full)
            check(f"{at}: standard output is full: an error", got[0] == 1 and got[2] ==
                  "client: standard output: write: No space left on device\n")
def fill_pipe(end=0):
    """One end of a pipe that is full."""
    ends = os.pipe(); os.set_blocking(ends[1], False)
    quiet(lambda: [os.write(ends[1], bytes(65536)) for _ in range(100)])
    return ends[end]

def group_terminal():
    master, slave = pty.openpty(); server = Server("unix")
    start(f"{programs}/client", "unix", stdin=slave, stdout=slave, stderr=slave); os.close(slave); screen = b""
    while select.select([master], [], [], 5)[0] and quiet(lambda: os.fstat(master)):
        try: screen += os.read(master, 10000)
        except OSError:
            break  # the client has ended
        if b"Ctrl-D" in screen and b"typed" not in screen: os.write(master, b"typed\n")
        if screen.count(b"typed") == 2 and server.process.poll() is None:
            kill([server.pid], signal.SIGTERM, signal.SIGTERM)
    check("at a terminal the client says how to end", b"connected to unix:unix.sock; Ctrl-D ends the input" in screen)
    check("at a terminal the client says that the server closed", b"the server closed the connection" in screen)

def group_surroundings():
    def says(*command, **more):
        got = run(*command, **more)
        return got[0], got[2]
    status, error = says(f"{programs}/server", "-i", stdin=bound("me"))
    check("-i refuses a datagram socket", status == 1 and error.startswith("server: descriptor 0: getpeername: "))
    ours, theirs = socket.socketpair()
    process = start(f"{programs}/server", "-i", "-v", stdin=theirs, stdout=theirs, stderr=theirs)
    theirs.close(); good = answers(ours) and not ours.shutdown(socket.SHUT_WR)
    check("-i writes nothing but the echo to a connection that is standard error, too",
          good and receive_all(ours) == (b"", b"") and process.wait(5) == 0)
    path = "p" * 107
    with Server("unix:" + path):
        check("a socket path of 107 bytes works; its file is for its owner", echoed("unix:" + path) and not os.stat(
            path).st_mode & 0o77)
        check("a live server's socket file is not taken", says(f"{programs}/server", "unix:" + path) == (
            1, f"server: unix:{path}: bind: Address already in use\n") and echoed("unix:" + path))
        os.rename(path, "moved"); open(path, "w").close()
    check("a server removes no file but its own", os.path.exists(path))
    for program, status in ("server", 124), ("client", 1):
        check(f"{program}: a socket path of 108 bytes is an error", says(f"{programs}/{program}", f"unix:{path}p") == (
            2, f"{program}: unix:{path}p: socket path too long (at most 107 bytes)\ntry '{program} -h'\n"))
        check(f"{program}: closed standard descriptors do no harm", says(
            "sh", "-c", f"timeout 0.5 {programs}/{program} unix:none 0<&- 1>&- 2>&-")[0] == status)
        check(f"{program}: no /dev/null for a closed descriptor: an error", says(
            "unshare", "-m", "sh", "-c", f"mount -t tmpfs none /dev; exec {programs}/{program} tcp:1 <&-")[0] == 1)

def clean_up():
    """Ends what the group left running."""
    for process in started:
        if process.poll() is None: process.kill(); process.wait(5)
    started.clear()
    for pid in children_of(os.getpid()):  # those of a killed server
        kill([pid], signal.SIGKILL, pause=0); quiet(lambda: os.waitpid(pid, 0))
def overtime(*_):
    raise TimeoutError("this group takes too long")

ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # the children of a killed server become ours
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, max(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
os.environ["LC_ALL"] = "C"
signal.signal(signal.SIGALRM, overtime)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
for group in [name for name in list(globals()) if name.startswith("group_")]:
    if len(sys.argv) > 1 and not any(word in group for word in sys.argv[1:]): continue
    home, began = tempfile.mkdtemp(prefix="hostile."), time.time(); os.chdir(home); signal.alarm(120)
    try:
        globals()[group]()
    except Exception as e:
        check(f"{group}: line {e.__traceback__.tb_next and e.__traceback__.tb_next.tb_lineno}: {e!r}", False)
    finally: signal.alarm(0); clean_up(); os.chdir("/"); shutil.rmtree(home)
    print(f"        {group[6:]}: {time.time() - began:.1f} s", flush=True)
finish()
