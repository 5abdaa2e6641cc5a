/*
 * collect.c -- the collection of a daemon's own store and of its directories of work, on a thread.
 *
 * The daemon alone deletes in its store; which digests jobs name only ledgerd knows, and is asked
 * for those that are there. No lease is held while this runs. Nothing is removed before everything
 * was marked; killed at any moment, it begins anew.
 */
#include "base/file.h"
#include "base/log.h"
#include "bus/paths.h"
#include "bus/result.h"
#include "bus/worker_int.h"
#include "store/gc.h"
#include "store/part.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define ASK_MS 60000	 /* for ledgerd's answer to one question */
#define MARKS_ASKED 1024 /* jobs in one question */

struct sp_collection {
	struct sp_worker *worker;
	struct sp_lease
	    lease; /* whose id is the collection's: cancelled or not, and how far it is */
	int dry_run, awaited; /* as ledgerd said */
	int joined;
	int finished; /* under worker->lock: the thread has done its part */
	uv_thread_t thread;
	enum sp_code code;
	struct sp_err err;
	struct sp_gc_counts counts;
	uint64_t leftovers;
};

/* --- what is named ---------------------------------------------------------------------------- */

/* Which of the store's blobs jobs name, in portions that fit a message. */
static enum sp_code
ask_digests(struct sp_collection *c, const struct sp_store *store, struct sp_gc *gc, size_t from,
    size_t count, struct sp_err *err)
{
	uint8_t *digests = sp_xcalloc(count, SP_DIGEST_LEN);
	Sallyport__Named *named;
	Sallyport__Names names;
	enum sp_code code;
	size_t i;

	sallyport__names__init(&names);
	names.collection = c->lease.id;
	names.digests.data = digests;
	names.digests.len = count * SP_DIGEST_LEN;
	for (i = 0; i < count; i++)
		memcpy(digests + i * SP_DIGEST_LEN, gc->blobs[from + i].digest, SP_DIGEST_LEN);
	code = sp_ask_names(c->worker, &names, ASK_MS, &named, err);
	free(digests);
	for (i = 0; code == SP_OK && i < count; i++)
		if (named->digests.data[i] != 0)
			code = sp_gc_root(store, gc, sp_hex_of(gc->blobs[from + i].digest).s, err);
	if (named != NULL)
		sallyport__named__free_unpacked(named, NULL);
	return code;
}

static enum sp_code
mark_named(
    struct sp_collection *c, const struct sp_store *store, struct sp_gc *gc, struct sp_err *err)
{
	enum sp_code code = SP_OK;
	size_t at, count;

	for (at = 0; code == SP_OK && at < gc->count; at += count) {
		if (sp_lease_cancelled(&c->lease))
			return sp_err_set(err, SP_E_CANCELLED, "cancelled");
		sp_lease_progress(&c->lease, "mark", at, gc->count, "blobs");
		count = gc->count - at < SP_BUS_NAMES_MAX ? gc->count - at : SP_BUS_NAMES_MAX;
		code = ask_digests(c, store, gc, at, count, err);
	}
	return code;
}

struct keeper {
	const struct sp_store *store;
	struct sp_gc *gc;
	enum sp_code code;
	struct sp_err err;
};

static void
keep(void *arg, const char *digest)
{
	struct keeper *k = arg;

	if (k->code == SP_OK)
		k->code = sp_gc_root(k->store, k->gc, digest, &k->err);
}

/* What the daemon itself needs. */
static enum sp_code
mark_own(
    struct sp_collection *c, const struct sp_store *store, struct sp_gc *gc, struct sp_err *err)
{
	const struct sp_worker_spec *spec = c->worker->spec;
	struct keeper k = {.store = store, .gc = gc};
	enum sp_code code;

	if (spec->keep == NULL)
		return SP_OK;
	code = spec->keep(c->worker->ctx, keep, &k, err);
	if (code == SP_OK && k.code != SP_OK)
		code = sp_err_set(err, k.code, "%s", k.err.msg);
	return code;
}

/* --- the store -------------------------------------------------------------------------------- */

static int
on_step(void *ctx, size_t done, size_t total)
{
	struct sp_collection *c = ctx;

	sp_lease_progress(&c->lease, "sweep", done, total, "blobs");
	return sp_lease_cancelled(&c->lease);
}

static enum sp_code
collect_store(struct sp_collection *c, struct sp_err *err)
{
	char *path = sp_paths_store(c->worker->conf, c->worker->spec->service);
	struct sp_store *store = NULL;
	struct sp_gc gc = {0};
	enum sp_code code;

	sp_lease_progress(&c->lease, "list", 0, 0, "blobs");
	if ((code = sp_store_open(path, 1, &store, err)) || (code = sp_gc_list(store, &gc, err)) ||
	    (code = mark_named(c, store, &gc, err)) || (code = mark_own(c, store, &gc, err)))
		goto out;
	code = sp_gc_sweep(store, &gc, c->dry_run, on_step, c, &c->counts, err);
out:
	sp_gc_clear(&gc);
	sp_store_close(&store);
	free(path);
	return code;
}

/* --- directories of work ---------------------------------------------------------------------- */

/* The next of the jobs whose steps have worked there, by the marks that sp_lease_workdir leaves. */
static enum sp_code
read_marks(DIR *dir, const char *path, char **jobs, size_t *count, struct sp_err *err)
{
	const size_t mark = sizeof(SP_LEASE_MARK) - 1;
	struct dirent *entry;

	for (*count = 0; *count < MARKS_ASKED;) {
		errno = 0;
		entry = readdir(dir);
		if (entry == NULL && errno != 0)
			return sp_err_errno(err, "cannot read directory %s", path);
		if (entry == NULL)
			break;
		if (strncmp(entry->d_name, SP_LEASE_MARK, mark) == 0 &&
		    sp_bus_is_id(entry->d_name + mark))
			jobs[(*count)++] = sp_xstrdup(entry->d_name + mark);
	}
	return SP_OK;
}

static enum sp_code
ask_jobs(struct sp_collection *c, char **jobs, size_t count, int *wanted, struct sp_err *err)
{
	Sallyport__Named *named = NULL;
	Sallyport__Names names;
	enum sp_code code;
	size_t i;

	sallyport__names__init(&names);
	names.collection = c->lease.id;
	names.jobs = jobs;
	names.n_jobs = count;
	code = sp_ask_names(c->worker, &names, ASK_MS, &named, err);
	for (i = 0; code == SP_OK && i < count; i++)
		*wanted |= named->jobs.data[i] != 0;
	if (named != NULL)
		sallyport__named__free_unpacked(named, NULL);
	return code;
}

/* One of the jobs goes on, and will want what lies there. */
static enum sp_code
is_wanted(struct sp_collection *c, const char *path, int *wanted, struct sp_err *err)
{
	char *jobs[MARKS_ASKED];
	enum sp_code code;
	size_t count, i;
	DIR *dir = opendir(path);

	*wanted = 0;
	/* without a look into it nobody knows who wants it; what is no directory nobody does */
	if (dir == NULL)
		return errno == ENOTDIR ? SP_OK
					: sp_err_errno(err, "cannot open directory %s", path);
	do {
		code = read_marks(dir, path, jobs, &count, err);
		if (code == SP_OK && count > 0)
			code = ask_jobs(c, jobs, count, wanted, err);
		for (i = 0; i < count; i++)
			free(jobs[i]);
	} while (code == SP_OK && !*wanted && count == MARKS_ASKED);
	closedir(dir);
	return code;
}

static enum sp_code
collect_work(struct sp_collection *c, struct sp_err *err)
{
	char *top = sp_xasprintf("%s/work", c->worker->state_dir), *path;
	enum sp_code code = SP_OK;
	struct dirent *entry;
	DIR *dir = opendir(top);
	int wanted;

	if (dir == NULL && errno != ENOENT)
		code = sp_err_errno(err, "cannot open directory %s", top);
	while (code == SP_OK && dir != NULL && (entry = readdir(dir)) != NULL) {
		if (!sp_hex_is_digest(entry->d_name))
			continue;
		if (sp_lease_cancelled(&c->lease)) {
			code = sp_err_set(err, SP_E_CANCELLED, "cancelled");
			break;
		}
		path = sp_xasprintf("%s/%s", top, entry->d_name);
		code = is_wanted(c, path, &wanted, err);
		if (code == SP_OK && !wanted && !c->dry_run)
			code = sp_file_remove_all(path, err);
		c->leftovers += code == SP_OK && !wanted;
		free(path);
	}
	if (dir != NULL)
		closedir(dir);
	free(top);
	return code;
}

/* Blobs in the making are named by content, not by job: they go when no step waits for
 * them. */
static enum sp_code
collect_parts(struct sp_collection *c, struct sp_err *err)
{
	char *path = sp_paths_store(c->worker->conf, c->worker->spec->service);
	struct sp_store *store = NULL;
	enum sp_code code = sp_store_open(path, 1, &store, err);

	if (code == SP_OK)
		sp_part_sweep(store, 0);
	sp_store_close(&store);
	free(path);
	return code;
}

/* --- the thread ------------------------------------------------------------------------------- */

static void
collect_thread(void *arg)
{
	struct sp_collection *c = arg;
	struct sp_worker *worker = c->worker;

	c->code = collect_store(c, &c->err);
	if (c->code == SP_OK)
		c->code = collect_work(c, &c->err);
	if (c->code == SP_OK && !c->dry_run && !c->awaited)
		c->code = collect_parts(c, &c->err);
	if (c->code == SP_OK && !c->dry_run)
		c->leftovers += sp_file_sweep(worker->state_dir, SP_FILE_SWEEP_DEPTH);
	pthread_mutex_lock(&worker->lock);
	c->finished = 1;
	pthread_mutex_unlock(&worker->lock);
	uv_async_send(&worker->async);
}

static void
say_end(const struct sp_collection *c)
{
	const struct sp_gc_counts *n = &c->counts;

	if (c->code == SP_OK)
		sp_log_info(NULL,
		    "collection %s%s: %llu blobs kept, %llu removed (%llu bytes), %llu leftovers",
		    c->lease.id, c->dry_run ? " (dry run)" : "", (unsigned long long)n->kept,
		    (unsigned long long)n->removed, (unsigned long long)n->removed_bytes,
		    (unsigned long long)c->leftovers);
	else
		sp_log_warn(NULL, "collection %s: %s", c->lease.id, c->err.msg);
}

/* --- the loop's part -------------------------------------------------------------------------- */

static void
swept(struct sp_collection *c)
{
	struct sp_worker_event event = {.kind = SP_EVENT_SWEPT, .lease = ""};

	c->joined = 1;
	say_end(c);
	sp_worker_event(c->worker, &event);
}

void
sp_collect_start(struct sp_worker *worker, const Sallyport__Collect *collect)
{
	struct sp_collection *c = sp_xcalloc(1, sizeof(*c));
	int rc;

	SP_ASSERT(worker->collection == NULL);
	c->worker = worker;
	c->dry_run = collect->dry_run;
	c->awaited = collect->awaited;
	sp_lease_init(&c->lease, collect->id, "", worker->state_dir, -1);
	worker->collection = c;
	sp_log_info(NULL, "collection %s begins%s", c->lease.id, c->dry_run ? ", a dry run" : "");
	rc = uv_thread_create(&c->thread, collect_thread, c);
	if (rc == 0)
		return;
	c->code = sp_err_set(&c->err, SP_E_NO_MEMORY, "cannot start a thread: %s", uv_strerror(rc));
	swept(c);
}

void
sp_collect_halt(struct sp_worker *worker)
{
	if (worker->collection != NULL)
		sp_lease_cancel(&worker->collection->lease);
}

int
sp_collect_runs(const struct sp_worker *worker)
{
	return worker->collection != NULL && !worker->collection->joined;
}

void
sp_collect_finish(struct sp_worker *worker)
{
	struct sp_collection *c = worker->collection;
	int finished;

	if (!sp_collect_runs(worker))
		return;
	pthread_mutex_lock(&worker->lock);
	finished = c->finished;
	pthread_mutex_unlock(&worker->lock);
	if (!finished)
		return;
	uv_thread_join(&c->thread);
	swept(c);
	sp_worker_settle(worker);
}

int
sp_collect_read(struct sp_worker *worker, struct sp_lease_report *report)
{
	if (!sp_collect_runs(worker))
		return 0;
	sp_lease_read(&worker->collection->lease, report);
	report->progress.running = 1;
	return 1;
}

static void
send_collected(struct sp_worker *worker, Sallyport__Collected *body, uint64_t seq)
{
	Sallyport__Envelope envelope;
	struct sp_err err;
	enum sp_code code;

	sallyport__envelope__init(&envelope);
	envelope.body_case = SALLYPORT__ENVELOPE__BODY_COLLECTED;
	envelope.collected = body;
	code = sp_bus_send(worker, &envelope, seq, &err);
	/* not sent: it is said again */
	if (code != SP_OK && code != SP_E_UNREACHABLE)
		sp_log_error(NULL, "%s", err.msg);
}

void
sp_collect_report(struct sp_worker *worker, uint64_t seq)
{
	const struct sp_collection *c = worker->collection;
	char *id = sp_xstrdup(c->lease.id), *message = NULL;
	char *code = sp_xstrdup(c->code == SP_OK ? "" : sp_err_word(c->code));
	Sallyport__Collected body;

	sallyport__collected__init(&body);
	body.id = id;
	body.code = code;
	body.message = message =
	    c->code == SP_OK ? sp_xstrdup("") : sp_result_clean(c->err.msg, SP_BUS_TEXT_MAX);
	body.kept = c->counts.kept;
	body.kept_bytes = c->counts.kept_bytes;
	body.removed = c->counts.removed;
	body.removed_bytes = c->counts.removed_bytes;
	body.leftovers = c->leftovers;
	send_collected(worker, &body, seq);
	free(id);
	free(code);
	free(message);
}

void
sp_collect_busy(struct sp_worker *worker, const char *id, uint64_t seq)
{
	char *copy = sp_xstrdup(id), *code = sp_xstrdup(sp_err_word(SP_E_STATE));
	char *message = sp_xasprintf("at work on %zu step%s: collect it when that is over",
	    worker->state.lease_count, worker->state.lease_count == 1 ? "" : "s");
	Sallyport__Collected body;

	sallyport__collected__init(&body);
	body.id = copy;
	body.code = code;
	body.message = message;
	send_collected(worker, &body, seq);
	free(copy);
	free(code);
	free(message);
}

void
sp_collect_clear(struct sp_worker *worker)
{
	struct sp_collection *c = worker->collection;

	if (c == NULL)
		return;
	SP_ASSERT(c->joined);
	worker->collection = NULL;
	sp_lease_destroy(&c->lease);
	free(c);
}
