/* nfc.h -- Unicode normalization form C. */
#ifndef SP_NFC_H
#define SP_NFC_H

#include "base/err.h"

/*
 * text must be valid UTF-8. *out (malloc'd, *out_len bytes) is its form C, or NULL when text has
 * that form already. The form is that of Unicode 9 (UAX 15), whose tables huggingface/tokenizers
 * uses: a character that came later combines with nothing and keeps its place.
 */
enum sp_code sp_nfc_normalize(
    const char *text, size_t len, char **out, size_t *out_len, struct sp_err *err) SP_MUST_USE;

#endif
