/* hub.c -- a hub's answers: paths that are taken are safe, and no link leads to another host;
 * and fetcherd's journal of what it has from there. */
#include "base/path.h"
#include "base/source.h"
#include "fetcherd/fetcherd.h"
#include "fuzz.h"
#include "http/range.h"
#include "http/url.h"
#include "hub/answer.h"
#include "hub/retry.h"

#define BASE "https://hub.example:8443"

static const struct fetcherd_policy any = {.pickle = 1,
    .remote_code = 1,
    .max_files = SP_TREE_FILES_MAX,
    .max_gib = FETCHERD_TOTAL_MAX >> 30};

static int
keeps_none(const void *ctx, const char *path)
{
	(void)ctx, (void)path;
	return 0;
}

static void
check_tree(const uint8_t *data, size_t len)
{
	struct sp_answer_tree tree = {0};
	uint64_t bytes = 0;
	struct sp_err err;

	/* files of the entries before a bad one may stay */
	if (sp_answer_tree_parse(data, len, &tree, &err) != SP_OK)
		SP_ASSERT(err.msg[0] != '\0');
	for (size_t i = 0; i < tree.count; i++) {
		SP_ASSERT(sp_path_check(tree.files[i].path, &err) == SP_OK);
		SP_ASSERT(sp_source_is_commit(tree.files[i].oid.s));
		SP_ASSERT(!tree.files[i].lfs || sp_hex_is_digest(tree.files[i].sha256.s));
		bytes += tree.files[i].size;
	}
	SP_ASSERT(bytes == tree.bytes);
	SP_ASSERT(tree.left_out == 0);
	if (fetcherd_policy_listing(&any, &tree, &err) != SP_OK)
		SP_ASSERT(err.msg[0] != '\0');
	sp_answer_tree_clear(&tree);
	/* a listing of which nothing is wanted may hold anything but bad paths */
	tree.keeps = keeps_none;
	if (sp_answer_tree_parse(data, len, &tree, &err) == SP_OK)
		SP_ASSERT(tree.left_out <= tree.listed);
	SP_ASSERT(tree.count == 0 && tree.bytes == 0);
	sp_answer_tree_clear(&tree);
}

static void
check_fields(const char *text)
{
	struct sp_answer_failure failure = {.status = 404, .error_message = text};
	uint64_t offset, length, size;
	struct sp_err err;
	int64_t ms;
	char *next;

	ms = sp_retry_hint_ms(text, text, 0);
	SP_ASSERT(ms >= -1 && ms <= SP_RETRY_HINT_MAX_MS);
	if (sp_range_parse_content(text, &offset, &length, &size))
		SP_ASSERT(length > 0 && offset < size && length <= size - offset);
	if (sp_answer_next(text, BASE "/api", &next, &err) == SP_OK && next != NULL)
		SP_ASSERT(sp_url_same_origin(next, BASE));
	free(next);
	SP_ASSERT(sp_answer_fail(&failure, "hf:org/name", BASE, &err) != SP_OK);
	failure = (struct sp_answer_failure){
	    .status = 429, .error_code = text, .retry_after = text, .rate_limit = text};
	SP_ASSERT(sp_answer_fail(&failure, "hf:org/name", BASE, &err) != SP_OK);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char *text = fuzz_text(data, len);
	struct fetcherd_journal journal = {0};
	struct sp_answer_model model;
	struct sp_err err;

	fetcherd_journal_parse(data, len, &journal);
	fetcherd_journal_clear(&journal);
	if (sp_answer_model_parse(data, len, &model, &err) == SP_OK) {
		SP_ASSERT(sp_source_is_commit(model.commit.s));
		SP_ASSERT(memchr(model.licence, '\0', sizeof(model.licence)) != NULL);
	}
	check_tree(data, len);
	check_fields(text);
	free(text);
	return 0;
}
