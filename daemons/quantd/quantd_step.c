/* quantd_step.c -- what a task asks for and what is attested; no clock, file or socket. */
#include "quantd.h"

#include "awq/card.h"
#include "base/version.h"
#include "bus/step.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- what is asked for -------------------------------------------------------------------------
 */

enum sp_code
quantd_settings_parse(
    const uint8_t *policy, size_t len, struct sp_settings *out, struct sp_err *err)
{
	json_t *root = NULL, *group;
	enum sp_code code;

	memset(out, 0, sizeof(*out));
	if ((code = sp_json_parse(policy, len, "profile", &root, err)))
		return code;
	if ((code = sp_json_object(root, "quantize", &group, err)) == SP_OK)
		code = sp_settings_parse(group, out, err);
	if (code != SP_OK)
		code = sp_err_prefix(err, "profile");
	json_decref(root);
	return code;
}

#define LEFT_MAX_S 360000 /* 100 h: no guess that helps anybody */

/* --- progress ----------------------------------------------------------------------------------
 */

struct quantd_phase
quantd_phase(const json_t *layer, int64_t left_ms)
{
	struct sp_card_line errors = sp_card_errors(layer);
	struct quantd_phase phase;
	int64_t s = left_ms / 1000;
	char left[24] = "";

	if (left_ms >= 0 && s < 60)
		snprintf(left, sizeof(left), "%d s left", (int)s);
	else if (left_ms >= 0 && s < 3600)
		snprintf(left, sizeof(left), "%d min left", (int)(s / 60));
	else if (left_ms >= 0 && s < LEFT_MAX_S)
		snprintf(left, sizeof(left), "%d h %02d min left", (int)(s / 3600),
		    (int)(s % 3600 / 60));
	snprintf(phase.s, sizeof(phase.s), "layer%s%s%s%s",
	    errors.s[0] != '\0' || left[0] != '\0' ? ": " : "", errors.s,
	    errors.s[0] != '\0' && left[0] != '\0' ? ", " : "", left);
	return phase;
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

static json_t *
machine_json(const struct quantd_machine *m)
{
	return json_pack("{s:s, s:{s:s, s:s}, s:{s:s, s:s, s:s, s:s, s:s}}", "program", m->program,
	    "hardware", "cpu", m->cpu, "instructions", m->instructions, "libraries", "glibc",
	    m->glibc, "gnutls", m->gnutls, "jansson", m->jansson, "pcre2", m->pcre2, "sleef",
	    m->sleef);
}

char *
quantd_statement(const struct quantd_provenance *p, size_t *len)
{
	char *tree_uri = sp_xasprintf("sallyport:tree:%s", p->source_tree);
	char *file_uri =
	    sp_xasprintf("%s%s", p->settings->calibration[0] == '/' ? "file://" : "sallyport:",
		p->settings->calibration);
	const struct sp_material materials[] = {
	    {.uri = tree_uri, .name = p->source_name, .sha256 = p->source_tree},
	    {.uri = file_uri, .name = "calibration", .sha256 = p->calibration},
	};
	const struct sp_material byproducts[] = {{.name = "losses", .sha256 = p->report}};
	json_t *internal = machine_json(&p->machine);
	json_t *external = json_pack("{s:s, s:o, s:s}", "profile", p->task->profile, "quantize",
	    sp_settings_json(p->settings), "source", p->task->source);
	struct sp_provenance statement = {
	    .subject_name = p->task->name,
	    .subject_tree = p->tree,
	    .build_type = SP_BUILD_QUANTIZE,
	    .external = external,
	    .internal = internal,
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
	json_decref(internal);
	free(tree_uri);
	free(file_uri);
	return text;
}
