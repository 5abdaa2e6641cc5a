/* csv.c -- comma-separated values, strictly. */
#include "eval/csv.h"

#include "base/path.h"

#include <stdlib.h>
#include <string.h>

/*
 * RFC 4180:
 *	file   = record *(end record) [end]
 *	end    = LF | CRLF
 *	record = field *("," field)
 *	field  = *plain | DQUOTE *(any | "" ) DQUOTE
 * plain is any byte but comma, quote, CR and LF. Within quotes everything counts, CR and LF too,
 * and "" is one quote. An empty file has no record; an empty line is a record of one empty field.
 */

struct cursor {
	const uint8_t *data;
	size_t len, at;
	unsigned long line; /* counted from 1; line ends within quotes count too */
	const char *what;
	char *out; /* where the next byte of the current field goes */
};

static enum sp_code
broken(const struct cursor *cursor, const char *rule, struct sp_err *err)
{
	return sp_err_set(err, SP_E_INVALID, "%s line %lu: %s", cursor->what, cursor->line, rule);
}

static enum sp_code
quoted(struct cursor *cursor, struct sp_err *err)
{
	for (cursor->at++; cursor->at < cursor->len; cursor->at++) {
		uint8_t byte = cursor->data[cursor->at];

		if (byte == '"') {
			cursor->at++;
			if (cursor->at == cursor->len || cursor->data[cursor->at] != '"')
				return SP_OK;
		}
		if (byte == '\n')
			cursor->line++;
		*cursor->out++ = (char)byte;
	}
	return broken(cursor, "the file ends within a quoted field", err);
}

static enum sp_code
plain(struct cursor *cursor, struct sp_err *err)
{
	while (cursor->at < cursor->len) {
		uint8_t byte = cursor->data[cursor->at];

		if (byte == ',' || byte == '\n' || byte == '\r')
			break;
		if (byte == '"')
			return broken(cursor, "quote within an unquoted field", err);
		*cursor->out++ = (char)byte;
		cursor->at++;
	}
	return SP_OK;
}

/* What follows a field: *last is 1 when the record ends here. */
static enum sp_code
separator(struct cursor *cursor, int *last, struct sp_err *err)
{
	uint8_t byte;

	*last = 1;
	if (cursor->at == cursor->len)
		return SP_OK;
	byte = cursor->data[cursor->at++];
	if (byte == ',') {
		*last = 0;
		return SP_OK;
	}
	if (byte == '\r' && cursor->at < cursor->len && cursor->data[cursor->at] == '\n') {
		cursor->at++;
		byte = '\n';
	}
	if (byte == '\n') {
		cursor->line++;
		return SP_OK;
	}
	if (byte == '\r')
		return broken(cursor, "carriage return without a line feed", err);
	return broken(cursor, "text after a closing quote", err);
}

static enum sp_code
records(struct cursor *cursor, struct sp_csv *csv, struct sp_err *err)
{
	size_t fields = 0;

	while (cursor->at < cursor->len) {
		int last;

		csv->starts[csv->rows] = fields;
		do {
			enum sp_code code;

			csv->fields[fields++] = cursor->out;
			if (cursor->at < cursor->len && cursor->data[cursor->at] == '"')
				code = quoted(cursor, err);
			else
				code = plain(cursor, err);
			if (code != SP_OK)
				return code;
			*cursor->out++ = '\0';
			code = separator(cursor, &last, err);
			if (code != SP_OK)
				return code;
		} while (!last);
		csv->rows++;
	}
	csv->starts[csv->rows] = fields;
	return SP_OK;
}

enum sp_code
sp_csv_parse(
    const uint8_t *data, size_t len, const char *what, struct sp_csv *out, struct sp_err *err)
{
	struct cursor cursor = {.data = data, .len = len, .line = 1, .what = what};
	size_t separators = 2; /* the last field's, and one to spare */
	enum sp_code code;
	size_t i;

	memset(out, 0, sizeof(*out));
	if (len != 0 && (memchr(data, '\0', len) || !sp_path_is_utf8((const char *)data, len)))
		return sp_err_set(err, SP_E_INVALID, "%s: not UTF-8 text", what);
	for (i = 0; i < len; i++)
		separators += data[i] == ',' || data[i] == '\n';
	/* each field takes at most its bytes and one for its separator */
	out->text = malloc(len + separators);
	out->fields = malloc(separators * sizeof(*out->fields));
	out->starts = malloc(separators * sizeof(*out->starts));
	if (!out->text || !out->fields || !out->starts) {
		sp_csv_clear(out);
		return sp_err_set(err, SP_E_NO_MEMORY, "%s: %zu bytes do not fit", what, len);
	}
	cursor.out = out->text;
	code = records(&cursor, out, err);
	if (code != SP_OK)
		sp_csv_clear(out);
	return code;
}

size_t
sp_csv_width(const struct sp_csv *csv, size_t row)
{
	SP_ASSERT(row < csv->rows);
	return csv->starts[row + 1] - csv->starts[row];
}

const char *
sp_csv_field(const struct sp_csv *csv, size_t row, size_t field)
{
	SP_ASSERT(field < sp_csv_width(csv, row));
	return csv->fields[csv->starts[row] + field];
}

void
sp_csv_clear(struct sp_csv *csv)
{
	free(csv->text);
	free(csv->fields);
	free(csv->starts);
	memset(csv, 0, sizeof(*csv));
}
