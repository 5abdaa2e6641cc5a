/* out.h -- what people read: clean text, sizes, aligned tables. */
#ifndef CTL_OUT_H
#define CTL_OUT_H

#include "base/err.h"

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

/* Text from elsewhere, fit for a terminal: bytes of control characters (also C1), of what turns the
 * direction of text, cannot be seen or is not assigned, and broken UTF-8 become \xHH. malloc'd. */
char *ctl_out_clean(const char *text);
/* Columns that clean text takes on a terminal. */
size_t ctl_out_width(const char *text);
/* Clean text in at most so many columns: cut in the middle where it is longer. malloc'd. */
char *ctl_out_fit(const char *text, size_t columns);

/* "17 B", "1.50 KiB", … */
struct ctl_out_size {
	char s[24];
};
struct ctl_out_size ctl_out_size(uint64_t bytes);
/* "45 s", "3 min 10 s", "2 h 05 min", "3 d 4 h" */
struct ctl_out_size ctl_out_duration(int64_t ms);
/* 1234567 of 2345678 "bytes" -> "1.18 MiB of 2.24 MiB"; other units as plain numbers; total 0:
 * unknown. */
char *ctl_out_progress(uint64_t done, uint64_t total, const char *unit);

#define CTL_OUT_COLUMNS_MAX 12

/* Rows of cells; zero-initialised is empty. Bit i of right: column i is set flush right. */
struct ctl_out_table {
	char *(*rows)[CTL_OUT_COLUMNS_MAX];
	size_t count, cap;
	unsigned right;
};
/* Cells up to a NULL; copied and cleaned. */
void ctl_out_row(struct ctl_out_table *table, const char *first, ...) __attribute__((sentinel));
/* Two spaces between columns, indent in front of each line, nothing trailing. Empties the table. */
void ctl_out_table(struct ctl_out_table *table, const char *indent, FILE *to);

/* "  label           value", both cleaned; nothing when the value is "". */
void ctl_out_field(FILE *to, const char *label, const char *fmt, ...) SP_PRINTF(3, 4);

/* printf for text that holds words from elsewhere: all of it is cleaned, newlines stay. */
void ctl_out_print(FILE *to, const char *fmt, ...) SP_PRINTF(2, 3);

/* The document and a newline on stdout; takes the reference. */
void ctl_out_json(json_t *document);

#endif
