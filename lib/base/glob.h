/* glob.h -- patterns of paths, as huggingface_hub's allow_patterns and ignore_patterns; pure. */
#ifndef SP_GLOB_H
#define SP_GLOB_H

#include "base/err.h"

#define SP_GLOB_MAX 256 /* bytes of a pattern */

/*
 * 1 when the whole path matches (Python's fnmatch.fnmatchcase): '*' any characters, '/' too; '?'
 * one character; "[a-z]" one of, "[!a-z]" one but. Nothing quotes: "[*]" is a star. A pattern that
 * ends in '/' means all that lies below it. Time is at most the product of both lengths.
 */
int sp_glob_match(const char *pattern, const char *path);

/* Whether a pattern can match a path of a tree at all: what is wrong with it, or SP_OK. */
enum sp_code sp_glob_check(const char *pattern, struct sp_err *err) SP_MUST_USE;

#endif
