/* merkle.h -- RFC 6962 hash trees: leaves, roots, inclusion and consistency proofs. Pure. */
#ifndef SP_MERKLE_H
#define SP_MERKLE_H

#include "base/hash.h"

#define SP_MERKLE_PROOF_MAX 64 /* hashes of a proof: log2 of the largest tree */

/* SHA-256(0x00 | entry), SHA-256(0x01 | left | right) */
void sp_merkle_leaf(const void *entry, size_t len, uint8_t out[SP_DIGEST_LEN]);
void sp_merkle_node(const uint8_t left[SP_DIGEST_LEN], const uint8_t right[SP_DIGEST_LEN],
    uint8_t out[SP_DIGEST_LEN]);

/* Roots of the perfect subtrees of a growing log, largest first: appending is O(log n). */
struct sp_merkle {
	uint64_t size;
	uint8_t stack[SP_MERKLE_PROOF_MAX][SP_DIGEST_LEN];
};
void sp_merkle_append(struct sp_merkle *tree, const uint8_t leaf[SP_DIGEST_LEN]);
void sp_merkle_root(const struct sp_merkle *tree, uint8_t out[SP_DIGEST_LEN]);

/* leaf hashes are asked for by index */
typedef enum sp_code
sp_merkle_leaf_fn(void *ctx, uint64_t index, uint8_t out[SP_DIGEST_LEN], struct sp_err *err);
/* Audit path of leaf `index` in the tree of the first `size` leaves, leaf to root. */
enum sp_code sp_merkle_prove(uint64_t index, uint64_t size, sp_merkle_leaf_fn *leaf, void *ctx,
    uint8_t proof[][SP_DIGEST_LEN], size_t *count, struct sp_err *err) SP_MUST_USE;
/* From the tree of the first `old_size` leaves, at least one: SP_E_INVALID for an empty tree, which
 * every log continues. */
enum sp_code sp_merkle_prove_consistency(uint64_t old_size, uint64_t size, sp_merkle_leaf_fn *leaf,
    void *ctx, uint8_t proof[][SP_DIGEST_LEN], size_t *count, struct sp_err *err) SP_MUST_USE;

/* The same, in O(log n) calls, from complete subtrees: node (level, index) is the hash of the
 * leaves from index << level up to (index + 1) << level. */
typedef enum sp_code sp_merkle_node_fn(
    void *ctx, unsigned level, uint64_t index, uint8_t out[SP_DIGEST_LEN], struct sp_err *err);
enum sp_code sp_merkle_prove_from(uint64_t index, uint64_t size, sp_merkle_node_fn *node, void *ctx,
    uint8_t proof[][SP_DIGEST_LEN], size_t *count, struct sp_err *err) SP_MUST_USE;
enum sp_code
sp_merkle_prove_consistency_from(uint64_t old_size, uint64_t size, sp_merkle_node_fn *node,
    void *ctx, uint8_t proof[][SP_DIGEST_LEN], size_t *count, struct sp_err *err) SP_MUST_USE;
enum sp_code sp_merkle_root_from(uint64_t size, sp_merkle_node_fn *node, void *ctx,
    uint8_t out[SP_DIGEST_LEN], struct sp_err *err) SP_MUST_USE;

/* All complete subtrees of a log, in memory: 64 bytes a leaf. Zero-initialised is empty. */
struct sp_merkle_nodes {
	uint64_t size;
	uint8_t *level[SP_MERKLE_PROOF_MAX];
	size_t cap[SP_MERKLE_PROOF_MAX]; /* hashes */
};
void sp_merkle_nodes_append(struct sp_merkle_nodes *nodes, const uint8_t leaf[SP_DIGEST_LEN]);
/* Back to a smaller size: what a rolled-back transaction had appended goes. */
void sp_merkle_nodes_truncate(struct sp_merkle_nodes *nodes, uint64_t size);
/* A sp_merkle_node_fn whose ctx is the struct. */
sp_merkle_node_fn sp_merkle_nodes_get;
void sp_merkle_nodes_free(struct sp_merkle_nodes *nodes);

/* 1 when the proof leads from leaf to root. */
int sp_merkle_verify(const uint8_t leaf[SP_DIGEST_LEN], uint64_t index, uint64_t size,
    const uint8_t (*proof)[SP_DIGEST_LEN], size_t count, const uint8_t root[SP_DIGEST_LEN]);
/* 1 when the tree of `size` leaves continues that of `old_size`. Never for an empty old tree: a
 * root of nothing ties a log to nothing. */
int sp_merkle_verify_consistency(uint64_t old_size, const uint8_t old_root[SP_DIGEST_LEN],
    uint64_t size, const uint8_t root[SP_DIGEST_LEN], const uint8_t (*proof)[SP_DIGEST_LEN],
    size_t count);

#endif
