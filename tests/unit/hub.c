/* hub.c -- Hugging Face protocol without a network: hostile answers, addresses. */
#include "base/json.h"
#include "http/range.h"
#include "hub/address.h"
#include "hub/answer.h"
#include "hub/retry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define C40 "0123456789abcdef0123456789abcdef01234567"
#define H64 "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

static void
check(enum sp_code code, const struct sp_err *err)
{
	if (code != SP_OK)
		fail_msg("%s: %s", sp_err_word(code), err->msg);
}

/* --- answers ------------------------------------------------------------------------------------
 */

static enum sp_code
model(const char *text, struct sp_answer_model *out, struct sp_err *err)
{
	return sp_answer_model_parse((const uint8_t *)text, strlen(text), out, err);
}

/* What becomes of cardData.license. */
static const char *
licence(const char *json, struct sp_answer_model *m)
{
	char *text =
	    sp_xasprintf("{\"sha\":\"" C40 "\",\"tags\":7,\"cardData\":{\"license\":%s}}", json);
	struct sp_err err;

	check(model(text, m, &err), &err);
	free(text);
	return m->licence;
}

static void
test_model(void **state)
{
	struct sp_answer_model m;
	char words[1024];
	struct sp_err err;

	(void)state;
	check(model("{\"sha\":\"" C40 "\",\"gated\":false,\"cardData\":{\"license\":\"mit\"},"
		    "\"disabled\":false,\"siblings\":[{\"rfilename\":\"x\"}]}",
		  &m, &err),
	    &err);
	assert_string_equal(m.commit.s, C40);
	assert_string_equal(m.licence, "mit");
	assert_string_equal(m.gated, "no");
	assert_false(m.disabled);
	check(model("{\"sha\":\"" C40 "\",\"gated\":\"manual\",\"disabled\":true,"
		    "\"tags\":[\"x\",\"license:apache-2.0\",\"license:mit\"],\"cardData\":null}",
		  &m, &err),
	    &err);
	assert_string_equal(m.licence, "apache-2.0, mit");
	assert_string_equal(m.gated, "manual");
	assert_true(m.disabled);
	check(model("{\"sha\":\"" C40 "\",\"cardData\":{\"license\":\"other\","
		    "\"license_name\":\"qwen\\u001b[2J\"}}",
		  &m, &err),
	    &err);
	assert_string_equal(m.licence, "other (qwen?[2J)");
	assert_string_equal(licence("[\"a\",7,\"b\"],\"x\":[]", &m), "a, b");
	assert_string_equal(licence("\"mit, apache-2.0\"", &m), "mit? apache-2.0");
	assert_string_equal(
	    licence("\"other\",\"license_name\":\"x), mit (\"", &m), "other (x)? mit ()");
	assert_string_equal(licence("\"\"", &m), "");
	assert_string_equal(licence("{\"a\":1}", &m), "");
	/* more than fit are never taken for a shorter list, nor a long word for a short one */
	memset(words, 0, sizeof(words));
	for (size_t i = 0; i < 90; i++)
		snprintf(words + strlen(words), sizeof(words) - strlen(words), "%s\"mit\"",
		    i > 0 ? "," : "[");
	strcat(words, "]");
	licence(words, &m);
	assert_true(strlen(m.licence) > 200);
	assert_string_equal(m.licence + strlen(m.licence) - 10, ", mit, ...");
	memset(words, 'a', 200);
	words[0] = words[200] = '"';
	words[201] = '\0';
	assert_true(strlen(licence(words, &m)) >= 64);
	assert_string_equal(m.licence + strlen(m.licence) - 4, "a...");
	strcat(words, ",\"license_name\":");
	memmove(words + strlen(words), words, 201);
	words[strlen("\"\",\"license_name\":") + 199 + 201] = '\0';
	assert_string_equal(licence(words, &m) + strlen(m.licence) - 5, "a...)");

	assert_int_equal(model("", &m, &err), SP_E_INVALID);
	assert_int_equal(model("[]", &m, &err), SP_E_INVALID);
	assert_int_equal(model("{\"sha\":null}", &m, &err), SP_E_INVALID);
	assert_int_equal(model("{\"sha\":\"main\"}", &m, &err), SP_E_INVALID);
	assert_non_null(strstr(err.msg, "sha"));
	assert_int_equal(
	    model("{\"sha\":\"" C40 "\",\"sha\":\"" C40 "\"}", &m, &err), SP_E_INVALID);
}

static enum sp_code
tree(const char *text, struct sp_answer_tree *out, struct sp_err *err)
{
	return sp_answer_tree_parse((const uint8_t *)text, strlen(text), out, err);
}

#define FILE_OF(path) "{\"type\":\"file\",\"path\":\"" path "\",\"size\":2,\"oid\":\"" C40 "\"}"

static void
test_tree(void **state)
{
	static const struct {
		const char *text, *says;
	} bad[] = {
	    {"{}", "no JSON array"},
	    {"[7]", "entry 0"},
	    {"[{\"path\":\"a\"}]", "\"type\" is missing"},
	    {"[{\"type\":\"file\"}]", "\"path\" is missing"},
	    {"[{\"type\":\"commit\",\"path\":\"a\"}]", "neither a file nor a directory"},
	    {"[{\"type\":\"symlink\",\"path\":\"a\"}]", "neither a file nor a directory"},
	    {"[" FILE_OF("../a") "]", "\"..\""},
	    {"[" FILE_OF("/etc/passwd") "]", "not relative"},
	    {"[" FILE_OF("a\\u0000b") "]", "JSON"},
	    {"[" FILE_OF("a\\nb") "]", "control"},
	    {"[" FILE_OF("a\\\\b") "]", "backslash"},
	    {"[" FILE_OF("") "]", "empty"},
	    {"[" FILE_OF("ok") ",{\"type\":\"file\",\"path\":\"b\",\"size\":-1,\"oid\":\"" C40
			       "\"}]",
		"entry 1: \"b\": field \"size\""},
	    {"[{\"type\":\"file\",\"path\":\"b\",\"size\":1.5,\"oid\":\"" C40 "\"}]", "size"},
	    {"[{\"type\":\"file\",\"path\":\"b\",\"size\":99999999999999999999,\"oid\":\"" C40
	     "\"}]",
		"JSON"},
	    {"[{\"type\":\"file\",\"path\":\"b\",\"size\":1,\"oid\":\"zz\"}]", "oid"},
	    {"[{\"type\":\"file\",\"path\":\"b\",\"size\":1,\"oid\":\"" C40
	     "\",\"lfs\":{\"oid\":\"" H64 "\",\"size\":2}}]",
		"differ"},
	    {"[{\"type\":\"file\",\"path\":\"b\",\"size\":1,\"oid\":\"" C40
	     "\",\"lfs\":{\"oid\":\"sha256:" H64 "\",\"size\":1}}]",
		"lfs.oid"},
	    {"[{\"type\":\"file\",\"path\":\"b\",\"size\":1,\"oid\":\"" C40 "\",\"lfs\":[]}]",
		"oid"},
	    {"[{\"type\":\"file\",\"path\":\"a\",\"size\":9223372036854775807,\"oid\":\"" C40
	     "\"}," FILE_OF("b") "]",
		"63 bits"},
	};
	struct sp_answer_tree t = {0};
	struct sp_err err;

	(void)state;
	check(tree("[{\"type\":\"directory\",\"path\":\"d\",\"oid\":\"x\",\"size\":0},"
		   "{\"type\":\"file\",\"path\":\"d/m.safetensors\",\"size\":5,\"oid\":\"" C40
		   "\",\"lfs\":{\"oid\":\"" H64 "\",\"size\":5,\"pointerSize\":126},"
		   "\"xetHash\":\"abc\"}]",
		  &t, &err),
	    &err);
	check(tree("[" FILE_OF("config.json") "]", &t, &err), &err);
	assert_int_equal(t.count, 2);
	assert_int_equal(t.bytes, 7);
	assert_true(t.files[0].lfs);
	assert_string_equal(t.files[0].sha256.s, H64);
	assert_false(t.files[1].lfs);
	assert_string_equal(t.files[1].oid.s, C40);
	sp_answer_tree_clear(&t);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		enum sp_code code = tree(bad[i].text, &t, &err);

		if (code == SP_OK || strstr(err.msg, bad[i].says) == NULL)
			fail_msg(
			    "%zu: %s: not \"%s\"", i, code == SP_OK ? "ok" : err.msg, bad[i].says);
		sp_answer_tree_clear(&t);
	}
}

static void
test_link(void **state)
{
	static const char base[] = "https://hub.example/api/models/a/tree/b";
	static const char *const none[] = {"", "<https://hub.example/x>",
	    "<https://hub.example/x>; rel=\"prev\"", "<https://hub.example/x>; rel=nextish",
	    "<https://hub.example/x>; title=\"rel=next\"; rel=last", "rel=next"};
	static const char *const away[] = {"<https://evil.example/x>; rel=\"next\"",
	    "<http://hub.example/x>; rel=\"next\"", "<//evil/x>; rel=next",
	    "<https://hub.example@evil/x>; rel=next", "<x>; rel=next"};
	struct sp_err err;
	char *next;

	(void)state;
	check(sp_answer_next("<https://hub.example/x?cursor=1,2>; rel=\"next\"", base, &next, &err),
	    &err);
	assert_string_equal(next, "https://hub.example/x?cursor=1,2");
	free(next);
	check(sp_answer_next("<https://hub.example/p>; rel=prev, </n>; a=\"b,c\"; REL=\"x next\"",
		  base, &next, &err),
	    &err);
	assert_string_equal(next, "https://hub.example/n");
	free(next);
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
		check(sp_answer_next(none[i], base, &next, &err), &err);
		assert_null(next);
	}
	for (size_t i = 0; i < sizeof(away) / sizeof(away[0]); i++) {
		assert_int_equal(sp_answer_next(away[i], base, &next, &err), SP_E_DENIED);
		assert_null(next);
	}
	assert_int_equal(sp_answer_next("<https://hub.example/x", base, &next, &err), SP_E_INVALID);
}

static void
test_fail(void **state)
{
	static const struct {
		struct sp_answer_failure f;
		enum sp_code code;
		const char *says;
	} cases[] = {
	    {{404, "RepoNotFound", NULL, NULL, NULL, 0}, SP_E_NOT_FOUND, "set fetcherd.token_file"},
	    {{401, "RepoNotFound", NULL, NULL, NULL, 0}, SP_E_NOT_FOUND,
		"a data set is named hf-dataset:"},
	    {{401, "RepoNotFound", NULL, NULL, NULL, 1}, SP_E_NOT_FOUND, "does not reach it"},
	    {{404, "RevisionNotFound", NULL, NULL, NULL, 0}, SP_E_NOT_FOUND, "not this revision"},
	    {{404, "EntryNotFound", NULL, NULL, NULL, 0}, SP_E_NOT_FOUND, "no such file"},
	    {{404, NULL, NULL, NULL, NULL, 1}, SP_E_NOT_FOUND, "no such repository"},
	    {{401, NULL, NULL, NULL, NULL, 0}, SP_E_DENIED, "status 401): set"},
	    {{401, NULL, "Invalid credentials in Authorization header", NULL, NULL, 1}, SP_E_DENIED,
		"expired"},
	    {{401, "GatedRepo", NULL, NULL, NULL, 0}, SP_E_DENIED, "set fetcherd.token_file"},
	    {{403, "GatedRepo", NULL, NULL, NULL, 1}, SP_E_DENIED, "has no access"},
	    {{403, NULL, "Access to this resource is disabled.", NULL, NULL, 0}, SP_E_DENIED,
		"disabled"},
	    {{403, NULL, "no\x1b[2J", NULL, NULL, 1}, SP_E_DENIED, "no?[2J"},
	    {{403, NULL, NULL, NULL, NULL, 1}, SP_E_DENIED, "the right to read"},
	    {{429, NULL, NULL, "55", "\"api\";r=0;t=55", 0}, SP_E_UNREACHABLE, "retry after 55"},
	    {{503, NULL, NULL, NULL, NULL, 0}, SP_E_UNREACHABLE, "status 503"},
	    {{418, NULL, "tea", NULL, NULL, 0}, SP_E_UNSUPPORTED, "status 418: tea"},
	};
	struct sp_err err;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		enum sp_code code =
		    sp_answer_fail(&cases[i].f, "hf:a/b@main", "https://hub.example", &err);

		assert_int_equal(code, cases[i].code);
		if (strstr(err.msg, cases[i].says) == NULL ||
		    strstr(err.msg, "hf:a/b@main") == NULL)
			fail_msg("%zu: %s", i, err.msg);
	}
}

/* --- addresses ----------------------------------------------------------------------------------
 */

static int
is_inside(const char *text)
{
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
	struct sockaddr_in v4 = {.sin_family = AF_INET};

	if (strchr(text, ':') == NULL) {
		assert_int_equal(inet_pton(AF_INET, text, &v4.sin_addr), 1);
		return sp_address_is_inside((const struct sockaddr *)&v4);
	}
	assert_int_equal(inet_pton(AF_INET6, text, &v6.sin6_addr), 1);
	return sp_address_is_inside((const struct sockaddr *)&v6);
}

static void
test_addresses(void **state)
{
	static const char *const inside[] = {"0.0.0.0", "10.0.0.0", "10.255.255.255", "100.64.0.1",
	    "100.127.255.255", "127.0.0.1", "127.255.255.255", "169.254.169.254", "172.16.0.1",
	    "172.31.255.255", "192.0.0.8", "192.168.3.4", "198.19.0.1", "224.0.0.1",
	    "255.255.255.255", "::", "::1", "::ffff:10.0.0.1", "64:ff9b::127.0.0.1", "fc00::1",
	    "fdff::1", "fe80::1", "fec0::1", "ff02::1", "64:ff9b:1::1.1.1.1", "2002:a00:1::1",
	    "2002:7f00:1::"};
	static const char *const outside[] = {"1.1.1.1", "9.255.255.255", "11.0.0.0",
	    "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0", "169.253.0.1",
	    "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.167.255.255", "198.20.0.0",
	    "223.255.255.255", "2001:4860:4860::8888", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1",
	    "fbff::1", "fe00::1", "64:ff9b:2::1", "2002:101:101::1"};
	struct sockaddr other = {.sa_family = AF_UNIX};

	(void)state;
	for (size_t i = 0; i < sizeof(inside) / sizeof(inside[0]); i++)
		if (!is_inside(inside[i]))
			fail_msg("%s is inside", inside[i]);
	for (size_t i = 0; i < sizeof(outside) / sizeof(outside[0]); i++)
		if (is_inside(outside[i]))
			fail_msg("%s is outside", outside[i]);
	assert_true(sp_address_is_inside(&other));
}

/* --- waiting ------------------------------------------------------------------------------------
 */

static void
test_hints(void **state)
{
	static const struct {
		const char *retry_after, *rate_limit;
		int64_t ms;
	} cases[] = {
	    {NULL, NULL, -1},
	    {"0", NULL, 0},
	    {"17", NULL, 17000},
	    {"17", "\"api\";r=0;t=55", 17000},
	    {"Tue, 24 Nov 2026 12:00:30 GMT", NULL, 30000},
	    {"Tue, 24 Nov 2026 11:00:00 GMT", NULL, 0},
	    {"Tue, 24 Nov 2099 11:00:00 GMT", NULL, SP_RETRY_HINT_MAX_MS},
	    {"99999999999999999999999999", NULL, SP_RETRY_HINT_MAX_MS},
	    {"soon", NULL, -1},
	    {"Tue, 24 Nov 2026 12:00:30 GMT, or later", NULL, -1},
	    {"-5", NULL, -1},
	    {"", "\"api\";r=0;t=55", 55000},
	    {NULL, "\"api\";r=0;t=55", 55000},
	    {NULL, "\"api\"; r=0; t=55", 55000},
	    {NULL, "\"api\";r=3;t=55", -1},
	    {NULL, "\"a;r=0;t=9\";r=3;t=55", -1},
	    {NULL, "\"api\";r=0;t=5, \"resolvers\";r=0;t=70,\"x\";r=4;t=300", 70000},
	    {NULL, "\"api\";t=5", -1},
	    {NULL, ",,;;r=;t=", -1},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		/* 2026-11-24T12:00:00Z */
		int64_t ms = sp_retry_hint_ms(
		    cases[i].retry_after, cases[i].rate_limit, INT64_C(1795521600000));

		if (ms != cases[i].ms)
			fail_msg("%zu: %lld", i, (long long)ms);
	}
	/* doubles, has an end, and is never more than without chance, nor less than half of it */
	for (unsigned n = 1; n < 100; n++) {
		int64_t all = sp_retry_backoff_ms(n, 500, 0);
		int64_t least = sp_retry_backoff_ms(n, 500, 1023);

		assert_true(all <= SP_RETRY_BACKOFF_MAX_MS && least >= all / 2 && least <= all);
		assert_int_equal(all, n < 8 ? 500 << (n - 1) : SP_RETRY_BACKOFF_MAX_MS);
	}
}

static void
test_content_range(void **state)
{
	static const struct {
		const char *text;
		uint64_t offset, length, size; /* length 0: refused */
	} cases[] = {
	    {"bytes 0-9/10", 0, 10, 10},
	    {"bytes 3-3/10", 3, 1, 10},
	    {"bytes 3-5/*", 3, 3, UINT64_MAX},
	    {"bytes 18446744073709551600-18446744073709551604/*", UINT64_MAX - 15, 5, UINT64_MAX},
	    {NULL, 0, 0, 0},
	    {"", 0, 0, 0},
	    {"bytes 0-10/10", 0, 0, 0},
	    {"bytes 5-3/10", 0, 0, 0},
	    {"bytes */10", 0, 0, 0},
	    {"bytes 0-9", 0, 0, 0},
	    {"bytes 0-9/10x", 0, 0, 0},
	    {"bytes=0-9/10", 0, 0, 0},
	    {"bytes 0-/10", 0, 0, 0},
	    {"bytes -9/10", 0, 0, 0},
	    {"bytes 0-18446744073709551615/*", 0, 0, 0},
	    {"bytes 0-99999999999999999999999/*", 0, 0, 0},
	};
	uint64_t offset, length, size;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int taken = sp_range_parse_content(cases[i].text, &offset, &length, &size);

		if (taken != (cases[i].length > 0) ||
		    (taken && (offset != cases[i].offset || length != cases[i].length ||
				  size != cases[i].size)))
			fail_msg("%zu: %s", i, cases[i].text);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_model),
	    cmocka_unit_test(test_tree),
	    cmocka_unit_test(test_link),
	    cmocka_unit_test(test_fail),
	    cmocka_unit_test(test_addresses),
	    cmocka_unit_test(test_hints),
	    cmocka_unit_test(test_content_range),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
