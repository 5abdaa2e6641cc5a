/* fetcherd.h -- the parts of fetcherd: what may be fetched (pure), the download, the two halves. */
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

/* --- fetcherd_step.c: pure ----------------------------------------------------------------------
 */

/* What a listing may hold: at least one file, no two paths that clash, nothing that runs code when
 * it is loaded (pickles, Python), sizes within the limits. Names the file. */
enum sp_code
fetcherd_check_files(const struct sp_answer_tree *listing, struct sp_err *err) SP_MUST_USE;
/* The same of a tree that the child has made; nothing in it is executable either. */
enum sp_code fetcherd_check_tree(const struct sp_tree *tree, struct sp_err *err) SP_MUST_USE;

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
	const char *job, *builder, *started, *finished;
};
/* SLSA provenance, canonical JSON, malloc'd; NULL when a text is not UTF-8. */
char *fetcherd_statement(const struct fetcherd_facts *facts, size_t *len);

/* --- fetcherd_download.c ------------------------------------------------------------------------
 */

struct fetcherd_download {
	const struct sp_client_options *hub;
	const char *repo, *commit;
	const struct sp_answer_tree *listing;
	struct sp_store *store;
	const char *store_dir;
	const char *work_dir; /* holds the journal */
	unsigned parallel;
	/* from any of its threads; may be NULL */
	void (*progress)(void *ctx, uint64_t done_bytes, uint64_t total_bytes);
	int (*cancelled)(void *ctx);
	void *ctx;
};
/* Gets what the store lacks, verified; *tree then names all of it. */
enum sp_code fetcherd_download(
    const struct fetcherd_download *download, struct sp_tree *tree, struct sp_err *err) SP_MUST_USE;

/* --- fetcherd_io.c ------------------------------------------------------------------------------
 */

enum sp_code fetcherd_check(const struct sp_conf *conf, struct sp_err *err);
enum sp_code fetcherd_open(struct sp_worker *worker, void **ctx, struct sp_err *err);
void fetcherd_close(void *ctx);
enum sp_code fetcherd_work(const struct sp_conf *conf, const Sallyport__Task *task,
    struct sp_lease *lease, struct sp_outcome *outcome, struct sp_err *err);
enum sp_code fetcherd_seal(void *ctx, struct sp_worker *worker, const Sallyport__Task *task,
    struct sp_lease *lease, enum sp_code worked, struct sp_outcome *outcome, struct sp_err *err);

#endif
