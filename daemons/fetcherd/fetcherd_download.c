/* fetcherd_download.c -- files of a commit into the store, several at a time. */
#include "base/file.h"
#include "fetcherd.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define PARALLEL_MAX 64
#define JOURNAL_MAX ((size_t)32 << 20)

/* What the threads of a download share. */
struct shared {
	const struct fetcherd_download *d;
	struct sp_client_options hub;
	struct sp_hex *sha256; /* per file of the listing; "" until the store has it */
	int journal_fd;
	pthread_mutex_t lock;
	size_t next;	   /* file that nobody has taken yet */
	uint64_t done;	   /* bytes */
	enum sp_code code; /* of the first failure */
	struct sp_err err;
};

/* A file on its way. */
struct transfer {
	struct shared *shared;
	struct sp_store_writer *writer;
};

static int
is_stopped(void *ctx)
{
	struct shared *s = ctx;
	int failed;

	pthread_mutex_lock(&s->lock);
	failed = s->code != SP_OK;
	pthread_mutex_unlock(&s->lock);
	return failed || (s->d->cancelled != NULL && s->d->cancelled(s->d->ctx));
}

static void
add_done(struct shared *s, uint64_t bytes)
{
	uint64_t done;

	pthread_mutex_lock(&s->lock);
	done = s->done += bytes;
	pthread_mutex_unlock(&s->lock);
	if (s->d->progress != NULL)
		s->d->progress(s->d->ctx, done, s->d->listing->bytes);
}

static enum sp_code
to_store(void *ctx, const void *data, size_t len, struct sp_err *err)
{
	struct transfer *t = ctx;
	enum sp_code code = sp_store_write(t->writer, data, len, err);

	if (code == SP_OK)
		add_done(t->shared, len);
	return code;
}

/* One write of one line: a crash cuts only the last. LFS files need none, their digest is in the
 * listing. Not synced: a line that is lost costs one small file fetched again. */
static enum sp_code
note_file(struct shared *s, const struct sp_answer_file *file, const struct sp_hex *sha256,
    struct sp_err *err)
{
	char line[128];
	int len;

	if (file->lfs)
		return SP_OK;
	len = snprintf(line, sizeof(line), "%s %s\n", file->oid.s, sha256->s);
	return sp_file_write_all(s->journal_fd, line, (size_t)len, err);
}

static enum sp_code
fetch_file(struct shared *s, struct sp_client *client, size_t i, struct sp_err *err)
{
	const struct sp_answer_file *file = &s->d->listing->files[i];
	struct transfer t = {.shared = s};
	struct sp_hex sha256;
	enum sp_code code;

	code = sp_store_begin(s->d->store, &t.writer, err);
	if (code != SP_OK)
		return code;
	code = sp_client_file(client, s->d->repo, s->d->commit, file, to_store, &t, err);
	if (code != SP_OK) {
		sp_store_abort(&t.writer);
		return code;
	}
	code = sp_store_commit(&t.writer, file->lfs ? file->sha256.s : NULL, &sha256, err);
	if (code == SP_OK)
		code = note_file(s, file, &sha256, err);
	if (code != SP_OK)
		return err != NULL ? sp_err_prefix(err, "%s", file->path) : code;
	s->sha256[i] = sha256;
	return SP_OK;
}

/* Takes files until there are none, or one has failed. */
static void *
fetch_files(void *ctx)
{
	struct shared *s = ctx;
	struct sp_client *client = NULL;
	struct sp_err err;
	enum sp_code code;
	size_t i;

	code = sp_client_new(&s->hub, &client, &err);
	for (;;) {
		pthread_mutex_lock(&s->lock);
		if (code != SP_OK && s->code == SP_OK) {
			s->code = code;
			s->err = err;
		}
		while (s->next < s->d->listing->count && s->sha256[s->next].s[0] != '\0')
			s->next++;
		i = s->code == SP_OK ? s->next++ : s->d->listing->count;
		pthread_mutex_unlock(&s->lock);
		if (i >= s->d->listing->count)
			break;
		code = fetch_file(s, client, i, &err);
	}
	sp_client_free(&client);
	return NULL;
}

/* --- what is there already ----------------------------------------------------------------------
 */

/* Files that an earlier attempt, or another model, has left in the store. */
static uint64_t
find_present(struct shared *s, const struct fetcherd_journal *journal)
{
	uint64_t missing = 0, size;

	for (size_t i = 0; i < s->d->listing->count; i++) {
		const struct sp_answer_file *file = &s->d->listing->files[i];
		const char *sha256 =
		    file->lfs ? file->sha256.s : fetcherd_journal_find(journal, &file->oid);

		if (sha256 != NULL && sp_store_has(s->d->store, sha256, &size) &&
		    size == file->size) {
			memcpy(s->sha256[i].s, sha256, sizeof(s->sha256[i].s));
			s->done += size;
		} else {
			missing += file->size;
		}
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
open_journal(struct shared *s, struct sp_err *err)
{
	char *path = sp_xasprintf("%s/journal", s->d->work_dir);
	struct fetcherd_journal journal = {0};
	enum sp_code code = SP_OK;
	uint8_t *data = NULL;
	size_t len = 0;

	s->journal_fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (s->journal_fd < 0) {
		code = sp_err_errno(err, "cannot open %s", path);
		goto out;
	}
	code = sp_file_read(path, JOURNAL_MAX, &data, &len, err);
	if (code != SP_OK)
		goto out;
	/* a line that a crash cut must not run into the next one */
	if (len > 0 && data[len - 1] != '\n')
		code = sp_file_write_all(s->journal_fd, "\n", 1, err);
	if (code != SP_OK)
		goto out;
	fetcherd_journal_parse(data, len, &journal);
	code = check_space(s->d->store_dir, find_present(s, &journal), err);
out:
	fetcherd_journal_clear(&journal);
	free(data);
	free(path);
	return code;
}

/* --- all of it ----------------------------------------------------------------------------------
 */

static void
run_threads(struct shared *s)
{
	pthread_t threads[PARALLEL_MAX];
	unsigned wanted = s->d->parallel, n = 0;

	if (wanted > s->d->listing->count)
		wanted = (unsigned)s->d->listing->count;
	while (n < wanted && n < PARALLEL_MAX &&
	       pthread_create(&threads[n], NULL, fetch_files, s) == 0)
		n++;
	/* where the system gives no thread at all, this one does the work */
	if (n == 0)
		fetch_files(s);
	while (n > 0)
		pthread_join(threads[--n], NULL);
}

enum sp_code
fetcherd_download(
    const struct fetcherd_download *download, struct sp_tree *tree, struct sp_err *err)
{
	const struct sp_answer_tree *list = download->listing;
	struct shared s = {.d = download, .hub = *download->hub, .journal_fd = -1};
	enum sp_code code;

	s.hub.cancelled = is_stopped;
	s.hub.ctx = &s;
	s.sha256 = sp_xcalloc(list->count, sizeof(*s.sha256));
	pthread_mutex_init(&s.lock, NULL);
	code = open_journal(&s, err);
	if (code != SP_OK)
		goto out;
	add_done(&s, 0);
	run_threads(&s);
	if (s.code != SP_OK) {
		code = sp_err_set(err, s.code, "%s", s.err.msg);
		goto out;
	}
	for (size_t i = 0; code == SP_OK && i < list->count; i++)
		code = sp_tree_add(
		    tree, list->files[i].path, list->files[i].size, s.sha256[i].s, 0, err);
out:
	if (s.journal_fd >= 0)
		close(s.journal_fd);
	pthread_mutex_destroy(&s.lock);
	free(s.sha256);
	return code;
}
