/* validatord_io.c -- stores, files, the engine, the sandbox, and the key. */
#include "base/file.h"
#include "base/log.h"
#include "base/path.h"
#include "base/program.h"
#include "bus/paths.h"
#include "bus/step.h"
#include "bus/worker.h"
#include "eval/humaneval_run.h"
#include "eval/mmlu_run.h"
#include "validatord.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SERVICE "validatord"
#define ANSWERS_MAX ((size_t)SP_JSON_MAX)
#define TOKENIZER_MAX ((size_t)256 << 20)

enum sp_code
validatord_open(struct sp_worker *worker, void **ctx, struct sp_err *err)
{
	struct sp_step *step;
	enum sp_code code = sp_step_open(sp_worker_conf(worker), SERVICE, SP_ROLE_GATE, &step, err);

	*ctx = step;
	return code;
}

/* Which sandbox is the operator's choice alone: none takes another's place when it cannot be made.
 */
static enum sp_code
sandbox_limits(const struct sp_conf *conf, struct sp_sandbox_limits *out, struct sp_err *err)
{
	const char *word = sp_conf_string(conf, "validatord.sandbox");

	*out = sp_sandbox_defaults;
	if (!sp_sandbox_find(word, &out->kind))
		return sp_err_set(err, SP_E_CONFIG,
		    "validatord.sandbox is \"%s\": it must be \"bubblewrap\" or \"landlock\"",
		    word);
	return SP_OK;
}

enum sp_code
validatord_check(const struct sp_conf *conf, struct sp_err *err)
{
	struct sp_sandbox_limits limits;

	return sandbox_limits(conf, &limits, err);
}

/* --- what both halves read ----------------------------------------------------------------------
 */

/* A task's inputs, and where its answers lie. */
struct inputs {
	struct sp_policy policy;
	struct sp_artifact trees[VALIDATORD_SIDES];
	struct sp_mmlu mmlu;
	struct sp_humaneval humaneval;
	char
	    *engine; /* the program that computes the answers: daemon and child are the same file */
	char *judge; /* that program, the interpreter of the generated ones, and their sandbox */
	struct sp_sandbox_limits limits;
	char *work; /* this task's directory */
	char *kept; /* of baselines' answers, for later tasks */
};

struct answers {
	struct sp_answer_mmlu mmlu;
	struct sp_answer_programs programs;
};

static void
inputs_clear(struct inputs *inputs)
{
	sp_mmlu_clear(&inputs->mmlu);
	sp_humaneval_clear(&inputs->humaneval);
	free(inputs->engine);
	free(inputs->judge);
	free(inputs->work);
	free(inputs->kept);
	memset(inputs, 0, sizeof(*inputs));
}

static void
answers_clear(struct answers *answers)
{
	sp_answer_mmlu_clear(&answers->mmlu);
	sp_answer_programs_clear(&answers->programs);
}

/* The error of a data set that cannot be used, told as a fault of the profile. */
static enum sp_code
check_dataset(const char *gate, const struct sp_policy_gate *policy, const struct sp_hex *digest,
    enum sp_code loaded, struct sp_err *err)
{
	if (loaded != SP_OK) {
		if (err && err->code == SP_E_NOT_FOUND)
			err->code = SP_E_CONFIG;
		return sp_err_prefix(err, "%s.dataset of the profile", gate);
	}
	if (policy->sha256[0] && strcmp(policy->sha256, digest->s) != 0)
		return sp_err_set(err, SP_E_CORRUPT,
		    "%s.dataset of the profile has the digest %s, not %s: put the data set back, "
		    "or "
		    "change %s.sha256",
		    gate, digest->s, policy->sha256, gate);
	return SP_OK;
}

static enum sp_code
load_datasets(const struct sp_conf *conf, struct inputs *in, struct sp_err *err)
{
	const char *root = sp_conf_root(conf);
	enum sp_code code = SP_OK;
	char *path;

	if (in->policy.mmlu.asked) {
		path = sp_path_join(root, in->policy.mmlu.dataset);
		code = sp_mmlu_load(path, in->policy.mmlu.amount, &in->mmlu, err);
		code = check_dataset("mmlu", &in->policy.mmlu, &in->mmlu.digest, code, err);
		free(path);
	}
	if (code == SP_OK && in->policy.humaneval.asked) {
		path = sp_path_join(root, in->policy.humaneval.dataset);
		code = sp_humaneval_load(path, &in->humaneval, err);
		code = check_dataset(
		    "humaneval", &in->policy.humaneval, &in->humaneval.digest, code, err);
		free(path);
	}
	return code;
}

static enum sp_code
name_programs(const struct sp_conf *conf, struct inputs *in, struct sp_err *err)
{
	enum sp_code code = sp_program_name(&in->engine, err);
	struct sp_hex python;

	if (code != SP_OK || !in->policy.humaneval.asked)
		return code;
	if ((code = sp_program_digest(SP_SANDBOX_PYTHON, &python, err)))
		return sp_err_prefix(err, "humaneval runs programs with Python");
	if ((code = sandbox_limits(conf, &in->limits, err)))
		return code;
	in->judge = sp_xasprintf(
	    "%s python+%.16s %s", in->engine, python.s, sp_sandbox_word(in->limits.kind));
	return SP_OK;
}

static enum sp_code
inputs_read(const struct sp_conf *conf, const Sallyport__Task *task, struct sp_lease *lease,
    struct inputs *out, struct sp_err *err)
{
	static const char *const roles[] = {"source", "candidate"};
	enum sp_code code;
	char *state;
	int i;

	memset(out, 0, sizeof(*out));
	code = sp_policy_parse(task->policy.data, task->policy.len, &out->policy, err);
	for (i = 0; i < VALIDATORD_SIDES && code == SP_OK; i++) {
		code = sp_outcome_input(task, roles[i], &out->trees[i], err);
		if (code == SP_OK && !out->trees[i].tree)
			code = sp_err_set(
			    err, SP_E_INVALID, "the %s of job %s is no tree", roles[i], task->job);
	}
	if (code != SP_OK || (code = load_datasets(conf, out, err)) ||
	    (code = name_programs(conf, out, err)))
		goto out;
	out->work = sp_lease_workdir(lease,
	    validatord_work_key(
		out->trees[VALIDATORD_BASELINE].digest.s, out->trees[VALIDATORD_CANDIDATE].digest.s)
		.s,
	    err);
	if (!out->work) {
		code = err->code;
		goto out;
	}
	state = sp_paths_state(conf, SERVICE);
	out->kept = sp_path_join(state, "/answers");
	free(state);
	code = sp_file_mkdirs(out->kept, 0700, err);
out:
	if (code != SP_OK)
		inputs_clear(out);
	return code;
}

static struct sp_hex
key_of(const struct inputs *in, enum validatord_side side, int humaneval)
{
	const char *tree = in->trees[side].digest.s;

	if (humaneval)
		return validatord_answers_key(tree, "humaneval", in->humaneval.digest.s,
		    in->policy.humaneval.amount, in->judge);
	return validatord_answers_key(
	    tree, "mmlu", in->mmlu.digest.s, in->policy.mmlu.amount, in->engine);
}

static char *
answers_path(const char *dir, const struct sp_hex *key)
{
	return sp_xasprintf("%s/%s.json", dir, key->s);
}

/* Answers that are there already; SP_E_NOT_FOUND when they have to be computed. Kept ones serve
 * baselines alone: a candidate is always asked anew. */
static enum sp_code
find_answers(const struct inputs *in, enum validatord_side side, int humaneval, struct answers *out,
    struct sp_err *err)
{
	struct sp_hex key = key_of(in, side, humaneval);
	const char *dirs[] = {in->work, side == VALIDATORD_BASELINE ? in->kept : NULL};
	enum sp_code code = SP_E_NOT_FOUND;
	size_t i;

	for (i = 0; i < 2 && dirs[i] && code == SP_E_NOT_FOUND; i++) {
		char *path = answers_path(dirs[i], &key);
		uint8_t *text = NULL;
		size_t len;

		code = sp_file_read(path, ANSWERS_MAX, &text, &len, err);
		if (code == SP_OK && humaneval)
			code = sp_answer_programs_parse(
			    text, len, in->humaneval.count, &out->programs, err);
		else if (code == SP_OK)
			code = sp_answer_mmlu_parse(text, len, in->mmlu.questions, &out->mmlu, err);
		free(text);
		free(path);
	}
	return code;
}

/* What the child reads beside stores: the data sets. And it starts the sandboxes. */
enum sp_code
validatord_confine(const struct sp_conf *conf, const Sallyport__Task *task,
    struct sp_confine *confine, struct sp_err *err)
{
	struct sp_sandbox_limits limits;
	struct sp_policy policy;
	enum sp_code code;
	char *path;

	if ((code = sp_policy_parse(task->policy.data, task->policy.len, &policy, err)) ||
	    (code = sandbox_limits(conf, &limits, err)))
		return code;
	if (policy.mmlu.asked) {
		path = sp_path_join(sp_conf_root(conf), policy.mmlu.dataset);
		sp_confine_read(confine, path);
		free(path);
	}
	if (policy.humaneval.asked) {
		path = sp_path_join(sp_conf_root(conf), policy.humaneval.dataset);
		sp_confine_read(confine, path);
		free(path);
		if (limits.kind == SP_SANDBOX_BUBBLEWRAP)
			sp_confine_bubblewrap(confine);
		else
			sp_confine_programs(confine);
	}
	return SP_OK;
}

/* --- work: the child process, without keys ------------------------------------------------------
 */

/* Where progress of the current phase goes. */
struct phase {
	struct sp_lease *lease;
	char name[64];
	const char *unit;
};

static void
say(void *ctx, uint64_t done, uint64_t total)
{
	const struct phase *phase = ctx;

	sp_lease_progress(phase->lease, phase->name, done, total, phase->unit);
}

static struct phase
phase_of(struct sp_lease *lease, enum validatord_side side, const char *what, const char *unit)
{
	struct phase phase = {.lease = lease, .unit = unit};

	snprintf(phase.name, sizeof(phase.name), "%s-%s", validatord_side_word(side), what);
	return phase;
}

static enum sp_code
open_tokenizer(const char *dir, struct sp_tokenizer **out, struct sp_err *err)
{
	char *path = sp_xasprintf("%s/tokenizer.json", dir);
	uint8_t *data = NULL;
	enum sp_code code;
	size_t len;

	code = sp_file_read(path, TOKENIZER_MAX, &data, &len, err);
	if (code == SP_OK && (code = sp_tokenizer_parse(data, len, out, err)) != SP_OK)
		sp_err_prefix(err, "tokenizer.json");
	free(data);
	free(path);
	return code;
}

static enum sp_code
keep_answers(const char *dir, const struct sp_hex *key, char *text, size_t len, struct sp_err *err)
{
	char *path = answers_path(dir, key);
	enum sp_code code = sp_file_write(path, 0600, text, len, err);

	free(path);
	free(text);
	return code;
}

/* What the model in dir answers, of what is not known yet; programs are written, not yet run. */
static enum sp_code
ask_model(const struct sp_conf *conf, const struct inputs *in, enum validatord_side side,
    const char *dir, int mmlu, int humaneval, struct sp_lease *lease, struct answers *answers,
    struct sp_err *err)
{
	struct phase questions = phase_of(lease, side, "mmlu", "questions");
	struct phase tasks = phase_of(lease, side, "humaneval", "tasks");
	struct sp_hex key = key_of(in, side, 0);
	struct sp_tokenizer *tokenizer = NULL;
	struct sp_model *model = NULL;
	struct sp_pool *pool = NULL;
	enum sp_code code;
	size_t len;

	if ((code = sp_pool_open((unsigned)sp_conf_int(conf, "validatord.threads"), &pool, err)) ||
	    (code = open_tokenizer(dir, &tokenizer, err)) ||
	    (code = sp_model_open(dir, pool, &model, err)))
		goto out;
	if (mmlu) {
		char *text;

		code = sp_mmlu_run(model, tokenizer, &in->mmlu, in->policy.mmlu.amount, say,
		    &questions, &answers->mmlu, err);
		if (code != SP_OK)
			goto out;
		text = sp_answer_mmlu_format(&answers->mmlu, &len);
		if ((code = keep_answers(in->work, &key, text, len, err)))
			goto out;
	}
	if (humaneval)
		code = sp_humaneval_generate(model, tokenizer, &in->humaneval,
		    in->policy.humaneval.amount, say, &tasks, &answers->programs, err);
out:
	sp_model_close(&model);
	sp_tokenizer_free(&tokenizer);
	sp_pool_close(&pool);
	return code;
}

/* Runs the programs; the model is closed by then, so that a fork need not copy its page tables. */
static enum sp_code
judge(const struct inputs *in, enum validatord_side side, const struct answers *baseline,
    struct sp_lease *lease, struct answers *answers, struct sp_err *err)
{
	struct phase tests = phase_of(lease, side, "tests", "tasks");
	struct phase programs = phase_of(lease, side, "programs", "programs");
	const struct sp_answer_programs *known =
	    side == VALIDATORD_CANDIDATE ? &baseline->programs : NULL;
	struct sp_hex key = key_of(in, side, 1);
	enum sp_code code = SP_OK;
	char *text;
	size_t len;

	/* once for a data set: whose baseline is known was vetted with it */
	if (side == VALIDATORD_BASELINE)
		code = sp_humaneval_vet(&in->humaneval, &in->limits, say, &tests, err);
	if (code == SP_OK)
		code = sp_humaneval_judge(
		    &in->humaneval, &answers->programs, known, &in->limits, say, &programs, err);
	if (code != SP_OK)
		return code;
	text = sp_answer_programs_format(&answers->programs, &len);
	return keep_answers(in->work, &key, text, len, err);
}

/* Computes what is missing of one side's answers. */
static enum sp_code
ask_side(const struct sp_conf *conf, const struct inputs *in, enum validatord_side side,
    const struct answers *baseline, struct sp_lease *lease, struct answers *answers,
    struct sp_err *err)
{
	int mmlu = in->policy.mmlu.asked && find_answers(in, side, 0, answers, err) != SP_OK;
	int humaneval =
	    in->policy.humaneval.asked && find_answers(in, side, 1, answers, err) != SP_OK;
	struct phase copy = phase_of(lease, side, "copy", "bytes");
	enum sp_code code;
	char *dir;

	if (!mmlu && !humaneval)
		return SP_OK;
	dir = sp_xasprintf("%s/%s", in->work, validatord_side_word(side));
	code = sp_step_take(conf, &in->trees[side], dir, say, &copy, err);
	if (code == SP_OK)
		code = ask_model(conf, in, side, dir, mmlu, humaneval, lease, answers, err);
	if (code == SP_OK && humaneval)
		code = judge(in, side, baseline, lease, answers, err);
	if (code != SP_OK)
		sp_err_prefix(err, "%s", validatord_side_word(side));
	/* the copy is as large as the model, and a later attempt makes its own */
	sp_step_discard(dir);
	free(dir);
	return code;
}

enum sp_code
validatord_work(const struct sp_conf *conf, const Sallyport__Task *task, struct sp_lease *lease,
    struct sp_outcome *outcome, struct sp_err *err)
{
	struct answers answers[VALIDATORD_SIDES];
	struct inputs in;
	enum sp_code code;
	int side, locked = -1;

	memset(answers, 0, sizeof(answers));
	(void)outcome; /* the answers lie in the work directory; the daemon concludes */
	if ((code = inputs_read(conf, task, lease, &in, err)))
		return code;
	code = sp_step_lock(in.work, &locked, err);
	for (side = 0; side < VALIDATORD_SIDES && code == SP_OK; side++)
		sp_step_sweep(in.work, validatord_side_word((enum validatord_side)side));
	for (side = 0; side < VALIDATORD_SIDES && code == SP_OK; side++)
		code = ask_side(conf, &in, (enum validatord_side)side,
		    &answers[VALIDATORD_BASELINE], lease, &answers[side], err);
	for (side = 0; side < VALIDATORD_SIDES; side++)
		answers_clear(&answers[side]);
	if (locked >= 0)
		close(locked);
	inputs_clear(&in);
	return code;
}

/* --- seal: the daemon, with the key -------------------------------------------------------------
 */

static enum sp_code
collect(const struct inputs *in, const Sallyport__Task *task, struct answers answers[],
    struct sp_err *err)
{
	int asked[] = {in->policy.mmlu.asked, in->policy.humaneval.asked};
	enum sp_code code = SP_OK;
	int side, gate;

	for (side = 0; side < VALIDATORD_SIDES; side++)
		for (gate = 0; gate < 2 && code == SP_OK; gate++)
			if (asked[gate])
				code = find_answers(
				    in, (enum validatord_side)side, gate, &answers[side], err);
	if (code == SP_E_NOT_FOUND)
		code = sp_err_set(err, SP_E_INCOMPLETE,
		    "answers of job %s are missing: a data set of the profile, or the program, was "
		    "changed while it ran",
		    task->job);
	return code;
}

static void
add_detail(struct sp_outcome *outcome, const char *gate, const struct sp_gate_decision *decision)
{
	sp_outcome_detail(outcome, gate, "%s: %.2f to %.2f, drop %.2f pp, bound %.2f pp",
	    sp_gate_word(decision->verdict), decision->baseline_pp, decision->candidate_pp,
	    decision->drop_pp, decision->bound_pp);
}

/* Report into the store, verdict signed, both named in the outcome. */
static enum sp_code
conclude(const struct sp_step *step, const Sallyport__Task *task, const struct sp_report *report,
    const struct sp_report_verdict *verdict, struct sp_outcome *outcome, struct sp_err *err)
{
	char *text, *statement = NULL;
	struct sp_hex digest;
	enum sp_code code;
	size_t len;

	text = sp_report_format(report, verdict, &len);
	code = sp_store_put(step->store, text, len, &digest, err);
	if (code != SP_OK)
		goto out;
	sp_outcome_artifact(outcome, "report", digest.s, SERVICE, 0, len);
	statement = validatord_statement(task, report, verdict, digest.s, &len);
	code = sp_step_sign(step, statement, len, outcome, err);
	sp_outcome_detail(outcome, "verdict", "%s", sp_gate_word(verdict->verdict));
	if (report->mmlu)
		add_detail(outcome, "mmlu", &verdict->mmlu);
	if (report->humaneval)
		add_detail(outcome, "humaneval", &verdict->humaneval);
	if (code == SP_OK && verdict->verdict != SP_GATE_PASSED)
		code = sp_err_set(
		    err, SP_E_BLOCKED, "%s: %s", sp_gate_word(verdict->verdict), verdict->reason);
out:
	free(text);
	free(statement);
	return code;
}

/* The baseline's answers serve the next candidate made from it; then the work directory goes. What
 * cannot be kept or removed costs time or space, never the verdict. */
static void
clean_up(const struct inputs *in, const Sallyport__Task *task, const struct answers *baseline)
{
	struct sp_err err = {.code = SP_OK};
	struct sp_hex key;
	char *text;
	size_t len;

	if (in->policy.mmlu.asked) {
		key = key_of(in, VALIDATORD_BASELINE, 0);
		text = sp_answer_mmlu_format(&baseline->mmlu, &len);
		if (keep_answers(in->kept, &key, text, len, &err) != SP_OK)
			sp_log_warn(task->job, "baseline answers not kept: %s", err.msg);
	}
	if (in->policy.humaneval.asked) {
		key = key_of(in, VALIDATORD_BASELINE, 1);
		text = sp_answer_programs_format(&baseline->programs, &len);
		if (keep_answers(in->kept, &key, text, len, &err) != SP_OK)
			sp_log_warn(task->job, "baseline answers not kept: %s", err.msg);
	}
	if (sp_file_remove_all(in->work, &err) != SP_OK)
		sp_log_warn(task->job, "%s: remove it by hand (%s)", in->work, err.msg);
}

enum sp_code
validatord_seal(void *ctx, struct sp_worker *worker, const Sallyport__Task *task,
    struct sp_lease *lease, enum sp_code worked, struct sp_outcome *outcome, struct sp_err *err)
{
	struct answers answers[VALIDATORD_SIDES];
	const struct sp_step *step = ctx;
	struct sp_report_verdict verdict;
	struct sp_trust *trust = NULL;
	struct sp_report report;
	struct inputs in;
	enum sp_code code;

	memset(answers, 0, sizeof(answers));
	sp_outcome_clear(outcome); /* a child's claims are none of ours */
	if (worked != SP_OK)
		return sp_err_set(
		    err, SP_E_INTERNAL, "the child ended with %s", sp_err_word(worked));
	if ((code = inputs_read(sp_worker_conf(worker), task, lease, &in, err)))
		return code;
	if ((code = sp_worker_trust(worker, &trust, err)) ||
	    (code = validatord_check_chain(trust, task, in.trees[VALIDATORD_BASELINE].digest.s,
		 in.trees[VALIDATORD_CANDIDATE].digest.s, err)) ||
	    (code = collect(&in, task, answers, err)))
		goto out;
	report = (struct sp_report){.policy = &in.policy,
	    .engine = in.engine,
	    .mmlu = in.policy.mmlu.asked ? &in.mmlu : NULL,
	    .humaneval = in.policy.humaneval.asked ? &in.humaneval : NULL,
	    .limits = &in.limits,
	    .baseline = {in.trees[VALIDATORD_BASELINE].digest.s, &answers[VALIDATORD_BASELINE].mmlu,
		&answers[VALIDATORD_BASELINE].programs},
	    .candidate = {in.trees[VALIDATORD_CANDIDATE].digest.s,
		&answers[VALIDATORD_CANDIDATE].mmlu, &answers[VALIDATORD_CANDIDATE].programs}};
	sp_report_decide(&report, &verdict);
	code = conclude(step, task, &report, &verdict, outcome, err);
	if (code == SP_OK || code == SP_E_BLOCKED)
		clean_up(&in, task, &answers[VALIDATORD_BASELINE]);
out:
	answers_clear(&answers[VALIDATORD_BASELINE]);
	answers_clear(&answers[VALIDATORD_CANDIDATE]);
	sp_trust_free(&trust);
	inputs_clear(&in);
	return code;
}
