/* profile.c -- what an operator hands in: a profile's file, its policy as the gate and the
 * quantizer read it, and sources. */
#include "ledgerd/profile.h"
#include "base/file.h"
#include "base/path.h"
#include "base/source.h"
#include "eval/policy.h"
#include "fuzz.h"
#include "quantd/quantd.h"

#include <string.h>
#include <unistd.h>

static char dir[] = "/tmp/sallyport-fuzz-XXXXXX";
static char *path;

static void
clean(void)
{
	struct sp_err err;

	if (sp_file_remove_all(dir, &err) != SP_OK)
		fprintf(stderr, "%s\n", err.msg);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc, (void)argv;
	SP_ASSERT(mkdtemp(dir) != NULL && atexit(clean) == 0);
	path = sp_xasprintf("%s/input.conf", dir);
	return 0;
}

static void
check_policy(const uint8_t *data, size_t len)
{
	struct sp_settings settings, again;
	struct sp_policy policy;
	struct sp_err err;

	if (sp_policy_parse(data, len, &policy, &err) == SP_OK)
		SP_ASSERT(policy.mmlu.asked || policy.humaneval.asked);
	if (quantd_settings_parse(data, len, &settings, &err) == SP_OK) {
		json_t *group = sp_settings_json(&settings);

		/* an attestation's form of it is the same again */
		SP_ASSERT(sp_settings_parse(group, &again, &err) == SP_OK);
		SP_ASSERT(strcmp(sp_settings_key(&settings, "", NULL, "", "").s,
			      sp_settings_key(&again, "", NULL, "", "").s) == 0);
		json_decref(group);
		sp_settings_clear(&settings);
		sp_settings_clear(&again);
	}
	ledgerd_profile_submitter_may_approve(data, len);
}

static void
check_profile(const uint8_t *data, size_t len)
{
	struct ledgerd_profile profile = {0};
	struct sp_err err;
	FILE *file = fopen(path, "w");

	SP_ASSERT(file != NULL && fwrite(data, 1, len, file) == len && fclose(file) == 0);
	if (ledgerd_profile_load(dir, "input", &profile, &err) != SP_OK)
		return;
	check_policy((const uint8_t *)profile.policy, profile.policy_len);
	ledgerd_profile_clear(&profile);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char *text = fuzz_text(data, len);
	struct sp_source source;
	struct sp_err err;

	if (sp_source_parse(text, &source, &err) == SP_OK)
		SP_ASSERT(sp_path_check_repo(source.repo, &err) == SP_OK);
	else
		SP_ASSERT(err.msg[0] != '\0');
	free(text);
	check_policy(data, len);
	check_profile(data, len);
	return 0;
}
