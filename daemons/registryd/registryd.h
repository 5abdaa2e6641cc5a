/*
 * registryd.h -- the parts of registryd: rules (pure), state on disk, the hub it serves, the step.
 *
 * STATE/registryd holds
 *	models/KEY.json   one registration, KEY = SHA-256 of "NAME@VERSION" (form below)
 *	oids/TREE         git ids of a tree's small files, worked out once (form below)
 *	snapshot.json     the newest signed snapshot
 *	snapshot.version  its version, written before it is signed: a version is never used twice
 *	listen            "host:port" while the daemon runs
 */
#ifndef REGISTRYD_H
#define REGISTRYD_H

#include "bus/worker.h"
#include "http/http.h"
#include "hub/catalog.h"
#include "release/release.h"
#include "release/snapshot.h"
#include "store/tree.h"

#include <pthread.h>

#define REGISTRYD_SERVICE "registryd"
#define REGISTRYD_RESIGN_MS                                                                    \
	600000			/* a snapshot older than that is signed again, with fresh time \
				 */
#define REGISTRYD_LOOK_MS 10000 /* so often its age is looked at */
#define REGISTRYD_RETRY_MS 1000 /* after ledgerd did not take it */
#define REGISTRYD_PUBLISH_MS 10000
#define REGISTRYD_INDEX "model.safetensors.index.json"

/*
 * A registration, canonical JSON:
 *	{"kind": TEXT, "name": TEXT, "release": hex or "", "time": RFC3339, "tree": hex,
 *	 "type": "sallyport-registration/1", "version": N >= 1}
 */
struct registryd_entry {
	char name[SP_NAME_MAX + 1];
	char kind[16];
	int64_t version;
	struct sp_hex tree, release; /* release "": a local model */
	char time[25];
};

struct registryd_entries {
	struct registryd_entry *entries;
	size_t count;
};

/* --- registryd_step.c: pure ---------------------------------------------------------------------
 */

char *registryd_entry_format(const struct registryd_entry *entry, size_t *len);
enum sp_code registryd_entry_parse(
    const uint8_t *data, size_t len, struct registryd_entry *out, struct sp_err *err) SP_MUST_USE;
struct sp_hex registryd_entry_key(const char *name, int64_t version);

/* Whether a release may be registered: SP_OK; SP_E_EXISTS when its version is taken by another
 * tree; SP_E_DENIED when a newer one is there. *known: this very tree is registered as that
 * version. */
enum sp_code registryd_admit(const struct registryd_entries *entries,
    const struct registryd_entry *entry, int *known, struct sp_err *err) SP_MUST_USE;
void registryd_entries_add(struct registryd_entries *entries, const struct registryd_entry *entry);

/* A tree that an inference server can load: config.json (its bytes are given), a tokenizer,
 * safetensors, and every shard that the index (bytes, or NULL when there is none) names. */
struct registryd_model_files {
	const uint8_t *config, *index;
	size_t config_len, index_len;
};
enum sp_code registryd_check_model(const struct sp_tree *tree,
    const struct registryd_model_files *files, struct sp_err *err) SP_MUST_USE;

/*
 * Git ids of a tree:
 *	sallyport-oids/1\n
 *	40 HEX\n, or -\n for an LFS file      a line per file of the tree, in its order
 */
char *registryd_oids_format(const struct sp_tree *tree, const struct sp_git_oid *oids, size_t *len);
enum sp_code registryd_oids_parse(const uint8_t *data, size_t len, const struct sp_tree *tree,
    struct sp_git_oid *oids, struct sp_err *err) SP_MUST_USE;

/* A positive number and '\n'; -1 when data is anything else. */
int64_t registryd_version_parse(const uint8_t *data, size_t len);

/* --- registryd_state.c --------------------------------------------------------------------------
 */

struct registryd {
	struct sp_worker *worker;
	const struct sp_conf *conf;
	char *state;
	struct sp_store *store;
	struct sp_http *http;
	struct sp_key *key; /* of the registry role; NULL when standalone */
	char origin[SP_NAME_MAX + 1];

	pthread_rwlock_t lock; /* catalog and entries */
	struct sp_catalog catalog;
	struct registryd_entries entries;

	pthread_mutex_t snapshot_lock; /* signing and publishing, in one order */
	char *snapshot;		       /* envelope */
	size_t snapshot_len;
	int64_t snapshot_version, published_version;
	int64_t snapshot_ms; /* when it was signed, monotonic */

	pthread_t publisher;
	pthread_mutex_t wake_lock;
	pthread_cond_t wake;
	int started, stopping;
};

/* Reads all registrations and the newest snapshot. */
enum sp_code registryd_state_load(struct registryd *r, struct sp_err *err) SP_MUST_USE;
/* Puts a tree of our store into the catalog that is served; entries and files on disk are not
 * touched. */
enum sp_code registryd_serve_tree(
    struct registryd *r, const struct registryd_entry *entry, struct sp_err *err) SP_MUST_USE;
/* Writes a registration, then serves it. Nothing to do when it is there. */
enum sp_code registryd_state_add(
    struct registryd *r, const struct registryd_entry *entry, struct sp_err *err) SP_MUST_USE;
/* Signs the next snapshot over what is registered. Under snapshot_lock. */
enum sp_code registryd_state_sign(struct registryd *r, struct sp_err *err) SP_MUST_USE;
void registryd_state_clear(struct registryd *r);

/* --- registryd_serve.c --------------------------------------------------------------------------
 */

/* sp_http_handler; ctx is a struct registryd. */
void
registryd_handle(void *ctx, const struct sp_http_request *request, struct sp_http_reply *reply);

/* --- registryd_io.c -----------------------------------------------------------------------------
 */

int registryd_standalone(const struct sp_conf *conf);
enum sp_code registryd_check(const struct sp_conf *conf, struct sp_err *err);
/* What open does, without a worker: worker may be NULL when standalone. */
enum sp_code registryd_start(struct sp_worker *worker, const struct sp_conf *conf,
    struct registryd **out, struct sp_err *err) SP_MUST_USE;
enum sp_code registryd_open(struct sp_worker *worker, void **ctx, struct sp_err *err);
void registryd_close(void *ctx);
/* Tree and release of each registration, revoked ones too. */
enum sp_code
registryd_keep(void *ctx, sp_worker_keep_fn *keep, void *arg, struct sp_err *err) SP_MUST_USE;

/* --- registryd_register.c -----------------------------------------------------------------------
 */

enum sp_code registryd_seal(void *ctx, struct sp_worker *worker, const Sallyport__Task *task,
    struct sp_lease *lease, enum sp_code worked, struct sp_outcome *outcome, struct sp_err *err);
/* Signs when asked to (or when the newest snapshot is old), then publishes. */
enum sp_code registryd_publish(struct registryd *r, int sign, struct sp_err *err) SP_MUST_USE;
/* The thread that keeps the snapshot fresh. */
void *registryd_publisher(void *ctx);

#endif
