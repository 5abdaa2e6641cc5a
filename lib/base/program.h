/* program.h -- which code computed something: part of the name of what is kept for later. */
#ifndef SP_PROGRAM_H
#define SP_PROGRAM_H

#include "base/hash.h"

/* SHA-256 of a program's file. */
enum sp_code
sp_program_digest(const char *path, struct sp_hex *out, struct sp_err *err) SP_MUST_USE;

/* "VERSION+DIGEST", 16 digits of the digest of the program that runs: two builds of one version are
 * two programs. malloc'd. */
enum sp_code sp_program_name(char **out, struct sp_err *err) SP_MUST_USE;

#endif
