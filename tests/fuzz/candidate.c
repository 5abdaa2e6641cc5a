/* candidate.c -- what operators sign: one spelling of each. */
#include "release/candidate.h"
#include "fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct sp_candidate candidate;
	struct sp_err err;
	size_t again_len;
	char *again;

	if (sp_candidate_parse(data, len, &candidate, &err) != SP_OK)
		return 0;
	again = sp_candidate_format(&candidate, &again_len);
	SP_ASSERT(again != NULL && again_len == len && memcmp(again, data, len) == 0);
	free(again);
	return 0;
}
