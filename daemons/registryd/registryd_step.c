/* registryd_step.c -- which release may be registered, which tree is a model, forms of the state.
 */
#include "base/buf.h"
#include "base/json.h"
#include "base/path.h"
#include "base/source.h"
#include "base/time.h"
#include "registryd.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TYPE "sallyport-registration/1"

/* --- registrations ------------------------------------------------------------------------------
 */

char *
registryd_entry_format(const struct registryd_entry *entry, size_t *len)
{
	json_t *root = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:I}", "kind", entry->kind, "name",
	    entry->name, "release", entry->release.s, "time", entry->time, "tree", entry->tree.s,
	    "type", TYPE, "version", (json_int_t)entry->version);
	char *text;

	/* names are those of repositories: ASCII */
	SP_ASSERT(root != NULL);
	text = sp_json_canonical(root, len);
	json_decref(root);
	return text;
}

static enum sp_code
copy_text(const json_t *root, const char *key, char *to, size_t size, struct sp_err *err)
{
	const char *text;
	enum sp_code code = sp_json_string(root, key, &text, err);

	if (code != SP_OK)
		return code;
	if (strlen(text) >= size)
		return sp_err_set(err, SP_E_LIMIT, "field \"%s\" is too long", key);
	strcpy(to, text);
	return SP_OK;
}

static enum sp_code
read_entry(const json_t *root, struct registryd_entry *out, struct sp_err *err)
{
	char type[32];
	enum sp_code code;

	if (json_object_size(root) != 7)
		return sp_err_set(err, SP_E_INVALID, "it must have exactly seven fields");
	if ((code = copy_text(root, "type", type, sizeof(type), err)) ||
	    (code = copy_text(root, "kind", out->kind, sizeof(out->kind), err)) ||
	    (code = copy_text(root, "name", out->name, sizeof(out->name), err)) ||
	    (code = copy_text(root, "release", out->release.s, sizeof(out->release.s), err)) ||
	    (code = copy_text(root, "time", out->time, sizeof(out->time), err)) ||
	    (code = copy_text(root, "tree", out->tree.s, sizeof(out->tree.s), err)) ||
	    (code = sp_json_integer(root, "version", 1, INT64_MAX, &out->version, err)) ||
	    (code = sp_path_check_repo(out->name, err)))
		return code;
	if (strcmp(type, TYPE) != 0 || strcmp(out->kind, "model") != 0)
		return sp_err_set(
		    err, SP_E_UNSUPPORTED, "fields \"type\" and \"kind\" say what is not known");
	if (!sp_hex_is_digest(out->tree.s) ||
	    (out->release.s[0] != '\0' && !sp_hex_is_digest(out->release.s)))
		return sp_err_set(
		    err, SP_E_INVALID, "fields \"tree\" and \"release\" must be digests");
	if (sp_time_parse_rfc3339(out->time) < 0)
		return sp_err_set(err, SP_E_INVALID, "field \"time\" must be RFC 3339");
	return SP_OK;
}

enum sp_code
registryd_entry_parse(
    const uint8_t *data, size_t len, struct registryd_entry *out, struct sp_err *err)
{
	json_t *root = NULL;
	enum sp_code code;

	memset(out, 0, sizeof(*out));
	code = sp_json_parse_canonical(data, len, "registration", &root, err);
	if (code != SP_OK)
		return code;
	code = read_entry(root, out, err);
	json_decref(root);
	return code;
}

struct sp_hex
registryd_entry_key(const char *name, int64_t version)
{
	char text[SP_NAME_MAX + 32];
	int len = snprintf(text, sizeof(text), "%s@%" PRId64, name, version);

	SP_ASSERT(len > 0 && (size_t)len < sizeof(text));
	return sp_sha256_hex(text, (size_t)len);
}

void
registryd_entries_add(struct registryd_entries *entries, const struct registryd_entry *entry)
{
	entries->entries =
	    sp_xrealloc(entries->entries, entries->count + 1, sizeof(*entries->entries));
	entries->entries[entries->count++] = *entry;
}

enum sp_code
registryd_admit(const struct registryd_entries *entries, const struct registryd_entry *entry,
    int *known, struct sp_err *err)
{
	const struct registryd_entry *newest = NULL;

	*known = 0;
	for (size_t i = 0; i < entries->count; i++) {
		const struct registryd_entry *e = &entries->entries[i];

		if (strcmp(e->name, entry->name) != 0)
			continue;
		if (e->version == entry->version) {
			*known = strcmp(e->tree.s, entry->tree.s) == 0;
			if (*known)
				return SP_OK;
			return sp_err_set(err, SP_E_EXISTS,
			    "%s version %" PRId64 " is registered with tree %s; the release names "
			    "tree %s: a version is never replaced",
			    e->name, e->version, e->tree.s, entry->tree.s);
		}
		if (newest == NULL || e->version > newest->version)
			newest = e;
	}
	if (newest != NULL && newest->version > entry->version)
		return sp_err_set(err, SP_E_DENIED,
		    "%s version %" PRId64 " is older than version %" PRId64
		    ", which is registered: an old version does not come in afterwards",
		    entry->name, entry->version, newest->version);
	return SP_OK;
}

/* --- what a model is ----------------------------------------------------------------------------
 */

static int
ends_in(const char *path, const char *suffix)
{
	size_t len = strlen(path), n = strlen(suffix);

	return len > n && strcmp(path + len - n, suffix) == 0;
}

/* "…-00001-of-00002.safetensors" */
static int
is_shard(const char *path)
{
	static const char form[] = "-ddddd-of-ddddd.safetensors";
	size_t len = strlen(path), n = sizeof(form) - 1;

	if (len <= n)
		return 0;
	path += len - n;
	for (size_t i = 0; i < n; i++)
		if (form[i] == 'd' ? path[i] < '0' || path[i] > '9' : path[i] != form[i])
			return 0;
	return 1;
}

/* {"metadata": {…}, "weight_map": {TENSOR: FILE, …}} */
static enum sp_code
check_index(const struct sp_tree *tree, const uint8_t *data, size_t len, struct sp_err *err)
{
	json_t *root = NULL, *map, *file;
	enum sp_code code;
	const char *tensor;

	code = sp_json_parse(data, len, REGISTRYD_INDEX, &root, err);
	if (code != SP_OK)
		return code;
	code = sp_json_object(root, "weight_map", &map, err);
	if (code == SP_OK && json_object_size(map) == 0)
		code = sp_err_set(err, SP_E_INVALID, "%s names no tensor", REGISTRYD_INDEX);
	if (code != SP_OK)
		goto out;
	json_object_foreach(map, tensor, file)
	{
		if (json_is_string(file) && ends_in(json_string_value(file), ".safetensors") &&
		    sp_tree_find(tree, json_string_value(file)) != NULL)
			continue;
		code = sp_err_set(err, SP_E_INVALID,
		    "%s: tensor \"%s\" is in \"%s\", which the model does not have",
		    REGISTRYD_INDEX, tensor,
		    json_is_string(file) ? json_string_value(file) : "(no file name)");
		break;
	}
out:
	json_decref(root);
	return code;
}

enum sp_code
registryd_check_model(
    const struct sp_tree *tree, const struct registryd_model_files *files, struct sp_err *err)
{
	size_t weights = 0, shards = 0;
	json_t *config = NULL;
	enum sp_code code;

	if (files->config == NULL)
		return sp_err_set(err, SP_E_INVALID, "the model has no config.json");
	code = sp_json_parse(files->config, files->config_len, "config.json", &config, err);
	if (code != SP_OK)
		return code;
	if (!json_is_object(config))
		code = sp_err_set(err, SP_E_INVALID, "config.json is no JSON object");
	json_decref(config);
	if (code != SP_OK)
		return code;
	if (sp_tree_find(tree, "tokenizer.json") == NULL &&
	    sp_tree_find(tree, "tokenizer.model") == NULL)
		return sp_err_set(
		    err, SP_E_INVALID, "the model has neither tokenizer.json nor tokenizer.model");
	for (size_t i = 0; i < tree->count; i++) {
		weights += (size_t)ends_in(tree->files[i].path, ".safetensors");
		shards += (size_t)is_shard(tree->files[i].path);
	}
	if (weights == 0)
		return sp_err_set(err, SP_E_INVALID, "the model has no *.safetensors");
	if (files->index != NULL)
		return check_index(tree, files->index, files->index_len, err);
	if (shards > 0)
		return sp_err_set(err, SP_E_INVALID,
		    "the model's weights are in shards, but it has no %s", REGISTRYD_INDEX);
	return SP_OK;
}

/* --- git ids ------------------------------------------------------------------------------------
 */

static const char oids_head[] = "sallyport-oids/1\n";

char *
registryd_oids_format(const struct sp_tree *tree, const struct sp_git_oid *oids, size_t *len)
{
	struct sp_buf buf = {0};

	sp_buf_puts(&buf, oids_head);
	for (size_t i = 0; i < tree->count; i++)
		sp_buf_printf(&buf, "%s\n",
		    sp_catalog_is_lfs(tree->files[i].path, tree->files[i].size) ? "-" : oids[i].s);
	return sp_buf_take(&buf, len);
}

enum sp_code
registryd_oids_parse(const uint8_t *data, size_t len, const struct sp_tree *tree,
    struct sp_git_oid *oids, struct sp_err *err)
{
	const uint8_t *p = data, *end = data + len, *eol;
	size_t n;

	if (len < sizeof(oids_head) - 1 || memcmp(p, oids_head, sizeof(oids_head) - 1) != 0)
		return sp_err_set(err, SP_E_INVALID, "git ids: first line is wrong");
	p += sizeof(oids_head) - 1;
	for (size_t i = 0; i < tree->count; i++, p = eol + 1) {
		int lfs = sp_catalog_is_lfs(tree->files[i].path, tree->files[i].size);

		eol = p < end ? memchr(p, '\n', (size_t)(end - p)) : NULL;
		n = eol != NULL ? (size_t)(eol - p) : 0;
		memset(&oids[i], 0, sizeof(oids[i]));
		if (n == sizeof(oids[i].s) - 1)
			memcpy(oids[i].s, p, n);
		if (eol == NULL || (lfs ? n != 1 || *p != '-' : !sp_source_is_commit(oids[i].s)))
			return sp_err_set(err, SP_E_INVALID, "git ids: line %zu is wrong", i + 2);
	}
	if (p != end)
		return sp_err_set(err, SP_E_INVALID, "git ids: more lines than files");
	return SP_OK;
}

int64_t
registryd_version_parse(const uint8_t *data, size_t len)
{
	int64_t n = 0;

	if (len < 2 || len > 19 || data[len - 1] != '\n' || data[0] == '0')
		return -1;
	for (size_t i = 0; i + 1 < len; i++) {
		if (data[i] < '0' || data[i] > '9')
			return -1;
		n = n * 10 + (data[i] - '0');
	}
	return n;
}
