/* SPDX-License-Identifier: 0BSD
 * client.c - a client for the echo server, and for others: copies its standard
 * input to the server, and the server's reply to its standard output.
 * usage: client [-hv] [-w SECONDS] [ENDPOINT]
 * Exit status: 0 all input was sent, and the server closed normally (answered
 * each datagram), 1 run-time error, 2 usage error. The calls, in order:
 *
 *   connections  socket, connect; send and recv at the same time; shutdown at
 *                the end of the input; recv until end of file; close
 *   datagrams    socket, connect (only sets the address); send, recv; close
 */
#include "common.h"

#define BUFFER_SIZE 65536
#define MESSAGE_MAX 65507 /* the most that UDP takes: 65535 less two headers */
#define NOT_YET(e)  ((e) == EAGAIN || (e) == EINTR) /* not an error */

static bool verbose;
static int timeout = -1; /* seconds; 0: none; -1: the network's default */
static const struct network *network;
static struct addrinfo *list, *peer; /* all addresses; the one in use */
static char name[TEXT_SIZE];         /* the one in use, as text */
static int fd;                       /* the socket, connected to it */
static struct pollfd ready[3];       /* [0] socket, [1] input, [2] output */
static struct { /* input on its way: buffer[start..end) is still to be sent */
    char buffer[BUFFER_SIZE];
    size_t start, end;
    bool eof, done; /* eof: no more comes; done: half-closed, or failed */
    int error;      /* the errno with which sending failed */
} input;
static char reply[BUFFER_SIZE];
static unsigned long long sent, received;     /* bytes */
static enum { UNKNOWN, ECHO, OTHER } service; /* what answers datagrams */
static struct sockaddr_un own = {.sun_family = AF_UNIX}; /* unixgram: ours */

static void connect_first(struct addrinfo *from);
static int open_connection(void);
static int fail(const char *call);
static int relay(void);
static int report_unsent(void);
static bool wait_for(short events, int seconds);
static short send_input(void);
static size_t next_size(void);
static void read_input(void);
static bool receive(void);
static void write_reply(const char *text, size_t size);
static int relay_datagrams(void);
static int send_message(size_t size);
static int bind_own_address(void);
static void remove_own_address(void);
static void end_by_signal(int number);
static const char *parse_options(int argc, char **argv);

int main(int argc, char **argv)
{
    const bool tty = isatty(STDIN_FILENO);
    const char *text, *problem;
    struct endpoint e;
    struct timespec start, end;
    double seconds;
    int status;

    clock_gettime(CLOCK_MONOTONIC, &start);
    prepare_process();
    text = parse_options(argc, argv);
    if ((problem = parse_endpoint(&e, text)) != NULL)
        usage_error("%s: %s", text, problem);
    if (strcmp(e.host, "*") == 0)
        usage_error("%s: '*' is for servers", text);
    if ((problem = resolve_endpoint(&e, &list)) != NULL)
        errx(1, "%s: getaddrinfo: %s", text, problem);
    network = e.network;
    if (timeout == -1)
        timeout = network->type == SOCK_DGRAM ? 1 : 0;
    connect_first(list);
    if (verbose || tty)
        warnx("connected to %s%s", name, tty ? "; Ctrl-D ends the input" : "");
    status = network->type == SOCK_DGRAM ? relay_datagrams() : relay();
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

/* Connects to the first address that works, from `from` on: localhost, for one,
 * has several. If none does, ends the program. */
static void connect_first(struct addrinfo *from)
{
    for (peer = from; peer != NULL; peer = peer->ai_next) {
        format_address(name, network, peer->ai_addr, peer->ai_addrlen);
        if (verbose)
            warnx("trying %s", name);
        if (open_connection() == 0)
            return;
    }
    exit(1);
}

/* Opens `fd` and connects it to `peer`. Returns 0, or -1 after fail(). */
static int open_connection(void)
{
    const int on = 1, size = 2 * BUFFER_SIZE;
    const struct timeval limit = {.tv_sec = timeout};
    struct sockaddr_storage local = {0};
    socklen_t len = sizeof local;

    fd = socket(peer->ai_family, network->type, network->protocol);
    if (fd == -1)
        return fail("socket");
    if (network->type != SOCK_STREAM) { /* a message goes whole or not at all */
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof on);
    /* The time limit of connect(), and of send() and recv() for datagrams. */
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (network->domain == AF_UNIX && network->type == SOCK_DGRAM &&
        bind_own_address() == -1)
        return fail("bind");
    /* With -w, Ctrl-Z and fg end connect() (EINTR), but TCP goes on: wait. */
    while (connect(fd, peer->ai_addr, peer->ai_addrlen) == -1 &&
           errno != EISCONN) {
        if (errno == EINTR && wait_for(POLLOUT, timeout))
            continue;
        if (errno == EINTR || errno == EINPROGRESS ||
            (errno == EAGAIN && network->domain == AF_UNIX))
            errno = ETIMEDOUT; /* SO_SNDTIMEO (TCP's EAGAIN: no free port) */
        return fail("connect");
    }
    /* Rare: no server listens, and the kernel chose the server's port for ours.
     * The socket has connected to itself, and would be its own echo. */
    if (getsockname(fd, (struct sockaddr *)&local, &len) == 0 &&
        memcmp(&local, peer->ai_addr, peer->ai_addrlen) == 0) {
        errno = ECONNREFUSED;
        return fail("connect");
    }
    return 0;
}

/* Closes `fd`. Reports errno if no other address will be tried, or with -v. */
static int fail(const char *call)
{
    if (verbose || sent > 0 || peer->ai_next == NULL)
        warn("%s: %s", name, call);
    close(fd);
    return -1;
}

/* ---- A connection: both directions at the same time --------------------- */

/* Moves bytes in both directions until the server closes. Returns the exit
 * status. Waits for both at once: a client that sends everything first blocks
 * forever once the echo has filled the buffers and the server stops reading. */
static int relay(void)
{
    (void)fcntl(fd, F_SETFL, O_NONBLOCK); /* no other process shares it */
    do {
        if (!wait_for(send_input(), timeout))
            errx(1, "%s: timed out: nothing sent or received for %d s", name,
                 timeout);
        if (ready[1].revents != 0)
            read_input();
        /* Anything but POLLOUT is for recv(); its end of file ends the loop. */
    } while ((ready[0].revents & ~POLLOUT) == 0 || receive());
    return report_unsent();
}

/* Reports input that was not sent, and returns the exit status. */
static int report_unsent(void)
{
    socklen_t len = sizeof input.error;

    /* Rare: is there more input, now or within 100 ms? It stays unsent. */
    if (!input.done && input.start == input.end &&
        poll(&(struct pollfd){STDIN_FILENO, POLLIN, 0}, 1, 100) > 0)
        read_input();
    /* Rare: our last bytes came too late; a reset has followed. */
    if (input.error == 0)
        (void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &input.error, &len);
    if (input.error != 0)
        warnx("%s: send: %s", name, strerror(input.error));
    else if (input.start < input.end)
        warnx("%s: the server closed with input left unsent", name);
    else if (!input.done && isatty(STDIN_FILENO))
        warnx("%s: the server closed the connection", name);
    return input.error != 0 || input.start < input.end;
}

/* Waits for `events` on the socket (0: none) and, unless they include POLLOUT,
 * for more input. Fills `ready`; poll() ignores an fd of -1. Returns false
 * after `seconds` (0: no limit). Ends the program if its reader has gone. */
static bool wait_for(short events, int seconds)
{
    static int output = STDOUT_FILENO;
    const bool more = (events & POLLOUT) == 0 && !input.eof;
    int n;

    ready[0] = (struct pollfd){events != 0 ? fd : -1, events, 0};
    ready[1] = (struct pollfd){more ? STDIN_FILENO : -1, POLLIN, 0};
    ready[2] = (struct pollfd){output, POLLHUP, 0};
    n = poll(ready, 3, seconds > 0 ? seconds * 1000 : -1);
    if ((ready[2].revents & (POLLERR | POLLHUP)) != 0)
        end_by_signal(SIGPIPE);
    if (ready[2].revents != 0)
        output = -1; /* rare: macOS cannot poll /dev/null */
    return n != 0;
}

/* Sends as much input as the socket takes, and returns what to wait for. At the
 * end of the input it half-closes, so that the reply can still come. */
static short send_input(void)
{
    size_t size;

    while (!input.done && (size = next_size()) > 0) {
        ssize_t n = send(fd, input.buffer + input.start, size, 0);

        if (n == -1 && NOT_YET(errno))
            return POLLIN | POLLOUT;
        if (n == -1) { /* what the server sent before may still come */
            input.error = errno;
            input.eof = true;
            break;
        }
        input.start += (size_t)n;
        sent += (size_t)n;
    }
    if (input.eof && !input.done)
        (void)shutdown(fd, SHUT_WR);
    input.done = input.eof;
    return POLLIN;
}

/* Returns how much to send() next: everything, or one line; 0: nothing yet. */
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
    return size == MESSAGE_MAX || input.eof ? size : 0;
}

/* Reads what input there is, and appends it to what is still unsent. */
static void read_input(void)
{
    ssize_t n;

    input.end -= input.start;
    memmove(input.buffer, input.buffer + input.start, input.end);
    input.start = 0;
    n = read(STDIN_FILENO, input.buffer + input.end, BUFFER_SIZE - input.end);
    if (n == -1 && !NOT_YET(errno))
        err(1, "standard input: read");
    input.eof = n == 0;
    input.end += n > 0 ? (size_t)n : 0;
}

/* Receives and writes a part of the reply. Returns false at end of file. */
static bool receive(void)
{
    const ssize_t n = recv(fd, reply, sizeof reply, MSG_DONTWAIT);

    if (n == -1 && !NOT_YET(errno))
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

        if (n == -1 && errno == EPIPE)
            end_by_signal(SIGPIPE); /* returns only if it is blocked */
        if (n == -1 && !NOT_YET(errno))
            err(1, "standard output: write");
        if (n == -1)
            (void)poll(&(struct pollfd){STDOUT_FILENO, POLLOUT, 0}, 1, -1);
        else
            done += (size_t)n;
    }
    received += size;
}

/* ---- Datagrams: one at a time ------------------------------------------- */

/* Sends the input message by message, and waits for each reply. connect() sends
 * nothing, so the first reply shows whether there is a server; if not, this
 * tries the next address. Other services may send more than one reply. */
static int relay_datagrams(void)
{
    size_t size;

    for (;;) {
        while ((size = next_size()) > 0) {
            while (send_message(size) == -1)
                connect_first(sent == 0 ? peer->ai_next : NULL); /* NULL: end */
            input.start += size;
            sent += size;
        }
        if (input.eof && service != OTHER)
            return 0; /* each message has been answered */
        if (!wait_for(service == OTHER ? POLLIN : 0, input.eof ? timeout : 0))
            return 0; /* (0: no limit) input over, the other service silent */
        if (ready[1].revents != 0)
            read_input();
        if (ready[0].revents != 0)
            (void)receive();
    }
}

/* Sends a message, up to 3 times, until it is answered. Ignores replies other
 * than its echo, as late or duplicates. But if the very first reply is no echo,
 * the service is another: any reply will do. Returns 0, or -1 after fail(). */
static int send_message(size_t size)
{
    const char *message = input.buffer + input.start;

    for (int tries = 0; tries < 3; tries++) {
        /* A full queue loses the datagram, as the network may. */
        if (send(fd, message, size, 0) == -1 && !NOT_YET(errno) &&
            errno != ENOBUFS)
            return fail("send");
        for (int ignored = 0; ignored < 100; ignored++) { /* then try again */
            const ssize_t n = recv(fd, reply, sizeof reply, 0);
            const bool echo =
                n == (ssize_t)size && memcmp(reply, message, size) == 0;

            if (n == -1 && errno == EINTR)
                continue; /* Ctrl-Z and fg */
            if (n == -1 && (errno == EAGAIN || errno == EMSGSIZE))
                break; /* lost or late; EMSGSIZE: over the MTU: retry splits */
            if (n == -1)
                return fail("recv");
            if (service == UNKNOWN)
                service = echo ? ECHO : OTHER;
            if (service == OTHER || echo) {
                write_reply(reply, (size_t)n);
                return 0;
            }
        }
    }
    errno = ETIMEDOUT;
    return fail("recv");
}

/* ---- Rare: an address of our own; the options --------------------------- */

/* A unixgram server can reply only to an address. Linux gives us one without a
 * file (autobind, unix(7)); elsewhere we make a file. Returns 0, or -1. */
static int bind_own_address(void)
{
#ifdef __linux__
    return bind(fd, (struct sockaddr *)&own, sizeof own.sun_family);
#else
    strcpy(own.sun_path, "/tmp/echo-client.XXXXXX");
    close(mkstemp(own.sun_path)); /* for its name; bind() makes the file */
    unlink(own.sun_path);
    atexit(remove_own_address);
    catch_signal(SIGHUP, end_by_signal);
    catch_signal(SIGINT, end_by_signal);
    catch_signal(SIGTERM, end_by_signal);
    umask(0); /* BSD: else a server of another user could not reply */
    return bind(fd, (struct sockaddr *)&own, sizeof own);
#endif
}

static void remove_own_address(void)
{
    if (*own.sun_path != '\0') /* not on Linux */
        unlink(own.sun_path);
}

/* Ends the program by a signal, as if it had not been caught or ignored. */
static void end_by_signal(int number)
{
    remove_own_address();
    signal(number, SIG_DFL);
    raise(number);
}

static const char help[] =
    "[-hv] [-w SECONDS] [ENDPOINT]\n\n"
    "Sends standard input to a server, and its reply to standard output.\n\n"
    "  -h          print this help\n"
    "  -v          report each address that is tried, and the rate at the end\n"
    "  -w SECONDS  give up when nothing is sent or received for that long;\n"
    "              0: never (the default; for datagrams 1, with 3 tries)\n\n"
    "An ENDPOINT is [NETWORK:]ADDRESS. Without one: tcp\n"
    "  tcp, tcp4, tcp6, udp, udp4, udp6, mptcp   [HOST:]PORT (7777)\n"
    "  unix, unixgram, unixpacket                PATH (NETWORK.sock)\n"
    "No HOST: loopback. Except on tcp, mptcp and unix, a line is a message.\n";

/* Sets the options. Returns the endpoint. */
static const char *parse_options(int argc, char **argv)
{
    int option;

    while ((option = getopt(argc, argv, ":hvw:")) != -1) {
        if (option == 'v')
            verbose = true;
        else if (option == 'w')
            timeout = option_number(option, 0, 1000000);
        else
            end_options(option, argv, help);
    }
    if (argc - optind > 1)
        usage_error("unexpected argument '%s' (an endpoint is tcp:HOST:PORT)",
                    argv[optind + 1]);
    return optind < argc ? argv[optind] : "tcp";
}
