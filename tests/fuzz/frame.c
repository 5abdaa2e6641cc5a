/*
 * frame.c -- datagrams of the diode. As they are, none opens under a key that did not seal it; a
 * header that is accepted is what would be written; sealed, it opens once, and not when changed.
 */
#include "diode/link.h"
#include "fuzz.h"

static const uint8_t key[SP_LINK_KEY_LEN] = {1}, id[SP_FRAME_SESSION_LEN] = {2};

static void
seal_and_open(struct sp_frame *frame, const uint8_t *payload, size_t flip)
{
	struct sp_link_rx *rx = sp_link_rx_new(key);
	uint8_t sealed[SP_FRAME_MAX], opened[SP_FRAME_SYMBOL_MAX];
	struct sp_link_tx *tx = NULL;
	struct sp_frame out;
	struct sp_err err;
	uint64_t session;
	size_t len;

	SP_ASSERT(sp_link_tx_new(key, id, &tx, &err) == SP_OK);
	len = sp_link_seal(tx, frame, frame->type == SP_FRAME_SYMBOL ? payload : NULL, sealed);
	SP_ASSERT(len == sp_frame_len(frame));
	sealed[flip % len] ^= 1;
	SP_ASSERT(sp_link_open(rx, sealed, len, 0, &out, opened, &session) != SP_FRAME_OK);
	sealed[flip % len] ^= 1;
	SP_ASSERT(sp_link_open(rx, sealed, len, 0, &out, opened, &session) == SP_FRAME_OK);
	SP_ASSERT(session == 1 && out.type == frame->type && out.block == frame->block &&
		  out.index == frame->index && sp_layout_equal(&out.layout, &frame->layout));
	if (frame->type == SP_FRAME_SYMBOL)
		SP_ASSERT(memcmp(opened, payload, frame->layout.symbol_size) == 0);
	SP_ASSERT(sp_link_open(rx, sealed, len, 0, &out, opened, &session) == SP_FRAME_REPLAYED);
	sp_link_tx_free(&tx);
	sp_link_rx_free(&rx);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct sp_link_rx *rx = sp_link_rx_new(key);
	uint8_t header[SP_FRAME_HEADER_LEN], payload[SP_FRAME_SYMBOL_MAX];
	struct sp_frame frame;
	uint64_t session;

	SP_ASSERT(sp_link_open(rx, data, len, 0, &frame, payload, &session) != SP_FRAME_OK);
	sp_link_rx_free(&rx);
	if (sp_frame_parse(data, len, &frame) != SP_FRAME_OK)
		return 0;
	sp_frame_write(&frame, header);
	SP_ASSERT(memcmp(header, data, sizeof(header)) == 0);
	/* the last byte says which one is changed */
	seal_and_open(
	    &frame, data + SP_FRAME_HEADER_LEN, data[len - 1] * (size_t)256 + data[len - 2]);
	return 0;
}
