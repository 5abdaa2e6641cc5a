/* base_glob.c -- patterns of paths, against what Python's fnmatch says of them. */
#include "base/file.h"
#include "base/glob.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

static struct sp_err err;

static void
test_vectors(void **state)
{
	uint8_t *data = NULL;
	char *line, *path, *want, *next;
	size_t len, lines = 0, hits = 0;

	(void)state;
	assert_int_equal(sp_file_read("tests/vectors/glob.tsv", 1 << 20, &data, &len, &err), SP_OK);
	for (line = (char *)data; *line != '\0'; line = next) {
		next = strchr(line, '\n') + 1;
		next[-1] = '\0';
		path = strchr(line, '\t') + 1;
		path[-1] = '\0';
		want = strchr(path, '\t') + 1;
		want[-1] = '\0';
		if (sp_glob_match(line, path) != (want[0] == '1'))
			fail_msg("\"%s\" on \"%s\" is not %s", line, path, want);
		lines++;
		hits += want[0] == '1';
	}
	assert_true(lines >= 2500 && hits >= 1000);
	free(data);
}

/* What would take a matcher that tries everything longer than the world has been there. */
static void
test_time(void **state)
{
	char pattern[SP_GLOB_MAX + 2], path[1025];

	(void)state;
	memset(path, 'a', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	for (size_t i = 0; i < SP_GLOB_MAX - 1; i++)
		pattern[i] = i % 2 == 0 ? '*' : 'a';
	strcpy(pattern + SP_GLOB_MAX - 1, "b");
	assert_int_equal(strlen(pattern), SP_GLOB_MAX);
	assert_false(sp_glob_match(pattern, path));
	path[1023] = 'b';
	assert_true(sp_glob_match(pattern, path));
	strcpy(pattern + SP_GLOB_MAX, "b");
	assert_false(sp_glob_match(pattern, path));
}

static void
test_check(void **state)
{
	static const char *const good[] = {"*", "*.bin", "onnx/", "[a-z]?/\xc3\xa9*", "[", "a b"};
	static const struct {
		const char *pattern, *says;
	} bad[] = {{"", "empty"}, {"/a", "begin"}, {"./a", "begin"}, {"a\\*", "backslash"},
	    {"a\n", "control"}, {"a\x7f", "control"}, {"\xff", "UTF-8"}};
	char pattern[SP_GLOB_MAX + 2];

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		if (sp_glob_check(good[i], &err) != SP_OK)
			fail_msg("%s: %s", good[i], err.msg);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (sp_glob_check(bad[i].pattern, &err) == SP_OK ||
		    strstr(err.msg, bad[i].says) == NULL)
			fail_msg("%zu: %s", i, err.msg);
	memset(pattern, 'a', sizeof(pattern));
	pattern[SP_GLOB_MAX + 1] = '\0';
	assert_int_equal(sp_glob_check(pattern, &err), SP_E_LIMIT);
	pattern[SP_GLOB_MAX] = '\0';
	assert_int_equal(sp_glob_check(pattern, &err), SP_OK);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_vectors),
	    cmocka_unit_test(test_time),
	    cmocka_unit_test(test_check),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
