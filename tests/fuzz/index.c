/* index.c -- which file holds which tensor: no name leads out of the folder. */
#include "model/index.h"
#include "fuzz.h"

#include <string.h>

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct sp_index *index;
	struct sp_err err;

	if (sp_index_parse(data, len, "input", &index, &err) != SP_OK) {
		SP_ASSERT(index == NULL && err.msg[0] != '\0');
		return 0;
	}
	for (size_t i = 0; i < index->count; i++) {
		SP_ASSERT(index->entries[i].tensor != NULL);
		SP_ASSERT(strchr(index->entries[i].file, '/') == NULL);
		SP_ASSERT(index->entries[i].file[0] != '.');
	}
	sp_index_free(&index);
	return 0;
}
