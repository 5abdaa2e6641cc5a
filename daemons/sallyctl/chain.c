/* chain.c -- the chain of custody of a registered model, from its release. */
#include "entry.h"
#include "evidence.h"
#include "ledger/entry.h"
#include "models.h"
#include "release/proof.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* All that is told, each part verified. */
struct custody {
	struct ctl_registered registered;
	struct sp_hex digests[SP_CHAIN_STAGES];
	struct ctl_evidence evidence[SP_CHAIN_STAGES];
	size_t evidence_count;
	const struct sp_pubkey *people[SP_DSSE_SIGS_MAX];
	size_t people_count;
	const struct sp_pubkey *released_by;
	struct sp_checkpoint checkpoint;
	const struct sp_pubkey *logged_by;
	Sallyport__Entry **entries;
	size_t entry_count;
};

static void
custody_clear(struct custody *c)
{
	size_t i;

	for (i = 0; i < c->entry_count; i++)
		sallyport__entry__free_unpacked(c->entries[i], NULL);
	free(c->entries);
	ctl_evidence_clear(c->evidence, c->evidence_count);
	ctl_registered_clear(&c->registered);
}

static json_t *
predicate(const struct custody *c)
{
	return json_object_get(c->registered.release->statement, "predicate");
}

static enum sp_code
read_evidence(struct custody *c, struct sp_err *err)
{
	const struct sp_release *release = c->registered.release;
	enum sp_code code;
	size_t i;

	/* the release's verification has compared these with the envelopes themselves */
	for (i = 0; i < release->attestation_count; i++)
		c->digests[i] = release->candidate.attestations[i];
	code = ctl_evidence_open(c->registered.trust, release->attestations, c->digests,
	    release->attestation_count, c->evidence, err);
	if (code == SP_OK)
		c->evidence_count = release->attestation_count;
	if (code == SP_OK)
		code = sp_chain_approvals(c->registered.trust, &release->candidate_envelope,
		    c->people, SP_DSSE_SIGS_MAX, &c->people_count, err);
	return code;
}

static enum sp_code
read_release_signer(struct custody *c, struct sp_err *err)
{
	struct sp_dsse dsse;
	enum sp_code code;
	size_t count;

	code = sp_dsse_parse(c->registered.envelope, c->registered.envelope_len, &dsse, err);
	if (code != SP_OK)
		return code;
	code = sp_trust_verify(
	    c->registered.trust, SP_ROLE_RELEASE, 0, &dsse, &c->released_by, 1, &count, err);
	sp_dsse_clear(&dsse);
	return code;
}

static enum sp_code
read_log(struct custody *c, struct sp_err *err)
{
	json_t *log = json_object_get(predicate(c), "log"), *proofs;
	const char *note = json_string_value(json_object_get(log, "checkpoint")), *text;
	enum sp_code code;
	uint8_t *bytes;
	size_t i, len;

	code = sp_proof_checkpoint(
	    c->registered.trust, note, strlen(note), &c->checkpoint, &c->logged_by, err);
	proofs = json_object_get(log, "proofs");
	c->entries = sp_xcalloc(json_array_size(proofs) + 1, sizeof(*c->entries));
	for (i = 0; code == SP_OK && i < json_array_size(proofs); i++) {
		text = json_string_value(json_object_get(json_array_get(proofs, i), "entry"));
		bytes = sp_base64_decode(text, strlen(text), &len);
		SP_ASSERT(bytes != NULL); /* the release was verified */
		code = sp_entry_parse(bytes, len, &c->entries[i], err);
		if (code == SP_OK)
			c->entry_count++;
		free(bytes);
	}
	return code;
}

/* --- output --------------------------------------------------------------------------------- */

static json_t *
log_json(const struct custody *c)
{
	json_t *entries = json_array();
	size_t i;

	for (i = 0; i < c->entry_count; i++)
		json_array_append_new(entries, ctl_entry_json(c->entries[i]));
	return json_pack("{s:s, s:I, s:s, s:s, s:s, s:o}", "origin", c->checkpoint.origin, "size",
	    (json_int_t)c->checkpoint.size, "root", sp_hex_of(c->checkpoint.root).s, "signer",
	    c->logged_by->name, "key", c->logged_by->id.s, "entries", entries);
}

static json_t *
custody_json(const struct custody *c)
{
	const struct sp_candidate *candidate = &c->registered.release->candidate;
	json_t *evidence = json_array(), *approvals = json_array();
	size_t i;

	for (i = 0; i < c->evidence_count; i++)
		json_array_append_new(evidence, ctl_evidence_json(&c->evidence[i]));
	for (i = 0; i < c->people_count; i++)
		json_array_append_new(approvals,
		    json_pack("{s:s, s:s}", "name", c->people[i]->name, "key", c->people[i]->id.s));
	return json_pack("{s:s, s:I, s:s, s:s, s:s, s:o, s:o, s:{s:s, s:s, s:s, s:s}, s:o, s:I}",
	    "name", candidate->name, "version", (json_int_t)candidate->version, "destination",
	    candidate->destination, "job", candidate->job, "tree", candidate->tree.s, "evidence",
	    evidence, "approvals", approvals, "release", "sha256", c->registered.release->digest.s,
	    "time", c->registered.release->time, "signer", c->released_by->name, "key",
	    c->released_by->id.s, "log", log_json(c), "trust_version",
	    (json_int_t)sp_trust_version(c->registered.trust));
}

static void
print_log(const struct custody *c, FILE *to)
{
	struct ctl_out_table table = {.right = 1};
	const Sallyport__Entry *e;
	char *seq, *actor;
	size_t i;

	ctl_out_print(to, "\nlog of %s, signed by %s\n", c->checkpoint.origin, c->logged_by->name);
	ctl_out_field(to, "checkpoint", "size %" PRIu64 ", root %s", c->checkpoint.size,
	    sp_hex_of(c->checkpoint.root).s);
	ctl_out_field(to, "key", "%s", c->logged_by->id.s);
	for (i = 0; i < c->entry_count; i++) {
		e = c->entries[i];
		seq = sp_xasprintf("%" PRIu64, e->seq);
		actor = ctl_entry_actor(e);
		ctl_out_row(&table, seq, e->time, e->event, e->to, actor, NULL);
		free(seq);
		free(actor);
	}
	ctl_out_table(&table, "    ", to);
}

static void
print_custody(const struct custody *c, FILE *to)
{
	const struct sp_release *release = c->registered.release;
	const struct sp_candidate *candidate = &release->candidate;
	size_t i;

	ctl_out_print(to, "%s version %" PRId64 ", tree %s\n\n", candidate->name,
	    candidate->version, candidate->tree.s);
	for (i = 0; i < c->evidence_count; i++) {
		ctl_evidence_print(&c->evidence[i], to);
		fputc('\n', to);
	}
	fputs("approvals\n", to);
	for (i = 0; i < c->people_count; i++)
		ctl_out_field(to, c->people[i]->name, "key %s", c->people[i]->id.s);
	ctl_out_print(to, "\nrelease by %s\n", c->released_by->name);
	ctl_out_field(to, "job", "%s", candidate->job);
	ctl_out_field(to, "time", "%s", release->time);
	ctl_out_field(to, "digest", "%s", release->digest.s);
	ctl_out_field(to, "key", "%s", c->released_by->id.s);
	print_log(c, to);
	fprintf(to,
	    "\nThe chain is whole: every signature, digest, link and log proof above was verified "
	    "against version %" PRId64 " of the trust document.\n",
	    sp_trust_version(c->registered.trust));
}

enum sp_code
ctl_chain(struct ctl *ctl, const struct ctl_args *args, struct sp_err *err)
{
	struct custody c;
	enum sp_code code;

	memset(&c, 0, sizeof(c));
	code = ctl_registered_open(ctl, args->words[0], &c.registered, err);
	if (code == SP_OK)
		code = read_evidence(&c, err);
	if (code == SP_OK)
		code = read_release_signer(&c, err);
	if (code == SP_OK)
		code = read_log(&c, err);
	if (code == SP_OK && ctl->json)
		ctl_out_json(custody_json(&c));
	else if (code == SP_OK)
		print_custody(&c, stdout);
	custody_clear(&c);
	return code;
}
