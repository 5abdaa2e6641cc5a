/* entry.c -- an audit entry. */
#include "entry.h"
#include "base/hash.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Bytes that should be a digest, in hex; whatever else they are, too. */
static char *
hex_of(const ProtobufCBinaryData *bytes)
{
	char *hex = sp_xcalloc(2 * bytes->len + 1, 1);

	sp_hex_encode(bytes->data, bytes->len, hex);
	return hex;
}

static json_t *
actor_json(const Sallyport__Entry *entry)
{
	switch (entry->actor_case) {
	case SALLYPORT__ENTRY__ACTOR_DAEMON:
		return json_pack("{s:s, s:s, s:s}", "service", entry->daemon->service, "name",
		    entry->daemon->name, "key_id", entry->daemon->key_id);
	case SALLYPORT__ENTRY__ACTOR_OPERATOR:
		return json_pack("{s:I, s:s, s:s}", "uid", (json_int_t)entry->operator_->uid,
		    "name", entry->operator_->name, "key_id", entry->operator_->key_id);
	default:
		return json_null();
	}
}

static json_t *
subject_json(const Sallyport__EntrySubject *subject)
{
	char *hex = hex_of(&subject->sha256);
	json_t *obj;

	obj = json_pack("{s:s, s:s, s:s, s:b, s:I}", "role", subject->role, "sha256", hex, "store",
	    subject->store, "tree", subject->tree, "bytes", (json_int_t)subject->bytes);
	free(hex);
	return obj;
}

json_t *
ctl_entry_json(const Sallyport__Entry *entry)
{
	json_t *subjects = json_array(), *details = json_array(), *obj;
	char *attestation = hex_of(&entry->attestation_sha256);
	size_t i;

	for (i = 0; i < entry->n_subjects; i++)
		json_array_append_new(subjects, subject_json(entry->subjects[i]));
	for (i = 0; i < entry->n_details; i++)
		json_array_append_new(
		    details, json_pack("{s:s, s:s}", "key", entry->details[i]->key, "value",
				 entry->details[i]->value));
	obj =
	    json_pack("{s:I, s:s, s:I, s:s, s:o, s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:s, s:s, s:o}",
		"seq", (json_int_t)entry->seq, "time", entry->time, "monotonic_ms",
		(json_int_t)entry->monotonic_ms, "origin", entry->origin, "actor",
		actor_json(entry), "event", entry->event, "job", entry->job, "from", entry->from,
		"to", entry->to, "step", entry->step, "lease", entry->lease, "subjects", subjects,
		"attestation_sha256", attestation, "reason", entry->reason, "details", details);
	SP_ASSERT(obj != NULL);
	free(attestation);
	return obj;
}

char *
ctl_entry_actor(const Sallyport__Entry *entry)
{
	switch (entry->actor_case) {
	case SALLYPORT__ENTRY__ACTOR_DAEMON:
		return sp_xstrdup(entry->daemon->name);
	case SALLYPORT__ENTRY__ACTOR_OPERATOR:
		return sp_xasprintf(
		    "%s (uid %" PRIu32 ")", entry->operator_->name, entry->operator_->uid);
	default:
		return sp_xstrdup("?");
	}
}

static void
more(struct ctl_out_table *table, const char *what, const char *value)
{
	char *text;

	if (value[0] == '\0')
		return;
	text = sp_xasprintf("%s: %s", what, value);
	ctl_out_row(table, "", "", "", "", "", text, NULL);
	free(text);
}

void
ctl_entry_rows(const Sallyport__Entry *entry, struct ctl_out_table *table)
{
	char *seq = sp_xasprintf("%" PRIu64, entry->seq), *actor = ctl_entry_actor(entry), *move;
	char *hex, *text;
	size_t i;

	if (entry->to[0] != '\0' && strcmp(entry->from, entry->to) != 0)
		move = sp_xasprintf(
		    "%s%s%s", entry->from, entry->from[0] != '\0' ? " -> " : "-> ", entry->to);
	else
		move = sp_xstrdup(entry->to);
	text = sp_xasprintf("%.8s", entry->job);
	ctl_out_row(table, seq, entry->time, text, actor, entry->event, move, NULL);
	free(text);
	free(move);
	free(actor);
	free(seq);
	more(table, "reason", entry->reason);
	for (i = 0; i < entry->n_subjects; i++) {
		hex = hex_of(&entry->subjects[i]->sha256);
		text = sp_xasprintf("%s, %s", hex, ctl_out_size(entry->subjects[i]->bytes).s);
		more(table, entry->subjects[i]->role, text);
		free(text);
		free(hex);
	}
	hex = hex_of(&entry->attestation_sha256);
	more(table, "attestation", hex);
	free(hex);
	for (i = 0; i < entry->n_details; i++)
		more(table, entry->details[i]->key, entry->details[i]->value);
}
