/*
 * statement.c -- in-toto Statement v1 (github.com/in-toto/attestation, spec/v1/statement.md) with
 * the predicates SLSA provenance v1 (slsa.dev/provenance/v1) and test-result v0.1:
 *
 *	{"_type": SP_STATEMENT_TYPE, "predicate": {…}, "predicateType": URI,
 *	 "subject": [{"digest": {"sha256": hex}, "name": TEXT}]}
 */
#include "release/statement.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TREE_URI "sallyport:tree:"
#define BUILDER_URI "sallyport:"

/* Fractions have no canonical form, so a signed document has none: they become the shortest decimal
 * text that reads back as the same number. Returns a new reference. */
static json_t *
without_reals(const json_t *value)
{
	json_t *out, *member;
	const char *key;
	char text[32];
	size_t i;
	int digits;

	switch (json_typeof(value)) {
	case JSON_REAL:
		for (digits = 1; digits <= 17; digits++) {
			snprintf(text, sizeof(text), "%.*g", digits, json_real_value(value));
			if (strtod(text, NULL) == json_real_value(value))
				break;
		}
		return json_string(text);
	case JSON_ARRAY:
		out = json_array();
		for (i = 0; i < json_array_size(value); i++)
			json_array_append_new(out, without_reals(json_array_get(value, i)));
		return out;
	case JSON_OBJECT:
		out = json_object();
		json_object_foreach((json_t *)(uintptr_t)value, key, member)
		    json_object_set_new(out, key, without_reals(member));
		return out;
	default:
		return json_incref((json_t *)(uintptr_t)value);
	}
}

/* in-toto ResourceDescriptor; empty fields are left out. */
static json_t *
descriptor(const struct sp_material *m)
{
	json_t *obj = json_object(), *digest = json_object();

	if (m->sha256 != NULL && m->sha256[0] != '\0')
		json_object_set_new(digest, "sha256", json_string(m->sha256));
	if (m->git_commit != NULL && m->git_commit[0] != '\0')
		json_object_set_new(digest, "gitCommit", json_string(m->git_commit));
	if (json_object_size(digest) > 0)
		json_object_set(obj, "digest", digest);
	json_decref(digest);
	if (m->name != NULL && m->name[0] != '\0')
		json_object_set_new(obj, "name", json_string(m->name));
	if (m->uri != NULL && m->uri[0] != '\0')
		json_object_set_new(obj, "uri", json_string(m->uri));
	return obj;
}

static json_t *
descriptors(const struct sp_material *list, size_t count)
{
	json_t *array = json_array();
	size_t i;

	for (i = 0; i < count; i++)
		json_array_append_new(array, descriptor(&list[i]));
	return array;
}

/* Takes over predicate. */
static char *
statement(const char *name, const char *tree, const char *type, json_t *predicate, size_t *len)
{
	json_t *root;
	char *text;

	root = json_pack("{s:s, s:o, s:s, s:[{s:{s:s}, s:s}]}", "_type", SP_STATEMENT_TYPE,
	    "predicate", predicate, "predicateType", type, "subject", "digest", "sha256", tree,
	    "name", name);
	/* strings of daemons and of the candidate, which are UTF-8 by then */
	SP_ASSERT(root != NULL);
	text = sp_json_canonical(root, len);
	json_decref(root);
	return text;
}

char *
sp_statement_provenance(const struct sp_provenance *p, size_t *len)
{
	json_t *definition, *details, *predicate;
	char *id = sp_xasprintf(BUILDER_URI "%s", p->builder);

	definition = json_pack("{s:s, s:o, s:o}", "buildType", p->build_type, "externalParameters",
	    p->external != NULL ? without_reals(p->external) : json_object(),
	    "resolvedDependencies", descriptors(p->materials, p->material_count));
	SP_ASSERT(definition != NULL);
	if (p->internal != NULL)
		json_object_set_new(definition, "internalParameters", without_reals(p->internal));
	details = json_pack("{s:{s:s, s:{s:s}}, s:{s:s, s:s, s:s}}", "builder", "id", id, "version",
	    "sallyport", p->version, "metadata", "finishedOn", p->finished, "invocationId",
	    p->invocation, "startedOn", p->started);
	SP_ASSERT(details != NULL);
	if (p->byproduct_count > 0)
		json_object_set_new(
		    details, "byproducts", descriptors(p->byproducts, p->byproduct_count));
	predicate = json_pack("{s:o, s:o}", "buildDefinition", definition, "runDetails", details);
	free(id);
	return statement(p->subject_name, p->subject_tree, SP_PREDICATE_SLSA, predicate, len);
}

static json_t *
words(const char *const *list, size_t count)
{
	json_t *array = json_array();
	size_t i;

	for (i = 0; i < count; i++)
		json_array_append_new(array, json_string(list[i]));
	return array;
}

char *
sp_statement_test_result(const struct sp_test_result *r, size_t *len)
{
	json_t *predicate;

	predicate = json_pack("{s:o, s:o, s:o, s:s, s:[]}", "configuration",
	    descriptors(r->configuration, r->configuration_count), "failedTests",
	    words(r->failed, r->failed_count), "passedTests", words(r->passed, r->passed_count),
	    "result", r->result, "warnedTests");
	SP_ASSERT(predicate != NULL);
	if (r->detail != NULL)
		json_object_set_new(predicate, "sallyport", without_reals(r->detail));
	return statement(r->subject_name, r->subject_tree, SP_PREDICATE_TEST, predicate, len);
}

/* --- parsing -------------------------------------------------------------------------------- */

static enum sp_code
parse_subject(const json_t *root, struct sp_statement *out, struct sp_err *err)
{
	json_t *subjects, *subject, *digest;
	enum sp_code code;

	code = sp_json_array(root, "subject", &subjects, err);
	if (code != SP_OK)
		return code;
	if (json_array_size(subjects) != 1)
		return sp_err_set(err, SP_E_INVALID, "it has %zu subjects, not exactly one",
		    json_array_size(subjects));
	subject = json_array_get(subjects, 0);
	code = sp_json_string(subject, "name", &out->subject_name, err);
	if (code == SP_OK)
		code = sp_json_object(subject, "digest", &digest, err);
	if (code == SP_OK)
		code = sp_json_string(digest, "sha256", &out->subject_tree, err);
	if (code != SP_OK)
		return code;
	if (json_object_size(subject) != 2 || json_object_size(digest) != 1)
		return sp_err_set(
		    err, SP_E_INVALID, "its subject has fields other than name, digest.sha256");
	if (!sp_hex_is_digest(out->subject_tree))
		return sp_err_set(
		    err, SP_E_INVALID, "its subject's sha256 must be 64 lower-case hex digits");
	return SP_OK;
}

static enum sp_code
parse(struct sp_statement *out, struct sp_err *err)
{
	enum sp_code code;
	const char *type;

	code = sp_json_string(out->root, "_type", &type, err);
	if (code == SP_OK && strcmp(type, SP_STATEMENT_TYPE) != 0)
		code = sp_err_set(
		    err, SP_E_UNSUPPORTED, "_type is \"%s\", not " SP_STATEMENT_TYPE, type);
	if (code == SP_OK)
		code = sp_json_string(out->root, "predicateType", &out->predicate_type, err);
	if (code == SP_OK)
		code = sp_json_object(out->root, "predicate", &out->predicate, err);
	if (code == SP_OK && json_object_size(out->root) != 4)
		code = sp_err_set(err, SP_E_INVALID,
		    "it has fields other than _type, predicate, predicateType, subject");
	if (code == SP_OK)
		code = parse_subject(out->root, out, err);
	return code;
}

enum sp_code
sp_statement_parse(const uint8_t *payload, size_t len, struct sp_statement *out, struct sp_err *err)
{
	struct sp_err inner;
	enum sp_code code;

	memset(out, 0, sizeof(*out));
	code = sp_json_parse_canonical(payload, len, "statement", &out->root, err);
	if (code != SP_OK)
		return code;
	code = parse(out, &inner);
	if (code != SP_OK) {
		sp_statement_clear(out);
		return sp_err_set(err, code, "statement: %s", inner.msg);
	}
	return SP_OK;
}

void
sp_statement_clear(struct sp_statement *statement)
{
	json_decref(statement->root);
	memset(statement, 0, sizeof(*statement));
}

/* --- questions ------------------------------------------------------------------------------ */

/* The member of an object, itself reached through an object; NULL when there is no such thing. */
static json_t *
member(const struct sp_statement *s, const char *predicate_type, const char *group, const char *key)
{
	const json_t *obj = s->predicate;

	if (strcmp(s->predicate_type, predicate_type) != 0)
		return NULL;
	if (group != NULL)
		obj = json_object_get(obj, group);
	return json_object_get(obj, key);
}

static int
is_tree(const json_t *descriptor, const char *tree)
{
	const char *uri = json_string_value(json_object_get(descriptor, "uri"));
	const char *sha256 =
	    json_string_value(json_object_get(json_object_get(descriptor, "digest"), "sha256"));

	return uri != NULL && sha256 != NULL && strncmp(uri, TREE_URI, sizeof(TREE_URI) - 1) == 0 &&
	       strcmp(uri + sizeof(TREE_URI) - 1, tree) == 0 && strcmp(sha256, tree) == 0;
}

int
sp_statement_uses_tree(const struct sp_statement *s, const char *tree)
{
	const json_t *list;
	size_t i;

	list = member(s, SP_PREDICATE_SLSA, "buildDefinition", "resolvedDependencies");
	if (list == NULL)
		list = member(s, SP_PREDICATE_TEST, NULL, "configuration");
	for (i = 0; i < json_array_size(list); i++)
		if (is_tree(json_array_get(list, i), tree))
			return 1;
	return 0;
}

const char *
sp_statement_build_type(const struct sp_statement *s)
{
	return json_string_value(member(s, SP_PREDICATE_SLSA, "buildDefinition", "buildType"));
}

const char *
sp_statement_result(const struct sp_statement *s)
{
	return json_string_value(member(s, SP_PREDICATE_TEST, NULL, "result"));
}

const char *
sp_statement_builder(const struct sp_statement *s)
{
	const json_t *builder = member(s, SP_PREDICATE_SLSA, "runDetails", "builder");
	const char *id = json_string_value(json_object_get(builder, "id"));

	if (id == NULL || strncmp(id, BUILDER_URI, sizeof(BUILDER_URI) - 1) != 0)
		return NULL;
	return id + sizeof(BUILDER_URI) - 1;
}

static const char *
metadata(const struct sp_statement *s, const char *key)
{
	const json_t *group = member(s, SP_PREDICATE_SLSA, "runDetails", "metadata");

	return json_string_value(json_object_get(group, key));
}

const char *
sp_statement_job(const struct sp_statement *s)
{
	return metadata(s, "invocationId");
}

const char *
sp_statement_time(const struct sp_statement *s)
{
	return metadata(s, "finishedOn");
}
