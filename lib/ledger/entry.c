/* entry.c -- entries of the audit log, within SP_ENTRY_MAX bytes by construction. */
#include "ledger/entry.h"
#include "base/time.h"
#include "bus/wire.h"
#include "ledger/jobs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* subject: role, store (31 each), digest; detail: key, value; 256 bytes of names in the actor */
_Static_assert(SP_ENTRY_DETAILS_MAX *(SP_ENTRY_KEY_MAX + SP_ENTRY_VALUE_MAX + 16) +
		       SP_ENTRY_SUBJECTS_MAX * 160 + SP_ENTRY_REASON_MAX + 4096 <=
		   SP_ENTRY_MAX,
    "an entry always fits");

struct sp_entry {
	Sallyport__Entry message;
	Sallyport__DaemonActor daemon;
	Sallyport__OperatorActor operator_;
	Sallyport__EntryDetail details[SP_ENTRY_DETAILS_MAX];
	Sallyport__EntryDetail *detail_list[SP_ENTRY_DETAILS_MAX];
	Sallyport__EntrySubject subjects[SP_ENTRY_SUBJECTS_MAX];
	Sallyport__EntrySubject *subject_list[SP_ENTRY_SUBJECTS_MAX];
	uint8_t attestation[SP_DIGEST_LEN];
	uint8_t digests[SP_ENTRY_SUBJECTS_MAX][SP_DIGEST_LEN];
	char **strings; /* all that was copied */
	size_t string_count;
};

/* A copy of at most max bytes that ends before a UTF-8 character which would be cut. */
static char *
keep(struct sp_entry *entry, const char *text, size_t max)
{
	size_t len = strlen(text);
	char *copy;

	if (len > max) {
		len = max;
		while (len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80)
			len--;
	}
	copy = sp_xcalloc(len + 1, 1);
	// NOLINTNEXTLINE(bugprone-not-null-terminated-result): calloc wrote it
	memcpy(copy, text, len);
	entry->strings =
	    sp_xrealloc(entry->strings, entry->string_count + 1, sizeof(*entry->strings));
	entry->strings[entry->string_count++] = copy;
	return copy;
}

struct sp_entry *
sp_entry_new(const struct sp_actor *actor, const char *event)
{
	struct sp_entry *entry = sp_xcalloc(1, sizeof(*entry));

	sallyport__entry__init(&entry->message);
	sallyport__daemon_actor__init(&entry->daemon);
	sallyport__operator_actor__init(&entry->operator_);
	if (actor->is_operator) {
		entry->operator_.uid = actor->uid;
		entry->operator_.name = keep(entry, actor->name, SP_NAME_MAX);
		entry->operator_.key_id = keep(entry, actor->key_id, SP_HEX_LEN);
		entry->message.actor_case = SALLYPORT__ENTRY__ACTOR_OPERATOR;
		entry->message.operator_ = &entry->operator_;
	} else {
		entry->daemon.service = keep(entry, actor->service, SP_NAME_MAX);
		entry->daemon.name = keep(entry, actor->name, SP_NAME_MAX);
		entry->daemon.key_id = keep(entry, actor->key_id, SP_HEX_LEN);
		entry->message.actor_case = SALLYPORT__ENTRY__ACTOR_DAEMON;
		entry->message.daemon = &entry->daemon;
	}
	entry->message.event = keep(entry, event, 64);
	entry->message.details = entry->detail_list;
	entry->message.subjects = entry->subject_list;
	return entry;
}

void
sp_entry_job(struct sp_entry *entry, const char *job, const char *from, const char *to)
{
	entry->message.job = keep(entry, job, SP_JOB_ID_LEN);
	entry->message.from = keep(entry, from, 64);
	entry->message.to = keep(entry, to, 64);
}

void
sp_entry_step(struct sp_entry *entry, const char *step, const char *lease)
{
	entry->message.step = keep(entry, step, 64);
	entry->message.lease = keep(entry, lease, SP_JOB_ID_LEN);
}

void
sp_entry_reason(struct sp_entry *entry, const char *reason)
{
	entry->message.reason = keep(entry, reason, SP_ENTRY_REASON_MAX);
}

const char *
sp_entry_value(const char *value, char buf[96])
{
	size_t len = strlen(value);

	if (len <= SP_ENTRY_VALUE_MAX)
		return value;
	snprintf(buf, 96, "sha256:%s", sp_sha256_hex(value, len).s);
	return buf;
}

void
sp_entry_detail(struct sp_entry *entry, const char *key, const char *value)
{
	size_t n = entry->message.n_details;
	char digest[96];

	if (n == SP_ENTRY_DETAILS_MAX)
		return;
	value = sp_entry_value(value, digest);
	sallyport__entry_detail__init(&entry->details[n]);
	entry->details[n].key = keep(entry, key, SP_ENTRY_KEY_MAX);
	entry->details[n].value = keep(entry, value, SP_ENTRY_VALUE_MAX);
	entry->detail_list[n] = &entry->details[n];
	entry->message.n_details++;
}

void
sp_entry_subject(struct sp_entry *entry, const char *role, const char *digest, const char *store,
    int tree, uint64_t bytes)
{
	size_t n = entry->message.n_subjects;
	Sallyport__EntrySubject *subject = &entry->subjects[n];

	if (n == SP_ENTRY_SUBJECTS_MAX)
		return;
	sallyport__entry_subject__init(subject);
	SP_ASSERT(sp_hex_decode(digest, entry->digests[n], SP_DIGEST_LEN) == SP_OK);
	subject->role = keep(entry, role, 31);
	subject->sha256.data = entry->digests[n];
	subject->sha256.len = SP_DIGEST_LEN;
	subject->store = keep(entry, store, 31);
	subject->tree = tree != 0;
	subject->bytes = bytes;
	entry->subject_list[n] = subject;
	entry->message.n_subjects++;
}

void
sp_entry_attestation(struct sp_entry *entry, const void *envelope, size_t len)
{
	sp_sha256(envelope, len, entry->attestation);
	entry->message.attestation_sha256.data = entry->attestation;
	entry->message.attestation_sha256.len = SP_DIGEST_LEN;
}

uint8_t *
sp_entry_pack(struct sp_entry *entry, uint64_t seq, const char *origin, int64_t unix_ms,
    int64_t monotonic_ms, size_t *len)
{
	struct sp_rfc3339 time = sp_time_rfc3339(unix_ms);
	uint8_t *bytes;

	entry->message.seq = seq;
	entry->message.time = keep(entry, time.s, sizeof(time.s));
	entry->message.monotonic_ms = (uint64_t)monotonic_ms;
	entry->message.origin = keep(entry, origin, SP_NAME_MAX);
	*len = sallyport__entry__get_packed_size(&entry->message);
	SP_ASSERT(*len <= SP_ENTRY_MAX);
	bytes = sp_xcalloc(*len, 1);
	sallyport__entry__pack(&entry->message, bytes);
	return bytes;
}

void
sp_entry_free(struct sp_entry **entry)
{
	size_t i;

	if (*entry == NULL)
		return;
	for (i = 0; i < (*entry)->string_count; i++)
		free((*entry)->strings[i]);
	free((*entry)->strings);
	free(*entry);
	*entry = NULL;
}

/* --- reading ---------------------------------------------------------------------------------- */

static int
is_log_event(const char *event)
{
#define X(name)                       \
	if (strcmp(event, name) == 0) \
		return 1;
	SP_LOG_EVENTS(X)
#undef X
	return 0;
}

/* 32 lower-case hex digits */
static int
is_id(const char *id)
{
	uint8_t raw[SP_JOB_ID_LEN / 2];

	return sp_hex_decode(id, raw, sizeof(raw)) == SP_OK;
}

static enum sp_code
check(const Sallyport__Entry *entry, struct sp_err *err)
{
	enum sp_job_event event;
	enum sp_job_state state;
	const char *fault = NULL;
	size_t i;

	if (sp_time_parse_rfc3339(entry->time) < 0)
		fault = "its time is not of the form 2026-01-31T23:59:59.999Z";
	else if (entry->actor_case == SALLYPORT__ENTRY__ACTOR__NOT_SET)
		fault = "it has no actor";
	else if (entry->job[0] == '\0' && !is_log_event(entry->event))
		fault = "its event is unknown, or is one of a job and no job is named";
	else if (entry->job[0] != '\0' && !sp_jobs_event_find(entry->event, &event))
		fault = "its event is unknown";
	else if (entry->job[0] != '\0' && !is_id(entry->job))
		fault = "its job is not 32 hex digits";
	else if (entry->lease[0] != '\0' && !is_id(entry->lease))
		fault = "its lease is not 32 hex digits";
	else if (!sp_jobs_state_find(entry->from, &state) || !sp_jobs_state_find(entry->to, &state))
		fault = "it names an unknown state";
	else if (entry->attestation_sha256.len != 0 &&
		 entry->attestation_sha256.len != SP_DIGEST_LEN)
		fault = "its attestation's digest is not 32 bytes";
	for (i = 0; i < entry->n_subjects && fault == NULL; i++)
		if (entry->subjects[i]->sha256.len != SP_DIGEST_LEN)
			fault = "a subject's digest is not 32 bytes";
	if (fault != NULL)
		return sp_err_set(err, SP_E_INVALID, "audit entry %llu: %s",
		    (unsigned long long)entry->seq, fault);
	return SP_OK;
}

enum sp_code
sp_entry_parse(const uint8_t *data, size_t len, Sallyport__Entry **out, struct sp_err *err)
{
	return sp_entry_parse_in(NULL, data, len, out, err);
}

enum sp_code
sp_entry_parse_in(ProtobufCAllocator *allocator, const uint8_t *data, size_t len,
    Sallyport__Entry **out, struct sp_err *err)
{
	ProtobufCMessage *message;
	enum sp_code code;

	*out = NULL;
	if (len > SP_ENTRY_MAX)
		return sp_err_set(err, SP_E_LIMIT,
		    "audit entry of %zu bytes, at most %d are allowed", len, SP_ENTRY_MAX);
	message = sp_wire_unpack_in(&sallyport__entry__descriptor, allocator, data, len, err);
	if (message == NULL)
		return SP_E_INVALID;
	*out = (Sallyport__Entry *)message;
	code = check(*out, err);
	if (code != SP_OK) {
		sallyport__entry__free_unpacked(*out, allocator);
		*out = NULL;
	}
	return code;
}

const char *
sp_entry_get(const Sallyport__Entry *entry, const char *key)
{
	size_t i;

	for (i = 0; i < entry->n_details; i++)
		if (strcmp(entry->details[i]->key, key) == 0)
			return entry->details[i]->value;
	return "";
}
