/* quantd_io.c -- stores, files, the engine, and the key. */
#include "awq/quantize.h"
#include "base/file.h"
#include "base/path.h"
#include "base/program.h"
#include "base/time.h"
#include "bus/paths.h"
#include "bus/step.h"
#include "bus/worker.h"
#include "quantd.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SERVICE "quantd"

enum sp_code
quantd_open(struct sp_worker *worker, void **ctx, struct sp_err *err)
{
	struct sp_step *step;
	enum sp_code code =
	    sp_step_open(sp_worker_conf(worker), SERVICE, SP_ROLE_QUANTIZE, &step, err);

	*ctx = step;
	return code;
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
	char *path = NULL, *program = NULL;
	enum sp_code code;

	memset(out, 0, sizeof(*out));
	if ((code = quantd_recipe_parse(task->policy.data, task->policy.len, &out->recipe, err)) ||
	    (code = sp_outcome_input(task, "source", &out->source, err)) ||
	    (code = sp_program_name(&program, err)))
		goto out;
	if (!out->source.tree) {
		code = sp_err_set(err, SP_E_INVALID, "the source of job %s is no tree", task->job);
		goto out;
	}
	path = sp_path_join(sp_conf_root(conf), out->recipe.calibration);
	code = sp_file_read(
	    path, QUANTD_CALIBRATION_MAX, &out->calibration, &out->calibration_len, err);
	if (code != SP_OK) {
		if (err != NULL && err->code == SP_E_NOT_FOUND)
			err->code = SP_E_CONFIG;
		code = sp_err_prefix(err, "quantize.calibration of profile %s", task->profile);
		goto out;
	}
	out->calibration_digest = sp_sha256_hex(out->calibration, out->calibration_len);
	out->key =
	    quantd_key(out->source.digest.s, out->calibration_digest.s, &out->recipe, program);
out:
	if (code != SP_OK)
		inputs_clear(out);
	free(path);
	free(program);
	return code;
}

/* What the child reads beside stores: the calibration text. */
enum sp_code
quantd_confine(const struct sp_conf *conf, const Sallyport__Task *task, struct sp_confine *confine,
    struct sp_err *err)
{
	struct quantd_recipe recipe;
	enum sp_code code = quantd_recipe_parse(task->policy.data, task->policy.len, &recipe, err);
	char *path;

	if (code != SP_OK)
		return code;
	path = sp_path_join(sp_conf_root(conf), recipe.calibration);
	sp_confine_read(confine, path);
	free(path);
	quantd_recipe_clear(&recipe);
	return SP_OK;
}

/* --- work: the child process, without keys ------------------------------------------------------
 */

static void
on_copied(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
	sp_lease_progress(ctx, "copy", done_bytes, total_bytes, "bytes");
}

static void
on_layer(void *ctx, size_t done, size_t total, const json_t *layer)
{
	(void)layer;
	sp_lease_progress(ctx, "layer", done, total, "layers");
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

/* All that is done in the directory of work, which is locked. */
static enum sp_code
make(const struct sp_conf *conf, const struct inputs *inputs, const char *work,
    struct sp_lease *lease, struct sp_outcome *outcome, struct sp_err *err)
{
	char *source = sp_xasprintf("%s/source", work), *layers = sp_xasprintf("%s/layers", work);
	char *out = sp_xasprintf("%s/out", work);
	json_t *report = NULL;
	enum sp_code code;

	sp_step_sweep(work, "source");
	sp_step_sweep(work, "out");
	code = sp_step_take(conf, &inputs->source, source, on_copied, lease, err);
	if (code == SP_OK)
		code = quantize(conf, inputs, source, layers, out, lease, &report, err);
	if (code == SP_OK)
		code = keep(conf, out, report, outcome, err);
	/* layers serve the next attempt, if there is one; copies of models only fill the disk */
	sp_step_discard(source);
	sp_step_discard(out);
	if (code != SP_OK && !sp_err_may_retry(code))
		sp_step_discard(work);
	json_decref(report);
	free(source);
	free(layers);
	free(out);
	return code;
}

enum sp_code
quantd_work(const struct sp_conf *conf, const Sallyport__Task *task, struct sp_lease *lease,
    struct sp_outcome *outcome, struct sp_err *err)
{
	struct sp_rfc3339 started = sp_time_rfc3339(sp_time_unix_ms());
	struct inputs inputs;
	char *work = NULL;
	enum sp_code code;
	int locked = -1;

	if ((code = inputs_read(conf, task, &inputs, err)))
		return code;
	if ((work = sp_lease_workdir(lease, inputs.key.s, err)) == NULL) {
		code = err->code;
		goto out;
	}
	if ((code = sp_step_lock(work, &locked, err)) ||
	    (code = make(conf, &inputs, work, lease, outcome, err)))
		goto out;
	sp_outcome_detail(outcome, "calibration", "%s", inputs.calibration_digest.s);
	sp_outcome_detail(outcome, "started", "%s", started.s);
out:
	if (locked >= 0)
		close(locked);
	inputs_clear(&inputs);
	free(work);
	return code;
}

/* --- seal: the daemon, with the key -------------------------------------------------------------
 */

/* An artifact of that role as the child named it, of ours; its digest is still to be believed. */
static const struct sp_artifact *
find_ours(const struct sp_outcome *said, const char *role, int tree)
{
	const struct sp_artifact *artifact = sp_outcome_find(said, role);

	if (artifact == NULL || artifact->tree != tree || strcmp(artifact->store, SERVICE) != 0)
		return NULL;
	return artifact;
}

/* What the child said of its artifacts is checked against the bytes, not taken. There must be these
 * two alone: whatever else it named would reach the next step as if we had seen it. */
static enum sp_code
take_back(const struct sp_step *step, const struct sp_outcome *said, const char *source,
    const struct sp_artifact **candidate, const struct sp_artifact **report, struct sp_err *err)
{
	struct sp_tree tree = {0};
	uint8_t *data = NULL;
	enum sp_code code;
	size_t len;

	*candidate = find_ours(said, "candidate", 1);
	*report = find_ours(said, "report", 0);
	if (said->artifact_count != 2 || *candidate == NULL || *report == NULL ||
	    strcmp((*candidate)->digest.s, source) == 0)
		return sp_err_set(err, SP_E_INTERNAL,
		    "the child brought back something else than a candidate and a report of ours");
	if ((code = sp_tree_load(step->store, (*candidate)->digest.s, &tree, err)) ||
	    (code = sp_tree_verify(step->store, &tree, err)) ||
	    (code = sp_store_read(
		 step->store, (*report)->digest.s, QUANTD_REPORT_MAX, &data, &len, err)))
		goto out;
	if ((*candidate)->bytes != sp_tree_bytes(&tree) || (*report)->bytes != len)
		code = sp_err_set(err, SP_E_INTERNAL, "the child gave sizes that are not true");
out:
	sp_tree_clear(&tree);
	free(data);
	return code;
}

/* When the child began, if it says so, and not in the future. */
static struct sp_rfc3339
time_of_start(const struct sp_outcome *said, struct sp_rfc3339 now)
{
	const char *text = sp_outcome_get(said, "started");
	int64_t ms = text == NULL ? -1 : sp_time_parse_rfc3339(text);

	return ms >= 0 && ms <= sp_time_parse_rfc3339(now.s) ? sp_time_rfc3339(ms) : now;
}

/* The verified artifacts, and those of the child's details that can be nothing but numbers. */
static void
say(const struct sp_outcome *said, const struct sp_artifact *candidate,
    const struct sp_artifact *report, const char *calibration, struct sp_outcome *outcome)
{
	static const char *const counts[] = {"calibration_blocks", "calibration_texts"};

	sp_outcome_artifact(
	    outcome, "candidate", candidate->digest.s, SERVICE, 1, candidate->bytes);
	sp_outcome_artifact(outcome, "report", report->digest.s, SERVICE, 0, report->bytes);
	sp_outcome_detail(outcome, "calibration", "%s", calibration);
	for (size_t i = 0; i < sizeof(counts) / sizeof(*counts); i++) {
		const char *value = sp_outcome_get(said, counts[i]);
		size_t digits = value == NULL ? 0 : strspn(value, "0123456789");

		if (digits > 0 && digits <= 9 && value[digits] == '\0')
			sp_outcome_detail(outcome, counts[i], "%s", value);
	}
}

static enum sp_code
sign(const struct sp_step *step, const struct quantd_provenance *provenance,
    struct sp_outcome *outcome, struct sp_err *err)
{
	size_t len;
	char *statement = quantd_statement(provenance, &len);
	enum sp_code code = sp_step_sign(step, statement, len, outcome, err);

	free(statement);
	return code;
}

/* The result is in the store: what led to it may go. */
static void
remove_work(struct sp_lease *lease, const char *key)
{
	char *work = sp_lease_workdir(lease, key, NULL);

	if (work != NULL)
		sp_step_discard(work);
	free(work);
}

enum sp_code
quantd_seal(void *ctx, struct sp_worker *worker, const Sallyport__Task *task,
    struct sp_lease *lease, enum sp_code worked, struct sp_outcome *outcome, struct sp_err *err)
{
	struct sp_rfc3339 now = sp_time_rfc3339(sp_time_unix_ms()), started;
	struct quantd_provenance provenance = {.task = task, .finished = now.s};
	const struct sp_artifact *candidate, *report;
	struct sp_outcome said = *outcome; /* by the child: no word of it goes on unseen */
	const struct sp_step *step = ctx;
	struct sp_trust *trust = NULL;
	const char *calibration;
	struct inputs inputs;
	char *name = NULL;
	enum sp_code code;

	memset(outcome, 0, sizeof(*outcome));
	memset(&inputs, 0, sizeof(inputs));
	if (worked != SP_OK) {
		code =
		    sp_err_set(err, SP_E_INTERNAL, "the child ended with %s", sp_err_word(worked));
		goto out;
	}
	if ((code = inputs_read(sp_worker_conf(worker), task, &inputs, err)) ||
	    (code = sp_worker_trust(worker, &trust, err)) ||
	    (code = quantd_check_source(trust, task, inputs.source.digest.s, &name, err)) ||
	    (code = take_back(step, &said, inputs.source.digest.s, &candidate, &report, err)))
		goto out;
	calibration = sp_outcome_get(&said, "calibration");
	if (calibration == NULL || strcmp(calibration, inputs.calibration_digest.s) != 0) {
		code = sp_err_set(err, SP_E_STATE,
		    "%s changed while job %s was quantized with it: retry the job",
		    inputs.recipe.calibration, task->job);
		goto out;
	}
	started = time_of_start(&said, now);
	provenance.recipe = &inputs.recipe;
	provenance.source_name = name;
	provenance.source_tree = inputs.source.digest.s;
	provenance.calibration = inputs.calibration_digest.s;
	provenance.tree = candidate->digest.s;
	provenance.report = report->digest.s;
	provenance.builder = sp_key_public(step->key)->name;
	provenance.started = started.s;
	if ((code = sign(step, &provenance, outcome, err)))
		goto out;
	say(&said, candidate, report, inputs.calibration_digest.s, outcome);
	remove_work(lease, inputs.key.s);
out:
	sp_outcome_clear(&said);
	free(name);
	sp_trust_free(&trust);
	inputs_clear(&inputs);
	return code;
}
