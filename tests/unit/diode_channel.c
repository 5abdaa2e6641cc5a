/* diode_channel.c -- sender's core to receiver's core in memory. Executes the receiver's actions.
 */
#include "diode_channel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

uint64_t seed;

uint64_t
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

static enum sp_code
read_object(void *ctx, size_t object, uint64_t offset, uint8_t *out, size_t len, struct sp_err *err)
{
	struct source *source = ctx;

	(void)err;
	assert_true(offset + len <= source->objects[object].size);
	memcpy(out, source->data[object] + offset, len);
	return SP_OK;
}

void
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

void
source_renew(struct source *source)
{
	struct sp_err err;

	sp_tx_free(&source->tx);
	assert_int_equal(
	    sp_tx_new(&source->config, &source->manifest, read_object, source, &source->tx, &err),
	    SP_OK);
}

void
source_free(struct source *source)
{
	sp_tx_free(&source->tx);
	for (size_t i = 0; i < source->manifest.count; i++)
		free(source->data[i]);
}

struct pass
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

void
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

struct file *
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

		assert_string_equal(event->manifest->job + 1, &JOB[1]);
		memcpy(id.b, event->object->digest, sizeof(id.b));
		file = sink_file(sink, &id);
		assert_true(event->object->size == 0 || (file != NULL && file->is_verified));
	}
}

void
sink_settle(struct sink *sink, int64_t now_ms)
{
	struct sp_rx_action action;
	struct sp_rx_counts counts;
	uint8_t digest[SP_DIGEST_LEN];
	const uint8_t *data;
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
			data = file != NULL ? file->data : NULL;
			assert_true(action.layout.size == 0 || data != NULL);
			sp_sha256(data, action.layout.size, digest);
			if (file != NULL)
				file->is_verified = 1;
			sp_rx_verified(sink->rx, &action.id, SP_OK, digest,
			    action.is_manifest ? data : NULL, action.layout.size, now_ms);
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

void
sink_make(struct sink *sink)
{
	memset(sink, 0, sizeof(*sink));
	sp_rx_defaults(&sink->config);
	sink->rx = sp_rx_new(&sink->config);
}

void
sink_reconfigure(struct sink *sink)
{
	sp_rx_free(&sink->rx);
	sink->rx = sp_rx_new(&sink->config);
}

void
sink_free(struct sink *sink)
{
	sp_rx_free(&sink->rx);
	for (size_t i = 0; i < sink->count; i++) {
		free(sink->files[i].data);
		free(sink->files[i].complete);
	}
}

void
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

void
tick(struct sink *sink, int64_t now_ms)
{
	sp_rx_tick(sink->rx, now_ms);
	sink_settle(sink, now_ms);
}

void
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

struct sp_rx_counts
counts_of(const struct sink *sink)
{
	struct sp_rx_counts counts;

	sp_rx_counts(sink->rx, &counts);
	return counts;
}
