/* fetcherd_early.c -- files that the child has put into the store are verified by the daemon while
 * others are still fetched. Each is held from before its first byte is hashed until the tree is
 * sealed (store/hold.h), and counts then only if it is the same still: the child, which is not
 * believed, lives meanwhile. What cannot be held is verified when the child is gone, as if nobody
 * had looked at it. */
#include "base/log.h"
#include "fetcherd/fetcherd.h"
#include "store/hold.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define HELD_MAX                                                                         \
	256 /* of a lease: each is an open file; the smallest files are never among them \
	     */

struct fetcherd_early {
	const struct sp_store *store;
	const struct sp_lease *lease;
	pthread_t thread;
	int is_running;
	atomic_int stop;
	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t changed;
	int ended; /* nothing more is begun */
	struct early_file {
		struct sp_hex digest;
		enum { WAITS, BUSY, DONE } state;
		struct sp_hold *hold; /* when done; NULL: it could not be held */
	} files[HELD_MAX];
	size_t count, next; /* files before next are busy or done */
};

static int
is_stopped(void *ctx)
{
	struct fetcherd_early *e = ctx;

	return atomic_load(&e->stop) || sp_lease_cancelled(e->lease);
}

static void *
run(void *ctx)
{
	struct fetcherd_early *e = ctx;
	struct early_file *file;
	struct sp_hold *hold;
	struct sp_err err;

	pthread_mutex_lock(&e->lock);
	while (!e->ended) {
		if (e->next == e->count) {
			pthread_cond_wait(&e->changed, &e->lock);
			continue;
		}
		file = &e->files[e->next++];
		file->state = BUSY;
		pthread_mutex_unlock(&e->lock);
		if (sp_hold_take(e->store, file->digest.s, is_stopped, e, &hold, &err) != SP_OK)
			sp_log_debug(NULL, "verified later: %s", err.msg);
		pthread_mutex_lock(&e->lock);
		file->hold = hold;
		file->state = DONE;
		pthread_cond_broadcast(&e->changed);
	}
	pthread_mutex_unlock(&e->lock);
	return NULL;
}

struct fetcherd_early *
fetcherd_early_new(const struct sp_store *store, const struct sp_lease *lease)
{
	struct fetcherd_early *e = sp_xcalloc(1, sizeof(*e));

	e->store = store;
	e->lease = lease;
	atomic_init(&e->stop, 0);
	SP_ASSERT(pthread_mutex_init(&e->lock, NULL) == 0);
	SP_ASSERT(pthread_cond_init(&e->changed, NULL) == 0);
	/* without it all is verified at the end */
	e->is_running = pthread_create(&e->thread, NULL, run, e) == 0;
	return e;
}

/* Under the lock. */
static struct early_file *
find(struct fetcherd_early *e, const char *digest)
{
	for (size_t i = 0; i < e->count; i++)
		if (strcmp(e->files[i].digest.s, digest) == 0)
			return &e->files[i];
	return NULL;
}

void
fetcherd_early_add(struct fetcherd_early *e, const char *digest)
{
	if (!e->is_running || !sp_hex_is_digest(digest))
		return;
	pthread_mutex_lock(&e->lock);
	if (e->count < HELD_MAX && find(e, digest) == NULL) {
		strcpy(e->files[e->count++].digest.s, digest);
		pthread_cond_broadcast(&e->changed);
	}
	pthread_mutex_unlock(&e->lock);
}

void
fetcherd_early_end(struct fetcherd_early *e)
{
	pthread_mutex_lock(&e->lock);
	e->ended = 1;
	pthread_cond_broadcast(&e->changed);
	pthread_mutex_unlock(&e->lock);
}

int
fetcherd_early_has(struct fetcherd_early *e, const char *digest, uint64_t *size)
{
	struct early_file *file;
	int has;

	pthread_mutex_lock(&e->lock);
	file = find(e, digest);
	while (file != NULL && (file->state == BUSY || (file->state == WAITS && !e->ended)))
		pthread_cond_wait(&e->changed, &e->lock);
	has = file != NULL && file->hold != NULL && sp_hold_stands(file->hold, size);
	/* whoever broke it does not wait any longer */
	if (file != NULL && !has)
		sp_hold_drop(&file->hold);
	pthread_mutex_unlock(&e->lock);
	return has;
}

void
fetcherd_early_free(void *early)
{
	struct fetcherd_early *e = early;

	atomic_store(&e->stop, 1);
	fetcherd_early_end(e);
	if (e->is_running)
		pthread_join(e->thread, NULL);
	for (size_t i = 0; i < e->count; i++)
		sp_hold_drop(&e->files[i].hold);
	pthread_cond_destroy(&e->changed);
	pthread_mutex_destroy(&e->lock);
	free(e);
}
