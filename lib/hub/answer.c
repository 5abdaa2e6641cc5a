/* answer.c -- a hub's JSON, Link fields and errors. */
#include "hub/answer.h"
#include "base/json.h"
#include "base/path.h"
#include "base/source.h"
#include "http/url.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* --- a model ------------------------------------------------------------------------------------
 */

/* Text for people and logs: printable ASCII, cut to what fits. */
static void
copy_plain(char *to, size_t size, const char *from)
{
	size_t n = 0;

	for (; *from != '\0' && n + 1 < size; from++)
		to[n++] = *from >= 0x20 && *from < 0x7f ? *from : '?';
	to[n] = '\0';
}

/* copy_plain, and what is cut ends in "...": it is never taken for another word. */
static void
copy_word(char *to, size_t size, const char *from)
{
	copy_plain(to, size, from);
	if (strlen(from) >= size)
		memcpy(to + size - 4, "...", 4);
}

/* A word, or "word (name)", behind those there are; they hold no comma, which separates them. */
static void
add_licence(struct sp_answer_model *out, const char *word, const char *name)
{
	static const char more[] = ", ...";
	size_t used = strlen(out->licence), len;
	char text[192];

	copy_word(text, 96, word);
	if (name != NULL) {
		len = strlen(text);
		text[len++] = ' ';
		text[len++] = '(';
		copy_word(text + len, sizeof(text) - len - 1, name);
		strcat(text, ")");
	}
	for (char *p = text; *p != '\0'; p++)
		*p = *p != ',' ? *p : '?';
	if (text[0] == '\0' || (used >= sizeof(more) - 1 &&
				   strcmp(out->licence + used - (sizeof(more) - 1), more) == 0))
		return;
	if (used + 2 + strlen(text) + sizeof(more) <= sizeof(out->licence))
		snprintf(out->licence + used, sizeof(out->licence) - used, "%s%s",
		    used > 0 ? ", " : "", text);
	else
		strcpy(out->licence + used, more);
}

/* cardData.license: a word or a list of words; else the tags "license:WORD". */
static void
find_licence(const json_t *model, struct sp_answer_model *out)
{
	json_t *card = json_object_get(model, "cardData"), *licence, *name, *tags, *tag;
	size_t i;

	licence = json_object_get(card, "license");
	name = json_object_get(card, "license_name");
	if (json_is_string(licence))
		add_licence(out, json_string_value(licence), json_string_value(name));
	json_array_foreach(licence, i, tag)
	{
		if (json_is_string(tag))
			add_licence(out, json_string_value(tag), NULL);
	}
	if (out->licence[0] != '\0')
		return;
	tags = json_object_get(model, "tags");
	json_array_foreach(tags, i, tag)
	{
		if (json_is_string(tag) && strncmp(json_string_value(tag), "license:", 8) == 0)
			add_licence(out, json_string_value(tag) + 8, NULL);
	}
}

enum sp_code
sp_answer_model_parse(
    const uint8_t *data, size_t len, struct sp_answer_model *out, struct sp_err *err)
{
	json_t *root = NULL, *gated;
	const char *sha;
	enum sp_code code;

	memset(out, 0, sizeof(*out));
	code = sp_json_parse(data, len, "the hub's answer about the model", &root, err);
	if (code != SP_OK)
		return code;
	code = sp_json_string(root, "sha", &sha, err);
	if (code != SP_OK)
		goto out;
	if (!sp_source_is_commit(sha)) {
		code = sp_err_set(
		    err, SP_E_INVALID, "field \"sha\" is no commit of 40 lower-case hex digits");
		goto out;
	}
	memcpy(out->commit.s, sha, sizeof(out->commit.s));
	out->disabled = json_is_true(json_object_get(root, "disabled"));
	gated = json_object_get(root, "gated");
	if (json_is_string(gated))
		copy_plain(out->gated, sizeof(out->gated), json_string_value(gated));
	else
		strcpy(out->gated, json_is_true(gated) ? "manual" : "no");
	find_licence(root, out);
out:
	json_decref(root);
	return code;
}

/* --- a listing ----------------------------------------------------------------------------------
 */

void
sp_answer_tree_clear(struct sp_answer_tree *tree)
{
	for (size_t i = 0; i < tree->count; i++)
		free(tree->files[i].path);
	free(tree->files);
	memset(tree, 0, sizeof(*tree));
}

/* "lfs": {"oid": SHA-256, "size": N, "pointerSize": N} */
static enum sp_code
parse_lfs(const json_t *lfs, struct sp_answer_file *file, struct sp_err *err)
{
	enum sp_code code;
	const char *oid;
	int64_t size;

	code = sp_json_string(lfs, "oid", &oid, err);
	if (code == SP_OK)
		code = sp_json_integer(lfs, "size", 0, INT64_MAX, &size, err);
	if (code != SP_OK)
		return code;
	if (!sp_hex_is_digest(oid))
		return sp_err_set(err, SP_E_INVALID, "field \"lfs.oid\" is no SHA-256 in hex");
	if ((uint64_t)size != file->size)
		return sp_err_set(err, SP_E_INVALID, "fields \"size\" and \"lfs.size\" differ");
	memcpy(file->sha256.s, oid, sizeof(file->sha256.s));
	file->lfs = 1;
	return SP_OK;
}

static enum sp_code
parse_file(const json_t *entry, struct sp_answer_file *file, struct sp_err *err)
{
	json_t *lfs = json_object_get(entry, "lfs");
	enum sp_code code;
	const char *oid;
	int64_t size;

	code = sp_json_integer(entry, "size", 0, INT64_MAX, &size, err);
	if (code == SP_OK)
		code = sp_json_string(entry, "oid", &oid, err);
	if (code != SP_OK)
		return code;
	if (!sp_source_is_commit(oid))
		return sp_err_set(
		    err, SP_E_INVALID, "field \"oid\" is no git object id of 40 hex digits");
	file->size = (uint64_t)size;
	memcpy(file->oid.s, oid, sizeof(file->oid.s));
	if (lfs == NULL || json_is_null(lfs))
		return SP_OK;
	return parse_lfs(lfs, file, err);
}

static void
leave_out(const json_t *entry, struct sp_answer_tree *tree)
{
	json_int_t size = json_integer_value(json_object_get(entry, "size"));

	tree->left_out++;
	if (size > 0)
		tree->left_out_bytes = (uint64_t)size <= UINT64_MAX - tree->left_out_bytes
					   ? tree->left_out_bytes + (uint64_t)size
					   : UINT64_MAX;
}

static enum sp_code
parse_entry(const json_t *entry, struct sp_answer_tree *tree, struct sp_err *err)
{
	struct sp_answer_file file = {0};
	const char *type, *path;
	enum sp_code code;

	if (++tree->listed > SP_ANSWER_ENTRIES_MAX)
		return sp_err_set(err, SP_E_LIMIT,
		    "the repository has more than %d files and directories", SP_ANSWER_ENTRIES_MAX);
	code = sp_json_string(entry, "type", &type, err);
	if (code == SP_OK)
		code = sp_json_string(entry, "path", &path, err);
	if (code == SP_OK)
		code = sp_path_check(path, err);
	if (code != SP_OK || strcmp(type, "directory") == 0)
		return code;
	if (tree->keeps != NULL && !tree->keeps(tree->ctx, path)) {
		leave_out(entry, tree);
		return SP_OK;
	}
	if (strcmp(type, "file") != 0)
		return sp_err_set(err, SP_E_UNSUPPORTED,
		    "\"%s\" is neither a file nor a directory: only regular files are taken; "
		    "fetch.ignore of the profile can leave it out",
		    path);
	code = parse_file(entry, &file, err);
	if (code != SP_OK)
		return err != NULL ? sp_err_prefix(err, "\"%s\"", path) : code;
	if (tree->count >= SP_TREE_FILES_MAX)
		return sp_err_set(err, SP_E_LIMIT,
		    "the repository has more than %d files to be taken", SP_TREE_FILES_MAX);
	if (file.size > (uint64_t)INT64_MAX - tree->bytes)
		return sp_err_set(err, SP_E_LIMIT, "sizes of the files exceed 63 bits");
	if (tree->count == tree->cap) {
		tree->cap = tree->cap > 0 ? 2 * tree->cap : 64;
		tree->files = sp_xrealloc(tree->files, tree->cap, sizeof(*tree->files));
	}
	file.path = sp_xstrdup(path);
	tree->bytes += file.size;
	tree->files[tree->count++] = file;
	return SP_OK;
}

enum sp_code
sp_answer_tree_parse(
    const uint8_t *data, size_t len, struct sp_answer_tree *tree, struct sp_err *err)
{
	json_t *root = NULL, *entry;
	enum sp_code code;
	size_t i;

	code = sp_json_parse(data, len, "the hub's list of files", &root, err);
	if (code != SP_OK)
		return code;
	if (!json_is_array(root))
		code = sp_err_set(err, SP_E_INVALID, "the hub's list of files is no JSON array");
	json_array_foreach(root, i, entry)
	{
		code = parse_entry(entry, tree, err);
		if (code == SP_OK)
			continue;
		if (err != NULL)
			sp_err_prefix(err, "the hub's list of files: entry %zu", i);
		break;
	}
	json_decref(root);
	return code;
}

/* --- Link ---------------------------------------------------------------------------------------
 */

/* 1 when the parameters [p, end) of a link have rel=next, or rel="… next …". */
static int
is_next(const char *p, const char *end)
{
	const char *word;
	size_t n;

	while (p < end) {
		p += strspn(p, "; \t");
		if (end - p < 4 || strncasecmp(p, "rel=", 4) != 0) {
			while (p < end && *p != ';')
				p++;
			continue;
		}
		p += 4;
		if (p < end && *p == '"')
			p++;
		for (word = p; word < end && *word != '"' && *word != ';'; word += n) {
			word += strspn(word, " ");
			n = strcspn(word, " \";,");
			if (n == 4 && strncasecmp(word, "next", 4) == 0)
				return 1;
			if (n == 0)
				break;
		}
		return 0;
	}
	return 0;
}

enum sp_code
sp_answer_next(const char *link, const char *base, char **next, struct sp_err *err)
{
	const char *p = link, *close, *end;
	enum sp_code code = SP_OK;
	char *url = NULL, *to;
	int quoted;

	*next = NULL;
	while (p != NULL && (p = strchr(p, '<')) != NULL) {
		close = strchr(p, '>');
		if (close == NULL)
			return sp_err_set(err, SP_E_INVALID, "field Link of the hub is malformed");
		for (end = close + 1, quoted = 0; *end != '\0' && (quoted || *end != ','); end++)
			quoted ^= *end == '"';
		if (is_next(close + 1, end)) {
			url = sp_xasprintf("%.*s", (int)(close - p - 1), p + 1);
			break;
		}
		p = *end != '\0' ? end + 1 : NULL;
	}
	if (url == NULL)
		return SP_OK;
	to = sp_url_resolve(base, url);
	if (to == NULL || !sp_url_same_origin(to, base)) {
		code = sp_err_set(err, SP_E_DENIED,
		    "the list of files goes on at another host than the hub's, which is not "
		    "followed");
		free(to);
	} else {
		*next = to;
	}
	free(url);
	return code;
}

/* --- errors -------------------------------------------------------------------------------------
 */

#define TOKEN "fetcherd.token_file (or the credential hf-token)"

static int
is(const char *value, const char *word)
{
	return value != NULL && strcmp(value, word) == 0;
}

static enum sp_code
fail_later(
    const struct sp_answer_failure *f, const char *what, const char *host, struct sp_err *err)
{
	char wait[64] = "", limit[64] = "";

	if (f->retry_after != NULL)
		copy_plain(wait, sizeof(wait), f->retry_after);
	if (f->rate_limit != NULL)
		copy_plain(limit, sizeof(limit), f->rate_limit);
	return sp_err_set(err, SP_E_UNREACHABLE, "%s: %s answers with status %ld for now%s%s%s%s",
	    what, host, f->status, wait[0] != '\0' ? "; it says to retry after " : "", wait,
	    limit[0] != '\0' ? "; its limit: " : "", limit);
}

/* Who may see it: 401 where it asks who we are, 403 where that is not enough. */
static enum sp_code
fail_access(const struct sp_answer_failure *f, const char *what, const char *host, const char *said,
    struct sp_err *err)
{
	const char *separator = said[0] != '\0' ? ", " : "";

	if (!f->with_token)
		return sp_err_set(err, SP_E_DENIED,
		    "%s: %s wants to know who asks (status %ld%s%s): set " TOKEN, what, host,
		    f->status, separator, said);
	if (f->status == 401)
		return sp_err_set(err, SP_E_DENIED,
		    "%s: %s does not accept the token (status %ld%s%s): it may have expired; put a "
		    "new one into " TOKEN,
		    what, host, f->status, separator, said);
	return sp_err_set(err, SP_E_DENIED,
	    "%s: the token does not reach so far at %s (status %ld%s%s): it needs the right to "
	    "read this repository",
	    what, host, f->status, separator, said);
}

static enum sp_code
fail_missing(
    const struct sp_answer_failure *f, const char *what, const char *host, struct sp_err *err)
{
	const char *kind = strncmp(what, "hf:", 3) == 0 ? "a data set is named hf-dataset:"
							: "a model is named hf:";

	return sp_err_set(err, SP_E_NOT_FOUND,
	    f->with_token ? "%s: %s has no such repository, or it is private and the token does "
			    "not reach it: check the name (%s...)"
			  : "%s: %s has no such repository, or it is private: check the name "
			    "(%s...), or set " TOKEN,
	    what, host, kind);
}

enum sp_code
sp_answer_fail(
    const struct sp_answer_failure *f, const char *what, const char *host, struct sp_err *err)
{
	char said[160] = "";

	if (f->error_message != NULL)
		copy_plain(said, sizeof(said), f->error_message);
	if (f->status == 408 || f->status == 429 || f->status >= 500)
		return fail_later(f, what, host, err);
	if (is(f->error_code, "GatedRepo"))
		return sp_err_set(err, SP_E_DENIED,
		    f->with_token ? "%s is gated at %s, and the token's account has no access: "
				    "accept its conditions there with that account"
				  : "%s is gated at %s: accept its conditions there, and set " TOKEN
				    " to a token of that account",
		    what, host);
	if (is(f->error_message, "Access to this resource is disabled."))
		return sp_err_set(err, SP_E_DENIED,
		    "%s is disabled at %s: only its owner or the hub can change that", what, host);
	if (is(f->error_code, "RevisionNotFound"))
		return sp_err_set(err, SP_E_NOT_FOUND,
		    "%s: %s has the repository, but not this revision: name a branch, tag or "
		    "commit that it has",
		    what, host);
	if (is(f->error_code, "EntryNotFound"))
		return sp_err_set(err, SP_E_NOT_FOUND, "%s: %s has no such file", what, host);
	if (is(f->error_code, "RepoNotFound") || f->status == 404)
		return fail_missing(f, what, host, err);
	if (f->status == 401 || f->status == 403)
		return fail_access(f, what, host, said, err);
	return sp_err_set(err, SP_E_UNSUPPORTED, "%s: %s answers with status %ld%s%s", what, host,
	    f->status, said[0] != '\0' ? ": " : "", said);
}
