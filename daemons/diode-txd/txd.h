/* txd.h -- diode-txd: packages what was validated and approved, signs it, sends it one way. */
#ifndef TXD_H
#define TXD_H

#include "base/conf.h"
#include "bus/outcome.h"
#include "diode/manifest.h"
#include "diode/tx.h"
#include "release/release.h"
#include "store/tree.h"

/* --- txd_step.c: decisions without clock, file or socket --- */

/* What a package task gives, checked for form and ready for sp_release_build. Points into task. */
struct txd_package {
	struct sp_artifact tree; /* what is to cross */
	unsigned approvals;	 /* as the policy wants; 0: the trust document's threshold */
	struct sp_bytes candidate;
	struct sp_bytes *attestations; /* malloc'd */
	size_t attestation_count;
	struct sp_bytes checkpoint;
	struct sp_release_proof *proofs; /* malloc'd, and their hashes */
	size_t proof_count;
};

enum sp_code txd_package_read(
    const Sallyport__Task *task, struct txd_package *out, struct sp_err *err) SP_MUST_USE;
void txd_package_clear(struct txd_package *package);

/* The objects of a transfer: the release, the tree's listing, each blob of the tree once. release
 * and listing: digest and bytes. Clear with sp_manifest_clear. */
enum sp_code
txd_manifest(const char *job, const struct sp_object *release, const struct sp_object *listing,
    const struct sp_tree *tree, struct sp_manifest *out, struct sp_err *err) SP_MUST_USE;

/* The code that the configuration asks for. */
enum sp_code
txd_code(const struct sp_conf *conf, struct sp_tx_config *out, struct sp_err *err) SP_MUST_USE;

/* --- txd_io.c: effects --- */

struct sp_worker;
struct sp_lease;

enum sp_code txd_check(const struct sp_conf *conf, struct sp_err *err) SP_MUST_USE;
enum sp_code txd_open(struct sp_worker *worker, void **ctx, struct sp_err *err) SP_MUST_USE;
void txd_close(void *ctx);
enum sp_code txd_seal_package(void *ctx, struct sp_worker *worker, const Sallyport__Task *task,
    struct sp_lease *lease, enum sp_code worked, struct sp_outcome *outcome,
    struct sp_err *err) SP_MUST_USE;
enum sp_code txd_seal_send(void *ctx, struct sp_worker *worker, const Sallyport__Task *task,
    struct sp_lease *lease, enum sp_code worked, struct sp_outcome *outcome,
    struct sp_err *err) SP_MUST_USE;

#endif
