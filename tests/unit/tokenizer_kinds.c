/* tokenizer_kinds.c -- every kind of tokenizer.json against the ids and texts that the `tokenizers`
 * package gives (tests/vectors/tokenizer), what is unknown, and what would take for ever. */
#include "base/buf.h"
#include "base/file.h"
#include "model/tokenizer.h"

#include <jansson.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include <cmocka.h>

#define VECTORS "tests/vectors/tokenizer/"

static const char *const kinds[] = {"gpt2", "prefix", "llama3", "qwen2", "tekken", "deepseek",
    "llama2", "across", "mistral", "metaspace", "never"};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static struct sp_err err;

static void
ok(enum sp_code code)
{
	if (code != SP_OK)
		fail_msg("%s: %s", sp_err_word(code), err.msg);
}

static struct sp_tokenizer *
load(const char *kind)
{
	char path[128];
	struct sp_tokenizer *t;
	uint8_t *data;
	size_t len;

	snprintf(path, sizeof(path), VECTORS "%s.json", kind);
	ok(sp_file_read(path, 1 << 20, &data, &len, &err));
	ok(sp_tokenizer_parse(data, len, &t, &err));
	free(data);
	return t;
}

/* --- against tokenizers ------------------------------------------------------------------------
 */

/* The lines of a file, gzip'd or not, as a JSON list. */
static json_t *
read_lines(const char *path)
{
	static char line[1 << 16];
	json_t *list = json_array();
	gzFile file = gzopen(path, "rb");

	assert_non_null(file);
	while (gzgets(file, line, sizeof(line)) != NULL) {
		json_t *value = json_loads(line, JSON_ALLOW_NUL | JSON_DECODE_ANY, NULL);

		assert_non_null(value);
		json_array_append_new(list, value);
	}
	gzclose(file);
	return list;
}

static void
check_decoded(const struct sp_tokenizer *t, const char *kind, const uint32_t *ids, size_t count,
    int skip, const json_t *expected)
{
	char *text;
	size_t len;

	ok(sp_tokenizer_decode(t, ids, count, skip, &text, &len, &err));
	if (len != json_string_length(expected) ||
	    memcmp(text, json_string_value(expected), len) != 0)
		fail_msg("%s: %s instead of %s", kind, text, json_string_value(expected));
	free(text);
}

static void
check_line(const struct sp_tokenizer *t, const char *kind, const json_t *text, const json_t *row)
{
	const json_t *list = json_object_get(row, "ids");
	const json_t *decoded = json_object_get(row, "decoded");
	const json_t *skipped = json_object_get(row, "skipped");
	uint32_t *ids;
	size_t count;

	ok(sp_tokenizer_encode(
	    t, json_string_value(text), json_string_length(text), 1, &ids, &count, &err));
	for (size_t i = 0; i < count || i < json_array_size(list); i++) {
		if (i == count || i == json_array_size(list) ||
		    ids[i] != json_integer_value(json_array_get(list, i)))
			fail_msg("%s: other ids from %zu on for %s", kind, i,
			    json_dumps(text, JSON_ENCODE_ANY | JSON_ENSURE_ASCII));
	}
	check_decoded(t, kind, ids, count, 0, decoded ? decoded : text);
	check_decoded(t, kind, ids, count, 1, skipped ? skipped : text);
	free(ids);
}

static void
test_vectors(void **state)
{
	json_t *texts = read_lines(VECTORS "texts.jsonl");

	(void)state;
	assert_int_equal(json_array_size(texts), 248);
	for (size_t k = 0; k < KINDS; k++) {
		struct sp_tokenizer *t = load(kinds[k]);
		char path[128];
		json_t *rows;

		snprintf(path, sizeof(path), VECTORS "%s.jsonl.gz", kinds[k]);
		rows = read_lines(path);
		assert_int_equal(json_array_size(rows), json_array_size(texts));
		for (size_t i = 0; i < json_array_size(rows); i++)
			check_line(t, kinds[k], json_array_get(texts, i), json_array_get(rows, i));
		json_decref(rows);
		sp_tokenizer_free(&t);
	}
	json_decref(texts);
}

/* --- threads -----------------------------------------------------------------------------------
 */

struct shared {
	const struct sp_tokenizer *t;
	const json_t *texts;
	uint64_t sum;
};

static void *
encode_all(void *arg)
{
	struct shared *shared = arg;

	for (size_t i = 0; i < json_array_size(shared->texts); i++) {
		const json_t *text = json_array_get(shared->texts, i);
		struct sp_err mine;
		uint32_t *ids;
		size_t count;

		if (sp_tokenizer_encode(shared->t, json_string_value(text),
			json_string_length(text), 1, &ids, &count, &mine) != SP_OK)
			return NULL;
		for (size_t k = 0; k < count; k++)
			shared->sum = shared->sum * 31 + ids[k];
		free(ids);
	}
	return shared;
}

static void
test_threads(void **state)
{
	struct sp_tokenizer *t = load("metaspace");
	json_t *texts = read_lines(VECTORS "texts.jsonl");
	struct shared shared[12];
	pthread_t threads[12];
	void *done;

	(void)state;
	for (size_t i = 0; i < 12; i++) {
		shared[i] = (struct shared){t, texts, 0};
		assert_int_equal(pthread_create(&threads[i], NULL, encode_all, &shared[i]), 0);
	}
	for (size_t i = 0; i < 12; i++) {
		assert_int_equal(pthread_join(threads[i], &done), 0);
		assert_ptr_equal(done, &shared[i]);
		assert_true(shared[i].sum == shared[0].sum && shared[i].sum != 0);
	}
	json_decref(texts);
	sp_tokenizer_free(&t);
}

/* --- by hand -----------------------------------------------------------------------------------
 */

/* A model of characters: a b ▁ are known, and what else vocab names. */
static struct sp_tokenizer *
small(const char *vocab, const char *merges, const char *model, const char *rest)
{
	struct sp_buf text = {0};
	struct sp_tokenizer *t;

	sp_buf_printf(&text,
	    "{\"version\":\"1.0\",\"model\":{\"type\":\"BPE\",\"vocab\":{\"<unk>\":0,\"a\":1,"
	    "\"b\":2,\"\u2581\":3,\"<0xC3>\":4,\"<0xA9>\":5,\"ab\":6%s},\"merges\":[%s]%s}%s}",
	    vocab, merges, model, rest);
	ok(sp_tokenizer_parse(text.data, text.len, &t, &err));
	sp_buf_free(&text);
	return t;
}

/* Takes t. */
static void
check_ids(struct sp_tokenizer *t, const char *text, const char *expected)
{
	struct sp_buf buf = {0};
	uint32_t *ids;
	size_t count;

	sp_buf_puts(&buf, "");
	ok(sp_tokenizer_encode(t, text, strlen(text), 1, &ids, &count, &err));
	for (size_t i = 0; i < count; i++)
		sp_buf_printf(&buf, "%s%u", i == 0 ? "" : " ", ids[i]);
	assert_string_equal(count == 0 ? "" : (const char *)buf.data, expected);
	sp_buf_free(&buf);
	free(ids);
	sp_tokenizer_free(&t);
}

/* What tokenizers 0.23.3 gives: unk_token waits for the next known character, but bytes do not make
 * it come. */
static void
test_unknown(void **state)
{
#define UNK ",\"unk_token\":\"<unk>\""
#define BYTES ",\"byte_fallback\":true"
#define FUSE ",\"fuse_unk\":true"
	(void)state;
	check_ids(small("", "", "", ""), "axyb", "1 2");
	check_ids(small("", "", UNK, ""), "axyb", "1 0 0 2");
	check_ids(small("", "", UNK FUSE, ""), "axybz", "1 0 2 0");
	check_ids(small("", "", UNK BYTES, ""), "a\u00e9x", "1 4 5 0");
	check_ids(small("", "", UNK BYTES, ""), "ax\u00e9yb", "1 4 5 0 0 2");
	check_ids(small("", "", UNK BYTES FUSE, ""), "x\u00e9yb", "4 5 0 2");
	check_ids(small("", "", BYTES, ""), "x\u00e9\u00e8b", "4 5 2");
	/* merges of what stands for the unknown */
	check_ids(small(",\"<0xC3><0xA9>\":7", "\"<0xC3> <0xA9>\"", BYTES, ""), "\u00e9", "7");
	check_ids(small(",\"<unk>b\":7", "\"<unk> b\"", UNK, ""), "xb", "7");
	/* beyond the table of characters */
	check_ids(small(",\"\U0001f600\":7", "", UNK, ""), "\U0001f600\U0001f601", "7 0");
#undef UNK
#undef BYTES
#undef FUSE
}

/* Texts are cut where no merge reaches across, and only there. */
static void
test_cut(void **state)
{
	(void)state;
	check_ids(small("", "\"a b\"", "", ""), "ab\u2581ab", "6 3 6");
	check_ids(small(",\"b\u2581\":7", "\"b \u2581\"", "", ""), "ab\u2581b\u2581", "1 7 7");
	check_ids(small(",\"\u2581a\":7,\"b\u2581a\":8,\"ab\u2581a\":9",
		      "\"\u2581 a\",\"b \u2581a\",\"a b\u2581a\"", "", ""),
	    "\u2581ab\u2581ab\u2581", "7 8 2 3");
}

static void
test_normalized_special(void **state)
{
	static const char rest[] =
	    ",\"normalizer\":{\"type\":\"Prepend\",\"prepend\":\"\u2581\"},"
	    "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Metaspace\","
	    "\"replacement\":\"\u2581\",\"prepend_scheme\":\"never\"},{\"type\":\"Fuse\"}]},"
	    "\"added_tokens\":[{\"id\":7,\"content\":\"<s>\",\"normalized\":true,"
	    "\"special\":true}]";
	struct sp_tokenizer *t = small("", "", "", rest);
	const uint32_t ids[] = {7, 1};
	char *text;
	size_t len;

	(void)state;
	ok(sp_tokenizer_decode(t, ids, 2, 0, &text, &len, &err));
	assert_string_equal(text, " <s>a"); /* as the normalizer left it */
	free(text);
	ok(sp_tokenizer_decode(t, ids, 2, 1, &text, &len, &err));
	assert_string_equal(text, "a");
	free(text);
	check_ids(t, "<s>a", "7 1");
	/* without a decoder, texts are joined with spaces */
	t = small("", "", "", "");
	ok(sp_tokenizer_decode(t, ids, 2, 1, &text, &len, &err));
	assert_string_equal(text, "a");
	free(text);
	ok(sp_tokenizer_decode(t, (const uint32_t[]){1, 6, 2}, 3, 1, &text, &len, &err));
	assert_string_equal(text, "a ab b");
	free(text);
	sp_tokenizer_free(&t);
}

#define SPLIT(what) ",\"pre_tokenizer\":{\"type\":\"Split\"," what "}"

static void
test_split(void **state)
{
	(void)state;
	check_ids(small("", "\"a b\"", "",
		      SPLIT("\"pattern\":{\"String\":\"b\"},"
			    "\"behavior\":\"Removed\",\"invert\":false")),
	    "abba", "1 1");
	check_ids(small("", "\"a b\"", "",
		      SPLIT("\"pattern\":{\"Regex\":\"ab?\"},"
			    "\"behavior\":\"Removed\",\"invert\":true")),
	    "abba", "6 1");
	check_ids(small("", "\"a b\"", "",
		      SPLIT("\"pattern\":{\"Regex\":\"b?\"},"
			    "\"behavior\":\"Isolated\",\"invert\":true")),
	    "abba", "1 2 2 1");
}

/* Digits are Rust's, of Unicode 17; those of a Split are Oniguruma's, of Unicode 16. */
static void
test_digits(void **state)
{
#define DIGIT "\U00011de5" /* Tolong Siki */
#define MERGED ",\"" DIGIT "\":7,\"a" DIGIT "\":8", "\"a " DIGIT "\"", ""
#define DIGITS(individual) \
	",\"pre_tokenizer\":{\"type\":\"Digits\",\"individual_digits\":" individual "}"
	(void)state;
	check_ids(small(MERGED, DIGITS("true")), "a" DIGIT DIGIT, "1 7 7");
	check_ids(small(MERGED, DIGITS("false")), "a" DIGIT, "1 7");
	check_ids(small(MERGED, SPLIT("\"pattern\":{\"Regex\":\"\\\\p{N}\"},"
				      "\"behavior\":\"Isolated\",\"invert\":false")),
	    "a" DIGIT, "8");
#undef DIGIT
#undef MERGED
#undef DIGITS
}

/* --- what would take for ever ------------------------------------------------------------------
 */

/* Where merges may reach across words, a megabyte is one word. */
static void
test_long_words(void **state)
{
	static const char *const pieces[] = {"erationsthe", "\u2581", " ", "\u4f60\u597d",
	    "\U0001f600", "a\u0301", "1", "\n", "\x01"};
	char *text = malloc((1 << 20) + 16);

	(void)state;
	assert_non_null(text);
	for (size_t k = 0; k < KINDS; k++) {
		const size_t len = strcmp(kinds[k], "across") == 0 ? 1 << 20 : 1 << 16;
		struct sp_tokenizer *t = load(kinds[k]);

		for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
			size_t n = strlen(pieces[i]), at = 0, count;
			uint32_t *ids;

			for (; at < len; at += n)
				memcpy(text + at, pieces[i], n);
			ok(sp_tokenizer_encode(t, text, at, 0, &ids, &count, &err));
			assert_in_range(count, 1, at + 8);
			free(ids);
		}
		sp_tokenizer_free(&t);
	}
	free(text);
}

#define TEN(x) x "," x "," x "," x "," x "," x "," x "," x "," x "," x
#define DOUBLE "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"aaaa\"}"

static void
test_growth(void **state)
{
	struct sp_tokenizer *t;
	char text[8192];
	uint32_t *ids, many[4096];
	size_t count;
	char *out;

	(void)state;
	memset(text, 'a', sizeof(text));
	t = small("", "", "",
	    ",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[" TEN(DOUBLE) "]}");
	assert_int_equal(
	    sp_tokenizer_encode(t, text, sizeof(text), 0, &ids, &count, &err), SP_E_LIMIT);
	assert_null(ids);
	sp_tokenizer_free(&t);
	for (size_t i = 0; i < 4096; i++)
		many[i] = 1;
	t = small(
	    "", "", "", ",\"decoder\":{\"type\":\"Sequence\",\"decoders\":[" TEN(DOUBLE) "]}");
	assert_int_equal(sp_tokenizer_decode(t, many, 4096, 0, &out, &count, &err), SP_E_LIMIT);
	assert_null(out);
	sp_tokenizer_free(&t);
}

/* A file may be 32 MiB, and 64 levels deep. */
static void
test_large_file(void **state)
{
	const size_t len = (32u << 20) + 1;
	uint8_t *text = malloc(len);
	struct sp_tokenizer *t;

	(void)state;
	assert_non_null(text);
	memset(text, ' ', len);
	assert_int_equal(sp_tokenizer_parse(text, len, &t, &err), SP_E_LIMIT);
	assert_int_equal(sp_tokenizer_parse(text, len - 1, &t, &err), SP_E_INVALID);
	memset(text, '[', len);
	assert_int_equal(sp_tokenizer_parse(text, len - 1, &t, &err), SP_E_LIMIT);
	free(text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_vectors),
	    cmocka_unit_test(test_threads),
	    cmocka_unit_test(test_unknown),
	    cmocka_unit_test(test_cut),
	    cmocka_unit_test(test_normalized_special),
	    cmocka_unit_test(test_split),
	    cmocka_unit_test(test_digits),
	    cmocka_unit_test(test_long_words),
	    cmocka_unit_test(test_growth),
	    cmocka_unit_test(test_large_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
