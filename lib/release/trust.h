/*
 * trust.h -- whom a side believes: roles, their public keys and thresholds; the workers of the bus.
 *
 * DIR/trust.json is a DSSE envelope (payload type SP_DSSE_TRUST) signed by the root role. Payload,
 * canonical JSON:
 *	{"expires": RFC3339, "type": "sallyport-trust/1", "version": N >= 1,
 *	 "roles": {ROLE: {"keys": [{"id": hex, "key": base64, "name": NAME}], "threshold": K}},
 *	 "workers": [{"key": base64 (Curve25519), "name": "fetcherd@bastion", "service": "fetcherd",
 *	              "uid": UID or -1}]}
 * Keys sorted by id, workers by name. The worker "ledgerd@SIDE" is the bus's server key. A role
 * key's name is that of the worker it belongs to (for the roles of daemons) or of the person.
 * DIR/root.pin (one line: hex SHA-256 of the payload of version 1) was put there out of band by
 * `sallyctl trust init`; DIR/N.json keep the versions accepted so far. A version follows only when
 * signed by the root thresholds of both its predecessor and itself; it is never downgraded.
 */
#ifndef SP_TRUST_H
#define SP_TRUST_H

#include "release/dsse.h"

struct sp_trust_worker {
	char name[SP_NAME_MAX + 1];
	char service[32];
	uint8_t key[SP_PUBKEY_LEN];
	int64_t uid; /* -1: any */
};

struct sp_trust;

/* Pure: the payload. */
enum sp_code sp_trust_parse(
    const uint8_t *payload, size_t len, struct sp_trust **out, struct sp_err *err) SP_MUST_USE;
/* Reads DIR, checks the pin, the chain of versions and expiry against now_unix_ms. */
enum sp_code sp_trust_load(
    const char *dir, int64_t now_unix_ms, struct sp_trust **out, struct sp_err *err) SP_MUST_USE;
void sp_trust_free(struct sp_trust **trust);

int64_t sp_trust_version(const struct sp_trust *trust);
const char *sp_trust_expires(const struct sp_trust *trust);		      /* RFC 3339 */
unsigned sp_trust_threshold(const struct sp_trust *trust, enum sp_role role); /* 0: no such role */
size_t sp_trust_key_count(const struct sp_trust *trust, enum sp_role role);
const struct sp_pubkey *sp_trust_key(const struct sp_trust *trust, enum sp_role role, size_t i);
/* NULL when the role has no key of that fingerprint. */
const struct sp_pubkey *
sp_trust_key_by_id(const struct sp_trust *trust, enum sp_role role, const char *id);
size_t sp_trust_worker_count(const struct sp_trust *trust);
const struct sp_trust_worker *sp_trust_worker(const struct sp_trust *trust, size_t i);
/* By bus key, or by name; NULL when unknown. */
const struct sp_trust_worker *
sp_trust_worker_by_key(const struct sp_trust *trust, const uint8_t key[SP_PUBKEY_LEN]);
const struct sp_trust_worker *
sp_trust_worker_by_name(const struct sp_trust *trust, const char *name);

/*
 * At least `threshold` (0: the role's own) different keys of the role have signed dsse's payload.
 * signers (may be NULL) receives them, at most max; *count how many are valid. A signature by a key
 * that the role lacks is ignored, a wrong one by a key it has is SP_E_DENIED.
 */
enum sp_code sp_trust_verify(const struct sp_trust *trust, enum sp_role role, unsigned threshold,
    const struct sp_dsse *dsse, const struct sp_pubkey **signers, size_t max, size_t *count,
    struct sp_err *err) SP_MUST_USE;

/* sallyctl trust: writes DIR/root.pin and DIR/trust.json from an envelope whose payload has that
 * fingerprint; later versions by _update. */
enum sp_code sp_trust_init(const char *dir, const uint8_t *envelope, size_t len,
    const char *fingerprint, int64_t now_unix_ms, struct sp_err *err) SP_MUST_USE;
enum sp_code sp_trust_update(const char *dir, const uint8_t *envelope, size_t len,
    int64_t now_unix_ms, struct sp_err *err) SP_MUST_USE;

#endif
