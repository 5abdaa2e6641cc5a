/* diode_rx.c -- sender's core to receiver's core in memory, over a channel that loses, repeats and
 * shuffles by a seeded generator. The test executes the receiver's actions. */
#include "diode/rx.h"
#include "diode/tx.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OBJECTS_MAX 16
#define JOB "0123456789abcdef0123456789abcdef"

static uint64_t seed;

/* splitmix64 (Steele, Lea, Flood 2014) */
static uint64_t
draw(void)
{
	uint64_t z = (seed += 0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static int
chance(unsigned permille)
{
	return draw() % 1000 < permille;
}

/* --- the sending side --- */

struct source {
	struct sp_manifest manifest;
	struct sp_object objects[OBJECTS_MAX];
	uint8_t *data[OBJECTS_MAX];
	struct sp_tx_config config;
	struct sp_tx *tx;
};

struct datagram {
	struct sp_frame frame;
	uint8_t payload[SP_FRAME_SYMBOL_MAX];
};

struct pass {
	struct datagram *items;
	size_t count;
};

static enum sp_code
read_object(void *ctx, size_t object, uint64_t offset, uint8_t *out, size_t len, struct sp_err *err)
{
	struct source *source = ctx;

	(void)err;
	assert_true(offset + len <= source->objects[object].size);
	memcpy(out, source->data[object] + offset, len);
	return SP_OK;
}

static void
source_make(struct source *source, const size_t *sizes, size_t count, unsigned k, unsigned m)
{
	struct sp_err err;

	memset(source, 0, sizeof(*source));
	memcpy(source->manifest.job, JOB, sizeof(JOB));
	source->manifest.objects = source->objects;
	source->manifest.count = count;
	for (size_t i = 0; i < count; i++) {
		source->data[i] = malloc(sizes[i] + 1);
		for (size_t j = 0; j < sizes[i]; j++)
			source->data[i][j] = (uint8_t)draw();
		source->objects[i].size = sizes[i];
		source->objects[i].kind = i == 0 ? SP_OBJECT_RELEASE : SP_OBJECT_BLOB;
		sp_sha256(source->data[i], sizes[i], source->objects[i].digest);
	}
	memcpy(source->manifest.release, source->objects[0].digest, SP_DIGEST_LEN);
	sp_tx_defaults(&source->config);
	source->config.k = k;
	source->config.m = m;
	source->config.symbol_size = 64;
	source->config.interleave = 32;
	source->config.passes = 2;
	assert_int_equal(
	    sp_tx_new(&source->config, &source->manifest, read_object, source, &source->tx, &err),
	    SP_OK);
}

/* Takes up changes of source->config. */
static void
source_renew(struct source *source)
{
	struct sp_err err;

	sp_tx_free(&source->tx);
	assert_int_equal(
	    sp_tx_new(&source->config, &source->manifest, read_object, source, &source->tx, &err),
	    SP_OK);
}

static void
source_free(struct source *source)
{
	sp_tx_free(&source->tx);
	for (size_t i = 0; i < source->manifest.count; i++)
		free(source->data[i]);
}

static struct pass
pass_make(struct source *source, unsigned number)
{
	struct pass pass = {0};
	const uint8_t *payload;
	struct sp_frame frame;
	struct sp_err err;
	size_t cap = 0;

	sp_tx_start(source->tx, number);
	for (;;) {
		assert_int_equal(sp_tx_next(source->tx, &frame, &payload, &err), SP_OK);
		if (payload == NULL)
			return pass;
		if (pass.count == cap) {
			cap = cap == 0 ? 1024 : 2 * cap;
			pass.items = realloc(pass.items, cap * sizeof(*pass.items));
			assert_non_null(pass.items);
		}
		pass.items[pass.count].frame = frame;
		memcpy(pass.items[pass.count++].payload, payload, frame.layout.symbol_size);
	}
}

/* Loses, repeats, and swaps datagrams with others at most distance away. */
static void
pass_harm(struct pass *pass, unsigned lose_permille, unsigned repeat_permille, size_t distance)
{
	struct datagram *out = malloc((2 * pass->count + 1) * sizeof(*out));
	size_t count = 0;

	for (size_t i = 0; i < pass->count; i++) {
		if (chance(lose_permille))
			continue;
		out[count++] = pass->items[i];
		if (chance(repeat_permille))
			out[count++] = pass->items[i];
	}
	for (size_t i = 0; distance > 0 && i < count; i++) {
		size_t j = i + draw() % distance;
		struct datagram other;

		if (j >= count)
			continue;
		other = out[i];
		out[i] = out[j];
		out[j] = other;
	}
	free(pass->items);
	pass->items = out;
	pass->count = count;
}

/* --- the receiving side --- */

struct file {
	struct sp_object_id id;
	struct sp_layout layout;
	int is_manifest, is_verified;
	uint8_t *data;
	uint8_t *complete; /* a byte per codeword: the journal */
	unsigned writes;
};

struct sink {
	struct sp_rx_config config;
	struct sp_rx *rx;
	struct file files[OBJECTS_MAX + 2];
	size_t count;
	unsigned events[SP_RX_LINK_DOWN + 1];
	struct sp_rx_event last; /* by kind's own fields; pointers not to be followed */
	char text[SP_ERR_MSG_MAX];
	uint64_t gap_blocks, gap_bytes;
	unsigned failing_writes; /* so many more writes meet a full disk */
	unsigned drops;
	uint64_t memory_most;
};

static struct file *
sink_file(struct sink *sink, const struct sp_object_id *id)
{
	for (size_t i = 0; i < sink->count; i++)
		if (memcmp(&sink->files[i].id, id, sizeof(*id)) == 0)
			return &sink->files[i];
	return NULL;
}

static void
sink_write(struct sink *sink, const struct sp_rx_action *action)
{
	struct file *file = sink_file(sink, &action->id);
	uint64_t offset = sp_layout_block_offset(&action->layout, action->block);

	if (file == NULL) {
		assert_true(sink->count < OBJECTS_MAX + 2);
		file = &sink->files[sink->count++];
		memset(file, 0, sizeof(*file));
		file->id = action->id;
	}
	if (file->data == NULL) {
		file->layout = action->layout;
		file->is_manifest = action->is_manifest;
		file->data = calloc(1, action->layout.size);
		file->complete = calloc(1, sp_layout_blocks(&action->layout));
	}
	assert_int_equal(file->complete[action->block], 0); /* nothing is written twice */
	memcpy(
	    file->data + offset, action->data, sp_layout_block_len(&action->layout, action->block));
	file->complete[action->block] = 1;
	file->writes++;
}

static void
sink_drop(struct sink *sink, const struct sp_object_id *id)
{
	struct file *file = sink_file(sink, id);

	sink->drops++;
	if (file == NULL)
		return;
	free(file->data);
	free(file->complete);
	file->data = file->complete = NULL;
	file->is_verified = 0;
}

static void
sink_event(struct sink *sink, const struct sp_rx_event *event)
{
	sink->events[event->kind]++;
	sink->last = *event;
	if (event->text != NULL)
		strncpy(sink->text, event->text, sizeof(sink->text) - 1);
	if (event->kind == SP_RX_TRANSFER_INCOMPLETE) {
		sink->gap_blocks = sink->gap_bytes = 0;
		for (size_t i = 0; i < event->gap_count; i++) {
			sink->gap_blocks += event->gaps[i].count;
			sink->gap_bytes += event->gaps[i].bytes;
		}
		assert_int_equal(sink->gap_bytes, event->missing_bytes);
	}
	if (event->kind == SP_RX_OBJECT_DONE) {
		struct sp_object_id id;
		struct file *file;

		assert_string_equal(event->manifest->job, JOB);
		memcpy(id.b, event->object->digest, sizeof(id.b));
		file = sink_file(sink, &id);
		assert_true(event->object->size == 0 || (file != NULL && file->is_verified));
	}
}

/* Executes what the core asks for, at once. */
static void
sink_settle(struct sink *sink, int64_t now_ms)
{
	struct sp_rx_action action;
	struct sp_rx_counts counts;
	uint8_t digest[SP_DIGEST_LEN];
	struct file *file;

	sp_rx_counts(sink->rx, &counts);
	if (counts.assemble.memory_bytes > sink->memory_most)
		sink->memory_most = counts.assemble.memory_bytes;
	while (sp_rx_next(sink->rx, &action)) {
		switch (action.kind) {
		case SP_RX_WRITE:
			if (sink->failing_writes > 0) {
				sink->failing_writes--;
				sp_rx_written(sink->rx, &action, SP_E_NO_SPACE, now_ms);
				break;
			}
			sink_write(sink, &action);
			sp_rx_written(sink->rx, &action, SP_OK, now_ms);
			break;
		case SP_RX_VERIFY:
			file = sink_file(sink, &action.id);
			assert_true(action.layout.size == 0 || file != NULL);
			sp_sha256(action.layout.size == 0 ? digest : file->data, action.layout.size,
			    digest);
			if (file != NULL)
				file->is_verified = 1;
			sp_rx_verified(sink->rx, &action.id, SP_OK, digest,
			    action.is_manifest ? file->data : NULL, action.layout.size, now_ms);
			break;
		case SP_RX_DROP:
			sink_drop(sink, &action.id);
			break;
		case SP_RX_EVENT:
			sink_event(sink, &action.event);
			break;
		}
	}
}

static void
sink_make(struct sink *sink)
{
	memset(sink, 0, sizeof(*sink));
	sp_rx_defaults(&sink->config);
	sink->rx = sp_rx_new(&sink->config);
}

static void
sink_reconfigure(struct sink *sink)
{
	sp_rx_free(&sink->rx);
	sink->rx = sp_rx_new(&sink->config);
}

static void
sink_free(struct sink *sink)
{
	sp_rx_free(&sink->rx);
	for (size_t i = 0; i < sink->count; i++) {
		free(sink->files[i].data);
		free(sink->files[i].complete);
	}
}

/* Feeds datagrams [from, to) of a pass; frees none of it. */
static void
feed(struct sink *sink, const struct pass *pass, size_t from, size_t to, uint64_t session,
    int64_t now_ms)
{
	for (size_t i = from; i < to && i < pass->count; i++) {
		/* the core may rely on the parser, so no test feeds what that refuses */
		uint8_t header[SP_FRAME_MAX] = {0};
		struct sp_frame parsed;

		sp_frame_write(&pass->items[i].frame, header);
		assert_int_equal(
		    sp_frame_parse(header, sp_frame_len(&pass->items[i].frame), &parsed),
		    SP_FRAME_OK);
		sp_rx_datagram(sink->rx, &parsed, pass->items[i].payload, session, now_ms);
		sink_settle(sink, now_ms);
	}
}

static void
tick(struct sink *sink, int64_t now_ms)
{
	sp_rx_tick(sink->rx, now_ms);
	sink_settle(sink, now_ms);
}

static void
expect_all(struct sink *sink, const struct source *source)
{
	assert_int_equal(sink->events[SP_RX_TRANSFER_DONE], 1);
	for (size_t i = 0; i < source->manifest.count; i++) {
		struct sp_object_id id;
		struct file *file;

		if (source->objects[i].size == 0)
			continue;
		memcpy(id.b, source->objects[i].digest, sizeof(id.b));
		file = sink_file(sink, &id);
		assert_non_null(file);
		assert_true(file->is_verified);
		assert_memory_equal(file->data, source->data[i], source->objects[i].size);
	}
}

static struct sp_rx_counts
counts_of(const struct sink *sink)
{
	struct sp_rx_counts counts;

	sp_rx_counts(sink->rx, &counts);
	return counts;
}

static const size_t sizes[] = {700, 0, 1, 64, 1024, 1025, 100000, 65, 3};
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

/* --- tests --- */

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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
