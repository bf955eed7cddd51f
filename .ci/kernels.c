/*
 * kernels.c - a library to be preloaded, which lets Linux answer the server and
 * the client, and no other program, as other kernels do. The variable KERNEL
 * holds words: systems (macos freebsd openbsd netbsd) and single rules. Each
 * rule names the function of the kernels that it was read in.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

/* What Linux lacks; the build of the programs defines it, too. */
#define IP_RECVDSTADDR 7 /* FreeBSD, OpenBSD; IP_SENDSRCADDR is the same */

enum rule {
    LEVEL,
    UNIXLEVEL,
    DONTWAIT,
    LINGER,
    SEQPACKET,
    CMSG,
    SHUT,
    PKTINFO,
    DSTADDR,
    GRAMSPACE,
    UDPSPACE,
    SBMAX,
    GRAMFULL,
    FULL,
    NULLPOLL,
    NONAME,
    GONE,
    NBIO,
    ABSTRACT,
    NOTIMEO,
    RULES
};

static const struct {
    const char *name, *systems;
} rules[RULES] = {
    /* An IP option for an IPv6 socket, say, is EINVAL: ip_ctloutput(),
     * ip6_ctloutput(). NetBSD has ENOPROTOOPT, as Linux sometimes. */
    [LEVEL] = {"level", "macos freebsd openbsd"},
    /* The same for an AF_UNIX socket: uipc_ctloutput(). The others have
     * ENOPROTOOPT or EOPNOTSUPP. */
    [UNIXLEVEL] = {"unixlevel", "freebsd"},
    /* MSG_DONTWAIT has no effect on sending: xnu's sosendcheck(). */
    [DONTWAIT] = {"dontwait", "macos"},
    /* The {1,0} that a connection inherits becomes TCP_LINGERTIME, 120 s:
     * tcp_usr_attach(), OpenBSD and NetBSD tcp_attach(). */
    [LINGER] = {"linger", "macos freebsd openbsd netbsd"},
    /* localsw[] in xnu's uipc_proto.c has no SOCK_SEQPACKET. */
    [SEQPACKET] = {"seqpacket", "macos"},
    /* The padding counts: OpenBSD's udp_output(), ip6_setpktopts(). */
    [CMSG] = {"cmsg", "openbsd"},
    /* No option can be set after both directions have been shut down, by the
     * peer's reset for example: xnu's sosetoptlock(). */
    [SHUT] = {"shut", "macos"},
    /* ipi_addr holds a datagram's destination, and ipi_spec_dst nothing, though
     * sending reads that: xnu's ip_savecontrol(), udp_check_pktinfo(). */
    [PKTINFO] = {"pktinfo", "macos"},
    /* There is IP_RECVDSTADDR instead, and a socket that is bound to an address
     * cannot send with it: ip_savecontrol(), FreeBSD's udp_output(). */
    [DSTADDR] = {"dstaddr", "freebsd openbsd"},
    /* The largest message out is 2 KiB, in 4 KiB, until SO_SNDBUF, SO_RCVBUF:
     * unpdg_sendspace, unpdg_recvspace (later 16 KiB). What does not fit is
     * lost, here on arrival. (How many messages fit is as on Linux.) */
    [GRAMSPACE] = {"gramspace", "macos freebsd netbsd"},
    /* The same for UDP: udp_sendspace and udp_recvspace, 9 KiB and 41 KiB. */
    [UDPSPACE] = {"udpspace", "freebsd openbsd netbsd"},
    /* A buffer over 256 KiB less overhead is ENOBUFS: NetBSD's sbreserve(). */
    [SBMAX] = {"sbmax", "netbsd"},
    /* Sending to a full unixgram socket never blocks: ENOBUFS in uipc_send(),
     * and in uipc_usrreq(). */
    [GRAMFULL] = {"gramfull", "macos freebsd openbsd netbsd"},
    /* Connecting to a full backlog neither: sonewconn(), unp_connect(). */
    [FULL] = {"full", "macos freebsd openbsd netbsd"},
    /* poll() has POLLNVAL for such devices: xnu's filt_specattach(). */
    [NULLPOLL] = {"nullpoll", "macos"},
    /* An AF_UNIX peer without a name has one, sun_noname: uipc_accept(). */
    [NONAME] = {"noname", "macos freebsd openbsd netbsd"},
    /* A client that has been reset already has no address, and *len becomes 0:
     * tcp_usr_accept(), and "gotnoname" in xnu's accept_nocancel(). */
    [GONE] = {"gone", "macos"},
    /* A connection inherits O_NONBLOCK: accept_nocancel(), kern_accept4(). */
    [NBIO] = {"nbio", "macos freebsd openbsd netbsd"},
    /* A unixgram socket gets no name by itself, and a name needs a file: EINVAL
     * and ENOENT in unp_bind(). */
    [ABSTRACT] = {"abstract", "macos freebsd openbsd netbsd"},
    /* connect() takes no notice of SO_SNDTIMEO: connectit(), kern_connectat(),
     * sys_connect(), do_sys_connect(). */
    [NOTIMEO] = {"notimeo", "macos freebsd openbsd netbsd"},
};

static bool on[RULES];
static struct state {
    int send_space, receive_space; /* of a socket for datagrams; 0: any */
    bool connected;
} states[4096]; /* by descriptor */

static struct state *state_of(int fd)
{
    return &states[(unsigned)fd % (sizeof states / sizeof *states)];
}

/* Fails if a word means nothing: what is not switched on tests nothing. */
__attribute__((constructor)) static void switch_on(void)
{
    extern char *program_invocation_short_name;
    const char *name = program_invocation_short_name, *value = getenv("KERNEL");
    char *words = strdup(value != NULL ? value : "");

    if (strcmp(name, "server") != 0 && strcmp(name, "client") != 0)
        words[0] = '\0';
    for (char *w = strtok(words, " "); w != NULL; w = strtok(NULL, " ")) {
        bool known = false;

        for (int i = 0; i < RULES; i++)
            if (strcmp(w, rules[i].name) == 0 ||
                (strlen(w) > 4 && strstr(rules[i].systems, w) != NULL))
                on[i] = known = true;
        if (!known) {
            fprintf(stderr, "KERNEL: '%s' is no system and no rule\n", w);
            _exit(99);
        }
    }
    free(words);
}

static int fail(int number)
{
    errno = number;
    return -1;
}

/* An option of the socket itself, such as SO_TYPE; -1: not a socket. */
static int get(int fd, int option)
{
    const int saved = errno;
    int value = -1;
    socklen_t len = sizeof value;

    (void)syscall(SYS_getsockopt, fd, SOL_SOCKET, option, &value, &len);
    errno = saved;
    return value;
}

static bool is_gram(int fd, int domain)
{
    return get(fd, SO_TYPE) == SOCK_DGRAM && get(fd, SO_DOMAIN) == domain;
}

/* ---- Options ------------------------------------------------------------ */

static int wait_for(struct pollfd *p, nfds_t n, int ms)
{
    struct timespec limit = {ms / 1000, ms % 1000 * 1000000L};

    return (int)syscall(SYS_ppoll, p, n, ms < 0 ? NULL : &limit, NULL, 0);
}

static bool is_shut(int fd)
{
    struct pollfd on_fd = {fd, 0, 0};

    /* POLLHUP also means: not connected yet. Descriptor 0 is inetd's. */
    return (fd == 0 || state_of(fd)->connected) &&
           get(fd, SO_TYPE) != SOCK_DGRAM && wait_for(&on_fd, 1, 0) == 1 &&
           (on_fd.revents & POLLHUP) != 0;
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
    const int domain = get(fd, SO_DOMAIN);
    const bool size = level == SOL_SOCKET && len == sizeof(int) &&
                      (name == SO_SNDBUF || name == SO_RCVBUF);
    const bool own = level == SOL_SOCKET ||
                     level == (domain == AF_INET ? IPPROTO_IP : IPPROTO_IPV6) ||
                     (level == IPPROTO_TCP && get(fd, SO_TYPE) == SOCK_STREAM);
    struct state *s = state_of(fd);

    if (on[SHUT] && is_shut(fd))
        return fail(EINVAL);
    if (domain == AF_UNIX ? on[UNIXLEVEL] && level != SOL_SOCKET
                          : on[LEVEL] && !own)
        return fail(EINVAL);
    if (on[SBMAX] && size && *(const int *)value > 209715)
        return fail(ENOBUFS);
    if (size && name == SO_SNDBUF && s->send_space > 0)
        s->send_space = *(const int *)value;
    if (size && name == SO_RCVBUF && s->receive_space > 0)
        s->receive_space = *(const int *)value;
    if (on[DSTADDR] && level == IPPROTO_IP && name == IP_PKTINFO)
        return fail(ENOPROTOOPT);
    if (on[DSTADDR] && level == IPPROTO_IP && name == IP_RECVDSTADDR)
        name = IP_PKTINFO;
    return (int)syscall(SYS_setsockopt, fd, level, name, value, len);
}

/* ---- Opening: socket, bind, connect, accept, poll ----------------------- */

int socket(int domain, int type, int protocol)
{
    int fd;

    if (on[SEQPACKET] && domain == AF_UNIX && type == SOCK_SEQPACKET)
        return fail(EPROTONOSUPPORT);
    fd = (int)syscall(SYS_socket, domain, type, protocol);
    if (fd < 0)
        return fd;
    *state_of(fd) = (struct state){0};
    if (on[GRAMSPACE] && is_gram(fd, AF_UNIX))
        *state_of(fd) = (struct state){2 * 1024, 4 * 1024, false};
    if (on[UDPSPACE] && (is_gram(fd, AF_INET) || is_gram(fd, AF_INET6)))
        *state_of(fd) = (struct state){9216, 40 * (1024 + 28), false};
    return fd;
}

/* The errno for a name that only Linux has; or 0. */
static int refuse_name(const struct sockaddr *a, socklen_t len)
{
    if (!on[ABSTRACT] || a->sa_family != AF_UNIX)
        return 0;
    if (len <= offsetof(struct sockaddr_un, sun_path))
        return EINVAL;
    return ((const struct sockaddr_un *)a)->sun_path[0] == '\0' ? ENOENT : 0;
}

int bind(int fd, const struct sockaddr *a, socklen_t len)
{
    const int error = refuse_name(a, len);

    return error ? fail(error) : (int)syscall(SYS_bind, fd, a, len);
}

int connect(int fd, const struct sockaddr *a, socklen_t len)
{
    const int flags = fcntl(fd, F_GETFL), error = refuse_name(a, len);
    struct timeval limit = {0, 0}, none = {0, 0};
    socklen_t size = sizeof limit;
    int status;

    if (error)
        return fail(error);
    if (on[NOTIMEO]) {
        (void)syscall(SYS_getsockopt, fd, SOL_SOCKET, SO_SNDTIMEO, &limit,
                      &size);
        (void)syscall(SYS_setsockopt, fd, SOL_SOCKET, SO_SNDTIMEO, &none, size);
    }
    if (on[FULL] && a->sa_family == AF_UNIX)
        (void)fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    status = (int)syscall(SYS_connect, fd, a, len);
    if (on[FULL] && a->sa_family == AF_UNIX) {
        if (status == -1 && errno == EAGAIN)
            errno = ECONNREFUSED;
        (void)fcntl(fd, F_SETFL, flags);
    }
    if (on[NOTIMEO]) {
        const int saved = errno;

        (void)syscall(SYS_setsockopt, fd, SOL_SOCKET, SO_SNDTIMEO, &limit,
                      size);
        errno = saved;
    }
    state_of(fd)->connected = status == 0;
    return status;
}

/* Gives an AF_UNIX peer that has no name the one of BSD. */
static void give_name(int fd, struct sockaddr *a, socklen_t *len)
{
    if (on[NONAME] && a != NULL && *len <= sizeof a->sa_family &&
        get(fd, SO_DOMAIN) == AF_UNIX) {
        *a = (struct sockaddr){.sa_family = AF_UNIX};
        *len = sizeof *a;
    }
}

int accept(int fd, struct sockaddr *a, socklen_t *len)
{
    const struct linger inherited = {1, 120};
    struct linger l = {0, 0};
    struct sockaddr_storage peer;
    socklen_t size = sizeof l, peer_len = sizeof peer;
    const int conn = (int)syscall(SYS_accept, fd, &peer, &peer_len);

    if (conn == -1)
        return -1;
    *state_of(conn) = (struct state){0, 0, true};
    if (on[GONE] && get(conn, SO_DOMAIN) != AF_UNIX && is_shut(conn))
        peer_len = 0;
    else
        give_name(conn, (struct sockaddr *)&peer, &peer_len);
    if (a != NULL) {
        memcpy(a, &peer, *len < peer_len ? *len : peer_len);
        *len = peer_len;
    }
    if (on[LINGER] && get(conn, SO_DOMAIN) != AF_UNIX &&
        syscall(SYS_getsockopt, conn, SOL_SOCKET, SO_LINGER, &l, &size) == 0 &&
        l.l_onoff && l.l_linger == 0)
        (void)syscall(SYS_setsockopt, conn, SOL_SOCKET, SO_LINGER, &inherited,
                      sizeof inherited);
    if (on[NBIO] && (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0)
        (void)fcntl(conn, F_SETFL, O_NONBLOCK);
    return conn;
}

/* Is it /dev/null or /dev/tty? */
static bool is_invalid(int fd)
{
    struct stat file;

    return on[NULLPOLL] && fd >= 0 && fstat(fd, &file) == 0 &&
           S_ISCHR(file.st_mode) &&
           (file.st_rdev == makedev(1, 3) || file.st_rdev == makedev(5, 0));
}

int poll(struct pollfd *p, nfds_t n, int ms)
{
    int ready;

    for (nfds_t i = 0; i < n; i++)
        ms = is_invalid(p[i].fd) ? 0 : ms;
    ready = wait_for(p, n, ms);
    for (nfds_t i = 0; i < n && ready != -1; i++)
        if (is_invalid(p[i].fd)) {
            ready += p[i].revents == 0;
            p[i].revents = POLLNVAL;
        }
    return ready;
}

/* ---- Sending ------------------------------------------------------------ */

static bool is_wildcard(int fd)
{
    struct sockaddr_in own = {0};
    socklen_t len = sizeof own;

    (void)getsockname(fd, (struct sockaddr *)&own, &len);
    return own.sin_addr.s_addr == INADDR_ANY;
}

ssize_t sendmsg(int fd, const struct msghdr *given, int flags)
{
    union { /* what a source address becomes */
        struct cmsghdr c;
        char space[CMSG_SPACE(sizeof(struct in_pktinfo))];
    } control = {{CMSG_LEN(sizeof(struct in_pktinfo)), IPPROTO_IP, IP_PKTINFO}};
    struct msghdr m = *given;
    const struct cmsghdr *c = m.msg_controllen > 0 ? m.msg_control : NULL;
    const struct state *s = state_of(fd);
    const bool gram = is_gram(fd, AF_UNIX);
    size_t size = 0;
    ssize_t n;

    for (size_t i = 0; i < m.msg_iovlen; i++)
        size += m.msg_iov[i].iov_len;
    if (s->send_space > 0 && size > (size_t)s->send_space)
        return fail(EMSGSIZE); /* sosend() */
    if (on[CMSG] && c != NULL && CMSG_ALIGN(c->cmsg_len) > m.msg_controllen)
        return fail(EINVAL);
    if (on[DSTADDR] && c != NULL && c->cmsg_level == IPPROTO_IP) {
        if (c->cmsg_type != IP_RECVDSTADDR || !is_wildcard(fd))
            return fail(EINVAL);
        memcpy(&((struct in_pktinfo *)CMSG_DATA(&control.c))->ipi_spec_dst,
               CMSG_DATA(c), sizeof(struct in_addr));
        m.msg_control = &control;
        m.msg_controllen = sizeof control;
    }
    if (on[DONTWAIT])
        flags &= ~MSG_DONTWAIT;
    if (on[GRAMFULL] && gram)
        flags |= MSG_DONTWAIT;
    n = syscall(SYS_sendmsg, fd, &m, flags);
    if (n == -1 && errno == EAGAIN && on[GRAMFULL] && gram)
        errno = ENOBUFS;
    return n;
}

ssize_t send(int fd, const void *data, size_t size, int flags)
{
    struct iovec part = {(void *)data, size};

    return sendmsg(fd, &(struct msghdr){.msg_iov = &part, .msg_iovlen = 1},
                   flags);
}

ssize_t writev(int fd, const struct iovec *parts, int n)
{
    const struct msghdr m = {.msg_iov = (void *)parts, .msg_iovlen = (size_t)n};

    return get(fd, SO_TYPE) == SOCK_DGRAM ? sendmsg(fd, &m, 0)
                                          : syscall(SYS_writev, fd, parts, n);
}

/* ---- Receiving ---------------------------------------------------------- */

/* Rewrites the control message of IP_PKTINFO. */
static void change_info(struct msghdr *m)
{
    struct cmsghdr *c = CMSG_FIRSTHDR(m);
    struct in_pktinfo info;

    for (; c != NULL; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level != IPPROTO_IP || c->cmsg_type != IP_PKTINFO)
            continue;
        memcpy(&info, CMSG_DATA(c), sizeof info);
        info.ipi_spec_dst.s_addr = INADDR_ANY;
        if (on[PKTINFO])
            memcpy(CMSG_DATA(c), &info, sizeof info);
        if (on[DSTADDR]) { /* it is the only one: the length may change */
            *c = (struct cmsghdr){CMSG_LEN(sizeof info.ipi_addr), IPPROTO_IP,
                                  IP_RECVDSTADDR};
            memcpy(CMSG_DATA(c), &info.ipi_addr, sizeof info.ipi_addr);
            m->msg_controllen = CMSG_SPACE(sizeof info.ipi_addr);
            return;
        }
    }
}

ssize_t recvmsg(int fd, struct msghdr *given, int flags)
{
    const size_t space = (size_t)state_of(fd)->receive_space;
    struct msghdr m;
    ssize_t n;

    do { /* the buffers of both programs hold more than is let in */
        m = *given;
        n = syscall(SYS_recvmsg, fd, &m, flags);
    } while (space > 0 && n > (ssize_t)space);
    if (n >= 0) {
        change_info(&m);
        give_name(fd, m.msg_name, &m.msg_namelen);
    }
    *given = m;
    return n;
}

ssize_t recv(int fd, void *data, size_t size, int flags)
{
    struct iovec part = {data, size};

    return recvmsg(fd, &(struct msghdr){.msg_iov = &part, .msg_iovlen = 1},
                   flags);
}
