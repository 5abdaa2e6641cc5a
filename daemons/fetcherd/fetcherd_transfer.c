/* fetcherd_transfer.c -- connections: each takes what the plan has for it, until all is there. */
#include "fetcherd/fetcherd_transfer.h"
#include "base/file.h"
#include "base/time.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TICK_MS 100  /* how often whoever waits looks whether it was cancelled */
#define FILES_MS 200 /* between two looks at the files under way */

/* --- what all share -----------------------------------------------------------------------------
 */

int
fetcherd_transfer_stopped(struct fetcherd_transfer *t)
{
	return atomic_load_explicit(&t->stop, memory_order_relaxed) ||
	       (t->d->cancelled != NULL && t->d->cancelled(t->d->ctx));
}

static int
is_stopped(void *ctx)
{
	return fetcherd_transfer_stopped(ctx);
}

void
fetcherd_transfer_fail(struct fetcherd_transfer *t, enum sp_code code, const struct sp_err *err)
{
	pthread_mutex_lock(&t->lock);
	if (t->code == SP_OK) {
		t->code = code;
		t->err = *err;
	}
	atomic_store(&t->stop, 1);
	pthread_cond_broadcast(&t->changed);
	pthread_cond_broadcast(&t->dirty);
	pthread_cond_broadcast(&t->ready);
	pthread_mutex_unlock(&t->lock);
}

void
fetcherd_transfer_wait(struct fetcherd_transfer *t, pthread_cond_t *cond, int64_t ms)
{
	struct timespec until = sp_time_cond_until(ms);

	pthread_cond_timedwait(cond, &t->lock, &until);
}

void
fetcherd_transfer_count(struct fetcherd_transfer *t, int64_t bytes)
{
	atomic_fetch_add(&t->done, (uint64_t)bytes);
}

/* One of the threads does it, when it is time. */
static void
tell_files(struct fetcherd_transfer *t)
{
	int64_t now_ms = sp_time_monotonic_ms(), last_ms = atomic_load(&t->files_ms);
	struct sp_lease_file files[FETCHERD_OPEN_MAX];
	size_t count;

	if (now_ms - last_ms < FILES_MS ||
	    !atomic_compare_exchange_strong(&t->files_ms, &last_ms, now_ms))
		return;
	pthread_mutex_lock(&t->lock);
	for (count = 0; count < t->plan.open_count; count++)
		files[count] = (struct sp_lease_file){
		    .path = t->d->listing->files[t->plan.open[count]->file].path,
		    .done = t->plan.open[count]->there.bytes,
		    .total = t->plan.open[count]->size};
	pthread_mutex_unlock(&t->lock);
	t->d->files(t->d->ctx, files, count);
}

void
fetcherd_transfer_progress(struct fetcherd_transfer *t)
{
	if (t->d->files != NULL)
		tell_files(t);
	if (t->d->progress != NULL)
		t->d->progress(t->d->ctx, atomic_load(&t->done), t->d->listing->bytes);
}

enum sp_code
fetcherd_transfer_pace(struct fetcherd_transfer *t, size_t len, struct sp_err *err)
{
	int64_t now_ns, when_ns;
	struct timespec nap;

	if (t->d->rate_bytes_per_s == 0)
		return SP_OK;
	now_ns = sp_time_monotonic_ns();
	pthread_mutex_lock(&t->lock);
	when_ns = sp_pace_take(&t->pace, now_ns, len);
	pthread_mutex_unlock(&t->lock);
	while (now_ns < when_ns) {
		if (fetcherd_transfer_stopped(t))
			return sp_err_set(err, SP_E_CANCELLED, "cancelled");
		nap.tv_sec = 0;
		nap.tv_nsec =
		    when_ns - now_ns < TICK_MS * 1000000L ? when_ns - now_ns : TICK_MS * 1000000L;
		nanosleep(&nap, NULL);
		fetcherd_transfer_progress(t);
		now_ns = sp_time_monotonic_ns();
	}
	return SP_OK;
}

/* One write of one line: a crash cuts only the last. LFS files need none, their digest is in the
 * listing. Not synced: a line that is lost costs one small file fetched again. */
enum sp_code
fetcherd_transfer_note(
    struct fetcherd_transfer *t, size_t i, const struct sp_hex *sha256, struct sp_err *err)
{
	const struct sp_answer_file *file = &t->d->listing->files[i];
	char line[128];
	int len;

	if (file->lfs)
		return SP_OK;
	len = snprintf(line, sizeof(line), "%s %s\n", file->oid.s, sha256->s);
	return sp_file_write_all(t->journal_fd, line, (size_t)len, err);
}

/* --- small files --------------------------------------------------------------------------------
 */

struct small {
	struct fetcherd_connection *c;
	struct sp_store_writer *writer;
	uint64_t got;
};

static enum sp_code
to_store(void *ctx, const void *data, size_t len, struct sp_err *err)
{
	struct small *s = ctx;
	struct fetcherd_transfer *t = s->c->transfer;
	enum sp_code code = fetcherd_transfer_pace(t, len, err);

	if (code == SP_OK)
		code = sp_store_write(s->writer, data, len, err);
	if (code != SP_OK)
		return code;
	s->got += len;
	fetcherd_transfer_count(t, (int64_t)len);
	fetcherd_transfer_progress(t);
	return SP_OK;
}

static enum sp_code
store_small(struct small *s, size_t i, struct sp_hex *sha256, struct sp_err *err)
{
	struct fetcherd_transfer *t = s->c->transfer;
	const struct sp_answer_file *file = &t->d->listing->files[i];
	enum sp_code code;

	code = sp_store_begin(t->d->store, &s->writer, err);
	if (code != SP_OK)
		return code;
	code = sp_client_file(s->c->client, t->d->repo, t->d->commit, file, to_store, s, err);
	if (code != SP_OK) {
		sp_store_abort(&s->writer);
		return code;
	}
	code = sp_store_commit(&s->writer, file->lfs ? file->sha256.s : NULL, sha256, err);
	if (code == SP_OK)
		code = fetcherd_transfer_note(t, i, sha256, err);
	if (code != SP_OK && err != NULL)
		sp_err_prefix(err, "%s", file->path);
	return code;
}

/* Under the lock: when to try again a file that has failed; 0: never. */
static int
try_again(struct fetcherd_connection *c, size_t file, enum sp_code code)
{
	struct fetcherd_plan *plan = &c->transfer->plan;
	int64_t now_ms = sp_time_monotonic_ms(), delay_ms = 0;

	if (code == SP_E_CORRUPT) {
		if (!fetcherd_plan_corrupt(plan, file, NULL))
			return 0;
	} else if (code == SP_E_UNREACHABLE || code == SP_E_TIMEOUT) {
		delay_ms = fetcherd_plan_failed(plan, file, 0, sp_client_hint_ms(c->client), now_ms,
		    (uint32_t)sp_time_monotonic_ns());
	} else {
		return 0;
	}
	if (delay_ms >= 0)
		fetcherd_plan_give_back(plan, file, now_ms, delay_ms);
	return delay_ms >= 0;
}

static void
get_small(struct fetcherd_connection *c, size_t i)
{
	struct fetcherd_transfer *t = c->transfer;
	struct small s = {.c = c};
	struct sp_hex sha256;
	struct sp_err err;
	enum sp_code code;
	int over;

	code = store_small(&s, i, &sha256, &err);
	pthread_mutex_lock(&t->lock);
	if (code == SP_OK) {
		t->sha256[i] = sha256;
		fetcherd_plan_done(&t->plan, i);
	} else {
		fetcherd_transfer_count(t, -(int64_t)s.got);
	}
	over = code != SP_OK && !try_again(c, i, code);
	pthread_cond_broadcast(&t->changed);
	pthread_mutex_unlock(&t->lock);
	if (over)
		fetcherd_transfer_fail(t, code, &err);
}

/* --- connections --------------------------------------------------------------------------------
 */

/* Waits for work. 0: there is none any more. */
static int
choose(struct fetcherd_connection *c)
{
	struct fetcherd_transfer *t = c->transfer;
	const struct fetcherd_large *mine = c->item.large;
	int64_t now_ms, ms;

	for (;;) {
		pthread_mutex_lock(&t->lock);
		now_ms = sp_time_monotonic_ms();
		fetcherd_plan_choose(&t->plan, mine, c->part_bytes, now_ms, &c->item);
		if (c->item.kind == FETCHERD_WORK_NONE) {
			ms = c->item.until_ms - now_ms;
			fetcherd_transfer_wait(
			    t, &t->changed, ms < TICK_MS ? (ms > 0 ? ms : 1) : TICK_MS);
		}
		pthread_mutex_unlock(&t->lock);
		if (fetcherd_transfer_stopped(t) || c->item.kind == FETCHERD_WORK_END)
			return 0;
		if (c->item.kind != FETCHERD_WORK_NONE)
			return 1;
		fetcherd_transfer_progress(t);
	}
}

static void *
connection_run(void *ctx)
{
	struct fetcherd_connection *c = ctx;
	struct fetcherd_transfer *t = c->transfer;
	struct sp_err err;
	enum sp_code code = sp_client_new(&t->hub, &c->client, &err);

	if (code != SP_OK)
		fetcherd_transfer_fail(t, code, &err);
	while (code == SP_OK && choose(c)) {
		if (c->item.kind == FETCHERD_WORK_SMALL)
			get_small(c, c->item.file);
		else if (c->item.kind == FETCHERD_WORK_OPEN)
			fetcherd_large_open(c, c->item.file);
		else
			fetcherd_large_get(c);
	}
	/* a part that was given out, and then everything stopped, goes with all of it */
	if (fetcherd_transfer_stopped(t)) {
		err.code = SP_E_CANCELLED;
		snprintf(err.msg, sizeof(err.msg), "cancelled");
		fetcherd_transfer_fail(t, SP_E_CANCELLED, &err);
	}
	sp_client_free(&c->client);
	return NULL;
}

/* --- all of them --------------------------------------------------------------------------------
 */

static void
init(struct fetcherd_transfer *t)
{
	SP_ASSERT(pthread_mutex_init(&t->lock, NULL) == 0);
	sp_time_cond_init(&t->changed);
	sp_time_cond_init(&t->dirty);
	sp_time_cond_init(&t->ready);
	/* a rate is kept over a fifth of a second */
	if (t->d->rate_bytes_per_s > 0)
		sp_pace_init(&t->pace, t->d->rate_bytes_per_s, t->d->rate_bytes_per_s / 5,
		    sp_time_monotonic_ns());
}

static void
clear(struct fetcherd_transfer *t)
{
	for (unsigned i = 0; i < t->connection_count; i++)
		free(t->connections[i].buf);
	fetcherd_plan_clear(&t->plan);
	pthread_cond_destroy(&t->changed);
	pthread_cond_destroy(&t->dirty);
	pthread_cond_destroy(&t->ready);
	pthread_mutex_destroy(&t->lock);
}

/* More connections than files are of use only to large ones. */
static unsigned
useful_connections(const struct fetcherd_transfer *t)
{
	const struct sp_answer_tree *list = t->d->listing;
	unsigned n =
	    t->d->parallel < FETCHERD_CONNECTIONS_MAX ? t->d->parallel : FETCHERD_CONNECTIONS_MAX;
	unsigned useful = 0;

	for (size_t i = 0; i < list->count && useful < n; i++)
		if (t->sha256[i].s[0] == '\0')
			useful += list->files[i].size > FETCHERD_SMALL_MAX ? n : 1;
	return useful < n ? useful : n;
}

static unsigned
start(pthread_t *threads, unsigned wanted, void *(*run)(void *), void *ctx)
{
	unsigned n = 0;

	while (n < wanted && pthread_create(&threads[n], NULL, run, ctx) == 0)
		n++;
	return n;
}

static unsigned
caretakers(void)
{
	long processors = sysconf(_SC_NPROCESSORS_ONLN);

	if (processors < 1 || processors > FETCHERD_CARETAKERS_MAX)
		return FETCHERD_CARETAKERS_MAX;
	return (unsigned)processors;
}

static void
run_threads(struct fetcherd_transfer *t)
{
	pthread_t syncing[FETCHERD_SYNCERS], carers[FETCHERD_CARETAKERS_MAX];
	unsigned wanted = t->connection_count, helpers, syncers, n;
	struct sp_err err;

	syncers = start(syncing, FETCHERD_SYNCERS, fetcherd_large_sync, t);
	helpers = start(carers, caretakers(), fetcherd_large_care, t);
	for (n = 0; n < wanted; n++)
		if (start(&t->connections[n].thread, 1, connection_run, &t->connections[n]) == 0)
			break;
	if (syncers == 0 || helpers == 0 || n == 0) {
		sp_err_set(&err, SP_E_NO_MEMORY, "the system gives no threads to download with");
		fetcherd_transfer_fail(t, SP_E_NO_MEMORY, &err);
	}
	while (n > 0)
		pthread_join(t->connections[--n].thread, NULL);
	pthread_mutex_lock(&t->lock);
	t->ended = 1;
	pthread_cond_broadcast(&t->dirty);
	pthread_cond_broadcast(&t->ready);
	pthread_mutex_unlock(&t->lock);
	while (helpers > 0)
		pthread_join(carers[--helpers], NULL);
	while (syncers > 0)
		pthread_join(syncing[--syncers], NULL);
}

enum sp_code
fetcherd_transfer_run(const struct fetcherd_download *d, struct sp_hex *sha256, int journal_fd,
    uint64_t done, struct sp_err *err)
{
	struct fetcherd_transfer *t = sp_xcalloc(1, sizeof(*t));
	enum sp_code code = SP_OK;

	t->d = d;
	t->hub = *d->hub;
	t->hub.cancelled = is_stopped;
	t->hub.ctx = t;
	t->sha256 = sha256;
	t->journal_fd = journal_fd;
	atomic_init(&t->done, done);
	init(t);
	t->connection_count = useful_connections(t);
	fetcherd_plan_init(&t->plan, d->listing, t->connection_count,
	    t->connection_count > 0 ? t->connection_count : 1, d->backoff_ms);
	for (size_t i = 0; i < d->listing->count; i++)
		if (sha256[i].s[0] != '\0')
			fetcherd_plan_done(&t->plan, i);
	for (unsigned i = 0; i < t->connection_count; i++) {
		t->connections[i].transfer = t;
		t->connections[i].part_bytes = FETCHERD_PART_MIN;
	}
	fetcherd_transfer_progress(t);
	if (t->connection_count > 0)
		run_threads(t);
	fetcherd_large_leave(t);
	if (t->code != SP_OK)
		code = sp_err_set(err, t->code, "%s", t->err.msg);
	clear(t);
	free(t);
	return code;
}
