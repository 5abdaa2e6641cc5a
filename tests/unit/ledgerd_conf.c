/* ledgerd_conf.c -- profiles and the policies they become. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "ledgerd/profile.h"

#define DIGEST "2222222222222222222222222222222222222222222222222222222222222222"

static struct sp_err err;

/* --- profiles --------------------------------------------------------------------------------- */

static char profile_dir[] = "/tmp/sp-profiles-XXXXXX";

static enum sp_code
load(const char *text, struct ledgerd_profile *out)
{
	char *path = sp_xasprintf("%s/p.conf", profile_dir);
	enum sp_code code;

	assert_int_equal(sp_file_write(path, 0644, text, strlen(text), &err), SP_OK);
	memset(out, 0, sizeof(*out));
	code = ledgerd_profile_load(profile_dir, "p", out, &err);
	if (code != SP_OK)
		assert_non_null(strstr(err.msg, path));
	free(path);
	return code;
}

/* of a profile that says nothing about it */
#define FETCH                                                                                     \
	"\"fetch\":{\"allow\":[],\"ignore\":[],\"licences\":[],\"max_files\":100000,\"max_gib\":" \
	"8192,"                                                                                   \
	"\"pickle\":false,\"remote_code\":false}"

static void
test_profile_policy(void **state)
{
	static const char text[] =
	    "approvals = 2;\nsubmitter_may_approve = false;\n"
	    "quantize: { calibration = \"/c.jsonl\"; };\n"
	    "mmlu: { dataset = \"/mmlu\"; max_drop_pp = 3; sha256 = \"" DIGEST "\"; };\n"
	    "humaneval: { dataset = \"/h.gz\"; max_drop_pp = 2.5; max_new_tokens = 96; };\n";
	static const char policy[] =
	    "{\"approvals\":2,\"confidence\":0.95,\"destination\":\"enclave\"," FETCH ","
	    "\"humaneval\":{\"dataset\":\"/h.gz\",\"max_drop_pp\":2.5,\"max_new_tokens\":96},"
	    "\"mmlu\":{\"dataset\":\"/mmlu\",\"max_drop_pp\":3.0,\"sha256\":\"" DIGEST
	    "\",\"shots\":5},"
	    "\"name_suffix\":\"-AWQ\","
	    "\"quantize\":{\"calibration\":\"/c.jsonl\",\"fallback\":\"refuse\",\"group_size\":128,"
	    "\"method\":\"awq+\",\"modules_to_not_convert\":[],"
	    "\"samples\":128,\"seed\":0,\"sequence\":512,\"symmetric\":false},\"submitter_may_"
	    "approve\":false}";
	struct ledgerd_profile p;

	(void)state;
	if (load(text, &p) != SP_OK)
		fail_msg("%s", err.msg);
	assert_string_equal(p.policy, policy);
	assert_int_equal(p.policy_len, strlen(policy));
	assert_int_equal(p.approvals, 2);
	assert_false(p.submitter_may_approve);
	assert_false(ledgerd_profile_submitter_may_approve((uint8_t *)p.policy, p.policy_len));
	assert_int_equal(ledgerd_profile_fits(&p, "p", SP_RECIPE_MODEL, &err), SP_OK);
	ledgerd_profile_clear(&p);
	/* a profile for files: no gates, so no model goes by it */
	assert_int_equal(load("name_suffix = \"\";\n", &p), SP_OK);
	assert_string_equal(p.policy,
	    "{\"approvals\":1,\"confidence\":0.95,\"destination\":\"enclave\"," FETCH
	    ",\"name_suffix\":\"\","
	    "\"submitter_may_approve\":true}");
	assert_int_equal(ledgerd_profile_fits(&p, "p", SP_RECIPE_FILE, &err), SP_OK);
	assert_int_equal(ledgerd_profile_fits(&p, "p", SP_RECIPE_MODEL, &err), SP_E_CONFIG);
	assert_true(ledgerd_profile_submitter_may_approve((uint8_t *)p.policy, p.policy_len));
	ledgerd_profile_clear(&p);
	assert_int_equal(
	    load("fetch: { allow = [\"*.json\", \"onnx/\"]; ignore = (\"*.bin\"); pickle = true; "
		 "licences = [\"mit\", \"other (x y)\"]; max_gib = 3; };\n",
		&p),
	    SP_OK);
	assert_non_null(strstr(p.policy,
	    "\"fetch\":{\"allow\":[\"*.json\",\"onnx/\"],\"ignore\":[\"*.bin\"],"
	    "\"licences\":[\"mit\",\"other (x y)\"],\"max_files\":100000,\"max_gib\":3,"
	    "\"pickle\":true,\"remote_code\":false}"));
	assert_int_equal(ledgerd_profile_fits(&p, "p", SP_RECIPE_DATASET, &err), SP_OK);
	ledgerd_profile_clear(&p);
	assert_false(ledgerd_profile_submitter_may_approve((const uint8_t *)"{}", 2));
	assert_int_equal(load("quantize: { calibration = \"/c\"; };\n", &p), SP_OK);
	assert_int_equal(ledgerd_profile_fits(&p, "p", SP_RECIPE_MODEL, &err), SP_E_CONFIG);
	assert_non_null(strstr(err.msg, "gate"));
	ledgerd_profile_clear(&p);
}

static void
test_profile_refuses(void **state)
{
	static const struct {
		const char *text, *says;
	} bad[] = {
	    {"approvals = 0;\n", "approvals"},
	    {"approvalls = 1;\n", "approvals"},
	    {"destination = \"a b\";\n", "destination"},
	    {"destination = \"\";\n", "destination"},
	    {"name_suffix = \"/x\";\n", "name_suffix"},
	    {"quantize: { method = \"gptq\"; calibration = \"/c\"; };\n", "quantize.method"},
	    {"quantize: { group_size = 100; calibration = \"/c\"; };\n", "group_size"},
	    {"quantize: { fallback = \"hope\"; calibration = \"/c\"; };\n", "quantize.fallback"},
	    {"quantize: { samples = 5; };\n", "quantize.calibration"},
	    {"mmlu: { dataset = \"/m\"; };\n", "mmlu.max_drop_pp"},
	    {"mmlu: { max_drop_pp = 3.0; };\n", "mmlu.dataset"},
	    {"humaneval: { dataset = \"/m\"; };\n", "humaneval.max_drop_pp"},
	    {"mmlu: { dataset = \"/m\"; max_drop_pp = 3.0; sha256 = \"ABC\"; };\n", "mmlu.sha256"},
	    {"mmlu: { dataset = \"/m\"; max_drop_pp = 0.0; };\n", "mmlu.max_drop_pp"},
	    {"confidence = 1.5;\n", "confidence"},
	    {"fetch: { allow = \"*.json\"; };\n", "fetch.allow"},
	    {"fetch: { allow = [\"\"]; };\n", "fetch.allow, element 1"},
	    {"fetch: { ignore = [\"a\", \"/b\"]; };\n", "fetch.ignore, element 2"},
	    {"fetch: { licences = [\"mit, bsd\"]; };\n", "fetch.licences, element 1"},
	    {"fetch: { licences = [\"\"]; };\n", "fetch.licences"},
	    {"fetch: { pickle = 1; };\n", "fetch.pickle"},
	    {"fetch: { max_files = 0; };\n", "fetch.max_files"},
	    {"fetch: { deny = [\"a\"]; };\n", "fetch."},
	    {"approvals = 1\nmmlu: {", "syntax"},
	};
	struct ledgerd_profile p;
	char *text, *line;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_not_equal(load(bad[i].text, &p), SP_OK);
		if (strstr(err.msg, bad[i].says) == NULL)
			fail_msg("\"%s\" does not name %s", err.msg, bad[i].says);
		/* the check of all finds it too */
		assert_int_not_equal(ledgerd_profile_check_all(profile_dir, &err), SP_OK);
		assert_non_null(strstr(err.msg, "p.conf"));
	}
	text = sp_xstrdup("fetch: { ignore = [\"x\"");
	for (i = 0; i < 64; i++) {
		char *more = sp_xasprintf("%s, \"x\"", text);

		free(text);
		text = more;
	}
	line = sp_xasprintf("%s]; };\n", text);
	assert_int_equal(load(line, &p), SP_E_CONFIG);
	assert_non_null(strstr(err.msg, "fetch.ignore has more than 64"));
	free(text);
	free(line);
	assert_int_equal(ledgerd_profile_load(profile_dir, "../p", &p, &err), SP_E_INVALID);
	assert_int_equal(ledgerd_profile_load(profile_dir, "", &p, &err), SP_E_INVALID);
	assert_int_equal(ledgerd_profile_load(profile_dir, "q", &p, &err), SP_E_NOT_FOUND);
	assert_int_equal(ledgerd_profile_check_all("/nowhere/at/all", &err), SP_OK);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_profile_policy),
	    cmocka_unit_test(test_profile_refuses),
	};
	int failed;

	if (mkdtemp(profile_dir) == NULL)
		return 1;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	return sp_file_remove_all(profile_dir, NULL) == SP_OK ? failed : 1;
}
