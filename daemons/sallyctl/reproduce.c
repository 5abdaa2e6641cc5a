/*
 * reproduce.c -- is a quantized tree what its attestation says? The step is done again here, from
 * the same source and calibration text, by the attested settings, and the digests are compared.
 *
 * It runs in sallyctl, which reads the stores of fetcherd and quantd as any member of their group
 * may: no key is needed, nothing is leased, written to a store or logged, and quantd itself, whose
 * word is in question, has no part in it. The code is the same (awq/convert.h).
 */
#include "base/file.h"
#include "base/program.h"
#include "base/source.h"
#include "base/version.h"
#include "bus/paths.h"
#include "fetched.h"
#include "jobs.h"
#include "place.h"
#include "quantize.h"
#include "store/tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CALIBRATION_MAX ((size_t)256 << 20)

/* What the attestation says; strings are borrowed from the statement. */
struct attested {
	struct sp_statement statement;
	struct sp_settings settings;
	struct sp_source source;
	const char *tree, *calibration, *version; /* digests of the inputs; of the code */
	char job[SP_JOB_ID_LEN + 1];
};

struct again {
	struct ctl *ctl;
	struct ctl_show show;
	struct ctl_quantize q;
	struct attested attested;
	struct sp_store *fetched, *quantized;
	struct sp_tree source, want, made;
	struct sp_hex made_digest;
	uint8_t *calibration;
	size_t calibration_len;
	char *work, *dir; /* DIR, and what is in it for these inputs */
	char *out;
	json_t *differences;
	int locked;
};

/* --- the attestation ---------------------------------------------------------------------------
 */

static const char *
digest_of(const json_t *materials, size_t i)
{
	return json_string_value(
	    json_object_get(json_object_get(json_array_get(materials, i), "digest"), "sha256"));
}

static enum sp_code
read_statement(struct attested *a, struct sp_err *err)
{
	json_t *definition, *external, *group, *materials;
	const char *source;
	enum sp_code code;

	if ((code = sp_json_object(a->statement.predicate, "buildDefinition", &definition, err)) ||
	    (code = sp_json_object(definition, "externalParameters", &external, err)) ||
	    (code = sp_json_object(external, "quantize", &group, err)) ||
	    (code = sp_settings_parse(group, &a->settings, err)) ||
	    (code = sp_json_string(external, "source", &source, err)) ||
	    (code = sp_source_parse(source, &a->source, err)) ||
	    (code = sp_json_array(definition, "resolvedDependencies", &materials, err)))
		return code;
	a->tree = digest_of(materials, 0);
	a->calibration = digest_of(materials, 1);
	a->version = json_string_value(json_object_get(
	    json_object_get(
		json_object_get(json_object_get(a->statement.predicate, "runDetails"), "builder"),
		"version"),
	    "sallyport"));
	if (a->tree == NULL || a->calibration == NULL)
		return sp_err_set(
		    err, SP_E_INVALID, "it names no source tree, or no calibration text");
	return SP_OK;
}

static enum sp_code
read_attestation(struct again *r, struct sp_err *err)
{
	const Sallyport__OperatorJobView *view;
	Sallyport__OperatorReply *reply;
	struct sp_trust *trust = NULL;
	struct sp_hex digest;
	enum sp_code code =
	    ctl_jobs_fetch(r->ctl, r->ctl->args->words[0], 0, 0, &reply, &view, err);

	if (code != SP_OK)
		return code;
	snprintf(r->attested.job, sizeof(r->attested.job), "%s", view->job);
	code = ctl_trust(r->ctl, &trust, err);
	if (code == SP_OK)
		code = ctl_fetched_attestation(
		    trust, view, SP_CHAIN_QUANTIZE, &r->attested.statement, &digest, err);
	if (code == SP_OK && (code = read_statement(&r->attested, err)) != SP_OK)
		sp_err_prefix(err, "quantize attestation of job %s", view->job);
	sp_trust_free(&trust);
	sallyport__operator_reply__free_unpacked(reply, NULL);
	return code;
}

/* --- the step, once more -----------------------------------------------------------------------
 */

static enum sp_code
open_inputs(struct again *r, struct sp_err *err)
{
	const struct attested *a = &r->attested;
	const struct sp_conf *conf;
	enum sp_code code = ctl_conf(r->ctl, &conf, err);
	char *fetched, *quantized;

	if (code != SP_OK)
		return code;
	fetched = sp_paths_store(conf, "fetcherd");
	quantized = sp_paths_store(conf, "quantd");
	if ((code = sp_store_open(fetched, 0, &r->fetched, err)) ||
	    (code = sp_store_open(quantized, 0, &r->quantized, err)) ||
	    (code = sp_tree_load(r->fetched, a->tree, &r->source, err)) ||
	    (code = sp_tree_load(r->quantized, a->statement.subject_tree, &r->want, err)))
		goto out;
	code = sp_store_read(r->quantized, a->calibration, CALIBRATION_MAX, &r->calibration,
	    &r->calibration_len, err);
out:
	free(fetched);
	free(quantized);
	return code;
}

static void
on_copied(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
	struct again *r = ctx;

	ctl_show(&r->show, "copying", done_bytes, total_bytes, "bytes");
}

static enum sp_code
run(struct again *r, const char *source, const char *layers, struct sp_err *err)
{
	enum sp_code code;

	r->q.settings = &r->attested.settings;
	r->q.source = source;
	r->q.layers = layers;
	r->q.out = r->out;
	r->q.tree = r->attested.tree;
	r->q.name = r->attested.source.repo;
	r->q.calibration = r->calibration;
	r->q.calibration_size = r->calibration_len;
	if ((code = sp_tree_materialize(r->fetched, &r->source, source, on_copied, r, err)) ||
	    (code = ctl_quantize_run(&r->q, err)))
		return code;
	return sp_tree_scan(r->out, NULL, NULL, &r->made, &r->made_digest, err);
}

static enum sp_code
make(struct again *r, struct sp_err *err)
{
	const struct attested *a = &r->attested;
	char *source, *layers, *program = NULL;
	enum sp_code code = sp_program_name(&program, err);
	struct sp_hex key;

	if (code != SP_OK)
		return code;
	key = sp_settings_key(&a->settings, a->tree, a->source.repo, a->calibration, program);
	free(program);
	ctl_quantize_sweep(r->work, key.s, &r->show);
	r->dir = sp_xasprintf("%s/%s", r->work, key.s);
	r->out = sp_xasprintf("%s/out", r->dir);
	source = sp_xasprintf("%s/source", r->dir);
	layers = sp_xasprintf("%s/layers", r->dir);
	code = sp_file_mkdirs(layers, 0755, err);
	if (code == SP_OK)
		code = run(r, source, layers, err);
	free(source);
	free(layers);
	return code;
}

/* --- the verdict -------------------------------------------------------------------------------
 */

static void
add_difference(struct again *r, const char *path, const char *want, const char *made)
{
	json_array_append_new(r->differences,
	    json_pack("{s:s, s:s*, s:s*}", "path", path, "attested", want, "made", made));
}

/* Files that are not in both trees with the same bytes, mode included. */
static void
compare(struct again *r)
{
	r->differences = json_array();
	for (size_t i = 0; i < r->want.count; i++) {
		const struct sp_tree_file *want = &r->want.files[i];
		const struct sp_tree_file *made = sp_tree_find(&r->made, want->path);

		if (made == NULL || strcmp(made->sha256.s, want->sha256.s) != 0 ||
		    made->executable != want->executable)
			add_difference(
			    r, want->path, want->sha256.s, made != NULL ? made->sha256.s : NULL);
	}
	for (size_t i = 0; i < r->made.count; i++) {
		const struct sp_tree_file *made = &r->made.files[i];

		if (sp_tree_find(&r->want, made->path) == NULL)
			add_difference(r, made->path, NULL, made->sha256.s);
	}
}

static void
print(const struct again *r, int equal)
{
	const struct attested *a = &r->attested;
	const char *version = a->version != NULL ? a->version : "";
	size_t i;
	json_t *one;

	if (r->ctl->json) {
		json_t *document =
		    json_pack("{s:s, s:b, s:s, s:s, s:s, s:s, s:O}", "job", a->job, "equal", equal,
			"tree", a->statement.subject_tree, "made", r->made_digest.s, "version",
			SP_VERSION, "attested_version", version, "differences", r->differences);

		if (!equal)
			json_object_set_new(document, "dir", json_string(r->out));
		ctl_out_json(document);
		return;
	}
	ctl_out_print(stdout, "job %s: %s\n", a->job,
	    equal ? "the same tree came out again" : "another tree came out");
	ctl_out_field(stdout, "attested", "%s", a->statement.subject_tree);
	ctl_out_field(stdout, "made now", "%s", r->made_digest.s);
	if (strcmp(version, SP_VERSION) != 0)
		ctl_out_field(
		    stdout, "versions", "attested by %s, made by %s", version, SP_VERSION);
	json_array_foreach(r->differences, i, one)
	{
		const char *want = json_string_value(json_object_get(one, "attested"));
		const char *made = json_string_value(json_object_get(one, "made"));

		ctl_out_field(stdout,
		    want == NULL   ? "only now"
		    : made == NULL ? "missing"
				   : "differs",
		    "%s", json_string_value(json_object_get(one, "path")));
	}
	if (!equal)
		ctl_out_field(stdout, "files", "%s", r->out);
}

static enum sp_code
judge(struct again *r, struct sp_err *err)
{
	int equal = strcmp(r->made_digest.s, r->attested.statement.subject_tree) == 0;

	compare(r);
	print(r, equal);
	if (equal)
		return SP_OK;
	r->ctl->told = 1;
	return sp_err_set(err, SP_E_DENIED,
	    "the tree of job %s could not be reproduced: %zu files differ; what was made lies in "
	    "%s",
	    r->attested.job, json_array_size(r->differences), r->out);
}

static void
clear(struct again *r)
{
	ctl_show_close(&r->show);
	if (r->locked >= 0)
		close(r->locked);
	json_decref(r->differences);
	json_decref(r->q.report);
	sp_statement_clear(&r->attested.statement);
	sp_settings_clear(&r->attested.settings);
	sp_tree_clear(&r->source);
	sp_tree_clear(&r->want);
	sp_tree_clear(&r->made);
	sp_store_close(&r->fetched);
	sp_store_close(&r->quantized);
	free(r->calibration);
	free(r->work);
	free(r->dir);
	free(r->out);
}

/* A tree that differs stays to be looked at, without what it was made from. */
static void
remove_work(const struct again *r, int keep_out)
{
	static const char *const parts[] = {"source", "layers"};

	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
		char *path = sp_xasprintf("%s/%s", r->dir, parts[i]);

		if (sp_file_remove_all(path, NULL) != SP_OK)
			fprintf(stderr, "sallyctl: %s could not be removed\n", path);
		free(path);
	}
	if (keep_out)
		return;
	if (sp_file_remove_all(r->dir, NULL) != SP_OK ||
	    (rmdir(r->work) != 0 && errno != ENOTEMPTY))
		fprintf(stderr, "sallyctl: %s could not be removed\n", r->work);
}

enum sp_code
ctl_reproduce(struct ctl *ctl, const struct ctl_args *args, struct sp_err *err)
{
	struct again r = {.ctl = ctl, .show = {.ctl = ctl}, .locked = -1};
	const char *work = ctl_args_get(args, "--work");
	enum sp_code code;

	r.q.show = &r.show;
	if ((code = ctl_quantize_threads(ctl, &r.q.threads, err)) ||
	    (code = read_attestation(&r, err)) || (code = open_inputs(&r, err)))
		goto out;
	r.work =
	    work != NULL ? ctl_place_dir(work) : sp_xasprintf("reproduce-%.8s", r.attested.job);
	if ((code = ctl_quantize_lock(r.work, &r.locked, err)))
		goto out;
	code = make(&r, err);
	ctl_show_close(&r.show);
	if (code == SP_OK) {
		code = judge(&r, err);
		remove_work(&r, code != SP_OK);
	} else if (!sp_err_may_retry(code)) {
		remove_work(&r, 0);
	}
out:
	clear(&r);
	return code;
}
