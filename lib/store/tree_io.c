/* tree_io.c -- trees between stores and directories; every byte is hashed on its way. */
#include "base/file.h"
#include "base/path.h"
#include "store/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* While materialising. No path of a tree has a backslash, so no file can be meant by it. */
#define PARTIAL ".sallyport\\partial"

#define HASH_BYTES ((size_t)1 << 20) /* read at a time where a file is only hashed */

enum sp_code
sp_tree_load(
    const struct sp_store *store, const char *digest, struct sp_tree *out, struct sp_err *err)
{
	uint8_t *data = NULL;
	enum sp_code code;
	size_t len;

	code = sp_store_read(store, digest, SP_TREE_BYTES_MAX, &data, &len, err);
	if (code != SP_OK)
		return code;
	code = sp_tree_parse(data, len, out, err);
	if (code != SP_OK && err != NULL)
		sp_err_prefix(err, "tree %s", digest);
	free(data);
	return code;
}

enum sp_code
sp_tree_save(
    struct sp_store *store, struct sp_tree *tree, struct sp_hex *digest, struct sp_err *err)
{
	uint8_t *data = NULL;
	enum sp_code code;
	size_t len;

	code = sp_tree_format(tree, &data, &len, err);
	if (code == SP_OK)
		code = sp_store_put(store, data, len, digest, err);
	free(data);
	return code;
}

/* --- import ----------------------------------------------------------------------------------- */

struct importer {
	struct sp_store *store; /* NULL: the files are only hashed */
	sp_store_progress_fn *progress;
	void *ctx;
	struct sp_tree *tree;
	const char *dir; /* for messages */
	char path[SP_PATH_MAX + 2];
};

static enum sp_code import_dir(struct importer *im, int fd, size_t len, struct sp_err *err);

/* Hashes a file where it lies. */
static enum sp_code
hash_fd(
    const struct importer *im, int fd, struct sp_hex *digest, uint64_t *size, struct sp_err *err)
{
	struct sp_hash *hash = sp_hash_new(SP_SHA256);
	enum sp_code code = SP_OK;
	uint8_t *buf = malloc(HASH_BYTES);
	ssize_t n = -1;

	*size = 0;
	if (buf == NULL) {
		code = sp_err_set(err, SP_E_NO_MEMORY, "no memory to read it");
		goto out;
	}
	while ((n = read(fd, buf, HASH_BYTES)) > 0) {
		sp_hash_add(hash, buf, (size_t)n);
		*size += (uint64_t)n;
		if (im->progress != NULL)
			im->progress(im->ctx, (uint64_t)n);
	}
	if (n < 0)
		code = sp_err_errno(err, "cannot read it");
	else
		*digest = sp_hash_finish_hex(hash);
out:
	sp_hash_free(&hash);
	free(buf);
	return code;
}

static enum sp_code
import_file(struct importer *im, int fd, const struct stat *st, struct sp_err *err)
{
	struct sp_hex digest;
	enum sp_code code;
	uint64_t size;

	code = im->store == NULL ? hash_fd(im, fd, &digest, &size, err)
				 : sp_store_put_fd(im->store, fd, NULL, &digest, &size, err);
	if (code == SP_OK)
		code = sp_tree_add(
		    im->tree, im->path, size, digest.s, (st->st_mode & S_IXUSR) != 0, err);
	if (code != SP_OK && err != NULL)
		sp_err_prefix(err, "%s/%s", im->dir, im->path);
	return code;
}

/* The entry im->path (of len bytes), called name in the directory parent. */
static enum sp_code
import_entry(struct importer *im, int parent, const char *name, size_t len, struct sp_err *err)
{
	enum sp_code code;
	struct stat st;
	int fd;

	code = sp_path_check(im->path, err);
	if (code != SP_OK)
		return err != NULL ? sp_err_prefix(err, "%s", im->dir) : code;
	/* O_NOFOLLOW gives ELOOP for a symlink; O_NONBLOCK keeps a FIFO from waiting */
	fd = openat(parent, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 && (errno == ELOOP || errno == ENXIO))
		return sp_err_set(err, SP_E_INVALID,
		    "%s/%s is a symbolic link or no regular file: a tree holds regular files only",
		    im->dir, im->path);
	if (fd < 0 || fstat(fd, &st) != 0)
		code = sp_err_errno(err, "cannot open %s/%s", im->dir, im->path);
	else if (S_ISDIR(st.st_mode))
		return import_dir(im, fd, len, err);
	else if (S_ISREG(st.st_mode))
		code = import_file(im, fd, &st, err);
	else
		code = sp_err_set(err, SP_E_INVALID,
		    "%s/%s is no regular file: a tree holds regular files only", im->dir, im->path);
	if (fd >= 0)
		close(fd);
	return code;
}

/* All of the directory fd, which is closed; im->path holds its path of len bytes ("" at the top).
 */
static enum sp_code
import_dir(struct importer *im, int fd, size_t len, struct sp_err *err)
{
	enum sp_code code = SP_OK;
	struct dirent *entry;
	size_t at, n;
	DIR *dir;

	dir = fdopendir(fd);
	if (dir == NULL) {
		code = sp_err_errno(err, "cannot read directory %s/%s", im->dir, im->path);
		close(fd);
		return code;
	}
	at = len > 0 ? len + 1 : 0;
	while (code == SP_OK) {
		errno = 0;
		entry = readdir(dir);
		if (entry == NULL) {
			if (errno != 0)
				code = sp_err_errno(
				    err, "cannot read directory %s/%s", im->dir, im->path);
			break;
		}
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		n = strlen(entry->d_name);
		if (at + n > SP_PATH_MAX) {
			code = sp_err_set(err, SP_E_LIMIT, "%s/%s/%s: path is longer than %d bytes",
			    im->dir, im->path, entry->d_name, SP_PATH_MAX);
			break;
		}
		if (len > 0)
			im->path[len] = '/';
		memcpy(im->path + at, entry->d_name, n + 1);
		code = import_entry(im, dirfd(dir), entry->d_name, at + n, err);
		im->path[len] = '\0';
	}
	closedir(dir);
	return code;
}

static enum sp_code
import_all(struct importer *im, struct sp_err *err)
{
	int fd = open(im->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return sp_err_errno(err, "cannot open directory %s", im->dir);
	return import_dir(im, fd, 0, err);
}

enum sp_code
sp_tree_import(struct sp_store *store, const char *dir, struct sp_tree *out, struct sp_hex *digest,
    struct sp_err *err)
{
	struct sp_tree tree = {0};
	struct importer im = {.store = store, .tree = &tree, .dir = dir};
	enum sp_code code = import_all(&im, err);

	if (code == SP_OK)
		code = sp_tree_save(store, &tree, digest, err);
	if (code != SP_OK) {
		sp_tree_clear(&tree);
		return code;
	}
	*out = tree;
	return SP_OK;
}

enum sp_code
sp_tree_scan(const char *dir, sp_store_progress_fn *progress, void *ctx, struct sp_tree *out,
    struct sp_hex *digest, struct sp_err *err)
{
	struct sp_tree tree = {0};
	struct importer im = {.progress = progress, .ctx = ctx, .tree = &tree, .dir = dir};
	enum sp_code code = import_all(&im, err);
	uint8_t *data = NULL;
	size_t len;

	if (code == SP_OK)
		code = sp_tree_format(&tree, &data, &len, err);
	if (code != SP_OK) {
		sp_tree_clear(&tree);
		return code;
	}
	*digest = sp_sha256_hex(data, len);
	free(data);
	*out = tree;
	return SP_OK;
}

/* --- progress --------------------------------------------------------------------------------- */

struct meter {
	sp_tree_progress_fn *progress;
	void *ctx;
	uint64_t done, total;
};

static void
add_bytes(void *ctx, uint64_t bytes)
{
	struct meter *meter = ctx;

	meter->done += bytes;
	if (meter->progress != NULL)
		meter->progress(meter->ctx, meter->done, meter->total);
}

static enum sp_code
wrong_size(const struct sp_tree_file *file, uint64_t is, struct sp_err *err)
{
	return sp_err_set(err, SP_E_CORRUPT, "%s has %llu bytes, its tree says %llu", file->path,
	    (unsigned long long)is, (unsigned long long)file->size);
}

/* --- materialize ------------------------------------------------------------------------------ */

/* Opens (and makes) the directory of path below root_fd, following no symlink; *name is the last
 * component of path. */
static int
open_parent(int root_fd, const char *path, const char **name)
{
	int fd = fcntl(root_fd, F_DUPFD_CLOEXEC, 0), next;
	const char *slash;
	char part[SP_PATH_MAX + 1];

	for (; fd >= 0 && (slash = strchr(path, '/')) != NULL; path = slash + 1) {
		memcpy(part, path, (size_t)(slash - path));
		part[slash - path] = '\0';
		next = -1;
		if (mkdirat(fd, part, 0755) == 0 || errno == EEXIST)
			next = openat(fd, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		close(fd);
		fd = next;
	}
	*name = path;
	return fd;
}

static enum sp_code
place(const struct sp_tree_file *file, int root_fd, int fd, struct sp_err *err)
{
	enum sp_code code = SP_OK;
	const char *name;
	int parent;

	parent = open_parent(root_fd, file->path, &name);
	if (parent < 0 || fchmod(fd, file->executable ? 0755 : 0644) != 0 ||
	    renameat(root_fd, PARTIAL, parent, name) != 0)
		code = sp_err_errno(err, "cannot create");
	if (parent >= 0)
		close(parent);
	return code;
}

static enum sp_code
materialize_file(const struct sp_store *store, const struct sp_tree_file *file, int root_fd,
    struct meter *meter, struct sp_err *err)
{
	enum sp_code code;
	struct sp_hex is;
	uint64_t size;
	int fd = -1, to_fd = -1;

	code = sp_store_blob(store, file->sha256.s, &fd, &size, err);
	if (code != SP_OK)
		goto out;
	if (unlinkat(root_fd, PARTIAL, 0) != 0 && errno != ENOENT) {
		code = sp_err_errno(err, "cannot remove a leftover");
		goto out;
	}
	to_fd = openat(root_fd, PARTIAL, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (to_fd < 0) {
		code = sp_err_errno(err, "cannot create");
		goto out;
	}
	code = sp_store_copy_fd(fd, to_fd, &is, &size, add_bytes, meter, err);
	if (code != SP_OK)
		goto out;
	if (size != file->size)
		code = wrong_size(file, size, err);
	else if (strcmp(is.s, file->sha256.s) != 0)
		code = sp_err_set(err, SP_E_CORRUPT,
		    "blob %s is damaged: its bytes have SHA-256 %s", file->sha256.s, is.s);
	else
		code = place(file, root_fd, to_fd, err);
out:
	if (code != SP_OK && to_fd >= 0)
		unlinkat(root_fd, PARTIAL, 0);
	if (to_fd >= 0)
		close(to_fd);
	if (fd >= 0)
		close(fd);
	return code;
}

enum sp_code
sp_tree_materialize(const struct sp_store *store, const struct sp_tree *tree, const char *dir,
    sp_tree_progress_fn *progress, void *ctx, struct sp_err *err)
{
	struct meter meter = {.progress = progress, .ctx = ctx, .total = sp_tree_bytes(tree)};
	enum sp_code code;
	int root_fd;

	code = sp_file_mkdirs(dir, 0755, err);
	if (code != SP_OK)
		return code;
	root_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root_fd < 0)
		return sp_err_errno(err, "cannot open directory %s", dir);
	if (flock(root_fd, LOCK_EX | LOCK_NB) != 0)
		code = errno == EWOULDBLOCK
			   ? sp_err_set(err, SP_E_STATE, "another process is filling %s", dir)
			   : sp_err_errno(err, "cannot lock %s", dir);
	for (size_t i = 0; code == SP_OK && i < tree->count; i++) {
		code = materialize_file(store, &tree->files[i], root_fd, &meter, err);
		if (code != SP_OK && err != NULL)
			sp_err_prefix(err, "%s/%s", dir, tree->files[i].path);
	}
	close(root_fd);
	return code;
}

/* --- copy and verify -------------------------------------------------------------------------- */

enum sp_code
sp_tree_copy(struct sp_store *to, const struct sp_store *from, const char *digest,
    sp_tree_progress_fn *progress, void *ctx, struct sp_err *err)
{
	struct meter meter = {.progress = progress, .ctx = ctx};
	struct sp_tree tree = {0};
	enum sp_code code;
	uint64_t size = 0;

	code = sp_tree_load(from, digest, &tree, err);
	if (code != SP_OK)
		return code;
	meter.total = sp_tree_bytes(&tree);
	for (size_t i = 0; code == SP_OK && i < tree.count; i++) {
		const struct sp_tree_file *file = &tree.files[i];

		code = sp_store_copy(to, from, file->sha256.s, add_bytes, &meter, err);
		if (code == SP_OK && sp_store_has(to, file->sha256.s, &size) && size != file->size)
			code = wrong_size(file, size, err);
		if (code != SP_OK && err != NULL)
			sp_err_prefix(err, "tree %s: %s", digest, file->path);
	}
	/* the listing comes last: where it is, all that it names is */
	if (code == SP_OK)
		code = sp_store_copy(to, from, digest, NULL, NULL, err);
	sp_tree_clear(&tree);
	return code;
}

enum sp_code
sp_tree_verify(const struct sp_store *store, const struct sp_tree *tree, struct sp_err *err)
{
	enum sp_code code = SP_OK;
	uint64_t size;

	for (size_t i = 0; code == SP_OK && i < tree->count; i++) {
		const struct sp_tree_file *file = &tree->files[i];

		code = sp_store_verify(store, file->sha256.s, &size, NULL, NULL, err);
		if (code != SP_OK && err != NULL)
			sp_err_prefix(err, "%s", file->path);
		else if (code == SP_OK && size != file->size)
			code = wrong_size(file, size, err);
	}
	return code;
}
