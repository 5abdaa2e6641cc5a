/* source.c -- hf:org/name[@rev] */
#include "hub/source.h"
#include "base/hash.h"
#include "base/path.h"

#include <string.h>

int
sp_source_is_commit(const char *text)
{
	uint8_t oid[20];

	return sp_hex_decode(text, oid, sizeof(oid)) == SP_OK;
}

/* What git allows in the name of a branch or tag (git-check-ref-format), roughly; "HEAD~1" and the
 * like are no names. */
static enum sp_code
check_revision(const char *revision, struct sp_err *err)
{
	size_t len = strlen(revision), i;

	if (len == 0)
		return sp_err_set(err, SP_E_INVALID, "revision after '@' is empty");
	if (len > SP_NAME_MAX)
		return sp_err_set(err, SP_E_LIMIT, "revision is longer than %d bytes", SP_NAME_MAX);
	for (i = 0; i < len; i++)
		if ((unsigned char)revision[i] <= ' ' || (unsigned char)revision[i] >= 0x7f ||
		    strchr("~^:?*[\\", revision[i]) != NULL)
			return sp_err_set(err, SP_E_INVALID,
			    "revision has a character that git allows in no branch or tag");
	if (revision[0] == '/' || revision[len - 1] == '/' || revision[0] == '-' ||
	    strstr(revision, "..") != NULL || strstr(revision, "//") != NULL)
		return sp_err_set(
		    err, SP_E_INVALID, "\"%s\" is no name of a branch, tag or commit", revision);
	return SP_OK;
}

enum sp_code
sp_source_parse(const char *text, struct sp_source *out, struct sp_err *err)
{
	const char *repo = text + 3, *at;
	enum sp_code code;
	size_t len;

	if (strncmp(text, "hf:", 3) != 0)
		return sp_err_set(err, SP_E_UNSUPPORTED,
		    "source \"%.200s\" is not of the form hf:org/name[@revision]", text);
	at = strchr(repo, '@');
	len = at != NULL ? (size_t)(at - repo) : strlen(repo);
	if (len > SP_NAME_MAX)
		return sp_err_set(
		    err, SP_E_LIMIT, "name of the repository is longer than %d bytes", SP_NAME_MAX);
	memset(out, 0, sizeof(*out));
	memcpy(out->repo, repo, len);
	code = sp_path_check_repo(out->repo, err);
	if (code != SP_OK)
		return code;
	if (at == NULL)
		at = "@main";
	code = check_revision(at + 1, err);
	if (code != SP_OK)
		return code;
	memcpy(out->revision, at + 1, strlen(at + 1) + 1);
	return SP_OK;
}
