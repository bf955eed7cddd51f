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
 * On a first reading, skip what is marked as rare.
 */
#define __APPLE_USE_RFC_3542 /* macOS: declare IPV6_RECVPKTINFO */
#include "common.h"

#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/wait.h>

#define BUFFER_SIZE   (256 * 1024)
#define BACKLOG       65535 /* the system cuts it to its own limit */
#define LISTENERS_MAX 256
#define PORT_OF(a)    (((struct sockaddr_in *)(a))->sin_port) /* = sin6_port */
/* While serving, a message is dropped if poll() sees no room: a log that no
 * process reads must not stop us. (O_NONBLOCK would affect other processes.) */
#define can_log() (poll(&(struct pollfd){STDERR_FILENO, POLLOUT, 0}, 1, 0) == 1)

struct child {                 /* several processes read and write it at once */
    _Atomic pid_t pid;         /* 0: the slot is free */
    atomic_bool busy, stopped; /* has a client; was stopped, as by Ctrl-Z */
};

struct listener { /* a socket that listens, or that takes datagrams */
    const struct network *network;
    struct sockaddr_storage bound; /* its address, from getsockname() */
    int fd;
    char name[TEXT_SIZE];   /* its endpoint, NETWORK:ADDRESS */
    const char *path;       /* its socket file, if we made it */
    struct stat file;       /* by it we later know whether that is ours */
    struct child *children; /* max_connections slots */
};

static int max_waiting = 32, max_connections = 512, idle_timeout = 300;
static bool inetd, verbose;
static struct listener listeners[LISTENERS_MAX + 1]; /* + the one too many */
static struct child *children; /* of all listeners, in shared memory, zeroed */
static int nlisteners, nslots, nchildren, exit_status;
static int alive_fd = -1; /* closes when the parent dies: fork_watcher() */
static const struct timespec ms_1 = {0, 1000000}, ms_100 = {0, 100000000};
static const struct linger reset = {.l_onoff = true}; /* 0 s: close() resets */
static sigset_t empty_mask; /* blocks no signal; in force while we wait */
static volatile sig_atomic_t stopping, out_of_time; /* see on_signal() */
static volatile sig_atomic_t wait_fd = -1; /* the socket a child waits on */

/* Opening the sockets: socket, setsockopt, bind, listen */
static void open_endpoint(const char *text, const char *next);
static int open_listener(struct listener *l, const struct addrinfo *a);
static void set_options(int fd, int type);
static int skip_or_exit(const struct listener *l, const char *call);
static void add_listener(struct listener *l);
/* A child: accept, then read and write until end of file */
static void accept_clients(const struct listener *l, struct child *self);
static void retry_accept(const struct listener *l, bool *reported);
static int serve_client(int fd, const struct listener *l, const char *client);
static int echo_stream(int fd, bool packets, size_t *echoed);
static int write_all(int fd, const char *data, size_t size, size_t *written);
/* The parent: a child waiting on each socket */
static void supervise(void);
static bool fork_child(const struct listener *l);
static int count_waiting(const struct listener *l);
static int reap(void);
/* Signals: a graceful shutdown */
static void catch_signals(void);
static void on_signal(int number);
static void drain(void);
static void signal_children(int number);
static void close_listeners(void);
static void fork_watcher(void);
/* Datagrams */
static void echo_datagrams(const struct listener *l);
static bool may_reply(const struct sockaddr_storage *peer);
static void send_reply(struct msghdr *m);
/* Rare: stale socket files, sockets that others opened; the options */
static bool reclaim_address(const struct addrinfo *a);
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
    for (; *argv != NULL; argv++)
        open_endpoint(argv[0], argv[1]);
    supervise();
    drain();
    return exit_status;
}

/* ---- Opening the sockets: socket, setsockopt, bind, listen -------------- */

/* Opens a listener on each address of `text`; `next` is the next argument. */
static void open_endpoint(const char *text, const char *next)
{
    const int first = nlisteners;
    struct addrinfo *list;
    struct endpoint e;
    const char *problem = parse_endpoint(&e, text);

    if (problem != NULL)
        usage_error("%s: %s", text, problem);
    if (next != NULL && /* rare: "HOST PORT" instead of HOST:PORT */
        *e.host && e.addr == e.network->address && is_port(next, e.network))
        usage_error("unexpected argument '%s' (an endpoint is tcp:HOST:PORT)",
                    next);
    if ((problem = resolve_endpoint(&e, &list)) != NULL)
        errx(1, "%s: getaddrinfo: %s", text, problem);
    for (struct addrinfo *a = list; a != NULL; a = a->ai_next) {
        struct listener l = {.network = e.network};
        int i = first;

        if (a->ai_family == AF_UNIX)
            l.path = e.addr;
        else if (nlisteners > first) /* port 0: all get the first one's */
            PORT_OF(a->ai_addr) = PORT_OF(&listeners[first].bound);
        format_address(l.name, l.network, a->ai_addr, a->ai_addrlen);
        while (i < nlisteners && strcmp(listeners[i].name, l.name) != 0)
            i++;
        if (i == nlisteners) /* else, rare: the list has it twice */
            (void)open_listener(&l, a);
    }
    if (e.network->domain != AF_UNIX)
        freeaddrinfo(list);
    if (nlisteners == first)
        exit(1); /* skip_or_exit() has said why */
}

/* Opens a socket at an address. Returns 0, or -1 after skip_or_exit(). */
static int open_listener(struct listener *l, const struct addrinfo *a)
{
    l->fd = socket(a->ai_family, l->network->type, l->network->protocol);
    if (l->fd == -1)
        return skip_or_exit(l, "socket");
    set_options(l->fd, l->network->type);
    for (int tries = 0; bind(l->fd, a->ai_addr, a->ai_addrlen) == -1; tries++)
        if (tries == 5 || !reclaim_address(a)) /* rare: in use: bind again? */
            return skip_or_exit(l, "bind");
    add_listener(l); /* exit() from now on removes its file */
    if (l->network->type != SOCK_DGRAM && listen(l->fd, BACKLOG) == -1)
        err(1, "%s: listen", l->name);
    return 0;
}

/* Sets those options that the socket has. TCP connections inherit them. */
static void set_options(int fd, int type)
{
    const int on = 1, room = 128 * 1024; /* UDP's 65507 bytes, and overhead */

    /* Without this an IPv6 socket takes the IPv4 port, too, on some systems. */
    (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (type == SOCK_STREAM) {
        /* Without this the port stays in use for a minute: the kernel remembers
         * closed connections (TIME_WAIT). With it, UDP servers share ports. */
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        /* Nagle's algorithm holds a small packet back until the client's host
         * has confirmed the one before, which it may do 40 ms late. */
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
#ifdef TCP_USER_TIMEOUT
        /* Ends a connection whose client does not read, even after close(). */
        (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT,
                         &(int){idle_timeout * 1000}, sizeof(int));
#endif
        /* Find a dead host; keep urgent bytes in line; see serve_client(). */
        (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
        (void)setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof on);
        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    } else {
        /* A message goes whole or not at all: make room for the largest. */
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    }
    if (type == SOCK_DGRAM) {
        /* A reply must come from the address that the datagram was sent to. */
#ifdef IP_PKTINFO
        (void)setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on);
#endif
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on);
    }
}

/* Reports an address that is not served, because this host lacks it or its
 * family, and returns -1. Any other error ends the program. */
static int skip_or_exit(const struct listener *l, const char *call)
{
    if (errno != EAFNOSUPPORT && errno != EADDRNOTAVAIL)
        err(1, "%s: %s", l->name, call);
    warn("%s: not served: %s", l->name, call);
    close(l->fd);
    return -1;
}

/* Adds a bound socket to the table, by the address that it really has. */
static void add_listener(struct listener *l)
{
    socklen_t len = sizeof l->bound;

    if (getsockname(l->fd, (struct sockaddr *)&l->bound, &len) == -1)
        err(1, "%s: getsockname", l->name);
    format_address(l->name, l->network, (struct sockaddr *)&l->bound, len);
    if (l->path != NULL)
        (void)lstat(l->path, &l->file);
    listeners[nlisteners++] = *l;
    if (nlisteners > LISTENERS_MAX)
        errx(1, "more than %d sockets", LISTENERS_MAX);
}

/* ---- A child: accept, then read and write until end of file ------------- */

/* Accepts clients in turn, until enough other children wait. The kernel wakes
 * one child for each client. It sets `busy` before it counts: else the last two
 * that wait could each count the other, and neither would wake the parent. */
static void accept_clients(const struct listener *l, struct child *self)
{
    do {
        struct sockaddr_storage peer = {0};
        socklen_t len = sizeof peer;
        char client[TEXT_SIZE] = "";
        bool reported = false;
        int fd;

        while ((fd = accept(wait_fd, (struct sockaddr *)&peer, &len)) == -1)
            retry_accept(l, &reported);
        self->busy = true;
        if (count_waiting(l) == 0)
            kill(getppid(), SIGCHLD); /* parent dead: process 1 ignores it */
        if (verbose)
            format_address(client, l->network, (struct sockaddr *)&peer, len);
        (void)serve_client(fd, l, client);
        self->busy = false;
    } while (count_waiting(l) <= max_waiting); /* this child counts, too */
}

/* Handles an error of accept(), such as too few descriptors: exits, or returns
 * when it is time to try again. */
static void retry_accept(const struct listener *l, bool *reported)
{
    if (errno == EINTR || errno == ECONNABORTED)
        return;
    if (errno == EBADF || errno == EINVAL || errno == ENOTSOCK)
        _exit(stopping ? 0 : errno); /* else reap() reports this errno */
    if (!*reported && can_log())
        warn("%s: trying again: accept", l->name);
    *reported = true;
    nanosleep(&ms_100, NULL);
}

/* Serves one client to the end. Its errors affect no other client. Returns 0,
 * also after an idle timeout, or the errno that cut the echo short. */
static int serve_client(int fd, const struct listener *l, const char *client)
{
    const struct timeval limit = {.tv_sec = idle_timeout}; /* 0: none */
    const struct linger orderly = {.l_onoff = false};
    size_t sent = 0;
    int error = 0;

    if (verbose && can_log())
        warnx("accepted %s on %s, child %ld", client, l->name, (long)getpid());
    /* TCP: until everything is echoed, close() sends a reset, even if the child
     * is killed, so the client learns that the echo is incomplete. The option
     * is set again: on BSD and macOS a connection inherits 120 s, not 0. */
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (echo_stream(fd, l->network->type != SOCK_STREAM, &sent) == -1)
        error = errno;
    if (error == 0 || error == EAGAIN) /* EAGAIN: the client went idle */
        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &orderly, sizeof orderly);
    close(fd);
    if (verbose && can_log())
        warnx("closed %s on %s after %zu bytes: %s", client, l->name, sent,
              error == 0        ? "end of file"
              : error == EAGAIN ? "idle timeout"
                                : strerror(error));
    return error == EAGAIN ? 0 : error;
}

/* Echoes what arrives on a connected, blocking socket until end of file: when
 * the peer has closed or half-closed. Adds the bytes echoed to *echoed. With
 * `packets` (not SOCK_STREAM) each read() returns a message; an empty one
 * counts as the end of file. Returns 0, or -1 with errno set: EAGAIN after
 * SO_RCVTIMEO, ETIMEDOUT after SO_SNDTIMEO, ECONNRESET or EPIPE if the peer is
 * gone (ignore SIGPIPE), EMSGSIZE if a message fills the buffer. */
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

/* Writes `size` bytes to a blocking socket, adding what was taken to *written.
 * Returns 0, or -1 with errno set (EAGAIN becomes ETIMEDOUT). If a signal or
 * SO_SNDTIMEO ends a write() after a part, the loop sends the rest. */
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

/* ---- The parent: a child waiting on each socket ------------------------- */

/* Keeps a child waiting on each socket until a signal stops the server, so that
 * clients rarely wait for fork(), which takes longer than a short echo. */
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
        if (can_log())
            warnx("listening on %s", listeners[i].name);
    }
    while (!stopping) {
        for (int i = 0; i < nlisteners; i++)
            if (count_waiting(&listeners[i]) == 0 && !fork_child(&listeners[i]))
                break; /* fork() failed; its SIGCHLD ends pselect() */
        pselect(0, NULL, NULL, NULL, NULL, &empty_mask);
        if (reap() > 0) /* if each dies at once: at most 10 forks a second */
            nanosleep(&ms_100, NULL);
    }
}

/* Forks a child to wait on a socket, unless its slots are all taken. Returns
 * false if that fails. */
static bool fork_child(const struct listener *l)
{
    static bool reported; /* fork() failed the last time */
    struct child *slot = l->children, *end = slot + max_connections;
    pid_t pid;

    while (slot < end && slot->pid != 0)
        slot++;
    if (slot == end)
        return true;
    pid = fork(); /* not slot->pid = fork(): the child's 0 would free it */
    if (pid == 0) {
        /* Else the other ports would stay in use while this child lives. */
        for (int i = 0; i < nlisteners; i++)
            if (&listeners[i] != l)
                close(listeners[i].fd);
        slot->pid = getpid(); /* first: the watcher reads the pids as soon as */
        close(alive_fd);      /* no process has alive_fd open any more */
        wait_fd = l->fd;
        sigprocmask(SIG_SETMASK, &empty_mask, NULL);
        if (l->network->type == SOCK_DGRAM)
            echo_datagrams(l);
        else
            accept_clients(l, slot);
        _exit(0); /* exit() would remove the parent's socket files */
    }
    if (pid != -1) {
        slot->pid = pid;
        nchildren++;
    } else { /* meanwhile clients wait in the backlog */
        if (!reported && can_log())
            warn("%s: trying again: fork", l->name);
        nanosleep(&ms_100, NULL);
        raise(SIGCHLD); /* pending: pselect() returns at once */
    }
    reported = pid == -1;
    return !reported;
}

static int count_waiting(const struct listener *l)
{
    int waiting = 0;

    for (struct child *c = l->children; c < l->children + max_connections; c++)
        waiting += c->pid != 0 && !c->busy && !c->stopped;
    return waiting;
}

/* Notes which children have ended, were stopped or continued. Several SIGCHLDs
 * may arrive as one, so waitpid() repeats. It may reap strangers: process 1 of
 * a container inherits orphans. Returns how many children were killed. */
static int reap(void)
{
    int status, killed = 0;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG | WUNTRACED | WCONTINUED)) > 0) {
        struct child *c = children, *end = c + nslots;

        while (c < end && c->pid != pid)
            c++;
        if (c == end)
            continue;
        c->stopped = WIFSTOPPED(status);
        if (WIFSTOPPED(status) || WIFCONTINUED(status))
            continue;
        if (WIFSIGNALED(status) && can_log())
            warnx("child %d: killed by signal %d", (int)pid, WTERMSIG(status));
        killed += WIFSIGNALED(status);
        if (exit_status == 0 && WIFEXITED(status) && WEXITSTATUS(status) != 0) {
            errno = WEXITSTATUS(status); /* retry_accept() */
            if (can_log())
                warn("%s: accept",
                     listeners[(c - children) / max_connections].name);
            stopping = exit_status = 1;
        }
        c->busy = false;
        c->pid = 0;
        nchildren--;
    }
    return killed;
}

/* ---- Signals: a graceful shutdown --------------------------------------- */

/* The parent blocks its signals except in pselect(), so that none can come
 * between checking a flag and waiting. */
static void catch_signals(void)
{
    static const int numbers[] = {SIGCHLD, SIGALRM, SIGTERM, SIGINT, SIGHUP};
    sigset_t all;

    sigemptyset(&empty_mask);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        catch_signal(numbers[i], on_signal);
}

/* SIGCHLD only wakes the parent. SIGALRM ends drain(). The other signals stop
 * the parent by a flag, and a child by closing the socket that it waits on:
 * accept() or recvmsg(), called again, fails with EBADF. A flag would not do:
 * the signal may come between the check and the call. */
static void on_signal(int number)
{
    const int saved = errno; /* the interrupted code may be about to read it */

    if (number == SIGALRM)
        out_of_time = 1;
    else if (number != SIGCHLD) {
        stopping = 1;
        close(wait_fd); /* -1 in the parent: no effect */
        wait_fd = -1;
    }
    errno = saved;
}

/* Stops listening in all processes, and lets the children finish with their
 * clients, for 5 seconds or until a second signal. */
static void drain(void)
{
    close_listeners();
    signal_children(SIGTERM);
    out_of_time = 0;
    alarm(5); /* in 5 s SIGALRM comes */
    /* Until 100 ms pass without a signal: by then, idle children have exited,
     * and timeout(1) has sent its two signals, which must count as one. */
    while (nchildren > 0 && !out_of_time &&
           pselect(0, NULL, NULL, NULL, &ms_100, &empty_mask) == -1)
        (void)reap();
    if (nchildren > 0 && can_log())
        warnx("waiting up to 5 s for %d connection%s; signal again to exit now",
              nchildren, nchildren == 1 ? "" : "s");
    for (stopping = 0; nchildren > 0; (void)reap()) { /* 1 again: 2nd signal */
        if (stopping || out_of_time)
            signal_children(SIGKILL);
        pselect(0, NULL, NULL, NULL, NULL, &empty_mask);
    }
}

/* Signals each child, then sends SIGCONT: a stopped child could not exit. */
static void signal_children(int number)
{
    for (const struct child *c = children; c < children + nslots; c++)
        if (c->pid != 0 && kill(c->pid, number) == 0)
            kill(c->pid, SIGCONT);
}

/* Closes all listeners, also at exit(). Removes only its own socket files. */
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

/* Forks a watcher, which sends the children SIGTERM when the parent dies, even
 * by SIGKILL: only the parent has the pipe's write end, so read() returns 0.
 * Without it, orphans would keep the sockets, and no new server could start. */
static void fork_watcher(void)
{
    int ends[2];

    if (pipe(ends) == -1)
        return;
    alive_fd = ends[1];
    if (fork() == 0) {
        if (fork() != 0) /* a grandchild: reap() need not know it */
            _exit(0);
        close(alive_fd);
        for (int i = 0; i < nlisteners; i++)
            close(listeners[i].fd);
        if (read(ends[0], &(char){0}, 1) == 0) /* all signals are blocked */
            signal_children(SIGTERM);
        _exit(0);
    }
    wait(NULL); /* for the one in between */
    close(ends[0]);
}

/* ---- Datagrams ---------------------------------------------------------- */

/* Echoes one datagram after another until the socket is closed. A struct
 * msghdr holds the peer's address, a list of buffers (here one), and control
 * messages: here where the datagram was sent. (AF_UNIX: no room for any.) */
static void echo_datagrams(const struct listener *l)
{
    static char buffer[BUFFER_SIZE];
    const bool is_unix = l->network->domain == AF_UNIX;
    _Alignas(struct cmsghdr) char control[256];

    for (;;) {
        struct sockaddr_storage peer = {0};
        struct iovec part = {buffer, sizeof buffer};
        struct msghdr m = {.msg_name = &peer,
                           .msg_namelen = sizeof peer,
                           .msg_iov = &part,
                           .msg_iovlen = 1,
                           .msg_control = control,
                           .msg_controllen = is_unix ? 0 : sizeof control};
        const ssize_t n = recvmsg(wait_fd, &m, 0);

        if (n == -1 && errno == EBADF)
            return;
        part.iov_len = (size_t)n; /* for the reply; not used if n is -1 */
        if (n == -1 || (n == 0 && m.msg_namelen == 0))
            nanosleep(&ms_1, NULL); /* rare: failed, or shut down: no spin */
        else if ((size_t)n < sizeof buffer && may_reply(&peer))
            send_reply(&m);
    }
}

/* Returns whether to reply. If the spoofed source address of a datagram is an
 * echo service, the echo goes back and forth forever. We expect such services
 * at ports below 1024, at this server's ports on any host, and at its paths. */
static bool may_reply(const struct sockaddr_storage *peer)
{
    const bool is_unix = peer->ss_family == AF_UNIX;

    for (const struct listener *l = listeners; l < listeners + nlisteners; l++)
        if (is_unix ? memcmp(&l->bound, peer, sizeof *peer) == 0
                    : PORT_OF(&l->bound) == PORT_OF(peer) &&
                          l->network->protocol == IPPROTO_UDP)
            return false;
    return is_unix || ntohs(PORT_OF(peer)) >= IPPORT_RESERVED;
}

/* Sends a datagram back, or drops it: one peer whose queue is full must not
 * delay the others. The control message from recvmsg() now sets the source of
 * the reply. It must not set the interface: the route back may differ. Only a
 * link-local address needs one. (An in6_pktinfo begins with its address.) */
static void send_reply(struct msghdr *m)
{
    struct cmsghdr *c = CMSG_FIRSTHDR(m);

    while (c != NULL && c->cmsg_level == SOL_SOCKET) /* rare: a timestamp */
        c = CMSG_NXTHDR(m, c);
    if (c != NULL && c->cmsg_type == IPV6_PKTINFO &&
        !IN6_IS_ADDR_LINKLOCAL((struct in6_addr *)CMSG_DATA(c)))
        ((struct in6_pktinfo *)CMSG_DATA(c))->ipi6_ifindex = 0;
#ifdef IP_PKTINFO
    if (c != NULL && c->cmsg_type == IP_PKTINFO)
        ((struct in_pktinfo *)CMSG_DATA(c))->ipi_ifindex = 0;
#endif
    m->msg_control = c; /* only this one; its data size padded for OpenBSD */
    m->msg_controllen =
        c != NULL ? (socklen_t)CMSG_SPACE(c->cmsg_len - CMSG_LEN(0)) : 0;
    (void)sendmsg(wait_fd, m, MSG_DONTWAIT);
}

/* ---- Rare: stale socket files, sockets that others opened; the options -- */

/* Returns whether to call bind() again. A killed server's children may hold the
 * address for a moment, and its socket file remains. This removes the file if
 * connect() is refused, because then no server listens there. */
static bool reclaim_address(const struct addrinfo *a)
{
    const char *path = ((struct sockaddr_un *)a->ai_addr)->sun_path;
    struct stat file;
    int fd;

    if (errno != EADDRINUSE)
        return false;
    nanosleep(&ms_100, NULL);
    if (a->ai_family != AF_UNIX)
        return true;
    fd = socket(AF_UNIX, a->ai_socktype, 0);
    /* Non-blocking, because a live server's backlog may be full. */
    if (fd != -1 && lstat(path, &file) == 0 && S_ISSOCK(file.st_mode) &&
        fcntl(fd, F_SETFL, O_NONBLOCK) == 0 &&
        connect(fd, a->ai_addr, a->ai_addrlen) == -1 && errno == ECONNREFUSED)
        unlink(path);
    close(fd);
    return true;
}

/* Adopts the sockets of socket activation, as in systemd's sd_listen_fds(3):
 * LISTEN_FDS of them, from descriptor 3 on, if LISTEN_PID is this process. */
static void adopt_listeners(void)
{
    const char *pid = getenv("LISTEN_PID"), *number = getenv("LISTEN_FDS");

    if (pid != NULL && number != NULL && strtol(pid, NULL, 10) == getpid())
        for (long n = strtol(number, NULL, 10); nlisteners < n;)
            adopt_socket(3 + nlisteners); /* which counts them */
}

/* Makes a listener of an open socket: its network must be in the table. */
static void adopt_socket(int fd)
{
    const struct network *n = networks;
    struct sockaddr address = {0};
    socklen_t size = sizeof address, len = sizeof(int);
    int type;

    /* getpeername() accepts only a connection; either call gives the family. */
    if ((inetd ? getpeername(fd, &address, &size)
               : getsockname(fd, &address, &size)) == -1 ||
        getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == -1)
        err(1, "descriptor %d: %s", fd, inetd ? "getpeername" : "getsockname");
    (void)fcntl(fd, F_SETFL, 0); /* no O_NONBLOCK: our calls block */
    while (n->name && (n->domain != address.sa_family || n->type != type))
        n++;
    if (n->name == NULL)
        errx(1, "descriptor %d: unknown kind of socket", fd);
    set_options(fd, type);
    add_listener(&(struct listener){.fd = fd, .network = n});
}

/* -i: serves the connection on standard input, as inetd passes it. */
static int serve_stdin(void)
{
    struct stat log, connection;

    /* inetd makes the connection standard error, too: then there is no log. */
    if (fstat(STDERR_FILENO, &log) == 0 &&
        fstat(STDIN_FILENO, &connection) == 0 &&
        log.st_dev == connection.st_dev && log.st_ino == connection.st_ino &&
        freopen("/dev/null", "w", stderr) == NULL)
        return 1;
    adopt_socket(STDIN_FILENO);
    return serve_client(STDIN_FILENO, listeners, "client") != 0;
}

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
