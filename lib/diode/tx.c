/* tx.c -- the sender's core: an iterator over the symbols of a pass. */
#include "diode/tx.h"

#include "diode/fec.h"

#include <stdlib.h>
#include <string.h>

#define PASSES_OF_PARITY 3 /* passes with rows of their own at the default of 128 + 32 */
#define PARITY_MIN 8
#define INTERLEAVE_MAX 1024

/* What a round is made of. */
enum stage { STAGE_OPENING, STAGE_OBJECTS, STAGE_CLOSING, STAGE_END };

/* A codeword of the current round. Its buffers are slot * k and slot * m symbols into the arenas.
 */
struct slot {
	struct sp_frame frame; /* all but index, session and counter */
	unsigned source;       /* source symbols to send: 0 in a parity pass */
	unsigned first;	       /* first parity row to send */
	unsigned total;	       /* symbols to send, parity included */
	unsigned sent;
};

struct sp_tx {
	struct sp_tx_config config;
	struct sp_manifest manifest;
	uint8_t *manifest_data;
	size_t manifest_len;
	struct sp_object manifest_object;
	sp_tx_read_fn *read;
	void *ctx;
	struct sp_fec *fec;
	struct sp_hash *hash;

	unsigned pass;
	enum stage stage; /* of the next round */
	size_t object;	  /* the next codeword to be read: its object … */
	uint64_t block;	  /* … and number in it */
	uint64_t done, total;
	unsigned
	    round_limit; /* codewords per round of objects: rounds of one pass are of one size */

	struct slot *slots;
	unsigned slot_count;
	unsigned longest; /* symbols of the longest codeword of the round: its number of turns */
	unsigned turn, cursor; /* which turn, and which slot in it is asked next */
	uint8_t *source;       /* interleave * k symbols */
	uint8_t *parity;       /* interleave * m symbols */
};

void
sp_tx_defaults(struct sp_tx_config *config)
{
	config->k = 128;
	config->m = 32;
	config->passes = 1;
	config->symbol_size = SP_FRAME_SYMBOL_DEFAULT;
	config->interleave = 256;
	config->repeat_source = 1;
}

unsigned
sp_tx_parity(const struct sp_tx_config *config)
{
	unsigned most = SP_LAYOUT_SYMBOLS_MAX - config->k;

	return config->m * PASSES_OF_PARITY < most ? config->m * PASSES_OF_PARITY : most;
}

static struct sp_layout
layout_of(const struct sp_tx *tx, const struct sp_object *object)
{
	struct sp_layout layout = {
	    object->size, tx->config.k, sp_tx_parity(&tx->config), tx->config.symbol_size};

	return layout;
}

static enum sp_code
check_config(const struct sp_tx_config *config, struct sp_err *err)
{
	if (config->k < 1 || config->m < 1 || config->k > SP_LAYOUT_SYMBOLS_MAX ||
	    config->m > SP_LAYOUT_SYMBOLS_MAX - config->k)
		return sp_err_set(err, SP_E_CONFIG,
		    "k %u with m %u: each at least 1, together at most %d", config->k, config->m,
		    SP_LAYOUT_SYMBOLS_MAX);
	if (config->passes < 1 || config->passes > UINT8_MAX)
		return sp_err_set(err, SP_E_CONFIG, "%u passes: 1 to 255", config->passes);
	if (config->symbol_size < SP_LAYOUT_SYMBOL_MIN || config->symbol_size > SP_FRAME_SYMBOL_MAX)
		return sp_err_set(err, SP_E_CONFIG, "symbol size %u: %d to %d bytes",
		    config->symbol_size, SP_LAYOUT_SYMBOL_MIN, SP_FRAME_SYMBOL_MAX);
	if (config->interleave < 1 || config->interleave > INTERLEAVE_MAX)
		return sp_err_set(err, SP_E_CONFIG, "interleave %u: 1 to %d codewords",
		    config->interleave, INTERLEAVE_MAX);
	return SP_OK;
}

/* Packs the manifest, which checks it, and keeps what the parser reads from that. */
static enum sp_code
take_manifest(struct sp_tx *tx, const struct sp_manifest *manifest, struct sp_err *err)
{
	enum sp_code code = sp_manifest_pack(manifest, &tx->manifest_data, &tx->manifest_len, err);

	if (code == SP_OK)
		code = sp_manifest_parse(tx->manifest_data, tx->manifest_len, &tx->manifest, err);
	if (code != SP_OK)
		return code;
	sp_sha256(tx->manifest_data, tx->manifest_len, tx->manifest_object.digest);
	tx->manifest_object.size = tx->manifest_len;
	for (size_t i = 0; i < tx->manifest.count; i++) {
		const struct sp_object *object = &tx->manifest.objects[i];
		struct sp_layout layout = layout_of(tx, object);

		if (sp_layout_check(&layout, err) != SP_OK)
			return sp_err_prefix(err, "object %s", sp_hex_of(object->digest).s);
		tx->total += object->size;
	}
	return SP_OK;
}

/* Full rounds and a short last one would leave the last without protection against bursts. */
static unsigned
even_rounds(const struct sp_tx *tx)
{
	uint64_t blocks = 0, rounds;

	for (size_t i = 0; i < tx->manifest.count; i++) {
		struct sp_layout layout = layout_of(tx, &tx->manifest.objects[i]);

		blocks += sp_layout_blocks(&layout);
	}
	rounds = (blocks + tx->config.interleave - 1) / tx->config.interleave;
	return rounds == 0 ? 1 : (unsigned)((blocks + rounds - 1) / rounds);
}

enum sp_code
sp_tx_new(const struct sp_tx_config *config, const struct sp_manifest *manifest,
    sp_tx_read_fn *read, void *ctx, struct sp_tx **out, struct sp_err *err)
{
	enum sp_code code = check_config(config, err);
	size_t source_len, parity_len;
	struct sp_tx *tx;

	if (code != SP_OK)
		return code;
	tx = sp_xcalloc(1, sizeof(*tx));
	tx->config = *config;
	tx->read = read;
	tx->ctx = ctx;
	code = take_manifest(tx, manifest, err);
	if (code != SP_OK)
		goto out;
	tx->round_limit = even_rounds(tx);
	source_len = (size_t)config->interleave * config->k * config->symbol_size;
	parity_len = (size_t)config->interleave * config->m * config->symbol_size;
	if (posix_memalign((void **)&tx->source, 64, source_len) != 0 ||
	    posix_memalign((void **)&tx->parity, 64, parity_len) != 0) {
		code = sp_err_set(err, SP_E_NO_MEMORY, "%zu bytes to interleave %u codewords",
		    source_len + parity_len, config->interleave);
		goto out;
	}
	tx->slots = sp_xcalloc(config->interleave, sizeof(*tx->slots));
	tx->fec = sp_fec_new(config->k, sp_tx_parity(config));
	sp_tx_start(tx, 0);
	*out = tx;
	tx = NULL;
out:
	sp_tx_free(&tx);
	return code;
}

void
sp_tx_free(struct sp_tx **tx)
{
	if (*tx == NULL)
		return;
	sp_manifest_clear(&(*tx)->manifest);
	free((*tx)->manifest_data);
	sp_fec_free(&(*tx)->fec);
	sp_hash_free(&(*tx)->hash);
	free((*tx)->slots);
	free((*tx)->source);
	free((*tx)->parity);
	free(*tx);
	*tx = NULL;
}

void
sp_tx_start(struct sp_tx *tx, unsigned pass)
{
	SP_ASSERT(pass < tx->config.passes);
	tx->pass = pass;
	tx->stage = STAGE_OPENING;
	tx->object = 0;
	tx->block = 0;
	tx->done = 0;
	tx->slot_count = 0;
	tx->longest = 0;
	tx->turn = 0;
	tx->cursor = 0;
	sp_hash_free(&tx->hash);
	tx->hash = sp_hash_new(SP_SHA256);
}

unsigned
sp_tx_passes(const struct sp_tx *tx)
{
	return tx->config.passes;
}

/* Which symbols of a codeword this pass sends; see tx.h. */
static void
slot_plan(const struct sp_tx *tx, struct slot *slot, unsigned symbols)
{
	const struct sp_tx_config *config = &tx->config;
	unsigned rounds = sp_tx_parity(config) / config->m, rows = config->m;

	if ((slot->frame.flags & SP_FRAME_MANIFEST) == 0) {
		rows = (config->m * symbols + config->k - 1) / config->k;
		rows = rows < PARITY_MIN ? PARITY_MIN : rows;
		rows = rows > config->m ? config->m : rows;
	}
	slot->source = config->repeat_source || tx->pass % rounds == 0 ? symbols : 0;
	slot->first = tx->pass % rounds * config->m;
	slot->total = slot->source + rows;
	slot->sent = 0;
}

/* Enters one codeword into the round: its bytes come from data, or from the read callback. */
static enum sp_code
slot_load(struct sp_tx *tx, const struct sp_object *object, uint64_t block, const uint8_t *data,
    unsigned flags, struct sp_err *err)
{
	const size_t size = tx->config.symbol_size;
	struct slot *slot = &tx->slots[tx->slot_count];
	uint8_t *source = tx->source + (size_t)tx->slot_count * tx->config.k * size;
	uint8_t *parity = tx->parity + (size_t)tx->slot_count * tx->config.m * size;
	const uint8_t *in[SP_LAYOUT_SYMBOLS_MAX];
	uint8_t *out[SP_LAYOUT_SYMBOLS_MAX];
	struct sp_frame *frame = &slot->frame;
	uint64_t offset;
	size_t len;

	memset(slot, 0, sizeof(*slot));
	frame->type = SP_FRAME_SYMBOL;
	frame->flags = flags;
	frame->pass = tx->pass;
	frame->passes = tx->config.passes;
	memcpy(frame->object.b, object->digest, sizeof(frame->object.b));
	frame->layout = layout_of(tx, object);
	frame->block = block;
	offset = sp_layout_block_offset(&frame->layout, block);
	len = (size_t)sp_layout_block_len(&frame->layout, block);
	if (data != NULL) {
		memcpy(source, data + offset, len);
	} else {
		enum sp_code code = tx->read(tx->ctx, tx->object, offset, source, len, err);

		if (code != SP_OK)
			return code;
		sp_hash_add(tx->hash, source, len);
	}
	memset(source + len, 0, tx->config.k * size - len);
	slot_plan(tx, slot, sp_layout_block_symbols(&frame->layout, block));
	for (unsigned i = 0; i < tx->config.k; i++)
		in[i] = source + i * size;
	for (unsigned i = 0; i < tx->config.m; i++)
		out[i] = parity + i * size;
	sp_fec_encode(tx->fec, slot->first, slot->total - slot->source, size, in, out);
	if (slot->total > tx->longest)
		tx->longest = slot->total;
	tx->slot_count++;
	return SP_OK;
}

/* After the last codeword of an object: are its bytes the ones that the manifest names? */
static enum sp_code
object_end(struct sp_tx *tx, const struct sp_object *object, struct sp_err *err)
{
	uint8_t digest[SP_DIGEST_LEN];

	sp_hash_finish(tx->hash, digest);
	if (memcmp(digest, object->digest, sizeof(digest)) != 0)
		return sp_err_set(err, SP_E_CORRUPT,
		    "object %s: its %llu bytes now have SHA-256 %s; restore it and send again",
		    sp_hex_of(object->digest).s, (unsigned long long)object->size,
		    sp_hex_of(digest).s);
	tx->object++;
	tx->block = 0;
	return SP_OK;
}

static enum sp_code
round_of_objects(struct sp_tx *tx, struct sp_err *err)
{
	enum sp_code code = SP_OK;

	while (tx->object < tx->manifest.count && tx->slot_count < tx->round_limit) {
		const struct sp_object *object = &tx->manifest.objects[tx->object];
		struct sp_layout layout = layout_of(tx, object);
		uint64_t blocks = sp_layout_blocks(&layout);

		if (tx->block < blocks) {
			tx->done += sp_layout_block_len(&layout, tx->block);
			code = slot_load(tx, object, tx->block++, NULL, 0, err);
		}
		if (code == SP_OK && tx->block == blocks)
			code = object_end(tx, object, err);
		if (code != SP_OK)
			return code;
	}
	if (tx->object == tx->manifest.count)
		tx->stage = STAGE_CLOSING;
	return SP_OK;
}

/* A manifest of 100,000 objects is 30 codewords: always less than INTERLEAVE_MAX, but perhaps more
 * than this sender interleaves. */
static enum sp_code
round_of_manifest(struct sp_tx *tx, unsigned flags, enum stage next, struct sp_err *err)
{
	struct sp_layout layout = layout_of(tx, &tx->manifest_object);
	uint64_t blocks = sp_layout_blocks(&layout);

	while (tx->block < blocks && tx->slot_count < tx->config.interleave) {
		enum sp_code code =
		    slot_load(tx, &tx->manifest_object, tx->block++, tx->manifest_data, flags, err);

		if (code != SP_OK)
			return code;
	}
	if (tx->block == blocks) {
		tx->stage = next;
		tx->block = 0;
	}
	return SP_OK;
}

static enum sp_code
round_fill(struct sp_tx *tx, struct sp_err *err)
{
	tx->slot_count = 0;
	tx->longest = 0;
	tx->turn = 0;
	tx->cursor = 0;
	switch (tx->stage) {
	case STAGE_OPENING:
		return round_of_manifest(tx, SP_FRAME_MANIFEST, STAGE_OBJECTS, err);
	case STAGE_OBJECTS:
		return round_of_objects(tx, err);
	case STAGE_CLOSING:
		return round_of_manifest(tx, SP_FRAME_MANIFEST | SP_FRAME_CLOSING, STAGE_END, err);
	case STAGE_END:
		break;
	}
	return SP_OK;
}

static void
slot_emit(struct sp_tx *tx, unsigned number, struct sp_frame *frame, const uint8_t **payload)
{
	const size_t size = tx->config.symbol_size;
	struct slot *slot = &tx->slots[number];
	unsigned i = slot->sent++;

	*frame = slot->frame;
	if (i < slot->source) {
		frame->index = i;
		*payload = tx->source + ((size_t)number * tx->config.k + i) * size;
	} else {
		i -= slot->source;
		frame->index = tx->config.k + slot->first + i;
		*payload = tx->parity + ((size_t)number * tx->config.m + i) * size;
	}
}

enum sp_code
sp_tx_next(struct sp_tx *tx, struct sp_frame *frame, const uint8_t **payload, struct sp_err *err)
{
	*payload = NULL;
	for (;;) {
		/* turn t of T: a codeword of n symbols has sent those up to n * (t + 1) / T */
		while (tx->turn < tx->longest) {
			if (tx->cursor == tx->slot_count) {
				tx->cursor = 0;
				tx->turn++;
				continue;
			}
			const struct slot *slot = &tx->slots[tx->cursor];

			if (slot->sent < slot->total * (tx->turn + 1) / tx->longest) {
				slot_emit(tx, tx->cursor, frame, payload);
				tx->cursor++;
				return SP_OK;
			}
			tx->cursor++;
		}
		if (tx->stage == STAGE_END)
			return SP_OK;
		enum sp_code code = round_fill(tx, err);

		if (code != SP_OK)
			return code;
	}
}

void
sp_tx_progress(const struct sp_tx *tx, uint64_t *done, uint64_t *total)
{
	*done = tx->done;
	*total = tx->total;
}
