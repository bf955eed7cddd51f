/*
 * short.c - short reads and writes, for tests only: a library to be preloaded,
 * under which the calls below take no more than a few bytes of what they are
 * offered, and now and then none, with EINTR. A kernel may do both at any time,
 * but on one machine hardly ever does.
 *
 *   cc -shared -fPIC -o short.so short.c
 *   LD_PRELOAD=$PWD/short.so ./server
 *
 * Only stream sockets are meant: pipes carry process IDs, which are written in
 * one piece, and a socket pair, both ends of which are nameless, is a channel
 * of the server. The system calls are made directly, past the C library that
 * is stood in for.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#define FEW 7 /* bytes at the most */

typedef int name_getter(int, struct sockaddr *restrict, socklen_t *restrict);

static bool has_name(int fd, name_getter *get)
{
    struct sockaddr_un name;
    socklen_t len = sizeof name;

    return get(fd, (struct sockaddr *)&name, &len) == 0 &&
           (name.sun_family != AF_UNIX ||
            len > offsetof(struct sockaddr_un, sun_path));
}

static bool is_stream(int fd)
{
    int type;
    socklen_t len = sizeof type;

    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 &&
           type == SOCK_STREAM &&
           (has_name(fd, getsockname) || has_name(fd, getpeername));
}

/* How much of `size` to take: all, a few bytes, or -1 with EINTR. */
static ssize_t cut(int fd, size_t size)
{
    static unsigned state;
    size_t few;

    if (size == 0 || !is_stream(fd))
        return (ssize_t)size;
    if (state == 0)
        state = (unsigned)getpid();
    state = state * 1103515245 + 12345; /* the example in the C standard */
    few = 1 + (state >> 16) % FEW;
    if ((state >> 24) % 8 == 0) {
        errno = EINTR;
        return -1;
    }
    return (ssize_t)(few < size ? few : size);
}

ssize_t read(int fd, void *buffer, size_t size)
{
    ssize_t n = cut(fd, size);

    return n == -1 ? -1 : syscall(SYS_read, fd, buffer, (size_t)n);
}

ssize_t write(int fd, const void *buffer, size_t size)
{
    ssize_t n = cut(fd, size);

    return n == -1 ? -1 : syscall(SYS_write, fd, buffer, (size_t)n);
}

ssize_t recv(int fd, void *buffer, size_t size, int flags)
{
    ssize_t n = cut(fd, size);

    return n == -1 ? -1
                   : syscall(SYS_recvfrom, fd, buffer, (size_t)n, flags, NULL,
                             NULL);
}

ssize_t send(int fd, const void *buffer, size_t size, int flags)
{
    ssize_t n = cut(fd, size);

    return n == -1 ? -1
                   : syscall(SYS_sendto, fd, buffer, (size_t)n, flags, NULL, 0);
}

/* The same for many parts: if any is cut off, the first that is not empty is
 * all there is. Returns whether to go on; otherwise errno is EINTR. */
static bool cut_parts(int fd, struct iovec *first, const struct iovec **parts,
                      size_t *count)
{
    size_t i = 0;
    ssize_t n;

    while (i < *count && (*parts)[i].iov_len == 0)
        i++;
    if (i == *count || !is_stream(fd))
        return true;
    *first = (*parts)[i];
    n = cut(fd, first->iov_len);
    first->iov_len = (size_t)n;
    *parts = first;
    *count = 1;
    return n != -1;
}

static ssize_t message_call(long call, int fd, const struct msghdr *message,
                            int flags)
{
    struct msghdr copy = *message;
    const struct iovec *parts = copy.msg_iov;
    size_t count = copy.msg_iovlen;
    struct iovec first;
    ssize_t n;

    if (!cut_parts(fd, &first, &parts, &count))
        return -1;
    copy.msg_iov = (struct iovec *)parts;
    copy.msg_iovlen = count;
    n = syscall(call, fd, &copy, flags);
    if (call == SYS_recvmsg && n != -1) { /* what it reports goes back */
        struct msghdr *out = (struct msghdr *)message;

        out->msg_namelen = copy.msg_namelen;
        out->msg_controllen = copy.msg_controllen;
        out->msg_flags = copy.msg_flags;
    }
    return n;
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    return message_call(SYS_recvmsg, fd, message, flags);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    return message_call(SYS_sendmsg, fd, message, flags);
}

static ssize_t parts_call(long call, int fd, const struct iovec *parts,
                          int count)
{
    size_t n = (size_t)count;
    struct iovec first;

    return cut_parts(fd, &first, &parts, &n) ? syscall(call, fd, parts, n) : -1;
}

ssize_t readv(int fd, const struct iovec *parts, int count)
{
    return parts_call(SYS_readv, fd, parts, count);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    return parts_call(SYS_writev, fd, parts, count);
}
