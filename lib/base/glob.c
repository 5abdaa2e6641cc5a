/* glob.c -- patterns of paths. */
#include "base/glob.h"
#include "base/path.h"

#include <stdint.h>
#include <string.h>

/* A character: a code point where the bytes are UTF-8, else the one byte. */
static uint32_t
take(const char **text)
{
	const unsigned char *s = (const unsigned char *)*text;
	int n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : s[0] >= 0xc0 ? 2 : 1, i;
	uint32_t c = n == 1 ? s[0] : s[0] & (0xffu >> (n + 1));

	for (i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80) {
			*text += 1;
			return s[0];
		}
		c = c << 6 | (s[i] & 0x3f);
	}
	*text += n;
	return c;
}

/* The ']' that closes the set whose inside begins at p; NULL: that '[' is a character as others. */
static const char *
set_end(const char *p)
{
	if (*p == '!')
		p++;
	return *p != '\0' ? strchr(p + 1, ']') : NULL;
}

/* A '-' between two characters makes a range; one at either end, or behind a range, is itself. */
static int
in_set(const char *p, const char *end, uint32_t c)
{
	int negated = *p == '!', found = 0;
	uint32_t low, high;

	if (negated)
		p++;
	while (p < end) {
		low = high = take(&p);
		if (end - p >= 2 && *p == '-') {
			p++;
			high = take(&p);
		}
		found |= low <= c && c <= high;
	}
	return found != negated;
}

/* Whether c is what the pattern has at *p, which is no '*'; *p goes on behind it. */
static int
matches_one(const char **p, uint32_t c)
{
	const char *end;
	int found;

	if (**p == '?') {
		(*p)++;
		return 1;
	}
	end = **p == '[' ? set_end(*p + 1) : NULL;
	if (end == NULL)
		return take(p) == c;
	found = in_set(*p + 1, end, c);
	*p = end + 1;
	return found;
}

static int
match(const char *p, const char *s)
{
	/* where to go on when what follows the last '*' did not match: one character further */
	const char *star = NULL, *from = NULL;
	uint32_t c;

	while (*s != '\0') {
		if (*p == '*') {
			star = ++p;
			from = s;
			continue;
		}
		c = take(&s);
		if (*p != '\0' && matches_one(&p, c))
			continue;
		if (star == NULL)
			return 0;
		p = star;
		s = from;
		take(&s);
		from = s;
	}
	while (*p == '*')
		p++;
	return *p == '\0';
}

int
sp_glob_match(const char *pattern, const char *path)
{
	size_t len = strnlen(pattern, SP_GLOB_MAX + 1);
	char below[SP_GLOB_MAX + 2];

	if (len == 0 || len > SP_GLOB_MAX)
		return 0;
	if (pattern[len - 1] != '/')
		return match(pattern, path);
	memcpy(below, pattern, len);
	memcpy(below + len, "*", 2);
	return match(below, path);
}

enum sp_code
sp_glob_check(const char *pattern, struct sp_err *err)
{
	size_t len = strnlen(pattern, SP_GLOB_MAX + 1), i;

	if (len == 0)
		return sp_err_set(err, SP_E_INVALID, "pattern is empty: it would match nothing");
	if (len > SP_GLOB_MAX)
		return sp_err_set(err, SP_E_LIMIT, "pattern is longer than %d bytes", SP_GLOB_MAX);
	for (i = 0; i < len; i++)
		if ((unsigned char)pattern[i] < 0x20 || pattern[i] == 0x7f)
			break;
	if (i < len || !sp_path_is_utf8(pattern, len))
		return sp_err_set(
		    err, SP_E_INVALID, "pattern is not UTF-8, or has a control character");
	if (strchr(pattern, '\\') != NULL)
		return sp_err_set(err, SP_E_INVALID,
		    "pattern \"%s\" has a backslash, which quotes nothing and is in no path",
		    pattern);
	if (pattern[0] == '/' || strncmp(pattern, "./", 2) == 0)
		return sp_err_set(err, SP_E_INVALID,
		    "pattern \"%s\" would match nothing: paths in a repository begin with neither "
		    "'/' nor \"./\"",
		    pattern);
	return SP_OK;
}
