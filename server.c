/*
 * server.c - an echo server: sends back whatever a client sends (RFC 862).
 *
 * usage: server [-hiv] [-k KEEP] [-m CHILDREN] [-t SECONDS] [-u USER]
 *               [ENDPOINT...]
 *
 * Exit status: 0 after SIGINT, SIGTERM or SIGHUP (with -i, after the client),
 * 1 if it could not start, 2 for wrong usage.
 *
 * The calls, in the order of a connection's life:
 *
 *   tcp, unix, unixpacket: socket, bind, listen; then for each client accept,
 *                          fork (or a child that is free), read and write until
 *                          end of file, close
 *   udp, unixgram:         socket, bind, then recvmsg and sendmsg, a datagram
 *                          at a time; there is no connection and so no child
 *
 * One process, the parent, waits for all of it in one poll(). A child echoes
 * one connection at a time, so a slow client holds up nobody but itself.
 */
#define _DEFAULT_SOURCE      /* setgroups() is in every system, but not in POSIX */
#define __APPLE_USE_RFC_3542 /* and IPV6_RECVPKTINFO on macOS only with this */
#include "common.h"

#include <err.h>
#include <grp.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <pwd.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>

#define RETRY_MS      100  /* when out of descriptors, memory or processes */
#define DRAIN_MS      5000 /* what children get to finish in at the end */
#define PORT_TRIES    100  /* to find one port that is free everywhere */
#define PORT_RESERVED 1024 /* lower ports are those of services */

/* A socket that the parent waits on: it listens, or takes datagrams. */
struct listener {
    int fd;
    const struct network *network;
    in_port_t port;   /* in network byte order; 0 for AF_UNIX */
    const char *path; /* the file that bind() made, or NULL */
    dev_t device;     /* and which file that was */
    ino_t inode;
    char name[ADDRESS_SIZE]; /* its endpoint */
};

struct connection {
    int fd; /* -1 for none */
    const struct listener *from;
    struct sockaddr_storage peer;
    socklen_t peer_len;
};

static int max_children = 512;
static int patience_seconds = 300; /* 0: for ever */
static bool verbose;

static struct listener *listeners;
static int nlisteners;
static char bytes[BUFFER_SIZE]; /* after fork() each process has its own */

/* ---- Listening: socket, bind, listen ------------------------------------ */

/* Where the port stands in an address; NULL if it has none. */
static in_port_t *port_of(struct sockaddr *address)
{
    switch (address->sa_family) {
    case AF_INET:
        return &((struct sockaddr_in *)address)->sin_port;
    case AF_INET6:
        return &((struct sockaddr_in6 *)address)->sin6_port;
    default:
        return NULL;
    }
}

/*
 * Removes the file at an AF_UNIX address if it is a socket that nobody answers
 * on: what a server leaves that was killed. Returns 0, or -1 with
 * errno, EADDRINUSE if it is anything else. A server that unlinks without asking
 * deletes whatever file it is pointed at, or takes a live server's clients.
 */
static int remove_stale(const struct addrinfo *info)
{
    const char *path = ((struct sockaddr_un *)info->ai_addr)->sun_path;
    struct stat status, again;
    bool stale = false;
    int fd;

    if (lstat(path, &status) == 0 && S_ISSOCK(status.st_mode)) {
        fd = socket(AF_UNIX, info->ai_socktype, info->ai_protocol);
        if (fd == -1)
            return -1;
        /* A live server with a full backlog must not make us wait. (On BSD its
         * answer is ECONNREFUSED, too: there it cannot be told from none.) */
        stale = fcntl(fd, F_SETFL, O_NONBLOCK) == 0 &&
                connect(fd, info->ai_addr, info->ai_addrlen) == -1 &&
                errno == ECONNREFUSED;
        close(fd);
    }
    /* Is it still that file? Another server that is starting may just have
     * removed it, and made its own. */
    if (stale && lstat(path, &again) == 0 && again.st_ino == status.st_ino &&
        again.st_dev == status.st_dev)
        return unlink(path);
    errno = EADDRINUSE;
    return -1;
}

/* Notes which file an AF_UNIX socket is. Returns 0, or -1 with errno. */
static int note_file(struct listener *l, const char *path)
{
    struct stat status;

    if (lstat(path, &status) == -1)
        return -1;
    l->device = status.st_dev;
    l->inode = status.st_ino;
    return 0;
}

/* Binds to an address, and notes which file that made. 0, or -1 with errno. */
static int bind_listener(struct listener *l, const struct endpoint *e,
                         const struct addrinfo *info)
{
    if (info->ai_family != AF_UNIX)
        return bind(l->fd, info->ai_addr, info->ai_addrlen);
    if (bind(l->fd, info->ai_addr, info->ai_addrlen) == -1)
        if (errno != EADDRINUSE || remove_stale(info) == -1 ||
            bind(l->fd, info->ai_addr, info->ai_addrlen) == -1)
            return -1;
    l->path = e->address;
    return note_file(l, e->address);
}

static bool is_wildcard(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET6)
        return IN6_IS_ADDR_UNSPECIFIED(
            &((const struct sockaddr_in6 *)address)->sin6_addr);
    return address->sa_family == AF_INET &&
           ((const struct sockaddr_in *)address)->sin_addr.s_addr ==
               htonl(INADDR_ANY);
}

/*
 * Has recvmsg() tell which of our addresses a datagram came to, for sockets
 * that take them on all: a client does not accept a reply from any other than
 * the one it sent to. Not in POSIX. Returns 0, or -1 with errno.
 */
static int ask_destination(int fd, int family)
{
#ifdef IPV6_RECVPKTINFO
    if (family == AF_INET6)
        return turn_on(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO);
#endif
#if defined IP_PKTINFO
    if (family == AF_INET)
        return turn_on(fd, IPPROTO_IP, IP_PKTINFO);
#elif defined IP_RECVDSTADDR
    if (family == AF_INET)
        return turn_on(fd, IPPROTO_IP, IP_RECVDSTADDR);
#endif
    return 0;
}

/* Sets what must be set before bind(). Returns 0, or -1 with errno. */
static int configure_listener(int fd, const struct addrinfo *info)
{
    /* Without this an IPv6 socket takes IPv4, too, on some systems, and the
     * IPv4 socket beside it finds its port in use. */
    if (info->ai_family == AF_INET6 &&
        turn_on(fd, IPPROTO_IPV6, IPV6_V6ONLY) == -1)
        return -1;
    /* Without this the port is "in use" for a minute after the last server has
     * ended: so long its connections are kept, in TIME_WAIT. UDP has no such state; there
     * it would let a second server take the datagrams, with no error. */
    if (info->ai_family != AF_UNIX && info->ai_socktype == SOCK_STREAM)
        return turn_on(fd, SOL_SOCKET, SO_REUSEADDR);
    return 0;
}

/*
 * What remains to be done with a socket that is bound, by us or by whoever
 * handed it to us. Returns 0, or -1 with errno and *call.
 */
static int finish_listener(struct listener *l, const char **call)
{
    struct sockaddr_storage bound = {0}; /* so that a path ends in NUL */
    struct sockaddr *address = (struct sockaddr *)&bound;
    socklen_t len = sizeof bound;

    *call = "getsockname";
    if (getsockname(l->fd, address, &len) == -1)
        return -1;
    /* Between poll() and accept() a client can leave; accept() would block. */
    *call = "fcntl";
    if (fcntl(l->fd, F_SETFL, O_NONBLOCK) == -1)
        return -1;
    *call = "setsockopt";
    /* What a listener accepts inherits both. Neither can wait until there is a
     * child for it: for the second, see configure_connection(). */
    if (l->network->domain == AF_UNIX)
        refuse_descriptors(l->fd);
    else if (l->network->type == SOCK_STREAM)
        (void)turn_on(l->fd, SOL_SOCKET, SO_OOBINLINE);
    if (l->network->type == SOCK_DGRAM && fit_send_buffer(l->fd) == -1)
        return -1;
    if (l->network->type == SOCK_DGRAM && is_wildcard(address) &&
        ask_destination(l->fd, address->sa_family) == -1)
        return -1;
    if (port_of(address) != NULL)
        l->port = *port_of(address);
    else if (l->path == NULL) /* others have made the file: for may_be_ours() */
        (void)note_file(l, ((struct sockaddr_un *)address)->sun_path);
    format_address(l->name, l->network, address, len);
    return 0;
}

/* Is the file at our path the one that we made? As long as the socket is open,
 * no other can get its inode. */
static bool path_is_ours(const struct listener *l)
{
    struct stat status;

    return l->path != NULL && lstat(l->path, &status) == 0 &&
           status.st_dev == l->device && status.st_ino == l->inode;
}

/* Stops listening; a socket file goes with it, if it is still ours. */
static void close_listener(struct listener *l)
{
    if (path_is_ours(l))
        unlink(l->path);
    close(l->fd);
}

/* All that makes a socket a listener. Returns 0, or -1 with errno and e->call.
 */
static int set_up_listener(struct listener *l, struct endpoint *e,
                           const struct addrinfo *info)
{
    e->call = "setsockopt";
    if (configure_listener(l->fd, info) == -1)
        return -1;
    e->call = "bind";
    if (bind_listener(l, e, info) == -1)
        return -1;
    /* The longest backlog there is: the system cuts it to its own limit. */
    e->call = "listen";
    if (info->ai_socktype != SOCK_DGRAM && listen(l->fd, INT_MAX) == -1)
        return -1;
    /* Between bind() and listen() the file looks stale: another server that is
     * starting may have put its own there. */
    e->call = "bind";
    if (l->path != NULL && !path_is_ours(l)) {
        errno = EADDRINUSE;
        return -1;
    }
    return finish_listener(l, &e->call);
}

/* Makes one listener. Returns 0, or -1 with errno and e->call. */
static int open_listener(struct listener *l, struct endpoint *e,
                         const struct addrinfo *info)
{
    int saved;

    l->network = e->network;
    e->call = "socket";
    l->fd = socket(info->ai_family, e->network->type, e->network->protocol);
    if (l->fd == -1)
        return -1;
    if (set_up_listener(l, e, info) == 0)
        return 0;
    saved = errno;
    close_listener(l);
    errno = saved; /* it may have been changed */
    return -1;
}

/* Makes room for one more listener: it is in the list when nlisteners counts
 * it. */
static struct listener *next_listener(void)
{
    listeners =
        realloc(listeners, sizeof *listeners * (size_t)(nlisteners + 1));
    if (listeners == NULL)
        err(1, "realloc");
    return memset(&listeners[nlisteners], 0, sizeof *listeners);
}

/* Does the address stand in the list before? /etc/hosts may name one twice. */
static bool seen_before(const struct endpoint *e, const struct addrinfo *info)
{
    for (const struct addrinfo *i = e->addresses; i != info; i = i->ai_next)
        if (i->ai_addrlen == info->ai_addrlen &&
            memcmp(i->ai_addr, info->ai_addr, i->ai_addrlen) == 0)
            return true;
    return false;
}

/* Has all addresses of the endpoint use the port that one of them has got. */
static void set_port(const struct endpoint *e, in_port_t port)
{
    for (struct addrinfo *i = e->addresses; i != NULL; i = i->ai_next)
        if (port_of(i->ai_addr) != NULL)
            *port_of(i->ai_addr) = port;
}

/*
 * Opens a listener on every address of the endpoint. Returns 0, or -1 with
 * errno, e->call and, in `name`, the address that failed; then none is open.
 * An address that this machine lacks (no IPv6) is passed over if another
 * works. Port 0 is for the system to choose, once for all of them.
 */
static int open_addresses(struct endpoint *e, char *name)
{
    const int first = nlisteners;
    bool fatal = false;
    int saved = 0;

    for (struct addrinfo *i = e->addresses; i && !fatal; i = i->ai_next) {
        struct listener *l;

        if (seen_before(e, i))
            continue;
        l = next_listener();
        if (open_listener(l, e, i) == 0) {
            nlisteners++;
            set_port(e, l->port);
        } else {
            saved = errno;
            format_address(name, e->network, i->ai_addr, i->ai_addrlen);
            fatal = saved != EAFNOSUPPORT && saved != EADDRNOTAVAIL;
        }
    }
    if (!fatal && nlisteners > first)
        return 0;
    while (nlisteners > first)
        close_listener(&listeners[--nlisteners]);
    errno = saved;
    return -1;
}

/* Opens an endpoint, or ends the program with an error. */
static void open_endpoint(struct endpoint *e)
{
    char name[ADDRESS_SIZE] = "";
    in_port_t *port;
    bool any_port;

    port = port_of(e->addresses->ai_addr);
    any_port = port != NULL && *port == 0;
    for (int tries = 1; open_addresses(e, name) == -1; tries++) {
        if (!any_port || errno != EADDRINUSE || tries == PORT_TRIES)
            err(1, "%s: %s", name, e->call);
        set_port(e, 0); /* free on one address, taken on the next */
    }
}

/*
 * The network that a socket is of, from the table: two of its parameters can
 * be asked for, and the third where there is SO_PROTOCOL. Returns NULL with
 * errno and *call, EPROTONOSUPPORT if the table has none like it.
 */
static const struct network *network_of(int fd, const char **call)
{
    struct sockaddr_storage local;
    int type, protocol = -1;
    socklen_t len = sizeof type;

    *call = "getsockopt";
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == -1)
        return NULL;
#ifdef SO_PROTOCOL
    len = sizeof protocol;
    if (getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) == -1)
        return NULL;
#endif
    *call = "getsockname";
    len = sizeof local;
    if (getsockname(fd, (struct sockaddr *)&local, &len) == -1)
        return NULL;
    for (size_t i = 0; i < sizeof networks / sizeof *networks; i++) {
        const struct network *n = &networks[i];

        if (n->type == type && (n->protocol == protocol || protocol == -1) &&
            (n->domain == local.ss_family ||
             (n->domain == AF_UNSPEC && local.ss_family != AF_UNIX)))
            return n;
    }
    errno = EPROTONOSUPPORT;
    return NULL;
}

/* Takes over a socket that is bound and listens, or ends the program. */
static void adopt_listener(int fd)
{
    struct listener *l = next_listener();
    const char *call;
    int listening;
    socklen_t len = sizeof listening;

    l->fd = fd;
    l->network = network_of(fd, &call);
    if (l->network == NULL || finish_listener(l, &call) == -1)
        err(1, "descriptor %d: %s", fd, call);
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) == -1)
        err(1, "descriptor %d: getsockopt", fd);
    if (l->network->type != SOCK_DGRAM && !listening)
        errx(1, "descriptor %d: %s: not listening", fd, l->name);
    nlisteners++;
}

/*
 * Takes over the sockets that somebody has made for us (sd_listen_fds(3) of
 * systemd tells how): as many as LISTEN_FDS says, from descriptor 3 on, if
 * LISTEN_PID is ours. Whoever made them has them still: when this server ends
 * they go on listening, clients wait in the backlog, and the next server finds
 * them there. A port that is bound anew each time refuses whoever comes in
 * between.
 */
static void adopt_listeners(void)
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
    long n;

    if (pid == NULL || count == NULL ||
        parse_number(pid, 1, LONG_MAX) != (long)getpid())
        return;
    n = parse_number(count, 1, 10000);
    if (n == -1)
        errx(1, "LISTEN_FDS %s: not a whole number from 1 to 10000", count);
    for (int fd = STDERR_FILENO + 1; n > 0; fd++, n--)
        adopt_listener(fd);
}

/* At exit(), however the parent comes to it. A child leaves by _exit(). */
static void close_listeners(void)
{
    while (nlisteners > 0)
        close_listener(&listeners[--nlisteners]);
}

/* ---- Echoing a connection ----------------------------------------------- */

/*
 * Writes all of it, or fails: returns 0, or -1 with errno, ETIMEDOUT if nothing
 * moved for SO_SNDTIMEO. Adds to *written what it has written in either case. A
 * socket may take less than it is offered, when its buffer fills up; without
 * the loop the rest is lost, and only under load.
 */
static int write_all(int fd, const char *data, size_t size,
                     unsigned long long *written)
{
    while (size > 0) {
        ssize_t n = write(fd, data, size);

        if (n >= 0) {
            data += n;
            size -= (size_t)n;
            *written += (unsigned long long)n;
        } else if (errno != EINTR) {
            if (errno == EAGAIN || errno == EWOULDBLOCK)
                errno = ETIMEDOUT;
            return -1;
        }
    }
    return 0;
}

/*
 * Echoes a connected, blocking stream socket, by way of a buffer of `size`
 * bytes, until the peer has shut down its sending half and all that came before
 * is sent back. Adds to *echoed the number of bytes. Returns 0, or -1 with
 * errno: ECONNRESET or EPIPE if the peer is gone (SIGPIPE must be ignored, or
 * that ends the process), EAGAIN if it sent nothing for SO_RCVTIMEO, ETIMEDOUT
 * if it took nothing for SO_SNDTIMEO. Follows RFC 862.
 */
static int echo_stream(int fd, char *buffer, size_t size,
                       unsigned long long *echoed)
{
    ssize_t n;

    while ((n = read(fd, buffer, size)) != 0) {
        if (n == -1 && errno == EINTR)
            continue;
        if (n == -1 || write_all(fd, buffer, (size_t)n, echoed) == -1)
            return -1;
    }
    return 0;
}

/*
 * The same for a SOCK_SEQPACKET socket: a message comes in one piece and goes
 * back in one, of which MSG_EOR marks the end. EMSGSIZE if it did not fit, for
 * half of it is no echo. POSIX cannot tell an empty message from end of file:
 * it ends the connection, too.
 */
static int echo_packets(int fd, char *buffer, size_t size,
                        unsigned long long *echoed)
{
    ssize_t n, sent;

    while ((n = receive(fd, buffer, size)) != 0) {
        if (n == -1 && errno == EINTR)
            continue;
        if (n == -1)
            return -1;
        do
            sent = send(fd, buffer, (size_t)n, MSG_EOR);
        while (sent == -1 && errno == EINTR);
        if (sent == -1 && (errno == EAGAIN || errno == EWOULDBLOCK))
            errno = ETIMEDOUT;
        if (sent == -1)
            return -1;
        *echoed += (unsigned long long)sent;
    }
    return 0;
}

/*
 * Decides what close() does, also that of the kernel when a process is killed:
 * with a lingering of 0 seconds it resets the connection, which the client
 * notices. Otherwise it would take what it has got for all. (An
 * AF_UNIX socket cannot ask for a reset.) Returns 0, or -1 with errno.
 */
static int reset_on_close(int fd, bool reset)
{
    const struct linger linger = {.l_onoff = reset, .l_linger = 0};

    return setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
}

/* Sets what only TCP has, and MPTCP. Returns 0, or -1 with errno. */
static int configure_tcp(int fd)
{
#ifdef TCP_USER_TIMEOUT
    const unsigned int patience_ms = (unsigned int)patience_seconds * 1000;

    /* After close(), too, the kernel keeps what the client does not take, and
     * would go on trying for minutes or hours. (0, never to give up, is the
     * usual; and MPTCP does not have this.) */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &patience_ms,
                     sizeof patience_ms);
#endif
    /* Nagle's algorithm holds back a short segment until the client has
     * acknowledged the one before, which it puts off for 40 ms in the hope of
     * sending data along: an echo in several writes takes that long. */
    if (turn_on(fd, IPPROTO_TCP, TCP_NODELAY) == -1)
        return -1;
    /* Finds out, in hours, that the other machine was switched off. */
    return turn_on(fd, SOL_SOCKET, SO_KEEPALIVE);
}

/* Sets what a connection needs to be served. Returns 0, or -1 with errno. */
static int configure_connection(const struct connection *c)
{
    const struct timeval patience = {.tv_sec = patience_seconds};
    const struct network *network = c->from->network;

    if (reset_on_close(c->fd, true) == -1) /* until all is echoed */
        return -1;
    /* BSD hands on the listener's O_NONBLOCK, Linux does not. */
    if (fcntl(c->fd, F_SETFL, 0) == -1)
        return -1;
    /* A client that neither sends nor reads must not keep a child for ever. */
    if (setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &patience,
                   sizeof patience) == -1 ||
        setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &patience,
                   sizeof patience) == -1)
        return -1;
    if (network->type == SOCK_SEQPACKET)
        return fit_send_buffer(c->fd);
    /* The urgent byte (MSG_OOB) is taken out of the stream otherwise. MPTCP
     * has none, and refuses. */
    if (turn_on(c->fd, SOL_SOCKET, SO_OOBINLINE) == -1 && errno != EOPNOTSUPP)
        return -1;
    return network->domain == AF_UNIX ? 0 : configure_tcp(c->fd);
}

/* Serves one connection to its end, and closes it. What goes wrong concerns only
 * its client: the log tells it if asked to, and the server goes on. */
static void serve_connection(const struct connection *c)
{
    char peer[ADDRESS_SIZE], date[32] = "";
    unsigned long long echoed = 0;
    const char *why = "end of file";
    bool idle;
    int status;
    time_t now;

    if (verbose) {
        format_address(peer, c->from->network,
                       (const struct sockaddr *)&c->peer, c->peer_len);
        warnx("%s: %s connected to child %ld", c->from->name, peer,
              (long)getpid());
    }
    status = configure_connection(c);
    if (status == 0)
        status = c->from->network->type == SOCK_SEQPACKET
                     ? echo_packets(c->fd, bytes, sizeof bytes, &echoed)
                     : echo_stream(c->fd, bytes, sizeof bytes, &echoed);
    idle = status == -1 && (errno == EAGAIN || errno == EWOULDBLOCK);
    if (status == -1)
        why = strerror(idle ? ETIMEDOUT : errno);
    /* If the client is owed nothing, close in peace. */
    (void)reset_on_close(c->fd, status == -1 && !idle);
    close(c->fd);
    if (!verbose)
        return;
    now = time(NULL);
    strftime(date, sizeof date, "%Y-%m-%d %H:%M:%S", localtime(&now));
    warnx("%s: %s closed at %s after %llu bytes: %s", c->from->name, peer, date,
          echoed, why);
}

/* ---- Echoing datagrams -------------------------------------------------- */

/* Could a server like this one be at this address? Yes, if it has one of our
 * ports, on whatever machine, or is one of our files, by whatever path. (The
 * abstract names that Linux has are no files.) */
static bool may_be_ours(struct sockaddr *peer)
{
    const in_port_t *port = port_of(peer);
    struct stat file;

    if (port == NULL &&
        stat(((struct sockaddr_un *)peer)->sun_path, &file) == -1)
        return false;
    for (int i = 0; i < nlisteners; i++) {
        const struct listener *l = &listeners[i];

        if (port == NULL && l->device == file.st_dev && l->inode == file.st_ino)
            return true;
        if (port != NULL && l->network->type == SOCK_DGRAM && l->port == *port)
            return true;
    }
    return false;
}

/*
 * May this sender have a reply? A datagram with the return address of another
 * echo service would go back and forth between the two for ever, and anybody
 * can send one. Such services are at ports below 1024, or are this server, or
 * the same program at the same port of another machine.
 */
static bool may_reply(struct sockaddr *peer)
{
    const in_port_t *port = port_of(peer);

    return (port == NULL || ntohs(*port) >= PORT_RESERVED) &&
           !may_be_ours(peer);
}

/*
 * Echoes one datagram, if there is one. Nothing here can block or fail for
 * others: a reply that cannot be sent at once is lost, as datagrams may be.
 *
 * recvmsg() and sendmsg() take all they know in a struct msghdr: the peer's
 * address, a list of buffers (here one), and control messages, which are about
 * the data but not in it: here, which of our addresses it came to. Given back
 * to sendmsg(), that makes it the address that the reply comes from.
 */
static void echo_datagram(const struct listener *l)
{
    static bool said;
    struct sockaddr_storage peer = {0}; /* so that a path ends in NUL */
    char name[ADDRESS_SIZE];
    struct iovec part = {bytes, sizeof bytes};
    union { /* for the address it came to: see ask_destination() */
        struct cmsghdr align;
        char space[128];
    } control;
    struct msghdr message = {.msg_name = &peer,
                             .msg_namelen = sizeof peer,
                             .msg_iov = &part,
                             .msg_iovlen = 1};
    ssize_t n;

    /* No room for AF_UNIX: descriptors that are sent to us, where they cannot
     * be refused, are dropped then; or we would hold them for ever. */
    if (l->network->domain != AF_UNIX) {
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
    }
    n = recvmsg(l->fd, &message, 0);
    /* No sender's name: an AF_UNIX socket that was never bound. Too long for
     * the buffer: half of it would be no echo. */
    if (n == -1 || message.msg_namelen == 0 ||
        (message.msg_flags & MSG_TRUNC) != 0)
        return;
    if (may_reply((struct sockaddr *)&peer)) {
        part.iov_len = (size_t)n;
        message.msg_flags = 0;
        (void)sendmsg(l->fd, &message, 0);
    } else if (!said) {
        said = true;
        format_address(name, l->network, (struct sockaddr *)&peer,
                       message.msg_namelen);
        warnx("%s: no reply to %s, which may be an echo service itself; this "
              "is said only once",
              l->name, name);
    }
}

/* ---- Signals ------------------------------------------------------------ */

static const int handled[] = {SIGCHLD, SIGINT, SIGTERM, SIGHUP};
static sigset_t handled_set;
static volatile sig_atomic_t stop_signals; /* all but SIGCHLD ask to stop */
static int signal_pipe[2];

/*
 * A signal that comes just before poll() comes too late for a look at a flag,
 * and too early for EINTR: the parent would sleep on. So a signal becomes
 * input, and the pipe is readable until the parent has seen to it.
 */
static void on_signal(int number)
{
    int saved = errno;

    /* A terminal that closes after a Ctrl-C is not a second wish to stop. */
    if (number != SIGCHLD && (number != SIGHUP || stop_signals == 0))
        stop_signals++;
    if (write(signal_pipe[1], "", 1) == -1) {
        /* EAGAIN: it is full, and so it is readable, too */
    }
    errno = saved; /* the code that was interrupted may be about to look */
}

/* A pipe for the parent to poll(): reading from it never blocks. */
static void make_pipe(int ends[2])
{
    if (pipe(ends) == -1)
        err(1, "pipe");
    if (fcntl(ends[0], F_SETFL, O_NONBLOCK) == -1)
        err(1, "fcntl");
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal}, old;

    make_pipe(signal_pipe);
    if (fcntl(signal_pipe[1], F_SETFL, O_NONBLOCK) == -1)
        err(1, "fcntl"); /* a handler must not block, either */
    sigemptyset(&handled_set);
    for (size_t i = 0; i < sizeof handled / sizeof *handled; i++)
        sigaddset(&handled_set, handled[i]);
    action.sa_mask = handled_set; /* one handler at a time, or ++ may fail */
    for (size_t i = 0; i < sizeof handled / sizeof *handled; i++) {
        sigaction(handled[i], &action, &old);
        if (handled[i] == SIGHUP && old.sa_handler == SIG_IGN)
            sigaction(SIGHUP, &old, NULL); /* nohup: outlive the terminal */
    }
    sigprocmask(SIG_UNBLOCK, &handled_set, NULL);
}

/* Empties the pipe. How much was in it tells nothing: many signals may have
 * been one. */
static void clear_signals(void)
{
    char ignored[64];

    while (read(signal_pipe[0], ignored, sizeof ignored) > 0)
        ;
}

/* ---- Children that stay ------------------------------------------------- */

/*
 * fork() costs more than all the rest of a short connection. So a child that
 * has finished with its client stays, and says so: it writes its process ID to
 * a pipe, which thereby lists the idle children. The parent reads that when it
 * next has a connection, and passes the descriptor to one of them through a
 * socket pair, the child's channel. It takes AF_UNIX for that: a number in a
 * message would be just a number; with SCM_RIGHTS the kernel gives the receiver
 * a descriptor of its own for the same connection.
 *
 * With -k 0 nothing of this happens: a child has no channel, serves one client,
 * and ends.
 */
struct child {
    pid_t pid;
    int channel; /* the parent's side of it, or -1: it is not to stay */
    bool idle;
};

union rights { /* room for a control message with one descriptor */
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
};

static int max_idle = 32;
static struct child *children; /* those that are alive */
static int nchildren, nidle;
static int idle_pipe[2];

/* The child's part: is free again, and waits for its next connection. Returns
 * false, to end, when the parent is gone or has closed the channel. */
static bool next_connection(int channel, struct connection *c)
{
    const pid_t self = getpid();
    union rights rights;
    struct iovec part = {c, sizeof *c};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &rights,
                             .msg_controllen = sizeof rights};
    const struct cmsghdr *header;

    /* So little, in an empty stream, comes in one piece. (SOCK_DGRAM
     * has no end of file, and macOS no SOCK_SEQPACKET.) */
    if (channel == -1 || write(idle_pipe[1], &self, sizeof self) == -1 ||
        recvmsg(channel, &message, 0) != (ssize_t)sizeof *c)
        return false;
    header = CMSG_FIRSTHDR(&message);
    if (header == NULL || header->cmsg_type != SCM_RIGHTS)
        return false;
    memcpy(&c->fd, CMSG_DATA(header), sizeof c->fd);
    return true;
}

/*
 * The parent's part: passes the connection to an idle child. What goes along
 * is a struct with a pointer in it, which is good in the child as well: that is
 * a copy of the parent, and the listeners stay where they are once there is a
 * child. Returns false if that fails.
 */
static bool hand_over(const struct child *child, const struct connection *c)
{
    struct connection copy = *c;
    union rights rights = {.header = {.cmsg_len = CMSG_LEN(sizeof c->fd),
                                      .cmsg_level = SOL_SOCKET,
                                      .cmsg_type = SCM_RIGHTS}};
    struct iovec part = {&copy, sizeof copy};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &rights,
                             .msg_controllen = sizeof rights};

    memcpy(CMSG_DATA(&rights.header), &c->fd, sizeof c->fd);
    return sendmsg(child->channel, &message, 0) == (ssize_t)sizeof copy;
}

static void close_channel(int *channel)
{
    if (*channel != -1)
        close(*channel);
    *channel = -1;
}

/* Reads which children are idle. Those beyond max_idle are to end. */
static void collect_idle(void)
{
    pid_t pids[64];
    ssize_t n;

    while ((n = read(idle_pipe[0], pids, sizeof pids)) > 0)
        for (int i = 0; i < (int)((size_t)n / sizeof *pids); i++)
            for (int j = 0; j < nchildren; j++)
                if (children[j].pid == pids[i]) {
                    children[j].idle = nidle < max_idle;
                    if (children[j].idle)
                        nidle++;
                    else
                        close_channel(&children[j].channel);
                }
}

/* Passes the connection to a child that is idle. Returns false without one. */
static bool reuse_child(const struct connection *c)
{
    if (nidle == 0)
        collect_idle();
    for (int i = 0; i < nchildren && nidle > 0; i++) {
        if (!children[i].idle)
            continue;
        children[i].idle = false;
        nidle--;
        if (hand_over(&children[i], c))
            return true;
        /* It is dead, or sendmsg() has failed, and it would wait for ever.
         * Without its channel it ends in either case. */
        close_channel(&children[i].channel);
    }
    return false;
}

/* ---- Children: accept, fork, wait --------------------------------------- */

static struct connection unserved = {.fd = -1}; /* has no child yet */
static long long retry_at; /* when to try again what failed; 0: now */
static bool retry_said;

/* Runs in the child: serves the connection, perhaps others, and ends. */
static _Noreturn void run_child(const struct connection *first, int channel)
{
    struct connection c = *first;

    /* Ctrl-C goes to every process of the job, and a service manager may signal
     * them all. The parent alone decides; it lets the children finish. */
    for (size_t i = 0; i < sizeof handled / sizeof *handled; i++)
        signal(handled[i], handled[i] == SIGCHLD ? SIG_DFL : SIG_IGN);
    sigprocmask(SIG_UNBLOCK, &handled_set, NULL);
    close(signal_pipe[0]);
    close(signal_pipe[1]);
    /* The port must not stay in use as long as this connection. */
    for (int i = 0; i < nlisteners; i++)
        close(listeners[i].fd);
    /* Our copies of the other children's channels: while they are open, those
     * children would not notice that the parent is gone. */
    for (int i = 0; i < nchildren; i++)
        close_channel(&children[i].channel);
    close(idle_pipe[0]);
    do
        serve_connection(&c);
    while (next_connection(channel, &c));
    /* exit() would remove the parent's socket files and write out, once more,
     * what the parent had in its stdio buffers. */
    _exit(0);
}

/* Says once that something ran out, and keeps from trying again at once. */
static void retry_later(const struct listener *l, const char *call)
{
    if (!retry_said)
        warnx("%s: %s: %s; trying again", l->name, call, strerror(errno));
    retry_said = true;
    retry_at = now_ms() + RETRY_MS;
}

/* The connection has a child: the parent's copy must go. The client sees end of
 * file only when the last copy closes, and this one would never be closed. */
static void close_unserved(void)
{
    close(unserved.fd);
    unserved.fd = -1;
    retry_said = false;
}

/* Forks a child for the unserved connection, or leaves it for later. */
static void fork_child(void)
{
    int channel[2] = {-1, -1};
    sigset_t old;
    pid_t pid;

    if (max_idle > 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, channel) == -1)
        channel[0] = channel[1] = -1; /* a child that cannot stay will do */
    /* Until the child has done away with the parent's handlers, no signal must
     * run them there: it would be lost, or wake the parent for nothing. */
    sigprocmask(SIG_BLOCK, &handled_set, &old);
    pid = fork();
    switch (pid) {
    case 0:
        close_channel(&channel[0]);
        run_child(&unserved, channel[1]); /* and never returns */
    case -1: /* often passes in a moment: the client need not be lost */
        retry_later(unserved.from, "fork");
        close_channel(&channel[0]);
        break;
    default:
        children[nchildren++] = (struct child){pid, channel[0], false};
        close_unserved();
    }
    close_channel(&channel[1]);
    sigprocmask(SIG_SETMASK, &old, NULL);
}

/* Is there a child for a connection, or may there be one more? */
static bool may_dispatch(void)
{
    return retry_at == 0 && (nidle > 0 || nchildren < max_children);
}

static bool may_accept(void)
{
    return may_dispatch() && unserved.fd == -1;
}

/* Gives the unserved connection to a child, an idle or a new one. Or it stays
 * unserved, if fork() fails or the last idle child has just been killed. */
static void dispatch(void)
{
    if (reuse_child(&unserved))
        close_unserved();
    else if (nchildren < max_children)
        fork_child();
}

static void accept_connection(struct listener *l)
{
    unserved.from = l;
    unserved.peer_len = sizeof unserved.peer;
    unserved.fd =
        accept(l->fd, (struct sockaddr *)&unserved.peer, &unserved.peer_len);
    if (unserved.fd != -1) {
        dispatch();
        return;
    }
    switch (errno) {
    case EINTR:
    case EAGAIN: /* the client left between poll() and accept() */
#if EWOULDBLOCK != EAGAIN
    case EWOULDBLOCK:
#endif
    case ECONNABORTED:
    case EPROTO: /* from here on: what Linux passes on from the network */
    case ENETDOWN:
    case ENETUNREACH:
#ifdef EHOSTDOWN
    case EHOSTDOWN:
#endif
    case EHOSTUNREACH:
    case ENOPROTOOPT:
    case EOPNOTSUPP:
    case EPERM:
        return;
    case EINVAL: /* somebody else who has the socket has shut it down */
        warn("%s: accept", l->name);
        close_listener(l);
        l->fd = -1; /* poll() leaves it out */
        return;
    default: /* EMFILE, ENFILE, ENOBUFS, ENOMEM: the client is still in the
              * backlog, so poll() would return for it at once, again and
              * again, and this loop take all of a processor. */
        retry_later(l, "accept");
    }
}

/*
 * Takes note of the children that ended; this process has no others. They are
 * zombies until waited for, and one SIGCHLD may stand for many: so wait for all
 * there are, each time.
 */
static void reap_children(void)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        /* The process ID of this child must not be left in the pipe when a new
         * one gets the same. */
        collect_idle();
        for (int i = 0; i < nchildren; i++)
            if (children[i].pid == pid) {
                nidle -= children[i].idle;
                close_channel(&children[i].channel);
                children[i] = children[--nchildren];
            }
        if (WIFSIGNALED(status))
            warnx("child %ld: killed by signal %d", (long)pid,
                  WTERMSIG(status));
        retry_at = 0; /* there is room again */
    }
}

/* ---- The server: wait for whatever comes next --------------------------- */

/* Waits until anything happens to the listeners, or to the two pipes, which
 * come after them in `ready`. Returns false if nothing did. */
static bool wait_for_events(struct pollfd *ready)
{
    const bool accepting = may_accept();

    for (int i = 0; i < nlisteners; i++) {
        const struct listener *l = &listeners[i];

        ready[i] = wanted(
            l->fd, l->network->type == SOCK_DGRAM || accepting ? POLLIN : 0);
    }
    ready[nlisteners] = wanted(signal_pipe[0], POLLIN);
    /* No need to wake up for each child that becomes idle, unless they could
     * be too many or one of them is waited for. */
    ready[nlisteners + 1] =
        wanted(idle_pipe[0], !accepting || nchildren > max_idle ? POLLIN : 0);
    if (poll(ready, (nfds_t)nlisteners + 2, retry_at ? RETRY_MS : -1) != -1)
        return true;
    if (errno != EINTR) {
        retry_later(&listeners[0], "poll");
        (void)poll(NULL, 0, RETRY_MS);
    }
    return false;
}

static void take_turn(struct listener *l)
{
    if (l->network->type == SOCK_DGRAM)
        echo_datagram(l);
    else if (may_accept())
        accept_connection(l);
}

/* Until a signal asks to stop. Every socket gets one turn in every round, so
 * that a flood on one of them does not keep the others waiting. */
static void serve(void)
{
    struct pollfd *ready = calloc((size_t)nlisteners + 2, sizeof *ready);

    if (ready == NULL)
        err(1, "calloc");
    while (stop_signals == 0) {
        if (!wait_for_events(ready))
            continue;
        if (ready[nlisteners].revents != 0) {
            clear_signals();
            reap_children();
        }
        if (ready[nlisteners + 1].revents != 0)
            collect_idle();
        if (retry_at != 0 && now_ms() >= retry_at)
            retry_at = 0;
        if (unserved.fd != -1 && may_dispatch())
            dispatch();
        for (int i = 0; i < nlisteners; i++)
            if (ready[i].revents != 0)
                take_turn(&listeners[i]);
    }
    free(ready);
}

/* Lets the children finish, but not for ever, nor past a second signal. */
static void drain(void)
{
    struct pollfd signals = {.fd = signal_pipe[0], .events = POLLIN};
    long long left, deadline = now_ms() + DRAIN_MS;

    close_listeners();
    collect_idle();
    if (nchildren > nidle)
        warnx("connections still open: %d; a second signal cuts them off",
              nchildren - nidle);
    if (unserved.fd != -1)
        close(unserved.fd);
    for (int i = 0; i < nchildren; i++)
        close_channel(&children[i].channel); /* the idle ones end at once */
    while (nchildren > 0 && stop_signals < 2 &&
           (left = deadline - now_ms()) > 0) {
        (void)poll(&signals, 1, (int)left);
        clear_signals();
        reap_children();
    }
    if (nchildren > 0)
        warnx("connections cut off: %d", nchildren);
    for (int i = 0; i < nchildren; i++)
        kill(children[i].pid, SIGKILL);
    for (int i = 0; i < nchildren; i++)
        while (waitpid(children[i].pid, NULL, 0) == -1 && errno == EINTR)
            ;
}

/* inetd makes the connection standard error, too, and a log line would go to
 * the client. Then there is no log. Returns 0, or -1 with errno. */
static int part_log_from_client(void)
{
    struct stat in, log;

    if (fstat(STDIN_FILENO, &in) == -1 || fstat(STDERR_FILENO, &log) == -1 ||
        !S_ISSOCK(in.st_mode) || in.st_dev != log.st_dev ||
        in.st_ino != log.st_ino)
        return 0;
    return close(STDERR_FILENO) == -1 ? -1 : hold_standard_descriptors();
}

/* A stream socket without a peer: has it had one, or does it listen? */
static bool peer_has_left(int fd)
{
    int listening;
    socklen_t len = sizeof listening;

    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) == 0 &&
           !listening;
}

/*
 * For inetd and its kind, which accept() and then start a program for each
 * client: serves the one connection that is standard input, to its end.
 */
static void serve_stdin(void)
{
    struct listener l = {.fd = -1};
    struct connection c = {
        .fd = STDIN_FILENO, .from = &l, .peer_len = sizeof c.peer};
    struct sockaddr_storage local;
    socklen_t len = sizeof local;
    const char *call;
    int saved;

    if (part_log_from_client() == -1)
        exit(1);
    l.network = network_of(c.fd, &call);
    if (l.network == NULL)
        err(1, "standard input: %s", call);
    if (l.network->type == SOCK_DGRAM)
        errx(1, "standard input: not a connection");
    if (getpeername(c.fd, (struct sockaddr *)&c.peer, &c.peer_len) == -1) {
        saved = errno;
        if (saved == ENOTCONN && l.network->type == SOCK_STREAM &&
            peer_has_left(c.fd))
            return;
        errno = saved;
        err(1, "standard input: getpeername");
    }
    if (getsockname(c.fd, (struct sockaddr *)&local, &len) == -1)
        err(1, "standard input: getsockname");
    format_address(l.name, l.network, (struct sockaddr *)&local, len);
    serve_connection(&c);
}

/* ---- Command line ------------------------------------------------------- */

static _Noreturn void usage(FILE *out)
{
    /* clang-format off */
    fputs(
"usage: server [-hiv] [-k KEEP] [-m CHILDREN] [-t SECONDS] [-u USER]\n"
"              [ENDPOINT...]\n"
"\n"
"Sends back whatever a client sends, until SIGINT or SIGTERM.\n"
"\n"
"  -h           print this\n"
"  -i           serve the one connection that is standard input\n"
"  -k KEEP      keep so many idle children for further clients (32);\n"
"               0: fork for each client\n"
"  -m CHILDREN  serve so many connections at a time (512)\n"
"  -t SECONDS   close a connection on which nothing moves for so long (300);\n"
"               0: never\n"
"  -u USER      serve with the rights of this user (to be started as root)\n"
"  -v           log each connection\n"
"\n"
"An ENDPOINT is NETWORK[:ADDRESS]; without any: tcp udp unix\n"
"  tcp, tcp4, tcp6, udp, udp4, udp6   [HOST:]PORT (7777)\n"
"  mptcp, udplite                     the same\n"
"  unix, unixgram, unixpacket         PATH (NETWORK.sock)\n"
"No HOST means this machine only, * every interface; PORT 0 means any.\n",
          out);
    /* clang-format on */
    if (fflush(out) == EOF || ferror(out))
        err(1, "standard output: write");
    exit(out == stdout ? 0 : 2);
}

static _Noreturn void usage_error(const char *what, const char *reason)
{
    warnx("%s: %s", what, reason);
    usage(stderr);
}

/* A number from the command line, or the end with what is wrong with it. */
static int option_number(int option, long min, long max)
{
    long number = parse_number(optarg, min, max);

    if (number == -1) {
        warnx("-%c %s: not a whole number from %ld to %ld", option, optarg, min,
              max);
        usage(stderr);
    }
    return (int)number;
}

/* Reads and resolves all endpoints, or ends the program. */
static struct endpoint *read_endpoints(const char *const *texts, int n)
{
    /* One more, for calloc(0) may be NULL. */
    struct endpoint *endpoints = calloc((size_t)n + 1, sizeof *endpoints);

    if (endpoints == NULL)
        err(1, "calloc");
    for (int i = 0; i < n; i++) {
        if (parse_endpoint(texts[i], &endpoints[i]) == -1)
            usage_error(texts[i], endpoints[i].reason);
        if (is_icmp(endpoints[i].network))
            usage_error(texts[i], "only the kernel can be its server");
    }
    for (int i = 0; i < n; i++)
        if (resolve_endpoint(&endpoints[i], true) == -1)
            errx(1, "%s: %s: %s", texts[i], endpoints[i].call,
                 endpoints[i].reason);
    return endpoints;
}

/*
 * Gives up root, for good, or ends the program. The order matters: without
 * setgroups() the process keeps root's other groups, and after setuid() it has
 * no right any more to change its groups. The result is looked at.
 */
static void become_user(const char *name)
{
    const struct passwd *user;

    errno = 0; /* getpwnam() may leave it so, if there is no such user */
    user = getpwnam(name);
    if (user == NULL)
        errx(1, "-u %s: getpwnam: %s", name,
             errno == 0 ? "there is no such user" : strerror(errno));
    if (setgroups(1, &user->pw_gid) == -1)
        err(1, "-u %s: setgroups", name);
    if (setgid(user->pw_gid) == -1)
        err(1, "-u %s: setgid", name);
    if (setuid(user->pw_uid) == -1)
        err(1, "-u %s: setuid", name);
    if (user->pw_uid != 0 && setuid(0) == 0)
        errx(1, "-u %s: setuid: can still be undone", name);
}

/* Opens all endpoints, then announces them: nothing is said too early. */
static void open_endpoints(struct endpoint *endpoints, int n, const char *user)
{
    atexit(close_listeners);
    /* Ports first, for some need root; then, as the user, the socket files:
     * they shall be the user's, who has to remove them in the end. */
    for (int i = 0; i < n; i++)
        if (endpoints[i].network->domain != AF_UNIX)
            open_endpoint(&endpoints[i]);
    if (user != NULL)
        become_user(user);
    for (int i = 0; i < n; i++)
        if (endpoints[i].network->domain == AF_UNIX)
            open_endpoint(&endpoints[i]);
    for (int i = 0; i < n; i++)
        release_endpoint(&endpoints[i]);
    free(endpoints);
    for (int i = 0; i < nlisteners; i++)
        warnx("listening on %s", listeners[i].name);
}

/* Sets what the options say. Returns the index of the first endpoint. */
static int parse_options(int argc, char **argv, bool *inetd, const char **user)
{
    int option;

    if (argc > 1 && strcmp(argv[1], "--help") == 0)
        usage(stdout);
    while ((option = getopt(argc, argv, "hik:m:t:u:v")) != -1) {
        switch (option) {
        case 'h':
            usage(stdout);
        case 'i':
            *inetd = true;
            break;
        case 'k':
            max_idle = option_number(option, 0, 1000000);
            break;
        case 'm':
            max_children = option_number(option, 1, 1000000);
            break;
        case 't':
            patience_seconds = option_number(option, 0, 1000000);
            break;
        case 'u':
            *user = optarg;
            break;
        case 'v':
            verbose = true;
            break;
        default:
            usage(stderr);
        }
    }
    if (*inetd && optind < argc)
        usage_error(argv[optind], "-i takes no endpoint");
    if (*inetd && *user != NULL)
        usage_error("-i, -u", "whoever starts a server for each client sets "
                              "its user");
    return optind;
}

int main(int argc, char **argv)
{
    static const char *const usual[] = {"tcp", "udp", "unix", NULL};
    static char line[BUFSIZ];
    const char *const *texts, *user = NULL;
    struct endpoint *endpoints;
    bool inetd = false;
    int n = 0;

    if (hold_standard_descriptors() == -1)
        return 1;
    /* One write() a line: the lines of two processes do not mix. */
    setvbuf(stderr, line, _IOLBF, sizeof line);
    /* Without this, a write() to a client that is gone ends the process. */
    signal(SIGPIPE, SIG_IGN);
    texts =
        (const char *const *)argv + parse_options(argc, argv, &inetd, &user);
    if (inetd) {
        serve_stdin();
        return 0;
    }
    adopt_listeners();
    if (*texts == NULL && nlisteners == 0)
        texts = usual;
    while (texts[n] != NULL)
        n++;
    endpoints = read_endpoints(texts, n);
    umask(S_IRWXG | S_IRWXO); /* a socket file is for its owner alone */
    catch_signals();
    make_pipe(idle_pipe);
    children = calloc((size_t)max_children, sizeof *children);
    if (children == NULL)
        err(1, "calloc");
    open_endpoints(endpoints, n, user);
    serve();
    drain();
    return 0;
}
