/*
 * rxd.h -- diode-rxd: receives transfers in a child without keys, verifies them, keeps or
 * quarantines.
 *
 * The receiver child and its parent exchange bus.proto ChildNotes. Child to parent:
 *	started     the receiver runs; what it holds is told from the beginning
 *	known       content: the manifest (diode/manifest.h); COUNTS
 *	object      job, bytes: one more object of the transfer is whole
 *	done        job, COUNTS: all objects are whole
 *	incomplete  job, missing, gaps, fault: the sender has ended, this did not come; fault: what
 *	            the spool's disk said meanwhile, when it was the disk
 * COUNTS are repaired, duplicates, lost and rejected: the link's, since the receiver started.
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

#define RXD_TRANSFERS_MAX 64 /* a receiver that is sound tells of 32 at a time */
#define RXD_FINISHED_MAX 64
#define RXD_AGAIN_MS 2000 /* before ledgerd is told once more of what no step has come for */
#define RXD_REFUSALS_MAX 5

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
	struct rxd_counts counts; /* of the link while it was under way, once it is DONE */
	uint64_t missing_bytes;
	char gaps[256], fault[256]; /* for people */
	int claimed;		    /* a step works on it, or has received it */
	int unsaid;		    /* until then ledgerd must hear of it, */
	int64_t say_ms;		    /* not before this */
	unsigned refusals;
};

/* Zero-initialised is empty. */
struct rxd_table {
	struct rxd_transfer *first; /* newest first */
	size_t count;
	/* jobs whose transfer was taken or refused: the receiver may not have heard it */
	char finished[RXD_FINISHED_MAX][SP_JOB_ID_LEN + 1];
	unsigned finished_next;
};

struct rxd_transfer *rxd_table_find(struct rxd_table *table, const char *job);
/* Takes in one note. forget: "", or the job that the receiver must be told to forget. Notes come
 * from a child that parses the network: a note that breaks a rule is SP_E_INVALID, one too many
 * SP_E_LIMIT, and changes nothing. */
enum sp_code rxd_table_note(struct rxd_table *table, const Sallyport__ChildNote *note,
    char forget[SP_JOB_ID_LEN + 1], struct sp_err *err) SP_MUST_USE;
/* The transfer that ledgerd must hear of next, not before its say_ms; NULL: there is none. */
struct rxd_transfer *rxd_table_unsaid(struct rxd_table *table);
/* What ledgerd said of it; 0 when it will not be told again, because it refuses. Once it agrees it
 * is told again all the same, until a step comes: the job may have been about to end. */
int rxd_table_said(struct rxd_table *table, const char *job, enum sp_code code, int64_t now_ms);
/* A step has come for it: ledgerd knows. */
void rxd_table_claim(struct rxd_transfer *transfer);
/* The step goes. unsaid: ledgerd must hear of the transfer, as it is. */
void rxd_table_unclaim(struct rxd_transfer *transfer, int unsaid, int64_t now_ms);
/* Given up: it may come again. */
void rxd_table_remove(struct rxd_table *table, const char *job);
/* Taken or refused: it need not come again. */
void rxd_table_finish(struct rxd_table *table, const char *job);
int rxd_table_is_finished(const struct rxd_table *table, const char *job);
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
struct sp_confine;
int rxd_receive(const struct sp_conf *conf, struct sp_child *child);
/* It takes datagrams from the wire, and opens them with the link's key. */
enum sp_code rxd_confine(const struct sp_conf *conf, const Sallyport__Task *task,
    struct sp_confine *confine, struct sp_err *err) SP_MUST_USE;
char *rxd_spool_dir(const struct sp_conf *conf); /* malloc'd */

/* --- rxd_verify.c --- */

/* Where an object of a transfer lies: in the spool, or in our store from an earlier transfer. */
struct rxd_source {
	const struct sp_conf *conf;
	struct sp_store *store;
	const char *spool_dir;
	const struct sp_manifest *manifest; /* NULL: all of it should be in the store */
};

/* 0: go on. */
typedef int rxd_progress_fn(void *ctx, uint64_t done_bytes, uint64_t total_bytes);

/*
 * Verifies the release and every byte it names, and takes all into the store. SP_E_INCOMPLETE when
 * something is gone that should be here: the transfer must come again. A code that may be retried
 * (sp_err_may_retry) is a fault of this machine, SP_E_CANCELLED that progress said so; with all
 * other codes the release is refused, and check names the check that it failed.
 */
enum sp_code
rxd_verify(const struct rxd_source *source, const struct sp_trust *trust, const char *job,
    const char *release, rxd_progress_fn *progress, void *ctx, struct sp_release **out,
    struct sp_tree *tree, const char **check, struct sp_err *err) SP_MUST_USE;

/* --- rxd_quarantine.c --- */

/* Keeps what came, out of reach, below STATE/diode-rxd/quarantine/JOB: the objects under their
 * digests, as far as there is room for such, then reason.json. */
enum sp_code rxd_quarantine(const struct rxd_source *source, const char *job, const char *check,
    const char *reason, struct sp_err *err) SP_MUST_USE;
/* SP_E_DENIED, with the reason, when the job's transfer was refused before; else SP_OK. */
enum sp_code
rxd_quarantined(const struct sp_conf *conf, const char *job, struct sp_err *err) SP_MUST_USE;

/* --- rxd_io.c: effects --- */

struct sp_worker;
struct sp_lease;

enum sp_code rxd_check(const struct sp_conf *conf, struct sp_err *err) SP_MUST_USE;
enum sp_code rxd_open(struct sp_worker *worker, void **ctx, struct sp_err *err) SP_MUST_USE;
void rxd_close(void *ctx);
/* The objects of the transfers that the receiver tells of: those that the store had already are not
 * received again. */
enum sp_code rxd_keep(void *ctx, void (*keep)(void *arg, const char *digest), void *arg,
    struct sp_err *err) SP_MUST_USE;
enum sp_code rxd_seal_receive(void *ctx, struct sp_worker *worker, const Sallyport__Task *task,
    struct sp_lease *lease, enum sp_code worked, struct sp_outcome *outcome,
    struct sp_err *err) SP_MUST_USE;
enum sp_code rxd_seal_verify(void *ctx, struct sp_worker *worker, const Sallyport__Task *task,
    struct sp_lease *lease, enum sp_code worked, struct sp_outcome *outcome,
    struct sp_err *err) SP_MUST_USE;

#endif
