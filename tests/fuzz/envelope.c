/* envelope.c -- bus messages of either side: what is accepted packs to what is accepted. */
#include "bus/envelope.h"
#include "fuzz.h"

static void
check(const uint8_t *data, size_t len, enum sp_envelope_from from)
{
	Sallyport__Envelope *envelope, *again;
	uint8_t *first, *second;
	size_t first_len, second_len;
	struct sp_err err;

	if (sp_envelope_unpack(data, len, from, &envelope, &err) != SP_OK) {
		SP_ASSERT(envelope == NULL && err.msg[0] != '\0');
		return;
	}
	SP_ASSERT(sp_envelope_pack(envelope, from, &first, &first_len, &err) == SP_OK);
	SP_ASSERT(sp_envelope_unpack(first, first_len, from, &again, &err) == SP_OK);
	SP_ASSERT(sp_envelope_pack(again, from, &second, &second_len, &err) == SP_OK);
	SP_ASSERT(first_len == second_len && memcmp(first, second, first_len) == 0);
	free(first);
	free(second);
	sallyport__envelope__free_unpacked(envelope, NULL);
	sallyport__envelope__free_unpacked(again, NULL);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	check(data, len, SP_FROM_WORKER);
	check(data, len, SP_FROM_LEDGERD);
	return 0;
}
