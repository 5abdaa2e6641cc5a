/* rxd_step.c -- the transfers that the receiver tells of, and what a release may bring along. */
#include "rxd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *
rxd_note_get(const Sallyport__ChildNote *note, const char *key)
{
	for (size_t i = 0; i < note->n_details; i++) {
		if (strcmp(note->details[i]->key, key) == 0)
			return note->details[i]->value;
	}
	return NULL;
}

/* A decimal count; 0 when there is none. */
static uint64_t
note_count(const Sallyport__ChildNote *note, const char *key)
{
	const char *text = rxd_note_get(note, key);

	return text == NULL ? 0 : strtoull(text, NULL, 10);
}

static struct rxd_counts
note_counts(const Sallyport__ChildNote *note)
{
	return (struct rxd_counts){note_count(note, "repaired"), note_count(note, "duplicates"),
	    note_count(note, "lost"), note_count(note, "rejected")};
}

static void
note_text(const Sallyport__ChildNote *note, const char *key, char *out, size_t size)
{
	const char *text = rxd_note_get(note, key);

	snprintf(out, size, "%s", text == NULL ? "" : text);
}

/* --- the table --- */

struct rxd_transfer *
rxd_table_find(struct rxd_table *table, const char *job)
{
	struct rxd_transfer *transfer = table->first;

	while (transfer != NULL && strcmp(transfer->manifest.job, job) != 0)
		transfer = transfer->next;
	return transfer;
}

int
rxd_table_is_finished(const struct rxd_table *table, const char *job)
{
	for (size_t i = 0; i < RXD_FINISHED_MAX; i++)
		if (strcmp(table->finished[i], job) == 0)
			return 1;
	return 0;
}

/* A transfer that is not under way any more gives way: the receiver may have dropped it without a
 * word. 0 when there is none. */
static int
make_room(struct rxd_table *table)
{
	const struct rxd_transfer *oldest = NULL;

	if (table->count < RXD_TRANSFERS_MAX)
		return 1;
	for (const struct rxd_transfer *t = table->first; t != NULL; t = t->next)
		if (t->state == RXD_INCOMPLETE ||
		    (t->state == RXD_DONE && (oldest == NULL || oldest->state == RXD_DONE)))
			oldest = t;
	if (oldest == NULL)
		return 0;
	rxd_table_remove(table, oldest->manifest.job);
	return 1;
}

static enum sp_code
note_known(struct rxd_table *table, const Sallyport__ChildNote *note,
    char forget[SP_JOB_ID_LEN + 1], struct sp_err *err)
{
	struct rxd_transfer *transfer, *next = NULL;
	struct sp_manifest manifest;
	enum sp_code code =
	    sp_manifest_parse(note->content.data, note->content.len, &manifest, err);

	if (code != SP_OK)
		return code;
	if (rxd_table_is_finished(table, manifest.job)) {
		strcpy(forget, manifest.job);
		sp_manifest_clear(&manifest);
		return SP_OK;
	}
	transfer = rxd_table_find(table, manifest.job);
	if (transfer != NULL) {
		next = transfer->next;
		sp_manifest_clear(&transfer->manifest);
	} else if (make_room(table)) {
		transfer = sp_xcalloc(1, sizeof(*transfer));
		next = table->first;
		table->first = transfer;
		table->count++;
	} else {
		sp_manifest_clear(&manifest);
		return sp_err_set(err, SP_E_LIMIT,
		    "the receiver tells of more than %d transfers at the same time",
		    RXD_TRANSFERS_MAX);
	}
	*transfer = (struct rxd_transfer){.next = next,
	    .state = RXD_KNOWN,
	    .manifest = manifest,
	    .counts = note_counts(note),
	    .unsaid = 1};
	for (size_t i = 0; i < manifest.count; i++)
		transfer->total_bytes += manifest.objects[i].size;
	return SP_OK;
}

/* More of a transfer that ledgerd believes to be INCOMPLETE. */
static void
revive(struct rxd_transfer *transfer)
{
	if (transfer->state != RXD_INCOMPLETE)
		return;
	transfer->state = RXD_KNOWN;
	transfer->unsaid = 1;
	transfer->refusals = 0;
	transfer->say_ms = 0;
}

static void
note_done(struct rxd_transfer *transfer, const Sallyport__ChildNote *note)
{
	struct rxd_counts now = note_counts(note), *counts = &transfer->counts;

	revive(transfer);
	if (transfer->state == RXD_DONE)
		return;
	transfer->state = RXD_DONE;
	transfer->done_bytes = transfer->total_bytes;
	/* until here they were those of its beginning */
	*counts = (struct rxd_counts){now.repaired - counts->repaired,
	    now.duplicates - counts->duplicates, now.lost - counts->lost,
	    now.rejected - counts->rejected};
}

enum sp_code
rxd_table_note(struct rxd_table *table, const Sallyport__ChildNote *note,
    char forget[SP_JOB_ID_LEN + 1], struct sp_err *err)
{
	const char *job = rxd_note_get(note, "job");
	struct rxd_transfer *transfer;

	forget[0] = '\0';
	if (strcmp(note->kind, "started") == 0) {
		rxd_table_clear(table);
		return SP_OK;
	}
	if (strcmp(note->kind, "known") == 0)
		return note_known(table, note, forget, err);
	transfer = job == NULL ? NULL : rxd_table_find(table, job);
	/* the rest of what it says of a job that it was told to forget */
	if (transfer == NULL && job != NULL && rxd_table_is_finished(table, job))
		return SP_OK;
	if (transfer == NULL)
		return sp_err_set(err, SP_E_INVALID,
		    "the receiver's note \"%.32s\" names no transfer", note->kind);
	if (strcmp(note->kind, "object") == 0) {
		revive(transfer);
		transfer->done_bytes += note_count(note, "bytes");
	} else if (strcmp(note->kind, "done") == 0) {
		note_done(transfer, note);
	} else if (strcmp(note->kind, "incomplete") == 0) {
		transfer->state = RXD_INCOMPLETE;
		transfer->missing_bytes = note_count(note, "missing");
		note_text(note, "gaps", transfer->gaps, sizeof(transfer->gaps));
		note_text(note, "fault", transfer->fault, sizeof(transfer->fault));
	} else {
		return sp_err_set(
		    err, SP_E_INVALID, "the receiver's note \"%.32s\" is unknown", note->kind);
	}
	return SP_OK;
}

struct rxd_transfer *
rxd_table_unsaid(struct rxd_table *table)
{
	struct rxd_transfer *next = NULL;

	for (struct rxd_transfer *t = table->first; t != NULL; t = t->next)
		if (t->unsaid && !t->claimed && (next == NULL || t->say_ms < next->say_ms))
			next = t;
	return next;
}

int
rxd_table_said(struct rxd_table *table, const char *job, enum sp_code code, int64_t now_ms)
{
	struct rxd_transfer *transfer = rxd_table_find(table, job);

	if (transfer == NULL)
		return 1;
	if (code == SP_OK)
		transfer->refusals = 0;
	else if (!sp_err_may_retry(code) && ++transfer->refusals == RXD_REFUSALS_MAX)
		return 0;
	transfer->unsaid = 1;
	transfer->say_ms = now_ms + RXD_AGAIN_MS;
	return 1;
}

void
rxd_table_claim(struct rxd_transfer *transfer)
{
	transfer->claimed = 1;
	transfer->unsaid = 0;
}

void
rxd_table_unclaim(struct rxd_transfer *transfer, int unsaid, int64_t now_ms)
{
	transfer->claimed = 0;
	transfer->unsaid = unsaid;
	transfer->refusals = 0;
	transfer->say_ms = now_ms + RXD_AGAIN_MS;
}

void
rxd_table_remove(struct rxd_table *table, const char *job)
{
	struct rxd_transfer **at = &table->first, *transfer;

	while (*at != NULL && strcmp((*at)->manifest.job, job) != 0)
		at = &(*at)->next;
	if ((transfer = *at) == NULL)
		return;
	*at = transfer->next;
	table->count--;
	sp_manifest_clear(&transfer->manifest);
	free(transfer);
}

void
rxd_table_finish(struct rxd_table *table, const char *job)
{
	rxd_table_remove(table, job);
	if (rxd_table_is_finished(table, job))
		return;
	snprintf(table->finished[table->finished_next++ % RXD_FINISHED_MAX],
	    sizeof(table->finished[0]), "%s", job);
}

void
rxd_table_clear(struct rxd_table *table)
{
	while (table->first != NULL)
		rxd_table_remove(table, table->first->manifest.job);
}

/* --- what a release may bring along --- */

enum sp_code
rxd_check_candidate(const struct sp_candidate *candidate, const char *job, const char *destination,
    struct sp_err *err)
{
	if (strcmp(candidate->job, job) != 0)
		return sp_err_set(err, SP_E_DENIED,
		    "the release was made by job %s and came as job %s: a repeat under another "
		    "name",
		    candidate->job, job);
	if (strcmp(candidate->destination, destination) != 0)
		return sp_err_set(err, SP_E_DENIED,
		    "the release is meant for %s, this is %s (diode-rxd.destination)",
		    candidate->destination, destination);
	return SP_OK;
}

static int
by_hex(const void *a, const void *b)
{
	return strcmp(((const struct sp_hex *)a)->s, ((const struct sp_hex *)b)->s);
}

enum sp_code
rxd_check_objects(const struct sp_manifest *manifest, const char *listing,
    const struct sp_tree *tree, struct sp_err *err)
{
	struct sp_hex *named = sp_xcalloc(tree->count + 2, sizeof(*named)), hex;
	size_t count = tree->count + 2;
	enum sp_code code = SP_OK;

	for (size_t i = 0; i < tree->count; i++)
		named[i] = tree->files[i].sha256;
	strcpy(named[tree->count].s, listing);
	named[tree->count + 1] = sp_hex_of(manifest->release);
	qsort(named, count, sizeof(*named), by_hex);
	for (size_t i = 0; i < manifest->count && code == SP_OK; i++) {
		hex = sp_hex_of(manifest->objects[i].digest);
		if (bsearch(&hex, named, count, sizeof(*named), by_hex) == NULL)
			code = sp_err_set(err, SP_E_DENIED,
			    "object %s came along, but the release does not name it", hex.s);
	}
	free(named);
	return code;
}
