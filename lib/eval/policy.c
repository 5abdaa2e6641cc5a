/* policy.c -- what a profile asks of the gates. */
#include "eval/policy.h"

#include "base/json.h"

#include <string.h>

/* A number between low and high, both excluded; fallback when there is none (NAN: required). */
static enum sp_code
number(const json_t *obj, const char *where, const char *key, double low, double high,
    const double *fallback, double *out, struct sp_err *err)
{
	const json_t *value = json_object_get(obj, key);

	if (!value && fallback) {
		*out = *fallback;
		return SP_OK;
	}
	*out = json_is_number(value) ? json_number_value(value) : low;
	if (!(*out > low && *out < high))
		return sp_err_set(err, SP_E_CONFIG,
		    "profile: %s%s must be a number above %g and below %g", where, key, low, high);
	return SP_OK;
}

static enum sp_code
gate(const json_t *profile, const char *name, const char *amount, unsigned amount_max,
    unsigned amount_default, struct sp_policy_gate *out, struct sp_err *err)
{
	const json_t *obj = json_object_get(profile, name);
	const json_t *value;
	const char *text;
	char where[32];
	size_t known = 2; /* dataset, max_drop_pp */
	enum sp_code code;

	snprintf(where, sizeof(where), "%s.", name);
	if (!obj)
		return SP_OK;
	if (!json_is_object(obj))
		return sp_err_set(err, SP_E_CONFIG, "profile: %s must be a group", name);
	text = json_string_value(json_object_get(obj, "dataset"));
	if (!text || text[0] != '/' || strlen(text) > SP_PATH_MAX)
		return sp_err_set(err, SP_E_CONFIG,
		    "profile: %s.dataset must be the absolute path of the data set", name);
	memcpy(out->dataset, text, strlen(text) + 1);
	value = json_object_get(obj, "sha256");
	text = json_string_value(value);
	if (value && (!text || !sp_hex_is_digest(text)))
		return sp_err_set(
		    err, SP_E_CONFIG, "profile: %s.sha256 must be 64 lower-case hex digits", name);
	if (value)
		memcpy(out->sha256, text, sizeof(out->sha256));
	known += value != NULL;
	out->amount = amount_default;
	value = json_object_get(obj, amount);
	known += value != NULL;
	if (value && (!json_is_integer(value) || json_integer_value(value) < 0 ||
			 json_integer_value(value) > amount_max))
		return sp_err_set(err, SP_E_CONFIG, "profile: %s.%s must be an integer up to %u",
		    name, amount, amount_max);
	if (value)
		out->amount = (unsigned)json_integer_value(value);
	code = number(obj, where, "max_drop_pp", 0, 100, NULL, &out->max_drop_pp, err);
	if (code != SP_OK)
		return code;
	out->asked = 1;
	if (json_object_size(obj) != known)
		return sp_err_set(err, SP_E_CONFIG,
		    "profile: %s has dataset, max_drop_pp, sha256 and %s, and nothing else", name,
		    amount);
	return SP_OK;
}

enum sp_code
sp_policy_parse(const uint8_t *text, size_t len, struct sp_policy *out, struct sp_err *err)
{
	static const double usual = 0.95;
	json_t *profile = NULL;
	enum sp_code code;

	memset(out, 0, sizeof(*out));
	code = sp_json_parse(text, len, "profile", &profile, err);
	if (code != SP_OK)
		return code;
	code = number(profile, "", "confidence", 0.5, 1, &usual, &out->confidence, err);
	if (code == SP_OK)
		code = gate(profile, "mmlu", "shots", SP_POLICY_SHOTS_MAX, 5, &out->mmlu, err);
	if (code == SP_OK)
		code = gate(profile, "humaneval", "max_new_tokens", SP_POLICY_NEW_TOKENS_MAX, 1024,
		    &out->humaneval, err);
	if (code == SP_OK && out->humaneval.asked && out->humaneval.amount == 0)
		code = sp_err_set(
		    err, SP_E_CONFIG, "profile: humaneval.max_new_tokens must be at least 1");
	if (code == SP_OK && !out->mmlu.asked && !out->humaneval.asked)
		code = sp_err_set(err, SP_E_CONFIG,
		    "profile: neither mmlu nor humaneval: without a gate nothing can be validated");
	json_decref(profile);
	return code;
}
