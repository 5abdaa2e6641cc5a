/* ranges.c -- ranges of bytes in an array: files arrive in a few long ones. */
#include "store/ranges.h"
#include "base/err.h"

#include <stdlib.h>
#include <string.h>

/* Index of the first range that ends at or after pos. */
static size_t
find(const struct sp_ranges *r, uint64_t pos)
{
	size_t low = 0, high = r->count, mid;

	while (low < high) {
		mid = low + (high - low) / 2;
		if (r->items[mid].to < pos)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* Puts `count` ranges (0 … 2) in the place of [at, end). */
static void
replace(struct sp_ranges *r, size_t at, size_t end, const struct sp_extent *with, size_t count)
{
	size_t left = r->count - (end - at);

	if (left + count > r->cap) {
		r->cap = r->cap > 0 ? 2 * r->cap : 8;
		r->items = sp_xrealloc(r->items, r->cap, sizeof(*r->items));
	}
	memmove(r->items + at + count, r->items + end, (r->count - end) * sizeof(*r->items));
	for (size_t i = 0; i < count; i++)
		r->items[at + i] = with[i];
	r->count = left + count;
}

void
sp_ranges_add(struct sp_ranges *r, uint64_t from, uint64_t to)
{
	struct sp_extent all = {from, to};
	size_t at = find(r, from), end = at;

	SP_ASSERT(from <= to);
	if (from == to)
		return;
	for (; end < r->count && r->items[end].from <= to; end++) {
		r->bytes -= r->items[end].to - r->items[end].from;
		all.from = r->items[end].from < all.from ? r->items[end].from : all.from;
		all.to = r->items[end].to > all.to ? r->items[end].to : all.to;
	}
	r->bytes += all.to - all.from;
	replace(r, at, end, &all, 1);
}

void
sp_ranges_remove(struct sp_ranges *r, uint64_t from, uint64_t to)
{
	size_t at = find(r, from), end, count = 0;
	struct sp_extent rest[2];

	SP_ASSERT(from <= to);
	if (from == to)
		return;
	for (end = at; end < r->count && r->items[end].from < to; end++) {
		r->bytes -= r->items[end].to - r->items[end].from;
		if (r->items[end].from < from)
			rest[count++] = (struct sp_extent){
			    r->items[end].from, r->items[end].to < from ? r->items[end].to : from};
		if (r->items[end].to > to)
			rest[count++] = (struct sp_extent){to, r->items[end].to};
	}
	for (size_t i = 0; i < count; i++)
		r->bytes += rest[i].to - rest[i].from;
	if (end > at)
		replace(r, at, end, rest, count);
}

int
sp_ranges_has(const struct sp_ranges *r, uint64_t from, uint64_t to)
{
	return from >= to || sp_ranges_end(r, from) >= to;
}

uint64_t
sp_ranges_end(const struct sp_ranges *r, uint64_t from)
{
	size_t at = find(r, from);

	/* a range that ends at from has it not; none touches the next, so the next begins later */
	return at < r->count && r->items[at].from <= from ? r->items[at].to : from;
}

int
sp_ranges_gap(const struct sp_ranges *r, uint64_t from, uint64_t limit, struct sp_extent *gap)
{
	size_t at;

	gap->from = sp_ranges_end(r, from);
	if (gap->from >= limit)
		return 0;
	at = find(r, gap->from + 1);
	gap->to = at < r->count && r->items[at].from < limit ? r->items[at].from : limit;
	return 1;
}

void
sp_ranges_copy(struct sp_ranges *to, const struct sp_ranges *from)
{
	*to = *from;
	to->cap = from->count;
	to->items = NULL;
	if (from->count > 0) {
		to->items = sp_xcalloc(from->count, sizeof(*to->items));
		memcpy(to->items, from->items, from->count * sizeof(*to->items));
	}
}

void
sp_ranges_clear(struct sp_ranges *r)
{
	free(r->items);
	memset(r, 0, sizeof(*r));
}
