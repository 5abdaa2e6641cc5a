/* source.h -- "hf:org/name[@rev]", what an operator submits to be fetched from a hub; pure. */
#ifndef SP_SOURCE_H
#define SP_SOURCE_H

#include "base/err.h"
#include "base/limits.h"

struct sp_source {
	char repo[SP_NAME_MAX + 1];	/* "org/name" or "name" */
	char revision[SP_NAME_MAX + 1]; /* branch, tag, "refs/pr/1" or commit; "main" by default */
};

/* SP_E_UNSUPPORTED for another scheme, SP_E_INVALID names the part that is wrong. */
enum sp_code
sp_source_parse(const char *text, struct sp_source *out, struct sp_err *err) SP_MUST_USE;

/* 1 when text is a commit: 40 lower-case hex digits. */
int sp_source_is_commit(const char *text);

#endif
