/*
 * server.c - an echo server: sends back whatever a client sends (RFC 862).
 *
 * usage: server [-hiv] [-k IDLE] [-m CONNECTIONS] [-t SECONDS] [ENDPOINT...]
 *
 * Exit status: 0 stopped by a signal (with -i: served the client), 1 failed at
 * run time, 2 wrong usage. The calls, in the order they are made:
 *
 *   parent                 socket, bind, listen; fork; wait for a signal
 *   child, connections     accept; read, write until end of file; close
 *   child, datagrams       recvmsg, sendmsg: there is no connection
 *
 * Each process waits for one thing only, so every call may block. The parent
 * never accepts: it keeps a child waiting on each socket, by forking one where
 * none waits. A slow client delays its own child, and nothing else.
 */
#define __APPLE_USE_RFC_3542 /* macOS: declare IPV6_RECVPKTINFO */
#include "common.h"

#include <netinet/tcp.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/wait.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

#define BUFFER_SIZE   (256 * 1024)
#define RETRY_MS      100   /* when out of descriptors, memory or processes */
#define BACKLOG       65535 /* the system cuts it to its own limit */
#define LISTENERS_MAX 256
#ifndef TCP_USER_TIMEOUT
#define TCP_USER_TIMEOUT 0 /* Linux has it; set_option() does without */
#endif

struct child {
    pid_t pid; /* 0: the slot is free */
    atomic_bool waiting;
};

struct listener { /* a socket that listens, or that takes datagrams */
    int fd;
    in_port_t port; /* in network byte order; 0 for AF_UNIX */
    const struct network *network;
    char name[ADDRESS_SIZE]; /* its endpoint */
    const char *path;        /* its socket file, if bind() made one here */
    struct stat file;        /* lstat() result for its socket file */
    struct child *children;  /* max_connections slots */
};

static int max_idle = 32, max_connections = 512, idle_timeout = 300;
static bool inetd, verbose;
static struct listener listeners[LISTENERS_MAX];
static struct child *children; /* of all listeners, in shared memory */
static int nlisteners, nslots;
static pid_t parent_pid;
static const struct timespec tick = {.tv_nsec = RETRY_MS * 1000000L};
static sigset_t no_signals;                 /* none is blocked while we wait */
static volatile sig_atomic_t stopping;      /* set by on_signal() */
static volatile sig_atomic_t child_fd = -1; /* the socket a child waits on */

/* Opening the sockets: socket, setsockopt, bind, listen */
static void open_endpoint(const char *text);
static bool open_listener(struct endpoint *e, struct addrinfo *a, int first);
static void set_option(struct listener *l, int level, int name, int value);
static void finish_listener(struct listener *l);
/* The parent: a child waiting on each socket, until a graceful shutdown */
static void supervise(void);
static int reap_children(void);
static int count_waiting(const struct child *first, int n);
static void report(const struct listener *l, const char *call);
static void catch_signals(void);
static void on_signal(int number);
static void drain(void);
static void close_listeners(void);
/* A child: accept and echo */
static _Noreturn void run_child(const struct listener *l, struct child *self);
static void accept_clients(const struct listener *l, struct child *self);
static void serve_client(int fd, const struct listener *l, const char *peer);
static int echo_stream(int fd, bool packets, size_t *echoed);
static int write_all(int fd, const char *data, size_t size, size_t *written);
/* Datagrams */
static void echo_datagrams(const struct listener *l);
static bool may_reply(struct sockaddr *peer);
static void send_reply(struct msghdr *m);
/* Rare: stale socket files, and sockets that others have opened */
static void unlink_stale_socket(const struct addrinfo *a);
static void adopt_listeners(void);
static struct listener *adopt_socket(int fd);
static int serve_stdin(void);
/* The command line */
static void parse_options(int argc, char **argv);

int main(int argc, char **argv)
{
    static char *usual[] = {"tcp", "udp", "unix", NULL};

    prepare_process();
    parse_options(argc, argv);
    if (inetd)
        return serve_stdin();
    catch_signals();
    atexit(close_listeners);
    umask(S_IRWXG | S_IRWXO); /* a socket file is for its owner alone */
    adopt_listeners();
    argv += optind;
    if (*argv == NULL && nlisteners == 0)
        argv = usual;
    while (*argv != NULL)
        open_endpoint(*argv++);
    supervise();
    drain();
    return 0;
}

/* ---- Opening the sockets: socket, setsockopt, bind, listen -------------- */

/* Opens a listener on each address of an endpoint. */
static void open_endpoint(const char *text)
{
    const int first = nlisteners;
    struct addrinfo *list, *a;
    struct endpoint e;
    const char *problem = parse_endpoint(&e, text);

    if (problem == NULL && is_icmp(e.network))
        problem = "only a kernel can be its server";
    if (problem != NULL)
        usage_error("%s: %s", text, problem);
    problem = resolve_endpoint(&e, &list);
    if (problem != NULL)
        errx(1, "%s: getaddrinfo: %s", text, problem);
    for (a = list; a != NULL && open_listener(&e, a, first);)
        a = a->ai_next;
    if (e.network->domain != AF_UNIX)
        freeaddrinfo(list);
    if (a != NULL) { /* once more, with another port */
        while (nlisteners > first)
            close(listeners[--nlisteners].fd);
        open_endpoint(text);
    }
    if (nlisteners == first)
        errx(1, "%s: not an address of this host", text);
}

/* Opens one listener. Skips duplicates, and addresses that this host lacks.
 * With port 0, all listeners of an endpoint, from `first` on, get the port
 * that the system chose for the first. Returns false if it is taken. */
static bool open_listener(struct endpoint *e, struct addrinfo *a, int first)
{
    struct sockaddr_in *in = (struct sockaddr_in *)a->ai_addr; /* or in6 */
    const char *path = a->ai_family == AF_UNIX ? e->port : NULL;
    const bool chosen = !path && in->sin_port == 0 && nlisteners > first;
    struct listener *l = &listeners[nlisteners];

    if (nlisteners == LISTENERS_MAX)
        errx(1, "%s: more than %d sockets", e->text, LISTENERS_MAX);
    if (chosen)
        in->sin_port = listeners[first].port;
    *l = (struct listener){.network = e->network, .path = path};
    format_address(l->name, l->network, a->ai_addr, a->ai_addrlen);
    for (int i = first; i < nlisteners; i++)
        if (strcmp(listeners[i].name, l->name) == 0)
            return true;
    l->fd = socket(a->ai_family, l->network->type, l->network->protocol);
    if (l->fd == -1 && errno == EAFNOSUPPORT)
        return true;
    if (l->fd == -1)
        err(1, "%s: socket", l->name);
    /* Without this an IPv6 socket takes IPv4, too, on some systems, and the
     * socket for IPv4 finds its port in use. */
    if (a->ai_family == AF_INET6)
        set_option(l, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    /* Without this the port is in use while the last server's connections are
     * in TIME_WAIT, a minute. (With UDP it would let two servers share it.) */
    if (l->network->type == SOCK_STREAM)
        set_option(l, SOL_SOCKET, SO_REUSEADDR, 1);
    for (int tries = 0; bind(l->fd, a->ai_addr, a->ai_addrlen) == -1; tries++) {
        const bool absent = errno == EADDRNOTAVAIL;

        if (absent || (chosen && errno == EADDRINUSE)) {
            close(l->fd);
            return absent;
        }
        /* A killed server leaves its file, and for a moment its children. */
        if (errno != EADDRINUSE || tries == 20)
            err(1, "%s: bind", l->name);
        if (path != NULL)
            unlink_stale_socket(a);
        (void)poll(NULL, 0, 25);
    }
    nlisteners++;
    finish_listener(l);
    if (l->network->type != SOCK_DGRAM && listen(l->fd, BACKLOG) == -1)
        err(1, "%s: listen", l->name);
    return true;
}

/* Sets an option, if the system and the protocol (MPTCP) have it. */
static void set_option(struct listener *l, int level, int name, int value)
{
    if (setsockopt(l->fd, level, name, &value, sizeof value) == -1 &&
        errno != ENOPROTOOPT && errno != EOPNOTSUPP && errno != ENOBUFS)
        err(1, "%s: setsockopt", l->name);
}

/* Completes a bound socket. Connections inherit its options for TCP. */
static void finish_listener(struct listener *l)
{
    const struct linger reset = {.l_onoff = true};
    struct sockaddr_storage storage = {0}; /* so that a path ends in NUL */
    struct sockaddr *bound = (struct sockaddr *)&storage;
    socklen_t len = sizeof storage;

    if (getsockname(l->fd, bound, &len) == -1)
        err(1, "%s: getsockname", l->name);
    format_address(l->name, l->network, bound, len);
    if (bound->sa_family != AF_UNIX)
        l->port = ((struct sockaddr_in *)bound)->sin_port; /* IPv6's, too */
    else
        (void)lstat(((struct sockaddr_un *)bound)->sun_path, &l->file);
    if (l->network->type == SOCK_DGRAM) {
        /* A message is sent whole or not at all: make room for the largest. */
        set_option(l, SOL_SOCKET, SO_SNDBUF, BUFFER_SIZE);
        /* A client ignores replies from any address but the one it sent to, so
         * recvmsg() must report that one. */
#ifdef IP_PKTINFO
        set_option(l, IPPROTO_IP, IP_PKTINFO, 1);
#endif
        set_option(l, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
    } else if (l->port != 0) {
        /* Nagle's algorithm holds a short segment back until the client has
         * acknowledged the one before, and a delayed ACK takes 40 ms. */
        set_option(l, IPPROTO_TCP, TCP_NODELAY, 1);
        /* Breaks a connection whose client takes nothing for that long, after
         * close(), too: the kernel goes on trying to deliver what is left. */
        set_option(l, IPPROTO_TCP, TCP_USER_TIMEOUT, idle_timeout * 1000);
        set_option(l, SOL_SOCKET, SO_KEEPALIVE, 1); /* is its host still on? */
        set_option(l, SOL_SOCKET, SO_OOBINLINE, 1); /* echo urgent bytes, too */
        /* With this, close() sends a reset, even if the child is killed: the
         * client learns that the echo is incomplete. */
        (void)setsockopt(l->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    }
}

/* ---- The parent: a child waiting on each socket ------------------------- */

/* Announces the sockets; then forks a child for each on which none waits, until
 * a signal says to stop. So a client does not wait for fork(), the most
 * expensive call of a short connection. */
static void supervise(void)
{
    nslots = nlisteners * max_connections;
    children = mmap(NULL, (size_t)nslots * sizeof *children,
                    PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (children == MAP_FAILED)
        err(1, "mmap");
    for (int i = 0; i < nlisteners; i++) {
        listeners[i].children = children + (long)i * max_connections;
        warnx("listening on %s", listeners[i].name);
    }
    while (!stopping) {
        const struct timespec *timeout = NULL;

        reap_children();
        for (struct listener *l = listeners; l < listeners + nlisteners; l++) {
            struct child *slot = l->children, *end = slot + max_connections;
            pid_t pid;

            while (slot < end && slot->pid != 0)
                slot++;
            if (slot == end || count_waiting(l->children, max_connections) > 0)
                continue;
            slot->waiting = true;
            if ((pid = fork()) == 0) /* the child must not set slot->pid */
                run_child(l, slot);
            if (pid == -1) { /* clients wait in the backlog */
                report(l, "fork");
                slot->waiting = false;
                timeout = &tick;
            }
            slot->pid = pid == -1 ? 0 : pid;
        }
        pselect(0, NULL, NULL, NULL, timeout, &no_signals);
    }
}

/* Notes which children have ended, and returns how many are left. It checks
 * each: SIGCHLDs merge, and one may be for a child from before exec(). A
 * stopped child does not count as waiting. */
static int reap_children(void)
{
    int status, left = 0;

    for (struct child *c = children; c < children + nslots; c++) {
        if (c->pid != 0 && waitpid(c->pid, &status, WNOHANG | WUNTRACED) > 0) {
            c->waiting = false;
            if (WIFSIGNALED(status))
                warnx("child %ld: killed by signal %d", (long)c->pid,
                      WTERMSIG(status));
            if (!WIFSTOPPED(status))
                c->pid = 0;
        }
        left += c->pid != 0;
    }
    return left;
}

static int count_waiting(const struct child *first, int n)
{
    int waiting = 0;

    for (const struct child *c = first; c < first + n; c++)
        waiting += c->waiting;
    return waiting;
}

/* Reports a transient error, once in each process. */
static void report(const struct listener *l, const char *call)
{
    static bool reported;

    if (!reported)
        warnx("%s: %s: %s; trying again", l->name, call, strerror(errno));
    reported = true;
}

/* The parent's signals are blocked except while it waits in pselect(): none can
 * come between checking a flag and waiting. One that was ignored from the
 * start, SIGHUP by nohup or SIGINT by a shell's "&", stays ignored. */
static void catch_signals(void)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    sigset_t all;

    parent_pid = getpid();
    sigemptyset(&no_signals);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    signal(SIGCHLD, on_signal);
    for (int i = 0; i < 3; i++)
        if (signal(numbers[i], on_signal) == SIG_IGN)
            signal(numbers[i], SIG_IGN);
}

/* SIGCHLD only wakes the parent. The others stop it by a flag; and a child by
 * closing the socket that it waits on: whatever it was about to do, its next
 * accept() or recvmsg() fails with EBADF. A flag could be checked too early.
 * The child opens nothing in between that could reuse the descriptor. */
static void on_signal(int number)
{
    const int saved = errno; /* the interrupted code may be about to look */

    if (number == SIGALRM && getppid() == parent_pid) {
        alarm(60); /* seconds */
    } else if (number != SIGCHLD) {
        stopping = 1;
        close(child_fd);
        child_fd = -1; /* which it always is in the parent */
    }
    errno = saved;
}

/* Stops listening in all processes, and lets the children finish with their
 * clients; but not forever, nor past a second signal. */
static void drain(void)
{
    const long long start = now_ms();
    int busy = reap_children() - count_waiting(children, nslots);

    close_listeners();
    for (struct child *c = children; c < children + nslots; c++)
        if (c->pid != 0)
            kill(c->pid, SIGTERM);
    if (busy > 0)
        warnx("waiting up to 5 s for %d connection%s; signal again to exit now",
              busy, busy == 1 ? "" : "s");
    while (reap_children() > 0 && now_ms() < start + 5000) {
        /* timeout(1) signals twice within a moment, and means one. */
        if (stopping && now_ms() > start + 100)
            break;
        stopping = 0;
        pselect(0, NULL, NULL, NULL, &tick, &no_signals);
    }
    busy = reap_children() - count_waiting(children, nslots);
    if (busy > 0)
        warnx("cutting off %d connection%s", busy, busy == 1 ? "" : "s");
    for (struct child *c = children; c < children + nslots; c++)
        if (c->pid != 0 && kill(c->pid, SIGKILL) == 0)
            (void)waitpid(c->pid, NULL, 0);
}

/* atexit() handler. A socket file is removed if it is still the one made. */
static void close_listeners(void)
{
    struct stat file;

    while (nlisteners > 0) {
        const struct listener *l = &listeners[--nlisteners];

        if (l->path != NULL && lstat(l->path, &file) == 0 &&
            file.st_dev == l->file.st_dev && file.st_ino == l->file.st_ino)
            unlink(l->path);
        close(l->fd);
    }
}

/* ---- A child: accept and echo ------------------------------------------- */

/* Becomes a child of one listener. Signals are blocked until it is one. */
static _Noreturn void run_child(const struct listener *l, struct child *self)
{
    /* With its siblings' sockets it would keep their ports in use for as long
     * as its own client stays. */
    for (int i = 0; i < nlisteners; i++)
        if (&listeners[i] != l)
            close(listeners[i].fd);
    child_fd = l->fd;
    signal(SIGTERM, on_signal); /* the parent sends it: not ignored */
#ifdef PR_SET_PDEATHSIG
    prctl(PR_SET_PDEATHSIG, SIGTERM); /* when the parent is gone */
#else
    signal(SIGALRM, on_signal);
    alarm(60);
#endif
    if (getppid() != parent_pid)
        _exit(0); /* it was gone before that */
    sigprocmask(SIG_SETMASK, &no_signals, NULL);
    if (l->network->type == SOCK_DGRAM)
        echo_datagrams(l);
    else
        accept_clients(l, self);
    _exit(0); /* exit() would remove the parent's socket files */
}

/* Accepts clients in turn, until enough other children are waiting. The kernel
 * wakes one waiting child for each client. The last one to turn busy wakes the
 * parent: each marks itself busy before it counts, so if two accept at once,
 * at least one of them finds no child waiting. */
static void accept_clients(const struct listener *l, struct child *self)
{
    do {
        struct sockaddr_storage peer;
        socklen_t len = sizeof peer;
        char name[ADDRESS_SIZE] = "";
        int conn_fd = accept(child_fd, (struct sockaddr *)&peer, &len);

        if (conn_fd != -1) {
            self->waiting = false;
            if (count_waiting(l->children, max_connections) == 0)
                kill(getppid(), SIGCHLD); /* safe if orphaned */
            if (verbose)
                format_address(name, l->network, (struct sockaddr *)&peer, len);
            serve_client(conn_fd, l, name);
            self->waiting = true;
        } else if (errno == EBADF) {
            return;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            report(l, "accept"); /* out of descriptors or memory, say */
            (void)poll(NULL, 0, RETRY_MS);
        }
    } while (count_waiting(l->children, max_connections) <= max_idle);
}

/* Serves one client to the end. Its errors affect no other client. */
static void serve_client(int fd, const struct listener *l, const char *peer)
{
    const struct timeval limit = {.tv_sec = idle_timeout};
    const struct linger orderly = {.l_onoff = false};
    const struct network *n = l->network;
    int size = BUFFER_SIZE, error = 0;
    size_t echoed = 0;
    char why[64];

    if (verbose)
        warnx("accepted %s on %s, child %ld", peer, l->name, (long)getpid());
    if (n->type == SOCK_SEQPACKET)
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    /* The idle timeout. TCP_USER_TIMEOUT is better for writes: Linux wakes no
     * blocked write() before a third of its buffer is free, however steadily
     * the client reads. */
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == -1 ||
        ((n->protocol != IPPROTO_TCP || TCP_USER_TIMEOUT == 0) &&
         setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == -1) ||
        echo_stream(fd, n->type == SOCK_SEQPACKET, &echoed) == -1)
        error = errno;
    /* Everything was echoed: an orderly close. If not, a reset shows the
     * client that the echo is incomplete. AF_UNIX has no reset. */
    if (error == 0 || error == EAGAIN)
        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &orderly, sizeof orderly);
    close(fd);
    if (!verbose)
        return;
    snprintf(why, sizeof why, "%s", error ? strerror(error) : "end of file");
    if (error == ECONNRESET || error == EPIPE)
        strcpy(why, "reset by the client");
    else if (error == EAGAIN)
        snprintf(why, sizeof why, "idle for %d s", idle_timeout);
    else if (error == ETIMEDOUT)
        snprintf(why, sizeof why, "client not reading for %d s", idle_timeout);
    warnx("closed %s on %s after %zu bytes: %s", peer, l->name, echoed, why);
}

/* Echoes what comes on a connected, blocking socket until end of file, which
 * the peer sends when it shuts down its sending half (RFC 862). *echoed grows
 * by the bytes echoed. With `packets` (SOCK_SEQPACKET) read() and write() take
 * a message each. Returns 0, or -1 with errno set: ECONNRESET or EPIPE if the
 * peer is gone (ignore SIGPIPE), EAGAIN after SO_RCVTIMEO, ETIMEDOUT after
 * SO_SNDTIMEO, EMSGSIZE for a message that the buffer may have cut off. */
static int echo_stream(int fd, bool packets, size_t *echoed)
{
    static char buffer[BUFFER_SIZE];
    ssize_t n;

    while ((n = read(fd, buffer, sizeof buffer)) != 0) {
        if (n == -1 && errno == EINTR)
            continue;
        if (packets && n == sizeof buffer) {
            errno = EMSGSIZE;
            return -1;
        }
        if (n == -1 || write_all(fd, buffer, (size_t)n, echoed) == -1)
            return -1;
    }
    return 0;
}

/* Writes `size` bytes to a blocking descriptor; *written grows by what was
 * written, also if it fails. Returns 0, or -1 with errno set (ETIMEDOUT for
 * EAGAIN). A socket may take less than it is offered, when its buffer fills up:
 * without the loop the rest is lost, and only under load. */
static int write_all(int fd, const char *data, size_t size, size_t *written)
{
    while (size > 0) {
        ssize_t n = write(fd, data, size);

        if (n >= 0) {
            data += n;
            size -= (size_t)n;
            *written += (size_t)n;
        } else if (errno != EINTR) {
            errno = errno == EAGAIN ? ETIMEDOUT : errno;
            return -1;
        }
    }
    return 0;
}

/* ---- Datagrams ---------------------------------------------------------- */

/* Echoes one datagram after the other until the socket is closed. A struct
 * msghdr holds the peer's address, a list of buffers (here one), and control
 * messages about the datagram: here, the address that it was sent to. */
static void echo_datagrams(const struct listener *l)
{
    static char buffer[BUFFER_SIZE], name[ADDRESS_SIZE];
    _Alignas(struct cmsghdr) char control[256];
    bool reported = false;

    for (;;) {
        struct sockaddr_storage peer = {0}; /* so that a path ends in NUL */
        struct iovec part = {buffer, sizeof buffer};
        struct msghdr m = {.msg_name = &peer,
                           .msg_namelen = sizeof peer,
                           .msg_iov = &part,
                           .msg_iovlen = 1,
                           .msg_control = control,
                           .msg_controllen = sizeof control};
        ssize_t n;

        if (l->network->domain == AF_UNIX)
            m.msg_controllen = 0; /* drops descriptors that are sent along */
        n = recvmsg(child_fd, &m, 0);
        if (n == -1 && errno == EBADF)
            return;
        part.iov_len = (size_t)n;
        if (n == -1 || m.msg_namelen == 0) {
            (void)poll(NULL, 0, 1); /* must not spin if others shut it down */
        } else if (may_reply(m.msg_name)) {
            if ((size_t)n < sizeof buffer) /* or it may be cut off */
                send_reply(&m);
        } else if (!reported) {
            reported = true;
            format_address(name, l->network, m.msg_name, m.msg_namelen);
            warnx("%s: no reply to %s, maybe an echo service (reported once)",
                  l->name, name);
        }
    }
}

/* May this sender have a reply? A datagram with the spoofed source address of
 * another echo service would go back and forth between the two forever. Such
 * services are at ports below 1024, at this server's port on any host, or are
 * this server itself. */
static bool may_reply(struct sockaddr *peer)
{
    struct stat file = {0};
    in_port_t port = 0;

    if (peer->sa_family != AF_UNIX)
        port = ((struct sockaddr_in *)peer)->sin_port;
    else if (stat(((struct sockaddr_un *)peer)->sun_path, &file) == -1)
        return true; /* an abstract name (Linux) is no file */
    if (port != 0 && ntohs(port) < IPPORT_RESERVED)
        return false;
    for (const struct listener *l = listeners; l < listeners + nlisteners; l++)
        if (l->network->type == SOCK_DGRAM && l->port == port &&
            l->file.st_dev == file.st_dev && l->file.st_ino == file.st_ino)
            return false;
    return true;
}

/* Sends a datagram back, or loses it: one peer whose queue is full must not
 * delay the others. The reply's source address goes with it, but no interface,
 * because the route back may lead over another (unless it is link-local). */
static void send_reply(struct msghdr *m)
{
    struct cmsghdr *c = CMSG_FIRSTHDR(m);

    for (; c != NULL; c = CMSG_NXTHDR(m, c)) {
        struct in6_pktinfo *ipv6 = (struct in6_pktinfo *)CMSG_DATA(c);

        if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
            if (!IN6_IS_ADDR_LINKLOCAL(&ipv6->ipi6_addr))
                ipv6->ipi6_ifindex = 0;
            break;
        }
#ifdef IP_PKTINFO
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            ((struct in_pktinfo *)CMSG_DATA(c))->ipi_ifindex = 0;
            break;
        }
#endif
    }
    m->msg_control = c;
    m->msg_controllen = c != NULL ? c->cmsg_len : 0;
    (void)sendmsg(child_fd, m, MSG_DONTWAIT);
}

/* ---- Rare: stale socket files, and sockets that others have opened ------ */

/* Removes the file at an AF_UNIX address if it is a stale socket, left behind
 * by a killed server: connect() is refused. Without this check a server would
 * delete any file at the path, or take a live server's clients. */
static void unlink_stale_socket(const struct addrinfo *a)
{
    const char *path = ((struct sockaddr_un *)a->ai_addr)->sun_path;
    const int fd = socket(AF_UNIX, a->ai_socktype, 0);
    struct stat file;

    /* Non-blocking, because a live server's backlog may be full. */
    if (fd != -1 && lstat(path, &file) == 0 && S_ISSOCK(file.st_mode) &&
        fcntl(fd, F_SETFL, O_NONBLOCK) == 0 &&
        connect(fd, a->ai_addr, a->ai_addrlen) == -1 && errno == ECONNREFUSED)
        unlink(path);
    close(fd);
}

/* Socket activation, as sd_listen_fds(3) of systemd defines it: LISTEN_FDS
 * sockets from descriptor 3 on, if LISTEN_PID is this process. */
static void adopt_listeners(void)
{
    const char *pid = getenv("LISTEN_PID"), *number = getenv("LISTEN_FDS");
    long n;

    if (pid == NULL || number == NULL || strtol(pid, NULL, 10) != parent_pid)
        return;
    n = strtol(number, NULL, 10);
    if (n < 1 || n > LISTENERS_MAX)
        errx(1, "LISTEN_FDS: invalid number '%s'", number);
    while (nlisteners < n) {
        const struct listener *l = adopt_socket(STDERR_FILENO + 1 + nlisteners);

        /* Rejects what cannot listen, such as a connection. */
        if (listen(l->fd, BACKLOG) == -1 && errno != EOPNOTSUPP)
            err(1, "%s: listen", l->name);
    }
}

/* Finds a socket's network in the table, or ends the program. */
static struct listener *adopt_socket(int fd)
{
    struct listener *l = &listeners[nlisteners++];
    struct sockaddr address = {0};
    int type, protocol = -1;
    socklen_t len = sizeof type, size = sizeof address;

    *l = (struct listener){.fd = fd, .name = "standard input"};
    if (!inetd)
        snprintf(l->name, sizeof l->name, "descriptor %d", fd);
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == -1 ||
        getsockname(fd, &address, &size) == -1)
        err(1, "%s: getsockopt", l->name);
#ifdef SO_PROTOCOL
    (void)getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len);
#endif
    (void)fcntl(fd, F_SETFL, 0); /* no O_NONBLOCK: our calls block */
    for (size_t i = 0; i < sizeof networks / sizeof *networks; i++) {
        const struct network *n = &networks[i];

        if (n->type == type && (protocol == -1 || n->protocol == protocol) &&
            (n->domain == AF_UNIX) == (address.sa_family == AF_UNIX)) {
            l->network = n;
            finish_listener(l);
            return l;
        }
    }
    errx(1, "%s: unknown kind of socket", l->name);
}

/* -i: serves the connection that is standard input, as inetd passes it. */
static int serve_stdin(void)
{
    struct sockaddr peer;
    socklen_t len = sizeof peer;
    struct listener *l;
    struct stat in, log;

    /* inetd makes the connection standard error, too: then there is no log. */
    if (fstat(STDIN_FILENO, &in) == 0 && fstat(STDERR_FILENO, &log) == 0 &&
        in.st_dev == log.st_dev && in.st_ino == log.st_ino &&
        freopen("/dev/null", "w", stderr) == NULL)
        return 1;
    l = adopt_socket(STDIN_FILENO);
    if (l->network->type == SOCK_DGRAM || getpeername(l->fd, &peer, &len) == -1)
        errx(1, "standard input: not a connection");
    serve_client(l->fd, l, "client");
    return 0;
}

/* ---- The command line --------------------------------------------------- */

/* clang-format off */
static const char help[] =
"usage: server [-hiv] [-k IDLE] [-m CONNECTIONS] [-t SECONDS] [ENDPOINT...]\n"
"\n"
"Sends back whatever a client sends, until SIGINT or SIGTERM.\n"
"\n"
"  -h              print this help\n"
"  -i              serve the one connection that is standard input (inetd)\n"
"  -k IDLE         keep up to IDLE children waiting on each socket (32);\n"
"                  0: fork a new one for each client\n"
"  -m CONNECTIONS  serve up to CONNECTIONS at a time on each socket (512)\n"
"  -t SECONDS      close connections idle for that long (300); 0: never\n"
"  -v              log each connection\n"
"\n"
"An ENDPOINT is [NETWORK:]ADDRESS. Without one: tcp udp unix\n"
"  tcp, tcp4, tcp6, udp, udp4, udp6, mptcp   [HOST:]PORT (7777)\n"
"  unix, unixgram, unixpacket                PATH (NETWORK.sock)\n"
"No HOST means loopback, '*' every interface; PORT 0 means a free one.\n";
/* clang-format on */

static void parse_options(int argc, char **argv)
{
    int option;

    if (argc > 1 && strcmp(argv[1], "--help") == 0)
        argv[1] = "-h";
    while ((option = getopt(argc, argv, ":hik:m:t:v")) != -1) {
        if (option == 'i')
            inetd = true;
        else if (option == 'k')
            max_idle = option_number(option, 0, 10000);
        else if (option == 'm')
            max_connections = option_number(option, 1, 10000);
        else if (option == 't')
            idle_timeout = option_number(option, 0, 1000000);
        else if (option == 'v')
            verbose = true;
        else if (option == ':')
            usage_error("option '-%c' needs a value", optopt);
        else if (option != 'h')
            usage_error("unknown option '-%c'", optopt);
        else if (fputs(help, stdout) == EOF || fflush(stdout) == EOF)
            err(1, "standard output: write");
        else
            exit(0);
    }
    if (inetd && optind < argc)
        usage_error("unexpected argument '%s' with -i", argv[optind]);
}
