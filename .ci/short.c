/*
 * short.c - for test_faults.py: a library to be preloaded, under which calls on
 * stream sockets and standard output take a few bytes of what they are offered,
 * and now and then none, with EINTR. It notes each call in short.log.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static ssize_t cut(long call, int fd, void *buffer, size_t size, int flags)
{
    static unsigned state;
    static int log = -1;
    int type = 0;
    socklen_t len = sizeof type;

    (void)getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len);
    if (size > 0 && (type == SOCK_STREAM || fd == STDOUT_FILENO)) {
        if (log == -1)
            log = open("short.log", O_WRONLY | O_CREAT | O_APPEND, 0600);
        syscall(SYS_write, log, ".", 1);
        state = (state ? state : (unsigned)getpid()) * 1103515245 + 12345;
        errno = EINTR;
        if ((state >> 24) % 8 == 0)
            return -1;
        size = size < 8 ? 1 : 1 + (state >> 16) % 7;
    }
    return syscall(call, fd, buffer, size, flags, NULL, 0);
}

ssize_t read(int fd, void *buffer, size_t size)
{
    return cut(SYS_read, fd, buffer, size, 0);
}

ssize_t write(int fd, const void *buffer, size_t size)
{
    return cut(SYS_write, fd, (void *)buffer, size, 0);
}

ssize_t recv(int fd, void *buffer, size_t size, int flags)
{
    return cut(SYS_recvfrom, fd, buffer, size, flags);
}

ssize_t send(int fd, const void *buffer, size_t size, int flags)
{
    return cut(SYS_sendto, fd, (void *)buffer, size, flags);
}
