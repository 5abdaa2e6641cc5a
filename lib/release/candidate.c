/* candidate.c -- what operators sign. */
#include "release/candidate.h"
#include "base/json.h"
#include "base/path.h"

#include <stdlib.h>
#include <string.h>

#define TYPE "sallyport-candidate/1"

char *
sp_candidate_format(const struct sp_candidate *c, size_t *len)
{
	json_t *root, *list = json_array();
	char *text;
	size_t i;

	for (i = 0; i < c->attestation_count; i++)
		json_array_append_new(list, json_string(c->attestations[i].s));
	root = json_pack("{s:o, s:s, s:s, s:s, s:s, s:s, s:s, s:I}", "attestations", list,
	    "destination", c->destination, "job", c->job, "kind", c->kind, "name", c->name, "tree",
	    c->tree.s, "type", TYPE, "version", (json_int_t)c->version);
	SP_ASSERT(root != NULL);
	text = sp_json_canonical(root, len);
	json_decref(root);
	return text;
}

/* Operators read these on a terminal before they sign: nothing that moves the cursor or hides. */
static enum sp_code
copy_text(const json_t *root, const char *key, char *out, size_t size, struct sp_err *err)
{
	const char *text;
	enum sp_code code;
	size_t i, len;

	code = sp_json_string(root, key, &text, err);
	if (code != SP_OK)
		return code;
	len = strlen(text);
	if (len == 0 || len >= size)
		return sp_err_set(
		    err, SP_E_INVALID, "field \"%s\" must be 1 to %zu bytes", key, size - 1);
	for (i = 0; i < len; i++)
		if ((unsigned char)text[i] <= ' ' || (unsigned char)text[i] >= 0x7f)
			return sp_err_set(err, SP_E_INVALID,
			    "field \"%s\" must be printable ASCII without spaces", key);
	memcpy(out, text, len + 1);
	return SP_OK;
}

static enum sp_code
parse_attestations(const json_t *root, struct sp_candidate *out, struct sp_err *err)
{
	const char *digest;
	enum sp_code code;
	json_t *list;
	size_t i, j, count;

	code = sp_json_array(root, "attestations", &list, err);
	if (code != SP_OK)
		return code;
	count = json_array_size(list);
	if (count == 0 || count > SP_CANDIDATE_ATTESTATIONS_MAX)
		return sp_err_set(err, SP_E_INVALID, "1 to %d attestations, not %zu",
		    SP_CANDIDATE_ATTESTATIONS_MAX, count);
	for (i = 0; i < count; i++) {
		digest = json_string_value(json_array_get(list, i));
		if (digest == NULL || !sp_hex_is_digest(digest))
			return sp_err_set(err, SP_E_INVALID,
			    "attestation %zu must be 64 lower-case hex digits", i);
		for (j = 0; j < i; j++)
			if (strcmp(out->attestations[j].s, digest) == 0)
				return sp_err_set(
				    err, SP_E_INVALID, "attestation %.16s… stands twice", digest);
		memcpy(out->attestations[i].s, digest, SP_HEX_LEN + 1);
	}
	out->attestation_count = count;
	return SP_OK;
}

static enum sp_code
check_words(const struct sp_candidate *c, struct sp_err *err)
{
	static const char *const kinds[] = {"model", "image", "file"};
	uint8_t job[SP_JOB_ID_LEN / 2];
	struct sp_err inner;
	size_t i;

	if (sp_hex_decode(c->job, job, sizeof(job)) != SP_OK)
		return sp_err_set(err, SP_E_INVALID,
		    "field \"job\" must be %d lower-case hex digits", SP_JOB_ID_LEN);
	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(c->kind, kinds[i]) == 0)
			break;
	if (i == sizeof(kinds) / sizeof(kinds[0]))
		return sp_err_set(err, SP_E_UNSUPPORTED, "there is no kind \"%s\"", c->kind);
	/* of whatever kind: directories and URLs are named after it */
	if (sp_path_check_repo(c->name, &inner) != SP_OK)
		return sp_err_set(err, SP_E_INVALID, "field \"name\": %s", inner.msg);
	return SP_OK;
}

static enum sp_code
parse(const json_t *root, struct sp_candidate *out, struct sp_err *err)
{
	const char *type, *tree;
	enum sp_code code;

	code = sp_json_string(root, "type", &type, err);
	if (code == SP_OK && strcmp(type, TYPE) != 0)
		code = sp_err_set(err, SP_E_UNSUPPORTED, "type is \"%s\", not " TYPE, type);
	if (code == SP_OK)
		code = copy_text(root, "job", out->job, sizeof(out->job), err);
	if (code == SP_OK)
		code = copy_text(root, "kind", out->kind, sizeof(out->kind), err);
	if (code == SP_OK)
		code = copy_text(root, "name", out->name, sizeof(out->name), err);
	if (code == SP_OK)
		code =
		    copy_text(root, "destination", out->destination, sizeof(out->destination), err);
	if (code == SP_OK)
		code = sp_json_integer(root, "version", 1, INT64_MAX, &out->version, err);
	if (code == SP_OK)
		code = sp_json_string(root, "tree", &tree, err);
	if (code == SP_OK && !sp_hex_is_digest(tree))
		code = sp_err_set(
		    err, SP_E_INVALID, "field \"tree\" must be 64 lower-case hex digits");
	if (code == SP_OK && json_object_size(root) != 8)
		code =
		    sp_err_set(err, SP_E_INVALID, "it has fields that a candidate does not have");
	if (code != SP_OK)
		return code;
	memcpy(out->tree.s, tree, SP_HEX_LEN + 1);
	code = check_words(out, err);
	if (code == SP_OK)
		code = parse_attestations(root, out, err);
	return code;
}

enum sp_code
sp_candidate_parse(const uint8_t *payload, size_t len, struct sp_candidate *out, struct sp_err *err)
{
	json_t *root = NULL;
	struct sp_err inner;
	enum sp_code code;

	memset(out, 0, sizeof(*out));
	code = sp_json_parse_canonical(payload, len, "candidate", &root, err);
	if (code != SP_OK)
		return code;
	code = parse(root, out, &inner);
	json_decref(root);
	if (code != SP_OK)
		return sp_err_set(err, code, "candidate: %s", inner.msg);
	return SP_OK;
}
