/* txd_io.c -- stores, keys and the wire. */
#include "base/log.h"
#include "base/time.h"
#include "bus/paths.h"
#include "bus/worker.h"
#include "diode/send.h"
#include "release/bom.h"
#include "txd.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define SERVICE "diode-txd"
#define PROGRESS_MS 100 /* how often a transfer's progress is looked at */

struct txd {
	struct sp_key *key; /* of the release role */
	struct sp_store *store;
	struct sp_send *send;
	struct sp_tx_config code;
};

enum sp_code
txd_check(const struct sp_conf *conf, struct sp_err *err)
{
	struct sp_tx_config code;
	enum sp_code rc = sp_conf_require(conf, "diode-txd.destination", err);

	return rc != SP_OK ? rc : txd_code(conf, &code, err);
}

static enum sp_code
open_wire(struct txd *txd, const struct sp_conf *conf, struct sp_err *err)
{
	struct sp_send_config config = {
	    .destination = sp_conf_string(conf, "diode-txd.destination"),
	    .rate_bytes_per_s = (uint64_t)sp_conf_int(conf, "diode-txd.rate_mbit_s") * 125000,
	    .pass_pause_ms = sp_conf_int(conf, "diode-txd.pass_pause_ms"),
	    .heartbeat_ms = sp_conf_int(conf, "diode-txd.heartbeat_ms"),
	    .constant_rate = sp_conf_bool(conf, "diode-txd.constant_rate"),
	    .symbol_size = txd->code.symbol_size,
	};
	char *path = sp_paths_key(conf, SERVICE, "link");
	struct sp_key *link = NULL;
	enum sp_code code = sp_key_load(path, SP_ROLE_LINK, NULL, &link, err);

	if (code == SP_OK) {
		memcpy(config.key, sp_key_secret(link), SP_LINK_KEY_LEN);
		code = sp_send_open(&config, &txd->send, err);
		explicit_bzero(config.key, sizeof(config.key));
	}
	sp_key_free(&link);
	free(path);
	return code;
}

enum sp_code
txd_open(struct sp_worker *worker, void **ctx, struct sp_err *err)
{
	const struct sp_conf *conf = sp_worker_conf(worker);
	struct txd *txd = sp_xcalloc(1, sizeof(*txd));
	char *key = sp_paths_key(conf, SERVICE, "release"), *store = sp_paths_store(conf, SERVICE);
	enum sp_code code;

	if ((code = txd_code(conf, &txd->code, err)) ||
	    (code = sp_key_load(key, SP_ROLE_RELEASE, NULL, &txd->key, err)) ||
	    (code = sp_store_open(store, 1, &txd->store, err)) ||
	    (code = open_wire(txd, conf, err)))
		txd_close(txd);
	else
		*ctx = txd;
	free(key);
	free(store);
	return code;
}

void
txd_close(void *ctx)
{
	struct txd *txd = ctx;

	sp_send_close(&txd->send);
	sp_store_close(&txd->store);
	sp_key_free(&txd->key);
	free(txd);
}

/* --- package --- */

static void
on_copied(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
	sp_lease_progress(ctx, "package", done_bytes, total_bytes, "bytes");
}

/* Reads and hashes each byte of the tree once more: from here on it is our own copy that counts. */
static enum sp_code
take_tree(struct txd *txd, const struct sp_conf *conf, const struct sp_artifact *artifact,
    struct sp_lease *lease, struct sp_tree *tree, struct sp_err *err)
{
	char *dir = sp_paths_store(conf, artifact->store);
	struct sp_store *from = NULL;
	enum sp_code code;

	if ((code = sp_store_open(dir, 0, &from, err)) == SP_OK &&
	    (code = sp_tree_copy(txd->store, from, artifact->digest.s, on_copied, lease, err)) ==
		SP_OK)
		code = sp_tree_load(txd->store, artifact->digest.s, tree, err);
	sp_store_close(&from);
	free(dir);
	return code;
}

static enum sp_code
build_release(struct txd *txd, const struct sp_trust *trust, const struct txd_package *package,
    const struct sp_candidate *candidate, const struct sp_tree *tree, struct sp_hex *digest,
    size_t *len, struct sp_err *err)
{
	struct sp_rfc3339 now = sp_time_rfc3339(sp_time_unix_ms());
	struct sp_release_parts parts = {
	    .candidate = package->candidate,
	    .attestations = package->attestations,
	    .attestation_count = package->attestation_count,
	    .checkpoint = package->checkpoint,
	    .proofs = package->proofs,
	    .proof_count = package->proof_count,
	    .time = now.s,
	};
	json_t *bom = NULL;
	char *envelope = NULL;
	enum sp_code code;

	if ((code = sp_bom_model(candidate, tree, package->attestations, package->attestation_count,
		 now.s, &bom, err)))
		return code;
	parts.bom = bom;
	code = sp_release_build(trust, &parts, package->approvals, txd->key, &envelope, len, err);
	if (code == SP_OK)
		code = sp_store_put(txd->store, envelope, *len, digest, err);
	free(envelope);
	json_decref(bom);
	return code;
}

enum sp_code
txd_seal_package(void *ctx, struct sp_worker *worker, const Sallyport__Task *task,
    struct sp_lease *lease, enum sp_code worked, struct sp_outcome *outcome, struct sp_err *err)
{
	struct txd *txd = ctx;
	struct sp_trust *trust = NULL;
	struct txd_package package;
	struct sp_candidate candidate;
	struct sp_tree tree = {0};
	struct sp_hex digest;
	const char *check;
	size_t len;
	enum sp_code code;

	(void)worked;
	if ((code = txd_package_read(task, &package, err)))
		return code;
	/* before anything is copied: who is not approved gets no work done */
	if ((code = sp_worker_trust(worker, &trust, err)) ||
	    (code = sp_release_check_chain(trust, package.candidate, package.attestations,
		 package.attestation_count, package.approvals, &candidate, &check, err)))
		goto out;
	if (strcmp(candidate.job, task->job) != 0 ||
	    strcmp(candidate.tree.s, package.tree.digest.s) != 0) {
		code = sp_err_set(err, SP_E_DENIED,
		    "what was approved is tree %s of job %s, not this job's tree %s",
		    candidate.tree.s, candidate.job, package.tree.digest.s);
		goto out;
	}
	if ((code = take_tree(txd, sp_worker_conf(worker), &package.tree, lease, &tree, err)) ||
	    (code = build_release(txd, trust, &package, &candidate, &tree, &digest, &len, err)))
		goto out;
	sp_outcome_artifact(outcome, "release", digest.s, SERVICE, 0, len);
	sp_outcome_detail(outcome, "release_key", "%s", sp_key_public(txd->key)->id.s);
	sp_outcome_detail(outcome, "files", "%zu", tree.count);
	sp_outcome_detail(outcome, "bytes", "%llu", (unsigned long long)sp_tree_bytes(&tree));
out:
	sp_tree_clear(&tree);
	sp_trust_free(&trust);
	txd_package_clear(&package);
	return code;
}

/* --- send --- */

struct waiter {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	int done;
	enum sp_code code;
	struct sp_err err;
};

static void
on_sent(void *ctx, enum sp_code code, const struct sp_err *err)
{
	struct waiter *waiter = ctx;

	pthread_mutex_lock(&waiter->lock);
	waiter->done = 1;
	waiter->code = code;
	if (code != SP_OK)
		waiter->err = *err;
	pthread_cond_signal(&waiter->wake);
	pthread_mutex_unlock(&waiter->lock);
}

/* Until the wire has taken all of it; a lease that is lost cancels. */
static enum sp_code
wait_sent(struct txd *txd, struct waiter *waiter, struct sp_lease *lease, struct sp_err *err)
{
	struct sp_send_progress progress;
	struct timespec until;

	pthread_mutex_lock(&waiter->lock);
	while (!waiter->done) {
		until = sp_time_cond_until(PROGRESS_MS);
		pthread_cond_timedwait(&waiter->wake, &waiter->lock, &until);
		pthread_mutex_unlock(&waiter->lock);
		sp_send_progress(txd->send, &progress);
		if (progress.pass > 0)
			sp_lease_progress(lease, "send",
			    (progress.pass - 1) * progress.total + progress.done,
			    progress.passes * progress.total, "bytes");
		if (sp_lease_cancelled(lease))
			sp_send_cancel(txd->send);
		pthread_mutex_lock(&waiter->lock);
	}
	pthread_mutex_unlock(&waiter->lock);
	if (waiter->code != SP_OK)
		*err = waiter->err;
	return waiter->code;
}

static enum sp_code
send_objects(struct txd *txd, const struct sp_manifest *manifest, struct sp_lease *lease,
    struct sp_outcome *outcome, struct sp_err *err)
{
	struct waiter waiter = {.lock = PTHREAD_MUTEX_INITIALIZER};
	char **paths = sp_xcalloc(manifest->count, sizeof(*paths));
	struct sp_send_files files = {.paths = (const char *const *)paths, .fd = -1};
	struct sp_send_progress before, after;
	struct sp_tx *tx = NULL;
	enum sp_code code;

	for (size_t i = 0; i < manifest->count; i++)
		paths[i] = sp_store_path(txd->store, sp_hex_of(manifest->objects[i].digest).s);
	sp_time_cond_init(&waiter.wake);
	sp_send_progress(txd->send, &before);
	if ((code = sp_tx_new(&txd->code, manifest, sp_send_files_read, &files, &tx, err)) ||
	    (code = sp_send_start(txd->send, tx, on_sent, &waiter, err)) ||
	    (code = wait_sent(txd, &waiter, lease, err)))
		goto out;
	sp_send_progress(txd->send, &after);
	sp_outcome_detail(outcome, "passes", "%u", sp_tx_passes(tx));
	sp_outcome_detail(outcome, "objects", "%zu", manifest->count);
	sp_outcome_detail(
	    outcome, "datagrams", "%llu", (unsigned long long)(after.datagrams - before.datagrams));
	sp_outcome_detail(
	    outcome, "unsent", "%llu", (unsigned long long)(after.unsent - before.unsent));
out:
	sp_tx_free(&tx);
	sp_send_files_close(&files);
	for (size_t i = 0; i < manifest->count; i++)
		free(paths[i]);
	free(paths);
	return code;
}

/* The release as it lies in our store, verified as the enclave will verify it: a release that
 * cannot pass there is not worth the wire. */
static enum sp_code
load_release(struct txd *txd, struct sp_worker *worker, const Sallyport__Task *task,
    struct sp_object *object, struct sp_release **release, struct sp_err *err)
{
	struct sp_artifact artifact;
	struct sp_trust *trust = NULL;
	const char *check = "release";
	uint8_t *data = NULL;
	size_t len = 0;
	enum sp_code code;

	if ((code = sp_outcome_input(task, "release", &artifact, err)) ||
	    (code = sp_worker_trust(worker, &trust, err)) ||
	    (code = sp_store_read(txd->store, artifact.digest.s, SP_RELEASE_MAX, &data, &len, err)))
		goto out;
	if ((code = sp_release_verify(trust, data, len, release, &check, err))) {
		sp_err_prefix(err, "release %s: check %s", artifact.digest.s, check);
		goto out;
	}
	object->size = len;
	code = sp_hex_decode(artifact.digest.s, object->digest, SP_DIGEST_LEN);
out:
	sp_trust_free(&trust);
	free(data);
	return code;
}

enum sp_code
txd_seal_send(void *ctx, struct sp_worker *worker, const Sallyport__Task *task,
    struct sp_lease *lease, enum sp_code worked, struct sp_outcome *outcome, struct sp_err *err)
{
	struct txd *txd = ctx;
	struct sp_release *release = NULL;
	struct sp_manifest manifest = {0};
	struct sp_object envelope = {0}, listing = {0};
	struct sp_tree tree = {0};
	enum sp_code code;

	(void)worked;
	if ((code = load_release(txd, worker, task, &envelope, &release, err)))
		goto out;
	if (strcmp(release->candidate.job, task->job) != 0) {
		code = sp_err_set(
		    err, SP_E_DENIED, "the release is that of job %s", release->candidate.job);
		goto out;
	}
	if ((code = sp_tree_load(txd->store, release->candidate.tree.s, &tree, err)) ||
	    (code = sp_hex_decode(release->candidate.tree.s, listing.digest, SP_DIGEST_LEN)))
		goto out;
	if (!sp_store_has(txd->store, release->candidate.tree.s, &listing.size)) {
		code = sp_err_set(
		    err, SP_E_NOT_FOUND, "tree %s left the store", release->candidate.tree.s);
		goto out;
	}
	if ((code = txd_manifest(task->job, &envelope, &listing, &tree, &manifest, err)))
		goto out;
	code = send_objects(txd, &manifest, lease, outcome, err);
out:
	sp_manifest_clear(&manifest);
	sp_tree_clear(&tree);
	sp_release_free(&release);
	return code;
}
