/*
 * merkle.c -- RFC 6962 section 2.1: hashes, audit paths and consistency proofs; their verification
 * after RFC 9162 sections 2.1.3.2 and 2.1.4.2.
 *
 * Every range [lo, hi) that the definitions split a tree into starts at a multiple of the next
 * power of two of its length, so a range whose length is a power of two is a node (level, index) of
 * the complete tree. All proofs are made from such nodes.
 */
#include "ledger/merkle.h"

#include <stdlib.h>
#include <string.h>

#define SMALL 1024 /* bytes of an entry */

void
sp_merkle_leaf(const void *entry, size_t len, uint8_t out[SP_DIGEST_LEN])
{
	static const uint8_t prefix = 0x00;
	uint8_t text[1 + SMALL];
	struct sp_hash *hash;

	/* most entries: a copy is cheaper than a running digest */
	if (len <= SMALL) {
		text[0] = prefix;
		if (len > 0)
			memcpy(text + 1, entry, len);
		sp_sha256(text, 1 + len, out);
		return;
	}
	hash = sp_hash_new(SP_SHA256);
	sp_hash_add(hash, &prefix, 1);
	sp_hash_add(hash, entry, len);
	sp_hash_finish(hash, out);
	sp_hash_free(&hash);
}

void
sp_merkle_node(const uint8_t left[SP_DIGEST_LEN], const uint8_t right[SP_DIGEST_LEN],
    uint8_t out[SP_DIGEST_LEN])
{
	uint8_t text[1 + 2 * SP_DIGEST_LEN];

	text[0] = 0x01;
	memcpy(text + 1, left, SP_DIGEST_LEN);
	memcpy(text + 1 + SP_DIGEST_LEN, right, SP_DIGEST_LEN);
	sp_sha256(text, sizeof(text), out);
}

/* --- a growing tree --------------------------------------------------------------------------- */

void
sp_merkle_append(struct sp_merkle *tree, const uint8_t leaf[SP_DIGEST_LEN])
{
	unsigned top = (unsigned)__builtin_popcountll(tree->size);
	uint8_t hash[SP_DIGEST_LEN];
	uint64_t bits;

	memcpy(hash, leaf, sizeof(hash));
	for (bits = tree->size; bits & 1; bits >>= 1)
		sp_merkle_node(tree->stack[--top], hash, hash);
	/* below 64: the stack of a full 2^64 - 1 was folded to nothing above */
	memcpy(tree->stack[top], hash, sizeof(hash));
	tree->size++;
}

void
sp_merkle_root(const struct sp_merkle *tree, uint8_t out[SP_DIGEST_LEN])
{
	unsigned top = (unsigned)__builtin_popcountll(tree->size);

	if (top == 0) {
		sp_sha256("", 0, out);
		return;
	}
	memcpy(out, tree->stack[--top], SP_DIGEST_LEN);
	while (top > 0)
		sp_merkle_node(tree->stack[--top], out, out);
}

void
sp_merkle_nodes_append(struct sp_merkle_nodes *nodes, const uint8_t leaf[SP_DIGEST_LEN])
{
	uint64_t index = nodes->size;
	uint8_t hash[SP_DIGEST_LEN], *last;
	unsigned level = 0;

	memcpy(hash, leaf, sizeof(hash));
	for (;;) {
		if (index >= nodes->cap[level]) {
			nodes->cap[level] = index < 64 ? 64 : index * 2;
			nodes->level[level] =
			    sp_xrealloc(nodes->level[level], nodes->cap[level], SP_DIGEST_LEN);
		}
		last = nodes->level[level] + index * SP_DIGEST_LEN;
		memcpy(last, hash, sizeof(hash));
		if (!(index & 1))
			break;
		sp_merkle_node(last - SP_DIGEST_LEN, hash, hash);
		index >>= 1;
		level++;
	}
	nodes->size++;
}

void
sp_merkle_nodes_truncate(struct sp_merkle_nodes *nodes, uint64_t size)
{
	SP_ASSERT(size <= nodes->size);
	nodes->size = size;
}

enum sp_code
sp_merkle_nodes_get(
    void *ctx, unsigned level, uint64_t index, uint8_t out[SP_DIGEST_LEN], struct sp_err *err)
{
	const struct sp_merkle_nodes *nodes = ctx;

	if (level >= SP_MERKLE_PROOF_MAX || index >= nodes->size >> level)
		return sp_err_set(err, SP_E_NOT_FOUND,
		    "the log has no complete subtree %llu of level %u", (unsigned long long)index,
		    level);
	memcpy(out, nodes->level[level] + index * SP_DIGEST_LEN, SP_DIGEST_LEN);
	return SP_OK;
}

void
sp_merkle_nodes_free(struct sp_merkle_nodes *nodes)
{
	size_t i;

	for (i = 0; i < SP_MERKLE_PROOF_MAX; i++)
		free(nodes->level[i]);
	memset(nodes, 0, sizeof(*nodes));
}

/* --- proofs ----------------------------------------------------------------------------------- */

/* A proof in the making: where nodes come from, where hashes go. */
struct maker {
	sp_merkle_node_fn *node;
	void *ctx;
	uint8_t (*proof)[SP_DIGEST_LEN];
	size_t count;
	struct sp_err *err;
};

/* Largest power of two below n, n >= 2. */
static uint64_t
split(uint64_t n)
{
	return UINT64_C(1) << (63 - __builtin_clzll(n - 1));
}

/* MTH(D[lo:hi]) */
static enum sp_code
range_hash(struct maker *m, uint64_t lo, uint64_t hi, uint8_t out[SP_DIGEST_LEN])
{
	uint8_t right[SP_DIGEST_LEN];
	uint64_t n = hi - lo;
	enum sp_code code;
	unsigned level;

	if ((n & (n - 1)) == 0) {
		level = (unsigned)__builtin_ctzll(n);
		return m->node(m->ctx, level, lo >> level, out, m->err);
	}
	code = range_hash(m, lo, lo + split(n), out);
	if (code == SP_OK)
		code = range_hash(m, lo + split(n), hi, right);
	if (code == SP_OK)
		sp_merkle_node(out, right, out);
	return code;
}

static enum sp_code
put_range(struct maker *m, uint64_t lo, uint64_t hi)
{
	SP_ASSERT(m->count < SP_MERKLE_PROOF_MAX);
	return range_hash(m, lo, hi, m->proof[m->count++]);
}

/* PATH(index, D[lo:hi]): leaf to root */
static enum sp_code
put_path(struct maker *m, uint64_t index, uint64_t lo, uint64_t hi)
{
	enum sp_code code;
	uint64_t middle;

	if (hi - lo == 1)
		return SP_OK;
	middle = lo + split(hi - lo);
	if (index < middle) {
		code = put_path(m, index, lo, middle);
		return code != SP_OK ? code : put_range(m, middle, hi);
	}
	code = put_path(m, index, middle, hi);
	return code != SP_OK ? code : put_range(m, lo, middle);
}

/* SUBPROOF(old_size - lo, D[lo:hi], whole); whole: the old tree is this range from its start */
static enum sp_code
put_subproof(struct maker *m, uint64_t old_size, uint64_t lo, uint64_t hi, int whole)
{
	enum sp_code code;
	uint64_t middle;

	if (old_size == hi)
		return whole ? SP_OK : put_range(m, lo, hi);
	middle = lo + split(hi - lo);
	if (old_size <= middle) {
		code = put_subproof(m, old_size, lo, middle, whole);
		return code != SP_OK ? code : put_range(m, middle, hi);
	}
	code = put_subproof(m, old_size, middle, hi, 0);
	return code != SP_OK ? code : put_range(m, lo, middle);
}

enum sp_code
sp_merkle_prove_from(uint64_t index, uint64_t size, sp_merkle_node_fn *node, void *ctx,
    uint8_t proof[][SP_DIGEST_LEN], size_t *count, struct sp_err *err)
{
	struct maker m = {node, ctx, proof, 0, err};
	enum sp_code code;

	if (index >= size)
		return sp_err_set(err, SP_E_NOT_FOUND, "entry %llu is not in a log of %llu entries",
		    (unsigned long long)index, (unsigned long long)size);
	code = put_path(&m, index, 0, size);
	*count = m.count;
	return code;
}

enum sp_code
sp_merkle_prove_consistency_from(uint64_t old_size, uint64_t size, sp_merkle_node_fn *node,
    void *ctx, uint8_t proof[][SP_DIGEST_LEN], size_t *count, struct sp_err *err)
{
	struct maker m = {node, ctx, proof, 0, err};
	enum sp_code code;

	if (old_size == 0)
		return sp_err_set(
		    err, SP_E_INVALID, "every log continues an empty one: nothing to prove");
	if (old_size > size)
		return sp_err_set(err, SP_E_INVALID,
		    "a log of %llu entries does not continue one of %llu", (unsigned long long)size,
		    (unsigned long long)old_size);
	code = put_subproof(&m, old_size, 0, size, 1);
	*count = m.count;
	return code;
}

enum sp_code
sp_merkle_root_from(uint64_t size, sp_merkle_node_fn *node, void *ctx, uint8_t out[SP_DIGEST_LEN],
    struct sp_err *err)
{
	struct maker m = {node, ctx, NULL, 0, err};

	if (size == 0) {
		sp_sha256("", 0, out);
		return SP_OK;
	}
	return range_hash(&m, 0, size, out);
}

/* Nodes out of leaves alone. */
struct leaves {
	sp_merkle_leaf_fn *leaf;
	void *ctx;
};

static enum sp_code
node_of_leaves(
    void *ctx, unsigned level, uint64_t index, uint8_t out[SP_DIGEST_LEN], struct sp_err *err)
{
	const struct leaves *leaves = ctx;
	uint8_t right[SP_DIGEST_LEN];
	enum sp_code code;

	if (level == 0)
		return leaves->leaf(leaves->ctx, index, out, err);
	code = node_of_leaves(ctx, level - 1, 2 * index, out, err);
	if (code == SP_OK)
		code = node_of_leaves(ctx, level - 1, 2 * index + 1, right, err);
	if (code == SP_OK)
		sp_merkle_node(out, right, out);
	return code;
}

enum sp_code
sp_merkle_prove(uint64_t index, uint64_t size, sp_merkle_leaf_fn *leaf, void *ctx,
    uint8_t proof[][SP_DIGEST_LEN], size_t *count, struct sp_err *err)
{
	struct leaves leaves = {leaf, ctx};

	return sp_merkle_prove_from(index, size, node_of_leaves, &leaves, proof, count, err);
}

enum sp_code
sp_merkle_prove_consistency(uint64_t old_size, uint64_t size, sp_merkle_leaf_fn *leaf, void *ctx,
    uint8_t proof[][SP_DIGEST_LEN], size_t *count, struct sp_err *err)
{
	struct leaves leaves = {leaf, ctx};

	return sp_merkle_prove_consistency_from(
	    old_size, size, node_of_leaves, &leaves, proof, count, err);
}

/* --- verification ----------------------------------------------------------------------------- */

int
sp_merkle_verify(const uint8_t leaf[SP_DIGEST_LEN], uint64_t index, uint64_t size,
    const uint8_t (*proof)[SP_DIGEST_LEN], size_t count, const uint8_t root[SP_DIGEST_LEN])
{
	uint8_t hash[SP_DIGEST_LEN];
	uint64_t at = index, last;
	size_t i;

	if (index >= size)
		return 0;
	last = size - 1;
	memcpy(hash, leaf, sizeof(hash));
	for (i = 0; i < count; i++) {
		if (last == 0)
			return 0;
		if ((at & 1) || at == last) {
			sp_merkle_node(proof[i], hash, hash);
			/* where the right edge is not complete, its node is its own parent */
			while (!(at & 1) && at != 0) {
				at >>= 1;
				last >>= 1;
			}
		} else {
			sp_merkle_node(hash, proof[i], hash);
		}
		at >>= 1;
		last >>= 1;
	}
	return last == 0 && memcmp(hash, root, sizeof(hash)) == 0;
}

int
sp_merkle_verify_consistency(uint64_t old_size, const uint8_t old_root[SP_DIGEST_LEN],
    uint64_t size, const uint8_t root[SP_DIGEST_LEN], const uint8_t (*proof)[SP_DIGEST_LEN],
    size_t count)
{
	uint8_t old_hash[SP_DIGEST_LEN], hash[SP_DIGEST_LEN];
	uint64_t at, last;
	size_t i = 0;

	if (old_size == 0 || old_size > size)
		return 0;
	if (old_size == size)
		return count == 0 && memcmp(old_root, root, SP_DIGEST_LEN) == 0;
	at = old_size - 1;
	last = size - 1;
	while (at & 1) {
		at >>= 1;
		last >>= 1;
	}
	/* an old tree that is complete is itself the first hash, and is left out of the proof */
	if ((old_size & (old_size - 1)) == 0) {
		memcpy(hash, old_root, sizeof(hash));
	} else {
		if (count == 0)
			return 0;
		memcpy(hash, proof[i++], sizeof(hash));
	}
	memcpy(old_hash, hash, sizeof(hash));
	for (; i < count; i++) {
		if (last == 0)
			return 0;
		if ((at & 1) || at == last) {
			sp_merkle_node(proof[i], old_hash, old_hash);
			sp_merkle_node(proof[i], hash, hash);
			while (!(at & 1) && at != 0) {
				at >>= 1;
				last >>= 1;
			}
		} else {
			sp_merkle_node(hash, proof[i], hash);
		}
		at >>= 1;
		last >>= 1;
	}
	return last == 0 && memcmp(old_hash, old_root, SP_DIGEST_LEN) == 0 &&
	       memcmp(hash, root, SP_DIGEST_LEN) == 0;
}
