/* out.c -- what people read. */
#include "out.h"
#include "base/buf.h"
#include "base/json.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#define LABEL_WIDTH 14

/* Bytes of the character at s that may be shown as it is; 0 when it must not. Categories that steer
 * the terminal, turn the direction of text or cannot be seen stay out (Unicode 15, chapter 4.5). */
static size_t
shown(const char *s)
{
	utf8proc_int32_t c;
	utf8proc_ssize_t len = utf8proc_iterate((const utf8proc_uint8_t *)s, -1, &c);

	if (len <= 0)
		return 0;
	switch (utf8proc_category(c)) {
	case UTF8PROC_CATEGORY_CC:
	case UTF8PROC_CATEGORY_CF:
	case UTF8PROC_CATEGORY_CS:
	case UTF8PROC_CATEGORY_CO:
	case UTF8PROC_CATEGORY_CN:
	case UTF8PROC_CATEGORY_ZL:
	case UTF8PROC_CATEGORY_ZP:
		return 0;
	default:
		return (size_t)len;
	}
}

char *
ctl_out_clean(const char *text)
{
	struct sp_buf buf = {0};
	size_t len;

	while (*text != '\0') {
		len = shown(text);
		if (len > 0) {
			sp_buf_add(&buf, text, len);
			text += len;
		} else {
			sp_buf_printf(&buf, "\\x%02x", (unsigned char)*text++);
		}
	}
	return sp_buf_take(&buf, NULL);
}

struct ctl_out_size
ctl_out_size(uint64_t bytes)
{
	static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	struct ctl_out_size out;
	double value = (double)bytes / 1024;
	size_t unit = 0;

	if (bytes < 1024) {
		snprintf(out.s, sizeof(out.s), "%" PRIu64 " B", bytes);
		return out;
	}
	while (value >= 1024 && unit + 1 < sizeof(units) / sizeof(units[0])) {
		value /= 1024;
		unit++;
	}
	snprintf(out.s, sizeof(out.s),
	    value < 10	  ? "%.2f %s"
	    : value < 100 ? "%.1f %s"
			  : "%.0f %s",
	    value, units[unit]);
	return out;
}

struct ctl_out_size
ctl_out_duration(int64_t ms)
{
	struct ctl_out_size out;
	int64_t s = ms < 0 ? 0 : ms / 1000;

	if (s < 60)
		snprintf(out.s, sizeof(out.s), "%d s", (int)s);
	else if (s < 3600)
		snprintf(out.s, sizeof(out.s), "%d min %02d s", (int)(s / 60), (int)(s % 60));
	else if (s < 86400)
		snprintf(
		    out.s, sizeof(out.s), "%d h %02d min", (int)(s / 3600), (int)(s % 3600 / 60));
	else
		snprintf(
		    out.s, sizeof(out.s), "%" PRId64 " d %d h", s / 86400, (int)(s % 86400 / 3600));
	return out;
}

char *
ctl_out_progress(uint64_t done, uint64_t total, const char *unit)
{
	if (strcmp(unit, "bytes") == 0 && total > 0)
		return sp_xasprintf("%s of %s", ctl_out_size(done).s, ctl_out_size(total).s);
	if (strcmp(unit, "bytes") == 0)
		return sp_xstrdup(ctl_out_size(done).s);
	if (total > 0)
		return sp_xasprintf("%" PRIu64 "/%" PRIu64 " %s", done, total, unit);
	return sp_xasprintf("%" PRIu64 " %s", done, unit);
}

/* --- tables --------------------------------------------------------------------------------- */

void
ctl_out_row(struct ctl_out_table *table, const char *first, ...)
{
	const char *cell = first;
	char **row;
	va_list ap;
	size_t i;

	if (table->count == table->cap) {
		table->cap = table->cap > 0 ? 2 * table->cap : 16;
		table->rows = sp_xrealloc(table->rows, table->cap, sizeof(*table->rows));
	}
	row = table->rows[table->count++];
	memset(row, 0, sizeof(*table->rows));
	va_start(ap, first);
	for (i = 0; cell != NULL; i++, cell = va_arg(ap, const char *)) {
		SP_ASSERT(i < CTL_OUT_COLUMNS_MAX);
		row[i] = ctl_out_clean(cell);
	}
	va_end(ap);
}

/* Columns of the character at *text, which is moved behind it. */
static size_t
next_width(const char **text)
{
	utf8proc_int32_t c;
	utf8proc_ssize_t len = utf8proc_iterate((const utf8proc_uint8_t *)*text, -1, &c);

	*text += len > 0 ? len : 1;
	return len > 0 ? (size_t)utf8proc_charwidth(c) : 1;
}

size_t
ctl_out_width(const char *text)
{
	size_t n = 0;

	while (*text != '\0')
		n += next_width(&text);
	return n;
}

char *
ctl_out_fit(const char *text, size_t columns)
{
	size_t left = ctl_out_width(text), head_width = 0, w;
	const char *head = text, *tail = text, *next = text;

	if (left <= columns)
		return sp_xstrdup(text);
	if (columns < 3)
		return sp_xasprintf("%.*s", (int)columns, "...");
	/* a name's end tells more: which part, what kind of file */
	while (head_width + (w = next_width(&next)) <= (columns - 3) / 3) {
		head_width += w;
		head = next;
	}
	while (left > columns - 3 - head_width)
		left -= next_width(&tail);
	return sp_xasprintf("%.*s...%s", (int)(head - text), text, tail);
}

static void
print_row(char *const *row, const size_t *widths, unsigned right, const char *indent, FILE *to)
{
	size_t i, last = 0, pad, gap = 0;

	for (i = 0; i < CTL_OUT_COLUMNS_MAX && row[i] != NULL; i++)
		if (row[i][0] != '\0')
			last = i;
	fputs(indent, to);
	for (i = 0; i <= last && row[i] != NULL; i++) {
		pad = widths[i] - ctl_out_width(row[i]);
		if (right >> i & 1)
			fprintf(to, "%*s%s", (int)(gap + pad), "", row[i]);
		else
			fprintf(to, "%*s%s", (int)gap, "", row[i]);
		gap = (right >> i & 1 ? 0 : pad) + 2;
	}
	fputc('\n', to);
}

void
ctl_out_table(struct ctl_out_table *table, const char *indent, FILE *to)
{
	size_t widths[CTL_OUT_COLUMNS_MAX] = {0}, i, j, w;

	for (i = 0; i < table->count; i++) {
		for (j = 0; j < CTL_OUT_COLUMNS_MAX && table->rows[i][j] != NULL; j++) {
			w = ctl_out_width(table->rows[i][j]);
			if (w > widths[j])
				widths[j] = w;
		}
	}
	for (i = 0; i < table->count; i++) {
		print_row(table->rows[i], widths, table->right, indent, to);
		for (j = 0; j < CTL_OUT_COLUMNS_MAX; j++)
			free(table->rows[i][j]);
	}
	free(table->rows);
	memset(table, 0, sizeof(*table));
}

void
ctl_out_field(FILE *to, const char *label, const char *fmt, ...)
{
	char *text, *clean, *clean_label;
	va_list ap;

	va_start(ap, fmt);
	text = sp_xvasprintf(fmt, ap);
	va_end(ap);
	if (text[0] != '\0') {
		clean = ctl_out_clean(text);
		clean_label = ctl_out_clean(label);
		fprintf(to, "  %-*s  %s\n", LABEL_WIDTH, clean_label, clean);
		free(clean_label);
		free(clean);
	}
	free(text);
}

void
ctl_out_print(FILE *to, const char *fmt, ...)
{
	char *text, *line, *rest, *clean;
	va_list ap;

	va_start(ap, fmt);
	text = sp_xvasprintf(fmt, ap);
	va_end(ap);
	for (rest = text; (line = strsep(&rest, "\n")) != NULL;) {
		clean = ctl_out_clean(line);
		fprintf(to, "%s%s", clean, rest != NULL ? "\n" : "");
		free(clean);
	}
	free(text);
}

void
ctl_out_json(json_t *document)
{
	char *text;

	SP_ASSERT(document != NULL);
	text = sp_json_canonical(document, NULL);
	json_decref(document);
	puts(text);
	free(text);
}
