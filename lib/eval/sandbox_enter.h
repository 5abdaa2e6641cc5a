/* sandbox_enter.h -- how a forked process becomes an interpreter that can do no harm. */
#ifndef SP_SANDBOX_ENTER_H
#define SP_SANDBOX_ENTER_H

#include "base/buf.h"
#include "eval/sandbox.h"

#include <sys/types.h>

/* Descriptors: 0 to 5 are sandbox_py.h's, -1: closed. The last is closed before the interpreter
 * runs: bubblewrap's file with the filter, or the Landlock rules. */
#define SP_SANDBOX_FD_RULES 6
#define SP_SANDBOX_FDS (SP_SANDBOX_FD_RULES + 1)

#define SP_SANDBOX_OUTPUT_MAX (1u << 20) /* bytes of any file it writes, its output too */

struct sp_sandbox_enter {
	enum sp_sandbox_kind kind;
	int fds[SP_SANDBOX_FDS]; /* which becomes which */
	const char *script;	 /* for python3 -c */
	unsigned cpu_s, memory_mib;
	/* Landlock only: */
	const struct sp_buf *filter;
	uid_t uid;    /* to become, when root */
	pid_t parent; /* with whose end it ends */
};

/* In a child, after fork in a process that may have threads. Says on descriptor 2 what it could not
 * do, and exits: nothing runs outside of the sandbox. */
_Noreturn void sp_sandbox_enter(const struct sp_sandbox_enter *how);

#endif
