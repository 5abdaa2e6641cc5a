/* report.c -- the gates' verdict over both models' answers, as JSON. */
#include "eval/report.h"

#include <stdlib.h>
#include <string.h>

static void
count_pair(struct sp_gate_pairs *pairs, int baseline, int candidate)
{
	pairs->n++;
	pairs->baseline += baseline != 0;
	pairs->lost += baseline && !candidate;
	pairs->gained += !baseline && candidate;
}

static struct sp_gate_limits
limits_of(const struct sp_policy *policy, const struct sp_policy_gate *gate, double chance)
{
	return (struct sp_gate_limits){
	    .max_drop_pp = gate->max_drop_pp, .confidence = policy->confidence, .chance = chance};
}

static void
decide_mmlu(const struct sp_report *report, struct sp_report_verdict *out)
{
	struct sp_gate_limits limits =
	    limits_of(report->policy, &report->policy->mmlu, sp_mmlu_chance(report->mmlu));
	const struct sp_answer_mmlu *baseline = report->baseline.mmlu;
	const struct sp_answer_mmlu *candidate = report->candidate.mmlu;
	size_t i, j, at = 0;

	SP_ASSERT(
	    baseline->count == report->mmlu->questions && candidate->count == baseline->count);
	for (i = 0; i < report->mmlu->count; i++) {
		const struct sp_mmlu_split *test = &report->mmlu->subjects[i].test;

		for (j = 0; j < test->count; j++, at++)
			count_pair(&out->mmlu_pairs, baseline->choices[at] == (int8_t)test->gold[j],
			    candidate->choices[at] == (int8_t)test->gold[j]);
	}
	out->mmlu_pairs.baseline_nonfinite = sp_answer_nonfinite(baseline);
	out->mmlu_pairs.candidate_nonfinite = sp_answer_nonfinite(candidate);
	sp_gate_decide(&out->mmlu_pairs, &limits, &out->mmlu);
}

static void
decide_humaneval(const struct sp_report *report, struct sp_report_verdict *out)
{
	struct sp_gate_limits limits = limits_of(report->policy, &report->policy->humaneval, 0);
	const struct sp_answer_programs *baseline = report->baseline.programs;
	const struct sp_answer_programs *candidate = report->candidate.programs;
	size_t i;

	SP_ASSERT(
	    baseline->count == report->humaneval->count && candidate->count == baseline->count);
	for (i = 0; i < baseline->count; i++) {
		SP_ASSERT(baseline->programs[i].outcome != SP_VERDICT_UNKNOWN &&
			  candidate->programs[i].outcome != SP_VERDICT_UNKNOWN);
		count_pair(&out->humaneval_pairs,
		    baseline->programs[i].outcome == SP_VERDICT_PASSED,
		    candidate->programs[i].outcome == SP_VERDICT_PASSED);
	}
	sp_gate_decide(&out->humaneval_pairs, &limits, &out->humaneval);
}

static enum sp_gate_verdict
worse(enum sp_gate_verdict a, enum sp_gate_verdict b)
{
	if (a == SP_GATE_FAILED || b == SP_GATE_FAILED)
		return SP_GATE_FAILED;
	return a == SP_GATE_INCONCLUSIVE ? a : b;
}

void
sp_report_decide(const struct sp_report *report, struct sp_report_verdict *out)
{
	int both = report->mmlu && report->humaneval;

	SP_ASSERT(report->mmlu || report->humaneval);
	memset(out, 0, sizeof(*out));
	out->verdict = SP_GATE_PASSED;
	if (report->mmlu) {
		decide_mmlu(report, out);
		out->verdict = worse(out->verdict, out->mmlu.verdict);
	}
	if (report->humaneval) {
		decide_humaneval(report, out);
		out->verdict = worse(out->verdict, out->humaneval.verdict);
	}
	snprintf(out->reason, sizeof(out->reason), "%s%.230s%s%s%.230s",
	    report->mmlu ? "mmlu: " : "", report->mmlu ? out->mmlu.reason : "", both ? "; " : "",
	    report->humaneval ? "humaneval: " : "", report->humaneval ? out->humaneval.reason : "");
}

/* --- the report as JSON
 * -------------------------------------------------------------------------*/

static json_t *
decimal(const char *format, double value)
{
	char text[64];

	snprintf(text, sizeof(text), format, value);
	return json_string(text);
}

static void
put(json_t *obj, const char *key, json_t *value)
{
	SP_ASSERT(json_object_set_new(obj, key, value) == 0);
}

static void
put_count(json_t *obj, const char *key, uint64_t value)
{
	put(obj, key, json_integer((json_int_t)value));
}

/* What both gates have in common. */
static json_t *
gate_json(const struct sp_policy *policy, const struct sp_policy_gate *gate, const char *amount,
    const struct sp_hex *dataset, const struct sp_gate_pairs *pairs,
    const struct sp_gate_decision *decision)
{
	json_t *obj = json_object();

	put(obj, "verdict", json_string(sp_gate_word(decision->verdict)));
	put(obj, "reason", json_string(decision->reason));
	put(obj, "dataset", json_string(gate->dataset));
	put(obj, "dataset_sha256", json_string(dataset->s));
	put_count(obj, amount, gate->amount);
	put_count(obj, "n", pairs->n);
	put_count(obj, "lost", pairs->lost);
	put_count(obj, "gained", pairs->gained);
	put(obj, "baseline_pp", decimal("%.4f", decision->baseline_pp));
	put(obj, "candidate_pp", decimal("%.4f", decision->candidate_pp));
	put(obj, "drop_pp", decimal("%.4f", decision->drop_pp));
	put(obj, "bound_pp", decimal("%.4f", decision->bound_pp));
	put(obj, "max_drop_pp", decimal("%.10g", gate->max_drop_pp)); /* as the profile has them */
	put(obj, "confidence", decimal("%.10g", policy->confidence));
	put(obj, "mcnemar_p", decimal("%.3g", decision->p));
	put_count(obj, "more_samples", decision->more);
	return obj;
}

static void
put_stderr(
    json_t *obj, const char *key, const struct sp_mmlu *mmlu, const struct sp_answer_mmlu *answers)
{
	struct sp_gate_score *scores = sp_xcalloc(mmlu->count, sizeof(*scores)), all;

	sp_mmlu_score(mmlu, answers->choices, scores, &all);
	put(obj, key, decimal("%.4f", 100 * sp_gate_pooled_stderr(scores, mmlu->count)));
	free(scores);
}

static json_t *
mmlu_json(const struct sp_report *report, const struct sp_report_verdict *verdict)
{
	const struct sp_answer_mmlu *baseline = report->baseline.mmlu;
	const struct sp_answer_mmlu *candidate = report->candidate.mmlu;
	json_t *obj = gate_json(report->policy, &report->policy->mmlu, "shots",
	    &report->mmlu->digest, &verdict->mmlu_pairs, &verdict->mmlu);

	put(obj, "chance_pp", decimal("%.4f", 100 * sp_mmlu_chance(report->mmlu)));
	put_stderr(obj, "baseline_stderr_pp", report->mmlu, baseline);
	put_stderr(obj, "candidate_stderr_pp", report->mmlu, candidate);
	put_count(obj, "baseline_nonfinite", verdict->mmlu_pairs.baseline_nonfinite);
	put_count(obj, "candidate_nonfinite", verdict->mmlu_pairs.candidate_nonfinite);
	put_count(obj, "baseline_near_ties", sp_answer_near_ties(baseline));
	put_count(obj, "candidate_near_ties", sp_answer_near_ties(candidate));
	put_count(obj, "baseline_truncated", baseline->truncated);
	put_count(obj, "candidate_truncated", candidate->truncated);
	put(obj, "divergence_nat", decimal("%.6f", sp_answer_divergence(baseline, candidate)));
	return obj;
}

static json_t *
humaneval_json(const struct sp_report *report, const struct sp_report_verdict *verdict)
{
	struct sp_gate_score baseline = {
	    report->humaneval->count, verdict->humaneval_pairs.baseline};
	struct sp_gate_score candidate = {baseline.n,
	    baseline.correct - verdict->humaneval_pairs.lost + verdict->humaneval_pairs.gained};
	json_t *obj = gate_json(report->policy, &report->policy->humaneval, "max_new_tokens",
	    &report->humaneval->digest, &verdict->humaneval_pairs, &verdict->humaneval);

	put(obj, "baseline_stderr_pp", decimal("%.4f", 100 * sp_gate_stderr(baseline)));
	put(obj, "candidate_stderr_pp", decimal("%.4f", 100 * sp_gate_stderr(candidate)));
	put_count(obj, "baseline_truncated", report->baseline.programs->truncated);
	put_count(obj, "candidate_truncated", report->candidate.programs->truncated);
	put(obj, "sandbox", json_string(sp_sandbox_word(report->limits->kind)));
	put_count(obj, "cpu_s", report->limits->cpu_s);
	put_count(obj, "wall_ms", report->limits->wall_ms);
	put_count(obj, "memory_mib", report->limits->memory_mib);
	return obj;
}

json_t *
sp_report_summary(const struct sp_report *report, const struct sp_report_verdict *verdict)
{
	json_t *root = json_object();

	put(root, "type", json_string("sallyport-gate-report/1"));
	put(root, "verdict", json_string(sp_gate_word(verdict->verdict)));
	put(root, "reason", json_string(verdict->reason));
	put(root, "engine", json_string(report->engine));
	put(root, "baseline", json_string(report->baseline.tree));
	put(root, "candidate", json_string(report->candidate.tree));
	if (report->mmlu)
		put(root, "mmlu", mmlu_json(report, verdict));
	if (report->humaneval)
		put(root, "humaneval", humaneval_json(report, verdict));
	return root;
}

static json_t *
letters(const int8_t *choices, size_t count)
{
	char *text = sp_xcalloc(count + 1, 1);
	json_t *value;
	size_t i;

	for (i = 0; i < count; i++)
		text[i] = choices[i] < 0 ? '?' : (char)('A' + choices[i]);
	value = json_string(text);
	free(text);
	return value;
}

static json_t *
subjects_json(const struct sp_report *report)
{
	json_t *list = json_array();
	size_t i, at = 0;

	for (i = 0; i < report->mmlu->count; i++) {
		const struct sp_mmlu_subject *subject = &report->mmlu->subjects[i];
		size_t n = subject->test.count, k;
		const int8_t *gold = (const int8_t *)subject->test.gold;
		const int8_t *baseline = report->baseline.mmlu->choices + at;
		const int8_t *candidate = report->candidate.mmlu->choices + at;
		struct sp_gate_pairs pairs = {0};
		json_t *obj = json_object();

		for (k = 0; k < n; k++)
			count_pair(&pairs, baseline[k] == gold[k], candidate[k] == gold[k]);
		put(obj, "subject", json_string(subject->name));
		put_count(obj, "n", n);
		put_count(obj, "baseline_correct", pairs.baseline);
		put_count(obj, "candidate_correct", pairs.baseline - pairs.lost + pairs.gained);
		put_count(obj, "lost", pairs.lost);
		put_count(obj, "gained", pairs.gained);
		put(obj, "gold", letters(gold, n));
		put(obj, "baseline", letters(baseline, n));
		put(obj, "candidate", letters(candidate, n));
		json_array_append_new(list, obj);
		at += n;
	}
	return list;
}

static json_t *
outcome_json(const struct sp_answer_program *program)
{
	json_t *obj = json_object();

	put(obj, "outcome", json_string(sp_verdict_word(program->outcome)));
	put(obj, "detail", json_string(program->detail));
	put(obj, "program_sha256", json_string(program->digest.s));
	return obj;
}

static json_t *
tasks_json(const struct sp_report *report)
{
	json_t *list = json_array();
	size_t i;

	for (i = 0; i < report->humaneval->count; i++) {
		json_t *obj = json_object();

		put(obj, "task", json_string(report->humaneval->tasks[i].id));
		put(obj, "baseline", outcome_json(&report->baseline.programs->programs[i]));
		put(obj, "candidate", outcome_json(&report->candidate.programs->programs[i]));
		json_array_append_new(list, obj);
	}
	return list;
}

char *
sp_report_format(
    const struct sp_report *report, const struct sp_report_verdict *verdict, size_t *len)
{
	json_t *root = sp_report_summary(report, verdict);
	char *text;

	if (report->mmlu)
		put(json_object_get(root, "mmlu"), "subjects", subjects_json(report));
	if (report->humaneval)
		put(json_object_get(root, "humaneval"), "tasks", tasks_json(report));
	text = sp_json_canonical(root, len);
	json_decref(root);
	return text;
}
