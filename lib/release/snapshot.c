/* snapshot.c -- the registry's signed list of what may run. */
#include "release/snapshot.h"
#include "base/json.h"
#include "base/path.h"
#include "base/time.h"

#include <stdlib.h>
#include <string.h>

#define TYPE "sallyport-snapshot/1"
#define MODELS_MAX 100000

static int
by_name(const void *a, const void *b)
{
	const struct sp_snapshot_model *x = a, *y = b;
	int order = strcmp(x->name, y->name);

	if (order != 0)
		return order;
	return (x->version > y->version) - (x->version < y->version);
}

/* --- writing -------------------------------------------------------------------------------- */

static json_t *
model_json(const struct sp_snapshot_model *m)
{
	json_t *files = json_array();
	size_t i;

	for (i = 0; i < m->file_count; i++)
		json_array_append_new(files, json_string(m->files[i]));
	return json_pack("{s:I, s:o, s:s, s:s, s:s, s:s, s:b, s:s, s:I}", "bytes",
	    (json_int_t)m->bytes, "files", files, "kind", m->kind, "name", m->name, "release",
	    m->release.s, "revision", m->revision.s, "revoked", m->revoked, "tree", m->tree.s,
	    "version", (json_int_t)m->version);
}

enum sp_code
sp_snapshot_sign(struct sp_snapshot *snapshot, const struct sp_key *key, char **envelope,
    size_t *len, struct sp_err *err)
{
	struct sp_snapshot again = {0};
	json_t *root, *models;
	size_t i, payload_len;
	enum sp_code code;
	char *payload;

	if (snapshot->count > 1)
		qsort(snapshot->models, snapshot->count, sizeof(*snapshot->models), by_name);
	models = json_array();
	for (i = 0; i < snapshot->count; i++)
		json_array_append_new(models, model_json(&snapshot->models[i]));
	root = json_pack("{s:o, s:s, s:s, s:s, s:I}", "models", models, "origin", snapshot->origin,
	    "time", snapshot->time, "type", TYPE, "version", (json_int_t)snapshot->version);
	if (root == NULL)
		return sp_err_set(err, SP_E_INVALID, "snapshot: a name in it is not UTF-8");
	payload = sp_json_canonical(root, &payload_len);
	json_decref(root);
	/* readers refuse what breaks the form: better that the writer hears of it */
	code = sp_snapshot_parse((const uint8_t *)payload, payload_len, &again, err);
	sp_snapshot_clear(&again);
	if (code == SP_OK)
		code =
		    sp_dsse_sign(key, SP_DSSE_SNAPSHOT, payload, payload_len, envelope, len, err);
	free(payload);
	return code;
}

/* --- reading -------------------------------------------------------------------------------- */

static enum sp_code
copy_digest(const json_t *obj, const char *key, struct sp_hex *out, struct sp_err *err)
{
	const char *text;
	enum sp_code code;

	code = sp_json_string(obj, key, &text, err);
	if (code != SP_OK)
		return code;
	if (!sp_hex_is_digest(text))
		return sp_err_set(
		    err, SP_E_INVALID, "field \"%s\" must be 64 lower-case hex digits", key);
	memcpy(out->s, text, sizeof(out->s));
	return SP_OK;
}

static enum sp_code
copy_revision(const json_t *obj, struct sp_git_oid *out, struct sp_err *err)
{
	uint8_t bytes[20];
	const char *text;
	enum sp_code code;

	code = sp_json_string(obj, "revision", &text, err);
	if (code != SP_OK)
		return code;
	if (sp_hex_decode(text, bytes, sizeof(bytes)) != SP_OK)
		return sp_err_set(
		    err, SP_E_INVALID, "field \"revision\" must be 40 lower-case hex digits");
	memcpy(out->s, text, sizeof(out->s));
	return SP_OK;
}

/* Names are compared and printed: no control characters, bounded. */
static enum sp_code
copy_name(const json_t *obj, const char *key, char **out, struct sp_err *err)
{
	const char *text;
	enum sp_code code;
	size_t i, len;

	code = sp_json_string(obj, key, &text, err);
	if (code != SP_OK)
		return code;
	len = strlen(text);
	for (i = 0; i < len && (unsigned char)text[i] >= 0x20 && text[i] != 0x7f; i++)
		;
	if (len == 0 || len > SP_NAME_MAX || i < len)
		return sp_err_set(err, SP_E_INVALID,
		    "field \"%s\" must be 1 to %d bytes without control characters", key,
		    SP_NAME_MAX);
	*out = sp_xstrdup(text);
	return SP_OK;
}

static enum sp_code
copy_files(const json_t *obj, struct sp_snapshot_model *out, struct sp_err *err)
{
	const char *path;
	enum sp_code code;
	json_t *list;
	size_t i, count;

	code = sp_json_array(obj, "files", &list, err);
	if (code != SP_OK)
		return code;
	count = json_array_size(list);
	if (count > SP_TREE_FILES_MAX)
		return sp_err_set(
		    err, SP_E_LIMIT, "%zu files, at most %d are allowed", count, SP_TREE_FILES_MAX);
	out->files = sp_xcalloc(count > 0 ? count : 1, sizeof(*out->files));
	for (i = 0; i < count; i++) {
		path = json_string_value(json_array_get(list, i));
		if (path == NULL)
			return sp_err_set(err, SP_E_INVALID, "file %zu is no string", i);
		code = sp_path_check(path, err);
		if (code != SP_OK)
			return code;
		out->files[out->file_count++] = sp_xstrdup(path);
	}
	return SP_OK;
}

static enum sp_code
parse_model(const json_t *obj, struct sp_snapshot_model *out, struct sp_err *err)
{
	const json_t *revoked = json_object_get(obj, "revoked");
	enum sp_code code;
	int64_t bytes;

	code = copy_name(obj, "name", &out->name, err);
	if (code == SP_OK)
		code = copy_name(obj, "kind", &out->kind, err);
	if (code == SP_OK)
		code = sp_json_integer(obj, "version", 1, INT64_MAX, &out->version, err);
	if (code == SP_OK)
		code = sp_json_integer(obj, "bytes", 0, INT64_MAX, &bytes, err);
	if (code == SP_OK)
		code = copy_digest(obj, "tree", &out->tree, err);
	if (code == SP_OK)
		code = copy_digest(obj, "release", &out->release, err);
	if (code == SP_OK)
		code = copy_revision(obj, &out->revision, err);
	if (code == SP_OK && !json_is_boolean(revoked))
		code = sp_err_set(err, SP_E_INVALID, "field \"revoked\" must be true or false");
	if (code == SP_OK)
		code = copy_files(obj, out, err);
	if (code != SP_OK)
		return code;
	if (json_object_size(obj) != 9)
		return sp_err_set(err, SP_E_INVALID, "it has fields that a model does not have");
	out->bytes = (uint64_t)bytes;
	out->revoked = json_is_true(revoked);
	return SP_OK;
}

static enum sp_code
parse_models(const json_t *list, struct sp_snapshot *out, struct sp_err *err)
{
	size_t i, count = json_array_size(list);
	struct sp_snapshot_model *m;
	struct sp_err inner;
	enum sp_code code;

	if (count > MODELS_MAX)
		return sp_err_set(
		    err, SP_E_LIMIT, "%zu models, at most %d are allowed", count, MODELS_MAX);
	out->models = sp_xcalloc(count > 0 ? count : 1, sizeof(*out->models));
	for (i = 0; i < count; i++) {
		m = &out->models[i];
		out->count++; /* also a half-read one is freed */
		code = parse_model(json_array_get(list, i), m, &inner);
		if (code != SP_OK)
			return sp_err_set(err, code, "model %zu: %s", i, inner.msg);
		if (i > 0 && by_name(m - 1, m) >= 0)
			return sp_err_set(err, SP_E_INVALID,
			    "models must be in ascending order of name and version, none twice");
	}
	return SP_OK;
}

static enum sp_code
parse(const json_t *root, struct sp_snapshot *out, struct sp_err *err)
{
	const char *type, *time;
	char *origin = NULL;
	json_t *models;
	enum sp_code code;

	code = sp_json_string(root, "type", &type, err);
	if (code == SP_OK && strcmp(type, TYPE) != 0)
		code = sp_err_set(err, SP_E_UNSUPPORTED, "type is \"%s\", not " TYPE, type);
	if (code == SP_OK)
		code = sp_json_integer(root, "version", 1, INT64_MAX, &out->version, err);
	if (code == SP_OK)
		code = sp_json_string(root, "time", &time, err);
	if (code == SP_OK && sp_time_parse_rfc3339(time) < 0)
		code = sp_err_set(
		    err, SP_E_INVALID, "field \"time\" must look like 2027-01-31T00:00:00.000Z");
	if (code == SP_OK)
		code = copy_name(root, "origin", &origin, err);
	if (code != SP_OK)
		return code;
	memcpy(out->time, time, sizeof(out->time));
	memcpy(out->origin, origin, strlen(origin) + 1);
	free(origin);
	code = sp_json_array(root, "models", &models, err);
	if (code == SP_OK && json_object_size(root) != 5)
		code = sp_err_set(err, SP_E_INVALID,
		    "it has fields other than models, origin, time, type, version");
	if (code == SP_OK)
		code = parse_models(models, out, err);
	return code;
}

enum sp_code
sp_snapshot_parse(const uint8_t *payload, size_t len, struct sp_snapshot *out, struct sp_err *err)
{
	struct sp_err inner;
	json_t *root = NULL;
	enum sp_code code;

	memset(out, 0, sizeof(*out));
	code = sp_json_parse_canonical(payload, len, "snapshot", &root, err);
	if (code != SP_OK)
		return code;
	code = parse(root, out, &inner);
	json_decref(root);
	if (code != SP_OK) {
		sp_snapshot_clear(out);
		return sp_err_set(err, code, "snapshot: %s", inner.msg);
	}
	return SP_OK;
}

enum sp_code
sp_snapshot_verify(const struct sp_trust *trust, const uint8_t *envelope, size_t len,
    struct sp_snapshot *out, struct sp_err *err)
{
	struct sp_dsse dsse;
	enum sp_code code;

	memset(out, 0, sizeof(*out));
	code = sp_dsse_parse(envelope, len, &dsse, err);
	if (code != SP_OK)
		return code;
	if (strcmp(dsse.payload_type, SP_DSSE_SNAPSHOT) != 0)
		code = sp_err_set(err, SP_E_INVALID,
		    "the envelope holds \"%s\", not " SP_DSSE_SNAPSHOT, dsse.payload_type);
	if (code == SP_OK)
		code = sp_trust_verify(trust, SP_ROLE_REGISTRY, 0, &dsse, NULL, 0, NULL, err);
	if (code == SP_OK)
		code = sp_snapshot_parse(dsse.payload, dsse.payload_len, out, err);
	sp_dsse_clear(&dsse);
	return code;
}

const struct sp_snapshot_model *
sp_snapshot_find(const struct sp_snapshot *snapshot, const char *name, int64_t version)
{
	const struct sp_snapshot_model *m, *found = NULL;
	size_t i;

	for (i = 0; i < snapshot->count; i++) {
		m = &snapshot->models[i];
		if (m->revoked || strcmp(m->name, name) != 0)
			continue;
		if (version == 0 || m->version == version)
			found = m; /* ascending: the last is the newest */
	}
	return found;
}

void
sp_snapshot_clear(struct sp_snapshot *snapshot)
{
	size_t i, j;

	for (i = 0; i < snapshot->count; i++) {
		free(snapshot->models[i].name);
		free(snapshot->models[i].kind);
		for (j = 0; j < snapshot->models[i].file_count; j++)
			free(snapshot->models[i].files[j]);
		free(snapshot->models[i].files);
	}
	free(snapshot->models);
	memset(snapshot, 0, sizeof(*snapshot));
}
