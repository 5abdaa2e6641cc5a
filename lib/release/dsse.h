/* dsse.h -- DSSE v1 envelopes (github.com/secure-systems-lab/dsse), JSON, Ed25519. */
#ifndef SP_DSSE_H
#define SP_DSSE_H

#include "base/buf.h"
#include "release/key.h"

#define SP_DSSE_SIGS_MAX 16
#define SP_DSSE_INTOTO "application/vnd.in-toto+json"
#define SP_DSSE_CANDIDATE "application/vnd.sallyport.candidate+json"
#define SP_DSSE_TRUST "application/vnd.sallyport.trust+json"
#define SP_DSSE_SNAPSHOT "application/vnd.sallyport.snapshot+json"

struct sp_dsse_sig {
	struct sp_hex keyid;
	uint8_t sig[SP_SIG_LEN];
};

struct sp_dsse {
	char *payload_type;
	uint8_t *payload; /* decoded, malloc'd, NUL after it */
	size_t payload_len;
	struct sp_dsse_sig sigs[SP_DSSE_SIGS_MAX];
	size_t sig_count;
};

/* Pre-authentication encoding: "DSSEv1" SP len(type) SP type SP len(body) SP body. */
void sp_dsse_pae(struct sp_buf *out, const char *type, const void *body, size_t len);

/* Signs payload; *envelope: canonical JSON, malloc'd, NUL-terminated. */
enum sp_code sp_dsse_sign(const struct sp_key *key, const char *type, const void *payload,
    size_t len, char **envelope, size_t *envelope_len, struct sp_err *err) SP_MUST_USE;
/* Adds key's signature to an envelope in memory; SP_E_EXISTS when it signed already. */
enum sp_code
sp_dsse_cosign(struct sp_dsse *dsse, const struct sp_key *key, struct sp_err *err) SP_MUST_USE;
/* Adds the signatures of `from`, an envelope over the very same type and payload. */
enum sp_code
sp_dsse_merge(struct sp_dsse *dsse, const struct sp_dsse *from, struct sp_err *err) SP_MUST_USE;
enum sp_code sp_dsse_format(
    const struct sp_dsse *dsse, char **envelope, size_t *len, struct sp_err *err) SP_MUST_USE;

/* Parses strictly (canonical JSON, base64 with one spelling, signatures in ascending order of
 * keyid, none twice, no unknown field); proves nothing: who believes the payload calls
 * sp_trust_verify. */
enum sp_code
sp_dsse_parse(const uint8_t *data, size_t len, struct sp_dsse *out, struct sp_err *err) SP_MUST_USE;
void sp_dsse_clear(struct sp_dsse *dsse);

#endif
