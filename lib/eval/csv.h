/* csv.h -- comma-separated values (RFC 4180), kept byte for byte. */
#ifndef SP_CSV_H
#define SP_CSV_H

#include "base/err.h"

#include <stdint.h>

/* Row i has the fields[starts[i]] up to, not including, fields[starts[i + 1]]. All is owned. */
struct sp_csv {
	char *text;	     /* the fields' bytes, each NUL-terminated */
	const char **fields; /* point into text */
	size_t *starts;	     /* rows + 1 of them */
	size_t rows;
};

/* Pure. what names the file in messages. SP_E_INVALID names the line: a quote within an unquoted
 * field, text after a closing quote, a missing closing quote, a bare CR outside quotes, NUL, bytes
 * that are not UTF-8. Free with sp_csv_clear. */
enum sp_code sp_csv_parse(const uint8_t *data, size_t len, const char *what, struct sp_csv *out,
    struct sp_err *err) SP_MUST_USE;
/* Number of fields in row i. */
size_t sp_csv_width(const struct sp_csv *csv, size_t row);
/* Field of a row, NUL-terminated, borrowed; both must be in range. */
const char *sp_csv_field(const struct sp_csv *csv, size_t row, size_t field);
void sp_csv_clear(struct sp_csv *csv);

#endif
