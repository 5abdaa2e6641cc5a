/* settings.c -- what a person chooses about a quantization. */
#include "awq/settings.h"

#include "base/path.h"

#include <stdlib.h>
#include <string.h>

#define MODULE_CHARS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
#define SEED_MAX (INT64_C(1) << 53) /* what every reader of JSON holds exactly */

/* --- values ------------------------------------------------------------------------------------
 */

static enum sp_code
check_keys(const json_t *group, struct sp_err *err)
{
	static const char *const known[] = {"calibration", "fallback", "group_size", "method",
	    "modules_to_not_convert", "samples", "seed", "sequence", "symmetric"};
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)group, key, value)
	{
		size_t i = 0;

		while (i < sizeof(known) / sizeof(*known) && strcmp(known[i], key) != 0)
			i++;
		if (i == sizeof(known) / sizeof(*known))
			return sp_err_set(err, SP_E_CONFIG,
			    "quantize.%.64s is not a setting: there are calibration, fallback, "
			    "group_size, method, modules_to_not_convert, samples, seed, sequence, "
			    "symmetric",
			    key);
	}
	return SP_OK;
}

int
sp_settings_in_tree(const char *calibration, struct sp_hex *tree, const char **path)
{
	const char *hex = calibration + 5;

	if (strncmp(calibration, "tree:", 5) != 0 || strlen(hex) < SP_HEX_LEN + 2 ||
	    hex[SP_HEX_LEN] != '/')
		return 0;
	memcpy(tree->s, hex, SP_HEX_LEN);
	tree->s[SP_HEX_LEN] = '\0';
	*path = hex + SP_HEX_LEN + 1;
	return sp_hex_is_digest(tree->s) && sp_path_check(*path, NULL) == SP_OK;
}

enum sp_code
sp_settings_check(const struct sp_settings *s, struct sp_err *err)
{
	struct sp_hex tree;
	const char *path;

	if (strcmp(s->method, SP_QUANTIZE_METHOD) != 0 && strcmp(s->method, SP_QUANTIZE_PLUS) != 0)
		return sp_err_set(err, SP_E_UNSUPPORTED,
		    "quantize.method is \"%.64s\": there are \"" SP_QUANTIZE_METHOD
		    "\" and \"" SP_QUANTIZE_PLUS "\"",
		    s->method);
	if (s->group_size != 32 && s->group_size != 64 && s->group_size != 128)
		return sp_err_set(err, SP_E_INVALID,
		    "quantize.group_size is %zu: choose 32, 64 or 128", s->group_size);
	if (s->samples < 1 || s->samples > SP_SETTINGS_COUNT_MAX)
		return sp_err_set(err, SP_E_INVALID, "quantize.samples is %zu: choose 1 to %d",
		    s->samples, SP_SETTINGS_COUNT_MAX);
	if (s->sequence < 1 || s->sequence > SP_SETTINGS_COUNT_MAX)
		return sp_err_set(err, SP_E_INVALID, "quantize.sequence is %zu: choose 1 to %d",
		    s->sequence, SP_SETTINGS_COUNT_MAX);
	if (s->calibration[0] != '/' && !sp_settings_in_tree(s->calibration, &tree, &path))
		return sp_err_set(err, SP_E_INVALID,
		    "quantize.calibration is \"%.256s\": neither an absolute path nor a file of a "
		    "tree in the store, tree:DIGEST/PATH",
		    s->calibration);
	return SP_OK;
}

enum sp_code
sp_settings_skip(struct sp_settings *settings, const char *name, struct sp_err *err)
{
	size_t len = strlen(name);

	if (len == 0 || len >= sizeof(((struct sp_plan *)0)->skip[0]) ||
	    strspn(name, MODULE_CHARS) != len)
		return sp_err_set(err, SP_E_INVALID,
		    "quantize.modules_to_not_convert: \"%.80s\" is no module's name, or part of "
		    "one",
		    name);
	if (settings->skip_count == SP_CONFIG_SKIP_MAX)
		return sp_err_set(err, SP_E_INVALID,
		    "quantize.modules_to_not_convert has more than %d names", SP_CONFIG_SKIP_MAX);
	settings->skip =
	    sp_xrealloc(settings->skip, settings->skip_count + 1, sizeof(*settings->skip));
	settings->skip[settings->skip_count++] = sp_xstrdup(name);
	return SP_OK;
}

/* Its words, here too, so that profiles are read without the engine behind awq/plan.h. */
static const char *const fallbacks[] = {
    [SP_PLAN_REFUSE] = "refuse", [SP_PLAN_SMALLER] = "smaller", [SP_PLAN_LEAVE] = "leave"};

static int
find_fallback(const char *word, enum sp_plan_fallback *out)
{
	for (size_t i = 0; i < sizeof(fallbacks) / sizeof(*fallbacks); i++) {
		if (strcmp(fallbacks[i], word) != 0)
			continue;
		*out = (enum sp_plan_fallback)i;
		return 1;
	}
	return 0;
}

/* What may be missing. */
static enum sp_code
parse_options(const json_t *group, struct sp_settings *out, struct sp_err *err)
{
	const json_t *skip = json_object_get(group, "modules_to_not_convert");
	const json_t *symmetric = json_object_get(group, "symmetric");
	enum sp_code code = SP_OK;
	const char *fallback;
	int64_t seed = 0;

	if (json_object_get(group, "seed") != NULL &&
	    (code = sp_json_integer(group, "seed", 0, SEED_MAX, &seed, err)))
		return code;
	out->seed = (uint64_t)seed;
	if (symmetric != NULL && !json_is_boolean(symmetric))
		return sp_err_set(
		    err, SP_E_INVALID, "quantize.symmetric is neither true nor false");
	out->symmetric = json_is_true(symmetric);
	if (json_object_get(group, "fallback") != NULL) {
		if ((code = sp_json_string(group, "fallback", &fallback, err)))
			return code;
		if (!find_fallback(fallback, &out->fallback))
			return sp_err_set(err, SP_E_INVALID,
			    "quantize.fallback is \"%.64s\": choose refuse, smaller or leave",
			    fallback);
	}
	if (skip != NULL && !json_is_array(skip))
		return sp_err_set(
		    err, SP_E_INVALID, "quantize.modules_to_not_convert is no list of names");
	for (size_t i = 0; code == SP_OK && i < json_array_size(skip); i++) {
		const char *name = json_string_value(json_array_get(skip, i));

		code = sp_settings_skip(out, name != NULL ? name : "", err);
	}
	return code;
}

enum sp_code
sp_settings_parse(const json_t *group, struct sp_settings *out, struct sp_err *err)
{
	const char *method, *calibration;
	int64_t group_size, samples, sequence;
	enum sp_code code;

	memset(out, 0, sizeof(*out));
	if ((code = check_keys(group, err)) ||
	    (code = sp_json_string(group, "method", &method, err)) ||
	    (code = sp_json_string(group, "calibration", &calibration, err)) ||
	    (code = sp_json_integer(group, "group_size", 0, 65536, &group_size, err)) ||
	    (code = sp_json_integer(group, "samples", 1, SP_SETTINGS_COUNT_MAX, &samples, err)) ||
	    (code = sp_json_integer(group, "sequence", 1, SP_SETTINGS_COUNT_MAX, &sequence, err)))
		return code;
	*out = (struct sp_settings){
	    .method = sp_xstrdup(method),
	    .calibration = sp_xstrdup(calibration),
	    .group_size = (size_t)group_size,
	    .samples = (size_t)samples,
	    .sequence = (size_t)sequence,
	};
	code = parse_options(group, out, err);
	if (code == SP_OK)
		code = sp_settings_check(out, err);
	if (code != SP_OK)
		sp_settings_clear(out);
	return code;
}

json_t *
sp_settings_json(const struct sp_settings *s)
{
	json_t *object = json_pack("{s:s, s:I, s:s, s:I, s:I}", "calibration", s->calibration,
	    "group_size", (json_int_t)s->group_size, "method", s->method, "samples",
	    (json_int_t)s->samples, "sequence", (json_int_t)s->sequence);
	json_t *skip = json_array();

	for (size_t i = 0; i < s->skip_count; i++)
		json_array_append_new(skip, json_string(s->skip[i]));
	if (s->skip_count > 0)
		json_object_set(object, "modules_to_not_convert", skip);
	json_decref(skip);
	if (s->seed != 0)
		json_object_set_new(object, "seed", json_integer((json_int_t)s->seed));
	if (s->symmetric)
		json_object_set_new(object, "symmetric", json_true());
	if (s->fallback != SP_PLAN_REFUSE)
		json_object_set_new(object, "fallback", json_string(fallbacks[s->fallback]));
	return object;
}

void
sp_settings_clear(struct sp_settings *settings)
{
	for (size_t i = 0; i < settings->skip_count; i++)
		free(settings->skip[i]);
	free(settings->skip);
	free(settings->method);
	free(settings->calibration);
	memset(settings, 0, sizeof(*settings));
}

/* --- the name of the work ----------------------------------------------------------------------
 */

struct sp_hex
sp_settings_key(const struct sp_settings *settings, const char *tree, const char *name,
    const char *calibration, const char *program)
{
	json_t *object = sp_settings_json(settings);
	struct sp_hex key;
	char *text;
	size_t len;

	/* where the calibration text lies changes nothing: its digest counts */
	json_object_set_new(object, "calibration", json_string(calibration));
	json_object_set_new(object, "tree", json_string(tree));
	json_object_set_new(object, "program", json_string(program));
	if (name != NULL)
		json_object_set_new(object, "name", json_string(name));
	text = sp_json_canonical(object, &len);
	key = sp_sha256_hex(text, len);
	free(text);
	json_decref(object);
	return key;
}

/* --- the order of the texts --------------------------------------------------------------------
 */

struct line {
	const uint8_t *at;
	size_t len; /* without its end */
};

/* SplitMix64 (Steele, Lea, Flood 2014). */
static uint64_t
next(uint64_t *state)
{
	uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

uint8_t *
sp_settings_shuffle(const uint8_t *text, size_t size, uint64_t seed, size_t *len)
{
	uint8_t *out = sp_xcalloc(size + 1, 1);
	struct line *lines = NULL, swap;
	size_t count = 0, cap = 0;

	for (size_t at = 0; at < size;) {
		const uint8_t *end = memchr(text + at, '\n', size - at);
		size_t n = (end != NULL ? (size_t)(end - text) : size) - at;

		if (count == cap) {
			cap = 2 * cap + 64;
			lines = sp_xrealloc(lines, cap, sizeof(*lines));
		}
		lines[count++] = (struct line){text + at, n};
		at += n + 1;
	}
	for (size_t i = count; i > 1; i--) {
		size_t k = next(&seed) % i;

		swap = lines[i - 1];
		lines[i - 1] = lines[k];
		lines[k] = swap;
	}
	*len = 0;
	for (size_t i = 0; i < count; i++) {
		memcpy(out + *len, lines[i].at, lines[i].len);
		*len += lines[i].len;
		out[(*len)++] = '\n';
	}
	free(lines);
	return out;
}
