/* eval_gate.c -- policy, statistics of paired answers, verdict and report. */
#include "eval/report.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MMLU_DIR "tests/fixtures/mmlu"
#define HUMANEVAL_FILE "tests/fixtures/humaneval.jsonl.gz"

static const uint8_t *
bytes(const char *text)
{
	return (const uint8_t *)text;
}

static void
assert_near(double got, double want, double tolerance)
{
	if (!(fabs(got - want) <= tolerance))
		fail_msg("%.17g is not within %g of %.17g", got, tolerance, want);
}

/* --- statistics
 * ---------------------------------------------------------------------------------*/

/* Lower two-sided bound, by exchanging losses and gains. */
static double
lower(double lost, double gained, double n, double confidence)
{
	// NOLINTNEXTLINE(readability-suspicious-call-argument): exchanged, as said above
	return -sp_gate_bound(gained, lost, n, confidence);
}

/*
 * Published intervals by Tango's method. Complete response before and after consolidation therapy
 * (Cavo et al. 2012: 6 and 16 of 161 changed): -0.1240 to -0.0054. Airway hyper-responsiveness
 * (Bentur et al. 2009: 1 and 7 of 21): -0.517 to -0.026. Both in Fagerland, Lydersen and Laake,
 * Statistical Analysis of Contingency Tables, chapter 8.
 */
static void
tango_published(void **state)
{
	(void)state;
	assert_near(sp_gate_bound(6, 16, 161, 0.975), -0.0054, 5e-5);
	assert_near(lower(6, 16, 161, 0.975), -0.1240, 5e-5);
	assert_near(sp_gate_bound(1, 7, 21, 0.975), -0.026, 5e-4);
	assert_near(lower(1, 7, 21, 0.975), -0.517, 5e-4);
}

/* The defining property, checked without the closed form: at the bound the score statistic, its
 * variance from the constrained likelihood found by search, equals -z. */
static void
tango_solves_its_equation(void **state)
{
	static const double cases[][3] = {{3, 1, 99}, {10, 4, 600}, {0, 5, 50}, {40, 20, 160}};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		double lost = cases[i][0], gained = cases[i][1], n = cases[i][2];
		double bound = sp_gate_bound(lost, gained, n, 0.95), best = -INFINITY, share = 0;
		double low = fmax(0, -bound) + 1e-12, high = (1 - bound) / 2 - 1e-12;
		int k, steps = 2000000;

		for (k = 0; k <= steps; k++) { /* q: probability of a gain; q + bound: of a loss */
			double q = low + (high - low) * k / steps;
			double likelihood = lost * log(q + bound) + gained * log(q) +
					    (n - lost - gained) * log(1 - 2 * q - bound);

			if (likelihood > best) {
				best = likelihood;
				share = q;
			}
		}
		assert_near(
		    (lost - gained - n * bound) / sqrt(n * (2 * share + bound * (1 - bound))),
		    -1.6448536269514722, 1e-4);
	}
}

static void
tango_without_discordance(void **state)
{
	static const double sizes[] = {1, 99, 600, 14042};
	double z = 1.6448536269514722;
	size_t i;

	(void)state;
	assert_near(sp_gate_quantile(0.95), z, 1e-12);
	assert_near(sp_gate_quantile(0.5), 0, 1e-12);
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		assert_near(sp_gate_bound(0, 0, sizes[i], 0.95), z * z / (sizes[i] + z * z), 1e-12);
	assert_near(sp_gate_bound(10, 0, 10, 0.95), 1, 1e-12); /* everything lost */
	assert_true(sp_gate_bound(0, 10, 10, 0.95) < 0);
}

static void
mcnemar_exact(void **state)
{
	(void)state;
	assert_near(sp_gate_mcnemar(6, 16), 0.052479, 5e-7); /* Cavo et al., as above */
	assert_near(sp_gate_mcnemar(16, 6), 0.052479, 5e-7);
	assert_near(sp_gate_mcnemar(0, 0), 1, 1e-12);
	assert_near(sp_gate_mcnemar(5, 0), 2.0 / 32, 1e-12);
	assert_near(sp_gate_mcnemar(3, 3), 1, 1e-12);
	assert_true(sp_gate_mcnemar(5000, 4000) < 1e-20);
}

static struct sp_gate_decision
decide(uint64_t n, uint64_t right, uint64_t lost, uint64_t gained, double margin, double chance)
{
	struct sp_gate_pairs pairs = {.n = n, .baseline = right, .lost = lost, .gained = gained};
	struct sp_gate_limits limits = {margin, 0.95, chance};
	struct sp_gate_decision decision;

	sp_gate_decide(&pairs, &limits, &decision);
	return decision;
}

/* What the profile of the fixture claims: as good a model passes, and one that is worse does not.
 */
static void
gate_decides(void **state)
{
	struct sp_gate_decision d;

	(void)state;
	assert_int_equal(decide(600, 521, 0, 0, 3, 0.25).verdict, SP_GATE_PASSED);
	assert_int_equal(decide(600, 521, 8, 8, 3, 0.25).verdict, SP_GATE_PASSED);
	assert_int_equal(decide(600, 521, 10, 0, 3, 0.25).verdict, SP_GATE_PASSED);
	assert_int_equal(decide(600, 521, 12, 0, 3, 0.25).verdict, SP_GATE_INCONCLUSIVE);
	assert_int_equal(decide(600, 521, 18, 0, 3, 0.25).verdict, SP_GATE_INCONCLUSIVE);
	assert_int_equal(decide(600, 521, 19, 0, 3, 0.25).verdict, SP_GATE_FAILED);
	assert_int_equal(decide(99, 99, 0, 0, 5, 0).verdict, SP_GATE_PASSED);
	assert_int_equal(decide(99, 99, 1, 0, 5, 0).verdict, SP_GATE_PASSED);
	assert_int_equal(decide(99, 99, 2, 0, 5, 0).verdict, SP_GATE_INCONCLUSIVE);
	assert_int_equal(decide(99, 99, 5, 0, 5, 0).verdict, SP_GATE_FAILED);
	d = decide(99, 99, 12, 0, 5, 0); /* what 2-bit rounding does to the fixture */
	assert_int_equal(d.verdict, SP_GATE_FAILED);
	assert_near(d.drop_pp, 1200.0 / 99, 1e-9);
	assert_non_null(strstr(d.reason, "12.12"));
	d = decide(99, 80, 0, 5, 5, 0); /* a gain is no drop */
	assert_int_equal(d.verdict, SP_GATE_PASSED);
	assert_near(d.drop_pp, -500.0 / 99, 1e-9);
}

static void
gate_says_what_would_decide(void **state)
{
	struct sp_gate_decision d = decide(99, 99, 2, 0, 5, 0);
	double n = 99 + (double)d.more;

	(void)state;
	assert_true(d.more > 0);
	assert_true(sp_gate_bound(2 * n / 99, 0, n, 0.95) < 0.05);
	n -= 1;
	assert_true(sp_gate_bound(2 * n / 99, 0, n, 0.95) >= 0.05);
	assert_non_null(strstr(d.reason, "more questions would decide"));
	d = decide(600, 521, 18, 0, 3, 0.25); /* exactly at the margin: no size decides */
	assert_int_equal(d.verdict, SP_GATE_INCONCLUSIVE);
	assert_int_equal(d.more, 0);
}

/* Wilson's intervals of R. G. Newcombe, Two-sided confidence intervals for the single proportion,
 * Statistics in Medicine 17 (1998), 857-872, table I: 81/263 0.2553 to 0.3662, 15/148 0.0624 to
 * 0.1605, 0/20 0 to 0.1611, 1/29 0.0061 to 0.1718. */
static void
wilson_published(void **state)
{
	(void)state;
	assert_near(sp_gate_least(81, 263, 0.975), 0.2553, 5e-5);
	assert_near(sp_gate_least(15, 148, 0.975), 0.0624, 5e-5);
	assert_near(sp_gate_least(1, 29, 0.975), 0.0061, 5e-5);
	assert_near(sp_gate_least(0, 20, 0.975), 0, 1e-12);
	assert_near(1 - sp_gate_least(20, 20, 0.975), 0.1611, 5e-5);
	assert_near(1 - sp_gate_least(28, 29, 0.975), 0.1718, 5e-5);
}

/* A baseline that guesses has nothing to lose: agreement with it proves nothing. Nor does one that
 * is above guessing by no more than luck gives. */
static void
gate_needs_a_baseline(void **state)
{
	(void)state;
	assert_int_equal(decide(99, 0, 0, 0, 5, 0).verdict, SP_GATE_INCONCLUSIVE);
	assert_int_equal(decide(99, 8, 0, 0, 5, 0).verdict, SP_GATE_INCONCLUSIVE);
	assert_int_equal(decide(99, 9, 0, 0, 5, 0).verdict, SP_GATE_PASSED);
	assert_int_equal(decide(600, 150, 0, 0, 3, 0.25).verdict, SP_GATE_INCONCLUSIVE);
	assert_int_equal(decide(600, 169, 0, 0, 3, 0.25).verdict, SP_GATE_INCONCLUSIVE);
	assert_int_equal(decide(600, 186, 0, 0, 3, 0.25).verdict, SP_GATE_INCONCLUSIVE);
	assert_int_equal(decide(600, 187, 0, 0, 3, 0.25).verdict, SP_GATE_PASSED);
}

static void
gate_refuses_nonfinite(void **state)
{
	struct sp_gate_pairs pairs = {.n = 600, .baseline = 521, .candidate_nonfinite = 1};
	struct sp_gate_limits limits = {3, 0.95, 0.25};
	struct sp_gate_decision decision;

	(void)state;
	sp_gate_decide(&pairs, &limits, &decision);
	assert_int_equal(decision.verdict, SP_GATE_FAILED);
	assert_non_null(strstr(decision.reason, "candidate gave NaN"));
	pairs.candidate_nonfinite = 0;
	pairs.baseline_nonfinite = 7;
	sp_gate_decide(&pairs, &limits, &decision);
	assert_int_equal(decision.verdict, SP_GATE_FAILED);
	assert_non_null(strstr(decision.reason, "baseline gave NaN or infinite logits for 7"));
}

/* --- policy, answers, report
 * --------------------------------------------------------------------*/

#define MMLU_GATE "\"mmlu\":{\"dataset\":\"/d\",\"max_drop_pp\":3,\"shots\":5}"

static void
policy_reads(void **state)
{
	static const char text[] =
	    "{\"confidence\":0.9,\"destination\":\"x\"," MMLU_GATE ",\"humaneval\":{\"dataset\":"
	    "\"/h\",\"max_new_tokens\":96,\"max_drop_pp\":5.5,\"sha256\":"
	    "\"c0304b6db39766ddc006b7488ff3ce80eef683c8505fc2832a79e0604918dbb7\"}}";
	struct sp_policy policy;
	struct sp_err err;

	(void)state;
	if (sp_policy_parse(bytes(text), sizeof(text) - 1, &policy, &err) != SP_OK)
		fail_msg("%s", err.msg);
	assert_near(policy.confidence, 0.9, 0);
	assert_int_equal(policy.mmlu.asked, 1);
	assert_string_equal(policy.mmlu.dataset, "/d");
	assert_string_equal(policy.mmlu.sha256, "");
	assert_int_equal(policy.mmlu.amount, 5);
	assert_near(policy.mmlu.max_drop_pp, 3, 0);
	assert_int_equal(policy.humaneval.amount, 96);
	assert_near(policy.humaneval.max_drop_pp, 5.5, 0);
	assert_int_equal(strlen(policy.humaneval.sha256), 64);
}

static void
policy_refused(void **state)
{
	static const char *const texts[][2] = {
	    {"{}", "neither"},
	    {"{\"confidence\":1," MMLU_GATE "}", "confidence"},
	    {"{\"confidence\":\"0.95\"," MMLU_GATE "}", "confidence"},
	    {"{\"mmlu\":1}", "mmlu must be a group"},
	    {"{\"mmlu\":{\"dataset\":\"/d\"}}", "mmlu.max_drop_pp"},
	    {"{\"mmlu\":{\"dataset\":\"d\",\"max_drop_pp\":3}}", "mmlu.dataset"},
	    {"{\"mmlu\":{\"dataset\":\"/d\",\"max_drop_pp\":0}}", "mmlu.max_drop_pp"},
	    {"{\"mmlu\":{\"dataset\":\"/d\",\"max_drop_pp\":100}}", "mmlu.max_drop_pp"},
	    {"{\"mmlu\":{\"dataset\":\"/d\",\"max_drop_pp\":3,\"shots\":-1}}", "mmlu.shots"},
	    {"{\"mmlu\":{\"dataset\":\"/d\",\"max_drop_pp\":3,\"shot\":1}}", "nothing else"},
	    {"{\"mmlu\":{\"dataset\":\"/d\",\"max_drop_pp\":3,\"sha256\":\"AB\"}}", "mmlu.sha256"},
	    {"{\"humaneval\":{\"dataset\":\"/d\",\"max_drop_pp\":3,\"max_new_tokens\":0}}",
		"max_new_tokens"},
	};
	struct sp_policy policy;
	struct sp_err err;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		assert_int_equal(
		    sp_policy_parse(bytes(texts[i][0]), strlen(texts[i][0]), &policy, &err),
		    SP_E_CONFIG);
		if (!strstr(err.msg, texts[i][1]))
			fail_msg("\"%s\" lacks \"%s\"", err.msg, texts[i][1]);
	}
}

static void
answers_round_trip(void **state)
{
	static const char not_run[] = "{\"programs\":[[\"unknown\",\"\","
				      "\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b"
				      "7852b855\"]],\"truncated\":0}";
	struct sp_answer_mmlu mmlu, mmlu_back;
	struct sp_answer_programs programs, programs_back;
	struct sp_err err;
	char *text;
	size_t len;

	(void)state;
	sp_answer_mmlu_init(&mmlu, 2);
	mmlu.choices[0] = 2;
	mmlu.ll[0][0] = -1.25;
	mmlu.ll[0][2] = -0.000001;
	mmlu.truncated = 1;
	text = sp_answer_mmlu_format(&mmlu, &len);
	assert_string_equal(
	    text, "{\"choices\":\"C?\",\"ll\":[-1250000,0,-1,0,0,0,0,0],\"truncated\":1}");
	assert_int_equal(sp_answer_mmlu_parse(bytes(text), len, 2, &mmlu_back, &err), SP_OK);
	assert_memory_equal(mmlu_back.choices, mmlu.choices, 2);
	assert_near(mmlu_back.ll[0][0], -1.25, 0);
	assert_int_equal(mmlu_back.truncated, 1);
	assert_int_equal(sp_answer_nonfinite(&mmlu_back), 1);
	sp_answer_mmlu_clear(&mmlu_back);
	/* a likelihood as small as finite logits can make it has a text too, and comes back small
	 */
	mmlu.ll[0][1] = -6e38;
	free(text);
	text = sp_answer_mmlu_format(&mmlu, &len);
	assert_int_equal(sp_answer_mmlu_parse(bytes(text), len, 2, &mmlu_back, &err), SP_OK);
	assert_near(mmlu_back.ll[0][1], -1e6, 0);
	sp_answer_mmlu_clear(&mmlu_back);
	assert_int_equal(sp_answer_mmlu_parse(bytes(text), len, 3, &mmlu_back, &err), SP_E_INVALID);
	text[13] = 'E';
	assert_int_equal(sp_answer_mmlu_parse(bytes(text), len, 2, &mmlu_back, &err), SP_E_INVALID);
	assert_null(mmlu_back.choices);
	free(text);
	sp_answer_mmlu_clear(&mmlu);

	sp_answer_programs_init(&programs, 1);
	programs.programs[0].outcome = SP_VERDICT_WRONG;
	strcpy(programs.programs[0].detail, "TypeError");
	programs.programs[0].digest = sp_sha256_hex("", 0);
	text = sp_answer_programs_format(&programs, &len);
	assert_int_equal(
	    sp_answer_programs_parse(bytes(text), len, 1, &programs_back, &err), SP_OK);
	assert_int_equal(programs_back.programs[0].outcome, SP_VERDICT_WRONG);
	assert_string_equal(programs_back.programs[0].detail, "TypeError");
	sp_answer_programs_clear(&programs_back);
	assert_int_equal(
	    sp_answer_programs_parse(bytes(text), len, 2, &programs_back, &err), SP_E_INVALID);
	assert_int_equal(
	    sp_answer_programs_parse(bytes(not_run), strlen(not_run), 1, &programs_back, &err),
	    SP_E_INVALID);
	memcpy(strstr(text, "wrong"), "worse", 5);
	assert_int_equal(
	    sp_answer_programs_parse(bytes(text), len, 1, &programs_back, &err), SP_E_INVALID);
	free(text);
	sp_answer_programs_clear(&programs);
}

static void
answers_compare(void **state)
{
	struct sp_answer_mmlu a, b;
	size_t k;

	(void)state;
	sp_answer_mmlu_init(&a, 1);
	sp_answer_mmlu_init(&b, 1);
	for (k = 0; k < 4; k++) { /* a: all outcomes alike; b: one letter twice as likely */
		a.ll[0][k] = log(0.2);
		b.ll[0][k] = log(k == 0 ? 1 / 3.0 : 1 / 6.0);
	}
	a.choices[0] = b.choices[0] = 0;
	assert_near(sp_answer_divergence(&a, &a), 0, 1e-12);
	/* by hand: 0.2 ln(0.2 * 3) + 4 * 0.2 ln(0.2 * 6) */
	assert_near(sp_answer_divergence(&a, &b), 0.2 * log(0.6) + 0.8 * log(1.2), 1e-12);
	assert_int_equal(sp_answer_near_ties(&a), 1);
	assert_int_equal(sp_answer_near_ties(&b), 0);
	a.choices[0] = -1;
	assert_near(sp_answer_divergence(&a, &b), 0, 0);
	assert_int_equal(sp_answer_near_ties(&a), 0);
	sp_answer_mmlu_clear(&a);
	sp_answer_mmlu_clear(&b);
}

static struct sp_mmlu
load_mmlu(unsigned shots)
{
	struct sp_mmlu mmlu;
	struct sp_err err;

	if (sp_mmlu_load(MMLU_DIR, shots, &mmlu, &err) != SP_OK)
		fail_msg("%s", err.msg);
	return mmlu;
}

/* Fixture data sets with made-up answers: the baseline right everywhere, the candidate wrong in the
 * first mmlu_lost questions and programs_lost tasks. */
struct made {
	struct sp_policy policy;
	struct sp_mmlu mmlu;
	struct sp_humaneval humaneval;
	struct sp_answer_mmlu answers[2];
	struct sp_answer_programs programs[2];
	struct sp_report report;
};

static void
make(struct made *m, size_t mmlu_lost, size_t programs_lost)
{
	static const struct sp_sandbox_limits limits = {
	    SP_SANDBOX_BUBBLEWRAP, 3, 20000, 30000, 1024};
	struct sp_err err;
	size_t side, i, k, at;

	memset(m, 0, sizeof(*m));
	m->policy = (struct sp_policy){.confidence = 0.95,
	    .mmlu = {1, "/mmlu", "", 5, 3},
	    .humaneval = {1, "/humaneval", "", 96, 5}};
	m->mmlu = load_mmlu(5);
	assert_int_equal(sp_humaneval_load(HUMANEVAL_FILE, &m->humaneval, &err), SP_OK);
	for (side = 0; side < 2; side++) {
		sp_answer_mmlu_init(&m->answers[side], m->mmlu.questions);
		sp_answer_programs_init(&m->programs[side], m->humaneval.count);
		for (i = at = 0; i < m->mmlu.count; i++)
			for (k = 0; k < m->mmlu.subjects[i].test.count; k++, at++)
				m->answers[side].choices[at] =
				    (int8_t)((m->mmlu.subjects[i].test.gold[k] +
						 (side == 1 && at < mmlu_lost)) %
					     4);
		for (i = 0; i < m->humaneval.count; i++)
			m->programs[side].programs[i].outcome =
			    side == 1 && i < programs_lost ? SP_VERDICT_WRONG : SP_VERDICT_PASSED;
	}
	m->report = (struct sp_report){.policy = &m->policy,
	    .engine = "test",
	    .mmlu = &m->mmlu,
	    .humaneval = &m->humaneval,
	    .limits = &limits,
	    .baseline = {"b", &m->answers[0], &m->programs[0]},
	    .candidate = {"c", &m->answers[1], &m->programs[1]}};
}

static void
unmake(struct made *m)
{
	int side;

	for (side = 0; side < 2; side++) {
		sp_answer_mmlu_clear(&m->answers[side]);
		sp_answer_programs_clear(&m->programs[side]);
	}
	sp_mmlu_clear(&m->mmlu);
	sp_humaneval_clear(&m->humaneval);
}

static void
report_verdicts(void **state)
{
	static const struct {
		size_t mmlu_lost, programs_lost;
		enum sp_gate_verdict verdict;
	} cases[] = {
	    {0, 0, SP_GATE_PASSED},
	    {5, 1, SP_GATE_PASSED},
	    {12, 0, SP_GATE_INCONCLUSIVE},
	    {0, 3, SP_GATE_INCONCLUSIVE},
	    {12, 12, SP_GATE_FAILED},
	    {450, 0, SP_GATE_FAILED},
	    {600, 99, SP_GATE_FAILED},
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct sp_report_verdict verdict;
		struct made m;

		make(&m, cases[i].mmlu_lost, cases[i].programs_lost);
		sp_report_decide(&m.report, &verdict);
		if (verdict.verdict != cases[i].verdict)
			fail_msg("%zu, %zu: %s", cases[i].mmlu_lost, cases[i].programs_lost,
			    verdict.reason);
		assert_non_null(strstr(verdict.reason, "mmlu: "));
		assert_non_null(strstr(verdict.reason, "; humaneval: "));
		unmake(&m);
	}
}

/* Weights of zeros answer A to everything, and so does what was quantized from them: no question
 * was lost, and nothing was shown. A data set with one right letter is the same. */
static void
constant_answers_show_nothing(void **state)
{
	struct sp_report_verdict verdict;
	struct made m;
	size_t i;

	(void)state;
	make(&m, 0, 0);
	memset(m.answers[0].choices, 0, m.mmlu.questions);
	memset(m.answers[1].choices, 0, m.mmlu.questions);
	assert_near(sp_mmlu_chance(&m.mmlu), 174 / 600.0, 1e-12); /* the letter A */
	sp_report_decide(&m.report, &verdict);
	assert_near(verdict.mmlu.baseline_pp, 29, 1e-9);
	assert_int_equal(verdict.mmlu.verdict, SP_GATE_INCONCLUSIVE);
	assert_non_null(strstr(verdict.mmlu.reason, "guessing 29.00"));
	for (i = 0; i < m.mmlu.count; i++)
		memset(m.mmlu.subjects[i].test.gold, 0, m.mmlu.subjects[i].test.count);
	sp_report_decide(&m.report, &verdict);
	assert_near(verdict.mmlu.baseline_pp, 100, 1e-9);
	assert_int_equal(verdict.mmlu.verdict, SP_GATE_INCONCLUSIVE);
	unmake(&m);
}

static void
report_text(void **state)
{
	struct sp_report_verdict verdict;
	json_t *report, *gate, *subject, *task;
	struct sp_err err;
	struct made m;
	char *text;
	size_t len;

	(void)state;
	make(&m, 130, 12);
	m.answers[1].choices[599] = -1;
	m.policy.confidence = 0.99995;
	m.policy.mmlu.max_drop_pp = 0.00002;
	sp_report_decide(&m.report, &verdict);
	text = sp_report_format(&m.report, &verdict, &len);
	if (sp_json_parse_canonical(text, len, "report", &report, &err) != SP_OK)
		fail_msg("%s", err.msg);
	assert_string_equal(json_string_value(json_object_get(report, "verdict")), "FAILED");
	gate = json_object_get(report, "mmlu");
	assert_int_equal(json_integer_value(json_object_get(gate, "lost")), 131);
	assert_int_equal(json_integer_value(json_object_get(gate, "candidate_nonfinite")), 1);
	assert_string_equal(json_string_value(json_object_get(gate, "chance_pp")), "29.0000");
	assert_string_equal(json_string_value(json_object_get(gate, "max_drop_pp")), "2e-05");
	assert_string_equal(json_string_value(json_object_get(gate, "confidence")), "0.99995");
	assert_string_equal(
	    json_string_value(json_object_get(gate, "dataset_sha256")), m.mmlu.digest.s);
	subject = json_array_get(json_object_get(gate, "subjects"), 1);
	assert_string_equal(
	    json_string_value(json_object_get(subject, "subject")), "element_symbols");
	assert_int_equal(json_integer_value(json_object_get(subject, "lost")), 10);
	assert_int_equal(strlen(json_string_value(json_object_get(subject, "candidate"))), 120);
	subject = json_array_get(json_object_get(gate, "subjects"), 4);
	assert_int_equal(json_string_value(json_object_get(subject, "candidate"))[119], '?');
	gate = json_object_get(report, "humaneval");
	assert_string_equal(json_string_value(json_object_get(gate, "drop_pp")), "12.1212");
	assert_string_equal(json_string_value(json_object_get(gate, "verdict")), "FAILED");
	task = json_array_get(json_object_get(gate, "tasks"), 11);
	assert_string_equal(
	    json_string_value(json_object_get(json_object_get(task, "candidate"), "outcome")),
	    "wrong");
	json_decref(report);
	free(text);
	unmake(&m);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(tango_published),
	    cmocka_unit_test(tango_solves_its_equation),
	    cmocka_unit_test(tango_without_discordance),
	    cmocka_unit_test(mcnemar_exact),
	    cmocka_unit_test(gate_decides),
	    cmocka_unit_test(gate_says_what_would_decide),
	    cmocka_unit_test(wilson_published),
	    cmocka_unit_test(gate_needs_a_baseline),
	    cmocka_unit_test(gate_refuses_nonfinite),
	    cmocka_unit_test(policy_reads),
	    cmocka_unit_test(policy_refused),
	    cmocka_unit_test(answers_round_trip),
	    cmocka_unit_test(answers_compare),
	    cmocka_unit_test(report_verdicts),
	    cmocka_unit_test(constant_answers_show_nothing),
	    cmocka_unit_test(report_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
