/*
 * quantd.c -- the quantize step: what it accepts, what it leaves, what it signs; with real stores,
 * keys and trust, and the bus replaced by the functions below.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/time.h"
#include "bus/step.h"
#include "bus/worker.h"
#include "engine/weights.h"
#include "quantd/quantd.h"
#include "step_rig.h"
#include "store/tree.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define POLICY(samples)                                                                            \
	"{\"destination\": \"enclave\", \"quantize\": {\"method\": \"awq\", \"group_size\": 128, " \
	"\"calibration\": \"/share/texts.jsonl\", \"samples\": " samples ", \"sequence\": 256}}"

static void
task_new(struct rig_task *t)
{
	struct sp_hex tree = rig_import("fetcherd", RIG_MODEL);

	rig_task_new(t, "quantize", POLICY("6"), &tree, 1);
}

static void
copy_in(const char *from, const char *to)
{
	uint8_t *data;
	size_t len;
	char *path = rig_at(to);

	rig_ok(sp_file_read(from, 16 << 20, &data, &len, &rig_err));
	rig_ok(sp_file_write(path, 0644, data, len, &rig_err));
	free(data);
	free(path);
}

static int
setup(void **state)
{
	(void)state;
	rig_open("quantd", SP_ROLE_QUANTIZE, SP_ROLE_FETCH, "quantd: { threads = 2; };");
	copy_in("tests/fixtures/calibration.jsonl", "share/texts.jsonl");
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	rig_close();
	return 0;
}

/* --- recipe
 * --------------------------------------------------------------------------------------- */

static enum sp_code
parse(const char *policy, struct sp_settings *settings)
{
	return quantd_settings_parse((const uint8_t *)policy, strlen(policy), settings, &rig_err);
}

static void
recipe_is_strict(void **state)
{
	static const struct {
		const char *policy, *says;
		enum sp_code code;
	} bad[] = {
	    {"{}", "quantize", SP_E_INVALID},
	    {"{\"quantize\": {\"method\": \"awq\"}}", "calibration", SP_E_INVALID},
	    {POLICY("0"), "samples", SP_E_INVALID},
	    {POLICY("\"6\""), "samples", SP_E_INVALID},
	    {POLICY("6, \"bits\": 3"), "quantize.bits", SP_E_CONFIG},
	    {POLICY("6, \"seed\": -1"), "seed", SP_E_INVALID},
	    {"{\"quantize\": {\"method\": \"gptq\", \"group_size\": 128, \"calibration\": \"/x\", "
	     "\"samples\": 1, \"sequence\": 1}}",
		"gptq", SP_E_UNSUPPORTED},
	    {"{\"quantize\": {\"method\": \"awq\", \"group_size\": 100, \"calibration\": \"/x\", "
	     "\"samples\": 1, \"sequence\": 1}}",
		"group_size", SP_E_INVALID},
	    {"{\"quantize\": {\"method\": \"awq\", \"group_size\": 64, \"calibration\": \"x\", "
	     "\"samples\": 1, \"sequence\": 1}}",
		"absolute", SP_E_INVALID},
	    {"[1", "profile", SP_E_INVALID},
	};
	struct sp_settings settings;
	struct sp_hex tree;
	const char *path;
	char *policy;

	(void)state;
	rig_ok(parse(POLICY("6"), &settings));
	assert_string_equal(settings.calibration, "/share/texts.jsonl");
	assert_string_equal(settings.method, "awq");
	assert_int_equal(settings.group_size, 128);
	assert_int_equal(settings.samples, 6);
	assert_int_equal(settings.sequence, 256);
	assert_int_equal(settings.seed, 0);
	sp_settings_clear(&settings);
	tree = sp_sha256_hex("data", 4);
	policy = sp_xasprintf("{\"quantize\": {\"method\": \"awq\", \"group_size\": 32, "
			      "\"calibration\": \"tree:%s/a/b.jsonl\", \"samples\": 1, "
			      "\"sequence\": 1, \"seed\": 42}}",
	    tree.s);
	rig_ok(parse(policy, &settings));
	assert_int_equal(settings.seed, 42);
	assert_true(sp_settings_in_tree(settings.calibration, &tree, &path));
	assert_string_equal(path, "a/b.jsonl");
	sp_settings_clear(&settings);
	free(policy);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		assert_int_equal(parse(bad[i].policy, &settings), bad[i].code);
		if (strstr(rig_err.msg, bad[i].says) == NULL)
			fail_msg("\"%s\" does not say \"%s\"", rig_err.msg, bad[i].says);
	}
}

static void
key_names_every_input(void **state)
{
	const struct sp_hex a = sp_sha256_hex("a", 1), b = sp_sha256_hex("b", 1);
	struct sp_settings base = {.method = (char *)(uintptr_t) "awq",
	    .calibration = (char *)(uintptr_t) "/x",
	    .group_size = 128,
	    .samples = 6,
	    .sequence = 256};
	struct sp_settings other[5] = {base, base, base, base, base};
	struct sp_hex keys[10];
	size_t n = 0;

	(void)state;
	keys[n++] = sp_settings_key(&base, a.s, "n", b.s, "1");
	keys[n++] = sp_settings_key(&base, b.s, "n", a.s, "1");
	keys[n++] = sp_settings_key(&base, a.s, "n", a.s, "1");
	keys[n++] = sp_settings_key(&base, a.s, "n", b.s, "2"); /* layers of another program */
	keys[n++] = sp_settings_key(&base, a.s, NULL, b.s, "1");
	other[0].group_size = 64;
	other[1].samples = 7;
	other[2].sequence = 512;
	other[3].seed = 1;
	other[4].method = (char *)(uintptr_t) "other";
	for (size_t i = 0; i < 5; i++)
		keys[n++] = sp_settings_key(&other[i], a.s, "n", b.s, "1");
	for (size_t i = 0; i < n; i++) {
		for (size_t k = i + 1; k < n; k++)
			assert_string_not_equal(keys[i].s, keys[k].s);
	}
	/* where the text lies does not count, only what it is */
	base.calibration = (char *)(uintptr_t) "/y";
	assert_string_equal(sp_settings_key(&base, a.s, "n", b.s, "1").s, keys[0].s);
}

static void
shuffles_by_seed(void **state)
{
	static const char text[] = "a\nbb\n\nccc\ndddd";
	size_t len, again;
	uint8_t *one, *two, *three;

	(void)state;
	one = sp_settings_shuffle((const uint8_t *)text, strlen(text), 1, &len);
	assert_int_equal(len, strlen(text) + 1);
	two = sp_settings_shuffle((const uint8_t *)text, strlen(text), 1, &again);
	assert_int_equal(len, again);
	assert_memory_equal(one, two, len);
	/* the same lines, in an order of each seed's own */
	for (const char *const *line =
		 (const char *const[]){"a\n", "bb\n", "ccc\n", "dddd\n", NULL};
	     *line != NULL; line++)
		assert_non_null(strstr((const char *)one, *line));
	three = sp_settings_shuffle((const uint8_t *)text, strlen(text), 2, &again);
	assert_int_equal(len, again);
	assert_memory_not_equal(one, three, len);
	free(one);
	free(two);
	free(three);
}

static void
phase_says_how_far_off(void **state)
{
	json_t *layer = json_pack("{s:f, s:f, s:f, s:f}", "attn_error", 0.001, "mlp_error", 0.002,
	    "attn_before", 0.004, "mlp_before", 0.0083);

	(void)state;
	assert_string_equal(quantd_phase(NULL, -1).s, "layer");
	assert_string_equal(quantd_phase(NULL, 61000).s, "layer: 1 min left");
	assert_string_equal(quantd_phase(layer, -1).s, "layer: error 0.0123 -> 0.003");
	assert_string_equal(quantd_phase(layer, 3 * 3600000 + 300000).s,
	    "layer: error 0.0123 -> 0.003, 3 h 05 min left");
	assert_string_equal(
	    quantd_phase(layer, 59999).s, "layer: error 0.0123 -> 0.003, 59 s left");
	json_object_del(layer, "attn_before");
	json_object_del(layer, "mlp_before");
	assert_string_equal(quantd_phase(layer, 0).s, "layer: error 0.003, 0 s left");
	json_decref(layer);
}

/* --- the chain behind
 * ------------------------------------------------------------------------------ */

static enum sp_code
check_source(struct rig_task *t)
{
	struct sp_trust *trust;
	char *name;
	enum sp_code code;

	rig_ok(sp_worker_trust(&rig_worker, &trust, &rig_err));
	code = quantd_check_source(trust, &t->task, t->trees[0].s, &name, &rig_err);
	if (code == SP_OK)
		assert_string_equal(name, "fixture/qwen2-tiny");
	free(name);
	sp_trust_free(&trust);
	return code;
}

static void
source_needs_its_fetch(void **state)
{
	struct sp_hex other = sp_sha256_hex("other", 5);
	struct rig_task t;

	(void)state;
	task_new(&t);
	rig_ok(check_source(&t));
	rig_task_envelope(&t, 0, rig_provenance(rig_worker.fetch, other.s, SP_BUILD_FETCH, NULL));
	assert_int_equal(check_source(&t), SP_E_DENIED);
	assert_non_null(strstr(rig_err.msg, other.s));
	rig_task_envelope(
	    &t, 0, rig_provenance(rig_worker.fetch, t.trees[0].s, SP_BUILD_QUANTIZE, NULL));
	assert_int_equal(check_source(&t), SP_E_INVALID);
	rig_task_envelope(
	    &t, 0, rig_provenance(rig_worker.stranger, t.trees[0].s, SP_BUILD_FETCH, NULL));
	assert_int_equal(check_source(&t), SP_E_DENIED);
	t.task.n_attestations = 0;
	assert_int_equal(check_source(&t), SP_E_DENIED);
	rig_task_free(&t);
}

/* --- the whole step
 * --------------------------------------------------------------------------------- */

static void
check_statement(const struct sp_outcome *outcome, const struct rig_task *t)
{
	const struct sp_artifact *candidate = sp_outcome_find(outcome, "candidate");
	const struct sp_artifact *report = sp_outcome_find(outcome, "report");
	const json_t *definition, *byproduct, *calibration, *internal;
	struct sp_statement statement;
	struct sp_pubkey key;
	struct sp_buf pae = {0};
	struct sp_dsse dsse;
	char *path = rig_at("keys/quantd/quantize.key.pub");

	rig_ok(sp_pubkey_load(path, &key, &rig_err));
	rig_ok(sp_dsse_parse(outcome->attestation, outcome->attestation_len, &dsse, &rig_err));
	assert_int_equal(dsse.sig_count, 1);
	sp_dsse_pae(&pae, dsse.payload_type, dsse.payload, dsse.payload_len);
	assert_true(sp_pubkey_verify(key.bytes, pae.data, pae.len, dsse.sigs[0].sig));
	rig_ok(sp_statement_parse(dsse.payload, dsse.payload_len, &statement, &rig_err));
	assert_string_equal(statement.subject_tree, candidate->digest.s);
	assert_string_equal(statement.subject_name, "fixture/qwen2-tiny-AWQ");
	assert_string_equal(sp_statement_build_type(&statement), SP_BUILD_QUANTIZE);
	assert_string_equal(sp_statement_builder(&statement), "quantd@bastion");
	assert_true(sp_statement_uses_tree(&statement, t->trees[0].s));
	definition = json_object_get(statement.predicate, "buildDefinition");
	calibration = json_array_get(json_object_get(definition, "resolvedDependencies"), 1);
	assert_string_equal(
	    json_string_value(json_object_get(json_object_get(calibration, "digest"), "sha256")),
	    sp_outcome_find(outcome, "calibration")->digest.s);
	internal = json_object_get(definition, "internalParameters");
	assert_non_null(json_object_get(json_object_get(internal, "hardware"), "cpu"));
	assert_int_equal(json_object_size(json_object_get(internal, "libraries")), 5);
	assert_non_null(strchr(json_string_value(json_object_get(internal, "program")), '+'));
	assert_string_equal(
	    sp_outcome_get(outcome, "revision"), sp_tree_revision(candidate->digest.s).s);
	byproduct = json_array_get(
	    json_object_get(json_object_get(statement.predicate, "runDetails"), "byproducts"), 0);
	assert_string_equal(
	    json_string_value(json_object_get(json_object_get(byproduct, "digest"), "sha256")),
	    report->digest.s);
	sp_statement_clear(&statement);
	sp_dsse_clear(&dsse);
	sp_buf_free(&pae);
	free(path);
}

/* The tree in quantd's store is a checkpoint that loads. */
static void
check_tree(const struct sp_artifact *candidate)
{
	char *dir = rig_at("store/quantd"), *out = rig_at("checkout");
	struct sp_weights *weights;
	struct sp_store *store;
	struct sp_tree tree;

	rig_ok(sp_store_open(dir, 0, &store, &rig_err));
	rig_ok(sp_tree_load(store, candidate->digest.s, &tree, &rig_err));
	assert_int_equal(candidate->bytes, sp_tree_bytes(&tree));
	rig_ok(sp_tree_materialize(store, &tree, out, NULL, NULL, &rig_err));
	rig_ok(sp_weights_open(out, &weights, &rig_err));
	assert_int_equal(sp_weights_config(weights)->awq.bits, 4);
	sp_weights_close(&weights);
	sp_tree_clear(&tree);
	sp_store_close(&store);
	free(dir);
	free(out);
}

static void
step_makes_and_attests(void **state)
{
	struct sp_outcome outcome = {0}, again = {0};
	struct rig_task t;
	void *ctx;
	char *work = rig_at("state/quantd/work");

	(void)state;
	task_new(&t);
	rig_lease = (struct sp_lease){0};
	rig_ok(quantd_work(rig_worker.conf, &t.task, &rig_lease, &outcome, &rig_err));
	assert_int_equal(rig_lease.layers, 4);
	assert_int_equal(outcome.attestation_len, 0); /* the child has no key to sign with */
	rig_ok(quantd_open(&rig_worker, &ctx, &rig_err));
	rig_ok(quantd_seal(ctx, &rig_worker, &t.task, &rig_lease, SP_OK, &outcome, &rig_err));
	check_statement(&outcome, &t);
	check_tree(sp_outcome_find(&outcome, "candidate"));
	/* nothing of the work stays: the directory named after the inputs is gone */
	assert_int_equal(rmdir(work), 0);
	/* and a step that is done twice leaves the same tree */
	rig_ok(quantd_work(rig_worker.conf, &t.task, &rig_lease, &again, &rig_err));
	assert_string_equal(sp_outcome_find(&again, "candidate")->digest.s,
	    sp_outcome_find(&outcome, "candidate")->digest.s);
	assert_string_equal(sp_outcome_find(&again, "report")->digest.s,
	    sp_outcome_find(&outcome, "report")->digest.s);
	sp_step_close(ctx);
	sp_outcome_clear(&outcome);
	sp_outcome_clear(&again);
	rig_task_free(&t);
	free(work);
}

static void
flip_byte(const char *path)
{
	uint8_t *data;
	size_t len;

	rig_ok(sp_file_read(path, 64 << 20, &data, &len, &rig_err));
	data[len / 2] ^= 1;
	assert_int_equal(chmod(path, 0640), 0);
	rig_ok(sp_file_write(path, 0440, data, len, &rig_err));
	free(data);
}

/* The path of the largest file of a tree in a store. */
static char *
largest_blob(const char *service, const char *digest)
{
	char *dir = sp_xasprintf("%s/store/%s", rig_top, service), *path;
	struct sp_store *store;
	struct sp_tree tree;
	size_t largest = 0;

	rig_ok(sp_store_open(dir, 0, &store, &rig_err));
	rig_ok(sp_tree_load(store, digest, &tree, &rig_err));
	for (size_t i = 0; i < tree.count; i++) {
		if (tree.files[i].size > tree.files[largest].size)
			largest = i;
	}
	path = sp_store_path(store, tree.files[largest].sha256.s);
	sp_tree_clear(&tree);
	sp_store_close(&store);
	free(dir);
	return path;
}

/* A child's outcome: what `from` has, with the changes that a test makes. */
static struct sp_outcome
said(const struct sp_outcome *from)
{
	struct sp_outcome copy = {0};

	for (size_t i = 0; i < from->artifact_count; i++) {
		const struct sp_artifact *a = &from->artifacts[i];

		sp_outcome_artifact(&copy, a->role, a->digest.s, a->store, a->tree, a->bytes);
	}
	for (size_t i = 0; i < from->detail_count; i++)
		sp_outcome_detail(&copy, from->details[i].key, "%s", from->details[i].value);
	return copy;
}

/* Nothing is signed, and nothing that the child said goes further. Takes outcome. */
static void
refused(void *ctx, const struct rig_task *t, struct sp_outcome outcome, enum sp_code code)
{
	assert_int_equal(
	    quantd_seal(ctx, &rig_worker, &t->task, &rig_lease, SP_OK, &outcome, &rig_err), code);
	assert_int_equal(outcome.attestation_len, 0);
	assert_int_equal(outcome.artifact_count, 0);
	assert_int_equal(outcome.detail_count, 0);
	sp_outcome_clear(&outcome);
}

static void
seal_believes_nothing(void **state)
{
	struct sp_outcome outcome = {0}, other;
	struct sp_artifact *candidate, *report;
	struct rig_task t;
	char *blob;
	void *ctx;

	(void)state;
	task_new(&t);
	rig_ok(quantd_work(rig_worker.conf, &t.task, &rig_lease, &outcome, &rig_err));
	rig_ok(quantd_open(&rig_worker, &ctx, &rig_err));
	candidate = &outcome.artifacts[0];
	report = &outcome.artifacts[1];
	/* a child that brings nothing, or another calibration text than the profile's */
	refused(ctx, &t, (struct sp_outcome){0}, SP_E_INTERNAL);
	other = said(&outcome);
	other.artifact_count = 2;
	refused(ctx, &t, other, SP_E_INTERNAL);
	other = said(&outcome);
	// NOLINTNEXTLINE(clang-analyzer-core.NullDereference): a child names its three artifacts
	other.artifacts[2].digest = report->digest;
	other.artifacts[2].bytes = report->bytes;
	refused(ctx, &t, other, SP_E_STATE);
	/* one artifact more: a source of its own for the next step, or a second candidate */
	other = said(&outcome);
	sp_outcome_artifact(&other, "source", candidate->digest.s, "quantd", 1, candidate->bytes);
	refused(ctx, &t, other, SP_E_INTERNAL);
	other = said(&outcome);
	sp_outcome_artifact(&other, "candidate", t.trees[0].s, "fetcherd", 1, 1);
	refused(ctx, &t, other, SP_E_INTERNAL);
	/* artifacts that lie elsewhere, or are not what they are called */
	other = said(&outcome);
	strcpy(other.artifacts[0].store, "fetcherd");
	refused(ctx, &t, other, SP_E_INTERNAL);
	other = said(&outcome);
	other.artifacts[0].tree = 0;
	refused(ctx, &t, other, SP_E_INTERNAL);
	other = said(&outcome);
	other.artifacts[0].digest = report->digest;
	refused(ctx, &t, other, SP_E_INVALID);
	/* the model as it was fetched is no candidate, wherever a copy of it lies */
	other = said(&outcome);
	other.artifacts[0].digest = t.trees[0];
	refused(ctx, &t, other, SP_E_INTERNAL);
	other = said(&outcome);
	other.artifacts[1].bytes++;
	refused(ctx, &t, other, SP_E_INTERNAL);
	/* a source that no fetch vouches for */
	rig_task_envelope(
	    &t, 0, rig_provenance(rig_worker.stranger, t.trees[0].s, SP_BUILD_FETCH, NULL));
	refused(ctx, &t, said(&outcome), SP_E_DENIED);
	rig_task_envelope(
	    &t, 0, rig_provenance(rig_worker.fetch, t.trees[0].s, SP_BUILD_FETCH, NULL));
	/* bytes in the store that are not those of the digest */
	blob = largest_blob("quantd", candidate->digest.s);
	flip_byte(blob);
	refused(ctx, &t, said(&outcome), SP_E_CORRUPT);
	flip_byte(blob);
	rig_ok(quantd_seal(ctx, &rig_worker, &t.task, &rig_lease, SP_OK, &outcome, &rig_err));
	sp_step_close(ctx);
	sp_outcome_clear(&outcome);
	rig_task_free(&t);
	free(blob);
}

static const char *
time_of(const struct sp_statement *statement, const char *key)
{
	return json_string_value(json_object_get(
	    json_object_get(json_object_get(statement->predicate, "runDetails"), "metadata"), key));
}

/* Of a child's details the daemon says on what can be nothing but a number, and no time to come. */
static void
seal_checks_details(void **state)
{
	struct sp_outcome outcome = {0}, mine = {0};
	struct sp_statement statement;
	struct sp_dsse dsse;
	struct rig_task t;
	void *ctx;

	(void)state;
	task_new(&t);
	rig_ok(quantd_work(rig_worker.conf, &t.task, &rig_lease, &outcome, &rig_err));
	rig_ok(quantd_open(&rig_worker, &ctx, &rig_err));
	for (size_t i = 0; i < outcome.artifact_count; i++) {
		const struct sp_artifact *a = &outcome.artifacts[i];

		sp_outcome_artifact(&mine, a->role, a->digest.s, a->store, a->tree, a->bytes);
	}
	sp_outcome_attest(&mine, "forged", 6);
	sp_outcome_detail(&mine, "calibration_texts", "all of them, and approved by root");
	sp_outcome_detail(
	    &mine, "calibration_blocks", "%s", sp_outcome_get(&outcome, "calibration_blocks"));
	sp_outcome_detail(&mine, "approved_by", "root");
	sp_outcome_detail(&mine, "started", "2098-01-01T00:00:00.000Z");
	rig_ok(quantd_seal(ctx, &rig_worker, &t.task, &rig_lease, SP_OK, &mine, &rig_err));
	assert_int_equal(mine.artifact_count, 3);
	assert_null(sp_outcome_get(&mine, "approved_by"));
	assert_null(sp_outcome_get(&mine, "calibration_texts"));
	assert_string_equal(sp_outcome_get(&mine, "calibration_blocks"),
	    sp_outcome_get(&outcome, "calibration_blocks"));
	rig_ok(sp_dsse_parse(mine.attestation, mine.attestation_len, &dsse, &rig_err));
	rig_ok(sp_statement_parse(dsse.payload, dsse.payload_len, &statement, &rig_err));
	assert_string_equal(time_of(&statement, "startedOn"), time_of(&statement, "finishedOn"));
	sp_statement_clear(&statement);
	sp_dsse_clear(&dsse);
	sp_step_close(ctx);
	sp_outcome_clear(&outcome);
	sp_outcome_clear(&mine);
	rig_task_free(&t);
}

/* How many directories of work have an entry of that name. */
static size_t
left_in_work(const char *name)
{
	char *pattern = sp_xasprintf("%s/state/quantd/work/*/%s", rig_top, name);
	glob_t found = {0};
	size_t n;

	(void)glob(pattern, 0, NULL, &found);
	n = found.gl_pathc;
	globfree(&found);
	free(pattern);
	return n;
}

static void
work_verifies_the_source(void **state)
{
	struct sp_outcome outcome = {0};
	struct rig_task t;
	char *blob, *alive;
	int busy;

	(void)state;
	task_new(&t);
	blob = largest_blob("fetcherd", t.trees[0].s);
	flip_byte(blob);
	assert_int_equal(
	    quantd_work(rig_worker.conf, &t.task, &rig_lease, &outcome, &rig_err), SP_E_CORRUPT);
	assert_int_equal(outcome.artifact_count, 0);
	/* a model that cannot be quantized does not fill the disk */
	assert_int_equal(left_in_work("*"), 0);
	flip_byte(blob);
	/* nor does what an attempt that was killed left, unless its process still lives */
	for (size_t i = 0; i < 2; i++) {
		char *source = sp_xasprintf(
		    "%s/state/quantd/work/%s/source/model", rig_top, sp_sha256_hex(&"ab"[i], 1).s);

		rig_ok(sp_file_mkdirs(source, 0700, &rig_err));
		free(source);
	}
	alive = sp_xasprintf("%s/state/quantd/work/%s", rig_top, sp_sha256_hex("b", 1).s);
	rig_ok(sp_step_lock(alive, &busy, &rig_err));
	free(alive);
	rig_ok(quantd_work(rig_worker.conf, &t.task, &rig_lease, &outcome, &rig_err));
	assert_int_equal(left_in_work("source"), 1); /* the other process's */
	assert_int_equal(left_in_work("out"), 0);
	close(busy);
	assert_int_equal(left_in_work("layers"), 1); /* until it is sealed */
	sp_outcome_clear(&outcome);
	rig_task_policy(&t,
	    "{\"quantize\": {\"method\": \"awq\", \"group_size\": 128, \"calibration\": "
	    "\"/share/none\", \"samples\": 6, \"sequence\": 256}}");
	assert_int_equal(
	    quantd_work(rig_worker.conf, &t.task, &rig_lease, &outcome, &rig_err), SP_E_CONFIG);
	assert_non_null(strstr(rig_err.msg, "/share/none"));
	rig_task_policy(&t, POLICY("6"));
	t.parts[0].tree = 0;
	assert_int_equal(
	    quantd_work(rig_worker.conf, &t.task, &rig_lease, &outcome, &rig_err), SP_E_INVALID);
	t.task.n_artifacts = 0;
	assert_int_equal(
	    quantd_work(rig_worker.conf, &t.task, &rig_lease, &outcome, &rig_err), SP_E_INVALID);
	sp_outcome_clear(&outcome);
	rig_task_free(&t);
	free(blob);
}

/* The profile names a file of a data set that was fetched: the same text, so the same tree. */
static void
work_reads_a_data_set(void **state)
{
	struct sp_outcome by_path = {0}, by_tree = {0};
	struct rig_task t;
	struct sp_hex data;
	char *dir, *policy;

	(void)state;
	task_new(&t);
	rig_ok(quantd_work(rig_worker.conf, &t.task, &rig_lease, &by_path, &rig_err));
	dir = rig_at("data");
	rig_ok(sp_file_mkdirs(dir, 0755, &rig_err));
	copy_in("tests/fixtures/calibration.jsonl", "data/texts.jsonl");
	data = rig_import("fetcherd", dir);
	policy = sp_xasprintf("{\"quantize\": {\"method\": \"awq\", \"group_size\": 128, "
			      "\"calibration\": \"tree:%s/texts.jsonl\", \"samples\": 6, "
			      "\"sequence\": 256}}",
	    data.s);
	rig_task_policy(&t, policy);
	rig_ok(quantd_work(rig_worker.conf, &t.task, &rig_lease, &by_tree, &rig_err));
	assert_string_equal(sp_outcome_find(&by_path, "candidate")->digest.s,
	    sp_outcome_find(&by_tree, "candidate")->digest.s);
	sp_outcome_clear(&by_tree);
	memcpy(strstr(policy, "texts"), "other", 5);
	rig_task_policy(&t, policy);
	assert_int_equal(
	    quantd_work(rig_worker.conf, &t.task, &rig_lease, &by_tree, &rig_err), SP_E_CONFIG);
	assert_non_null(strstr(rig_err.msg, "has no file other.jsonl"));
	sp_outcome_clear(&by_path);
	sp_outcome_clear(&by_tree);
	rig_task_free(&t);
	free(policy);
	free(dir);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(recipe_is_strict),
	    cmocka_unit_test(key_names_every_input),
	    cmocka_unit_test(shuffles_by_seed),
	    cmocka_unit_test(phase_says_how_far_off),
	    cmocka_unit_test(source_needs_its_fetch),
	    cmocka_unit_test(step_makes_and_attests),
	    cmocka_unit_test(seal_believes_nothing),
	    cmocka_unit_test(seal_checks_details),
	    cmocka_unit_test(work_verifies_the_source),
	    cmocka_unit_test(work_reads_a_data_set),
	};

	return cmocka_run_group_tests_name("quantd", tests, setup, teardown);
}
