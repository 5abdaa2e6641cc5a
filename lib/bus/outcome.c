/* outcome.c -- what a step leaves behind. */
#include "bus/outcome.h"
#include "base/path.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Copies a word that the program itself chose: one that does not fit is a mistake in it. */
static void
copy_word(char *to, size_t size, const char *from)
{
	size_t len = strlen(from);

	SP_ASSERT(len > 0 && len < size);
	memcpy(to, from, len + 1);
}

void
sp_outcome_artifact(struct sp_outcome *outcome, const char *role, const char *digest,
    const char *store, int tree, uint64_t bytes)
{
	struct sp_artifact *a;

	SP_ASSERT(sp_hex_is_digest(digest));
	outcome->artifacts = sp_xrealloc(
	    outcome->artifacts, outcome->artifact_count + 1, sizeof(*outcome->artifacts));
	a = &outcome->artifacts[outcome->artifact_count++];
	memset(a, 0, sizeof(*a));
	copy_word(a->role, sizeof(a->role), role);
	copy_word(a->digest.s, sizeof(a->digest.s), digest);
	copy_word(a->store, sizeof(a->store), store);
	a->tree = tree != 0;
	a->bytes = bytes;
}

void
sp_outcome_detail(struct sp_outcome *outcome, const char *key, const char *fmt, ...)
{
	struct sp_detail *d;
	va_list ap;
	char *value;

	va_start(ap, fmt);
	value = sp_xvasprintf(fmt, ap);
	va_end(ap);
	outcome->details =
	    sp_xrealloc(outcome->details, outcome->detail_count + 1, sizeof(*outcome->details));
	d = &outcome->details[outcome->detail_count++];
	d->key = sp_xstrdup(key);
	d->value = value;
}

void
sp_outcome_attest(struct sp_outcome *outcome, const void *envelope, size_t len)
{
	free(outcome->attestation);
	outcome->attestation = sp_xcalloc(len > 0 ? len : 1, 1);
	if (len > 0)
		memcpy(outcome->attestation, envelope, len);
	outcome->attestation_len = len;
}

const struct sp_artifact *
sp_outcome_find(const struct sp_outcome *outcome, const char *role)
{
	size_t i;

	for (i = 0; i < outcome->artifact_count; i++)
		if (strcmp(outcome->artifacts[i].role, role) == 0)
			return &outcome->artifacts[i];
	return NULL;
}

const char *
sp_outcome_get(const struct sp_outcome *outcome, const char *key)
{
	size_t i;

	for (i = 0; i < outcome->detail_count; i++)
		if (strcmp(outcome->details[i].key, key) == 0)
			return outcome->details[i].value;
	return NULL;
}

void
sp_outcome_clear(struct sp_outcome *outcome)
{
	size_t i;

	for (i = 0; i < outcome->detail_count; i++) {
		free(outcome->details[i].key);
		free(outcome->details[i].value);
	}
	free(outcome->details);
	free(outcome->artifacts);
	free(outcome->attestation);
	memset(outcome, 0, sizeof(*outcome));
}

/* The store becomes part of a path: one component, so that it cannot lead elsewhere. */
static int
is_store(const char *store)
{
	size_t len = strlen(store);

	return len > 0 && len < sizeof(((struct sp_artifact *)0)->store) &&
	       strspn(store, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}

enum sp_code
sp_outcome_input(
    const Sallyport__Task *task, const char *role, struct sp_artifact *out, struct sp_err *err)
{
	const Sallyport__Artifact *found = NULL;
	size_t i;

	for (i = 0; i < task->n_artifacts; i++)
		if (strcmp(task->artifacts[i]->role, role) == 0)
			found = task->artifacts[i];
	if (found == NULL)
		return sp_err_set(err, SP_E_INVALID,
		    "step %s of job %s was given no \"%s\" artifact: the step before it left none",
		    task->step, task->job, role);
	if (!sp_hex_is_digest(found->digest))
		return sp_err_set(err, SP_E_INVALID,
		    "artifact \"%s\" of job %s: digest is not 64 lower-case hex digits", role,
		    task->job);
	if (!is_store(found->store))
		return sp_err_set(err, SP_E_INVALID,
		    "artifact \"%s\" of job %s: store is not the name of a daemon", role,
		    task->job);
	memset(out, 0, sizeof(*out));
	copy_word(out->role, sizeof(out->role), role);
	copy_word(out->digest.s, sizeof(out->digest.s), found->digest);
	copy_word(out->store, sizeof(out->store), found->store);
	out->tree = found->tree != 0;
	out->bytes = found->bytes;
	return SP_OK;
}
