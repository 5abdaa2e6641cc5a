/* fetcherd_io.c -- the two halves of the fetch step: the network without keys, then the signature.
 */
#include "base/file.h"
#include "base/log.h"
#include "base/time.h"
#include "bus/paths.h"
#include "fetcherd.h"

#include <stdlib.h>
#include <string.h>

#define STORED "stored" /* the child's note: the digest of a blob */

struct fetcherd {
	struct sp_key *key; /* of the fetch role */
	struct sp_store *store;
};

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

static void
on_files(void *ctx, const struct sp_lease_file *files, size_t count)
{
	sp_lease_progress_files(ctx, files, count);
}

static void
on_stored(void *ctx, const char *digest)
{
	sp_lease_note(ctx, STORED, digest, strlen(digest));
}

static void
on_waiting(void *ctx)
{
	sp_lease_progress(ctx, "wait", 0, 0, "files");
}

static int
on_cancelled(void *ctx)
{
	return sp_lease_cancelled(ctx);
}

static int
keeps(const void *ctx, const char *path)
{
	return fetcherd_policy_keeps(ctx, path);
}

/* Pins the revision to a commit and reads what it has, as far as the profile takes it. */
static enum sp_code
ask_hub(const struct sp_client_options *hub, const struct sp_source *source,
    const struct fetcherd_policy *policy, struct sp_answer_model *model,
    struct sp_answer_tree *listing, struct sp_err *err)
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
	if (code != SP_OK)
		goto out;
	listing->keeps = keeps;
	listing->ctx = policy;
	code = fetcherd_policy_licence(policy, model->licence, err);
	if (code == SP_OK) {
		code = sp_client_tree(client, source->repo, model->commit.s, listing, err);
		if (code != SP_OK)
			goto out; /* it names the source itself */
		code = fetcherd_policy_listing(policy, listing, err);
	}
	if (code != SP_OK && err != NULL)
		sp_err_prefix(err, "%s:%s@%.12s", sp_source_word(source->scheme), source->repo,
		    model->commit.s);
out:
	sp_client_free(&client);
	return code;
}

static enum sp_code
check_config_size(const char *path, uint64_t size, struct sp_err *err)
{
	if (size <= SP_JSON_MAX)
		return SP_OK;
	return sp_err_set(err, SP_E_BLOCKED,
	    "\"%s\" has %llu bytes, too many to see whether it names code: in the profile, "
	    "fetch.ignore leaves it out",
	    path, (unsigned long long)size);
}

/* Neither half signs or passes on what names code; the daemon does not believe its child. */
static enum sp_code
check_configs(const struct sp_store *store, const struct fetcherd_policy *policy,
    const struct sp_tree *tree, struct sp_err *err)
{
	enum sp_code code = SP_OK;
	uint8_t *data;
	size_t len;

	for (size_t i = 0; code == SP_OK && i < tree->count; i++) {
		const struct sp_tree_file *file = &tree->files[i];

		if (!fetcherd_policy_is_config(policy, file->path))
			continue;
		code = check_config_size(file->path, file->size, err);
		if (code == SP_OK)
			code = sp_store_read(store, file->sha256.s, SP_JSON_MAX, &data, &len, err);
		if (code != SP_OK)
			return code;
		code = fetcherd_policy_config(file->path, data, len, err);
		free(data);
	}
	return code;
}

/* The configurations alone, and before the rest: code that they name is found without hours of
 * weights. They are in the store then, so that the whole does not fetch them again. */
static enum sp_code
take_configs(
    const struct fetcherd_download *whole, const struct fetcherd_policy *policy, struct sp_err *err)
{
	struct sp_answer_tree listing = {0};
	struct fetcherd_download download = *whole;
	struct sp_tree tree = {0};
	enum sp_code code = SP_OK;

	listing.files = sp_xcalloc(whole->listing->count, sizeof(*listing.files));
	for (size_t i = 0; code == SP_OK && i < whole->listing->count; i++) {
		const struct sp_answer_file *file = &whole->listing->files[i];

		if (!fetcherd_policy_is_config(policy, file->path))
			continue;
		code = check_config_size(file->path, file->size, err);
		listing.files[listing.count++] = *file; /* its path is still the whole's */
		listing.bytes += file->size;
	}
	download.listing = &listing;
	if (code == SP_OK && listing.count > 0)
		code = fetcherd_download(&download, &tree, err);
	if (code == SP_OK)
		code = check_configs(whole->store, policy, &tree, err);
	sp_tree_clear(&tree);
	free(listing.files);
	return code;
}

static enum sp_code
take_files(const struct sp_conf *conf, const struct sp_source *source,
    const struct fetcherd_policy *policy, struct fetcherd_download *download,
    struct sp_lease *lease, struct sp_hex *digest, struct sp_err *err)
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
	code = take_configs(download, policy, err);
	if (code == SP_OK)
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

static void
report(const struct sp_answer_model *model, const struct sp_answer_tree *listing,
    const struct sp_hex *digest, const char *started, struct sp_outcome *outcome)
{
	sp_outcome_artifact(outcome, "source", digest->s, FETCHERD_SERVICE, 1, listing->bytes);
	sp_outcome_detail(outcome, "commit", "%s", model->commit.s);
	sp_outcome_detail(outcome, "licence", "%s", model->licence);
	sp_outcome_detail(outcome, "gated", "%s", model->gated);
	sp_outcome_detail(outcome, "started", "%s", started);
	sp_outcome_detail(outcome, "left_out_files", "%zu", listing->left_out);
	sp_outcome_detail(outcome, "left_out_bytes", "%llu",
	    (unsigned long long)(listing->left_out_bytes <= INT64_MAX ? listing->left_out_bytes
								      : INT64_MAX));
}

enum sp_code
fetcherd_work(const struct sp_conf *conf, const Sallyport__Task *task, struct sp_lease *lease,
    struct sp_outcome *outcome, struct sp_err *err)
{
	char *endpoint = fetcherd_endpoint(conf), *token = NULL, *proxy_auth = NULL;
	struct sp_client_options hub = {.endpoint = endpoint,
	    .ca_file = sp_conf_string(conf, "fetcherd.ca_file"),
	    .cancelled = on_cancelled,
	    .waiting = on_waiting,
	    .ctx = lease};
	struct sp_rfc3339 started = sp_time_rfc3339(sp_time_unix_ms());
	struct sp_answer_tree listing = {0};
	struct fetcherd_download download = {.hub = &hub,
	    .listing = &listing,
	    .progress = on_progress,
	    .files = on_files,
	    .stored = on_stored,
	    .waiting = on_waiting,
	    .cancelled = on_cancelled,
	    .ctx = lease};
	struct fetcherd_policy policy = {0};
	struct sp_answer_model model;
	struct sp_source source;
	struct sp_hex digest;
	enum sp_code code;

	code = fetcherd_source(task->source, &source, err);
	if (code == SP_OK)
		code = fetcherd_policy_parse(task->policy.data, task->policy.len, &policy, err);
	if (code == SP_OK)
		code = fetcherd_token(conf, &token, err);
	if (code == SP_OK)
		code = fetcherd_net_take(conf, &hub, &download, &proxy_auth, err);
	if (code != SP_OK)
		goto out;
	hub.token = token;
	hub.dataset = source.scheme == SP_SOURCE_HF_DATASET;
	sp_lease_progress(lease, "list", 0, 0, "files");
	code = ask_hub(&hub, &source, &policy, &model, &listing, err);
	if (code != SP_OK)
		goto out;
	download.repo = source.repo;
	download.commit = model.commit.s;
	code = take_files(conf, &source, &policy, &download, lease, &digest, err);
	if (code == SP_OK)
		report(&model, &listing, &digest, started.s, outcome);
out:
	fetcherd_token_free(&token);
	fetcherd_token_free(&proxy_auth);
	sp_answer_tree_clear(&listing);
	fetcherd_policy_clear(&policy);
	free(endpoint);
	return code;
}

/* --- hear: in the daemon, while the child works -------------------------------------------------
 */

void
fetcherd_hear(void *ctx, struct sp_lease *lease, const Sallyport__ChildNote *note)
{
	const struct fetcherd *fetcherd = ctx;
	struct fetcherd_early *early = sp_lease_kept(lease);
	struct sp_hex digest = {0};

	if (strcmp(note->kind, STORED) != 0 || note->content.len != SP_HEX_LEN)
		return;
	memcpy(digest.s, note->content.data, SP_HEX_LEN);
	if (early == NULL) {
		early = fetcherd_early_new(fetcherd->store, lease);
		sp_lease_keep(lease, early, fetcherd_early_free);
	}
	fetcherd_early_add(early, digest.s);
}

/* --- seal: in the daemon, with the key ----------------------------------------------------------
 */

/* What the child says, as far as it is well-formed. */
struct claim {
	struct sp_source source;
	struct sp_hex tree;
	char commit[41], licence[SP_ANSWER_LICENCE_SIZE], gated[16];
	char left_out_files[24], left_out_bytes[24];
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

/* A number of the child that goes into the job's details: decimal digits alone. */
static enum sp_code
copy_number(
    const struct sp_outcome *outcome, const char *key, char *to, size_t size, struct sp_err *err)
{
	enum sp_code code = copy_word(outcome, key, to, size, err);

	if (code == SP_OK && (to[0] == '\0' || strspn(to, "0123456789") != strlen(to)))
		code =
		    sp_err_set(err, SP_E_INTERNAL, "\"%s\" of fetcherd's child is no number", key);
	return code;
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
	if (code == SP_OK)
		code = copy_number(outcome, "left_out_files", claim->left_out_files,
		    sizeof(claim->left_out_files), err);
	if (code == SP_OK)
		code = copy_number(outcome, "left_out_bytes", claim->left_out_bytes,
		    sizeof(claim->left_out_bytes), err);
	if (code != SP_OK)
		return code;
	if (!sp_source_is_commit(claim->commit) || sp_time_parse_rfc3339(claim->started.s) < 0 ||
	    (sp_source_is_commit(claim->source.revision) &&
		strcmp(claim->source.revision, claim->commit) != 0))
		return sp_err_set(err, SP_E_INTERNAL,
		    "the child of fetcherd names a commit or time that cannot be");
	return SP_OK;
}

/* Every byte that the statement will speak of is read here, now or while the child was still at
 * work (fetcherd_early.c). */
static enum sp_code
verify_tree(const struct fetcherd *fetcherd, const struct fetcherd_policy *policy,
    const char *digest, struct sp_lease *lease, struct sp_tree *tree, struct sp_err *err)
{
	struct fetcherd_early *early = sp_lease_kept(lease);
	enum sp_code code;

	if (early != NULL)
		fetcherd_early_end(early);
	code = sp_tree_load(fetcherd->store, digest, tree, err);
	/* the child may have been taken over by what it read */
	if (code == SP_OK)
		code = fetcherd_policy_tree(policy, tree, err);
	if (code == SP_OK)
		code = fetcherd_verify(fetcherd->store, tree, early, lease, err);
	return code == SP_OK ? check_configs(fetcherd->store, policy, tree, err) : code;
}

static enum sp_code
attest(const struct fetcherd *fetcherd, const struct sp_conf *conf, const Sallyport__Task *task,
    const struct fetcherd_policy *policy, const struct claim *claim, struct sp_outcome *outcome,
    struct sp_err *err)
{
	char *payload, *envelope = NULL, *endpoint = fetcherd_endpoint(conf);
	struct sp_rfc3339 finished = sp_time_rfc3339(sp_time_unix_ms());
	struct fetcherd_facts facts = {.text = task->source,
	    .source = &claim->source,
	    .commit = claim->commit,
	    .tree = claim->tree.s,
	    .endpoint = endpoint,
	    .licence = claim->licence,
	    .gated = claim->gated,
	    .profile = task->profile,
	    .policy = policy,
	    .job = task->job,
	    .builder = sp_key_public(fetcherd->key)->name,
	    .started = claim->started.s,
	    .finished = finished.s};
	size_t len, envelope_len;
	enum sp_code code;

	payload = fetcherd_statement(&facts, &len);
	if (payload == NULL)
		code = sp_err_set(err, SP_E_INVALID, "source or profile of the job is not UTF-8");
	else
		code = sp_dsse_sign(
		    fetcherd->key, SP_DSSE_INTOTO, payload, len, &envelope, &envelope_len, err);
	if (code == SP_OK)
		sp_outcome_attest(outcome, envelope, envelope_len);
	free(endpoint);
	free(payload);
	free(envelope);
	return code;
}

/* What becomes of the job; from here on the outcome is ours, not the child's. */
static void
conclude(const struct claim *claim, const struct sp_tree *tree, struct sp_outcome *outcome)
{
	unsigned long long bytes = sp_tree_bytes(tree);

	sp_outcome_clear(outcome);
	sp_outcome_artifact(outcome, "source", claim->tree.s, FETCHERD_SERVICE, 1, bytes);
	sp_outcome_detail(outcome, "commit", "%s", claim->commit);
	sp_outcome_detail(
	    outcome, "licence", "%s", claim->licence[0] != '\0' ? claim->licence : "not stated");
	sp_outcome_detail(outcome, "gated", "%s", claim->gated);
	sp_outcome_detail(outcome, "files", "%zu", tree->count);
	sp_outcome_detail(outcome, "bytes", "%llu", bytes);
	sp_outcome_detail(outcome, "left_out_files", "%s", claim->left_out_files);
	sp_outcome_detail(outcome, "left_out_bytes", "%s", claim->left_out_bytes);
}

/* A journal that stays behind costs some disk, not the result; one that another job uses now stays
 * for that one to remove. */
static void
clean_up(const Sallyport__Task *task, const struct claim *claim, struct sp_lease *lease)
{
	struct sp_hex key = fetcherd_work_key(&claim->source, claim->commit);
	struct sp_err err;
	char *work_dir = sp_lease_workdir(lease, key.s, &err);

	if (work_dir == NULL || fetcherd_download_forget(work_dir, &err) != SP_OK)
		sp_log_warn(task->job, "%s", err.msg);
	free(work_dir);
}

enum sp_code
fetcherd_seal(void *ctx, struct sp_worker *worker, const Sallyport__Task *task,
    struct sp_lease *lease, enum sp_code worked, struct sp_outcome *outcome, struct sp_err *err)
{
	const struct sp_conf *conf = sp_worker_conf(worker);
	struct fetcherd_policy policy = {0};
	struct fetcherd *fetcherd = ctx;
	struct sp_tree tree = {0};
	struct claim claim = {0};
	enum sp_code code;

	/* the profile says no: err still holds what the child said */
	if (worked != SP_OK) {
		sp_outcome_clear(outcome);
		return worked;
	}
	code = fetcherd_policy_parse(task->policy.data, task->policy.len, &policy, err);
	if (code == SP_OK)
		code = read_claim(task, outcome, &claim, err);
	if (code == SP_OK)
		code = fetcherd_policy_licence(&policy, claim.licence, err);
	if (code == SP_OK)
		code = verify_tree(fetcherd, &policy, claim.tree.s, lease, &tree, err);
	if (code == SP_OK) {
		conclude(&claim, &tree, outcome);
		code = attest(fetcherd, conf, task, &policy, &claim, outcome, err);
	}
	sp_lease_keep(lease, NULL, NULL);
	if (code == SP_OK)
		clean_up(task, &claim, lease);
	else
		sp_outcome_clear(outcome);
	sp_tree_clear(&tree);
	fetcherd_policy_clear(&policy);
	return code;
}
