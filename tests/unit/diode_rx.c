/* diode_rx.c -- sender's core to receiver's core over a channel that harms what it carries. */
#include "diode_channel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const size_t sizes[] = {700, 0, 1, 64, 1024, 1025, 100000, 65, 3};
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

static void
test_clean(void **state)
{
	struct source source;
	struct sink sink;
	struct pass pass;

	(void)state;
	seed = 1;
	source_make(&source, sizes, SIZES, 16, 4);
	sink_make(&sink);
	pass = pass_make(&source, 0);
	feed(&sink, &pass, 0, pass.count, 1, 0);
	expect_all(&sink, &source);
	assert_int_equal(sink.events[SP_RX_TRANSFER_KNOWN], 1);
	assert_int_equal(sink.events[SP_RX_OBJECT_DONE], SIZES);
	assert_int_equal(sink.events[SP_RX_LINK_UP], 1);
	assert_int_equal(counts_of(&sink).assemble.repaired, 0);
	assert_int_equal(counts_of(&sink).assemble.memory_bytes, 0);
	/* the same pass again changes nothing */
	feed(&sink, &pass, 0, pass.count, 1, 1);
	tick(&sink, 100000);
	assert_int_equal(sink.events[SP_RX_TRANSFER_DONE], 1);
	assert_int_equal(sink.events[SP_RX_TRANSFER_INCOMPLETE], 0);
	assert_int_equal(sink.events[SP_RX_LINK_DOWN], 1);
	free(pass.items);
	sink_free(&sink);
	source_free(&source);
}

static void
test_harmed(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 20; round++) {
		struct source source;
		struct sink sink;
		struct pass pass;

		seed = 100 + round;
		/* 16 + 8: losing 24 % by chance alone is beyond any of these rounds */
		source_make(&source, sizes, SIZES, 16, 8);
		sink_make(&sink);
		pass = pass_make(&source, 0);
		pass_harm(&pass, 40, 50, 500);
		feed(&sink, &pass, 0, pass.count, 1, 0);
		expect_all(&sink, &source);
		assert_true(counts_of(&sink).assemble.repaired > 0);
		assert_true(counts_of(&sink).surplus + counts_of(&sink).assemble.duplicates > 0);
		free(pass.items);
		sink_free(&sink);
		source_free(&source);
	}
}

/* A burst of as many datagrams as codewords are interleaved, times m, costs each at most m. */
static void
test_burst(void **state)
{
	const size_t one[] = {32 * 1024};
	struct source source;
	struct pass pass;
	size_t manifest = 0;

	(void)state;
	seed = 3;
	source_make(&source, one, 1, 16, 4);
	pass = pass_make(&source, 0);
	while (pass.items[manifest].frame.flags & SP_FRAME_MANIFEST)
		manifest++;
	assert_int_equal(pass.count, 2 * manifest + 32 * 20);
	for (size_t begin = manifest; begin + 128 <= manifest + 32 * 20; begin += 37) {
		struct sink sink;

		sink_make(&sink);
		feed(&sink, &pass, 0, begin, 1, 0);
		feed(&sink, &pass, begin + 128, pass.count, 1, 0);
		expect_all(&sink, &source);
		sink_free(&sink);
	}
	free(pass.items);
	source_free(&source);
}

static void
test_second_pass(void **state)
{
	(void)state;
	for (int repeat_source = 0; repeat_source <= 1; repeat_source++) {
		struct source source;
		struct pass first, second;
		uint64_t missing_blocks = 0;
		struct sink sink;

		seed = 5;
		source_make(&source, sizes, SIZES, 16, 8);
		source.config.repeat_source = repeat_source;
		source_renew(&source);
		sink_make(&sink);
		first = pass_make(&source, 0);
		second = pass_make(&source, 1);
		pass_harm(&first, 380, 0, 0);
		feed(&sink, &first, 0, first.count, 1, 0);
		assert_int_equal(sink.events[SP_RX_TRANSFER_KNOWN], 1);
		/* this was not the last pass, so only silence ends it */
		tick(&sink, sink.config.idle_timeout_ms - 1);
		assert_int_equal(sink.events[SP_RX_TRANSFER_INCOMPLETE], 0);
		tick(&sink, sink.config.idle_timeout_ms);
		assert_int_equal(sink.events[SP_RX_TRANSFER_INCOMPLETE], 1);
		tick(&sink, 2 * sink.config.idle_timeout_ms);
		assert_int_equal(sink.events[SP_RX_TRANSFER_INCOMPLETE], 1);
		for (size_t i = 0; i < SIZES; i++) {
			struct sp_layout layout = {sizes[i], 16, sp_tx_parity(&source.config), 64};
			struct sp_object_id id;
			struct file *file;

			memcpy(id.b, source.objects[i].digest, sizeof(id.b));
			file = sink_file(&sink, &id);
			missing_blocks +=
			    sp_layout_blocks(&layout) - (file != NULL ? file->writes : 0);
		}
		assert_true(missing_blocks > 0);
		assert_int_equal(sink.gap_blocks, missing_blocks);
		/* without sources: 8 new rows of 24 for codewords that have 10 or more of 16 */
		pass_harm(&second, repeat_source ? 100 : 0, 0, 100);
		feed(&sink, &second, 0, second.count, 1, 20000);
		expect_all(&sink, &source);
		assert_true(counts_of(&sink).assemble.repaired > 0);
		free(first.items);
		free(second.items);
		sink_free(&sink);
		source_free(&source);
	}
}

/* The last pass closes: its end is known, and told soon. */
static void
test_closing(void **state)
{
	struct source source;
	struct sink sink;
	struct pass pass;
	size_t body;

	(void)state;
	seed = 7;
	source_make(&source, sizes, SIZES, 16, 4);
	sink_make(&sink);
	pass = pass_make(&source, 1);
	for (body = 0; (pass.items[body].frame.flags & SP_FRAME_MANIFEST) != 0; body++)
		;
	feed(&sink, &pass, 0, body + 40, 1, 1000);
	for (body = pass.count; (pass.items[body - 1].frame.flags & SP_FRAME_CLOSING) != 0; body--)
		;
	feed(&sink, &pass, body, pass.count, 1, 1000);
	tick(&sink, 1000 + sink.config.grace_ms - 1);
	assert_int_equal(sink.events[SP_RX_TRANSFER_INCOMPLETE], 0);
	tick(&sink, 1000 + sink.config.grace_ms);
	assert_int_equal(sink.events[SP_RX_TRANSFER_INCOMPLETE], 1);
	assert_true(sink.gap_bytes > 0);
	/* what comes late after all is taken */
	feed(&sink, &pass, 0, pass.count, 1, 3000);
	expect_all(&sink, &source);
	free(pass.items);
	sink_free(&sink);
	source_free(&source);
}

static void
test_manifest_at_the_end(void **state)
{
	struct source source;
	struct sink sink;
	struct pass pass;
	size_t body = 0;

	(void)state;
	seed = 9;
	source_make(&source, sizes, SIZES, 16, 4);
	sink_make(&sink);
	pass = pass_make(&source, 0);
	while (pass.items[body].frame.flags & SP_FRAME_MANIFEST)
		body++;
	feed(&sink, &pass, body, pass.count, 1, 0);
	expect_all(&sink, &source);
	assert_int_equal(sink.events[SP_RX_OBJECT_DONE], SIZES);
	free(pass.items);
	sink_free(&sink);
	source_free(&source);
}

/* Symbols of a manifest, but not enough of them: an end all the same. */
static void
test_manifest_lost(void **state)
{
	const size_t big[] = {3000, 4000, 5000, 6000, 7000, 8000, 9000, 1, 2, 3, 4, 5};
	struct source source;
	struct sink sink;
	struct pass pass;

	(void)state;
	seed = 11;
	source_make(&source, big, 12, 16, 4);
	sink_make(&sink);
	pass = pass_make(&source, 0);
	assert_true(pass.items[0].frame.layout.size > 2 * 64);
	feed(&sink, &pass, 0, 1, 1, 0);
	tick(&sink, sink.config.idle_timeout_ms);
	assert_int_equal(sink.events[SP_RX_TRANSFER_LOST], 1);
	assert_memory_equal(
	    &sink.last.object_id, &pass.items[0].frame.object, sizeof(sink.last.object_id));
	feed(&sink, &pass, 0, pass.count, 1, 10000);
	expect_all(&sink, &source);
	free(pass.items);
	sink_free(&sink);
	source_free(&source);
}

/* A receiver that died in the middle: nothing in its journal is received again. */
static void
test_restart(void **state)
{
	struct source source;
	struct sink sink;
	struct pass pass;
	struct file *file;
	struct sp_object_id id;
	unsigned before = 0;

	(void)state;
	seed = 13;
	source_make(&source, sizes, SIZES, 16, 4);
	source.config.interleave = 8; /* several rounds, so that half a pass completes something */
	source_renew(&source);
	sink_make(&sink);
	pass = pass_make(&source, 0);
	pass_harm(&pass, 30, 0, 0);
	feed(&sink, &pass, 0, pass.count / 2, 1, 0);
	sink_reconfigure(&sink);
	for (size_t i = 0; i < sink.count; i++) {
		uint8_t bits[64] = {0};

		file = &sink.files[i];
		for (uint64_t b = 0; b < sp_layout_blocks(&file->layout); b++)
			bits[b / 8] |= (uint8_t)(file->complete[b] << b % 8);
		if (file->is_verified && !file->is_manifest) {
			uint8_t digest[SP_DIGEST_LEN];

			sp_sha256(file->data, file->layout.size, digest);
			sp_rx_resume_verified(sink.rx, digest, file->layout.size, 0);
		} else {
			sp_rx_resume(sink.rx, &file->id, &file->layout, file->is_manifest, bits, 0);
		}
	}
	/* the manifest was whole: the transfer is known without a datagram */
	sink.events[SP_RX_TRANSFER_KNOWN] = 0;
	sink_settle(&sink, 0);
	assert_int_equal(sink.events[SP_RX_TRANSFER_KNOWN], 1);
	memcpy(id.b, source.objects[6].digest, sizeof(id.b));
	file = sink_file(&sink, &id);
	before = file->writes;
	assert_true(before > 0);
	free(pass.items);
	pass = pass_make(&source, 1);
	pass_harm(&pass, 30, 0, 0);
	feed(&sink, &pass, 0, pass.count, 2, 1); /* sink_write checks that nothing comes twice */
	expect_all(&sink, &source);
	assert_int_equal(file->writes, sp_layout_blocks(&file->layout));
	free(pass.items);
	sink_free(&sink);
	source_free(&source);
}

/* Bytes that are not those of the digest are found, named, and may come again. */
static void
test_corrupt(void **state)
{
	struct source source;
	struct sink sink;
	struct pass pass;
	size_t i = 0;

	(void)state;
	seed = 15;
	source_make(&source, sizes, SIZES, 16, 4);
	sink_make(&sink);
	pass = pass_make(&source, 0);
	while (pass.items[i].frame.index != 2 ||
	       memcmp(&pass.items[i].frame.object, source.objects[6].digest, 16) != 0)
		i++;
	pass.items[i].payload[5] ^= 1;
	feed(&sink, &pass, 0, pass.count, 1, 0);
	assert_int_equal(sink.events[SP_RX_OBJECT_FAILED], 1);
	assert_int_equal(sink.events[SP_RX_TRANSFER_DONE], 0);
	assert_non_null(strstr(sink.text, "SHA-256"));
	pass.items[i].payload[5] ^= 1;
	feed(&sink, &pass, 0, pass.count, 1, 0);
	expect_all(&sink, &source);
	free(pass.items);
	sink_free(&sink);
	source_free(&source);
}

/* …, and a sender whose file has changed stops, naming it. */
static void
test_corrupt_at_sender(void **state)
{
	struct source source;
	const uint8_t *payload;
	struct sp_frame frame;
	struct sp_err err;
	enum sp_code code;

	(void)state;
	seed = 17;
	source_make(&source, sizes, SIZES, 16, 4);
	source.data[6][99999] ^= 1;
	do
		code = sp_tx_next(source.tx, &frame, &payload, &err);
	while (code == SP_OK && payload != NULL);
	assert_int_equal(code, SP_E_CORRUPT);
	assert_non_null(strstr(err.msg, sp_hex_of(source.objects[6].digest).s));
	/* once it is restored, the pass can be sent */
	source.data[6][99999] ^= 1;
	sp_tx_start(source.tx, 0);
	do
		code = sp_tx_next(source.tx, &frame, &payload, &err);
	while (code == SP_OK && payload != NULL);
	assert_int_equal(code, SP_OK);
	source_free(&source);
}

static void
test_limits(void **state)
{
	struct source source;
	struct sink sink;
	struct pass pass;

	(void)state;
	seed = 19;
	source_make(&source, sizes, SIZES, 16, 4);
	pass = pass_make(&source, 0);
	/* the spool is too small for the transfer */
	sink_make(&sink);
	sink.config.spool_max_bytes = 100000;
	sink_reconfigure(&sink);
	feed(&sink, &pass, 0, 40, 1, 0);
	assert_int_equal(sink.events[SP_RX_TRANSFER_REFUSED], 1);
	assert_int_equal(
	    sink.last.kind == SP_RX_TRANSFER_REFUSED ? sink.last.code : SP_OK, SP_E_LIMIT);
	assert_non_null(strstr(sink.text, "spool_max_bytes"));
	sink_free(&sink);
	/* strays: what no manifest names is kept within its limit, and pushes out only strays */
	sink_make(&sink);
	sink.config.stray_max_bytes = 5000;
	sink_reconfigure(&sink);
	for (size_t i = 0; i < pass.count; i++)
		if ((pass.items[i].frame.flags & SP_FRAME_MANIFEST) == 0)
			feed(&sink, &pass, i, i + 1, 1, 0);
	assert_true(counts_of(&sink).refused > 1000); /* the one of 100,000 bytes */
	assert_int_equal(sink.events[SP_RX_TRANSFER_KNOWN], 0);
	feed(&sink, &pass, 0, pass.count, 1, 0);
	expect_all(&sink, &source);
	sink_free(&sink);
	/* memory: never more than allowed, whatever is incomplete */
	sink_make(&sink);
	sink.config.memory_max_bytes = 50000;
	sink_reconfigure(&sink);
	for (size_t i = 0; i < pass.count; i++)
		if (pass.items[i].frame.index % 3 == 0 || pass.items[i].frame.flags != 0)
			feed(&sink, &pass, i, i + 1, 1, 0);
	assert_true(counts_of(&sink).assemble.evicted > 0);
	assert_true(sink.memory_most <= 50000);
	sink_free(&sink);
	free(pass.items);
	source_free(&source);
}

/* A full disk loses codewords, no more: a later pass brings them. */
static void
test_full_disk(void **state)
{
	struct source source;
	struct sink sink;
	struct pass pass;

	(void)state;
	seed = 21;
	source_make(&source, sizes, SIZES, 16, 4);
	sink_make(&sink);
	pass = pass_make(&source, 0);
	sink.failing_writes = 20;
	feed(&sink, &pass, 0, pass.count, 1, 0);
	assert_int_equal(sink.failing_writes, 0);
	assert_int_equal(sink.events[SP_RX_TRANSFER_DONE], 0);
	feed(&sink, &pass, 0, pass.count, 1, 0);
	expect_all(&sink, &source);
	free(pass.items);
	sink_free(&sink);
	source_free(&source);
}

static int
have_the_large_one(void *ctx, const uint8_t digest[SP_DIGEST_LEN])
{
	const struct source *source = ctx;

	return memcmp(digest, source->objects[6].digest, SP_DIGEST_LEN) == 0;
}

static void
test_forget_and_have(void **state)
{
	struct source source;
	struct sink sink;
	struct pass pass;

	(void)state;
	seed = 23;
	source_make(&source, sizes, SIZES, 16, 4);
	sink_make(&sink);
	pass = pass_make(&source, 0);
	feed(&sink, &pass, 0, pass.count, 1, 0);
	expect_all(&sink, &source);
	sp_rx_forget(sink.rx, JOB, 0);
	sink_settle(&sink, 0);
	assert_int_equal(sink.drops, SIZES + 1); /* and the manifest */
	for (size_t i = 0; i < sink.count; i++)
		assert_null(sink.files[i].data);
	/* the rest of its passes means nothing now */
	feed(&sink, &pass, 0, pass.count, 1, 100);
	tick(&sink, 101);
	assert_int_equal(sink.events[SP_RX_TRANSFER_KNOWN], 1);
	/* after silence it may come anew, but not what the owner has by now */
	tick(&sink, 100 + sink.config.idle_timeout_ms);
	sink.config.have = have_the_large_one;
	sink.config.have_ctx = &source;
	sink_reconfigure(&sink);
	feed(&sink, &pass, 0, pass.count, 1, 10000);
	assert_int_equal(sink.events[SP_RX_TRANSFER_DONE], 2);
	assert_int_equal(sink.events[SP_RX_OBJECT_DONE], SIZES + SIZES - 1);
	free(pass.items);
	sink_free(&sink);
	source_free(&source);
}

/* A sender that starts anew with another code; the old one's late symbols are no danger. */
static void
test_other_layout(void **state)
{
	struct source source;
	struct sink sink;
	struct pass old, new;

	(void)state;
	seed = 25;
	source_make(&source, sizes, SIZES, 16, 4);
	sink_make(&sink);
	old = pass_make(&source, 0);
	source.config.k = 10;
	source.config.symbol_size = 128;
	source_renew(&source);
	new = pass_make(&source, 0);
	feed(&sink, &old, 0, old.count / 2, 1, 0);
	feed(&sink, &new, 0, new.count / 2, 2, 0);
	feed(&sink, &old, old.count / 2, old.count - 60, 1, 0);
	assert_true(counts_of(&sink).mismatched > 0);
	feed(&sink, &new, new.count / 2, new.count, 2, 0);
	expect_all(&sink, &source);
	free(old.items);
	free(new.items);
	sink_free(&sink);
	source_free(&source);
}

/* Datagrams of a sender that holds the key and says anything at all: no crash, bounded memory. */
static void
test_hostile_sender(void **state)
{
	static const uint64_t block_sizes[] = {1, 64, 1000, 1 << 20, 1ull << 33, 1ull << 47};
	uint8_t payload[SP_FRAME_SYMBOL_MAX], header[SP_FRAME_MAX];
	struct sp_frame frame, parsed;
	unsigned accepted = 0;
	struct sink sink;

	(void)state;
	seed = 27;
	sink_make(&sink);
	sink.config.memory_max_bytes = 1 << 20;
	sink.config.spool_max_bytes = 1 << 22;
	sink.config.stray_max_bytes = 1 << 21;
	sink_reconfigure(&sink);
	for (unsigned i = 0; i < 200000; i++) {
		struct sp_rx_action action;

		memset(&frame, 0, sizeof(frame));
		frame.flags = (unsigned)(draw() % 4);
		frame.pass = (unsigned)(draw() % 3);
		frame.passes = 3;
		frame.object.b[0] = (uint8_t)(draw() % 50);
		frame.layout.size = block_sizes[draw() % 6] + draw() % 3;
		frame.layout.k = (unsigned)(draw() % 20);
		frame.layout.parity = (unsigned)(draw() % 10);
		frame.layout.symbol_size = (unsigned)(64 + draw() % 3);
		frame.block = draw() % 4 == 0 ? draw() % 100 : 0;
		frame.index = (unsigned)(draw() % 30);
		sp_frame_write(&frame, header);
		if (sp_frame_parse(header, sp_frame_len(&frame), &parsed) != SP_FRAME_OK)
			continue;
		accepted++;
		sp_rx_datagram(sink.rx, &parsed, payload, draw() % 100 + i / 1000, i);
		while (sp_rx_next(sink.rx, &action)) {
			uint8_t digest[SP_DIGEST_LEN] = {0};

			if (action.kind == SP_RX_WRITE)
				sp_rx_written(sink.rx, &action, SP_OK, i);
			if (action.kind != SP_RX_VERIFY)
				continue;
			/* a manifest of noise */
			memcpy(digest, action.id.b, sizeof(action.id.b));
			memset(payload, (int)draw(), sizeof(payload));
			sp_rx_verified(sink.rx, &action.id, SP_OK, digest,
			    action.is_manifest ? payload : NULL, action.is_manifest ? 64 : 0, i);
		}
		sp_rx_tick(sink.rx, i);
		assert_true(counts_of(&sink).assemble.memory_bytes <= 1 << 20);
	}
	assert_true(accepted > 10000);
	sink_free(&sink);
}

static void
test_manifest_rules(void **state)
{
	struct source source;
	struct sp_manifest got;
	struct sp_err err;
	uint8_t *data;
	size_t len;

	(void)state;
	seed = 29;
	source_make(&source, sizes, SIZES, 16, 4);
	assert_int_equal(sp_manifest_pack(&source.manifest, &data, &len, &err), SP_OK);
	assert_int_equal(sp_manifest_parse(data, len, &got, &err), SP_OK);
	assert_int_equal(got.count, SIZES);
	assert_string_equal(got.job, JOB);
	for (size_t i = 0; i < SIZES; i++) {
		assert_memory_equal(got.objects[i].digest, source.objects[i].digest, SP_DIGEST_LEN);
		assert_int_equal(got.objects[i].size, sizes[i]);
	}
	sp_manifest_clear(&got);
	for (size_t cut = 0; cut < len; cut++) /* a cut may still be a message, but no manifest */
		if (sp_manifest_parse(data, cut, &got, &err) == SP_OK) {
			assert_true(got.count < SIZES);
			sp_manifest_clear(&got);
		}
	for (size_t bit = 0; bit < 8 * len;
	     bit++) { /* no crash; what is accepted obeys the rules */
		data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		if (sp_manifest_parse(data, len, &got, &err) == SP_OK)
			sp_manifest_clear(&got);
		data[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	free(data);
	source.manifest.job[3] = 'G';
	assert_int_equal(sp_manifest_pack(&source.manifest, &data, &len, &err), SP_E_INVALID);
	source.manifest.job[3] = '3';
	source.objects[1].kind = SP_OBJECT_RELEASE;
	assert_int_equal(sp_manifest_pack(&source.manifest, &data, &len, &err), SP_E_INVALID);
	source.objects[1].kind = 4;
	assert_int_equal(sp_manifest_pack(&source.manifest, &data, &len, &err), SP_E_INVALID);
	source.objects[1].kind = SP_OBJECT_TREE;
	memcpy(source.objects[1].digest, source.objects[2].digest, SP_FRAME_ID_LEN);
	assert_int_equal(sp_manifest_pack(&source.manifest, &data, &len, &err), SP_E_INVALID);
	source.objects[1].digest[0] ^= 1;
	source.manifest.release[0] ^= 1;
	assert_int_equal(sp_manifest_pack(&source.manifest, &data, &len, &err), SP_E_INVALID);
	source.manifest.count = 0;
	assert_int_equal(sp_manifest_pack(&source.manifest, &data, &len, &err), SP_E_INVALID);
	source.manifest.count = SIZES;
	source_free(&source);
}

/* A job has one transfer at a time: whoever sends another manifest of it cannot disturb the first.
 */
static void
test_one_transfer_of_a_job(void **state)
{
	const size_t more[] = {700, 1024, 300, 65};
	struct source source, other;
	struct pass pass, second;
	struct sink sink;

	(void)state;
	seed = 29;
	source_make(&source, more, 3, 16, 4);
	seed = 29; /* the same first three objects */
	source_make(&other, more, 4, 16, 4);
	pass = pass_make(&source, 1); /* the last one */
	second = pass_make(&other, 0);
	sink_make(&sink);
	feed(&sink, &pass, 0, pass.count / 2, 1, 0);
	assert_int_equal(sink.events[SP_RX_TRANSFER_KNOWN], 1);
	feed(&sink, &second, 0, second.count, 1, 0);
	assert_int_equal(sink.events[SP_RX_TRANSFER_REFUSED], 1);
	assert_non_null(strstr(sink.text, "another transfer of it"));
	assert_int_equal(sink.events[SP_RX_TRANSFER_KNOWN], 1);
	feed(&sink, &pass, pass.count / 2, pass.count, 1, 0);
	expect_all(&sink, &source);
	sink_free(&sink);

	/* what waits in vain is replaced, and what both name is not sent twice */
	sink_make(&sink);
	for (size_t i = 0; i < pass.count; i++)
		if (memcmp(&pass.items[i].frame.object, source.objects[2].digest, 16) != 0)
			feed(&sink, &pass, i, i + 1, 1, 0);
	tick(&sink, sink.config.grace_ms);
	assert_int_equal(sink.events[SP_RX_TRANSFER_INCOMPLETE], 1);
	feed(&sink, &second, 0, second.count, 1, 10000);
	assert_int_equal(sink.events[SP_RX_TRANSFER_KNOWN], 2);
	expect_all(&sink, &other);
	assert_int_equal(sink.drops, 1); /* the first manifest */
	sink_free(&sink);
	free(pass.items);
	free(second.items);
	source_free(&source);
	source_free(&other);
}

/* What nobody takes gives way in the end, but not before its owner had time. */
static void
test_complete_gives_way(void **state)
{
	const size_t one[] = {5000};
	struct source source, other;
	struct pass pass, second;
	struct sink sink;

	(void)state;
	seed = 31;
	source_make(&source, one, 1, 16, 4);
	source_make(&other, one, 1, 16, 4);
	other.manifest.job[0] = 'f';
	source_renew(&other);
	pass = pass_make(&source, 0);
	second = pass_make(&other, 0);
	sink_make(&sink);
	sink.config.spool_max_bytes = 8000;
	sink_reconfigure(&sink);
	feed(&sink, &pass, 0, pass.count, 1, 0);
	assert_int_equal(sink.events[SP_RX_TRANSFER_DONE], 1);
	feed(&sink, &second, 0, second.count, 1, 1);
	assert_int_equal(sink.events[SP_RX_TRANSFER_REFUSED], 1);
	tick(&sink, sink.config.keep_ms - 1);
	feed(&sink, &second, 0, second.count, 1, sink.config.keep_ms - 1);
	assert_int_equal(sink.events[SP_RX_TRANSFER_DONE], 1);
	tick(&sink, 2 * sink.config.keep_ms);
	feed(&sink, &second, 0, second.count, 1, 2 * sink.config.keep_ms);
	assert_int_equal(sink.events[SP_RX_TRANSFER_DONE], 2);
	sink_free(&sink);
	free(pass.items);
	free(second.items);
	source_free(&source);
	source_free(&other);
}

/* Small objects that no manifest names cost memory as large ones do. */
static void
test_many_strays(void **state)
{
	const unsigned most = 2 * SP_MANIFEST_OBJECTS_MAX, more = 7;
	uint8_t payload[SP_FRAME_SYMBOL_MAX] = {0};
	struct sp_frame frame = {.type = SP_FRAME_SYMBOL, .passes = 1, .layout = {100, 2, 1, 64}};
	unsigned drops = 0;
	struct sink sink;

	(void)state;
	sink_make(&sink);
	for (unsigned i = 0; i < most + more; i++) {
		struct sp_rx_action action;
		const uint32_t id = i * 2654435761u; /* odd: as different as i */

		memcpy(frame.object.b, &id, sizeof(id));
		sp_rx_datagram(sink.rx, &frame, payload, 1, 0);
		while (sp_rx_next(sink.rx, &action))
			drops += action.kind == SP_RX_DROP;
	}
	assert_int_equal(drops, more);
	assert_int_equal(counts_of(&sink).refused, 0);
	sink_free(&sink);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_clean),
	    cmocka_unit_test(test_harmed),
	    cmocka_unit_test(test_burst),
	    cmocka_unit_test(test_second_pass),
	    cmocka_unit_test(test_closing),
	    cmocka_unit_test(test_manifest_at_the_end),
	    cmocka_unit_test(test_manifest_lost),
	    cmocka_unit_test(test_restart),
	    cmocka_unit_test(test_corrupt),
	    cmocka_unit_test(test_corrupt_at_sender),
	    cmocka_unit_test(test_limits),
	    cmocka_unit_test(test_full_disk),
	    cmocka_unit_test(test_forget_and_have),
	    cmocka_unit_test(test_other_layout),
	    cmocka_unit_test(test_hostile_sender),
	    cmocka_unit_test(test_manifest_rules),
	    cmocka_unit_test(test_one_transfer_of_a_job),
	    cmocka_unit_test(test_complete_gives_way),
	    cmocka_unit_test(test_many_strays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
