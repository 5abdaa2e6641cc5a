/*
 * fuzz.h -- what the fuzz targets share. A target is one file: libFuzzer gives it bytes from
 * outside, it gives them to a parser and asserts (SP_ASSERT) what must hold when they are accepted.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include "base/err.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
/* Optional: before the first input. */
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* The bytes as a string, malloc'd: up to the first NUL, and no byte behind it, so that the
 * sanitizer sees every overread. */
char *fuzz_text(const uint8_t *data, size_t len);

/* A file of these bytes, mode 0400, in memory alone. Writes its path and returns its descriptor. */
#define FUZZ_PATH_MAX 64
int fuzz_file(const uint8_t *data, size_t len, char path[FUZZ_PATH_MAX]);

/* From now on keys, and so signatures, are the same in every run: what crashed once crashes again.
 * To be called before anything else of libsodium. */
void fuzz_fix_random(void);

#endif
