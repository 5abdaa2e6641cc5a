/* rxd.h -- diode-rxd: receives transfers in a child without keys, verifies them, keeps or
 *quarantines.
 *
 * The receiver child and its parent exchange bus.proto ChildNotes. Child to parent:
 *	known       content: the manifest (diode/manifest.h)
 *	object      job, bytes: one more object of the transfer is whole
 *	done        job, repaired, duplicates, lost, rejected: all objects are whole
 *	incomplete  job, missing, gaps: the sender has ended, this did not come
 *	refused     object, reason: a manifest that cannot be taken
 *	link        state: up or down
 * Parent to child:
 *	forget      job: its objects were taken or given up
 */
#ifndef RXD_H
#define RXD_H

#include "base/conf.h"
#include "bus/outcome.h"
#include "diode/manifest.h"
#include "release/release.h"
#include "store/tree.h"

#define RXD_SERVICE "diode-rxd"

/* --- rxd_step.c: decisions without clock, file or socket --- */

enum rxd_state { RXD_KNOWN, RXD_DONE, RXD_INCOMPLETE };

struct rxd_counts {
	uint64_t repaired, duplicates, lost, rejected;
};

/* A transfer as the receiver tells of it. */
struct rxd_transfer {
	struct rxd_transfer *next;
	enum rxd_state state;
	struct sp_manifest manifest;
	uint64_t total_bytes, done_bytes;
	struct rxd_counts counts;
	uint64_t missing_bytes;
	char gaps[256]; /* what is missing, for people */
};

struct rxd_table {
	struct rxd_transfer *first;
};

struct rxd_transfer *rxd_table_find(struct rxd_table *table, const char *job);
/* Takes in one note. *begun: a transfer of which ledgerd must hear (new, or incomplete until now).
 * Notes come from a child that parses the network: a note that breaks a rule is SP_E_INVALID and
 * changes nothing. */
enum sp_code rxd_table_note(struct rxd_table *table, const Sallyport__ChildNote *note,
    const struct rxd_transfer **begun, struct sp_err *err) SP_MUST_USE;
void rxd_table_remove(struct rxd_table *table, const char *job);
void rxd_table_clear(struct rxd_table *table);

/* The candidate is meant for this transfer and this place. */
enum sp_code rxd_check_candidate(const struct sp_candidate *candidate, const char *job,
    const char *destination, struct sp_err *err) SP_MUST_USE;
/* Every object that came is the release, the listing or a file of the tree: nothing rides along. */
enum sp_code rxd_check_objects(const struct sp_manifest *manifest, const char *listing,
    const struct sp_tree *tree, struct sp_err *err) SP_MUST_USE;

/* A detail of a note, NULL when it has none of that key. */
const char *rxd_note_get(const Sallyport__ChildNote *note, const char *key);

/* --- rxd_receiver.c: the child --- */

struct sp_child;
int rxd_receive(const struct sp_conf *conf, struct sp_child *child);
char *rxd_spool_dir(const struct sp_conf *conf); /* malloc'd */

/* --- rxd_verify.c --- */

/* Where an object of a transfer lies: in the spool, or in our store from an earlier transfer. */
struct rxd_source {
	const struct sp_conf *conf;
	struct sp_store *store;
	const char *spool_dir;
	const struct sp_manifest *manifest; /* NULL: all of it is in the store */
};

/* Verifies the release and every byte it names, and takes all into the store. check names what
 * failed when the answer is a quarantine. */
enum sp_code rxd_verify(const struct rxd_source *source, const struct sp_trust *trust,
    const char *job, const char *release, void (*progress)(void *, uint64_t, uint64_t), void *ctx,
    struct sp_release **out, struct sp_tree *tree, const char **check,
    struct sp_err *err) SP_MUST_USE;

/* Keeps what came, out of reach, below STATE/diode-rxd/quarantine/JOB: reason.json, and the objects
 * under their digests. */
enum sp_code rxd_quarantine(const struct rxd_source *source, const char *job, const char *check,
    const char *reason, struct sp_err *err) SP_MUST_USE;

/* --- rxd_io.c: effects --- */

struct sp_worker;
struct sp_lease;

enum sp_code rxd_check(const struct sp_conf *conf, struct sp_err *err) SP_MUST_USE;
enum sp_code rxd_open(struct sp_worker *worker, void **ctx, struct sp_err *err) SP_MUST_USE;
void rxd_close(void *ctx);
enum sp_code rxd_seal_receive(void *ctx, struct sp_worker *worker, const Sallyport__Task *task,
    struct sp_lease *lease, enum sp_code worked, struct sp_outcome *outcome,
    struct sp_err *err) SP_MUST_USE;
enum sp_code rxd_seal_verify(void *ctx, struct sp_worker *worker, const Sallyport__Task *task,
    struct sp_lease *lease, enum sp_code worked, struct sp_outcome *outcome,
    struct sp_err *err) SP_MUST_USE;

#endif
