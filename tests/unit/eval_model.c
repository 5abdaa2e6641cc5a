/* eval_model.c -- the fixture model through both gates: the harness's answers, and sabotage. */
#include "base/file.h"
#include "eval/humaneval_run.h"
#include "eval/mmlu_run.h"
#include "eval/report.h"
#include "model/safetensors.h"
#include "sandbox_here.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MODEL_DIR "tests/fixtures/model"
#define MAX_NEW 96

/* Sanitizers make the engine many times slower, and a part of the data set leads it the same ways.
 * The margins are those that so many questions can decide. */
#ifdef __SANITIZE_ADDRESS__
#define SUBJECTS ((size_t)2)
#define QUESTIONS ((size_t)40) /* of each subject */
#define PROGRAMS ((size_t)20)
#define MMLU_MARGIN 10
#define HUMANEVAL_MARGIN 20
#else
#define SUBJECTS ((size_t)5)
#define QUESTIONS ((size_t)120)
#define PROGRAMS ((size_t)99)
#define MMLU_MARGIN 3
#define HUMANEVAL_MARGIN 5
#endif

/*
 * How far a log-likelihood may lie from the harness's. Both sides compute in float32 over the same
 * bfloat16 weights, in another order of summation: 1.4e-5 nat was seen. Other
 * instruction sets sum in yet another order; 5e-4 leaves room for them and is still a 187th of the
 * closest best-two gap of any question (0.0937 nat), so every choice is decided.
 */
#define LL_TOLERANCE 5e-4

static struct sp_sandbox_limits limits; /* of a sandbox that works here */

struct fixture {
	struct sp_pool *pool;
	struct sp_tokenizer *tokenizer;
	struct sp_mmlu whole; /* owns what mmlu borrows */
	struct sp_mmlu mmlu;
	struct sp_mmlu_subject subjects[SUBJECTS];
	struct sp_humaneval all; /* owns what humaneval borrows */
	struct sp_humaneval humaneval;
	struct sp_model *model;
	struct sp_answer_mmlu answers;
	struct sp_answer_programs programs;
};

static struct fixture fx;

static struct sp_model *
open_model(const char *dir)
{
	struct sp_model *model;
	struct sp_err err;

	if (sp_model_open(dir, fx.pool, &model, &err) != SP_OK)
		fail_msg("%s", err.msg);
	return model;
}

/* The first questions and programs of the fixture. */
static void
choose(void)
{
	fx.mmlu = fx.whole;
	fx.mmlu.subjects = fx.subjects;
	fx.mmlu.count = SUBJECTS;
	fx.mmlu.questions = SUBJECTS * QUESTIONS;
	for (size_t i = 0; i < SUBJECTS; i++) {
		fx.subjects[i] = fx.whole.subjects[i];
		fx.subjects[i].test.count = QUESTIONS;
	}
	fx.humaneval = fx.all;
	fx.humaneval.count = PROGRAMS;
}

static int
set_up(void **state)
{
	struct sp_err err;
	uint8_t *data;
	size_t len;

	(void)state;
	limits = sandbox_here();
	if (sp_pool_open(0, &fx.pool, &err) != SP_OK ||
	    sp_file_read(MODEL_DIR "/tokenizer.json", 1 << 26, &data, &len, &err) != SP_OK ||
	    sp_tokenizer_parse(data, len, &fx.tokenizer, &err) != SP_OK ||
	    sp_mmlu_load("tests/fixtures/mmlu", 5, &fx.whole, &err) != SP_OK ||
	    sp_humaneval_load("tests/fixtures/humaneval.jsonl.gz", &fx.all, &err) != SP_OK) {
		fprintf(stderr, "%s\n", err.msg);
		return -1;
	}
	free(data);
	choose();
	fx.model = open_model(MODEL_DIR);
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	sp_answer_mmlu_clear(&fx.answers);
	sp_answer_programs_clear(&fx.programs);
	sp_model_close(&fx.model);
	sp_tokenizer_free(&fx.tokenizer);
	sp_mmlu_clear(&fx.whole);
	sp_humaneval_clear(&fx.all);
	sp_pool_close(&fx.pool);
	return 0;
}

/* The first subject alone, where one is enough; borrowed. */
static struct sp_mmlu
one_subject(void)
{
	return (struct sp_mmlu){
	    .subjects = fx.mmlu.subjects, .count = 1, .questions = fx.mmlu.subjects[0].test.count};
}

static json_t *
next_line(FILE *file, const char *path)
{
	char *line = NULL;
	size_t cap = 0;
	struct sp_err err;
	json_t *object = NULL;
	ssize_t len = getline(&line, &cap, file);

	if (len > 0 && sp_json_parse(line, (size_t)len, path, &object, &err) != SP_OK)
		fail_msg("%s", err.msg);
	free(line);
	return object;
}

static uint64_t last_done;

static void
count(void *ctx, uint64_t done, uint64_t total)
{
	assert_ptr_equal(ctx, &last_done);
	assert_true(done >= last_done && done <= total);
	last_done = done;
}

static void
mmlu_answers_are_the_harness(void **state)
{
	static const char path[] = "tests/vectors/mmlu_answers.jsonl";
	FILE *file = fopen(path, "r");
	double worst = 0;
	struct sp_err err;
	json_t *line;
	size_t row = 0, at = 0, i;

	(void)state;
	assert_non_null(file);
	last_done = 0;
	if (sp_mmlu_run(
		fx.model, fx.tokenizer, &fx.mmlu, 5, count, &last_done, &fx.answers, &err) != SP_OK)
		fail_msg("%s", err.msg);
	assert_int_equal(last_done, fx.mmlu.questions);
	assert_int_equal(fx.answers.truncated, 0);
	for (; (line = next_line(file, path)) != NULL; row++) {
		json_t *ll = json_object_get(line, "loglikelihoods");

		if (row / 120 < SUBJECTS && row % 120 < QUESTIONS) {
			for (i = 0; i < 4; i++)
				worst = fmax(worst, fabs(fx.answers.ll[at][i] -
							 json_real_value(json_array_get(ll, i))));
			assert_int_equal(fx.answers.choices[at],
			    json_integer_value(json_object_get(line, "choice")));
			at++;
		}
		json_decref(line);
	}
	assert_int_equal(row, 600);
	assert_int_equal(at, fx.mmlu.questions);
	print_message("worst log-likelihood difference: %.3g nat\n", worst);
	assert_true(worst <= LL_TOLERANCE);
	fclose(file);
}

/* One thread gives the same bits. */
static void
mmlu_bits_do_not_depend_on_threads(void **state)
{
	struct sp_mmlu mmlu = one_subject();
	struct sp_answer_mmlu again;
	struct sp_pool *one;
	struct sp_model *model;
	struct sp_err err;

	(void)state;
	assert_int_equal(sp_pool_open(1, &one, &err), SP_OK);
	assert_int_equal(sp_model_open(MODEL_DIR, one, &model, &err), SP_OK);
	assert_int_equal(
	    sp_mmlu_run(model, fx.tokenizer, &mmlu, 5, NULL, NULL, &again, &err), SP_OK);
	assert_memory_equal(again.ll, fx.answers.ll, mmlu.questions * sizeof(again.ll[0]));
	sp_answer_mmlu_clear(&again);
	sp_model_close(&model);
	sp_pool_close(&one);
}

static void
humaneval_completions_are_the_harness(void **state)
{
	static const char path[] = "tests/vectors/humaneval_greedy.jsonl";
	FILE *file = fopen(path, "r");
	struct sp_err err;
	json_t *line;
	size_t at = 0;

	(void)state;
	assert_non_null(file);
	last_done = 0;
	if (sp_humaneval_generate(fx.model, fx.tokenizer, &fx.humaneval, MAX_NEW, count, &last_done,
		&fx.programs, &err) != SP_OK)
		fail_msg("%s", err.msg);
	assert_int_equal(last_done, PROGRAMS);
	last_done = 0;
	if (sp_humaneval_judge(
		&fx.humaneval, &fx.programs, NULL, &limits, count, &last_done, &err) != SP_OK)
		fail_msg("%s", err.msg);
	assert_int_equal(last_done, PROGRAMS);
	for (; at < PROGRAMS && (line = next_line(file, path)) != NULL; at++) {
		const struct sp_answer_program *program = &fx.programs.programs[at];

		assert_string_equal(
		    fx.humaneval.tasks[at].id, json_string_value(json_object_get(line, "task_id")));
		assert_string_equal(
		    program->completion, json_string_value(json_object_get(line, "completion")));
		assert_int_equal(program->outcome == SP_VERDICT_PASSED,
		    json_is_true(json_object_get(line, "passed")));
		json_decref(line);
	}
	assert_int_equal(at, PROGRAMS);
	fclose(file);
}

/* The harness's own run of the same text: every reference solution is right, none of its
 * neighbours' is. */
static void
canonical_solutions_pass(void **state)
{
	size_t count_of = fx.humaneval.count, i;
	size_t total = count_of + 20;
	struct sp_sandbox_program *runs = sp_xcalloc(total, sizeof(*runs));
	struct sp_err err;

	(void)state;
	for (i = 0; i < total; i++) {
		const struct sp_humaneval_task *task = &fx.humaneval.tasks[i % count_of];
		const char *body =
		    i < count_of ? task->canonical : "    return 'nothing of the kind'\n";

		runs[i] = (struct sp_sandbox_program){.id = task->id,
		    .prompt = task->prompt,
		    .completion = body,
		    .completion_len = strlen(body),
		    .entry = task->entry,
		    .test = task->test};
	}
	if (sp_sandbox_run(runs, total, 0, &limits, NULL, NULL, &err) != SP_OK)
		fail_msg("%s", err.msg);
	for (i = 0; i < total; i++)
		assert_int_equal(
		    runs[i].outcome, i < count_of ? SP_VERDICT_PASSED : SP_VERDICT_WRONG);
	free(runs);
}

/* Tests that a function without a body passes are none; the fixture's are. */
static void
tests_must_be_able_to_fail(void **state)
{
	struct sp_humaneval_task tasks[] = {fx.humaneval.tasks[0], fx.humaneval.tasks[1]};
	struct sp_humaneval set = {.tasks = tasks, .count = 2};
	struct sp_err err;

	(void)state;
	if (sp_humaneval_vet(&set, &limits, NULL, NULL, &err) != SP_OK)
		fail_msg("%s", err.msg);
	tasks[1].test = sp_xstrdup("def check(candidate):\n    candidate\n");
	assert_int_equal(sp_humaneval_vet(&set, &limits, NULL, NULL, &err), SP_E_INVALID);
	assert_non_null(strstr(err.msg, tasks[1].id));
	free(tasks[1].test);
}

/* A text that has an outcome takes it; another one is run. */
static void
known_programs_are_not_run_again(void **state)
{
	struct sp_answer_programs known, mine;
	struct sp_humaneval two = {.tasks = fx.humaneval.tasks, .count = 2};
	struct sp_err err;
	size_t i;

	(void)state;
	sp_answer_programs_init(&known, 2);
	sp_answer_programs_init(&mine, 2);
	for (i = 0; i < 2; i++) {
		mine.programs[i].completion = sp_xstrdup(two.tasks[i].canonical);
		mine.programs[i].completion_len = strlen(mine.programs[i].completion);
		mine.programs[i].digest =
		    sp_sha256_hex(mine.programs[i].completion, mine.programs[i].completion_len);
		known.programs[i].digest = mine.programs[0].digest;
		known.programs[i].outcome = SP_VERDICT_WRONG;
	}
	assert_int_equal(sp_humaneval_judge(&two, &mine, &known, &limits, NULL, NULL, &err), SP_OK);
	assert_int_equal(mine.programs[0].outcome, SP_VERDICT_WRONG);
	assert_int_equal(mine.programs[1].outcome, SP_VERDICT_PASSED);
	sp_answer_programs_clear(&known);
	sp_answer_programs_clear(&mine);
}

/* --- sabotage
 * -----------------------------------------------------------------------------------*/

/* Copies the model into a new directory, its weights changed by change(); the path is static. */
static const char *
spoiled(void (*change)(struct sp_tensor *tensor, uint8_t *data))
{
	static const char *const others[] = {"config.json", "tokenizer.json"};
	static char dir[32];
	struct sp_err err;
	uint8_t *data;
	size_t len, i;
	struct sp_safetensors *file;
	char path[64];

	strcpy(dir, "/tmp/sp-eval-XXXXXX");
	assert_non_null(mkdtemp(dir));
	for (i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), MODEL_DIR "/%s", others[i]);
		assert_int_equal(sp_file_read(path, 1 << 26, &data, &len, &err), SP_OK);
		snprintf(path, sizeof(path), "%s/%s", dir, others[i]);
		assert_int_equal(sp_file_write(path, 0600, data, len, &err), SP_OK);
		free(data);
	}
	assert_int_equal(
	    sp_file_read(MODEL_DIR "/model.safetensors", 1 << 26, &data, &len, &err), SP_OK);
	assert_int_equal(sp_safetensors_parse(data, len, "model", &file, &err), SP_OK);
	for (i = 0; i < sp_safetensors_count(file); i++) {
		struct sp_tensor tensor = *sp_safetensors_at(file, i);

		change(&tensor, data + (tensor.data - data));
	}
	sp_safetensors_free(&file);
	snprintf(path, sizeof(path), "%s/model.safetensors", dir);
	assert_int_equal(sp_file_write(path, 0600, data, len, &err), SP_OK);
	free(data);
	return dir;
}

/* Rows of every projection in reverse order: what mixed-up scales do. */
static void
reverse_rows(struct sp_tensor *tensor, uint8_t *data)
{
	size_t rows = tensor->shape[0], size = tensor->size / rows, i, k;

	if (!strstr(tensor->name, "_proj.weight"))
		return;
	for (i = 0; i < rows / 2; i++)
		for (k = 0; k < size; k++) {
			uint8_t *a = data + i * size + k, *b = data + (rows - 1 - i) * size + k;
			uint8_t byte = *a;

			*a = *b;
			*b = byte;
		}
}

/* One bfloat16 NaN in the last norm. */
static void
overflow(struct sp_tensor *tensor, uint8_t *data)
{
	if (strcmp(tensor->name, "model.norm.weight") == 0)
		memset(data, 0x7f, tensor->size); /* bf16 3.39e38 */
}

/* Round to nearest with three steps a row: 2-bit weights, without a group. */
static void
round_coarsely(struct sp_tensor *tensor, uint8_t *data)
{
	size_t rows = tensor->shape[0], width = tensor->size / 2 / rows, i, k;
	float *row = sp_xcalloc(width, sizeof(*row));

	for (i = 0; strstr(tensor->name, "_proj.weight") && i < rows; i++) {
		float top = 0;

		sp_dtype_to_f32(SP_BF16, data + i * width * 2, row, width);
		for (k = 0; k < width; k++)
			top = fmaxf(top, fabsf(row[k]));
		for (k = 0; k < width; k++)
			row[k] = roundf(row[k] / top) * top;
		sp_dtype_from_f32(SP_BF16, row, data + i * width * 2, width);
	}
	free(row);
}

static void
leave(struct sp_tensor *tensor, uint8_t *data)
{
	(void)tensor;
	(void)data;
}

/* A model with fewer positions than a prompt has tokens sees the prompt's end, as the harness does.
 */
static void
long_prompts_are_cut_on_the_left(void **state)
{
	static const char before[] = "\"max_position_embeddings\": 2048";
	static const char after[] = "\"max_position_embeddings\": 100 ";
	static const char letter[] = " A";
	struct sp_mmlu mmlu = one_subject();
	const char *dir = spoiled(leave);
	struct sp_answer_mmlu answers;
	struct sp_feed feed = {.n_logits = 1};
	struct sp_buf text = {0};
	uint32_t *ids, *letters;
	size_t count_of, len, vocab = sp_model_config(fx.model)->vocab;
	double ll[4];
	struct sp_model *model;
	struct sp_err err;
	uint8_t *config;
	char path[64], *at;

	(void)state;
	snprintf(path, sizeof(path), "%s/config.json", dir);
	assert_int_equal(sp_file_read(path, 1 << 20, &config, &len, &err), SP_OK);
	at = strstr((char *)config, before);
	assert_non_null(at);
	memcpy(at, after, sizeof(after) - 1);
	assert_int_equal(sp_file_write(path, 0600, config, len, &err), SP_OK);
	model = open_model(dir);
	assert_int_equal(
	    sp_mmlu_run(model, fx.tokenizer, &mmlu, 5, NULL, NULL, &answers, &err), SP_OK);
	assert_int_equal(answers.truncated, QUESTIONS);

	sp_mmlu_context(&text, &fx.mmlu.subjects[0], 5, 0);
	assert_int_equal(sp_tokenizer_encode(
			     fx.tokenizer, (char *)text.data, text.len, 1, &ids, &count_of, &err),
	    SP_OK);
	assert_int_equal(
	    sp_tokenizer_encode(fx.tokenizer, letter, 2, 0, &letters, &len, &err), SP_OK);
	assert_int_equal(len, 1);
	feed.tokens = ids + count_of - 100;
	feed.count = 100;
	feed.logits = sp_xcalloc(vocab, sizeof(float));
	assert_int_equal(sp_context_new(fx.model, NULL, 100, &feed.context, &err), SP_OK);
	assert_int_equal(sp_forward(fx.model, &feed, 1, &err), SP_OK);
	sp_mmlu_choose(
	    feed.logits, vocab, (uint32_t[]){letters[0], letters[0], letters[0], letters[0]}, ll);
	assert_true(ll[0] == answers.ll[0][0]);
	assert_true(ll[0] != fx.answers.ll[0][0]);

	sp_context_free(&feed.context);
	free(feed.logits);
	free(ids);
	free(letters);
	free(config);
	sp_buf_free(&text);
	sp_answer_mmlu_clear(&answers);
	sp_model_close(&model);
	assert_int_equal(sp_file_remove_all(dir, &err), SP_OK);
}

/* Both gates on the model in dir against the fixture. */
static struct sp_report_verdict
gates(const char *dir)
{
	struct sp_policy policy = {.confidence = 0.95,
	    .mmlu = {1, "/mmlu", "", 5, MMLU_MARGIN},
	    .humaneval = {1, "/humaneval", "", MAX_NEW, HUMANEVAL_MARGIN}};
	struct sp_model *model = open_model(dir);
	struct sp_answer_mmlu answers;
	struct sp_answer_programs programs;
	struct sp_report_verdict verdict;
	struct sp_err err;
	struct sp_report report;

	if (sp_mmlu_run(model, fx.tokenizer, &fx.mmlu, 5, NULL, NULL, &answers, &err) != SP_OK ||
	    sp_humaneval_generate(model, fx.tokenizer, &fx.humaneval, MAX_NEW, NULL, NULL,
		&programs, &err) != SP_OK ||
	    sp_humaneval_judge(&fx.humaneval, &programs, &fx.programs, &limits, NULL, NULL, &err) !=
		SP_OK)
		fail_msg("%s", err.msg);
	report = (struct sp_report){.policy = &policy,
	    .engine = "test",
	    .mmlu = &fx.mmlu,
	    .humaneval = &fx.humaneval,
	    .limits = &limits,
	    .baseline = {"b", &fx.answers, &fx.programs},
	    .candidate = {"c", &answers, &programs}};
	sp_report_decide(&report, &verdict);
	print_message("%s: %s\n", sp_gate_word(verdict.verdict), verdict.reason);
	sp_answer_mmlu_clear(&answers);
	sp_answer_programs_clear(&programs);
	sp_model_close(&model);
	return verdict;
}

static void
the_same_model_passes(void **state)
{
	struct sp_report_verdict verdict = gates(MODEL_DIR);

	(void)state;
	assert_int_equal(verdict.verdict, SP_GATE_PASSED);
	assert_int_equal(verdict.mmlu_pairs.lost + verdict.mmlu_pairs.gained, 0);
	if (fx.mmlu.questions == 600)
		assert_int_equal(verdict.mmlu_pairs.baseline, 521); /* as lm-eval: 86.83 % */
	assert_int_equal(verdict.humaneval_pairs.baseline, PROGRAMS);
}

static void
sabotage_fails_by_numbers(void **state)
{
	struct sp_err err;
	struct sp_report_verdict verdict;
	const char *dir;

	(void)state;
	dir = spoiled(reverse_rows);
	verdict = gates(dir);
	assert_int_equal(verdict.verdict, SP_GATE_FAILED);
	assert_int_equal(verdict.mmlu.verdict, SP_GATE_FAILED);
	assert_int_equal(verdict.humaneval.verdict, SP_GATE_FAILED);
	assert_true(verdict.mmlu.drop_pp > 40);
	assert_true(verdict.humaneval.candidate_pp < 5);
	assert_int_equal(sp_file_remove_all(dir, &err), SP_OK);

	dir = spoiled(round_coarsely);
	verdict = gates(dir);
	assert_int_equal(verdict.verdict, SP_GATE_FAILED);
	assert_int_equal(sp_file_remove_all(dir, &err), SP_OK);
}

/* Weights that overflow in the last norm: every answer says so, none is taken for a choice. */
static void
nan_is_no_answer(void **state)
{
	struct sp_mmlu mmlu = one_subject();
	const char *dir = spoiled(overflow);
	struct sp_model *model = open_model(dir);
	struct sp_answer_mmlu answers;
	struct sp_err err;

	(void)state;
	assert_int_equal(
	    sp_mmlu_run(model, fx.tokenizer, &mmlu, 5, NULL, NULL, &answers, &err), SP_OK);
	assert_int_equal(sp_answer_nonfinite(&answers), mmlu.questions);
	sp_answer_mmlu_clear(&answers);
	sp_model_close(&model);
	assert_int_equal(sp_file_remove_all(dir, &err), SP_OK);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(mmlu_answers_are_the_harness),
	    cmocka_unit_test(mmlu_bits_do_not_depend_on_threads),
	    cmocka_unit_test(humaneval_completions_are_the_harness),
	    cmocka_unit_test(canonical_solutions_pass),
	    cmocka_unit_test(tests_must_be_able_to_fail),
	    cmocka_unit_test(known_programs_are_not_run_again),
	    cmocka_unit_test(long_prompts_are_cut_on_the_left),
	    cmocka_unit_test(the_same_model_passes),
	    cmocka_unit_test(sabotage_fails_by_numbers),
	    cmocka_unit_test(nan_is_no_answer),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
