/* sandbox_filter.c -- the seccomp program of the sandbox. */
#include "eval/sandbox_filter.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

static const int allowed[] = {
    /* files; the mounts say which */
    SCMP_SYS(read),
    SCMP_SYS(readv),
    SCMP_SYS(pread64),
    SCMP_SYS(write),
    SCMP_SYS(writev),
    SCMP_SYS(pwrite64),
    SCMP_SYS(close),
    SCMP_SYS(close_range),
    SCMP_SYS(stat),
    SCMP_SYS(fstat),
    SCMP_SYS(lstat),
    SCMP_SYS(newfstatat),
    SCMP_SYS(statx),
    SCMP_SYS(lseek),
    SCMP_SYS(access),
    SCMP_SYS(faccessat),
    SCMP_SYS(faccessat2),
    SCMP_SYS(dup),
    SCMP_SYS(dup2),
    SCMP_SYS(dup3),
    SCMP_SYS(getcwd),
    SCMP_SYS(chdir),
    SCMP_SYS(readlink),
    SCMP_SYS(readlinkat),
    SCMP_SYS(getdents64),
    SCMP_SYS(unlink),
    SCMP_SYS(unlinkat),
    SCMP_SYS(mkdir),
    SCMP_SYS(mkdirat),
    SCMP_SYS(rmdir),
    SCMP_SYS(rename),
    SCMP_SYS(renameat),
    SCMP_SYS(renameat2),
    SCMP_SYS(ftruncate),
    SCMP_SYS(umask),
    SCMP_SYS(pipe),
    SCMP_SYS(pipe2),
    /* memory */
    SCMP_SYS(mmap),
    SCMP_SYS(mprotect),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    SCMP_SYS(brk),
    /* itself */
    SCMP_SYS(execve),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(getppid),
    SCMP_SYS(getuid),
    SCMP_SYS(geteuid),
    SCMP_SYS(getgid),
    SCMP_SYS(getegid),
    SCMP_SYS(getgroups),
    SCMP_SYS(getrlimit),
    SCMP_SYS(setrlimit),
    SCMP_SYS(getrusage),
    SCMP_SYS(times),
    SCMP_SYS(uname),
    SCMP_SYS(sysinfo),
    SCMP_SYS(sched_yield),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(futex),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(set_tid_address),
    SCMP_SYS(rseq),
    SCMP_SYS(arch_prctl),
    SCMP_SYS(restart_syscall),
    /* time, chance, waiting */
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_getres),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(nanosleep),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(time),
    SCMP_SYS(getrandom),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(select),
    SCMP_SYS(pselect6),
};

/* bubblewrap's reaper, process 1 of the sandbox, runs under the filter too. */
static const int among_namespaces[] = {SCMP_SYS(tgkill), SCMP_SYS(wait4)};

/* Of ioctl, what Python asks of any file it opens; TIOCSTI and the like are not among them. */
static const unsigned long ioctls[] = {FIOCLEX, FIONCLEX, FIONREAD, TCGETS, TIOCGWINSZ};
/* Of fcntl, not F_SETOWN and F_SETSIG, which send a signal to anybody. */
static const int fcntls[] = {F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL, F_SETFL};
/* Of open: not to empty a file while reading it, which Landlock sees from ABI 3 on only. */
static const unsigned long opens[][2] = {{O_TRUNC, 0}, {O_TRUNC | O_ACCMODE, O_TRUNC | O_WRONLY},
    {O_TRUNC | O_ACCMODE, O_TRUNC | O_RDWR}};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define LOW 0xffffffff /* of an argument that is an int */

/* Those whose arguments say whether they are harmless. */
static int
add_conditions(scmp_filter_ctx filter)
{
	int rc = 0;
	size_t i;

	for (i = 0; rc == 0 && i < COUNT(ioctls); i++)
		rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
		    SCMP_A1(SCMP_CMP_MASKED_EQ, LOW, ioctls[i]));
	for (i = 0; rc == 0 && i < COUNT(fcntls); i++)
		rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1,
		    SCMP_A1(SCMP_CMP_MASKED_EQ, LOW, (scmp_datum_t)fcntls[i]));
	for (i = 0; rc == 0 && i < COUNT(opens); i++) {
		rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(open), 1,
		    SCMP_A1(SCMP_CMP_MASKED_EQ, opens[i][0], opens[i][1]));
		if (rc == 0)
			rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(openat), 1,
			    SCMP_A2(SCMP_CMP_MASKED_EQ, opens[i][0], opens[i][1]));
	}
	/* of limits, one's own alone */
	if (rc == 0)
		rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 1,
		    SCMP_A0(SCMP_CMP_MASKED_EQ, LOW, 0));
	return rc;
}

enum sp_code
sp_sandbox_filter(enum sp_sandbox_kind kind, struct sp_buf *out, struct sp_err *err)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	enum sp_code code = SP_OK;
	uint8_t *program = NULL;
	off_t size;
	int fd = -1, rc = filter ? 0 : -ENOMEM;
	size_t i;

	for (i = 0; rc == 0 && i < COUNT(allowed); i++)
		rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
	if (rc == 0)
		rc = add_conditions(filter);
	/* where there is no other process to be found */
	for (i = 0; rc == 0 && kind == SP_SANDBOX_BUBBLEWRAP && i < COUNT(among_namespaces); i++)
		rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, among_namespaces[i], 0);
	fd = memfd_create("seccomp", MFD_CLOEXEC);
	if (rc == 0 && fd < 0)
		rc = -errno;
	if (rc == 0)
		rc = seccomp_export_bpf(filter, fd);
	if (rc != 0) {
		code = sp_err_set(
		    err, SP_E_IO, "sandbox: cannot make the seccomp filter: %s", strerror(-rc));
		goto out;
	}
	size = lseek(fd, 0, SEEK_END);
	if (size <= 0 || lseek(fd, 0, SEEK_SET) != 0) {
		code = sp_err_errno(err, "sandbox: the seccomp filter");
		goto out;
	}
	program = sp_xcalloc((size_t)size, 1);
	code = sp_file_read_all(fd, program, (size_t)size, err);
	if (code == SP_OK)
		sp_buf_add(out, program, (size_t)size);
out:
	free(program);
	if (fd >= 0)
		close(fd);
	if (filter)
		seccomp_release(filter);
	return code;
}
