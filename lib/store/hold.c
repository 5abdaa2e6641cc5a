/* hold.c -- blobs verified now that count later. */
#include "store/hold.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define CHUNK ((size_t)1 << 20)

struct sp_hold {
	int fd;
	char *path;
	dev_t dev;
	ino_t ino;
	uint64_t size;
};

/* Those of which it is known that all that is open for writing, mapped too, is counted in the inode
 * that the lease is of. */
static int
is_local(int fd)
{
	static const long local[] = {
	    EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC, TMPFS_MAGIC};
	struct statfs fs;

	if (fstatfs(fd, &fs) != 0)
		return 0;
	for (size_t i = 0; i < sizeof(local) / sizeof(local[0]); i++)
		if ((long)fs.f_type == local[i])
			return 1;
	return 0;
}

static enum sp_code
lease(const struct sp_hold *hold, struct sp_err *err)
{
	if (!is_local(hold->fd))
		return sp_err_set(
		    err, SP_E_UNSUPPORTED, "%s: no lease is taken on this filesystem", hold->path);
	/* the default, SIGIO, would end the process */
	if (fcntl(hold->fd, F_SETSIG, SIGURG) == 0 && fcntl(hold->fd, F_SETLEASE, F_RDLCK) == 0)
		return SP_OK;
	if (errno == EAGAIN)
		return sp_err_set(err, SP_E_STATE, "%s is open for writing", hold->path);
	return sp_err_set(err, SP_E_UNSUPPORTED, "%s: a lease: %s", hold->path, strerror(errno));
}

/* Hashes all of it, under the lease. */
static enum sp_code
hash(struct sp_hold *hold, const char *digest, sp_hold_stop_fn *stop, void *ctx, struct sp_err *err)
{
	uint8_t *buf = sp_xrealloc(NULL, CHUNK, 1);
	struct sp_hash *sha256 = sp_hash_new(SP_SHA256);
	enum sp_code code = SP_OK;
	struct sp_hex is;
	ssize_t n = 1;

	posix_fadvise(hold->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	while (code == SP_OK && n != 0) {
		n = read(hold->fd, buf, CHUNK);
		if (n < 0 && errno != EINTR)
			code = sp_err_errno(err, "cannot read %s", hold->path);
		if (n > 0) {
			sp_hash_add(sha256, buf, (size_t)n);
			hold->size += (uint64_t)n;
		}
		if (code == SP_OK && stop != NULL && stop(ctx))
			code = sp_err_set(err, SP_E_CANCELLED, "cancelled");
	}
	is = sp_hash_finish_hex(sha256);
	if (code == SP_OK && strcmp(is.s, digest) != 0)
		code = sp_err_set(err, SP_E_CORRUPT, "%s has SHA-256 %s", hold->path, is.s);
	sp_hash_free(&sha256);
	free(buf);
	return code;
}

enum sp_code
sp_hold_take(const struct sp_store *store, const char *digest, sp_hold_stop_fn *stop, void *ctx,
    struct sp_hold **out, struct sp_err *err)
{
	struct sp_hold *hold = sp_xcalloc(1, sizeof(*hold));
	enum sp_code code;
	struct stat st;

	hold->fd = -1;
	code = sp_store_blob(store, digest, &hold->fd, &hold->size, err);
	if (code != SP_OK)
		goto out;
	hold->size = 0;
	hold->path = sp_store_path(store, digest);
	if (fstat(hold->fd, &st) != 0)
		code = sp_err_errno(err, "cannot look at %s", hold->path);
	hold->dev = st.st_dev;
	hold->ino = st.st_ino;
	if (code == SP_OK)
		code = lease(hold, err);
	if (code == SP_OK)
		code = hash(hold, digest, stop, ctx, err);
out:
	if (code != SP_OK)
		sp_hold_drop(&hold);
	*out = hold;
	return code;
}

int
sp_hold_stands(const struct sp_hold *hold, uint64_t *size)
{
	struct stat st;

	/* while the lease is being broken the kernel says what becomes of it: F_UNLCK */
	if (lstat(hold->path, &st) != 0 || st.st_dev != hold->dev || st.st_ino != hold->ino ||
	    (uint64_t)st.st_size != hold->size || fcntl(hold->fd, F_GETLEASE) != F_RDLCK)
		return 0;
	if (size != NULL)
		*size = hold->size;
	return 1;
}

void
sp_hold_drop(struct sp_hold **out)
{
	struct sp_hold *hold = out != NULL ? *out : NULL;

	if (hold == NULL)
		return;
	/* closing does not suffice while a child that is being started has the descriptor too */
	if (hold->fd >= 0) {
		(void)fcntl(hold->fd, F_SETLEASE, F_UNLCK);
		close(hold->fd);
	}
	free(hold->path);
	free(hold);
	*out = NULL;
}
