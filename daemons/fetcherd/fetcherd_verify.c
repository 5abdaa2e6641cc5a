/* fetcherd_verify.c -- the tree that is to be attested, read again in the daemon itself: its files
 * are hashed on as many threads as there are processors, since a signature waits for them. */
#include "base/log.h"
#include "fetcherd/fetcherd.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define THREADS_MAX 8

struct verification {
	struct sp_store *store;
	const struct sp_tree *tree;
	struct fetcherd_early *early;
	struct sp_lease *lease;
	pthread_mutex_t lock;
	size_t next; /* file that nobody has taken yet */
	uint64_t done;
	enum sp_code code; /* of the first failure */
	struct sp_err err;
};

static void
on_bytes(void *ctx, uint64_t bytes)
{
	struct verification *v = ctx;
	uint64_t done;

	pthread_mutex_lock(&v->lock);
	done = v->done += bytes;
	pthread_mutex_unlock(&v->lock);
	sp_lease_progress(v->lease, "verify", done, sp_tree_bytes(v->tree), "bytes");
}

/* A blob that the disk has spoilt is removed, so that the next attempt fetches it. */
static enum sp_code
verify_file(struct verification *v, const struct sp_tree_file *file, struct sp_err *err)
{
	struct sp_err ignored;
	enum sp_code code;
	uint64_t size;

	if (sp_lease_cancelled(v->lease))
		return sp_err_set(err, SP_E_CANCELLED, "cancelled");
	if (v->early != NULL && fetcherd_early_has(v->early, file->sha256.s, &size)) {
		on_bytes(v, size);
		code = SP_OK;
	} else {
		code = sp_store_verify(v->store, file->sha256.s, &size, on_bytes, v, err);
	}
	if (code == SP_E_CORRUPT && sp_store_remove(v->store, file->sha256.s, &ignored) == SP_OK)
		return sp_err_set(err, SP_E_INCOMPLETE,
		    "%s was damaged in the store and is fetched again", file->path);
	if (code == SP_OK && size != file->size)
		code = sp_err_set(err, SP_E_INTERNAL, "%s: size in the tree is wrong", file->path);
	return code;
}

static void *
verify_files(void *ctx)
{
	struct verification *v = ctx;
	enum sp_code code = SP_OK;
	struct sp_err err;
	size_t i;

	for (;;) {
		pthread_mutex_lock(&v->lock);
		if (code != SP_OK && v->code == SP_OK) {
			v->code = code;
			v->err = err;
		}
		i = v->code == SP_OK ? v->next++ : v->tree->count;
		pthread_mutex_unlock(&v->lock);
		if (i >= v->tree->count)
			return NULL;
		code = verify_file(v, &v->tree->files[i], &err);
	}
}

enum sp_code
fetcherd_verify(struct sp_store *store, const struct sp_tree *tree, struct fetcherd_early *early,
    struct sp_lease *lease, struct sp_err *err)
{
	struct verification v = {.store = store, .tree = tree, .early = early, .lease = lease};
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	pthread_t threads[THREADS_MAX];
	int n = 0;

	SP_ASSERT(pthread_mutex_init(&v.lock, NULL) == 0);
	/* this thread is one of them, and the only one where the system gives no other */
	while (n + 1 < processors && n + 1 < THREADS_MAX &&
	       pthread_create(&threads[n], NULL, verify_files, &v) == 0)
		n++;
	verify_files(&v);
	while (n > 0)
		pthread_join(threads[--n], NULL);
	pthread_mutex_destroy(&v.lock);
	return v.code == SP_OK ? SP_OK : sp_err_set(err, v.code, "%s", v.err.msg);
}
