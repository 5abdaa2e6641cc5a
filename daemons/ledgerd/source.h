/* source.h -- SOURCE as an operator writes it, and what it says about the job. Pure. */
#ifndef LEDGERD_SOURCE_H
#define LEDGERD_SOURCE_H

#include "base/hash.h"
#include "ledger/jobs.h"

struct ledgerd_source {
	enum sp_recipe recipe;
	char repo[SP_NAME_MAX + 1]; /* "org/name": of the candidate, before a profile's suffix */
};

/*
 *	hf:org/name[@rev]		a model
 *	hf-dataset:org/name[@rev]	a data set
 *	github:owner/repo@tag		release files
 *	image:[host[:port]/][org/]name[:tag][@sha256:HEX]
 *
 * A candidate's name is a repository name of the Hub, so an image may have two segments behind its
 * host at most. SP_E_INVALID says what is wrong and what is allowed.
 */
enum sp_code ledgerd_source_parse(
    const char *source, struct ledgerd_source *out, struct sp_err *err) SP_MUST_USE;

#endif
