/*
 * confine_filter.c -- the system calls that a worker's child does without.
 *
 * A list of what is refused, with EPERM, not of what is allowed: the engine, libcurl and GnuTLS use
 * more calls than anybody could list and keep right. What a refused call would be good for is said
 * at each group. Generated programs, which are hostile by assumption, get an allow-list of their
 * own (lib/eval/sandbox_filter.c).
 */
#include "bus/confine_filter.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef F_SETSIG
#define F_SETSIG 10
#endif

#define DENY SCMP_ACT_ERRNO(EPERM)
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Other processes: their memory, files and control. */
static const int others[] = {
#ifndef __SANITIZE_ADDRESS__ /* the leak detector traces its own process */
    SCMP_SYS(ptrace),
    SCMP_SYS(process_vm_readv),
#endif
    SCMP_SYS(process_vm_writev),
    SCMP_SYS(process_madvise),
    SCMP_SYS(pidfd_getfd),
    SCMP_SYS(pidfd_send_signal),
    SCMP_SYS(rt_sigqueueinfo),
    SCMP_SYS(rt_tgsigqueueinfo),
    SCMP_SYS(kcmp),
    SCMP_SYS(migrate_pages),
    SCMP_SYS(move_pages),
    /* the kernel: what needs privileges that nobody here has, or has had many holes */
    SCMP_SYS(bpf),
    SCMP_SYS(perf_event_open),
    SCMP_SYS(userfaultfd),
    SCMP_SYS(io_uring_setup),
    SCMP_SYS(io_uring_enter),
    SCMP_SYS(io_uring_register),
    SCMP_SYS(add_key),
    SCMP_SYS(request_key),
    SCMP_SYS(keyctl),
    SCMP_SYS(init_module),
    SCMP_SYS(finit_module),
    SCMP_SYS(delete_module),
    SCMP_SYS(kexec_load),
    SCMP_SYS(kexec_file_load),
    SCMP_SYS(iopl),
    SCMP_SYS(ioperm),
    SCMP_SYS(modify_ldt),
    SCMP_SYS(acct),
    SCMP_SYS(quotactl),
    SCMP_SYS(swapon),
    SCMP_SYS(swapoff),
    SCMP_SYS(reboot),
    SCMP_SYS(settimeofday),
    SCMP_SYS(clock_settime),
    SCMP_SYS(clock_adjtime),
    SCMP_SYS(adjtimex),
    SCMP_SYS(syslog),
    SCMP_SYS(vhangup),
    SCMP_SYS(fanotify_init),
    SCMP_SYS(open_by_handle_at),
    SCMP_SYS(name_to_handle_at),
    SCMP_SYS(setns),
    SCMP_SYS(chroot),
};

/* Namespaces and mounts. clone3 hides its flags from a filter: ENOSYS makes the C library take
 * clone. */
static const int mounts[] = {SCMP_SYS(unshare), SCMP_SYS(mount), SCMP_SYS(umount2),
    SCMP_SYS(pivot_root), SCMP_SYS(move_mount), SCMP_SYS(open_tree), SCMP_SYS(mount_setattr),
    SCMP_SYS(fsopen), SCMP_SYS(fsconfig), SCMP_SYS(fsmount), SCMP_SYS(fspick)};
static const unsigned long namespaces_of_clone[] = {CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS,
    CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET};

static const int processes[] = {
    SCMP_SYS(execve), SCMP_SYS(execveat), SCMP_SYS(fork), SCMP_SYS(vfork)};

/* What a socket may be, and -1: netlink says which addresses a host has. */
static const int internet[] = {AF_INET, AF_INET6, AF_NETLINK, -1};
/* bubblewrap looks for its loopback with these; our own Unix sockets are out of its sight. */
static const int local[] = {AF_UNIX, AF_NETLINK, -1};

static int
deny_all(scmp_filter_ctx filter, const int *calls, size_t count)
{
	int rc = 0;
	size_t i;

	for (i = 0; i < count && rc == 0; i++)
		rc = seccomp_rule_add(filter, DENY, calls[i], 0);
	return rc;
}

static int
deny_namespaces(scmp_filter_ctx filter)
{
	int rc = deny_all(filter, mounts, COUNT(mounts));
	size_t i;

	for (i = 0; i < COUNT(namespaces_of_clone) && rc == 0; i++)
		rc = seccomp_rule_add(filter, DENY, SCMP_SYS(clone), 1,
		    SCMP_A0(SCMP_CMP_MASKED_EQ, namespaces_of_clone[i], namespaces_of_clone[i]));
	if (rc == 0)
		rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	return rc;
}

/* Signals go to oneself alone. Compared as 64 bits: who sets the upper half only denies himself. */
static int
deny_signals(scmp_filter_ctx filter)
{
	scmp_datum_t self = (scmp_datum_t)getpid();
	int rc = seccomp_rule_add(filter, DENY, SCMP_SYS(kill), 1, SCMP_A0(SCMP_CMP_NE, self, 0));

	if (rc == 0)
		rc = seccomp_rule_add(
		    filter, DENY, SCMP_SYS(tgkill), 1, SCMP_A0(SCMP_CMP_NE, self, 0));
	if (rc == 0)
		rc = seccomp_rule_add(filter, DENY, SCMP_SYS(tkill), 0);
	if (rc == 0)
		rc = seccomp_rule_add(
		    filter, DENY, SCMP_SYS(prlimit64), 1, SCMP_A0(SCMP_CMP_NE, 0, 0));
	return rc;
}

/* No program, and no process either: one in a session of its own would outlive the step. */
static int
deny_programs(scmp_filter_ctx filter)
{
	int rc = deny_all(filter, processes, COUNT(processes));

#ifndef __SANITIZE_ADDRESS__ /* the leak detector is a process */
	if (rc == 0)
		rc = seccomp_rule_add(
		    filter, DENY, SCMP_SYS(clone), 1, SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0));
#endif
	return rc;
}

static int
is_among(const int *families, int family)
{
	while (*families >= 0 && *families != family)
		families++;
	return *families >= 0;
}

/* All families but those: one at a time up to netlink's, which is the largest of ours, and what is
 * above at once. socketpair stays: nobody is at its other end. */
static int
deny_sockets(scmp_filter_ctx filter, const int *families)
{
	int family, rc = 0;

	if (families == NULL)
		return seccomp_rule_add(filter, DENY, SCMP_SYS(socket), 0);
	for (family = 0; family <= AF_NETLINK && rc == 0; family++)
		if (!is_among(families, family))
			rc = seccomp_rule_add(filter, DENY, SCMP_SYS(socket), 1,
			    SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)family, 0));
	if (rc == 0)
		rc = seccomp_rule_add(
		    filter, DENY, SCMP_SYS(socket), 1, SCMP_A0(SCMP_CMP_GT, AF_NETLINK, 0));
	return rc;
}

/* Signals by way of a file or socket, and characters put into a terminal's input. */
static int
deny_tricks(scmp_filter_ctx filter)
{
	static const unsigned long owners[] = {F_SETOWN, F_SETOWN_EX, F_SETSIG};
	static const unsigned long requests[] = {FIOSETOWN, SIOCSPGRP, TIOCSTI};
	size_t i;
	int rc = 0;

	for (i = 0; i < COUNT(requests) && rc == 0; i++)
		rc = seccomp_rule_add(filter, DENY, SCMP_SYS(ioctl), 1,
		    SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffff, requests[i]));
	for (i = 0; i < COUNT(owners) && rc == 0; i++)
		rc = seccomp_rule_add(filter, DENY, SCMP_SYS(fcntl), 1,
		    SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffff, owners[i]));
	return rc;
}

/* MAP_SHARED and MAP_SHARED_VALIDATE have that bit, private mappings have not. */
static int
deny_shared_mappings(scmp_filter_ctx filter)
{
	return seccomp_rule_add(
	    filter, DENY, SCMP_SYS(mmap), 1, SCMP_A3(SCMP_CMP_MASKED_EQ, MAP_SHARED, MAP_SHARED));
}

enum sp_code
sp_confine_filter(int network, int programs, int namespaces, int unmapped, struct sp_err *err)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	int rc = filter != NULL ? deny_all(filter, others, COUNT(others)) : -ENOMEM;

	if (rc == 0)
		rc = deny_tricks(filter);
	if (rc == 0)
		rc = deny_sockets(filter, network ? internet : namespaces ? local : NULL);
	if (rc == 0 && !namespaces)
		rc = deny_namespaces(filter);
	if (rc == 0 && unmapped)
		rc = deny_shared_mappings(filter);
	if (rc == 0 && !programs)
		rc = deny_programs(filter);
	if (rc == 0 && !programs)
		rc = deny_signals(filter);
	if (rc == 0)
		rc = seccomp_load(filter);
	if (filter != NULL)
		seccomp_release(filter);
	return rc == 0 ? SP_OK : sp_err_set(err, SP_E_IO, "seccomp: %s", strerror(-rc));
}
