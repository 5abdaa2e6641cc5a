/* json.h -- JSON from outside, strictly; JSON that is signed or compared, canonically. */
#ifndef SP_JSON_H
#define SP_JSON_H

#include "base/err.h"

#include <jansson.h>
#include <stdint.h>

/* Parses one JSON text: duplicate keys, trailing bytes, NUL in strings, nesting above 64 levels and
 * texts above SP_JSON_MAX bytes are refused. what names the document in the message. */
enum sp_code sp_json_parse(
    const void *text, size_t len, const char *what, json_t **out, struct sp_err *err) SP_MUST_USE;

/* The same for a document that may be larger: up to most bytes. */
enum sp_code sp_json_parse_large(const void *text, size_t len, size_t most, const char *what,
    json_t **out, struct sp_err *err) SP_MUST_USE;

/* Canonical text: sorted keys (by code point), no white space, UTF-8 unescaped, integers only
 * (reals are written with %.17g and refused by _parse_canonical). malloc'd, NUL-terminated. */
char *sp_json_canonical(const json_t *value, size_t *len);

/* sp_json_parse, then requires that sp_json_canonical gives back the very same bytes. */
enum sp_code sp_json_parse_canonical(
    const void *text, size_t len, const char *what, json_t **out, struct sp_err *err) SP_MUST_USE;

/* Field access that says which field is wrong. Strings and objects are borrowed from obj. */
enum sp_code sp_json_string(
    const json_t *obj, const char *key, const char **out, struct sp_err *err) SP_MUST_USE;
enum sp_code sp_json_integer(const json_t *obj, const char *key, int64_t min, int64_t max,
    int64_t *out, struct sp_err *err) SP_MUST_USE;
enum sp_code
sp_json_object(const json_t *obj, const char *key, json_t **out, struct sp_err *err) SP_MUST_USE;
enum sp_code
sp_json_array(const json_t *obj, const char *key, json_t **out, struct sp_err *err) SP_MUST_USE;

#endif
