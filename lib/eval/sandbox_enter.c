/*
 * sandbox_enter.c -- how a forked process becomes an interpreter that can do no harm.
 *
 * Everything here runs between fork and execve: async-signal-safe calls only, and system calls
 * where the C library's function would want to talk to other threads (setresuid).
 */
#include "eval/sandbox_enter.h"

#include "base/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FD_SPARE 64	     /* above all that a sandbox is given */
#define TMP_BYTES "16777216" /* bytes of its /tmp */
#define NOFILE_MAX 64
#define NOBODY 65534

#define PYTHON_ARGS SP_SANDBOX_PYTHON, "-s", "-S", "-B", "-c"

static const char *const bwrap_args[] = {SP_SANDBOX_BWRAP, "--unshare-all", "--unshare-user",
    "--disable-userns", "--cap-drop", "ALL", "--uid", "65534", "--gid", "65534", "--hostname",
    "sandbox", "--die-with-parent", "--new-session", "--clearenv", "--setenv", "PYTHONHASHSEED",
    "0", "--setenv", "LC_ALL", "C.UTF-8", "--ro-bind", "/usr", "/usr", "--symlink", "usr/lib",
    "/lib", "--symlink", "usr/lib64", "/lib64", "--symlink", "usr/bin", "/bin", "--size", TMP_BYTES,
    "--tmpfs", "/tmp", "--remount-ro", "/", "--chdir", "/tmp", "--seccomp", "6", "--", PYTHON_ARGS};
_Static_assert(SP_SANDBOX_FD_RULES == 6, "as in bwrap_args");
static const char *const python_args[] = {PYTHON_ARGS};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static _Noreturn void
give_up(const char *what)
{
	const char *why = strerrordesc_np(errno);

	(void)!write(2, what, strlen(what));
	(void)!write(2, ": ", 2);
	if (why != NULL)
		(void)!write(2, why, strlen(why));
	_exit(126);
}

static void
limit(int resource, rlim_t value)
{
	struct rlimit both = {.rlim_cur = value, .rlim_max = value};

	if (setrlimit((__rlimit_resource_t)resource, &both) != 0)
		give_up("setrlimit");
}

/* fds[i] becomes descriptor i; all others are closed. */
static void
place_fds(const int fds[SP_SANDBOX_FDS])
{
	int high[SP_SANDBOX_FDS], i;

	for (i = 0; i < SP_SANDBOX_FDS; i++) {
		high[i] = fds[i] < 0 ? -1 : fcntl(fds[i], F_DUPFD, FD_SPARE);
		if (fds[i] >= 0 && high[i] < 0)
			_exit(126);
	}
	for (i = 0; i < SP_SANDBOX_FDS; i++) {
		if (high[i] < 0)
			close(i);
		else if (dup2(high[i], i) < 0)
			_exit(126);
	}
	if (close_range(SP_SANDBOX_FDS, ~0U, 0) != 0)
		_exit(126);
}

static void
execute(const char *const *args, size_t count, const char *script, char *const *env)
{
	char *argv[COUNT(bwrap_args) + 2];
	size_t i;

	for (i = 0; i < count; i++)
		argv[i] = (char *)(uintptr_t)args[i];
	argv[count] = (char *)(uintptr_t)script;
	argv[count + 1] = NULL;
	execve(argv[0], argv, env);
}

/* From root to a user of its own, that owns nothing and whose processes nobody else has; in a user
 * namespace that lacks it, to nobody. Root's capabilities go with that. */
static void
leave_root(uid_t uid)
{
	if (syscall(SYS_getuid) != 0 && syscall(SYS_geteuid) != 0)
		return;
	if (syscall(SYS_setgroups, 0, NULL) != 0)
		give_up("setgroups");
	if (syscall(SYS_setresgid, uid, uid, uid) != 0) {
		uid = NOBODY;
		if (syscall(SYS_setresgid, uid, uid, uid) != 0)
			give_up("setresgid");
	}
	if (syscall(SYS_setresuid, uid, uid, uid) != 0)
		give_up("setresuid");
}

static void
enter_landlock(const struct sp_sandbox_enter *how)
{
	static const char hash[] = "PYTHONHASHSEED=0", locale[] = "LC_ALL=C.UTF-8";
	char *const env[] = {(char *)(uintptr_t)hash, (char *)(uintptr_t)locale, NULL};
	struct sock_fprog program = {
	    .len = (unsigned short)(how->filter->len / sizeof(struct sock_filter)),
	    .filter = (struct sock_filter *)(void *)how->filter->data};

	if (setsid() < 0 || chdir("/") != 0)
		give_up("session");
	leave_root(how->uid);
	/* after the change of user, which forgets it */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != how->parent)
		give_up("parent");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    sp_landlock_enter(SP_SANDBOX_FD_RULES) != 0)
		give_up("Landlock");
	close(SP_SANDBOX_FD_RULES);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
		give_up("seccomp");
	execute(python_args, COUNT(python_args), how->script, env);
}

_Noreturn void
sp_sandbox_enter(const struct sp_sandbox_enter *how)
{
	char *const nothing[] = {NULL};
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	place_fds(how->fds);
	limit(RLIMIT_CORE, 0);
	limit(RLIMIT_CPU, how->cpu_s);
	limit(RLIMIT_AS, (rlim_t)how->memory_mib << 20);
	limit(RLIMIT_FSIZE, SP_SANDBOX_OUTPUT_MAX);
	limit(RLIMIT_NOFILE, NOFILE_MAX);
	if (how->kind == SP_SANDBOX_LANDLOCK)
		enter_landlock(how);
	else
		execute(bwrap_args, COUNT(bwrap_args), how->script, nothing);
	give_up(how->kind == SP_SANDBOX_LANDLOCK ? SP_SANDBOX_PYTHON : SP_SANDBOX_BWRAP);
}
