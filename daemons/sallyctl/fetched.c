/* fetched.c -- what a job has fetched, out of fetcherd's store: a data set for a profile. */
#include "fetched.h"
#include "bus/paths.h"
#include "jobs.h"
#include "place.h"
#include "release/chain.h"
#include "store/tree.h"

#include <stdlib.h>
#include <string.h>

struct fetched {
	struct ctl *ctl;
	char *job; /* in full */
	struct sp_statement statement;
	struct sp_hex digest; /* of the attestation */
	struct sp_store *store;
	struct sp_tree tree;
};

/* --- the attestation: pure ------------------------------------------------------------------- */

enum sp_code
ctl_fetched_attestation(const struct sp_trust *trust, const Sallyport__OperatorJobView *view,
    enum sp_chain_stage stage, struct sp_statement *out, struct sp_hex *digest, struct sp_err *err)
{
	const char *step = sp_chain_stage_word(stage);
	const Sallyport__Attested *attested = NULL;
	struct sp_dsse dsse = {0};
	enum sp_code code;
	const char *job;

	memset(out, 0, sizeof(*out));
	for (size_t i = 0; i < view->n_attestations && attested == NULL; i++)
		if (strcmp(view->attestations[i]->step, step) == 0)
			attested = view->attestations[i];
	if (attested == NULL)
		return sp_err_set(err, SP_E_STATE, "job %s is %s: it has %s (yet)", view->job,
		    view->state,
		    stage == SP_CHAIN_FETCH ? "fetched nothing" : "not quantized anything");
	*digest = sp_sha256_hex(attested->envelope.data, attested->envelope.len);
	code = sp_dsse_parse(attested->envelope.data, attested->envelope.len, &dsse, err);
	if (code == SP_OK)
		code = sp_chain_stage_check(trust, stage, &dsse, out, err);
	job = code == SP_OK ? sp_statement_job(out) : NULL;
	if (code == SP_OK && (job == NULL || strcmp(job, view->job) != 0))
		code = sp_err_set(err, SP_E_DENIED, "it was made for job %s, not for %s",
		    job != NULL ? job : "none", view->job);
	if (code != SP_OK)
		sp_err_prefix(err, "%s attestation of job %s", step, view->job);
	sp_dsse_clear(&dsse);
	return code;
}

/* --- the files ------------------------------------------------------------------------------- */

static enum sp_code
open_tree(struct ctl *ctl, const char *id, struct fetched *out, struct sp_err *err)
{
	const Sallyport__OperatorJobView *view;
	Sallyport__OperatorReply *reply;
	struct sp_trust *trust = NULL;
	const struct sp_conf *conf;
	enum sp_code code;
	char *dir;

	memset(out, 0, sizeof(*out));
	out->ctl = ctl;
	code = ctl_jobs_fetch(ctl, id, 0, 0, &reply, &view, err);
	if (code != SP_OK)
		return code;
	out->job = sp_xstrdup(view->job);
	code = ctl_trust(ctl, &trust, err);
	if (code == SP_OK)
		code = ctl_fetched_attestation(
		    trust, view, SP_CHAIN_FETCH, &out->statement, &out->digest, err);
	sp_trust_free(&trust);
	sallyport__operator_reply__free_unpacked(reply, NULL);
	if (code == SP_OK)
		code = ctl_conf(ctl, &conf, err);
	if (code != SP_OK)
		return code;
	dir = sp_paths_store(conf, "fetcherd");
	code = sp_store_open(dir, 0, &out->store, err);
	free(dir);
	if (code == SP_OK)
		code = sp_tree_load(out->store, out->statement.subject_tree, &out->tree, err);
	return code;
}

static enum sp_code
fill(void *ctx, const char *dir, struct sp_err *err)
{
	struct fetched *f = ctx;
	struct ctl_meter meter = {.what = "copying", .on = ctl_meter_wanted(f->ctl)};
	enum sp_code code;

	code = sp_tree_materialize(f->store, &f->tree, dir, ctl_meter_progress, &meter, err);
	ctl_meter_end(&meter);
	return code;
}

static void
print(const struct fetched *f, const char *dir)
{
	if (f->ctl->json) {
		ctl_out_json(json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:I}", "job", f->job, "name",
		    f->statement.subject_name, "tree", f->statement.subject_tree, "attestation",
		    f->digest.s, "dir", dir, "files", (json_int_t)f->tree.count, "bytes",
		    (json_int_t)sp_tree_bytes(&f->tree)));
		return;
	}
	ctl_out_print(stdout, "%s: %zu files, %s, each verified\n", f->statement.subject_name,
	    f->tree.count, ctl_out_size(sp_tree_bytes(&f->tree)).s);
	ctl_out_field(stdout, "files", "%s", dir);
	ctl_out_field(stdout, "tree", "%s", f->statement.subject_tree);
	ctl_out_field(stdout, "attestation", "%s", f->digest.s);
}

enum sp_code
ctl_fetched(struct ctl *ctl, const struct ctl_args *args, struct sp_err *err)
{
	char *dir = ctl_place_dir(args->words[1]);
	struct fetched fetched;
	enum sp_code code;

	code = open_tree(ctl, args->words[0], &fetched, err);
	if (code == SP_OK)
		code = ctl_place_check(dir, err);
	if (code == SP_OK)
		code = ctl_place(dir, fill, &fetched, err);
	if (code == SP_OK)
		print(&fetched, dir);
	sp_tree_clear(&fetched.tree);
	sp_store_close(&fetched.store);
	sp_statement_clear(&fetched.statement);
	free(fetched.job);
	free(dir);
	return code;
}
