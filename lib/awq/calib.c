/* calib.c -- calibration texts as blocks of token ids. */
#include "awq/calib.h"

#include "base/json.h"
#include "model/strip.h"

#include <stdlib.h>
#include <string.h>

/* Room for one more run of ids; grows by doubling. */
static enum sp_code
append(
    uint32_t **all, size_t *cap, size_t *count, const uint32_t *ids, size_t n, struct sp_err *err)
{
	if (*count + n > *cap) {
		size_t more = 2 * (*count + n);
		uint32_t *grown = realloc(*all, more * sizeof(**all));

		if (grown == NULL)
			return sp_err_set(err, SP_E_NO_MEMORY, "no memory for calibration tokens");
		*all = grown;
		*cap = more;
	}
	memcpy(*all + *count, ids, n * sizeof(*ids));
	*count += n;
	return SP_OK;
}

static enum sp_code
encode_line(const uint8_t *line, size_t size, const struct sp_tokenizer *tokenizer, uint32_t **ids,
    size_t *count, struct sp_err *err)
{
	json_t *object = NULL;
	const char *text;
	enum sp_code rc;
	size_t len;

	rc = sp_json_parse(line, size, "calibration text", &object, err);
	if (rc == SP_OK)
		rc = sp_json_string(object, "text", &text, err);
	if (rc == SP_OK) {
		len = strlen(text);
		sp_strip_text(&text, &len);
		rc = sp_tokenizer_encode(tokenizer, text, len, 1, ids, count, err);
	}
	json_decref(object);
	return rc;
}

enum sp_code
sp_calib_parse(const uint8_t *jsonl, size_t size, const struct sp_tokenizer *tokenizer,
    size_t samples, size_t len, struct sp_calib *out, struct sp_err *err)
{
	size_t count = 0, cap = 0, line = 0, at = 0;
	enum sp_code rc = SP_OK;

	SP_ASSERT(len > 0);
	*out = (struct sp_calib){.len = len};
	while (at < size && out->texts < samples) {
		const uint8_t *end = memchr(jsonl + at, '\n', size - at);
		size_t bytes = (end != NULL ? (size_t)(end - jsonl) : size) - at;
		uint32_t *ids = NULL;
		size_t n = 0;

		line++;
		rc = encode_line(jsonl + at, bytes, tokenizer, &ids, &n, err);
		if (rc != SP_OK) {
			rc = sp_err_prefix(err, "line %zu", line);
			goto out;
		}
		at += bytes + 1;
		if (n == 0 || n > len) {
			out->skipped++;
		} else {
			rc = append(&out->ids, &cap, &count, ids, n, err);
			out->texts++;
		}
		free(ids);
		if (rc != SP_OK)
			goto out;
	}
	out->blocks = count / len;
	if (out->blocks == 0)
		rc = sp_err_set(err, SP_E_INVALID,
		    "the calibration texts give %zu tokens, less than one block of %zu "
		    "(%zu texts used, %zu skipped): take more texts, or shorter sequences",
		    count, len, out->texts, out->skipped);
out:
	if (rc != SP_OK)
		sp_calib_free(out);
	return rc;
}

void
sp_calib_free(struct sp_calib *calib)
{
	free(calib->ids);
	memset(calib, 0, sizeof(*calib));
}
