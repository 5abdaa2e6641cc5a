/* tokenizer.c -- text to ids. */
#include "model/tokenizer_impl.h"

#include "base/path.h"
#include "model/utf8.h"

#include <stdlib.h>
#include <string.h>

/*
 * As tokenizers does it: added tokens that are not normalized are cut out of the text, what is
 * between them is normalized, added tokens that are normalized are cut out of that, what is left
 * goes through the pre-tokenizers, which split it into words, and each word's symbols are merged.
 */

/* Work memory of one encoding at a time. Those at rest wait in a list for the next one: what they
 * have learned about words serves it too. */
#define IDLE_MAX 8
#define KEPT_BYTES ((size_t)1 << 16)

struct sp__encoder {
	struct sp__encoder *next;
	const struct sp_tokenizer *t;
	struct sp_pattern_work *pattern;
	struct sp__words words;
	struct sp_buf normal[2], step[SP_TOKENIZER_PARTS_MAX];
	const char *begin; /* of the text, which prepend_scheme first asks for */
	uint32_t *ids;
	size_t count, cap;
	struct sp_err *err;
};

static void
encoder_free(struct sp__encoder *e)
{
	if (e == NULL)
		return;
	sp_pattern_work_free(&e->pattern);
	sp__tokenizer_words_free(&e->words);
	for (size_t i = 0; i < 2; i++)
		sp_buf_free(&e->normal[i]);
	for (size_t i = 0; i < SP_TOKENIZER_PARTS_MAX; i++)
		sp_buf_free(&e->step[i]);
	free(e->ids);
	free(e);
}

void
sp__tokenizer_encoders_free(struct sp_tokenizer *t)
{
	while (t->idle != NULL) {
		struct sp__encoder *e = t->idle;

		t->idle = e->next;
		encoder_free(e);
	}
}

static enum sp_code
take_encoder(const struct sp_tokenizer *t, struct sp__encoder **out, struct sp_err *err)
{
	struct sp_tokenizer *shared = (struct sp_tokenizer *)(uintptr_t)t;
	struct sp__encoder *e;
	enum sp_code code = SP_OK;

	pthread_mutex_lock(&shared->lock);
	e = shared->idle;
	if (e != NULL) {
		shared->idle = e->next;
		shared->n_idle--;
	}
	pthread_mutex_unlock(&shared->lock);
	if (e == NULL) {
		e = sp_xcalloc(1, sizeof(*e));
		e->t = t;
		if ((code = sp_pattern_work_new(&e->pattern, err))) {
			encoder_free(e);
			e = NULL;
		}
	}
	*out = e;
	return code;
}

static void
trim(struct sp_buf *buf)
{
	if (buf->cap > KEPT_BYTES)
		sp_buf_free(buf);
}

static void
give_back(struct sp__encoder *e)
{
	struct sp_tokenizer *shared = (struct sp_tokenizer *)(uintptr_t)e->t;

	free(e->ids);
	e->ids = NULL;
	e->count = e->cap = 0;
	e->err = NULL;
	sp__tokenizer_words_trim(&e->words);
	for (size_t i = 0; i < 2; i++)
		trim(&e->normal[i]);
	for (size_t i = 0; i < SP_TOKENIZER_PARTS_MAX; i++)
		trim(&e->step[i]);
	pthread_mutex_lock(&shared->lock);
	if (shared->n_idle < IDLE_MAX) {
		e->next = shared->idle;
		shared->idle = e;
		shared->n_idle++;
		e = NULL;
	}
	pthread_mutex_unlock(&shared->lock);
	encoder_free(e);
}

static enum sp_code
reserve(struct sp__encoder *e, size_t more)
{
	size_t cap = e->cap * 2 > e->count + more ? e->cap * 2 : e->count + more;
	uint32_t *ids;

	if (e->count + more <= e->cap)
		return SP_OK;
	if ((ids = realloc(e->ids, cap * sizeof(*ids))) == NULL)
		return sp_err_set(e->err, SP_E_NO_MEMORY, "%zu tokens", cap);
	e->ids = ids;
	e->cap = cap;
	return SP_OK;
}

static enum sp_code
put(struct sp__encoder *e, const uint32_t *ids, size_t count)
{
	enum sp_code code = reserve(e, count);

	if (code == SP_OK && count > 0) {
		memcpy(e->ids + e->count, ids, count * sizeof(*ids));
		e->count += count;
	}
	return code;
}

static enum sp_code
put_token(void *arg, uint32_t id)
{
	return put(arg, &id, 1);
}

static enum sp_code
encode_word(struct sp__encoder *e, const char *word, size_t len)
{
	enum sp_code code = reserve(e, len);

	return code ? code
		    : sp__tokenizer_word(e->t, &e->words, word, len, e->ids, &e->count, e->err);
}

/* --- pieces of pieces ------------------------------------------------------------------------- */

/* The mark that SentencePiece writes for a space, U+2581. */
#define MARK "\xe2\x96\x81"
#define MARK_LEN (sizeof(MARK) - 1)

/* Can text, which begins with the mark, be cut from the character before it? */
static int
may_cut(const struct sp_tokenizer *t, const char *begin, const char *at)
{
	size_t n = sp_utf8_last(begin, (size_t)(at - begin));
	uint32_t point = sp_utf8_point(at - n, &n), id;

	if (point >= 0x10000 || (id = t->point_ids[point]) == SP_TOKENIZER_NO_ID)
		return 0;
	return !(t->stays[id / 64] >> id % 64 & 1);
}

/* A text that nothing splits is one word, and merging takes n log n; cut before the marks where no
 * merge reaches across, it is many short ones that have been seen before. */
static enum sp_code
encode_whole(struct sp__encoder *e, const char *text, size_t len)
{
	const char *end = text + len, *from = text, *mark = text;
	enum sp_code code;

	if (e->t->stays == NULL || e->t->ignore_merges)
		return encode_word(e, text, len);
	while (mark < end &&
	       (mark = memmem(mark + 1, (size_t)(end - mark - 1), MARK, MARK_LEN)) != NULL) {
		if (!may_cut(e->t, from, mark))
			continue;
		if ((code = encode_word(e, from, (size_t)(mark - from))))
			return code;
		from = mark;
	}
	return encode_word(e, from, (size_t)(end - from));
}

static enum sp_code pass(struct sp__encoder *e, size_t level, const char *text, size_t len);

/* Matches and what lies between them are pieces. */
static enum sp_code
pass_split(struct sp__encoder *e, size_t level, const char *text, size_t len)
{
	const struct sp__step *step = &e->t->steps[level];
	size_t done = 0, from = 0, start, end;
	enum sp_code code;

	while (from <= len) {
		if ((code = sp_pattern_find(
			 step->pattern, e->pattern, text, len, from, &start, &end, e->err)))
			return code;
		if (start > len)
			break;
		if (start > done && !step->drop_between &&
		    (code = pass(e, level + 1, text + done, start - done)))
			return code;
		if (end > start && !step->drop_matches &&
		    (code = pass(e, level + 1, text + start, end - start)))
			return code;
		done = from = end;
		if (start == end) /* an empty match: go on after the next character */
			from += end < len ? sp_utf8_len(text[end]) : 1;
	}
	return done < len && !step->drop_between ? pass(e, level + 1, text + done, len - done)
						 : SP_OK;
}

static int
begins_with(const char *text, size_t len, const char *with, size_t with_len)
{
	return len >= with_len && memcmp(text, with, with_len) == 0;
}

/* Spaces become marks, one is put in front where there is none, and each mark begins a piece. */
static enum sp_code
pass_metaspace(struct sp__encoder *e, size_t level, const char *text, size_t len)
{
	const struct sp__step *step = &e->t->steps[level];
	struct sp_buf *buf = &e->step[level];
	const char *space = text, *end = text + len, *mark;
	int starts = text[0] == ' ' || begins_with(text, len, step->mark, step->mark_len);
	enum sp_code code;

	buf->len = 0;
	if (!starts &&
	    (step->scheme == SP__ALWAYS || (step->scheme == SP__FIRST && text == e->begin)))
		sp_buf_add(buf, step->mark, step->mark_len);
	for (; (space = memchr(text, ' ', (size_t)(end - text))) != NULL; text = space + 1) {
		sp_buf_add(buf, text, (size_t)(space - text));
		sp_buf_add(buf, step->mark, step->mark_len);
	}
	sp_buf_add(buf, text, (size_t)(end - text));
	text = (const char *)buf->data;
	end = text + buf->len;
	while (step->split && (mark = memmem(text + 1, (size_t)(end - text - 1), step->mark,
				   step->mark_len)) != NULL) {
		if ((code = pass(e, level + 1, text, (size_t)(mark - text))))
			return code;
		text = mark;
	}
	return pass(e, level + 1, text, (size_t)(end - text));
}

static enum sp_code
pass_prefix(struct sp__encoder *e, size_t level, const char *text, size_t len)
{
	struct sp_buf *buf = &e->step[level];

	if (text[0] == ' ')
		return pass(e, level + 1, text, len);
	buf->len = 0;
	sp_buf_add(buf, " ", 1);
	sp_buf_add(buf, text, len);
	return pass(e, level + 1, (const char *)buf->data, buf->len);
}

/* text is not empty. */
static enum sp_code
pass(struct sp__encoder *e, size_t level, const char *text, size_t len)
{
	if (level == e->t->n_steps)
		return e->t->byte_level ? encode_word(e, text, len) : encode_whole(e, text, len);
	switch (e->t->steps[level].kind) {
	case SP__SPLIT:
		return pass_split(e, level, text, len);
	case SP__METASPACE:
		return pass_metaspace(e, level, text, len);
	case SP__PREFIX:
	default:
		return pass_prefix(e, level, text, len);
	}
}

/* --- the whole text --------------------------------------------------------------------------- */

static enum sp_code
encode_normalized(void *arg, const char *text, size_t len)
{
	return pass(arg, 0, text, len);
}

static enum sp_code
encode_raw(void *arg, const char *text, size_t len)
{
	struct sp__encoder *e = arg;
	const struct sp__cut cut = {encode_normalized, put_token, e, e->pattern, e->err};
	enum sp_code code =
	    sp__tokenizer_normalize(e->t, text, len, e->normal, &text, &len, e->err);

	return code ? code : sp__tokenizer_cut(&e->t->normalized, text, len, &cut);
}

enum sp_code
sp_tokenizer_encode(const struct sp_tokenizer *t, const char *text, size_t len, int add_special,
    uint32_t **ids, size_t *count, struct sp_err *err)
{
	struct sp__encoder *e;
	struct sp__cut cut = {.between = encode_raw, .token = put_token, .err = err};
	enum sp_code code;

	*ids = NULL;
	*count = 0;
	if (len > SP_TOKENIZER_TEXT_MAX)
		return sp_err_set(err, SP_E_LIMIT, "a text of %zu bytes, at most %zu", len,
		    SP_TOKENIZER_TEXT_MAX);
	if (!sp_path_is_utf8(text, len))
		return sp_err_set(err, SP_E_INVALID, "a text to tokenize is not UTF-8");
	if ((code = take_encoder(t, &e, err)))
		return code;
	e->err = err;
	e->begin = text;
	cut.arg = e;
	cut.work = e->pattern;
	if ((code = reserve(e, len / 3 + (size_t)2 * SP_TOKENIZER_EXTRA_MAX)) ||
	    (code = put(e, t->before, add_special ? t->n_before : 0)) ||
	    (code = sp__tokenizer_cut(&t->raw, text, len, &cut)) ||
	    (code = put(e, t->after, add_special ? t->n_after : 0)))
		goto out;
	*ids = e->ids;
	*count = e->count;
	e->ids = NULL;
out:
	give_back(e);
	return code;
}
