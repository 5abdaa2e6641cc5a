/* answer.c -- what a model did with a data set, and its text. */
#include "eval/answer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NEAR_NAT 0.01
#define MICRO 1e6
/* e^-700 still is a normal double; a likelihood of 0 would make the divergence infinite */
#define LL_MIN (-700.0)
/* as text: finite logits can lie further apart than micronats fit an integer */
#define LL_TEXT_MIN (-1e6)

void
sp_answer_mmlu_init(struct sp_answer_mmlu *answers, size_t count)
{
	memset(answers, 0, sizeof(*answers));
	answers->count = count;
	answers->choices = sp_xcalloc(count + 1, sizeof(*answers->choices));
	answers->ll = sp_xcalloc(count + 1, sizeof(*answers->ll));
	memset(answers->choices, -1, count);
}

void
sp_answer_mmlu_clear(struct sp_answer_mmlu *answers)
{
	free(answers->choices);
	free(answers->ll);
	memset(answers, 0, sizeof(*answers));
}

void
sp_answer_programs_init(struct sp_answer_programs *answers, size_t count)
{
	memset(answers, 0, sizeof(*answers));
	answers->count = count;
	answers->programs = sp_xcalloc(count + 1, sizeof(*answers->programs));
}

void
sp_answer_programs_clear(struct sp_answer_programs *answers)
{
	size_t i;

	for (i = 0; i < answers->count; i++)
		free(answers->programs[i].completion);
	free(answers->programs);
	memset(answers, 0, sizeof(*answers));
}

uint64_t
sp_answer_nonfinite(const struct sp_answer_mmlu *answers)
{
	uint64_t n = 0;
	size_t i;

	for (i = 0; i < answers->count; i++)
		n += answers->choices[i] < 0;
	return n;
}

uint64_t
sp_answer_near_ties(const struct sp_answer_mmlu *answers)
{
	uint64_t n = 0;
	size_t i, k;

	for (i = 0; i < answers->count; i++) {
		int8_t best = answers->choices[i];
		double gap = INFINITY;

		if (best < 0)
			continue;
		for (k = 0; k < SP_MMLU_CHOICES; k++)
			if ((int8_t)k != best)
				gap = fmin(gap, answers->ll[i][best] - answers->ll[i][k]);
		n += gap < NEAR_NAT;
	}
	return n;
}

static double
divergence(const double p[SP_MMLU_CHOICES], const double q[SP_MMLU_CHOICES])
{
	double p_rest = 1, q_rest = 1, sum = 0;
	size_t k;

	for (k = 0; k < SP_MMLU_CHOICES; k++) {
		sum += exp(p[k]) * (p[k] - fmax(q[k], LL_MIN));
		p_rest -= exp(p[k]);
		q_rest -= exp(q[k]);
	}
	p_rest = fmax(p_rest, exp(LL_MIN));
	q_rest = fmax(q_rest, exp(LL_MIN));
	return fmax(0, sum + p_rest * log(p_rest / q_rest));
}

double
sp_answer_divergence(const struct sp_answer_mmlu *baseline, const struct sp_answer_mmlu *candidate)
{
	double sum = 0;
	size_t i;

	SP_ASSERT(baseline->count == candidate->count && baseline->count != 0);
	for (i = 0; i < baseline->count; i++)
		if (baseline->choices[i] >= 0 && candidate->choices[i] >= 0)
			sum += divergence(baseline->ll[i], candidate->ll[i]);
	return sum / (double)baseline->count;
}

char *
sp_answer_mmlu_format(const struct sp_answer_mmlu *answers, size_t *len)
{
	char *choices = sp_xcalloc(answers->count + 1, 1);
	json_t *ll = json_array(), *root;
	char *text;
	size_t i, k;

	for (i = 0; i < answers->count; i++) {
		choices[i] = answers->choices[i] < 0 ? '?' : (char)('A' + answers->choices[i]);
		for (k = 0; k < SP_MMLU_CHOICES; k++)
			json_array_append_new(ll,
			    json_integer(llround(MICRO * fmax(answers->ll[i][k], LL_TEXT_MIN))));
	}
	root = json_pack("{s:s, s:o, s:I}", "choices", choices, "ll", ll, "truncated",
	    (json_int_t)answers->truncated);
	SP_ASSERT(root);
	text = sp_json_canonical(root, len);
	json_decref(root);
	free(choices);
	return text;
}

enum sp_code
sp_answer_mmlu_parse(
    const uint8_t *text, size_t len, size_t count, struct sp_answer_mmlu *out, struct sp_err *err)
{
	json_t *root = NULL, *ll;
	const char *choices;
	int64_t truncated;
	enum sp_code code;
	size_t i;

	sp_answer_mmlu_init(out, count);
	if ((code = sp_json_parse_canonical(text, len, "MMLU answers", &root, err)) != SP_OK ||
	    (code = sp_json_string(root, "choices", &choices, err)) != SP_OK ||
	    (code = sp_json_array(root, "ll", &ll, err)) != SP_OK ||
	    (code = sp_json_integer(root, "truncated", 0, (int64_t)count, &truncated, err)) !=
		SP_OK)
		goto out;
	if (strlen(choices) != count || strspn(choices, "ABCD?") != count ||
	    json_array_size(ll) != count * SP_MMLU_CHOICES) {
		code = sp_err_set(
		    err, SP_E_INVALID, "MMLU answers: not those of %zu questions", count);
		goto out;
	}
	out->truncated = (uint64_t)truncated;
	for (i = 0; i < count; i++)
		out->choices[i] = choices[i] == '?' ? -1 : (int8_t)(choices[i] - 'A');
	for (i = 0; i < count * SP_MMLU_CHOICES; i++)
		out->ll[i / SP_MMLU_CHOICES][i % SP_MMLU_CHOICES] =
		    (double)json_integer_value(json_array_get(ll, i)) / MICRO;
out:
	json_decref(root);
	if (code != SP_OK)
		sp_answer_mmlu_clear(out);
	return code;
}

char *
sp_answer_programs_format(const struct sp_answer_programs *answers, size_t *len)
{
	json_t *list = json_array(), *root;
	char *text;
	size_t i;

	for (i = 0; i < answers->count; i++) {
		const struct sp_answer_program *p = &answers->programs[i];

		json_array_append_new(list,
		    json_pack("[s, s, s]", sp_verdict_word(p->outcome), p->detail, p->digest.s));
	}
	root =
	    json_pack("{s:o, s:I}", "programs", list, "truncated", (json_int_t)answers->truncated);
	SP_ASSERT(root);
	text = sp_json_canonical(root, len);
	json_decref(root);
	return text;
}

enum sp_code
sp_answer_programs_parse(const uint8_t *text, size_t len, size_t count,
    struct sp_answer_programs *out, struct sp_err *err)
{
	json_t *root = NULL, *list;
	int64_t truncated;
	enum sp_code code;
	size_t i;

	sp_answer_programs_init(out, count);
	if ((code = sp_json_parse_canonical(text, len, "program answers", &root, err)) != SP_OK ||
	    (code = sp_json_array(root, "programs", &list, err)) != SP_OK ||
	    (code = sp_json_integer(root, "truncated", 0, (int64_t)count, &truncated, err)) !=
		SP_OK)
		goto out;
	out->truncated = (uint64_t)truncated;
	for (i = 0; i < count; i++) {
		struct sp_answer_program *p = &out->programs[i];
		const char *word, *detail, *digest;

		if (json_array_size(list) != count ||
		    json_unpack(json_array_get(list, i), "[s, s, s!]", &word, &detail, &digest) !=
			0 ||
		    !sp_verdict_find(word, &p->outcome) || p->outcome == SP_VERDICT_UNKNOWN ||
		    strlen(detail) >= sizeof(p->detail) || !sp_hex_is_digest(digest)) {
			code = sp_err_set(
			    err, SP_E_INVALID, "program answers: not those of %zu tasks", count);
			goto out;
		}
		memcpy(p->detail, detail, strlen(detail) + 1);
		memcpy(p->digest.s, digest, sizeof(p->digest.s));
	}
out:
	json_decref(root);
	if (code != SP_OK)
		sp_answer_programs_clear(out);
	return code;
}
