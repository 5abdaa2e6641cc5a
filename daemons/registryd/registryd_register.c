/* registryd_register.c -- the register step, and the snapshot that tells of it. */
#include "base/log.h"
#include "base/path.h"
#include "base/time.h"
#include "bus/paths.h"
#include "registryd.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A release that is being registered. */
struct registering {
	struct registryd *r;
	const Sallyport__Task *task;
	struct sp_lease *lease;
	struct sp_artifact release_artifact, tree_artifact;
	uint8_t *envelope;
	size_t envelope_len;
	struct sp_release *release;
	struct registryd_entry entry;
	uint64_t bytes;
};

/* --- snapshots ----------------------------------------------------------------------------------
 */

enum sp_code
registryd_publish(struct registryd *r, int sign, struct sp_err *err)
{
	enum sp_code code = SP_OK;

	pthread_mutex_lock(&r->snapshot_lock);
	if (sign || r->snapshot == NULL ||
	    sp_time_monotonic_ms() - r->snapshot_ms >= REGISTRYD_RESIGN_MS)
		code = registryd_state_sign(r, err);
	if (code == SP_OK && r->published_version != r->snapshot_version) {
		code = sp_worker_publish(
		    r->worker, "snapshot", r->snapshot, r->snapshot_len, REGISTRYD_PUBLISH_MS, err);
		if (code == SP_OK) {
			r->published_version = r->snapshot_version;
			sp_log_info(NULL, "snapshot %" PRId64 " is published", r->snapshot_version);
		}
	}
	pthread_mutex_unlock(&r->snapshot_lock);
	return code;
}

/* Waits for ms, or until the daemon ends: then 0. */
static int
wait_ms(struct registryd *r, int64_t ms)
{
	struct timespec until = sp_time_cond_until(ms);
	int stopping;

	pthread_mutex_lock(&r->wake_lock);
	while (!r->stopping && pthread_cond_timedwait(&r->wake, &r->wake_lock, &until) == 0)
		;
	stopping = r->stopping;
	pthread_mutex_unlock(&r->wake_lock);
	return !stopping;
}

void *
registryd_publisher(void *ctx)
{
	struct registryd *r = ctx;
	enum sp_code code, last = SP_OK;
	struct sp_err err;

	do {
		code = registryd_publish(r, 0, &err);
		/* once, not every second, while ledgerd is away */
		if (code != SP_OK && code != SP_E_CANCELLED && code != last)
			sp_log_warn(NULL, "the snapshot is not published yet: %s", err.msg);
		last = code;
	} while (wait_ms(r, code == SP_OK ? REGISTRYD_LOOK_MS : REGISTRYD_RETRY_MS));
	return NULL;
}

/* --- register -----------------------------------------------------------------------------------
 */

static enum sp_code
open_other(
    const struct registryd *r, const char *service, struct sp_store **out, struct sp_err *err)
{
	char *dir = sp_paths_store(r->conf, service);
	enum sp_code code = sp_store_open(dir, 0, out, err);

	free(dir);
	return code;
}

/* Of what this side must mend itself: no verdict about the release, which would be quarantined. */
static enum sp_code
own_fault(enum sp_code code, struct sp_err *err)
{
	char why[SP_ERR_MSG_MAX];

	if (code != SP_E_DENIED && code != SP_E_CORRUPT && code != SP_E_INVALID)
		return code;
	snprintf(why, sizeof(why), "%s", err->msg);
	return sp_err_set(err, SP_E_CONFIG, "%s", why);
}

/* The release itself, verified whole: nothing that diode-rxd or ledgerd says about it counts. */
static enum sp_code
take_release(struct registering *g, struct sp_err *err)
{
	struct sp_trust *trust = NULL;
	struct sp_store *from = NULL;
	const char *check = "release";
	enum sp_code code;

	code = open_other(g->r, g->release_artifact.store, &from, err);
	if (code == SP_OK)
		code = sp_store_read(from, g->release_artifact.digest.s, SP_RELEASE_MAX,
		    &g->envelope, &g->envelope_len, err);
	if (code == SP_OK)
		code = own_fault(sp_worker_trust(g->r->worker, &trust, err), err);
	if (code == SP_OK) {
		code = sp_release_verify(
		    trust, g->envelope, g->envelope_len, &g->release, &check, err);
		if (code != SP_OK)
			sp_err_prefix(
			    err, "release %s, check \"%s\"", g->release_artifact.digest.s, check);
	}
	sp_trust_free(&trust);
	sp_store_close(&from);
	return code;
}

static enum sp_code
check_candidate(struct registering *g, struct sp_err *err)
{
	const char *here = sp_conf_string(g->r->conf, "diode-rxd.destination");
	const struct sp_candidate *c = &g->release->candidate;
	enum sp_code code;

	if (strcmp(c->job, g->task->job) != 0)
		return sp_err_set(err, SP_E_DENIED, "release %s belongs to job %s",
		    g->release_artifact.digest.s, c->job);
	if (strcmp(c->tree.s, g->tree_artifact.digest.s) != 0)
		return sp_err_set(err, SP_E_DENIED, "release %s is of tree %s, not of tree %s",
		    g->release_artifact.digest.s, c->tree.s, g->tree_artifact.digest.s);
	if (strcmp(c->destination, here) != 0)
		return sp_err_set(err, SP_E_DENIED,
		    "release %s was approved for \"%s\", this side is \"%s\"",
		    g->release_artifact.digest.s, c->destination, here);
	if (strcmp(c->kind, "model") != 0)
		return sp_err_set(err, SP_E_UNSUPPORTED,
		    "kind \"%s\" cannot be registered: only models can", c->kind);
	code = sp_path_check_repo(c->name, err);
	if (code != SP_OK)
		return code;
	snprintf(g->entry.name, sizeof(g->entry.name), "%s", c->name);
	snprintf(g->entry.kind, sizeof(g->entry.kind), "%s", c->kind);
	g->entry.version = c->version;
	g->entry.tree = c->tree;
	g->entry.release = g->release_artifact.digest;
	snprintf(g->entry.time, sizeof(g->entry.time), "%s", sp_time_rfc3339(sp_time_unix_ms()).s);
	return SP_OK;
}

static void
on_copied(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
	sp_lease_progress(ctx, "copy", done_bytes, total_bytes, "bytes");
}

/* A small file of the tree, or NULL when it has none of that name. */
static enum sp_code
read_file(const struct registering *g, const struct sp_tree *tree, const char *path, uint8_t **data,
    size_t *len, struct sp_err *err)
{
	const struct sp_tree_file *file = sp_tree_find(tree, path);

	if (file == NULL)
		return SP_OK;
	return sp_store_read(g->r->store, file->sha256.s, SP_JSON_MAX, data, len, err);
}

/* Into our own store, every byte hashed on its way, and then looked at as a model. */
static enum sp_code
take_tree(struct registering *g, struct sp_err *err)
{
	struct registryd_model_files files = {0};
	uint8_t *config = NULL, *index = NULL;
	struct sp_store *from = NULL;
	struct sp_tree tree = {0};
	struct sp_hex digest;
	enum sp_code code;

	code = open_other(g->r, g->tree_artifact.store, &from, err);
	if (code == SP_OK)
		code = sp_tree_copy(g->r->store, from, g->entry.tree.s, on_copied, g->lease, err);
	if (code == SP_OK)
		code = sp_tree_load(g->r->store, g->entry.tree.s, &tree, err);
	if (code == SP_OK)
		code = read_file(g, &tree, "config.json", &config, &files.config_len, err);
	if (code == SP_OK)
		code = read_file(g, &tree, REGISTRYD_INDEX, &index, &files.index_len, err);
	if (code == SP_OK) {
		files.config = config;
		files.index = index;
		code = registryd_check_model(&tree, &files, err);
	}
	if (code == SP_OK)
		code = sp_store_put(g->r->store, g->envelope, g->envelope_len, &digest, err);
	g->bytes = sp_tree_bytes(&tree);
	free(config);
	free(index);
	sp_tree_clear(&tree);
	sp_store_close(&from);
	return code;
}

/* Whether it may come in at all, asked before gigabytes are copied. */
static enum sp_code
may_register(struct registering *g, struct sp_err *err)
{
	enum sp_code code;
	int known;

	pthread_rwlock_rdlock(&g->r->lock);
	code = registryd_admit(&g->r->entries, &g->entry, &known, err);
	pthread_rwlock_unlock(&g->r->lock);
	return code;
}

static void
tell(const struct registering *g, struct sp_outcome *outcome)
{
	sp_outcome_artifact(outcome, "candidate", g->entry.tree.s, REGISTRYD_SERVICE, 1, g->bytes);
	sp_outcome_artifact(
	    outcome, "release", g->entry.release.s, REGISTRYD_SERVICE, 0, g->envelope_len);
	sp_outcome_detail(outcome, "name", "%s", g->entry.name);
	sp_outcome_detail(outcome, "version", "%" PRId64, g->entry.version);
	sp_outcome_detail(outcome, "revision", "%s", sp_tree_revision(g->entry.tree.s).s);
	pthread_mutex_lock(&g->r->snapshot_lock);
	sp_outcome_detail(outcome, "snapshot", "%" PRId64, g->r->snapshot_version);
	pthread_mutex_unlock(&g->r->snapshot_lock);
}

enum sp_code
registryd_seal(void *ctx, struct sp_worker *worker, const Sallyport__Task *task,
    struct sp_lease *lease, enum sp_code worked, struct sp_outcome *outcome, struct sp_err *err)
{
	struct registering g = {.r = ctx, .task = task, .lease = lease};
	enum sp_code code = worked;

	(void)worker;
	if (code == SP_OK)
		code = sp_outcome_input(task, "release", &g.release_artifact, err);
	if (code == SP_OK)
		code = sp_outcome_input(task, "candidate", &g.tree_artifact, err);
	if (code == SP_OK)
		code = take_release(&g, err);
	if (code == SP_OK)
		code = check_candidate(&g, err);
	if (code == SP_OK)
		code = may_register(&g, err);
	if (code == SP_OK)
		code = take_tree(&g, err);
	if (code == SP_OK && sp_lease_cancelled(lease))
		code = sp_err_set(err, SP_E_CANCELLED, "cancelled");
	if (code == SP_OK)
		code = registryd_state_add(g.r, &g.entry, err);
	if (code == SP_OK)
		code = own_fault(registryd_publish(g.r, 1, err), err);
	if (code == SP_OK) {
		tell(&g, outcome);
		sp_log_info(task->job, "%s version %" PRId64 " is registered, tree %s",
		    g.entry.name, g.entry.version, g.entry.tree.s);
	}
	sp_release_free(&g.release);
	free(g.envelope);
	return code;
}
