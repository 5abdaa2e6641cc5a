/* nfc.h -- Unicode normalization form C. */
#ifndef SP_NFC_H
#define SP_NFC_H

#include "base/err.h"

/* text must be valid UTF-8. *out (malloc'd, *out_len bytes) is its form C, or NULL when a glance at
 * the bytes shows that text has that form already. */
enum sp_code sp_nfc_normalize(
    const char *text, size_t len, char **out, size_t *out_len, struct sp_err *err) SP_MUST_USE;

#endif
