/* proof.c -- log proofs of a release. */
#include "release/proof.h"
#include "base/json.h"
#include "ledger/merkle.h"
#include "release/release.h"

#include "audit.pb-c.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define ORIGIN "sallyport/" /* SIDE/HOST follow */
#define OWNER "ledgerd@"    /* SIDE follows */
#define BASTION ORIGIN "bastion/"

/* One side's ledgerd must not speak in the name of the other's. */
static int
owns_log(const struct sp_pubkey *key, const char *origin)
{
	const char *side = origin + strlen(ORIGIN), *end;

	if (strncmp(origin, ORIGIN, strlen(ORIGIN)) != 0 ||
	    strncmp(key->name, OWNER, strlen(OWNER)) != 0)
		return 0;
	end = strchr(side, '/');
	return end != NULL && strlen(key->name + strlen(OWNER)) == (size_t)(end - side) &&
	       memcmp(key->name + strlen(OWNER), side, (size_t)(end - side)) == 0;
}

enum sp_code
sp_proof_checkpoint(const struct sp_trust *trust, const void *data, size_t len,
    struct sp_checkpoint *out, const struct sp_pubkey **signer, struct sp_err *err)
{
	const struct sp_pubkey *key;
	struct sp_note note;
	enum sp_code code;
	size_t i;

	code = sp_note_parse(data, len, &note, err);
	if (code != SP_OK)
		return code;
	code = sp_checkpoint_parse(note.text, note.text_len, out, err);
	if (code != SP_OK)
		goto out;
	for (i = 0; i < sp_trust_key_count(trust, SP_ROLE_LOG); i++) {
		key = sp_trust_key(trust, SP_ROLE_LOG, i);
		if (!owns_log(key, out->origin) || !sp_note_verify(&note, out->origin, key->bytes))
			continue;
		if (signer != NULL)
			*signer = key;
		goto out;
	}
	code = sp_err_set(err, SP_E_DENIED,
	    "the checkpoint of %s is not signed under that name by a key that version %" PRId64
	    " of the trust document gives that side's ledgerd for the log role",
	    out->origin, sp_trust_version(trust));
out:
	sp_note_clear(&note);
	return code;
}

/* What the entries have shown so far. */
struct shown {
	const struct sp_checkpoint *checkpoint;
	const struct sp_candidate *candidate;
	struct sp_hex digest;	   /* of the candidate */
	const struct sp_hex *gate; /* NULL: the kind has no gate */
	uint64_t next_seq;	   /* least that may follow */
	int validated, asked, approved;
};

/* Each state rests on the one before it: what is done again, or about something else, takes back
 * what came after. */
static void
take_state(struct shown *shown, const Sallyport__Entry *entry)
{
	const ProtobufCBinaryData *verdict = &entry->attestation_sha256;
	size_t i;

	if (strcmp(entry->from, entry->to) == 0)
		return; /* an approval before the last one, a lease that was lost */
	if (strcmp(entry->to, "VALIDATED") == 0) {
		shown->validated = shown->gate != NULL && verdict->len == SP_DIGEST_LEN &&
				   strcmp(sp_hex_of(verdict->data).s, shown->gate->s) == 0;
		shown->asked = shown->approved = 0;
	} else if (strcmp(entry->to, "AWAITING_APPROVAL") == 0) {
		shown->asked = shown->approved = 0;
		for (i = 0; i < entry->n_details; i++)
			if (strcmp(entry->details[i]->key, "candidate_sha256") == 0 &&
			    strcmp(entry->details[i]->value, shown->digest.s) == 0)
				shown->asked = shown->gate == NULL || shown->validated;
	} else if (strcmp(entry->to, "APPROVED") == 0) {
		shown->approved = shown->asked;
	}
}

static enum sp_code
check_entry(struct shown *shown, uint64_t seq, const uint8_t *bytes, size_t len, struct sp_err *err)
{
	Sallyport__Entry *entry;
	enum sp_code code = SP_OK;

	entry = sallyport__entry__unpack(NULL, len, bytes);
	if (entry == NULL)
		return sp_err_set(err, SP_E_INVALID, "entry %" PRIu64 " is no audit entry", seq);
	if (entry->seq != seq || strcmp(entry->origin, shown->checkpoint->origin) != 0)
		code = sp_err_set(err, SP_E_DENIED,
		    "entry %" PRIu64 " of %s calls itself entry %" PRIu64 " of %s", seq,
		    shown->checkpoint->origin, entry->seq, entry->origin);
	else if (strcmp(entry->job, shown->candidate->job) != 0)
		code = sp_err_set(err, SP_E_DENIED, "entry %" PRIu64 " belongs to job %s, not %s",
		    seq, entry->job[0] != '\0' ? entry->job : "none", shown->candidate->job);
	if (code == SP_OK)
		take_state(shown, entry);
	sallyport__entry__free_unpacked(entry, NULL);
	return code;
}

static enum sp_code
decode_hashes(
    const json_t *list, uint8_t hashes[][SP_DIGEST_LEN], size_t *count, struct sp_err *err)
{
	const char *text;
	uint8_t *bytes;
	size_t i, len;
	int good;

	*count = json_array_size(list);
	if (*count > SP_MERKLE_PROOF_MAX)
		return sp_err_set(err, SP_E_INVALID,
		    "a proof of %zu hashes, at most %d are possible", *count, SP_MERKLE_PROOF_MAX);
	for (i = 0; i < *count; i++) {
		text = json_string_value(json_array_get(list, i));
		bytes = text != NULL ? sp_base64_decode(text, strlen(text), &len) : NULL;
		good = bytes != NULL && len == SP_DIGEST_LEN;
		if (good)
			memcpy(hashes[i], bytes, SP_DIGEST_LEN);
		free(bytes);
		if (!good)
			return sp_err_set(err, SP_E_INVALID,
			    "hash %zu of a proof is not the base64 of %d bytes", i, SP_DIGEST_LEN);
	}
	return SP_OK;
}

static enum sp_code
check_proof(struct shown *shown, const json_t *proof, struct sp_err *err)
{
	uint8_t hashes[SP_MERKLE_PROOF_MAX][SP_DIGEST_LEN], leaf[SP_DIGEST_LEN];
	uint8_t *entry = NULL;
	const char *text;
	enum sp_code code;
	size_t len, count;
	json_t *list;
	int64_t seq;

	code = sp_json_integer(proof, "seq", 0, INT64_MAX, &seq, err);
	if (code == SP_OK)
		code = sp_json_string(proof, "entry", &text, err);
	if (code == SP_OK)
		code = sp_json_array(proof, "hashes", &list, err);
	if (code == SP_OK && json_object_size(proof) != 3)
		code = sp_err_set(
		    err, SP_E_INVALID, "a proof has fields other than entry, hashes, seq");
	if (code == SP_OK)
		code = decode_hashes(list, hashes, &count, err);
	if (code != SP_OK)
		return code;
	if ((uint64_t)seq < shown->next_seq)
		return sp_err_set(
		    err, SP_E_INVALID, "proofs must be in ascending order of seq, none twice");
	entry = sp_base64_decode(text, strlen(text), &len);
	if (entry == NULL || len > SP_ENTRY_MAX) {
		code = sp_err_set(err, SP_E_INVALID,
		    "entry %" PRId64 " is not the base64 of at most %d bytes", seq, SP_ENTRY_MAX);
		goto out;
	}
	sp_merkle_leaf(entry, len, leaf);
	if (!sp_merkle_verify(leaf, (uint64_t)seq, shown->checkpoint->size,
		(const uint8_t(*)[SP_DIGEST_LEN])hashes, count, shown->checkpoint->root)) {
		code = sp_err_set(err, SP_E_DENIED,
		    "entry %" PRId64 " is not in the log of %s that the checkpoint of size %" PRIu64
		    " stands for",
		    seq, shown->checkpoint->origin, shown->checkpoint->size);
		goto out;
	}
	shown->next_seq = (uint64_t)seq + 1;
	code = check_entry(shown, (uint64_t)seq, entry, len, err);
out:
	free(entry);
	return code;
}

enum sp_code
sp_proof_check(const struct sp_trust *trust, const json_t *log,
    const struct sp_candidate *candidate, const struct sp_hex *gate, const char **check,
    struct sp_err *err)
{
	struct sp_checkpoint checkpoint;
	struct shown shown = {.checkpoint = &checkpoint, .candidate = candidate, .gate = gate};
	char *payload;
	const char *note;
	enum sp_code code;
	json_t *proofs;
	size_t i, len;

	*check = "checkpoint";
	code = sp_json_string(log, "checkpoint", &note, err);
	if (code == SP_OK)
		code = sp_proof_checkpoint(trust, note, strlen(note), &checkpoint, NULL, err);
	if (code == SP_OK && strncmp(checkpoint.origin, BASTION, strlen(BASTION)) != 0)
		code = sp_err_set(err, SP_E_DENIED,
		    "the checkpoint is that of %s: releases come from a bastion's log",
		    checkpoint.origin);
	if (code != SP_OK)
		return code;
	payload = sp_candidate_format(candidate, &len);
	shown.digest = sp_sha256_hex(payload, len);
	free(payload);
	*check = "proof";
	code = sp_json_array(log, "proofs", &proofs, err);
	if (code != SP_OK)
		return code;
	if (json_object_size(log) != 2 || json_array_size(proofs) > SP_RELEASE_PROOFS_MAX)
		return sp_err_set(err, SP_E_INVALID,
		    "the log must have a checkpoint and at most %d proofs, nothing else",
		    SP_RELEASE_PROOFS_MAX);
	for (i = 0; i < json_array_size(proofs); i++) {
		code = check_proof(&shown, json_array_get(proofs, i), err);
		if (code != SP_OK)
			return code;
	}
	if (!shown.approved)
		return sp_err_set(err, SP_E_DENIED,
		    "the log entries do not show that job %s was %s", candidate->job,
		    gate != NULL && !shown.validated ? "VALIDATED with this verdict"
		    : !shown.asked		     ? "AWAITING_APPROVAL with this candidate"
						     : "APPROVED");
	*check = NULL;
	return SP_OK;
}
