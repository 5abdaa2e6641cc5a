/* assemble.h -- symbols in, whole codewords out, within a fixed amount of memory. */
#ifndef SP_ASSEMBLE_H
#define SP_ASSEMBLE_H

#include "diode/frame.h"

/*
 * Holds the codewords of which some, but fewer than k symbols have come, and those that were handed
 * out and not given back. When memory_max_bytes is reached, the codeword begun first gives way: it
 * has lost more than its parity repairs, or its sender has gone. No clock, no files.
 */
struct sp_assemble;

struct sp_assemble_counts {
	uint64_t repaired;   /* source symbols rebuilt from parity */
	uint64_t duplicates; /* symbols that were there already */
	uint64_t evicted;    /* codewords that gave way */
	uint64_t no_room;    /* symbols dropped because all memory waits to be given back */
	uint64_t memory_bytes;
};

enum sp_assemble_result { SP_ASSEMBLE_MORE, SP_ASSEMBLE_DONE };

struct sp_assemble *sp_assemble_new(uint64_t memory_max_bytes);
void sp_assemble_free(struct sp_assemble **set);

/* Adds a symbol of layout.symbol_size bytes; frame has passed sp_frame_parse. On SP_ASSEMBLE_DONE
 * the codeword is whole: *data holds its sp_layout_block_len bytes until sp_assemble_release. */
enum sp_assemble_result sp_assemble_add(
    struct sp_assemble *set, const struct sp_frame *frame, const uint8_t *payload, uint8_t **data);
/* Gives back what sp_assemble_add handed out. */
void sp_assemble_release(struct sp_assemble *set, uint8_t *data);
/* Forgets the incomplete codewords of an object. */
void sp_assemble_forget(struct sp_assemble *set, const struct sp_object_id *id);

void sp_assemble_counts(const struct sp_assemble *set, struct sp_assemble_counts *counts);

#endif
