/* validatord_step.c -- names, the chain behind the candidate, the statement; no effects. */
#include "validatord.h"

#include "bus/step.h"

#include <stdlib.h>
#include <string.h>

const char *
validatord_side_word(enum validatord_side side)
{
	return side == VALIDATORD_BASELINE ? "baseline" : "candidate";
}

static struct sp_hex
digest_of(char *text)
{
	struct sp_hex digest = sp_sha256_hex(text, strlen(text));

	free(text);
	return digest;
}

struct sp_hex
validatord_answers_key(
    const char *tree, const char *gate, const char *dataset, unsigned amount, const char *engine)
{
	return digest_of(sp_xasprintf(
	    "sallyport-answers/1\n%s\n%s\n%s\n%u\n%s\n", tree, gate, dataset, amount, engine));
}

struct sp_hex
validatord_work_key(const char *baseline, const char *candidate)
{
	return digest_of(sp_xasprintf("sallyport-validate/1\n%s\n%s\n", baseline, candidate));
}

/* --- the chain behind ---------------------------------------------------------------------------
 */

enum sp_code
validatord_check_chain(const struct sp_trust *trust, const Sallyport__Task *task,
    const char *baseline, const char *candidate, struct sp_err *err)
{
	struct sp_statement fetch = {0}, quantize = {0};
	enum sp_code code;

	code = sp_step_behind(trust, task, SP_CHAIN_FETCH, baseline, &fetch, err);
	if (code == SP_OK)
		code = sp_step_behind(trust, task, SP_CHAIN_QUANTIZE, candidate, &quantize, err);
	if (code == SP_OK && !sp_statement_uses_tree(&quantize, baseline))
		code = sp_err_set(err, SP_E_DENIED,
		    "quantize attestation: the candidate was not made from the fetched tree %s",
		    baseline);
	sp_statement_clear(&fetch);
	sp_statement_clear(&quantize);
	return code;
}

/* --- the statement ------------------------------------------------------------------------------
 */

char *
validatord_statement(const Sallyport__Task *task, const struct sp_report *report,
    const struct sp_report_verdict *verdict, const char *report_digest, size_t *len)
{
	struct sp_hex policy = sp_sha256_hex(task->policy.data, task->policy.len);
	char *tree = sp_xasprintf("sallyport:tree:%s", report->baseline.tree);
	struct sp_material configuration[5] = {
	    {.uri = tree, .name = "baseline", .sha256 = report->baseline.tree, .git_commit = ""},
	    {.uri = "sallyport:policy",
		.name = task->profile,
		.sha256 = policy.s,
		.git_commit = ""},
	    {.uri = "sallyport:report",
		.name = "report",
		.sha256 = report_digest,
		.git_commit = ""},
	};
	const char *passed[2], *failed[2];
	struct sp_test_result result = {.subject_name = task->name,
	    .subject_tree = report->candidate.tree,
	    .result = verdict->verdict == SP_GATE_PASSED ? "PASSED" : "FAILED",
	    .configuration = configuration,
	    .configuration_count = 3,
	    .passed = passed,
	    .failed = failed,
	    .detail = sp_report_summary(report, verdict)};
	char *text;

	if (report->mmlu) {
		configuration[result.configuration_count++] = (struct sp_material){
		    "sallyport:dataset:mmlu", "mmlu", report->mmlu->digest.s, ""};
		if (verdict->mmlu.verdict == SP_GATE_PASSED)
			passed[result.passed_count++] = "mmlu";
		else
			failed[result.failed_count++] = "mmlu";
	}
	if (report->humaneval) {
		configuration[result.configuration_count++] = (struct sp_material){
		    "sallyport:dataset:humaneval", "humaneval", report->humaneval->digest.s, ""};
		if (verdict->humaneval.verdict == SP_GATE_PASSED)
			passed[result.passed_count++] = "humaneval";
		else
			failed[result.failed_count++] = "humaneval";
	}
	text = sp_statement_test_result(&result, len);
	json_decref(result.detail);
	free(tree);
	return text;
}
