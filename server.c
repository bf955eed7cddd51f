/* SPDX-License-Identifier: 0BSD
 * server.c - an echo server: sends back whatever a client sends (RFC 862).
 * usage: server [-hiv] [-k IDLE] [-m CONNECTIONS] [-t SECONDS] [ENDPOINT...]
 * Exit status: 0 stopped by a signal (with -i: served the client), 1 run-time
 * error, 2 usage error. The calls, in the order they are made:
 *
 *   parent                 socket, bind, listen; fork; wait for a signal
 *   child, connections     accept; read, write until end of file; close
 *   child, datagrams       recvmsg, sendmsg: there is no connection
 *
 * Each process waits for one thing only, so every call may block. The parent
 * keeps a child waiting on each socket. A slow client delays only its child.
 */
#define __APPLE_USE_RFC_3542 /* macOS: declare IPV6_RECVPKTINFO */
#include "common.h"

#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/wait.h>

#define BUFFER_SIZE   (256 * 1024)
#define MESSAGE_ROOM  (128 * 1024) /* in a socket's buffers; UDP needs 65507 */
#define BACKLOG       65535        /* the system cuts it to its own limit */
#define LISTENERS_MAX 256
/* While serving, messages that would block are dropped: a log that no process
 * reads must not stop us. (O_NONBLOCK would affect all that share the log.) */
#define CAN_LOG (poll(&(struct pollfd){STDERR_FILENO, POLLOUT, 0}, 1, 0) == 1)

struct child {
    pid_t pid;                    /* 0: the slot is free */
    atomic_bool waiting, stopped; /* for a client; by SIGSTOP */
};

struct listener { /* a socket that listens, or that takes datagrams */
    int fd;
    in_port_t port; /* in network byte order; 0 for AF_UNIX */
    const struct network *network;
    char name[TEXT_SIZE];   /* its endpoint */
    const char *path;       /* its socket file, if this process made one */
    struct stat file;       /* lstat() result for its socket file */
    struct child *children; /* max_connections slots */
};

static int max_waiting = 32, max_connections = 512, idle_timeout = 300;
static bool inetd, verbose;
static struct listener listeners[LISTENERS_MAX + 1]; /* + 1 to find too many */
static struct child *children; /* of all listeners, in shared memory */
static int nlisteners, nslots, nchildren, exit_status;
static bool reported;     /* that fork() or accept() failed; until one works */
static int alive_fd = -1; /* closes when the parent dies: fork_watcher() */
static const struct timespec ms_10 = {0, 10000000}, ms_100 = {0, 100000000};
static const struct linger reset = {.l_onoff = true}; /* close() resets */
static sigset_t no_signals;                 /* the mask while we wait: empty */
static volatile sig_atomic_t stopping;      /* set by on_signal() */
static volatile sig_atomic_t child_fd = -1; /* the socket a child waits on */

/* Opening the sockets: socket, setsockopt, bind, listen */
static void open_endpoint(const char *text);
static void open_listener(struct endpoint *e, struct addrinfo *a, int first);
static void set_option(struct listener *l, int level, int name, int value);
static void set_up_listener(struct listener *l, sa_family_t family);
/* The parent: a child waiting on each socket, until a graceful shutdown */
static void supervise(void);
static int count_waiting(const struct listener *l);
static void reap_and_signal(int number);
static void fork_watcher(void);
static void catch_signals(void);
static void on_signal(int number);
static void drain(void);
static void close_listeners(void);
/* A child: accept and echo */
static _Noreturn void run_child(const struct listener *l, struct child *self);
static void accept_clients(const struct listener *l, struct child *self);
static int serve_client(int fd, const struct listener *l, const char *peer);
static int echo_stream(int fd, bool packets, size_t *echoed);
static int write_all(int fd, const char *data, size_t size, size_t *written);
/* Datagrams */
static void echo_datagrams(const struct listener *l);
static bool may_reply(struct sockaddr *peer);
static void send_reply(struct msghdr *m);
/* Rare: stale socket files, sockets that others opened; the command line */
static void unlink_stale_socket(const struct addrinfo *a);
static void adopt_listeners(void);
static void adopt_socket(int fd);
static int serve_stdin(void);
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
    return exit_status;
}

/* ---- Opening the sockets: socket, setsockopt, bind, listen -------------- */

/* Opens a listener on each address of an endpoint. */
static void open_endpoint(const char *text)
{
    static bool host_only; /* the endpoint before: a host, the default port */
    const int first = nlisteners;
    struct addrinfo *list;
    struct endpoint e;
    const char *problem = parse_endpoint(&e, text);

    if (problem != NULL)
        usage_error("%s: %s", text, problem);
    if (host_only && isdigit((unsigned char)*text) && e.port == e.copy)
        usage_error("unexpected argument '%s' (an endpoint is tcp:HOST:PORT)",
                    text);
    host_only = *e.host != '\0' && e.port == e.network->address;
    if ((problem = resolve_endpoint(&e, &list)) != NULL)
        errx(1, "%s: getaddrinfo: %s", text, problem);
    for (struct addrinfo *a = list; a != NULL; a = a->ai_next)
        open_listener(&e, a, first);
    if (e.network->domain != AF_UNIX)
        freeaddrinfo(list);
    if (nlisteners == first)
        exit(1);
}

/* Opens a listener, but skips duplicates, and addresses that this host lacks.
 * All listeners of an endpoint, from `first` on, have the same port: with port
 * 0 the system chooses one for the first. */
static void open_listener(struct endpoint *e, struct addrinfo *a, int first)
{
    const char *path = a->ai_family == AF_UNIX ? e->port : NULL;
    struct listener *l = &listeners[nlisteners];

    if (path == NULL && nlisteners > first) /* sin6_port: same offset */
        ((struct sockaddr_in *)a->ai_addr)->sin_port = listeners[first].port;
    *l = (struct listener){.network = e->network, .path = path};
    format_address(l->name, l->network, a->ai_addr, a->ai_addrlen);
    for (int i = first; i < nlisteners; i++)
        if (strcmp(listeners[i].name, l->name) == 0)
            return;
    l->fd = socket(a->ai_family, l->network->type, l->network->protocol);
    if (l->fd == -1 && errno == EAFNOSUPPORT) {
        warn("%s: not served: socket", l->name);
        return;
    }
    if (l->fd == -1)
        err(1, "%s: socket", l->name);
    /* Without this an IPv6 socket takes IPv4, too, on some systems, and the
     * socket for IPv4 finds its port in use. */
    if (a->ai_family == AF_INET6)
        set_option(l, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    /* Without this the port stays in use for a minute: the kernel remembers its
     * closed connections (TIME_WAIT). It would let UDP servers share a port. */
    if (l->network->type == SOCK_STREAM)
        set_option(l, SOL_SOCKET, SO_REUSEADDR, 1);
    for (int tries = 0; bind(l->fd, a->ai_addr, a->ai_addrlen) == -1; tries++) {
        if (errno == EADDRNOTAVAIL) {
            warn("%s: not served: bind", l->name);
            close(l->fd);
            return;
        }
        /* A killed server leaves its file and, for a moment, its children. */
        if (errno != EADDRINUSE || tries == 5)
            err(1, "%s: bind", l->name);
        if (path != NULL)
            unlink_stale_socket(a);
        nanosleep(&ms_100, NULL);
    }
    nlisteners++;
    set_up_listener(l, (sa_family_t)a->ai_family);
    if (l->network->type != SOCK_DGRAM && listen(l->fd, BACKLOG) == -1)
        err(1, "%s: listen", l->name);
}

/* Sets an option. It is no error if the system lacks it or allows only less. */
static void set_option(struct listener *l, int level, int name, int value)
{
    if (setsockopt(l->fd, level, name, &value, sizeof value) == -1 &&
        errno != ENOPROTOOPT && errno != EOPNOTSUPP && errno != ENOBUFS)
        err(1, "%s: setsockopt", l->name);
}

/* Notes a bound socket's address, and sets its options; TCP connections inherit
 * them. Except on Linux, an option of another address family is an error. */
static void set_up_listener(struct listener *l, sa_family_t family)
{
    struct sockaddr_storage storage = {0}; /* so that a path ends in NUL */
    struct sockaddr *bound = (struct sockaddr *)&storage;
    socklen_t len = sizeof storage;

    if (getsockname(l->fd, bound, &len) == -1)
        err(1, "%s: getsockname", l->name);
    format_address(l->name, l->network, bound, len);
    if (family != AF_UNIX)
        l->port = ((struct sockaddr_in *)bound)->sin_port;
    else
        (void)lstat(((struct sockaddr_un *)bound)->sun_path, &l->file);
    if (nlisteners > LISTENERS_MAX)
        errx(1, "more than %d sockets", LISTENERS_MAX);
    if (l->network->type != SOCK_STREAM) {
        /* A message goes whole or not at all: make room for the largest. */
        set_option(l, SOL_SOCKET, SO_SNDBUF, MESSAGE_ROOM);
        set_option(l, SOL_SOCKET, SO_RCVBUF, MESSAGE_ROOM);
    } else if (family != AF_UNIX) { /* TCP or MPTCP */
        /* Nagle's algorithm holds a short segment back until the client has
         * acknowledged the one before, and a delayed ACK takes 40 ms. */
        set_option(l, IPPROTO_TCP, TCP_NODELAY, 1);
#ifdef TCP_USER_TIMEOUT
        /* Ends a connection whose client does not read, even after close(). */
        set_option(l, IPPROTO_TCP, TCP_USER_TIMEOUT, idle_timeout * 1000);
#endif
        set_option(l, SOL_SOCKET, SO_KEEPALIVE, 1); /* notices a dead host */
        set_option(l, SOL_SOCKET, SO_OOBINLINE, 1); /* echo MSG_OOB, too */
        (void)setsockopt(l->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    }
    /* A reply must come from the address that the datagram was sent to. */
#ifdef IP_PKTINFO
    if (l->network->type == SOCK_DGRAM && family == AF_INET)
        set_option(l, IPPROTO_IP, IP_PKTINFO, 1);
#endif
    if (l->network->type == SOCK_DGRAM && family == AF_INET6)
        set_option(l, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
}

/* ---- The parent: a child waiting on each socket ------------------------- */

/* Keeps a child waiting on each socket until a signal says to stop. So clients
 * rarely wait for fork(), which takes longer than a short echo. */
static void supervise(void)
{
    nslots = nlisteners * max_connections;
    children = mmap(NULL, (size_t)nslots * sizeof *children,
                    PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (children == MAP_FAILED)
        err(1, "mmap");
    fork_watcher();
    for (int i = 0; i < nlisteners; i++) {
        listeners[i].children = children + (long)i * max_connections;
        if (CAN_LOG)
            warnx("listening on %s", listeners[i].name);
    }
    for (; !stopping; reap_and_signal(0)) {
        const struct timespec *timeout = NULL;

        for (struct listener *l = listeners; l < listeners + nlisteners; l++) {
            struct child *slot = l->children, *end = slot + max_connections;
            pid_t pid;

            while (slot < end && slot->pid != 0)
                slot++;
            if (slot == end || count_waiting(l) > 0)
                continue;
            slot->waiting = true;
            if ((pid = fork()) == 0) /* not slot->pid: 0 marks it free */
                run_child(l, slot);
            if (pid == -1) { /* clients wait in the backlog */
                if (!reported && CAN_LOG)
                    warn("%s: trying again: fork", l->name);
                slot->waiting = false;
                timeout = &ms_100;
            }
            reported = pid == -1;
            slot->pid = pid == -1 ? 0 : pid;
            nchildren += pid != -1;
        }
        pselect(0, NULL, NULL, NULL, timeout, &no_signals);
    }
}

static int count_waiting(const struct listener *l)
{
    int waiting = 0;

    for (int i = 0; i < max_connections; i++)
        waiting += l->children[i].waiting && !l->children[i].stopped;
    return waiting;
}

/* Reaps the children that have ended, notes those that are stopped, and sends
 * the living the signal `number` (0: none). SIGCHLDs merge: waitpid() repeats.
 * It also reaps strangers: process 1 of a container inherits orphans. */
static void reap_and_signal(int number)
{
    int status, killed = 0;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG | WUNTRACED | WCONTINUED)) > 0)
        for (struct child *c = children; c < children + nslots; c++) {
            if (c->pid != pid)
                continue;
            c->stopped = WIFSTOPPED(status);
            if (WIFSTOPPED(status) || WIFCONTINUED(status))
                break;
            if (WIFSIGNALED(status) && CAN_LOG)
                warnx("child %ld: %s by signal %d", (long)pid,
                      nlisteners == 0 ? "cut off" : "killed", WTERMSIG(status));
            killed += WIFSIGNALED(status) && nlisteners > 0;
            if (WIFEXITED(status) && (errno = WEXITSTATUS(status)) != 0) {
                if (exit_status == 0 && CAN_LOG)
                    warn("%s: accept",
                         listeners[(c - children) / max_connections].name);
                stopping = exit_status = 1;
            }
            c->pid = 0;
            c->waiting = false;
            nchildren--;
        }
    for (const struct child *c = children; c < children + nslots; c++)
        if (c->pid != 0 && number != 0) {
            kill(c->pid, number);
            kill(c->pid, SIGCONT); /* a stopped child cannot exit */
        }
    if (killed > 0) /* if each one dies at once: at most 10 forks a second */
        nanosleep(&ms_100, NULL);
}

/* Forks a watcher: it sends the children SIGTERM when the parent has died, even
 * by SIGKILL. Only the parent has the pipe's other end: read() then returns 0.
 * Without it, orphans would keep the sockets, and no new server could start. */
static void fork_watcher(void)
{
    int ends[2];

    if (pipe(ends) == -1)
        return;
    alive_fd = ends[1];
    if (fork() == 0) {
        if (fork() != 0) /* a grandchild: the parent's children all serve */
            _exit(0);
        close(alive_fd);
        for (int i = 0; i < nlisteners; i++)
            close(listeners[i].fd);
        if (read(ends[0], &(char){0}, 1) == 0) /* signals stay blocked */
            reap_and_signal(SIGTERM);
        _exit(0);
    }
    wait(NULL); /* for the one in between */
    close(ends[0]);
}

/* The parent blocks its signals except in pselect(), so that none can come
 * between checking a flag and waiting. One that was ignored from the start,
 * SIGHUP by nohup or SIGINT by a shell's "&", stays ignored. */
static void catch_signals(void)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    sigset_t all;

    sigemptyset(&no_signals);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    signal(SIGCHLD, on_signal);
    signal(SIGALRM, on_signal);
    for (int i = 0; i < 3; i++)
        if (signal(numbers[i], on_signal) == SIG_IGN)
            signal(numbers[i], SIG_IGN);
}

/* SIGCHLD only wakes the parent. The other signals stop the parent by a flag,
 * and a child by closing the socket that it waits on: accept() or recvmsg(),
 * called again, fails with EBADF (no new descriptor has taken its number).
 * A flag would not do: the signal may come between the check and the call. */
static void on_signal(int number)
{
    const int saved = errno; /* the interrupted code may be about to read it */

    if (number != SIGCHLD) {
        stopping = 1;
        close(child_fd); /* -1 in the parent: no effect */
        child_fd = -1;
    }
    errno = saved;
}

/* Stops listening in all processes, and lets the children finish with their
 * clients, for 5 seconds or until a second signal. */
static void drain(void)
{
    close_listeners();
    reap_and_signal(SIGTERM);
    for (int i = 0; i < 10 && nchildren > 0; i++, reap_and_signal(0))
        nanosleep(&ms_10, NULL); /* those without a client exit */
    if (nchildren > 0 && CAN_LOG)
        warnx("waiting up to 5 s for %d connection%s; signal again to exit now",
              nchildren, nchildren == 1 ? "" : "s");
    /* timeout(1) signals twice: take the second here, and do not count it. */
    pselect(0, NULL, NULL, NULL, &ms_10, &no_signals);
    stopping = 0;
    alarm(5); /* in 5 s SIGALRM comes, and on_signal() sets `stopping` */
    for (; nchildren > 0; reap_and_signal(stopping ? SIGKILL : 0))
        pselect(0, NULL, NULL, NULL, NULL, &no_signals);
}

/* Also an atexit() handler. Removes only socket files that are still ours. */
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

/* Serves one listener, as a child. Signals stay blocked until it is set up. */
static _Noreturn void run_child(const struct listener *l, struct child *self)
{
    /* Else the other listeners' ports stay in use while this child lives. */
    for (int i = 0; i < nlisteners; i++)
        if (&listeners[i] != l)
            close(listeners[i].fd);
    child_fd = l->fd;
    signal(SIGTERM, on_signal); /* not ignored: the parent sends it */
    self->pid = getpid();       /* for the watcher, if the parent dies now */
    close(alive_fd);
    reported = false;
    sigprocmask(SIG_SETMASK, &no_signals, NULL);
    if (l->network->type == SOCK_DGRAM)
        echo_datagrams(l);
    else
        accept_clients(l, self);
    _exit(0); /* exit() would remove the parent's socket files */
}

/* Accepts clients in turn, until enough other children wait. The kernel wakes
 * one child for each client. A child marks itself busy before it counts: if the
 * last two turn busy at once, at least one counts 0 and wakes the parent. */
static void accept_clients(const struct listener *l, struct child *self)
{
    for (;;) {
        struct sockaddr_storage peer = {0};
        socklen_t len = sizeof peer;
        char name[TEXT_SIZE] = "";
        int conn_fd = accept(child_fd, (struct sockaddr *)&peer, &len);

        if (conn_fd != -1) {
            reported = false;
            self->waiting = false;
            if (count_waiting(l) == 0)
                kill(getppid(), SIGCHLD); /* if orphaned: init ignores it */
            if (verbose)
                format_address(name, l->network, (struct sockaddr *)&peer, len);
            (void)serve_client(conn_fd, l, name);
            self->waiting = true;
            if (count_waiting(l) > max_waiting)
                return;
        } else if (errno == EBADF || errno == EINVAL || errno == ENOTSOCK) {
            _exit(stopping ? 0 : errno); /* the parent ends the server */
        } else if (errno != EINTR && errno != ECONNABORTED) {
            if (!reported && CAN_LOG) /* out of descriptors or memory, say */
                warn("%s: trying again: accept", l->name);
            reported = true;
            nanosleep(&ms_100, NULL);
        }
    }
}

/* Serves one client to the end. Its errors affect no other client. Returns 0,
 * or the errno that kept the client from getting everything. */
static int serve_client(int fd, const struct listener *l, const char *peer)
{
    const struct timeval limit = {.tv_sec = idle_timeout}; /* 0: none */
    const struct linger orderly = {.l_onoff = false};
    int error = 0;
    size_t sent = 0;
    char why[64] = "";

    if (verbose && CAN_LOG)
        warnx("accepted %s on %s, child %ld", peer, l->name, (long)getpid());
    /* Until everything is echoed, close() sends a reset, even if the child is
     * killed: the client learns that the echo is incomplete. A connection has
     * this from its listener, but on BSD and macOS with 120 s instead of 0. */
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (echo_stream(fd, l->network->type != SOCK_STREAM, &sent) == -1)
        error = errno;
    if (error == 0 || error == EAGAIN) /* EAGAIN: the client went idle */
        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &orderly, sizeof orderly);
    close(fd);
    strncpy(why, error ? strerror(error) : "end of file", sizeof why - 1);
    if (error == ECONNRESET || error == EPIPE)
        strcpy(why, "reset by the client");
    else if (error == EAGAIN)
        snprintf(why, sizeof why, "idle for %d s", idle_timeout);
    else if (error == ETIMEDOUT)
        snprintf(why, sizeof why, "client not reading for %d s", idle_timeout);
    if (verbose && CAN_LOG)
        warnx("closed %s on %s after %zu bytes: %s", peer, l->name, sent, why);
    return error == EAGAIN ? 0 : error;
}

/* Echoes what comes on a connected, blocking socket until end of file, which
 * the peer sends by a half-close or a close; *echoed grows by the bytes echoed.
 * With `packets` (not SOCK_STREAM) each read() is a message. Returns 0, or -1
 * with errno set: ECONNRESET or EPIPE if the peer is gone (ignore SIGPIPE),
 * EAGAIN after SO_RCVTIMEO, ETIMEDOUT after SO_SNDTIMEO, EMSGSIZE for a message
 * that the buffer may have cut off. */
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

/* Writes `size` bytes to a blocking socket; *written grows by what was taken.
 * Returns 0, or -1 with errno set (ETIMEDOUT for EAGAIN). A write() that a
 * signal or SO_SNDTIMEO ends may have taken a part: the loop sends the rest. */
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

/* Echoes one datagram after another until the socket is closed. A struct
 * msghdr holds the peer's address, a list of buffers (here one), and control
 * messages about the datagram: here, the address that it was sent to. */
static void echo_datagrams(const struct listener *l)
{
    static char buffer[BUFFER_SIZE], name[TEXT_SIZE];
    const bool is_unix = l->network->domain == AF_UNIX; /* can pass open fds */
    _Alignas(struct cmsghdr) char control[256];
    unsigned refused = 0;

    for (;;) {
        struct sockaddr_storage peer = {0}; /* so that a path ends in NUL */
        struct iovec part = {buffer, sizeof buffer};
        struct msghdr m = {.msg_name = &peer,
                           .msg_namelen = sizeof peer,
                           .msg_iov = &part,
                           .msg_iovlen = 1,
                           .msg_control = control,
                           .msg_controllen = is_unix ? 0 : sizeof control};
        const ssize_t n = recvmsg(child_fd, &m, 0);

        if (n == -1 && errno == EBADF)
            return;
        part.iov_len = (size_t)n;
        if (n == -1 || (m.msg_namelen == 0 && l->port != 0))
            nanosleep(&ms_10, NULL); /* failed, or was shut down: do not spin */
        else if ((size_t)n < sizeof buffer && may_reply(m.msg_name))
            send_reply(&m);
        else if ((size_t)n < sizeof buffer && refused++ == 0 && CAN_LOG)
            warnx("%s: no reply to %s, maybe an echo service (reported once)",
                  l->name,
                  format_address(name, l->network, m.msg_name, m.msg_namelen));
    }
}

/* Returns whether to reply. With the spoofed source address of an echo service,
 * a datagram would go back and forth forever. Such services are at ports below
 * 1024, at this server's ports on any host, and at its own paths. */
static bool may_reply(struct sockaddr *peer)
{
    struct stat file = {0}; /* for UDP it stays 0, as in the listeners */
    in_port_t port = 0;     /* for unixgram it stays 0 */

    if (peer->sa_family != AF_UNIX)
        port = ((struct sockaddr_in *)peer)->sin_port;
    else if (stat(((struct sockaddr_un *)peer)->sun_path, &file) == -1)
        return true; /* an abstract name (Linux) is not a file */
    if (port != 0 && ntohs(port) < IPPORT_RESERVED)
        return false;
    for (const struct listener *l = listeners; l < listeners + nlisteners; l++)
        if (l->network->type == SOCK_DGRAM && l->port == port &&
            l->file.st_dev == file.st_dev && l->file.st_ino == file.st_ino)
            return false;
    return true;
}

/* Sends a datagram back, or drops it: one peer whose queue is full must not
 * delay the others. The control message from recvmsg() now gives the source of
 * the reply, but not the interface, because the way back may be another. Only a
 * link-local address needs that. (An in6_pktinfo begins with its address.) */
static void send_reply(struct msghdr *m)
{
    struct cmsghdr *c = CMSG_FIRSTHDR(m);

    for (; c != NULL; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
            if (!IN6_IS_ADDR_LINKLOCAL((struct in6_addr *)CMSG_DATA(c)))
                ((struct in6_pktinfo *)CMSG_DATA(c))->ipi6_ifindex = 0;
            break;
        }
#ifdef IP_PKTINFO
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            ((struct in_pktinfo *)CMSG_DATA(c))->ipi_ifindex = 0;
            break;
        }
#endif
    }
    m->msg_control = c; /* OpenBSD: the length counts the padding, too */
    m->msg_controllen =
        c != NULL ? (socklen_t)CMSG_SPACE(c->cmsg_len - CMSG_LEN(0)) : 0;
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

    if (pid != NULL && number != NULL && strtol(pid, NULL, 10) == getpid())
        for (long n = strtol(number, NULL, 10); nlisteners < n;)
            adopt_socket(STDERR_FILENO + 1 + nlisteners);
}

/* Makes a listener of an open socket: its network must be in the table. */
static void adopt_socket(int fd)
{
    const struct network *n = networks, *end = n + sizeof networks / sizeof *n;
    struct listener *l = &listeners[nlisteners++];
    struct sockaddr address = {0};
    socklen_t size = sizeof address, len = sizeof(int);
    int type;

    /* getpeername() accepts only a connection; either call gives the family. */
    if ((inetd ? getpeername(fd, &address, &size)
               : getsockname(fd, &address, &size)) == -1 ||
        getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == -1)
        err(1, "descriptor %d: %s", fd, inetd ? "getpeername" : "getsockname");
    (void)fcntl(fd, F_SETFL, 0); /* no O_NONBLOCK: our calls block */
    while (n < end && (n->domain != address.sa_family || n->type != type))
        n++;
    if (n == end)
        errx(1, "descriptor %d: unknown kind of socket", fd);
    *l = (struct listener){.fd = fd, .network = n};
    set_up_listener(l, address.sa_family);
}

/* -i: serves the connection on standard input, as inetd passes it. */
static int serve_stdin(void)
{
    struct stat log;

    /* inetd makes the connection standard error, too: then there is no log. */
    if (fstat(STDERR_FILENO, &log) == 0 && S_ISSOCK(log.st_mode) &&
        freopen("/dev/null", "w", stderr) == NULL)
        return 1;
    adopt_socket(STDIN_FILENO);
    return serve_client(STDIN_FILENO, listeners, "client") != 0;
}

/* ---- The command line --------------------------------------------------- */

static const char help[] =
    "[-hiv] [-k IDLE] [-m CONNECTIONS] [-t SECONDS] [ENDPOINT...]\n\n"
    "Sends back whatever a client sends, until SIGINT or SIGTERM.\n\n"
    "  -h              print this help\n"
    "  -i              serve one connection, on standard input (inetd)\n"
    "  -k IDLE         keep up to IDLE children waiting on each socket (32);\n"
    "                  0: fork a new one for each client\n"
    "  -m CONNECTIONS  serve up to CONNECTIONS at a time on each socket (512)\n"
    "  -t SECONDS      close connections idle for that long (300); 0: never\n"
    "  -v              log each connection\n\n"
    "An ENDPOINT is [NETWORK:]ADDRESS. Without one: tcp udp unix\n"
    "  tcp, tcp4, tcp6, udp, udp4, udp6, mptcp   [HOST:]PORT (7777)\n"
    "  unix, unixgram, unixpacket                PATH (NETWORK.sock)\n"
    "No HOST means loopback, '*' every interface; PORT 0 means a free one.\n";

static void parse_options(int argc, char **argv)
{
    int option;

    while ((option = getopt(argc, argv, ":hik:m:t:v")) != -1) {
        if (option == 'i')
            inetd = true;
        else if (option == 'k')
            max_waiting = option_number(option, 0, 10000);
        else if (option == 'm')
            max_connections = option_number(option, 1, 10000);
        else if (option == 't')
            idle_timeout = option_number(option, 0, 1000000);
        else if (option == 'v')
            verbose = true;
        else
            end_options(option, argv, help);
    }
    if (inetd && optind < argc)
        usage_error("unexpected argument '%s' with -i", argv[optind]);
}
