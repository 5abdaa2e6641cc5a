/* evidence.c -- verified attestations. */
#include "evidence.h"

#include <stdlib.h>
#include <string.h>

enum sp_code
ctl_evidence_open(const struct sp_trust *trust, const struct sp_dsse *attestations,
    const struct sp_hex *digests, size_t count, struct ctl_evidence *out, struct sp_err *err)
{
	enum sp_code code = SP_OK;
	size_t i, signers;

	memset(out, 0, count * sizeof(*out));
	for (i = 0; i < count && code == SP_OK; i++) {
		out[i].stage = (enum sp_chain_stage)i;
		out[i].digest = digests[i];
		code = sp_trust_verify(trust, sp_chain_stage_role(out[i].stage), 0,
		    &attestations[i], &out[i].signer, 1, &signers, err);
		if (code == SP_OK)
			code = sp_statement_parse(attestations[i].payload,
			    attestations[i].payload_len, &out[i].statement, err);
	}
	if (code != SP_OK)
		ctl_evidence_clear(out, count);
	return code;
}

void
ctl_evidence_clear(struct ctl_evidence *evidence, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++)
		sp_statement_clear(&evidence[i].statement);
}

/* resolvedDependencies of a provenance, configuration of a test result. */
static json_t *
materials_of(const struct sp_statement *s)
{
	json_t *definition = json_object_get(s->predicate, "buildDefinition");

	return definition != NULL ? json_object_get(definition, "resolvedDependencies")
				  : json_object_get(s->predicate, "configuration");
}

json_t *
ctl_evidence_json(const struct ctl_evidence *e)
{
	const struct sp_statement *s = &e->statement;
	const char *time = sp_statement_time(s), *result = sp_statement_result(s);
	json_t *obj, *detail, *materials = materials_of(s);

	obj = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:O}", "step",
	    sp_chain_stage_word(e->stage), "sha256", e->digest.s, "signer", e->signer->name, "key",
	    e->signer->id.s, "subject", s->subject_name, "tree", s->subject_tree, "materials",
	    materials != NULL ? materials : json_null());
	SP_ASSERT(obj != NULL);
	if (time != NULL)
		json_object_set_new(obj, "time", json_string(time));
	if (result != NULL)
		json_object_set_new(obj, "result", json_string(result));
	detail = json_object_get(s->predicate, "sallyport");
	if (detail != NULL)
		json_object_set(obj, "verdict", detail);
	return obj;
}

/* --- for people ----------------------------------------------------------------------------- */

static const char *
text_of(const json_t *obj, const char *key)
{
	const char *text = json_string_value(json_object_get(obj, key));

	return text != NULL ? text : "";
}

static void
print_materials(const struct sp_statement *s, const char *label, FILE *to)
{
	const json_t *list = materials_of(s), *m, *digest;
	const char *uri, *commit, *sha256;
	size_t i;

	for (i = 0; i < json_array_size(list); i++) {
		m = json_array_get(list, i);
		digest = json_object_get(m, "digest");
		uri = text_of(m, "uri");
		commit = text_of(digest, "gitCommit");
		sha256 = text_of(digest, "sha256");
		/* a tree's uri holds its digest already */
		if (sha256[0] != '\0' && strstr(uri, sha256) != NULL)
			sha256 = "";
		ctl_out_field(to, i == 0 ? label : "", "%s%s%s%s%s%s%s", uri,
		    uri[0] != '\0' && text_of(m, "name")[0] != '\0' ? ", " : "", text_of(m, "name"),
		    commit[0] != '\0' ? ", commit " : "", commit,
		    sha256[0] != '\0' ? ", sha256 " : "", sha256);
	}
}

/* "71.0000" as people want it; empty stays empty. */
static char *
percent(const json_t *gate, const char *key)
{
	const char *text = text_of(gate, key);

	return text[0] != '\0' ? sp_xasprintf("%.2f %%", strtod(text, NULL)) : sp_xstrdup("");
}

static void
print_gates(const struct sp_statement *s, FILE *to)
{
	struct ctl_out_table table = {.right = 0xfc};
	json_t *detail = json_object_get(s->predicate, "sallyport"), *gate;
	char *baseline, *candidate, *drop, *bound, *allowed, *n;
	const char *name;

	ctl_out_row(&table, "gate", "verdict", "questions", "baseline", "candidate", "drop",
	    "bound", "allowed", NULL);
	json_object_foreach(detail, name, gate)
	{
		if (!json_is_object(gate) || text_of(gate, "verdict")[0] == '\0')
			continue;
		baseline = percent(gate, "baseline_pp");
		candidate = percent(gate, "candidate_pp");
		drop = percent(gate, "drop_pp");
		bound = percent(gate, "bound_pp");
		allowed = percent(gate, "max_drop_pp");
		n = sp_xasprintf("%lld", (long long)json_integer_value(json_object_get(gate, "n")));
		ctl_out_row(&table, name, text_of(gate, "verdict"), n, baseline, candidate, drop,
		    bound, allowed, NULL);
		free(baseline);
		free(candidate);
		free(drop);
		free(bound);
		free(allowed);
		free(n);
	}
	ctl_out_table(&table, "    ", to);
}

void
ctl_evidence_print(const struct ctl_evidence *e, FILE *to)
{
	const struct sp_statement *s = &e->statement;
	const char *time = sp_statement_time(s), *result = sp_statement_result(s);

	ctl_out_print(to, "%s by %s\n", sp_chain_stage_word(e->stage), e->signer->name);
	print_materials(s, result != NULL ? "with" : "from", to);
	ctl_out_field(to, result != NULL ? "tested" : "made", "%s, tree %s", s->subject_name,
	    s->subject_tree);
	ctl_out_field(to, "result", "%s", result != NULL ? result : "");
	ctl_out_field(to, "time", "%s", time != NULL ? time : "");
	ctl_out_field(to, "attestation", "%s", e->digest.s);
	ctl_out_field(to, "key", "%s", e->signer->id.s);
	if (result != NULL)
		print_gates(s, to);
}
