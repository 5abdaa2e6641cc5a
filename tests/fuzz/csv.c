/* csv.c -- CSV and MMLU's rows: quoted and joined again, the fields are the same. */
#include "base/buf.h"
#include "eval/mmlu.h"
#include "fuzz.h"

static void
add_quoted(struct sp_buf *out, const char *field)
{
	sp_buf_add(out, "\"", 1);
	for (; *field != '\0'; field++)
		sp_buf_add(out, *field == '"' ? "\"\"" : field, *field == '"' ? 2 : 1);
	sp_buf_add(out, "\"", 1);
}

static void
check(const struct sp_csv *csv)
{
	struct sp_buf out = {0};
	struct sp_csv again;
	struct sp_err err;
	size_t i, j;

	for (i = 0; i < csv->rows; i++) {
		for (j = 0; j < sp_csv_width(csv, i); j++) {
			if (j > 0)
				sp_buf_puts(&out, ",");
			add_quoted(&out, sp_csv_field(csv, i, j));
		}
		sp_buf_puts(&out, "\n");
	}
	SP_ASSERT(sp_csv_parse(out.data, out.len, "again", &again, &err) == SP_OK);
	SP_ASSERT(again.rows == csv->rows);
	for (i = 0; i < csv->rows; i++) {
		SP_ASSERT(sp_csv_width(&again, i) == sp_csv_width(csv, i));
		for (j = 0; j < sp_csv_width(csv, i); j++)
			SP_ASSERT(strcmp(sp_csv_field(&again, i, j), sp_csv_field(csv, i, j)) == 0);
	}
	sp_csv_clear(&again);
	sp_buf_free(&out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct sp_mmlu_split split;
	struct sp_csv csv;
	struct sp_err err;

	if (sp_csv_parse(data, len, "input", &csv, &err) == SP_OK) {
		check(&csv);
		sp_csv_clear(&csv);
	}
	if (sp_mmlu_parse(data, len, "input", &split, &err) == SP_OK) {
		for (size_t i = 0; i < split.count; i++)
			SP_ASSERT(split.gold[i] < SP_MMLU_CHOICES);
		sp_mmlu_split_clear(&split);
	}
	return 0;
}
