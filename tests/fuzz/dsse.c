/* dsse.c -- DSSE envelopes: one spelling of each. */
#include "release/dsse.h"
#include "fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct sp_dsse dsse;
	struct sp_err err;
	size_t again_len;
	char *again;

	if (sp_dsse_parse(data, len, &dsse, &err) != SP_OK)
		return 0;
	SP_ASSERT(sp_dsse_format(&dsse, &again, &again_len, &err) == SP_OK);
	SP_ASSERT(again_len == len && memcmp(again, data, len) == 0);
	free(again);
	sp_dsse_clear(&dsse);
	return 0;
}
