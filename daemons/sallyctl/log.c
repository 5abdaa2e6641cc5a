/* log.c -- log show, verify, export, checkpoint, prove. */
#include "ctl.h"
#include "database.h"
#include "entry.h"
#include "jobs.h"
#include "ledger/entry.h"
#include "ledger/merkle.h"
#include "ledger/tiles.h"
#include "release/proof.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A whole log in memory, from ledgerd or from an export. */
struct whole {
	struct sp_log_bytes *entries; /* malloc'd, and so is what they point to */
	uint64_t count, cap;
	uint8_t *checkpoint;
	size_t checkpoint_len;
};

static void
whole_clear(struct whole *log)
{
	uint64_t i;

	for (i = 0; i < log->count; i++)
		free((void *)(uintptr_t)log->entries[i].data);
	free(log->entries);
	free(log->checkpoint);
	memset(log, 0, sizeof(*log));
}

static uint8_t *
copy(const ProtobufCBinaryData *bytes)
{
	uint8_t *data = sp_xrealloc(NULL, bytes->len + 1, 1);

	if (bytes->len > 0)
		memcpy(data, bytes->data, bytes->len);
	return data;
}

static void
whole_add(struct whole *log, const Sallyport__OperatorEntries *more)
{
	size_t i;

	for (i = 0; i < more->n_entries; i++) {
		if (log->count == log->cap) {
			log->cap = log->cap > 0 ? 2 * log->cap : 1024;
			log->entries = sp_xrealloc(log->entries, log->cap, sizeof(*log->entries));
		}
		log->entries[log->count].data = copy(&more->entries[i]);
		log->entries[log->count++].len = more->entries[i].len;
	}
	free(log->checkpoint);
	log->checkpoint = copy(&more->checkpoint);
	log->checkpoint_len = more->checkpoint.len;
}

static enum sp_code
fetch(struct ctl *ctl, uint64_t from, const char *job, Sallyport__OperatorReply **reply,
    struct sp_err *err)
{
	Sallyport__OperatorRequest request;
	Sallyport__OperatorLog body;

	sallyport__operator_request__init(&request);
	sallyport__operator_log__init(&body);
	body.from = from;
	body.job = (char *)(uintptr_t)job;
	request.body_case = SALLYPORT__OPERATOR_REQUEST__BODY_LOG;
	request.log = &body;
	return ctl_ask(ctl, &request, 0, SALLYPORT__OPERATOR_REPLY__BODY_ENTRIES, reply, err);
}

static enum sp_code
fetch_checkpoint(struct ctl *ctl, Sallyport__OperatorReply **reply, struct sp_err *err)
{
	Sallyport__OperatorRequest request;
	Sallyport__OperatorCheckpoint body;

	sallyport__operator_request__init(&request);
	sallyport__operator_checkpoint__init(&body);
	request.body_case = SALLYPORT__OPERATOR_REQUEST__BODY_CHECKPOINT;
	request.checkpoint = &body;
	return ctl_ask(ctl, &request, 0, SALLYPORT__OPERATOR_REPLY__BODY_CONTENT, reply, err);
}

/* All entries there are, and the checkpoint that came with the last of them. */
static enum sp_code
fetch_whole(struct ctl *ctl, struct whole *log, struct sp_err *err)
{
	Sallyport__OperatorReply *reply;
	enum sp_code code;
	int more = 1;

	while (more) {
		code = fetch(ctl, log->count, "", &reply, err);
		if (code != SP_OK)
			return code;
		whole_add(log, reply->entries);
		more = reply->entries->n_entries > 0 && log->count < reply->entries->size;
		sallyport__operator_reply__free_unpacked(reply, NULL);
	}
	return SP_OK;
}

/* Everything recomputed, with a log key of the trust document. */
static enum sp_code
verify_whole(struct ctl *ctl, const struct sp_log_bytes *entries, uint64_t count,
    const uint8_t *checkpoint, size_t checkpoint_len, struct sp_log_report *report,
    struct sp_pubkey *signer, struct sp_err *err)
{
	const struct sp_pubkey *key = NULL;
	struct sp_trust *trust = NULL;
	struct sp_checkpoint parsed;
	enum sp_code code;
	char *vkey;

	code = ctl_trust(ctl, &trust, err);
	if (code == SP_OK)
		code = sp_proof_checkpoint(trust, checkpoint, checkpoint_len, &parsed, &key, err);
	if (code == SP_OK) {
		vkey = sp_note_vkey(parsed.origin, key->bytes);
		code = sp_log_verify(
		    entries, count, checkpoint, checkpoint_len, vkey, report, NULL, err);
		*signer = *key;
		free(vkey);
	}
	sp_trust_free(&trust);
	return code;
}

/* --- show ----------------------------------------------------------------------------------- */

/* Rows wait in the table until there are enough to align them. */
struct shower {
	struct ctl *ctl;
	struct ctl_out_table table;
	json_t *list; /* with --json */
	uint64_t next, size;
};

static enum sp_code
show_batch(struct shower *show, const Sallyport__OperatorEntries *batch, struct sp_err *err)
{
	enum sp_code code = SP_OK;
	Sallyport__Entry *entry;
	size_t i;

	show->size = batch->size;
	show->table.right = 1;
	for (i = 0; code == SP_OK && i < batch->n_entries; i++) {
		code = sp_entry_parse(batch->entries[i].data, batch->entries[i].len, &entry, err);
		if (code != SP_OK)
			break;
		if (entry->seq < show->next || entry->seq >= batch->size)
			code = sp_err_set(err, SP_E_INVALID,
			    "ledgerd was asked for entries from %" PRIu64
			    " on and answered with entry "
			    "%" PRIu64 " of %" PRIu64,
			    show->next, entry->seq, batch->size);
		else if (show->ctl->json)
			json_array_append_new(show->list, ctl_entry_json(entry));
		else
			ctl_entry_rows(entry, &show->table);
		show->next = entry->seq + 1;
		sallyport__entry__free_unpacked(entry, NULL);
	}
	ctl_out_table(&show->table, "", stdout);
	return code;
}

static enum sp_code
show_job(struct ctl *ctl, const char *job, struct sp_err *err)
{
	struct shower show = {.ctl = ctl, .list = json_array()};
	Sallyport__OperatorReply *reply;
	enum sp_code code;
	int more = 1;

	do {
		code = fetch(ctl, show.next, job, &reply, err);
		if (code != SP_OK)
			break;
		more = reply->entries->n_entries > 0;
		code = show_batch(&show, reply->entries, err);
		sallyport__operator_reply__free_unpacked(reply, NULL);
	} while (code == SP_OK && more && show.next < show.size);
	if (code == SP_OK && ctl->json)
		ctl_out_json(
		    json_pack("{s:O, s:I}", "entries", show.list, "size", (json_int_t)show.size));
	else if (code == SP_OK)
		printf("%s%" PRIu64 " entries in the log; `sallyctl log verify` recomputes it.\n",
		    show.next > 0 ? "\n" : "", show.size);
	json_decref(show.list);
	return code;
}

enum sp_code
ctl_log_show(struct ctl *ctl, const struct ctl_args *args, struct sp_err *err)
{
	const Sallyport__OperatorJobView *view;
	Sallyport__OperatorReply *reply;
	enum sp_code code;

	if (args->count == 0)
		return show_job(ctl, "", err);
	/* the beginning of an id will do */
	code = ctl_jobs_fetch(ctl, args->words[0], 0, 0, &reply, &view, err);
	if (code != SP_OK)
		return code;
	code = show_job(ctl, view->job, err);
	sallyport__operator_reply__free_unpacked(reply, NULL);
	return code;
}

/* --- verify --------------------------------------------------------------------------------- */

static void
print_report(struct ctl *ctl, const struct sp_log_report *report, const struct sp_pubkey *signer)
{
	struct sp_hex root = sp_hex_of(report->root);

	if (ctl->json) {
		ctl_out_json(json_pack("{s:s, s:I, s:I, s:I, s:I, s:s, s:s, s:s, s:b}", "origin",
		    report->origin, "size", (json_int_t)report->size, "entries",
		    (json_int_t)report->entries, "uncovered", (json_int_t)report->uncovered, "jobs",
		    (json_int_t)report->jobs, "root", root.s, "key", signer->id.s, "signer",
		    signer->name, "verified", 1));
		return;
	}
	ctl_out_print(stdout, "log of %s: verified\n", report->origin);
	ctl_out_field(
	    stdout, "entries", "%" PRIu64 ", of %" PRIu64 " jobs", report->entries, report->jobs);
	ctl_out_field(stdout, "root", "%s, recomputed from the entries", root.s);
	ctl_out_field(stdout, "checkpoint", "size %" PRIu64 ", signed by %s, key %s", report->size,
	    signer->name, signer->id.s);
	if (report->uncovered > 0)
		ctl_out_field(stdout, "behind it",
		    "%" PRIu64 " entries that the next checkpoint "
		    "will cover",
		    report->uncovered);
}

enum sp_code
ctl_log_verify(struct ctl *ctl, const struct ctl_args *args, struct sp_err *err)
{
	struct sp_tiles_log tiles = {0};
	struct sp_log_report report;
	struct sp_pubkey signer;
	const char *database = ctl_args_get(args, "--database");
	struct whole log = {0};
	enum sp_code code;

	if (database != NULL && args->count > 0)
		return ctl_usage(ctl, err, "either DIR or --database");
	if (database != NULL)
		return ctl_database_verify(ctl, database, err);
	if (args->count > 0) {
		code = sp_tiles_import(args->words[0], &tiles, err);
		if (code == SP_OK)
			code = verify_whole(ctl, tiles.entries, tiles.count, tiles.checkpoint,
			    tiles.checkpoint_len, &report, &signer, err);
		sp_tiles_clear(&tiles);
	} else {
		code = fetch_whole(ctl, &log, err);
		if (code == SP_OK)
			code = verify_whole(ctl, log.entries, log.count, log.checkpoint,
			    log.checkpoint_len, &report, &signer, err);
		whole_clear(&log);
	}
	if (code == SP_OK)
		print_report(ctl, &report, &signer);
	return code;
}

/* --- export --------------------------------------------------------------------------------- */

/* A log on its way from ledgerd into files, a message at a time. */
struct exporter {
	struct sp_tiles_writer *writer;
	uint64_t size,
	    count; /* entries of the checkpoint, those behind it are left out; here so far */
	struct sp_replay replay;
	enum sp_code replayed; /* what that says, and why */
	struct sp_err why;
};

static enum sp_code
export_batch(struct exporter *e, const Sallyport__OperatorEntries *batch, struct sp_err *err)
{
	uint64_t left = e->size - e->count;
	size_t n = batch->n_entries < left ? batch->n_entries : (size_t)left, i;
	uint8_t(*leaves)[SP_DIGEST_LEN] = sp_xcalloc(n, sizeof(*leaves));
	struct sp_log_bytes *bytes = sp_xcalloc(n, sizeof(*bytes));
	enum sp_code code = SP_OK;

	for (i = 0; i < n; i++) {
		bytes[i].data = batch->entries[i].data;
		bytes[i].len = batch->entries[i].len;
	}
	if (n == 0)
		code = sp_err_set(err, SP_E_INCOMPLETE,
		    "ledgerd gave %" PRIu64 " entries of the %" PRIu64
		    " that its checkpoint is for",
		    e->count, e->size);
	/* what it says can wait: that entries were altered is the better news */
	if (e->replayed == SP_OK)
		e->replayed = sp_replay_entries(&e->replay, bytes, n, leaves, &e->why);
	else
		sp_replay_leaves(bytes, n, leaves);
	e->count += n;
	if (code == SP_OK)
		code =
		    sp_tiles_add(e->writer, bytes, n, (const uint8_t(*)[SP_DIGEST_LEN])leaves, err);
	free(bytes);
	free(leaves);
	return code;
}

/* The newest checkpoint, verified, and every entry that it is for. */
static enum sp_code
export_all(struct ctl *ctl, const ProtobufCBinaryData *note, struct exporter *e,
    struct sp_checkpoint *checkpoint, struct sp_err *err)
{
	Sallyport__OperatorReply *reply;
	struct sp_trust *trust = NULL;
	enum sp_code code;

	code = ctl_trust(ctl, &trust, err);
	if (code == SP_OK)
		code = sp_proof_checkpoint(trust, note->data, note->len, checkpoint, NULL, err);
	sp_trust_free(&trust);
	e->size = checkpoint->size;
	while (code == SP_OK && e->count < e->size) {
		code = fetch(ctl, e->count, "", &reply, err);
		if (code != SP_OK)
			break;
		code = export_batch(e, reply->entries, err);
		sallyport__operator_reply__free_unpacked(reply, NULL);
	}
	if (code == SP_OK && e->replayed != SP_OK) {
		code = sp_tiles_check(e->writer, note->data, note->len, err);
		if (code == SP_OK)
			code = sp_err_set(err, e->replayed, "%s", e->why.msg);
	}
	if (code == SP_OK && e->size > 0 && strcmp(e->replay.origin, checkpoint->origin) != 0)
		code = sp_err_set(err, SP_E_INVALID,
		    "the log's entries are of %.200s, the checkpoint is of %.200s",
		    e->replay.origin, checkpoint->origin);
	if (code == SP_OK)
		code = sp_tiles_finish(e->writer, note->data, note->len, err);
	return code;
}

enum sp_code
ctl_log_export(struct ctl *ctl, const struct ctl_args *args, struct sp_err *err)
{
	struct exporter e = {.writer = sp_tiles_writer_new(args->words[0])};
	struct sp_checkpoint checkpoint = {.size = 0};
	Sallyport__OperatorReply *reply;
	enum sp_code code;

	code = fetch_checkpoint(ctl, &reply, err);
	if (code == SP_OK) {
		code = export_all(ctl, &reply->content->content, &e, &checkpoint, err);
		sallyport__operator_reply__free_unpacked(reply, NULL);
	}
	sp_tiles_writer_free(&e.writer);
	sp_replay_free(&e.replay);
	if (code != SP_OK)
		return code;
	if (ctl->json)
		ctl_out_json(json_pack("{s:s, s:s, s:I}", "dir", args->words[0], "origin",
		    checkpoint.origin, "size", (json_int_t)checkpoint.size));
	else
		ctl_out_print(stdout,
		    "%s: %" PRIu64 " entries of %s as tlog-tiles\n\nNext: `sallyctl log verify %s` "
		    "there, or any tlog client with the log's key.\n",
		    args->words[0], checkpoint.size, checkpoint.origin, args->words[0]);
	return SP_OK;
}

/* --- checkpoint, prove ---------------------------------------------------------------------- */

enum sp_code
ctl_log_checkpoint(struct ctl *ctl, const struct ctl_args *args, struct sp_err *err)
{
	const struct sp_pubkey *signer = NULL;
	Sallyport__OperatorReply *reply;
	struct sp_checkpoint checkpoint;
	struct sp_trust *trust = NULL;
	const ProtobufCBinaryData *note;
	enum sp_code code;
	char *vkey = NULL;

	(void)args;
	code = fetch_checkpoint(ctl, &reply, err);
	if (code != SP_OK)
		return code;
	note = &reply->content->content;
	code = ctl_trust(ctl, &trust, err);
	if (code == SP_OK)
		code = sp_proof_checkpoint(trust, note->data, note->len, &checkpoint, &signer, err);
	if (code == SP_OK)
		vkey = sp_note_vkey(checkpoint.origin, signer->bytes);
	if (code == SP_OK && ctl->json)
		ctl_out_json(json_pack("{s:s, s:I, s:s, s:s, s:s, s:s, s:s%}", "origin",
		    checkpoint.origin, "size", (json_int_t)checkpoint.size, "root",
		    sp_hex_of(checkpoint.root).s, "signer", signer->name, "key", signer->id.s,
		    "vkey", vkey, "note", (const char *)note->data, note->len));
	else if (code == SP_OK && isatty(STDOUT_FILENO))
		/* anybody may have added a signature line under a name that paints */
		ctl_out_print(stdout, "%.*s", (int)note->len, (const char *)note->data);
	else if (code == SP_OK)
		fwrite(note->data, 1, note->len, stdout); /* as it is, so that it can be piped */
	free(vkey);
	sp_trust_free(&trust);
	sallyport__operator_reply__free_unpacked(reply, NULL);
	return code;
}

static enum sp_code
leaf_of(void *ctx, uint64_t index, uint8_t out[SP_DIGEST_LEN], struct sp_err *err)
{
	const struct whole *log = ctx;

	(void)err;
	sp_merkle_leaf(log->entries[index].data, log->entries[index].len, out);
	return SP_OK;
}

static void
print_proof(struct ctl *ctl, const struct whole *log, uint64_t seq,
    const struct sp_log_report *report, const uint8_t (*proof)[SP_DIGEST_LEN], size_t count)
{
	char *entry = sp_base64_encode(log->entries[seq].data, log->entries[seq].len);
	struct sp_hex root = sp_hex_of(report->root), leaf;
	uint8_t digest[SP_DIGEST_LEN];
	json_t *hashes = json_array();
	size_t i;

	sp_merkle_leaf(log->entries[seq].data, log->entries[seq].len, digest);
	leaf = sp_hex_of(digest);
	for (i = 0; i < count; i++)
		json_array_append_new(hashes, json_string(sp_hex_of(proof[i]).s));
	if (ctl->json) {
		ctl_out_json(json_pack("{s:s, s:I, s:I, s:s, s:s, s:O, s:s, s:s%}", "origin",
		    report->origin, "seq", (json_int_t)seq, "size", (json_int_t)report->size,
		    "root", root.s, "leaf", leaf.s, "hashes", hashes, "entry", entry, "checkpoint",
		    (const char *)log->checkpoint, log->checkpoint_len));
	} else {
		ctl_out_print(stdout, "entry %" PRIu64 " is in the log of %s (RFC 6962)\n", seq,
		    report->origin);
		ctl_out_field(stdout, "leaf", "%s", leaf.s);
		for (i = 0; i < count; i++)
			ctl_out_field(stdout, i == 0 ? "path" : "", "%s", sp_hex_of(proof[i]).s);
		ctl_out_field(
		    stdout, "root", "%s of the first %" PRIu64 " entries", root.s, report->size);
		ctl_out_field(stdout, "entry", "%s", entry);
	}
	json_decref(hashes);
	free(entry);
}

enum sp_code
ctl_log_prove(struct ctl *ctl, const struct ctl_args *args, struct sp_err *err)
{
	uint8_t proof[SP_MERKLE_PROOF_MAX][SP_DIGEST_LEN], leaf[SP_DIGEST_LEN];
	struct sp_log_report report;
	struct sp_pubkey signer;
	struct whole log = {0};
	enum sp_code code;
	size_t count = 0;
	uint64_t seq;
	char *end;

	errno = 0;
	seq = strtoull(args->words[0], &end, 10);
	if (errno != 0 || *end != '\0' || args->words[0][0] < '0' || args->words[0][0] > '9')
		return ctl_usage(ctl, err, "SEQ is the number of an entry, from 0 on");
	code = fetch_whole(ctl, &log, err);
	if (code == SP_OK)
		code = verify_whole(ctl, log.entries, log.count, log.checkpoint, log.checkpoint_len,
		    &report, &signer, err);
	if (code == SP_OK && seq >= report.size)
		code = sp_err_set(err, SP_E_NOT_FOUND,
		    "the newest checkpoint covers %" PRIu64 " entries, counted from 0",
		    report.size);
	if (code == SP_OK)
		code = sp_merkle_prove(seq, report.size, leaf_of, &log, proof, &count, err);
	if (code == SP_OK) {
		sp_merkle_leaf(log.entries[seq].data, log.entries[seq].len, leaf);
		SP_ASSERT(sp_merkle_verify(leaf, seq, report.size,
		    (const uint8_t(*)[SP_DIGEST_LEN])proof, count, report.root));
		print_proof(ctl, &log, seq, &report, (const uint8_t(*)[SP_DIGEST_LEN])proof, count);
	}
	whole_clear(&log);
	return code;
}
