/* step.c -- what the steps in the middle of the chain have in common. */
#include "bus/step.h"
#include "base/file.h"
#include "base/log.h"
#include "bus/paths.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

enum sp_code
sp_step_open(const struct sp_conf *conf, const char *service, enum sp_role role,
    struct sp_step **out, struct sp_err *err)
{
	struct sp_step *step = sp_xcalloc(1, sizeof(*step));
	char *key = sp_paths_key(conf, service, sp_role_word(role));
	char *store = sp_paths_store(conf, service);
	enum sp_code code;

	*out = NULL;
	if ((code = sp_key_load(key, role, NULL, &step->key, err)) ||
	    (code = sp_store_open(store, 1, &step->store, err)))
		sp_step_close(step);
	else
		*out = step;
	free(key);
	free(store);
	return code;
}

void
sp_step_close(void *ctx)
{
	struct sp_step *step = ctx;

	if (step == NULL)
		return;
	sp_store_close(&step->store);
	sp_key_free(&step->key);
	free(step);
}

enum sp_code
sp_step_lock(const char *work, int *fd, struct sp_err *err)
{
	enum sp_code code;

	*fd = open(work, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (*fd < 0)
		return sp_err_errno(err, "%s", work);
	while (flock(*fd, LOCK_EX) != 0) {
		if (errno == EINTR)
			continue;
		code = sp_err_errno(err, "cannot lock %s", work);
		close(*fd);
		*fd = -1;
		return code;
	}
	return SP_OK;
}

void
sp_step_discard(const char *path)
{
	struct sp_err err;

	if (sp_file_remove_all(path, &err) != SP_OK)
		sp_log_warn(NULL, "%s: remove it by hand (%s)", path, err.msg);
}

static void
sweep_one(const char *dir, const char *name)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	char *path;

	if (fd < 0)
		return;
	if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
		path = sp_xasprintf("%s/%s", dir, name);
		sp_step_discard(path);
		free(path);
	}
	close(fd);
}

void
sp_step_sweep(const char *work, const char *name)
{
	const char *slash = strrchr(work, '/');
	size_t parent_len = slash == NULL ? 0 : (size_t)(slash - work);
	char *own = sp_xasprintf("%s/%s", work, name), *beside;
	char *parent = sp_xasprintf("%.*s", (int)parent_len, work);
	struct dirent *entry;
	DIR *dir = opendir(parent);

	sp_step_discard(own);
	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] == '.' || strcmp(entry->d_name, work + parent_len + 1) == 0)
			continue;
		beside = sp_xasprintf("%s/%s", parent, entry->d_name);
		sweep_one(beside, name);
		free(beside);
	}
	if (dir != NULL)
		closedir(dir);
	free(parent);
	free(own);
}

enum sp_code
sp_step_take(const struct sp_conf *conf, const struct sp_artifact *artifact, const char *dir,
    sp_tree_progress_fn *progress, void *ctx, struct sp_err *err)
{
	char *path = sp_paths_store(conf, artifact->store);
	struct sp_store *store = NULL;
	struct sp_tree tree = {0};
	enum sp_code code;

	if ((code = sp_file_remove_all(dir, err)) || (code = sp_store_open(path, 0, &store, err)) ||
	    (code = sp_tree_load(store, artifact->digest.s, &tree, err)))
		goto out;
	code = sp_tree_materialize(store, &tree, dir, progress, ctx, err);
out:
	sp_tree_clear(&tree);
	sp_store_close(&store);
	free(path);
	return code;
}

enum sp_code
sp_step_behind(const struct sp_trust *trust, const Sallyport__Task *task, enum sp_chain_stage stage,
    const char *tree, struct sp_statement *out, struct sp_err *err)
{
	const char *word = sp_chain_stage_word(stage);
	const Sallyport__Attested *attested = NULL;
	struct sp_dsse dsse;
	enum sp_code code;
	size_t i;

	for (i = 0; i < task->n_attestations && attested == NULL; i++)
		if (strcmp(task->attestations[i]->step, word) == 0)
			attested = task->attestations[i];
	if (attested == NULL)
		return sp_err_set(err, SP_E_DENIED,
		    "job %s has no %s attestation: what it works on is nobody's word", task->job,
		    word);
	code = sp_dsse_parse(attested->envelope.data, attested->envelope.len, &dsse, err);
	if (code == SP_OK) {
		code = sp_chain_stage_check(trust, stage, &dsse, out, err);
		sp_dsse_clear(&dsse);
	}
	if (code == SP_OK && strcmp(out->subject_tree, tree) != 0)
		code = sp_err_set(err, SP_E_DENIED, "it is about the tree %s, the task names %s",
		    out->subject_tree, tree);
	if (code != SP_OK)
		sp_err_prefix(err, "%s attestation of job %s", word, task->job);
	return code;
}

enum sp_code
sp_step_sign(const struct sp_step *step, const char *statement, size_t len,
    struct sp_outcome *outcome, struct sp_err *err)
{
	char *envelope = NULL;
	size_t envelope_len;
	enum sp_code code;

	code =
	    sp_dsse_sign(step->key, SP_DSSE_INTOTO, statement, len, &envelope, &envelope_len, err);
	if (code == SP_OK)
		sp_outcome_attest(outcome, envelope, envelope_len);
	free(envelope);
	return code;
}
