/*
 * wire.h -- protobuf from outside, checked on its raw bytes before anything is allocated for it.
 *
 * protobuf-c takes unknown fields, repeated singular fields, NUL inside strings and any number of
 * elements; who unpacks for a peer it does not trust calls sp_wire_check first.
 */
#ifndef SP_WIRE_H
#define SP_WIRE_H

#include "base/err.h"

#include <protobuf-c/protobuf-c.h>
#include <stdint.h>

#define SP_WIRE_STRING_MAX 65536  /* bytes of one string field */
#define SP_WIRE_FIELDS_MAX 524288 /* fields of one message, nested ones too */
#define SP_WIRE_DEPTH_MAX 8

/*
 * SP_OK when data is one message of that type with: known fields only, each of its own wire type,
 * singular fields and oneofs at most once, strings UTF-8 without NUL, nothing after the end, within
 * the limits above. Errors name the field ("Envelope.result.done.artifacts.digest").
 */
enum sp_code sp_wire_check(const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t len,
    struct sp_err *err) SP_MUST_USE;

/* sp_wire_check, then unpack: NULL with err filled when refused. Free with
 * protobuf_c_message_free_unpacked(message, NULL) or the type's own function. */
ProtobufCMessage *sp_wire_unpack(
    const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t len, struct sp_err *err);
/* The same in memory of the caller's choice. */
ProtobufCMessage *sp_wire_unpack_in(const ProtobufCMessageDescriptor *type,
    ProtobufCAllocator *allocator, const uint8_t *data, size_t len, struct sp_err *err) SP_MUST_USE;

#endif
