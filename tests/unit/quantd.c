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
#include "store/tree.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define JOB "00112233445566778899aabbccddeeff"
#define MODEL "tests/fixtures/model"
#define POLICY(samples)                                                                            \
	"{\"destination\": \"enclave\", \"quantize\": {\"method\": \"awq\", \"group_size\": 128, " \
	"\"calibration\": \"/share/texts.jsonl\", \"samples\": " samples ", \"sequence\": 256}}"

static struct sp_err err;
static char top[] = "/tmp/sp-quantd-XXXXXX";

static void
ok(enum sp_code rc)
{
	if (rc != SP_OK)
		fail_msg("%s: %s", sp_err_word(rc), err.msg);
}

/* --- the worker's side, as the daemon sees it ----------------------------------------------------
 */

struct sp_lease {
	size_t progress, layers;
};

struct sp_worker {
	struct sp_conf *conf;
	struct sp_key *root, *fetch, *stranger;
};

static struct sp_lease lease;
static struct sp_worker worker;

void
sp_lease_progress(
    struct sp_lease *l, const char *phase, uint64_t done, uint64_t total, const char *unit)
{
	assert_true(done <= total);
	assert_true(strcmp(unit, "layers") == 0 || strcmp(unit, "bytes") == 0);
	l->progress++;
	if (strcmp(phase, "layer") == 0)
		l->layers = done;
}

char *
sp_lease_workdir(const struct sp_lease *l, const char *key, struct sp_err *e)
{
	char *dir = sp_xasprintf("%s/work/%s", top, key);

	(void)l;
	assert_true(sp_hex_is_digest(key));
	assert_int_equal(sp_file_mkdirs(dir, 0700, e), SP_OK);
	return dir;
}

const struct sp_conf *
sp_worker_conf(const struct sp_worker *w)
{
	return w->conf;
}

static void
add_role(json_t *roles, const char *role, const struct sp_key *key)
{
	const struct sp_pubkey *pub = sp_key_public(key);
	char *bytes = sp_base64_encode(pub->bytes, SP_PUBKEY_LEN);

	json_object_set_new(roles, role,
	    json_pack("{s:[{s:s, s:s, s:s}], s:i}", "keys", "id", pub->id.s, "key", bytes, "name",
		pub->name, "threshold", 1));
	free(bytes);
}

enum sp_code
sp_worker_trust(const struct sp_worker *w, struct sp_trust **trust, struct sp_err *e)
{
	json_t *roles = json_object(), *payload;
	enum sp_code code;
	char *text;
	size_t len;

	add_role(roles, "root", w->root);
	add_role(roles, "fetch", w->fetch);
	payload = json_pack("{s:s, s:o, s:s, s:i, s:[]}", "expires", "2099-01-01T00:00:00.000Z",
	    "roles", roles, "type", "sallyport-trust/1", "version", 1, "workers");
	text = sp_json_canonical(payload, &len);
	code = sp_trust_parse((const uint8_t *)text, len, trust, e);
	free(text);
	json_decref(payload);
	return code;
}

/* --- a task --------------------------------------------------------------------------------------
 */

struct task {
	Sallyport__Task task;
	Sallyport__Artifact source, *artifacts[1];
	Sallyport__Attested fetch, *attestations[1];
	struct sp_hex tree;
	char *envelope;
};

static char *
at(const char *name)
{
	return sp_xasprintf("%s/%s", top, name);
}

/* A fetch attestation about `tree`, signed by key. */
static char *
fetch_envelope(const struct sp_key *key, const char *tree, const char *build_type)
{
	const struct sp_provenance provenance = {
	    .subject_name = "fixture/qwen2-tiny",
	    .subject_tree = tree,
	    .build_type = build_type,
	    .builder = sp_key_public(key)->name,
	    .version = "1",
	    .invocation = JOB,
	    .started = "2026-11-24T05:02:03.123Z",
	    .finished = "2026-11-24T05:02:04.123Z",
	};
	size_t len, envelope_len;
	char *statement = sp_statement_provenance(&provenance, &len), *envelope;

	ok(sp_dsse_sign(key, SP_DSSE_INTOTO, statement, len, &envelope, &envelope_len, &err));
	free(statement);
	return envelope;
}

static void
set_policy(struct task *t, const char *policy)
{
	t->task.policy.data = (uint8_t *)(uintptr_t)policy;
	t->task.policy.len = strlen(policy);
}

static void
set_fetch(struct task *t, char *envelope)
{
	free(t->envelope);
	t->envelope = envelope;
	t->fetch.envelope.data = (uint8_t *)envelope;
	t->fetch.envelope.len = strlen(envelope);
}

/* The fixture in fetcherd's store, as a fetch would leave it. */
static void
task_new(struct task *t)
{
	char *dir = at("store/fetcherd");
	struct sp_store *store;
	struct sp_tree tree = {0};

	memset(t, 0, sizeof(*t));
	ok(sp_store_open(dir, 1, &store, &err));
	ok(sp_tree_import(store, MODEL, &tree, &t->tree, &err));
	sp_tree_clear(&tree);
	sp_store_close(&store);
	free(dir);
	sallyport__task__init(&t->task);
	sallyport__artifact__init(&t->source);
	sallyport__attested__init(&t->fetch);
	t->source.role = (char *)(uintptr_t) "source";
	t->source.digest = t->tree.s;
	t->source.store = (char *)(uintptr_t) "fetcherd";
	t->source.tree = 1;
	t->fetch.step = (char *)(uintptr_t) "fetch";
	t->artifacts[0] = &t->source;
	t->attestations[0] = &t->fetch;
	t->task.job = (char *)(uintptr_t)JOB;
	t->task.step = (char *)(uintptr_t) "quantize";
	t->task.kind = (char *)(uintptr_t) "model";
	t->task.source = (char *)(uintptr_t) "hf:fixture/qwen2-tiny@main";
	t->task.profile = (char *)(uintptr_t) "fixture";
	t->task.name = (char *)(uintptr_t) "fixture/qwen2-tiny-AWQ";
	t->task.artifacts = t->artifacts;
	t->task.n_artifacts = 1;
	t->task.attestations = t->attestations;
	t->task.n_attestations = 1;
	set_policy(t, POLICY("6"));
	set_fetch(t, fetch_envelope(worker.fetch, t->tree.s, SP_BUILD_FETCH));
}

static void
copy_in(const char *from, const char *to)
{
	uint8_t *data;
	size_t len;
	char *path = at(to);

	ok(sp_file_read(from, 16 << 20, &data, &len, &err));
	ok(sp_file_write(path, 0644, data, len, &err));
	free(data);
	free(path);
}

static void
save_key(enum sp_role role, const char *name, const char *to)
{
	struct sp_key *key;
	char *path = at(to);

	ok(sp_key_new(role, name, &key, &err));
	ok(sp_key_save(key, path, NULL, &err));
	sp_key_free(&key);
	free(path);
}

static int
setup(void **state)
{
	static const char conf[] =
	    "side = \"bastion\"; store: { dir = \"/store\"; }; keys: { dir = "
	    "\"/keys\"; }; quantd: { threads = 2; };\n";
	static const char *const dirs[] = {"store", "share", "keys/quantd"};
	char *path;

	(void)state;
	assert_non_null(mkdtemp(top));
	for (size_t i = 0; i < sizeof(dirs) / sizeof(*dirs); i++) {
		path = at(dirs[i]);
		ok(sp_file_mkdirs(path, 0755, &err));
		free(path);
	}
	copy_in("tests/fixtures/calibration.jsonl", "share/texts.jsonl");
	save_key(SP_ROLE_QUANTIZE, "quantd@bastion", "keys/quantd/quantize.key");
	path = at("sallyport.conf");
	ok(sp_file_write(path, 0644, conf, strlen(conf), &err));
	ok(sp_conf_load(path, top, sp_conf_keys, &worker.conf, &err));
	free(path);
	ok(sp_key_new(SP_ROLE_ROOT, "root@offline", &worker.root, &err));
	ok(sp_key_new(SP_ROLE_FETCH, "fetcherd@bastion", &worker.fetch, &err));
	ok(sp_key_new(SP_ROLE_FETCH, "stranger", &worker.stranger, &err));
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	sp_key_free(&worker.root);
	sp_key_free(&worker.fetch);
	sp_key_free(&worker.stranger);
	sp_conf_free(&worker.conf);
	ok(sp_file_remove_all(top, &err));
	return 0;
}

/* --- recipe
 * --------------------------------------------------------------------------------------- */

static enum sp_code
parse(const char *policy, struct quantd_recipe *recipe)
{
	return quantd_recipe_parse((const uint8_t *)policy, strlen(policy), recipe, &err);
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
	struct quantd_recipe recipe;

	(void)state;
	ok(parse(POLICY("6"), &recipe));
	assert_string_equal(recipe.calibration, "/share/texts.jsonl");
	assert_int_equal(recipe.group_size, 128);
	assert_int_equal(recipe.samples, 6);
	assert_int_equal(recipe.sequence, 256);
	quantd_recipe_clear(&recipe);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		assert_int_equal(parse(bad[i].policy, &recipe), bad[i].code);
		if (strstr(err.msg, bad[i].says) == NULL)
			fail_msg("\"%s\" does not say \"%s\"", err.msg, bad[i].says);
	}
}

static void
key_names_every_input(void **state)
{
	const struct sp_hex a = sp_sha256_hex("a", 1), b = sp_sha256_hex("b", 1);
	struct quantd_recipe recipe = {.group_size = 128, .samples = 6, .sequence = 256};
	struct sp_hex keys[7];

	(void)state;
	keys[0] = quantd_key(a.s, b.s, &recipe, "1");
	assert_string_equal(quantd_key(a.s, b.s, &recipe, "1").s, keys[0].s);
	keys[1] = quantd_key(b.s, a.s, &recipe, "1");
	keys[2] = quantd_key(a.s, a.s, &recipe, "1");
	recipe.group_size = 64;
	keys[3] = quantd_key(a.s, b.s, &recipe, "1");
	recipe.group_size = 128;
	recipe.samples = 7;
	keys[4] = quantd_key(a.s, b.s, &recipe, "1");
	recipe.samples = 6;
	recipe.sequence = 512;
	keys[5] = quantd_key(a.s, b.s, &recipe, "1");
	recipe.sequence = 256;
	keys[6] = quantd_key(a.s, b.s, &recipe, "2"); /* layers of another program */
	for (size_t i = 0; i < 7; i++) {
		for (size_t k = i + 1; k < 7; k++)
			assert_string_not_equal(keys[i].s, keys[k].s);
	}
}

/* --- the chain behind
 * ------------------------------------------------------------------------------ */

static enum sp_code
check_source(struct task *t)
{
	struct sp_trust *trust;
	char *name;
	enum sp_code code;

	ok(sp_worker_trust(&worker, &trust, &err));
	code = quantd_check_source(trust, &t->task, t->tree.s, &name, &err);
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
	struct task t;

	(void)state;
	task_new(&t);
	ok(check_source(&t));
	set_fetch(&t, fetch_envelope(worker.fetch, other.s, SP_BUILD_FETCH));
	assert_int_equal(check_source(&t), SP_E_DENIED);
	assert_non_null(strstr(err.msg, other.s));
	set_fetch(&t, fetch_envelope(worker.fetch, t.tree.s, SP_BUILD_QUANTIZE));
	assert_int_equal(check_source(&t), SP_E_INVALID);
	set_fetch(&t, fetch_envelope(worker.stranger, t.tree.s, SP_BUILD_FETCH));
	assert_int_equal(check_source(&t), SP_E_DENIED);
	t.task.n_attestations = 0;
	assert_int_equal(check_source(&t), SP_E_DENIED);
	free(t.envelope);
}

/* --- the whole step
 * --------------------------------------------------------------------------------- */

static void
check_statement(const struct sp_outcome *outcome, const struct task *t)
{
	const struct sp_artifact *candidate = sp_outcome_find(outcome, "candidate");
	const struct sp_artifact *report = sp_outcome_find(outcome, "report");
	const json_t *definition, *byproduct, *calibration;
	struct sp_statement statement;
	struct sp_pubkey key;
	struct sp_buf pae = {0};
	struct sp_dsse dsse;
	char *path = at("keys/quantd/quantize.key.pub");

	ok(sp_pubkey_load(path, &key, &err));
	ok(sp_dsse_parse(outcome->attestation, outcome->attestation_len, &dsse, &err));
	assert_int_equal(dsse.sig_count, 1);
	sp_dsse_pae(&pae, dsse.payload_type, dsse.payload, dsse.payload_len);
	assert_true(sp_pubkey_verify(key.bytes, pae.data, pae.len, dsse.sigs[0].sig));
	ok(sp_statement_parse(dsse.payload, dsse.payload_len, &statement, &err));
	assert_string_equal(statement.subject_tree, candidate->digest.s);
	assert_string_equal(statement.subject_name, "fixture/qwen2-tiny-AWQ");
	assert_string_equal(sp_statement_build_type(&statement), SP_BUILD_QUANTIZE);
	assert_string_equal(sp_statement_builder(&statement), "quantd@bastion");
	assert_true(sp_statement_uses_tree(&statement, t->tree.s));
	definition = json_object_get(statement.predicate, "buildDefinition");
	calibration = json_array_get(json_object_get(definition, "resolvedDependencies"), 1);
	assert_string_equal(
	    json_string_value(json_object_get(json_object_get(calibration, "digest"), "sha256")),
	    sp_outcome_get(outcome, "calibration"));
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
	char *dir = at("store/quantd"), *out = at("checkout");
	struct sp_weights *weights;
	struct sp_store *store;
	struct sp_tree tree;

	ok(sp_store_open(dir, 0, &store, &err));
	ok(sp_tree_load(store, candidate->digest.s, &tree, &err));
	assert_int_equal(candidate->bytes, sp_tree_bytes(&tree));
	ok(sp_tree_materialize(store, &tree, out, NULL, NULL, &err));
	ok(sp_weights_open(out, &weights, &err));
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
	struct task t;
	void *ctx;
	char *work = at("work");

	(void)state;
	task_new(&t);
	lease = (struct sp_lease){0};
	ok(quantd_work(worker.conf, &t.task, &lease, &outcome, &err));
	assert_int_equal(lease.layers, 4);
	assert_int_equal(outcome.attestation_len, 0); /* the child has no key to sign with */
	ok(quantd_open(&worker, &ctx, &err));
	ok(quantd_seal(ctx, &worker, &t.task, &lease, SP_OK, &outcome, &err));
	check_statement(&outcome, &t);
	check_tree(sp_outcome_find(&outcome, "candidate"));
	/* nothing of the work stays: the directory named after the inputs is gone */
	assert_int_equal(rmdir(work), 0);
	/* and a step that is done twice leaves the same tree */
	ok(quantd_work(worker.conf, &t.task, &lease, &again, &err));
	assert_string_equal(sp_outcome_find(&again, "candidate")->digest.s,
	    sp_outcome_find(&outcome, "candidate")->digest.s);
	assert_string_equal(sp_outcome_find(&again, "report")->digest.s,
	    sp_outcome_find(&outcome, "report")->digest.s);
	sp_step_close(ctx);
	sp_outcome_clear(&outcome);
	sp_outcome_clear(&again);
	free(t.envelope);
	free(work);
}

static void
flip_byte(const char *path)
{
	uint8_t *data;
	size_t len;

	ok(sp_file_read(path, 64 << 20, &data, &len, &err));
	data[len / 2] ^= 1;
	assert_int_equal(chmod(path, 0640), 0);
	ok(sp_file_write(path, 0440, data, len, &err));
	free(data);
}

/* The path of the largest file of a tree in a store. */
static char *
largest_blob(const char *service, const char *digest)
{
	char *dir = sp_xasprintf("%s/store/%s", top, service), *path;
	struct sp_store *store;
	struct sp_tree tree;
	size_t largest = 0;

	ok(sp_store_open(dir, 0, &store, &err));
	ok(sp_tree_load(store, digest, &tree, &err));
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
refused(void *ctx, const struct task *t, struct sp_outcome outcome, enum sp_code code)
{
	assert_int_equal(quantd_seal(ctx, &worker, &t->task, &lease, SP_OK, &outcome, &err), code);
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
	struct task t;
	char *blob;
	void *ctx;

	(void)state;
	task_new(&t);
	ok(quantd_work(worker.conf, &t.task, &lease, &outcome, &err));
	ok(quantd_open(&worker, &ctx, &err));
	candidate = &outcome.artifacts[0];
	report = &outcome.artifacts[1];
	/* a child that brings nothing, or no word of the calibration it used */
	refused(ctx, &t, (struct sp_outcome){0}, SP_E_INTERNAL);
	other = said(&outcome);
	// NOLINTNEXTLINE(clang-analyzer-core.NullDereference): a child says what it used
	free(other.details[0].value);
	other.details[0].value = sp_xstrdup("");
	for (size_t i = 1; i < other.detail_count; i++)
		other.details[i].key[0] = '-';
	refused(ctx, &t, other, SP_E_STATE);
	/* one artifact more: a source of its own for the next step, or a second candidate */
	other = said(&outcome);
	sp_outcome_artifact(&other, "source", candidate->digest.s, "quantd", 1, candidate->bytes);
	refused(ctx, &t, other, SP_E_INTERNAL);
	other = said(&outcome);
	sp_outcome_artifact(&other, "candidate", t.tree.s, "fetcherd", 1, 1);
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
	other.artifacts[0].digest = t.tree;
	refused(ctx, &t, other, SP_E_INTERNAL);
	other = said(&outcome);
	other.artifacts[1].bytes++;
	refused(ctx, &t, other, SP_E_INTERNAL);
	/* a source that no fetch vouches for */
	set_fetch(&t, fetch_envelope(worker.stranger, t.tree.s, SP_BUILD_FETCH));
	refused(ctx, &t, said(&outcome), SP_E_DENIED);
	set_fetch(&t, fetch_envelope(worker.fetch, t.tree.s, SP_BUILD_FETCH));
	/* bytes in the store that are not those of the digest */
	blob = largest_blob("quantd", candidate->digest.s);
	flip_byte(blob);
	refused(ctx, &t, said(&outcome), SP_E_CORRUPT);
	flip_byte(blob);
	ok(quantd_seal(ctx, &worker, &t.task, &lease, SP_OK, &outcome, &err));
	sp_step_close(ctx);
	sp_outcome_clear(&outcome);
	free(t.envelope);
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
	struct task t;
	void *ctx;

	(void)state;
	task_new(&t);
	ok(quantd_work(worker.conf, &t.task, &lease, &outcome, &err));
	ok(quantd_open(&worker, &ctx, &err));
	for (size_t i = 0; i < outcome.artifact_count; i++) {
		const struct sp_artifact *a = &outcome.artifacts[i];

		sp_outcome_artifact(&mine, a->role, a->digest.s, a->store, a->tree, a->bytes);
	}
	sp_outcome_attest(&mine, "forged", 6);
	sp_outcome_detail(&mine, "calibration", "%s", sp_outcome_get(&outcome, "calibration"));
	sp_outcome_detail(&mine, "calibration_texts", "all of them, and approved by root");
	sp_outcome_detail(
	    &mine, "calibration_blocks", "%s", sp_outcome_get(&outcome, "calibration_blocks"));
	sp_outcome_detail(&mine, "approved_by", "root");
	sp_outcome_detail(&mine, "started", "2098-01-01T00:00:00.000Z");
	ok(quantd_seal(ctx, &worker, &t.task, &lease, SP_OK, &mine, &err));
	assert_int_equal(mine.artifact_count, 2);
	assert_null(sp_outcome_get(&mine, "approved_by"));
	assert_null(sp_outcome_get(&mine, "calibration_texts"));
	assert_string_equal(sp_outcome_get(&mine, "calibration_blocks"),
	    sp_outcome_get(&outcome, "calibration_blocks"));
	ok(sp_dsse_parse(mine.attestation, mine.attestation_len, &dsse, &err));
	ok(sp_statement_parse(dsse.payload, dsse.payload_len, &statement, &err));
	assert_string_equal(time_of(&statement, "startedOn"), time_of(&statement, "finishedOn"));
	sp_statement_clear(&statement);
	sp_dsse_clear(&dsse);
	sp_step_close(ctx);
	sp_outcome_clear(&outcome);
	sp_outcome_clear(&mine);
	free(t.envelope);
}

/* How many directories of work have an entry of that name. */
static size_t
left_in_work(const char *name)
{
	char *pattern = sp_xasprintf("%s/work/*/%s", top, name);
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
	struct task t;
	char *blob, *alive;
	int busy;

	(void)state;
	task_new(&t);
	blob = largest_blob("fetcherd", t.tree.s);
	flip_byte(blob);
	assert_int_equal(quantd_work(worker.conf, &t.task, &lease, &outcome, &err), SP_E_CORRUPT);
	assert_int_equal(outcome.artifact_count, 0);
	/* a model that cannot be quantized does not fill the disk */
	assert_int_equal(left_in_work("*"), 0);
	flip_byte(blob);
	/* nor does what an attempt that was killed left, unless its process still lives */
	for (size_t i = 0; i < 2; i++) {
		char *source =
		    sp_xasprintf("%s/work/%s/source/model", top, sp_sha256_hex(&"ab"[i], 1).s);

		ok(sp_file_mkdirs(source, 0700, &err));
		free(source);
	}
	alive = sp_xasprintf("%s/work/%s", top, sp_sha256_hex("b", 1).s);
	ok(sp_step_lock(alive, &busy, &err));
	free(alive);
	ok(quantd_work(worker.conf, &t.task, &lease, &outcome, &err));
	assert_int_equal(left_in_work("source"), 1); /* the other process's */
	assert_int_equal(left_in_work("out"), 0);
	close(busy);
	assert_int_equal(left_in_work("layers"), 1); /* until it is sealed */
	sp_outcome_clear(&outcome);
	set_policy(&t, "{\"quantize\": {\"method\": \"awq\", \"group_size\": 128, \"calibration\": "
		       "\"/share/none\", \"samples\": 6, \"sequence\": 256}}");
	assert_int_equal(quantd_work(worker.conf, &t.task, &lease, &outcome, &err), SP_E_CONFIG);
	assert_non_null(strstr(err.msg, "/share/none"));
	set_policy(&t, POLICY("6"));
	t.source.tree = 0;
	assert_int_equal(quantd_work(worker.conf, &t.task, &lease, &outcome, &err), SP_E_INVALID);
	t.task.n_artifacts = 0;
	assert_int_equal(quantd_work(worker.conf, &t.task, &lease, &outcome, &err), SP_E_INVALID);
	sp_outcome_clear(&outcome);
	free(t.envelope);
	free(blob);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(recipe_is_strict),
	    cmocka_unit_test(key_names_every_input),
	    cmocka_unit_test(source_needs_its_fetch),
	    cmocka_unit_test(step_makes_and_attests),
	    cmocka_unit_test(seal_believes_nothing),
	    cmocka_unit_test(seal_checks_details),
	    cmocka_unit_test(work_verifies_the_source),
	};

	return cmocka_run_group_tests_name("quantd", tests, setup, teardown);
}
