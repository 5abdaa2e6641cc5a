/* log.c -- verification of a whole log. */
#include "ledger/log.h"
#include "ledger/merkle.h"

#include <stdlib.h>
#include <string.h>

#define STRETCH 65536 /* entries at a time */

/* The checkpoint, signed by the key under its own origin. */
static enum sp_code
open_checkpoint(const uint8_t *data, size_t len, const char *vkey, struct sp_checkpoint *out,
    struct sp_err *err)
{
	struct sp_note note = {0};
	char name[256];
	uint8_t pk[32];
	enum sp_code code;

	code = sp_note_parse_vkey(vkey, name, pk, err);
	if (code == SP_OK)
		code = sp_note_parse(data, len, &note, err);
	if (code == SP_OK)
		code = sp_checkpoint_parse(note.text, note.text_len, out, err);
	if (code == SP_OK && strcmp(out->origin, name) != 0)
		code = sp_err_set(err, SP_E_DENIED,
		    "the checkpoint is of %.200s, the key is that of %.200s", out->origin, name);
	if (code == SP_OK && !sp_note_verify(&note, name, pk))
		code = sp_err_set(err, SP_E_DENIED,
		    "the checkpoint of %.200s (size %llu) is not signed by the key with id %08x",
		    out->origin, (unsigned long long)out->size, sp_note_keyid(name, pk));
	sp_note_clear(&note);
	return code;
}

static enum sp_code
check_root(const struct sp_merkle *tree, const struct sp_checkpoint *checkpoint, struct sp_err *err)
{
	uint8_t root[SP_DIGEST_LEN];

	sp_merkle_root(tree, root);
	if (memcmp(root, checkpoint->root, sizeof(root)) == 0)
		return SP_OK;
	return sp_err_set(err, SP_E_CORRUPT,
	    "the log of %.100s was altered: its first %llu entries have the root %s, the "
	    "checkpoint was signed for %s",
	    checkpoint->origin, (unsigned long long)checkpoint->size, sp_hex_of(root).s,
	    sp_hex_of(checkpoint->root).s);
}

/* All entries through the replay, the first `size` into the tree. *replayed: what the replay said,
 * with its message in err. */
static void
walk(const struct sp_log_bytes *entries, uint64_t count, uint64_t size, struct sp_merkle *tree,
    struct sp_replay *jobs, enum sp_code *replayed, struct sp_err *err)
{
	uint8_t(*leaves)[SP_DIGEST_LEN] = sp_xcalloc(STRETCH, sizeof(*leaves));
	uint64_t at;
	size_t n, i;

	*replayed = SP_OK;
	for (at = 0; at < count; at += n) {
		n = count - at < STRETCH ? (size_t)(count - at) : STRETCH;
		if (*replayed == SP_OK)
			*replayed = sp_replay_entries(jobs, entries + at, n, leaves, err);
		else
			sp_replay_leaves(entries + at, n, leaves);
		for (i = 0; i < n && at + i < size; i++)
			sp_merkle_append(tree, leaves[i]);
	}
	free(leaves);
}

enum sp_code
sp_log_verify(const struct sp_log_bytes *entries, uint64_t count, const uint8_t *checkpoint,
    size_t checkpoint_len, const char *vkey, struct sp_log_report *report, struct sp_replay *replay,
    struct sp_err *err)
{
	struct sp_replay own_replay, *jobs = replay != NULL ? replay : &own_replay;
	struct sp_log_report own_report, *r = report != NULL ? report : &own_report;
	struct sp_checkpoint signed_;
	struct sp_merkle tree = {0};
	enum sp_code code, replayed;
	struct sp_err why;

	memset(jobs, 0, sizeof(*jobs));
	memset(r, 0, sizeof(*r));
	code = open_checkpoint(checkpoint, checkpoint_len, vkey, &signed_, err);
	if (code != SP_OK)
		return code;
	memcpy(r->origin, signed_.origin, sizeof(r->origin));
	memcpy(r->root, signed_.root, sizeof(r->root));
	r->size = signed_.size;
	if (count < signed_.size)
		return sp_err_set(err, SP_E_INCOMPLETE,
		    "%llu entries of the log of %.200s are here, the checkpoint was signed for "
		    "%llu",
		    (unsigned long long)count, signed_.origin, (unsigned long long)signed_.size);
	r->uncovered = count - signed_.size;
	walk(entries, count, signed_.size, &tree, jobs, &replayed, &why);
	/* the root first: it says that entries were altered, whatever else they now break */
	code = check_root(&tree, &signed_, err);
	if (code == SP_OK && jobs->size > 0 && strcmp(jobs->origin, signed_.origin) != 0)
		code = sp_err_set(err, SP_E_INVALID,
		    "the log's entries are of %.200s, the checkpoint is of %.200s", jobs->origin,
		    signed_.origin);
	if (code == SP_OK && replayed != SP_OK)
		code = sp_err_set(err, replayed, "%s", why.msg);
	r->entries = jobs->size;
	r->jobs = jobs->count;
	if (replay == NULL)
		sp_replay_free(&own_replay);
	return code;
}
