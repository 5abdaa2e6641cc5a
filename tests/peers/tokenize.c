/* tokenize.c -- sp-tokenize FILE [TIMES]: our side where tokenizers are compared. FILE is a
 * tokenizer.json.
 *
 * stdin: texts, each a length (u32, this machine's order) and its bytes
 * stdout: for each text count (u32) and ids (u32) with special tokens, then what decode makes of
 * them, first with special tokens and then without: a length (u32) and its bytes each. With TIMES:
 * the seconds that encoding all texts took, TIMES lines, and nothing else.
 */
#include "base/file.h"
#include "base/time.h"
#include "model/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct text {
	char *bytes;
	uint32_t len;
};

static struct sp_err err;

static void
ok(enum sp_code code)
{
	if (code == SP_OK)
		return;
	fprintf(stderr, "sp-tokenize: %s\n", err.msg);
	exit(1);
}

static void
put(const void *data, size_t size, size_t count)
{
	if (fwrite(data, size, count, stdout) != count)
		exit(1);
}

static size_t
read_texts(struct text **out)
{
	struct text *texts = NULL;
	size_t count = 0;
	uint32_t len;

	while (fread(&len, sizeof(len), 1, stdin) == 1) {
		struct text *text;

		if (count % 1024 == 0)
			texts = sp_xrealloc(texts, count + 1024, sizeof(*texts));
		text = &texts[count++];
		text->len = len;
		text->bytes = sp_xcalloc((size_t)len + 1, 1);
		if (fread(text->bytes, 1, len, stdin) != len) {
			fprintf(stderr, "sp-tokenize: the last text is cut off\n");
			exit(2);
		}
	}
	*out = texts;
	return count;
}

static void
answer(const struct sp_tokenizer *tokenizer, const struct text *text)
{
	uint32_t *ids, n;
	size_t count;

	ok(sp_tokenizer_encode(tokenizer, text->bytes, text->len, 1, &ids, &count, &err));
	n = (uint32_t)count;
	put(&n, sizeof(n), 1);
	put(ids, sizeof(*ids), count);
	for (int skip = 0; skip < 2; skip++) {
		char *again;
		size_t len;

		ok(sp_tokenizer_decode(tokenizer, ids, count, skip, &again, &len, &err));
		n = (uint32_t)len;
		put(&n, sizeof(n), 1);
		put(again, 1, len);
		free(again);
	}
	free(ids);
}

static void
measure(const struct sp_tokenizer *tokenizer, const struct text *texts, size_t count)
{
	int64_t from = sp_time_monotonic_ns();

	for (size_t i = 0; i < count; i++) {
		uint32_t *ids;
		size_t n;

		ok(sp_tokenizer_encode(tokenizer, texts[i].bytes, texts[i].len, 1, &ids, &n, &err));
		free(ids);
	}
	printf("%.6f\n", (double)(sp_time_monotonic_ns() - from) / 1e9);
	fflush(stdout);
}

int
main(int argc, char **argv)
{
	struct sp_tokenizer *tokenizer;
	struct text *texts;
	uint8_t *data;
	size_t len, count;

	if (argc < 2) {
		fprintf(stderr, "usage: sp-tokenize FILE [TIMES] <TEXTS\n");
		return 2;
	}
	ok(sp_file_read(argv[1], 64 << 20, &data, &len, &err));
	ok(sp_tokenizer_parse(data, len, &tokenizer, &err));
	count = read_texts(&texts);
	for (int i = 0; argc > 2 && i < atoi(argv[2]); i++)
		measure(tokenizer, texts, count);
	for (size_t i = 0; argc == 2 && i < count; i++)
		answer(tokenizer, &texts[i]);
	for (size_t i = 0; i < count; i++)
		free(texts[i].bytes);
	free(texts);
	free(data);
	sp_tokenizer_free(&tokenizer);
	return fflush(stdout) != 0;
}
