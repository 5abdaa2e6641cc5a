/* fetcherd_download.c -- a commit's files into the store: what is there, what is missing, and by
 * whom it is fetched. */
#include "base/file.h"
#include "fetcherd/fetcherd_transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define JOURNAL_MAX ((size_t)32 << 20)
#define PART_KEEP_S ((int64_t)7 * 24 * 3600) /* of a file that nobody has gone on with */
#define NAP_MS 50

/* --- one job at a time --------------------------------------------------------------------------
 */

/*
 * Whoever fetches a commit, or waits to, holds a shared lock on the work directory: it is removed
 * only by one who has it alone. The file "lock" in it is held, exclusively, by the one that
 * fetches.
 */
struct presence {
	int dir_fd, lock_fd;
};

/* Takes a lock when nobody is in the way, looks now and then else: a wait must be able to end. */
static enum sp_code
lock_patiently(
    const struct fetcherd_download *d, int fd, int how, const char *path, struct sp_err *err)
{
	const struct timespec nap = {0, NAP_MS * 1000000L};

	while (flock(fd, how | LOCK_NB) != 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return sp_err_errno(err, "cannot lock %s", path);
		if (d->cancelled != NULL && d->cancelled(d->ctx))
			return sp_err_set(err, SP_E_CANCELLED, "cancelled");
		if (d->waiting != NULL)
			d->waiting(d->ctx);
		nanosleep(&nap, NULL);
	}
	return SP_OK;
}

static void
leave(struct presence *p)
{
	if (p->lock_fd >= 0)
		close(p->lock_fd);
	if (p->dir_fd >= 0)
		close(p->dir_fd);
	p->dir_fd = p->lock_fd = -1;
}

/* The directory, which another job may remove before it is ours. */
static enum sp_code
enter_dir(const struct fetcherd_download *d, struct presence *p, struct sp_err *err)
{
	enum sp_code code;
	struct stat st;

	for (;;) {
		code = sp_file_mkdirs(d->work_dir, 0700, err);
		if (code != SP_OK)
			return code;
		p->dir_fd = open(d->work_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (p->dir_fd < 0 && errno != ENOENT)
			return sp_err_errno(err, "cannot open %s", d->work_dir);
		if (p->dir_fd < 0)
			continue;
		code = lock_patiently(d, p->dir_fd, LOCK_SH, d->work_dir, err);
		if (code != SP_OK)
			return code;
		if (fstat(p->dir_fd, &st) == 0 && st.st_nlink > 0)
			return SP_OK;
		leave(p);
	}
}

static enum sp_code
enter(const struct fetcherd_download *d, struct presence *p, struct sp_err *err)
{
	enum sp_code code = enter_dir(d, p, err);

	if (code != SP_OK)
		return code;
	p->lock_fd = openat(p->dir_fd, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (p->lock_fd < 0)
		return sp_err_errno(err, "cannot open %s/lock", d->work_dir);
	return lock_patiently(d, p->lock_fd, LOCK_EX, d->work_dir, err);
}

enum sp_code
fetcherd_download_forget(const char *work_dir, struct sp_err *err)
{
	int fd = open(work_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	enum sp_code code = SP_OK;
	struct stat st;

	if (fd < 0)
		return errno == ENOENT ? SP_OK : sp_err_errno(err, "cannot open %s", work_dir);
	/* one that has been removed meanwhile: what has the name now is not ours to remove */
	if (flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &st) == 0 && st.st_nlink > 0)
		code = sp_file_remove_all(work_dir, err);
	close(fd);
	return code;
}

/* --- what is there already ----------------------------------------------------------------------
 */

/* What a download knows before it asks for anything. */
struct before {
	const struct fetcherd_download *d;
	struct sp_hex *sha256; /* per file of the listing; "" until the store has it */
	int journal_fd;
	uint64_t present; /* bytes */
};

/* Files that an earlier attempt, or another model, has left in the store. Returns the bytes of disk
 * that the others still need. */
static uint64_t
find_present(struct before *b, const struct fetcherd_journal *journal)
{
	char name[SP_PART_NAME_MAX + 1];
	uint64_t missing = 0, size, part;

	for (size_t i = 0; i < b->d->listing->count; i++) {
		const struct sp_answer_file *file = &b->d->listing->files[i];
		const char *sha256 =
		    file->lfs ? file->sha256.s : fetcherd_journal_find(journal, &file->oid);

		if (sha256 != NULL && sp_store_claim(b->d->store, sha256, &size) &&
		    size == file->size) {
			memcpy(b->sha256[i].s, sha256, sizeof(b->sha256[i].s));
			b->present += size;
			if (size > FETCHERD_SMALL_MAX && b->d->stored != NULL)
				b->d->stored(b->d->ctx, sha256);
			continue;
		}
		missing += file->size;
		if (file->size <= FETCHERD_SMALL_MAX)
			continue;
		fetcherd_large_name(file, name);
		part = sp_part_allocated(b->d->store, name);
		missing -= part < file->size ? part : file->size;
	}
	return missing;
}

static enum sp_code
check_space(const char *dir, uint64_t need, struct sp_err *err)
{
	struct statvfs fs;
	uint64_t have;

	if (statvfs(dir, &fs) != 0)
		return sp_err_errno(err, "cannot look at the disk of %s", dir);
	have = (uint64_t)fs.f_bavail * fs.f_frsize;
	if (need > have)
		return sp_err_set(err, SP_E_NO_SPACE,
		    "%llu bytes are to be fetched, %llu are free below %s: make room there",
		    (unsigned long long)need, (unsigned long long)have, dir);
	return SP_OK;
}

static enum sp_code
open_journal(struct before *b, struct sp_err *err)
{
	char *path = sp_xasprintf("%s/journal", b->d->work_dir);
	struct fetcherd_journal journal = {0};
	enum sp_code code = SP_OK;
	uint8_t *data = NULL;
	size_t len = 0;

	b->journal_fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (b->journal_fd < 0) {
		code = sp_err_errno(err, "cannot open %s", path);
		goto out;
	}
	code = sp_file_read(path, JOURNAL_MAX, &data, &len, err);
	if (code != SP_OK)
		goto out;
	/* a line that a crash cut must not run into the next one */
	if (len > 0 && data[len - 1] != '\n')
		code = sp_file_write_all(b->journal_fd, "\n", 1, err);
	if (code != SP_OK)
		goto out;
	fetcherd_journal_parse(data, len, &journal);
	code = check_space(b->d->store_dir, find_present(b, &journal), err);
out:
	fetcherd_journal_clear(&journal);
	free(data);
	free(path);
	return code;
}

/* --- all of it ----------------------------------------------------------------------------------
 */

enum sp_code
fetcherd_download(
    const struct fetcherd_download *download, struct sp_tree *tree, struct sp_err *err)
{
	const struct sp_answer_tree *list = download->listing;
	struct before b = {.d = download, .journal_fd = -1};
	struct presence presence = {-1, -1};
	enum sp_code code;

	b.sha256 = sp_xcalloc(list->count, sizeof(*b.sha256));
	code = enter(download, &presence, err);
	if (code != SP_OK)
		goto out;
	sp_part_sweep(download->store, PART_KEEP_S);
	code = open_journal(&b, err);
	if (code == SP_OK)
		code = fetcherd_transfer_run(download, b.sha256, b.journal_fd, b.present, err);
	for (size_t i = 0; code == SP_OK && i < list->count; i++)
		code = sp_tree_add(
		    tree, list->files[i].path, list->files[i].size, b.sha256[i].s, 0, err);
out:
	if (b.journal_fd >= 0)
		close(b.journal_fd);
	leave(&presence);
	free(b.sha256);
	return code;
}
