/* bpe.c -- byte pair merges of one word. */
#include "model/bpe.h"

#include <stdlib.h>

/* The merges of one left id lie together, by right id: looked up by bisection, which no choice of
 * ids can slow down, unlike a hash table. */
struct pair {
	uint32_t left, right, rank, id;
};

struct sp_bpe {
	struct pair *pairs;
	uint32_t *first; /* by left id; one more than there are ids */
	uint32_t ids;
};

/* A piece of the word in a doubly linked list by position. */
struct sp_bpe_symbol {
	uint32_t id, before, after;
	uint32_t live;
};

/* A merge of the symbol at position `at` with the one after it, as it was when it was found. */
struct sp_bpe_candidate {
	uint32_t rank, at, right, id;
};

#define NONE UINT32_MAX

static int
compare_pair(const void *a, const void *b)
{
	const struct pair *x = a, *y = b;

	if (x->left != y->left)
		return x->left < y->left ? -1 : 1;
	return x->right < y->right ? -1 : x->right > y->right;
}

enum sp_code
sp_bpe_new(const struct sp_bpe_merge *merges, size_t count, uint32_t ids, struct sp_bpe **out,
    struct sp_err *err)
{
	struct sp_bpe *bpe = sp_xcalloc(1, sizeof(*bpe));
	enum sp_code code = SP_OK;

	*out = NULL;
	bpe->ids = ids;
	bpe->pairs = count < NONE ? calloc(count + 1, sizeof(*bpe->pairs)) : NULL;
	bpe->first = calloc((size_t)ids + 1, sizeof(*bpe->first));
	if (bpe->pairs == NULL || bpe->first == NULL) {
		code = sp_err_set(err, SP_E_NO_MEMORY, "%zu merges", count);
		goto out;
	}
	for (size_t i = 0; i < count; i++) {
		const struct sp_bpe_merge *m = &merges[i];

		SP_ASSERT(m->left < ids && m->right < ids && m->id < ids);
		bpe->pairs[i] = (struct pair){m->left, m->right, (uint32_t)i, m->id};
	}
	qsort(bpe->pairs, count, sizeof(*bpe->pairs), compare_pair);
	for (size_t i = 1; i < count; i++) {
		const struct pair *pair = &bpe->pairs[i];

		if (compare_pair(pair - 1, pair) == 0) {
			code = sp_err_set(err, SP_E_INVALID, "merges %u and %u join the same pair",
			    (pair - 1)->rank, pair->rank);
			goto out;
		}
	}
	for (size_t i = 0, left = 0; left <= ids; left++) {
		while (i < count && bpe->pairs[i].left < left)
			i++;
		bpe->first[left] = (uint32_t)i;
	}
	*out = bpe;
	bpe = NULL;
out:
	sp_bpe_free(&bpe);
	return code;
}

void
sp_bpe_free(struct sp_bpe **bpe)
{
	if (*bpe == NULL)
		return;
	free((*bpe)->pairs);
	free((*bpe)->first);
	free(*bpe);
	*bpe = NULL;
}

void
sp_bpe_work_free(struct sp_bpe_work *work)
{
	free(work->symbols);
	free(work->heap);
	*work = (struct sp_bpe_work){0};
}

static const struct pair *
find_pair(const struct sp_bpe *bpe, uint32_t left, uint32_t right)
{
	uint32_t low = bpe->first[left], high = bpe->first[left + 1];

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (bpe->pairs[middle].right < right)
			low = middle + 1;
		else
			high = middle;
	}
	return low < bpe->first[left + 1] && bpe->pairs[low].right == right ? &bpe->pairs[low]
									    : NULL;
}

static int
is_before(const struct sp_bpe_candidate *a, const struct sp_bpe_candidate *b)
{
	return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void
heap_push(struct sp_bpe_work *work, struct sp_bpe_candidate new)
{
	struct sp_bpe_candidate *heap = work->heap;
	size_t i = work->heap_len++;

	for (; i > 0 && is_before(&new, &heap[(i - 1) / 2]); i = (i - 1) / 2)
		heap[i] = heap[(i - 1) / 2];
	heap[i] = new;
}

static struct sp_bpe_candidate
heap_pop(struct sp_bpe_work *work)
{
	struct sp_bpe_candidate *heap = work->heap, top = heap[0];
	struct sp_bpe_candidate last = heap[--work->heap_len];
	size_t i = 0, child;

	while ((child = 2 * i + 1) < work->heap_len) {
		if (child + 1 < work->heap_len && is_before(&heap[child + 1], &heap[child]))
			child++;
		if (!is_before(&heap[child], &last))
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = last;
	return top;
}

static void
consider(const struct sp_bpe *bpe, struct sp_bpe_work *work, uint32_t at)
{
	const struct sp_bpe_symbol *left = &work->symbols[at], *right;
	const struct pair *pair;

	if (left->after == NONE)
		return;
	right = &work->symbols[left->after];
	if ((pair = find_pair(bpe, left->id, right->id)) != NULL)
		heap_push(work, (struct sp_bpe_candidate){pair->rank, at, right->id, pair->id});
}

/* Each merge takes a symbol away and brings two candidates at most, so the heap holds less than
 * 3 * count. */
static enum sp_code
reserve(struct sp_bpe_work *work, size_t count, struct sp_err *err)
{
	size_t cap = count < 64 ? 64 : count;

	if (count <= work->cap)
		return SP_OK;
	sp_bpe_work_free(work);
	work->symbols = calloc(cap, sizeof(*work->symbols));
	work->heap = calloc(cap, 3 * sizeof(*work->heap));
	if (count >= NONE || work->symbols == NULL || work->heap == NULL) {
		sp_bpe_work_free(work);
		return sp_err_set(err, SP_E_NO_MEMORY, "a word of %zu bytes", count);
	}
	work->cap = cap;
	return SP_OK;
}

static void
merge(const struct sp_bpe *bpe, struct sp_bpe_work *work, const struct sp_bpe_candidate *best)
{
	struct sp_bpe_symbol *left = &work->symbols[best->at];
	struct sp_bpe_symbol *right = &work->symbols[left->after];

	left->id = best->id;
	left->after = right->after;
	right->live = 0;
	if (left->after != NONE)
		work->symbols[left->after].before = best->at;
	if (left->before != NONE)
		consider(bpe, work, left->before);
	consider(bpe, work, best->at);
}

enum sp_code
sp_bpe_run(const struct sp_bpe *bpe, struct sp_bpe_work *work, uint32_t *ids, size_t *count,
    struct sp_err *err)
{
	struct sp_bpe_symbol *symbols;
	size_t n = 0;
	enum sp_code code;

	if (*count < 2)
		return SP_OK;
	if ((code = reserve(work, *count, err)))
		return code;
	symbols = work->symbols;
	work->heap_len = 0;
	for (uint32_t i = 0; i < *count; i++) {
		SP_ASSERT(ids[i] < bpe->ids);
		symbols[i] = (struct sp_bpe_symbol){.id = ids[i], .live = 1};
		symbols[i].before = i == 0 ? NONE : i - 1;
		symbols[i].after = i + 1 == *count ? NONE : i + 1;
	}
	for (uint32_t i = 0; i + 1 < *count; i++)
		consider(bpe, work, i);
	while (work->heap_len > 0) {
		struct sp_bpe_candidate best = heap_pop(work);
		const struct sp_bpe_symbol *left = &symbols[best.at];
		const struct pair *pair;

		/* what was found may have been merged into something else since */
		if (!left->live || left->after == NONE || symbols[left->after].id != best.right)
			continue;
		pair = find_pair(bpe, left->id, best.right);
		if (pair != NULL && pair->rank == best.rank)
			merge(bpe, work, &best);
	}
	for (uint32_t at = 0; at != NONE; at = symbols[at].after)
		ids[n++] = symbols[at].id;
	*count = n;
	return SP_OK;
}
