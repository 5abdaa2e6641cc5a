/* quantd_io.c -- stores, files, the engine, and the key. */
#include "awq/quantize.h"
#include "base/file.h"
#include "base/log.h"
#include "base/path.h"
#include "base/time.h"
#include "bus/paths.h"
#include "bus/worker.h"
#include "quantd.h"
#include "store/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define SERVICE "quantd"

struct quantd {
	struct sp_key *key; /* of the quantize role */
	struct sp_store *store;
};

enum sp_code
quantd_open(struct sp_worker *worker, void **ctx, struct sp_err *err)
{
	const struct sp_conf *conf = sp_worker_conf(worker);
	struct quantd *quantd = sp_xcalloc(1, sizeof(*quantd));
	char *key = sp_paths_key(conf, SERVICE, "quantize");
	char *store = sp_paths_store(conf, SERVICE);
	enum sp_code code;

	if ((code = sp_key_load(key, SP_ROLE_QUANTIZE, NULL, &quantd->key, err)) ||
	    (code = sp_store_open(store, 1, &quantd->store, err)))
		quantd_close(quantd);
	else
		*ctx = quantd;
	free(key);
	free(store);
	return code;
}

void
quantd_close(void *ctx)
{
	struct quantd *quantd = ctx;

	sp_store_close(&quantd->store);
	sp_key_free(&quantd->key);
	free(quantd);
}

/* --- what both halves read ---------------------------------------------------------------------
 */

/* The inputs of a task. */
struct inputs {
	struct quantd_recipe recipe;
	struct sp_artifact source;
	uint8_t *calibration;
	size_t calibration_len;
	struct sp_hex calibration_digest;
	struct sp_hex key;
};

static void
inputs_clear(struct inputs *inputs)
{
	quantd_recipe_clear(&inputs->recipe);
	free(inputs->calibration);
	memset(inputs, 0, sizeof(*inputs));
}

static enum sp_code
inputs_read(
    const struct sp_conf *conf, const Sallyport__Task *task, struct inputs *out, struct sp_err *err)
{
	char *path = NULL;
	enum sp_code code;

	memset(out, 0, sizeof(*out));
	if ((code = quantd_recipe_parse(task->policy.data, task->policy.len, &out->recipe, err)) ||
	    (code = sp_outcome_input(task, "source", &out->source, err)))
		goto out;
	if (!out->source.tree) {
		code = sp_err_set(err, SP_E_INVALID, "the source of job %s is no tree", task->job);
		goto out;
	}
	path = sp_path_join(sp_conf_root(conf), out->recipe.calibration);
	code = sp_file_read(
	    path, QUANTD_CALIBRATION_MAX, &out->calibration, &out->calibration_len, err);
	if (code != SP_OK) {
		code = sp_err_set(err, code == SP_E_NOT_FOUND ? SP_E_CONFIG : code,
		    "quantize.calibration of profile %s: %s", task->profile,
		    code == SP_E_NOT_FOUND ? path : "it cannot be read");
		goto out;
	}
	out->calibration_digest = sp_sha256_hex(out->calibration, out->calibration_len);
	out->key = quantd_key(out->source.digest.s, out->calibration_digest.s, &out->recipe);
out:
	if (code != SP_OK)
		inputs_clear(out);
	free(path);
	return code;
}

/* --- work: the child process, without keys ------------------------------------------------------
 */

static void
on_copied(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
	sp_lease_progress(ctx, "copy", done_bytes, total_bytes, "bytes");
}

static void
on_layer(void *ctx, size_t done, size_t total)
{
	sp_lease_progress(ctx, "layer", done, total, "layers");
}

/* A copy of our own, every byte hashed on its way: what is quantized is what the digest names. */
static enum sp_code
take_source(const struct sp_conf *conf, const struct sp_artifact *source, const char *dir,
    struct sp_lease *lease, struct sp_err *err)
{
	char *path = sp_paths_store(conf, source->store);
	struct sp_store *store = NULL;
	struct sp_tree tree = {0};
	enum sp_code code;

	if ((code = sp_file_remove_all(dir, err)) || (code = sp_store_open(path, 0, &store, err)) ||
	    (code = sp_tree_load(store, source->digest.s, &tree, err)))
		goto out;
	code = sp_tree_materialize(store, &tree, dir, on_copied, lease, err);
out:
	sp_tree_clear(&tree);
	sp_store_close(&store);
	free(path);
	return code;
}

static enum sp_code
quantize(const struct sp_conf *conf, const struct inputs *inputs, const char *source,
    const char *layers, const char *out, struct sp_lease *lease, json_t **report,
    struct sp_err *err)
{
	struct sp_quantize spec = {
	    .source = source,
	    .work = layers,
	    .out = out,
	    .calibration = inputs->calibration,
	    .calibration_size = inputs->calibration_len,
	    .group_size = inputs->recipe.group_size,
	    .samples = inputs->recipe.samples,
	    .sequence = inputs->recipe.sequence,
	    .progress = on_layer,
	    .arg = lease,
	};
	enum sp_code code;

	code = sp_pool_open((unsigned)sp_conf_int(conf, "quantd.threads"), &spec.pool, err);
	if (code == SP_OK)
		code = sp_quantize_run(&spec, report, err);
	sp_pool_close(&spec.pool);
	return code;
}

/* One process at a time in a directory of work: one that is being killed may not be gone yet.
 * Closing *fd, or the end of the process, lets go. */
static enum sp_code
lock(const char *dir, int *fd, struct sp_err *err)
{
	*fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (*fd < 0)
		return sp_err_errno(err, "%s", dir);
	while (flock(*fd, LOCK_EX) != 0) {
		if (errno != EINTR)
			return sp_err_errno(err, "%s", dir);
	}
	return SP_OK;
}

/* Puts the checkpoint and the report where the daemon finds them. */
static enum sp_code
keep(const struct sp_conf *conf, const char *dir, json_t *report, struct sp_outcome *outcome,
    struct sp_err *err)
{
	char *path = sp_paths_store(conf, SERVICE), *text = NULL;
	struct sp_store *store = NULL;
	struct sp_tree tree = {0};
	struct sp_hex digest, report_digest;
	enum sp_code code;
	size_t len;

	text = sp_json_canonical(report, &len);
	if ((code = sp_store_open(path, 1, &store, err)) ||
	    (code = sp_tree_import(store, dir, &tree, &digest, err)) ||
	    (code = sp_store_put(store, text, len, &report_digest, err)))
		goto out;
	sp_outcome_artifact(outcome, "candidate", digest.s, SERVICE, 1, sp_tree_bytes(&tree));
	sp_outcome_artifact(outcome, "report", report_digest.s, SERVICE, 0, len);
	sp_outcome_detail(outcome, "calibration_blocks", "%lld",
	    (long long)json_integer_value(json_object_get(report, "blocks")));
	sp_outcome_detail(outcome, "calibration_texts", "%lld",
	    (long long)json_integer_value(json_object_get(report, "texts")));
out:
	sp_tree_clear(&tree);
	sp_store_close(&store);
	free(path);
	free(text);
	return code;
}

enum sp_code
quantd_work(const struct sp_conf *conf, const Sallyport__Task *task, struct sp_lease *lease,
    struct sp_outcome *outcome, struct sp_err *err)
{
	struct sp_rfc3339 started = sp_time_rfc3339(sp_time_unix_ms());
	char *work = NULL, *source = NULL, *layers = NULL, *out = NULL;
	struct inputs inputs;
	json_t *report = NULL;
	enum sp_code code;
	int locked = -1;

	if ((code = inputs_read(conf, task, &inputs, err)))
		return code;
	if ((work = sp_lease_workdir(lease, inputs.key.s, err)) == NULL) {
		code = err->code;
		goto out;
	}
	source = sp_xasprintf("%s/source", work);
	layers = sp_xasprintf("%s/layers", work);
	out = sp_xasprintf("%s/out", work);
	if ((code = lock(work, &locked, err)) ||
	    (code = take_source(conf, &inputs.source, source, lease, err)) ||
	    (code = quantize(conf, &inputs, source, layers, out, lease, &report, err)) ||
	    (code = keep(conf, out, report, outcome, err)))
		goto out;
	sp_outcome_detail(outcome, "calibration", "%s", inputs.calibration_digest.s);
	sp_outcome_detail(outcome, "started", "%s", started.s);
out:
	if (locked >= 0)
		close(locked);
	json_decref(report);
	inputs_clear(&inputs);
	free(work);
	free(source);
	free(layers);
	free(out);
	return code;
}

/* --- seal: the daemon, with the key -------------------------------------------------------------
 */

/* What the child said of an artifact; its word is checked against the bytes, not taken. */
static enum sp_code
take_back(const struct quantd *quantd, const struct sp_outcome *outcome,
    const struct sp_artifact **candidate, const struct sp_artifact **report, struct sp_err *err)
{
	struct sp_tree tree = {0};
	uint8_t *data = NULL;
	enum sp_code code;
	size_t len;

	*candidate = sp_outcome_find(outcome, "candidate");
	*report = sp_outcome_find(outcome, "report");
	if (*candidate == NULL || *report == NULL || !(*candidate)->tree || (*report)->tree ||
	    strcmp((*candidate)->store, SERVICE) != 0 || strcmp((*report)->store, SERVICE) != 0)
		return sp_err_set(
		    err, SP_E_INTERNAL, "the child brought back no candidate and report of ours");
	if ((code = sp_tree_load(quantd->store, (*candidate)->digest.s, &tree, err)) ||
	    (code = sp_tree_verify(quantd->store, &tree, err)) ||
	    (code = sp_store_read(
		 quantd->store, (*report)->digest.s, QUANTD_REPORT_MAX, &data, &len, err)))
		goto out;
	if ((*candidate)->bytes != sp_tree_bytes(&tree) || (*report)->bytes != len)
		code = sp_err_set(err, SP_E_INTERNAL, "the child gave sizes that are not true");
out:
	sp_tree_clear(&tree);
	free(data);
	return code;
}

static enum sp_code
sign(const struct quantd *quantd, const struct quantd_provenance *provenance,
    struct sp_outcome *outcome, struct sp_err *err)
{
	char *envelope = NULL, *statement;
	size_t len, envelope_len;
	enum sp_code code;

	statement = quantd_statement(provenance, &len);
	code = sp_dsse_sign(
	    quantd->key, SP_DSSE_INTOTO, statement, len, &envelope, &envelope_len, err);
	if (code == SP_OK)
		sp_outcome_attest(outcome, envelope, envelope_len);
	free(envelope);
	free(statement);
	return code;
}

/* The result is in the store: what led to it may go. A directory that stays does no harm. */
static void
remove_work(struct sp_lease *lease, const char *key)
{
	char *work = sp_lease_workdir(lease, key, NULL);

	if (work != NULL && sp_file_remove_all(work, NULL) != SP_OK)
		sp_log_warn(NULL, "%s: cannot be removed, do so by hand", work);
	free(work);
}

enum sp_code
quantd_seal(void *ctx, struct sp_worker *worker, const Sallyport__Task *task,
    struct sp_lease *lease, enum sp_code worked, struct sp_outcome *outcome, struct sp_err *err)
{
	struct sp_rfc3339 now = sp_time_rfc3339(sp_time_unix_ms());
	struct quantd_provenance provenance = {.task = task, .finished = now.s};
	const struct sp_artifact *candidate, *report;
	struct quantd *quantd = ctx;
	struct sp_trust *trust = NULL;
	const char *said, *started;
	struct inputs inputs;
	char *name = NULL;
	enum sp_code code;

	if (worked != SP_OK)
		return sp_err_set(
		    err, SP_E_INTERNAL, "the child ended with %s", sp_err_word(worked));
	if ((code = inputs_read(sp_worker_conf(worker), task, &inputs, err)))
		return code;
	if ((code = sp_worker_trust(worker, &trust, err)) ||
	    (code = quantd_check_source(trust, task, inputs.source.digest.s, &name, err)) ||
	    (code = take_back(quantd, outcome, &candidate, &report, err)))
		goto out;
	said = sp_outcome_get(outcome, "calibration");
	started = sp_outcome_get(outcome, "started");
	if (said == NULL || strcmp(said, inputs.calibration_digest.s) != 0) {
		code = sp_err_set(err, SP_E_STATE,
		    "%s changed while job %s was quantized with it: retry the job",
		    inputs.recipe.calibration, task->job);
		goto out;
	}
	provenance.recipe = &inputs.recipe;
	provenance.source_name = name;
	provenance.source_tree = inputs.source.digest.s;
	provenance.calibration = inputs.calibration_digest.s;
	provenance.tree = candidate->digest.s;
	provenance.report = report->digest.s;
	provenance.builder = sp_key_public(quantd->key)->name;
	provenance.started =
	    started != NULL && sp_time_parse_rfc3339(started) >= 0 ? started : now.s;
	code = sign(quantd, &provenance, outcome, err);
	if (code == SP_OK)
		remove_work(lease, inputs.key.s);
out:
	free(name);
	sp_trust_free(&trust);
	inputs_clear(&inputs);
	return code;
}
