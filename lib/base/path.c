/* path.c -- which paths and names may come in from outside, and joining. */
#include "base/path.h"
#include "base/limits.h"

#include <stdint.h>
#include <string.h>

/*
 * Bytes of the UTF-8 character at s (RFC 3629): 1 to 4, or 0 when s does not begin with a
 * well-formed one. The first byte narrows the range of the second, which shuts out overlong forms,
 * surrogates and everything above U+10FFFF.
 */
static size_t
utf8_len(const uint8_t *s, size_t len)
{
	uint8_t lo = 0x80, hi = 0xbf;
	size_t n, i;

	if (s[0] < 0x80)
		return 1;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return 0;
	n = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
	if (n > len)
		return 0;
	if (s[0] == 0xe0)
		lo = 0xa0;
	else if (s[0] == 0xed)
		hi = 0x9f;
	else if (s[0] == 0xf0)
		lo = 0x90;
	else if (s[0] == 0xf4)
		hi = 0x8f;
	if (s[1] < lo || s[1] > hi)
		return 0;
	for (i = 2; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	return n;
}

int
sp_path_is_utf8(const char *text, size_t len)
{
	const uint8_t *s = (const uint8_t *)text;
	size_t n;

	while (len > 0) {
		n = utf8_len(s, len);
		if (n == 0)
			return 0;
		s += n;
		len -= n;
	}
	return 1;
}

/* C0, DEL, and C1 (U+0080 to U+009F, in UTF-8 0xC2 0x80 to 0xC2 0x9F): terminals obey them. */
static int
has_control(const uint8_t *s, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++) {
		if (s[i] < 0x20 || s[i] == 0x7f)
			return 1;
		if (s[i] == 0xc2 && i + 1 < len && s[i + 1] <= 0x9f)
			return 1;
	}
	return 0;
}

enum sp_code
sp_path_check(const char *path, struct sp_err *err)
{
	size_t len = strnlen(path, SP_PATH_MAX + 1), n;
	const char *part = path;

	if (len == 0)
		return sp_err_set(err, SP_E_INVALID, "path is empty");
	if (len > SP_PATH_MAX)
		return sp_err_set(err, SP_E_LIMIT, "path is longer than %d bytes", SP_PATH_MAX);
	if (!sp_path_is_utf8(path, len))
		return sp_err_set(err, SP_E_INVALID, "path is not valid UTF-8");
	if (has_control((const uint8_t *)path, len))
		return sp_err_set(err, SP_E_INVALID, "path has a control character");
	if (strchr(path, '\\') != NULL)
		return sp_err_set(err, SP_E_INVALID, "path \"%s\" has a backslash", path);
	if (path[0] == '/')
		return sp_err_set(err, SP_E_INVALID, "path \"%s\" is not relative", path);
	for (;;) {
		n = strcspn(part, "/");
		if (n == 0)
			return sp_err_set(
			    err, SP_E_INVALID, "path \"%s\" has an empty component", path);
		if ((n == 1 && part[0] == '.') || (n == 2 && part[0] == '.' && part[1] == '.'))
			return sp_err_set(err, SP_E_INVALID, "path \"%s\" has a component \"%.*s\"",
			    path, (int)n, part);
		if (part[n] == '\0')
			return SP_OK;
		part += n + 1;
	}
}

static int
is_repo_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '.' || c == '_' || c == '-';
}

/* One segment of a repository name; returns the rule that it breaks, or NULL. */
static const char *
repo_segment_fault(const char *s, size_t len)
{
	size_t i;

	if (len == 0)
		return "an empty segment";
	if (len > 96)
		return "a segment longer than 96 bytes";
	for (i = 0; i < len; i++) {
		if (!is_repo_char(s[i]))
			return "a character other than A-Z a-z 0-9 . _ -";
		if (i > 0 && s[i] == s[i - 1] && (s[i] == '-' || s[i] == '.'))
			return "\"--\" or \"..\"";
	}
	if (s[0] == '.' || s[0] == '-')
		return "a segment that starts with '.' or '-'";
	if (s[len - 1] == '.' || s[len - 1] == '-')
		return "a segment that ends with '.' or '-'";
	return NULL;
}

/* Repeats the name only where a terminal shows it as it is. */
static enum sp_code
refuse_repo(const char *repo, const char *fault, struct sp_err *err)
{
	size_t len = strlen(repo);

	if (!sp_path_is_utf8(repo, len) || has_control((const uint8_t *)repo, len))
		return sp_err_set(
		    err, SP_E_INVALID, "repository name (org/name or name) has %s", fault);
	return sp_err_set(err, SP_E_INVALID,
	    "\"%.200s\" is not a repository name (org/name or name): it has %s", repo, fault);
}

enum sp_code
sp_path_check_repo(const char *repo, struct sp_err *err)
{
	const char *part = repo, *fault;
	int segments = 0;
	size_t n;

	for (;;) {
		n = strcspn(part, "/");
		fault = repo_segment_fault(part, n);
		if (fault == NULL && ++segments > 2)
			fault = "more than two segments";
		if (fault != NULL)
			return refuse_repo(repo, fault, err);
		if (part[n] == '\0')
			return SP_OK;
		part += n + 1;
	}
}

char *
sp_path_join(const char *root, const char *rest)
{
	size_t len = root != NULL ? strlen(root) : 0;

	while (len > 0 && root[len - 1] == '/')
		len--;
	return sp_xasprintf("%.*s%s%s", (int)len, len > 0 ? root : "",
	    rest[0] == '/' || (root == NULL || root[0] == '\0') ? "" : "/", rest);
}
