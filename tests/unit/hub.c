/* hub.c -- Hugging Face protocol without a network: hostile answers, the plans of our own replies.
 */
#include "base/json.h"
#include "hub/address.h"
#include "hub/answer.h"
#include "hub/plan.h"

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

static void
test_model(void **state)
{
	struct sp_answer_model m;
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
		    "\"tags\":[\"x\",\"license:apache-2.0\"],\"cardData\":null}",
		  &m, &err),
	    &err);
	assert_string_equal(m.licence, "apache-2.0");
	assert_string_equal(m.gated, "manual");
	assert_true(m.disabled);
	check(model("{\"sha\":\"" C40 "\",\"cardData\":{\"license\":\"other\","
		    "\"license_name\":\"qwen\\u001b[2J\"}}",
		  &m, &err),
	    &err);
	assert_string_equal(m.licence, "other (qwen?[2J)");
	check(model("{\"sha\":\"" C40 "\",\"cardData\":{\"license\":[\"a\",\"b\"]},\"tags\":7}", &m,
		  &err),
	    &err);
	assert_string_equal(m.licence, "a");

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
	    {{404, "RepoNotFound", NULL, NULL, NULL, 0}, SP_E_NOT_FOUND, "token_file"},
	    {{404, "RevisionNotFound", NULL, NULL, NULL, 0}, SP_E_NOT_FOUND, "not this revision"},
	    {{404, "EntryNotFound", NULL, NULL, NULL, 0}, SP_E_NOT_FOUND, "no such file"},
	    {{404, NULL, NULL, NULL, NULL, 1}, SP_E_NOT_FOUND, "no such repository"},
	    {{401, NULL, NULL, NULL, NULL, 0}, SP_E_DENIED, "status 401"},
	    {{401, "GatedRepo", NULL, NULL, NULL, 0}, SP_E_DENIED, "accept its conditions"},
	    {{403, "GatedRepo", NULL, NULL, NULL, 1}, SP_E_DENIED, "has no access"},
	    {{403, NULL, "Access to this resource is disabled.", NULL, NULL, 0}, SP_E_DENIED,
		"disabled"},
	    {{403, NULL, "no\x1b[2J", NULL, NULL, 1}, SP_E_DENIED, "no?[2J"},
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

/* --- the catalog: ids as git makes them
 * -----------------------------------------------------------
 */

/* git hash-object, git write-tree and git ls-tree -r -t of the same files */
static const struct {
	const char *path;
	uint64_t size;
	const char *sha256, *oid;
	int executable;
} files[] = {
    {"a-b", 1, "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881",
	"c1b0730e0133447badcfd47fd144e254807b06e1", 0},
    {"a/sub/y", 2, "c865f6c5ab8d1b0bcd383a5e1e3879d22681c96bf462c269b7581d523fbe70ab",
	"b68025345d5301abad4d9ec9166f455243a0d746", 1},
    {"a/x", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	"e69de29bb2d1d6434b8b29ae775ad8c2e48c5391", 0},
    {"b.json", 2, "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
	"9e26dfeeb6e641a33dae4961196235bdb965b21b", 0},
    {"m.safetensors", 5, H64, "", 0},
};
#define FILES (sizeof(files) / sizeof(files[0]))

static void
add(struct sp_catalog *catalog, const char *name, int64_t version, size_t count)
{
	struct sp_git_oid oids[FILES];
	struct sp_tree t = {0};
	struct sp_hex digest;
	struct sp_err err;
	uint8_t *data = NULL;
	size_t len;

	for (size_t i = 0; i < count; i++) {
		check(sp_tree_add(&t, files[i].path, files[i].size, files[i].sha256,
			  files[i].executable, &err),
		    &err);
		snprintf(oids[i].s, sizeof(oids[i].s), "%s", files[i].oid);
	}
	check(sp_tree_format(&t, &data, &len, &err), &err);
	digest = sp_sha256_hex(data, len);
	free(data);
	check(sp_catalog_add(
		  catalog, name, version, digest.s, "2026-11-24T05:02:03.123Z", &t, oids, &err),
	    &err);
	sp_tree_clear(&t);
}

static void
test_catalog(void **state)
{
	struct sp_catalog catalog = {0};
	const struct sp_catalog_repo *repo;
	const struct sp_catalog_revision *v1, *v2;
	const struct sp_catalog_file *file;
	struct sp_git_oid none = {""};
	struct sp_tree t = {0};
	struct sp_err err;

	(void)state;
	add(&catalog, "org/m", 2, 5);
	add(&catalog, "org/m", 1, 4);
	add(&catalog, "abc", 7, 1);
	assert_null(sp_catalog_find(&catalog, "org"));
	repo = sp_catalog_find(&catalog, "org/m");
	assert_non_null(repo);
	assert_int_equal(repo->count, 2);
	v2 = sp_catalog_revision(repo, "main");
	v1 = sp_catalog_revision(repo, "v1");
	assert_int_equal(v2->version, 2);
	assert_int_equal(v1->version, 1);
	assert_ptr_equal(sp_catalog_revision(repo, v1->commit.s), v1);
	assert_ptr_equal(sp_catalog_revision(repo, "refs/tags/v2"), v2);
	assert_null(sp_catalog_revision(repo, "v3"));
	assert_null(sp_catalog_revision(repo, ""));
	assert_string_equal(
	    sp_catalog_dir(v1, "a")->oid.s, "fd98f827c512917a59ed3aec726ee833968faf1b");
	assert_string_equal(
	    sp_catalog_dir(v1, "a/sub")->oid.s, "70a9ef31049a8e015a636f4f6c1448a1c2b2dab6");
	assert_null(sp_catalog_dir(v1, "a/"));
	assert_null(sp_catalog_dir(v1, ""));
	file = sp_catalog_file(v2, "m.safetensors");
	assert_true(file->lfs);
	assert_int_equal(file->pointer_size, 126);
	assert_string_equal(file->oid.s, "d1ca116d6733584c13cb8bb50b21d5b5b81ee28f");
	assert_null(sp_catalog_file(v1, "m.safetensors"));
	assert_false(sp_catalog_is_lfs("tokenizer.json", 10000000));
	assert_true(sp_catalog_is_lfs("tokenizer.json", 10000001));
	assert_false(sp_catalog_is_lfs(".safetensors", 1));

	/* a small file whose git id nobody worked out is not served */
	check(sp_tree_add(&t, "x", 1, H64, 0, &err), &err);
	t.sorted = 1;
	assert_int_equal(sp_catalog_add(&catalog, "x", 1, H64, "", &t, &none, &err), SP_E_INVALID);
	sp_tree_clear(&t);
	sp_catalog_clear(&catalog);
}

/* --- plans --------------------------------------------------------------------------------------
 */

static struct sp_catalog shop;

static int
open_shop(void **state)
{
	(void)state;
	add(&shop, "org/m", 1, 4);
	add(&shop, "org/m", 2, 5);
	add(&shop, "gpt2", 1, 1);
	return 0;
}

static int
close_shop(void **state)
{
	(void)state;
	sp_catalog_clear(&shop);
	return 0;
}

static const char *
field(const struct sp_http_reply *reply, const char *name)
{
	for (size_t i = 0; i < reply->field_count; i++)
		if (strcmp(reply->fields[i].name, name) == 0)
			return reply->fields[i].value;
	return NULL;
}

static struct sp_http_reply reply = SP_HTTP_REPLY_INIT;
static struct sp_plan_blob blob;
static struct sp_plan_request request;

static unsigned
ask(const char *method, const char *path)
{
	sp_http_reply_clear(&reply);
	request.method = method;
	request.path = path;
	if (request.body == NULL)
		request.body = (const uint8_t *)"";
	sp_plan_make(&shop, &request, &reply, &blob);
	return reply.status;
}

static json_t *
json(void)
{
	json_t *root = NULL;
	struct sp_err err;

	check(sp_json_parse(reply.body, reply.body_len, "reply", &root, &err), &err);
	return root;
}

static int
plan_setup(void **state)
{
	(void)state;
	memset(&request, 0, sizeof(request));
	return 0;
}

static int
plan_teardown(void **state)
{
	(void)state;
	sp_http_reply_clear(&reply);
	return 0;
}

static void
test_plan_resolve(void **state)
{
	const struct sp_catalog_revision *v2 =
	    sp_catalog_revision(sp_catalog_find(&shop, "org/m"), "main");
	char path[128];

	(void)state;
	snprintf(path, sizeof(path), "/org/m/resolve/%s/m.safetensors", v2->commit.s);
	assert_int_equal(ask("HEAD", path), 200);
	assert_string_equal(field(&reply, "X-Repo-Commit"), v2->commit.s);
	assert_string_equal(field(&reply, "ETag"), "\"" H64 "\"");
	assert_string_equal(field(&reply, "X-Linked-Etag"), "\"" H64 "\"");
	assert_string_equal(field(&reply, "X-Linked-Size"), "5");
	assert_string_equal(blob.digest, H64);
	assert_int_equal(blob.length, 5);

	assert_int_equal(ask("GET", "/org/m/resolve/main/a%2Fsub/y"), 200);
	assert_string_equal(blob.digest, files[1].sha256);
	assert_string_equal(field(&reply, "ETag"), "\"b68025345d5301abad4d9ec9166f455243a0d746\"");
	assert_null(field(&reply, "X-Linked-Etag"));
	assert_int_equal(ask("GET", "/gpt2/resolve/v1/a-b"), 200);
	assert_int_equal(ask("GET", "/org%2Fm/raw/v1/b.json"), 200);
	assert_int_equal(ask("GET", "/org/m/resolve/refs%2Fheads%2Fmain/b.json"), 200);

	assert_int_equal(ask("GET", "/org/m/resolve/main/none.json"), 404);
	assert_string_equal(field(&reply, "X-Error-Code"), "EntryNotFound");
	assert_string_equal(field(&reply, "X-Repo-Commit"), v2->commit.s);
	assert_string_equal(blob.digest, "");
	assert_int_equal(ask("GET", "/org/m/resolve/main/a"), 404);
	assert_int_equal(ask("GET", "/org/m/resolve/main/../b.json"), 404);
	assert_int_equal(ask("GET", "/org/m/resolve/main/%2e%2e/b.json"), 404);
	assert_int_equal(ask("GET", "/org/m/resolve/main"), 404);
	assert_int_equal(ask("GET", "/org/m/resolve/v9/b.json"), 404);
	assert_string_equal(field(&reply, "X-Error-Code"), "RevisionNotFound");
	assert_int_equal(ask("GET", "/org/other/resolve/main/b.json"), 404);
	assert_string_equal(field(&reply, "X-Error-Code"), "RepoNotFound");
	assert_int_equal(ask("GET", "/org/m/resolve/main/%zz"), 400);
	assert_int_equal(ask("GET", "/org/m/resolve/main/a%00"), 400);
	assert_int_equal(ask("GET", "/"), 404);
	assert_int_equal(ask("GET", "*"), 404);
	assert_int_equal(ask("DELETE", "/org/m/resolve/main/b.json"), 405);
	assert_int_equal(ask("POST", "/org/m/resolve/main/b.json"), 405);
}

static void
test_plan_range(void **state)
{
	static const struct {
		const char *range;
		unsigned status;
		uint64_t offset, length;
		const char *content_range;
	} cases[] = {
	    {"bytes=0-0", 206, 0, 1, "bytes 0-0/5"},
	    {"bytes=1-", 206, 1, 4, "bytes 1-4/5"},
	    {"bytes=2-99", 206, 2, 3, "bytes 2-4/5"},
	    {"bytes=-2", 206, 3, 2, "bytes 3-4/5"},
	    {"bytes=-99", 206, 0, 5, "bytes 0-4/5"},
	    {"bytes=0-18446744073709551615", 200, 0, 5, NULL},
	    {"bytes=5-", 416, 0, 0, "bytes */5"},
	    {"bytes=-0", 416, 0, 0, "bytes */5"},
	    {"bytes=3-2", 200, 0, 5, NULL},
	    {"bytes=0-1,3-4", 200, 0, 5, NULL},
	    {"bytes=a-b", 200, 0, 5, NULL},
	    {"bytes=", 200, 0, 5, NULL},
	    {"bytes=-", 200, 0, 5, NULL},
	    {"lines=0-1", 200, 0, 5, NULL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		request.range = cases[i].range;
		assert_int_equal(ask("GET", "/org/m/resolve/main/m.safetensors"), cases[i].status);
		if (cases[i].status != 416) {
			assert_int_equal(blob.offset, cases[i].offset);
			assert_int_equal(blob.length, cases[i].length);
		} else {
			assert_string_equal(blob.digest, "");
		}
		if (cases[i].content_range != NULL)
			assert_string_equal(field(&reply, "Content-Range"), cases[i].content_range);
		else
			assert_null(field(&reply, "Content-Range"));
	}
	/* an empty file has no ranges */
	request.range = "bytes=0-0";
	assert_int_equal(ask("GET", "/org/m/resolve/main/a/x"), 416);
	request.if_range = "\"another\"";
	assert_int_equal(ask("GET", "/org/m/resolve/main/m.safetensors"), 200);
	request.if_range = "\"" H64 "\"";
	assert_int_equal(ask("GET", "/org/m/resolve/main/m.safetensors"), 206);
	request.if_none_match = "W/\"x\", \"" H64 "\"";
	assert_int_equal(ask("GET", "/org/m/resolve/main/m.safetensors"), 304);
	assert_string_equal(blob.digest, "");
}

static const char *
path_of(json_t *list, size_t i)
{
	return json_string_value(json_object_get(json_array_get(list, i), "path"));
}

static void
test_plan_tree(void **state)
{
	json_t *list;

	(void)state;
	assert_int_equal(ask("GET", "/api/models/org/m/tree/main"), 200);
	list = json();
	assert_int_equal(json_array_size(list), 4);
	assert_string_equal(path_of(list, 0), "a-b");
	assert_string_equal(path_of(list, 1), "a");
	assert_string_equal(path_of(list, 3), "m.safetensors");
	assert_string_equal(
	    json_string_value(json_object_get(json_array_get(list, 1), "type")), "directory");
	assert_string_equal(json_string_value(json_object_get(
				json_object_get(json_array_get(list, 3), "lfs"), "oid")),
	    H64);
	assert_null(json_object_get(json_array_get(list, 3), "xetHash"));
	json_decref(list);

	request.recursive = "True";
	request.expand = "True";
	request.limit = "3";
	request.host = "hub.local:8780";
	assert_int_equal(ask("GET", "/api/models/org/m/tree/main"), 200);
	list = json();
	assert_int_equal(json_array_size(list), 3);
	assert_string_equal(path_of(list, 1), "a");
	assert_string_equal(path_of(list, 2), "a/sub");
	assert_non_null(json_object_get(json_array_get(list, 0), "lastCommit"));
	json_decref(list);
	assert_string_equal(field(&reply, "Link"),
	    "<http://hub.local:8780/api/models/org/m/tree/main?recursive=true&expand=true&limit=3&"
	    "cursor=3>; rel=\"next\"");
	request.cursor = "3";
	assert_int_equal(ask("GET", "/api/models/org/m/tree/main"), 200);
	list = json();
	assert_int_equal(json_array_size(list), 3);
	assert_string_equal(path_of(list, 0), "a/sub/y");
	assert_string_equal(path_of(list, 2), "b.json");
	json_decref(list);
	request.cursor = "6";
	assert_int_equal(ask("GET", "/api/models/org/m/tree/main"), 200);
	list = json();
	assert_int_equal(json_array_size(list), 1);
	json_decref(list);
	assert_null(field(&reply, "Link"));
	/* a Host that would break the field is not echoed */
	request.cursor = NULL;
	request.host = "evil>; rel=\"next\", <x";
	assert_int_equal(ask("GET", "/api/models/org/m/tree/main"), 200);
	assert_memory_equal(field(&reply, "Link"), "</api/models/", 13);
	request.cursor = "x";
	assert_int_equal(ask("GET", "/api/models/org/m/tree/main"), 400);
	request.cursor = NULL;
	request.limit = NULL;
}

static void
test_plan_tree_below(void **state)
{
	json_t *list;

	(void)state;
	request.recursive = "True";
	assert_int_equal(ask("GET", "/api/models/org/m/tree/main/a"), 200);
	list = json();
	assert_int_equal(json_array_size(list), 3);
	assert_string_equal(path_of(list, 0), "a/sub");
	assert_string_equal(path_of(list, 2), "a/x");
	json_decref(list);
	request.recursive = NULL;
	assert_int_equal(ask("GET", "/api/models/org/m/tree/main/a%2Fsub"), 200);
	list = json();
	assert_int_equal(json_array_size(list), 1);
	json_decref(list);
	/* what transformers probes for */
	assert_int_equal(ask("GET", "/api/models/org/m/tree/main/additional_chat_templates"), 404);
	assert_string_equal(field(&reply, "X-Error-Code"), "EntryNotFound");
	assert_int_equal(ask("GET", "/api/models/org/m/tree/v7"), 404);
	assert_string_equal(field(&reply, "X-Error-Code"), "RevisionNotFound");
	assert_int_equal(ask("GET", "/api/models/nobody/nothing/tree/main"), 404);
	assert_string_equal(field(&reply, "X-Error-Code"), "RepoNotFound");
}

static void
test_plan_api(void **state)
{
	static const char form[] = "paths=b.json&paths=a%2Fsub&paths=none&expand=False";
	json_t *value;

	(void)state;
	request.blobs = "true";
	assert_int_equal(ask("GET", "/api/models/org/m/revision/v1"), 200);
	value = json();
	assert_string_equal(json_string_value(json_object_get(value, "id")), "org/m");
	assert_int_equal(json_array_size(json_object_get(value, "siblings")), 4);
	json_decref(value);
	assert_int_equal(ask("GET", "/api/models/gpt2"), 200);
	assert_int_equal(ask("HEAD", "/api/models/gpt2"), 200);
	assert_int_equal(ask("GET", "/api/models"), 200);
	value = json();
	assert_int_equal(json_array_size(value), 2);
	json_decref(value);
	assert_int_equal(ask("GET", "/api/models/org/m/refs"), 200);
	value = json();
	assert_int_equal(json_array_size(json_object_get(value, "tags")), 2);
	assert_int_equal(json_array_size(json_object_get(value, "converts")), 0);
	json_decref(value);
	assert_int_equal(ask("GET", "/api/models/org/m/auth-check"), 200);
	assert_int_equal(ask("GET", "/api/models/org/m/xet-read-token/main"), 404);
	assert_int_equal(ask("GET", "/api/datasets/org/m"), 404);

	request.body = (const uint8_t *)form;
	request.body_len = sizeof(form) - 1;
	assert_int_equal(ask("POST", "/api/models/org/m/paths-info/main"), 200);
	value = json();
	assert_int_equal(json_array_size(value), 2);
	assert_string_equal(path_of(value, 1), "a/sub");
	json_decref(value);
	assert_int_equal(ask("POST", "/api/models/org/m/paths-info"), 404);
	assert_int_equal(ask("GET", "/api/models/org/m/paths-info/main"), 405);
	assert_int_equal(ask("POST", "/api/models/org/m/revision/main"), 405);
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
	    "fdff::1", "fe80::1", "fec0::1", "ff02::1"};
	static const char *const outside[] = {"1.1.1.1", "9.255.255.255", "11.0.0.0",
	    "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0", "169.253.0.1",
	    "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.167.255.255", "198.20.0.0",
	    "223.255.255.255", "2001:4860:4860::8888", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1",
	    "fbff::1", "fe00::1"};
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

int
main(void)
{
#define P(f) cmocka_unit_test_setup_teardown(f, plan_setup, plan_teardown)
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_model),
	    cmocka_unit_test(test_tree),
	    cmocka_unit_test(test_link),
	    cmocka_unit_test(test_fail),
	    cmocka_unit_test(test_addresses),
	    cmocka_unit_test(test_catalog),
	    P(test_plan_resolve),
	    P(test_plan_range),
	    P(test_plan_tree),
	    P(test_plan_tree_below),
	    P(test_plan_api),
	};

	return cmocka_run_group_tests(tests, open_shop, close_shop);
}
