/* diode_fec.c -- layout, erasure code, pacing. */
#include "../draw.h"
#include "base/pace.h"
#include "diode/fec.h"
#include "diode/layout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint64_t seed = 1;

static uint64_t
draw(void)
{
	return draw_next(&seed);
}

struct codeword {
	unsigned k, parity;
	size_t size;
	uint8_t *bytes;
	uint8_t *symbols[SP_LAYOUT_SYMBOLS_MAX];
	uint8_t have[SP_LAYOUT_SYMBOLS_MAX];
	struct sp_fec *fec;
};

static void
make(struct codeword *word, unsigned k, unsigned parity, size_t size)
{
	const uint8_t *source[SP_LAYOUT_SYMBOLS_MAX];

	memset(word, 0, sizeof(*word));
	word->k = k;
	word->parity = parity;
	word->size = size;
	word->bytes = malloc((k + parity) * size);
	for (unsigned i = 0; i < k + parity; i++) {
		word->symbols[i] = word->bytes + i * size;
		word->have[i] = 1;
	}
	for (unsigned i = 0; i < k; i++)
		source[i] = word->symbols[i];
	for (size_t i = 0; i < k * size; i++)
		word->bytes[i] = (uint8_t)draw();
	word->fec = sp_fec_new(k, parity);
	sp_fec_encode(word->fec, 0, parity, size, source, word->symbols + k);
}

static void
destroy(struct codeword *word)
{
	sp_fec_free(&word->fec);
	free(word->bytes);
}

/* Erases n random symbols, decodes, compares; restores everything. Returns how many were rebuilt.
 */
static unsigned
erase_and_check(struct codeword *word, unsigned n, enum sp_code expected)
{
	size_t len = (word->k + word->parity) * word->size;
	uint8_t *before = malloc(len);
	unsigned rebuilt, lost_sources = 0;
	struct sp_err err;

	memcpy(before, word->bytes, len);
	for (unsigned i = 0; i < n;) {
		unsigned pick = (unsigned)(draw() % (word->k + word->parity));

		if (!word->have[pick])
			continue;
		word->have[pick] = 0;
		lost_sources += pick < word->k;
		memset(word->symbols[pick], 0xee, word->size);
		i++;
	}
	assert_int_equal(
	    sp_fec_decode(word->fec, word->size, word->symbols, word->have, &rebuilt, &err),
	    expected);
	if (expected == SP_OK) {
		assert_int_equal(rebuilt, lost_sources);
		assert_memory_equal(word->bytes, before, word->k * word->size);
	}
	memcpy(word->bytes, before, len);
	memset(word->have, 1, sizeof(word->have));
	free(before);
	return rebuilt;
}

static void
test_any_k_of_n(void **state)
{
	static const struct {
		unsigned k, parity;
		size_t size;
	} codes[] = {{128, 96, 1344}, {128, 127, 64}, {1, 254, 64}, {4, 2, 1368}, {10, 1, 65},
	    {200, 55, 100}};

	(void)state;
	for (size_t c = 0; c < sizeof(codes) / sizeof(codes[0]); c++) {
		struct codeword word;
		unsigned rebuilt = 0;

		make(&word, codes[c].k, codes[c].parity, codes[c].size);
		for (unsigned round = 0; round < 40; round++)
			rebuilt +=
			    erase_and_check(&word, (unsigned)(draw() % (word.parity + 1)), SP_OK);
		rebuilt += erase_and_check(&word, word.parity, SP_OK);
		assert_true(rebuilt > 0);
		destroy(&word);
	}
}

/* One symbol fewer than k: nothing can be known, and nothing is made up. */
static void
test_below_k(void **state)
{
	struct codeword word;

	(void)state;
	make(&word, 20, 6, 64);
	for (unsigned round = 0; round < 100; round++) {
		unsigned n = 0, rebuilt;
		uint8_t before[26 * 64];
		struct sp_err err;

		while (n < 7) {
			unsigned pick = (unsigned)(draw() % 26);

			n += word.have[pick];
			word.have[pick] = 0;
		}
		memcpy(before, word.bytes, sizeof(before));
		assert_int_equal(
		    sp_fec_decode(word.fec, 64, word.symbols, word.have, &rebuilt, &err),
		    SP_E_INCOMPLETE);
		assert_memory_equal(word.bytes, before, sizeof(before));
		memset(word.have, 1, sizeof(word.have));
	}
	destroy(&word);
}

/* Rows made pass by pass are those made at once. */
static void
test_rows_by_pass(void **state)
{
	const uint8_t *source[128];
	uint8_t rows[32 * 64], *out[32];
	struct codeword word;

	(void)state;
	make(&word, 128, 96, 64);
	for (unsigned i = 0; i < 128; i++)
		source[i] = word.symbols[i];
	for (unsigned i = 0; i < 32; i++)
		out[i] = rows + i * 64;
	for (unsigned first = 0; first < 96; first += 32) {
		static const unsigned counts[] = {32, 8, 17, 32};

		for (unsigned i = 0; i < 4; i++) {
			memset(rows, 0, sizeof(rows));
			sp_fec_encode(word.fec, first, counts[i], 64, source, out);
			assert_memory_equal(rows, word.symbols[128 + first], counts[i] * 64);
		}
	}
	destroy(&word);
}

static void
test_layout(void **state)
{
	struct sp_layout layout = {1000, 4, 2, 64};
	struct sp_err err;

	(void)state;
	assert_int_equal(sp_layout_check(&layout, &err), SP_OK);
	assert_int_equal(sp_layout_blocks(&layout), 4);
	assert_int_equal(sp_layout_block_offset(&layout, 3), 768);
	assert_int_equal(sp_layout_block_len(&layout, 2), 256);
	assert_int_equal(sp_layout_block_len(&layout, 3), 232);
	assert_int_equal(sp_layout_block_symbols(&layout, 3), 4);
	layout.size = 1;
	assert_int_equal(sp_layout_blocks(&layout), 1);
	assert_int_equal(sp_layout_block_symbols(&layout, 0), 1);
	layout.size = 256;
	assert_int_equal(sp_layout_blocks(&layout), 1);
	layout.size = 0;
	assert_int_equal(sp_layout_check(&layout, &err), SP_OK);
	assert_int_equal(sp_layout_blocks(&layout), 0);
	layout.size = 256ull * SP_LAYOUT_BLOCKS_MAX;
	assert_int_equal(sp_layout_check(&layout, &err), SP_OK);
	layout.size++;
	assert_int_equal(sp_layout_check(&layout, &err), SP_E_LIMIT);
	layout = (struct sp_layout){1, 0, 2, 64};
	assert_int_equal(sp_layout_check(&layout, &err), SP_E_INVALID);
	layout = (struct sp_layout){1, 200, 56, 64};
	assert_int_equal(sp_layout_check(&layout, &err), SP_E_INVALID);
	layout = (struct sp_layout){1, 2, UINT32_MAX, 64};
	assert_int_equal(sp_layout_check(&layout, &err), SP_E_INVALID);
	layout = (struct sp_layout){1, 4, 2, 63};
	assert_int_equal(sp_layout_check(&layout, &err), SP_E_INVALID);
}

static void
test_pace(void **state)
{
	const int64_t second_ns = 1000000000;
	struct sp_pace pace;
	int64_t now_ns = 5 * second_ns;

	(void)state;
	/* 1 MB/s in datagrams of 1,000 bytes: one each millisecond, from the first on */
	sp_pace_init(&pace, 1000000, 4000, now_ns);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(sp_pace_take(&pace, now_ns, 1000), now_ns + i * 1000000LL);
	/* idle time is saved up to the burst, not beyond: four at once, the fifth waits */
	now_ns += 100 * second_ns;
	for (int i = 0; i < 5; i++)
		assert_int_equal(sp_pace_take(&pace, now_ns, 1000), now_ns);
	assert_int_equal(sp_pace_take(&pace, now_ns, 1000), now_ns + 1000000);
	/* 3 bytes/s: a third of a second is not a whole number of nanoseconds, three of them are
	 * one */
	sp_pace_init(&pace, 3, 0, now_ns);
	for (int i = 0; i < 3000; i++)
		(void)sp_pace_take(&pace, now_ns, 1);
	assert_int_equal(sp_pace_take(&pace, now_ns, 1), now_ns + 1000 * second_ns);
	/* a large train at a high rate */
	sp_pace_init(&pace, 12500000000, 0, now_ns);
	assert_int_equal(sp_pace_take(&pace, now_ns, UINT32_MAX), now_ns);
	assert_int_equal(sp_pace_take(&pace, now_ns, 1), now_ns + 343597383);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_any_k_of_n),
	    cmocka_unit_test(test_below_k),
	    cmocka_unit_test(test_rows_by_pass),
	    cmocka_unit_test(test_layout),
	    cmocka_unit_test(test_pace),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
