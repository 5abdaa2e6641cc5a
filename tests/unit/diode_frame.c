/* diode_frame.c -- the datagram: golden bytes, every changed bit refused, replays, hostile input.
 */
#include "diode/frame.h"
#include "diode/link.h"

#include "../vectors/diode/frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint8_t key[SP_LINK_KEY_LEN], session_id[SP_FRAME_SESSION_LEN], symbol[64];

static struct sp_frame
symbol_frame(void)
{
	struct sp_frame frame = {.type = SP_FRAME_SYMBOL,
	    .flags = SP_FRAME_MANIFEST,
	    .pass = 1,
	    .passes = 3,
	    .layout = {1000, 4, 6, 64},
	    .block = 2,
	    .index = 5};

	for (unsigned i = 0; i < sizeof(frame.object.b); i++)
		frame.object.b[i] = (uint8_t)(0xa0 + i);
	return frame;
}

static int
setup(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 32; i++) {
		key[i] = (uint8_t)i;
		session_id[i] = (uint8_t)(0x40 + i);
	}
	for (unsigned i = 0; i < sizeof(symbol); i++)
		symbol[i] = (uint8_t)(i * 7);
	return 0;
}

static struct sp_link_tx *
sender(uint8_t session)
{
	struct sp_link_tx *tx;
	uint8_t id[SP_FRAME_SESSION_LEN];
	struct sp_err err;

	memcpy(id, session_id, sizeof(id));
	id[0] ^= session;
	assert_int_equal(sp_link_tx_new(key, id, &tx, &err), SP_OK);
	return tx;
}

static enum sp_frame_drop
open_one(struct sp_link_rx *rx, const uint8_t *data, size_t len, int64_t now_ms)
{
	uint8_t payload[SP_FRAME_SYMBOL_MAX];
	struct sp_frame frame;
	uint64_t session;

	return sp_link_open(rx, data, len, now_ms, &frame, payload, &session);
}

static void
test_golden(void **state)
{
	struct sp_link_tx *tx = sender(0);
	struct sp_link_rx *rx = sp_link_rx_new(key);
	struct sp_frame frame = symbol_frame(), got;
	struct sp_frame idle = {.type = SP_FRAME_HEARTBEAT, .passes = 1, .layout.symbol_size = 64};
	uint8_t out[SP_FRAME_MAX], payload[SP_FRAME_SYMBOL_MAX];
	uint64_t session;

	(void)state;
	assert_int_equal(sp_link_seal(tx, &frame, symbol, out), sizeof(golden_symbol));
	assert_memory_equal(out, golden_symbol, sizeof(golden_symbol));
	assert_int_equal(sp_link_seal(tx, &idle, NULL, out), sizeof(golden_heartbeat));
	assert_memory_equal(out, golden_heartbeat, sizeof(golden_heartbeat));
	idle.type = SP_FRAME_FILLER;
	assert_int_equal(sp_link_seal(tx, &idle, NULL, out), sizeof(golden_filler));
	assert_memory_equal(out, golden_filler, sizeof(golden_filler));

	assert_int_equal(
	    sp_link_open(rx, golden_symbol, sizeof(golden_symbol), 0, &got, payload, &session),
	    SP_FRAME_OK);
	assert_int_equal(session, 1);
	assert_memory_equal(payload, symbol, sizeof(symbol));
	assert_int_equal(got.flags, SP_FRAME_MANIFEST);
	assert_int_equal(got.pass, 1);
	assert_int_equal(got.passes, 3);
	assert_int_equal(got.block, 2);
	assert_int_equal(got.index, 5);
	assert_int_equal(got.layout.size, 1000);
	assert_int_equal(got.layout.k, 4);
	assert_int_equal(got.layout.parity, 6);
	assert_memory_equal(&got.object, &frame.object, sizeof(frame.object));
	assert_int_equal(open_one(rx, golden_filler, sizeof(golden_filler), 0), SP_FRAME_OK);
	assert_int_equal(open_one(rx, golden_heartbeat, sizeof(golden_heartbeat), 0), SP_FRAME_OK);
	sp_link_tx_free(&tx);
	sp_link_rx_free(&rx);
}

/* The largest datagram is exactly what fits an MTU of 1500. */
static void
test_sizes(void **state)
{
	struct sp_frame frame = symbol_frame();

	(void)state;
	frame.layout.symbol_size = SP_FRAME_SYMBOL_MAX;
	assert_int_equal(sp_frame_len(&frame), 1472);
	assert_int_equal(SP_FRAME_SYMBOL_DEFAULT, 1344);
}

static void
test_every_bit_counts(void **state)
{
	(void)state;
	for (size_t bit = 0; bit < 8 * sizeof(golden_symbol); bit++) {
		struct sp_link_rx *rx = sp_link_rx_new(key);
		uint8_t data[sizeof(golden_symbol)];
		struct sp_link_counts counts;

		memcpy(data, golden_symbol, sizeof(data));
		data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_not_equal(open_one(rx, data, sizeof(data), 0), SP_FRAME_OK);
		sp_link_counts(rx, &counts);
		assert_int_equal(counts.sessions, 0);
		/* …, and the true one is not harmed by it */
		assert_int_equal(
		    open_one(rx, golden_symbol, sizeof(golden_symbol), 0), SP_FRAME_OK);
		sp_link_rx_free(&rx);
	}
}

static void
test_wrong_key(void **state)
{
	uint8_t other[SP_LINK_KEY_LEN] = {1};
	struct sp_link_rx *rx = sp_link_rx_new(other);

	(void)state;
	assert_int_equal(open_one(rx, golden_symbol, sizeof(golden_symbol), 0), SP_FRAME_BAD_TAG);
	sp_link_rx_free(&rx);
}

/* What the parser refuses before any key is used: offset, value, reason. */
static void
test_malformed(void **state)
{
	static const struct {
		unsigned offset;
		uint8_t value;
		enum sp_frame_drop drop;
	} cases[] = {
	    {0, 'X', SP_FRAME_BAD_MAGIC},
	    {3, 2, SP_FRAME_BAD_MAGIC},	   /* protocol version */
	    {4, 3, SP_FRAME_BAD_FIELD},	   /* type */
	    {5, 2, SP_FRAME_BAD_FIELD},	   /* closing, but no manifest */
	    {5, 4, SP_FRAME_BAD_FIELD},	   /* unknown flag */
	    {6, 3, SP_FRAME_BAD_FIELD},	   /* pass 3 of 0..2 */
	    {7, 0, SP_FRAME_BAD_FIELD},	   /* no passes */
	    {64, 255, SP_FRAME_BAD_FIELD}, /* size 2^63 and more */
	    {70, 0, SP_FRAME_BAD_FIELD},   /* size 232: codeword 2 is past its end */
	    {72, 255, SP_FRAME_BAD_FIELD}, /* block 2^63 and more */
	    {79, 4, SP_FRAME_BAD_FIELD},   /* one past the last codeword */
	    {80, 10, SP_FRAME_BAD_FIELD},  /* one past the last symbol */
	    {81, 0, SP_FRAME_BAD_FIELD},   /* k */
	    {81, 250, SP_FRAME_BAD_FIELD}, /* k + parity 256 */
	    {82, 0, SP_FRAME_BAD_FIELD},   /* parity: symbol 5 is past its end */
	    {82, 252, SP_FRAME_BAD_FIELD}, /* k + parity 256 */
	    {83, 1, SP_FRAME_BAD_FIELD},
	    {84, 1, SP_FRAME_BAD_SIZE},
	    {85, 63, SP_FRAME_BAD_SIZE},
	    {86, 1, SP_FRAME_BAD_FIELD},
	    {87, 1, SP_FRAME_BAD_FIELD},
	};
	struct sp_frame frame;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint8_t data[sizeof(golden_symbol)];

		memcpy(data, golden_symbol, sizeof(data));
		data[cases[i].offset] = cases[i].value;
		assert_int_equal(sp_frame_parse(data, sizeof(data), &frame), cases[i].drop);
	}
	/* a heartbeat says nothing about objects */
	for (unsigned offset = 48; offset < 84; offset++) {
		uint8_t data[sizeof(golden_heartbeat)];

		memcpy(data, golden_heartbeat, sizeof(data));
		data[offset] = 1;
		assert_int_equal(sp_frame_parse(data, sizeof(data), &frame), SP_FRAME_BAD_FIELD);
	}
}

/* Padding symbols of the last codeword are never sent: 1000 = 3 * 256 + 232, four symbols there. */
static void
test_padding_is_refused(void **state)
{
	struct sp_frame frame = symbol_frame();
	uint8_t data[SP_FRAME_MAX] = {0};

	(void)state;
	frame.layout.size = 3 * 256 + 65;
	frame.block = 3;
	for (frame.index = 0; frame.index < 10; frame.index++) {
		struct sp_frame got;
		int is_padding = frame.index == 2 || frame.index == 3;

		sp_frame_write(&frame, data);
		assert_int_equal(sp_frame_parse(data, sp_frame_len(&frame), &got),
		    is_padding ? SP_FRAME_BAD_FIELD : SP_FRAME_OK);
	}
}

static void
test_lengths(void **state)
{
	static uint8_t huge[65507];
	struct sp_link_rx *rx = sp_link_rx_new(key);

	(void)state;
	memcpy(huge, golden_symbol, sizeof(golden_symbol));
	for (size_t len = 0; len <= sizeof(huge); len += len < 2000 ? 1 : 500)
		if (len != sizeof(golden_symbol))
			assert_int_equal(open_one(rx, huge, len, 0), SP_FRAME_BAD_SIZE);
	assert_int_equal(open_one(rx, huge, sizeof(huge), 0), SP_FRAME_BAD_SIZE);
	sp_link_rx_free(&rx);
}

static void
test_replay(void **state)
{
	enum { N = SP_LINK_WINDOW + 1000 };
	const size_t len = sizeof(golden_heartbeat);
	struct sp_frame idle = {.type = SP_FRAME_HEARTBEAT, .passes = 1, .layout.symbol_size = 64};
	struct sp_link_tx *tx = sender(0);
	struct sp_link_rx *rx = sp_link_rx_new(key);
	uint8_t(*data)[SP_FRAME_MAX] = malloc(N * sizeof(*data));
	struct sp_link_counts counts;

	(void)state;
	for (unsigned i = 0; i < N; i++)
		sp_link_seal(tx, &idle, NULL, data[i]);
	/* in pairs, the later one first; each only once */
	for (unsigned i = 0; i < 2000; i++)
		assert_int_equal(open_one(rx, data[i ^ 1], len, 0), SP_FRAME_OK);
	for (unsigned i = 0; i < 2000; i++)
		assert_int_equal(open_one(rx, data[i], len, 0), SP_FRAME_REPLAYED);
	sp_link_counts(rx, &counts);
	assert_int_equal(counts.reordered, 1000);
	assert_int_equal(counts.lost, 0);
	/* a jump: what lies within the window may still come, once, and nothing older */
	assert_int_equal(open_one(rx, data[N - 1], len, 0), SP_FRAME_OK);
	sp_link_counts(rx, &counts);
	assert_int_equal(counts.lost, N - 1 - 2000);
	assert_int_equal(open_one(rx, data[N - SP_LINK_WINDOW], len, 0), SP_FRAME_REPLAYED);
	assert_int_equal(open_one(rx, data[2000], len, 0), SP_FRAME_OK);
	for (unsigned i = 2001; i < N - 1; i++)
		assert_int_equal(open_one(rx, data[i], len, 0), SP_FRAME_OK);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(open_one(rx, data[i], len, 0), SP_FRAME_REPLAYED);
	sp_link_counts(rx, &counts);
	assert_int_equal(counts.lost, 0);
	assert_int_equal(counts.dropped[SP_FRAME_OK], N);
	free(data);
	sp_link_tx_free(&tx);
	sp_link_rx_free(&rx);
}

/* Restarted and second senders are told apart; a live session never gives way. */
static void
test_sessions(void **state)
{
	struct sp_frame idle = {.type = SP_FRAME_HEARTBEAT, .passes = 1, .layout.symbol_size = 64};
	struct sp_link_rx *rx = sp_link_rx_new(key);
	uint8_t data[SP_LINK_SESSIONS + 1][SP_FRAME_MAX];
	struct sp_link_counts counts;
	size_t len = 0;

	(void)state;
	for (unsigned i = 0; i <= SP_LINK_SESSIONS; i++) {
		struct sp_link_tx *tx = sender((uint8_t)i);

		len = sp_link_seal(tx, &idle, NULL, data[i]);
		sp_link_tx_free(&tx);
	}
	for (unsigned i = 0; i < SP_LINK_SESSIONS; i++)
		assert_int_equal(open_one(rx, data[i], len, i), SP_FRAME_OK);
	assert_int_equal(open_one(rx, data[SP_LINK_SESSIONS], len, 100), SP_FRAME_NO_SESSION);
	/* the first has been silent for long enough; the second, one millisecond younger, has not
	 */
	assert_int_equal(
	    open_one(rx, data[SP_LINK_SESSIONS], len, SP_LINK_SESSION_IDLE_MS), SP_FRAME_OK);
	assert_int_equal(open_one(rx, data[0], len, SP_LINK_SESSION_IDLE_MS), SP_FRAME_NO_SESSION);
	assert_int_equal(open_one(rx, data[1], len, SP_LINK_SESSION_IDLE_MS), SP_FRAME_REPLAYED);
	sp_link_counts(rx, &counts);
	assert_int_equal(counts.sessions, SP_LINK_SESSIONS + 1);
	sp_link_rx_free(&rx);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_golden),
	    cmocka_unit_test(test_sizes),
	    cmocka_unit_test(test_every_bit_counts),
	    cmocka_unit_test(test_wrong_key),
	    cmocka_unit_test(test_malformed),
	    cmocka_unit_test(test_padding_is_refused),
	    cmocka_unit_test(test_lengths),
	    cmocka_unit_test(test_replay),
	    cmocka_unit_test(test_sessions),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
