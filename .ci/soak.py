#!/usr/bin/env python3
"""One server for a long time: after many connections and many bytes it has the memory, the descriptors, the processes
and the files that it had near the beginning. From the project's root, after make."""
import argparse, atexit, os, re, subprocess, sys, tempfile, time

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--connections", type=int, default=20000)
parser.add_argument("--gib", type=float, default=0.5, help="in bulk, to the server and back")
options = parser.parse_args()
TOLERANCE = 100  # kB of memory; all else must be the same
PARTS = {"tcp4": 0.3, "unix": 0.3, "unixpacket": 0.2, "udp4": 0.1, "unixgram": 0.1}  # of the connections

root = os.getcwd()
home, private = tempfile.TemporaryDirectory(), tempfile.TemporaryDirectory()
os.chdir(home.name)
os.environ["TMPDIR"] = private.name  # where the client makes its folders
passed = failed = 0


def check(name, ok):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    print("ok     " if ok else "FAILED ", name, flush=True)


def text():
    return open("log").read()


server = subprocess.Popen([f"{root}/server", "tcp4:0", "udp4:0", "unix", "unixpacket", "unixgram"],
                          stderr=open("log", "w"))
atexit.register(server.kill)
while text().count("listening") < 5 and server.poll() is None:
    time.sleep(0.02)


def load(network, *args):
    """Did all come back as it was sent? The client looks at every byte."""
    address = re.search(f"listening on ({network}:.*)", text()).group(1)
    client = subprocess.Popen([f"{root}/client", "-w", "10", *map(str, args), address], stdout=subprocess.DEVNULL)
    try:
        return client.wait(600) == 0
    except subprocess.TimeoutExpired:
        client.kill()
        return False


def connections(n):
    """By 64 clients at a time: twice as many as children stay, so that some come and go."""
    return all([load(network, "-n", int(n * part), "-c", 64, "-r", 10, "-s", 1000)
                for network, part in PARTS.items()])


def bulk(gib):
    """Half over TCP, half over AF_UNIX, 16 MiB at a time."""
    rounds = max(1, round(gib * 1024 / 2 / 16))
    return all([load(network, "-n", 1, "-r", rounds, "-s", 16 << 20) for network in ("tcp4", "unix")])


def status(pid):
    return dict(line.split(":", 1) for line in open(f"/proc/{pid}/status"))


def memory(pid, kind):
    return int(status(pid)[kind].split()[0])


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def state():
    """What there is when all children have become idle."""
    time.sleep(1)
    family = open(f"/proc/{server.pid}/task/{server.pid}/children").read().split()
    zombies = [pid for pid in family if status(pid)["State"].strip().startswith("Z")]
    children = [pid for pid in family if pid not in zombies]
    return {"parent: memory, kB (VmRSS)": memory(server.pid, "VmRSS"),
            "parent: its own memory, kB (RssAnon)": memory(server.pid, "RssAnon"),
            "parent: descriptors": descriptors(server.pid),
            "children": len(children),
            "children: the most memory of one, kB (RssAnon)": max(memory(pid, "RssAnon") for pid in children),
            "children: the most descriptors of one": max(descriptors(pid) for pid in children),
            "zombies": len(zombies),
            "socket files": len([name for name in os.listdir() if name.endswith(".sock")]),
            "clients' folders": len(os.listdir(private.name))}


start = time.time()
check("the first 1000 connections, 0.125 GiB", connections(1000) and bulk(0.125))
before = state()
check(f"{options.connections} more, on {', '.join(PARTS)}", connections(options.connections))
check(f"{options.gib:g} GiB more, on tcp4 and unix", bulk(options.gib))
after = state()
print(f"\n{'':48}{'before':>10}{'after':>10}")
for name in before:
    print(f"{name:48}{before[name]:10}{after[name]:10}")
print(f"{'seconds':58}{time.time() - start:10.1f}\n")
for name in before:
    tolerance = TOLERANCE if "kB" in name else 0
    check(f"{name}: the same{f', within {tolerance}' * (tolerance > 0)}", abs(after[name] - before[name]) <= tolerance)
check("32 children have stayed", after["children"] == 32)
check("no zombie, no client's folder", after["zombies"] == 0 and after["clients' folders"] == 0)
check("the log has the announcements only", text().count("\n") == 5)
server.terminate()
check("the server ends with status 0", server.wait(10) == 0)
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
