/* fetcherd_policy.c -- what a profile lets in: patterns, kinds, licences, sizes, code in
 * configurations. */
#include "base/buf.h"
#include "fetcherd/fetcherd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

static struct sp_err err;

static void
ok(enum sp_code code)
{
	if (code != SP_OK)
		fail_msg("%s: %s", sp_err_word(code), err.msg);
}

static enum sp_code
parse(const char *text, struct fetcherd_policy *out)
{
	return fetcherd_policy_parse((const uint8_t *)text, strlen(text), out, &err);
}

/* The group fetch of a profile, which must be in order. */
static void
policy_of(const char *group, struct fetcherd_policy *out)
{
	char *text = sp_xasprintf("{\"approvals\":1,\"fetch\":{%s}}", group);

	ok(parse(text, out));
	free(text);
}

static void
test_parse(void **state)
{
	static const struct {
		const char *text, *says;
	} bad[] = {
	    {"", "profile"},
	    {"[]", "group"},
	    {"{\"fetch\":[]}", "group"},
	    {"{\"fetch\":{\"allow\":\"*\"}}", "fetch.allow"},
	    {"{\"fetch\":{\"allow\":[7]}}", "fetch.allow"},
	    {"{\"fetch\":{\"ignore\":[\"\"]}}", "fetch.ignore"},
	    {"{\"fetch\":{\"licences\":{}}}", "fetch.licences"},
	    {"{\"fetch\":{\"pickle\":1}}", "fetch.pickle"},
	    {"{\"fetch\":{\"remote_code\":null}}", "fetch.remote_code"},
	    {"{\"fetch\":{\"max_files\":0}}", "fetch.max_files"},
	    {"{\"fetch\":{\"max_files\":100001}}", "fetch.max_files"},
	    {"{\"fetch\":{\"max_gib\":8193}}", "fetch.max_gib"},
	    /* it may forbid what this fetcherd would take */
	    {"{\"fetch\":{\"allow\":[],\"scan\":true}}", "fetch.scan"},
	};
	struct fetcherd_policy policy;
	struct sp_buf many = {0};
	size_t len;
	json_t *json;
	char *text;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (parse(bad[i].text, &policy) == SP_OK || strstr(err.msg, bad[i].says) == NULL)
			fail_msg("%s: %s", bad[i].text, err.msg);
		assert_null(policy.root);
	}
	sp_buf_puts(&many, "{\"fetch\":{\"allow\":[\"a\"");
	for (size_t i = 0; i < FETCHERD_LIST_MAX; i++)
		sp_buf_puts(&many, ",\"a\"");
	sp_buf_puts(&many, "]}}");
	assert_int_equal(fetcherd_policy_parse(many.data, many.len, &policy, &err), SP_E_CONFIG);
	sp_buf_free(&many);
	/* a job that is older than the keys: as strict as can be, and it says so */
	ok(parse("{\"approvals\":1}", &policy));
	json = fetcherd_policy_json(&policy);
	text = sp_json_canonical(json, &len);
	assert_string_equal(text,
	    "{\"allow\":[],\"ignore\":[],\"licences\":[],\"max_files\":100000,\"max_gib\":8192,"
	    "\"pickle\":false,\"remote_code\":false}");
	free(text);
	json_decref(json);
	fetcherd_policy_clear(&policy);
	policy_of(
	    "\"allow\":[\"*\"],\"pickle\":true,\"max_gib\":1,\"licences\":[\"mit\"]", &policy);
	json = fetcherd_policy_json(&policy);
	text = sp_json_canonical(json, &len);
	assert_string_equal(text,
	    "{\"allow\":[\"*\"],\"ignore\":[],\"licences\":[\"mit\"],\"max_files\":100000,"
	    "\"max_gib\":1,\"pickle\":true,\"remote_code\":false}");
	free(text);
	json_decref(json);
	fetcherd_policy_clear(&policy);
}

static void
test_keeps(void **state)
{
	struct fetcherd_policy policy;

	(void)state;
	policy_of("", &policy);
	assert_true(fetcherd_policy_keeps(&policy, "any/thing"));
	fetcherd_policy_clear(&policy);
	policy_of("\"ignore\":[\"*.bin\",\"onnx/\"]", &policy);
	assert_true(fetcherd_policy_keeps(&policy, "config.json"));
	assert_false(fetcherd_policy_keeps(&policy, "a/pytorch_model.bin"));
	assert_false(fetcherd_policy_keeps(&policy, "onnx/model.onnx"));
	assert_true(fetcherd_policy_keeps(&policy, "a/onnx/model.onnx"));
	fetcherd_policy_clear(&policy);
	policy_of("\"allow\":[\"*.json\",\"*.safetensors\"],\"ignore\":[\"gen*\"]", &policy);
	assert_true(fetcherd_policy_keeps(&policy, "sub/config.json"));
	assert_false(fetcherd_policy_keeps(&policy, "generation_config.json"));
	assert_false(fetcherd_policy_keeps(&policy, "README.md"));
	fetcherd_policy_clear(&policy);
}

static void
test_licences(void **state)
{
	static const char *const in[] = {"mit", "apache-2.0", "mit, apache-2.0", "other (qwen)"};
	static const char *const out[] = {"", "MIT", "mi", "mit ", "mit, ", "mit, gpl-3.0",
	    "gpl-3.0, mit", "other", "other (x), mit", "mit, ...", ", mit", "..."};
	struct fetcherd_policy policy;

	(void)state;
	policy_of("\"licences\":[\"apache-2.0\",\"mit\",\"other (qwen)\"]", &policy);
	for (size_t i = 0; i < sizeof(in) / sizeof(in[0]); i++)
		ok(fetcherd_policy_licence(&policy, in[i], &err));
	for (size_t i = 0; i < sizeof(out) / sizeof(out[0]); i++) {
		assert_int_equal(fetcherd_policy_licence(&policy, out[i], &err), SP_E_BLOCKED);
		assert_non_null(strstr(err.msg, out[i]));
		assert_non_null(strstr(err.msg, "fetch.licences"));
	}
	fetcherd_policy_clear(&policy);
	policy_of("", &policy);
	ok(fetcherd_policy_licence(&policy, "", &err));
	ok(fetcherd_policy_licence(&policy, "gpl-3.0", &err));
	fetcherd_policy_clear(&policy);
}

static enum sp_code
check_names(
    const struct fetcherd_policy *policy, const char *const *names, size_t count, uint64_t size)
{
	struct sp_answer_file files[8];
	struct sp_answer_tree tree = {.files = files, .count = count};

	memset(files, 0, sizeof(files));
	for (size_t i = 0; i < count; i++) {
		files[i].path = (char *)(uintptr_t)names[i];
		files[i].size = size;
		tree.bytes += size;
	}
	return fetcherd_policy_listing(policy, &tree, &err);
}

static enum sp_code
check_tree(const struct fetcherd_policy *policy, const char *name, uint64_t size)
{
	struct sp_hex any = sp_sha256_hex("", 0);
	struct sp_tree tree = {0};
	enum sp_code code;

	ok(sp_tree_add(&tree, name, size, any.s, 0, &err));
	code = fetcherd_policy_tree(policy, &tree, &err);
	sp_tree_clear(&tree);
	return code;
}

/* A listing and the tree that comes of it are held to the same. */
static void
test_kinds(void **state)
{
	static const char *const fine[] = {".gitattributes", "README.md", "config.json",
	    "model.safetensors", "sub/bin", "python", "a.bin.index.json", "train.parquet"};
	static const char *const pickled[] = {"pytorch_model.bin", "a.PT", "x/y.pth", "m.pkl",
	    "m.ckpt", "a.pickle", ".bin", "a.Joblib", "best.pth.tar"};
	static const char *const code[] = {"modeling_qwen.py", "x.SO", "a/b.pyc", "p.whl"};
	struct fetcherd_policy strict, lax;

	(void)state;
	policy_of("", &strict);
	ok(check_names(&strict, fine, 8, 1));
	for (size_t i = 0; i < sizeof(pickled) / sizeof(pickled[0]); i++) {
		policy_of("\"pickle\":true", &lax);
		assert_int_equal(check_names(&strict, &pickled[i], 1, 1), SP_E_BLOCKED);
		assert_non_null(strstr(err.msg, pickled[i]));
		assert_non_null(strstr(err.msg, "fetch.ignore"));
		assert_non_null(strstr(err.msg, "fetch.pickle"));
		assert_int_equal(check_tree(&strict, pickled[i], 1), SP_E_BLOCKED);
		ok(check_names(&lax, &pickled[i], 1, 1));
		ok(check_tree(&lax, pickled[i], 1));
		fetcherd_policy_clear(&lax);
	}
	for (size_t i = 0; i < sizeof(code) / sizeof(code[0]); i++) {
		policy_of("\"remote_code\":true", &lax);
		assert_int_equal(check_names(&strict, &code[i], 1, 1), SP_E_BLOCKED);
		assert_non_null(strstr(err.msg, code[i]));
		assert_non_null(strstr(err.msg, "fetch.remote_code"));
		assert_int_equal(check_tree(&strict, code[i], 1), SP_E_BLOCKED);
		ok(check_names(&lax, &code[i], 1, 1));
		ok(check_tree(&lax, code[i], 1));
		/* one key does not stand for the other */
		assert_int_equal(check_names(&lax, pickled, 1, 1), SP_E_BLOCKED);
		fetcherd_policy_clear(&lax);
	}
	fetcherd_policy_clear(&strict);
}

static void
test_sums(void **state)
{
	static const char *const names[] = {"a", "b", "c", "d", "e"};
	static const char *const clash[] = {"a", "a-b", "a/b"};
	static const char *const twice[] = {"a", "b", "a"};
	struct sp_answer_tree none = {.left_out = 3};
	struct fetcherd_policy policy;

	(void)state;
	policy_of("", &policy);
	assert_int_equal(check_names(&policy, clash, 3, 1), SP_E_INVALID);
	assert_int_equal(check_names(&policy, twice, 3, 1), SP_E_INVALID);
	assert_non_null(strstr(err.msg, "\"a\""));
	assert_int_equal(check_names(&policy, names, 0, 1), SP_E_INVALID);
	assert_int_equal(fetcherd_policy_listing(&policy, &none, &err), SP_E_BLOCKED);
	assert_non_null(strstr(err.msg, "fetch.allow"));
	assert_int_equal(check_names(&policy, names, 1, FETCHERD_FILE_MAX + 1), SP_E_LIMIT);
	assert_int_equal(check_tree(&policy, "a", FETCHERD_FILE_MAX + 1), SP_E_LIMIT);
	ok(check_names(&policy, names, 4, FETCHERD_FILE_MAX));
	assert_int_equal(check_names(&policy, names, 5, FETCHERD_FILE_MAX), SP_E_LIMIT);
	fetcherd_policy_clear(&policy);
	policy_of("\"max_files\":2,\"max_gib\":1,\"ignore\":[\"z\"]", &policy);
	ok(check_names(&policy, names, 2, 1 << 29));
	assert_int_equal(check_names(&policy, names, 2, (1 << 29) + 1), SP_E_LIMIT);
	assert_non_null(strstr(err.msg, "fetch.max_gib"));
	assert_int_equal(check_names(&policy, names, 3, 1), SP_E_LIMIT);
	assert_non_null(strstr(err.msg, "fetch.max_files"));
	assert_int_equal(check_tree(&policy, "a", (1 << 30) + 1), SP_E_LIMIT);
	/* the child did not leave out what it should have */
	assert_int_equal(check_tree(&policy, "z", 1), SP_E_BLOCKED);
	fetcherd_policy_clear(&policy);
}

static void
test_configs(void **state)
{
	static const char *const looked[] = {"config.json", "tokenizer_config.json",
	    "a/config.json", "processor_Config.JSON", "configuration.json", "adapter_config.json"};
	static const char *const not_looked[] = {
	    "tokenizer.json", "config/model.json", "config.yaml", "README.md", "config.json.md"};
	static const char *const fine[] = {"", "{}", "[", "\"auto_map\"", "{\"a\":\"auto_map\"}",
	    "{\"auto_map2\":1}", "{\"x\":\"\\\"auto_map\\\": {}\"}", "{\"auto_map", "{\"auto_map\\",
	    "{\"au\\to_map\":1}", "{\"auto_map\" , 1}", "{\"\\u0161uto_map\":1}",
	    "{\"\\u00\":1,\"\\u61uto_map\":1}"};
	static const char *const code[] = {"{\"auto_map\":{\"AutoModel\":\"m.M\"}}",
	    "{\"a\":[{\"auto_map\" \n\t: 1}]}", "{\"\\u0061uto\\u005Fmap\":null}",
	    "{\"auto_map\":{},\"auto_map\":{\"AutoModel\":\"m.M\"}}",
	    "{\"x\":NaN,\"y\":Infinity,\"auto_map\":1}", "{\"custom_pipelines\":{}}",
	    "\xef\xbb\xbf{\"auto_map\":1}", "{\"x\":\"\\\\\",\"auto_map\":1}",
	    "{\"x\":\"\\\"\",\"auto_map\":1}", "garbage \"auto_map\": and more"};
	static const uint8_t utf16[] = {'{', 0, '"', 0, 'a', 0};
	struct fetcherd_policy policy;

	(void)state;
	policy_of("", &policy);
	for (size_t i = 0; i < sizeof(looked) / sizeof(looked[0]); i++)
		if (!fetcherd_policy_is_config(&policy, looked[i]))
			fail_msg("%s is not looked into", looked[i]);
	for (size_t i = 0; i < sizeof(not_looked) / sizeof(not_looked[0]); i++)
		if (fetcherd_policy_is_config(&policy, not_looked[i]))
			fail_msg("%s is looked into", not_looked[i]);
	fetcherd_policy_clear(&policy);
	policy_of("\"remote_code\":true", &policy);
	assert_false(fetcherd_policy_is_config(&policy, "config.json"));
	fetcherd_policy_clear(&policy);
	for (size_t i = 0; i < sizeof(fine) / sizeof(fine[0]); i++) {
		/* the sanitizer sees every byte that is read too many */
		size_t len = strlen(fine[i]);
		uint8_t *copy = malloc(len > 0 ? len : 1);

		assert_non_null(copy);
		memcpy(copy, fine[i], len);
		if (fetcherd_policy_config("c.json", copy, len, &err) != SP_OK)
			fail_msg("%s: %s", fine[i], err.msg);
		free(copy);
	}
	for (size_t i = 0; i < sizeof(code) / sizeof(code[0]); i++) {
		if (fetcherd_policy_config("a/c.json", (const uint8_t *)code[i], strlen(code[i]),
			&err) != SP_E_BLOCKED)
			fail_msg("not found: %s", code[i]);
		assert_non_null(strstr(err.msg, "\"a/c.json\""));
		assert_non_null(strstr(err.msg, "fetch.remote_code"));
	}
	assert_int_equal(
	    fetcherd_policy_config("c.json", utf16, sizeof(utf16), &err), SP_E_BLOCKED);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_parse),
	    cmocka_unit_test(test_keeps),
	    cmocka_unit_test(test_licences),
	    cmocka_unit_test(test_kinds),
	    cmocka_unit_test(test_sums),
	    cmocka_unit_test(test_configs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
