/*
 * validatord.c -- the validate step: what it accepts, what it concludes, what it signs; with real
 * stores, keys, trust and models, and the bus replaced by the functions below.
 */
#include "validatord/validatord.h"
#include "base/file.h"
#include "base/program.h"
#include "bus/step.h"
#include "bus/worker.h"
#include "model/safetensors.h"
#include "release/statement.h"
#include "sandbox_here.h"
#include "step_rig.h"
#include "store/tree.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* 60 questions and 20 programs decide these margins: without a difference the bounds are 4.3 and
 * 11.9 pp */
#define QUESTIONS 60
#define PROGRAMS 20
#define POLICY                                                                          \
	"{\"confidence\": 0.95, \"destination\": \"enclave\", \"mmlu\": {\"dataset\": " \
	"\"/share/mmlu\", \"shots\": 5, \"max_drop_pp\": 10.0}, \"humaneval\": "        \
	"{\"dataset\": \"/share/humaneval.jsonl\", \"max_new_tokens\": 96, "            \
	"\"max_drop_pp\": 20.0}}"
#define POLICY_PINNED                                                     \
	"{\"mmlu\": {\"dataset\": \"/share/mmlu\", \"max_drop_pp\": 10, " \
	"\"sha256\": "                                                    \
	"\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"}}"
#define POLICY_LOST "{\"mmlu\": {\"dataset\": \"/share/none\", \"max_drop_pp\": 10}}"

static void *daemon_ctx;

/* --- models -------------------------------------------------------------------------------------
 */

/* The fixture with its weights changed by change(), imported into a daemon's store. */
static struct sp_hex
import(const char *service, const char *note, void (*change)(const struct sp_tensor *, uint8_t *))
{
	static const char *const others[] = {"config.json", "tokenizer.json"};
	char *dir = rig_at("spoiled"), *path;
	struct sp_safetensors *file;
	struct sp_hex digest;
	uint8_t *data;
	size_t len, i;

	rig_ok(sp_file_mkdirs(dir, 0755, &rig_err));
	for (i = 0; i < 2; i++) {
		path = sp_xasprintf(RIG_MODEL "/%s", others[i]);
		rig_ok(sp_file_read(path, 1 << 26, &data, &len, &rig_err));
		free(path);
		path = sp_xasprintf("%s/%s", dir, others[i]);
		rig_ok(sp_file_write(path, 0644, data, len, &rig_err));
		free(path);
		free(data);
	}
	path = sp_xasprintf("%s/README.md", dir);
	rig_ok(sp_file_write(path, 0644, note, strlen(note), &rig_err));
	free(path);
	rig_ok(sp_file_read(RIG_MODEL "/model.safetensors", 1 << 26, &data, &len, &rig_err));
	rig_ok(sp_safetensors_parse(data, len, "model", &file, &rig_err));
	for (i = 0; change && i < sp_safetensors_count(file); i++) {
		const struct sp_tensor *tensor = sp_safetensors_at(file, i);

		change(tensor, data + (tensor->data - data));
	}
	sp_safetensors_free(&file);
	path = sp_xasprintf("%s/model.safetensors", dir);
	rig_ok(sp_file_write(path, 0644, data, len, &rig_err));
	free(path);
	free(data);
	digest = rig_import(service, dir);
	rig_ok(sp_file_remove_all(dir, &rig_err));
	free(dir);
	return digest;
}

/* Halves of each projection's rows change places: what shuffled scales do. */
static void
shuffle(const struct sp_tensor *tensor, uint8_t *data)
{
	size_t half = tensor->size / 2, k;

	if (!strstr(tensor->name, "_proj.weight"))
		return;
	for (k = 0; k < half; k++) {
		uint8_t byte = data[k];

		data[k] = data[k + half];
		data[k + half] = byte;
	}
}

/* Weights that are numbers, and answers that are none. */
static void
overflow(const struct sp_tensor *tensor, uint8_t *data)
{
	if (strstr(tensor->name, "_proj.weight"))
		for (uint64_t i = 0; i < tensor->size; i += 2)
			memcpy(data + i, "\x00\x7f", 2); /* 1.7e38 */
}

static void
put_nan(const struct sp_tensor *tensor, uint8_t *data)
{
	if (strcmp(tensor->name, "model.norm.weight") == 0)
		memcpy(data, "\xff\x7f", 2);
}

static struct sp_hex source, good;

static void
task_new(struct rig_task *t, struct sp_hex from, struct sp_hex candidate)
{
	const struct sp_hex trees[] = {from, candidate};

	rig_task_new(t, "validate", POLICY, trees, 2);
}

/* First `lines` lines of a file of the fixtures, below rig_top/share. */
static void
copy_lines(const char *from, const char *to, size_t lines)
{
	char *path = rig_at(to), *dir = sp_xstrdup(path);
	struct sp_buf text = {0};
	uint8_t *data;
	size_t len, i;

	*strrchr(dir, '/') = '\0';
	rig_ok(sp_file_mkdirs(dir, 0755, &rig_err));
	rig_ok(sp_file_read(from, 1 << 24, &data, &len, &rig_err));
	for (i = 0; i < len && lines > 0; i++) {
		sp_buf_add(&text, data + i, 1);
		lines -= data[i] == '\n';
	}
	rig_ok(sp_file_write(path, 0644, text.data, text.len, &rig_err));
	sp_buf_free(&text);
	free(data);
	free(dir);
	free(path);
}

static void
write_datasets(void)
{
	char *path = rig_at("share/humaneval.jsonl");
	struct sp_humaneval set;
	struct sp_buf text = {0};
	size_t i, len;

	copy_lines(
	    "tests/fixtures/mmlu/dev/opposites_dev.csv", "share/mmlu/dev/opposites_dev.csv", 5);
	copy_lines("tests/fixtures/mmlu/test/opposites_test.csv",
	    "share/mmlu/test/opposites_test.csv", QUESTIONS);
	rig_ok(sp_humaneval_load("tests/fixtures/humaneval.jsonl.gz", &set, &rig_err));
	for (i = 0; i < PROGRAMS; i++) {
		const struct sp_humaneval_task *task = &set.tasks[i];
		json_t *line = json_pack("{s:s, s:s, s:s, s:s, s:s}", "task_id", task->id, "prompt",
		    task->prompt, "entry_point", task->entry, "canonical_solution", task->canonical,
		    "test", task->test);
		char *json = sp_json_canonical(line, &len);

		sp_buf_add(&text, json, len);
		sp_buf_puts(&text, "\n");
		free(json);
		json_decref(line);
	}
	rig_ok(sp_file_write(path, 0644, text.data, text.len, &rig_err));
	sp_buf_free(&text);
	sp_humaneval_clear(&set);
	free(path);
}

static int
setup(void **state)
{
	char *conf = sp_xasprintf("validatord: { threads = 2; sandbox = \"%s\"; };",
	    sp_sandbox_word(sandbox_here().kind));

	(void)state;
	rig_open("validatord", SP_ROLE_GATE, SP_ROLE_QUANTIZE, conf);
	free(conf);
	write_datasets();
	rig_ok(validatord_check(rig_worker.conf, &rig_err));
	source = import("fetcherd", "as fetched", NULL);
	good = import("quantd", "as good", NULL);
	rig_ok(validatord_open(&rig_worker, &daemon_ctx, &rig_err));
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	sp_step_close(daemon_ctx);
	rig_close();
	return 0;
}

/* --- names and chain ----------------------------------------------------------------------------
 */

static void
keys_name_every_input(void **state)
{
	struct sp_hex keys[6];
	size_t i, k;

	(void)state;
	keys[0] = validatord_answers_key("a", "mmlu", "d", 5, "1");
	assert_string_equal(validatord_answers_key("a", "mmlu", "d", 5, "1").s, keys[0].s);
	keys[1] = validatord_answers_key("b", "mmlu", "d", 5, "1");
	keys[2] = validatord_answers_key("a", "humaneval", "d", 5, "1");
	keys[3] = validatord_answers_key("a", "mmlu", "e", 5, "1");
	keys[4] = validatord_answers_key("a", "mmlu", "d", 6, "1");
	keys[5] = validatord_answers_key("a", "mmlu", "d", 5, "2");
	for (i = 0; i < 6; i++)
		for (k = i + 1; k < 6; k++)
			assert_string_not_equal(keys[i].s, keys[k].s);
	assert_string_not_equal(validatord_work_key("a", "b").s, validatord_work_key("b", "a").s);
}

static enum sp_code
check_chain(struct rig_task *t)
{
	struct sp_trust *trust;
	enum sp_code code;

	rig_ok(sp_worker_trust(&rig_worker, &trust, &rig_err));
	code = validatord_check_chain(trust, &t->task, t->trees[0].s, t->trees[1].s, &rig_err);
	sp_trust_free(&trust);
	return code;
}

static void
chain_must_lead_here(void **state)
{
	struct sp_hex other = sp_sha256_hex("other", 5);
	struct rig_task t;

	(void)state;
	task_new(&t, source, good);
	rig_ok(check_chain(&t));
	rig_task_envelope(
	    &t, 1, rig_provenance(rig_worker.quantize, other.s, SP_BUILD_QUANTIZE, source.s));
	assert_int_equal(check_chain(&t), SP_E_DENIED);
	assert_non_null(strstr(rig_err.msg, other.s));
	rig_task_envelope(
	    &t, 1, rig_provenance(rig_worker.quantize, good.s, SP_BUILD_QUANTIZE, other.s));
	assert_int_equal(check_chain(&t), SP_E_DENIED);
	assert_non_null(strstr(rig_err.msg, "not made from"));
	rig_task_envelope(
	    &t, 1, rig_provenance(rig_worker.stranger, good.s, SP_BUILD_QUANTIZE, source.s));
	assert_int_equal(check_chain(&t), SP_E_DENIED);
	rig_task_envelope(
	    &t, 1, rig_provenance(rig_worker.quantize, good.s, SP_BUILD_QUANTIZE, source.s));
	rig_task_envelope(&t, 0, rig_provenance(rig_worker.fetch, other.s, SP_BUILD_FETCH, NULL));
	assert_int_equal(check_chain(&t), SP_E_DENIED);
	rig_task_envelope(
	    &t, 0, rig_provenance(rig_worker.fetch, source.s, SP_BUILD_QUANTIZE, NULL));
	assert_int_not_equal(check_chain(&t), SP_OK);
	rig_task_envelope(&t, 0, rig_provenance(rig_worker.fetch, source.s, SP_BUILD_FETCH, NULL));
	rig_ok(check_chain(&t));
	t.task.n_attestations = 1;
	assert_int_equal(check_chain(&t), SP_E_DENIED);
	assert_non_null(strstr(rig_err.msg, "no quantize attestation"));
	rig_task_free(&t);
}

/* --- the whole step -----------------------------------------------------------------------------
 */

static enum sp_code
work(struct rig_task *t)
{
	struct sp_outcome outcome = {0};
	enum sp_code code =
	    validatord_work(rig_worker.conf, &t->task, &rig_lease, &outcome, &rig_err);

	assert_int_equal(outcome.artifact_count, 0);
	assert_null(outcome.attestation);
	return code;
}

static enum sp_code
seal(struct rig_task *t, struct sp_outcome *outcome)
{
	return validatord_seal(
	    daemon_ctx, &rig_worker, &t->task, &rig_lease, SP_OK, outcome, &rig_err);
}

/* Parses the verdict that was signed by the daemon's key; result is in out. */
static void
open_verdict(const struct sp_outcome *outcome, struct sp_statement *out)
{
	char *path = rig_at("keys/validatord/gate.key.pub");
	struct sp_buf pae = {0};
	struct sp_pubkey key;
	struct sp_dsse dsse;

	assert_non_null(outcome->attestation);
	rig_ok(sp_pubkey_load(path, &key, &rig_err));
	rig_ok(sp_dsse_parse(outcome->attestation, outcome->attestation_len, &dsse, &rig_err));
	assert_int_equal(dsse.sig_count, 1);
	sp_dsse_pae(&pae, dsse.payload_type, dsse.payload, dsse.payload_len);
	assert_true(sp_pubkey_verify(key.bytes, pae.data, pae.len, dsse.sigs[0].sig));
	rig_ok(sp_statement_parse(dsse.payload, dsse.payload_len, out, &rig_err));
	sp_dsse_clear(&dsse);
	sp_buf_free(&pae);
	free(path);
}

/* The report that the outcome names, from the store. */
static json_t *
open_report(const struct sp_outcome *outcome)
{
	const struct sp_artifact *artifact = sp_outcome_find(outcome, "report");
	char *dir = rig_at("store/validatord");
	struct sp_store *store;
	uint8_t *data;
	size_t len;
	json_t *report;

	assert_non_null(artifact);
	assert_string_equal(artifact->store, "validatord");
	assert_false(artifact->tree);
	rig_ok(sp_store_open(dir, 0, &store, &rig_err));
	rig_ok(sp_store_read(store, artifact->digest.s, 1 << 24, &data, &len, &rig_err));
	assert_int_equal(artifact->bytes, len);
	rig_ok(sp_json_parse_canonical(data, len, "report", &report, &rig_err));
	sp_store_close(&store);
	free(data);
	free(dir);
	return report;
}

static int
work_is_there(const char *key)
{
	char *dir = sp_xasprintf("%s/state/validatord/work/%s", rig_top, key);
	int there = access(dir, F_OK) == 0;

	free(dir);
	return there;
}

/* A copy of a model in the work directory. */
static int
copy_is_there(const struct rig_task *t, const char *side)
{
	struct sp_hex key = validatord_work_key(t->trees[0].s, t->trees[1].s);
	char *name = sp_xasprintf("%s/%s", key.s, side);
	int there = work_is_there(name);

	free(name);
	return there;
}

static void
as_good_passes(void **state)
{
	struct sp_outcome outcome = {0};
	struct sp_statement statement;
	const json_t *predicate, *detail;
	json_t *report;
	struct rig_task t;
	struct sp_hex work_key;

	(void)state;
	task_new(&t, source, good);
	rig_ok(work(&t));
	assert_string_equal(rig_lease.phases,
	    "baseline-copy baseline-mmlu baseline-humaneval baseline-tests baseline-programs "
	    "candidate-copy candidate-mmlu candidate-humaneval candidate-programs ");
	/* what a child claims does not reach the outcome */
	sp_outcome_artifact(&outcome, "report", source.s, "fetcherd", 0, 1);
	sp_outcome_attest(&outcome, "forged", 6);
	rig_ok(seal(&t, &outcome));
	assert_int_equal(outcome.artifact_count, 1);

	open_verdict(&outcome, &statement);
	assert_string_equal(statement.subject_tree, good.s);
	assert_string_equal(statement.subject_name, "fixture/qwen2-tiny-AWQ");
	assert_string_equal(statement.predicate_type, SP_PREDICATE_TEST);
	assert_string_equal(sp_statement_result(&statement), "PASSED");
	assert_true(sp_statement_uses_tree(&statement, source.s));
	predicate = statement.predicate;
	assert_int_equal(json_array_size(json_object_get(predicate, "passedTests")), 2);
	assert_int_equal(json_array_size(json_object_get(predicate, "failedTests")), 0);
	assert_int_equal(json_array_size(json_object_get(predicate, "configuration")), 5);
	detail = json_object_get(predicate, "sallyport");
	assert_string_equal(json_string_value(json_object_get(
				json_object_get(detail, "humaneval"), "candidate_pp")),
	    "100.0000");
	sp_statement_clear(&statement);

	report = open_report(&outcome);
	assert_string_equal(json_string_value(json_object_get(report, "candidate")), good.s);
	assert_int_equal(
	    json_integer_value(json_object_get(json_object_get(report, "mmlu"), "n")), QUESTIONS);
	json_decref(report);
	assert_non_null(strstr(sp_outcome_get(&outcome, "mmlu"), "PASSED"));

	work_key = validatord_work_key(source.s, good.s);
	assert_false(work_is_there(work_key.s));
	sp_outcome_clear(&outcome);
	rig_task_free(&t);
}

/* Runs after as_good_passes: the baseline's answers are there, the sabotaged model's are not. */
static void
expect_blocked(void (*change)(const struct sp_tensor *, uint8_t *), const char *reason)
{
	struct sp_hex bad = import("quantd", "sabotaged", change);
	struct sp_outcome outcome = {0};
	struct sp_statement statement;
	json_t *report;
	struct rig_task t;

	task_new(&t, source, bad);
	rig_ok(work(&t));
	assert_string_equal(rig_lease.phases,
	    "candidate-copy candidate-mmlu candidate-humaneval candidate-programs ");
	assert_int_equal(seal(&t, &outcome), SP_E_BLOCKED);
	if (!strstr(rig_err.msg, reason))
		fail_msg("\"%s\" lacks \"%s\"", rig_err.msg, reason);
	assert_non_null(strstr(rig_err.msg, "FAILED"));
	open_verdict(&outcome, &statement);
	assert_string_equal(statement.subject_tree, bad.s);
	assert_string_equal(sp_statement_result(&statement), "FAILED");
	assert_int_equal(json_array_size(json_object_get(statement.predicate, "failedTests")), 2);
	sp_statement_clear(&statement);
	report = open_report(&outcome);
	assert_string_equal(json_string_value(json_object_get(report, "verdict")), "FAILED");
	json_decref(report);
	sp_outcome_clear(&outcome);
	rig_task_free(&t);
}

static void
sabotage_is_blocked(void **state)
{
	(void)state;
	expect_blocked(shuffle, "humaneval: drop 100.00 pp (100.00 to 0.00)");
	expect_blocked(overflow, "NaN or infinite logits for 60 of 60");
}

/* What holds no weights is no candidate. */
static void
nan_is_refused(void **state)
{
	struct sp_hex bad = import("quantd", "nan", put_nan);
	struct rig_task t;

	(void)state;
	task_new(&t, source, bad);
	assert_int_equal(work(&t), SP_E_INVALID);
	assert_non_null(strstr(rig_err.msg, "model.norm.weight"));
	rig_task_free(&t);
}

#define POLICY_TIGHT "{\"mmlu\": {\"dataset\": \"/share/mmlu\", \"max_drop_pp\": 4}}"

/* The same answers, but 60 questions cannot show a drop below 4 pp: that blocks as well. */
static void
doubt_is_blocked(void **state)
{
	struct sp_outcome outcome = {0};
	struct sp_statement statement;
	struct rig_task t;

	(void)state;
	task_new(&t, source, good);
	rig_task_policy(&t, POLICY_TIGHT);
	rig_ok(work(&t));
	assert_string_equal(rig_lease.phases, "candidate-copy candidate-mmlu ");
	assert_int_equal(seal(&t, &outcome), SP_E_BLOCKED);
	assert_non_null(strstr(rig_err.msg, "INCONCLUSIVE"));
	assert_non_null(strstr(rig_err.msg, "about 5 more questions would decide"));
	open_verdict(&outcome, &statement);
	assert_string_equal(sp_statement_result(&statement), "FAILED");
	assert_string_equal(json_string_value(json_object_get(
				json_object_get(statement.predicate, "sallyport"), "verdict")),
	    "INCONCLUSIVE");
	sp_statement_clear(&statement);
	sp_outcome_clear(&outcome);
	rig_task_free(&t);
}

/* The file of one side's answers, in the work directory; as validatord_io.c names it. */
static char *
answers_file(
    const struct rig_task *t, int side, const char *gate, const char *digest, unsigned amount)
{
	struct sp_hex python, key, dir = validatord_work_key(t->trees[0].s, t->trees[1].s);
	char *program, *engine, *file;

	rig_ok(sp_program_name(&program, &rig_err));
	rig_ok(sp_program_digest("/usr/bin/python3", &python, &rig_err));
	engine = sp_xasprintf(
	    "%s python+%.16s %s", program, python.s, sp_sandbox_word(sandbox_here().kind));
	key = validatord_answers_key(t->trees[side].s, gate, digest, amount, engine);
	free(program);
	file = sp_xasprintf("%s/state/validatord/work/%s/%s.json", rig_top, dir.s, key.s);
	free(engine);
	return file;
}

/* Killed after any phase, the next attempt does only what is missing; broken answers count as
 * missing for the child, and as nothing that could be signed for the daemon. */
static void
restarts_go_on(void **state)
{
	static const char none[] = "{\"programs\":[],\"truncated\":0}";
	struct sp_outcome outcome = {0};
	struct sp_humaneval set;
	char *path = rig_at("share/humaneval.jsonl"), *file;
	struct rig_task t;

	(void)state;
	rig_ok(sp_humaneval_load(path, &set, &rig_err));
	task_new(&t, source, good);
	rig_ok(work(&t));
	file = answers_file(&t, 1, "humaneval", set.digest.s, 96);
	assert_int_equal(unlink(file), 0);
	assert_int_equal(seal(&t, &outcome), SP_E_INCOMPLETE);
	assert_null(outcome.attestation);

	memset(&rig_lease, 0, sizeof(rig_lease));
	rig_ok(work(&t));
	assert_string_equal(
	    rig_lease.phases, "candidate-copy candidate-humaneval candidate-programs ");
	rig_ok(sp_file_write(file, 0600, none, sizeof(none) - 1, &rig_err));
	assert_int_equal(seal(&t, &outcome), SP_E_INVALID);
	assert_null(outcome.attestation);

	rig_ok(work(&t));
	rig_ok(seal(&t, &outcome));
	assert_non_null(outcome.attestation);
	sp_outcome_clear(&outcome);
	sp_humaneval_clear(&set);
	rig_task_free(&t);
	free(file);
	free(path);
}

static void
seal_refuses(void **state)
{
	struct sp_outcome outcome = {0};
	struct rig_task t;

	(void)state;
	task_new(&t, source, good);
	rig_ok(work(&t));
	/* a chain that does not lead here */
	rig_task_envelope(
	    &t, 1, rig_provenance(rig_worker.stranger, good.s, SP_BUILD_QUANTIZE, source.s));
	assert_int_equal(seal(&t, &outcome), SP_E_DENIED);
	assert_null(outcome.attestation);
	rig_task_envelope(
	    &t, 1, rig_provenance(rig_worker.quantize, good.s, SP_BUILD_QUANTIZE, source.s));
	/* a data set that changed meanwhile */
	copy_lines("tests/fixtures/mmlu/test/opposites_test.csv",
	    "share/mmlu/test/opposites_test.csv", QUESTIONS - 1);
	assert_int_equal(seal(&t, &outcome), SP_E_INCOMPLETE);
	assert_null(outcome.attestation);
	write_datasets();
	/* a child that failed */
	assert_int_equal(validatord_seal(daemon_ctx, &rig_worker, &t.task, &rig_lease, SP_E_BLOCKED,
			     &outcome, &rig_err),
	    SP_E_INTERNAL);
	assert_null(outcome.attestation);
	rig_ok(seal(&t, &outcome));
	sp_outcome_clear(&outcome);
	rig_task_free(&t);
}

static void
work_refuses(void **state)
{
	char *dir = rig_at("store/fetcherd"), *path;
	struct sp_store *store;
	struct sp_tree tree = {0};
	struct rig_task t;
	uint8_t *data;
	size_t len;

	(void)state;
	task_new(&t, source, good);
	rig_task_policy(&t, POLICY_PINNED);
	assert_int_equal(work(&t), SP_E_CORRUPT);
	assert_non_null(strstr(rig_err.msg, "mmlu.dataset"));
	rig_task_policy(&t, POLICY_LOST);
	assert_int_equal(work(&t), SP_E_CONFIG);
	assert_non_null(strstr(rig_err.msg, "/share/none"));
	rig_task_policy(&t, "{}");
	assert_int_equal(work(&t), SP_E_CONFIG);
	t.parts[1].tree = 0;
	rig_task_policy(&t, POLICY);
	assert_int_equal(work(&t), SP_E_INVALID);
	t.parts[1].tree = 1;
	t.task.n_artifacts = 1;
	assert_int_equal(work(&t), SP_E_INVALID);
	t.task.n_artifacts = 2;

	/* one bit of the fetched weights: 4 shots, so that no answers are kept */
	rig_ok(sp_store_open(dir, 0, &store, &rig_err));
	rig_ok(sp_tree_load(store, source.s, &tree, &rig_err));
	path = sp_store_path(store, sp_tree_find(&tree, "model.safetensors")->sha256.s);
	rig_ok(sp_file_read(path, 1 << 26, &data, &len, &rig_err));
	data[len / 2] ^= 1;
	rig_ok(sp_file_write(path, 0440, data, len, &rig_err));
	rig_task_policy(
	    &t, "{\"mmlu\": {\"dataset\": \"/share/mmlu\", \"max_drop_pp\": 10, \"shots\": 4}}");
	assert_int_equal(work(&t), SP_E_CORRUPT);
	assert_non_null(strstr(rig_err.msg, "baseline"));
	assert_non_null(strstr(rig_err.msg, "model.safetensors"));
	assert_false(copy_is_there(&t, "baseline")); /* it may be a hundred gigabytes */
	data[len / 2] ^= 1;
	rig_ok(sp_file_write(path, 0440, data, len, &rig_err));
	rig_ok(work(&t));
	sp_tree_clear(&tree);
	sp_store_close(&store);
	rig_task_free(&t);
	free(data);
	free(path);
	free(dir);
}

/* A sandbox that is none is found before any job is. */
static void
check_refuses(void **state)
{
	static const char text[] = "side = \"bastion\"; validatord: { sandbox = \"chroot\"; };\n";
	char *path = rig_at("other.conf");
	struct sp_conf *conf;

	(void)state;
	rig_ok(sp_file_write(path, 0644, text, sizeof(text) - 1, &rig_err));
	rig_ok(sp_conf_load(path, rig_top, sp_conf_keys, &conf, &rig_err));
	assert_int_equal(validatord_check(conf, &rig_err), SP_E_CONFIG);
	assert_non_null(
	    strstr(rig_err.msg, "\"chroot\": it must be \"bubblewrap\" or \"landlock\""));
	sp_conf_free(&conf);
	free(path);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(keys_name_every_input),
	    cmocka_unit_test(chain_must_lead_here),
	    cmocka_unit_test(as_good_passes),
	    cmocka_unit_test(sabotage_is_blocked),
	    cmocka_unit_test(nan_is_refused),
	    cmocka_unit_test(doubt_is_blocked),
	    cmocka_unit_test(restarts_go_on),
	    cmocka_unit_test(seal_refuses),
	    cmocka_unit_test(work_refuses),
	    cmocka_unit_test(check_refuses),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
