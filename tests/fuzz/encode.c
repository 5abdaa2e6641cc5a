/* encode.c -- texts through a tokenizer of each kind, which the first byte chooses: a text has the
 * same ids when its words have been seen before; and with the fixture's, what ids stand for has the
 * same ids again. */
#include "base/file.h"
#include "base/path.h"
#include "fuzz.h"
#include "model/tokenizer.h"

#include <stdio.h>

static const char *const files[] = {"fixtures/model/tokenizer", "vectors/tokenizer/gpt2",
    "vectors/tokenizer/prefix", "vectors/tokenizer/llama3", "vectors/tokenizer/qwen2",
    "vectors/tokenizer/tekken", "vectors/tokenizer/deepseek", "vectors/tokenizer/llama2",
    "vectors/tokenizer/across", "vectors/tokenizer/mistral", "vectors/tokenizer/metaspace",
    "vectors/tokenizer/never"};
#define FILES (sizeof(files) / sizeof(files[0]))

static struct sp_tokenizer *tokenizers[FILES];

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct sp_err err;
	uint8_t *data;
	size_t len;

	(void)argc, (void)argv;
	for (size_t i = 0; i < FILES; i++) {
		char path[128];

		snprintf(path, sizeof(path), "tests/%s.json", files[i]);
		SP_ASSERT(sp_file_read(path, 1 << 20, &data, &len, &err) == SP_OK);
		SP_ASSERT(sp_tokenizer_parse(data, len, &tokenizers[i], &err) == SP_OK);
		free(data);
	}
	return 0;
}

static void
check_same(const struct sp_tokenizer *tokenizer, const char *text, size_t len, const uint32_t *ids,
    size_t count)
{
	uint32_t *again;
	size_t again_count;
	struct sp_err err;

	SP_ASSERT(
	    sp_tokenizer_encode(tokenizer, text, len, 0, &again, &again_count, &err) == SP_OK);
	SP_ASSERT(
	    count == again_count && (count == 0 || memcmp(ids, again, count * sizeof(*ids)) == 0));
	free(again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	size_t kind = len == 0 ? 0 : data[0] % FILES, text_len = len == 0 ? 0 : len - 1, count;
	const char *text = len == 0 ? "" : (const char *)data + 1;
	const struct sp_tokenizer *tokenizer = tokenizers[kind];
	struct sp_err err;
	uint32_t *ids;
	char *decoded;
	size_t decoded_len;

	if (sp_tokenizer_encode(tokenizer, text, text_len, 0, &ids, &count, &err) != SP_OK) {
		SP_ASSERT(!sp_path_is_utf8(text, text_len));
		return 0;
	}
	check_same(tokenizer, text, text_len, ids, count);
	for (size_t i = 0; i < count; i++)
		SP_ASSERT(ids[i] < sp_tokenizer_size(tokenizer));
	SP_ASSERT(
	    sp_tokenizer_decode(tokenizer, ids, count, 0, &decoded, &decoded_len, &err) == SP_OK);
	SP_ASSERT(sp_path_is_utf8(decoded, decoded_len));
	if (kind == 0)
		check_same(tokenizer, decoded, decoded_len, ids, count);
	free(decoded);
	free(ids);
	return 0;
}
