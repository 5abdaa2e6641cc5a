/*
 * tidy.h -- what clang-tidy must know of functions that it sees only the declarations of; `make
 * check` includes it in front of every file but lib/base/err.c.
 *
 * Without it the analyzer follows paths where sp_err_set(err, SP_E_INVALID, …) returned SP_OK.
 */
#ifndef SP_TIDY_H
#define SP_TIDY_H

#include "base/err.h"

static inline enum sp_code
sp_tidy_code(enum sp_code returned, enum sp_code is)
{
	(void)returned;
	return is;
}

#define sp_err_set(err, code, ...) sp_tidy_code(sp_err_set(err, code, __VA_ARGS__), code)
#define sp_err_errno(...) sp_tidy_code(sp_err_errno(__VA_ARGS__), SP_E_IO)
#define sp_err_prefix(...) sp_tidy_code(sp_err_prefix(__VA_ARGS__), SP_E_INTERNAL)

#endif
