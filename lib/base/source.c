/* source.c -- SOURCE: scheme, repository, revision. */
#include "base/source.h"
#include "base/hash.h"
#include "base/path.h"

#include <string.h>

#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

static const char *const words[] = {[SP_SOURCE_HF] = "hf",
    [SP_SOURCE_HF_DATASET] = "hf-dataset",
    [SP_SOURCE_GITHUB] = "github",
    [SP_SOURCE_IMAGE] = "image"};

const char *
sp_source_word(enum sp_source_scheme scheme)
{
	return words[scheme];
}

int
sp_source_is_commit(const char *text)
{
	uint8_t oid[20];

	return sp_hex_decode(text, oid, sizeof(oid)) == SP_OK;
}

/* --- repositories -------------------------------------------------------------------------------
 */

/* What git allows in the name of a branch or tag (git-check-ref-format), of ASCII alone; "HEAD~1"
 * and the like are no names. */
static enum sp_code
check_revision(const char *revision, struct sp_err *err)
{
	size_t len = strlen(revision), i;

	if (len == 0)
		return sp_err_set(err, SP_E_INVALID, "source: the revision behind '@' is empty");
	if (len > SP_NAME_MAX)
		return sp_err_set(
		    err, SP_E_LIMIT, "source: the revision is longer than %d bytes", SP_NAME_MAX);
	for (i = 0; i < len; i++)
		if ((unsigned char)revision[i] <= ' ' || (unsigned char)revision[i] >= 0x7f ||
		    strchr("~^:?*[\\", revision[i]) != NULL)
			return sp_err_set(err, SP_E_INVALID,
			    "source: the revision has a character that is in no name of a branch "
			    "or tag: a commit's 40 hex digits always do");
	if (revision[0] == '/' || revision[len - 1] == '/' || revision[0] == '-' ||
	    strstr(revision, "..") != NULL || strstr(revision, "//") != NULL ||
	    strstr(revision, "@{") != NULL)
		return sp_err_set(err, SP_E_INVALID,
		    "source: \"%s\" is no name of a branch, tag or commit", revision);
	return SP_OK;
}

static enum sp_code
take_repo(const char *text, size_t len, struct sp_source *out, struct sp_err *err)
{
	enum sp_code code;

	if (len > SP_NAME_MAX)
		return sp_err_set(
		    err, SP_E_LIMIT, "source: the name is longer than %d bytes", SP_NAME_MAX);
	memcpy(out->repo, text, len);
	out->repo[len] = '\0';
	code = sp_path_check_repo(out->repo, err);
	if (code != SP_OK && err != NULL)
		sp_err_prefix(err, "source");
	return code;
}

static enum sp_code
parse_repo(const char *rest, struct sp_source *out, struct sp_err *err)
{
	const char *at = strchr(rest, '@');
	enum sp_code code;

	code = take_repo(rest, at != NULL ? (size_t)(at - rest) : strlen(rest), out, err);
	if (code == SP_OK && at == NULL && out->scheme == SP_SOURCE_GITHUB)
		code = sp_err_set(err, SP_E_INVALID,
		    "source: \"github:%s\" names no release: add @TAG", out->repo);
	if (code == SP_OK && at != NULL)
		code = check_revision(at + 1, err);
	if (code == SP_OK)
		strcpy(out->revision, at != NULL ? at + 1 : "main");
	return code;
}

/* --- images -------------------------------------------------------------------------------------
 */

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
parse_image(const char *rest, struct sp_source *out, struct sp_err *err)
{
	const char *name = skip_host(rest), *at = strchr(name, '@'), *colon;

	if (strspn(rest, LETTERS "._/:@-") != strlen(rest))
		return sp_err_set(err, SP_E_INVALID,
		    "source: an image is named [HOST/][ORG/]NAME[:TAG][@sha256:HEX]");
	if (at != NULL && (strncmp(at, "@sha256:", 8) != 0 || !sp_hex_is_digest(at + 8)))
		return sp_err_set(err, SP_E_INVALID,
		    "source: behind an image's @ must stand sha256: and 64 lower-case hex digits");
	colon = memchr(name, ':', at != NULL ? (size_t)(at - name) : strlen(name));
	if (colon != NULL && (at != NULL ? at - colon < 2 : colon[1] == '\0'))
		return sp_err_set(err, SP_E_INVALID, "source: the image's tag is empty");
	return take_repo(name, strcspn(name, ":@"), out, err);
}

enum sp_code
sp_source_parse(const char *text, struct sp_source *out, struct sp_err *err)
{
	size_t i, n;

	memset(out, 0, sizeof(*out));
	if (strlen(text) > SP_SOURCE_MAX)
		return sp_err_set(err, SP_E_LIMIT, "source: longer than %d bytes", SP_SOURCE_MAX);
	for (i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		n = strlen(words[i]);
		if (strncmp(text, words[i], n) != 0 || text[n] != ':')
			continue;
		out->scheme = (enum sp_source_scheme)i;
		return out->scheme == SP_SOURCE_IMAGE ? parse_image(text + n + 1, out, err)
						      : parse_repo(text + n + 1, out, err);
	}
	return sp_err_set(err, SP_E_UNSUPPORTED,
	    "source: must begin with hf:, hf-dataset:, github: or image:, as in hf:org/name@rev");
}
