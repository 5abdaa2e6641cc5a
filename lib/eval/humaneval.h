/*
 * humaneval.h -- programming tasks in HumanEval's format (openai/human-eval,
 * data/HumanEval.jsonl.gz) and the rules of lm-evaluation-harness's task `humaneval` (4e7e0d4).
 */
#ifndef SP_HUMANEVAL_H
#define SP_HUMANEVAL_H

#include "base/hash.h"

#define SP_HUMANEVAL_TASKS_MAX 100000
#define SP_HUMANEVAL_FILE_MAX (64u << 20) /* bytes, unpacked; HumanEval has 0.2 MiB */

struct sp_humaneval_task {
	char *id;	 /* "HumanEval/0" */
	char *prompt;	 /* signature and docstring */
	char *entry;	 /* name of the function */
	char *test;	 /* defines check(candidate) */
	char *canonical; /* the reference solution */
};

struct sp_humaneval {
	struct sp_humaneval_task *tasks;
	size_t count;
	struct sp_hex digest; /* of the file as it is, packed or not */
};

/* Pure: one JSON object a line with the strings task_id, prompt, entry_point, canonical_solution,
 * test (others are ignored). SP_E_INVALID names line and field, or a task that is there twice. */
enum sp_code sp_humaneval_parse(const uint8_t *data, size_t len, const char *what,
    struct sp_humaneval *out, struct sp_err *err) SP_MUST_USE;
/* Reads a .jsonl, or gzip of one. */
enum sp_code
sp_humaneval_load(const char *path, struct sp_humaneval *out, struct sp_err *err) SP_MUST_USE;
void sp_humaneval_clear(struct sp_humaneval *set);

/* Offset of the first of the harness's stop strings ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
 * in text, or len. from: where to start looking, for who has looked at the rest already. */
size_t sp_humaneval_stop(const char *text, size_t len, size_t from);
#define SP_HUMANEVAL_STOP_MAX 7 /* bytes of the longest stop string */

/* The completion: decoded bytes up to the first stop string, each ill-formed UTF-8 sequence
 * replaced by U+FFFD as Hugging Face's decoder does. malloc'd, NUL-terminated; *len its bytes
 * (the text may hold NUL). */
char *sp_humaneval_completion(const char *text, size_t len, size_t *out_len);

#endif
