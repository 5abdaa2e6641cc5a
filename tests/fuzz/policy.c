/* policy.c -- a job's fetch policy; patterns; configurations that name code, against a parser of
 * JSON. */
#include "base/glob.h"
#include "fetcherd/fetcherd.h"
#include "fuzz.h"

static int
names_code(const json_t *value)
{
	json_t *member, *object = (json_t *)(uintptr_t)value;
	const char *key;
	size_t i;

	json_array_foreach(value, i, member)
	{
		if (names_code(member))
			return 1;
	}
	json_object_foreach(object, key, member)
	{
		if (strcmp(key, "auto_map") == 0 || strcmp(key, "custom_pipelines") == 0 ||
		    names_code(member))
			return 1;
	}
	return 0;
}

/* What is JSON is seen as the parser sees it. */
static void
check_config(const uint8_t *data, size_t len)
{
	enum sp_code code;
	json_t *root = NULL;
	struct sp_err err;

	code = fetcherd_policy_config("config.json", data, len, &err);
	SP_ASSERT(code == SP_OK || code == SP_E_BLOCKED);
	if (sp_json_parse(data, len, "it", &root, &err) == SP_OK)
		SP_ASSERT(names_code(root) == (code == SP_E_BLOCKED));
	json_decref(root);
}

static void
check_policy(const uint8_t *data, size_t len)
{
	struct fetcherd_policy policy, again;
	char *text, *whole;
	struct sp_err err;
	json_t *json;
	size_t n;

	if (fetcherd_policy_parse(data, len, &policy, &err) != SP_OK) {
		SP_ASSERT(err.msg[0] != '\0' && policy.root == NULL);
		return;
	}
	SP_ASSERT(policy.max_files >= 1 && policy.max_files <= SP_TREE_FILES_MAX);
	/* what the statement says is the policy */
	json = json_pack("{s:o}", "fetch", fetcherd_policy_json(&policy));
	text = sp_json_canonical(json, &n);
	SP_ASSERT(fetcherd_policy_parse((const uint8_t *)text, n, &again, &err) == SP_OK);
	json_decref(json);
	json = json_pack("{s:o}", "fetch", fetcherd_policy_json(&again));
	whole = sp_json_canonical(json, &n);
	SP_ASSERT(strcmp(text, whole) == 0);
	for (size_t i = 0; i < policy.ignore.count; i++)
		SP_ASSERT(!sp_glob_match(policy.ignore.items[i], "a/b.bin") ||
			  !fetcherd_policy_keeps(&policy, "a/b.bin"));
	json_decref(json);
	free(text);
	free(whole);
	fetcherd_policy_clear(&policy);
	fetcherd_policy_clear(&again);
}

/* PATTERN LF PATH */
static void
check_glob(char *text)
{
	char *path = strchr(text, '\n');
	int hit;

	if (path == NULL)
		return;
	*path++ = '\0';
	hit = sp_glob_match(text, path);
	if (strlen(text) > SP_GLOB_MAX)
		SP_ASSERT(!hit);
	else if (text[0] != '\0' && text[strcspn(text, "*?[")] == '\0' &&
		 text[strlen(text) - 1] != '/')
		SP_ASSERT(hit == (strcmp(text, path) == 0));
	SP_ASSERT(sp_glob_match("*", path));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char *text = fuzz_text(data, len);

	check_config(data, len);
	check_policy(data, len);
	check_glob(text);
	free(text);
	return 0;
}
