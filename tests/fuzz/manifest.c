/* manifest.c -- what a transfer consists of; equal manifests have equal bytes. */
#include "diode/manifest.h"
#include "fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct sp_manifest manifest, again;
	uint8_t *first, *second;
	size_t first_len, second_len;
	struct sp_err err;

	if (sp_manifest_parse(data, len, &manifest, &err) != SP_OK)
		return 0;
	SP_ASSERT(sp_manifest_pack(&manifest, &first, &first_len, &err) == SP_OK);
	SP_ASSERT(sp_manifest_parse(first, first_len, &again, &err) == SP_OK);
	SP_ASSERT(again.count == manifest.count && strcmp(again.job, manifest.job) == 0);
	SP_ASSERT(sp_manifest_pack(&again, &second, &second_len, &err) == SP_OK);
	SP_ASSERT(first_len == second_len && memcmp(first, second, first_len) == 0);
	free(first);
	free(second);
	sp_manifest_clear(&manifest);
	sp_manifest_clear(&again);
	return 0;
}
