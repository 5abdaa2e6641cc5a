/*
 * entry.h -- one entry of the audit log (proto/audit.proto), built and read.
 *
 * Details that events of a job carry, beside what a worker reports:
 *	submit, begin	recipe, source, name; submit also profile, policy_sha256, destination,
 *			approvals
 *	await, done (of a scan)	version, candidate_sha256, name, destination
 */
#ifndef SP_ENTRY_H
#define SP_ENTRY_H

#include "audit.pb-c.h"
#include "base/hash.h"

#define SP_ENTRY_DETAILS_MAX 48	 /* of one entry */
#define SP_ENTRY_KEY_MAX 64	 /* bytes of a detail's key */
#define SP_ENTRY_VALUE_MAX 1024	 /* bytes of a detail's value; a longer one is logged by digest */
#define SP_ENTRY_REASON_MAX 1024 /* bytes; what is longer is cut */
#define SP_ENTRY_SUBJECTS_MAX 16

/* Who did it. Strings borrowed; key_id "" where there is none. */
struct sp_actor {
	int is_operator;
	uint32_t uid;	     /* operators */
	const char *service; /* daemons */
	const char *name;
	const char *key_id;
};

/* An entry in the making. Everything added is copied. */
struct sp_entry;
struct sp_entry *sp_entry_new(const struct sp_actor *actor, const char *event);
void sp_entry_job(struct sp_entry *entry, const char *job, const char *from, const char *to);
void sp_entry_step(struct sp_entry *entry, const char *step, const char *lease);
void sp_entry_reason(struct sp_entry *entry, const char *reason);
/* What the log holds of a detail's value: itself, or its digest in buf. */
const char *sp_entry_value(const char *value, char buf[96]);
/* Ignored beyond the limits above: who takes details from outside refuses too many before. */
void sp_entry_detail(struct sp_entry *entry, const char *key, const char *value);
void sp_entry_subject(struct sp_entry *entry, const char *role, const char *digest,
    const char *store, int tree, uint64_t bytes);
void sp_entry_attestation(struct sp_entry *entry, const void *envelope, size_t len);
/* The leaf's bytes, malloc'd, at most SP_ENTRY_MAX. */
uint8_t *sp_entry_pack(struct sp_entry *entry, uint64_t seq, const char *origin, int64_t unix_ms,
    int64_t monotonic_ms, size_t *len);
void sp_entry_free(struct sp_entry **entry);

/* A committed entry: strictly parsed, time and ids of the right form, an actor, a known event; free
 * with sallyport__entry__free_unpacked(…, NULL). */
enum sp_code sp_entry_parse(
    const uint8_t *data, size_t len, Sallyport__Entry **out, struct sp_err *err) SP_MUST_USE;
/* The same in memory of the caller's choice; *out is to be freed with that allocator, or all at
 * once. */
enum sp_code sp_entry_parse_in(ProtobufCAllocator *allocator, const uint8_t *data, size_t len,
    Sallyport__Entry **out, struct sp_err *err) SP_MUST_USE;
/* Value of the first detail of that key, "" when there is none. */
const char *sp_entry_get(const Sallyport__Entry *entry, const char *key);

#endif
