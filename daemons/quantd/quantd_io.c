/* quantd_io.c -- stores, files, the engine, and the key. */
#include "base/file.h"
#include "base/path.h"
#include "base/program.h"
#include "base/source.h"
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
	struct sp_settings settings;
	struct sp_artifact source;
	struct sp_source named; /* what was submitted: the source's name */
	uint8_t *calibration;
	size_t calibration_len;
	struct sp_hex calibration_digest;
	char *program;
	struct sp_hex key;
};

static void
inputs_clear(struct inputs *inputs)
{
	sp_settings_clear(&inputs->settings);
	free(inputs->calibration);
	free(inputs->program);
	memset(inputs, 0, sizeof(*inputs));
}

/* A file of a data set that was fetched: its tree lies in fetcherd's store. */
static enum sp_code
read_of_tree(const struct sp_conf *conf, const char *tree_digest, const char *path,
    struct inputs *out, struct sp_err *err)
{
	const struct sp_tree_file *file;
	struct sp_store *store = NULL;
	struct sp_tree tree = {0};
	enum sp_code code;
	char *dir = sp_paths_store(conf, "fetcherd");

	if ((code = sp_store_open(dir, 0, &store, err)) ||
	    (code = sp_tree_load(store, tree_digest, &tree, err)))
		goto out;
	file = sp_tree_find(&tree, path);
	if (file == NULL)
		code = sp_err_set(err, SP_E_NOT_FOUND, "tree %s has no file %s", tree_digest, path);
	else
		code = sp_store_read(store, file->sha256.s, QUANTD_CALIBRATION_MAX,
		    &out->calibration, &out->calibration_len, err);
out:
	sp_tree_clear(&tree);
	sp_store_close(&store);
	free(dir);
	return code;
}

static enum sp_code
read_calibration(
    const struct sp_conf *conf, const Sallyport__Task *task, struct inputs *out, struct sp_err *err)
{
	const char *named = out->settings.calibration, *path;
	struct sp_hex tree;
	enum sp_code code;
	char *file;

	if (sp_settings_in_tree(named, &tree, &path)) {
		code = read_of_tree(conf, tree.s, path, out, err);
	} else {
		file = sp_path_join(sp_conf_root(conf), named);
		code = sp_file_read(
		    file, QUANTD_CALIBRATION_MAX, &out->calibration, &out->calibration_len, err);
		free(file);
	}
	if (code == SP_OK) {
		out->calibration_digest = sp_sha256_hex(out->calibration, out->calibration_len);
		return SP_OK;
	}
	if (err != NULL && err->code == SP_E_NOT_FOUND)
		err->code = SP_E_CONFIG;
	return sp_err_prefix(err, "quantize.calibration of profile %s", task->profile);
}

static enum sp_code
inputs_read(
    const struct sp_conf *conf, const Sallyport__Task *task, struct inputs *out, struct sp_err *err)
{
	enum sp_code code;

	memset(out, 0, sizeof(*out));
	if ((code = quantd_settings_parse(
		 task->policy.data, task->policy.len, &out->settings, err)) ||
	    (code = sp_outcome_input(task, "source", &out->source, err)) ||
	    (code = sp_source_parse(task->source, &out->named, err)) ||
	    (code = sp_program_name(&out->program, err)))
		goto out;
	if (!out->source.tree) {
		code = sp_err_set(err, SP_E_INVALID, "the source of job %s is no tree", task->job);
		goto out;
	}
	code = read_calibration(conf, task, out, err);
	if (code == SP_OK)
		out->key = sp_settings_key(&out->settings, out->source.digest.s, out->named.repo,
		    out->calibration_digest.s, out->program);
out:
	if (code != SP_OK)
		inputs_clear(out);
	return code;
}

/* What the child reads beside stores: the calibration text, where it is no data set of one. */
enum sp_code
quantd_confine(const struct sp_conf *conf, const Sallyport__Task *task, struct sp_confine *confine,
    struct sp_err *err)
{
	struct sp_settings settings;
	enum sp_code code =
	    quantd_settings_parse(task->policy.data, task->policy.len, &settings, err);
	char *path;

	if (code != SP_OK)
		return code;
	if (settings.calibration[0] == '/') {
		path = sp_path_join(sp_conf_root(conf), settings.calibration);
		sp_confine_read(confine, path);
		free(path);
	}
	sp_settings_clear(&settings);
	return SP_OK;
}

/* --- work: the child process, without keys ------------------------------------------------------
 */

/* How the layers come along. */
struct layers {
	struct sp_lease *lease;
	int64_t begun_ms; /* 0: not yet */
	size_t first;	  /* that were done then */
};

static void
on_copied(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
	sp_lease_progress(ctx, "copy", done_bytes, total_bytes, "bytes");
}

static void
on_inspected(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
	const struct layers *layers = ctx;

	sp_lease_progress(layers->lease, "inspect", done_bytes, total_bytes, "bytes");
}

static void
on_layer(void *ctx, size_t done, size_t total, const json_t *layer)
{
	struct layers *layers = ctx;
	int64_t now = sp_time_monotonic_ms(), left_ms = -1;

	if (layers->begun_ms == 0) {
		layers->begun_ms = now;
		layers->first = done;
	} else if (done > layers->first) {
		left_ms = (now - layers->begun_ms) / (int64_t)(done - layers->first) *
			  (int64_t)(total - done);
	}
	sp_lease_progress(layers->lease, quantd_phase(layer, left_ms).s, done, total, "layers");
}

static enum sp_code
quantize(const struct sp_conf *conf, const struct inputs *inputs, const char *source,
    const char *work, const char *out, struct sp_lease *lease, json_t **report, struct sp_err *err)
{
	struct layers layers = {.lease = lease};
	struct sp_convert convert = {
	    .settings = &inputs->settings,
	    .source = source,
	    .layers = work,
	    .out = out,
	    .tree = inputs->source.digest.s,
	    .name = inputs->named.repo,
	    .calibration = inputs->calibration,
	    .calibration_size = inputs->calibration_len,
	    .progress = on_layer,
	    .inspected = on_inspected,
	    .arg = &layers,
	};
	enum sp_code code;

	code = sp_pool_open((unsigned)sp_conf_int(conf, "quantd.threads"), &convert.pool, err);
	if (code == SP_OK)
		code = sp_convert_run(&convert, report, err);
	sp_pool_close(&convert.pool);
	return code;
}

/* Puts the checkpoint, the report and the calibration text where the daemon finds them: with the
 * last of them the step can be done again when the profile's file is another. */
static enum sp_code
keep(const struct sp_conf *conf, const char *dir, const struct inputs *inputs, json_t *report,
    struct sp_outcome *outcome, struct sp_err *err)
{
	const json_t *calibration = json_object_get(report, "calibration");
	char *path = sp_paths_store(conf, SERVICE), *text = NULL;
	struct sp_store *store = NULL;
	struct sp_tree tree = {0};
	struct sp_hex digest, report_digest, texts;
	enum sp_code code;
	size_t len;

	text = sp_json_canonical(report, &len);
	if ((code = sp_store_open(path, 1, &store, err)) ||
	    (code = sp_tree_import(store, dir, &tree, &digest, err)) ||
	    (code = sp_store_put(store, text, len, &report_digest, err)) ||
	    (code = sp_store_put(store, inputs->calibration, inputs->calibration_len, &texts, err)))
		goto out;
	sp_outcome_artifact(outcome, "candidate", digest.s, SERVICE, 1, sp_tree_bytes(&tree));
	sp_outcome_artifact(outcome, "report", report_digest.s, SERVICE, 0, len);
	sp_outcome_artifact(outcome, "calibration", texts.s, SERVICE, 0, inputs->calibration_len);
	sp_outcome_detail(outcome, "calibration_blocks", "%lld",
	    (long long)json_integer_value(json_object_get(calibration, "blocks")));
	sp_outcome_detail(outcome, "calibration_texts", "%lld",
	    (long long)json_integer_value(json_object_get(calibration, "texts")));
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
		code = keep(conf, out, inputs, report, outcome, err);
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

/* A blob of ours as the child named it: its bytes are there, as many as it said. */
static enum sp_code
check_blob(const struct sp_step *step, const struct sp_artifact *blob, struct sp_err *err)
{
	uint64_t size;
	enum sp_code code = sp_store_verify(step->store, blob->digest.s, &size, NULL, NULL, err);

	if (code == SP_OK && blob->bytes != size)
		code = sp_err_set(err, SP_E_INTERNAL, "the child gave sizes that are not true");
	return code;
}

/* The artifacts that a child brings back. */
struct brought {
	const struct sp_artifact *candidate, *report, *calibration;
};

/* What the child said of its artifacts is checked against the bytes, not taken. There must be these
 * three alone: whatever else it named would reach the next step as if we had seen it. */
static enum sp_code
take_back(const struct sp_step *step, const struct sp_outcome *said, const char *source,
    struct brought *out, struct sp_err *err)
{
	struct sp_tree tree = {0};
	enum sp_code code;

	out->candidate = find_ours(said, "candidate", 1);
	out->report = find_ours(said, "report", 0);
	out->calibration = find_ours(said, "calibration", 0);
	if (said->artifact_count != 3 || out->candidate == NULL || out->report == NULL ||
	    out->calibration == NULL || strcmp(out->candidate->digest.s, source) == 0)
		return sp_err_set(err, SP_E_INTERNAL,
		    "the child brought back something else than a candidate, a report and a "
		    "calibration text of ours");
	if ((code = sp_tree_load(step->store, out->candidate->digest.s, &tree, err)) ||
	    (code = sp_tree_verify(step->store, &tree, err)) ||
	    (code = check_blob(step, out->report, err)) ||
	    (code = check_blob(step, out->calibration, err)))
		goto out;
	if (out->candidate->bytes != sp_tree_bytes(&tree))
		code = sp_err_set(err, SP_E_INTERNAL, "the child gave sizes that are not true");
out:
	sp_tree_clear(&tree);
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
say(const struct sp_outcome *said, const struct brought *b, struct sp_outcome *outcome)
{
	static const char *const counts[] = {"calibration_blocks", "calibration_texts"};

	sp_outcome_artifact(
	    outcome, "candidate", b->candidate->digest.s, SERVICE, 1, b->candidate->bytes);
	sp_outcome_artifact(outcome, "report", b->report->digest.s, SERVICE, 0, b->report->bytes);
	sp_outcome_artifact(
	    outcome, "calibration", b->calibration->digest.s, SERVICE, 0, b->calibration->bytes);
	sp_outcome_detail(outcome, "revision", "%s", sp_tree_revision(b->candidate->digest.s).s);
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
	struct brought brought;
	struct sp_outcome said = *outcome; /* by the child: no word of it goes on unseen */
	const struct sp_step *step = ctx;
	struct sp_trust *trust = NULL;
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
	    (code = take_back(step, &said, inputs.source.digest.s, &brought, err)))
		goto out;
	if (strcmp(brought.calibration->digest.s, inputs.calibration_digest.s) != 0) {
		code = sp_err_set(err, SP_E_STATE,
		    "%s changed while job %s was quantized with it: retry the job",
		    inputs.settings.calibration, task->job);
		goto out;
	}
	started = time_of_start(&said, now);
	provenance.settings = &inputs.settings;
	quantd_machine_read(inputs.program, &provenance.machine);
	provenance.source_name = name;
	provenance.source_tree = inputs.source.digest.s;
	provenance.calibration = inputs.calibration_digest.s;
	provenance.tree = brought.candidate->digest.s;
	provenance.report = brought.report->digest.s;
	provenance.builder = sp_key_public(step->key)->name;
	provenance.started = started.s;
	if ((code = sign(step, &provenance, outcome, err)))
		goto out;
	say(&said, &brought, outcome);
	remove_work(lease, inputs.key.s);
out:
	sp_outcome_clear(&said);
	free(name);
	sp_trust_free(&trust);
	inputs_clear(&inputs);
	return code;
}
