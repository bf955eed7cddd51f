/* Tests read_exactly() of the README. */
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "function.h"

static int ends[2];

static void on_alarm(int number)
{
    (void)number;
}

/* Writes ten bytes, two at a time: each read() of the reader is short. */
static void write_in_pieces(void)
{
    for (int i = 0; i < 5; i++) {
        usleep(100 * 1000);
        assert(write(ends[1], "ab", 2) == 2);
    }
}

int main(void)
{
    const struct sigaction action = {.sa_handler =
                                         on_alarm}; /* no SA_RESTART */
    char buffer[16] = "";

    assert(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    if (fork() == 0) {
        close(ends[0]);
        write_in_pieces();
        _exit(0);
    }
    close(ends[1]);
    sigaction(SIGALRM, &action, NULL);
    ualarm(50 * 1000, 30 * 1000); /* EINTR, again and again */

    assert(read_exactly(ends[0], buffer, 0) == 0);
    assert(read_exactly(ends[0], buffer, 7) == 7);
    assert(strcmp(buffer, "abababa") == 0);
    assert(read_exactly(ends[0], buffer, sizeof buffer) == 3);
    assert(memcmp(buffer, "bab", 3) == 0);
    assert(read_exactly(ends[0], buffer, 1) == 0);
    close(ends[0]);
    assert(read_exactly(ends[0], buffer, 1) == -1 && errno == EBADF);
}
