/* json.c -- JSON from outside, strictly; JSON that is signed or compared, canonically. */
#include "base/json.h"
#include "base/buf.h"
#include "base/limits.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 64

/* Deepest nesting of brackets outside strings. jansson's own limit is 2048 and fixed at its build;
 * here any JSON that came in can be walked by recursion. */
static int
nesting(const char *text, size_t len)
{
	int depth = 0, deepest = 0, in_string = 0;
	size_t i;

	for (i = 0; i < len; i++) {
		if (in_string) {
			if (text[i] == '\\')
				i++;
			else if (text[i] == '"')
				in_string = 0;
		} else if (text[i] == '"') {
			in_string = 1;
		} else if (text[i] == '{' || text[i] == '[') {
			if (++depth > deepest)
				deepest = depth;
		} else if (text[i] == '}' || text[i] == ']') {
			depth--;
		}
	}
	return deepest;
}

enum sp_code
sp_json_parse(const void *text, size_t len, const char *what, json_t **out, struct sp_err *err)
{
	return sp_json_parse_large(text, len, SP_JSON_MAX, what, out, err);
}

enum sp_code
sp_json_parse_large(
    const void *text, size_t len, size_t most, const char *what, json_t **out, struct sp_err *err)
{
	json_error_t fault;

	if (len > most)
		return sp_err_set(err, SP_E_LIMIT, "%s: JSON of %zu bytes, at most %zu are allowed",
		    what, len, most);
	/* jansson takes one behind a number for the end of the text, whatever follows */
	if (len > 0 && memchr(text, '\0', len) != NULL)
		return sp_err_set(err, SP_E_INVALID, "%s: not valid JSON: it has NUL bytes", what);
	if (nesting(text, len) > DEPTH_MAX)
		return sp_err_set(
		    err, SP_E_LIMIT, "%s: JSON nested deeper than %d levels", what, DEPTH_MAX);
	*out = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &fault);
	if (*out == NULL)
		return sp_err_set(err, SP_E_INVALID, "%s: not valid JSON: line %d column %d: %s",
		    what, fault.line, fault.column, fault.text);
	return SP_OK;
}

/* --- canonical text -------------------------------------------------------------------------- */

static void
put_string(struct sp_buf *buf, const char *text, size_t len)
{
	static const char short_form[] = "\"\"\\\\\bb\ff\nn\rr\tt";
	size_t i, start = 0;
	const char *p;

	sp_buf_puts(buf, "\"");
	for (i = 0; i < len; i++) {
		if ((unsigned char)text[i] >= 0x20 && text[i] != '"' && text[i] != '\\')
			continue;
		sp_buf_add(buf, text + start, i - start);
		start = i + 1;
		for (p = short_form; *p != '\0' && *p != text[i]; p += 2)
			;
		if (*p != '\0')
			sp_buf_printf(buf, "\\%c", p[1]);
		else
			sp_buf_printf(buf, "\\u%04x", (unsigned char)text[i]);
	}
	sp_buf_add(buf, text + start, len - start);
	sp_buf_puts(buf, "\"");
}

struct member {
	const char *key;
	const json_t *value;
};

/* The bytes of UTF-8 sort as the code points do. */
static int
by_key(const void *a, const void *b)
{
	return strcmp(((const struct member *)a)->key, ((const struct member *)b)->key);
}

static void put_value(struct sp_buf *buf, const json_t *value);

static void
put_object(struct sp_buf *buf, const json_t *object)
{
	/* iteration does not change the object, but jansson's types do not say so */
	json_t *o = (json_t *)(uintptr_t)object;
	size_t count = json_object_size(object), i = 0;
	struct member *members = sp_xcalloc(count, sizeof(*members));
	void *iter;

	for (iter = json_object_iter(o); iter != NULL; iter = json_object_iter_next(o, iter), i++) {
		members[i].key = json_object_iter_key(iter);
		members[i].value = json_object_iter_value(iter);
	}
	qsort(members, count, sizeof(*members), by_key);
	sp_buf_puts(buf, "{");
	for (i = 0; i < count; i++) {
		if (i > 0)
			sp_buf_puts(buf, ",");
		put_string(buf, members[i].key, strlen(members[i].key));
		sp_buf_puts(buf, ":");
		put_value(buf, members[i].value);
	}
	sp_buf_puts(buf, "}");
	free(members);
}

static void
put_array(struct sp_buf *buf, const json_t *array)
{
	size_t i;

	sp_buf_puts(buf, "[");
	for (i = 0; i < json_array_size(array); i++) {
		if (i > 0)
			sp_buf_puts(buf, ",");
		put_value(buf, json_array_get(array, i));
	}
	sp_buf_puts(buf, "]");
}

static void
put_value(struct sp_buf *buf, const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		put_object(buf, value);
		break;
	case JSON_ARRAY:
		put_array(buf, value);
		break;
	case JSON_STRING:
		put_string(buf, json_string_value(value), json_string_length(value));
		break;
	case JSON_INTEGER:
		sp_buf_printf(buf, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
		break;
	case JSON_REAL:
		sp_buf_printf(buf, "%.17g", json_real_value(value));
		break;
	case JSON_TRUE:
		sp_buf_puts(buf, "true");
		break;
	case JSON_FALSE:
		sp_buf_puts(buf, "false");
		break;
	case JSON_NULL:
		sp_buf_puts(buf, "null");
		break;
	}
}

char *
sp_json_canonical(const json_t *value, size_t *len)
{
	struct sp_buf buf = {0};

	SP_ASSERT(value != NULL);
	put_value(&buf, value);
	return sp_buf_take(&buf, len);
}

static int
has_real(const json_t *value)
{
	json_t *v = (json_t *)(uintptr_t)value;
	size_t i;
	void *iter;

	if (json_is_real(value))
		return 1;
	for (i = 0; i < json_array_size(value); i++)
		if (has_real(json_array_get(value, i)))
			return 1;
	for (iter = json_object_iter(v); iter != NULL; iter = json_object_iter_next(v, iter))
		if (has_real(json_object_iter_value(iter)))
			return 1;
	return 0;
}

enum sp_code
sp_json_parse_canonical(
    const void *text, size_t len, const char *what, json_t **out, struct sp_err *err)
{
	json_t *value = NULL;
	enum sp_code code;
	char *again = NULL;
	size_t again_len;

	code = sp_json_parse(text, len, what, &value, err);
	if (code != SP_OK)
		return code;
	if (has_real(value)) {
		code = sp_err_set(err, SP_E_INVALID,
		    "%s: not canonical JSON: it has a number that is no integer", what);
		goto out;
	}
	again = sp_json_canonical(value, &again_len);
	if (again_len != len || memcmp(again, text, len) != 0) {
		code = sp_err_set(err, SP_E_INVALID,
		    "%s: not canonical JSON (sorted keys, no white space, one spelling)", what);
		goto out;
	}
	*out = value;
	value = NULL;
out:
	free(again);
	json_decref(value);
	return code;
}

/* --- fields ---------------------------------------------------------------------------------- */

static const char *
type_word(const json_t *value)
{
	static const char *const words[] = {[JSON_OBJECT] = "an object",
	    [JSON_ARRAY] = "an array",
	    [JSON_STRING] = "a string",
	    [JSON_INTEGER] = "an integer",
	    [JSON_REAL] = "a fraction",
	    [JSON_TRUE] = "true",
	    [JSON_FALSE] = "false",
	    [JSON_NULL] = "null"};

	return words[json_typeof(value)];
}

static enum sp_code
get(const json_t *obj, const char *key, json_type type, const char *wanted, json_t **out,
    struct sp_err *err)
{
	json_t *value;

	if (!json_is_object(obj))
		return sp_err_set(err, SP_E_INVALID,
		    "field \"%s\" is missing: what should hold it is %s, not an object", key,
		    obj != NULL ? type_word(obj) : "absent");
	value = json_object_get(obj, key);
	if (value == NULL)
		return sp_err_set(err, SP_E_INVALID, "field \"%s\" is missing", key);
	if (json_typeof(value) != type)
		return sp_err_set(err, SP_E_INVALID, "field \"%s\" must be %s, not %s", key, wanted,
		    type_word(value));
	*out = value;
	return SP_OK;
}

enum sp_code
sp_json_string(const json_t *obj, const char *key, const char **out, struct sp_err *err)
{
	json_t *value;
	enum sp_code code = get(obj, key, JSON_STRING, "a string", &value, err);

	if (code == SP_OK)
		*out = json_string_value(value);
	return code;
}

enum sp_code
sp_json_integer(
    const json_t *obj, const char *key, int64_t min, int64_t max, int64_t *out, struct sp_err *err)
{
	json_t *value;
	enum sp_code code = get(obj, key, JSON_INTEGER, "an integer", &value, err);
	int64_t n;

	if (code != SP_OK)
		return code;
	n = json_integer_value(value);
	if (n < min || n > max)
		return sp_err_set(err, SP_E_INVALID,
		    "field \"%s\" is %" PRId64 ", allowed is %" PRId64 " to %" PRId64, key, n, min,
		    max);
	*out = n;
	return SP_OK;
}

enum sp_code
sp_json_object(const json_t *obj, const char *key, json_t **out, struct sp_err *err)
{
	return get(obj, key, JSON_OBJECT, "an object", out, err);
}

enum sp_code
sp_json_array(const json_t *obj, const char *key, json_t **out, struct sp_err *err)
{
	return get(obj, key, JSON_ARRAY, "an array", out, err);
}
