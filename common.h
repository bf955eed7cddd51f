/* SPDX-License-Identifier: 0BSD
 * common.h - what the echo server and its client share: the table of networks,
 * endpoints such as "tcp:[::1]:7777" from and to text, and a few helpers.
 * Include it first: the feature macro must come before any system header.
 */
#pragma once

#define _GNU_SOURCE /* glibc and musl: declare what POSIX lacks, too */

#include <ctype.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define TEXT_SIZE 300 /* any endpoint; a DNS name has at most 253 characters */

/* ---- Networks: the three parameters of socket() ------------------------- */

/* A network is a name, as in Go, for one useful combination of the three. */
struct network {
    const char *name;
    int domain;          /* the address family; AF_UNSPEC: IPv4 and IPv6 */
    int type;            /* a stream of bytes, datagrams, or packets */
    int protocol;        /* 0: the default for this domain and type */
    const char *address; /* the default: a port or a path */
};

static const struct network networks[] = {
    {"tcp", AF_UNSPEC, SOCK_STREAM, IPPROTO_TCP, "7777"},
    {"tcp4", AF_INET, SOCK_STREAM, IPPROTO_TCP, "7777"},
    {"tcp6", AF_INET6, SOCK_STREAM, IPPROTO_TCP, "7777"},
    {"udp", AF_UNSPEC, SOCK_DGRAM, IPPROTO_UDP, "7777"},
    {"udp4", AF_INET, SOCK_DGRAM, IPPROTO_UDP, "7777"},
    {"udp6", AF_INET6, SOCK_DGRAM, IPPROTO_UDP, "7777"},
#if defined __linux__ && defined IPPROTO_MPTCP
    {"mptcp", AF_UNSPEC, SOCK_STREAM, IPPROTO_MPTCP, "7777"}, /* RFC 8684 */
#endif
    {"unix", AF_UNIX, SOCK_STREAM, 0, "unix.sock"},
    {"unixgram", AF_UNIX, SOCK_DGRAM, 0, "unixgram.sock"},
    {"unixpacket", AF_UNIX, SOCK_SEQPACKET, 0, "unixpacket.sock"},
    {NULL, 0, 0, 0, NULL},
};

/* Returns the network that `text` names, up to a colon or its end, or NULL. */
static inline const struct network *find_network(const char *text)
{
    const size_t len = strcspn(text, ":");

    for (const struct network *n = networks; n->name != NULL; n++)
        if (len == strlen(n->name) && strncasecmp(text, n->name, len) == 0)
            return n;
    return NULL;
}

/* ---- Endpoints: [NETWORK:]ADDRESS --------------------------------------- */

struct endpoint { /* contains pointers into itself: do not copy it */
    const struct network *network;
    const char *host;     /* "": loopback; "*": every interface */
    const char *addr;     /* a port, as number or name; AF_UNIX: a path */
    char copy[TEXT_SIZE]; /* holds host and port; unused for AF_UNIX */
    char problem[TEXT_SIZE + 32]; /* room for parse_endpoint()'s result */
};

static inline bool is_port(const char *text, const struct network *n)
{
    return *text != '\0' &&
           (text[strspn(text, "0123456789")] == '\0' ||
            getservbyname(text, n->type == SOCK_STREAM ? "tcp" : "udp"));
}

/* Parses `text`, which must outlive `e`. Returns NULL, or what is wrong. */
static inline const char *parse_endpoint(struct endpoint *e, const char *text)
{
    const size_t path_max = sizeof((struct sockaddr_un *)0)->sun_path - 1;
    const char *rest = strchr(text, ':');
    const bool is_url = rest != NULL && strncmp(rest, "://", 3) == 0;
    char *host, *colon;

    *e = (struct endpoint){
        .network = find_network(text), .host = "", .addr = text};
    if (e->network == NULL && is_url)
        return "unknown network (for a list, see -h)";
    if (e->network == NULL)
        e->network = find_network(
            strchr(text, '/') || strstr(text, ".sock") ? "unix" : "tcp");
    else
        e->addr = rest != NULL ? rest + (is_url ? 3 : 1) : e->network->address;
    if (*e->addr == '\0' || strlen(e->addr) >= sizeof e->copy)
        return "address empty or too long";
    if (e->network->domain == AF_UNIX) {
        snprintf(e->problem, sizeof e->problem,
                 "socket path too long (at most %zu bytes)", path_max);
        return strlen(e->addr) <= path_max ? NULL : e->problem;
    }
    e->host = host = strncpy(e->copy, e->addr, sizeof e->copy - 1);
    e->addr = e->network->address;
    colon = strrchr(host, ':');
    if (colon != NULL && strchr(colon, ']') == NULL) { /* [::1] has no port */
        *colon = '\0';
        e->addr = colon + 1;
    } else if (is_port(host, e->network)) {
        e->host = "";
        e->addr = host;
    }
    if (*host == '[' && host[strlen(host) - 1] == ']') {
        host[strlen(host) - 1] = '\0';
        e->host++;
    } else if (strchr(host, ':') != NULL) {
        return "a literal IPv6 address goes in brackets, as in [::1]:7777";
    }
    snprintf(e->problem, sizeof e->problem, "invalid port '%s'", e->addr);
    /* Rare: a getaddrinfo() that takes 70000 for 4464, modulo 65536. */
    if (!is_port(e->addr, e->network) || strtol(e->addr, NULL, 10) > 65535)
        return e->problem;
    return NULL;
}

/* Finds an endpoint's addresses, a list to try in turn. Free it later with
 * freeaddrinfo(), except for AF_UNIX. Returns NULL, or why there are none. */
static inline const char *resolve_endpoint(const struct endpoint *e,
                                           struct addrinfo **list)
{
    static struct sockaddr_un path = {.sun_family = AF_UNIX};
    static struct addrinfo info;
    const struct network *n = e->network;
    const bool wildcard = strcmp(e->host, "*") == 0;
    const char *host = wildcard || *e->host == '\0' ? NULL : e->host;
    int status;

    info = (struct addrinfo){.ai_family = n->domain, .ai_socktype = n->type};
    if (n->domain == AF_UNIX) {
        strncpy(path.sun_path, e->addr, sizeof path.sun_path - 1);
        info.ai_addr = (struct sockaddr *)&path;
        info.ai_addrlen = sizeof path;
        *list = &info;
        return NULL;
    }
    /* Without a protocol, the list may contain each address twice. Some
     * libraries do not know MPTCP; it uses the addresses of TCP. */
    info.ai_protocol = n->type == SOCK_DGRAM ? IPPROTO_UDP : IPPROTO_TCP;
    /* Without a host, getaddrinfo() returns the loopback addresses, or with
     * AI_PASSIVE the wildcards. ("localhost" may lack IPv4 or IPv6.) */
    info.ai_flags = wildcard ? AI_PASSIVE : 0;
    status = getaddrinfo(host, e->addr, &info, list);
    if (status == EAI_SYSTEM)
        return strerror(errno);
    return status == 0 ? NULL : gai_strerror(status);
}

/* Writes an address as an endpoint, "tcp:[::1]:7777", into `text`, an array of
 * TEXT_SIZE bytes. AF_UNIX with no path is "(unnamed)". */
static inline void format_address(char *text, const struct network *n,
                                  const struct sockaddr *a, socklen_t len)
{
    const char *path = ((const struct sockaddr_un *)a)->sun_path;
    const size_t start = (size_t)(path - (const char *)a);
    char host[TEXT_SIZE - 24] = "(unnamed)", port[8] = "";

    if (n->domain != AF_UNIX)
        (void)getnameinfo(a, len, host, sizeof host, port, sizeof port,
                          NI_NUMERICHOST | NI_NUMERICSERV);
    else if (len > start && *path != '\0') /* it need not end in NUL */
        snprintf(host, sizeof host, "%.*s", (int)(len - start), path);
    for (char *c = host; *c != '\0'; c++) /* may hold terminal escapes */
        *c = iscntrl((unsigned char)*c) ? '?' : *c;
    snprintf(text, TEXT_SIZE,
             a->sa_family == AF_INET6 ? "%s:[%s]%s%s" : "%s:%s%s%s", n->name,
             host, *port != '\0' ? ":" : "", port);
}

/* ---- Helpers ------------------------------------------------------------ */

/* Both programs call this first. If descriptor 2 were closed, the next socket
 * would get that number, and its peer would get our messages. So /dev/null
 * replaces closed descriptors, in the wrong mode: using them still fails. */
static inline void prepare_process(void)
{
    static char line[BUFSIZ];

    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) == -1 &&
            open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) == -1)
            exit(1);
    setvbuf(stderr, line, _IOLBF, sizeof line); /* one write() per line */
    signal(SIGPIPE, SIG_IGN); /* a write() to a peer that is gone just fails */
    signal(SIGXFSZ, SIG_IGN); /* and so does one to a file that is too large */
}

/* Calls a function when a signal comes. If SIGINT or SIGHUP was ignored from
 * the start, by a shell's "&" or nohup, it stays so. With SA_RESTART most
 * interrupted calls go on; those on a socket with a timeout fail (EINTR). */
static inline void catch_signal(int number, void (*handler)(int))
{
    struct sigaction before, action = {.sa_flags = SA_RESTART};

    action.sa_handler = handler;
    sigaction(number, &action, &before);
    if (before.sa_handler == SIG_IGN && (number == SIGINT || number == SIGHUP))
        sigaction(number, &before, NULL);
}

#ifdef __linux__ /* BSD and macOS have getprogname() */
#define getprogname() program_invocation_short_name
#endif
/* Reports a usage error and where to find help, and exits with status 2. */
#define usage_error(form, ...) \
    errx(2, form "\ntry '%s -h'", __VA_ARGS__, getprogname())

/* Returns the value of an option: an integer from `min` to `max`. */
static inline int option_number(int option, long min, long max)
{
    char *end;
    long n = strtol(optarg, &end, 10); /* too large: LONG_MAX */

    if (!isdigit((unsigned char)*optarg) || *end != '\0' || n < min || n > max)
        usage_error("-%c: invalid number '%s' (%ld to %ld)", option, optarg,
                    min, max);
    return (int)n;
}

/* Handles -h, ':', '?'. For --help getopt() reports '-', with optind at it. */
static inline _Noreturn void end_options(int option, char **argv,
                                         const char *help)
{
    if (option == ':')
        usage_error("option '-%c' needs a value", optopt);
    if (option == '?' && (optopt != '-' || argv[optind] == NULL))
        usage_error("unknown option '-%c'", optopt);
    if (option == '?' && strcmp(argv[optind], "--help") != 0)
        usage_error("unknown option '%s'", argv[optind]);
    if (printf("usage: %s %s", getprogname(), help) < 0 || fflush(stdout) != 0)
        err(1, "standard output: write");
    exit(0);
}
