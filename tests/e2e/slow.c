/*
 * slow.c -- slow.so, preloaded into a daemon: a disk that takes its time over fsync, so that a test
 * can catch the daemon in the middle of a step that is over in no time here.
 */
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int
slow(long call, int fd)
{
	const struct timespec pause = {0, 250 * 1000000L};

	nanosleep(&pause, NULL);
	return (int)syscall(call, fd);
}

int
fsync(int fd)
{
	return slow(SYS_fsync, fd);
}

int
fdatasync(int fd)
{
	return slow(SYS_fdatasync, fd);
}
