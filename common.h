/*
 * common.h - what the echo server and its client share: the table of networks,
 * endpoints ("tcp:[::1]:7777") in and out of text, and a few small helpers.
 *
 * Include it first: the feature macro below must come before any system
 * header. No function here prints or exits; each reports to its caller.
 */
#ifndef COMMON_H
#define COMMON_H

/* With this glibc and musl declare what POSIX has, under -std=c11. BSD and macOS
 * declare all they have, unless this is defined: then err() would be missing. */
#if !defined __APPLE__ && !defined __FreeBSD__ && !defined __NetBSD__ && \
    !defined __OpenBSD__ && !defined __DragonFly__
#define _POSIX_C_SOURCE 200809L
#endif

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* A large buffer saves system calls; only the pages touched cost memory. */
#define BUFFER_SIZE  (256 * 1024)
#define HOST_SIZE    256 /* a DNS name has at most 253 characters (RFC 1035) */
#define ADDRESS_SIZE 256 /* any printed endpoint: a path is the longest */

/* ---- Networks: the three parameters of socket() ------------------------- */

/* A name for each useful choice of the three; Go's library calls it a network.
 */
struct network {
    const char *name;
    int domain;          /* whose addresses: IPv4, IPv6, the file system */
    int type;            /* bytes in a stream, or messages */
    int protocol;        /* 0: the usual one for this domain and type */
    const char *address; /* the usual one, if the user gives none */
};

/* AF_UNSPEC stands for IPv4 and IPv6 alike: every address that a name has. */
static const struct network networks[] = {
    {"tcp", AF_UNSPEC, SOCK_STREAM, IPPROTO_TCP, "7777"},
    {"tcp4", AF_INET, SOCK_STREAM, IPPROTO_TCP, "7777"},
    {"tcp6", AF_INET6, SOCK_STREAM, IPPROTO_TCP, "7777"},
    {"udp", AF_UNSPEC, SOCK_DGRAM, IPPROTO_UDP, "7777"},
    {"udp4", AF_INET, SOCK_DGRAM, IPPROTO_UDP, "7777"},
    {"udp6", AF_INET6, SOCK_DGRAM, IPPROTO_UDP, "7777"},
#ifdef IPPROTO_MPTCP /* TCP over several paths at once (RFC 8684) */
    {"mptcp", AF_UNSPEC, SOCK_STREAM, IPPROTO_MPTCP, "7777"},
#endif
#ifdef IPPROTO_UDPLITE /* UDP that may deliver damaged data (RFC 3828) */
    {"udplite", AF_UNSPEC, SOCK_DGRAM, IPPROTO_UDPLITE, "7777"},
#endif
#ifdef __linux__ /* the kernel answers; see exchange() of the client */
    {"icmp", AF_INET, SOCK_DGRAM, IPPROTO_ICMP, "127.0.0.1"},
    {"icmp6", AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6, "[::1]"},
#endif
    {"unix", AF_UNIX, SOCK_STREAM, 0, "unix.sock"},
    {"unixgram", AF_UNIX, SOCK_DGRAM, 0, "unixgram.sock"},
    {"unixpacket", AF_UNIX, SOCK_SEQPACKET, 0, "unixpacket.sock"},
};

/* What ICMP carries is for the kernel: there are no ports, and no servers. */
static inline bool is_icmp(const struct network *network)
{
    return network->protocol == IPPROTO_ICMP ||
           network->protocol == IPPROTO_ICMPV6;
}

/* ---- Endpoints: NETWORK[:ADDRESS], and the addresses they stand for ----- */

struct endpoint {
    const char *text; /* as the user wrote it */
    const struct network *network;
    char host[HOST_SIZE];       /* "": this machine; "*": every interface */
    const char *address;        /* a port or service name; AF_UNIX: a path */
    struct addrinfo *addresses; /* filled by resolve_endpoint() */
    struct addrinfo unix_info;  /* AF_UNIX: the one entry of that list, */
    struct sockaddr_un unix_address; /* and what it points to */
    const char *call, *reason;       /* after a failure: what failed, and why */
};

/*
 * Is `port` a number from 0 to 65535, or a service name that getservbyname()
 * (POSIX) knows for this type of socket? Numbers are looked at here because
 * some getaddrinfo()s take 70000 for 4464, which is the rest modulo 65536.
 */
static inline bool valid_port(const char *port, int type)
{
    if (port[strspn(port, "0123456789")] == '\0')
        return *port != '\0' && strtol(port, NULL, 10) <= 65535;
    return getservbyname(port, type == SOCK_STREAM ? "tcp" : "udp") != NULL;
}

/* Splits `[HOST:]PORT`; ICMP has a HOST only. Returns NULL, or what is wrong. */
static inline const char *split_host_port(struct endpoint *e)
{
    const char *host = e->address;
    const bool port = !is_icmp(e->network);
    const char *end = port ? strrchr(host, ':') : host + strlen(host);

    e->host[0] = '\0';
    if (end != NULL) {
        size_t len = (size_t)(end - host);

        if (len >= 2 && host[0] == '[' && host[len - 1] == ']') {
            host++;
            len -= 2;
        } else if (memchr(host, ':', len) != NULL) {
            return port ? "a literal IPv6 address is written [ADDRESS]:PORT"
                        : "a literal IPv6 address is written [ADDRESS]";
        }
        if (len == 0)
            return "empty host ('*' means every interface)";
        if (len >= sizeof e->host)
            return "host name too long";
        memcpy(e->host, host, len);
        e->host[len] = '\0';
        e->address = port ? end + 1 : "0";
    }
    if (!valid_port(e->address, e->network->type))
        return "PORT must be a number up to 65535 or a known service";
    return NULL;
}

/*
 * Reads an endpoint. `text` must live as long as `e`, which points into it.
 * Returns 0, or -1 with what is wrong with the text in e->reason. Looks up no host: that can take
 * long, and can fail for other reasons than the text.
 */
static inline int parse_endpoint(const char *text, struct endpoint *e)
{
    size_t len = strcspn(text, ":");

    memset(e, 0, sizeof *e);
    e->text = text;
    for (size_t i = 0; i < sizeof networks / sizeof *networks; i++)
        if (strlen(networks[i].name) == len &&
            memcmp(networks[i].name, text, len) == 0)
            e->network = &networks[i];
    if (e->network == NULL) {
        e->reason = *text == '\0' ? "empty endpoint"
                                  : "unknown network (tcp, udp, unix ...)";
        return -1;
    }
    e->address = text[len] == ':' ? text + len + 1 : e->network->address;
    if (*e->address == '\0')
        e->reason = "empty address";
    else if (e->network->domain != AF_UNIX)
        e->reason = split_host_port(e);
    return e->reason == NULL ? 0 : -1;
}

/* The address of an AF_UNIX endpoint: a path, and so nothing to look up. */
static inline int resolve_path(struct endpoint *e)
{
    size_t len = strlen(e->address);

    /* Cut off, it would be the name of some other file. */
    if (len >= sizeof e->unix_address.sun_path) {
        e->call = "sun_path";
        e->reason = strerror(ENAMETOOLONG);
        return -1;
    }
    memcpy(e->unix_address.sun_path, e->address, len + 1);
    e->unix_address.sun_family = AF_UNIX;
    e->unix_info.ai_family = AF_UNIX;
    e->unix_info.ai_socktype = e->network->type;
    e->unix_info.ai_addr = (struct sockaddr *)&e->unix_address;
    e->unix_info.ai_addrlen =
        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
    e->addresses = &e->unix_info;
    return 0;
}

/*
 * Fills e->addresses, the list to try in turn; the host "*" makes sense only if
 * `passive`, for a server. Returns 0, or -1 with e->call and e->reason.
 * release_endpoint() frees the list. An endpoint that has it cannot be copied:
 * it may point into itself.
 *
 * Without a host getaddrinfo() gives the loopback addresses, which only this
 * machine can reach; with AI_PASSIVE, the wildcard ones, which stand for every
 * interface. The name "localhost" would not do instead: /etc/hosts may lack it
 * or give it one family only.
 */
static inline int resolve_endpoint(struct endpoint *e, bool passive)
{
    /* getaddrinfo() need not know MPTCP or UDP-Lite: they have the addresses
     * of TCP and UDP. Asked for no protocol, it may list each address twice. */
    struct addrinfo hints = {.ai_family = e->network->domain,
                             .ai_socktype = e->network->type,
                             .ai_protocol = e->network->type == SOCK_STREAM
                                                ? IPPROTO_TCP
                                                : IPPROTO_UDP};
    bool any = strcmp(e->host, "*") == 0;
    int status;

    if (e->network->domain == AF_UNIX)
        return resolve_path(e);
    hints.ai_flags = any && passive ? AI_PASSIVE : 0;
    status = getaddrinfo(e->host[0] == '\0' || any ? NULL : e->host, e->address,
                         &hints, &e->addresses);
    if (status == 0)
        return 0;
    e->addresses = NULL;
    e->call = "getaddrinfo";
    e->reason = status == EAI_SYSTEM ? strerror(errno) : gai_strerror(status);
    return -1;
}

static inline void release_endpoint(struct endpoint *e)
{
    if (e->addresses != NULL && e->addresses != &e->unix_info)
        freeaddrinfo(e->addresses);
    e->addresses = NULL;
}

/*
 * Writes an address as an endpoint, "tcp:[::1]:7777", into `text`, an array of
 * ADDRESS_SIZE, and returns it. Never fails: what has no name is "(unnamed)".
 * IPv6 is written as RFC 5952 says; that is getnameinfo()'s doing.
 */
static inline const char *format_address(char *text,
                                         const struct network *network,
                                         const struct sockaddr *address,
                                         socklen_t len)
{
    char host[INET6_ADDRSTRLEN + 1 + IF_NAMESIZE], port[8];
    size_t used = (size_t)snprintf(text, ADDRESS_SIZE, "%s:", network->name);

    if (network->domain == AF_UNIX) {
        const char *path = ((const struct sockaddr_un *)address)->sun_path;
        size_t start = offsetof(struct sockaddr_un, sun_path), i = 0;

        /* It need not end in NUL, and may hold what a terminal obeys. */
        for (; start + i < len && used + i < ADDRESS_SIZE - 1 && path[i]; i++)
            text[used + i] = iscntrl((unsigned char)path[i]) ? '?' : path[i];
        text[used + i] = '\0';
        if (i > 0)
            return text;
    } else if (getnameinfo(address, len, host, sizeof host, port, sizeof port,
                           NI_NUMERICHOST | NI_NUMERICSERV) == 0) {
        const char *form = strchr(host, ':') != NULL ? "[%s]%s%s" : "%s%s%s";

        snprintf(text + used, ADDRESS_SIZE - used, form, host,
                 is_icmp(network) ? "" : ":", is_icmp(network) ? "" : port);
        return text;
    }
    snprintf(text + used, ADDRESS_SIZE - used, "(unnamed)");
    return text;
}

/* ---- Helpers ------------------------------------------------------------ */

/*
 * Sees to it that descriptors 0, 1 and 2 are taken. Otherwise the next socket
 * would be number 2, and what is meant for standard error would go to a peer.
 * A closed one becomes /dev/null, opened the wrong way round so that using it
 * still fails. Returns 0, or -1 with errno from open().
 */
static inline int hold_standard_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) == -1 &&
            open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) == -1)
            return -1;
    return 0;
}

/* What poll() is to wait for on a descriptor. One that we want nothing of is
 * left out, by -1: it would report that its peer is gone (POLLHUP, POLLERR) at
 * once, each time, whether asked to or not, and we would spin. */
static inline struct pollfd wanted(int fd, int events)
{
    return (struct pollfd){.fd = events != 0 ? fd : -1,
                           .events = (short)events};
}

/* Sets a socket option that is on or off. Returns 0, or -1 with errno. */
static inline int turn_on(int fd, int level, int option)
{
    const int on = 1;

    return setsockopt(fd, level, option, &on, sizeof on);
}

/*
 * An AF_UNIX peer can send open descriptors along with its bytes: see
 * hand_over() of the server. We want none. The kernel would close them, while
 * we wait; and to close a socket that lingers (SO_LINGER) takes as long as its
 * sender has chosen. So this socket, and those that it accepts, refuse them:
 * Linux has that since 6.16, and it is nothing to fail for.
 */
static inline void refuse_descriptors(int fd)
{
#ifdef __linux__
#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif
    const int off = 0;

    (void)setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &off, sizeof off);
#else
    (void)fd;
#endif
}

/*
 * Makes room in the send buffer for one message of BUFFER_SIZE, as far as the
 * system lets us: a message goes whole or not at all (EMSGSIZE). Streams need
 * nothing of the kind, and TCP would stop tuning its buffer by itself. Returns
 * 0, or -1 with errno.
 */
static inline int fit_send_buffer(int fd)
{
    int size;
    socklen_t len = sizeof size;

    if (getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, &len) == -1)
        return -1;
    for (int target = BUFFER_SIZE; target > size; target /= 2)
        if (setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &target, sizeof target) == 0)
            break; /* Linux cuts down what is too much, others refuse it */
    return 0;
}

/*
 * recv(), but a message that does not fit is an error: -1 with EMSGSIZE. What
 * recv() returns then is the beginning of it, and looks like all of it.
 */
static inline ssize_t receive(int fd, void *buffer, size_t size)
{
    struct iovec part = {buffer, size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    ssize_t n = recvmsg(fd, &message, 0);

    if (n == -1 || (message.msg_flags & MSG_TRUNC) == 0)
        return n;
    errno = EMSGSIZE;
    return -1;
}

/* The time in nanoseconds, on a clock that nobody sets; for differences. */
static inline long long now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static inline long long now_ms(void)
{
    return now_ns() / 1000000;
}

/* Reads a whole number from `min` to `max`; -1 if `text` is not one. */
static inline long parse_number(const char *text, long min, long max)
{
    char *end;
    long number = strtol(text, &end, 10); /* too large: LONG_MAX */

    if (!isdigit((unsigned char)*text) || *end != '\0')
        return -1;
    return number < min || number > max ? -1 : number;
}

#endif
