/* hub_plan.c -- what our hub answers, without a network: the catalog, and the plans of replies. */
#include "base/json.h"
#include "hub/listing.h"
#include "hub/plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define H64 "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

static void
check(enum sp_code code, const struct sp_err *err)
{
	if (code != SP_OK)
		fail_msg("%s: %s", sp_err_word(code), err->msg);
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
add(struct sp_catalog *catalog, enum sp_catalog_kind kind, const char *name, int64_t version,
    size_t count)
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
	check(sp_catalog_add(catalog, kind, name, version, digest.s, "2026-11-24T05:02:03.123Z", &t,
		  oids, &err),
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
	add(&catalog, SP_CATALOG_MODEL, "org/m", 2, 5);
	add(&catalog, SP_CATALOG_MODEL, "org/m", 1, 4);
	add(&catalog, SP_CATALOG_MODEL, "abc", 7, 1);
	add(&catalog, SP_CATALOG_DATASET, "org/m", 1, 1);
	add(&catalog, SP_CATALOG_DATASET, "aaa", 1, 1);
	assert_int_equal(catalog.count, 4);
	assert_int_equal(sp_catalog_find(&catalog, SP_CATALOG_DATASET, "org/m")->count, 1);
	assert_null(sp_catalog_find(&catalog, SP_CATALOG_DATASET, "abc"));
	assert_null(sp_catalog_find(&catalog, SP_CATALOG_MODEL, "aaa"));
	assert_null(sp_catalog_find(&catalog, SP_CATALOG_MODEL, "org"));
	repo = sp_catalog_find(&catalog, SP_CATALOG_MODEL, "org/m");
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
	assert_int_equal(
	    sp_catalog_add(&catalog, SP_CATALOG_MODEL, "x", 1, H64, "", &t, &none, &err),
	    SP_E_INVALID);
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
	add(&shop, SP_CATALOG_MODEL, "org/m", 1, 4);
	add(&shop, SP_CATALOG_MODEL, "org/m", 2, 5);
	add(&shop, SP_CATALOG_MODEL, "gpt2", 1, 1);
	add(&shop, SP_CATALOG_MODEL, "other/M2", 1, 1);
	add(&shop, SP_CATALOG_DATASET, "org/d", 1, 5);
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
	    sp_catalog_revision(sp_catalog_find(&shop, SP_CATALOG_MODEL, "org/m"), "main");
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
	assert_string_equal(field(&reply, "Allow"), "GET, HEAD");
	assert_int_equal(ask("POST", "/org/m/resolve/main/b.json"), 405);
	assert_string_equal(field(&reply, "Allow"), "GET, HEAD");
	assert_int_equal(ask("GET", "/org/m/resolve/main/a>b"), 400);
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
	/* HEAD has no ranges, as the RFC wants it; git's pointer has none either */
	request.range = "bytes=1-2";
	assert_int_equal(ask("HEAD", "/org/m/resolve/main/m.safetensors"), 200);
	assert_int_equal(blob.length, 5);
	assert_int_equal(ask("GET", "/org/m/raw/main/m.safetensors"), 200);
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

/* raw is what git has: of an LFS file its pointer, whose id the listing shows */
static void
test_plan_raw(void **state)
{
	static const char pointer[] =
	    "version https://git-lfs.github.com/spec/v1\noid sha256:" H64 "\nsize 5\n";

	(void)state;
	assert_int_equal(ask("GET", "/org/m/raw/main/m.safetensors"), 200);
	assert_string_equal(blob.digest, "");
	assert_int_equal(reply.body_len, sizeof(pointer) - 1);
	assert_memory_equal(reply.body, pointer, sizeof(pointer) - 1);
	assert_string_equal(field(&reply, "ETag"), "\"d1ca116d6733584c13cb8bb50b21d5b5b81ee28f\"");
	assert_non_null(field(&reply, "X-Repo-Commit"));
	request.if_none_match = "\"d1ca116d6733584c13cb8bb50b21d5b5b81ee28f\"";
	assert_int_equal(ask("GET", "/org/m/raw/main/m.safetensors"), 304);
	assert_null(reply.body);
	request.if_none_match = NULL;
	assert_int_equal(ask("GET", "/org/m/raw/main/a/sub/y"), 200);
	assert_string_equal(blob.digest, files[1].sha256);
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
	request.limit = "0";
	assert_int_equal(ask("GET", "/api/models/org/m/tree/main"), 400);
	request.limit = "18446744073709551616";
	assert_int_equal(ask("GET", "/api/models/org/m/tree/main"), 400);
	/* behind a proxy that ends TLS, pages are there where the first one was */
	request.limit = "1";
	request.host = "hub.example";
	request.forwarded_proto = "https";
	assert_int_equal(ask("GET", "/api/models/org/m/tree/main"), 200);
	assert_memory_equal(field(&reply, "Link"), "<https://hub.example/api/models/", 32);
}

/* The size of a page: 1000 entries, 50 with what an expanded listing tells of each. */
static void
test_plan_page(void **state)
{
	struct sp_catalog many = {0};
	struct sp_http_reply got = SP_HTTP_REPLY_INIT;
	struct sp_tree t = {0};
	struct sp_err err;
	static const size_t pages[] = {SP_LISTING_PAGE, SP_LISTING_PAGE_EXPANDED};
	struct sp_git_oid *oids = calloc(1500, sizeof(*oids));
	json_t *list;

	(void)state;
	for (int i = 0; i < 1500; i++) {
		char name[16];

		snprintf(name, sizeof(name), "%04d", i);
		check(sp_tree_add(&t, name, 0, H64, 0, &err), &err);
		snprintf(oids[i].s, sizeof(oids[i].s), "%040d", i);
	}
	t.sorted = 1;
	check(sp_catalog_add(&many, SP_CATALOG_MODEL, "many", 1, H64, "", &t, oids, &err), &err);
	request.method = "GET";
	request.path = "/api/models/many/tree/main";
	request.body = (const uint8_t *)"";
	for (int expand = 0; expand < 2; expand++) {
		request.expand = expand ? "True" : "False";
		sp_plan_make(&many, &request, &got, &blob);
		assert_int_equal(got.status, 200);
		check(sp_json_parse(got.body, got.body_len, "reply", &list, &err), &err);
		assert_int_equal(json_array_size(list), pages[expand]);
		json_decref(list);
		assert_non_null(field(&got, "Link"));
		sp_http_reply_clear(&got);
	}
	sp_catalog_clear(&many);
	sp_tree_clear(&t);
	free(oids);
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
	assert_int_equal(ask("GET", "/api/models/org/m/refs"), 200);
	value = json();
	assert_int_equal(json_array_size(json_object_get(value, "tags")), 2);
	assert_int_equal(json_array_size(json_object_get(value, "converts")), 0);
	json_decref(value);
	assert_int_equal(ask("GET", "/api/models/org/m/auth-check"), 200);
	assert_int_equal(ask("GET", "/api/models/org/m/xet-read-token/main"), 404);
	assert_string_equal(field(&reply, "X-Error-Message"), "No such interface here");
	assert_int_equal(ask("GET", "/api/models/org/m/tree"), 404);
	assert_string_equal(field(&reply, "X-Error-Code"), "RevisionNotFound");
	assert_int_equal(ask("GET", "/api/spaces/org/m"), 404);
	assert_string_equal(field(&reply, "X-Error-Code"), "RepoNotFound");
	assert_int_equal(ask("HEAD", "/api/telemetry/x"), 404);
	assert_int_equal(ask("GET", "/api/whoami-v2"), 401);
	assert_non_null(field(&reply, "WWW-Authenticate"));
	assert_int_equal(ask("GET", "/api/models/org/m/commits/v2"), 200);
	value = json();
	assert_int_equal(json_array_size(value), 2);
	assert_string_equal(
	    json_string_value(json_object_get(json_array_get(value, 0), "title")), "v2");
	json_decref(value);
	assert_int_equal(ask("GET", "/api/models/org/m/commits/v1"), 200);
	value = json();
	assert_int_equal(json_array_size(value), 1);
	json_decref(value);
	assert_int_equal(ask("POST", "/api/models/org/m/revision/main"), 405);
	assert_string_equal(field(&reply, "Allow"), "GET, HEAD");
	assert_int_equal(ask("PUT", "/api/models"), 405);
}

static void
test_plan_paths(void **state)
{
	static const char form[] = "paths=b.json&paths=a%2Fsub&paths=none&expand=False";
	static const char *const bad[] = {
	    "", "{}", "[]", "{\"paths\":\"b.json\"}", "{\"paths\":[1]}"};
	json_t *value;

	(void)state;
	request.body = (const uint8_t *)form;
	request.body_len = sizeof(form) - 1;
	assert_int_equal(ask("POST", "/api/models/org/m/paths-info/main"), 200);
	value = json();
	assert_int_equal(json_array_size(value), 2);
	assert_string_equal(path_of(value, 1), "a/sub");
	json_decref(value);
	request.content_type = "application/json; charset=utf-8";
	request.body = (const uint8_t *)"{\"paths\":[\"b.json\",\"none\"],\"expand\":true}";
	request.body_len = strlen((const char *)request.body);
	assert_int_equal(ask("POST", "/api/models/org/m/paths-info/main"), 200);
	value = json();
	assert_int_equal(json_array_size(value), 1);
	assert_non_null(json_object_get(json_array_get(value, 0), "lastCommit"));
	json_decref(value);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		request.body = (const uint8_t *)bad[i];
		request.body_len = strlen(bad[i]);
		assert_int_equal(ask("POST", "/api/models/org/m/paths-info/main"), 400);
	}
	/* a path is answered once: else a megabyte of one name would be twenty of answers */
	request.body = (const uint8_t *)"{\"paths\":[\"b.json\",\"a\",\"b.json\",\"a\",\"a\"]}";
	request.body_len = strlen((const char *)request.body);
	assert_int_equal(ask("POST", "/api/models/org/m/paths-info/main"), 200);
	value = json();
	assert_int_equal(json_array_size(value), 2);
	json_decref(value);
	request.content_type = NULL;
	request.body = (const uint8_t *)"paths=a&paths=b.json&paths=a&paths=%61";
	request.body_len = strlen((const char *)request.body);
	assert_int_equal(ask("POST", "/api/models/org/m/paths-info/main"), 200);
	value = json();
	assert_int_equal(json_array_size(value), 2);
	assert_string_equal(path_of(value, 0), "a");
	json_decref(value);
	assert_int_equal(ask("POST", "/api/models/org/m/paths-info"), 404);
	assert_int_equal(ask("GET", "/api/models/org/m/paths-info/main"), 405);
	assert_string_equal(field(&reply, "Allow"), "POST");
}

/* The ids of a list of repositories, with a space behind each. */
static const char *
ids(const char *path)
{
	static char text[256];
	json_t *list, *repo;
	size_t i;

	assert_int_equal(ask("GET", path), 200);
	list = json();
	text[0] = '\0';
	json_array_foreach(list, i, repo)
	{
		strcat(text, json_string_value(json_object_get(repo, "id")));
		strcat(text, " ");
	}
	json_decref(list);
	return text;
}

static void
test_plan_repos(void **state)
{
	(void)state;
	request.host = "h:1";
	assert_string_equal(ids("/api/models"), "gpt2 org/m other/M2 ");
	assert_null(field(&reply, "Link"));
	assert_string_equal(ids("/api/datasets"), "org/d ");
	request.search = "m";
	assert_string_equal(ids("/api/models"), "org/m other/M2 ");
	request.limit = "1";
	assert_string_equal(ids("/api/models"), "org/m ");
	assert_string_equal(field(&reply, "Link"),
	    "<http://h:1/api/models?limit=1&cursor=1&search=m>; rel=\"next\"");
	request.cursor = "1";
	assert_string_equal(ids("/api/models"), "other/M2 ");
	assert_null(field(&reply, "Link"));
	request.cursor = "2";
	assert_string_equal(ids("/api/models"), "");
	request.cursor = request.search = request.limit = NULL;
	request.author = "org";
	assert_string_equal(ids("/api/models"), "org/m ");
	request.author = "or";
	assert_string_equal(ids("/api/models"), "");
}

/* A data set lies below other paths than a model, in everything. */
static void
test_plan_dataset(void **state)
{
	json_t *value;

	(void)state;
	assert_int_equal(ask("GET", "/api/datasets/org/d/revision/main"), 200);
	value = json();
	assert_string_equal(json_string_value(json_object_get(value, "id")), "org/d");
	assert_null(json_object_get(value, "modelId"));
	json_decref(value);
	assert_int_equal(ask("GET", "/api/datasets/org/d/tree/main"), 200);
	assert_int_equal(ask("GET", "/api/datasets/org/d/refs"), 200);
	assert_int_equal(ask("HEAD", "/datasets/org/d/resolve/main/m.safetensors"), 200);
	assert_string_equal(blob.digest, H64);
	assert_int_equal(ask("GET", "/datasets/org/d/resolve/main/none"), 404);
	assert_string_equal(field(&reply, "X-Error-Code"), "EntryNotFound");
	assert_int_equal(ask("GET", "/datasets/org/m/resolve/main/b.json"), 404);
	assert_string_equal(field(&reply, "X-Error-Code"), "RepoNotFound");
	assert_int_equal(ask("GET", "/org/d/resolve/main/b.json"), 404);
	assert_int_equal(ask("GET", "/api/models/org/d"), 404);
	assert_int_equal(ask("GET", "/api/datasets/org/m"), 404);
	assert_int_equal(ask("GET", "/datasets"), 404);
	assert_int_equal(ask("GET", "/api"), 404);
}

int
main(void)
{
#define P(f) cmocka_unit_test_setup_teardown(f, plan_setup, plan_teardown)
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_catalog),
	    P(test_plan_resolve),
	    P(test_plan_range),
	    P(test_plan_tree),
	    P(test_plan_tree_below),
	    P(test_plan_raw),
	    P(test_plan_page),
	    P(test_plan_api),
	    P(test_plan_paths),
	    P(test_plan_repos),
	    P(test_plan_dataset),
	};

	return cmocka_run_group_tests(tests, open_shop, close_shop);
}
