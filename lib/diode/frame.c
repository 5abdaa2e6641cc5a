/* frame.c -- the datagram's header; its bytes are specified in frame.h. */
#include "diode/frame.h"

#include <string.h>

static const uint8_t magic[4] = {'S', 'P', 'D', 1};
static const uint8_t zeros[36];

static uint16_t
get_u16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static uint64_t
get_u64(const uint8_t *p)
{
	uint64_t value = 0;

	for (int i = 0; i < 8; i++)
		value = value << 8 | p[i];
	return value;
}

static void
put_u64(uint8_t *p, uint64_t value)
{
	for (int i = 0; i < 8; i++)
		p[i] = (uint8_t)(value >> (56 - 8 * i));
}

const char *
sp_frame_drop_word(enum sp_frame_drop drop)
{
	static const char *const words[SP_FRAME_DROP_COUNT] = {
	    "ok", "bad-size", "bad-magic", "bad-field", "replayed", "bad-tag", "no-session"};

	return words[drop];
}

/* A symbol must lie inside its object, and be one that a sender has reason to send. */
static int
symbol_is_valid(const struct sp_frame *frame)
{
	const struct sp_layout *layout = &frame->layout;

	if (layout->size == 0 || sp_layout_check(layout, NULL) != SP_OK)
		return 0;
	if (frame->block >= sp_layout_blocks(layout))
		return 0;
	if (frame->index < layout->k)
		return frame->index < sp_layout_block_symbols(layout, frame->block);
	return frame->index < layout->k + layout->parity;
}

enum sp_frame_drop
sp_frame_parse(const uint8_t *data, size_t len, struct sp_frame *frame)
{
	struct sp_frame f;

	if (len < SP_FRAME_HEADER_LEN + SP_FRAME_TAG_LEN || len > SP_FRAME_MAX)
		return SP_FRAME_BAD_SIZE;
	if (memcmp(data, magic, sizeof(magic)) != 0)
		return SP_FRAME_BAD_MAGIC;
	memset(&f, 0, sizeof(f));
	f.layout.symbol_size = get_u16(data + 84);
	if (sp_frame_len(&f) != len)
		return SP_FRAME_BAD_SIZE;
	if (f.layout.symbol_size < SP_LAYOUT_SYMBOL_MIN || data[83] != 0 || get_u16(data + 86) != 0)
		return SP_FRAME_BAD_FIELD;
	f.flags = data[5];
	f.pass = data[6];
	f.passes = data[7];
	memcpy(f.session, data + 8, sizeof(f.session));
	f.counter = get_u64(data + 40);
	if (f.pass >= f.passes)
		return SP_FRAME_BAD_FIELD;
	switch (data[4]) {
	case SP_FRAME_SYMBOL:
		f.type = SP_FRAME_SYMBOL;
		memcpy(f.object.b, data + 48, sizeof(f.object.b));
		f.layout.size = get_u64(data + 64);
		f.block = get_u64(data + 72);
		f.index = data[80];
		f.layout.k = data[81];
		f.layout.parity = data[82];
		/* closing without manifest says nothing that could be meant */
		if (f.flags > (SP_FRAME_MANIFEST | SP_FRAME_CLOSING) ||
		    f.flags == SP_FRAME_CLOSING || !symbol_is_valid(&f))
			return SP_FRAME_BAD_FIELD;
		break;
	case SP_FRAME_HEARTBEAT:
	case SP_FRAME_FILLER:
		f.type = data[4];
		if (f.flags != 0 || f.pass != 0 || f.passes != 1 ||
		    memcmp(data + 48, zeros, 36) != 0)
			return SP_FRAME_BAD_FIELD;
		break;
	default:
		return SP_FRAME_BAD_FIELD;
	}
	*frame = f;
	return SP_FRAME_OK;
}

void
sp_frame_write(const struct sp_frame *frame, uint8_t out[SP_FRAME_HEADER_LEN])
{
	const struct sp_layout *layout = &frame->layout;

	memset(out, 0, SP_FRAME_HEADER_LEN);
	memcpy(out, magic, sizeof(magic));
	out[4] = (uint8_t)frame->type;
	out[5] = (uint8_t)frame->flags;
	out[6] = (uint8_t)frame->pass;
	out[7] = (uint8_t)frame->passes;
	memcpy(out + 8, frame->session, sizeof(frame->session));
	put_u64(out + 40, frame->counter);
	out[84] = (uint8_t)(layout->symbol_size >> 8);
	out[85] = (uint8_t)layout->symbol_size;
	if (frame->type != SP_FRAME_SYMBOL)
		return;
	memcpy(out + 48, frame->object.b, sizeof(frame->object.b));
	put_u64(out + 64, layout->size);
	put_u64(out + 72, frame->block);
	out[80] = (uint8_t)frame->index;
	out[81] = (uint8_t)layout->k;
	out[82] = (uint8_t)layout->parity;
}
