/*
 * candidate.h -- what operators sign: payload of a DSSE envelope of type SP_DSSE_CANDIDATE.
 *
 * Canonical JSON, exactly these fields:
 *	{"attestations": [hex SHA-256 of each envelope, in order], "destination": TEXT, "job": hex,
 *	 "kind": "model"|"image"|"file", "name": TEXT, "tree": hex, "type": "sallyport-candidate/1",
 *	 "version": N >= 1}
 * The name is that of a repository (base/path.h), for every kind.
 */
#ifndef SP_CANDIDATE_H
#define SP_CANDIDATE_H

#include "base/hash.h"

#define SP_CANDIDATE_ATTESTATIONS_MAX 16

struct sp_candidate {
	char job[SP_JOB_ID_LEN + 1];
	char kind[16];
	char name[SP_NAME_MAX + 1];
	int64_t version;
	char destination[SP_NAME_MAX + 1];
	struct sp_hex tree;
	struct sp_hex attestations[SP_CANDIDATE_ATTESTATIONS_MAX];
	size_t attestation_count;
};

char *sp_candidate_format(const struct sp_candidate *candidate, size_t *len);
enum sp_code sp_candidate_parse(
    const uint8_t *payload, size_t len, struct sp_candidate *out, struct sp_err *err) SP_MUST_USE;

#endif
