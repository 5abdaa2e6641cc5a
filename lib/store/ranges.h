/* ranges.h -- which bytes of a file are there: a set of ranges; pure. */
#ifndef SP_RANGES_H
#define SP_RANGES_H

#include <stddef.h>
#include <stdint.h>

/* [from, to), never empty. */
struct sp_extent {
	uint64_t from, to;
};

/* In order, none touches the next. Zero-initialised is empty. */
struct sp_ranges {
	struct sp_extent *items;
	size_t count, cap;
	uint64_t bytes; /* of all of them */
};

/* Bytes may be there already. from == to adds nothing. */
void sp_ranges_add(struct sp_ranges *ranges, uint64_t from, uint64_t to);
/* Bytes need not be there. */
void sp_ranges_remove(struct sp_ranges *ranges, uint64_t from, uint64_t to);
/* 1 when all of [from, to) is there. */
int sp_ranges_has(const struct sp_ranges *ranges, uint64_t from, uint64_t to);
/* The first byte at or after from that is missing. */
uint64_t sp_ranges_end(const struct sp_ranges *ranges, uint64_t from);
/* The first range of missing bytes in [from, limit): 0 when there is none. */
int
sp_ranges_gap(const struct sp_ranges *ranges, uint64_t from, uint64_t limit, struct sp_extent *gap);
void sp_ranges_copy(struct sp_ranges *to, const struct sp_ranges *from); /* to: empty */
void sp_ranges_clear(struct sp_ranges *ranges);

#endif
