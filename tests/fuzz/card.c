/* card.c -- README.md of a model: its text comes out whole behind a front matter that ends. */
#include "awq/card.h"
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	json_t *report = json_pack("{s:{s:s}, s:[]}", "source", "name", "org/name", "layers");
	char *text = fuzz_text(data, len), *card;
	const char *fence;
	size_t size;

	card = sp_card_write(data, len, report, &size);
	SP_ASSERT(memcmp(card, "---\n", 4) == 0);
	fence = strstr(card, "base_model: org/name\nbase_model_relation: quantized\n---\n");
	SP_ASSERT(strlen(card) < size || fence != NULL); /* a NUL ends what strstr sees */
	/* without front matter nothing of it is lost */
	if (strncmp(text, "---", 3) != 0)
		SP_ASSERT(memmem(card, size, data, len) != NULL);
	free(card);
	free(text);
	json_decref(report);
	return 0;
}
