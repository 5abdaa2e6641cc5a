/* source.h -- SOURCE, what an operator submits to be fetched; pure. */
#ifndef SP_SOURCE_H
#define SP_SOURCE_H

#include "base/err.h"
#include "base/limits.h"

enum sp_source_scheme { SP_SOURCE_HF, SP_SOURCE_HF_DATASET, SP_SOURCE_GITHUB, SP_SOURCE_IMAGE };

struct sp_source {
	enum sp_source_scheme scheme;
	/* "org/name" or "name"; of an image without host, tag and digest: what a candidate can be
	 * called */
	char repo[SP_NAME_MAX + 1];
	/* hf: branch, tag, "refs/pr/1" or commit, "main" by default; github: the tag; image: "" */
	char revision[SP_NAME_MAX + 1];
};

/*
 *	hf:[org/]name[@rev]		a model
 *	hf-dataset:[org/]name[@rev]	a data set
 *	github:owner/repo@tag		release files
 *	image:[host[:port]/][org/]name[:tag][@sha256:HEX]
 *
 * A candidate's name is a repository name of the Hub, so an image may have two segments behind its
 * host at most. SP_E_UNSUPPORTED for another scheme; SP_E_INVALID and SP_E_LIMIT say which part is
 * wrong and what is allowed.
 */
enum sp_code
sp_source_parse(const char *text, struct sp_source *out, struct sp_err *err) SP_MUST_USE;

/* "hf", "hf-dataset", "github", "image" */
const char *sp_source_word(enum sp_source_scheme scheme);

/* 1 when text is a commit: 40 lower-case hex digits. */
int sp_source_is_commit(const char *text);

#endif
