/* err.c -- error codes, their words, and messages for people. */
#include "base/err.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *word;
	int retry;
} codes[] = {
#define X(id, word, retry) [id] = {word, retry},
    SP_CODES(X)
#undef X
};

/* Copies text into msg; text that does not fit ends before the UTF-8 character that is cut. */
static void
put_msg(struct sp_err *err, const char *text)
{
	size_t len = strlen(text);

	if (len >= sizeof(err->msg)) {
		len = sizeof(err->msg) - 1;
		while (len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80)
			len--;
	}
	memcpy(err->msg, text, len);
	err->msg[len] = '\0';
}

/* Formats into a buffer of its own, because arguments may point into err->msg. */
static enum sp_code
put(struct sp_err *err, enum sp_code code, const char *fmt, va_list ap, const char *tail)
{
	char head[SP_ERR_MSG_MAX * 2], text[SP_ERR_MSG_MAX * 4];

	if (err == NULL)
		return code;
	vsnprintf(head, sizeof(head), fmt, ap);
	snprintf(
	    text, sizeof(text), "%s%s%s", head, tail != NULL ? ": " : "", tail != NULL ? tail : "");
	err->code = code;
	put_msg(err, text);
	return code;
}

enum sp_code
sp_err_set(struct sp_err *err, enum sp_code code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	put(err, code, fmt, ap, NULL);
	va_end(ap);
	return code;
}

enum sp_code
sp_err_errno(struct sp_err *err, const char *fmt, ...)
{
	int saved = errno;
	enum sp_code code;
	char reason[128];
	va_list ap;

	switch (saved) {
	case ENOSPC:
	case EDQUOT:
		code = SP_E_NO_SPACE;
		break;
	case ENOENT:
		code = SP_E_NOT_FOUND;
		break;
	case EEXIST:
		code = SP_E_EXISTS;
		break;
	case ENOMEM:
		code = SP_E_NO_MEMORY;
		break;
	default:
		code = SP_E_IO;
		break;
	}
	va_start(ap, fmt);
	put(err, code, fmt, ap, strerror_r(saved, reason, sizeof(reason)));
	va_end(ap);
	errno = saved;
	return code;
}

enum sp_code
sp_err_prefix(struct sp_err *err, const char *fmt, ...)
{
	char old[SP_ERR_MSG_MAX];
	va_list ap;

	if (err == NULL)
		return SP_E_INTERNAL;
	memcpy(old, err->msg, sizeof(old));
	va_start(ap, fmt);
	put(err, err->code, fmt, ap, old);
	va_end(ap);
	return err->code;
}

enum sp_code
sp_err_suffix(struct sp_err *err, const char *fmt, ...)
{
	va_list ap;
	size_t len;

	if (err == NULL)
		return SP_E_INTERNAL;
	len = strlen(err->msg);
	va_start(ap, fmt);
	vsnprintf(err->msg + len, sizeof(err->msg) - len, fmt, ap);
	va_end(ap);
	return err->code;
}

const char *
sp_err_word(enum sp_code code)
{
	if ((int)code < 0 || code >= SP_CODE_COUNT)
		code = SP_E_INTERNAL;
	return codes[code].word;
}

enum sp_code
sp_err_from_word(const char *word)
{
	int i;

	for (i = 0; i < SP_CODE_COUNT; i++)
		if (strcmp(codes[i].word, word) == 0)
			return (enum sp_code)i;
	return SP_E_INTERNAL;
}

int
sp_err_may_retry(enum sp_code code)
{
	if ((int)code < 0 || code >= SP_CODE_COUNT)
		code = SP_E_INTERNAL;
	return codes[code].retry;
}

void
sp_err_abort(const char *file, int line, const char *text)
{
	fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, text);
	fflush(stderr);
	abort();
}

static void *
must_have(void *p)
{
	if (p == NULL)
		sp_err_abort(__FILE__, __LINE__, "out of memory");
	return p;
}

void *
sp_xcalloc(size_t count, size_t size)
{
	/* one byte at least: NULL never stands for an empty array */
	return must_have(calloc(count != 0 ? count : 1, size != 0 ? size : 1));
}

void *
sp_xrealloc(void *old, size_t count, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(count, size, &bytes))
		return must_have(NULL);
	return must_have(realloc(old, bytes != 0 ? bytes : 1));
}

char *
sp_xstrdup(const char *text)
{
	return must_have(strdup(text));
}

char *
sp_xvasprintf(const char *fmt, va_list ap)
{
	char *text = NULL;
	int len = vasprintf(&text, fmt, ap);

	return must_have(len >= 0 ? text : NULL);
}

char *
sp_xasprintf(const char *fmt, ...)
{
	va_list ap;
	char *text;

	va_start(ap, fmt);
	text = sp_xvasprintf(fmt, ap);
	va_end(ap);
	return text;
}
