/* rxd_step.c -- the transfers that the receiver tells of, and what a release may bring along. */
#include "rxd.h"

#include <errno.h>
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

struct rxd_transfer *
rxd_table_find(struct rxd_table *table, const char *job)
{
	struct rxd_transfer *transfer = table->first;

	while (transfer != NULL && strcmp(transfer->manifest.job, job) != 0)
		transfer = transfer->next;
	return transfer;
}

static enum sp_code
note_known(struct rxd_table *table, const Sallyport__ChildNote *note,
    const struct rxd_transfer **begun, struct sp_err *err)
{
	struct rxd_transfer *transfer;
	struct sp_manifest manifest;
	enum sp_code code =
	    sp_manifest_parse(note->content.data, note->content.len, &manifest, err);

	if (code != SP_OK)
		return code;
	transfer = rxd_table_find(table, manifest.job);
	if (transfer == NULL) {
		transfer = sp_xcalloc(1, sizeof(*transfer));
		transfer->next = table->first;
		table->first = transfer;
	} else {
		/* a receiver that was started again begins to count anew */
		sp_manifest_clear(&transfer->manifest);
		transfer->total_bytes = transfer->done_bytes = 0;
	}
	transfer->state = RXD_KNOWN;
	transfer->manifest = manifest;
	for (size_t i = 0; i < manifest.count; i++)
		transfer->total_bytes += manifest.objects[i].size;
	*begun = transfer;
	return SP_OK;
}

enum sp_code
rxd_table_note(struct rxd_table *table, const Sallyport__ChildNote *note,
    const struct rxd_transfer **begun, struct sp_err *err)
{
	const char *job = rxd_note_get(note, "job"), *gaps = rxd_note_get(note, "gaps");
	struct rxd_transfer *transfer;

	*begun = NULL;
	if (strcmp(note->kind, "known") == 0)
		return note_known(table, note, begun, err);
	transfer = job == NULL ? NULL : rxd_table_find(table, job);
	if (transfer == NULL)
		return sp_err_set(err, SP_E_INVALID,
		    "the receiver's note \"%.32s\" names no transfer", note->kind);
	if (strcmp(note->kind, "object") == 0) {
		if (transfer->state == RXD_INCOMPLETE) { /* a later pass brings more */
			transfer->state = RXD_KNOWN;
			*begun = transfer;
		}
		transfer->done_bytes += note_count(note, "bytes");
	} else if (strcmp(note->kind, "done") == 0) {
		if (transfer->state == RXD_INCOMPLETE)
			*begun = transfer;
		transfer->state = RXD_DONE;
		transfer->done_bytes = transfer->total_bytes;
		transfer->counts.repaired = note_count(note, "repaired");
		transfer->counts.duplicates = note_count(note, "duplicates");
		transfer->counts.lost = note_count(note, "lost");
		transfer->counts.rejected = note_count(note, "rejected");
	} else if (strcmp(note->kind, "incomplete") == 0) {
		transfer->state = RXD_INCOMPLETE;
		transfer->missing_bytes = note_count(note, "missing");
		strncpy(transfer->gaps, gaps == NULL ? "" : gaps, sizeof(transfer->gaps) - 1);
	} else {
		return sp_err_set(
		    err, SP_E_INVALID, "the receiver's note \"%.32s\" is unknown", note->kind);
	}
	return SP_OK;
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
	sp_manifest_clear(&transfer->manifest);
	free(transfer);
}

void
rxd_table_clear(struct rxd_table *table)
{
	while (table->first != NULL)
		rxd_table_remove(table, table->first->manifest.job);
}

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
