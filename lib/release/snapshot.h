/*
 * snapshot.h -- the registry's signed list of what may run (DSSE, SP_DSSE_SNAPSHOT, registry role).
 *
 * Canonical JSON:
 *	{"models": [{"bytes": N, "files": [PATH, …], "kind": TEXT, "name": TEXT, "release": hex,
 *	             "revision": 40 hex, "revoked": false, "tree": hex, "version": N}, …],
 *	 "origin": TEXT, "time": RFC3339, "type": "sallyport-snapshot/1", "version": N >= 1}
 * Models sorted by name (bytewise), then version; version of the snapshot grows by one each time.
 */
#ifndef SP_SNAPSHOT_H
#define SP_SNAPSHOT_H

#include "release/trust.h"

struct sp_snapshot_model {
	char *name, *kind;
	int64_t version;
	struct sp_hex tree, release;
	struct sp_git_oid revision;
	uint64_t bytes;
	int revoked;
	char **files;
	size_t file_count;
};

struct sp_snapshot {
	int64_t version;
	char origin[SP_NAME_MAX + 1];
	char time[25];
	struct sp_snapshot_model *models;
	size_t count;
};

enum sp_code sp_snapshot_sign(struct sp_snapshot *snapshot, const struct sp_key *key,
    char **envelope, size_t *len, struct sp_err *err) SP_MUST_USE;
/* The payload's form alone: pure, proves nothing. */
enum sp_code sp_snapshot_parse(
    const uint8_t *payload, size_t len, struct sp_snapshot *out, struct sp_err *err) SP_MUST_USE;
/* Verifies the signature of the registry role, then the payload's form. Free with _clear. */
enum sp_code sp_snapshot_verify(const struct sp_trust *trust, const uint8_t *envelope, size_t len,
    struct sp_snapshot *out, struct sp_err *err) SP_MUST_USE;
/* The model of that name that is not revoked: of that version, or the newest when version is 0. */
const struct sp_snapshot_model *
sp_snapshot_find(const struct sp_snapshot *snapshot, const char *name, int64_t version);
void sp_snapshot_clear(struct sp_snapshot *snapshot);

#endif
