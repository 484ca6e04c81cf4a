/*
 * listen_more.c - gives a server a longer queue of connections than it asks for.
 *
 * OpenSMTPD asks for five, compiled in. When twenty clients come at once the
 * kernel drops some of their handshakes, and what would be measured is how long
 * the kernel takes to repeat them. Preloaded.
 */
#include <sys/syscall.h>
#include <unistd.h>

int listen(int fd, int backlog);

int listen(int fd, int backlog)
{
    return (int)syscall(SYS_listen, fd, backlog > 1024 ? backlog : 1024);
}
