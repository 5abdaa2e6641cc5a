/* result.c -- outcomes as bus.proto Done and Failure, and back. */
#include "bus/result.h"
#include "base/path.h"
#include "bus/envelope.h"

#include <stdlib.h>
#include <string.h>

/* Bytes of the character that begins at text, 0 when it is not well-formed UTF-8. */
static size_t
char_len(const char *text, size_t left)
{
	size_t n;

	for (n = 1; n <= 4 && n <= left; n++)
		if (sp_path_is_utf8(text, n))
			return n;
	return 0;
}

static int
is_control(const char *text, size_t len)
{
	const uint8_t *s = (const uint8_t *)text;

	if (len == 1)
		return (s[0] < 0x20 && s[0] != '\n' && s[0] != '\t') || s[0] == 0x7f;
	return len == 2 && s[0] == 0xc2 && s[1] <= 0x9f;
}

char *
sp_result_clean(const char *text, size_t max)
{
	size_t len = strlen(text), at = 0, out = 0, n;
	char *clean = sp_xcalloc((len < max ? len : max) + 1, 1);

	while (at < len) {
		n = char_len(text + at, len - at);
		if (out + (n > 0 ? n : 1) > max)
			break;
		if (n == 0 || is_control(text + at, n)) {
			clean[out++] = '?';
			at += n > 0 ? n : 1;
			continue;
		}
		memcpy(clean + out, text + at, n);
		out += n;
		at += n;
	}
	return clean;
}

static char *
keep(struct sp_result *result, char *text)
{
	result->texts = sp_xrealloc(result->texts, result->text_count + 1, sizeof(char *));
	result->texts[result->text_count++] = text;
	return text;
}

static void
add_artifacts(struct sp_result *result, const struct sp_outcome *outcome)
{
	const struct sp_artifact *from;
	Sallyport__Artifact *to;
	size_t i, n = outcome->artifact_count;

	result->artifacts = sp_xcalloc(n + 1, sizeof(*result->artifacts));
	result->artifact_list = sp_xcalloc(n + 1, sizeof(*result->artifact_list));
	for (i = 0; i < n; i++) {
		from = &outcome->artifacts[i];
		to = &result->artifacts[i];
		sallyport__artifact__init(to);
		to->role = keep(result, sp_xstrdup(from->role));
		to->digest = keep(result, sp_xstrdup(from->digest.s));
		to->store = keep(result, sp_xstrdup(from->store));
		to->tree = from->tree;
		to->bytes = from->bytes;
		result->artifact_list[i] = to;
	}
}

static void
add_details(struct sp_result *result, const struct sp_outcome *outcome)
{
	Sallyport__Detail *to;
	size_t i, n = outcome->detail_count;

	result->details = sp_xcalloc(n + 1, sizeof(*result->details));
	result->detail_list = sp_xcalloc(n + 1, sizeof(*result->detail_list));
	for (i = 0; i < n; i++) {
		to = &result->details[i];
		sallyport__detail__init(to);
		to->key = keep(result, sp_result_clean(outcome->details[i].key, SP_BUS_LINE_MAX));
		to->value =
		    keep(result, sp_result_clean(outcome->details[i].value, SP_BUS_TEXT_MAX));
		result->detail_list[i] = to;
	}
}

void
sp_result_build(struct sp_result *result, enum sp_code code, const struct sp_err *err,
    const struct sp_outcome *outcome)
{
	ProtobufCBinaryData attestation = {outcome->attestation_len, outcome->attestation};

	memset(result, 0, sizeof(*result));
	result->ok = code == SP_OK;
	sallyport__done__init(&result->done);
	sallyport__failure__init(&result->failure);
	add_artifacts(result, outcome);
	add_details(result, outcome);
	if (result->ok) {
		result->done.attestation = attestation;
		result->done.n_artifacts = outcome->artifact_count;
		result->done.artifacts = result->artifact_list;
		result->done.n_details = outcome->detail_count;
		result->done.details = result->detail_list;
		return;
	}
	result->failure.code = keep(result, sp_xstrdup(sp_err_word(code)));
	result->failure.message =
	    keep(result, sp_result_clean(err != NULL ? err->msg : "", SP_BUS_TEXT_MAX));
	result->failure.may_retry = sp_err_may_retry(code);
	result->failure.attestation = attestation;
	result->failure.n_artifacts = outcome->artifact_count;
	result->failure.artifacts = result->artifact_list;
	result->failure.n_details = outcome->detail_count;
	result->failure.details = result->detail_list;
}

void
sp_result_clear(struct sp_result *result)
{
	size_t i;

	for (i = 0; i < result->text_count; i++)
		free(result->texts[i]);
	free(result->texts);
	free(result->artifacts);
	free(result->artifact_list);
	free(result->details);
	free(result->detail_list);
	memset(result, 0, sizeof(*result));
}

static void
take(struct sp_outcome *outcome, Sallyport__Artifact *const *artifacts, size_t artifact_count,
    Sallyport__Detail *const *details, size_t detail_count, const ProtobufCBinaryData *attestation)
{
	size_t i;

	for (i = 0; i < artifact_count; i++)
		sp_outcome_artifact(outcome, artifacts[i]->role, artifacts[i]->digest,
		    artifacts[i]->store, artifacts[i]->tree, artifacts[i]->bytes);
	for (i = 0; i < detail_count; i++)
		sp_outcome_detail(outcome, details[i]->key, "%s", details[i]->value);
	if (attestation->len > 0)
		sp_outcome_attest(outcome, attestation->data, attestation->len);
}

void
sp_result_take_done(struct sp_outcome *outcome, const Sallyport__Done *done)
{
	take(outcome, done->artifacts, done->n_artifacts, done->details, done->n_details,
	    &done->attestation);
}

enum sp_code
sp_result_take_failure(
    struct sp_outcome *outcome, const Sallyport__Failure *failure, struct sp_err *err)
{
	take(outcome, failure->artifacts, failure->n_artifacts, failure->details,
	    failure->n_details, &failure->attestation);
	return sp_err_set(err, sp_err_from_word(failure->code), "%s", failure->message);
}
