/* approve.c -- an operator's signature, after the evidence was checked and shown. */
#include "evidence.h"
#include "jobs.h"
#include "release/candidate.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* What is being approved; nothing of it rests on ledgerd's word but the size. */
struct approval {
	struct sp_trust *trust;
	struct sp_candidate candidate;
	struct sp_dsse attestations[SP_CHAIN_STAGES];
	struct sp_hex digests[SP_CHAIN_STAGES];
	struct ctl_evidence evidence[SP_CHAIN_STAGES];
	size_t count;	      /* of attestations */
	size_t evidence_open; /* of evidence */
};

static void
approval_clear(struct approval *a)
{
	size_t i;

	ctl_evidence_clear(a->evidence, a->evidence_open);
	for (i = 0; i < a->count; i++)
		sp_dsse_clear(&a->attestations[i]);
	sp_trust_free(&a->trust);
}

/* The envelopes that the candidate lists, by digest and in its order. */
static enum sp_code
pick_attestations(const Sallyport__OperatorJobView *view, struct approval *a, struct sp_err *err)
{
	const ProtobufCBinaryData *envelope = NULL;
	const char *wanted;
	enum sp_code code;
	size_t i, j;

	for (i = 0; i < a->candidate.attestation_count && i < SP_CHAIN_STAGES; i++) {
		wanted = a->candidate.attestations[i].s;
		for (j = 0; j < view->n_attestations; j++) {
			envelope = &view->attestations[j]->envelope;
			a->digests[i] = sp_sha256_hex(envelope->data, envelope->len);
			if (strcmp(a->digests[i].s, wanted) == 0)
				break;
		}
		if (j == view->n_attestations)
			return sp_err_set(err, SP_E_DENIED,
			    "the candidate lists the attestation %s, which ledgerd does not show",
			    wanted);
		code = sp_dsse_parse(envelope->data, envelope->len, &a->attestations[i], err);
		if (code != SP_OK)
			return code;
		a->count++;
	}
	return SP_OK;
}

static enum sp_code
gather(
    struct ctl *ctl, const Sallyport__OperatorJobView *view, struct approval *a, struct sp_err *err)
{
	struct sp_err inner;
	const char *check;
	enum sp_code code;

	memset(a, 0, sizeof(*a));
	if (strcmp(view->state, "AWAITING_APPROVAL") != 0 || view->candidate.len == 0)
		return sp_err_set(err, SP_E_STATE, "job %s is %s: there is nothing to approve",
		    view->job, view->state);
	code = ctl_trust(ctl, &a->trust, err);
	if (code == SP_OK)
		code = sp_candidate_parse(
		    view->candidate.data, view->candidate.len, &a->candidate, err);
	if (code == SP_OK && strcmp(a->candidate.job, view->job) != 0)
		code = sp_err_set(err, SP_E_DENIED,
		    "the candidate that ledgerd shows belongs to job "
		    "%s, not %s",
		    a->candidate.job, view->job);
	if (code == SP_OK)
		code = pick_attestations(view, a, err);
	if (code != SP_OK)
		return code;
	code = sp_chain_evidence(
	    a->trust, &a->candidate, a->attestations, a->digests, a->count, &check, &inner);
	if (code != SP_OK)
		return sp_err_set(err, code, "not signed: the evidence fails the check \"%s\": %s",
		    check, inner.msg);
	code = ctl_evidence_open(a->trust, a->attestations, a->digests, a->count, a->evidence, err);
	if (code == SP_OK)
		a->evidence_open = a->count;
	return code;
}

static void
show(const Sallyport__OperatorJobView *view, const struct approval *a, FILE *to)
{
	const struct sp_candidate *c = &a->candidate;
	size_t i;

	ctl_out_print(
	    to, "%s %s version %" PRId64 " for %s\n", c->kind, c->name, c->version, c->destination);
	ctl_out_field(to, "job", "%s", c->job);
	ctl_out_field(to, "tree", "%s", c->tree.s);
	for (i = 0; i < view->n_artifacts; i++) {
		if (strcmp(view->artifacts[i]->digest, c->tree.s) != 0)
			continue;
		ctl_out_field(
		    to, "size", "%s, says ledgerd", ctl_out_size(view->artifacts[i]->bytes).s);
		break;
	}
	for (i = 0; i < a->count; i++) {
		fputc('\n', to);
		ctl_evidence_print(&a->evidence[i], to);
	}
	if (a->count <= SP_CHAIN_GATE)
		fprintf(to,
		    "\nnot quantized, not tested: for the kind \"%s\" the fetch is enough\n",
		    c->kind);
	fprintf(to,
	    "\nEvery signature, digest and link above was verified against version %" PRId64
	    " of the trust document.\n",
	    sp_trust_version(a->trust));
}

/* The beginning may have left the screen: the question says once more what it is about. */
static enum sp_code
confirm(struct ctl *ctl, const struct sp_candidate *c, struct sp_err *err)
{
	char *question = sp_xasprintf("Approve the %s %s version %" PRId64 " for %s?", c->kind,
	    c->name, c->version, c->destination);
	enum sp_code code = ctl_confirm(ctl, question, err);

	free(question);
	return code;
}

/* The operator's key, which must be one that counts. */
static enum sp_code
load_key(struct ctl *ctl, const struct sp_trust *trust, struct sp_key **out, struct sp_err *err)
{
	const char *path = ctl_args_get(ctl->args, "--key");
	char *passphrase;
	enum sp_code code;

	code = ctl_passphrase(ctl, path, &passphrase, err);
	if (code != SP_OK)
		return code;
	code = sp_key_load(path, SP_ROLE_OPERATOR, passphrase, out, err);
	ctl_passphrase_free(passphrase);
	if (code == SP_OK &&
	    sp_trust_key_by_id(trust, SP_ROLE_OPERATOR, sp_key_public(*out)->id.s) == NULL) {
		code = sp_err_set(err, SP_E_DENIED,
		    "%s: version %" PRId64
		    " of the trust document does not name this key among the "
		    "operators",
		    path, sp_trust_version(trust));
		sp_key_free(out);
	}
	return code;
}

static enum sp_code
send_signature(struct ctl *ctl, const Sallyport__OperatorJobView *view, const char *envelope,
    size_t len, Sallyport__OperatorReply **reply, struct sp_err *err)
{
	Sallyport__OperatorRequest request;
	Sallyport__OperatorApprove body;

	sallyport__operator_request__init(&request);
	sallyport__operator_approve__init(&body);
	body.job = view->job;
	body.signature.data = (uint8_t *)(uintptr_t)envelope;
	body.signature.len = len;
	request.body_case = SALLYPORT__OPERATOR_REQUEST__BODY_APPROVE;
	request.approve = &body;
	return ctl_ask(ctl, &request, 0, SALLYPORT__OPERATOR_REPLY__BODY_ACCEPTED, reply, err);
}

static void
print_accepted(struct ctl *ctl, const struct approval *a, const struct sp_pubkey *public,
    const Sallyport__OperatorAccepted *accepted)
{
	if (ctl->json) {
		ctl_out_json(json_pack("{s:s, s:s, s:b, s:s, s:I, s:s, s:s, s:s, s:s, s:I}", "job",
		    a->candidate.job, "state", accepted->state, "done", accepted->done, "note",
		    accepted->note, "log_seq", (json_int_t)accepted->log_seq, "signer",
		    public->name, "key", public->id.s, "tree", a->candidate.tree.s, "name",
		    a->candidate.name, "version", (json_int_t)a->candidate.version));
		return;
	}
	ctl_out_print(stdout, "\nSigned by %s, key %s (log entry %" PRIu64 ").\njob %s is %s%s%s\n",
	    public->name, public->id.s, accepted->log_seq, a->candidate.job, accepted->state,
	    accepted->note[0] != '\0' ? ": " : "", accepted->note);
	ctl_out_print(stdout, "\nNext: %s`sallyctl watch %.8s`\n",
	    accepted->done ? "" : "another operator approves too; ", a->candidate.job);
}

enum sp_code
ctl_approve(struct ctl *ctl, const struct ctl_args *args, struct sp_err *err)
{
	Sallyport__OperatorReply *found = NULL, *reply = NULL;
	const Sallyport__OperatorJobView *view;
	struct sp_key *key = NULL;
	char *envelope = NULL;
	struct approval a;
	enum sp_code code;
	size_t len;

	if (ctl_args_get(args, "--key") == NULL)
		return ctl_usage(
		    ctl, err, "--key FILE is missing: approving is signing with your operator key");
	code = ctl_jobs_fetch(ctl, args->words[0], 0, 0, &found, &view, err);
	if (code != SP_OK)
		return code;
	code = gather(ctl, view, &a, err);
	if (code == SP_OK) {
		show(view, &a, ctl->json ? stderr : stdout);
		fflush(stdout);
		code = confirm(ctl, &a.candidate, err);
	}
	if (code == SP_OK)
		code = load_key(ctl, a.trust, &key, err);
	if (code == SP_OK)
		code = sp_dsse_sign(key, SP_DSSE_CANDIDATE, view->candidate.data,
		    view->candidate.len, &envelope, &len, err);
	if (code == SP_OK)
		code = send_signature(ctl, view, envelope, len, &reply, err);
	if (code == SP_OK)
		print_accepted(ctl, &a, sp_key_public(key), reply->accepted);
	if (reply != NULL)
		sallyport__operator_reply__free_unpacked(reply, NULL);
	sallyport__operator_reply__free_unpacked(found, NULL);
	free(envelope);
	sp_key_free(&key);
	approval_clear(&a);
	return code;
}
