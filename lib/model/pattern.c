/* pattern.c -- the split patterns of tokenizer.json, on PCRE2. */
#include "model/pattern.h"

#include "base/buf.h"
#include "model/pattern_later.h"

#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

/* Unicode's White_Space, which is \s in Oniguruma; PCRE2's \s also has U+180E. */
#define SPACES "\\t-\\r\\x{85}\\p{Z}"

/* PCRE2's steps of one search: the patterns of real tokenizers take some for each character that is
 * left (their \s+(?!\S) one), and a pattern that takes many more would hold us for days. */
#define STEPS_LEAST 10000
#define STEPS_PER_BYTE 16

static const struct {
	const char *name, *later;
} categories[] = {
#define X(name, later) {name, later},
    SP_PATTERN_LATER(X)
#undef X
};

struct sp_pattern {
	pcre2_code *code;
	int is_jit;
};

struct sp_pattern_work {
	pcre2_match_data *match;
	pcre2_match_context *context;
	pcre2_jit_stack *stack;
};

/* Reading position in a pattern, and what PCRE2 gets. */
struct reader {
	const char *text, *at;
	int in_class;
	struct sp_buf out;
};

static enum sp_code
unsupported(const struct reader *r, const char *what, struct sp_err *err)
{
	return sp_err_set(
	    err, SP_E_UNSUPPORTED, "pattern: %s at byte %zu", what, (size_t)(r->at - r->text));
}

/* Adds a general category, or what is not in it; both Unicode versions agree on that alone. */
static enum sp_code
put_category(struct reader *r, const char *name, size_t len, int negated, struct sp_err *err)
{
	for (size_t i = 0; i < sizeof(categories) / sizeof(categories[0]); i++) {
		if (strlen(categories[i].name) != len || memcmp(categories[i].name, name, len) != 0)
			continue;
		if (r->in_class && negated)
			break;
		sp_buf_printf(&r->out, "%s\\p{%s}%s%s",
		    r->in_class ? ""
		    : negated	? "[^"
				: "[",
		    categories[i].name, categories[i].later, r->in_class ? "" : "]");
		return SP_OK;
	}
	return unsupported(
	    r, "a property beside the categories L (Lu Ll Lt Lm Lo) M N (Nd Nl No) P S Z", err);
}

/* \p{Name}, \P{Name} */
static enum sp_code
read_property(struct reader *r, struct sp_err *err)
{
	size_t len = r->at[2] == '{' ? strcspn(r->at + 3, "}") : 0;
	enum sp_code code;

	if (len == 0 || r->at[3 + len] != '}')
		return unsupported(r, "a property without a {Name}", err);
	if ((code = put_category(r, r->at + 3, len, r->at[1] == 'P', err)))
		return code;
	r->at += len + 4;
	return SP_OK;
}

static enum sp_code
read_escape(struct reader *r, struct sp_err *err)
{
	char c = r->at[1];
	enum sp_code code = SP_OK;

	if (c == 'p' || c == 'P')
		return read_property(r, err);
	if (c == 's')
		sp_buf_puts(&r->out, r->in_class ? SPACES : "[" SPACES "]");
	else if (c == 'S' && !r->in_class)
		sp_buf_puts(&r->out, "[^" SPACES "]");
	else if (c == 'd')
		code = put_category(r, "Nd", 2, 0, err);
	else if (c == 'r' || c == 'n' || c == 't' || ispunct((unsigned char)c))
		sp_buf_add(&r->out, r->at, 2);
	else
		return unsupported(r, "an escape beside \\s \\S \\d \\p \\P \\r \\n \\t", err);
	r->at += 2;
	return code;
}

static enum sp_code
read_group(struct reader *r, struct sp_err *err)
{
	static const char *const kinds[] = {"(?:", "(?i:", "(?=", "(?!", "(?<=", "(?<!"};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		size_t len = strlen(kinds[i]);

		if (strncmp(r->at, kinds[i], len) == 0) {
			sp_buf_add(&r->out, r->at, len);
			r->at += len;
			return SP_OK;
		}
	}
	return unsupported(r, "a group beside (?: (?i: (?= (?! (?<= (?<!", err);
}

/* {n}, {n,}, {n,m}; a '+' after it means possessive to one of the two only. */
static enum sp_code
read_repeat(struct reader *r, struct sp_err *err)
{
	size_t len = 1 + strspn(r->at + 1, "0123456789,");

	if (!isdigit((unsigned char)r->at[1]) || r->at[len] != '}' || r->at[len + 1] == '+')
		return unsupported(r, "a repeat beside {n} {n,} {n,m}", err);
	sp_buf_add(&r->out, r->at, len + 1);
	r->at += len + 1;
	return SP_OK;
}

static enum sp_code
read_class(struct reader *r, struct sp_err *err)
{
	enum sp_code code;

	r->in_class = 1;
	sp_buf_add(&r->out, r->at, r->at[1] == '^' ? 2 : 1);
	r->at += r->at[1] == '^' ? 2 : 1;
	if (*r->at == ']')
		return unsupported(r, "an empty class", err);
	while (*r->at != ']') {
		if (*r->at == '\0' || *r->at == '[' || strncmp(r->at, "&&", 2) == 0)
			return unsupported(r, "a class without end, in a class, or with &&", err);
		if (*r->at == '\\') {
			if ((code = read_escape(r, err)))
				return code;
			continue;
		}
		sp_buf_add(&r->out, r->at++, 1);
	}
	sp_buf_add(&r->out, r->at++, 1);
	r->in_class = 0;
	return SP_OK;
}

static enum sp_code
translate(struct reader *r, struct sp_err *err)
{
	enum sp_code code = SP_OK;

	while (*r->at != '\0' && code == SP_OK) {
		switch (*r->at) {
		case '\\':
			code = read_escape(r, err);
			break;
		case '[':
			code = read_class(r, err);
			break;
		case '(':
			code = read_group(r, err);
			break;
		case '{':
			code = read_repeat(r, err);
			break;
		case '^':
		case '$':
			code = unsupported(r, "an anchor", err);
			break;
		default:
			sp_buf_add(&r->out, r->at++, 1);
		}
	}
	return code;
}

/* Whole characters, in PCRE2's own syntax. */
static enum sp_code
compile(const struct sp_buf *text, uint32_t options, struct sp_pattern **out, struct sp_err *err)
{
	PCRE2_UCHAR message[128];
	PCRE2_SIZE at;
	pcre2_code *compiled;
	int fault;

	compiled = pcre2_compile(text->len == 0 ? (PCRE2_SPTR) "" : text->data, text->len,
	    PCRE2_UTF | options, &fault, &at, NULL);
	if (compiled == NULL) {
		pcre2_get_error_message(fault, message, sizeof(message));
		return sp_err_set(err, SP_E_UNSUPPORTED, "pattern: %s at byte %zu of %.200s",
		    (const char *)message, (size_t)at, (const char *)text->data);
	}
	*out = sp_xcalloc(1, sizeof(**out));
	(*out)->code = compiled;
	/* where executable memory is forbidden, pcre2_match interprets instead */
	(*out)->is_jit = pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE) == 0;
	return SP_OK;
}

enum sp_code
sp_pattern_compile(const char *text, struct sp_pattern **out, struct sp_err *err)
{
	struct reader r = {.text = text, .at = text};
	enum sp_code code;

	*out = NULL;
	if ((code = translate(&r, err)) == SP_OK)
		code = compile(&r.out, PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, out, err);
	sp_buf_free(&r.out);
	return code;
}

enum sp_code
sp_pattern_compile_text(const char *text, struct sp_pattern **out, struct sp_err *err)
{
	struct sp_buf literal = {0};
	enum sp_code code;

	*out = NULL;
	sp_buf_puts(&literal, text);
	code = compile(&literal, PCRE2_LITERAL, out, err);
	sp_buf_free(&literal);
	return code;
}

enum sp_code
sp_pattern_compile_word(struct sp_pattern **out, struct sp_err *err)
{
	struct reader r = {.in_class = 1};
	struct sp_buf *text = &r.out;
	enum sp_code code = SP_OK;

	*out = NULL;
	sp_buf_puts(text, "[\\p{Alphabetic}\\p{Pc}\\p{Join_Control}");
	for (const char *name = "L\0M\0Nd\0Nl\0"; code == SP_OK && *name != '\0';
	     name += strlen(name) + 1)
		code = put_category(&r, name, strlen(name), 0, err);
	sp_buf_puts(text, "]");
	if (code == SP_OK)
		code = compile(text, PCRE2_UCP, out, err);
	sp_buf_free(text);
	return code;
}

void
sp_pattern_free(struct sp_pattern **pattern)
{
	if (*pattern == NULL)
		return;
	pcre2_code_free((*pattern)->code);
	free(*pattern);
	*pattern = NULL;
}

enum sp_code
sp_pattern_work_new(struct sp_pattern_work **out, struct sp_err *err)
{
	struct sp_pattern_work *work = sp_xcalloc(1, sizeof(*work));

	*out = NULL;
	work->match = pcre2_match_data_create(1, NULL);
	work->context = pcre2_match_context_create(NULL);
	work->stack = pcre2_jit_stack_create((size_t)32 << 10, (size_t)8 << 20, NULL);
	if (work->match == NULL || work->context == NULL) {
		sp_pattern_work_free(&work);
		return sp_err_set(err, SP_E_NO_MEMORY, "work memory of a pattern");
	}
	if (work->stack != NULL)
		pcre2_jit_stack_assign(work->context, NULL, work->stack);
	*out = work;
	return SP_OK;
}

void
sp_pattern_work_free(struct sp_pattern_work **work)
{
	if (*work == NULL)
		return;
	pcre2_match_data_free((*work)->match);
	pcre2_match_context_free((*work)->context);
	pcre2_jit_stack_free((*work)->stack);
	free(*work);
	*work = NULL;
}

enum sp_code
sp_pattern_find(const struct sp_pattern *pattern, struct sp_pattern_work *work, const char *text,
    size_t len, size_t from, size_t *start, size_t *end, struct sp_err *err)
{
	const PCRE2_SIZE *at = pcre2_get_ovector_pointer(work->match);
	size_t left = len - from, most = (UINT32_MAX - STEPS_LEAST) / STEPS_PER_BYTE;
	PCRE2_UCHAR message[128];
	int rc;

	pcre2_set_match_limit(
	    work->context, STEPS_LEAST + STEPS_PER_BYTE * (uint32_t)(left < most ? left : most));
	rc = pattern->is_jit ? pcre2_jit_match(pattern->code, (PCRE2_SPTR)text, len, from, 0,
				   work->match, work->context)
			     : pcre2_match(pattern->code, (PCRE2_SPTR)text, len, from,
				   PCRE2_NO_UTF_CHECK, work->match, work->context);
	*start = *end = len + 1;
	if (rc == PCRE2_ERROR_NOMATCH)
		return SP_OK;
	if (rc < 0) {
		pcre2_get_error_message(rc, message, sizeof(message));
		return sp_err_set(err, SP_E_LIMIT, "the split pattern gave up after byte %zu: %s",
		    from, (const char *)message);
	}
	*start = at[0];
	*end = at[1];
	return SP_OK;
}
