/* plan.c -- a request to our hub: it has an answer, which can be sent, and no part of a file that
 * is not there. Input: method, path, and what else a plan looks at, a line each; then the body. */
#include "hub/plan.h"
#include "fuzz.h"

#define H64 "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
#define LINES 16

static struct sp_catalog catalog;

static void
add(enum sp_catalog_kind kind, const char *name, int64_t version)
{
	static const char *const paths[] = {"a/b/c", "a/d", "config.json", "w.safetensors"};
	struct sp_git_oid oids[4];
	struct sp_tree tree = {0};
	struct sp_err err;

	for (size_t i = 0; i < 4; i++) {
		SP_ASSERT(sp_tree_add(&tree, paths[i], 10 * i, H64, 0, &err) == SP_OK);
		memcpy(oids[i].s, H64, 40);
		oids[i].s[40] = '\0';
	}
	tree.sorted = 1;
	SP_ASSERT(sp_catalog_add(&catalog, kind, name, version, H64, "2026-11-24T05:02:03.123Z",
		      &tree, oids, &err) == SP_OK);
	sp_tree_clear(&tree);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	add(SP_CATALOG_MODEL, "org/m", 1);
	add(SP_CATALOG_MODEL, "org/m", 2);
	add(SP_CATALOG_MODEL, "m", 1);
	add(SP_CATALOG_DATASET, "org/d", 1);
	return 0;
}

static void
check(const struct sp_plan_request *request, const struct sp_http_reply *reply,
    const struct sp_plan_blob *blob)
{
	SP_ASSERT(reply->status >= 200 && reply->status < 500);
	for (size_t i = 0; i < reply->field_count; i++)
		SP_ASSERT(strpbrk(reply->fields[i].value, "\r\n") == NULL);
	if (blob->digest[0] == '\0')
		return;
	SP_ASSERT(reply->status == 200 || reply->status == 206);
	SP_ASSERT(blob->offset <= blob->size && blob->length <= blob->size - blob->offset);
	SP_ASSERT(strcmp(request->method, "GET") == 0 || strcmp(request->method, "HEAD") == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char *text = fuzz_text(data, len), *line = text, *end, *lines[LINES];
	struct sp_http_reply reply = SP_HTTP_REPLY_INIT;
	struct sp_plan_request r = {.method = "GET"};
	struct sp_plan_blob blob;

	for (size_t i = 0; i < LINES; i++) {
		end = strchr(line, '\n');
		if (end == NULL)
			goto out;
		*end = '\0';
		/* libmicrohttpd passes on no other break of a line either */
		if (strchr(line, '\r') != NULL)
			goto out;
		lines[i] = line[0] != '\0' ? line : NULL;
		line = end + 1;
	}
	if (lines[0] == NULL || lines[1] == NULL)
		goto out;
	r = (struct sp_plan_request){.method = lines[0],
	    .path = lines[1],
	    .host = lines[2],
	    .forwarded_proto = lines[3],
	    .content_type = lines[4],
	    .range = lines[5],
	    .if_range = lines[6],
	    .if_none_match = lines[7],
	    .recursive = lines[8],
	    .expand = lines[9],
	    .blobs = lines[10],
	    .full = lines[11],
	    .search = lines[12],
	    .author = lines[13],
	    .limit = lines[14],
	    .cursor = lines[15],
	    .body = (const uint8_t *)line,
	    .body_len = strlen(line)};
	sp_plan_make(&catalog, &r, &reply, &blob);
	check(&r, &reply, &blob);
	sp_http_reply_clear(&reply);
out:
	free(text);
	return 0;
}
