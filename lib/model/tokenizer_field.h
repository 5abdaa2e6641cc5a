/* tokenizer_field.h -- fields of tokenizer.json, and messages that say which one it was. */
#ifndef SP_TOKENIZER_FIELD_H
#define SP_TOKENIZER_FIELD_H

#include "base/err.h"
#include "model/tokenizer_impl.h"

#include <jansson.h>

/* A JSON value and its place in the file, for messages. */
struct sp__field {
	const json_t *value;
	char at[128];
};

struct sp__field sp__field(const json_t *value, const char *fmt, ...) SP_PRINTF(2, 3);

/* SP_E_UNSUPPORTED: "AT.KEY WHAT". */
enum sp_code sp__field_unsupported(
    const struct sp__field *f, const char *key, const char *what, struct sp_err *err);

/* f is an object whose keys are all words of the list "a b c". */
enum sp_code
sp__field_keys(const struct sp__field *f, const char *known, struct sp_err *err) SP_MUST_USE;
/* A boolean, fallback when it is missing or null. */
enum sp_code sp__field_flag(const struct sp__field *f, const char *key, int fallback, int *out,
    struct sp_err *err) SP_MUST_USE;
/* null, missing, or an empty string. */
enum sp_code
sp__field_empty(const struct sp__field *f, const char *key, struct sp_err *err) SP_MUST_USE;
/* A string of least .. most bytes; borrowed. */
enum sp_code sp__field_text(const struct sp__field *f, const char *key, size_t least, size_t most,
    const char **out, struct sp_err *err) SP_MUST_USE;

/* f.type, "" when there is none. */
const char *sp__field_type(const struct sp__field *f);
/* null or missing. */
int sp__field_none(const json_t *value);
/* f itself, or the parts of f when it is a Sequence, which lie under `list`. */
enum sp_code sp__field_parts(const struct sp__field *f, const char *list,
    struct sp__field parts[SP_TOKENIZER_PARTS_MAX], size_t *n, struct sp_err *err) SP_MUST_USE;

/* What the file's parts besides the model are read by; each fills its share of t. */
enum sp_code sp__tokenizer_parse_normalizer(
    struct sp_tokenizer *t, const json_t *value, struct sp_err *err) SP_MUST_USE;
enum sp_code sp__tokenizer_parse_pre_tokenizer(
    struct sp_tokenizer *t, const json_t *value, struct sp_err *err) SP_MUST_USE;
enum sp_code sp__tokenizer_parse_post_processor(
    struct sp_tokenizer *t, const json_t *value, struct sp_err *err) SP_MUST_USE;
enum sp_code sp__tokenizer_parse_decoder(
    struct sp_tokenizer *t, const json_t *value, struct sp_err *err) SP_MUST_USE;
/* The vocabulary, added_tokens and merges. */
enum sp_code sp__tokenizer_parse_model(
    struct sp_tokenizer *t, const json_t *root, struct sp_err *err) SP_MUST_USE;

#endif
