/*
 * client.c - a client for the echo server, and for others: sends its standard
 * input to the server, and the server's reply to its standard output.
 * usage: client [-hv] [-w SECONDS] [ENDPOINT]
 * Exit status: 0 all input was sent, and the server closed normally (answered
 * each datagram), 1 run-time error, 2 usage error. The calls, in order:
 *
 *   connections  socket, connect; send and recv at the same time; shutdown at
 *                the end of the input; recv until end of file; close
 *   datagrams    socket, connect (only sets the address); writev, recv; close
 */
#include "common.h"

#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <time.h>

#define BUFFER_SIZE 65536
#define MESSAGE_MAX 65507 /* the most that UDP takes: 65535 less two headers */
#define ICMP_HEADER 8     /* bytes */
#define NOT_YET     (errno == EAGAIN || errno == EINTR) /* and not an error */

static bool verbose;
static int timeout = -1; /* seconds; 0: none; -1: the network's default */
static const struct network *network;
static struct addrinfo *list, *peer; /* all addresses; the one in use */
static char name[TEXT_SIZE];         /* of the one in use */
static int fd;                       /* the socket, connected to it */
static char failures[4096];          /* a line for each address tried in vain */
static struct { /* input on its way: buffer[start..end) is still to be sent */
    char buffer[BUFFER_SIZE];
    size_t start, end;
    bool ended, shut; /* input at end of file; nothing more is to be sent */
    int error;        /* the errno with which sending failed */
} input;
static char reply[BUFFER_SIZE];
static unsigned long long sent, received;     /* bytes */
static enum { UNKNOWN, ECHO, OTHER } service; /* what answers datagrams */

/* Connecting: socket, connect */
static void connect_first(void);
static int open_connection(void);
static int fail(const char *call);
/* A connection: both directions at the same time */
static int relay(void);
static bool send_input(void);
static size_t next_size(void);
static void read_input(void);
static bool receive(void);
static void write_reply(const char *text, size_t size);
/* Datagrams: one at a time */
static int exchange_datagrams(void);
static int deliver(size_t size);
/* Rare: an address of our own, ICMP; the command line */
static int bind_own_address(void);
static ssize_t send_datagram(size_t size);
static const char *parse_options(int argc, char **argv);

int main(int argc, char **argv)
{
    const bool terminal = isatty(STDIN_FILENO);
    const char *text, *problem;
    struct endpoint e;
    struct timespec start, end;
    double seconds;
    int status;

    clock_gettime(CLOCK_MONOTONIC, &start);
    prepare_process();
    text = parse_options(argc, argv);
    problem = parse_endpoint(&e, text);
    if (problem == NULL && strcmp(e.host, "*") == 0)
        problem = "'*' is for servers";
    if (problem != NULL)
        usage_error("%s: %s", text, problem);
    if ((problem = resolve_endpoint(&e, &list)) != NULL)
        errx(1, "%s: getaddrinfo: %s", text, problem);
    network = e.network;
    if (timeout == -1)
        timeout = network->type == SOCK_DGRAM ? 1 : 0;
#ifdef F_SETPIPE_SZ /* if it is a pipe, fewer switches between its two ends */
    (void)fcntl(STDOUT_FILENO, F_SETPIPE_SZ, 1 << 20);
#endif
    peer = list;
    connect_first();
    if (verbose || terminal)
        warnx("connected to %s%s", name,
              terminal ? "; Ctrl-D ends the input" : "");
    status = network->type == SOCK_DGRAM ? exchange_datagrams() : relay();
    close(fd);
    if (close(STDOUT_FILENO) == -1) /* some file systems fail only now */
        err(1, "standard output: close");
    clock_gettime(CLOCK_MONOTONIC, &end);
    seconds = (double)(end.tv_sec - start.tv_sec) +
              (double)(end.tv_nsec - start.tv_nsec) / 1e9;
    if (verbose)
        warnx("sent %llu bytes, received %llu bytes in %.3f s, %.1f MB/s", sent,
              received, seconds, (double)received / 1e6 / seconds);
    return status;
}

/* ---- Connecting: socket, connect ---------------------------------------- */

/* Connects to the first address that works: localhost, for one, has several. */
static void connect_first(void)
{
    for (; peer != NULL; peer = peer->ai_next) {
        format_address(name, network, peer->ai_addr, peer->ai_addrlen);
        if (verbose)
            warnx("trying %s", name);
        if (open_connection() == 0)
            return;
    }
    for (char *s = strtok(failures, "\n"); s != NULL; s = strtok(NULL, "\n"))
        warnx("%s", s);
    exit(1);
}

/* Makes the calls that connect `fd`. Returns 0, or -1 after fail(). */
static int open_connection(void)
{
    const int on = 1, size = 4 * BUFFER_SIZE;
    const struct timeval limit = {timeout, 0};
    struct sockaddr_storage own = {0}, other = {0};
    socklen_t len = sizeof own, other_len = sizeof other;

    fd = socket(peer->ai_family, network->type, network->protocol);
    if (fd == -1)
        return fail(is_icmp(network) ? "socket (see icmp(7))" : "socket");
    if (network->type != SOCK_STREAM) /* a message goes whole or not at all */
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    /* For TCP, as the server's finish_listener() explains. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof on);
    /* A limit for calls that block: connect(), and those for datagrams. */
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (network->domain == AF_UNIX && network->type == SOCK_DGRAM &&
        bind_own_address() == -1)
        return fail("bind");
    if (connect(fd, peer->ai_addr, peer->ai_addrlen) == -1) {
        if (errno == EAGAIN && network->domain != AF_UNIX)
            errno = EADDRNOTAVAIL; /* Linux's UDP is out of ports */
        else if (errno == EAGAIN || errno == EINPROGRESS)
            errno = ETIMEDOUT; /* SO_SNDTIMEO */
        return fail("connect");
    }
    /* If no server listens, and the kernel chose the server's port for ours,
     * the socket has connected to itself, and would be its own echo. */
    if (getsockname(fd, (struct sockaddr *)&own, &len) == 0 &&
        getpeername(fd, (struct sockaddr *)&other, &other_len) == 0 &&
        memcmp(&own, &other, sizeof own) == 0) {
        errno = ECONNREFUSED;
        return fail("connect");
    }
    return 0;
}

/* Closes `fd`. Reports errno with -v, or else notes it for connect_first(). */
static int fail(const char *call)
{
    const size_t len = strlen(failures);

    if (verbose)
        warn("%s: %s", name, call);
    else
        snprintf(failures + len, sizeof failures - len, "%s: %s: %s\n", name,
                 call, strerror(errno));
    close(fd);
    return -1;
}

/* ---- A connection: both directions at the same time --------------------- */

/* Moves bytes both ways until the server has closed; returns the exit status.
 * It waits for both ways at once: a client that sends everything first blocks
 * forever once the echo has filled the buffers and the server stops reading. */
static int relay(void)
{
    struct pollfd on[2];
    socklen_t len = sizeof input.error;
    int left = 1; /* bytes not yet acknowledged; our FIN counts as one */

    do {
        const bool blocked = send_input();
        /* -1: ignore the input, which poll() would report again and again. */
        const int in = blocked || input.shut ? -1 : STDIN_FILENO;

        on[0] = (struct pollfd){fd, blocked ? POLLIN | POLLOUT : POLLIN, 0};
        on[1] = (struct pollfd){in, POLLIN, 0};
        if (poll(on, 2, timeout > 0 ? timeout * 1000 : -1) == 0)
            errx(1, "%s: timed out: nothing sent or received for %d s", name,
                 timeout);
        if (on[1].revents != 0)
            read_input();
        /* Anything but POLLOUT (POLLIN, POLLHUP, POLLERR) is for recv(). */
    } while ((on[0].revents & ~POLLOUT) == 0 || receive());

    /* Did the server get everything? recv() returns 0 even if our last bytes
     * come too late and a reset follows. Our FIN (if not sent yet) makes its
     * kernel answer, with an ACK or a reset: wait for that up to a second. */
    (void)shutdown(fd, SHUT_WR);
    for (int tries = 0; input.error == 0 && left > 0 && tries < 100; tries++) {
        (void)poll(NULL, 0, tries > 0 ? 10 : 0);
        if (ioctl(fd, TIOCOUTQ, &left) == -1)
            left = 0;
        (void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &input.error, &len);
    }
    on[1].fd = STDIN_FILENO; /* is there more input, now or in a moment? */
    if (!input.shut && input.start == input.end && poll(on + 1, 1, 100) > 0)
        read_input();
    if (input.error != 0)
        warnx("%s: send: %s", name, strerror(input.error));
    else if (input.start < input.end)
        warnx("%s: the server closed with input left unsent", name);
    else if (!input.shut && isatty(STDIN_FILENO))
        warnx("%s: the server closed the connection", name);
    return input.error != 0 || input.start < input.end;
}

/* Sends as much of the input as the socket takes; true: it would block. At the
 * end this shuts down our direction; the other stays open for the reply. */
static bool send_input(void)
{
    size_t size;

    while (!input.shut && (size = next_size()) > 0) {
        ssize_t n = send(fd, input.buffer + input.start, size, MSG_DONTWAIT);

        if (n == -1 && NOT_YET)
            return true;
        if (n == -1) { /* what the server sent before may still come */
            input.error = errno;
            input.ended = true;
            break;
        }
        input.start += (size_t)n;
        sent += (size_t)n;
    }
    if (input.ended && !input.shut)
        (void)shutdown(fd, SHUT_WR);
    input.shut = input.ended;
    return false;
}

/* How much to send() next: all, or one message, a line. 0: nothing yet. */
static size_t next_size(void)
{
    const char *start = input.buffer + input.start, *newline;
    size_t size = input.end - input.start;

    if (network->type == SOCK_STREAM)
        return size;
    size = size < MESSAGE_MAX ? size : MESSAGE_MAX;
    newline = memchr(start, '\n', size);
    if (newline != NULL)
        return (size_t)(newline - start) + 1;
    return size == MESSAGE_MAX || input.ended ? size : 0;
}

/* Reads what input there is, and puts it behind what is still unsent. */
static void read_input(void)
{
    ssize_t n;

    input.end -= input.start;
    memmove(input.buffer, input.buffer + input.start, input.end);
    input.start = 0;
    n = read(STDIN_FILENO, input.buffer + input.end,
             sizeof input.buffer - input.end);
    if (n == -1 && !NOT_YET)
        err(1, "standard input: read");
    input.ended = n == 0;
    input.end += n > 0 ? (size_t)n : 0;
}

/* Writes what the server has sent. Returns false at the end. */
static bool receive(void)
{
    const ssize_t n = recv(fd, reply, sizeof reply, MSG_DONTWAIT);

    if (n == -1 && !NOT_YET)
        err(1, "%s: recv", name);
    if (n > 0)
        write_reply(reply, (size_t)n);
    return n != 0;
}

/* Writes the whole reply, even if that blocks: -w does not limit this wait. */
static void write_reply(const char *text, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = write(STDOUT_FILENO, text + done, size - done);

        if (n != -1)
            done += (size_t)n;
        else if (NOT_YET)
            (void)poll(&(struct pollfd){STDOUT_FILENO, POLLOUT, 0}, 1, -1);
        else
            err(1, "standard output: write");
    }
    received += size;
}

/* ---- Datagrams: one at a time ------------------------------------------- */

/* Sends the input message by message, and waits for each reply. The first one
 * shows whether there is a server (connect() sends nothing): if not, this goes
 * on to the next address. Other services may send more, up to a timeout. */
static int exchange_datagrams(void)
{
    for (;;) {
        const size_t size = next_size();
        struct pollfd on[] = {{input.ended ? -1 : STDIN_FILENO, POLLIN, 0},
                              {service == OTHER ? fd : -1, POLLIN, 0}};

        if (size > 0) {
            while (deliver(size) == -1) {
                peer = sent == 0 ? peer->ai_next : NULL; /* NULL: give up */
                connect_first();
            }
            input.start += size;
            sent += size;
            continue;
        }
        if ((input.ended && service != OTHER) ||
            poll(on, 2, input.ended && timeout > 0 ? timeout * 1000 : -1) == 0)
            return 0; /* all answered; or no more from another service */
        if (on[0].revents != 0)
            read_input();
        if (on[1].revents != 0)
            (void)receive();
    }
}

/* Sends a message, up to 3 times, until answered: 0, or -1 after fail(). As
 * datagrams may be lost, late, duplicated or reordered, replies other than the
 * echo are ignored. If the very first is not the echo, any reply will do. */
static int deliver(size_t size)
{
    const size_t header = is_icmp(network) ? ICMP_HEADER : 0;
    const char *message = input.buffer + input.start, *text = reply + header;

    for (int tries = 0; tries < 3; tries++) {
        /* No room in a queue: the datagram is lost, as it may be on the way. */
        if (send_datagram(size) == -1 && !NOT_YET && errno != ENOBUFS)
            return fail("send");
        for (int ignored = 0; ignored < 100; ignored++) {
            const ssize_t n = recv(fd, reply, sizeof reply, 0);
            const size_t got = n > (ssize_t)header ? (size_t)n - header : 0;
            const bool echo = got == size && memcmp(text, message, size) == 0;

            if (n == -1 && (NOT_YET || errno == EMSGSIZE))
                break; /* late; or too large for a router: next in fragments */
            if (n == -1)
                return fail("recv");
            if (service == UNKNOWN)
                service = echo || header > 0 ? ECHO : OTHER;
            if (service == OTHER || echo) {
                write_reply(text, got);
                return 0;
            }
        }
    }
    errno = ETIMEDOUT;
    return fail("recv");
}

/* ---- Rare: an address of our own, ICMP ---------------------------------- */

/* A unixgram server can reply only to an address. Linux gives us one without a
 * file (autobind, unix(7)); elsewhere we must remove the file. 0, or -1. */
#ifdef __linux__
static int bind_own_address(void)
{
    return bind(fd, &(struct sockaddr){AF_UNIX, ""}, sizeof(sa_family_t));
}
#else
static struct sockaddr_un own = {.sun_family = AF_UNIX,
                                 .sun_path = "/tmp/echo-client.XXXXXX"};

static void remove_own_address(void)
{
    unlink(own.sun_path);
}

static void on_signal(int number)
{
    remove_own_address();
    signal(number, SIG_DFL);
    raise(number);
}

static int bind_own_address(void)
{
    static const int numbers[] = {SIGHUP, SIGINT, SIGTERM};

    close(mkstemp(own.sun_path)); /* for its name; bind() makes the file */
    unlink(own.sun_path);
    atexit(remove_own_address);
    for (int i = 0; i < 3; i++)
        if (signal(numbers[i], on_signal) == SIG_IGN)
            signal(numbers[i], SIG_IGN);
    return bind(fd, (struct sockaddr *)&own, sizeof own);
}
#endif

/* Like send(), but ICMP (RFC 792, RFC 4443) needs a header. We set the type,
 * the kernel an identifier; it passes us only echo replies that carry it. */
static ssize_t send_datagram(size_t size)
{
    unsigned char header[ICMP_HEADER] = {network->domain == AF_INET ? 8 : 128};
    const struct iovec parts[] = {{header, is_icmp(network) ? ICMP_HEADER : 0},
                                  {input.buffer + input.start, size}};

    return writev(fd, parts, 2);
}

/* ---- The command line --------------------------------------------------- */

static const char help[] =
    "usage: client [-hv] [-w SECONDS] [ENDPOINT]\n\n"
    "Sends standard input to a server, and its reply to standard output.\n\n"
    "  -h          print this help\n"
    "  -v          report each address that is tried, and the rate at the end\n"
    "  -w SECONDS  give up when nothing is sent or received for that long;\n"
    "              0: never (the default; for datagrams 1, with 3 tries)\n\n"
    "An ENDPOINT is [NETWORK:]ADDRESS. Without one: tcp\n"
    "  tcp, tcp4, tcp6, udp, udp4, udp6, mptcp   [HOST:]PORT (7777)\n"
    "  icmp, icmp6                               HOST: its kernel answers\n"
    "  unix, unixgram, unixpacket                PATH (NETWORK.sock)\n"
    "No HOST: loopback. Except on tcp, mptcp and unix, a line is a message.\n";

/* Sets the options. Returns the endpoint. */
static const char *parse_options(int argc, char **argv)
{
    int option;

    if (argc > 1 && strcmp(argv[1], "--help") == 0)
        argv[1] = "-h";
    while ((option = getopt(argc, argv, ":hvw:")) != -1) {
        if (option == 'v')
            verbose = true;
        else if (option == 'w')
            timeout = option_number(option, 0, 1000000);
        else if (option == ':')
            usage_error("option '-%c' needs a value", optopt);
        else if (option != 'h')
            usage_error("unknown option '-%c'", optopt);
        else if (fputs(help, stdout) == EOF || fflush(stdout) == EOF)
            err(1, "standard output: write");
        else
            exit(0);
    }
    if (argc - optind > 1)
        usage_error("unexpected argument '%s' (an endpoint is tcp:HOST:PORT)",
                    argv[optind + 1]);
    return optind < argc ? argv[optind] : "tcp";
}
