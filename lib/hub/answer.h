/*
 * answer.h -- what a Hugging Face hub says, read strictly: pure functions over its bytes.
 *
 * The protocol is that of huggingface_hub 1.x. Everything in an answer may be hostile: names are
 * checked, numbers bounded, and a field that is missing or of another type is an error that names
 * it.
 */
#ifndef SP_HUB_ANSWER_H
#define SP_HUB_ANSWER_H

#include "base/hash.h"

#include <stddef.h>

#define SP_ANSWER_LICENCE_SIZE 256
#define SP_ANSWER_ENTRIES_MAX 200000 /* files and directories of a repository */

/* GET /api/models/{id}/revision/{rev} */
struct sp_answer_model {
	struct sp_git_oid commit;
	/* "apache-2.0", "other (name)", all there are joined by ", ", which is in none of them;
	 * more than fit end in ", ..."; "" when the hub says none */
	char licence[SP_ANSWER_LICENCE_SIZE];
	char gated[16]; /* "no", "auto" or "manual" */
	int disabled;
};
enum sp_code sp_answer_model_parse(
    const uint8_t *data, size_t len, struct sp_answer_model *out, struct sp_err *err) SP_MUST_USE;

/* A file of GET /api/models/{id}/tree/{commit}. */
struct sp_answer_file {
	char *path; /* sp_path_check holds */
	uint64_t size;
	struct sp_git_oid oid; /* of its git blob; of the pointer when it is an LFS file */
	int lfs;
	struct sp_hex sha256; /* of an LFS file */
};
struct sp_answer_tree {
	struct sp_answer_file *files;
	size_t count, cap;
	uint64_t bytes;
	/* Set by the caller: whether a path is taken. NULL: all are. What is not may be anything,
	 * is counted, and no more is held of it. */
	int (*keeps)(const void *ctx, const char *path);
	const void *ctx;
	size_t left_out;
	uint64_t left_out_bytes; /* as far as the hub says, at most UINT64_MAX */
	size_t listed;		 /* entries so far */
};
/* Adds a page's files to tree. Directories are left out, what is neither file nor directory (a
 * submodule, a symlink) is refused. */
enum sp_code sp_answer_tree_parse(
    const uint8_t *data, size_t len, struct sp_answer_tree *tree, struct sp_err *err) SP_MUST_USE;
void sp_answer_tree_clear(struct sp_answer_tree *tree);

/* The rel="next" of a Link field (RFC 8288): *next is malloc'd, NULL when there is none.
 * SP_E_DENIED when it leads to another origin than base. */
enum sp_code
sp_answer_next(const char *link, const char *base, char **next, struct sp_err *err) SP_MUST_USE;

/* An answer that is no 2xx; fields that were not sent are NULL. */
struct sp_answer_failure {
	long status;
	const char *error_code;	   /* X-Error-Code */
	const char *error_message; /* X-Error-Message */
	const char *retry_after;   /* Retry-After */
	const char *rate_limit;	   /* RateLimit */
	int with_token;		   /* the request carried one */
};
/* Sets err to what an operator can do about it. what: "hf:org/name@rev", host: where it was asked.
 */
enum sp_code sp_answer_fail(const struct sp_answer_failure *failure, const char *what,
    const char *host, struct sp_err *err);

#endif
