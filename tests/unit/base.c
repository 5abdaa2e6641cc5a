/* base.c -- errors, buffers, digests, paths, clocks, log lines. */
#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/path.h"
#include "base/time.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Runs f in a child and returns what it wrote on stderr; *status as waitpid says. */
static char *
stderr_of(void (*f)(void), int *status)
{
	struct sp_buf out = {0};
	char chunk[4096];
	int ends[2];
	ssize_t n;
	pid_t pid;

	assert_int_equal(pipe(ends), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		dup2(ends[1], STDERR_FILENO);
		f();
		_exit(0);
	}
	close(ends[1]);
	while ((n = read(ends[0], chunk, sizeof(chunk))) > 0)
		sp_buf_add(&out, chunk, (size_t)n);
	close(ends[0]);
	assert_int_equal(waitpid(pid, status, 0), pid);
	return sp_buf_take(&out, NULL);
}

static void
expect_abort(void (*f)(void), const char *text)
{
	int status;
	char *out = stderr_of(f, &status);

	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
	if (strstr(out, text) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", out, text);
	free(out);
}

/* --- errors --- */

static void
test_err_words(void **state)
{
	(void)state;
	for (int i = 0; i < SP_CODE_COUNT; i++) {
		const char *word = sp_err_word((enum sp_code)i);

		assert_non_null(word);
		assert_int_equal(sp_err_from_word(word), i);
	}
	assert_string_equal(sp_err_word(SP_E_NO_SPACE), "no-space");
	assert_int_equal(sp_err_from_word("no such word"), SP_E_INTERNAL);
	assert_int_equal(sp_err_from_word(""), SP_E_INTERNAL);
	/* a number from a peer with more codes than ours */
	assert_string_equal(sp_err_word((enum sp_code)SP_CODE_COUNT), "internal");
	assert_string_equal(sp_err_word((enum sp_code) - 1), "internal");
	assert_true(sp_err_may_retry(SP_E_UNREACHABLE));
	assert_true(sp_err_may_retry(SP_E_NO_SPACE));
	assert_false(sp_err_may_retry(SP_E_BLOCKED));
	assert_false(sp_err_may_retry(SP_E_CORRUPT));
	assert_true(sp_err_may_retry((enum sp_code)999) == sp_err_may_retry(SP_E_INTERNAL));
}

static void
test_err_set(void **state)
{
	struct sp_err err;

	(void)state;
	assert_int_equal(sp_err_set(NULL, SP_E_LIMIT, "x"), SP_E_LIMIT);
	assert_int_equal(sp_err_set(&err, SP_E_LIMIT, "%s of %d", "five", 4), SP_E_LIMIT);
	assert_int_equal(err.code, SP_E_LIMIT);
	assert_string_equal(err.msg, "five of 4");
	/* the message it holds may be an argument */
	(void)sp_err_set(&err, SP_E_IO, "<%s>", err.msg);
	assert_string_equal(err.msg, "<five of 4>");
	assert_int_equal(sp_err_prefix(&err, "job %s", "7f"), SP_E_IO);
	assert_string_equal(err.msg, "job 7f: <five of 4>");
	assert_int_not_equal(sp_err_prefix(NULL, "job"), SP_OK);
	/* a percent sign of the old message stays one */
	(void)sp_err_set(&err, SP_E_IO, "%s", "100 %s");
	(void)sp_err_prefix(&err, "a");
	assert_string_equal(err.msg, "a: 100 %s");
}

static void
test_err_long(void **state)
{
	char text[2 * SP_ERR_MSG_MAX];
	struct sp_err err;
	size_t len;

	(void)state;
	/* é at every possible place of the cut */
	for (size_t shift = 0; shift < 2; shift++) {
		memset(text, 'a', shift);
		for (len = shift; len + 2 < sizeof(text); len += 2)
			memcpy(text + len, "\xc3\xa9", 2);
		text[len] = '\0';
		(void)sp_err_set(&err, SP_E_IO, "%s", text);
		len = strlen(err.msg);
		assert_in_range(len, SP_ERR_MSG_MAX - 3, SP_ERR_MSG_MAX - 1);
		assert_true(sp_path_is_utf8(err.msg, len));
	}
	for (int i = 0; i < 100; i++)
		(void)sp_err_prefix(&err, "prefix %d", i);
	assert_memory_equal(err.msg, "prefix 99: prefix 98: ", 22);
	assert_true(strlen(err.msg) < SP_ERR_MSG_MAX);
}

static void
test_err_errno(void **state)
{
	static const struct {
		int number;
		enum sp_code code;
	} cases[] = {{ENOSPC, SP_E_NO_SPACE}, {EDQUOT, SP_E_NO_SPACE}, {ENOENT, SP_E_NOT_FOUND},
	    {EEXIST, SP_E_EXISTS}, {ENOMEM, SP_E_NO_MEMORY}, {EACCES, SP_E_IO}, {EIO, SP_E_IO}};
	struct sp_err err;

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		errno = cases[i].number;
		assert_int_equal(sp_err_errno(&err, "file %s", "x"), cases[i].code);
		assert_int_equal(err.code, cases[i].code);
		assert_memory_equal(err.msg, "file x: ", 8);
		assert_string_equal(err.msg + 8, strerror(cases[i].number));
		assert_int_equal(errno, cases[i].number);
		assert_int_equal(sp_err_errno(NULL, "x"), cases[i].code);
	}
}

static void
assert_false_thing(void)
{
	SP_ASSERT(errno == -4711);
}

static void
allocate_too_much(void)
{
	/* count * size wraps around to a small number */
	sp_xrealloc(NULL, SIZE_MAX / 2 + 2, 2);
}

static void
test_err_abort(void **state)
{
	char *text;

	(void)state;
	expect_abort(assert_false_thing, "errno == -4711");
	expect_abort(assert_false_thing, "tests/unit/base.c:");
	expect_abort(allocate_too_much, "out of memory");
	text = sp_xasprintf("%d-%s", 5, "x");
	assert_string_equal(text, "5-x");
	free(text);
	text = sp_xcalloc(0, 0);
	assert_non_null(text);
	text = sp_xrealloc(text, 0, 8);
	assert_non_null(text);
	free(text);
	text = sp_xstrdup("");
	assert_string_equal(text, "");
	free(text);
}

/* --- buffers --- */

static void
test_buf(void **state)
{
	struct sp_buf buf = {0};
	char *data, big[3000];
	size_t len;

	(void)state;
	data = sp_buf_take(&buf, &len);
	assert_string_equal(data, "");
	assert_int_equal(len, 0);
	free(data);
	assert_null(buf.data);

	sp_buf_add(&buf, NULL, 0);
	assert_string_equal((char *)buf.data, "");
	sp_buf_puts(&buf, "ab");
	sp_buf_add(&buf, "\0c", 2);
	sp_buf_u16be(&buf, 0x0102);
	sp_buf_u32be(&buf, 0xfffefdfc);
	sp_buf_u64be(&buf, 0x0102030405060708);
	assert_int_equal(buf.len, 18);
	assert_memory_equal(
	    buf.data, "ab\0c\x01\x02\xff\xfe\xfd\xfc\x01\x02\x03\x04\x05\x06\x07\x08", 19);
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	sp_buf_printf(&buf, "%s|%d", big, -1);
	assert_int_equal(buf.len, 18 + 2999 + 3);
	assert_string_equal((char *)buf.data + 18 + 2999, "|-1");
	data = sp_buf_take(&buf, NULL);
	assert_memory_equal(data, "ab", 2);
	free(data);
	assert_int_equal(buf.len + buf.cap, 0);
	/* one byte at a time over every growth */
	for (int i = 0; i < 5000; i++) {
		sp_buf_add(&buf, &(char){(char)i}, 1);
		assert_int_equal(buf.data[buf.len], 0);
	}
	for (int i = 0; i < 5000; i++)
		assert_int_equal(buf.data[i], (uint8_t)i);
	sp_buf_free(&buf);
	sp_buf_free(&buf);
	assert_null(buf.data);
}

/* --- digests --- */

/* FIPS 180-4's examples as NIST publishes them */
static void
test_sha256(void **state)
{
	static const char abc[] =
	    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
	static const char empty[] =
	    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
	static const char million[] =
	    "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
	struct sp_hash *hash = sp_hash_new(SP_SHA256);
	char a[1000];
	uint8_t digest[SP_DIGEST_LEN];

	(void)state;
	assert_string_equal(sp_sha256_hex("abc", 3).s, abc);
	assert_string_equal(sp_sha256_hex(NULL, 0).s, empty);
	sp_hash_add(hash, NULL, 0);
	assert_string_equal(sp_hash_finish_hex(hash).s, empty);
	/* finished means as new */
	sp_hash_add(hash, "a", 1);
	sp_hash_add(hash, "bc", 2);
	assert_string_equal(sp_hash_finish_hex(hash).s, abc);
	memset(a, 'a', sizeof(a));
	for (int i = 0; i < 1000; i++)
		sp_hash_add(hash, a, sizeof(a));
	sp_hash_finish(hash, digest);
	assert_string_equal(sp_hex_of(digest).s, million);
	sp_hash_free(&hash);
	assert_null(hash);
	sp_hash_free(&hash);
	sp_hash_free(NULL);
}

static void
finish_hex_of_sha1(void)
{
	struct sp_hash *hash = sp_hash_new(SP_SHA1);

	(void)sp_hash_finish_hex(hash);
}

/* ids that `git hash-object` gives; the second is Pro Git's example */
static void
test_git_blob(void **state)
{
	struct sp_hash *hash = sp_git_blob_new(0);

	(void)state;
	assert_string_equal(sp_git_blob_finish(hash).s, "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
	sp_hash_free(&hash);
	hash = sp_git_blob_new(16);
	sp_hash_add(hash, "what is ", 8);
	sp_hash_add(hash, "up, doc?", 8);
	assert_string_equal(sp_git_blob_finish(hash).s, "bd9dbf5aae1a3862dd1526723246b20206e5fc37");
	sp_hash_free(&hash);
	expect_abort(finish_hex_of_sha1, "SP_SHA256");
}

static void
test_hex(void **state)
{
	static const char *const bad[] = {
	    "", "0", "00f", "00ff0", "00ff01ab", "00FF01", "00fg01", "0 ff01", "00ff 1", "-0ff01"};
	uint8_t bytes[3];
	char hex[7], digest[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

	(void)state;
	sp_hex_encode((const uint8_t *)"\x00\xff\x01", 3, hex);
	assert_string_equal(hex, "00ff01");
	sp_hex_encode(NULL, 0, hex);
	assert_string_equal(hex, "");
	assert_int_equal(sp_hex_decode("00ff01", bytes, 3), SP_OK);
	assert_memory_equal(bytes, "\x00\xff\x01", 3);
	assert_int_equal(sp_hex_decode("", bytes, 0), SP_OK);
	for (size_t i = 0; i < COUNT(bad); i++) {
		/* on the heap, so that reading behind the NUL is seen */
		char *copy = sp_xstrdup(bad[i]);

		if (sp_hex_decode(copy, bytes, 3) == SP_OK)
			fail_msg("\"%s\" was taken for three bytes", bad[i]);
		free(copy);
	}
	assert_true(sp_hex_is_digest(digest));
	digest[63] = 'D';
	assert_false(sp_hex_is_digest(digest));
	digest[63] = '\0';
	assert_false(sp_hex_is_digest(digest));
	assert_false(sp_hex_is_digest(""));
}

/* RFC 4648 section 10 */
static void
test_base64(void **state)
{
	static const char *const plain[] = {"", "f", "fo", "foo", "foob", "fooba", "foobar"};
	static const char *const coded[] = {
	    "", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"};
	uint8_t *data, bytes[67];
	char *text;
	size_t len;

	(void)state;
	for (size_t i = 0; i < COUNT(plain); i++) {
		text = sp_base64_encode(plain[i], strlen(plain[i]));
		assert_string_equal(text, coded[i]);
		data = sp_base64_decode(text, strlen(text), &len);
		assert_non_null(data);
		assert_int_equal(len, strlen(plain[i]));
		assert_memory_equal(data, plain[i], len);
		free(data);
		free(text);
	}
	for (size_t n = 0; n <= sizeof(bytes); n++) {
		for (size_t i = 0; i < n; i++)
			bytes[i] = (uint8_t)(i * 151 + n * 29 + 255);
		text = sp_base64_encode(bytes, n);
		data = sp_base64_decode(text, strlen(text), &len);
		assert_non_null(data);
		assert_int_equal(len, n);
		assert_memory_equal(data, bytes, n);
		free(data);
		free(text);
	}
}

static void
test_base64_bad(void **state)
{
	static const struct {
		const char *text;
		size_t len;
	} bad[] = {
	    {"Zg", 2}, {"Zg=", 3}, {"Z===", 4}, {"====", 4}, {"=", 1}, {"==", 2}, {"Z", 1},
	    {"Zg==Zg==", 8},					       /* padding in the middle */
	    {"Z=g=", 4}, {"=Zg=", 4}, {"Zm9v====", 8}, {"Zm9=v", 5},   /* and out of place */
	    {"Zh==", 4}, {"Zv==", 4}, {"Zm9=", 4},		       /* pad bits not zero */
	    {"Zm9v\n", 5}, {"Zm 9", 4}, {" Zm9", 4}, {"Zm9v\nZm9", 8}, /* white space */
	    {"Zm-_", 4}, {"Zm9\x80", 4}, {"Zm9\0", 4},		       /* other alphabets */
	};
	size_t len = 4711;

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		/* without a NUL behind it */
		char *copy = malloc(bad[i].len);

		memcpy(copy, bad[i].text, bad[i].len);
		if (sp_base64_decode(copy, bad[i].len, &len) != NULL)
			fail_msg("\"%s\" was decoded", bad[i].text);
		free(copy);
	}
	assert_int_equal(len, 4711);
}

/* --- paths --- */

static void
test_path_check(void **state)
{
	static const char *const good[] = {"a", "a/b/c", ".a", "..a", "a..", "...", "a/.b/..c",
	    "model.safetensors", "\xc3\xa9/\xe2\x82\xac/\xf0\x9f\x98\x80", "a b", "~", "-rf", "a:b",
	    "\xc2\xa0"};
	static const struct {
		const char *path, *says;
	} bad[] = {
	    {"", "empty"},
	    {"/", "not relative"},
	    {"/etc", "not relative"},
	    {"a/", "empty component"},
	    {"a//b", "empty component"},
	    {".", "component \".\""},
	    {"..", "component \"..\""},
	    {"a/../b", "component \"..\""},
	    {"a/..", "component \"..\""},
	    {"./a", "component \".\""},
	    {"a/.", "component \".\""},
	    {"a\\b", "backslash"},
	    {"..\\a", "backslash"},
	    {"a\nb", "control"},
	    {"a\x1b[31m", "control"},
	    {"\x7f", "control"},
	    {"\x01", "control"},
	    {"a\xc2\x9b", "control"},
	    {"\xc2\x80", "control"},
	    {"a\xff", "UTF-8"},
	    {"\xc0\xaf", "UTF-8"},
	    {"a/\xc0\xae\xc0\xae/b", "UTF-8"},
	};
	char longest[SP_PATH_MAX + 2];
	struct sp_err err;

	(void)state;
	for (size_t i = 0; i < COUNT(good); i++)
		if (sp_path_check(good[i], &err) != SP_OK)
			fail_msg("\"%s\" was refused: %s", good[i], err.msg);
	for (size_t i = 0; i < COUNT(bad); i++) {
		assert_int_equal(sp_path_check(bad[i].path, &err), SP_E_INVALID);
		if (strstr(err.msg, bad[i].says) == NULL)
			fail_msg("\"%s\": \"%s\"", bad[i].path, err.msg);
		/* what the terminal shows must be readable */
		for (const char *p = err.msg; *p != '\0'; p++)
			assert_true((unsigned char)*p >= 0x20);
		assert_true(sp_path_is_utf8(err.msg, strlen(err.msg)));
		assert_int_equal(sp_path_check(bad[i].path, NULL), SP_E_INVALID);
	}
	memset(longest, 'a', sizeof(longest));
	longest[SP_PATH_MAX] = '\0';
	assert_int_equal(sp_path_check(longest, &err), SP_OK);
	longest[SP_PATH_MAX] = 'a';
	longest[SP_PATH_MAX + 1] = '\0';
	assert_int_equal(sp_path_check(longest, &err), SP_E_LIMIT);
}

static void
test_path_repo(void **state)
{
	static const char *const good[] = {
	    "gpt2", "Qwen/Qwen2-0.5B", "a", "a_b/c.d-e", "_x/_y", "0/1", "org/name.gif"};
	static const char *const bad[] = {"", "/", "a/", "/a", "a//b", "a/b/c", ".a", "-a", "a/.b",
	    "a/-b", "a--b", "a/b..c", "a.", "a-/b", "a b", "a\tb", "a/b\n", "\xc3\xa9", "\xff",
	    "a@b", "a:b", "..", ".", "a/..", "a?b", "a\\b", "a%2fb"};
	char text[2 * 97 + 2];
	struct sp_err err;

	(void)state;
	for (size_t i = 0; i < COUNT(good); i++)
		if (sp_path_check_repo(good[i], &err) != SP_OK)
			fail_msg("\"%s\" was refused: %s", good[i], err.msg);
	for (size_t i = 0; i < COUNT(bad); i++) {
		if (sp_path_check_repo(bad[i], &err) != SP_E_INVALID)
			fail_msg("\"%s\" was not refused", bad[i]);
		assert_true(sp_path_is_utf8(err.msg, strlen(err.msg)));
		assert_null(strpbrk(err.msg, "\t\n"));
	}
	memset(text, 'a', sizeof(text));
	text[96] = '/';
	text[96 + 1 + 96] = '\0';
	assert_int_equal(sp_path_check_repo(text, &err), SP_OK);
	text[96 + 1 + 96] = 'a';
	text[96 + 1 + 97] = '\0';
	assert_int_equal(sp_path_check_repo(text, &err), SP_E_INVALID);
}

/* RFC 3629; the bad ones after Markus Kuhn's stress test */
static void
test_utf8(void **state)
{
	static const char *const good[] = {"", "a", "\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80",
	    "\xed\x9f\xbf", "\xee\x80\x80", "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"};
	static const char *const bad[] = {"\x80", "\xbf", "a\x80", "\xc3", "\xc3(", "\xe2\x82",
	    "\xe2\x82(", "\xe2(\xac", "\xf0\x9f\x98", "\xf0\x9f\x98(", "\xc0\x80", "\xc1\xbf",
	    "\xe0\x80\x80", "\xe0\x9f\xbf", "\xf0\x80\x80\x80", "\xf0\x8f\xbf\xbf", "\xed\xa0\x80",
	    "\xed\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xf8\x88\x80\x80\x80", "\xfe",
	    "\xff", "\xc3\xc3\xa9"};

	(void)state;
	for (size_t i = 0; i < COUNT(good); i++)
		assert_true(sp_path_is_utf8(good[i], strlen(good[i])));
	assert_true(sp_path_is_utf8("a\0b", 3));
	for (size_t i = 0; i < COUNT(bad); i++) {
		size_t len = strlen(bad[i]);
		char *copy = malloc(len);

		memcpy(copy, bad[i], len);
		if (sp_path_is_utf8(copy, len))
			fail_msg("bad text %zu was taken", i);
		free(copy);
	}
}

static void
test_path_join(void **state)
{
	static const struct {
		const char *root, *rest, *joined;
	} cases[] = {
	    {"", "/etc/x", "/etc/x"},
	    {NULL, "/etc/x", "/etc/x"},
	    {"/r", "/etc/x", "/r/etc/x"},
	    {"/r/", "/etc/x", "/r/etc/x"},
	    {"/r//", "/x", "/r/x"},
	    {"/", "/x", "/x"},
	    {"/", "x", "/x"},
	    {"/r", "x", "/r/x"},
	    {"", "x", "x"},
	    {"r", "/x", "r/x"},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		char *joined = sp_path_join(cases[i].root, cases[i].rest);

		assert_string_equal(joined, cases[i].joined);
		free(joined);
	}
}

/* --- time --- */

static void
test_time_rfc3339(void **state)
{
	static const struct {
		int64_t ms;
		const char *text;
	} cases[] = {
	    {0, "1970-01-01T00:00:00.000Z"},
	    {999, "1970-01-01T00:00:00.999Z"},
	    {951782400000, "2000-02-29T00:00:00.000Z"},
	    {1709251199999, "2024-02-29T23:59:59.999Z"},
	    {4107542400000, "2100-03-01T00:00:00.000Z"},
	    {253402300799999, "9999-12-31T23:59:59.999Z"},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		assert_string_equal(sp_time_rfc3339(cases[i].ms).s, cases[i].text);
		assert_int_equal(sp_time_parse_rfc3339(cases[i].text), cases[i].ms);
	}
	/* what the form cannot hold, for times come from messages */
	assert_string_equal(sp_time_rfc3339(-1).s, "1969-12-31T23:59:59.999Z");
	assert_string_equal(sp_time_rfc3339(INT64_MAX).s, "9999-12-31T23:59:59.999Z");
	assert_string_equal(sp_time_rfc3339(INT64_MIN).s, "0000-01-01T00:00:00.000Z");
}

/* Against the C library, a prime number of seconds apart, over all years of the form. */
static void
test_time_against_libc(void **state)
{
	char text[64];
	struct tm tm;
	size_t len;

	(void)state;
	for (int64_t s = -62167219200; s <= 253402300799; s += 2718281) {
		time_t t = (time_t)s;

		assert_non_null(gmtime_r(&t, &tm));
		len = strftime(text, sizeof(text), "-%m-%dT%H:%M:%S.042Z", &tm);
		assert_int_not_equal(len, 0);
		assert_string_equal(sp_time_rfc3339(s * 1000 + 42).s + 4, text);
		assert_int_equal(atoi(sp_time_rfc3339(s * 1000 + 42).s), tm.tm_year + 1900);
		if (s >= 0)
			assert_int_equal(
			    sp_time_parse_rfc3339(sp_time_rfc3339(s * 1000 + 42).s), s * 1000 + 42);
	}
}

static void
test_time_bad(void **state)
{
	static const char *const bad[] = {"", "2026", "2026-11-24T05:02:03.123", "2026-11-24",
	    "2026-11-24T05:02:03Z", "2026-11-24T05:02:03.12Z", "2026-11-24T05:02:03.1234Z",
	    "2026-11-24t05:02:03.123Z", "2026-11-24 05:02:03.123Z", "2026-11-24T05:02:03.123z",
	    "2026-11-24T05:02:03,123Z", "2026-11-24T05:02:03.123+00:00",
	    " 2026-11-24T05:02:03.123Z", "2026-11-24T05:02:03.123Z ", "2026-13-24T05:02:03.123Z",
	    "2026-00-24T05:02:03.123Z", "2026-11-31T05:02:03.123Z", "2026-11-00T05:02:03.123Z",
	    "2026-02-29T05:02:03.123Z", "2100-02-29T05:02:03.123Z", "2026-11-24T24:02:03.123Z",
	    "2026-11-24T05:60:03.123Z", "2026-11-24T05:02:60.123Z", "+026-11-24T05:02:03.123Z",
	    "-026-11-24T05:02:03.123Z", "1969-12-31T23:59:59.999Z", "0000-01-01T00:00:00.000Z",
	    "2026-11-2xT05:02:03.123Z"};

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		char *copy = sp_xstrdup(bad[i]);

		if (sp_time_parse_rfc3339(copy) != -1)
			fail_msg("\"%s\" was taken", bad[i]);
		free(copy);
	}
}

static void
test_time_clocks(void **state)
{
	int64_t ms = sp_time_monotonic_ms(), ns = sp_time_monotonic_ns();
	int64_t before = (int64_t)time(NULL) * 1000, now = sp_time_unix_ms();

	(void)state;
	assert_true(ns >= ms * 1000000);
	assert_true(ns / 1000000 - ms < 10000);
	assert_true(sp_time_monotonic_ns() >= ns);
	assert_true(now >= before && now < before + 60000);
}

/* --- log --- */

static void
say(void)
{
	sp_log_init("fetcherd", 0);
	errno = ENOSPC;
	sp_log_info(NULL, "started");
	sp_log_warn("7f", "%d of %d", 1, 2);
	sp_log_debug("7f", "not seen");
	sp_log_error("a\nb", "one\ntwo\r\x1b[31m \x7f tab\t");
	sp_log_info(NULL, "\xc3\xa9 \xc2\x9b");
	sp_log_info(NULL, "\xc3\xa9 \x9b");
	if (errno == ENOSPC)
		sp_log_info(NULL, "%s", "errno is kept");
	sp_log_init("quantd", 1);
	sp_log_debug("7f", "seen");
}

static void
test_log(void **state)
{
	int status;
	char *out = stderr_of(say, &status);

	(void)state;
	assert_string_equal(out,
	    "info fetcherd: started\n"
	    "warn fetcherd: job=7f 1 of 2\n"
	    "error fetcherd: job=a\\x0ab one\\x0atwo\\x0d\\x1b[31m \\x7f tab\\x09\n"
	    "info fetcherd: \xc3\xa9 \\xc2\\x9b\n"
	    "info fetcherd: \\xc3\\xa9 \\x9b\n"
	    "info fetcherd: errno is kept\n"
	    "debug quantd: job=7f seen\n");
	assert_true(WIFEXITED(status));
	free(out);
}

static void
say_to_nobody(void)
{
	int ends[2];

	signal(SIGPIPE, SIG_IGN);
	if (pipe(ends) != 0)
		_exit(1);
	close(ends[0]);
	dup2(ends[1], STDERR_FILENO);
	sp_log_info(NULL, "nobody reads");
	close(STDERR_FILENO);
	sp_log_info(NULL, "no descriptor");
}

static void
test_log_without_reader(void **state)
{
	int status;
	char *out = stderr_of(say_to_nobody, &status);

	(void)state;
	assert_string_equal(out, "");
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	free(out);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_err_words),
	    cmocka_unit_test(test_err_set),
	    cmocka_unit_test(test_err_long),
	    cmocka_unit_test(test_err_errno),
	    cmocka_unit_test(test_err_abort),
	    cmocka_unit_test(test_buf),
	    cmocka_unit_test(test_sha256),
	    cmocka_unit_test(test_git_blob),
	    cmocka_unit_test(test_hex),
	    cmocka_unit_test(test_base64),
	    cmocka_unit_test(test_base64_bad),
	    cmocka_unit_test(test_path_check),
	    cmocka_unit_test(test_path_repo),
	    cmocka_unit_test(test_utf8),
	    cmocka_unit_test(test_path_join),
	    cmocka_unit_test(test_time_rfc3339),
	    cmocka_unit_test(test_time_against_libc),
	    cmocka_unit_test(test_time_bad),
	    cmocka_unit_test(test_time_clocks),
	    cmocka_unit_test(test_log),
	    cmocka_unit_test(test_log_without_reader),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
