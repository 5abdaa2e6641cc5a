/* tokenizer_parts.c -- merges and NFC against plain ones; split patterns. */
#include "../draw.h"
#include "base/buf.h"
#include "model/bpe.h"
#include "model/nfc.h"
#include "model/pattern.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

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

/* The definition: look for the best pair, merge it, again. */
static size_t
plain_merge(const struct sp_bpe_merge *merges, size_t n, uint32_t *ids, size_t count)
{
	for (;;) {
		size_t best = n, at = 0;

		for (size_t i = 0; i + 1 < count; i++) {
			for (size_t m = 0; m < best; m++) {
				if (merges[m].left == ids[i] && merges[m].right == ids[i + 1]) {
					best = m;
					at = i;
				}
			}
		}
		if (best == n)
			return count;
		ids[at] = merges[best].id;
		memmove(ids + at + 1, ids + at + 2, (count - at - 2) * sizeof(*ids));
		count--;
	}
}

static void
test_merges(void **state)
{
	(void)state;
	for (int round = 0; round < 200; round++) {
		struct sp_bpe_merge merges[40] = {0};
		struct sp_bpe_work work = {0};
		struct sp_bpe *bpe;
		size_t n = 0;
		uint32_t letters = 2 + (uint32_t)(draw() % 3), next = letters;

		while (n < 40) { /* a pair of what is there becomes a new id */
			struct sp_bpe_merge m = {
			    (uint32_t)(draw() % next), (uint32_t)(draw() % next), next};
			size_t k = 0;

			while (k < n && (merges[k].left != m.left || merges[k].right != m.right))
				k++;
			if (k == n) {
				merges[n++] = m;
				next++;
			}
		}
		ok(sp_bpe_new(merges, n, next, &bpe, &err));
		for (int word = 0; word < 20; word++) {
			uint32_t ids[200], expected[200];
			size_t count = draw() % 200, left;

			for (size_t i = 0; i < count; i++)
				ids[i] = expected[i] = (uint32_t)(draw() % letters);
			left = plain_merge(merges, n, expected, count);
			ok(sp_bpe_run(bpe, &work, ids, &count, &err));
			assert_int_equal(count, left);
			assert_memory_equal(ids, expected, count * sizeof(*ids));
		}
		sp_bpe_work_free(&work);
		sp_bpe_free(&bpe);
	}
}

/* More pairs than a hash table of theirs holds at one place, looked up all the same. */
static void
test_merges_overflow(void **state)
{
	enum { LETTERS = 300 };
	struct sp_bpe_merge *merges = calloc(LETTERS * LETTERS, sizeof(*merges));
	struct sp_bpe_work work = {0};
	struct sp_bpe *bpe;
	size_t n = 0;

	(void)state;
	assert_non_null(merges);
	for (uint32_t a = 0; a < LETTERS; a++) {
		for (uint32_t b = 0; b < LETTERS; b++, n++)
			merges[n] = (struct sp_bpe_merge){a, b, LETTERS + (uint32_t)n};
	}
	ok(sp_bpe_new(merges, n, LETTERS + (uint32_t)n, &bpe, &err));
	for (size_t i = 0; i < n; i++) {
		uint32_t ids[2] = {merges[i].left, merges[i].right};
		size_t count = 2;

		ok(sp_bpe_run(bpe, &work, ids, &count, &err));
		assert_int_equal(count, 1);
		assert_int_equal(ids[0], merges[i].id);
	}
	sp_bpe_work_free(&work);
	sp_bpe_free(&bpe);
	free(merges);
}

/* utf8proc's own NFC, which sorts marks in quadratic time but rightly. */
static void
test_nfc(void **state)
{
	static const int32_t marks[] = {0x300, 0x301, 0x308, 0x316, 0x323, 0x327, 0x31b, 0x345,
	    0x5b0, 0x64b, 0x3099, 'a', 'e', 'o', 0xe9, 0x1100, 0x1161, 0x11a8, 0xac00, 0x4f60,
	    0xf900, 0x1f600, 0x2126, 0x958, ' '};

	(void)state;
	for (int round = 0; round < 3000; round++) {
		uint8_t text[256];
		utf8proc_uint8_t *expected;
		size_t len = 0, points = 1 + draw() % 40, out_len;
		char *out;

		for (size_t i = 0; i < points; i++)
			len += (size_t)utf8proc_encode_char(
			    marks[draw() % (sizeof(marks) / sizeof(marks[0]))], text + len);
		text[len] = '\0';
		expected = utf8proc_NFC(text);
		ok(sp_nfc_normalize((char *)text, len, &out, &out_len, &err));
		assert_string_equal(out == NULL ? (char *)text : out, (char *)expected);
		assert_true(out == NULL || out_len == strlen(out));
		free(out);
		free(expected);
	}
}

static void
check_nfc(const char *text, const char *expected)
{
	char *out;
	size_t len;

	ok(sp_nfc_normalize(text, strlen(text), &out, &len, &err));
	assert_string_equal(out == NULL ? text : out, expected);
	free(out);
}

/* Every character that Unicode 9 had, alone and with a mark behind it. */
static void
test_nfc_points(void **state)
{
	(void)state;
	for (int32_t point = 1; point < 0x30000; point++) {
		utf8proc_uint8_t text[16], *expected;
		size_t len;

		if ((point >= 0xd800 && point <= 0xdfff) || point == 0x11938)
			continue;
		len = (size_t)utf8proc_encode_char(point, text);
		text[len] = '\0';
		expected = utf8proc_NFC(text);
		check_nfc((char *)text, (char *)expected);
		free(expected);
		memcpy(text + len, "\xcc\x81", 3); /* U+0301 */
		expected = utf8proc_NFC(text);
		if (point < 0x7fd) /* behind it come marks that Unicode 9 did not know */
			check_nfc((char *)text, (char *)expected);
		free(expected);
	}
}

/* What came with Unicode 10 to 15 stays as it is (what tokenizers 0.23.3 does with these). */
static void
test_nfc_later(void **state)
{
	(void)state;
	check_nfc("\U00011935\U00011930", "\U00011935\U00011930"); /* not U+11938 */
	check_nfc("\U00011938", "\U00011938");
	check_nfc("x\u0345\u1df6", "x\u0345\u1df6"); /* class 232, but it is not moved */
	check_nfc("x\u0345\u0316", "x\u0316\u0345");
	check_nfc("e\u1df6\u0301", "e\u1df6\u0301");	 /* and nothing joins across it */
	check_nfc("\u1100\u1161\u11a7", "\uac00\u11a7"); /* U+11A7 is no final consonant */
	check_nfc("\u1100\u1161\u11a8", "\uac01");
	check_nfc("\uac01\u11a8", "\uac01\u11a8");
}

static void
test_nfc_long(void **state)
{
	const size_t marks = 1 << 19;
	char *text = malloc(2 * marks), *out;
	size_t len;

	(void)state;
	for (size_t i = 0; i < marks; i++) /* classes 230 and 220 by turns */
		memcpy(text + 2 * i, i % 2 ? "\xcc\x96" : "\xcc\x81", 2);
	ok(sp_nfc_normalize(text, 2 * marks, &out, &len, &err));
	assert_int_equal(len, 2 * marks);
	for (size_t i = 0; i < marks; i++)
		assert_memory_equal(out + 2 * i, i < marks / 2 ? "\xcc\x96" : "\xcc\x81", 2);
	free(out);
	free(text);
}

static void
test_pattern(void **state)
{
	static const char *const refused[] = {"\\w", "\\h", "\\b", "\\x41", "[\\S]", "[[:alpha:]]",
	    "[a&&b]", "[]a]", "[a", "(?<n>a)", "(a)", "(?x: a)", "a{,3}", "a{2}+", "^a", "a$",
	    "\\p{^L}", "\\pL", "\\p{Nonsense}", "\\p{Han}", "\\p{Cn}", "[\\P{L}]", "a**", "\\"};
	static const struct {
		const char *pattern, *text;
		size_t start, end;
	} cases[] = {
	    {"\\s+", "a\xe1\xa0\x8e\t\n", 4, 6}, /* U+180E is no white space */
	    {"[^\\s]+", " \xc2\x85\xe1\xa0\x8e.", 3, 7},
	    {"\\S", "\xe2\x80\xa8\xe3\x80\x80z", 6, 7},
	    {"\\p{N}{1,3}", "a12345", 1, 4},
	    {"(?i:'s|'t)", "it'S", 2, 4},
	    {"x", "abc", 4, 4},
	    {"b*", "abc", 0, 0},
	    {"\\[\\]\\{", "a[]{", 1, 4},
	};
	struct sp_pattern_work *work;
	struct sp_pattern *pattern;
	size_t start, end;

	(void)state;
	ok(sp_pattern_work_new(&work, &err));
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		if (sp_pattern_compile(refused[i], &pattern, &err) != SP_E_UNSUPPORTED)
			fail_msg("%s: not refused", refused[i]);
		assert_null(pattern);
	}
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *text = cases[i].text;

		ok(sp_pattern_compile(cases[i].pattern, &pattern, &err));
		ok(sp_pattern_find(pattern, work, text, strlen(text), 0, &start, &end, &err));
		if (start != cases[i].start || end != cases[i].end)
			fail_msg("%s: %zu to %zu", cases[i].pattern, start, end);
		sp_pattern_free(&pattern);
	}
	sp_pattern_work_free(&work);
}

/* Where text[len] matches first, len + 1 when it does not. */
static size_t
find_first(const struct sp_pattern *pattern, const char *text)
{
	struct sp_pattern_work *work;
	size_t start, end;

	ok(sp_pattern_work_new(&work, &err));
	ok(sp_pattern_find(pattern, work, text, strlen(text), 0, &start, &end, &err));
	sp_pattern_work_free(&work);
	return start;
}

/* Categories are those of Unicode 16, whatever PCRE2 knows. */
static void
test_pattern_later(void **state)
{
	static const struct {
		const char *pattern, *text;
		size_t start;
	} cases[] = {
	    {"\\p{L}", "1\U000323af", 1}, /* CJK of Unicode 15 */
	    {"\\P{L}", "\U000323af.", 4},
	    {"[^\\p{L}]", "\U000105c0.", 4}, /* Todhri, Unicode 16 */
	    {"[\\p{Ll}]", "\u1c89\u1c8a", 3},
	    {"\\p{N}", "a\U00010d40", 1}, /* Garay digit */
	    {"\\d", "\U00010d40", 0},
	    {"\\p{S}", "a\U0001cc00", 1},
	    {"\\p{M}", "a\u0897", 1},
	};
	struct sp_pattern *pattern;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		ok(sp_pattern_compile(cases[i].pattern, &pattern, &err));
		if (find_first(pattern, cases[i].text) != cases[i].start)
			fail_msg("%s in %s", cases[i].pattern, cases[i].text);
		sp_pattern_free(&pattern);
	}
	ok(sp_pattern_compile_text("a.\\p{L}", &pattern, &err));
	assert_int_equal(find_first(pattern, "aa\\p{L}a.\\p{L}"), 7);
	sp_pattern_free(&pattern);
}

static void
test_pattern_word(void **state)
{
	static const char *const words[] = {"a", "_", "0", "\u00e9", "\u0301", "\u4f60", "\u200d",
	    "\u203f", "\u2160", "\u24b6", "\U000105c0"};
	static const char *const others[] = {
	    " ", "-", ".", "\u00a0", "\u200b", "\u00b2", "\u2581", "\U0001f600"};
	struct sp_pattern *pattern;

	(void)state;
	ok(sp_pattern_compile_word(&pattern, &err));
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		assert_int_equal(find_first(pattern, words[i]), 0);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		assert_int_equal(find_first(pattern, others[i]), strlen(others[i]) + 1);
	sp_pattern_free(&pattern);
}

/* A pattern that backtracks without end gives up instead. */
static void
test_pattern_endless(void **state)
{
	struct sp_pattern_work *work;
	struct sp_pattern *pattern;
	size_t start, end;

	(void)state;
	ok(sp_pattern_work_new(&work, &err));
	ok(sp_pattern_compile("(?:a|aa)+(?:a|aa)+(?:a|aa)+[bd]", &pattern, &err));
	assert_int_equal(sp_pattern_find(pattern, work, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac",
			     41, 0, &start, &end, &err),
	    SP_E_LIMIT);
	sp_pattern_free(&pattern);
	sp_pattern_work_free(&work);
}

/* One that never gives up by itself, and yet takes a million steps for each character, would hold a
 * daemon for days; what real patterns need grows with the text. */
static void
test_pattern_work(void **state)
{
	static const char slow[] = "a{0,99}a{0,99}a{0,99}a{0,99}[cd]|[ab]";
	static const char spaces[] = "\\s*[\\r\\n]+|\\s+(?!\\S)";
	const size_t len = 1 << 20;
	char *text = malloc(len + 1);
	struct sp_pattern_work *work;
	struct sp_pattern *pattern;
	size_t start, end;

	(void)state;
	assert_non_null(text);
	ok(sp_pattern_work_new(&work, &err));
	ok(sp_pattern_compile(slow, &pattern, &err));
	memset(text, 'a', len);
	assert_int_equal(
	    sp_pattern_find(pattern, work, text, 1000, 0, &start, &end, &err), SP_E_LIMIT);
	sp_pattern_free(&pattern);
	ok(sp_pattern_compile(spaces, &pattern, &err));
	memset(text, ' ', len);
	text[len] = 'x';
	ok(sp_pattern_find(pattern, work, text, len + 1, 0, &start, &end, &err));
	assert_int_equal(end, len - 1);
	sp_pattern_free(&pattern);
	sp_pattern_work_free(&work);
	free(text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_merges),
	    cmocka_unit_test(test_merges_overflow),
	    cmocka_unit_test(test_nfc),
	    cmocka_unit_test(test_nfc_points),
	    cmocka_unit_test(test_nfc_later),
	    cmocka_unit_test(test_nfc_long),
	    cmocka_unit_test(test_pattern),
	    cmocka_unit_test(test_pattern_later),
	    cmocka_unit_test(test_pattern_word),
	    cmocka_unit_test(test_pattern_endless),
	    cmocka_unit_test(test_pattern_work),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
