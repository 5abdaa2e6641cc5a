/* tree.c -- tree listings: one byte sequence for one tree. */
#include "store/tree.h"
#include "base/path.h"
#include "fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct sp_tree tree = {0};
	uint64_t bytes = 0;
	struct sp_err err;
	uint8_t *again;
	size_t i, again_len;

	if (sp_tree_parse(data, len, &tree, &err) != SP_OK)
		return 0;
	for (i = 0; i < tree.count; i++) {
		SP_ASSERT(sp_path_check(tree.files[i].path, &err) == SP_OK);
		SP_ASSERT(sp_hex_is_digest(tree.files[i].sha256.s));
		SP_ASSERT(sp_tree_find(&tree, tree.files[i].path) == &tree.files[i]);
		bytes += tree.files[i].size;
	}
	SP_ASSERT(bytes == sp_tree_bytes(&tree));
	SP_ASSERT(sp_tree_format(&tree, &again, &again_len, &err) == SP_OK);
	SP_ASSERT(again_len == len && memcmp(again, data, len) == 0);
	free(again);
	sp_tree_clear(&tree);
	return 0;
}
