/*
 * wire.c -- protobuf from outside, checked on its raw bytes.
 *
 * Wire format (protobuf.dev/programming-guides/encoding): a message is a row of fields, each a
 * varint tag = number << 3 | type, then type 0: a varint (base 128, least group first, at most 10
 * bytes), 1: 8 bytes, 2: a varint length and so many bytes (strings, bytes, messages), 5: 4 bytes.
 * Groups (3, 4) are not used. Packed scalars (repeated numbers) are not in our messages either and
 * are refused with the rest.
 */
#include "bus/wire.h"
#include "base/limits.h"
#include "base/path.h"

#include <stdio.h>
#include <string.h>

#define FIELDS_PER_MESSAGE_MAX 64 /* fields of one of our message types: bits of a word */

struct reader {
	const uint8_t *at, *end;
};

/* What the whole check carries down. */
struct check {
	size_t fields;
	struct sp_err *err;
};

/* Where we are, for messages: a chain on the stack, outermost last. */
struct place {
	const struct place *up;
	const char *name;
	int depth;
};

static int
read_varint(struct reader *r, uint64_t *out)
{
	unsigned shift;
	uint64_t value = 0;

	for (shift = 0; shift < 64 && r->at < r->end; shift += 7) {
		value |= (uint64_t)(*r->at & 0x7f) << shift;
		/* the tenth byte has room for one bit only */
		if (shift == 63 && *r->at > 1)
			return 0;
		if ((*r->at++ & 0x80) == 0) {
			*out = value;
			return 1;
		}
	}
	return 0;
}

static void
format_place(char *out, size_t size, const struct place *place)
{
	size_t len;

	if (place == NULL)
		return;
	format_place(out, size, place->up);
	len = strlen(out);
	snprintf(out + len, size - len, "%s%s", len > 0 ? "." : "", place->name);
}

static enum sp_code
refuse(const struct check *c, const struct place *place, enum sp_code code, const char *why)
{
	char text[256] = "";

	format_place(text, sizeof(text), place);
	return sp_err_set(c->err, code, "message: %s: %s", text, why);
}

/* The wire type that values of that kind have, -1 for kinds our messages do not use. */
static int
wire_type(ProtobufCType type)
{
	switch (type) {
	case PROTOBUF_C_TYPE_INT32:
	case PROTOBUF_C_TYPE_SINT32:
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_BOOL:
	case PROTOBUF_C_TYPE_ENUM:
		return 0;
	case PROTOBUF_C_TYPE_SFIXED64:
	case PROTOBUF_C_TYPE_FIXED64:
	case PROTOBUF_C_TYPE_DOUBLE:
		return 1;
	case PROTOBUF_C_TYPE_STRING:
	case PROTOBUF_C_TYPE_BYTES:
	case PROTOBUF_C_TYPE_MESSAGE:
		return 2;
	case PROTOBUF_C_TYPE_SFIXED32:
	case PROTOBUF_C_TYPE_FIXED32:
	case PROTOBUF_C_TYPE_FLOAT:
		return 5;
	}
	return -1;
}

/* A singular field, or a member of its oneof, may come once. seen has a bit per field. */
static int
seen_before(
    const ProtobufCMessageDescriptor *type, const ProtobufCFieldDescriptor *field, uint64_t *seen)
{
	unsigned index = (unsigned)(field - type->fields), i;
	uint64_t mask = UINT64_C(1) << index;

	if (field->label == PROTOBUF_C_LABEL_REPEATED)
		return 0;
	if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
		for (i = 0; i < type->n_fields; i++)
			if ((type->fields[i].flags & PROTOBUF_C_FIELD_FLAG_ONEOF) &&
			    type->fields[i].quantifier_offset == field->quantifier_offset)
				mask |= UINT64_C(1) << i;
	if (*seen & mask)
		return 1;
	*seen |= UINT64_C(1) << index;
	return 0;
}

static enum sp_code check_message(struct check *c, const struct place *place,
    const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t len);

static enum sp_code
check_bytes(struct check *c, const struct place *place, const ProtobufCFieldDescriptor *field,
    struct reader *r)
{
	const uint8_t *data;
	uint64_t len;

	if (!read_varint(r, &len) || len > (uint64_t)(r->end - r->at))
		return refuse(c, place, SP_E_INVALID, "is cut off");
	data = r->at;
	r->at += len;
	if (field->type == PROTOBUF_C_TYPE_MESSAGE)
		return check_message(c, place, field->descriptor, data, (size_t)len);
	if (field->type != PROTOBUF_C_TYPE_STRING)
		return SP_OK;
	if (len > SP_WIRE_STRING_MAX)
		return refuse(c, place, SP_E_LIMIT, "string is too long");
	if (memchr(data, 0, (size_t)len) != NULL ||
	    !sp_path_is_utf8((const char *)data, (size_t)len))
		return refuse(c, place, SP_E_INVALID, "string is not UTF-8, or has a NUL");
	return SP_OK;
}

static enum sp_code
check_value(struct check *c, const struct place *place, const ProtobufCFieldDescriptor *field,
    struct reader *r)
{
	size_t left = (size_t)(r->end - r->at), width;
	uint64_t value;

	switch (wire_type(field->type)) {
	case 0:
		if (!read_varint(r, &value))
			return refuse(c, place, SP_E_INVALID, "is not a number");
		if (value > UINT32_MAX &&
		    (field->type == PROTOBUF_C_TYPE_UINT32 || field->type == PROTOBUF_C_TYPE_BOOL))
			return refuse(c, place, SP_E_INVALID, "number is too large");
		return SP_OK;
	case 2:
		return check_bytes(c, place, field, r);
	default:
		width = wire_type(field->type) == 1 ? 8 : 4;
		if (left < width)
			return refuse(c, place, SP_E_INVALID, "is cut off");
		r->at += width;
		return SP_OK;
	}
}

static enum sp_code
check_message(struct check *c, const struct place *place, const ProtobufCMessageDescriptor *type,
    const uint8_t *data, size_t len)
{
	struct reader r = {data, data + len};
	const ProtobufCFieldDescriptor *field;
	struct place here;
	uint64_t tag, seen = 0;
	enum sp_code code;

	SP_ASSERT(type->n_fields <= FIELDS_PER_MESSAGE_MAX);
	if (place->depth > SP_WIRE_DEPTH_MAX)
		return refuse(c, place, SP_E_LIMIT, "messages are nested too deep");
	while (r.at < r.end) {
		if (++c->fields > SP_WIRE_FIELDS_MAX)
			return refuse(c, place, SP_E_LIMIT, "too many fields");
		if (!read_varint(&r, &tag) || tag >> 3 == 0 || tag >> 3 > 0x1fffffff)
			return refuse(c, place, SP_E_INVALID, "field tag is broken");
		field = protobuf_c_message_descriptor_get_field(type, (unsigned)(tag >> 3));
		if (field == NULL)
			return refuse(c, place, SP_E_INVALID, "unknown field");
		here.up = place;
		here.name = field->name;
		here.depth = place->depth + 1;
		if ((int)(tag & 7) != wire_type(field->type))
			return refuse(c, &here, SP_E_INVALID, "has the wrong wire type");
		if (seen_before(type, field, &seen))
			return refuse(c, &here, SP_E_INVALID, "comes twice");
		code = check_value(c, &here, field, &r);
		if (code != SP_OK)
			return code;
	}
	return SP_OK;
}

enum sp_code
sp_wire_check(
    const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t len, struct sp_err *err)
{
	struct check c = {0, err};
	struct place top = {NULL, type->short_name, 0};

	if (len > SP_MESSAGE_MAX)
		return refuse(&c, &top, SP_E_LIMIT, "is larger than a message may be");
	return check_message(&c, &top, type, data, len);
}

ProtobufCMessage *
sp_wire_unpack(
    const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t len, struct sp_err *err)
{
	return sp_wire_unpack_in(type, NULL, data, len, err);
}

ProtobufCMessage *
sp_wire_unpack_in(const ProtobufCMessageDescriptor *type, ProtobufCAllocator *allocator,
    const uint8_t *data, size_t len, struct sp_err *err)
{
	ProtobufCMessage *message;

	if (sp_wire_check(type, data, len, err) != SP_OK)
		return NULL;
	message = protobuf_c_message_unpack(type, allocator, len, data);
	if (message == NULL)
		sp_err_set(err, SP_E_INVALID, "message: %s of %zu bytes cannot be unpacked",
		    type->short_name, len);
	return message;
}
