/*
 * landlock.c -- Landlock's three system calls.
 *
 * The kernel's interface is written out here: linux/landlock.h of Debian 12 ends at ABI 3, and a
 * program must ask the kernel it runs on anyway. A bit that a kernel does not know makes it refuse
 * the whole set, so each is asked for from its ABI on.
 */
#include "base/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CREATE_VERSION 1u
#define RULE_PATH_BENEATH 1

#define FS_EXECUTE (1u << 0)
#define FS_WRITE_FILE (1u << 1)
#define FS_READ_FILE (1u << 2)
#define FS_READ_DIR (1u << 3)
#define FS_REMOVE_DIR (1u << 4)
#define FS_REMOVE_FILE (1u << 5)
#define FS_MAKE_DIR (1u << 7)
#define FS_MAKE_REG (1u << 8)
#define FS_MAKE_SYM (1u << 12)
#define FS_ABI_1 ((1u << 13) - 1)
#define FS_REFER (1u << 13)	/* ABI 2 */
#define FS_TRUNCATE (1u << 14)	/* ABI 3 */
#define FS_IOCTL_DEV (1u << 15) /* ABI 5 */
#define NET_TCP 3u		/* ABI 4: bind and connect */
#define SCOPED 3u		/* ABI 6: abstract Unix sockets, signals */

#define OF_FILES (FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV)

struct ruleset {
	uint64_t fs, net, scoped;
};

struct path_beneath {
	uint64_t allowed;
	int32_t parent;
} __attribute__((packed));

int
sp_landlock_abi(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_VERSION);

	return abi > 0 ? (int)abi : 0;
}

static uint64_t
fs_rights(int abi)
{
	return FS_ABI_1 | (abi >= 2 ? FS_REFER : 0) | (abi >= 3 ? FS_TRUNCATE : 0) |
	       (abi >= 5 ? FS_IOCTL_DEV : 0);
}

enum sp_code
sp_landlock_open(int tcp, int *fd, struct sp_err *err)
{
	int abi = sp_landlock_abi();
	struct ruleset rules = {0};

	*fd = -1;
	if (abi == 0)
		return sp_err_set(
		    err, SP_E_UNSUPPORTED, "this kernel has no Landlock, or forbids it");
	rules.fs = fs_rights(abi);
	rules.net = abi >= 4 && !tcp ? NET_TCP : 0;
	rules.scoped = abi >= 6 ? SCOPED : 0;
	/* close-on-exec always; what an older kernel does not know is zero, which it accepts */
	*fd = (int)syscall(SYS_landlock_create_ruleset, &rules, sizeof(rules), 0);
	return *fd >= 0 ? SP_OK : sp_err_errno(err, "Landlock");
}

enum sp_code
sp_landlock_allow(int fd, const char *path, unsigned rights, struct sp_err *err)
{
	struct path_beneath rule = {0, open(path, O_PATH | O_CLOEXEC)};
	uint64_t allowed = 0;
	enum sp_code code = SP_OK;
	struct stat st;

	if (rule.parent < 0)
		return errno == ENOENT || errno == ENOTDIR ? SP_OK : sp_err_errno(err, "%s", path);
	if (rights & SP_LANDLOCK_READ)
		allowed |= FS_READ_FILE | FS_READ_DIR;
	if (rights & SP_LANDLOCK_EXECUTE)
		allowed |= FS_EXECUTE;
	if (rights & SP_LANDLOCK_WRITE)
		allowed |= FS_WRITE_FILE | FS_REMOVE_DIR | FS_REMOVE_FILE | FS_MAKE_DIR |
			   FS_MAKE_REG | FS_MAKE_SYM | FS_REFER | FS_TRUNCATE;
	if (fstat(rule.parent, &st) != 0)
		code = sp_err_errno(err, "%s", path);
	if (code == SP_OK) {
		rule.allowed = allowed & fs_rights(sp_landlock_abi());
		if (!S_ISDIR(st.st_mode))
			rule.allowed &= OF_FILES;
		if (syscall(SYS_landlock_add_rule, fd, RULE_PATH_BENEATH, &rule, 0) != 0)
			code = sp_err_errno(err, "Landlock: %s", path);
	}
	close(rule.parent);
	return code;
}

int
sp_landlock_enter(int fd)
{
	return syscall(SYS_landlock_restrict_self, fd, 0) == 0 ? 0 : -1;
}
