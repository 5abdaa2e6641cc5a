/* store.c -- content-addressed blobs: written aside, synced, renamed into place. */
#include "base/file.h"
#include "base/time.h"
#include "store/store_impl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/fsverity.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK ((size_t)1 << 20)
#define SHARDS 256
/* how often a cleaner that opens the same store may take a temporary file from its maker */
#define BEGIN_TRIES 16

struct sp_store_writer {
	const struct sp_store *store;
	char *path;
	int fd;
	struct sp_hash *hash;
};

int
sp__store_lock(int fd, int how)
{
	int rc;

	do
		rc = flock(fd, how);
	while (rc != 0 && errno == EINTR);
	return rc;
}

/* --- open ------------------------------------------------------------------------------------- */

/* All 256 directories exist, durably, before the first blob: a commit then syncs only its own. */
static enum sp_code
make_shards(const struct sp_store *store, struct sp_err *err)
{
	char *top = sp_xasprintf("%s/sha256", store->dir), *shard;
	enum sp_code code;

	code = sp_file_mkdirs(top, 0750, err);
	for (unsigned i = 0; code == SP_OK && i < SHARDS; i++) {
		shard = sp_xasprintf("%s/%02x", top, i);
		if (mkdir(shard, 0750) != 0 && errno != EEXIST)
			code = sp_err_errno(err, "cannot create directory %s", shard);
		free(shard);
	}
	if (code == SP_OK)
		code = sp_file_sync_dir(top, err);
	free(top);
	return code;
}

/* A temporary file that nobody has locked lost its writer. The lock is held over the unlink, and a
 * writer that got its lock looks whether its file still has a name, so a file just made is safe. */
static void
sweep_one(int dir_fd, const char *name)
{
	int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return;
	if (sp__store_lock(fd, LOCK_EX | LOCK_NB) == 0)
		unlinkat(dir_fd, name, 0);
	close(fd);
}

static enum sp_code
sweep_tmp(const struct sp_store *store, struct sp_err *err)
{
	char *path = sp_xasprintf("%s/tmp", store->dir);
	enum sp_code code;
	struct dirent *entry;
	DIR *dir = NULL;

	code = sp_file_mkdirs(path, 0750, err);
	if (code != SP_OK)
		goto out;
	dir = opendir(path);
	if (dir == NULL) {
		code = sp_err_errno(err, "cannot open directory %s", path);
		goto out;
	}
	while ((entry = readdir(dir)) != NULL)
		if (strncmp(entry->d_name, "blob-", 5) == 0)
			sweep_one(dirfd(dir), entry->d_name);
out:
	if (dir != NULL)
		closedir(dir);
	free(path);
	return code;
}

enum sp_code
sp_store_open(const char *dir, int writable, struct sp_store **out, struct sp_err *err)
{
	struct sp_store *store = sp_xcalloc(1, sizeof(*store));
	enum sp_code code = SP_OK;
	struct stat st;
	char *top;

	store->dir = sp_xstrdup(dir);
	store->writable = writable;
	if (writable) {
		code = make_shards(store, err);
		if (code == SP_OK)
			code = sweep_tmp(store, err);
	} else {
		top = sp_xasprintf("%s/sha256", dir);
		if (stat(top, &st) != 0)
			code = sp_err_errno(err, "cannot open the store %s", dir);
		free(top);
	}
	if (code != SP_OK)
		sp_store_close(&store);
	*out = store;
	return code;
}

void
sp_store_close(struct sp_store **store)
{
	if (store == NULL || *store == NULL)
		return;
	free((*store)->dir);
	free(*store);
	*store = NULL;
}

const char *
sp_store_dir(const struct sp_store *store)
{
	return store->dir;
}

/* --- reading ---------------------------------------------------------------------------------- */

char *
sp_store_path(const struct sp_store *store, const char *digest)
{
	if (!sp_hex_is_digest(digest))
		return NULL;
	return sp_xasprintf("%s/sha256/%.2s/%s", store->dir, digest, digest + 2);
}

int
sp_store_has(const struct sp_store *store, const char *digest, uint64_t *size)
{
	char *path = sp_store_path(store, digest);
	struct stat st;
	int there;

	there = path != NULL && lstat(path, &st) == 0 && S_ISREG(st.st_mode);
	if (there && size != NULL)
		*size = (uint64_t)st.st_size;
	free(path);
	return there;
}

int
sp_store_claim(const struct sp_store *store, const char *digest, uint64_t *size)
{
	char *path = sp_store_path(store, digest);

	/* its new time says that somebody needs it; where it cannot be set, nobody collects either
	 */
	if (path != NULL)
		(void)utimensat(AT_FDCWD, path, NULL, AT_SYMLINK_NOFOLLOW);
	free(path);
	return sp_store_has(store, digest, size);
}

enum sp_code
sp_store_blob(
    const struct sp_store *store, const char *digest, int *fd, uint64_t *size, struct sp_err *err)
{
	char *path = sp_store_path(store, digest);
	enum sp_code code = SP_OK;
	struct stat st;
	int got = -1;

	if (path == NULL)
		return sp_err_set(
		    err, SP_E_INVALID, "\"%.64s\" is no SHA-256 digest in lower-case hex", digest);
	/* O_NONBLOCK: a store that is not ours may hold a FIFO under this name */
	got = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (got < 0 || fstat(got, &st) != 0) {
		code = sp_err_errno(err, "cannot open blob %s of the store %s", digest, store->dir);
	} else if (!S_ISREG(st.st_mode)) {
		code = sp_err_set(err, SP_E_CORRUPT, "blob %s of the store %s is no regular file",
		    digest, store->dir);
	} else {
		*fd = got;
		*size = (uint64_t)st.st_size;
		got = -1;
	}
	if (got >= 0)
		close(got);
	free(path);
	return code;
}

static enum sp_code
corrupt(
    const struct sp_store *store, const char *digest, const struct sp_hex *is, struct sp_err *err)
{
	return sp_err_set(err, SP_E_CORRUPT,
	    "blob %s of the store %s is damaged: its bytes have SHA-256 %s", digest, store->dir,
	    is->s);
}

enum sp_code
sp_store_read(const struct sp_store *store, const char *digest, size_t max, uint8_t **data,
    size_t *len, struct sp_err *err)
{
	enum sp_code code;
	struct sp_hex is;
	uint8_t *buf = NULL;
	uint64_t size;
	int fd = -1;

	code = sp_store_blob(store, digest, &fd, &size, err);
	if (code != SP_OK)
		goto out;
	if (size > max) {
		code = sp_err_set(err, SP_E_LIMIT,
		    "blob %s has %llu bytes, at most %zu are allowed here", digest,
		    (unsigned long long)size, max);
		goto out;
	}
	buf = malloc((size_t)size + 1);
	if (buf == NULL) {
		code = sp_err_errno(err, "cannot read blob %s", digest);
		goto out;
	}
	code = sp_file_read_all(fd, buf, (size_t)size, err);
	if (code != SP_OK) {
		sp_err_prefix(err, "blob %s", digest);
		goto out;
	}
	is = sp_sha256_hex(buf, (size_t)size);
	if (strcmp(is.s, digest) != 0) {
		code = corrupt(store, digest, &is, err);
		goto out;
	}
	buf[size] = '\0';
	*data = buf;
	*len = (size_t)size;
	buf = NULL;
out:
	if (fd >= 0)
		close(fd);
	free(buf);
	return code;
}

/* Feeds hash with what is left of fd; with to_fd >= 0 also writes it there. */
static enum sp_code
pump(int fd, int to_fd, struct sp_hash *hash, uint64_t *size, sp_store_progress_fn *progress,
    void *ctx, struct sp_err *err)
{
	uint8_t *buf = sp_xrealloc(NULL, CHUNK, 1);
	enum sp_code code = SP_OK;
	ssize_t n;

	*size = 0;
	while (code == SP_OK) {
		n = read(fd, buf, CHUNK);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			code = sp_err_errno(err, "cannot read");
		if (n <= 0)
			break;
		sp_hash_add(hash, buf, (size_t)n);
		if (to_fd >= 0)
			code = sp_file_write_all(to_fd, buf, (size_t)n, err);
		*size += (uint64_t)n;
		if (progress != NULL)
			progress(ctx, (uint64_t)n);
	}
	free(buf);
	return code;
}

enum sp_code
sp_store_verify(const struct sp_store *store, const char *digest, uint64_t *size,
    sp_store_progress_fn *progress, void *ctx, struct sp_err *err)
{
	struct sp_hash *hash = sp_hash_new(SP_SHA256);
	enum sp_code code;
	struct sp_hex is;
	uint64_t got;
	int fd = -1;

	code = sp_store_blob(store, digest, &fd, &got, err);
	if (code != SP_OK)
		goto out;
	posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	code = pump(fd, -1, hash, &got, progress, ctx, err);
	if (code != SP_OK) {
		sp_err_prefix(err, "blob %s", digest);
		goto out;
	}
	is = sp_hash_finish_hex(hash);
	if (strcmp(is.s, digest) != 0)
		code = corrupt(store, digest, &is, err);
	else if (size != NULL)
		*size = got;
out:
	if (fd >= 0)
		close(fd);
	sp_hash_free(&hash);
	return code;
}

/* --- writing ---------------------------------------------------------------------------------- */

/* A temporary file that is ours: locked, and not swept between its making and the lock. */
static enum sp_code
make_tmp(struct sp_store_writer *w, struct sp_err *err)
{
	struct stat st;
	int tries;

	for (tries = 0; tries < BEGIN_TRIES; tries++) {
		free(w->path);
		w->path = sp_xasprintf("%s/tmp/blob-XXXXXX", w->store->dir);
		w->fd = mkostemp(w->path, O_CLOEXEC);
		if (w->fd < 0 || sp__store_lock(w->fd, LOCK_EX) != 0 || fstat(w->fd, &st) != 0)
			return sp_err_errno(err, "cannot create %s", w->path);
		if (st.st_nlink > 0)
			return SP_OK;
		close(w->fd);
		w->fd = -1;
	}
	return sp_err_set(
	    err, SP_E_IO, "temporary files of the store %s vanish as they are made", w->store->dir);
}

enum sp_code
sp_store_begin(struct sp_store *store, struct sp_store_writer **out, struct sp_err *err)
{
	struct sp_store_writer *w;
	enum sp_code code;

	SP_ASSERT(store->writable);
	w = sp_xcalloc(1, sizeof(*w));
	w->store = store;
	w->fd = -1;
	w->hash = sp_hash_new(SP_SHA256);
	code = make_tmp(w, err);
	if (code != SP_OK)
		sp_store_abort(&w);
	*out = w;
	return code;
}

enum sp_code
sp_store_write(struct sp_store_writer *w, const void *data, size_t len, struct sp_err *err)
{
	enum sp_code code = sp_file_write_all(w->fd, data, len, err);

	if (code != SP_OK)
		return err != NULL ? sp_err_prefix(err, "%s", w->path) : code;
	sp_hash_add(w->hash, data, len);
	return SP_OK;
}

/* The kernel then refuses to read bytes of the blob that have changed. Only a help: no filesystem
 * need have it, and a digest that comes from outside is still compared with the bytes. */
void
sp__store_seal(const struct sp_store *store, const char *digest)
{
	char *path = sp_store_path(store, digest);
	struct fsverity_enable_arg arg = {
	    .version = 1, .hash_algorithm = FS_VERITY_HASH_ALG_SHA256, .block_size = 4096};
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	free(path);
	if (fd < 0)
		return;
	(void)ioctl(fd, FS_IOC_ENABLE_VERITY, &arg);
	close(fd);
}

enum sp_code
sp__store_publish(
    const struct sp_store *store, char **tmp, int fd, const char *digest, struct sp_err *err)
{
	char *path = sp_store_path(store, digest), *shard = NULL;
	enum sp_code code;

	if (fchmod(fd, 0440) != 0 || fsync(fd) != 0) {
		code = sp_err_errno(err, "cannot sync %s", *tmp);
		goto out;
	}
	if (rename(*tmp, path) != 0) {
		code = sp_err_errno(err, "cannot create blob %s", path);
		goto out;
	}
	/* the name is the blob's now: aborting must not remove it */
	free(*tmp);
	*tmp = NULL;
	shard = sp_xasprintf("%.*s", (int)(strrchr(path, '/') - path), path);
	code = sp_file_sync_dir(shard, err);
out:
	free(path);
	free(shard);
	return code;
}

static enum sp_code
publish(struct sp_store_writer *w, const char *digest, struct sp_err *err)
{
	enum sp_code code = sp__store_publish(w->store, &w->path, w->fd, digest, err);

	/* verity asks that nobody writes: ours is the only descriptor */
	if (code == SP_OK) {
		close(w->fd);
		w->fd = -1;
		sp__store_seal(w->store, digest);
	}
	return code;
}

/* Commits a writer whose digest is known; frees it. */
static enum sp_code
commit_as(struct sp_store_writer **writer, const struct sp_hex *is, const char *expected,
    struct sp_hex *digest, struct sp_err *err)
{
	enum sp_code code;

	if (expected != NULL && strcmp(is->s, expected) != 0)
		code = sp_err_set(
		    err, SP_E_CORRUPT, "bytes have SHA-256 %s, expected is %s", is->s, expected);
	else
		code = publish(*writer, is->s, err);
	if (code == SP_OK && digest != NULL)
		*digest = *is;
	sp_store_abort(writer);
	return code;
}

enum sp_code
sp_store_commit(struct sp_store_writer **writer, const char *expected, struct sp_hex *digest,
    struct sp_err *err)
{
	struct sp_hex is = sp_hash_finish_hex((*writer)->hash);

	return commit_as(writer, &is, expected, digest, err);
}

int
sp_store_stat(const struct sp_store_writer *writer, struct stat *st)
{
	return fstat(writer->fd, st);
}

void
sp_store_abort(struct sp_store_writer **writer)
{
	struct sp_store_writer *w = writer != NULL ? *writer : NULL;

	if (w == NULL)
		return;
	/* unlink before close: a file of ours is never there without our lock */
	if (w->fd >= 0 && w->path != NULL)
		unlink(w->path);
	if (w->fd >= 0)
		close(w->fd);
	free(w->path);
	sp_hash_free(&w->hash);
	free(w);
	*writer = NULL;
}

enum sp_code
sp_store_put(
    struct sp_store *store, const void *data, size_t len, struct sp_hex *digest, struct sp_err *err)
{
	struct sp_store_writer *w = NULL;
	enum sp_code code;

	code = sp_store_begin(store, &w, err);
	if (code != SP_OK)
		return code;
	code = sp_store_write(w, data, len, err);
	if (code != SP_OK) {
		sp_store_abort(&w);
		return code;
	}
	return sp_store_commit(&w, NULL, digest, err);
}

enum sp_code
sp_store_copy_fd(int fd, int to_fd, struct sp_hex *digest, uint64_t *size,
    sp_store_progress_fn *progress, void *ctx, struct sp_err *err)
{
	struct sp_hash *hash = sp_hash_new(SP_SHA256);
	enum sp_code code;

	posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	/* a clone is hashed from the copy: the source may change behind our back, the copy not */
	if (ioctl(to_fd, FICLONE, fd) == 0)
		code = pump(to_fd, -1, hash, size, progress, ctx, err);
	else if (lseek(fd, 0, SEEK_SET) != 0)
		code = sp_err_errno(err, "cannot read from the start");
	else
		code = pump(fd, to_fd, hash, size, progress, ctx, err);
	if (code == SP_OK)
		*digest = sp_hash_finish_hex(hash);
	sp_hash_free(&hash);
	return code;
}

/* sp_store_copy_fd into a writer; errors say which store it was. */
static enum sp_code
copy_into(struct sp_store_writer *w, int fd, struct sp_hex *is, uint64_t *size,
    sp_store_progress_fn *progress, void *ctx, struct sp_err *err)
{
	enum sp_code code = sp_store_copy_fd(fd, w->fd, is, size, progress, ctx, err);

	if (code != SP_OK && err != NULL)
		sp_err_prefix(err, "copy into the store %s", w->store->dir);
	return code;
}

enum sp_code
sp_store_put_fd(struct sp_store *store, int fd, const char *expected, struct sp_hex *digest,
    uint64_t *size, struct sp_err *err)
{
	struct sp_store_writer *w = NULL;
	enum sp_code code;
	struct sp_hex is;
	uint64_t got;

	code = sp_store_begin(store, &w, err);
	if (code != SP_OK)
		return code;
	code = copy_into(w, fd, &is, &got, NULL, NULL, err);
	if (code != SP_OK) {
		sp_store_abort(&w);
		return code;
	}
	if (size != NULL)
		*size = got;
	return commit_as(&w, &is, expected, digest, err);
}

enum sp_code
sp_store_put_file(struct sp_store *store, const char *path, const char *expected,
    struct sp_hex *digest, uint64_t *size, struct sp_err *err)
{
	enum sp_code code;
	struct stat st;
	int fd;

	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) != 0) {
		code = sp_err_errno(err, "cannot open %s", path);
	} else if (!S_ISREG(st.st_mode)) {
		code = sp_err_set(err, SP_E_INVALID, "%s is no regular file", path);
	} else {
		code = sp_store_put_fd(store, fd, expected, digest, size, err);
		if (code != SP_OK && err != NULL)
			sp_err_prefix(err, "%s", path);
	}
	if (fd >= 0)
		close(fd);
	return code;
}

enum sp_code
sp_store_copy(struct sp_store *to, const struct sp_store *from, const char *digest,
    sp_store_progress_fn *progress, void *ctx, struct sp_err *err)
{
	struct sp_store_writer *w = NULL;
	enum sp_code code;
	struct sp_hex is;
	uint64_t size;
	int fd = -1;

	if (sp_store_claim(to, digest, &size)) {
		if (progress != NULL)
			progress(ctx, size);
		return SP_OK;
	}
	code = sp_store_blob(from, digest, &fd, &size, err);
	if (code == SP_OK)
		code = sp_store_begin(to, &w, err);
	if (code == SP_OK)
		code = copy_into(w, fd, &is, &size, progress, ctx, err);
	if (code == SP_OK && strcmp(is.s, digest) != 0)
		code = corrupt(from, digest, &is, err);
	if (code == SP_OK)
		code = commit_as(&w, &is, digest, NULL, err);
	sp_store_abort(&w);
	if (fd >= 0)
		close(fd);
	return code;
}

enum sp_code
sp_store_remove(struct sp_store *store, const char *digest, struct sp_err *err)
{
	char *path = sp_store_path(store, digest);
	enum sp_code code = SP_OK;

	SP_ASSERT(store->writable);
	if (path == NULL)
		return sp_err_set(
		    err, SP_E_INVALID, "\"%.64s\" is no SHA-256 digest in lower-case hex", digest);
	if (unlink(path) != 0 && errno != ENOENT)
		code = sp_err_errno(err, "cannot remove blob %s", path);
	free(path);
	return code;
}

/* Out of everybody's sight first, then looked at once more: who claimed it in between finds it
 * again. The blob's lock keeps others from clearing it away as a leftover meanwhile. */
static int
take_away(const struct sp_store *store, int fd, const char *path, int64_t before_ns, int *removed)
{
	char *aside = sp_xasprintf("%s/tmp/blob-%s", store->dir, strrchr(path, '/') + 1);
	struct stat st;
	int rc;

	rc = sp__store_lock(fd, LOCK_EX | LOCK_NB) == 0 ? rename(path, aside) : -1;
	if (rc == 0 && fstat(fd, &st) == 0 && sp_time_ns(&st.st_mtim) < before_ns) {
		rc = unlink(aside);
		*removed = rc == 0;
	} else if (rc == 0) {
		rc = rename(aside, path);
	}
	free(aside);
	return rc;
}

enum sp_code
sp_store_expire(
    struct sp_store *store, const char *digest, int64_t before_ns, int *removed, struct sp_err *err)
{
	char *path = sp_store_path(store, digest);
	enum sp_code code = SP_OK;
	struct stat st;
	int fd;

	SP_ASSERT(store->writable && path != NULL);
	*removed = 0;
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) != 0) {
		if (errno != ENOENT)
			code = sp_err_errno(err, "cannot remove blob %s", path);
	} else if (sp_time_ns(&st.st_mtim) < before_ns && sp_time_ns(&st.st_ctim) < before_ns &&
		   take_away(store, fd, path, before_ns, removed) != 0) {
		code = sp_err_errno(err, "cannot remove blob %s", path);
	}
	if (fd >= 0)
		close(fd);
	free(path);
	return code;
}
