/* tokenizer_normal.c -- the normalizers of tokenizer.json. */
#include "model/tokenizer_impl.h"

#include "model/nfc.h"

#include <stdlib.h>
#include <string.h>

/* Real normalizers triple a text at most (a space becomes U+2581); a chain of Replace that goes on
 * multiplying would fill the memory. */
#define GROWTH_MAX 16

/* Ends early once out has more than most bytes. */
static void
replace_all(
    const struct sp__normal *n, const char *text, size_t len, size_t most, struct sp_buf *out)
{
	const char *end = text + len, *found;

	while (out->len <= most &&
	       (found = memmem(text, (size_t)(end - text), n->from, n->from_len)) != NULL) {
		sp_buf_add(out, text, (size_t)(found - text));
		sp_buf_add(out, n->to, n->to_len);
		text = found + n->from_len;
	}
	sp_buf_add(out, text, (size_t)(end - text));
}

static enum sp_code
normalize_nfc(const char *text, size_t len, struct sp_buf *out, int *same, struct sp_err *err)
{
	char *normal;
	size_t normal_len;
	enum sp_code code = sp_nfc_normalize(text, len, &normal, &normal_len, err);

	*same = normal == NULL;
	if (code == SP_OK && normal != NULL)
		sp_buf_add(out, normal, normal_len);
	free(normal);
	return code;
}

enum sp_code
sp__tokenizer_normalize(const struct sp_tokenizer *t, const char *text, size_t len,
    struct sp_buf work[2], const char **out, size_t *out_len, struct sp_err *err)
{
	const size_t most = len * GROWTH_MAX + 4096;
	size_t side = 0;
	enum sp_code code;

	for (size_t i = 0; i < t->n_normals && len > 0; i++) {
		const struct sp__normal *n = &t->normals[i];
		struct sp_buf *to = &work[side];
		int same = 0;

		to->len = 0;
		if (n->kind == SP__NFC) {
			if ((code = normalize_nfc(text, len, to, &same, err)))
				return code;
		} else if (n->kind == SP__PREPEND) {
			sp_buf_add(to, n->to, n->to_len);
			sp_buf_add(to, text, len);
		} else if (memmem(text, len, n->from, n->from_len) != NULL) {
			replace_all(n, text, len, most, to);
		} else {
			same = 1;
		}
		if (same)
			continue;
		text = to->len == 0 ? "" : (const char *)to->data;
		len = to->len;
		side ^= 1;
		if (len > most)
			return sp_err_set(err, SP_E_LIMIT,
			    "normalizers make a text more than %d times as long", GROWTH_MAX);
	}
	*out = text;
	*out_len = len;
	return SP_OK;
}
