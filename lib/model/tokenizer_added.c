/* tokenizer_added.c -- added tokens in a text. */
#include "model/tokenizer_impl.h"

#include "model/utf8.h"

#include <stdlib.h>
#include <string.h>

static int
compare_added(const void *a, const void *b)
{
	const struct sp__added_token *x = a, *y = b;
	int order = memcmp(x->content, y->content, x->len < y->len ? x->len : y->len);

	return order != 0 ? order : x->len < y->len ? -1 : x->len > y->len;
}

void
sp__tokenizer_added_sort(struct sp__added *added)
{
	if (added->count > 0)
		qsort(added->tokens, added->count, sizeof(*added->tokens), compare_added);
	for (size_t i = 0; i < added->count; i++)
		added->starts[(uint8_t)added->tokens[i].content[0]] = 1;
}

/* First of the tokens low .. high - 1 whose byte i is at least c. */
static size_t
first_from(const struct sp__added *added, size_t low, size_t high, size_t i, unsigned c)
{
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if ((uint8_t)added->tokens[middle].content[i] < c)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Longest added token that text begins with, NULL when there is none. The tokens are sorted, so
 * those that share the first i bytes lie together. */
static const struct sp__added_token *
match(const struct sp__added *added, const char *text, size_t len)
{
	const struct sp__added_token *best = NULL;
	size_t low = 0, high = added->count;

	for (size_t i = 0; low < high; i++) {
		if (added->tokens[low].len == i)
			best = &added->tokens[low++];
		if (i == len)
			break;
		low = first_from(added, low, high, i, (uint8_t)text[i]);
		high = first_from(added, low, high, i, (uint8_t)text[i] + 1u);
	}
	return best;
}

/* Unicode's White_Space. */
static int
is_space(uint32_t c)
{
	return (c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
	       (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
	       c == 0x205f || c == 0x3000;
}

/* Where the white space at the end of text[len] begins. */
static size_t
trim_end(const char *text, size_t len)
{
	while (len > 0) {
		size_t last = sp_utf8_last(text, len), n;

		if (!is_space(sp_utf8_point(text + len - last, &n)))
			break;
		len -= last;
	}
	return len;
}

/* Bytes of white space that text begins with. */
static size_t
skip_start(const char *text, size_t len)
{
	size_t at = 0, n;

	while (at < len && is_space(sp_utf8_point(text + at, &n)))
		at += n;
	return at;
}

/* Is the character at text, of n bytes, part of a word? */
static enum sp_code
check_word(const struct sp__added *added, const struct sp__cut *cut, const char *text, size_t n,
    int *is_word)
{
	size_t start, end;
	enum sp_code code =
	    sp_pattern_find(added->word, cut->work, text, n, 0, &start, &end, cut->err);

	*is_word |= code == SP_OK && start == 0;
	return code;
}

/* *touches: a part of a word stands right before or after text[start .. end). */
static enum sp_code
check_single(const struct sp__added *added, const struct sp__cut *cut, const char *text, size_t len,
    size_t start, size_t end, int *touches)
{
	size_t last = start == 0 ? 0 : sp_utf8_last(text, start);
	enum sp_code code;

	*touches = 0;
	if (last > 0 && (code = check_word(added, cut, text + start - last, last, touches)))
		return code;
	if (end == len)
		return SP_OK;
	return check_word(added, cut, text + end, sp_utf8_len(text[end]), touches);
}

/*
 * As tokenizers does it: matches are the longest at the leftmost place and do not overlap; then
 * single_word discards some, and lstrip and rstrip take the white space beside them, whatever the
 * next match does with it.
 */
enum sp_code
sp__tokenizer_cut(
    const struct sp__added *added, const char *text, size_t len, const struct sp__cut *cut)
{
	size_t done = 0;
	enum sp_code code;

	for (size_t at = 0; added->count > 0 && at < len;) {
		const struct sp__added_token *token =
		    added->starts[(uint8_t)text[at]] ? match(added, text + at, len - at) : NULL;
		size_t start = at, end;
		int touches = 0;

		if (token == NULL) {
			at++;
			continue;
		}
		at = end = start + token->len;
		if (token->single_word &&
		    (code = check_single(added, cut, text, len, start, end, &touches)))
			return code;
		if (touches)
			continue;
		if (token->lstrip) {
			start = trim_end(text, start);
			start = start < done ? done : start;
		}
		if (token->rstrip)
			end += skip_start(text + end, len - end);
		if ((done < start && (code = cut->between(cut->arg, text + done, start - done))) ||
		    (code = cut->token(cut->arg, token->id)))
			return code;
		done = end;
	}
	return done < len ? cut->between(cut->arg, text + done, len - done) : SP_OK;
}
