/* tokenizer_decode.c -- ids to text: the decoders of tokenizer.json. */
#include "model/tokenizer_impl.h"

#include "model/utf8.h"

#include <stdlib.h>
#include <string.h>

/* A chain of Replace that goes on multiplying would fill the memory. */
#define GROWTH_MAX 16

/* What decoders make of each other: texts one after the other. */
struct list {
	struct sp_buf text;
	size_t *ends;
	size_t count, cap;
};

static void
end_text(struct list *list)
{
	if (list->count == list->cap) {
		list->cap = list->cap == 0 ? 64 : list->cap * 2;
		list->ends = sp_xrealloc(list->ends, list->cap, sizeof(*list->ends));
	}
	list->ends[list->count++] = list->text.len;
}

static void
list_free(struct list *list)
{
	sp_buf_free(&list->text);
	free(list->ends);
}

static const char *
text_of(const struct list *list, size_t i, size_t *len)
{
	size_t from = i == 0 ? 0 : list->ends[i - 1];

	*len = list->ends[i] - from;
	return *len == 0 ? "" : (const char *)list->text.data + from;
}

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/* Bytes of the character that may begin with lead, 0 when none does. */
static size_t
need_of(uint8_t lead)
{
	return lead < 0x80   ? 1
	       : lead < 0xc2 ? 0
	       : lead < 0xe0 ? 2
	       : lead < 0xf0 ? 3
	       : lead < 0xf5 ? 4
			     : 0;
}

/* 1 when byte may be the i-th of a character that begins with lead. */
static int
goes_on(uint8_t lead, size_t i, uint8_t byte)
{
	uint8_t low = 0x80, high = 0xbf;

	if (i == 1) {
		low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : low;
		high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : high;
	}
	return byte >= low && byte <= high;
}

/* Bytes as text: U+FFFD for each longest beginning of a character that breaks off (Unicode 15, 3.9,
 * "substitution of maximal subparts"). Returns how many there were. */
static size_t
put_lossy(struct sp_buf *out, const uint8_t *bytes, size_t len)
{
	size_t lost = 0;

	for (size_t i = 0, n; i < len; i += n) {
		size_t need = need_of(bytes[i]);

		for (n = 1; n < need && i + n < len && goes_on(bytes[i], n, bytes[i + n]); n++)
			;
		if (n == need) {
			sp_buf_add(out, bytes + i, n);
		} else {
			sp_buf_puts(out, REPLACEMENT);
			lost++;
		}
	}
	return lost;
}

/* --- the decoders ----------------------------------------------------------------------------- */

/* A text of ByteLevel's characters is the bytes that they stand for, another one itself. */
static void
put_bytes(struct sp_buf *out, const char *text, size_t len)
{
	size_t before = out->len, n;

	for (size_t i = 0; i < len; i += n) {
		int byte = sp__tokenizer_byte(sp_utf8_point(text + i, &n));
		uint8_t c = (uint8_t)byte;

		if (byte < 0) {
			out->len = before;
			sp_buf_add(out, text, len);
			return;
		}
		sp_buf_add(out, &c, 1);
	}
}

static void
decode_byte_level(const struct list *in, struct list *out)
{
	struct sp_buf bytes = {0};

	for (size_t i = 0; i < in->count; i++) {
		size_t len;
		const char *text = text_of(in, i, &len);

		put_bytes(&bytes, text, len);
	}
	put_lossy(&out->text, bytes.data, bytes.len);
	end_text(out);
	sp_buf_free(&bytes);
}

static int
hex_of(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

/* The byte of "<0xHH>", -1 for another text. Rust also takes a '+' for the first digit. */
static int
fallback_byte(const char *text, size_t len)
{
	int high, low;

	if (len != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>')
		return -1;
	high = text[3] == '+' ? 0 : hex_of(text[3]);
	low = hex_of(text[4]);
	return high < 0 || low < 0 ? -1 : high << 4 | low;
}

/* Byte tokens in a row are one text, or U+FFFD each when that is not UTF-8. */
static void
end_bytes(struct sp_buf *bytes, struct list *out)
{
	size_t before = out->text.len;

	if (bytes->len == 0)
		return;
	if (put_lossy(&out->text, bytes->data, bytes->len) > 0) {
		out->text.len = before;
		for (size_t i = 0; i < bytes->len; i++) {
			sp_buf_puts(&out->text, REPLACEMENT);
			end_text(out);
		}
	} else {
		end_text(out);
	}
	bytes->len = 0;
}

static void
decode_byte_fallback(const struct list *in, struct list *out)
{
	struct sp_buf bytes = {0};

	for (size_t i = 0; i < in->count; i++) {
		size_t len;
		const char *text = text_of(in, i, &len);
		int byte = fallback_byte(text, len);
		uint8_t c = (uint8_t)byte;

		if (byte >= 0) {
			sp_buf_add(&bytes, &c, 1);
			continue;
		}
		end_bytes(&bytes, out);
		sp_buf_add(&out->text, text, len);
		end_text(out);
	}
	end_bytes(&bytes, out);
	sp_buf_free(&bytes);
}

static void
replace(struct sp_buf *out, const char *text, size_t len, const struct sp__decoder *d)
{
	const char *end = text + len, *found;

	while ((found = memmem(text, (size_t)(end - text), d->from, d->from_len)) != NULL) {
		sp_buf_add(out, text, (size_t)(found - text));
		sp_buf_add(out, d->to, d->to_len);
		text = found + d->from_len;
	}
	sp_buf_add(out, text, (size_t)(end - text));
}

/* Marks are spaces; those of the first text are nothing unless keep_first. */
static void
decode_metaspace(const struct sp__decoder *d, const struct list *in, struct list *out)
{
	for (size_t i = 0; i < in->count; i++) {
		const struct sp__decoder step = {.from = d->from,
		    .from_len = d->from_len,
		    .to = d->to,
		    .to_len = i == 0 && !d->keep_first ? 0 : d->to_len};
		size_t len;
		const char *text = text_of(in, i, &len);

		replace(&out->text, text, len, &step);
		end_text(out);
	}
}

static void
decode_each(const struct sp__decoder *d, const struct list *in, struct list *out)
{
	for (size_t i = 0; i < in->count; i++) {
		size_t len;
		const char *text = text_of(in, i, &len);

		if (d->kind == SP__REPLACE_TEXT) {
			replace(&out->text, text, len, d);
		} else {
			for (int64_t n = 0; n < d->start && len >= d->from_len &&
					    memcmp(text, d->from, d->from_len) == 0;
			     n++) {
				text += d->from_len;
				len -= d->from_len;
			}
			sp_buf_add(&out->text, text, len);
		}
		end_text(out);
	}
}

static void
decode(const struct sp__decoder *d, struct list *list)
{
	struct list out = {0};

	switch (d->kind) {
	case SP__BYTE_LEVEL:
		decode_byte_level(list, &out);
		break;
	case SP__DECODE_METASPACE:
		decode_metaspace(d, list, &out);
		break;
	case SP__BYTE_FALLBACK:
		decode_byte_fallback(list, &out);
		break;
	case SP__FUSE:
		list->count = 0;
		end_text(list);
		return;
	case SP__REPLACE_TEXT:
	case SP__STRIP:
	default:
		decode_each(d, list, &out);
	}
	list_free(list);
	*list = out;
}

/* --- ids -------------------------------------------------------------------------------------- */

enum sp_code
sp_tokenizer_decode(const struct sp_tokenizer *t, const uint32_t *ids, size_t count,
    int skip_special, char **text, size_t *len, struct sp_err *err)
{
	struct list list = {0};
	size_t most;

	*text = NULL;
	*len = 0;
	for (size_t i = 0; i < count; i++) {
		const struct sp__token *token = ids[i] < t->size ? &t->tokens[ids[i]] : NULL;

		if (token == NULL || token->spelling == NULL || (token->special && skip_special))
			continue;
		if (t->joined && list.count > 0)
			sp_buf_add(&list.text, " ", 1);
		if (token->shown != NULL)
			sp_buf_add(&list.text, token->shown, token->shown_len);
		else
			sp_buf_add(&list.text, token->spelling, token->spelling_len);
		end_text(&list);
	}
	most = list.text.len * GROWTH_MAX + 4096;
	for (size_t i = 0; i < t->n_decoders; i++) {
		decode(&t->decoders[i], &list);
		if (list.text.len > most) {
			list_free(&list);
			return sp_err_set(err, SP_E_LIMIT,
			    "decoders make a text more than %d times as long", GROWTH_MAX);
		}
	}
	*text = sp_buf_take(&list.text, len);
	free(list.ends);
	return SP_OK;
}
