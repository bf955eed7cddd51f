#!/usr/bin/env python3
"""What a plain shell cannot do to the server and the client: odd datagrams, descriptors that nobody asked for,
urgent data, connections that are reset, children that are killed, signals by the thousand, limits, crowds, servers
that answer wrongly. From the project's root, after make."""
import array, atexit, os, pty, re, resource, select, signal, socket, struct, subprocess, sys, tempfile, threading, time

root = os.getcwd()
os.chdir(tempfile.mkdtemp())
passed = failed = 0


def check(name, ok):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    print("ok     " if ok else "FAILED ", name, flush=True)


class Server:
    count = 0

    def __init__(self, *args, limits={}):
        def set_limits():
            for which, value in limits.items():
                resource.setrlimit(which, (value, value))

        Server.count += 1
        self.log = f"log{Server.count}"
        self.process = subprocess.Popen([f"{root}/server", *args], stderr=open(self.log, "w"), preexec_fn=set_limits)
        atexit.register(self.process.kill)
        while "listening" not in self.text() and self.process.poll() is None:
            time.sleep(0.02)
        time.sleep(0.05)

    def text(self):
        return open(self.log).read()

    def port(self, network):
        return int(re.search(network + r":[^\s]*:(\d+)\n", self.text()).group(1))

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def children(self):
        return list(map(int, open(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read().split()))

    def ticks(self):
        return sum(map(int, open(f"/proc/{self.process.pid}/stat").read().split()[13:15]))

    def stop(self):
        self.process.terminate()
        return self.process.wait(10)


def reply(sock, wait=0.3):
    sock.settimeout(wait)
    try:
        return sock.recv(100000)
    except socket.timeout:
        return None


server = Server("udp4:*:0", "udp6:*:0", "unixgram", "unix", "unixpacket", "tcp4:0")
port, here = server.port("udp4"), "127.0.0.1"

# Datagrams.
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for size in (0, 1, 1472, 1473, 65507):
    message = os.urandom(size)
    s.sendto(message, (here, port))
    check(f"udp: {size} bytes", reply(s, 2) == message)
s.connect(("127.1.2.3", port))
s.send(b"x")
check("udp: the reply comes from the address that was asked", reply(s, 2) == b"x")
s6 = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s6.sendto(b"x", ("::1", server.port("udp6")))
check("udp: over IPv6, too", reply(s6, 2) == b"x")
if os.geteuid() == 0:
    low = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    low.bind((here, 1023))
    low.sendto(b"x", (here, port))
    check("udp: no reply to a port below 1024", reply(low) is None)
own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
try:
    own.bind(("127.9.9.9", port))
except OSError:
    own = None  # the server, on every interface, has it
check("udp: nobody else takes the port", own is None)

other = Server("udp4:0")
number = other.port("udp4")
same = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
same.bind(("127.0.0.2", number))
same.sendto(b"x", (here, number))
check("udp: no reply to the server's own port on another machine", reply(same) is None)
check("and the log says why", "no reply to udp4:127.0.0.2:" in other.text())
check("the server ends with status 0", other.stop() == 0)

nameless = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
nameless.sendto(b"nobody to answer", "unixgram.sock")
g = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
g.bind("me")
for size in (0, 1, 100000):
    message = os.urandom(size)
    g.sendto(message, "unixgram.sock")
    check(f"unixgram: {size} bytes", reply(g, 2) == message)
abstract = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
abstract.bind(f"\0echo-test-{os.getpid()}")
abstract.sendto(b"x", "unixgram.sock")
check("unixgram: a sender whose name is in no file system", reply(abstract, 2) == b"x")
before = server.descriptors()
for _ in range(20):
    try:
        g.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * 20))], 0, "unixgram.sock")
        reply(g)
    except PermissionError:  # on Linux from 6.16 on
        pass
check("unixgram: descriptors that are sent along are not kept", server.descriptors() == before)


def lingering():
    """A socket that the last close() waits for: it has sent what nobody takes, and lingers."""
    listener = socket.create_server((here, 0))
    s = socket.create_connection(listener.getsockname())
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 10))
    s.setblocking(False)
    try:
        while True:
            s.send(bytes(1 << 20))
    except BlockingIOError:
        return s, listener


def send_last_copy(sock, address):
    held, listener = lingering()
    try:
        if address:
            sock.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [held.fileno()]))], 0, address)
        else:
            sock.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [held.fileno()]))])
    except PermissionError:
        pass
    threading.Thread(target=held.close, daemon=True).start()  # perhaps it is we who have to wait
    return listener


try:
    socket.socket(socket.AF_UNIX).setsockopt(socket.SOL_SOCKET, 83, 0)
    os.kill(server.process.pid, signal.SIGSTOP)
    keep = [send_last_copy(g, "unixgram.sock")]
    time.sleep(0.2)
    os.kill(server.process.pid, signal.SIGCONT)
    g.settimeout(2)
    g.sendto(b"after it", "unixgram.sock")
    answers = [reply(g, 2), reply(g, 0.2)]
    check("unixgram: a descriptor that takes long to close holds up nobody", b"after it" in answers)
except OSError:
    print("SKIP    unixgram: a descriptor that takes long to close: this kernel has no remedy")
os.mkdir("elsewhere")
home = os.getcwd()
os.chdir("elsewhere")
loop = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
loop.bind("unixgram.sock")  # a name that is the server's own, where that looks it up
loop.sendto(b"loop", "../unixgram.sock")
os.chdir(home)
time.sleep(0.2)
ticks = server.ticks()
time.sleep(0.5)
check("unixgram: the server does not answer itself", server.ticks() - ticks < 5)
full = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
full.bind("full")
full.settimeout(1)
for _ in range(100):
    try:
        full.sendto(b"x", "unixgram.sock")
    except OSError:
        break
g.sendto(b"still there", "unixgram.sock")
check("unixgram: a peer whose queue is full holds up nobody", reply(g, 2) == b"still there")

# Connections.
address = (here, server.port("tcp4"))
c = socket.create_connection(address)
c.send(b"ab")
c.send(b"!", socket.MSG_OOB)
c.send(b"cd")
c.shutdown(socket.SHUT_WR)
data = b""
while piece := c.recv(100):
    data += piece
check("tcp: the urgent byte comes back in its place", data == b"ab!cd")
os.kill(server.process.pid, signal.SIGSTOP)
c = socket.create_connection(address)
for byte in (b"a", b"b", b"c"):
    c.send(byte, socket.MSG_OOB)
    time.sleep(0.05)
os.kill(server.process.pid, signal.SIGCONT)
c.shutdown(socket.SHUT_WR)
data = b""
while piece := c.recv(100):
    data += piece
check("tcp: urgent bytes from before there was a child, too", data == b"abc")
for i in range(200):
    c = socket.create_connection(address)
    if i % 2:
        c.send(b"x" * 10000)
    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    c.close()
c = socket.create_connection(address)
c.send(b"after 200 resets")
check("tcp: 200 clients that reset harm nobody", reply(c, 5) == b"after 200 resets")
c.close()
p = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
p.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1000000)
p.connect("unixpacket.sock")
for size in (1, 65507, 200000):
    message = os.urandom(size)
    p.send(message)
    p.settimeout(5)
    check(f"unixpacket: {size} bytes in one piece", p.recv(1000000) == message)
try:
    p.send(os.urandom(262145))
    check("unixpacket: what does not fit is not echoed in part", p.recv(1000000) == b"")
except ConnectionResetError:
    check("unixpacket: what does not fit is not echoed in part", True)
except OSError:
    print("SKIP    unixpacket: the system takes no message of 256 KiB")

check("the server ends with status 0", server.stop() == 0)

# Children are killed all the time, or stopped and continued: only their own clients notice.
server = Server("tcp4:0")
address = (here, server.port("tcp4"))


def clients(seconds):
    """Eight threads of clients, for so long. Each item of the result is a client that did not get its echo."""
    end, failures = time.time() + seconds, []

    def run():
        while time.time() < end:
            message, got = os.urandom(3000), b""
            try:
                with socket.create_connection(address, 5) as c:
                    c.settimeout(5)
                    c.sendall(message)
                    c.shutdown(socket.SHUT_WR)
                    while piece := c.recv(65536):
                        got += piece
            except OSError:
                pass
            if got != message:
                failures.append(got)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for t in threads:
        t.start()
    return threads, failures


def signal_children(*numbers):
    """To the oldest child, over and over, for two seconds. Returns how many signals and how many clients failed."""
    threads, failures = clients(2)
    sent = 0
    while any(t.is_alive() for t in threads):
        for child in server.children()[:1]:
            for number in numbers:
                os.kill(child, number)  # it is there, dead or alive, until its parent has waited for it
                time.sleep(0.02)
            sent += 1
    return sent, len(failures)


for number in signal.SIGKILL, signal.SIGSEGV:
    sent, noticed = signal_children(number)
    check(f"{sent} children ended by {number.name}: {noticed} clients noticed", sent > 20 and noticed <= sent)
sent, noticed = signal_children(signal.SIGSTOP, signal.SIGCONT)
check(f"{sent} times a child is stopped for a moment: no client noticed", sent > 10 and noticed == 0)

# Harmless signals interrupt every call, in parent, child and client; no byte is lost.
open("big", "wb").write(os.urandom(50_000_000))
before = set(server.children())
transfer = subprocess.Popen([f"{root}/client", f"tcp4:{here}:{address[1]}"], stdin=open("big"), stdout=open("back", "wb"))
sent = 0
while transfer.poll() is None:
    for process in [server.process.pid, *server.children(), transfer.pid]:
        os.kill(process, (signal.SIGCHLD, signal.SIGWINCH, signal.SIGURG, signal.SIGCONT)[sent % 4])
        sent += 1
check(f"{sent} harmless signals during a transfer: not a byte is wrong",
      sent > 1000 and transfer.wait() == 0 and open("big", "rb").read() == open("back", "rb").read())
check("the server ends with status 0", server.stop() == 0)


# Limits and crowds.
def load(*args):
    return subprocess.run([f"{root}/client", "-w", "20", *args], stdout=subprocess.DEVNULL, timeout=60).returncode == 0


server = Server("unix", limits={resource.RLIMIT_NOFILE: 12})
check("12 descriptors: all are served", load("-n", "200", "-c", "20", "unix"))
check("the server ends with status 0", server.stop() == 0)
if os.geteuid() == 0:
    os.chmod(".", 0o777)
    server = Server("-u", "nobody", "tcp4:0", "unix", limits={resource.RLIMIT_NPROC: 3})
    check("3 processes: all are served", load("-n", "200", "-c", "20", "unix"))
    check("and the log says so", "fork: Resource temporarily unavailable; trying again" in server.text())
    check("the server ends with status 0", server.stop() == 0)
    # Ended while a connection is accepted, and no child can be had for it.
    server = Server("-u", "nobody", "-k", "0", "unix", limits={resource.RLIMIT_NPROC: 2})
    crowd = [socket.socket(socket.AF_UNIX) for _ in range(5)]
    for c in crowd:
        c.connect("unix.sock")
    time.sleep(0.5)
    check("2 processes: the server ends with status 0", server.stop() == 0)
    check("and nobody waits", len(select.select(crowd, [], [], 1)[0]) == len(crowd))  # end of file, or reset
server = Server("unix", limits={resource.RLIMIT_AS: 8 << 20})
check("8 MiB of memory: all are served", load("-n", "200", "-c", "20", "unix"))
check("the server ends with status 0", server.stop() == 0)
got = subprocess.run(["sh", "-c", f"ulimit -v 8192; exec {root}/server -m 1000000 unix"], capture_output=True, text=True)
check("too little memory to start", (got.returncode, got.stderr) == (1, "server: calloc: Cannot allocate memory\n"))
server = Server("-k", "1000000", "-m", "1000000", "-t", "1000000", "unix")
check("the largest values of all options", load("-n", "20", "-c", "2", "-w", "1000000", "unix"))
check("the server ends with status 0", server.stop() == 0)

# Who takes nothing: what is meant for it is dropped after -t seconds, and a client that is cut off notices.
def deaf(size, half_close):
    c = socket.socket()
    c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    c.connect(address)
    c.setblocking(False)
    try:
        while size > 0:
            size -= c.send(bytes(size))
    except BlockingIOError:
        pass
    if half_close:
        c.shutdown(socket.SHUT_WR)
    return c


def received(c):
    """All that there is for a client, and how that ends."""
    c.settimeout(5)
    size = 0
    try:
        while piece := c.recv(1 << 20):
            size += len(piece)
        return size, "end of file"
    except ConnectionResetError:
        return size, "reset"


server = Server("-t", "2", "tcp4:0")
address = (here, server.port("tcp4"))
crowd = [deaf(1_000_000, True) for _ in range(5)]
time.sleep(8)
orphans = [line.split()[3] for line in open("/proc/net/tcp") if f":{address[1]:04X} " in line.split()[1]]
check(f"-t 2: clients that take nothing leave nothing behind {orphans}", "09" not in orphans and "04" not in orphans)
check("and see that it is not all", all(received(c)[1] == "reset" for c in crowd))
c = deaf(3_000_000, False)
time.sleep(0.5)
server.process.terminate()
time.sleep(0.2)
check("the server ends with status 0", server.stop() == 0)
size, end = received(c)
check(f"a client that is cut off after {size} bytes is told so", end == "reset")

server = Server("-m", "400", "-t", "2", "tcp4:0")
address = (here, server.port("tcp4"))
idle = [socket.create_connection(address) for _ in range(1000)]
late = socket.create_connection(address)
late.send(b"late")
check("1000 idle clients, -m 400: the next one waits", reply(late, 1) is None)
check("-t 2: and is served when they have been closed", reply(late, 20) == b"late")
for c in idle:
    c.close()
slow = socket.create_connection(address)
check("a byte a second is not idle: -t 2 does not close it",
      all([slow.send(b"%d" % i) and reply(slow, 1) == b"%d" % i and not time.sleep(1) for i in range(4)]))
slow.close()
check("1000 clients at once, -m 400: all are served", load("-n", "1000", "-c", "1000", f"tcp4:{here}:{address[1]}"))
check("the server ends with status 0", server.stop() == 0)


# Servers that answer wrongly, for the client to put up with: what is not the awaited echo is late, and is ignored.
def answer_datagrams(how):
    """A server that answers each datagram with those that how(number, datagram, those before) gives."""
    u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    u.bind((here, 0))
    seen = []

    def run():
        while True:
            data, peer = u.recvfrom(70000)
            seen.append(data)
            for answer in how(len(seen), data, seen[:-1]):
                u.sendto(answer, peer)

    threading.Thread(target=run, daemon=True).start()
    text = "".join(f"line {i}\n" for i in range(20))
    got = subprocess.run([f"{root}/client", "-w", "1", f"udp4:{here}:{u.getsockname()[1]}"], input=text,
                         capture_output=True, text=True, timeout=60)
    return got.returncode == 0 and got.stdout == text, got


for name, how in (("doubled", lambda n, data, seen: [data, data]),
                  ("late: the one before comes first", lambda n, data, seen: seen[-1:] + [data]),
                  ("reordered", lambda n, data, seen: [data] + seen[::-1]),
                  ("damaged, then sent again", lambda n, data, seen: [data[:-1] + b"?"] if n == 3 else [data]),
                  ("cut short, then sent again", lambda n, data, seen: [data[:-1]] if n == 3 else [data]),
                  ("lost, then sent again", lambda n, data, seen: [] if n == 3 else [data])):
    check(f"udp: an echo that is {name}: the output is right", answer_datagrams(how)[0])
got = answer_datagrams(lambda n, data, seen: [data[:-1] + b"?"])[1]
check("udp: each echo is damaged: an error, and no wrong byte",
      (got.returncode, got.stdout) == (1, "") and "no echo of message 1 (7 bytes)" in got.stderr)


# Servers that answer wrongly, for the load generator to notice.
def answer(how):
    listener = socket.socket()
    listener.bind((here, 0))
    listener.listen()

    def run():
        c = listener.accept()[0]
        for i in range(3):
            data = bytearray(c.recv(100))
            c.sendall(how(data) if i == 2 else data)
        c.close()

    threading.Thread(target=run, daemon=True).start()
    got = subprocess.run([f"{root}/client", "-w", "3", "-n", "1", "-r", "3", f"tcp4:{here}:{listener.getsockname()[1]}"],
                         capture_output=True, text=True, timeout=20)
    return got.returncode, got.stderr


check("-n: all right", answer(lambda d: d)[0] == 0)
for name, how, says in (("one bit is wrong", lambda d: bytes([d[0] ^ 1]) + d[1:], "a wrong byte"),
                        ("a byte is missing", lambda d: d[1:], "a wrong byte"),
                        ("the end is missing", lambda d: d[:-1], "end of file"),
                        ("a byte is too many", lambda d: d + b"x", "a wrong byte")):
    status, error = answer(how)
    check(f"-n: {name}", status == 1 and says in error)


# A server that resets in the middle, and one that never reads.
for name, size, says in (("resets", 1 << 20, "Connection reset by peer"), ("never reads", 1 << 24, "poll: nothing sent or received for 1 s")):
    listener = socket.create_server((here, 0))
    c = subprocess.Popen([f"{root}/client", "-w", "1", f"tcp4:{here}:{listener.getsockname()[1]}"], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    s = listener.accept()[0]
    if name == "resets":
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()
    out, error = c.communicate(bytes(size), timeout=20)
    check(f"tcp: a server that {name}: an error", (c.returncode, out) == (1, b"") and says in error.decode())

# A server that has no room in its queue for a connection, or for a datagram; one that says nothing.
def client(*args, **more):
    got = subprocess.run([f"{root}/client", "-w", "1", *args], input="x\n", capture_output=True, text=True, timeout=20, **more)
    return got.returncode, got.stdout, got.stderr.removeprefix("client: ").removesuffix("\n")


tcp, unix = socket.create_server((here, 0), backlog=0), socket.socket(socket.AF_UNIX)
at = f"tcp4:{here}:{tcp.getsockname()[1]}"
check("-n: no echo: an error", client("-n", "1", at) == (1, "client  connections/s round trips/s     MB/s   50% us   99% us  "
      "100% us\nall                 0             0      0.0      0.0      0.0      0.0\n",
      f"{at}: poll: nothing sent or received for 1 s"))
check("tcp: the backlog is full: an error", client(at) == (1, "", f"{at}: connect: Connection timed out"))
unix.bind("full.sock")
unix.listen(0)
first = socket.socket(socket.AF_UNIX)
first.connect("full.sock")
check("unix: the backlog is full: an error", client("unix:full.sock") == (1, "", "unix:full.sock: connect: Connection timed out"))
gram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
gram.bind("gram.sock")
me = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
me.setblocking(False)
try:
    while True:
        me.sendto(b"x", "gram.sock")
except BlockingIOError:
    pass
check("unixgram: the queue is full: an error",
      client("unixgram:gram.sock") == (1, "", "unixgram:gram.sock: recv: no echo of message 1 (2 bytes)"))

# SIGCHLD that is ignored, children of somebody else.
server = Server("unix", "tcp4:0")
ignored = subprocess.Popen([f"{root}/client", "-n", "20", "-c", "2", "unix"], stdout=subprocess.DEVNULL,
                           preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
check("-n: SIGCHLD is ignored", ignored.wait(10) == 0)
got = subprocess.run(["sh", "-c", f"sleep 0.1 & sleep 0.2; exec {root}/client -n 1000 -c 2 unix"], capture_output=True, text=True)
check("-n: there are children of somebody else", got.returncode == 0 and "\nall " in got.stdout and not re.search(r"all +0 ", got.stdout))


# At a terminal.
def at_terminal(*args):
    """The client at a terminal: it has ended, or the server has. Returns what is then on the screen."""
    master, slave = pty.openpty()
    process = subprocess.Popen([f"{root}/client", *args], stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    screen = b""
    try:
        while True:
            screen += os.read(master, 10000)
            if b"connected" in screen and not stopped:
                stopped.append(server.stop())
    except OSError:  # nobody is there any more
        process.wait(10)
        return screen.decode()


stopped = []
check("-n at a terminal: says how far it is", " of 20000 connections\r" in at_terminal("-n", "20000", "unix"))
screen = at_terminal("-v", "unix")
check("-v at a terminal: says how to end", "client: unix:unix.sock: connected; Ctrl-D ends the input" in screen)
check("and that the server has closed", "client: unix:unix.sock: the server has closed" in screen)


# Surroundings that are not as they should be.
def server_says(*command, **more):
    got = subprocess.run(command, capture_output=True, text=True, timeout=20, **more)
    return got.returncode, got.stderr


check("-i: not a connection", server_says(f"{root}/server", "-i", stdin=me) == (1, "server: standard input: not a connection\n"))
taken = socket.create_server((here, 0))
number = taken.getsockname()[1]
check("one address of two is taken: an error",
      server_says(f"{root}/server", f"tcp:{number}") == (1, f"server: tcp:{here}:{number}: bind: Address already in use\n"))
subprocess.run(["sh", "-c", f"{root}/server unix:stale & sleep 0.3; kill -9 $!"], stderr=subprocess.DEVNULL)
check("no descriptor left to look whether a socket file is stale",
      server_says("sh", "-c", f"ulimit -n 8; exec {root}/server unix:stale") ==
      (1, "server: unix:stale: bind: Too many open files\n"))
if os.geteuid() == 0:
    check("-u: root's rights that can be had again: an error",
          server_says("setpriv", "--securebits", "+no_setuid_fixup", f"{root}/server", "-u", "nobody", "tcp:0") ==
          (1, "server: -u nobody: setuid: can still be undone\n"))
    check("no /dev/null for a closed descriptor: an error", all(
        server_says("unshare", "-m", "sh", "-c", f"mount -t tmpfs none /dev; exec {root}/{program} tcp:1 <&-")[0] == 1
        for program in ("server", "client")))
    check("no such address on this machine: an error",
          server_says("unshare", "-n", f"{root}/client", f"tcp4:{here}:9") ==
          (1, f"client: tcp4:{here}:9: connect: Network is unreachable\n"))
    check("icmp is not allowed: an error that tells the remedy",
          server_says("unshare", "-n", f"{root}/client", "icmp") == (1, "client: icmp:127.0.0.1: socket: not for any of "
          "your groups; the sysctl net.ipv4.ping_group_range says for which\n"))
    status, log = server_says("unshare", "-n", "sh", "-c", f"ip link set lo up; timeout 1 {root}/server")
    check("no endpoint: tcp, udp and unix", status == 124 and [line.split(" on ")[-1] for line in log.splitlines()] ==
          ["tcp:[::1]:7777", f"tcp:{here}:7777", "udp:[::1]:7777", f"udp:{here}:7777", "unix:unix.sock"])
    open("hosts", "w").write("127.0.0.1 twice\n127.0.0.1 twice\n")
    check("a name that has an address twice", server_says(
        "unshare", "-m", "sh", "-c", f"mount --bind hosts /etc/hosts; {root}/server tcp4:twice:0 2>twice & sleep 0.5; "
        "kill $!; wait $!; grep -c listening twice >&2") == (0, "1\n"))

print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
