/* out.c -- what people read. */
#include "out.h"
#include "base/buf.h"
#include "base/json.h"
#include "base/path.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define LABEL_WIDTH 14

/* Bytes of the character at s that may be shown as it is; 0 when it must not. */
static size_t
shown(const char *s)
{
	const unsigned char *c = (const unsigned char *)s;
	size_t len = c[0] < 0x80 ? 1 : c[0] < 0xe0 ? 2 : c[0] < 0xf0 ? 3 : 4, i;

	if (c[0] < 0x20 || c[0] == 0x7f)
		return 0;
	for (i = 1; i < len; i++)
		if (c[i] == '\0')
			return 0;
	if (len > 1 && !sp_path_is_utf8(s, len))
		return 0;
	/* U+0080 to U+009F steer terminals, U+202A to U+202E and U+2066 to U+2069 turn the text */
	if (c[0] == 0xc2 && c[1] < 0xa0)
		return 0;
	if (c[0] == 0xe2 && c[1] == 0x80 && c[2] >= 0xaa && c[2] <= 0xae)
		return 0;
	if (c[0] == 0xe2 && c[1] == 0x81 && c[2] >= 0xa6 && c[2] <= 0xa9)
		return 0;
	return len;
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

/* Characters, not bytes: cells are clean UTF-8. */
static size_t
width(const char *text)
{
	size_t n = 0;

	for (; *text != '\0'; text++)
		n += ((unsigned char)*text & 0xc0) != 0x80;
	return n;
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
		pad = widths[i] - width(row[i]);
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
			w = width(table->rows[i][j]);
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
