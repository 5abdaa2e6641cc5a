/* fetcherd_policy.c -- what a profile lets in: which files, of which kinds, under which licences.
 */
#include "base/glob.h"
#include "fetcherd.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* --- the policy of a job ------------------------------------------------------------------------
 *
 * {"fetch": {"allow": [PATTERN…], "ignore": [PATTERN…], "licences": [WORD…], "max_files": N,
 *            "max_gib": N, "pickle": BOOL, "remote_code": BOOL}}
 *
 * Each may be missing (jobs that are older than the key): then it is as strict as it can be. One
 * that is not known may forbid something, so it is an error.
 */

static enum sp_code
bad(const char *key, const char *wanted, struct sp_err *err)
{
	return sp_err_set(err, SP_E_CONFIG, "profile: fetch.%s must be %s", key, wanted);
}

static enum sp_code
take_list(const json_t *list, const char *key, int patterns, struct fetcherd_policy_list *out,
    struct sp_err *err)
{
	const json_t *item;
	size_t i;

	if (!json_is_array(list) || json_array_size(list) > FETCHERD_LIST_MAX)
		return bad(key, "a list of at most 64 texts", err);
	json_array_foreach(list, i, item)
	{
		if (!json_is_string(item) || json_string_length(item) > SP_GLOB_MAX)
			return bad(key, "a list of texts of at most 256 bytes", err);
		if (patterns && sp_glob_check(json_string_value(item), err) != SP_OK)
			return err != NULL ? sp_err_prefix(err, "profile: fetch.%s", key)
					   : SP_E_CONFIG;
		out->items[out->count++] = json_string_value(item);
	}
	return SP_OK;
}

static enum sp_code
take_number(const json_t *value, const char *key, uint64_t max, uint64_t *out, struct sp_err *err)
{
	if (!json_is_integer(value) || json_integer_value(value) < 1 ||
	    (uint64_t)json_integer_value(value) > max)
		return sp_err_set(err, SP_E_CONFIG, "profile: fetch.%s must be 1 to %llu", key,
		    (unsigned long long)max);
	*out = (uint64_t)json_integer_value(value);
	return SP_OK;
}

static enum sp_code
take_bool(const json_t *value, const char *key, int *out, struct sp_err *err)
{
	if (!json_is_boolean(value))
		return bad(key, "true or false", err);
	*out = json_is_true(value);
	return SP_OK;
}

static enum sp_code
take_key(const char *key, const json_t *value, struct fetcherd_policy *out, struct sp_err *err)
{
	if (strcmp(key, "allow") == 0)
		return take_list(value, key, 1, &out->allow, err);
	if (strcmp(key, "ignore") == 0)
		return take_list(value, key, 1, &out->ignore, err);
	if (strcmp(key, "licences") == 0)
		return take_list(value, key, 0, &out->licences, err);
	if (strcmp(key, "max_files") == 0)
		return take_number(value, key, SP_TREE_FILES_MAX, &out->max_files, err);
	if (strcmp(key, "max_gib") == 0)
		return take_number(value, key, FETCHERD_TOTAL_MAX >> 30, &out->max_gib, err);
	if (strcmp(key, "pickle") == 0)
		return take_bool(value, key, &out->pickle, err);
	if (strcmp(key, "remote_code") == 0)
		return take_bool(value, key, &out->remote_code, err);
	return sp_err_set(err, SP_E_CONFIG,
	    "profile: fetch.%.32s is nothing that this fetcherd knows of: is it older than "
	    "ledgerd?",
	    key);
}

enum sp_code
fetcherd_policy_parse(
    const uint8_t *text, size_t len, struct fetcherd_policy *out, struct sp_err *err)
{
	json_t *group, *value;
	enum sp_code code;
	const char *key;

	memset(out, 0, sizeof(*out));
	out->max_files = SP_TREE_FILES_MAX;
	out->max_gib = FETCHERD_TOTAL_MAX >> 30;
	code = sp_json_parse(text, len, "profile", &out->root, err);
	if (code != SP_OK)
		return code;
	group = json_object_get(out->root, "fetch");
	if (!json_is_object(out->root) || (group != NULL && !json_is_object(group)))
		code = sp_err_set(err, SP_E_CONFIG, "profile: fetch must be a group");
	json_object_foreach(group, key, value)
	{
		if (code == SP_OK)
			code = take_key(key, value, out, err);
	}
	if (code != SP_OK)
		fetcherd_policy_clear(out);
	return code;
}

void
fetcherd_policy_clear(struct fetcherd_policy *policy)
{
	json_decref(policy->root);
	memset(policy, 0, sizeof(*policy));
}

static json_t *
list_json(const struct fetcherd_policy_list *list)
{
	json_t *array = json_array();

	for (size_t i = 0; i < list->count; i++)
		json_array_append_new(array, json_string(list->items[i]));
	return array;
}

json_t *
fetcherd_policy_json(const struct fetcherd_policy *policy)
{
	json_t *group =
	    json_pack("{s:o, s:o, s:o, s:I, s:I, s:b, s:b}", "allow", list_json(&policy->allow),
		"ignore", list_json(&policy->ignore), "licences", list_json(&policy->licences),
		"max_files", (json_int_t)policy->max_files, "max_gib", (json_int_t)policy->max_gib,
		"pickle", policy->pickle, "remote_code", policy->remote_code);

	SP_ASSERT(group != NULL);
	return group;
}

/* --- licences -----------------------------------------------------------------------------------
 */

static int
has_licence(const struct fetcherd_policy_list *list, const char *word, size_t len)
{
	for (size_t i = 0; i < list->count; i++)
		if (strlen(list->items[i]) == len && memcmp(list->items[i], word, len) == 0)
			return 1;
	return 0;
}

enum sp_code
fetcherd_policy_licence(
    const struct fetcherd_policy *policy, const char *licence, struct sp_err *err)
{
	const char *word = licence, *end;

	if (policy->licences.count == 0)
		return SP_OK;
	if (licence[0] == '\0')
		return sp_err_set(err, SP_E_BLOCKED,
		    "the hub states no licence, and the profile takes in those of fetch.licences "
		    "alone");
	for (;; word = end + 2) {
		end = strstr(word, ", ");
		if (!has_licence(
			&policy->licences, word, end != NULL ? (size_t)(end - word) : strlen(word)))
			break;
		if (end == NULL)
			return SP_OK;
	}
	return sp_err_set(err, SP_E_BLOCKED,
	    "its licence \"%s\" is not in the profile's fetch.licences", licence);
}

/* --- files --------------------------------------------------------------------------------------
 */

/* Formats whose readers run what they find ... */
static const char *const pickles[] = {".bin", ".pt", ".pth", ".pth.tar", ".ckpt", ".pkl", ".pickle",
    ".joblib", ".dill", ".pdparams", ".nemo", ".mar", ".keras", NULL};
/* ... and code itself. */
static const char *const code_files[] = {
    ".py", ".pyc", ".pyd", ".pyw", ".so", ".dll", ".dylib", ".exe", ".whl", ".egg", NULL};

static const char *
kind_of(const char *path, const char *const *suffixes)
{
	size_t len = strlen(path), n;

	for (; *suffixes != NULL; suffixes++) {
		n = strlen(*suffixes);
		if (len >= n && strcasecmp(path + len - n, *suffixes) == 0)
			return *suffixes;
	}
	return NULL;
}

static int
is_in(const struct fetcherd_policy_list *patterns, const char *path)
{
	for (size_t i = 0; i < patterns->count; i++)
		if (sp_glob_match(patterns->items[i], path))
			return 1;
	return 0;
}

int
fetcherd_policy_keeps(const struct fetcherd_policy *policy, const char *path)
{
	return (policy->allow.count == 0 || is_in(&policy->allow, path)) &&
	       !is_in(&policy->ignore, path);
}

static enum sp_code
check_file(
    const struct fetcherd_policy *policy, const char *path, uint64_t size, struct sp_err *err)
{
	const char *kind;

	kind = kind_of(path, pickles);
	if (kind != NULL && !policy->pickle)
		return sp_err_set(err, SP_E_BLOCKED,
		    "\"%s\": files *%s can run code when they are loaded: in the profile, "
		    "fetch.ignore leaves them out, fetch.pickle takes them in",
		    path, kind);
	kind = kind_of(path, code_files);
	if (kind != NULL && !policy->remote_code)
		return sp_err_set(err, SP_E_BLOCKED,
		    "\"%s\" is code: in the profile, fetch.ignore leaves *%s out, "
		    "fetch.remote_code takes it in",
		    path, kind);
	if (size > FETCHERD_FILE_MAX)
		return sp_err_set(err, SP_E_LIMIT, "\"%s\" has %llu bytes, at most %llu are taken",
		    path, (unsigned long long)size, (unsigned long long)FETCHERD_FILE_MAX);
	return SP_OK;
}

static enum sp_code
check_sum(const struct fetcherd_policy *policy, size_t count, uint64_t bytes, struct sp_err *err)
{
	if (count > policy->max_files)
		return sp_err_set(err, SP_E_LIMIT,
		    "it has %zu files, the profile takes at most %llu (fetch.max_files)", count,
		    (unsigned long long)policy->max_files);
	if (bytes > policy->max_gib << 30)
		return sp_err_set(err, SP_E_LIMIT,
		    "it has %llu bytes, the profile takes at most %llu GiB (fetch.max_gib)",
		    (unsigned long long)bytes, (unsigned long long)policy->max_gib);
	return SP_OK;
}

/* A tree of the same paths tells whether any two clash before a byte is fetched. */
static enum sp_code
check_clashes(const struct sp_answer_tree *listing, struct sp_err *err)
{
	struct sp_tree tree = {0};
	struct sp_hex any = sp_sha256_hex("", 0);
	enum sp_code code = SP_OK;
	uint8_t *data = NULL;
	size_t len;

	for (size_t i = 0; code == SP_OK && i < listing->count; i++)
		code = sp_tree_add(
		    &tree, listing->files[i].path, listing->files[i].size, any.s, 0, err);
	if (code == SP_OK)
		code = sp_tree_format(&tree, &data, &len, err);
	free(data);
	sp_tree_clear(&tree);
	return code;
}

enum sp_code
fetcherd_policy_listing(
    const struct fetcherd_policy *policy, const struct sp_answer_tree *listing, struct sp_err *err)
{
	enum sp_code code;

	if (listing->count == 0 && listing->left_out > 0)
		return sp_err_set(err, SP_E_BLOCKED,
		    "fetch.allow and fetch.ignore of the profile leave none of its %zu files",
		    listing->left_out);
	if (listing->count == 0)
		return sp_err_set(err, SP_E_INVALID, "the repository has no files");
	code = check_sum(policy, listing->count, listing->bytes, err);
	for (size_t i = 0; code == SP_OK && i < listing->count; i++)
		code = check_file(policy, listing->files[i].path, listing->files[i].size, err);
	return code == SP_OK ? check_clashes(listing, err) : code;
}

enum sp_code
fetcherd_policy_tree(
    const struct fetcherd_policy *policy, const struct sp_tree *tree, struct sp_err *err)
{
	enum sp_code code;

	if (tree->count == 0)
		return sp_err_set(err, SP_E_INVALID, "the tree has no files");
	code = check_sum(policy, tree->count, sp_tree_bytes(tree), err);
	for (size_t i = 0; code == SP_OK && i < tree->count; i++) {
		const struct sp_tree_file *file = &tree->files[i];

		code = check_file(policy, file->path, file->size, err);
		if (code == SP_OK && !fetcherd_policy_keeps(policy, file->path))
			code = sp_err_set(err, SP_E_BLOCKED,
			    "\"%s\" is left out by the profile, but in the tree", file->path);
		if (code == SP_OK && file->executable)
			code =
			    sp_err_set(err, SP_E_UNSUPPORTED, "\"%s\" is executable", file->path);
	}
	return code;
}

/* --- configurations -----------------------------------------------------------------------------
 *
 * A configuration may name code to be loaded with the model, from the same repository or another.
 * It is looked through as tokens, not parsed: Python's JSON, which is what its readers use, knows
 * more (NaN, keys twice) than ours, and what neither takes is found all the same.
 */

static const char *const code_keys[] = {"auto_map", "custom_pipelines"};
#define KEY_MAX 32

int
fetcherd_policy_is_config(const struct fetcherd_policy *policy, const char *path)
{
	static const char *const json[] = {".json", NULL};
	const char *slash = strrchr(path, '/');

	return !policy->remote_code && kind_of(path, json) != NULL &&
	       strcasestr(slash != NULL ? slash + 1 : path, "config") != NULL;
}

/* What stands behind a backslash at p, as far as a key that matters can have it, else 0xff; *p is
 * left on its last byte. */
static unsigned char
read_escape(const uint8_t **p, const uint8_t *end)
{
	const uint8_t *digits = *p + 1;
	unsigned value = 0;

	if (**p != 'u')
		return strchr("\"\\/", **p) != NULL ? **p : 0xff;
	for (; digits < end && digits < *p + 5 && isxdigit(*digits); digits++)
		value = value << 4 |
			(unsigned)(isdigit(*digits) ? *digits - '0' : (*digits | 0x20) - 'a' + 10);
	value = digits == *p + 5 && value > 0 && value < 0x80 ? value : 0xff;
	*p = digits - 1;
	return (unsigned char)value;
}

/* A string whose inside begins at p: its first characters without escapes, and where it ends (at
 * its '"', or at end). */
static const uint8_t *
read_string(const uint8_t *p, const uint8_t *end, char out[KEY_MAX])
{
	size_t n = 0;
	unsigned char c;

	for (; p < end && *p != '"'; p++) {
		c = *p;
		if (c == '\\') {
			if (++p == end)
				break;
			c = read_escape(&p, end);
		}
		if (n < KEY_MAX - 1)
			out[n++] = (char)c;
	}
	out[n] = '\0';
	return p;
}

enum sp_code
fetcherd_policy_config(const char *path, const uint8_t *data, size_t len, struct sp_err *err)
{
	const uint8_t *p = data, *end = data + len;
	char key[KEY_MAX];

	if (memchr(data, '\0', len) != NULL)
		return sp_err_set(err, SP_E_BLOCKED,
		    "\"%s\" is no text in UTF-8: fetch.remote_code of the profile takes it in",
		    path);
	while (p < end && (p = memchr(p, '"', (size_t)(end - p))) != NULL) {
		p = read_string(p + 1, end, key);
		for (p += p < end; p < end && strchr(" \t\r\n", *p) != NULL; p++)
			;
		for (size_t i = 0; i < sizeof(code_keys) / sizeof(code_keys[0]); i++)
			if (p < end && *p == ':' && strcmp(key, code_keys[i]) == 0)
				return sp_err_set(err, SP_E_BLOCKED,
				    "\"%s\" names code to be loaded with the model (\"%s\"): "
				    "fetch.remote_code of the profile takes it in",
				    path, key);
	}
	return SP_OK;
}
