/* fetcherd_large.c -- large files: parts of them in, hashed behind, synced, turned into blobs. */
#include "base/time.h"
#include "fetcherd/fetcherd_transfer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUFFER ((size_t)256 << 10)
/* Of a connection, not synced: the most, and when a sync is due. What is on its way from the hub,
 * in the buffers of the network, comes on top: together less than the 8 MiB that a crash may cost.
 */
#define UNSYNCED_MAX ((uint64_t)6 << 20)
#define SYNC_STEP ((uint64_t)3 << 20)
#define SYNC_EVERY_MS 1000
#define HASH_CHUNK ((size_t)256 << 10)
#define HASH_RUN ((uint64_t)8 << 20) /* hashed before others are looked at */
#define BUSY_MS 300		     /* when a part that another has is looked at again */
#define TICK_MS 100

void
fetcherd_large_name(const struct sp_answer_file *file, char name[SP_PART_NAME_MAX + 1])
{
	if (file->lfs)
		snprintf(name, SP_PART_NAME_MAX + 1, "%s", file->sha256.s);
	else
		snprintf(name, SP_PART_NAME_MAX + 1, "git-%s", file->oid.s);
}

static const struct sp_answer_file *
file_of(const struct fetcherd_transfer *t, const struct fetcherd_large *large)
{
	return &t->d->listing->files[large->file];
}

/* --- opening ------------------------------------------------------------------------------------
 */

static void
start_hash(struct fetcherd_large_io *io, const struct sp_answer_file *file)
{
	sp_hash_free(&io->sha256);
	sp_hash_free(&io->oid);
	io->sha256 = sp_hash_new(SP_SHA256);
	if (!file->lfs)
		io->oid = sp_git_blob_new(file->size);
	io->hashed = 0;
}

static void
free_io(struct fetcherd_large_io *io)
{
	sp_part_close(&io->part);
	sp_client_target_free(&io->target);
	sp_hash_free(&io->sha256);
	sp_hash_free(&io->oid);
	free(io);
}

/* 1: the store has it, since another file of the same content, or another process, was here. */
static int
find_blob(struct fetcherd_transfer *t, size_t i)
{
	const struct sp_answer_file *file = &t->d->listing->files[i];
	uint64_t size;

	if (!file->lfs || !sp_store_claim(t->d->store, file->sha256.s, &size) || size != file->size)
		return 0;
	pthread_mutex_lock(&t->lock);
	t->sha256[i] = file->sha256;
	fetcherd_plan_done(&t->plan, i);
	fetcherd_transfer_count(t, (int64_t)file->size);
	pthread_cond_broadcast(&t->changed);
	pthread_mutex_unlock(&t->lock);
	return 1;
}

void
fetcherd_large_open(struct fetcherd_connection *c, size_t i)
{
	struct fetcherd_transfer *t = c->transfer;
	const struct sp_answer_file *file = &t->d->listing->files[i];
	struct fetcherd_large_io *io;
	char name[SP_PART_NAME_MAX + 1];
	struct sp_part *part = NULL;
	struct sp_ranges has = {0};
	struct sp_err err;
	enum sp_code code;

	fetcherd_large_name(file, name);
	code = sp_part_open(t->d->store, name, file->size, &part, &has, &err);
	/* looked at while the part is ours, or another's: whoever had it may have made the blob */
	if (find_blob(t, i)) {
		if (part != NULL)
			sp_part_drop(&part);
		sp_ranges_clear(&has);
		return;
	}
	if (code != SP_OK && code != SP_E_STATE) {
		fetcherd_transfer_fail(t, code, &err);
		return;
	}
	pthread_mutex_lock(&t->lock);
	if (code == SP_E_STATE) {
		fetcherd_plan_give_back(&t->plan, i, sp_time_monotonic_ms(), BUSY_MS);
	} else {
		io = sp_xcalloc(1, sizeof(*io));
		io->part = part;
		io->target = sp_client_target_new();
		start_hash(io, file);
		fetcherd_transfer_count(t, (int64_t)has.bytes);
		fetcherd_plan_opened(&t->plan, i, &has)->io = io;
		pthread_cond_broadcast(&t->changed);
		pthread_cond_broadcast(&t->ready);
	}
	pthread_mutex_unlock(&t->lock);
}

/* --- what there is to do for a file behind its connections -------------------------------------
 */

enum chore { NOTHING, HASH, FINISH, RENEW };

static enum chore
chore_of(const struct fetcherd_large *large)
{
	const struct fetcherd_large_io *io = large->io;

	if (io->hashing || io->closing)
		return NOTHING;
	if (large->is_void)
		return large->connections == 0 && !io->syncing ? RENEW : NOTHING;
	/* only when the map claims all of it: a crash while it becomes a blob costs nothing then */
	if (fetcherd_plan_is_complete(large) && io->hashed == large->size)
		return large->connections == 0 && !io->syncing && large->pending.count == 0
			   ? FINISH
			   : NOTHING;
	/* a connection at the frontier hashes itself; a little behind it none is waited for */
	if (fetcherd_plan_frontier(large) >
	    io->hashed + (fetcherd_plan_is_complete(large) ? 0 : 2 * HASH_CHUNK))
		return HASH;
	return NOTHING;
}

/* --- a connection's part ------------------------------------------------------------------------
 */

/* Hashes what was just written, while it is in the processor's cache, when it is its turn. */
static void
hash_here(struct fetcherd_connection *c, uint64_t from, size_t len)
{
	struct fetcherd_transfer *t = c->transfer;
	struct fetcherd_large_io *io = c->item.large->io;

	sp_hash_add(io->sha256, c->buf, len);
	if (io->oid != NULL)
		sp_hash_add(io->oid, c->buf, len);
	pthread_mutex_lock(&t->lock);
	io->hashing = 0;
	io->hashed = from + len;
	pthread_cond_signal(&t->ready);
	pthread_mutex_unlock(&t->lock);
}

/* Waits until a buffer more may be without a sync. */
static enum sp_code
await_room(struct fetcherd_connection *c, struct sp_err *err)
{
	struct fetcherd_transfer *t = c->transfer;
	int stopped = 0;

	if (c->unsynced_seen + BUFFER <= UNSYNCED_MAX)
		return SP_OK;
	pthread_mutex_lock(&t->lock);
	while (c->unsynced + BUFFER > UNSYNCED_MAX && !stopped) {
		pthread_cond_signal(&t->dirty);
		fetcherd_transfer_wait(t, &t->changed, TICK_MS);
		stopped = fetcherd_transfer_stopped(t);
	}
	pthread_mutex_unlock(&t->lock);
	return stopped ? sp_err_set(err, SP_E_CANCELLED, "cancelled") : SP_OK;
}

static enum sp_code
flush(struct fetcherd_connection *c, struct sp_err *err)
{
	struct fetcherd_transfer *t = c->transfer;
	struct fetcherd_large_io *io = c->item.large->io;
	uint64_t from = c->at, to = c->at + c->fill;
	enum sp_code code;
	int current, here;

	if (c->fill == 0)
		return SP_OK;
	code = sp_part_write(io->part, from, c->buf, c->fill, err);
	if (code != SP_OK)
		return code;
	pthread_mutex_lock(&t->lock);
	io->unsynced[c - t->connections] += (uint32_t)c->fill;
	c->unsynced_seen = c->unsynced += c->fill;
	current = fetcherd_plan_wrote(c->item.large, c->item.generation, from, to);
	here = current && !io->hashing && !io->closing && io->hashed == from;
	if (here)
		io->hashing = 1;
	if (current)
		fetcherd_transfer_count(t, (int64_t)c->fill);
	if ((io->unsynced[c - t->connections] >= SYNC_STEP ||
		fetcherd_plan_is_complete(c->item.large)) &&
	    !io->syncing)
		pthread_cond_signal(&t->dirty);
	if (!here && chore_of(c->item.large) != NOTHING)
		pthread_cond_signal(&t->ready);
	pthread_mutex_unlock(&t->lock);
	if (!current) {
		c->is_stale = 1;
		return sp_err_set(err, SP_E_CANCELLED, "begun anew");
	}
	if (here)
		hash_here(c, from, c->fill);
	c->at = to;
	c->got += c->fill;
	c->fill = 0;
	fetcherd_transfer_progress(t);
	return await_room(c, err);
}

static enum sp_code
on_bytes(void *ctx, const void *data, size_t len, struct sp_err *err)
{
	struct fetcherd_connection *c = ctx;
	const uint8_t *p = data;
	enum sp_code code;
	size_t n;

	code = fetcherd_transfer_pace(c->transfer, len, err);
	for (; code == SP_OK && len > 0; p += n, len -= n) {
		n = len < BUFFER - c->fill ? len : BUFFER - c->fill;
		memcpy(c->buf + c->fill, p, n);
		c->fill += n;
		if (c->fill == BUFFER)
			code = flush(c, err);
	}
	return code;
}

static enum sp_code
on_begin(void *ctx, int whole, struct sp_err *err)
{
	struct fetcherd_connection *c = ctx;
	struct fetcherd_transfer *t = c->transfer;
	int taken = 1;

	if (!whole)
		return SP_OK;
	pthread_mutex_lock(&t->lock);
	taken = fetcherd_plan_whole(c->item.large, c->item.generation);
	pthread_mutex_unlock(&t->lock);
	if (taken) {
		c->at = c->item.part.from = 0;
		c->item.part.to = c->item.large->size;
		return SP_OK;
	}
	c->is_stale = 1;
	return sp_err_set(err, SP_E_CANCELLED, "begun anew in one piece");
}

/* Under the lock, after a part has ended: 0 when all of the download has failed with it. */
static int
go_on(struct fetcherd_connection *c, enum sp_code code)
{
	struct fetcherd_transfer *t = c->transfer;
	struct fetcherd_large *large = c->item.large;

	if (code == SP_OK || c->is_stale || large->is_void)
		return 1;
	if (code == SP_E_CORRUPT)
		return fetcherd_plan_corrupt(&t->plan, large->file, large);
	if (code != SP_E_UNREACHABLE && code != SP_E_TIMEOUT)
		return 0;
	return fetcherd_plan_failed(&t->plan, large->file, large->whole ? 0 : c->got,
		   sp_client_hint_ms(c->client), sp_time_monotonic_ms(),
		   (uint32_t)sp_time_monotonic_ns()) >= 0;
}

void
fetcherd_large_get(struct fetcherd_connection *c)
{
	struct fetcherd_transfer *t = c->transfer;
	struct fetcherd_large *large = c->item.large;
	struct fetcherd_large_io *io = large->io;
	const struct sp_client_taker taker = {on_begin, on_bytes, c};
	int64_t began_ms = sp_time_monotonic_ms();
	struct sp_err err, ignored;
	enum sp_code code;
	int fine;

	if (c->buf == NULL)
		c->buf = sp_xrealloc(NULL, BUFFER, 1);
	c->at = c->item.part.from;
	c->got = c->fill = 0;
	c->is_stale = 0;
	code = sp_client_part(c->client, t->d->repo, t->d->commit, file_of(t, large), io->target,
	    c->at, c->item.part.to - c->at, &taker, &err);
	/* what came before a connection broke is kept */
	if (code == SP_OK)
		code = flush(c, &err);
	else if (code == SP_E_UNREACHABLE || code == SP_E_TIMEOUT)
		(void)!flush(c, &ignored);
	if (code == SP_OK)
		c->part_bytes = fetcherd_plan_part_bytes(
		    c->got, sp_time_monotonic_ms() - began_ms, sp_client_latency_ms(c->client));
	pthread_mutex_lock(&t->lock);
	fine = go_on(c, code);
	fetcherd_plan_release(large, c->item.generation, c->at, c->item.part.to);
	pthread_cond_broadcast(&t->changed);
	pthread_cond_broadcast(&t->ready);
	pthread_mutex_unlock(&t->lock);
	if (!fine)
		fetcherd_transfer_fail(t, code, &err);
}

/* --- syncing ------------------------------------------------------------------------------------
 */

/* Under the lock: the file that is most in need of a sync, if any is. */
static struct fetcherd_large *
pick_dirty(struct fetcherd_transfer *t, int64_t now_ms)
{
	struct fetcherd_large *best = NULL;
	uint32_t most = 0;

	for (size_t i = 0; i < t->plan.open_count; i++) {
		struct fetcherd_large *large = t->plan.open[i];
		struct fetcherd_large_io *io = large->io;
		uint32_t mine = 0;

		if (io->syncing || io->closing)
			continue;
		for (unsigned c = 0; c < t->connection_count; c++) {
			/* who waits for room may have left it in several files; a whole one waits
			 * for nothing else */
			int full = t->connections[c].unsynced + BUFFER > UNSYNCED_MAX ||
				   fetcherd_plan_is_complete(large);

			if (io->unsynced[c] > mine && (full || io->unsynced[c] >= SYNC_STEP ||
							  now_ms - io->synced_ms >= SYNC_EVERY_MS))
				mine = io->unsynced[c];
		}
		if (mine > most) {
			most = mine;
			best = large;
		}
	}
	return best;
}

/* Under the lock, but not while it syncs. What is worth nothing any more is only counted off. */
static enum sp_code
sync_file(struct fetcherd_transfer *t, struct fetcherd_large *large, struct sp_err *err)
{
	struct fetcherd_large_io *io = large->io;
	struct sp_ranges pending = large->pending;
	uint32_t unsynced[FETCHERD_CONNECTIONS_MAX];
	enum sp_code code = SP_OK;

	memcpy(unsynced, io->unsynced, sizeof(unsynced));
	memset(io->unsynced, 0, sizeof(io->unsynced));
	memset(&large->pending, 0, sizeof(large->pending));
	io->syncing = 1;
	io->synced_ms = sp_time_monotonic_ms();
	if (!large->is_void) {
		pthread_mutex_unlock(&t->lock);
		code = sp_part_sync(io->part, &pending, err);
		pthread_mutex_lock(&t->lock);
	}
	sp_ranges_clear(&pending);
	io->syncing = 0;
	for (unsigned c = 0; c < t->connection_count; c++)
		t->connections[c].unsynced -= unsynced[c];
	pthread_cond_broadcast(&t->changed);
	pthread_cond_broadcast(&t->ready);
	return code;
}

void *
fetcherd_large_sync(void *ctx)
{
	struct fetcherd_transfer *t = ctx;
	struct fetcherd_large *large;
	enum sp_code code = SP_OK;
	struct sp_err err;

	pthread_mutex_lock(&t->lock);
	while (code == SP_OK && !t->ended) {
		large = pick_dirty(t, sp_time_monotonic_ms());
		if (large != NULL)
			code = sync_file(t, large, &err);
		else
			fetcherd_transfer_wait(t, &t->dirty, SYNC_EVERY_MS);
	}
	pthread_mutex_unlock(&t->lock);
	if (code != SP_OK)
		fetcherd_transfer_fail(t, code, &err);
	return NULL;
}

/* --- caretakers ---------------------------------------------------------------------------------
 */

/* Hashes what is there behind hashed, read back from the page cache (or the disk, after a restart).
 */
static enum sp_code
hash_run(struct fetcherd_transfer *t, struct fetcherd_large_io *io, uint64_t from, uint64_t to,
    uint8_t *buf, struct sp_err *err)
{
	enum sp_code code = SP_OK;
	size_t n;

	for (; code == SP_OK && from < to && !fetcherd_transfer_stopped(t); from += n) {
		n = to - from < HASH_CHUNK ? (size_t)(to - from) : HASH_CHUNK;
		code = sp_part_read(io->part, from, buf, n, err);
		if (code != SP_OK)
			break;
		sp_hash_add(io->sha256, buf, n);
		if (io->oid != NULL)
			sp_hash_add(io->oid, buf, n);
	}
	return code;
}

static enum sp_code
check_hash(const struct fetcherd_transfer *t, const struct fetcherd_large *large,
    struct sp_hex *sha256, struct sp_err *err)
{
	const struct sp_answer_file *file = file_of(t, large);
	struct fetcherd_large_io *io = large->io;
	struct sp_git_oid oid;

	*sha256 = sp_hash_finish_hex(io->sha256);
	if (file->lfs && strcmp(sha256->s, file->sha256.s) != 0)
		return sp_err_set(err, SP_E_CORRUPT,
		    "%s@%.12s: %s: has SHA-256 %s, the listing says %s", t->d->repo, t->d->commit,
		    file->path, sha256->s, file->sha256.s);
	if (file->lfs)
		return SP_OK;
	oid = sp_git_blob_finish(io->oid);
	if (strcmp(oid.s, file->oid.s) != 0)
		return sp_err_set(err, SP_E_CORRUPT,
		    "%s@%.12s: %s: is git blob %s, the listing says %s", t->d->repo, t->d->commit,
		    file->path, oid.s, file->oid.s);
	return SP_OK;
}

/* Under the lock: what is not synced of a file that is whole, or worth nothing, is nobody's any
 * more.
 */
static void
let_off(struct fetcherd_transfer *t, struct fetcherd_large_io *io)
{
	for (unsigned c = 0; c < t->connection_count; c++)
		t->connections[c].unsynced -= io->unsynced[c];
	memset(io->unsynced, 0, sizeof(io->unsynced));
}

/* Under the lock: all of it is there and hashed. */
static enum sp_code
finish(struct fetcherd_transfer *t, struct fetcherd_large *large, struct sp_err *err)
{
	struct fetcherd_large_io *io = large->io;
	struct sp_hex sha256;
	enum sp_code code;

	io->closing = 1;
	code = check_hash(t, large, &sha256, err);
	if (code != SP_OK) {
		io->closing = 0;
		return fetcherd_plan_corrupt(&t->plan, large->file, large) ? SP_OK : code;
	}
	pthread_mutex_unlock(&t->lock);
	code = sp_part_publish(&io->part, sha256.s, err);
	if (code == SP_OK)
		code = fetcherd_transfer_note(t, large->file, &sha256, err);
	if (code != SP_OK)
		sp_err_prefix(err, "%s", file_of(t, large)->path);
	else if (t->d->stored != NULL)
		t->d->stored(t->d->ctx, sha256.s);
	pthread_mutex_lock(&t->lock);
	if (code != SP_OK)
		return code;
	t->sha256[large->file] = sha256;
	let_off(t, io);
	free_io(io);
	fetcherd_plan_close(&t->plan, large);
	pthread_cond_broadcast(&t->changed);
	return SP_OK;
}

/* Under the lock: what is there is worth nothing, and nobody has it any more. */
static enum sp_code
renew(struct fetcherd_transfer *t, struct fetcherd_large *large, struct sp_err *err)
{
	struct fetcherd_large_io *io = large->io;
	enum sp_code code;

	io->closing = 1;
	pthread_mutex_unlock(&t->lock);
	code = sp_part_reset(io->part, err);
	pthread_mutex_lock(&t->lock);
	io->closing = 0;
	sp_client_target_free(&io->target);
	io->target = sp_client_target_new();
	start_hash(io, file_of(t, large));
	let_off(t, io);
	fetcherd_transfer_count(t, -(int64_t)large->there.bytes);
	fetcherd_plan_renew(large);
	pthread_cond_broadcast(&t->changed);
	return code;
}

/* Under the lock: one chore; *any is 0 when there was none. */
static enum sp_code
care(struct fetcherd_transfer *t, uint8_t *buf, int *any, struct sp_err *err)
{
	struct fetcherd_large *large = NULL;
	struct fetcherd_large_io *io;
	enum chore chore = NOTHING;
	enum sp_code code;
	uint64_t from, to;

	for (size_t i = 0; chore == NOTHING && i < t->plan.open_count; i++) {
		large = t->plan.open[i];
		chore = chore_of(large);
	}
	*any = chore != NOTHING;
	if (chore == NOTHING)
		return SP_OK;
	if (chore == FINISH)
		return finish(t, large, err);
	if (chore == RENEW)
		return renew(t, large, err);
	io = large->io;
	io->hashing = 1;
	from = io->hashed;
	to = fetcherd_plan_frontier(large);
	to = to > from + HASH_RUN ? from + HASH_RUN : to;
	pthread_mutex_unlock(&t->lock);
	code = hash_run(t, io, from, to, buf, err);
	fetcherd_transfer_progress(t);
	pthread_mutex_lock(&t->lock);
	io->hashing = 0;
	io->hashed = to;
	return code;
}

void *
fetcherd_large_care(void *ctx)
{
	struct fetcherd_transfer *t = ctx;
	uint8_t *buf = sp_xrealloc(NULL, HASH_CHUNK, 1);
	enum sp_code code = SP_OK;
	struct sp_err err;
	int any;

	pthread_mutex_lock(&t->lock);
	while (code == SP_OK && !t->ended && !fetcherd_transfer_stopped(t)) {
		code = care(t, buf, &any, &err);
		if (code == SP_OK && !any)
			fetcherd_transfer_wait(t, &t->ready, TICK_MS);
	}
	pthread_mutex_unlock(&t->lock);
	if (code != SP_OK)
		fetcherd_transfer_fail(t, code, &err);
	free(buf);
	return NULL;
}

void
fetcherd_large_leave(struct fetcherd_transfer *t)
{
	struct sp_err ignored;

	for (size_t i = 0; i < t->plan.open_count; i++) {
		struct fetcherd_large *large = t->plan.open[i];
		struct fetcherd_large_io *io = large->io;

		/* a part that could not be published is gone already */
		if (io->part != NULL && large->is_void)
			(void)!sp_part_reset(io->part, &ignored);
		else if (io->part != NULL)
			(void)!sp_part_sync(io->part, &large->pending, &ignored);
		free_io(io);
	}
}
