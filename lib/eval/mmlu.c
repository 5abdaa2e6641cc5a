/* mmlu.c -- multiple-choice questions, their prompts and scores. */
#include "eval/mmlu.h"

#include "base/file.h"
#include "model/strip.h"
#include "store/tree.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FIELDS (SP_MMLU_CHOICES + 2)
#define SUBJECT_MAX 128 /* bytes of a subject's name */

enum sp_code
sp_mmlu_parse(const uint8_t *data, size_t len, const char *what, struct sp_mmlu_split *out,
    struct sp_err *err)
{
	enum sp_code code;
	size_t i;

	memset(out, 0, sizeof(*out));
	code = sp_csv_parse(data, len, what, &out->csv, err);
	if (code != SP_OK)
		return code;
	out->count = out->csv.rows;
	out->gold = malloc(out->count + 1);
	if (!out->gold) {
		code = sp_err_set(err, SP_E_NO_MEMORY, "%s: %zu rows do not fit", what, out->count);
		goto out;
	}
	for (i = 0; i < out->count; i++) {
		size_t width = sp_csv_width(&out->csv, i);
		const char *letter;

		if (width != FIELDS) {
			code = sp_err_set(err, SP_E_INVALID,
			    "%s row %zu: %zu fields, expected question,A,B,C,D,letter", what, i + 1,
			    width);
			goto out;
		}
		letter = sp_csv_field(&out->csv, i, FIELDS - 1);
		if (letter[0] < 'A' || letter[0] > 'D' || letter[1] != '\0') {
			code = sp_err_set(err, SP_E_INVALID,
			    "%s row %zu: the answer must be A, B, C or D", what, i + 1);
			goto out;
		}
		out->gold[i] = (uint8_t)(letter[0] - 'A');
	}
out:
	if (code != SP_OK)
		sp_mmlu_split_clear(out);
	return code;
}

void
sp_mmlu_split_clear(struct sp_mmlu_split *split)
{
	sp_csv_clear(&split->csv);
	free(split->gold);
	memset(split, 0, sizeof(*split));
}

static enum sp_code
load_split(const char *dir, const char *split, const char *subject, struct sp_mmlu_split *out,
    struct sp_tree *tree, struct sp_err *err)
{
	char *name = sp_xasprintf("%s/%s_%s.csv", split, subject, split);
	char *path = sp_xasprintf("%s/%s", dir, name);
	uint8_t *data = NULL;
	size_t len;
	enum sp_code code;

	code = sp_file_read(path, SP_MMLU_FILE_MAX, &data, &len, err);
	if (code == SP_OK)
		code = sp_mmlu_parse(data, len, path, out, err);
	if (code == SP_OK)
		code = sp_tree_add(tree, name, len, sp_sha256_hex(data, len).s, 0, err);
	free(data);
	free(path);
	free(name);
	return code;
}

static const char test_suffix[] = "_test.csv";

/* Bytes of SUBJECT in a file name SUBJECT_test.csv, 0 when it is another. */
static size_t
subject_len(const char *file)
{
	size_t len = strlen(file), n = sizeof(test_suffix) - 1;

	return len > n && strcmp(file + len - n, test_suffix) == 0 ? len - n : 0;
}

static enum sp_code
add_subject(struct sp_mmlu *out, const char *dir, const char *file, struct sp_err *err)
{
	size_t len = subject_len(file);

	if (len == 0)
		return SP_OK;
	if (len > SUBJECT_MAX || strspn(file, "abcdefghijklmnopqrstuvwxyz0123456789_") < len)
		return sp_err_set(err, SP_E_INVALID,
		    "MMLU data set: %s/%.200s: a subject's name has up to %d letters a-z, digits "
		    "and _: rename or remove the file",
		    dir, file, SUBJECT_MAX);
	if (out->count == SP_MMLU_SUBJECTS_MAX)
		return sp_err_set(err, SP_E_LIMIT, "MMLU data set: %s has more than %d subjects",
		    dir, SP_MMLU_SUBJECTS_MAX);
	out->subjects = sp_xrealloc(out->subjects, out->count + 1, sizeof(*out->subjects));
	memset(&out->subjects[out->count], 0, sizeof(*out->subjects));
	out->subjects[out->count++].name = sp_xasprintf("%.*s", (int)len, file);
	return SP_OK;
}

static int
by_name(const void *left, const void *right)
{
	const struct sp_mmlu_subject *a = left, *b = right;

	return strcmp(a->name, b->name);
}

static enum sp_code
list_subjects(const char *dir, struct sp_mmlu *out, struct sp_err *err)
{
	char *path = sp_xasprintf("%s/test", dir);
	enum sp_code code = SP_OK;
	struct dirent *entry;
	DIR *list = opendir(path);

	if (!list) {
		code = sp_err_errno(err, "MMLU data set: %s", path);
		goto out;
	}
	while (code == SP_OK) {
		errno = 0;
		entry = readdir(list);
		if (!entry) {
			if (errno != 0)
				code = sp_err_errno(err, "MMLU data set: %s", path);
			break;
		}
		code = add_subject(out, path, entry->d_name, err);
	}
	if (code == SP_OK && out->count == 0)
		code = sp_err_set(
		    err, SP_E_NOT_FOUND, "MMLU data set: no SUBJECT_test.csv in %s", path);
	if (code == SP_OK)
		qsort(out->subjects, out->count, sizeof(*out->subjects), by_name);
out:
	if (list)
		closedir(list);
	free(path);
	return code;
}

static enum sp_code
load_subject(const char *dir, unsigned shots, struct sp_mmlu *out, struct sp_mmlu_subject *subject,
    struct sp_tree *tree, struct sp_err *err)
{
	enum sp_code code = load_split(dir, "dev", subject->name, &subject->dev, tree, err);

	if (code == SP_OK)
		code = load_split(dir, "test", subject->name, &subject->test, tree, err);
	if (code != SP_OK)
		return code;
	if (subject->dev.count < shots)
		return sp_err_set(err, SP_E_INVALID,
		    "MMLU data set: %s/dev/%s_dev.csv has %zu rows, the profile asks for %u shots",
		    dir, subject->name, subject->dev.count, shots);
	if (subject->test.count > SP_MMLU_QUESTIONS_MAX - out->questions)
		return sp_err_set(err, SP_E_LIMIT, "MMLU data set: %s has more than %d questions",
		    dir, SP_MMLU_QUESTIONS_MAX);
	out->questions += subject->test.count;
	return SP_OK;
}

struct question {
	uint8_t digest[SP_DIGEST_LEN]; /* of its text and choices */
};

static int
by_digest(const void *left, const void *right)
{
	return memcmp(left, right, sizeof(struct question));
}

static enum sp_code
check_repeats(const struct sp_mmlu *mmlu, const char *dir, struct sp_err *err)
{
	struct question *seen = sp_xcalloc(mmlu->questions, sizeof(*seen));
	struct sp_hash *hash = sp_hash_new(SP_SHA256);
	size_t n = 0, repeats = 0, i, row, field;

	for (i = 0; i < mmlu->count; i++) {
		const struct sp_mmlu_split *test = &mmlu->subjects[i].test;

		for (row = 0; row < test->count; row++) {
			for (field = 0; field + 1 < FIELDS; field++) {
				const char *text = sp_csv_field(&test->csv, row, field);

				sp_hash_add(hash, text, strlen(text) + 1);
			}
			sp_hash_finish(hash, seen[n++].digest);
		}
	}
	qsort(seen, n, sizeof(*seen), by_digest);
	for (i = 1; i < n; i++)
		repeats += by_digest(&seen[i - 1], &seen[i]) == 0;
	sp_hash_free(&hash);
	free(seen);
	if (repeats * 100 <= n * SP_MMLU_REPEATS_MAX)
		return SP_OK;
	return sp_err_set(err, SP_E_INVALID,
	    "MMLU data set: %s: %zu of %zu questions repeat others, and a repeated question shows "
	    "nothing new: at most %d percent may",
	    dir, repeats, n, SP_MMLU_REPEATS_MAX);
}

enum sp_code
sp_mmlu_load(const char *dir, unsigned shots, struct sp_mmlu *out, struct sp_err *err)
{
	struct sp_tree tree = {0};
	uint8_t *listing = NULL;
	size_t len, i;
	enum sp_code code;

	memset(out, 0, sizeof(*out));
	code = list_subjects(dir, out, err);
	for (i = 0; code == SP_OK && i < out->count; i++)
		code = load_subject(dir, shots, out, &out->subjects[i], &tree, err);
	if (code == SP_OK && out->questions == 0)
		code = sp_err_set(err, SP_E_INVALID, "MMLU data set: %s has no question", dir);
	if (code == SP_OK)
		code = check_repeats(out, dir, err);
	if (code == SP_OK)
		code = sp_tree_format(&tree, &listing, &len, err);
	if (code == SP_OK)
		out->digest = sp_sha256_hex(listing, len);
	else
		sp_mmlu_clear(out);
	free(listing);
	sp_tree_clear(&tree);
	return code;
}

void
sp_mmlu_clear(struct sp_mmlu *mmlu)
{
	size_t i;

	for (i = 0; i < mmlu->count; i++) {
		free(mmlu->subjects[i].name);
		sp_mmlu_split_clear(&mmlu->subjects[i].dev);
		sp_mmlu_split_clear(&mmlu->subjects[i].test);
	}
	free(mmlu->subjects);
	memset(mmlu, 0, sizeof(*mmlu));
}

/* Only the question is stripped: the choices go in as they are. */
static void
add_question(struct sp_buf *out, const struct sp_csv *csv, size_t row)
{
	const char *text = sp_csv_field(csv, row, 0);
	size_t len = strlen(text);
	int i;

	sp_strip_text(&text, &len);
	sp_buf_add(out, text, len);
	sp_buf_puts(out, "\n");
	for (i = 0; i < SP_MMLU_CHOICES; i++)
		sp_buf_printf(out, "%c. %s\n", 'A' + i, sp_csv_field(csv, row, (size_t)i + 1));
	sp_buf_puts(out, "Answer:");
}

void
sp_mmlu_context(
    struct sp_buf *out, const struct sp_mmlu_subject *subject, unsigned shots, size_t question)
{
	const char *c;
	size_t i;

	SP_ASSERT(shots <= subject->dev.count && question < subject->test.count);
	sp_buf_puts(out, "The following are multiple choice questions (with answers) about ");
	for (c = subject->name; *c; c++)
		sp_buf_add(out, *c == '_' ? " " : c, 1);
	sp_buf_puts(out, ".\n\n");
	for (i = 0; i < shots; i++) {
		add_question(out, &subject->dev.csv, i);
		sp_buf_printf(out, " %c\n\n", 'A' + subject->dev.gold[i]);
	}
	add_question(out, &subject->test.csv, question);
}

int
sp_mmlu_choose(const float *logits, size_t vocab, const uint32_t ids[SP_MMLU_CHOICES],
    double ll[SP_MMLU_CHOICES])
{
	double top = -INFINITY, sum = 0;
	size_t i;
	int best = 0;

	for (i = 0; i < vocab; i++) {
		if (!isfinite(logits[i]))
			return -1;
		top = fmax(top, logits[i]);
	}
	for (i = 0; i < vocab; i++)
		sum += exp(logits[i] - top);
	for (i = 0; i < SP_MMLU_CHOICES; i++) {
		SP_ASSERT(ids[i] < vocab);
		ll[i] = logits[ids[i]] - top - log(sum);
		if (ll[i] > ll[best])
			best = (int)i;
	}
	return best;
}

double
sp_mmlu_chance(const struct sp_mmlu *mmlu)
{
	size_t right[SP_MMLU_CHOICES] = {0}, most = 0, i, j;

	for (i = 0; i < mmlu->count; i++)
		for (j = 0; j < mmlu->subjects[i].test.count; j++)
			right[mmlu->subjects[i].test.gold[j]]++;
	for (i = 0; i < SP_MMLU_CHOICES; i++)
		most = right[i] > most ? right[i] : most;
	return (double)most / (double)mmlu->questions;
}

void
sp_mmlu_score(const struct sp_mmlu *mmlu, const int8_t *choices, struct sp_gate_score *scores,
    struct sp_gate_score *all)
{
	size_t i, j, at = 0;

	memset(all, 0, sizeof(*all));
	for (i = 0; i < mmlu->count; i++) {
		const struct sp_mmlu_split *test = &mmlu->subjects[i].test;

		scores[i] = (struct sp_gate_score){.n = test->count};
		for (j = 0; j < test->count; j++, at++)
			scores[i].correct += choices[at] == (int8_t)test->gold[j];
		all->n += scores[i].n;
		all->correct += scores[i].correct;
	}
}
