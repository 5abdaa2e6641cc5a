/* snapshot.c -- the registry's list: an accepted one is written as it was read. */
#include "release/snapshot.h"
#include "fuzz.h"

static struct sp_key *key;

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct sp_err err;

	(void)argc, (void)argv;
	fuzz_fix_random();
	SP_ASSERT(sp_key_new(SP_ROLE_REGISTRY, "registryd@enclave", &key, &err) == SP_OK);
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct sp_snapshot snapshot;
	const struct sp_snapshot_model *model;
	struct sp_dsse dsse;
	struct sp_err err;
	size_t envelope_len;
	char *envelope;

	if (sp_snapshot_parse(data, len, &snapshot, &err) != SP_OK)
		return 0;
	for (size_t i = 0; i < snapshot.count; i++) {
		model = &snapshot.models[i];
		if (!model->revoked)
			SP_ASSERT(
			    sp_snapshot_find(&snapshot, model->name, model->version) == model);
	}
	SP_ASSERT(sp_snapshot_sign(&snapshot, key, &envelope, &envelope_len, &err) == SP_OK);
	SP_ASSERT(sp_dsse_parse((const uint8_t *)envelope, envelope_len, &dsse, &err) == SP_OK);
	SP_ASSERT(dsse.payload_len == len && memcmp(dsse.payload, data, len) == 0);
	sp_dsse_clear(&dsse);
	free(envelope);
	sp_snapshot_clear(&snapshot);
	return 0;
}
