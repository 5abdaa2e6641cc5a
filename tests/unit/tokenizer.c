/* tokenizer.c -- against the `tokenizers` package's ids and texts (tests/vectors/README.md); what
 * of a tokenizer.json is refused. */
#include "model/tokenizer.h"
#include "../draw.h"
#include "base/buf.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint64_t seed = 1;

static uint64_t
draw(void)
{
	return draw_next(&seed);
}

static struct sp_err err;

static void
ok(enum sp_code code)
{
	if (code != SP_OK)
		fail_msg("%s: %s", sp_err_word(code), err.msg);
}

static json_t *
fixture(void)
{
	json_t *root = json_load_file("tests/fixtures/model/tokenizer.json", 0, NULL);

	assert_non_null(root);
	return root;
}

/* Takes root. */
static enum sp_code
parse(json_t *root, struct sp_tokenizer **out)
{
	char *text = json_dumps(root, JSON_COMPACT);
	enum sp_code code = sp_tokenizer_parse((uint8_t *)text, strlen(text), out, &err);

	json_decref(root);
	free(text);
	return code;
}

/* Space-separated ids of text, malloc'd. */
static char *
ids_of(const struct sp_tokenizer *t, const char *text, int add_special)
{
	struct sp_buf buf = {0};
	uint32_t *ids;
	size_t count;

	ok(sp_tokenizer_encode(t, text, strlen(text), add_special, &ids, &count, &err));
	for (size_t i = 0; i < count; i++)
		sp_buf_printf(&buf, "%s%u", i == 0 ? "" : " ", ids[i]);
	free(ids);
	return sp_buf_take(&buf, &count);
}

static void
check_ids(const struct sp_tokenizer *t, const char *text, int add_special, const char *expected)
{
	char *ids = ids_of(t, text, add_special);

	assert_string_equal(ids, expected);
	free(ids);
}

/* --- against tokenizers ------------------------------------------------------------------------
 */

static void
check_decoded(
    const struct sp_tokenizer *t, const uint32_t *ids, size_t count, const json_t *expected)
{
	char *text;
	size_t len;

	ok(sp_tokenizer_decode(t, ids, count, 0, &text, &len, &err));
	assert_int_equal(len, json_string_length(expected));
	assert_memory_equal(text, json_string_value(expected), len + 1);
	free(text);
}

/* Calls check for each line of a vector file; returns how many there were. */
static size_t
each_line(const char *path, void (*check)(const struct sp_tokenizer *t, const json_t *line))
{
	struct sp_tokenizer *t;
	FILE *file = fopen(path, "r");
	char *line = NULL;
	size_t cap = 0, n = 0;

	assert_non_null(file);
	ok(parse(fixture(), &t));
	for (; getline(&line, &cap, file) > 0; n++) {
		json_t *value = json_loads(line, JSON_ALLOW_NUL, NULL);

		assert_non_null(value);
		check(t, value);
		json_decref(value);
	}
	free(line);
	fclose(file);
	sp_tokenizer_free(&t);
	return n;
}

static uint32_t *
list_of(const json_t *ids)
{
	uint32_t *list = calloc(json_array_size(ids) + 1, sizeof(*list));

	for (size_t i = 0; i < json_array_size(ids); i++)
		list[i] = (uint32_t)json_integer_value(json_array_get(ids, i));
	return list;
}

static void
check_encode_line(const struct sp_tokenizer *t, const json_t *line)
{
	const json_t *text = json_object_get(line, "text"), *ids = json_object_get(line, "ids");
	uint32_t *expected = list_of(ids), *got;
	size_t count;

	ok(sp_tokenizer_encode(
	    t, json_string_value(text), json_string_length(text), 1, &got, &count, &err));
	if (count != json_array_size(ids) || memcmp(got, expected, count * sizeof(*got)) != 0) {
		char *shown = json_dumps(text, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);

		fail_msg("other ids for %s", shown);
	}
	check_decoded(t, got, count, json_object_get(line, "decoded"));
	free(expected);
	free(got);
}

static void
test_encode(void **state)
{
	(void)state;
	assert_int_equal(each_line("tests/vectors/tokenizer.jsonl", check_encode_line), 531);
}

static void
check_decode_line(const struct sp_tokenizer *t, const json_t *line)
{
	const json_t *ids = json_object_get(line, "ids");
	uint32_t *list = list_of(ids);

	check_decoded(t, list, json_array_size(ids), json_object_get(line, "decoded"));
	free(list);
}

static void
test_decode(void **state)
{
	(void)state;
	assert_int_equal(each_line("tests/vectors/tokenizer_decode.jsonl", check_decode_line), 413);
}

/* --- the interface ---------------------------------------------------------------------------- */

static void
test_special(void **state)
{
	const uint32_t ids[] = {1786, 35, 1787};
	struct sp_tokenizer *t;
	char *text;
	size_t len;
	uint32_t id = 0;

	(void)state;
	ok(parse(fixture(), &t));
	assert_int_equal(sp_tokenizer_size(t), 1788);
	assert_true(sp_tokenizer_id(t, "<|endoftext|>", &id));
	assert_int_equal(id, 1785);
	assert_false(sp_tokenizer_id(t, "<|endoftext", &id));
	assert_true(sp_tokenizer_id(t, "\xc4\xa0the", &id)); /* the spelling of " the" */
	ok(sp_tokenizer_decode(t, &id, 1, 0, &text, &len, &err));
	assert_string_equal(text, " the");
	free(text);
	ok(sp_tokenizer_decode(t, ids, 3, 1, &text, &len, &err));
	assert_int_equal(len, 1);
	free(text);
	ok(sp_tokenizer_decode(t, ids, 3, 0, &text, &len, &err));
	assert_int_equal(len, strlen("<|im_start|>") + 1 + strlen("<|im_end|>"));
	free(text);
	ok(sp_tokenizer_decode(t, ids, 0, 0, &text, &len, &err));
	assert_string_equal(text, "");
	free(text);
	sp_tokenizer_free(&t);
}

static void
test_bad_input(void **state)
{
	static const char *const texts[] = {
	    "\xff", "a\xc3", "\xed\xa0\x80", "\xc0\xaf", "\xf4\x90\x80\x80", "\xe2\x82", "x\x80"};
	const uint32_t ids[] = {5, 1788};
	struct sp_tokenizer *t;
	uint32_t *out;
	char *text;
	size_t n;

	(void)state;
	ok(parse(fixture(), &t));
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		assert_int_equal(
		    sp_tokenizer_encode(t, texts[i], strlen(texts[i]), 0, &out, &n, &err),
		    SP_E_INVALID);
		assert_null(out);
	}
	/* what no token stands for is no text, as for tokenizers */
	ok(sp_tokenizer_decode(t, ids, 2, 0, &text, &n, &err));
	assert_int_equal(n, 1);
	free(text);
	sp_tokenizer_free(&t);
}

/* A megabyte without a place to split, which a quadratic merge would take hours for. */
static void
test_long_word(void **state)
{
	const size_t len = 1 << 20;
	char *text = malloc(len), *back;
	struct sp_tokenizer *t;
	uint32_t *ids;
	size_t count, back_len;

	(void)state;
	ok(parse(fixture(), &t));
	for (size_t i = 0; i < len; i++)
		text[i] = "erationsthe"[draw() % 11];
	ok(sp_tokenizer_encode(t, text, len, 0, &ids, &count, &err));
	assert_in_range(count, 1000, len - 1000);
	ok(sp_tokenizer_decode(t, ids, count, 0, &back, &back_len, &err));
	assert_int_equal(back_len, len);
	assert_memory_equal(back, text, len);
	free(back);
	free(ids);
	free(text);
	sp_tokenizer_free(&t);
}

/* --- what of the file is read ------------------------------------------------------------------
 */

/* Sets the value at a path like "model.type" or "added_tokens.0.lstrip" to JSON text; NULL: takes
 * it away. */
static void
change(json_t *root, const char *path, const char *to)
{
	char *copy = strdup(path), *part = copy, *dot;
	json_t *value = to == NULL ? NULL : json_loads(to, JSON_DECODE_ANY, NULL);

	assert_true(to == NULL || value != NULL);
	for (; (dot = strchr(part, '.')) != NULL; part = dot + 1) {
		*dot = '\0';
		root = json_is_array(root) ? json_array_get(root, (size_t)atoi(part))
					   : json_object_get(root, part);
		assert_non_null(root);
	}
	if (to == NULL)
		assert_int_equal(json_object_del(root, part), 0);
	else if (json_is_array(root))
		assert_int_equal(json_array_set_new(root, (size_t)atoi(part), value), 0);
	else
		assert_int_equal(json_object_set_new(root, part, value), 0);
	free(copy);
}

#define SPLIT0 "pre_tokenizer.pretokenizers.0"
#define REPLACE(pattern) "{\"type\":\"Replace\",\"content\":\"\",\"pattern\":" pattern "}"
#define METASPACE(replacement) "{\"type\":\"Metaspace\",\"replacement\":" replacement "}"
#define STRIP(content) "{\"type\":\"Strip\",\"content\":" content "}"
#define LONG "0123456789012345678901234567890123456789012345678901234567890123456789abcdefghij"

static const struct {
	const char *path, *to;
	enum sp_code code;
	const char *says;
} refused_files[] = {
    {"version", "\"2.0\"", SP_E_UNSUPPORTED, "version"},
    {"truncation", "{\"max_length\": 4}", SP_E_UNSUPPORTED, "truncation"},
    {"padding", "{}", SP_E_UNSUPPORTED, "padding"},
    {"surprise", "1", SP_E_UNSUPPORTED, "surprise"},
    {"", "1", SP_E_UNSUPPORTED, "not a field"},
    {"normalizer.type", "\"NFKC\"", SP_E_UNSUPPORTED, "normalizer.type"},
    {"normalizer", "{\"type\":\"NFC\",\"x\":1}", SP_E_UNSUPPORTED, "normalizer.x"},
    {"normalizer", "{\"type\":\"Prepend\"}", SP_E_INVALID, "normalizer: "},
    {"normalizer", "{\"type\":\"Prepend\",\"prepend\":\"" LONG "\"}", SP_E_UNSUPPORTED,
	"normalizer.prepend has 80 bytes"},
    {"normalizer", REPLACE("{\"Regex\":\"a+\"}"), SP_E_UNSUPPORTED, "normalizer.pattern.Regex"},
    {"normalizer", REPLACE("{\"String\":\"\"}"), SP_E_UNSUPPORTED, "normalizer.pattern.String"},
    {"normalizer", REPLACE("\" \""), SP_E_INVALID, "normalizer.pattern is not an object"},
    {"normalizer", "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Lowercase\"}]}",
	SP_E_UNSUPPORTED, "normalizers[0].type"},
    {"pre_tokenizer", "{\"type\":\"Metaspace\"}", SP_E_INVALID, "pre_tokenizer: "},
    {"pre_tokenizer", METASPACE("\"ab\""), SP_E_UNSUPPORTED, "pre_tokenizer.replacement"},
    {"pre_tokenizer", METASPACE("\"_\",\"prepend_scheme\":\"last\""), SP_E_UNSUPPORTED,
	"pre_tokenizer.prepend_scheme"},
    {"pre_tokenizer", METASPACE("\"_\",\"prepend_scheme\":\"first\""), SP_E_UNSUPPORTED,
	"pre_tokenizer.prepend_scheme is first"},
    {"pre_tokenizer", METASPACE("\"_\",\"add_prefix_space\":false"), SP_E_UNSUPPORTED,
	"pre_tokenizer.add_prefix_space"},
    {"pre_tokenizer", METASPACE("\"_\",\"split\":1"), SP_E_INVALID, "pre_tokenizer.split"},
    {"pre_tokenizer",
	"{\"type\":\"Sequence\",\"pretokenizers\":[" METASPACE("\"_\"") "," METASPACE("\"_\"") "]}",
	SP_E_UNSUPPORTED, "pretokenizers[0].type"},
    {SPLIT0 ".behavior", "\"MergedWithNext\"", SP_E_UNSUPPORTED, "pretokenizers[0].behavior"},
    {SPLIT0 ".invert", "0", SP_E_INVALID, "pretokenizers[0].invert"},
    {SPLIT0 ".pattern", "{\"String\": \"\"}", SP_E_UNSUPPORTED, "[0].pattern.String"},
    {SPLIT0 ".pattern", "{\"String\": \"a\", \"Regex\": \"a\"}", SP_E_UNSUPPORTED, "[0].pattern"},
    {SPLIT0 ".pattern.Regex", "\"(\"", SP_E_UNSUPPORTED, "[0]"},
    {SPLIT0 ".pattern.Regex", "\"\\\\w+\"", SP_E_UNSUPPORTED, "escape"},
    {SPLIT0 ".type", "\"Punctuation\"", SP_E_UNSUPPORTED, "pretokenizers[0].type"},
    {SPLIT0 ".type", "\"Digits\"", SP_E_UNSUPPORTED, "pretokenizers[0].pattern"},
    {"pre_tokenizer.pretokenizers.1.add_prefix_space", "7", SP_E_INVALID,
	"pretokenizers[1].add_prefix_space"},
    {"post_processor.type", "\"BertProcessing\"", SP_E_UNSUPPORTED, "post_processor.type"},
    {"post_processor.single", "[]", SP_E_UNSUPPORTED, "post_processor.single"},
    {"post_processor.single.0", "{\"SpecialToken\":{\"id\":\"<s>\"}}", SP_E_INVALID,
	"post_processor.single[0]"},
    {"decoder.type", "\"WordPiece\"", SP_E_UNSUPPORTED, "decoder.type"},
    {"decoder", "{\"type\":\"Fuse\",\"x\":1}", SP_E_UNSUPPORTED, "decoder.x"},
    {"decoder", "{\"type\":\"CTC\"}", SP_E_UNSUPPORTED, "decoder.type"},
    {"decoder", STRIP("\" \",\"start\":1,\"stop\":1"), SP_E_UNSUPPORTED, "decoder.stop"},
    {"decoder", STRIP("\" \",\"start\":-1,\"stop\":0"), SP_E_INVALID, "decoder: field \"start\""},
    {"decoder", STRIP("\"ab\",\"start\":1,\"stop\":0"), SP_E_UNSUPPORTED, "decoder.content"},
    {"added_tokens.1.lstrip", "1", SP_E_INVALID, "added_tokens[1].lstrip"},
    {"added_tokens.1.rstrip", "1", SP_E_INVALID, "added_tokens[1].rstrip"},
    {"added_tokens.1.single_word", "1", SP_E_INVALID, "added_tokens[1].single_wo"},
    {"added_tokens.1.x", "true", SP_E_UNSUPPORTED, "added_tokens[1].x"},
    {"added_tokens.1.special", "7", SP_E_INVALID, "added_tokens[1].special"},
    {"added_tokens.1.id", "1790", SP_E_INVALID, "added_tokens[1].id is not 1786"},
    {"added_tokens.1.content", "\"\"", SP_E_UNSUPPORTED, "added_tokens[1].content"},
    {"added_tokens.1.content", "7", SP_E_INVALID, "added_tokens[1]: field"},
    {"added_tokens.1.content", "\"<|endoftext|>\"", SP_E_INVALID, "twice"},
    {"added_tokens.1",
	"{\"id\": 1786, \"content\": \"<|endoftext|>\", \"single_word\": false, \"lstrip\": false, "
	"\"rstrip\": false, \"normalized\": true, \"special\": true}",
	SP_E_INVALID, "twice"},
    {"added_tokens", "{}", SP_E_INVALID, "added_tokens"},
    {"model.type", "\"Unigram\"", SP_E_UNSUPPORTED, "model.type"},
    {"model.dropout", "0.1", SP_E_UNSUPPORTED, "model.dropout"},
    {"model.byte_fallback", "1", SP_E_INVALID, "model.byte_fallback"},
    {"model.end_of_word_suffix", "\"</w>\"", SP_E_UNSUPPORTED, "end_of_word_suffix"},
    {"model.cache", "1", SP_E_UNSUPPORTED, "model.cache"},
    {"model.vocab.a", "-1", SP_E_INVALID, "model.vocab"},
    {"model.vocab.a", "3", SP_E_INVALID, "the id 3"},
    {"model.vocab.a", "99999999", SP_E_INVALID, "model.vocab"},
    {"model.merges.0", "\"e r r\"", SP_E_INVALID, "model.merges[0]"},
    {"model.merges.0", "[\"e\"]", SP_E_INVALID, "model.merges[0]"},
    {"model.merges.0", "[\"\", \"er\"]", SP_E_INVALID, "model.merges[0]"},
    {"model.merges.0", "[\"q\", \"q\"]", SP_E_INVALID, "not in the vocabulary"},
    {"model.merges.1", "[\"e\", \"r\"]", SP_E_INVALID, "same pair"},
    {"model.merges", "{}", SP_E_INVALID, "merges"},
};

static void
test_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(refused_files) / sizeof(refused_files[0]); i++) {
		struct sp_tokenizer *t;
		json_t *root = fixture();
		enum sp_code code;

		change(root, refused_files[i].path, refused_files[i].to);
		code = parse(root, &t);
		if (code != refused_files[i].code)
			fail_msg("%s = %s: %s", refused_files[i].path, refused_files[i].to,
			    code ? err.msg : "accepted");
		assert_null(t);
		if (strstr(err.msg, refused_files[i].says) == NULL ||
		    strstr(err.msg, "tokenizer.json") == NULL)
			fail_msg("%s = %s: says %s", refused_files[i].path, refused_files[i].to,
			    err.msg);
	}
}

static void
test_missing_byte(void **state)
{
	struct sp_tokenizer *t;
	json_t *root = fixture();

	(void)state;
	change(root, "model.vocab.a", NULL);
	change(root, "model.vocab.aa", "64");
	assert_int_equal(parse(root, &t), SP_E_UNSUPPORTED);
	assert_non_null(strstr(err.msg, "lacks the byte 61"));
}

static void
test_cut_off(void **state)
{
	json_t *root = fixture();
	char *text = json_dumps(root, JSON_COMPACT);
	size_t len = strlen(text);
	struct sp_tokenizer *t;

	(void)state;
	for (size_t cut = 0; cut < len; cut += 1 + cut / 16)
		assert_int_not_equal(sp_tokenizer_parse((uint8_t *)text, cut, &t, &err), SP_OK);
	free(text);
	json_decref(root);
}

static void
test_template(void **state)
{
	struct sp_tokenizer *t;
	json_t *root = fixture();

	(void)state;
	change(root, "post_processor",
	    "{\"type\": \"Sequence\", \"processors\": [{\"type\": \"ByteLevel\"},"
	    "{\"type\": \"TemplateProcessing\", \"pair\": [], \"single\": ["
	    "{\"SpecialToken\": {\"id\": \"B\", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"A\"}},"
	    "{\"SpecialToken\": {\"id\": \"E\", \"type_id\": 0}}],"
	    "\"special_tokens\": {\"B\": {\"id\": \"B\", \"ids\": [1786], \"tokens\": [\"x\"]},"
	    "\"E\": {\"id\": \"E\", \"ids\": [1787, 1785], \"tokens\": [\"y\", \"z\"]}}}]}");
	ok(parse(root, &t));
	check_ids(t, "", 1, "1786 1787 1785");
	check_ids(t, "", 0, "");
	check_ids(t, "<|im_end|>", 1, "1786 1787 1787 1785");
	sp_tokenizer_free(&t);
	root = fixture();
	change(root, "post_processor", "null");
	ok(parse(root, &t));
	check_ids(t, "<|im_end|>", 1, "1787");
	sp_tokenizer_free(&t);
}

/* A token that no merge makes: only ignore_merges finds it, and only as a whole word. */
static void
test_ignore_merges(void **state)
{
	struct sp_tokenizer *plain, *whole;
	char *ids;

	(void)state;
	for (int ignore = 0; ignore < 2; ignore++) {
		json_t *root = fixture();

		change(root, "model.vocab.\xc4\xa0zqxj", "1785");
		for (int i = 0; i < 3; i++) {
			char path[32], id[8];

			snprintf(path, sizeof(path), "added_tokens.%d.id", i);
			snprintf(id, sizeof(id), "%d", 1786 + i);
			change(root, path, id);
		}
		change(root, "model.ignore_merges", ignore ? "true" : "false");
		ok(parse(root, ignore ? &whole : &plain));
	}
	check_ids(whole, " zqxj", 0, "1785");
	ids = ids_of(plain, " zqxj", 0);
	assert_null(strstr(ids, "1785"));
	check_ids(whole, "zqxj", 0, ids + strcspn(ids, " ") + 1);
	free(ids);
	ids = ids_of(plain, " the capital\n", 0);
	check_ids(whole, " the capital\n", 0, ids);
	free(ids);
	sp_tokenizer_free(&plain);
	sp_tokenizer_free(&whole);
}

/* The longest added token wins, at the leftmost place; a normalized one is found in NFC. */
static void
test_added(void **state)
{
	struct sp_tokenizer *t;
	json_t *root = fixture();
	char *ids;

	(void)state;
	change(root, "added_tokens",
	    "[{\"id\": 1785, \"content\": \"@#\", \"special\": true},"
	    "{\"id\": 1786, \"content\": \"@#%&\"}, {\"id\": 1787, \"content\": \"#%&*~\"},"
	    "{\"id\": 1788, \"content\": \"e\\u0301\", \"normalized\": true},"
	    "{\"id\": 1789, \"content\": \"o\\u0308\", \"normalized\": false}]");
	ok(parse(root, &t));
	check_ids(t, "@#@#%&@#%@#%&*~", 0, "1785 1786 1785 4 1786 9 93");
	check_ids(t, "\xc3\xa9", 0, "1788");
	check_ids(t, "e\xcc\x81", 0, "1788");
	check_ids(t, "o\xcc\x88", 0, "1789");
	ids = ids_of(t, "\xc3\xb6", 0);
	assert_string_not_equal(ids, "1789");
	free(ids);
	sp_tokenizer_free(&t);
}

/* GPT-2's own splits: ByteLevel alone; merges in the older spelling. */
static void
test_byte_level(void **state)
{
	struct sp_tokenizer *t, *old;
	json_t *root = fixture(), *merges;
	char *ids, *others;

	(void)state;
	change(root, "pre_tokenizer", "{\"type\": \"ByteLevel\", \"add_prefix_space\": false}");
	ok(parse(json_deep_copy(root), &t));
	merges = json_object_get(json_object_get(root, "model"), "merges");
	for (size_t i = 0; i < json_array_size(merges); i++) {
		const json_t *pair = json_array_get(merges, i);

		json_array_set_new(merges, i,
		    json_sprintf("%s %s", json_string_value(json_array_get(pair, 0)),
			json_string_value(json_array_get(pair, 1))));
	}
	ok(parse(root, &old));
	ids = ids_of(t, "The capital of France isn't 1234.\n", 0);
	others = ids_of(old, "The capital of France isn't 1234.\n", 0);
	assert_string_equal(ids, others);
	assert_true(strlen(ids) > 20);
	free(ids);
	free(others);
	sp_tokenizer_free(&t);
	sp_tokenizer_free(&old);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_encode),
	    cmocka_unit_test(test_decode),
	    cmocka_unit_test(test_special),
	    cmocka_unit_test(test_bad_input),
	    cmocka_unit_test(test_long_word),
	    cmocka_unit_test(test_refused),
	    cmocka_unit_test(test_missing_byte),
	    cmocka_unit_test(test_cut_off),
	    cmocka_unit_test(test_template),
	    cmocka_unit_test(test_ignore_merges),
	    cmocka_unit_test(test_added),
	    cmocka_unit_test(test_byte_level),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
