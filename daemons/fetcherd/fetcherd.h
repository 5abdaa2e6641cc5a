/* fetcherd.h -- the parts of fetcherd: policy and facts (pure), the download, the two halves. */
#ifndef FETCHERD_H
#define FETCHERD_H

#include "base/json.h"
#include "base/source.h"
#include "bus/worker.h"
#include "hub/client.h"
#include "release/statement.h"
#include "store/tree.h"

#define FETCHERD_SERVICE "fetcherd"
#define FETCHERD_FILE_MAX (UINT64_C(2) << 40)  /* bytes of one file */
#define FETCHERD_TOTAL_MAX (UINT64_C(8) << 40) /* bytes of a model */

/* --- fetcherd_policy.c: pure --------------------------------------------------------------------
 */

#define FETCHERD_LIST_MAX 64

struct fetcherd_policy_list {
	const char *items[FETCHERD_LIST_MAX]; /* borrowed from the policy's root */
	size_t count;
};

/* The group fetch of a job's profile; sallyport.conf(5) tells what each key means. */
struct fetcherd_policy {
	json_t *root; /* owned */
	struct fetcherd_policy_list allow, ignore, licences;
	int pickle, remote_code;
	uint64_t max_files, max_gib;
};
/* Of the job's policy, JSON; where it says nothing, nothing that runs code is let in. SP_E_CONFIG
 * names the key. */
enum sp_code fetcherd_policy_parse(
    const uint8_t *text, size_t len, struct fetcherd_policy *out, struct sp_err *err) SP_MUST_USE;
void fetcherd_policy_clear(struct fetcherd_policy *policy);
/* All of it, as the statement has it. New reference. */
json_t *fetcherd_policy_json(const struct fetcherd_policy *policy);

/* 1 when a file of that path is taken: allow, if there is any, has it, and ignore does not. */
int fetcherd_policy_keeps(const struct fetcherd_policy *policy, const char *path);
/* licence: as struct sp_answer_model has it. SP_E_BLOCKED when the profile does not want it. */
enum sp_code fetcherd_policy_licence(
    const struct fetcherd_policy *policy, const char *licence, struct sp_err *err) SP_MUST_USE;
/* What a listing may hold: at least one file, no two paths that clash, nothing that runs code when
 * it is loaded (SP_E_BLOCKED), sizes within the limits. Names the file and the key. */
enum sp_code fetcherd_policy_listing(const struct fetcherd_policy *policy,
    const struct sp_answer_tree *listing, struct sp_err *err) SP_MUST_USE;
/* The same of a tree that the child has made; nothing in it is left out or executable either. */
enum sp_code fetcherd_policy_tree(const struct fetcherd_policy *policy, const struct sp_tree *tree,
    struct sp_err *err) SP_MUST_USE;
/* 1 when a file of that path must also be looked into: */
int fetcherd_policy_is_config(const struct fetcherd_policy *policy, const char *path);
/* SP_E_BLOCKED when it names code that is to be loaded with the model. */
enum sp_code fetcherd_policy_config(
    const char *path, const uint8_t *data, size_t len, struct sp_err *err) SP_MUST_USE;

/* --- fetcherd_step.c: pure ----------------------------------------------------------------------
 */

/* sp_source_parse, and of a scheme that is fetched here: hf or hf-dataset. */
enum sp_code
fetcherd_source(const char *text, struct sp_source *out, struct sp_err *err) SP_MUST_USE;

/* Names the work directory of a fetch. */
struct sp_hex fetcherd_work_key(const struct sp_source *source, const char *commit);

/* The journal of a fetch: a line "GITOID SHA256\n" for each small file that lies in the store.
 * A last line that a crash cut is passed over; so is one that is malformed. */
struct fetcherd_journal {
	struct fetcherd_known {
		struct sp_git_oid oid;
		struct sp_hex sha256;
	} * known;
	size_t count;
};
void fetcherd_journal_parse(const uint8_t *data, size_t len, struct fetcherd_journal *out);
/* NULL when it is not known. */
const char *
fetcherd_journal_find(const struct fetcherd_journal *journal, const struct sp_git_oid *oid);
void fetcherd_journal_clear(struct fetcherd_journal *journal);

/* What the parent attests; all borrowed. */
struct fetcherd_facts {
	const char *text; /* the source as submitted */
	const struct sp_source *source;
	const char *commit, *tree;
	const char *endpoint, *licence, *gated, *profile;
	const struct fetcherd_policy *policy;
	const char *job, *builder, *started, *finished;
};
/* SLSA provenance, canonical JSON, malloc'd; NULL when a text is not UTF-8. */
char *fetcherd_statement(const struct fetcherd_facts *facts, size_t *len);

/* --- fetcherd_conf.c ----------------------------------------------------------------------------
 */

/* The environment's name for the file of the systemd credential hf-token: children, which do not
 * learn where the credentials lie, have their own path to this one. */
#define FETCHERD_CREDENTIAL "FETCHERD_TOKEN_FILE"
/* Sets it, or takes it away when there is no such credential. Before the first thread. */
void fetcherd_find_credential(void);

enum sp_code fetcherd_check(const struct sp_conf *conf, struct sp_err *err);
/* The configuration's, else HF_ENDPOINT, which huggingface_hub takes with a '/' at its end too.
 * malloc'd. */
char *fetcherd_endpoint(const struct sp_conf *conf);
/* Without the line break at its end; NULL when none is configured. */
enum sp_code
fetcherd_token(const struct sp_conf *conf, char **token, struct sp_err *err) SP_MUST_USE;
void fetcherd_token_free(char **token);
/* What a file holds on one line, without white space; refused when strangers can read it. what: for
 * messages, "a token". Free with fetcherd_token_free. */
enum sp_code
fetcherd_secret(const char *path, const char *what, char **secret, struct sp_err *err) SP_MUST_USE;

/* --- fetcherd_download.c ------------------------------------------------------------------------
 */

struct fetcherd_download {
	const struct sp_client_options *hub;
	const char *repo, *commit;
	const struct sp_answer_tree *listing;
	struct sp_store *store;
	const char *store_dir;
	const char *work_dir;	   /* holds the journal */
	unsigned parallel;	   /* connections */
	uint64_t rate_bytes_per_s; /* of all of them; 0: as fast as it goes */
	int64_t backoff_ms;	   /* before a file that has failed is tried again; doubles */
	/* from any of its threads; may be NULL */
	void (*progress)(void *ctx, uint64_t done_bytes, uint64_t total_bytes);
	/* Before a call of progress, not more often than is of use to eyes: the large files under
	 * way. May be NULL. */
	void (*files)(void *ctx, const struct sp_lease_file *files, size_t count);
	/* A large file has become a blob, or was one; from any of the threads. May be NULL. */
	void (*stored)(void *ctx, const char *digest);
	/* another job fetches the same commit, and is waited for; may be NULL */
	void (*waiting)(void *ctx);
	int (*cancelled)(void *ctx);
	void *ctx;
};
/* Gets what the store lacks, verified; *tree then names all of it. What a large file has got so far
 * outlives a failure or a crash. */
enum sp_code fetcherd_download(
    const struct fetcherd_download *download, struct sp_tree *tree, struct sp_err *err) SP_MUST_USE;
/* Removes a work directory, unless somebody is in it. */
enum sp_code fetcherd_download_forget(const char *work_dir, struct sp_err *err) SP_MUST_USE;

/* --- fetcherd_net.c -----------------------------------------------------------------------------
 */

/* Of fetcherd.proxy and what belongs to it. */
enum sp_code fetcherd_net_check(const struct sp_conf *conf, struct sp_err *err) SP_MUST_USE;
/* Sets what the configuration says of proxy, rate and patience; *proxy_auth (malloc'd, or NULL) is
 * what hub->proxy_auth then points to. */
enum sp_code fetcherd_net_take(const struct sp_conf *conf, struct sp_client_options *hub,
    struct fetcherd_download *download, char **proxy_auth, struct sp_err *err) SP_MUST_USE;

struct fetcherd_early;

/* --- fetcherd_verify.c --------------------------------------------------------------------------
 */

/* Reads every file of the tree that early (may be NULL) has not; SP_E_INCOMPLETE when one was
 * damaged, and is gone now. */
enum sp_code fetcherd_verify(struct sp_store *store, const struct sp_tree *tree,
    struct fetcherd_early *early, struct sp_lease *lease, struct sp_err *err) SP_MUST_USE;

/* --- fetcherd_early.c ---------------------------------------------------------------------------
 */

/* Of one lease: files that are verified, on a thread, while the child lives. store and lease
 * outlive it. */
struct fetcherd_early *
fetcherd_early_new(const struct sp_store *store, const struct sp_lease *lease);
/* The child says that this blob is there: at best it is. What is no digest, was said before, or is
 * one too many is passed over. */
void fetcherd_early_add(struct fetcherd_early *early, const char *digest);
/* Nothing more is begun: who seals has more threads than this one. */
void fetcherd_early_end(struct fetcherd_early *early);
/* 1 when it was verified and is unchanged since; *size is its length. Waits for the one in hand,
 * and before fetcherd_early_end for those that were added. */
int fetcherd_early_has(struct fetcherd_early *early, const char *digest, uint64_t *size);
/* A struct fetcherd_early. Waits for no more than the read in hand. */
void fetcherd_early_free(void *early);

/* --- fetcherd_io.c ------------------------------------------------------------------------------
 */

enum sp_code fetcherd_open(struct sp_worker *worker, void **ctx, struct sp_err *err);
void fetcherd_close(void *ctx);
enum sp_code fetcherd_confine(const struct sp_conf *conf, const Sallyport__Task *task,
    struct sp_confine *confine, struct sp_err *err) SP_MUST_USE;
enum sp_code fetcherd_work(const struct sp_conf *conf, const Sallyport__Task *task,
    struct sp_lease *lease, struct sp_outcome *outcome, struct sp_err *err);
void fetcherd_hear(void *ctx, struct sp_lease *lease, const Sallyport__ChildNote *note);
enum sp_code fetcherd_seal(void *ctx, struct sp_worker *worker, const Sallyport__Task *task,
    struct sp_lease *lease, enum sp_code worked, struct sp_outcome *outcome, struct sp_err *err);

#endif
