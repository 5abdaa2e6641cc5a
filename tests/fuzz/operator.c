/* operator.c -- requests of operators, and ledgerd's replies as sallyctl reads them. */
#include "bus/wire.h"
#include "fuzz.h"
#include "operator.pb-c.h"

static void
check(const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t len)
{
	ProtobufCMessage *message;
	struct sp_err err;
	size_t packed_len;
	uint8_t *packed;

	message = sp_wire_unpack(type, data, len, &err);
	if (message == NULL)
		return;
	packed_len = protobuf_c_message_get_packed_size(message);
	packed = malloc(packed_len + 1);
	SP_ASSERT(packed != NULL);
	SP_ASSERT(protobuf_c_message_pack(message, packed) == packed_len);
	SP_ASSERT(sp_wire_check(type, packed, packed_len, &err) == SP_OK);
	free(packed);
	protobuf_c_message_free_unpacked(message, NULL);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	check(&sallyport__operator_request__descriptor, data, len);
	check(&sallyport__operator_reply__descriptor, data, len);
	return 0;
}
