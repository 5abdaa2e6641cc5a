/* bpe.c -- byte pair merges of one word. */
#include "model/bpe.h"

#include <stdlib.h>
#include <string.h>

struct pair {
	uint32_t left, right, rank, id;
};

/*
 * Where a merge is looked up: a hash table in buckets of a cache line. What does not fit its bucket
 * is found by bisection in the sorted list instead, so that no choice of ids can slow a lookup down
 * to more than that.
 */
#define BUCKET 4

struct bucket {
	uint64_t keys[BUCKET];
	struct hit {
		uint32_t rank, id;
	} hits[BUCKET];
};

struct sp_bpe {
	struct pair *pairs; /* by left id, then by right id */
	uint32_t *first;    /* of a left id; one more than there are ids */
	struct bucket *buckets;
	uint8_t *overflowed; /* a bucket that something did not fit */
	unsigned shift;
	uint32_t ids;
};

/* A piece of the word in a doubly linked list by position. */
struct sp_bpe_symbol {
	uint32_t id, before, after;
	uint32_t live;
};

/* A merge of the symbol at position `at` with the one after it, as they were when it was found. */
struct sp_bpe_candidate {
	uint32_t rank, at, left, right, id;
};

#define NONE UINT32_MAX
#define NO_KEY UINT64_MAX /* ids are below 2^32 - 1 */
#define SHORT_MAX 32	  /* symbols of a word that is scanned for the best pair each time */

static int
compare_pair(const void *a, const void *b)
{
	const struct pair *x = a, *y = b;

	if (x->left != y->left)
		return x->left < y->left ? -1 : 1;
	return x->right < y->right ? -1 : x->right > y->right;
}

static size_t
bucket_of(const struct sp_bpe *bpe, uint64_t key)
{
	return (size_t)(key * 0x9e3779b97f4a7c15 >> bpe->shift);
}

static void
put_pair(struct sp_bpe *bpe, const struct pair *pair)
{
	uint64_t key = (uint64_t)pair->left << 32 | pair->right;
	size_t at = bucket_of(bpe, key);

	for (size_t i = 0; i < BUCKET; i++) {
		if (bpe->buckets[at].keys[i] == NO_KEY) {
			bpe->buckets[at].keys[i] = key;
			bpe->buckets[at].hits[i] = (struct hit){pair->rank, pair->id};
			return;
		}
	}
	bpe->overflowed[at] = 1;
}

/* Half a bucket a merge, rounded up to a power of two. */
static enum sp_code
make_buckets(struct sp_bpe *bpe, size_t count, struct sp_err *err)
{
	size_t buckets = 2;

	bpe->shift = 63;
	for (; buckets < count / 2; buckets *= 2)
		bpe->shift--;
	bpe->buckets = aligned_alloc(sizeof(*bpe->buckets), buckets * sizeof(*bpe->buckets));
	bpe->overflowed = calloc(buckets, 1);
	if (bpe->buckets == NULL || bpe->overflowed == NULL)
		return sp_err_set(err, SP_E_NO_MEMORY, "%zu merges", count);
	memset(bpe->buckets, 0xff, buckets * sizeof(*bpe->buckets));
	for (size_t i = 0; i < count; i++)
		put_pair(bpe, &bpe->pairs[i]);
	return SP_OK;
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
	if ((code = make_buckets(bpe, count, err)))
		goto out;
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
	free((*bpe)->buckets);
	free((*bpe)->overflowed);
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

static struct hit
bisect(const struct sp_bpe *bpe, uint32_t left, uint32_t right)
{
	uint32_t low = bpe->first[left], end = bpe->first[left + 1], high = end;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (bpe->pairs[middle].right < right)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < end && bpe->pairs[low].right == right)
		return (struct hit){bpe->pairs[low].rank, bpe->pairs[low].id};
	return (struct hit){NONE, NONE};
}

/* rank is NONE when the two do not merge. */
static struct hit
find_pair(const struct sp_bpe *bpe, uint32_t left, uint32_t right)
{
	uint64_t key = (uint64_t)left << 32 | right;
	size_t at = bucket_of(bpe, key);
	const struct bucket *bucket = &bpe->buckets[at];

	for (size_t i = 0; i < BUCKET; i++) {
		if (bucket->keys[i] == key)
			return bucket->hits[i];
	}
	return bpe->overflowed[at] ? bisect(bpe, left, right) : (struct hit){NONE, NONE};
}

/* --- short words ------------------------------------------------------------------------------ */

static size_t
run_short(const struct sp_bpe *bpe, uint32_t *ids, size_t count)
{
	struct hit hits[SHORT_MAX]; /* of ids[i] with ids[i + 1] */

	for (size_t i = 0; i + 1 < count; i++)
		hits[i] = find_pair(bpe, ids[i], ids[i + 1]);
	while (count > 1) {
		size_t best = 0;

		for (size_t i = 1; i + 1 < count; i++) {
			if (hits[i].rank < hits[best].rank)
				best = i;
		}
		if (hits[best].rank == NONE)
			break;
		ids[best] = hits[best].id;
		count--;
		memmove(ids + best + 1, ids + best + 2, (count - best - 1) * sizeof(*ids));
		if (best + 1 < count) {
			memmove(
			    hits + best + 1, hits + best + 2, (count - best - 2) * sizeof(*hits));
			hits[best] = find_pair(bpe, ids[best], ids[best + 1]);
		}
		if (best > 0)
			hits[best - 1] = find_pair(bpe, ids[best - 1], ids[best]);
	}
	return count;
}

/* --- long words ------------------------------------------------------------------------------- */

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
	const struct sp_bpe_symbol *left = &work->symbols[at];
	uint32_t right;
	struct hit hit;

	if (left->after == NONE)
		return;
	right = work->symbols[left->after].id;
	hit = find_pair(bpe, left->id, right);
	if (hit.rank != NONE)
		heap_push(work, (struct sp_bpe_candidate){hit.rank, at, left->id, right, hit.id});
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

static size_t
run_long(const struct sp_bpe *bpe, struct sp_bpe_work *work, uint32_t *ids, size_t count)
{
	struct sp_bpe_symbol *symbols = work->symbols;
	size_t n = 0;

	work->heap_len = 0;
	for (uint32_t i = 0; i < count; i++) {
		symbols[i] = (struct sp_bpe_symbol){.id = ids[i], .live = 1};
		symbols[i].before = i == 0 ? NONE : i - 1;
		symbols[i].after = i + 1 == count ? NONE : i + 1;
	}
	for (uint32_t i = 0; i + 1 < count; i++)
		consider(bpe, work, i);
	while (work->heap_len > 0) {
		struct sp_bpe_candidate best = heap_pop(work);
		const struct sp_bpe_symbol *left = &symbols[best.at];

		/* what was found may have been merged into something else since */
		if (left->live && left->id == best.left && left->after != NONE &&
		    symbols[left->after].id == best.right)
			merge(bpe, work, &best);
	}
	for (uint32_t at = 0; at != NONE; at = symbols[at].after)
		ids[n++] = symbols[at].id;
	return n;
}

enum sp_code
sp_bpe_run(const struct sp_bpe *bpe, struct sp_bpe_work *work, uint32_t *ids, size_t *count,
    struct sp_err *err)
{
	enum sp_code code;

	for (size_t i = 0; i < *count; i++)
		SP_ASSERT(ids[i] < bpe->ids);
	if (*count <= SHORT_MAX) {
		*count = run_short(bpe, ids, *count);
		return SP_OK;
	}
	if ((code = reserve(work, *count, err)))
		return code;
	*count = run_long(bpe, work, ids, *count);
	return SP_OK;
}
