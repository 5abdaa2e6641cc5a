/*
 * sandbox.h -- runs generated programs where they can do no harm, and learns whether they are
 * right.
 *
 * A program is never believed. It runs in one sandbox (the prompt and the completion), its tests in
 * a second one (the prompt and check()), joined by two pipes on which only plain data travels: the
 * tests call the program's function through a stand-in. When check() has returned, the tests' side
 * prints a random nonce that only it was given, and that nonce alone is a pass. So a program that
 * exits early, prints whatever it likes, or searches its own interpreter's memory finds neither the
 * nonce nor the expected values: the only way to pass is to answer the calls rightly.
 *
 * Each sandbox has no capabilities, no environment, /usr read-only and no other file; a seccomp
 * allow-list without sockets and without new processes or threads; limits on CPU time, address
 * space, file size and open files; and a wall clock. There are two kinds:
 *
 * bubblewrap gives each its own user, pid, network, ipc, uts and cgroup namespaces and a small
 * /tmp, and no /proc and /dev: what is outside is not there. It needs a kernel that lets users make
 * namespaces.
 *
 * landlock leaves the namespaces as they are: what is outside is there, but cannot be opened, made
 * or sent a signal; that a file exists can still be found out by its name. Nothing at all can be
 * written. Each program has a user of its own when we are root.
 *
 * What remains: a flaw in the kernel's system calls that Python needs; a model that learned the
 * benchmark by heart; and the differences to `python program.py` that the pipes bring: results are
 * copies, a result that is not plain data (a class's instance, say) equals nothing, and an iterator
 * arrives exhausted into a list of at most 100,000 items.
 */
#ifndef SP_SANDBOX_H
#define SP_SANDBOX_H

#include "eval/verdict.h"

#define SP_SANDBOX_PYTHON "/usr/bin/python3"
#define SP_SANDBOX_BWRAP "/usr/bin/bwrap"

enum sp_sandbox_kind { SP_SANDBOX_BUBBLEWRAP, SP_SANDBOX_LANDLOCK };
const char *sp_sandbox_word(enum sp_sandbox_kind kind);		  /* "bubblewrap", "landlock" */
int sp_sandbox_find(const char *word, enum sp_sandbox_kind *out); /* 1 when it is one of them */

struct sp_sandbox_limits {
	enum sp_sandbox_kind kind;
	unsigned cpu_s;	     /* of the program; its tests get three times as much */
	unsigned wall_ms;    /* from both interpreters being up to the nonce */
	unsigned start_ms;   /* for both interpreters to come up */
	unsigned memory_mib; /* address space of each interpreter */
};
/* bubblewrap; 3 s of CPU time as the harness's timeout of 3 s (on a busy machine its wall clock
 * would decide by chance), 20 s on the wall, 30 s to start, 1 GiB. */
extern const struct sp_sandbox_limits sp_sandbox_defaults;

/* Borrowed texts; completion may hold any bytes. outcome is set by sp_sandbox_run. */
struct sp_sandbox_program {
	const char *id; /* for messages */
	const char *prompt, *completion, *entry, *test;
	size_t completion_len;
	enum sp_verdict_outcome outcome;
	char detail[64]; /* "AssertionError", …; printable ASCII */
};

/*
 * Runs all, at most `parallel` at a time (0: one per processor). A sandbox that cannot be set up,
 * or a test that is broken, is an error and no outcome: the caller's gate fails closed. progress
 * may be NULL. One caller at a time may run in a process with other threads.
 */
typedef void sp_sandbox_progress_fn(void *ctx, size_t done, size_t total);
enum sp_code sp_sandbox_run(struct sp_sandbox_program *programs, size_t count, unsigned parallel,
    const struct sp_sandbox_limits *limits, sp_sandbox_progress_fn *progress, void *ctx,
    struct sp_err *err) SP_MUST_USE;

/* Proves before a gate relies on it that the sandbox holds: a right program passes; one that exits
 * early does not; sockets, new processes, signals, writes outside /tmp and other files are refused.
 */
enum sp_code
sp_sandbox_check(const struct sp_sandbox_limits *limits, struct sp_err *err) SP_MUST_USE;

#endif
