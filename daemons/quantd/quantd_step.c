/* quantd_step.c -- what a task asks for and what is attested; no clock, file or socket. */
#include "quantd.h"

#include "base/version.h"
#include "bus/step.h"

#include <stdlib.h>
#include <string.h>

#define METHOD "awq"

/* --- recipe ------------------------------------------------------------------------------------
 */

static enum sp_code
check_keys(const json_t *group, struct sp_err *err)
{
	static const char *const known[] = {
	    "calibration", "group_size", "method", "samples", "sequence"};
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)group, key, value)
	{
		size_t i = 0;

		while (i < sizeof(known) / sizeof(*known) && strcmp(known[i], key) != 0)
			i++;
		if (i == sizeof(known) / sizeof(*known))
			return sp_err_set(err, SP_E_CONFIG,
			    "quantize.%.64s is not a setting: there are calibration, group_size, "
			    "method, samples, sequence",
			    key);
	}
	return SP_OK;
}

static enum sp_code
read_group(const json_t *group, struct quantd_recipe *out, struct sp_err *err)
{
	const char *method, *calibration;
	int64_t group_size, samples, sequence;
	enum sp_code code;

	if ((code = check_keys(group, err)) ||
	    (code = sp_json_string(group, "method", &method, err)) ||
	    (code = sp_json_string(group, "calibration", &calibration, err)) ||
	    (code = sp_json_integer(group, "group_size", 32, 128, &group_size, err)) ||
	    (code = sp_json_integer(group, "samples", 1, 65536, &samples, err)) ||
	    (code = sp_json_integer(group, "sequence", 1, 65536, &sequence, err)))
		return code;
	if (strcmp(method, METHOD) != 0)
		return sp_err_set(err, SP_E_UNSUPPORTED,
		    "quantize.method is \"%.64s\": there is \"" METHOD "\"", method);
	if (group_size != 32 && group_size != 64 && group_size != 128)
		return sp_err_set(err, SP_E_INVALID,
		    "quantize.group_size is %lld: choose 32, 64 or 128", (long long)group_size);
	if (calibration[0] != '/')
		return sp_err_set(err, SP_E_INVALID,
		    "quantize.calibration is \"%.256s\", not an absolute path", calibration);
	out->calibration = sp_xstrdup(calibration);
	out->group_size = (size_t)group_size;
	out->samples = (size_t)samples;
	out->sequence = (size_t)sequence;
	return SP_OK;
}

enum sp_code
quantd_recipe_parse(
    const uint8_t *policy, size_t len, struct quantd_recipe *out, struct sp_err *err)
{
	json_t *root = NULL, *group;
	enum sp_code code;

	memset(out, 0, sizeof(*out));
	if ((code = sp_json_parse(policy, len, "profile", &root, err)))
		return code;
	if ((code = sp_json_object(root, "quantize", &group, err)) == SP_OK)
		code = read_group(group, out, err);
	if (code != SP_OK)
		code = sp_err_prefix(err, "profile");
	json_decref(root);
	return code;
}

void
quantd_recipe_clear(struct quantd_recipe *recipe)
{
	free(recipe->calibration);
	memset(recipe, 0, sizeof(*recipe));
}

static json_t *
recipe_json(const struct quantd_recipe *recipe)
{
	return json_pack("{s:s, s:I, s:s, s:I, s:I}", "calibration", recipe->calibration,
	    "group_size", (json_int_t)recipe->group_size, "method", METHOD, "samples",
	    (json_int_t)recipe->samples, "sequence", (json_int_t)recipe->sequence);
}

struct sp_hex
quantd_key(const char *tree, const char *calibration, const struct quantd_recipe *recipe,
    const char *program)
{
	char *text = sp_xasprintf("sallyport-quantize/1\n%s\n%s\n%s\n%zu %zu %zu\n%s\n", tree,
	    calibration, METHOD, recipe->group_size, recipe->samples, recipe->sequence, program);
	struct sp_hex key = sp_sha256_hex(text, strlen(text));

	free(text);
	return key;
}

/* --- the chain behind --------------------------------------------------------------------------
 */

enum sp_code
quantd_check_source(const struct sp_trust *trust, const Sallyport__Task *task, const char *tree,
    char **name, struct sp_err *err)
{
	struct sp_statement fetch = {0};
	enum sp_code code = sp_step_behind(trust, task, SP_CHAIN_FETCH, tree, &fetch, err);

	*name = code == SP_OK ? sp_xstrdup(fetch.subject_name) : NULL;
	sp_statement_clear(&fetch);
	return code;
}

/* --- the attestation ---------------------------------------------------------------------------
 */

char *
quantd_statement(const struct quantd_provenance *p, size_t *len)
{
	char *tree_uri = sp_xasprintf("sallyport:tree:%s", p->source_tree);
	char *file_uri = sp_xasprintf("file://%s", p->recipe->calibration);
	const struct sp_material materials[] = {
	    {.uri = tree_uri, .name = p->source_name, .sha256 = p->source_tree},
	    {.uri = file_uri, .name = "calibration", .sha256 = p->calibration},
	};
	const struct sp_material byproducts[] = {{.name = "losses", .sha256 = p->report}};
	json_t *external = json_pack("{s:s, s:o, s:s}", "profile", p->task->profile, "quantize",
	    recipe_json(p->recipe), "source", p->task->source);
	struct sp_provenance statement = {
	    .subject_name = p->task->name,
	    .subject_tree = p->tree,
	    .build_type = SP_BUILD_QUANTIZE,
	    .external = external,
	    .materials = materials,
	    .material_count = sizeof(materials) / sizeof(*materials),
	    .builder = p->builder,
	    .version = SP_VERSION,
	    .invocation = p->task->job,
	    .started = p->started,
	    .finished = p->finished,
	    .byproducts = byproducts,
	    .byproduct_count = sizeof(byproducts) / sizeof(*byproducts),
	};
	char *text;

	SP_ASSERT(external != NULL); /* the envelope's reader saw to it that all this is UTF-8 */
	text = sp_statement_provenance(&statement, len);
	json_decref(external);
	free(tree_uri);
	free(file_uri);
	return text;
}
