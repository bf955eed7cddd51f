/*
 * client.c - a client for the echo server, and for others: sends standard
 * input to the server and what comes back to standard output.
 *
 * usage: client [-hv] [-w SECONDS] [ENDPOINT]
 *
 * Exit status: 0 when all is sent and the server has closed, 1 if anything
 * failed or was left unsent, 2 for wrong usage.
 *
 * The calls, in the order of a connection's life:
 *
 *   tcp, unix, unixpacket: socket, connect, then send and recv at the same
 *                          time, shutdown at the end of the input, recv until
 *                          end of file, close
 *   udp, unixgram:         socket, connect (it only fixes the peer's address),
 *                          send and recv a datagram at a time, close
 */
#include "common.h"

#include <err.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define MESSAGE_MAX 65507 /* the largest over UDP: 65535 less two headers */
#define TRIES       3     /* for a datagram and its echo */
#define RETRY_MS    10    /* when an AF_UNIX backlog is full */

/* One direction: bytes on their way from one descriptor to another. */
struct flow {
    size_t start, end; /* buffer[start..end) is read and not yet written */
    bool ended;        /* there is no more to read */
    unsigned long long moved;
    char buffer[BUFFER_SIZE];
};

static struct flow up, down; /* to the server, from the server */
static long patience_ms;     /* how long nothing may move; -1: for ever */
static bool verbose;

/* ---- Connecting: socket, connect ---------------------------------------- */

/*
 * connect(), but with a limit: in milliseconds, -1 for none. Returns 0, or -1
 * with errno, ETIMEDOUT among them. Leaves the socket non-blocking.
 */
static int connect_within(int fd, const struct addrinfo *info, long limit)
{
    const long long deadline = now_ms() + limit;
    struct pollfd ready = {.fd = fd, .events = POLLOUT};
    int status, error;
    socklen_t len = sizeof error;

    if (fcntl(fd, F_SETFL, O_NONBLOCK) == -1)
        return -1;
    status = connect(fd, info->ai_addr, info->ai_addrlen);
    /* AF_UNIX with a full backlog, on Linux: there is nothing to wait for. */
    while (status == -1 && errno == EAGAIN) {
        if (limit != -1 && now_ms() >= deadline) {
            errno = ETIMEDOUT;
            return -1;
        }
        (void)poll(NULL, 0, RETRY_MS);
        status = connect(fd, info->ai_addr, info->ai_addrlen);
    }
    if (status == 0 || (errno != EINPROGRESS && errno != EINTR))
        return status;
    /* It goes on by itself; when it is done, the socket is writable. */
    do
        status = poll(&ready, 1, (int)limit);
    while (status == -1 && errno == EINTR);
    if (status == 0)
        errno = ETIMEDOUT;
    if (status <= 0 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == -1)
        return -1;
    errno = error;
    return error == 0 ? 0 : -1;
}

static pid_t remover; /* see bind_private() */
static int remover_pipe = -1;

/* At exit(): has the private folder removed, and waits until it is. */
static void remove_private(void)
{
    close(remover_pipe);
    while (waitpid(remover, NULL, 0) == -1 && errno == EINTR)
        ;
}

/*
 * Gives an AF_UNIX datagram socket an address of its own, or the server knows
 * nobody to answer: a file in a private folder. Returns 0, or -1 with errno.
 *
 * A process set aside for that removes both when this one has ended, however
 * it ends, for then the last copy of the pipe's writing end closes.
 */
static int bind_private(int fd)
{
    struct sockaddr_un own = {.sun_family = AF_UNIX};
    char folder[sizeof own.sun_path - sizeof "/socket"], byte;
    const char *parent = getenv("TMPDIR");
    int ends[2], saved;
    sigset_t all, old;

    if (snprintf(folder, sizeof folder, "%s/echo-client.XXXXXX",
                 parent != NULL ? parent : "/tmp") >= (int)sizeof folder) {
        errno = ENAMETOOLONG;
        return -1;
    }
    if (pipe(ends) == -1)
        return -1;
    sigfillset(&all); /* for the remover, this stays so */
    sigprocmask(SIG_SETMASK, &all, &old);
    if (mkdtemp(folder) != NULL) {
        snprintf(own.sun_path, sizeof own.sun_path, "%s/socket", folder);
        remover = fork();
        if (remover == 0) {
            setsid(); /* or "kill -9" of the whole job takes it along */
            for (int i = STDIN_FILENO; i <= STDERR_FILENO; i++)
                close(i); /* who waits for their end does not wait for us */
            close(fd);
            close(ends[1]);
            while (read(ends[0], &byte, 1) == -1 && errno == EINTR)
                ;
            unlink(own.sun_path);
            rmdir(folder);
            _exit(0);
        }
        if (remover == -1)
            rmdir(folder);
    }
    saved = errno;
    sigprocmask(SIG_SETMASK, &old, NULL);
    close(ends[0]);
    remover_pipe = ends[1];
    errno = saved;
    if (remover <= 0)
        return -1;
    atexit(remove_private);
    return bind(fd, (struct sockaddr *)&own, sizeof own);
}

/* Opens a socket to one address. Returns it, or -1 with errno and e->call. */
static int open_connection(struct endpoint *e, const struct addrinfo *info)
{
    const int type = e->network->type, on = 1;
    bool failed = false;
    int fd, saved;

    e->call = "socket";
    fd = socket(info->ai_family, type, e->network->protocol);
    if (fd == -1)
        return -1;
    e->call = "setsockopt";
    if (type != SOCK_STREAM)
        failed = fit_send_buffer(fd) == -1;
    else if (info->ai_family != AF_UNIX) /* see the server, about Nagle */
        failed = setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == -1;
    if (!failed && type == SOCK_DGRAM && info->ai_family == AF_UNIX) {
        e->call = "bind";
        failed = bind_private(fd) == -1;
    }
    if (!failed) {
        e->call = "connect";
        failed = connect_within(fd, info, patience_ms) == -1;
    }
    if (failed) {
        saved = errno;
        close(fd);
        errno = saved; /* close() may have changed it */
        return -1;
    }
    return fd;
}

/*
 * Opens a socket to the next address of *next on which that works, and moves
 * *next past it; ends the program if there is none. `name`, an array of
 * ADDRESS_SIZE, then tells the address. A name like localhost has several, and
 * the server may serve any of them: a client that tries only the first fails
 * on machines where that is an IPv6 one.
 */
static int connect_next(struct endpoint *e, const struct addrinfo **next,
                        char *name)
{
    const struct addrinfo *info;
    int fd = -1;

    while (fd == -1 && (info = *next) != NULL) {
        *next = info->ai_next;
        format_address(name, e->network, info->ai_addr, info->ai_addrlen);
        fd = open_connection(e, info);
    }
    if (fd == -1)
        err(1, "%s: %s", name, e->call);
    if (verbose && isatty(STDIN_FILENO))
        warnx("%s: connected; Ctrl-D ends the input", name);
    return fd;
}

/* ---- Standard input and output ------------------------------------------ */

/* Did the last call fail only because there was nothing to do yet? */
static bool try_again(void)
{
    return errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK;
}

/* How much of the input to send next: for messages, a line. 0: wait for more */
static size_t next_size(const struct network *network)
{
    const char *start = up.buffer + up.start, *newline;
    size_t size = up.end - up.start;

    if (network->type == SOCK_STREAM)
        return size;
    if (size > MESSAGE_MAX)
        size = MESSAGE_MAX;
    newline = memchr(start, '\n', size);
    if (newline != NULL)
        return (size_t)(newline - start) + 1;
    return size == MESSAGE_MAX || up.ended ? size : 0;
}

/* Reads what there is of the input. Unless there is none yet, it has ended. */
static void read_input(void)
{
    ssize_t n;

    memmove(up.buffer, up.buffer + up.start, up.end - up.start);
    up.end -= up.start;
    up.start = 0;
    n = read(STDIN_FILENO, up.buffer + up.end, sizeof up.buffer - up.end);
    if (n == 0)
        up.ended = true;
    else if (n > 0)
        up.end += (size_t)n;
    else if (!try_again())
        err(1, "standard input: read");
}

/*
 * Writes some of what came to the output, after poll() said POLLOUT: that
 * promises room for PIPE_BUF bytes in a pipe, and with more write() may block.
 */
static void write_output(void)
{
    size_t size = down.end - down.start;
    ssize_t n = write(STDOUT_FILENO, down.buffer + down.start,
                      size < PIPE_BUF ? size : PIPE_BUF);

    if (n >= 0)
        down.start += (size_t)n;
    else if (!try_again())
        err(1, "standard output: write");
}

/* Waits for one descriptor, until a time of now_ms(), -1 for ever: came it? */
static bool wait_for(int fd, short events, long long deadline)
{
    struct pollfd ready = {.fd = fd, .events = events};

    for (;;) {
        long long left = deadline == -1 ? -1 : deadline - now_ms();

        if (deadline != -1 && left <= 0)
            return false;
        if (poll(&ready, 1, (int)left) > 0)
            return true;
    }
}

/* ---- A connection: both directions at once ------------------------------ */

/* What to wait for on a descriptor. One that we want nothing of is left out:
 * its POLLHUP or POLLERR would come at once, each time, and make us spin. */
static struct pollfd wanted(int fd, int events)
{
    return (struct pollfd){.fd = events != 0 ? fd : -1,
                           .events = (short)events};
}

/* Sends what the socket takes. Returns 0, or -1 with errno if it is broken. */
static int send_some(int fd, size_t size)
{
    ssize_t n = send(fd, up.buffer + up.start, size, 0);

    if (n == -1)
        return try_again() ? 0 : -1;
    up.start += (size_t)n;
    up.moved += (unsigned long long)n;
    return 0;
}

/* Takes what came. The end of file is not in POLLHUP but here, after the last
 * byte: who goes by POLLHUP loses what had come before it. */
static void receive_some(int fd, const char *name)
{
    ssize_t n = recv(fd, down.buffer, sizeof down.buffer, 0);

    if (n == 0)
        down.ended = true;
    else if (n == -1 && !try_again())
        err(1, "%s: recv", name);
    down.start = 0;
    down.end = n > 0 ? (size_t)n : 0;
    down.moved += down.end;
}

/* Is there input that the server, which has closed, did not take? */
static bool input_left(void)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};

    if (up.start == up.end && !up.ended && poll(&input, 1, 0) > 0)
        read_input();
    return up.start < up.end;
}

/*
 * Moves bytes both ways until the server has closed. One poll() waits for all:
 * who sends everything first and then reads blocks for ever, once the echo has
 * filled the buffers of the way back and the server stops reading.
 * Returns the exit status.
 */
static int converse(int fd, const struct network *network, const char *name)
{
    enum { INPUT, OUTPUT, PEER };
    bool sending = true;
    int failure = 0;

    while (!down.ended || down.start < down.end) {
        const bool draining = down.start < down.end;
        const size_t size = sending && !down.ended ? next_size(network) : 0;
        struct pollfd on[3];
        int n;

        if (sending && size == 0 && up.ended) {
            /* Tells the server that this was all, and leaves the other half
             * open. A failure means that it is gone: recv() will tell. */
            (void)shutdown(fd, SHUT_WR);
            sending = false;
        }
        on[INPUT] = wanted(STDIN_FILENO, sending && size == 0 ? POLLIN : 0);
        on[OUTPUT] = wanted(STDOUT_FILENO, draining ? POLLOUT : 0);
        on[PEER] = wanted(fd, (draining ? 0 : POLLIN) | (size ? POLLOUT : 0));
        n = poll(on, 3, draining ? -1 : (int)patience_ms);
        if (n == 0)
            errx(1,
                 "%s: poll: nothing could be sent or received for %ld "
                 "seconds",
                 name, patience_ms / 1000);
        if (n == -1)
            continue;
        if (on[INPUT].revents != 0)
            read_input();
        if (on[OUTPUT].revents != 0)
            write_output();
        if (size > 0 && (on[PEER].revents & ~POLLIN) != 0 &&
            send_some(fd, size) == -1) {
            failure = errno; /* what it sent before it went is still to come */
            sending = false;
        }
        if (!draining && (on[PEER].revents & ~POLLOUT) != 0)
            receive_some(fd, name);
    }
    errno = failure;
    if (failure != 0)
        warn("%s: send", name);
    else if (sending && input_left())
        warnx("%s: recv: the server closed with input left unsent", name);
    else
        return 0;
    return 1;
}

/* ---- Datagrams: one at a time ------------------------------------------- */

/*
 * Sends a message and waits for its echo, which stays in down.buffer; sends it
 * again if none comes in patience_ms. A network may lose, double, delay and
 * reorder datagrams: so what is not this echo is that of a message before, and
 * is ignored. Returns 0, or -1 with errno and e->call; ETIMEDOUT if all tries
 * are used up.
 */
static int exchange(struct endpoint *e, int fd, const char *message,
                    size_t size)
{
    for (int tries = 0; tries < TRIES; tries++) {
        long long deadline = patience_ms == -1 ? -1 : now_ms() + patience_ms;
        ssize_t n;

        if (!wait_for(fd, POLLOUT, deadline))
            continue;
        e->call = "send";
        if (send(fd, message, size, 0) == -1 && !try_again() &&
            errno != ENOBUFS)
            return -1;
        e->call = "recv";
        while (wait_for(fd, POLLIN, deadline)) {
            n = recv(fd, down.buffer, sizeof down.buffer, 0);
            if (n == (ssize_t)size && memcmp(down.buffer, message, size) == 0)
                return 0;
            if (n == -1 && !try_again())
                return -1;
        }
    }
    errno = ETIMEDOUT;
    return -1;
}

/* Sends the input message by message, and writes each echo to the output. */
static void echo_messages(struct endpoint *e)
{
    const struct addrinfo *next = e->addresses;
    unsigned long long count = 0;
    char name[ADDRESS_SIZE];
    int fd = connect_next(e, &next, name);
    size_t size;

    for (;;) {
        while ((size = next_size(e->network)) == 0 && !up.ended)
            if (wait_for(STDIN_FILENO, POLLIN, -1))
                read_input();
        if (size == 0)
            break;
        count++;
        while (exchange(e, fd, up.buffer + up.start, size) == -1) {
            if (errno == ETIMEDOUT)
                errx(1, "%s: recv: no echo of message %llu (%zu bytes)", name,
                     count, size);
            /* Only now do we learn that nobody is there: connect() sends
             * nothing. Perhaps the server is at another address. */
            if (errno != ECONNREFUSED || count > 1 || next == NULL)
                err(1, "%s: %s", name, e->call);
            close(fd);
            fd = connect_next(e, &next, name);
        }
        up.start += size;
        up.moved += size;
        down.moved += size;
        down.start = 0;
        down.end = size;
        while (down.start < down.end)
            if (wait_for(STDOUT_FILENO, POLLOUT, -1))
                write_output();
    }
    close(fd);
}

/* ---- Command line ------------------------------------------------------- */

static _Noreturn void usage(FILE *out)
{
    fputs(
        "usage: client [-hv] [-w SECONDS] [ENDPOINT]\n"
        "\n"
        "Sends standard input to a server, and its reply to standard output.\n"
        "\n"
        "  -h          print this\n"
        "  -v          print a summary at the end\n"
        "  -w SECONDS  give up when nothing could be sent or received for so\n"
        "              long (datagrams: send again, 3 times in all; 1)\n"
        "\n"
        "An ENDPOINT is NETWORK[:ADDRESS]; without any: tcp\n"
        "  tcp, tcp4, tcp6, udp, udp4, udp6   [HOST:]PORT (7777)\n"
        "  unix, unixgram, unixpacket         PATH (NETWORK.sock)\n"
        "No HOST means this machine. Each line is one message to the\n"
        "networks that have messages: udp, unixgram, unixpacket.\n",
        out);
    exit(out == stdout ? 0 : 2);
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

/* The conversation, from the first connect() to the last byte of output. */
static int run(struct endpoint *e)
{
    const long long started = now_ms();
    const struct addrinfo *next;
    char name[ADDRESS_SIZE];
    double seconds;
    int fd, status = 0;

    if (resolve_endpoint(e, 0) == -1)
        errx(1, "%s: %s: %s", e->text, e->call, e->reason);
    next = e->addresses;
    if (e->network->type == SOCK_DGRAM) {
        echo_messages(e);
    } else {
        fd = connect_next(e, &next, name);
        status = converse(fd, e->network, name);
        close(fd);
    }
    release_endpoint(e);
    /* Some file systems tell only now that the disk is full. */
    if (close(STDOUT_FILENO) == -1)
        err(1, "standard output: close");
    seconds = (double)(now_ms() - started) / 1000;
    if (verbose)
        warnx("%s: sent %llu bytes, received %llu bytes in %.3f s, %.1f MB/s",
              e->text, up.moved, down.moved, seconds,
              seconds > 0 ? (double)down.moved / 1e6 / seconds : 0);
    return status;
}

int main(int argc, char **argv)
{
    long seconds = -1;
    struct endpoint endpoint;
    const char *text;
    int option;

    if (hold_standard_descriptors() == -1)
        return 1;
    /* One write() a line: the lines of two processes do not mix. */
    setvbuf(stderr, NULL, _IOLBF, BUFSIZ);
    if (argc > 1 && strcmp(argv[1], "--help") == 0)
        usage(stdout);
    while ((option = getopt(argc, argv, "hvw:")) != -1) {
        switch (option) {
        case 'h':
            usage(stdout);
        case 'v':
            verbose = true;
            break;
        case 'w':
            seconds = option_number(option, 0, 1000000);
            break;
        default:
            usage(stderr);
        }
    }
    text = optind < argc ? argv[optind++] : "tcp";
    if (optind < argc) {
        warnx("%s: one endpoint is enough", argv[optind]);
        usage(stderr);
    }
    if (parse_endpoint(text, &endpoint) == -1) {
        warnx("%s: %s", text, endpoint.reason);
        usage(stderr);
    }
    if (seconds == -1)
        seconds = endpoint.network->type == SOCK_DGRAM ? 1 : 0;
    patience_ms = seconds == 0 ? -1 : seconds * 1000;
    /* Or writing to whoever is gone ends the program without a word. */
    signal(SIGPIPE, SIG_IGN);
    return run(&endpoint);
}
