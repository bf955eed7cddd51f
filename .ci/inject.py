#!/usr/bin/env python3
"""Faults on purpose. strace makes one system call fail with one of the errors that its manual page lists; whatever
the call and the error, the programs must end in a right echo or a clear message, and leave nothing behind. Then the
same for reads and writes of a few bytes at a time, see short.c. From the project's root; it builds its own copies, and
needs strace and a C compiler. usage: inject.py [--all] [SCENARIO...], as in: inject.py "serve -k 0" unixgram
--all: every error at each of the first 40 calls, which takes long."""
import collections, concurrent.futures, errno, os, pwd, re, shutil, signal, socket, subprocess, sys, tempfile
import threading, time

root, everything, only = os.getcwd(), "--all" in sys.argv, [arg for arg in sys.argv[1:] if arg != "--all"]
home, counts = tempfile.mkdtemp(), os.environ.get("COUNTS", "")
passed = failed = 0
DEADLINE = 15  # s, for any one program; the longest that is due takes 5, see DRAIN_MS of the server

# System calls by the name that POSIX has for them: what they are called on different machines and in different C
# libraries, and their errors that can come up here, the most likely one first.
NETWORK = "ECONNREFUSED EHOSTUNREACH ENETUNREACH ENETDOWN ENOBUFS ENOMEM"
CALLS = {
    "accept": ("accept accept4", "EMFILE ENFILE ECONNABORTED EINTR EAGAIN ENOBUFS ENOMEM EPERM EPROTO ENETDOWN "
               "ENOPROTOOPT EHOSTDOWN ENONET EHOSTUNREACH EOPNOTSUPP ENETUNREACH ETIMEDOUT"),
    "bind": ("bind", "EADDRINUSE EACCES EADDRNOTAVAIL EROFS ENOENT ENOTDIR ENOMEM"),
    "connect": ("connect", "ECONNREFUSED EAGAIN EINTR ETIMEDOUT EACCES EPERM EADDRINUSE EADDRNOTAVAIL EAFNOSUPPORT "
                "ENETUNREACH EHOSTUNREACH ENOENT EPROTOTYPE"),
    "fcntl": ("fcntl fcntl64", "EPERM EBADF"),
    "fork": ("fork vfork clone clone3", "EAGAIN ENOMEM"),
    "fstat": ("fstat fstat64 newfstatat fstatat64 stat lstat statx", "EACCES EIO ENOENT ENOMEM"),
    "getpeername": ("getpeername", "ENOBUFS ENOTCONN"),
    "getrandom": ("getrandom", "EINTR ENOSYS"),
    "getsockname": ("getsockname", "ENOBUFS"),
    "getsockopt": ("getsockopt", "ENOPROTOOPT ENOBUFS EINVAL"),
    "ioctl": ("ioctl", "ENOTTY EIO"),
    "kill": ("kill", "ESRCH EPERM"),
    "listen": ("listen", "EADDRINUSE EOPNOTSUPP"),
    "lseek": ("lseek _llseek", "ESPIPE"),
    "malloc": ("mmap mmap2", "ENOMEM"),
    "mkdtemp": ("mkdir mkdirat", "EACCES EEXIST ENOSPC EDQUOT ENOENT EROFS EMLINK ENOMEM"),
    "open": ("open openat", "EMFILE ENFILE ENOENT EACCES ENOMEM ENOSPC EINTR EIO"),
    "pipe": ("pipe pipe2", "EMFILE ENFILE"),
    "poll": ("poll ppoll ppoll_time64", "EINTR ENOMEM"),
    "pread": ("pread64", "EIO EINTR"),
    "pwrite": ("pwrite64", "ENOSPC EIO EDQUOT EINTR"),
    "read": ("read", "EINTR EAGAIN EIO ECONNRESET ETIMEDOUT ENOBUFS ENOMEM"),
    "recv": ("recvmsg recvfrom readv", "EINTR EAGAIN ECONNRESET ETIMEDOUT ENOTCONN " + NETWORK),
    "rmdir": ("rmdir unlinkat", "EACCES EBUSY ENOTEMPTY EIO"),
    "send": ("sendmsg sendto", "EINTR EAGAIN EPIPE ECONNRESET EMSGSIZE EPERM EACCES ETOOMANYREFS " + NETWORK),
    "setgid": ("setgid setgid32", "EPERM EAGAIN"),
    "setgroups": ("setgroups setgroups32", "EPERM ENOMEM"),
    "setsid": ("setsid", "EPERM"),
    "setsockopt": ("setsockopt", "ENOPROTOOPT EINVAL ENOMEM ENOBUFS"),
    "setuid": ("setuid setuid32", "EAGAIN EPERM ENOMEM"),
    "socket": ("socket", "EMFILE ENFILE EACCES EAFNOSUPPORT EPROTONOSUPPORT ENOBUFS ENOMEM"),
    "socketpair": ("socketpair", "EMFILE ENFILE EOPNOTSUPP"),
    "unlink": ("unlink unlinkat", "EACCES EBUSY EIO EPERM EROFS"),
    "wait": ("wait4 waitid", "EINTR ECHILD"),
    "write": ("write", "EINTR EAGAIN ENOSPC EPIPE EIO EDQUOT ECONNRESET ENOBUFS ENOMEM"),
    "writev": ("writev", "EINTR EAGAIN EPIPE ECONNRESET EMSGSIZE EPERM " + NETWORK),
}
# strace does not make the call that it has fail. So a close() that fails leaves the descriptor open, and a shutdown()
# leaves the peer waiting, which no kernel does. (close_output() below has the one close() that is looked at.) The
# others cannot fail, or only for a wrong argument, or belong to the C library's start, before main().
LEFT_OUT = """close shutdown arch_prctl brk clock_gettime clock_nanosleep execve exit exit_group futex getpid
    geteuid getuid mprotect munmap prlimit64 readlink readlinkat restart_syscall rseq rt_sigaction rt_sigprocmask
    rt_sigreturn set_robust_list set_tid_address umask uname""".split()
# What the message may name instead of the call: the function of the C library, or what failed in consequence.
ALSO = {
    "connect": "bind send recv", "wait": "waitpid", "open": "tmpfile getaddrinfo getpwnam",
    "malloc": "calloc realloc tmpfile getaddrinfo", "fstat": "bind getaddrinfo getpwnam",
    "lseek": "getaddrinfo getpwnam", "unlink": "bind", "recv": "send", "send": "recv", "writev": "send",
    "socket": "getaddrinfo bind", "fcntl": "connect bind tmpfile", "getsockopt": "setsockopt connect",
    "getrandom": "tmpfile mkdtemp", "mkdtemp": "tmpfile", "poll": "recv send", "read": "getaddrinfo getpwnam",
}
Fault = collections.namedtuple("Fault", "call error when")


def check(name, ok):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    print("ok     " if ok else "FAILED ", name, flush=True)


def environment(folder):
    """Where the client makes its folders; and where the programs that coverage.sh builds write their counts, for each
    case apart, for the fault may hit that, too."""
    return {**os.environ, "TMPDIR": folder + "/tmp", "GCOV_PREFIX": f"{counts}/{os.path.basename(folder)}",
            "GCOV_PREFIX_STRIP": "99"}


def strace(fault):
    """The command line that comes before the program's. Without a fault, it only takes notes."""
    command = ["strace", "-D", "-I2", "-f", "-qq", "-o", "trace"]
    if fault:
        names = ",".join("?" + name for name in CALLS[fault.call][0].split())
        command += ["-e", "trace=" + names, "-e", f"inject={names}:error={fault.error}:when={fault.when}"]
    return command


def until(condition, seconds=5):
    end = time.time() + seconds
    while not condition():
        if time.time() > end:
            return False
        time.sleep(0.01)
    return True


def read(path):
    with open(path, "rb") as file:
        return file.read().decode(errors="replace")


def tracer(pid):
    return int(re.search(r"TracerPid:\s*(\d+)", read(f"/proc/{pid}/status")).group(1))


def attach(server, fault):
    """Has strace trace a server that runs already. Its children to come count their calls from 1."""
    subprocess.Popen(["strace", "-p", str(server.pid), *strace(fault)[2:]], cwd=server.folder,
                     stderr=subprocess.DEVNULL)
    until(lambda: tracer(server.pid))
    time.sleep(0.02)


def detach(pid):
    """Ends the strace that traces a process. From here on nothing fails any more."""
    if tracer(pid):
        os.kill(tracer(pid), signal.SIGTERM)
        until(lambda: tracer(pid) == 0)


def at_work_in(folder):
    """The processes whose working directory that is: all that a case has started, for it has a folder to itself."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{pid}/cwd").startswith(folder):
                found.append((int(pid), read(f"/proc/{pid}/comm").strip()))
        except OSError:
            pass
    return found


def complaint(program, text, fault, lines=1):
    """What is wrong with the message of a program that failed: "PROGRAM: ENDPOINT: CALL: REASON", if it has one."""
    whole = [line for line in text.splitlines() if re.fullmatch(program + r"(: .+)+", line)]
    if not 1 <= len(whole) <= lines or text.count("\n") != len(whole):
        return [f"status 1 and says: {text!r}"]
    if fault:
        names = [fault.call, *ALSO.get(fault.call, "").split()]
        if not any(f": {name}: " in text for name in names):
            return [f"names another call: {text!r}"]
        if fault.error in ("EADDRNOTAVAIL", "ETIMEDOUT"):  # which are told in other words
            return []
        if f": {fault.call}: " in text and os.strerror(getattr(errno, fault.error)) not in text:
            return [f"gives another reason: {text!r}"]
    return []


class Server:
    def __init__(self, folder, *args, fault=None, traced=False, stdin=None, wrapper=()):
        self.folder = folder
        command = [*wrapper, *(strace(fault) if traced else []), home + "/server", *args]
        with open(folder + "/log", "w") as log:
            self.process = subprocess.Popen(command, cwd=folder, env=environment(folder), stdin=stdin, stderr=log)
        self.pid = self.process.pid
        wanted = sum(not arg.startswith("-") and not arg.isdigit() for arg in args) + bool(wrapper)
        until(lambda: len(self.endpoints()) == wanted or self.process.poll() is not None, 1 if fault else DEADLINE)

    def log(self):
        return read(self.folder + "/log")

    def endpoints(self):
        return re.findall(r"listening on (.*)\n", self.log())

    def children(self):
        return read(f"/proc/{self.pid}/task/{self.pid}/children").split()

    def descriptors(self):
        """Its own: an idle child, and only that, comes with one for the channel."""
        return len(os.listdir(f"/proc/{self.pid}/fd")) - len(self.children())

    def ticks(self):
        return sum(map(int, read(f"/proc/{self.pid}/stat").split()[13:17]))

    def stop(self, wait=DEADLINE):
        """Returns what goes wrong."""
        self.process.terminate()
        try:
            status = self.process.wait(wait)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return ["SIGTERM does not end it"]
        return [f"ends with status {status}: {self.log()!r}"] * (status != 0)


def data_for(endpoint):
    stream = endpoint.split(":")[0] in ("tcp", "tcp4", "unix")
    return bytes(range(1, 256)) * 400 if stream else b"".join(b"%d" % i * 500 + b"\n" for i in range(3))


def client(folder, endpoint, *options, fault=None, traced=False, may_fail=True, data=None, faulty_server=False):
    """Runs it, and returns what is wrong with how it ends."""
    load = "-n" in options
    data = b"" if load else data or data_for(endpoint)
    process = subprocess.Popen([*(strace(fault) if traced else []), home + "/client", *options, endpoint], cwd=folder,
                               env=environment(folder), stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        out, error = process.communicate(data, DEADLINE)
    except subprocess.TimeoutExpired:
        process.kill()
        for pid, name in at_work_in(folder):
            if name == "strace":
                os.kill(pid, signal.SIGKILL)
        process.communicate()
        return [f"client {endpoint} hangs"]
    error, status = error.decode(errors="replace"), process.returncode
    # A server that fails resets the connection; AF_UNIX has no reset, and a read that gave EAGAIN took its time.
    may_be_short = faulty_server and (endpoint.startswith("unix") or fault and fault.error == "EAGAIN")
    wrong = []
    if load:
        if status == 0 and not re.search(rb"\nall +\d", out):
            wrong.append(f"no results: {out!r}")
    elif not data.startswith(out):
        wrong.append("a wrong byte")
    elif status == 0 and out != data and not may_be_short:
        wrong.append(f"status 0 after {len(out)} of {len(data)} bytes")
    if status not in (0, 1) or status == 1 and not may_fail:
        wrong.append(f"status {status}: {error!r}")
    elif status == 1:
        wrong += complaint("client", error, None if faulty_server else fault, lines=2 if load else 1)
    elif error:
        wrong.append(f"status 0, but says: {error!r}")
    return [f"client {endpoint}: {w}" for w in wrong]


def serves(server):
    """What is wrong now that there are no faults any more: nothing may be."""
    wrong, folder = [], server.folder
    for endpoint in server.endpoints():
        wrong += client(folder, endpoint, may_fail=False)
    paths = [e.split(":", 1)[1] for e in server.endpoints() if e.startswith("unix:")]
    if paths:  # as many connections at a time as there may be children
        held = []
        for _ in range(4):
            held.append(socket.socket(socket.AF_UNIX))
            held[-1].settimeout(5)
            held[-1].connect(f"{folder}/{paths[0]}")
            held[-1].send(b"x")
        try:
            if any(s.recv(9) != b"x" for s in held):
                wrong.append("a wrong byte")
        except OSError:
            wrong.append("does not serve -m 4 connections at a time any more")
        for s in held:
            s.close()
    return wrong


MANY = ["tcp4:0", "udp4:0", "unix", "unixpacket", "unixgram"]


# ---- Scenarios: each returns what goes wrong, given a folder and a fault or None.


def serve(folder, fault, keep="4"):
    server = Server(folder, "-v", "-m", "4", "-k", keep, *MANY)
    before = server.descriptors()
    attach(server, fault)
    wrong = []
    for endpoint in server.endpoints() * 2:
        wrong += client(folder, endpoint, "-w", "1", faulty_server=True, fault=fault,
                        may_fail=bool(fault) and fault.error != "EINTR")
    detach(server.pid)
    os.kill(server.pid, signal.SIGCHLD)  # the handler's write() may have been the one to fail, as a pipe's does not
    wrong += serves(server)
    if not until(lambda: server.descriptors() == before and (keep != "0" or not server.children())):
        wrong.append(f"has {server.descriptors()} descriptors, had {before}, and children {server.children()}")
    ticks = server.ticks()
    time.sleep(0.2)
    if server.ticks() - ticks > 5 or ticks > 200:
        wrong.append("spins")
    return wrong + server.stop()


def serve_fork(folder, fault):
    return serve(folder, fault, "0")


def start(folder, fault, args=("tcp:localhost:0", "tcp6:0", "udp4:*:0", "unix:stale", *MANY), **more):
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(folder + "/stale")
    stale.close()
    os.chmod(folder + "/stale", 0o777)
    server = Server(folder, *args, fault=fault, traced=True, **more)
    if server.process.poll() is not None:
        if os.path.exists(folder + "/stale"):  # was there before
            os.unlink(folder + "/stale")
        if server.process.returncode != 1:
            return [f"status {server.process.returncode}: {server.log()!r}"]
        return complaint("server", server.log(), fault)
    detach(server.pid)
    wrong = serves(server) + server.stop()
    if os.path.exists(folder + "/stale") and "unix:stale" not in args:
        os.unlink(folder + "/stale")
    return wrong


def start_as_user(folder, fault):
    os.chown(folder, *pwd.getpwnam("nobody")[2:4])
    return start(folder, fault, ("-unobody", "tcp4:0", "unix"))


def start_with_sockets(folder, fault):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        handing = ["sh", "-c", 'LISTEN_FDS=1 LISTEN_PID=$$ exec "$@" 3<&0 0</dev/null', "sh"]
        return start(folder, fault, (), stdin=listener, wrapper=handing)


def stop(folder, fault):
    server = Server(folder, "-m", "4", *MANY)
    wrong = client(folder, "unix:unix.sock", may_fail=False)
    busy = socket.socket(socket.AF_UNIX)
    busy.connect(folder + "/unix.sock")
    busy.send(b"x")
    busy.recv(1)
    attach(server, fault)
    threading.Timer(0.3, busy.close).start()
    return wrong + server.stop()


def standard_input(folder, fault):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(folder + "/unix.sock")
    listener.listen()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        result = pool.submit(client, folder, "unix", faulty_server=True, may_fail=bool(fault))
        connection = listener.accept()[0]
        listener.close()
        server = Server(folder, "-i", fault=fault, traced=True, stdin=connection)
        connection.close()
        wrong = result.result()
    try:
        status = server.process.wait(DEADLINE)
    except subprocess.TimeoutExpired:
        return wrong + ["hangs"]
    os.unlink(folder + "/unix.sock")
    if status == 1:
        return wrong + complaint("server", server.log(), fault)
    return wrong + [f"status {status}: {server.log()!r}"] * (status != 0)


def client_of(network, *options):
    def run(folder, fault):
        endpoint = next(e for e in shared.endpoints() if e.split(":")[0] == network)
        if network.startswith("unix"):
            endpoint = network + ":../shared/" + network + ".sock"
        return client(folder, endpoint, *options, fault=fault, traced=True, may_fail=bool(fault))
    return run


SCENARIOS = {
    ("server", "start"): start, ("server", "serve"): serve, ("server", "serve -k 0"): serve_fork,
    ("server", "start -u"): start_as_user,
    ("server", "start LISTEN_FDS"): start_with_sockets, ("server", "stop"): stop, ("server", "-i"): standard_input,
    **{("client", n): client_of(n) for n in ("tcp4", "unix", "unixpacket", "udp4", "unixgram")},
    **{("client", "-n " + n): client_of(n, *"-n 20 -c 2 -r 3".split()) for n in ("tcp4", "unix", "unixgram")},
}


def run(scenario, fault):
    """Runs a scenario in a folder of its own. Returns what went wrong, and the notes of strace."""
    folder = tempfile.mkdtemp(dir=home)
    os.mkdir(folder + "/tmp")
    if counts:
        os.mkdir(environment(folder)["GCOV_PREFIX"])
        os.chmod(environment(folder)["GCOV_PREFIX"], 0o777)
    try:
        wrong = SCENARIOS[scenario](folder, fault)
    except Exception as e:
        wrong = [f"{type(e).__name__}: {e}"]
    if not until(lambda: not at_work_in(folder), 2):
        wrong.append(f"leaves processes: {at_work_in(folder)}")
    for pid, _ in at_work_in(folder):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    left = [f for f in os.listdir(folder) if f not in ("log", "trace", "tmp")] + os.listdir(folder + "/tmp")
    if left and not (fault and fault.call in ("unlink", "rmdir", "fstat")):
        wrong.append(f"leaves files: {left}")
    try:
        trace = read(folder + "/trace")
    except OSError:
        trace = ""
    shutil.rmtree(folder, ignore_errors=True)
    return wrong, trace


def cases(scenario, trace):
    """The faults that make sense, given the calls that the scenario makes: at each, up to so many of one process."""
    counts = collections.Counter(re.findall(r"^(\d+) +(\w+)\(", trace, re.M))
    unknown = {name for _, name in counts} - {n for names, _ in CALLS.values() for n in names.split()} - {*LEFT_OUT}
    check(f"{scenario[0]} {scenario[1]}: all its system calls are known " + " ".join(unknown), not unknown)
    for call, (names, errors) in CALLS.items():
        if call == "read" and ("-n" in scenario[1] or "unixgram" in scenario[1]):
            errors = "EINTR"  # there it is also the remover's call, of a pipe
        most = max([n for (_, name), n in counts.items() if name in names.split()], default=0)
        single = list(range(1, min(most, 40 if everything else 6) + 1))
        for error in errors.split():
            first = error == errors.split()[0]
            whens = single if everything or first else single[:2] + single[3:4]
            if most > 1 and (everything or first):
                whens = whens + ["2+3", "5+7"]
            for when in whens:
                yield Fault(call, error, when)


def close_output():
    """The one close() that is looked at: some file systems tell only then that the disk is full."""
    for error in "EIO", "ENOSPC", "EDQUOT":
        path = home + "/output"
        with open(path, "w") as out:
            got = subprocess.run(["strace", "-f", "-o", "trace", "-P", path, "-e", "trace=close", "-e",
                                  f"inject=close:error={error}", home + "/client", "unix:shared/unix.sock"], cwd=home,
                                 input=b"x", stdout=out, stderr=subprocess.PIPE, timeout=DEADLINE)
        check(f"client: close of the output: {error}", got.returncode == 1 and got.stderr.decode() ==
              f"client: standard output: close: {os.strerror(getattr(errno, error))}\n")


def short():
    """A few bytes at a time, see short.c."""
    cc("short/short.so", ".ci/short.c", "-shared", "-fPIC")
    for name in "server", "client":
        cc("short/" + name, name + ".c")
    preload = {**os.environ, "LD_PRELOAD": home + "/short/short.so"}
    test = """import socket
a, l = socket.socket(), socket.create_server(("127.0.0.1", 0)); a.connect(l.getsockname())
print(a.send(b"x" * 100) < 10)"""
    got = subprocess.run([sys.executable, "-c", test], env=preload, capture_output=True, text=True, timeout=DEADLINE)
    check("short: it is", "True" in got.stdout)
    with open(home + "/short/log", "w") as log:
        server = subprocess.Popen(["./server", "tcp4:0", "unix"], cwd=home + "/short", env=preload, stderr=log)
    until(lambda: read(home + "/short/log").count("listening") == 2)
    data = os.urandom(300000)
    for endpoint in re.findall("listening on (.*)", read(home + "/short/log")):
        got = subprocess.run(["./client", endpoint], cwd=home + "/short", env=preload, input=data, capture_output=True,
                             timeout=60)
        check(f"short: {endpoint}: 300 KB", got.returncode == 0 and got.stdout == data and not got.stderr)
        got = subprocess.run(["./client", *"-n 50 -c 2 -r 3 -s 1000".split(), endpoint], cwd=home + "/short",
                             env=preload, capture_output=True, timeout=60)
        check(f"short: {endpoint}: -n 50 -c 2 -r 3 -s 1000", got.returncode == 0 and not got.stderr)
    server.terminate()
    check("short: the server ends with status 0", server.wait(DEADLINE) == 0)


def cc(target, source, *options):
    subprocess.run(["cc", "-O1", "-w", *options, "-o", f"{home}/{target}", f"{root}/{source}"], check=True,
                   stderr=subprocess.DEVNULL)


os.environ["LC_ALL"] = "C"
os.chmod(home, 0o711)  # for -u
try:
    for name in "server", "client":
        if "PROGRAMS" in os.environ:  # a folder that has them: coverage.sh builds its own
            shutil.copy(os.path.join(os.environ["PROGRAMS"], name), home)
        else:
            cc(name, name + ".c", "-static")  # or the first calls would be the loader's
    os.mkdir(home + "/short")
    os.mkdir(home + "/shared")
    shared = Server(home + "/shared", *MANY)
    before = shared.descriptors()
    close_output()
    short()
    if os.geteuid() != 0:
        print("SKIP    server start -u: needs root")
        del SCENARIOS["server", "start -u"]
    SCENARIOS = {key: run_it for key, run_it in SCENARIOS.items() if not only or key[1] in only}
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        todo = []
        for scenario, (wrong, trace) in zip(SCENARIOS, pool.map(lambda s: run(s, None), SCENARIOS)):
            check(f"{scenario[0]} {scenario[1]}: without faults {wrong or ''}", not wrong)
            todo += [(scenario, fault) for fault in cases(scenario, trace)]
        fired, good = collections.Counter(), collections.Counter()
        for (scenario, fault), (wrong, trace) in zip(todo, pool.map(lambda case: run(*case), todo)):
            fired[scenario] += "INJECTED" in trace
            good[scenario] += not wrong
            if wrong:
                check(f"{scenario[0]} {scenario[1]}: {fault.call}: {fault.error} when={fault.when}: {'; '.join(wrong)}",
                      False)
        for scenario in SCENARIOS:
            print(f"{scenario[0]} {scenario[1]}: {good[scenario]} right, {fired[scenario]} with a fault")
            passed += good[scenario]
    check("the clients' server: its descriptors", until(lambda: shared.descriptors() == before))
    wrong = shared.stop()
    check(f"the clients' server: ends {wrong or ''}", not wrong)
finally:
    for pid, _ in at_work_in(home):
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(home, ignore_errors=True)

print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
