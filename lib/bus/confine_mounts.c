/*
 * confine_mounts.c -- the keys out of sight of a child that makes mounts.
 *
 * mount_namespaces(7): mounts that come into a mount namespace from a more privileged one, that is
 * from one of another user namespace, are locked and cannot be taken away one by one. So the covers
 * are laid in a first pair of namespaces, and the child lives in a second pair below it.
 */
#include "bus/confine_mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* /proc/self is root's while nobody may look into us, and the maps are written there. */
static void
set_dumpable(int on)
{
#ifndef __SANITIZE_ADDRESS__
	SP_ASSERT(prctl(PR_SET_DUMPABLE, on, 0, 0, 0) == 0);
#else
	(void)on;
#endif
}

static int
write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return ok;
}

/* In a user namespace of our own we are who we were. */
static int
map_ids(uid_t uid, gid_t gid)
{
	char uids[64], gids[64];

	snprintf(uids, sizeof(uids), "%u %u 1\n", (unsigned)uid, (unsigned)uid);
	snprintf(gids, sizeof(gids), "%u %u 1\n", (unsigned)gid, (unsigned)gid);
	return write_file("/proc/self/setgroups", "deny") &&
	       write_file("/proc/self/uid_map", uids) && write_file("/proc/self/gid_map", gids);
}

static int
cover(const char *path)
{
	struct stat st;

	if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode))
		return 1;
	return mount("none", path, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY,
		   "mode=0500,size=4k") == 0;
}

static int
cover_parent(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *dir =
	    slash != NULL && slash != path ? sp_xasprintf("%.*s", (int)(slash - path), path) : NULL;
	int done = dir == NULL || cover(dir);

	free(dir);
	return done;
}

/* What the namespaces brought, but for what it takes to map user 0 into one more
 * (user_namespaces(7)): bubblewrap does that when all runs as root. Another user loses this at
 * execve, too. */
static int
drop_capabilities(void)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	const uint32_t kept = 1u << CAP_SETFCAP;
	struct __user_cap_data_struct sets[2] = {{kept, kept, 0}, {0, 0, 0}};

	return syscall(SYS_capset, &header, sets) == 0;
}

enum sp_code
sp_confine_cover(const struct sp_conf *conf, struct sp_err *err)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();
	enum sp_code code;

	set_dumpable(1);
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) {
		code = sp_err_set(err, SP_E_UNSUPPORTED,
		    "no user namespaces (%s): bubblewrap will not start", strerror(errno));
		set_dumpable(0);
		return code;
	}
	if (!map_ids(uid, gid) || !cover(sp_conf_string(conf, "keys.dir")) ||
	    !cover("/run/credentials") || !cover_parent(sp_conf_string(conf, "bus.operators")) ||
	    unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0 || !map_ids(uid, gid) || !drop_capabilities())
		return sp_err_errno(err, "cannot cover the keys and sockets");
	set_dumpable(0);
	return SP_OK;
}
