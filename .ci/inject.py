#!/usr/bin/env python3
"""Faults on purpose. strace makes one system call fail with an error from its manual page; whatever the call and the
error, the programs must end in a right echo or in a clear message, and leave nothing behind. Then the same with reads
and writes of a few bytes at a time: short.c. Run it from the project's root. It builds its own copies."""
import collections, concurrent.futures, errno, os, re, shutil, signal, socket, subprocess, sys, tempfile, time
root, home = os.getcwd(), tempfile.mkdtemp(prefix="inject.")
sys.dont_write_bytecode = True  # nothing is left beside the source
from checks import check, counts, finish, until
DEADLINE = 15  # seconds, for any one program; a server takes up to 5 to end

# System calls by their names in POSIX: their names in Linux, and their errors, the most likely one first.
CALLS = {"accept": ("accept accept4", "EMFILE ECONNABORTED EINTR ENOMEM EAGAIN"), "bind": ("bind",
      "EADDRINUSE EACCES EADDRNOTAVAIL ENOENT"), "connect": ("connect",
      "ECONNREFUSED EAGAIN EINTR ETIMEDOUT EADDRNOTAVAIL EHOSTUNREACH"), "fcntl": ("fcntl fcntl64", "EPERM"), "fork":
      ("fork clone clone3", "EAGAIN ENOMEM"), "stat": ("fstat newfstatat stat lstat statx", "EACCES EIO ENOENT"),
      "getpeername": ("getpeername", "ENOTCONN"), "getsockname": ("getsockname", "ENOBUFS"), "getsockopt":
      ("getsockopt", "ENOPROTOOPT ENOBUFS"), "listen": ("listen", "EADDRINUSE"), "mmap": ("mmap", "ENOMEM"), "open":
      ("open openat", "EMFILE ENOENT ENOMEM"), "poll": ("poll ppoll", "EINTR ENOMEM"), "prctl": ("prctl", "EINVAL"),
      "pselect": ("pselect6", "EINTR ENOMEM"), "read": ("read", "EINTR EAGAIN EIO ECONNRESET ENOMEM"), "recv":
      ("recvmsg recvfrom readv", "EINTR EAGAIN ECONNRESET ENOMEM ECONNREFUSED"), "send": ("sendmsg sendto writev",
      "EINTR EAGAIN EPIPE ECONNRESET EMSGSIZE ENOBUFS EPERM EHOSTUNREACH"), "setsockopt": ("setsockopt",
      "ENOPROTOOPT ENOMEM EINVAL"), "socket": ("socket", "EMFILE EAFNOSUPPORT EACCES ENOBUFS"), "unlink":
      ("unlink unlinkat", "EACCES EROFS"), "wait": ("wait4", "EINTR ECHILD"), "write": ("write",
      "EINTR EAGAIN ENOSPC EPIPE EIO ECONNRESET ENOBUFS"),}
# strace does not make the call that fails. So a close() or shutdown() that fails leaves something open, which no kernel
# does. A kill() of an own child, and the rest, cannot fail, or belong to the C library's start, before main().
LEFT_OUT = """close shutdown kill arch_prctl brk clock_gettime clock_nanosleep execve exit exit_group futex getpid getppid getrandom
    ioctl lseek mprotect munmap prlimit64 readlink readlinkat restart_syscall rseq rt_sigaction rt_sigprocmask
    rt_sigreturn set_robust_list set_tid_address umask uname""".split()
# What a message may name instead of the call: what failed in consequence.
ALSO = {"connect": "bind send recv", "open": "getaddrinfo", "mmap": "getaddrinfo", "stat": "bind getaddrinfo",
        "recv": "send getaddrinfo", "send": "recv", "socket": "getaddrinfo bind", "fcntl": "connect bind",
        "poll": "recv send getaddrinfo", "read": "getaddrinfo recv", "getsockname": "connect getaddrinfo"}
Fault = collections.namedtuple("Fault", "call error when")
NETWORKS = ["tcp4:0", "udp4:0", "unix", "unixpacket", "unixgram"]
def read(path):
    try:
        with open(path, errors="replace") as file: return file.read()
    except OSError: return ""
def strace(fault):
    """The command line that comes before a program's. Without a fault it only takes notes."""
    command = ["strace", "-D", "-I2", "-f", "-qq", "-o", "trace"]
    if fault:
        names = ",".join("?" + name for name in CALLS[fault.call][0].split())
        command += ["-e", "trace=" + names, "-e", f"inject={names}:error={fault.error}:when={fault.when}"]
    return command
def tracer(pid): return int((re.search(r"TracerPid:\s*(\d+)", read(f"/proc/{pid}/status")) or [0, 0])[1])
def at_work_in(folder):
    """The processes whose working directory is this one: a case has one for itself."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{pid}/cwd").startswith(folder):
                found[int(pid)] = read(f"/proc/{pid}/comm").strip()
        except OSError: pass
    return found
def ticks(folder):
    fields = [read(f"/proc/{pid}/stat").split() for pid, name in at_work_in(folder).items() if name == "server"]
    return sum(int(f[13]) + int(f[14]) for f in fields if f)
def complaint(program, text, fault):
    """What is wrong with the message of a program that failed: it is one line that names the call and the reason."""
    if fault and fault.call == "write" and not text:
        return []  # it was the message that could not be written
    if not re.fullmatch(program + r"(: .+)+\n", text): return [f"status 1, but the message is {text!r}"]
    if not fault: return []
    if not any(f": {name}" in text for name in [fault.call, "not an address", *ALSO.get(fault.call, "").split()]):
        return [f"the message names another call: {text!r}"]
    named = f": {fault.call}: " in text and fault.error not in ("EADDRNOTAVAIL", "ETIMEDOUT", "EAGAIN", "EAFNOSUPPORT")
    return [f"gives another reason: {text!r}"] * (named and os.strerror(getattr(errno, fault.error)) not in text)
def client(folder, at, fault=None, traced=False, faulty_server=False):
    """Runs a client, and returns what is wrong with how it ends."""
    stream = at.split(":")[0] in ("tcp4", "unix")
    data = bytes(range(1, 256)) * 400 if stream else b"".join(b"%d" % i * 500 + b"\n" for i in range(3))
    process = subprocess.Popen([*(strace(fault) if traced else []), home + "/client", "-w", "2", at], cwd=folder,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try: out, error = process.communicate(data, DEADLINE)
    except subprocess.TimeoutExpired:
        process.kill()
        return [f"client {at} hangs"]
    error, status, wrong = error.decode(errors="replace"), process.returncode, []
    # A faulty server resets a connection. AF_UNIX has no reset, and EAGAIN is the idle timeout.
    may_be_short = faulty_server and (at.startswith("unix") or fault and fault.error == "EAGAIN")
    if not data.startswith(out): wrong.append("a wrong byte")
    elif status == 0 and out != data and not may_be_short:
        wrong.append(f"status 0 after {len(out)} of {len(data)} bytes")
    if status not in (0, 1) or status == 1 and not fault: wrong.append(f"status {status}: {error!r}")
    elif status == 1: wrong += complaint("client", error, None if faulty_server else fault)
    elif error: wrong.append(f"status 0, but the message {error!r}")
    return [f"client {at}: {w}" for w in wrong]
def serve(folder, fault, args=NETWORKS):
    """A server that has the fault when it starts, and in each of its children; then without it."""
    stale = socket.socket(socket.AF_UNIX); stale.bind(folder + "/unix.sock"); stale.close()
    with open(folder + "/log", "w") as log:
        process = subprocess.Popen([*strace(fault), home + "/server", "-m4", "-k1", *args], cwd=folder, stderr=log)
    wrong, wanted = [], len(args) or 1
    until(lambda: read(folder + "/log").count("listening") >= wanted or process.poll() is not None, 3 if fault else 9)
    if process.poll() is None:
        endpoints = re.findall(r"listening on (.*)\n", read(folder + "/log"))
        for at in endpoints * 2: wrong += client(folder, at, fault, faulty_server=True)
        before = ticks(folder); time.sleep(0.3)
        if ticks(folder) - before > 10: wrong.append("spins")
        if str(fault and fault.when) != "1+" and tracer(process.pid):
            os.kill(tracer(process.pid), signal.SIGTERM); until(lambda: tracer(process.pid) == 0)
            for at in endpoints: wrong += client(folder, at)
        process.terminate()
    try: status = process.wait(DEADLINE)
    except subprocess.TimeoutExpired:
        process.kill()
        return wrong + ["SIGTERM does not end it"]
    if status == 1:
        wrong += complaint("server", re.sub(".*(again|killed by|listening).*\n", "", read(folder + "/log")), fault)
    if status == 1 or "unix" not in args:
        if os.path.exists(folder + "/unix.sock"): os.unlink(folder + "/unix.sock")
    return wrong + [f"status {status}: {read(folder + '/log')!r}"] * (status != 0 and (status != 1 or not fault))
def serve_stdin(folder, fault):
    ours, theirs = socket.socketpair()
    with open(folder + "/log", "w") as log:
        process = subprocess.Popen([*strace(fault), home + "/server", "-i"], cwd=folder, stdin=theirs, stderr=log)
    theirs.close(); ours.settimeout(DEADLINE); got = b""
    try:
        ours.sendall(b"ping"); ours.shutdown(socket.SHUT_WR)
        while piece := ours.recv(100): got += piece
        status = process.wait(DEADLINE)
    except (OSError, subprocess.TimeoutExpired) as e:
        process.kill()
        return [repr(e)] * (not isinstance(e, ConnectionError))
    if status == 1: return complaint("server", read(folder + "/log"), fault)
    return [f"status {status}, echo {got}"] * (status != 0 or got != b"ping" and not fault)
def client_of(network):
    def scenario(folder, fault):
        at = next(e for e in shared_endpoints if e.split(":")[0] == network)
        return client(folder, at.replace(":", ":../shared/") if network.startswith("unix") else at, fault, True)
    return scenario
SCENARIOS = {"server": serve, "server -i": serve_stdin,
             **{"client " + n.split(":")[0]: client_of(n.split(":")[0]) for n in NETWORKS}}
def run(scenario, fault):
    """Runs a scenario in a folder of its own. Returns what went wrong, and the notes of strace."""
    folder = tempfile.mkdtemp(dir=home)
    try: wrong = SCENARIOS[scenario](folder, fault)
    except Exception as e: wrong = [f"{type(e).__name__}: {e}"]
    if not until(lambda: not at_work_in(folder), 2): wrong.append(f"leaves processes: {at_work_in(folder)}")
    for pid in at_work_in(folder):
        try: os.kill(pid, signal.SIGKILL)
        except ProcessLookupError: pass
    left = [f for f in os.listdir(folder) if f not in ("log", "trace")]
    if left and not (fault and fault.call in ("unlink", "stat", "getsockname", "listen")):  # the last two never fail
        wrong.append(f"leaves files: {left}")
    trace = read(folder + "/trace"); shutil.rmtree(folder, ignore_errors=True)
    return wrong, trace
def cases(scenario, trace):
    """The faults that make sense, given the calls that the scenario makes."""
    counts = collections.Counter(re.findall(r"^(\d+) +(\w+)\(", trace, re.M))
    unknown = {name for _, name in counts} - {n for names, _ in CALLS.values() for n in names.split()} - {*LEFT_OUT}
    check(f"{scenario}: all system calls are known {unknown or ''}", not unknown)
    for call, (names, errors) in CALLS.items():
        most = max([n for (_, name), n in counts.items() if name in names.split()], default=0)
        for i, error in enumerate(errors.split()):
            whens = list(range(1, min(most, 8 if i == 0 else 2) + 1)) + ["2+3"] * (most > 1 and i == 0)
            if most and scenario == "server" and call in ("accept", "fork", "recv") and error[1] not in "IC":
                whens.append("1+")
            yield from (Fault(call, error, when) for when in whens)
def close_output():
    """The one close() that is looked at: some file systems report only then that the disk is full."""
    with open(home + "/output", "w") as out:
        got = subprocess.run(["strace", "-f", "-o", "trace", "-P", home + "/output", "-e", "inject="
                              "close:error=EDQUOT", home + "/client", "unix:shared/unix.sock"], cwd=home, input=b"x",
                             stdout=out, stderr=subprocess.PIPE, timeout=DEADLINE)
    check("client: closing the output fails: an error", (got.returncode, got.stderr) == (
        1, b"client: standard output: close: Disk quota exceeded\n"))
def short():
    """A few bytes at a time."""
    os.mkdir(home + "/short"); cc("short/short.so", ".ci/short.c", "-shared", "-fPIC")
    for name in "server", "client": cc("short/" + name, name + ".c")
    preload, data = {**os.environ, "LD_PRELOAD": home + "/short/short.so"}, os.urandom(300000)
    with open(home + "/short/log", "w") as log:
        server = subprocess.Popen(["./server", "tcp4:0", "unix"], cwd=home + "/short", env=preload, stderr=log)
    until(lambda: read(home + "/short/log").count("listening") == 2)
    for at in re.findall("listening on (.*)", read(home + "/short/log")):
        got = subprocess.run(["./client", at], cwd=home + "/short", env=preload, input=data, capture_output=True,
                             timeout=60)
        check(f"short reads and writes: {at}: 300 kB", (got.returncode, got.stdout, got.stderr) == (0, data, b""))
    check("short reads and writes happened", os.path.getsize(home + "/short/short.log") > 1000)
    server.terminate()
    check("short reads and writes: the server ends with status 0", server.wait(DEADLINE) == 0)
def cc(target, source, *options):
    subprocess.run(["cc", "-O1", "-w", *options, "-o", f"{home}/{target}", f"{root}/{source}"], check=True,
                   stderr=subprocess.DEVNULL)
os.environ["LC_ALL"] = "C"
try:
    for name in "server", "client":
        cc(name, name + ".c", "-static")  # or the first calls would be the loader's
    os.mkdir(home + "/shared")
    with open(home + "/shared/log", "w") as log:
        shared = subprocess.Popen([home + "/server", *NETWORKS], cwd=home + "/shared", stderr=log)
    until(lambda: read(home + "/shared/log").count("listening") == len(NETWORKS))
    shared_endpoints = re.findall("listening on (.*)\n", read(home + "/shared/log")); close_output(); short()
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        todo = []
        for scenario, (wrong, trace) in zip(SCENARIOS, pool.map(lambda s: run(s, None), SCENARIOS)):
            check(f"{scenario}: without faults {wrong or ''}", not wrong)
            todo += [(scenario, fault) for fault in cases(scenario, trace)]
        fired, good = collections.Counter(), collections.Counter()
        for (scenario, fault), (wrong, trace) in zip(todo, pool.map(lambda case: run(*case), todo)):
            fired[scenario] += "INJECTED" in trace; good[scenario] += not wrong
            if wrong: check(f"{scenario}: {fault.call}: {fault.error} when={fault.when}: {'; '.join(wrong)}", False)
        for scenario in SCENARIOS:
            print(f"{scenario}: {good[scenario]} right, {fired[scenario]} with a fault"); counts[True] += good[scenario]
    shared.terminate()
    check("the clients' server ends with status 0", shared.wait(DEADLINE) == 0)
finally:
    for pid in at_work_in(home): os.kill(pid, signal.SIGKILL)
    shutil.rmtree(home, ignore_errors=True)
finish()
