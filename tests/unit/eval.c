/* eval.c -- data sets, prompts and completions as the harness has them; the sandbox's protocol. */
#include "base/file.h"
#include "base/json.h"
#include "eval/humaneval.h"
#include "eval/mmlu.h"
#include "eval/verdict.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#define MMLU_DIR "tests/fixtures/mmlu"
#define HUMANEVAL_FILE "tests/fixtures/humaneval.jsonl.gz"
#define VECTORS "tests/vectors/"

static const uint8_t *
bytes(const char *text)
{
	return (const uint8_t *)text;
}

static void
assert_near(double got, double want, double tolerance)
{
	if (!(fabs(got - want) <= tolerance))
		fail_msg("%.17g is not within %g of %.17g", got, tolerance, want);
}

/* Calls fn for each line of a JSONL file of vectors; returns how many there were. */
static size_t
each_line(const char *path, void (*fn)(const json_t *line, void *arg), void *arg)
{
	struct sp_err err;
	uint8_t *data;
	size_t len, n = 0;
	char *line, *rest;

	if (sp_file_read(path, 64u << 20, &data, &len, &err) != SP_OK)
		fail_msg("%s", err.msg);
	rest = (char *)data;
	while ((line = strsep(&rest, "\n")) != NULL) {
		json_t *object;

		if (!*line)
			continue;
		if (sp_json_parse(line, strlen(line), path, &object, &err) != SP_OK)
			fail_msg("%s", err.msg);
		fn(object, arg);
		json_decref(object);
		n++;
	}
	free(data);
	return n;
}

/* --- csv
 * ----------------------------------------------------------------------------------------*/

static void
csv_rows(void **state)
{
	/* fields of a row joined by '|', rows by '/' */
	static const struct {
		const char *text, *want;
	} cases[] = {
	    {"", ""},
	    {"a,b\nc,d\n", "a|b/c|d"},
	    {"a,b\r\nc", "a|b/c"},
	    {"\n", ""},
	    {",\n", "|"},
	    {"\"a,b\",\"say \"\"hi\"\"\"\n", "a,b|say \"hi\""},
	    {"\"line one\nline\rtwo\r\n\",x\n", "line one\nline\rtwo\r\n|x"},
	    {"\"\",\"\"", "|"},
	    {" a , \xc2\x85 b\n", " a | \xc2\x85 b"},
	};
	size_t i, row, field;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct sp_buf got = {0};
		struct sp_csv csv;
		struct sp_err err;

		if (sp_csv_parse(bytes(cases[i].text), strlen(cases[i].text), "t", &csv, &err) !=
		    SP_OK)
			fail_msg("%s: %s", cases[i].text, err.msg);
		for (row = 0; row < csv.rows; row++)
			for (field = 0; field < sp_csv_width(&csv, row); field++)
				sp_buf_printf(&got, "%s%s",
				    field ? "|"
				    : row ? "/"
					  : "",
				    sp_csv_field(&csv, row, field));
		assert_string_equal(got.data ? (char *)got.data : "", cases[i].want);
		sp_csv_clear(&csv);
		sp_buf_free(&got);
	}
}

static void
csv_refused(void **state)
{
	static const struct {
		const char *text;
		size_t len;
		const char *message;
	} cases[] = {
	    {"a\nb,\"c\nd", 8, "line 3: the file ends within a quoted field"},
	    {"a\nb\"c\n", 6, "line 2: quote within an unquoted field"},
	    {"\"a\" ,b\n", 7, "line 1: text after a closing quote"},
	    {"a\rb\n", 4, "line 1: carriage return without a line feed"},
	    {"\"a\"\rb\n", 6, "line 1: carriage return without a line feed"},
	    {"a\0b\n", 4, "not UTF-8"},
	    {"a\xff\n", 3, "not UTF-8"},
	    {"\"", 1, "line 1: the file ends"},
	    {"\"\"\"", 3, "line 1: the file ends"},
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct sp_csv csv;
		struct sp_err err;

		assert_int_equal(
		    sp_csv_parse(bytes(cases[i].text), cases[i].len, "t.csv", &csv, &err),
		    SP_E_INVALID);
		assert_non_null(strstr(err.msg, "t.csv"));
		if (!strstr(err.msg, cases[i].message))
			fail_msg("\"%s\" lacks \"%s\"", err.msg, cases[i].message);
		assert_null(csv.text);
	}
}

/* --- mmlu
 * ---------------------------------------------------------------------------------------*/

static struct sp_mmlu
load_mmlu(unsigned shots)
{
	struct sp_mmlu mmlu;
	struct sp_err err;

	if (sp_mmlu_load(MMLU_DIR, shots, &mmlu, &err) != SP_OK)
		fail_msg("%s", err.msg);
	return mmlu;
}

static void
check_prompt(const json_t *line, void *arg)
{
	static const char *const letters[] = {" A", " B", " C", " D"};
	const struct sp_mmlu *mmlu = arg;
	const char *subject = json_string_value(json_object_get(line, "subject"));
	size_t index = (size_t)json_integer_value(json_object_get(line, "index")), i;
	struct sp_buf text = {0};

	for (i = 0; i < mmlu->count && strcmp(mmlu->subjects[i].name, subject) != 0; i++)
		;
	assert_true(i < mmlu->count);
	sp_mmlu_context(&text, &mmlu->subjects[i], 5, index);
	assert_string_equal((char *)text.data, json_string_value(json_object_get(line, "context")));
	for (i = 0; i < 4; i++)
		assert_string_equal(
		    json_string_value(json_array_get(json_object_get(line, "continuations"), i)),
		    letters[i]);
	sp_buf_free(&text);
}

static void
mmlu_prompts_are_the_harness(void **state)
{
	struct sp_mmlu mmlu = load_mmlu(5);

	(void)state;
	assert_int_equal(each_line(VECTORS "mmlu_prompts.jsonl", check_prompt, &mmlu), 30);
	assert_int_equal(mmlu.count, 5);
	assert_int_equal(mmlu.questions, 600);
	/* of the listing as sha256sum and sort give it */
	assert_string_equal(
	    mmlu.digest.s, "4b1fb69ff8525e70ee9392465e206d6c126a9353c89d5f08cf10abf22513a3b3");
	sp_mmlu_clear(&mmlu);
}

/* The question is stripped as str.strip() does, choices keep their spaces, "_" becomes a space. */
static void
mmlu_strips_questions_only(void **state)
{
	static const char dev[] = "\" \xe3\x80\x80 dev \x1c\xc2\xa0\", a,b ,c,d,C\nx,a,b,c,d,A\n";
	static const char test[] = "\"\n\tin  side\xe2\x80\x83\", 1 ,2,\"3\r\",4,D\n";
	struct sp_mmlu_subject subject = {.name = (char *)(uintptr_t) "two_words"};
	struct sp_buf text = {0};
	struct sp_err err;

	(void)state;
	assert_int_equal(
	    sp_mmlu_parse(bytes(dev), sizeof(dev) - 1, "dev", &subject.dev, &err), SP_OK);
	assert_int_equal(
	    sp_mmlu_parse(bytes(test), sizeof(test) - 1, "test", &subject.test, &err), SP_OK);
	sp_mmlu_context(&text, &subject, 1, 0);
	assert_string_equal((char *)text.data,
	    "The following are multiple choice questions (with answers) about two words.\n\n"
	    "dev\nA.  a\nB. b \nC. c\nD. d\nAnswer: C\n\n"
	    "in  side\nA.  1 \nB. 2\nC. 3\r\nD. 4\nAnswer:");
	assert_int_equal(subject.test.gold[0], 3);
	text.len = 0;
	sp_mmlu_context(&text, &subject, 0, 0);
	assert_non_null(strstr((char *)text.data, "two words.\n\nin  side\n"));
	sp_buf_free(&text);
	sp_mmlu_split_clear(&subject.dev);
	sp_mmlu_split_clear(&subject.test);
}

static void
mmlu_refused(void **state)
{
	static const char *const rows[][2] = {
	    {"q,a,b,c,d\n", "row 1: 5 fields"},
	    {"q,a,b,c,d,A\n\n", "row 2: 1 fields"},
	    {"q,a,b,c,d,E\n", "row 1: the answer"},
	    {"q,a,b,c,d,AB\n", "row 1: the answer"},
	    {"q,a,b,c,d,\n", "row 1: the answer"},
	};
	struct sp_mmlu_split split;
	struct sp_mmlu mmlu;
	struct sp_err err;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(
		    sp_mmlu_parse(bytes(rows[i][0]), strlen(rows[i][0]), "f", &split, &err),
		    SP_E_INVALID);
		assert_non_null(strstr(err.msg, rows[i][1]));
	}
	assert_int_equal(sp_mmlu_load(MMLU_DIR, 6, &mmlu, &err), SP_E_INVALID);
	assert_non_null(strstr(err.msg, "5 rows, the profile asks for 6 shots"));
	assert_int_equal(sp_mmlu_load("tests/fixtures/none", 5, &mmlu, &err), SP_E_NOT_FOUND);
	assert_int_equal(sp_mmlu_load(MMLU_DIR "/dev", 5, &mmlu, &err), SP_E_NOT_FOUND);
}

/* A data set of one subject below dir: `count` questions, numbered modulo `different`. */
static void
write_subject(const char *dir, const char *subject, size_t count, size_t different)
{
	static const char *const splits[] = {"dev", "test"};
	struct sp_err err;
	size_t i, k;

	for (k = 0; k < 2; k++) {
		char *path = sp_xasprintf("%s/%s", dir, splits[k]);
		struct sp_buf text = {0};

		assert_int_equal(sp_file_mkdirs(path, 0700, &err), SP_OK);
		free(path);
		path = sp_xasprintf("%s/%s/%s_%s.csv", dir, splits[k], subject, splits[k]);
		for (i = 0; i < count; i++)
			sp_buf_printf(&text, "%s %zu,a,b,c,d,%c\n", subject, i % different,
			    (int)('A' + i % 4));
		assert_int_equal(sp_file_write(path, 0600, text.data, text.len, &err), SP_OK);
		sp_buf_free(&text);
		free(path);
	}
}

/* Data sets whose numbers would say more than they show, or that would be read in part. */
static void
mmlu_sets_refused(void **state)
{
	static const struct {
		const char *subject;
		size_t count, different;
		enum sp_code code;
		const char *says;
	} cases[] = {
	    {"colours", 100, 100, SP_OK, ""},
	    {"colours", 100, 97, SP_OK, ""}, /* MMLU itself repeats 105 of 14,042 */
	    {"colours", 100, 96, SP_E_INVALID, "3 of 100 questions repeat"},
	    {"colours", 600, 4, SP_E_INVALID, "595 of 600 questions repeat"},
	    {"Colours", 100, 100, SP_E_INVALID, "Colours_test.csv"},
	    {"colours", 200001, 200001, SP_E_LIMIT, "200000 questions"},
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char dir[] = "/tmp/sp-eval-XXXXXX";
		struct sp_mmlu mmlu = {0};
		struct sp_err err = {0};

		assert_non_null(mkdtemp(dir));
		/* one subject that is in order: the other must not be passed over */
		write_subject(dir, "animals", 1, 1);
		write_subject(dir, cases[i].subject, cases[i].count - 1, cases[i].different);
		assert_int_equal(sp_mmlu_load(dir, 1, &mmlu, &err), cases[i].code);
		if (!strstr(err.msg, cases[i].says))
			fail_msg("\"%s\" lacks \"%s\"", err.msg, cases[i].says);
		sp_mmlu_clear(&mmlu);
		assert_int_equal(sp_file_remove_all(dir, &err), SP_OK);
	}
}

static void
mmlu_choice(void **state)
{
	static const uint32_t ids[] = {1, 3, 5, 6};
	float logits[8] = {9, 1, 0, 2, 0, 2, -1, 0};
	double ll[4], sum = 0;
	size_t i;

	(void)state;
	/* equal second and third: the first of them; the whole vocabulary is the denominator */
	assert_int_equal(sp_mmlu_choose(logits, 8, ids, ll), 1);
	for (i = 0; i < 8; i++)
		sum += exp((double)logits[i]);
	for (i = 0; i < 4; i++)
		assert_near(ll[i], logits[ids[i]] - log(sum), 1e-12);
	for (i = 0; i < 8; i++)
		logits[i] += 1e4f; /* exp alone would overflow */
	assert_int_equal(sp_mmlu_choose(logits, 8, ids, ll), 1);
	assert_near(ll[1], 2 - log(sum), 1e-9);
	logits[7] = NAN; /* anywhere, not only at a letter */
	assert_int_equal(sp_mmlu_choose(logits, 8, ids, ll), -1);
	logits[7] = INFINITY;
	assert_int_equal(sp_mmlu_choose(logits, 8, ids, ll), -1);
	logits[7] = -INFINITY;
	assert_int_equal(sp_mmlu_choose(logits, 8, ids, ll), -1);
}

struct vector_answers {
	int8_t choices[600];
	size_t count;
};

static void
take_answer(const json_t *line, void *arg)
{
	struct vector_answers *answers = arg;

	assert_true(answers->count < 600);
	answers->choices[answers->count++] =
	    (int8_t)json_integer_value(json_object_get(line, "choice"));
}

/* The harness's own answers, scored here, give the harness's own scores and standard errors. */
static void
mmlu_scores_are_the_harness(void **state)
{
	struct sp_mmlu mmlu = load_mmlu(5);
	struct vector_answers answers = {.count = 0};
	struct sp_gate_score scores[5], all;
	struct sp_err err;
	json_t *want, *group;
	uint8_t *data;
	size_t len, i;

	(void)state;
	assert_int_equal(each_line(VECTORS "mmlu_answers.jsonl", take_answer, &answers), 600);
	assert_int_equal(
	    sp_file_read(VECTORS "mmlu_scores.json", 1 << 20, &data, &len, &err), SP_OK);
	assert_int_equal(sp_json_parse(data, len, "scores", &want, &err), SP_OK);
	sp_mmlu_score(&mmlu, answers.choices, scores, &all);
	for (i = 0; i < 5; i++) {
		json_t *subject =
		    json_object_get(json_object_get(want, "subjects"), mmlu.subjects[i].name);

		assert_int_equal(scores[i].n, json_integer_value(json_object_get(subject, "n")));
		assert_near((double)scores[i].correct / (double)scores[i].n,
		    json_number_value(json_object_get(subject, "acc")), 1e-15);
		assert_near(sp_gate_stderr(scores[i]),
		    json_number_value(json_object_get(subject, "acc_stderr")), 1e-14);
	}
	group = json_object_get(want, "group");
	assert_near((double)all.correct / (double)all.n,
	    json_number_value(json_object_get(group, "acc")), 1e-15);
	assert_near(sp_gate_pooled_stderr(scores, 5),
	    json_number_value(json_object_get(group, "acc_stderr")), 1e-14);
	json_decref(want);
	free(data);
	sp_mmlu_clear(&mmlu);
}

/* --- programs
 * -----------------------------------------------------------------------------------*/

#define TASK(entry, rest)                                                               \
	"{\"task_id\": \"T/0\", \"prompt\": \"def f():\\n\", \"entry_point\": \"" entry \
	"\", \"canonical_solution\": \"\", \"test\": \"\"" rest "}"

/* Another name for the same work. */
#define SAME_AS_0                                                                      \
	"{\"task_id\": \"T/1\", \"prompt\": \"def f():\\n\", \"entry_point\": \"f\", " \
	"\"canonical_solution\": \"\", \"test\": \"\"}"

static void
humaneval_loads(void **state)
{
	struct sp_humaneval set;
	struct sp_err err;

	(void)state;
	assert_int_equal(sp_humaneval_load(HUMANEVAL_FILE, &set, &err), SP_OK);
	assert_int_equal(set.count, 99);
	assert_string_equal(set.tasks[0].id, "Fixture/0");
	assert_string_equal(set.tasks[0].entry, "add_one");
	assert_string_equal(set.digest.s, /* sha256sum */
	    "c0304b6db39766ddc006b7488ff3ce80eef683c8505fc2832a79e0604918dbb7");
	sp_humaneval_clear(&set);
}

static void
humaneval_refused(void **state)
{
	static const char *const texts[][2] = {
	    {"", "no task"},
	    {"{}\n", "line 1"},
	    {TASK("f", "") "\n" TASK("f", ", \"prompt\": \"x\"") "\n", "line 2"},
	    {TASK("f();evil", "") "\n", "entry_point"},
	    {TASK("", "") "\n", "entry_point"},
	    {TASK("1f", "") "\n", "entry_point"},
	    {TASK("f", "") "\n\n", "line 2"},
	    {TASK("f", "") "\n" TASK("g", "") "\n", "task T/0 is there twice"},
	    {TASK("f", "") "\n" TASK("f", ", \"x\": 1") "\n", "T/0"},
	    {TASK("f", "") "\n" SAME_AS_0 "\n", "T/1 repeats task T/0"},
	};
	struct sp_humaneval set;
	struct sp_err err;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		assert_int_equal(
		    sp_humaneval_parse(bytes(texts[i][0]), strlen(texts[i][0]), "f", &set, &err),
		    SP_E_INVALID);
		if (!strstr(err.msg, texts[i][1]))
			fail_msg("\"%s\" lacks \"%s\"", err.msg, texts[i][1]);
	}
	assert_int_equal(
	    sp_humaneval_parse(bytes(TASK("f", "")), strlen(TASK("f", "")), "f", &set, &err),
	    SP_OK);
	assert_int_equal(set.count, 1);
	sp_humaneval_clear(&set);
}

/* A gzip file that was cut, damaged, or has bytes behind its end. */
static void
humaneval_damaged(void **state)
{
	char path[] = "/tmp/sp-eval-XXXXXX";
	struct sp_humaneval set;
	struct sp_err err;
	uint8_t *data;
	size_t len;
	int i, fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(sp_file_read(HUMANEVAL_FILE, 1 << 20, &data, &len, &err), SP_OK);
	data = sp_xrealloc(data, len + 1, 1);
	data[len] = 'x';
	for (i = 0; i < 3; i++) {
		size_t size = i == 0 ? len - 5 : i == 1 ? len : len + 1;

		if (i == 1)
			data[len / 2] ^= 0x40;
		assert_int_equal(sp_file_write(path, 0600, data, size, &err), SP_OK);
		if (i == 1)
			data[len / 2] ^= 0x40;
		assert_int_equal(sp_humaneval_load(path, &set, &err), SP_E_INVALID);
	}
	assert_int_equal(sp_file_write(path, 0600, data, len, &err), SP_OK);
	assert_int_equal(sp_humaneval_load(path, &set, &err), SP_OK);
	sp_humaneval_clear(&set);
	free(data);
	unlink(path);
}

/* A few hundred bytes that unpack to more than a data set may have. */
static void
humaneval_bomb(void **state)
{
	char path[] = "/tmp/sp-eval-XXXXXX";
	uLong size = SP_HUMANEVAL_FILE_MAX + 1;
	Bytef *zeros = calloc(1, size);
	struct sp_humaneval set;
	struct sp_err err;
	gzFile file;
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	assert_non_null(zeros);
	file = gzdopen(fd, "wb1");
	assert_int_equal(gzwrite(file, zeros, (unsigned)size), size);
	assert_int_equal(gzclose(file), Z_OK);
	assert_int_equal(sp_humaneval_load(path, &set, &err), SP_E_LIMIT);
	assert_non_null(strstr(err.msg, path));
	free(zeros);
	unlink(path);
}

static void
completions_end_at_stops(void **state)
{
	static const struct {
		const char *text, *want;
	} cases[] = {
	    {"    return x\n\n\ndef g():", "    return x\n\n"},
	    {"    return x\nclass A:", "    return x"},
	    {"    a\n#b\nif c", "    a"},
	    {"    a\nif c\n#b", "    a"},
	    {"    a\nprint(1)", "    a"},
	    {"    a\n    if b:\n        print(b)\n", "    a\n    if b:\n        print(b)\n"},
	    {"def f", "def f"},
	    {"\ndef", ""},
	    {"a\nde", "a\nde"},
	    {"", ""},
	    /* ill-formed UTF-8, as Rust's from_utf8_lossy (Unicode 15, table 3-8) */
	    {"a\xe2\x82z", "a\xef\xbf\xbdz"},
	    {"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},
	    {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
	    {"\xf4\x91\x92\x93\xff"
	     "A\x80\xbf"
	     "B",
		"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
		"A\xef\xbf\xbd\xef\xbf\xbd"
		"B"},
	    {"\xf0\x9f\x90", "\xef\xbf\xbd"},
	    {"\xf0\x9f\x90\x8d\xc3\xa9", "\xf0\x9f\x90\x8d\xc3\xa9"},
	};
	size_t i, len;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *got = sp_humaneval_completion(cases[i].text, strlen(cases[i].text), &len);

		assert_string_equal(got, cases[i].want);
		assert_int_equal(len, strlen(cases[i].want));
		free(got);
	}
}

#define NONCE "00112233445566778899aabbccddeeff"

/* Only the nonce, after "ready" and on a line of its own, is a pass; in whatever pieces it comes.
 */
static void
verdict_protocol(void **state)
{
	static const struct {
		const char *text;
		enum sp_verdict_outcome outcome;
		int broken;
	} cases[] = {
	    {"ready\nnonce " NONCE "\n", SP_VERDICT_PASSED, 0},
	    {"ready\nnonce " NONCE, SP_VERDICT_DIED, 0},
	    {"nonce " NONCE "\n", SP_VERDICT_DIED, 0},
	    {"ready\nready\nnonce " NONCE "\n", SP_VERDICT_DIED, 0},
	    {"ready\nnonce 00112233445566778899aabbccddeefe\n", SP_VERDICT_DIED, 0},
	    {"ready\nnonce " NONCE "0\n", SP_VERDICT_DIED, 0},
	    {"ready\nnonce  " NONCE "\n", SP_VERDICT_DIED, 0},
	    {"ready\nnonce \n", SP_VERDICT_DIED, 0},
	    {"ready\nwrong AssertionError\nnonce " NONCE "\n", SP_VERDICT_WRONG, 0},
	    {"ready\ndied exited\nnonce " NONCE "\n", SP_VERDICT_DIED, 0},
	    {"ready\n" NONCE "\n", SP_VERDICT_DIED, 0},
	    {"ready\n\x01\nnonce " NONCE "\n", SP_VERDICT_DIED, 0},
	    {"ready\n", SP_VERDICT_DIED, 0},
	    {"", SP_VERDICT_DIED, 0},
	    {"ready\nbroken no check\n", SP_VERDICT_UNKNOWN, 1},
	};
	size_t i, piece;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (piece = 1; piece < 40; piece++) {
			size_t len = strlen(cases[i].text), at;
			struct sp_verdict verdict;

			sp_verdict_init(&verdict, NONCE);
			for (at = 0; at < len; at += piece)
				sp_verdict_feed(&verdict, bytes(cases[i].text) + at,
				    len - at < piece ? len - at : piece);
			sp_verdict_end(&verdict);
			if (verdict.outcome != cases[i].outcome)
				fail_msg("%s: %s", cases[i].text, sp_verdict_word(verdict.outcome));
			assert_int_equal(verdict.broken, cases[i].broken);
			assert_int_equal(verdict.decided, 1);
		}
}

static void
verdict_line_is_bounded(void **state)
{
	struct sp_verdict verdict;
	uint8_t flood[4096];

	(void)state;
	memset(flood, 'a', sizeof(flood));
	sp_verdict_init(&verdict, NONCE);
	sp_verdict_feed(&verdict, bytes("ready\n"), 6);
	sp_verdict_feed(&verdict, flood, sizeof(flood));
	assert_int_equal(verdict.outcome, SP_VERDICT_DIED);
	sp_verdict_feed(&verdict, bytes("\nnonce " NONCE "\n"), 40);
	assert_int_equal(verdict.outcome, SP_VERDICT_DIED);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(csv_rows),
	    cmocka_unit_test(csv_refused),
	    cmocka_unit_test(mmlu_prompts_are_the_harness),
	    cmocka_unit_test(mmlu_strips_questions_only),
	    cmocka_unit_test(mmlu_refused),
	    cmocka_unit_test(mmlu_sets_refused),
	    cmocka_unit_test(mmlu_choice),
	    cmocka_unit_test(mmlu_scores_are_the_harness),
	    cmocka_unit_test(humaneval_loads),
	    cmocka_unit_test(humaneval_refused),
	    cmocka_unit_test(humaneval_damaged),
	    cmocka_unit_test(humaneval_bomb),
	    cmocka_unit_test(completions_end_at_stops),
	    cmocka_unit_test(verdict_protocol),
	    cmocka_unit_test(verdict_line_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
