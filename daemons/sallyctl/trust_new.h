/* trust_new.h -- a trust document put together from a command line. */
#ifndef CTL_TRUST_NEW_H
#define CTL_TRUST_NEW_H

#include "release/trust.h"

/* "2027-01-31", "2027-01-31T12:00:00Z" or with milliseconds, as RFC 3339 with milliseconds. Pure;
 * SP_E_INVALID when it is none of these. */
enum sp_code ctl_trust_expiry(const char *text, char out[25], struct sp_err *err) SP_MUST_USE;

/* A worker of the bus: SERVICE:UID:PUBFILE; the key and its name are read from PUBFILE. */
enum sp_code
ctl_trust_worker(const char *text, struct sp_trust_worker *out, struct sp_err *err) SP_MUST_USE;

/* "ROLE=K". Pure. */
enum sp_code ctl_trust_threshold(
    const char *text, unsigned thresholds[SP_ROLE_COUNT], struct sp_err *err) SP_MUST_USE;

struct ctl_trust_parts {
	int64_t version;
	char expires[25];
	unsigned thresholds[SP_ROLE_COUNT];
	struct sp_pubkey *keys; /* sorted by ctl_trust_format */
	size_t key_count;
	struct sp_trust_worker *workers; /* likewise */
	size_t worker_count;
};

/* Canonical payload, malloc'd, in the form that sp_trust_parse accepts, or why there is none. Pure.
 */
enum sp_code ctl_trust_format(
    struct ctl_trust_parts *parts, char **payload, size_t *len, struct sp_err *err) SP_MUST_USE;

#endif
