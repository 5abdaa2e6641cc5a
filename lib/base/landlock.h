/*
 * landlock.h -- a process gives up all files but those below a few paths (Linux Landlock,
 * docs.kernel.org/userspace-api/landlock.html). It needs no privilege, and what was given up never
 * comes back, not by execve(2) either.
 *
 * Not everything is Landlock's: names can still be looked up (stat(2) works), and modes, owners and
 * times of reachable files changed as far as the user may. Before ABI 3 a file can be emptied
 * (O_TRUNC) wherever the user may write it; before ABI 4 TCP, before ABI 6 signals and abstract
 * Unix sockets are free. A seccomp filter closes what matters of that.
 */
#ifndef SP_LANDLOCK_H
#define SP_LANDLOCK_H

#include "base/err.h"

/* What is allowed below a path. Nobody may make devices, sockets or FIFOs. */
#define SP_LANDLOCK_READ 1u /* and list directories */
#define SP_LANDLOCK_EXECUTE 2u
#define SP_LANDLOCK_WRITE 4u /* make, change, rename and remove files, directories and symlinks */

/* The ABI version that the kernel offers, 0 when it has no Landlock or forbids it. */
int sp_landlock_abi(void);

/* A set of rules that allows nothing yet: *fd, close-on-exec. tcp: whether TCP stays open.
 * SP_E_UNSUPPORTED when the kernel has no Landlock. */
enum sp_code sp_landlock_open(int tcp, int *fd, struct sp_err *err) SP_MUST_USE;
/* Allows the rights below path (a file: on it). A path that does not exist is no error: nothing can
 * be reached there. */
enum sp_code
sp_landlock_allow(int fd, const char *path, unsigned rights, struct sp_err *err) SP_MUST_USE;
/* From now on the calling thread, and all that it starts, has what the rules allow. Needs
 * PR_SET_NO_NEW_PRIVS. Async-signal-safe. 0, or -1 with errno. */
int sp_landlock_enter(int fd);

#endif
