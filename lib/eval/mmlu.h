/*
 * mmlu.h -- multiple-choice questions and their prompts, as lm-evaluation-harness makes them
 * (tasks/mmlu/default at 4e7e0d4, few-shot, without a chat template).
 *
 * A data set is a directory with {dev,test}/SUBJECT_{dev,test}.csv; each row is
 * question,A,B,C,D,letter, without a header. The digest is that of the tree listing (store/tree.h)
 * of just these files, so a data set that was fetched keeps its name.
 */
#ifndef SP_MMLU_H
#define SP_MMLU_H

#include "base/buf.h"
#include "base/hash.h"
#include "eval/csv.h"
#include "eval/gate.h"

#define SP_MMLU_CHOICES 4
#define SP_MMLU_SUBJECTS_MAX 1024
#define SP_MMLU_FILE_MAX (16u << 20) /* MMLU's largest has 1.8 MiB; as commas it takes 300 MiB */
#define SP_MMLU_QUESTIONS_MAX 200000 /* their answers fit SP_JSON_MAX */
#define SP_MMLU_REPEATS_MAX 2	     /* percent of the questions; MMLU itself has 0.75 */

/* gold[i]: index of the right choice of row i. */
struct sp_mmlu_split {
	struct sp_csv csv;
	uint8_t *gold;
	size_t count;
};

struct sp_mmlu_subject {
	char *name; /* "high_school_us_history" */
	struct sp_mmlu_split dev, test;
};

struct sp_mmlu {
	struct sp_mmlu_subject *subjects; /* in bytewise order of their names */
	size_t count;
	size_t questions; /* of all test splits */
	struct sp_hex digest;
};

/* Pure: the rows of one file, each of six fields, the last one of A, B, C, D. */
enum sp_code sp_mmlu_parse(const uint8_t *data, size_t len, const char *what,
    struct sp_mmlu_split *out, struct sp_err *err) SP_MUST_USE;
void sp_mmlu_split_clear(struct sp_mmlu_split *split);

/* Reads dir; every test file needs a dev file of at least `shots` rows. A file SUBJECT_test.csv
 * whose SUBJECT is not of a-z, 0-9 and _ is SP_E_INVALID, since passing over it would be a smaller
 * data set; so are more repeated questions than SP_MMLU_REPEATS_MAX, which would make the same
 * evidence look like more. */
enum sp_code
sp_mmlu_load(const char *dir, unsigned shots, struct sp_mmlu *out, struct sp_err *err) SP_MUST_USE;
void sp_mmlu_clear(struct sp_mmlu *mmlu);

/* Appends the context of a test question: description, `shots` answered dev questions, the question
 * through "Answer:". The model is asked for one of " A" .. " D". */
void sp_mmlu_context(
    struct sp_buf *out, const struct sp_mmlu_subject *subject, unsigned shots, size_t question);

/* Log-likelihoods of the four letters: log-softmax over the whole vocabulary (in double) at ids.
 * Returns the index of the largest, the first of equals, or -1 when any logit is NaN or infinite
 * (ll is then undefined). Pure. */
int sp_mmlu_choose(const float *logits, size_t vocab, const uint32_t ids[SP_MMLU_CHOICES],
    double ll[SP_MMLU_CHOICES]);

/* Share that a guesser gets right who always says the letter that is right most often, which is
 * what a model without sense does; at least a quarter. */
double sp_mmlu_chance(const struct sp_mmlu *mmlu);

/* Counts per subject and over all. choices[questions] in the data set's order, -1: none.
 * scores[mmlu->count]. */
void sp_mmlu_score(const struct sp_mmlu *mmlu, const int8_t *choices, struct sp_gate_score *scores,
    struct sp_gate_score *all);

#endif
