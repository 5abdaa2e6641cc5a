/* assemble.c -- symbols in, whole codewords out. */
#include "diode/assemble.h"

#include "diode/fec.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define BUCKETS 16384

/* Source symbols lie in their places behind the header; parity is kept one by one. */
struct codeword {
	TAILQ_ENTRY(codeword) age; /* oldest first */
	LIST_ENTRY(codeword) chain;
	struct sp_object_id id;
	uint64_t block;
	struct sp_layout layout;
	unsigned symbols; /* source symbols that are not padding alone */
	unsigned count;	  /* symbols here, padding included */
	uint64_t bytes;	  /* accounted for this codeword */
	uint8_t have[SP_LAYOUT_SYMBOLS_MAX];
	uint8_t *parity[SP_LAYOUT_SYMBOLS_MAX];
	uint8_t data[] __attribute__((aligned(64)));
};

struct sp_assemble {
	uint64_t memory_max_bytes;
	struct sp_assemble_counts counts;
	TAILQ_HEAD(, codeword) ages;
	LIST_HEAD(, codeword) buckets[BUCKETS];
	struct sp_fec *fec; /* of the layout seen last */
	unsigned k, rows;
};

struct sp_assemble *
sp_assemble_new(uint64_t memory_max_bytes)
{
	struct sp_assemble *set = sp_xcalloc(1, sizeof(*set));

	set->memory_max_bytes = memory_max_bytes;
	TAILQ_INIT(&set->ages);
	return set;
}

static void
drop_parity(struct sp_assemble *set, struct codeword *word)
{
	for (unsigned i = 0; i < SP_LAYOUT_SYMBOLS_MAX; i++) {
		if (word->parity[i] == NULL)
			continue;
		free(word->parity[i]);
		word->parity[i] = NULL;
		word->bytes -= word->layout.symbol_size;
		set->counts.memory_bytes -= word->layout.symbol_size;
	}
}

static void
unlink_word(struct sp_assemble *set, struct codeword *word)
{
	TAILQ_REMOVE(&set->ages, word, age);
	LIST_REMOVE(word, chain);
}

static void
free_word(struct sp_assemble *set, struct codeword *word)
{
	drop_parity(set, word);
	set->counts.memory_bytes -= word->bytes;
	free(word);
}

void
sp_assemble_free(struct sp_assemble **set)
{
	struct codeword *word, *next;

	if (*set == NULL)
		return;
	for (word = TAILQ_FIRST(&(*set)->ages); word != NULL; word = next) {
		next = TAILQ_NEXT(word, age);
		free_word(*set, word);
	}
	sp_fec_free(&(*set)->fec);
	free(*set);
	*set = NULL;
}

/* Object ids are digests: their bytes are as good as any hash of them. */
static size_t
bucket_of(const struct sp_object_id *id, uint64_t block)
{
	uint64_t mix;

	memcpy(&mix, id->b, sizeof(mix));
	return (size_t)((mix + block) % BUCKETS);
}

static struct codeword *
find(struct sp_assemble *set, const struct sp_object_id *id, uint64_t block)
{
	struct codeword *word;

	LIST_FOREACH(word, &set->buckets[bucket_of(id, block)], chain)
	if (word->block == block && memcmp(&word->id, id, sizeof(*id)) == 0)
		return word;
	return NULL;
}

/* Makes room for need bytes, never at the cost of keep. 0 when all memory is handed out. */
static int
make_room(struct sp_assemble *set, uint64_t need, const struct codeword *keep)
{
	while (set->counts.memory_bytes + need > set->memory_max_bytes) {
		struct codeword *oldest = TAILQ_FIRST(&set->ages);

		if (oldest != NULL && oldest == keep)
			oldest = TAILQ_NEXT(oldest, age);
		if (oldest == NULL)
			return 0;
		unlink_word(set, oldest);
		free_word(set, oldest);
		set->counts.evicted++;
	}
	set->counts.memory_bytes += need;
	return 1;
}

static struct codeword *
begin(struct sp_assemble *set, const struct sp_frame *frame)
{
	unsigned symbols = sp_layout_block_symbols(&frame->layout, frame->block);
	size_t bytes = sizeof(struct codeword) + (size_t)symbols * frame->layout.symbol_size;
	struct codeword *word;
	void *memory;

	bytes = (bytes + 63) / 64 * 64;
	if (!make_room(set, bytes, NULL))
		return NULL;
	if (posix_memalign(&memory, 64, bytes) != 0) {
		set->counts.memory_bytes -= bytes;
		return NULL;
	}
	word = memory;
	memset(word, 0, sizeof(*word));
	word->id = frame->object;
	word->block = frame->block;
	word->layout = frame->layout;
	word->symbols = symbols;
	word->count = frame->layout.k - symbols;
	word->bytes = bytes;
	memset(word->have + symbols, 1, frame->layout.k - symbols);
	TAILQ_INSERT_TAIL(&set->ages, word, age);
	LIST_INSERT_HEAD(&set->buckets[bucket_of(&word->id, word->block)], word, chain);
	return word;
}

static void
finish(struct sp_assemble *set, struct codeword *word)
{
	static uint8_t padding[UINT16_MAX]; /* there by definition: read, never written */
	uint8_t *symbols[SP_LAYOUT_SYMBOLS_MAX] = {NULL};
	const struct sp_layout *layout = &word->layout;
	unsigned rebuilt;

	if (set->fec == NULL || set->k != layout->k || set->rows != layout->parity) {
		sp_fec_free(&set->fec);
		set->fec = sp_fec_new(layout->k, layout->parity);
		set->k = layout->k;
		set->rows = layout->parity;
	}
	for (unsigned i = 0; i < layout->k; i++)
		symbols[i] =
		    i < word->symbols ? word->data + (size_t)i * layout->symbol_size : padding;
	for (unsigned i = layout->k; i < layout->k + layout->parity; i++)
		symbols[i] = word->parity[i];
	/* cannot fail: k symbols are here */
	SP_ASSERT(sp_fec_decode(
		      set->fec, layout->symbol_size, symbols, word->have, &rebuilt, NULL) == SP_OK);
	set->counts.repaired += rebuilt;
	unlink_word(set, word);
	drop_parity(set, word);
}

enum sp_assemble_result
sp_assemble_add(
    struct sp_assemble *set, const struct sp_frame *frame, const uint8_t *payload, uint8_t **data)
{
	const unsigned size = frame->layout.symbol_size;
	struct codeword *word = find(set, &frame->object, frame->block);

	if (word == NULL)
		word = begin(set, frame);
	if (word == NULL) {
		set->counts.no_room++;
		return SP_ASSEMBLE_MORE;
	}
	SP_ASSERT(sp_layout_equal(&word->layout, &frame->layout));
	if (word->have[frame->index]) {
		set->counts.duplicates++;
		return SP_ASSEMBLE_MORE;
	}
	if (frame->index < frame->layout.k) {
		memcpy(word->data + (size_t)frame->index * size, payload, size);
	} else {
		uint8_t *copy;

		if (!make_room(set, size, word)) {
			set->counts.no_room++;
			return SP_ASSEMBLE_MORE;
		}
		copy = sp_xcalloc(1, size);
		memcpy(copy, payload, size);
		word->parity[frame->index] = copy;
		word->bytes += size;
	}
	word->have[frame->index] = 1;
	if (++word->count < word->layout.k)
		return SP_ASSEMBLE_MORE;
	finish(set, word);
	*data = word->data;
	return SP_ASSEMBLE_DONE;
}

void
sp_assemble_release(struct sp_assemble *set, uint8_t *data)
{
	free_word(set, (struct codeword *)(void *)(data - offsetof(struct codeword, data)));
}

void
sp_assemble_forget(struct sp_assemble *set, const struct sp_object_id *id)
{
	struct codeword *word, *next;

	for (word = TAILQ_FIRST(&set->ages); word != NULL; word = next) {
		next = TAILQ_NEXT(word, age);
		if (memcmp(&word->id, id, sizeof(*id)) != 0)
			continue;
		unlink_word(set, word);
		free_word(set, word);
	}
}

void
sp_assemble_counts(const struct sp_assemble *set, struct sp_assemble_counts *counts)
{
	*counts = set->counts;
}
