#!/usr/bin/env python3
"""What a plain shell cannot do to the server and the client: odd datagrams, descriptors that nobody asked for,
urgent data, connections that are reset, servers that answer wrongly. From the project's root, after make."""
import array, os, re, resource, signal, socket, struct, subprocess, sys, tempfile, threading, time

root = os.getcwd()
os.chdir(tempfile.mkdtemp())
passed = failed = 0


def check(name, ok):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    print("ok     " if ok else "FAILED ", name, flush=True)


class Server:
    def __init__(self, *args):
        self.log = open("log", "w+")
        self.process = subprocess.Popen([f"{root}/server", *args], stderr=self.log)
        while "listening" not in self.text() and self.process.poll() is None:
            time.sleep(0.02)
        time.sleep(0.05)

    def text(self):
        return open("log").read()

    def port(self, network):
        return int(re.search(network + r":[^\s]*:(\d+)\n", self.text()).group(1))

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

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


server = Server("udp4:*:0", "unixgram", "unix", "unixpacket", "tcp4:0")
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

nameless = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
nameless.sendto(b"nobody to answer", "unixgram.sock")
g = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
g.bind("me")
for size in (0, 1, 100000):
    message = os.urandom(size)
    g.sendto(message, "unixgram.sock")
    check(f"unixgram: {size} bytes", reply(g, 2) == message)
before = server.descriptors()
for _ in range(20):
    g.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * 20))], 0, "unixgram.sock")
    reply(g)
check("unixgram: descriptors that are sent along are not kept", server.descriptors() == before)
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

# Children are killed all the time: only their own clients notice.
wrong = kills = 0
end = time.time() + 4


def client():
    global wrong
    while time.time() < end:
        message, got = os.urandom(3000), b""
        try:
            c = socket.create_connection(address, 5)
            c.settimeout(5)
            c.sendall(message)
            c.shutdown(socket.SHUT_WR)
            while piece := c.recv(65536):
                got += piece
        except OSError:
            pass
        wrong += got != message


threads = [threading.Thread(target=client) for _ in range(4)]
for t in threads:
    t.start()
while time.time() < end:
    children = open(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read().split()
    for child in children[:1]:
        try:
            os.kill(int(child), signal.SIGKILL)
            kills += 1
        except ProcessLookupError:
            pass
    time.sleep(0.02)
for t in threads:
    t.join()
check(f"{kills} children killed: {wrong} clients noticed, no more than that", kills > 20 and wrong <= kills)
check("the server ends with status 0", server.stop() == 0)


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

print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
