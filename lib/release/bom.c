/* bom.c -- CycloneDX 1.6 of a candidate. */
#include "release/bom.h"
#include "base/json.h"
#include "release/chain.h"

#include <inttypes.h>
#include <string.h>

static json_t *
sha256_list(const char *digest)
{
	return json_pack("[{s:s, s:s}]", "alg", "SHA-256", "content", digest);
}

static void
set_text(json_t *obj, const char *key, const char *text)
{
	if (text != NULL && text[0] != '\0')
		json_object_set_new(obj, key, json_string(text));
}

static void
add_property(json_t *list, const char *name, const char *value)
{
	if (value != NULL && value[0] != '\0')
		json_array_append_new(list, json_pack("{s:s, s:s}", "name", name, "value", value));
}

/* Where the model came from, as CycloneDX pedigree. */
static json_t *
pedigree(const struct sp_bom *bom)
{
	json_t *ancestor = json_pack("{s:s}", "type", "machine-learning-model");

	json_object_set_new(ancestor, "name", json_string(bom->source));
	if (bom->source_tree != NULL && bom->source_tree[0] != '\0')
		json_object_set_new(ancestor, "hashes", sha256_list(bom->source_tree));
	return json_pack("{s:[o]}", "ancestors", ancestor);
}

static json_t *
model_card(const struct sp_bom *bom)
{
	json_t *parameters = json_object(), *card = json_object(), *metrics, *metric;
	size_t i;

	set_text(parameters, "task", bom->task);
	if (json_object_size(parameters) > 0)
		json_object_set(card, "modelParameters", parameters);
	json_decref(parameters);
	if (bom->metric_count == 0)
		return card;
	metrics = json_array();
	for (i = 0; i < bom->metric_count; i++) {
		metric = json_pack(
		    "{s:s, s:s}", "type", bom->metrics[i].type, "value", bom->metrics[i].value);
		set_text(metric, "slice", bom->metrics[i].slice);
		json_array_append_new(metrics, metric);
	}
	json_object_set_new(
	    card, "quantitativeAnalysis", json_pack("{s:o}", "performanceMetrics", metrics));
	return card;
}

static json_t *
file_components(const struct sp_bom *bom)
{
	json_t *list = json_array(), *properties;
	const struct sp_tree_file *file;
	char *size;
	size_t i;

	for (i = 0; i < bom->tree->count; i++) {
		file = &bom->tree->files[i];
		size = sp_xasprintf("%" PRIu64, file->size);
		properties = json_array();
		add_property(properties, "sallyport:bytes", size);
		add_property(properties, "sallyport:mode", file->executable ? "0755" : "0644");
		json_array_append_new(
		    list, json_pack("{s:s, s:s, s:o, s:o}", "type", "file", "name", file->path,
			      "hashes", sha256_list(file->sha256.s), "properties", properties));
		free(size);
	}
	return list;
}

static json_t *
properties(const struct sp_bom *bom)
{
	json_t *list = json_array();
	char *count;

	add_property(list, "sallyport:destination", bom->candidate->destination);
	add_property(list, "sallyport:job", bom->candidate->job);
	add_property(list, "sallyport:kind", bom->candidate->kind);
	add_property(list, "sallyport:tree", bom->candidate->tree.s);
	if (bom->tree != NULL && bom->tree->count > SP_BOM_FILES_MAX) {
		count = sp_xasprintf("%zu", bom->tree->count);
		add_property(list, "sallyport:files-left-out", count);
		free(count);
	}
	return list;
}

/* "machine-learning-model" for a model; CycloneDX has its own words for the other kinds. */
static const char *
component_type(const char *kind)
{
	if (strcmp(kind, "model") == 0)
		return "machine-learning-model";
	return strcmp(kind, "image") == 0 ? "container" : "file";
}

static json_t *
component(const struct sp_bom *bom)
{
	const struct sp_candidate *c = bom->candidate;
	char *version = sp_xasprintf("%" PRId64, c->version);
	json_t *obj, *card;

	obj = json_pack("{s:s, s:s, s:s, s:s, s:o, s:o}", "bom-ref", c->tree.s, "type",
	    component_type(c->kind), "name", c->name, "version", version, "hashes",
	    sha256_list(c->tree.s), "properties", properties(bom));
	SP_ASSERT(obj != NULL);
	free(version);
	if (bom->license != NULL && bom->license[0] != '\0')
		json_object_set_new(
		    obj, "licenses", json_pack("[{s:{s:s}}]", "license", "name", bom->license));
	if (bom->source != NULL && bom->source[0] != '\0')
		json_object_set_new(obj, "pedigree", pedigree(bom));
	if (strcmp(c->kind, "model") == 0) {
		card = model_card(bom);
		if (json_object_size(card) > 0)
			json_object_set(obj, "modelCard", card);
		json_decref(card);
	}
	if (bom->tree != NULL && bom->tree->count > 0 && bom->tree->count <= SP_BOM_FILES_MAX)
		json_object_set_new(obj, "components", file_components(bom));
	return obj;
}

json_t *
sp_bom_build(const struct sp_bom *bom)
{
	const char *job = bom->candidate->job;
	json_t *document, *metadata;
	char *serial;

	/* the job's 128 random bits in the form of a UUID: the same release, the same number */
	serial = sp_xasprintf(
	    "urn:uuid:%.8s-%.4s-%.4s-%.4s-%.12s", job, job + 8, job + 12, job + 16, job + 20);
	metadata = json_pack("{s:o, s:s}", "component", component(bom), "timestamp", bom->time);
	document = json_pack("{s:s, s:s, s:s, s:i, s:o}", "bomFormat", "CycloneDX", "specVersion",
	    "1.6", "serialNumber", serial, "version", 1, "metadata", metadata);
	SP_ASSERT(document != NULL);
	free(serial);
	return document;
}

/* --- from the attestations ------------------------------------------------------------------ */

#define METRICS_MAX 32

/* What the daemon itself noted in a provenance; NULL when it did not. */
static const char *
internal_parameter(const struct sp_statement *s, const char *key)
{
	const json_t *definition = json_object_get(s->predicate, "buildDefinition");

	return json_string_value(
	    json_object_get(json_object_get(definition, "internalParameters"), key));
}

/* "hf:org/name@COMMIT" from the first material of a fetch, malloc'd; NULL when it names none. */
static char *
fetched_source(const struct sp_statement *s)
{
	const json_t *definition = json_object_get(s->predicate, "buildDefinition");
	const json_t *material =
	    json_array_get(json_object_get(definition, "resolvedDependencies"), 0);
	const char *uri = json_string_value(json_object_get(material, "uri"));
	const char *commit =
	    json_string_value(json_object_get(json_object_get(material, "digest"), "gitCommit"));

	if (uri == NULL)
		return NULL;
	return sp_xasprintf("%s%s%s", uri, commit != NULL ? "@" : "", commit != NULL ? commit : "");
}

/* The verdict's numbers: per gate what the baseline and the candidate scored, in percent. */
static size_t
gate_metrics(const struct sp_statement *gate, struct sp_bom_metric metrics[METRICS_MAX])
{
	static const char *const sides[][2] = {
	    {"candidate_pp", "candidate (percent)"}, {"baseline_pp", "baseline (percent)"}};
	json_t *detail = json_object_get(gate->predicate, "sallyport"), *obj;
	const char *name, *value;
	size_t i, count = 0;

	json_object_foreach(detail, name, obj)
	{
		for (i = 0; i < 2 && count < METRICS_MAX; i++) {
			value = json_string_value(json_object_get(obj, sides[i][0]));
			if (value != NULL)
				metrics[count++] = (struct sp_bom_metric){
				    .type = name, .value = value, .slice = sides[i][1]};
		}
	}
	return count;
}

enum sp_code
sp_bom_model(const struct sp_candidate *candidate, const struct sp_tree *tree,
    const struct sp_bytes *attestations, size_t attestation_count, const char *time, json_t **out,
    struct sp_err *err)
{
	struct sp_bom bom = {.candidate = candidate, .tree = tree, .time = time};
	struct sp_statement statements[SP_CHAIN_STAGES];
	struct sp_bom_metric metrics[METRICS_MAX];
	enum sp_code code = SP_OK;
	char *source = NULL;
	struct sp_dsse dsse;
	size_t i;

	memset(statements, 0, sizeof(statements));
	for (i = 0; i < attestation_count && i < SP_CHAIN_STAGES && code == SP_OK; i++) {
		code = sp_dsse_parse(attestations[i].data, attestations[i].len, &dsse, err);
		if (code != SP_OK)
			break;
		code = sp_statement_parse(dsse.payload, dsse.payload_len, &statements[i], err);
		sp_dsse_clear(&dsse);
	}
	if (code != SP_OK)
		goto out;
	if (statements[SP_CHAIN_FETCH].root != NULL) {
		source = fetched_source(&statements[SP_CHAIN_FETCH]);
		bom.source = source;
		bom.source_tree = statements[SP_CHAIN_FETCH].subject_tree;
		bom.license = internal_parameter(&statements[SP_CHAIN_FETCH], "licence");
	}
	if (statements[SP_CHAIN_GATE].root != NULL) {
		bom.task = "text-generation";
		bom.metrics = metrics;
		bom.metric_count = gate_metrics(&statements[SP_CHAIN_GATE], metrics);
	}
	*out = sp_bom_build(&bom);
out:
	for (i = 0; i < SP_CHAIN_STAGES; i++)
		sp_statement_clear(&statements[i]);
	free(source);
	return code;
}

/* --- checking ------------------------------------------------------------------------------- */

static enum sp_code
check_text(const json_t *obj, const char *key, const char *wanted, struct sp_err *err)
{
	const char *text;
	enum sp_code code = sp_json_string(obj, key, &text, err);

	if (code == SP_OK && strcmp(text, wanted) != 0)
		code = sp_err_set(
		    err, SP_E_INVALID, "field \"%s\" is \"%s\", not \"%s\"", key, text, wanted);
	return code;
}

enum sp_code
sp_bom_check(const json_t *document, const struct sp_candidate *c, struct sp_err *err)
{
	char *version = sp_xasprintf("%" PRId64, c->version);
	json_t *metadata, *obj, *hashes, *hash;
	enum sp_code code;

	code = check_text(document, "bomFormat", "CycloneDX", err);
	if (code == SP_OK)
		code = check_text(document, "specVersion", "1.6", err);
	if (code == SP_OK)
		code = sp_json_object(document, "metadata", &metadata, err);
	if (code == SP_OK)
		code = sp_json_object(metadata, "component", &obj, err);
	if (code == SP_OK)
		code = check_text(obj, "type", component_type(c->kind), err);
	if (code == SP_OK)
		code = check_text(obj, "name", c->name, err);
	if (code == SP_OK)
		code = check_text(obj, "version", version, err);
	if (code == SP_OK)
		code = sp_json_array(obj, "hashes", &hashes, err);
	if (code == SP_OK) {
		hash = json_array_get(hashes, 0);
		code = check_text(hash, "alg", "SHA-256", err);
		if (code == SP_OK)
			code = check_text(hash, "content", c->tree.s, err);
	}
	free(version);
	return code != SP_OK ? sp_err_prefix(err, "bill of materials") : SP_OK;
}
