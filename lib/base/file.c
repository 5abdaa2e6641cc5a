/* file.c -- whole files, written so that a crash shows the old or the new, never a half. */
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* Levels that sp_file_remove_all descends; what lies deeper is moved up first. */
#define REMOVE_DEPTH_MAX 32
/* how often a sweeper may take a temporary file from its maker */
#define MAKE_TRIES 16
#define TMP_MARK ".tmp-"
#define TMP_RANDOM 6 /* characters that mkostemp draws */

enum sp_code
sp_file_read(const char *path, size_t max, uint8_t **data, size_t *len, struct sp_err *err)
{
	enum sp_code code = SP_OK;
	uint8_t *buf = NULL, *more;
	size_t got = 0, cap;
	struct stat st;
	ssize_t n;
	int fd;

	SP_ASSERT(max < SIZE_MAX / 2);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) != 0) {
		code = sp_err_errno(err, "cannot open %s", path);
		goto out;
	}
	/* files of /proc say 0 and a file may grow: the size is only the first guess */
	cap = st.st_size > 0 && (uint64_t)st.st_size <= max ? (size_t)st.st_size + 1 : 4096;
	for (;;) {
		more = realloc(buf, cap + 1);
		if (more == NULL) {
			code = sp_err_errno(err, "cannot read %s", path);
			goto out;
		}
		buf = more;
		n = read(fd, buf + got, cap - got);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			code = sp_err_errno(err, "cannot read %s", path);
			goto out;
		}
		if (n == 0)
			break;
		got += (size_t)n;
		if (got > max) {
			code =
			    sp_err_set(err, SP_E_LIMIT, "%s is larger than %zu bytes", path, max);
			goto out;
		}
		if (got == cap)
			cap *= 2;
	}
	buf[got] = '\0';
	*data = buf;
	*len = got;
	buf = NULL;
out:
	if (fd >= 0)
		close(fd);
	free(buf);
	return code;
}

enum sp_code
sp_file_write_all(int fd, const void *data, size_t len, struct sp_err *err)
{
	const uint8_t *at = data;
	ssize_t n;

	while (len > 0) {
		n = write(fd, at, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return sp_err_errno(err, "cannot write");
		at += n;
		len -= (size_t)n;
	}
	return SP_OK;
}

enum sp_code
sp_file_read_all(int fd, void *data, size_t len, struct sp_err *err)
{
	uint8_t *at = data;
	size_t left = len;
	ssize_t n;

	while (left > 0) {
		n = read(fd, at, left);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return sp_err_errno(err, "cannot read");
		if (n == 0)
			return sp_err_set(
			    err, SP_E_IO, "ends after %zu of %zu bytes", len - left, len);
		at += n;
		left -= (size_t)n;
	}
	return SP_OK;
}

enum sp_code
sp_file_sync_dir(const char *dir, struct sp_err *err)
{
	enum sp_code code = SP_OK;
	int fd;

	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return sp_err_errno(err, "cannot open directory %s", dir);
	if (fsync(fd) != 0)
		code = sp_err_errno(err, "cannot sync directory %s", dir);
	close(fd);
	return code;
}

enum sp_code
sp_file_sync_fs(const char *dir, struct sp_err *err)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	enum sp_code code = SP_OK;

	if (fd < 0 || syncfs(fd) != 0)
		code = sp_err_errno(err, "cannot sync %s", dir);
	if (fd >= 0)
		close(fd);
	return code;
}

/* The directory that path lies in, malloc'd. */
static char *
dir_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	if (slash == NULL)
		return sp_xstrdup(".");
	return sp_xasprintf("%.*s", slash == path ? 1 : (int)(slash - path), path);
}

/* --- leftovers of killed writers -------------------------------------------------------------- */

static int
lock_file(int fd, int how)
{
	int rc;

	do
		rc = flock(fd, how);
	while (rc != 0 && errno == EINTR);
	return rc;
}

/* of: the name of the file that it was to become; NULL: any. */
static int
is_tmp_name(const char *name, const char *of)
{
	size_t len = strlen(name), mark = sizeof(TMP_MARK) - 1, stem = len - mark - TMP_RANDOM;

	return len > mark + TMP_RANDOM && strncmp(name + stem, TMP_MARK, mark) == 0 &&
	       (of == NULL || (strlen(of) == stem && strncmp(name, of, stem) == 0)) &&
	       strspn(name + len - TMP_RANDOM,
		   "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
		   "0123456789") == TMP_RANDOM;
}

/* 1 when it was removed. The lock is held over the unlink, and a writer that got its lock looks
 * whether its file still has a name, so that one just made is safe. */
static unsigned
sweep_one(int dir_fd, const char *name)
{
	int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	unsigned removed = 0;
	struct stat st;

	if (fd < 0)
		return 0;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() &&
	    lock_file(fd, LOCK_EX | LOCK_NB) == 0 && unlinkat(dir_fd, name, 0) == 0)
		removed = 1;
	close(fd);
	return removed;
}

static unsigned
sweep_dir(int parent_fd, const char *name, const char *of, unsigned depth)
{
	int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	unsigned removed = 0;
	struct dirent *entry;

	if (dir == NULL) {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	while ((entry = readdir(dir)) != NULL) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (is_tmp_name(entry->d_name, of))
			removed += sweep_one(dirfd(dir), entry->d_name);
		else if (depth > 0 && (entry->d_type == DT_DIR || entry->d_type == DT_UNKNOWN))
			removed += sweep_dir(dirfd(dir), entry->d_name, of, depth - 1);
	}
	closedir(dir);
	return removed;
}

unsigned
sp_file_sweep(const char *dir, unsigned depth)
{
	return sweep_dir(AT_FDCWD, dir, NULL, depth);
}

/* --- writing ---------------------------------------------------------------------------------- */

/* Gives the temporary file its name; create: only when no file has that name yet. */
static int
publish(const char *tmp, const char *path, int create)
{
	if (!create)
		return rename(tmp, path);
	if (renameat2(AT_FDCWD, tmp, AT_FDCWD, path, RENAME_NOREPLACE) == 0)
		return 0;
	/* NFS and others do not know the flag; link refuses an existing name everywhere */
	if (errno != EINVAL && errno != ENOSYS)
		return -1;
	return link(tmp, path) == 0 ? unlink(tmp) : -1;
}

/* A temporary file beside path that is ours: locked, so that no sweeper takes it for a leftover,
 * and not swept between its making and the lock. A filesystem without locks has no sweepers either.
 */
static enum sp_code
make_tmp(const char *path, char **tmp, int *fd, struct sp_err *err)
{
	struct stat st;
	int tries;

	*fd = -1;
	for (tries = 0; tries < MAKE_TRIES; tries++) {
		*tmp = sp_xasprintf("%s" TMP_MARK "XXXXXX", path);
		*fd = mkostemp(*tmp, O_CLOEXEC);
		if (*fd < 0)
			return sp_err_errno(err, "cannot create %s", *tmp);
		if (lock_file(*fd, LOCK_EX) != 0 || fstat(*fd, &st) != 0 || st.st_nlink > 0)
			return SP_OK;
		close(*fd);
		*fd = -1;
		free(*tmp);
		*tmp = NULL;
	}
	return sp_err_set(err, SP_E_IO, "temporary files of %s vanish as they are made", path);
}

static enum sp_code
write_new(
    const char *path, mode_t mode, const void *data, size_t len, int create, struct sp_err *err)
{
	char *dir = dir_of(path), *tmp = NULL;
	enum sp_code code;
	int fd, made = 0;

	code = make_tmp(path, &tmp, &fd, err);
	if (code != SP_OK)
		goto out;
	made = 1;
	/* umask does not apply: the caller names the mode that the file shall have */
	if (fchmod(fd, mode) != 0) {
		code = sp_err_errno(err, "cannot set the mode of %s", tmp);
		goto out;
	}
	code = sp_file_write_all(fd, data, len, err);
	if (code != SP_OK) {
		code = err != NULL ? sp_err_prefix(err, "%s", tmp) : code;
		goto out;
	}
	if (fsync(fd) != 0) {
		code = sp_err_errno(err, "cannot sync %s", tmp);
		goto out;
	}
	if (publish(tmp, path, create) != 0) {
		code = sp_err_errno(err, "cannot create %s", path);
		goto out;
	}
	made = 0;
	code = sp_file_sync_dir(dir, err);
out:
	/* before the lock goes with the descriptor: a file of ours is never there without it */
	if (made)
		unlink(tmp);
	if (fd >= 0)
		close(fd);
	free(tmp);
	free(dir);
	return code;
}

enum sp_code
sp_file_write(const char *path, mode_t mode, const void *data, size_t len, struct sp_err *err)
{
	return write_new(path, mode, data, len, 0, err);
}

enum sp_code
sp_file_create(const char *path, mode_t mode, const void *data, size_t len, struct sp_err *err)
{
	const char *slash = strrchr(path, '/');
	char *dir = dir_of(path);

	sweep_dir(AT_FDCWD, dir, slash != NULL ? slash + 1 : path, 0);
	free(dir);
	return write_new(path, mode, data, len, 1, err);
}

/* --- directories ------------------------------------------------------------------------------ */

/* One level: creates it and makes its name durable; a directory that is there is fine. */
static enum sp_code
make_dir(const char *dir, mode_t mode, struct sp_err *err)
{
	enum sp_code code;
	struct stat st;
	char *parent;

	if (mkdir(dir, mode) != 0) {
		if (errno != EEXIST)
			return sp_err_errno(err, "cannot create directory %s", dir);
		if (stat(dir, &st) == 0 && S_ISDIR(st.st_mode))
			return SP_OK;
		return sp_err_set(err, SP_E_EXISTS, "%s is there and is no directory", dir);
	}
	parent = dir_of(dir);
	code = sp_file_sync_dir(parent, err);
	free(parent);
	return code;
}

enum sp_code
sp_file_mkdirs(const char *dir, mode_t mode, struct sp_err *err)
{
	enum sp_code code = SP_OK;
	char *path = sp_xstrdup(dir), *p = path, end;

	while (code == SP_OK) {
		p += strspn(p, "/");
		if (*p == '\0')
			break;
		p += strcspn(p, "/");
		end = *p;
		*p = '\0';
		code = make_dir(path, mode, err);
		*p = end;
	}
	free(path);
	return code;
}

/* State of one sp_file_remove_all. */
struct remover {
	int top_fd; /* the directory being removed: what lies too deep is moved here */
	unsigned long moved;
};

/* Opens a directory so that its entries can be removed, also when its mode forbids that. */
static int
open_dir(int parent_fd, const char *name)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	int fd = openat(parent_fd, name, flags);
	struct stat st;

	if (fd < 0 && errno == EACCES && fchmodat(parent_fd, name, 0700, 0) == 0)
		fd = openat(parent_fd, name, flags);
	if (fd >= 0 && fstat(fd, &st) == 0 && (st.st_mode & 0300) != 0300)
		(void)fchmod(fd, 0700); /* where this fails, unlinkat will say so */
	return fd;
}

static int empty_dir(struct remover *r, int fd, int depth);

static int
remove_entry(struct remover *r, int parent_fd, const char *name, int depth)
{
	char up[64];
	int fd;

	if (unlinkat(parent_fd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM && errno != EACCES)
		return -1;
	if (unlinkat(parent_fd, name, AT_REMOVEDIR) == 0)
		return 0;
	if (errno != ENOTEMPTY && errno != EEXIST && errno != EACCES)
		return -1;
	if (depth >= REMOVE_DEPTH_MAX) {
		/* whoever filled the directory chose its depth; our descriptors are few */
		do
			snprintf(up, sizeof(up), ".deep-%lu", r->moved++);
		while (faccessat(r->top_fd, up, F_OK, AT_SYMLINK_NOFOLLOW) == 0);
		return renameat(parent_fd, name, r->top_fd, up);
	}
	fd = open_dir(parent_fd, name);
	if (fd < 0)
		return -1;
	if (empty_dir(r, fd, depth + 1) != 0)
		return -1;
	return unlinkat(parent_fd, name, AT_REMOVEDIR);
}

/* Removes everything in the directory fd, which it closes. */
static int
empty_dir(struct remover *r, int fd, int depth)
{
	struct dirent *entry;
	int failed = 0, saved;
	DIR *dir = fdopendir(fd);

	if (dir == NULL) {
		saved = errno;
		close(fd);
		errno = saved;
		return -1;
	}
	while (!failed) {
		errno = 0;
		entry = readdir(dir);
		if (entry == NULL) {
			failed = errno != 0;
			break;
		}
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			failed = remove_entry(r, dirfd(dir), entry->d_name, depth) != 0;
	}
	saved = errno;
	closedir(dir);
	errno = saved;
	return failed ? -1 : 0;
}

enum sp_code
sp_file_remove_all(const char *path, struct sp_err *err)
{
	struct remover r = {.top_fd = -1};
	enum sp_code code = SP_OK;
	unsigned long before;
	int fd;

	if (unlink(path) == 0 || errno == ENOENT)
		return SP_OK;
	if (errno != EISDIR && errno != EPERM)
		return sp_err_errno(err, "cannot remove %s", path);
	r.top_fd = open_dir(AT_FDCWD, path);
	if (r.top_fd < 0)
		return sp_err_errno(err, "cannot remove %s", path);
	/* a pass that moved something up leaves it for the next one */
	do {
		before = r.moved;
		fd = openat(r.top_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0 || empty_dir(&r, fd, 0) != 0) {
			code = sp_err_errno(err, "cannot remove all of %s", path);
			goto out;
		}
	} while (r.moved != before);
	if (rmdir(path) != 0 && errno != ENOENT)
		code = sp_err_errno(err, "cannot remove %s", path);
out:
	close(r.top_fd);
	return code;
}

enum sp_code
sp_map_open(struct sp_map *map, const char *path, struct sp_err *err)
{
	enum sp_code code = SP_OK;
	struct stat st;
	void *data;
	int fd;

	map->data = (const uint8_t *)"";
	map->len = 0;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return sp_err_errno(err, "cannot open %s", path);
	if (fstat(fd, &st) != 0) {
		code = sp_err_errno(err, "cannot open %s", path);
	} else if (!S_ISREG(st.st_mode)) {
		code = sp_err_set(err, SP_E_INVALID, "%s is no regular file", path);
	} else if (st.st_size > 0) {
		data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
		if (data == MAP_FAILED) {
			code = sp_err_errno(err, "cannot map %s", path);
		} else {
			map->data = data;
			map->len = (size_t)st.st_size;
		}
	}
	close(fd);
	return code;
}

void
sp_map_close(struct sp_map *map)
{
	if (map->len > 0)
		munmap((void *)(uintptr_t)map->data, map->len);
	map->data = (const uint8_t *)"";
	map->len = 0;
}

uint64_t
sp_file_raise_limit(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) != 0)
		return UINT64_MAX;
	files.rlim_cur = files.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &files); /* what came of it is what counts */
	return getrlimit(RLIMIT_NOFILE, &files) == 0 ? files.rlim_cur : UINT64_MAX;
}
