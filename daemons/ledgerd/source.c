/* source.c -- SOURCE: scheme, repository, revision. */
#include "source.h"
#include "base/path.h"

#include <stdio.h>
#include <string.h>

#define REVISION_MAX 200

static const struct {
	const char *scheme;
	enum sp_recipe recipe;
	int needs_revision;
} schemes[] = {
    {"hf:", SP_RECIPE_MODEL, 0},
    {"hf-dataset:", SP_RECIPE_DATASET, 0},
    {"github:", SP_RECIPE_FILE, 1},
    {"image:", SP_RECIPE_IMAGE, 0},
};

/* A branch, tag or commit: what git allows of [A-Za-z0-9._/+-], without ".." and "//". */
static int
is_revision(const char *text)
{
	size_t len = strlen(text);

	return len >= 1 && len <= REVISION_MAX && text[0] != '-' && text[0] != '/' &&
	       text[len - 1] != '/' && strstr(text, "..") == NULL && strstr(text, "//") == NULL &&
	       strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
			    "0123456789._/+-") == len;
}

static enum sp_code
parse_repo(const char *rest, int needs_revision, struct ledgerd_source *out, struct sp_err *err)
{
	const char *at = strchr(rest, '@');
	size_t len = at != NULL ? (size_t)(at - rest) : strlen(rest);

	if (len >= sizeof(out->repo))
		return sp_err_set(err, SP_E_LIMIT, "source: repository name too long");
	memcpy(out->repo, rest, len);
	out->repo[len] = '\0';
	if (at == NULL && needs_revision)
		return sp_err_set(err, SP_E_INVALID,
		    "source: \"github:%s\" names no release: add @TAG", out->repo);
	if (at != NULL && !is_revision(at + 1))
		return sp_err_set(err, SP_E_INVALID,
		    "source: behind @ must stand a branch, tag or commit of 1 to %d characters "
		    "A-Z a-z 0-9 . _ / + -",
		    REVISION_MAX);
	return sp_path_check_repo(out->repo, err);
}

/* A first segment with a dot or a colon, or "localhost", is a registry's host. */
static const char *
skip_host(const char *ref)
{
	const char *slash = strchr(ref, '/');
	size_t len = slash != NULL ? (size_t)(slash - ref) : 0;

	if (slash == NULL)
		return ref;
	if (memchr(ref, '.', len) != NULL || memchr(ref, ':', len) != NULL ||
	    (len == 9 && memcmp(ref, "localhost", 9) == 0))
		return slash + 1;
	return ref;
}

static enum sp_code
parse_image(const char *rest, struct ledgerd_source *out, struct sp_err *err)
{
	const char *name = skip_host(rest), *at = strchr(name, '@'), *colon;
	size_t len = strcspn(name, ":@");

	if (strspn(rest, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
			 "0123456789._/:@-") != strlen(rest))
		return sp_err_set(err, SP_E_INVALID,
		    "source: an image is named [HOST/][ORG/]NAME[:TAG][@sha256:HEX]");
	if (at != NULL && (strncmp(at, "@sha256:", 8) != 0 || !sp_hex_is_digest(at + 8)))
		return sp_err_set(err, SP_E_INVALID,
		    "source: behind an image's @ must stand sha256: and 64 lower-case hex digits");
	colon = memchr(name, ':', at != NULL ? (size_t)(at - name) : strlen(name));
	if (colon != NULL && (at != NULL ? at - colon < 2 : colon[1] == '\0'))
		return sp_err_set(err, SP_E_INVALID, "source: the image's tag is empty");
	if (len >= sizeof(out->repo))
		return sp_err_set(err, SP_E_LIMIT, "source: image name too long");
	memcpy(out->repo, name, len);
	out->repo[len] = '\0';
	return sp_path_check_repo(out->repo, err);
}

enum sp_code
ledgerd_source_parse(const char *source, struct ledgerd_source *out, struct sp_err *err)
{
	size_t i, n;

	memset(out, 0, sizeof(*out));
	if (strlen(source) > SP_SOURCE_MAX)
		return sp_err_set(err, SP_E_LIMIT, "source: longer than %d bytes", SP_SOURCE_MAX);
	for (i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
		n = strlen(schemes[i].scheme);
		if (strncmp(source, schemes[i].scheme, n) != 0)
			continue;
		out->recipe = schemes[i].recipe;
		if (out->recipe == SP_RECIPE_IMAGE)
			return parse_image(source + n, out, err);
		return parse_repo(source + n, schemes[i].needs_revision, out, err);
	}
	return sp_err_set(err, SP_E_INVALID,
	    "source: must begin with hf:, hf-dataset:, github: or image:, as in hf:org/name@rev");
}
