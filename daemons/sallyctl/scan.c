/* scan.c -- hashing a directory. */
#include "scan.h"
#include "base/path.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK (1u << 20)
#define DEPTH_MAX 64 /* directories inside one another, each holds a descriptor */

struct scan {
	const char *const *skip;
	struct sp_tree *tree;
	uint8_t *chunk;
	sp_tree_progress_fn *progress;
	void *ctx;
	uint64_t done;
};

static enum sp_code
scan_file(struct scan *scan, int parent, const char *name, const char *path, struct sp_err *err)
{
	struct sp_hash *hash = sp_hash_new(SP_SHA256);
	enum sp_code code = SP_OK;
	struct sp_hex digest;
	uint64_t size = 0;
	struct stat st;
	ssize_t n = 0;
	int fd;

	fd = openat(parent, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) != 0)
		code = sp_err_errno(err, "cannot open %s", path);
	else if (!S_ISREG(st.st_mode))
		code = sp_err_set(err, SP_E_INVALID, "%s is no regular file any more", path);
	while (code == SP_OK && (n = read(fd, scan->chunk, CHUNK)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			code = sp_err_errno(err, "cannot read %s", path);
			break;
		}
		sp_hash_add(hash, scan->chunk, (size_t)n);
		size += (uint64_t)n;
		scan->done += (uint64_t)n;
		if (scan->progress != NULL)
			scan->progress(scan->ctx, scan->done, 0);
	}
	digest = sp_hash_finish_hex(hash);
	sp_hash_free(&hash);
	if (fd >= 0)
		close(fd);
	if (code == SP_OK)
		code =
		    sp_tree_add(scan->tree, path, size, digest.s, (st.st_mode & S_IXUSR) != 0, err);
	return code;
}

static int
skipped(const struct scan *scan, const char *path)
{
	size_t i;

	for (i = 0; scan->skip[i] != NULL; i++)
		if (strcmp(scan->skip[i], path) == 0)
			return 1;
	return 0;
}

static enum sp_code
scan_dir(struct scan *scan, int fd, const char *prefix, int depth, struct sp_err *err);

static enum sp_code
scan_entry(struct scan *scan, int parent, const char *name, const char *prefix, int depth,
    struct sp_err *err)
{
	char *path = sp_xasprintf("%s%s%s", prefix, prefix[0] != '\0' ? "/" : "", name);
	enum sp_code code;
	struct stat st;
	int fd;

	if (skipped(scan, path)) {
		free(path);
		return SP_OK;
	}
	code = sp_path_check(path, err);
	if (code == SP_OK && fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		code = sp_err_errno(err, "cannot look at %s", path);
	if (code != SP_OK)
		goto out;
	if (S_ISREG(st.st_mode)) {
		code = scan_file(scan, parent, name, path, err);
	} else if (S_ISDIR(st.st_mode) && depth < DEPTH_MAX) {
		fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		code = fd < 0 ? sp_err_errno(err, "cannot open %s", path)
			      : scan_dir(scan, fd, path, depth + 1, err);
	} else {
		code = sp_err_set(err, SP_E_INVALID,
		    "%s is %s, which no tree holds: remove it, or verify a copy without it", path,
		    S_ISLNK(st.st_mode)	  ? "a symbolic link"
		    : S_ISDIR(st.st_mode) ? "a directory too deep"
					  : "a device, pipe or socket");
	}
out:
	free(path);
	return code;
}

/* Closes fd. */
static enum sp_code
scan_dir(struct scan *scan, int fd, const char *prefix, int depth, struct sp_err *err)
{
	DIR *dir = fdopendir(fd);
	struct dirent *entry;
	enum sp_code code = SP_OK;

	if (dir == NULL) {
		code = sp_err_errno(err, "cannot list %s", prefix);
		close(fd);
		return code;
	}
	while (code == SP_OK) {
		errno = 0;
		entry = readdir(dir);
		if (entry == NULL) {
			if (errno != 0)
				code = sp_err_errno(err, "cannot list %s", prefix);
			break;
		}
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			code = scan_entry(scan, dirfd(dir), entry->d_name, prefix, depth, err);
	}
	closedir(dir);
	return code;
}

enum sp_code
ctl_scan(const char *dir, const char *const *skip, struct sp_tree *tree,
    sp_tree_progress_fn *progress, void *ctx, struct sp_err *err)
{
	struct scan scan = {.skip = skip, .tree = tree, .progress = progress, .ctx = ctx};
	enum sp_code code;
	int fd;

	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return sp_err_errno(err, "cannot open directory %s", dir);
	scan.chunk = sp_xrealloc(NULL, CHUNK, 1);
	code = scan_dir(&scan, fd, "", 0, err);
	free(scan.chunk);
	return code;
}
