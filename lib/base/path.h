/* path.h -- which paths and names may come in from outside, and joining. */
#ifndef SP_PATH_H
#define SP_PATH_H

#include "base/err.h"

/*
 * A path inside a tree (design 4): relative, UTF-8, 1..1024 bytes, components not empty, not "."
 * and not "..", no control characters, no backslash. Says which rule is broken.
 */
enum sp_code sp_path_check(const char *path, struct sp_err *err) SP_MUST_USE;

/* "org/name" or "name": 1 or 2 segments of [A-Za-z0-9._-], not starting or ending with '.' or
 * '-', at most 96 bytes each, no "--" and no ".." (Hub rules). */
enum sp_code sp_path_check_repo(const char *repo, struct sp_err *err) SP_MUST_USE;

/* 1 when text is valid UTF-8 (no surrogates, no overlong forms). */
int sp_path_is_utf8(const char *text, size_t len);

/* root ("" or "/x/y") + rest ("/etc/…") joined into a malloc'd string. */
char *sp_path_join(const char *root, const char *rest);

#endif
