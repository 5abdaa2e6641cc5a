/* fetcherd_io.c -- the two halves of the fetch step: the network without keys, then the signature.
 */
#include "base/file.h"
#include "base/log.h"
#include "base/path.h"
#include "base/time.h"
#include "bus/paths.h"
#include "fetcherd.h"
#include "http/url.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#define TOKEN_MAX 4096

struct fetcherd {
	struct sp_key *key; /* of the fetch role */
	struct sp_store *store;
};

/* --- configuration ------------------------------------------------------------------------------
 */

enum sp_code
fetcherd_check(const struct sp_conf *conf, struct sp_err *err)
{
	const char *endpoint = sp_conf_string(conf, "fetcherd.endpoint");
	size_t len = strlen(endpoint);

	if (sp_url_origin_len(endpoint) == 0 || endpoint[len - 1] == '/' ||
	    strpbrk(endpoint, "?#") != NULL)
		return sp_err_set(err, SP_E_CONFIG,
		    "fetcherd.endpoint is \"%s\": https://host[:port] is expected, without a '/' "
		    "at its end",
		    endpoint);
	if (sp_conf_string(conf, "fetcherd.token_file") != NULL &&
	    strncasecmp(endpoint, "https:", 6) != 0)
		return sp_err_set(err, SP_E_CONFIG,
		    "fetcherd.token_file is set, but fetcherd.endpoint is no https URL: the token "
		    "would travel in clear");
	return SP_OK;
}

/* The token without the line break at its end; NULL when none is configured. */
static enum sp_code
read_token(const struct sp_conf *conf, char **token, struct sp_err *err)
{
	const char *path = sp_conf_string(conf, "fetcherd.token_file");
	enum sp_code code;
	uint8_t *data = NULL;
	struct stat st;
	size_t len;

	*token = NULL;
	if (path == NULL)
		return SP_OK;
	code = sp_file_read(path, TOKEN_MAX, &data, &len, err);
	if (code != SP_OK)
		return err != NULL ? sp_err_prefix(err, "fetcherd.token_file") : code;
	while (len > 0 && (data[len - 1] == '\n' || data[len - 1] == '\r'))
		data[--len] = '\0';
	for (size_t i = 0; i < len; i++)
		if (data[i] <= ' ' || data[i] >= 0x7f)
			len = 0;
	if (len == 0)
		code = sp_err_set(err, SP_E_CONFIG, "%s does not hold a token on one line", path);
	else if (stat(path, &st) != 0 || (st.st_mode & S_IRWXO) != 0)
		code = sp_err_set(
		    err, SP_E_CONFIG, "%s can be read by everybody: chmod it to 0600", path);
	if (code == SP_OK)
		*token = (char *)data;
	else
		free(data);
	return code;
}

enum sp_code
fetcherd_open(struct sp_worker *worker, void **ctx, struct sp_err *err)
{
	const struct sp_conf *conf = sp_worker_conf(worker);
	struct fetcherd *fetcherd = sp_xcalloc(1, sizeof(*fetcherd));
	char *key = sp_paths_key(conf, FETCHERD_SERVICE, "fetch");
	char *store = sp_paths_store(conf, FETCHERD_SERVICE);
	enum sp_code code;

	code = sp_key_load(key, SP_ROLE_FETCH, NULL, &fetcherd->key, err);
	if (code == SP_OK)
		code = sp_store_open(store, 1, &fetcherd->store, err);
	if (code == SP_OK)
		*ctx = fetcherd;
	else
		fetcherd_close(fetcherd);
	free(key);
	free(store);
	return code;
}

void
fetcherd_close(void *ctx)
{
	struct fetcherd *fetcherd = ctx;

	sp_store_close(&fetcherd->store);
	sp_key_free(&fetcherd->key);
	free(fetcherd);
}

/* --- work: in the child -------------------------------------------------------------------------
 */

static void
on_progress(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
	sp_lease_progress(ctx, "download", done_bytes, total_bytes, "bytes");
}

static int
on_cancelled(void *ctx)
{
	return sp_lease_cancelled(ctx);
}

/* Pins the revision to a commit and reads what it has. */
static enum sp_code
ask_hub(const struct sp_client_options *hub, const struct sp_source *source,
    struct sp_answer_model *model, struct sp_answer_tree *listing, struct sp_err *err)
{
	struct sp_client *client = NULL;
	enum sp_code code;

	code = sp_client_new(hub, &client, err);
	if (code == SP_OK)
		code = sp_client_model(client, source->repo, source->revision, model, err);
	if (code == SP_OK && model->disabled)
		code = sp_err_set(err, SP_E_DENIED, "%s:%s is disabled at %s",
		    sp_source_word(source->scheme), source->repo, hub->endpoint);
	if (code == SP_OK && sp_source_is_commit(source->revision) &&
	    strcmp(source->revision, model->commit.s) != 0)
		code =
		    sp_err_set(err, SP_E_CORRUPT, "%s:%s: asked for commit %s, %s answers with %s",
			sp_source_word(source->scheme), source->repo, source->revision,
			hub->endpoint, model->commit.s);
	if (code == SP_OK)
		code = sp_client_tree(client, source->repo, model->commit.s, listing, err);
	if (code == SP_OK) {
		code = fetcherd_check_files(listing, err);
		if (code != SP_OK && err != NULL)
			sp_err_prefix(err, "%s:%s@%.12s", sp_source_word(source->scheme),
			    source->repo, model->commit.s);
	}
	sp_client_free(&client);
	return code;
}

static enum sp_code
take_files(const struct sp_conf *conf, const struct sp_source *source,
    struct fetcherd_download *download, struct sp_lease *lease, struct sp_hex *digest,
    struct sp_err *err)
{
	struct sp_hex key = fetcherd_work_key(source, download->commit);
	char *store_dir = sp_paths_store(conf, FETCHERD_SERVICE), *work_dir;
	struct sp_store *store = NULL;
	struct sp_tree tree = {0};
	enum sp_code code;

	work_dir = sp_lease_workdir(lease, key.s, err);
	if (work_dir == NULL) {
		code = err->code;
		goto out;
	}
	code = sp_store_open(store_dir, 1, &store, err);
	if (code != SP_OK)
		goto out;
	download->store = store;
	download->store_dir = store_dir;
	download->work_dir = work_dir;
	code = fetcherd_download(download, &tree, err);
	if (code == SP_OK)
		code = sp_tree_save(store, &tree, digest, err);
out:
	sp_tree_clear(&tree);
	sp_store_close(&store);
	free(store_dir);
	free(work_dir);
	return code;
}

enum sp_code
fetcherd_work(const struct sp_conf *conf, const Sallyport__Task *task, struct sp_lease *lease,
    struct sp_outcome *outcome, struct sp_err *err)
{
	struct sp_client_options hub = {.endpoint = sp_conf_string(conf, "fetcherd.endpoint"),
	    .ca_file = sp_conf_string(conf, "fetcherd.ca_file"),
	    .cancelled = on_cancelled,
	    .ctx = lease};
	struct sp_rfc3339 started = sp_time_rfc3339(sp_time_unix_ms());
	struct sp_answer_tree listing = {0};
	struct fetcherd_download download = {.hub = &hub,
	    .listing = &listing,
	    .parallel = (unsigned)sp_conf_int(conf, "fetcherd.parallel"),
	    .progress = on_progress,
	    .cancelled = on_cancelled,
	    .ctx = lease};
	struct sp_answer_model model;
	struct sp_source source;
	struct sp_hex digest;
	char *token = NULL;
	enum sp_code code;

	code = fetcherd_source(task->source, &source, err);
	if (code == SP_OK)
		code = read_token(conf, &token, err);
	if (code != SP_OK)
		goto out;
	hub.token = token;
	hub.dataset = source.scheme == SP_SOURCE_HF_DATASET;
	sp_lease_progress(lease, "list", 0, 0, "files");
	code = ask_hub(&hub, &source, &model, &listing, err);
	if (code != SP_OK)
		goto out;
	download.repo = source.repo;
	download.commit = model.commit.s;
	code = take_files(conf, &source, &download, lease, &digest, err);
	if (code != SP_OK)
		goto out;
	sp_outcome_artifact(outcome, "source", digest.s, FETCHERD_SERVICE, 1, listing.bytes);
	sp_outcome_detail(outcome, "commit", "%s", model.commit.s);
	sp_outcome_detail(outcome, "licence", "%s", model.licence);
	sp_outcome_detail(outcome, "gated", "%s", model.gated);
	sp_outcome_detail(outcome, "started", "%s", started.s);
out:
	if (token != NULL)
		explicit_bzero(token, strlen(token));
	free(token);
	sp_answer_tree_clear(&listing);
	return code;
}

/* --- seal: in the daemon, with the key ----------------------------------------------------------
 */

/* What the child says, as far as it is well-formed. */
struct claim {
	struct sp_source source;
	struct sp_hex tree;
	char commit[41], licence[128], gated[16];
	struct sp_rfc3339 started;
};

/* A detail of the child that goes into the statement: short printable ASCII. */
static enum sp_code
copy_word(
    const struct sp_outcome *outcome, const char *key, char *to, size_t size, struct sp_err *err)
{
	const char *value = sp_outcome_get(outcome, key);

	if (value == NULL || strlen(value) >= size)
		return sp_err_set(
		    err, SP_E_INTERNAL, "the child of fetcherd left no proper \"%s\"", key);
	for (const char *p = value; *p != '\0'; p++)
		if (*p < 0x20 || *p >= 0x7f)
			return sp_err_set(
			    err, SP_E_INTERNAL, "\"%s\" of fetcherd's child is not ASCII", key);
	strcpy(to, value);
	return SP_OK;
}

static enum sp_code
read_claim(const Sallyport__Task *task, const struct sp_outcome *outcome, struct claim *claim,
    struct sp_err *err)
{
	const struct sp_artifact *artifact = sp_outcome_find(outcome, "source");
	enum sp_code code;

	code = fetcherd_source(task->source, &claim->source, err);
	if (code != SP_OK)
		return code;
	if (artifact == NULL || !artifact->tree || !sp_hex_is_digest(artifact->digest.s) ||
	    strcmp(artifact->store, FETCHERD_SERVICE) != 0)
		return sp_err_set(
		    err, SP_E_INTERNAL, "the child of fetcherd left no tree in its store");
	claim->tree = artifact->digest;
	code = copy_word(outcome, "commit", claim->commit, sizeof(claim->commit), err);
	if (code == SP_OK)
		code = copy_word(outcome, "licence", claim->licence, sizeof(claim->licence), err);
	if (code == SP_OK)
		code = copy_word(outcome, "gated", claim->gated, sizeof(claim->gated), err);
	if (code == SP_OK)
		code =
		    copy_word(outcome, "started", claim->started.s, sizeof(claim->started.s), err);
	if (code != SP_OK)
		return code;
	if (!sp_source_is_commit(claim->commit) || sp_time_parse_rfc3339(claim->started.s) < 0 ||
	    (sp_source_is_commit(claim->source.revision) &&
		strcmp(claim->source.revision, claim->commit) != 0))
		return sp_err_set(err, SP_E_INTERNAL,
		    "the child of fetcherd names a commit or time that cannot be");
	return SP_OK;
}

/* Every byte that the statement will speak of is read again. A blob that the disk has spoilt is
 * removed, so that the next attempt fetches it. */
static enum sp_code
verify_tree(const struct fetcherd *fetcherd, const char *digest, struct sp_lease *lease,
    struct sp_tree *tree, struct sp_err *err)
{
	uint64_t done = 0, size;
	struct sp_err ignored;
	enum sp_code code;

	code = sp_tree_load(fetcherd->store, digest, tree, err);
	/* the child may have been taken over by what it read */
	if (code == SP_OK)
		code = fetcherd_check_tree(tree, err);
	for (size_t i = 0; code == SP_OK && i < tree->count; i++) {
		const struct sp_tree_file *file = &tree->files[i];

		if (sp_lease_cancelled(lease))
			return sp_err_set(err, SP_E_CANCELLED, "cancelled");
		sp_lease_progress(lease, "verify", done, sp_tree_bytes(tree), "bytes");
		code = sp_store_verify(fetcherd->store, file->sha256.s, &size, NULL, NULL, err);
		if (code == SP_E_CORRUPT &&
		    sp_store_remove(fetcherd->store, file->sha256.s, &ignored) == SP_OK)
			return sp_err_set(err, SP_E_INCOMPLETE,
			    "%s was damaged in the store and is fetched again", file->path);
		if (code == SP_OK && size != file->size)
			code = sp_err_set(
			    err, SP_E_INTERNAL, "%s: size in the tree is wrong", file->path);
		done += file->size;
	}
	return code;
}

static enum sp_code
attest(const struct fetcherd *fetcherd, const struct sp_conf *conf, const Sallyport__Task *task,
    const struct claim *claim, struct sp_outcome *outcome, struct sp_err *err)
{
	struct sp_rfc3339 finished = sp_time_rfc3339(sp_time_unix_ms());
	struct fetcherd_facts facts = {.text = task->source,
	    .source = &claim->source,
	    .commit = claim->commit,
	    .tree = claim->tree.s,
	    .endpoint = sp_conf_string(conf, "fetcherd.endpoint"),
	    .licence = claim->licence,
	    .gated = claim->gated,
	    .profile = task->profile,
	    .job = task->job,
	    .builder = sp_key_public(fetcherd->key)->name,
	    .started = claim->started.s,
	    .finished = finished.s};
	char *payload, *envelope = NULL;
	size_t len, envelope_len;
	enum sp_code code;

	payload = fetcherd_statement(&facts, &len);
	if (payload == NULL)
		return sp_err_set(err, SP_E_INVALID, "source or profile of the job is not UTF-8");
	code = sp_dsse_sign(
	    fetcherd->key, SP_DSSE_INTOTO, payload, len, &envelope, &envelope_len, err);
	if (code == SP_OK)
		sp_outcome_attest(outcome, envelope, envelope_len);
	free(payload);
	free(envelope);
	return code;
}

enum sp_code
fetcherd_seal(void *ctx, struct sp_worker *worker, const Sallyport__Task *task,
    struct sp_lease *lease, enum sp_code worked, struct sp_outcome *outcome, struct sp_err *err)
{
	const struct sp_conf *conf = sp_worker_conf(worker);
	struct fetcherd *fetcherd = ctx;
	struct sp_tree tree = {0};
	struct claim claim;
	struct sp_hex key;
	struct sp_err ignored;
	char *work_dir;
	enum sp_code code;

	if (worked != SP_OK)
		return sp_err_set(err, worked, "the child of fetcherd did not finish");
	memset(&claim, 0, sizeof(claim));
	code = read_claim(task, outcome, &claim, err);
	if (code == SP_OK)
		code = verify_tree(fetcherd, claim.tree.s, lease, &tree, err);
	if (code != SP_OK)
		goto out;
	/* from here on the outcome is ours, not the child's */
	sp_outcome_clear(outcome);
	sp_outcome_artifact(
	    outcome, "source", claim.tree.s, FETCHERD_SERVICE, 1, sp_tree_bytes(&tree));
	sp_outcome_detail(outcome, "commit", "%s", claim.commit);
	sp_outcome_detail(
	    outcome, "licence", "%s", claim.licence[0] != '\0' ? claim.licence : "not stated");
	sp_outcome_detail(outcome, "gated", "%s", claim.gated);
	sp_outcome_detail(outcome, "files", "%zu", tree.count);
	sp_outcome_detail(outcome, "bytes", "%llu", (unsigned long long)sp_tree_bytes(&tree));
	code = attest(fetcherd, conf, task, &claim, outcome, err);
	if (code != SP_OK)
		goto out;
	key = fetcherd_work_key(&claim.source, claim.commit);
	work_dir = sp_lease_workdir(lease, key.s, &ignored);
	/* a journal that stays behind costs some disk, not the result */
	if (work_dir == NULL || sp_file_remove_all(work_dir, &ignored) != SP_OK)
		sp_log_warn(task->job, "%s", ignored.msg);
	free(work_dir);
out:
	sp_tree_clear(&tree);
	return code;
}
