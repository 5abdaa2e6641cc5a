/* tokenizer_field.c -- fields of tokenizer.json. */
#include "model/tokenizer_field.h"

#include "base/json.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct sp__field
sp__field(const json_t *value, const char *fmt, ...)
{
	struct sp__field f = {.value = value};
	va_list args;

	va_start(args, fmt);
	vsnprintf(f.at, sizeof(f.at), fmt, args);
	va_end(args);
	return f;
}

enum sp_code
sp__field_unsupported(
    const struct sp__field *f, const char *key, const char *what, struct sp_err *err)
{
	return sp_err_set(err, SP_E_UNSUPPORTED, "%s%s%s %s", f->at,
	    f->at[0] != '\0' && key[0] != '\0' ? "." : "", key, what);
}

/* 1 when key is a word of the list "a b c". */
static int
is_listed(const char *list, const char *key)
{
	size_t len = strlen(key);

	while (*list != '\0') {
		size_t word = strcspn(list, " ");

		if (word == len && memcmp(list, key, len) == 0)
			return 1;
		list += word + (list[word] == ' ');
	}
	return 0;
}

enum sp_code
sp__field_keys(const struct sp__field *f, const char *known, struct sp_err *err)
{
	const char *key;
	json_t *value;

	if (!json_is_object(f->value))
		return sp_err_set(err, SP_E_INVALID, "%s is not an object", f->at);
	json_object_foreach((json_t *)(uintptr_t)f->value, key, value)
	{
		if (!is_listed(known, key)) {
			char name[48];

			snprintf(name, sizeof(name), "%s", key);
			return sp__field_unsupported(
			    f, name, "is not a field that is understood", err);
		}
	}
	return SP_OK;
}

enum sp_code
sp__field_flag(
    const struct sp__field *f, const char *key, int fallback, int *out, struct sp_err *err)
{
	const json_t *value = json_object_get(f->value, key);

	*out = sp__field_none(value) ? fallback : json_is_true(value);
	if (!sp__field_none(value) && !json_is_boolean(value))
		return sp_err_set(err, SP_E_INVALID, "%s.%s is neither true nor false", f->at, key);
	return SP_OK;
}

enum sp_code
sp__field_empty(const struct sp__field *f, const char *key, struct sp_err *err)
{
	const json_t *value = json_object_get(f->value, key);

	if (value == NULL || json_is_null(value) ||
	    (json_is_string(value) && json_string_length(value) == 0))
		return SP_OK;
	return sp__field_unsupported(f, key, "is set", err);
}

enum sp_code
sp__field_text(const struct sp__field *f, const char *key, size_t least, size_t most,
    const char **out, struct sp_err *err)
{
	size_t len;

	if (sp_json_string(f->value, key, out, err) != SP_OK)
		return sp_err_prefix(err, "%s", f->at);
	len = strlen(*out);
	if (len < least || len > most)
		return sp_err_set(err, SP_E_UNSUPPORTED, "%s.%s has %zu bytes, not %zu to %zu",
		    f->at, key, len, least, most);
	return SP_OK;
}

const char *
sp__field_type(const struct sp__field *f)
{
	const char *type = json_string_value(json_object_get(f->value, "type"));

	return type == NULL ? "" : type;
}

int
sp__field_none(const json_t *value)
{
	return value == NULL || json_is_null(value);
}

enum sp_code
sp__field_parts(const struct sp__field *f, const char *list,
    struct sp__field parts[SP_TOKENIZER_PARTS_MAX], size_t *n, struct sp_err *err)
{
	char keys[64];
	json_t *array;
	enum sp_code code;

	*n = 1;
	parts[0] = *f;
	if (strcmp(sp__field_type(f), "Sequence") != 0)
		return SP_OK;
	snprintf(keys, sizeof(keys), "type %s", list);
	if ((code = sp__field_keys(f, keys, err)))
		return code;
	if ((code = sp_json_array(f->value, list, &array, err)))
		return sp_err_prefix(err, "%s", f->at);
	*n = json_array_size(array);
	if (*n > SP_TOKENIZER_PARTS_MAX)
		return sp__field_unsupported(f, list, "has too many parts", err);
	for (size_t i = 0; i < *n; i++)
		parts[i] = sp__field(json_array_get(array, i), "%s.%s[%zu]", f->at, list, i);
	return SP_OK;
}
