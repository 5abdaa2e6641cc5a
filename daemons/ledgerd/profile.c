/* profile.c -- profiles, from libconfig to JSON. */
#include "profile.h"
#include "base/buf.h"
#include "base/glob.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/limits.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define S SP_CONF_STRING
#define I SP_CONF_INT
#define R SP_CONF_REAL
#define B SP_CONF_BOOL
#define L SP_CONF_STRINGS

#define LIST_MAX 64 /* elements of a list: they become part of messages and attestations */

/* The keys of a profile; the dotted names are the nesting of file and policy alike. */
static const struct sp_conf_key keys[] = {
    {"destination", S, "enclave", 0, 0, "the side that candidates are for"},
    {"name_suffix", S, "-AWQ", 0, 0, "put behind a model's name"},
    {"approvals", I, "1", 1, 16, "operators who must sign"},
    {"submitter_may_approve", B, "true", 0, 0, "who submitted may be one of them"},
    {"confidence", R, "0.95", 0.5, 0.9999, "of the gates' intervals"},
    {"fetch.allow", L, NULL, 0, 0, "patterns of the files that are taken; none: all are"},
    {"fetch.ignore", L, NULL, 0, 0, "patterns of files that are left out all the same"},
    {"fetch.pickle", B, "false", 0, 0, "pickled weights (*.bin, *.pt, *.pkl ...) may come in"},
    {"fetch.remote_code", B, "false", 0, 0, "so may code, and configurations that name some"},
    {"fetch.licences", L, NULL, 0, 0, "those that may come in; none: any, stated or not"},
    {"fetch.max_files", I, "100000", 1, 100000, "that a repository may have"},
    {"fetch.max_gib", I, "8192", 1, 8192, "that they may have together"},
    {"quantize.method", S, "awq+", 0, 0, "awq+ or awq"},
    {"quantize.group_size", I, "128", 32, 128, "32, 64 or 128"},
    {"quantize.calibration", S, NULL, 0, 0, "path: JSON lines with a field text"},
    {"quantize.samples", I, "128", 1, 65536, "of the calibration set"},
    {"quantize.sequence", I, "512", 1, 65536, "tokens of each sample"},
    {"quantize.symmetric", B, "false", 0, 0, "all zero points are 8"},
    {"quantize.fallback", S, "refuse", 0, 0, "refuse, smaller or leave"},
    {"quantize.modules_to_not_convert", L, NULL, 0, 0, "parts of names of what stays fp16"},
    {"quantize.seed", I, "0", 0, INT64_C(1) << 53, "of the texts' order; 0: the file's"},
    {"mmlu.dataset", S, NULL, 0, 0, "path: directory with dev/ and test/"},
    {"mmlu.sha256", S, NULL, 0, 0, "digest that the data set must have"},
    {"mmlu.shots", I, "5", 0, 64, "examples before each question"},
    {"mmlu.max_drop_pp", R, NULL, 0.000001, 99.999, "percentage points that may be lost"},
    {"humaneval.dataset", S, NULL, 0, 0, "path: JSON lines, maybe gzipped"},
    {"humaneval.sha256", S, NULL, 0, 0, "digest that the data set must have"},
    {"humaneval.max_new_tokens", I, "1024", 1, 65536, "of each program"},
    {"humaneval.max_drop_pp", R, NULL, 0.000001, 99.999, "percentage points that may be lost"},
    {NULL, S, NULL, 0, 0, NULL},
};

int
ledgerd_profile_is_name(const char *name)
{
	size_t len = strlen(name);

	return len >= 1 && len <= 64 && name[0] != '.' &&
	       strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") ==
		   len;
}

/* Whether the profile speaks of the group: it names the data that the group works on. Of fetch all
 * do: what is not said is forbidden. */
static int
has_group(const struct sp_conf *conf, const char *group)
{
	char key[64];

	if (strcmp(group, "fetch") == 0)
		return 1;
	snprintf(key, sizeof(key), "%s.%s", group,
	    strcmp(group, "quantize") == 0 ? "calibration" : "dataset");
	return sp_conf_string(conf, key) != NULL;
}

/* --- to JSON ---------------------------------------------------------------------------------- */

static json_t *
list_of(const struct sp_conf *conf, const char *key)
{
	json_t *list = json_array();
	const char *item;

	for (size_t i = 0; (item = sp_conf_strings(conf, key, i)) != NULL; i++)
		json_array_append_new(list, json_string(item));
	return list;
}

static json_t *
value_of(const struct sp_conf *conf, const struct sp_conf_key *key)
{
	switch (key->type) {
	case SP_CONF_INT:
		return json_integer(sp_conf_int(conf, key->key));
	case SP_CONF_BOOL:
		return json_boolean(sp_conf_bool(conf, key->key));
	case SP_CONF_REAL:
		return json_real(sp_conf_real(conf, key->key));
	case SP_CONF_STRINGS:
		return list_of(conf, key->key);
	default:
		return json_string(sp_conf_string(conf, key->key));
	}
}

static json_t *
policy_of(const struct sp_conf *conf)
{
	json_t *root = json_object(), *group;
	const struct sp_conf_key *key;
	const char *dot;
	char name[32];

	for (key = keys; key->key != NULL; key++) {
		dot = strchr(key->key, '.');
		if (dot == NULL) {
			json_object_set_new(root, key->key, value_of(conf, key));
			continue;
		}
		snprintf(name, sizeof(name), "%.*s", (int)(dot - key->key), key->key);
		if (!has_group(conf, name))
			continue;
		group = json_object_get(root, name);
		if (group == NULL) {
			group = json_object();
			json_object_set_new(root, name, group);
		}
		json_object_set_new(group, dot + 1, value_of(conf, key));
	}
	return root;
}

/* --- rules that the table of keys cannot say -------------------------------------------------- */

/* Operators read it, and the candidate carries it: printable ASCII, no spaces. */
static enum sp_code
check_word(const char *key, const char *value, size_t max, struct sp_err *err)
{
	size_t i, len = strlen(value);

	for (i = 0; i < len; i++)
		if (value[i] <= ' ' || value[i] >= 0x7f)
			break;
	if (i < len || len > max)
		return sp_err_set(err, SP_E_CONFIG,
		    "%s must be at most %zu printable ASCII characters without spaces", key, max);
	return SP_OK;
}

/* May be left out. */
static enum sp_code
check_digest(const struct sp_conf *conf, const char *key, struct sp_err *err)
{
	const char *value = sp_conf_string(conf, key);

	if (value != NULL && !sp_hex_is_digest(value))
		return sp_err_set(
		    err, SP_E_CONFIG, "%s is not a SHA-256 of 64 lower-case hex digits", key);
	return SP_OK;
}

static enum sp_code
check_list_length(const struct sp_conf *conf, const char *key, struct sp_err *err)
{
	if (sp_conf_strings(conf, key, LIST_MAX) != NULL)
		return sp_err_set(err, SP_E_CONFIG, "%s has more than %d elements", key, LIST_MAX);
	return SP_OK;
}

static enum sp_code
check_patterns(const struct sp_conf *conf, const char *key, struct sp_err *err)
{
	enum sp_code code = check_list_length(conf, key, err);
	const char *item;

	for (size_t i = 0; code == SP_OK && (item = sp_conf_strings(conf, key, i)) != NULL; i++) {
		if (sp_glob_check(item, err) == SP_OK)
			continue;
		sp_err_prefix(err, "%s, element %zu", key, i + 1);
		code = err->code = SP_E_CONFIG;
	}
	return code;
}

/* As `sallyctl job` shows them: ids of the Hub, "other (name)". */
static enum sp_code
check_licences(const struct sp_conf *conf, const char *key, struct sp_err *err)
{
	enum sp_code code = check_list_length(conf, key, err);
	const char *item, *p;

	for (size_t i = 0; code == SP_OK && (item = sp_conf_strings(conf, key, i)) != NULL; i++) {
		for (p = item; *p >= ' ' && *p < 0x7f && *p != ','; p++)
			;
		if (*p != '\0' || item[0] == '\0' || p - item > SP_GLOB_MAX)
			code = sp_err_set(err, SP_E_CONFIG,
			    "%s, element %zu is no licence: one of the Hub's ids, as \"mit\", or "
			    "\"other (NAME)\"",
			    key, i + 1);
	}
	return code;
}

static enum sp_code
check_group(const struct sp_conf *conf, const char *group, struct sp_err *err)
{
	const struct sp_conf_key *key;
	size_t len = strlen(group);
	enum sp_code code;

	for (key = keys; key->key != NULL; key++) {
		if (strncmp(key->key, group, len) != 0 || key->key[len] != '.')
			continue;
		if (!has_group(conf, group) && sp_conf_is_set(conf, key->key))
			return sp_err_set(err, SP_E_CONFIG,
			    "%s is set, but %s.%s is not: without it there is no such step",
			    key->key, group,
			    strcmp(group, "quantize") == 0 ? "calibration" : "dataset");
		if (!has_group(conf, group))
			continue;
		if (strcmp(key->key + len + 1, "sha256") == 0)
			code = check_digest(conf, key->key, err);
		else if (key->type == SP_CONF_STRINGS)
			code = check_list_length(conf, key->key, err);
		else /* no default: the margin is the operator's own decision */
			code = sp_conf_require(conf, key->key, err);
		if (code != SP_OK)
			return code;
	}
	return SP_OK;
}

static enum sp_code
check(const struct sp_conf *conf, struct sp_err *err)
{
	const char *method = sp_conf_string(conf, "quantize.method");
	const char *fallback = sp_conf_string(conf, "quantize.fallback");
	int64_t group_size = sp_conf_int(conf, "quantize.group_size");
	const char *destination = sp_conf_string(conf, "destination");
	const char *suffix = sp_conf_string(conf, "name_suffix");
	enum sp_code code;

	code = check_word("destination", destination, 64, err);
	if (code == SP_OK && destination[0] == '\0')
		code = sp_err_set(err, SP_E_CONFIG, "destination is empty");
	if (code == SP_OK)
		code = check_word("name_suffix", suffix, 64, err);
	if (code == SP_OK && strspn(suffix, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
					    "0123456789._-") != strlen(suffix))
		code = sp_err_set(err, SP_E_CONFIG,
		    "name_suffix \"%s\" holds other characters than A-Z a-z 0-9 . _ -", suffix);
	if (code == SP_OK && strcmp(method, "awq") != 0 && strcmp(method, "awq+") != 0)
		code = sp_err_set(err, SP_E_CONFIG,
		    "quantize.method is \"%.32s\": choose \"awq\" or \"awq+\"", method);
	if (code == SP_OK && strcmp(fallback, "refuse") != 0 && strcmp(fallback, "smaller") != 0 &&
	    strcmp(fallback, "leave") != 0)
		code = sp_err_set(err, SP_E_CONFIG,
		    "quantize.fallback is \"%.32s\": choose \"refuse\", \"smaller\" or \"leave\"",
		    fallback);
	if (code == SP_OK && group_size != 32 && group_size != 64 && group_size != 128)
		code = sp_err_set(err, SP_E_CONFIG, "quantize.group_size must be 32, 64 or 128");
	if (code == SP_OK)
		code = check_patterns(conf, "fetch.allow", err);
	if (code == SP_OK)
		code = check_patterns(conf, "fetch.ignore", err);
	if (code == SP_OK)
		code = check_licences(conf, "fetch.licences", err);
	if (code == SP_OK)
		code = check_group(conf, "quantize", err);
	if (code == SP_OK)
		code = check_group(conf, "mmlu", err);
	if (code == SP_OK)
		code = check_group(conf, "humaneval", err);
	return code;
}

/* "default, fixture": what may be named instead; malloc'd. */
static char *
list_names(const char *dir)
{
	struct dirent **entries;
	struct sp_buf out = {0};
	char *name, *dot;
	int n = scandir(dir, &entries, NULL, alphasort), i;

	for (i = 0; i < n; i++) {
		name = entries[i]->d_name;
		dot = strrchr(name, '.');
		if (dot != NULL && strcmp(dot, ".conf") == 0) {
			*dot = '\0';
			if (ledgerd_profile_is_name(name))
				sp_buf_printf(&out, "%s%s", out.len > 0 ? ", " : "", name);
		}
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
	return sp_buf_take(&out, NULL);
}

enum sp_code
ledgerd_profile_load(
    const char *dir, const char *name, struct ledgerd_profile *out, struct sp_err *err)
{
	struct sp_conf *conf = NULL;
	enum sp_code code;
	json_t *policy;
	char *path, *list;

	memset(out, 0, sizeof(*out));
	if (!ledgerd_profile_is_name(name))
		return sp_err_set(err, SP_E_INVALID,
		    "a profile's name has 1 to 64 of A-Z a-z 0-9 . _ - and does not start with a "
		    "dot");
	path = sp_xasprintf("%s/%s.conf", dir, name);
	if (access(path, F_OK) != 0 && errno == ENOENT) {
		list = list_names(dir);
		code = sp_err_set(err, SP_E_NOT_FOUND,
		    "no profile \"%s\": there is no file %s; profiles here: %.200s", name, path,
		    list[0] != '\0' ? list : "none");
		free(list);
		goto out;
	}
	code = sp_conf_load(path, "", keys, &conf, err);
	if (code != SP_OK)
		goto out;
	code = check(conf, err);
	if (code != SP_OK) {
		if (strstr(err->msg, path) == NULL)
			sp_err_prefix(err, "%s", path);
		goto out;
	}
	policy = policy_of(conf);
	out->policy = json_dumps(policy, JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(15));
	json_decref(policy);
	SP_ASSERT(out->policy != NULL);
	out->policy_len = strlen(out->policy);
	out->destination = sp_xstrdup(sp_conf_string(conf, "destination"));
	out->name_suffix = sp_xstrdup(sp_conf_string(conf, "name_suffix"));
	out->approvals = (unsigned)sp_conf_int(conf, "approvals");
	out->submitter_may_approve = sp_conf_bool(conf, "submitter_may_approve");
	out->has_quantize = has_group(conf, "quantize");
	out->has_gate = has_group(conf, "mmlu") || has_group(conf, "humaneval");
out:
	sp_conf_free(&conf);
	free(path);
	return code;
}

void
ledgerd_profile_clear(struct ledgerd_profile *profile)
{
	free(profile->policy);
	free(profile->destination);
	free(profile->name_suffix);
	memset(profile, 0, sizeof(*profile));
}

enum sp_code
ledgerd_profile_get(struct ledgerd_profile_kept *kept, const char *dir, const char *name,
    const struct ledgerd_profile **out, struct sp_err *err)
{
	char *path = sp_xasprintf("%s/%.64s.conf", dir, name);
	enum sp_code code = SP_OK;
	struct stat st;

	memset(&st, 0, sizeof(st));
	if (stat(path, &st) != 0 || kept->profile.policy == NULL || strcmp(kept->name, name) != 0 ||
	    st.st_ino != kept->seen.st_ino || st.st_size != kept->seen.st_size ||
	    memcmp(&st.st_mtim, &kept->seen.st_mtim, sizeof(st.st_mtim)) != 0) {
		ledgerd_profile_clear(&kept->profile);
		code = ledgerd_profile_load(dir, name, &kept->profile, err);
		kept->seen = st;
		snprintf(kept->name, sizeof(kept->name), "%s", name);
	}
	free(path);
	*out = &kept->profile;
	return code;
}

enum sp_code
ledgerd_profile_fits(const struct ledgerd_profile *profile, const char *name, enum sp_recipe recipe,
    struct sp_err *err)
{
	if (recipe != SP_RECIPE_MODEL)
		return SP_OK;
	if (!profile->has_quantize)
		return sp_err_set(err, SP_E_CONFIG,
		    "profile \"%s\" is not for models: it has no quantize.calibration", name);
	if (!profile->has_gate)
		return sp_err_set(err, SP_E_CONFIG,
		    "profile \"%s\" is not for models: it has no gate (mmlu.dataset or "
		    "humaneval.dataset)",
		    name);
	return SP_OK;
}

int
ledgerd_profile_submitter_may_approve(const uint8_t *policy, size_t len)
{
	json_t *root = NULL;
	int may = 0;

	if (sp_json_parse(policy, len, "policy", &root, NULL) == SP_OK)
		may = json_is_true(json_object_get(root, "submitter_may_approve"));
	json_decref(root);
	return may;
}

enum sp_code
ledgerd_profile_check_all(const char *dir, struct sp_err *err)
{
	struct ledgerd_profile profile;
	enum sp_code code = SP_OK;
	struct dirent *entry;
	size_t len;
	char *name;
	DIR *list;

	list = opendir(dir);
	if (list == NULL)
		return errno == ENOENT ? SP_OK : sp_err_errno(err, "profiles %s", dir);
	while (code == SP_OK && (entry = readdir(list)) != NULL) {
		len = strlen(entry->d_name);
		if (len <= 5 || strcmp(entry->d_name + len - 5, ".conf") != 0)
			continue;
		name = sp_xasprintf("%.*s", (int)len - 5, entry->d_name);
		code = ledgerd_profile_load(dir, name, &profile, err);
		if (code == SP_OK)
			ledgerd_profile_clear(&profile);
		else if (!ledgerd_profile_is_name(name))
			sp_err_prefix(err, "%s/%s", dir, entry->d_name);
		free(name);
	}
	closedir(list);
	return code;
}
