/* base_json.c -- JSON from outside, JSON that is signed. */
#include "base/buf.h"
#include "base/json.h"
#include "base/limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static enum sp_code
parse(const char *text, json_t **out, struct sp_err *err)
{
	/* exactly so many bytes, so that reading behind them is seen */
	size_t len = strlen(text);
	char *copy = malloc(len > 0 ? len : 1);
	enum sp_code code;

	memcpy(copy, text, len);
	code = sp_json_parse(copy, len, "test", out, err);
	free(copy);
	return code;
}

static void
test_parse(void **state)
{
	static const char *const good[] = {"{}", "[]", "0", "-1", "1.5", "1e3", "\"\"", "true",
	    "false", "null", " {\"a\" : [1,2,{\"b\":null}]}\n", "\"\\u00e9\\ud83d\\ude00\"",
	    "9223372036854775807", "-9223372036854775808", "{\"a\":1,\"A\":2}",
	    "\"[[[[{{{{\\\"[[[[\""};
	struct sp_err err;

	(void)state;
	for (size_t i = 0; i < COUNT(good); i++) {
		json_t *value = NULL;

		if (parse(good[i], &value, &err) != SP_OK)
			fail_msg("%s was refused: %s", good[i], err.msg);
		assert_non_null(value);
		json_decref(value);
	}
}

static void
test_parse_bad(void **state)
{
	static const char *const bad[] = {"", " ", "{", "}", "[1,]", "{\"a\":1,}", "{a:1}",
	    "{'a':1}", "01", "+1", ".5", "1.", "0x1", "NaN", "Infinity", "-", "tru", "True", "\"",
	    "\"\n\"", "\"\\x41\"", "\"\\ud800\"", "\"\\udc00\"", "\"\\ud800\\u0041\"", "{} {}",
	    "{}x", "[] ]", "1 2", /* trailing bytes */
	    "{\"a\":1,\"a\":1}",  /* duplicate keys, also hidden ones */
	    "{\"a\":1,\"\\u0061\":2}", "[{\"b\":{\"a\":1,\"c\":2,\"a\":1}}]", "\"\\u0000\"",
	    "{\"\\u0000\":1}", "{\"a\\u0000b\":1}", /* NUL */
	    "\"\xff\"", "\"\xc0\xaf\"", "\"\xed\xa0\x80\"", "{\"\xff\":1}", "\"\xe2\x82\"",
	    "9223372036854775808", "-9223372036854775809", "1e999", "-1e999", "// comment\n{}",
	    "/* */ {}", "\xef\xbb\xbf{}", "\f{}"};
	json_t *value = (json_t *)0x1;
	struct sp_err err;

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		if (parse(bad[i], &value, &err) != SP_E_INVALID)
			fail_msg("%s was not refused", bad[i]);
		assert_memory_equal(err.msg, "test: not valid JSON: line ", 27);
	}
	assert_int_equal(parse("{", &value, NULL), SP_E_INVALID);
	/* a NUL byte in the text, and one that would end it early */
	assert_int_equal(sp_json_parse("{}\0", 3, "test", &value, &err), SP_E_INVALID);
	assert_int_equal(sp_json_parse("[\"\0\"]", 5, "test", &value, &err), SP_E_INVALID);
	assert_int_equal(sp_json_parse("{}\0{}", 5, "test", &value, &err), SP_E_INVALID);
	assert_int_equal(sp_json_parse("0\0\n", 3, "test", &value, &err), SP_E_INVALID);
	assert_int_equal(parse("[1,\n 2,\n x]", &value, &err), SP_E_INVALID);
	assert_non_null(strstr(err.msg, "line 3"));
}

/* open, close: brackets of one level */
static enum sp_code
parse_nested(unsigned depth, const char *open, const char *close, struct sp_err *err)
{
	struct sp_buf buf = {0};
	json_t *value = NULL;
	enum sp_code code;

	for (unsigned i = 0; i < depth; i++)
		sp_buf_puts(&buf, open);
	sp_buf_puts(&buf, "1");
	for (unsigned i = 0; i < depth; i++)
		sp_buf_puts(&buf, close);
	code = sp_json_parse(buf.data, buf.len, "test", &value, err);
	if (code == SP_OK)
		json_decref(value);
	sp_buf_free(&buf);
	return code;
}

static void
test_limits(void **state)
{
	struct sp_err err;
	json_t *value;
	char *text;

	(void)state;
	assert_int_equal(parse_nested(64, "[", "]", &err), SP_OK);
	assert_int_equal(parse_nested(65, "[", "]", &err), SP_E_LIMIT);
	assert_string_equal(err.msg, "test: JSON nested deeper than 64 levels");
	assert_int_equal(parse_nested(64, "{\"a\":", "}", &err), SP_OK);
	assert_int_equal(parse_nested(65, "{\"a\":", "}", &err), SP_E_LIMIT);
	assert_int_equal(parse_nested(1000000, "[", "]", &err), SP_E_LIMIT);
	/* brackets in strings are none, and a quoted quote does not end the string */
	assert_int_equal(parse_nested(60, "{\"[[[[[[\\\"[[[[[[\\\\\":", "}", &err), SP_OK);
	/* only opened */
	text = malloc(100000);
	memset(text, '[', 100000);
	assert_int_equal(sp_json_parse(text, 100000, "test", &value, &err), SP_E_LIMIT);
	memset(text, ']', 100000);
	assert_int_equal(sp_json_parse(text, 100000, "test", &value, &err), SP_E_INVALID);
	free(text);
	text = malloc((size_t)SP_JSON_MAX + 1);
	memset(text, ' ', (size_t)SP_JSON_MAX + 1);
	text[0] = '1';
	assert_int_equal(sp_json_parse(text, SP_JSON_MAX, "test", &value, &err), SP_OK);
	json_decref(value);
	assert_int_equal(
	    sp_json_parse(text, (size_t)SP_JSON_MAX + 1, "test", &value, &err), SP_E_LIMIT);
	free(text);
}

static void
test_canonical(void **state)
{
	static const struct {
		const char *text, *canonical;
	} cases[] = {
	    {" { \"b\" : 1 , \"a\" : [ true , false , null ] } ",
		"{\"a\":[true,false,null],\"b\":1}"},
	    {"{}", "{}"},
	    {"[]", "[]"},
	    {"-0", "0"},
	    {"\"\\/\"", "\"/\""},
	    {"{\"b\":{\"d\":1,\"c\":2},\"\":0}", "{\"\":0,\"b\":{\"c\":2,\"d\":1}}"},
	    /* by code point: U+FFFD before U+10000, which UTF-16 would put the other way */
	    {"{\"\\ud800\\udc00\":1,\"\\ufffd\":2,\"z\":3}",
		"{\"z\":3,\"\xef\xbf\xbd\":2,\"\xf0\x90\x80\x80\":1}"},
	    {"{\"ab\":1,\"a\":2,\"aa\":3,\"B\":4}", "{\"B\":4,\"a\":2,\"aa\":3,\"ab\":1}"},
	    {"\"\\u00e9\\u0001\\u001F\\u007f\\b\\f\\n\\r\\t\\\"\\\\\"",
		"\"\xc3\xa9\\u0001\\u001f\x7f\\b\\f\\n\\r\\t\\\"\\\\\""},
	    {"-9223372036854775808", "-9223372036854775808"},
	    {"1.5", "1.5"},
	    {"0.1", "0.10000000000000001"},
	};
	struct sp_err err;
	char *text;
	size_t len;

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		json_t *value = NULL;

		assert_int_equal(parse(cases[i].text, &value, &err), SP_OK);
		text = sp_json_canonical(value, &len);
		assert_string_equal(text, cases[i].canonical);
		assert_int_equal(len, strlen(text));
		json_decref(value);
		free(text);
	}
}

static void
test_parse_canonical(void **state)
{
	static const char *const good[] = {"{}", "[]", "0",
	    "{\"a\":[1,-2,\"x\"],\"b\":{\"c\":null}}", "\"\xc3\xa9\"", "\"\\u0001\""};
	static const struct {
		const char *text, *says;
	} bad[] = {
	    {"{ }", "not canonical"},
	    {"{}\n", "not canonical"},
	    {" {}", "not canonical"},
	    {"{\"b\":1,\"a\":2}", "not canonical"},
	    {"{\"a\": 1}", "not canonical"},
	    {"\"\\u00e9\"", "not canonical"},
	    {"\"\\/\"", "not canonical"},
	    {"\"\\u000A\"", "not canonical"},
	    {"\"\\u001F\"", "not canonical"},
	    {"-0", "not canonical"},
	    {"1.5", "no integer"},
	    {"1e0", "no integer"},
	    {"[1,{\"a\":[0.5]}]", "no integer"},
	    {"{\"a\":1.0}", "no integer"},
	    {"{\"a\":1,\"a\":1}", "not valid JSON"},
	    {"", "not valid JSON"},
	};
	struct sp_err err;
	json_t *value;

	(void)state;
	for (size_t i = 0; i < COUNT(good); i++) {
		value = NULL;
		if (sp_json_parse_canonical(good[i], strlen(good[i]), "test", &value, &err) !=
		    SP_OK)
			fail_msg("%s was refused: %s", good[i], err.msg);
		assert_non_null(value);
		json_decref(value);
	}
	for (size_t i = 0; i < COUNT(bad); i++) {
		value = (json_t *)0x1;
		if (sp_json_parse_canonical(
			bad[i].text, strlen(bad[i].text), "test", &value, &err) != SP_E_INVALID)
			fail_msg("%s was not refused", bad[i].text);
		if (strstr(err.msg, bad[i].says) == NULL)
			fail_msg("%s: \"%s\"", bad[i].text, err.msg);
	}
}

static void
test_fields(void **state)
{
	struct sp_err err;
	json_t *obj = NULL, *value = NULL;
	const char *text = NULL;
	int64_t number = 0;

	(void)state;
	assert_int_equal(
	    parse(
		"{\"s\":\"x\",\"i\":5,\"r\":5.0,\"o\":{\"a\":1},\"l\":[1],\"n\":null}", &obj, &err),
	    SP_OK);
	assert_int_equal(sp_json_string(obj, "s", &text, &err), SP_OK);
	assert_string_equal(text, "x");
	assert_int_equal(sp_json_integer(obj, "i", 5, 5, &number, &err), SP_OK);
	assert_int_equal(number, 5);
	assert_int_equal(sp_json_object(obj, "o", &value, &err), SP_OK);
	assert_int_equal(json_object_size(value), 1);
	assert_int_equal(sp_json_array(obj, "l", &value, &err), SP_OK);
	assert_int_equal(json_array_size(value), 1);

	assert_int_equal(sp_json_string(obj, "t", &text, &err), SP_E_INVALID);
	assert_string_equal(err.msg, "field \"t\" is missing");
	assert_int_equal(sp_json_string(obj, "i", &text, &err), SP_E_INVALID);
	assert_string_equal(err.msg, "field \"i\" must be a string, not an integer");
	assert_int_equal(sp_json_string(obj, "n", &text, &err), SP_E_INVALID);
	assert_int_equal(sp_json_integer(obj, "r", 0, 9, &number, &err), SP_E_INVALID);
	assert_string_equal(err.msg, "field \"r\" must be an integer, not a fraction");
	assert_int_equal(sp_json_integer(obj, "s", 0, 9, &number, &err), SP_E_INVALID);
	assert_int_equal(sp_json_integer(obj, "i", 6, 9, &number, &err), SP_E_INVALID);
	assert_string_equal(err.msg, "field \"i\" is 5, allowed is 6 to 9");
	assert_int_equal(sp_json_integer(obj, "i", INT64_MIN, 4, &number, &err), SP_E_INVALID);
	assert_int_equal(sp_json_object(obj, "l", &value, &err), SP_E_INVALID);
	assert_string_equal(err.msg, "field \"l\" must be an object, not an array");
	assert_int_equal(sp_json_array(obj, "o", &value, NULL), SP_E_INVALID);
	/* of something that is no object at all */
	assert_int_equal(sp_json_array(obj, "l", &value, &err), SP_OK);
	assert_int_equal(sp_json_string(value, "s", &text, &err), SP_E_INVALID);
	assert_non_null(strstr(err.msg, "an array, not an object"));
	assert_int_equal(sp_json_string(NULL, "s", &text, &err), SP_E_INVALID);
	/* nothing was written on the way */
	assert_string_equal(text, "x");
	assert_int_equal(number, 5);
	json_decref(obj);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_parse),
	    cmocka_unit_test(test_parse_bad),
	    cmocka_unit_test(test_limits),
	    cmocka_unit_test(test_canonical),
	    cmocka_unit_test(test_parse_canonical),
	    cmocka_unit_test(test_fields),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
