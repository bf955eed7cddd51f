/*
 * client.c - a client for the echo server, and for others: sends standard
 * input to the server and what comes back to standard output.
 *
 * usage: client [-hv] [-w SECONDS] [ENDPOINT]
 *        client -n CONNECTIONS [-c CLIENTS] [-r ROUNDS] [-s BYTES] [-v]
 *               [-w SECONDS] [ENDPOINT]
 *
 * Exit status: 0 when all is sent and the server has closed in peace (each
 * datagram: has come back), 1 if anything failed or was left unsent, 2 for wrong
 * usage.
 *
 * The calls, in the order of a connection's life:
 *
 *   tcp, unix, unixpacket: socket, connect, then send and recv at the same
 *                          time, shutdown at the end of the input, recv until
 *                          end of file, close
 *   udp, unixgram:         socket, connect (it only fixes the peer's address),
 *                          send and recv a datagram at a time (as writev and
 *                          readv, for the header of ICMP), close
 */
#include "common.h"

#include <err.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/wait.h>

#define MESSAGE_MAX 65507 /* the most that UDP takes: 65535 less two headers */
#define TRIES       3     /* for a datagram and its echo */
#define PROGRESS_NS 200000000
#define RETRY_MS    10 /* when an AF_UNIX backlog is full */

/* One direction: bytes on their way from one descriptor to another. */
struct flow {
    size_t start, end; /* buffer[start..end) is read and not yet written */
    bool ended;        /* there is no more to read */
    unsigned long long moved;
    char buffer[BUFFER_SIZE];
};

static struct flow up, down;  /* to the server, from the server */
static long patience_ms = -1; /* how long nothing may move; 0: for ever; -1: the
                               * usual for the network */
static bool verbose;
static int parent_pipe = -1; /* of a load process: at end of file when its
                              * parent has ended; -1: poll() leaves it out */

/* ---- Waiting, but not for ever ------------------------------------------ */

/*
 * Waits for events on a descriptor until the deadline, a time of now_ms(), or
 * -1 for ever. Returns those that came, or 0 if none did in time.
 */
static int wait_for(int fd, int events, long long deadline)
{
    struct pollfd ready[2] = {{.fd = fd, .events = (short)events},
                              {.fd = parent_pipe, .events = POLLIN}};

    for (;;) {
        long long left = deadline == -1 ? -1 : deadline - now_ms();

        if (deadline != -1 && left <= 0)
            return 0;
        switch (poll(ready, 2, (int)left)) {
        case -1:
            if (errno != EINTR)
                err(1, "poll");
            continue;
        case 0:
            continue;
        default:
            break;
        }
        if (ready[1].revents != 0)
            exit(1); /* nobody is there any more to report to */
        return ready[0].revents;
    }
}

/* The time of now_ms() up to which to be patient. */
static long long deadline_from_now(void)
{
    return patience_ms == 0 ? -1 : now_ms() + patience_ms;
}

static _Noreturn void give_up(const char *name)
{
    errx(1, "%s: poll: nothing sent or received for %ld s", name,
         patience_ms / 1000);
}

/* ---- Connecting: socket, connect ---------------------------------------- */

/*
 * connect(), but for patience_ms at the most. Returns 0, or -1 with errno,
 * ETIMEDOUT among them. Leaves the socket non-blocking.
 */
static int connect_in_time(int fd, const struct addrinfo *info)
{
    const long long deadline = deadline_from_now();
    int status, error;
    socklen_t len = sizeof error;

    if (fcntl(fd, F_SETFL, O_NONBLOCK) == -1)
        return -1;
    status = connect(fd, info->ai_addr, info->ai_addrlen);
    /* An AF_UNIX server's backlog is full (Linux): no poll() waits for that. */
    while (status == -1 && errno == EAGAIN && info->ai_family == AF_UNIX) {
        if (deadline != -1 && now_ms() >= deadline) {
            errno = ETIMEDOUT;
            return -1;
        }
        (void)wait_for(-1, 0, now_ms() + RETRY_MS);
        status = connect(fd, info->ai_addr, info->ai_addrlen);
    }
    if (status == 0 || (errno != EINPROGRESS && errno != EINTR))
        return status;
    /* It goes on by itself; when it is done, the socket is writable. */
    if (wait_for(fd, POLLOUT, deadline) == 0)
        error = ETIMEDOUT;
    else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == -1)
        return -1;
    errno = error;
    return error == 0 ? 0 : -1;
}

#define OWN_NAME "/socket"

static struct sockaddr_un own = {.sun_family = AF_UNIX};   /* our address, */
static char folder[sizeof own.sun_path - sizeof OWN_NAME]; /* in this folder */
static pid_t remover; /* removes both in the end; 0 while there is none */
static int remover_pipe;

/* Removes the folder when the reading end of its pipe says end of file. */
static _Noreturn void run_remover(int pipe_end)
{
    char byte;

    setsid(); /* so that a "kill -9" of the whole job does not take it along */
    /* Whoever waits for the end of our output must not wait for this. */
    for (int i = STDIN_FILENO; i <= STDERR_FILENO; i++)
        close(i);
    while (read(pipe_end, &byte, 1) == -1 && errno == EINTR)
        ;
    unlink(own.sun_path);
    rmdir(folder);
    _exit(0);
}

/* At exit(): has the folder removed, and waits until it is. */
static void end_remover(void)
{
    close(remover_pipe);
    while (waitpid(remover, NULL, 0) == -1 && errno == EINTR)
        ;
}

/* Forks the remover, with the reading end of a pipe of which this process, and
 * what it forks, has the writing end. Returns its ID, or -1 with errno. */
static pid_t fork_remover(const char **call)
{
    int ends[2];
    pid_t pid;

    *call = "pipe";
    if (pipe(ends) == -1)
        return -1;
    *call = "fork";
    pid = fork();
    if (pid == 0) {
        close(ends[1]);
        run_remover(ends[0]);
    }
    close(ends[0]);
    if (pid == -1)
        close(ends[1]);
    remover_pipe = ends[1];
    return pid;
}

/*
 * Makes a private folder, for the address of an AF_UNIX datagram socket, and a
 * process that removes it when this one has ended, however it ended: that
 * closes the last copy of the pipe's writing end. No signal handler can do as
 * much. Returns 0, or -1 with errno and *call.
 */
static int make_folder(const char **call)
{
    const char *parent = getenv("TMPDIR");
    pid_t pid = -1;
    int saved;
    sigset_t all, old;

    /* The server would look for a relative one in a folder of its own. */
    if (parent == NULL || *parent != '/')
        parent = "/tmp";
    *call = "mkdtemp";
    if (snprintf(folder, sizeof folder, "%s/echo-client.XXXXXX", parent) >=
        (int)sizeof folder) {
        errno = ENAMETOOLONG;
        return -1;
    }
    sigfillset(&all); /* the remover never unblocks them */
    sigprocmask(SIG_SETMASK, &all, &old);
    if (mkdtemp(folder) != NULL) {
        snprintf(own.sun_path, sizeof own.sun_path, "%s" OWN_NAME, folder);
        pid = fork_remover(call);
        saved = errno;
        if (pid == -1)
            rmdir(folder);
        errno = saved;
    }
    saved = errno;
    sigprocmask(SIG_SETMASK, &old, NULL);
    errno = saved;
    if (pid == -1)
        return -1;
    remover = pid;
    return atexit(end_remover) == 0 ? 0 : -1;
}

/* Binds to our file: without a name, the server knows nobody to answer. */
static int bind_private(int fd)
{
    unlink(own.sun_path); /* made for the socket before this one */
    return bind(fd, (struct sockaddr *)&own, sizeof own);
}

/* A datagram has a return address, and that of an AF_UNIX one is a file. */
static bool needs_file(const struct network *network)
{
    return network->domain == AF_UNIX && network->type == SOCK_DGRAM;
}

/* All that connects a socket. Returns 0, or -1 with errno and e->call. */
static int set_up_connection(int fd, struct endpoint *e,
                             const struct addrinfo *info)
{
    if (info->ai_family == AF_UNIX)
        refuse_descriptors(fd);
    e->call = "setsockopt";
    if (info->ai_socktype != SOCK_STREAM && fit_send_buffer(fd) == -1)
        return -1;
    /* See configure_connection() of the server, about Nagle's algorithm. */
    if (info->ai_socktype == SOCK_STREAM && info->ai_family != AF_UNIX &&
        turn_on(fd, IPPROTO_TCP, TCP_NODELAY) == -1)
        return -1;
    e->call = "bind";
    if (needs_file(e->network) && bind_private(fd) == -1)
        return -1;
    e->call = "connect";
    return connect_in_time(fd, info);
}

/* Opens a socket to one address. Returns it, or -1 with errno and e->call. */
static int open_connection(struct endpoint *e, const struct addrinfo *info)
{
    int fd, saved;

    if (needs_file(e->network) && remover == 0 && make_folder(&e->call) == -1)
        return -1;
    e->call = "socket";
    fd = socket(info->ai_family, e->network->type, e->network->protocol);
    if (fd == -1)
        return -1;
    if (set_up_connection(fd, e, info) == 0)
        return fd;
    saved = errno;
    close(fd);
    errno = saved; /* it may have been changed */
    return -1;
}

/*
 * Opens a socket to the first address, from *info on, on which that works;
 * *info is then that one, and `name`, an array of ADDRESS_SIZE, tells it. Ends
 * the program if there is none. A name like localhost has several addresses,
 * and the server may be at any: a client that tries only the first fails where
 * that is an IPv6 one.
 */
static int connect_first(struct endpoint *e, const struct addrinfo **info,
                         char *name)
{
    for (;; *info = (*info)->ai_next) {
        int fd;

        format_address(name, e->network, (*info)->ai_addr, (*info)->ai_addrlen);
        fd = open_connection(e, *info);
        if (fd != -1)
            return fd;
        if ((*info)->ai_next != NULL)
            continue;
        if (errno == EACCES && is_icmp(e->network))
            errx(1,
                 "%s: %s: not for any of your groups; the sysctl "
                 "net.ipv4.ping_group_range says for which",
                 name, e->call);
        if (errno == EADDRNOTAVAIL)
            errx(1,
                 "%s: %s: this machine has no address or no free port left "
                 "for it",
                 name, e->call);
        err(1, "%s: %s", name, e->call);
    }
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

/* Reads what there is of the input; sets up.ended at its end. */
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

/* ---- A connection: both directions at once ------------------------------ */

/* The flag for send(): a message in a connection has its end marked. */
static int end_mark(const struct network *network)
{
    return network->type == SOCK_SEQPACKET ? MSG_EOR : 0;
}

/* Sends what the socket takes. Returns 0, or -1 with errno if it is broken. */
static int send_some(int fd, size_t size, int flags)
{
    ssize_t n = send(fd, up.buffer + up.start, size, flags);

    if (n == -1)
        return try_again() ? 0 : -1;
    up.start += (size_t)n;
    up.moved += (unsigned long long)n;
    return 0;
}

/* Takes what came. The end of file is not in POLLHUP but here, after the last
 * byte: a client that goes by POLLHUP loses what had come before it. */
static void receive_some(int fd, const char *name)
{
    ssize_t n = receive(fd, down.buffer, sizeof down.buffer);

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

/* Says how the conversation has ended: `failure` is the errno of send(), and
 * `sending` tells that the input had not ended. Returns the exit status. */
static int conclude(const char *name, bool sending, int failure)
{
    errno = failure;
    if (failure != 0)
        warn("%s: send", name);
    else if (sending && input_left())
        warnx("%s: recv: the server closed with input left unsent", name);
    else if (sending && isatty(STDIN_FILENO))
        warnx("%s: the server has closed", name);
    return failure != 0 || up.start < up.end;
}

/*
 * Moves bytes both ways until the server has closed. One poll() waits for all:
 * a client that sends everything first and then reads blocks for ever, once the
 * echo has filled the buffers on the way back and the server stops reading.
 * `fd` must be non-blocking, and is closed in the end. Returns the exit status,
 * or ends the program where nothing is left to be done.
 */
static int converse(int fd, const struct network *network, const char *name)
{
    enum { INPUT, OUTPUT, PEER };
    bool sending = true;
    int failure = 0;

    while (!down.ended) {
        const bool unwritten = down.start < down.end;
        const size_t size = sending ? next_size(network) : 0;
        struct pollfd on[3];
        int n;

        if (sending && size == 0 && up.ended) {
            /* Tells the server that this was all, and leaves the other half
             * open. A failure means that it is gone: recv() will tell. */
            (void)shutdown(fd, SHUT_WR);
            sending = false;
        }
        on[INPUT] = wanted(STDIN_FILENO, sending && size == 0 ? POLLIN : 0);
        on[OUTPUT] = wanted(STDOUT_FILENO, unwritten ? POLLOUT : 0);
        on[PEER] = wanted(fd, (unwritten ? 0 : POLLIN) | (size ? POLLOUT : 0));
        n = poll(on, 3, unwritten || patience_ms == 0 ? -1 : (int)patience_ms);
        if (n == 0)
            give_up(name);
        if (n == -1) {
            if (errno != EINTR)
                err(1, "poll");
            continue;
        }
        if (on[INPUT].revents != 0)
            read_input();
        if (on[OUTPUT].revents != 0)
            write_output();
        /* POLLERR and POLLHUP are reason enough to try either, for send() and
         * recv() tell what is wrong. */
        if (size > 0 && (on[PEER].revents & ~POLLIN) != 0 &&
            send_some(fd, size, end_mark(network)) == -1) {
            failure = errno;
            (void)shutdown(fd, SHUT_WR); /* if it waits for our end */
            sending = false; /* what it sent before it went is still to come */
        }
        if (!unwritten && (on[PEER].revents & ~POLLOUT) != 0)
            receive_some(fd, name);
    }
    close(fd);
    return conclude(name, sending, failure);
}

/* ---- Datagrams: one at a time ------------------------------------------- */

/* What goes before an ICMP message (RFC 792, RFC 4443). The kernel puts in the
 * checksum and, for the identifier, a number by which it knows the socket. */
struct icmp_echo {
    uint8_t type, code;
    uint16_t checksum, identifier, sequence;
};

enum { ECHO_REPLY = 0, ECHO_REQUEST = 8 };         /* with IPv4 */
enum { ECHO_REQUEST_6 = 128, ECHO_REPLY_6 = 129 }; /* with IPv6 */

/*
 * Sends a datagram, when the queue has room for it. Returns 0, or -1 with errno.
 * Returns 0 as well if there is no room until the deadline: then it is lost, as
 * it may be on the way, and exchange() will send it again.
 */
static int send_message(int fd, const struct iovec parts[2], long long deadline)
{
    while (wait_for(fd, POLLOUT, deadline) != 0) {
        if (writev(fd, parts, 2) != -1)
            return 0;
        if (!try_again() && errno != ENOBUFS)
            return -1;
        /* poll() does not know of all queues. */
        (void)wait_for(-1, 0, now_ms() + RETRY_MS);
    }
    return 0;
}

/*
 * Sends a message and waits for its echo, which stays in down.buffer; sends it
 * again if none comes in patience_ms. A network may lose, double, delay and
 * reorder datagrams: what comes and is no echo of this message is late, and is
 * ignored. Returns 0, or -1 with errno and e->call; ETIMEDOUT if all tries
 * are used up.
 *
 * With ICMP, it is the kernel at the other end that sends the echo: ping's
 * protocol. The header goes before the message, and comes before the echo.
 */
static int exchange(struct endpoint *e, int fd, char *message, size_t size,
                    unsigned long long number)
{
    const bool ipv6 = e->network->protocol == IPPROTO_ICMPV6;
    const size_t header = is_icmp(e->network) ? sizeof(struct icmp_echo) : 0;
    struct icmp_echo reply,
        request = {.type = ipv6 ? ECHO_REQUEST_6 : ECHO_REQUEST,
                   .sequence = htons((uint16_t)number)};
    const struct iovec out[2] = {{&request, header}, {message, size}};
    const struct iovec in[2] = {{&reply, header},
                                {down.buffer, sizeof down.buffer}};

    for (int tries = 0; tries < TRIES; tries++) {
        long long deadline = deadline_from_now();
        ssize_t n;

        e->call = "send";
        if (send_message(fd, out, deadline) == -1)
            return -1;
        e->call = "recv";
        while (wait_for(fd, POLLIN, deadline)) {
            n = readv(fd, in, 2);
            if (n == (ssize_t)(header + size) &&
                memcmp(down.buffer, message, size) == 0 &&
                (header == 0 ||
                 (reply.type == (ipv6 ? ECHO_REPLY_6 : ECHO_REPLY) &&
                  reply.sequence == request.sequence)))
                return 0;
            if (n == -1 && errno == EMSGSIZE)
                break; /* a router says so; the next try goes in fragments */
            if (n == -1 && !try_again())
                return -1;
        }
    }
    errno = ETIMEDOUT;
    return -1;
}

/*
 * Exchanges a message, the `number`th, for its echo, or ends the program. Only
 * the first one tells whether anybody is there, for connect() sends nothing: if
 * not, it goes on to the next address, *info, and a new socket. Returns the
 * socket that is now in use; `name` tells its address.
 */
static int deliver(struct endpoint *e, const struct addrinfo **info, int fd,
                   char *name, char *message, size_t size,
                   unsigned long long number)
{
    while (exchange(e, fd, message, size, number) == -1) {
        if (errno == ETIMEDOUT)
            errx(1, "%s: recv: no echo of message %llu (%zu bytes)", name,
                 number, size);
        if (errno != ECONNREFUSED || number > 1 || (*info)->ai_next == NULL)
            err(1, "%s: %s", name, e->call);
        close(fd);
        *info = (*info)->ai_next;
        fd = connect_first(e, info, name);
    }
    return fd;
}

/* Sends the input message by message, and writes each echo to the output. */
static void echo_datagrams(struct endpoint *e, const struct addrinfo *info,
                           int fd, char *name)
{
    for (unsigned long long number = 1;; number++) {
        size_t size;

        while ((size = next_size(e->network)) == 0 && !up.ended)
            if (wait_for(STDIN_FILENO, POLLIN, -1) != 0)
                read_input();
        if (size == 0)
            break;
        fd = deliver(e, &info, fd, name, up.buffer + up.start, size, number);
        up.start += size;
        up.moved += size;
        down.moved += size;
        down.start = 0;
        down.end = size;
        while (down.start < down.end)
            if (wait_for(STDOUT_FILENO, POLLOUT, -1) != 0)
                write_output();
    }
    close(fd);
}

/* ---- Standard input to the server, its reply to standard output --------- */

/* The conversation, from the first connect() to the last byte of output. */
static int talk(struct endpoint *e)
{
    const long long started = now_ns();
    const struct addrinfo *info = e->addresses;
    char name[ADDRESS_SIZE];
    int fd = connect_first(e, &info, name), status = 0;
    double seconds;

    if (verbose && isatty(STDIN_FILENO))
        warnx("%s: connected; Ctrl-D ends the input", name);
    if (e->network->type == SOCK_DGRAM)
        echo_datagrams(e, info, fd, name);
    else
        status = converse(fd, e->network, name);
    /* Some file systems tell only now that the disk is full. */
    if (close(STDOUT_FILENO) == -1)
        err(1, "standard output: close");
    seconds = (double)(now_ns() - started) / 1e9;
    if (verbose)
        warnx("%s: sent %llu bytes, received %llu bytes in %.3f s, %.1f MB/s",
              e->text, up.moved, down.moved, seconds,
              (double)down.moved / 1e6 / seconds);
    return status;
}

/* ---- The load generator: nothing new about sockets, but SO_LINGER ------- */

/*
 * Each of a number of processes makes connections one after the other, and on
 * each of them round trips: it sends a message and takes the echo. All write
 * what they have counted to one file, each at its own place.
 */
static long load_connections, load_clients = 1, load_rounds = 1;
static size_t load_bytes = 64;
static bool load_options; /* was any of these given? */
static pid_t *load_pids;

/*
 * Round trip times are counted in buckets, of 1 ns up to 64, then 32 of them for
 * each doubling: within 3 percent, which is enough, and an exact list would be
 * as long as the run. The longest one is kept as it is.
 */
#define PER_DOUBLING ((size_t)32)
#define BUCKETS      (60 * PER_DOUBLING)

struct tally {
    unsigned long long connections, rounds;
    long long ns, longest; /* of the run so far; of a round trip */
    unsigned long long histogram[BUCKETS];
};

/* The bucket for a time. */
static size_t bucket_of(long long ns)
{
    size_t bits = (size_t)ns, shift = 0;

    for (; bits >= 2 * PER_DOUBLING; bits /= 2)
        shift++;
    return shift * PER_DOUBLING + bits;
}

/* The time, in microseconds, rounded down to its bucket, within which a part of
 * all round trips keeps. */
static double percentile(const struct tally *t, double part)
{
    unsigned long long seen = 0;
    size_t i = 0;

    for (; i < BUCKETS - 1; i++) {
        seen += t->histogram[i];
        if ((double)seen >= part * (double)t->rounds)
            break;
    }
    if (i < 2 * PER_DOUBLING)
        return (double)i / 1e3;
    return (double)(i % PER_DOUBLING + PER_DOUBLING) *
           (double)(1LL << (i / PER_DOUBLING - 1)) / 1e3;
}

/*
 * Fills the message with what no other message holds, so that an echo of the
 * wrong one is noticed: xorshift numbers (Marsaglia, 2003) from a seed.
 */
static void fill_message(char *message, size_t size, unsigned long long seed)
{
    for (size_t i = 0; i < size; i += sizeof seed) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        memcpy(message + i, &seed,
               size - i < sizeof seed ? size - i : sizeof seed);
    }
}

/*
 * Sends a message on a connection, and takes its echo at the same time, for it
 * may be larger than all buffers on the way. Ends the program if the echo is
 * wrong or incomplete.
 */
static void round_trip(int fd, const char *message, const char *name, int flags)
{
    size_t sent = 0, got = 0;

    while (got < load_bytes) {
        ssize_t n = sent < load_bytes
                        ? send(fd, message + sent, load_bytes - sent, flags)
                        : 0;

        if (n == -1 && !try_again())
            err(1, "%s: send", name);
        if (n > 0)
            sent += (size_t)n;
        if (wait_for(fd, POLLIN | (sent < load_bytes ? POLLOUT : 0),
                     deadline_from_now()) == 0)
            give_up(name);
        n = recv(fd, down.buffer, sizeof down.buffer, 0);
        if (n == 0)
            errx(1, "%s: recv: end of file after %zu of %zu bytes", name, got,
                 load_bytes);
        if (n == -1 && !try_again())
            err(1, "%s: recv", name);
        if (n > 0 && ((size_t)n > load_bytes - got ||
                      memcmp(down.buffer, message + got, (size_t)n) != 0))
            errx(1, "%s: recv: a wrong byte", name);
        got += n > 0 ? (size_t)n : 0;
    }
}

/* One process of the load: its share of connections, one after the other. */
static void make_connections(struct endpoint *e, long process, long share,
                             int results)
{
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};
    const struct addrinfo *info = e->addresses;
    const off_t place = process * (off_t)sizeof(struct tally);
    const long long started = now_ns();
    unsigned long long seed = (unsigned long long)(process + 1) << 40;
    char name[ADDRESS_SIZE], *message = malloc(load_bytes);
    static struct tally t;
    long long written = 0;

    if (message == NULL)
        err(1, "malloc");
    while (t.connections < (unsigned long long)share) {
        int fd = connect_first(e, &info, name);

        for (long i = 1; i <= load_rounds; i++) {
            long long ns;

            fill_message(message, load_bytes, ++seed);
            ns = now_ns();
            if (e->network->type == SOCK_DGRAM)
                fd = deliver(e, &info, fd, name, message, load_bytes,
                             (unsigned long long)i);
            else
                round_trip(fd, message, name, end_mark(e->network));
            ns = now_ns() - ns;
            t.longest = ns > t.longest ? ns : t.longest;
            t.histogram[bucket_of(ns)]++;
            t.rounds++;
        }
        /* A connection that is closed in peace keeps its port for a minute,
         * in TIME_WAIT, and there are some 28,000 ports. One that is reset does
         * not, and nothing that we want is on its way any more. */
        if (e->network->protocol == IPPROTO_TCP &&
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset) == -1)
            err(1, "%s: setsockopt", name);
        close(fd);
        t.connections++;
        t.ns = now_ns() - started;
        if (t.ns - written > PROGRESS_NS ||
            t.connections == (unsigned long long)share) {
            written = t.ns;
            errno = ENOSPC; /* what it means if only a part is written */
            if (pwrite(results, &t, sizeof t, place) != (ssize_t)sizeof t)
                err(1, "results: pwrite");
        }
    }
    free(message);
}

/* Adds up what the processes from `first` to before `last` have counted. */
static struct tally add_up(int results, long first, long last)
{
    static struct tally sum, t;

    memset(&sum, 0, sizeof sum);
    for (long i = first; i < last; i++) {
        memset(&t, 0, sizeof t); /* one that never wrote */
        if (pread(results, &t, sizeof t, i * (off_t)sizeof t) == -1)
            err(1, "results: pread");
        sum.connections += t.connections;
        sum.rounds += t.rounds;
        sum.ns = t.ns > sum.ns ? t.ns : sum.ns;
        sum.longest = t.longest > sum.longest ? t.longest : sum.longest;
        for (size_t j = 0; j < BUCKETS; j++)
            sum.histogram[j] += t.histogram[j];
    }
    return sum;
}

static void print_row(const char *label, const struct tally *t)
{
    double seconds = t->ns > 0 ? (double)t->ns / 1e9 : 1;

    printf("%-7s %13.0f %13.0f %8.1f %8.1f %8.1f %8.1f\n", label,
           (double)t->connections / seconds, (double)t->rounds / seconds,
           (double)t->rounds * (double)load_bytes / 1e6 / seconds,
           percentile(t, 0.5), percentile(t, 0.99), (double)t->longest / 1e3);
}

static void print_results(int results)
{
    struct tally t;
    char label[24];

    puts("client  connections/s round trips/s     MB/s   50% us   99% us  "
         "100% us");
    for (long i = 0; verbose && i < load_clients; i++) {
        snprintf(label, sizeof label, "%ld", i + 1);
        t = add_up(results, i, i + 1);
        print_row(label, &t);
    }
    t = add_up(results, 0, load_clients);
    print_row("all", &t);
    if (fflush(stdout) == EOF || ferror(stdout))
        err(1, "standard output: write");
}

/* Waits for all processes; meanwhile tells a terminal how far they are. */
static int wait_for_clients(int results)
{
    const bool terminal = isatty(STDERR_FILENO);
    int status, failed = 0;

    for (long i = 0; i < load_clients;) {
        pid_t pid = waitpid(load_pids[i], &status, terminal ? WNOHANG : 0);

        if (pid > 0) {
            i++;
            failed |= status != 0;
        } else if (pid == -1 && errno != EINTR) {
            err(1, "waitpid");
        } else if (pid == 0) {
            (void)poll(NULL, 0, PROGRESS_NS / 1000000);
            fprintf(stderr, "\r%llu of %ld connections",
                    add_up(results, 0, load_clients).connections,
                    load_connections);
            fflush(stderr);
        }
    }
    if (terminal)
        fputs("\r\033[K", stderr); /* the line is wiped out again */
    fflush(stderr);
    return failed;
}

/* Runs the load, prints the results. Returns the exit status. */
static int generate_load(struct endpoint *e)
{
    FILE *file = tmpfile();
    int alive[2], failed;

    if (file == NULL)
        err(1, "tmpfile");
    load_pids = calloc((size_t)load_clients, sizeof *load_pids);
    if (load_pids == NULL)
        err(1, "calloc");
    if (pipe(alive) == -1)
        err(1, "pipe");
    for (long i = 0; i < load_clients; i++) {
        switch (load_pids[i] = fork()) {
        case -1:
            err(1, "fork"); /* those that run end with us */
        case 0:
            /* Only the parent has this end now: the other is at end of file
             * when the parent is gone. */
            close(alive[1]);
            parent_pipe = alive[0];
            make_connections(e, i,
                             load_connections / load_clients +
                                 (i < load_connections % load_clients),
                             fileno(file));
            exit(0);
        default:
            break;
        }
    }
    failed = wait_for_clients(fileno(file));
    print_results(fileno(file));
    free(load_pids);
    return failed;
}

/* ---- Command line ------------------------------------------------------- */

static _Noreturn void usage(FILE *out)
{
    /* clang-format off */
    fputs(
"usage: client [-hv] [-w SECONDS] [ENDPOINT]\n"
"       client -n CONNECTIONS [-c CLIENTS] [-r ROUNDS] [-s BYTES] [-v]\n"
"              [-w SECONDS] [ENDPOINT]\n"
"\n"
"Sends standard input to a server, and its reply to standard output.\n"
"\n"
"  -h              print this\n"
"  -v              print a summary at the end\n"
"  -w SECONDS      give up when nothing is sent or received for so long; 0:\n"
"                  never, as is usual for connections. Datagrams (1) are sent\n"
"                  three times before that\n"
"\n"
"With -n, it puts a load on an echo server, checks every byte, and prints\n"
"rates and the 50th, 99th and 100th percentile of the round trip times.\n"
"\n"
"  -n CONNECTIONS  make so many connections in all\n"
"  -c CLIENTS      in so many processes at a time (1)\n"
"  -r ROUNDS       with so many round trips on each (1)\n"
"  -s BYTES        of so many bytes (64)\n"
"  -v              print a line for each process, too\n"
"\n"
"An ENDPOINT is NETWORK[:ADDRESS]; without any: tcp\n"
"  tcp, tcp4, tcp6, udp, udp4, udp6   [HOST:]PORT (7777)\n"
"  mptcp, udplite                     the same\n"
"  icmp, icmp6                        HOST: a kernel, which needs no server\n"
"  unix, unixgram, unixpacket         PATH (NETWORK.sock)\n"
"No HOST means this machine. To the networks that have messages, all but tcp,\n"
"mptcp and unix, each line is one.\n",
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

/* Sets what an option of the load generator says. */
static void parse_load_option(int option)
{
    long number = option_number(option, 1, 1000000000);

    load_options = true;
    switch (option) {
    case 'n':
        load_connections = number;
        break;
    case 'c':
        load_clients = number;
        break;
    case 'r':
        load_rounds = number;
        break;
    default:
        load_bytes = (size_t)number;
    }
}

/* Sets what the options say. Returns the index of the endpoint. */
static int parse_options(int argc, char **argv)
{
    int option;

    if (argc > 1 && strcmp(argv[1], "--help") == 0)
        usage(stdout);
    while ((option = getopt(argc, argv, "hvw:n:c:r:s:")) != -1) {
        switch (option) {
        case 'h':
            usage(stdout);
        case 'v':
            verbose = true;
            break;
        case 'w':
            patience_ms = 1000L * option_number(option, 0, 1000000);
            break;
        case '?':
            usage(stderr);
        default:
            parse_load_option(option);
        }
    }
    if (load_options && load_connections == 0)
        usage_error("-c, -r, -s", "only with -n");
    if (load_clients > load_connections)
        load_clients = load_connections;
    if (argc - optind > 1)
        usage_error(argv[optind + 1], "one endpoint is enough");
    return optind;
}

int main(int argc, char **argv)
{
    static char line[BUFSIZ];
    struct endpoint e;
    int first, status;

    if (hold_standard_descriptors() == -1)
        return 1;
    /* One write() a line: the lines of two processes do not mix. */
    setvbuf(stderr, line, _IOLBF, sizeof line);
    /* Without this, a write() to whoever is gone ends us without a word. */
    signal(SIGPIPE, SIG_IGN);
    /* If it is inherited as ignored, waitpid() finds nobody to wait for. */
    signal(SIGCHLD, SIG_DFL);
    first = parse_options(argc, argv);
    if (parse_endpoint(first < argc ? argv[first] : "tcp", &e) == -1)
        usage_error(e.text, e.reason);
    if (e.network->type != SOCK_STREAM && load_bytes > MESSAGE_MAX)
        usage_error(e.text, "a message has at most 65507 bytes");
    if (patience_ms == -1)
        patience_ms = e.network->type == SOCK_DGRAM ? 1000 : 0;
    if (resolve_endpoint(&e, false) == -1)
        errx(1, "%s: %s: %s", e.text, e.call, e.reason);
    status = load_connections > 0 ? generate_load(&e) : talk(&e);
    release_endpoint(&e);
    return status;
}
