/* admit_step.c -- AdmissionReview in, verdict out; no clock, socket or file. */
#include "admit.h"

#include "base/path.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define API "admission.k8s.io/v1"

/* --- the request --- */

static const char *
string_or_empty(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text == NULL ? "" : text;
}

enum sp_code
admit_request_parse(const uint8_t *body, size_t len, struct admit_request *out, struct sp_err *err)
{
	json_t *request;
	enum sp_code code;

	memset(out, 0, sizeof(*out));
	if ((code = sp_json_parse(body, len, "AdmissionReview", &out->root, err)))
		return code;
	if (strcmp(string_or_empty(out->root, "apiVersion"), API) != 0 ||
	    strcmp(string_or_empty(out->root, "kind"), "AdmissionReview") != 0) {
		code = sp_err_set(err, SP_E_INVALID, "not an AdmissionReview of " API);
		goto out;
	}
	if ((code = sp_json_object(out->root, "request", &request, err)) ||
	    (code = sp_json_string(request, "uid", &out->uid, err)))
		goto out;
	out->operation = string_or_empty(request, "operation");
	out->name = string_or_empty(request, "name");
	out->name_space = string_or_empty(request, "namespace");
	out->kind = string_or_empty(json_object_get(request, "kind"), "kind");
	out->user = string_or_empty(json_object_get(request, "userInfo"), "username");
	out->object = json_object_get(request, "object");
	out->old_object = json_object_get(request, "oldObject");
	out->dry_run = json_is_true(json_object_get(request, "dryRun"));
	if (out->name[0] == '\0')
		out->name = string_or_empty(json_object_get(out->object, "metadata"), "name");
	if (out->name[0] == '\0')
		out->name =
		    string_or_empty(json_object_get(out->object, "metadata"), "generateName");
out:
	if (code != SP_OK)
		admit_request_clear(out);
	return code;
}

void
admit_request_clear(struct admit_request *request)
{
	json_decref(request->root);
	memset(request, 0, sizeof(*request));
}

/* --- the decision --- */

struct decision {
	const struct sp_snapshot *snapshot;
	int64_t age_ms, max_age_ms;
	struct admit_verdict *verdict;
	unsigned served; /* containers that run vLLM */
	int is_idle;	 /* nothing is started by this request */
};

static enum sp_code
check_snapshot(const struct decision *decision, struct sp_err *err)
{
	if (decision->snapshot == NULL)
		return sp_err_set(err, SP_E_DENIED,
		    "no signed snapshot of the registry has arrived yet: is registryd running?");
	if (decision->age_ms > decision->max_age_ms)
		return sp_err_set(err, SP_E_DENIED,
		    "the registry's snapshot is %" PRId64 " s old, more than the %" PRId64
		    " s that admissiond.snapshot_max_age_s allows: is registryd running?",
		    decision->age_ms / 1000, decision->max_age_ms / 1000);
	return SP_OK;
}

static int
has_suffix(const char *text, const char *suffix)
{
	size_t n = strlen(text), m = strlen(suffix);

	return n >= m && strcmp(text + n - m, suffix) == 0;
}

/* The artefacts without which vLLM would start and fail, or fetch them from somewhere else. */
static enum sp_code
check_artefacts(const struct sp_snapshot_model *model, struct sp_err *err)
{
	static const char *const tokenizers[] = {"tokenizer.json", "tokenizer.model",
	    "spiece.model", "tekken.json", "vocab.json", "vocab.txt"};
	int config = 0, tokenizer = 0, weights = 0;

	if (strcmp(model->kind, "model") != 0)
		return sp_err_set(err, SP_E_DENIED,
		    "%s@%" PRId64 " is registered as %s, not as a "
		    "model",
		    model->name, model->version, model->kind);
	for (size_t i = 0; i < model->file_count; i++) {
		config |= strcmp(model->files[i], "config.json") == 0;
		for (size_t k = 0; k < sizeof(tokenizers) / sizeof(tokenizers[0]); k++)
			tokenizer |= strcmp(model->files[i], tokenizers[k]) == 0;
		weights |= has_suffix(model->files[i], ".safetensors");
	}
	if (config && tokenizer && weights)
		return SP_OK;
	return sp_err_set(err, SP_E_DENIED, "model %s@%" PRId64 " is registered without %s",
	    model->name, model->version,
	    !config	 ? "config.json"
	    : !tokenizer ? "a tokenizer"
			 : "weights");
}

/* A revision that names a registered version: its commit, "vN", or "main" for the newest. */
static const struct sp_snapshot_model *
find_revision(const struct sp_snapshot *snapshot, const char *name, const char *revision)
{
	char tag[32];

	if (revision == NULL || strcmp(revision, "main") == 0)
		return sp_snapshot_find(snapshot, name, 0);
	for (size_t i = 0; i < snapshot->count; i++) {
		const struct sp_snapshot_model *model = &snapshot->models[i];

		snprintf(tag, sizeof(tag), "v%" PRId64, model->version);
		if (!model->revoked && strcmp(model->name, name) == 0 &&
		    (strcmp(model->revision.s, revision) == 0 || strcmp(tag, revision) == 0))
			return model;
	}
	return NULL;
}

static enum sp_code
check_model(struct decision *decision, const char *name, const char *revision, struct sp_err *err)
{
	const struct sp_snapshot_model *model;

	if (name[0] == '/' || name[0] == '.' || name[0] == '~')
		return sp_err_set(err, SP_E_DENIED,
		    "model %.200s is a path, and a path does not say which model lies there: name "
		    "the "
		    "registered model, as `sallyctl models` lists it",
		    name);
	if (strstr(name, "://") != NULL)
		return sp_err_set(err, SP_E_DENIED,
		    "model %.200s is fetched from outside the registry: name the registered model, "
		    "as "
		    "`sallyctl models` lists it",
		    name);
	model = find_revision(decision->snapshot, name, revision);
	if (model == NULL && sp_snapshot_find(decision->snapshot, name, 0) != NULL)
		return sp_err_set(err, SP_E_DENIED,
		    "model %.200s is registered, its revision %.100s is not: `sallyctl model "
		    "%.200s` "
		    "lists the revisions",
		    name, revision == NULL ? "main" : revision, name);
	if (model == NULL)
		return sp_err_set(err, SP_E_DENIED,
		    "model %.200s is not registered: submit it on the bastion (sallyctl submit), "
		    "or "
		    "name one that `sallyctl models` lists",
		    name);
	snprintf(decision->verdict->model, sizeof(decision->verdict->model), "%s", model->name);
	decision->verdict->version = model->version;
	decision->verdict->tree = model->tree;
	return check_artefacts(model, err);
}

/* What else in a container can change what its command line says. */
static enum sp_code
check_fields(const json_t *container, struct sp_err *err)
{
	static const char *const probes[] = {"livenessProbe", "readinessProbe", "startupProbe"};

	if (json_object_get(container, "lifecycle") != NULL)
		return sp_err_set(err, SP_E_DENIED,
		    "it has lifecycle hooks, which can change what was checked: leave them out");
	if (string_or_empty(container, "workingDir")[0] != '\0')
		return sp_err_set(err, SP_E_DENIED,
		    "it sets workingDir, where vLLM would look for the model and Python for its "
		    "modules first: leave it out");
	for (size_t i = 0; i < sizeof(probes) / sizeof(probes[0]); i++) {
		if (json_object_get(json_object_get(container, probes[i]), "exec") != NULL)
			return sp_err_set(err, SP_E_DENIED,
			    "its %s runs a command, which can change what was checked: use httpGet "
			    "on /health",
			    probes[i]);
	}
	return SP_OK;
}

static enum sp_code
check_served(struct decision *decision, const json_t *container, struct sp_err *err)
{
	struct admit_vllm vllm;
	enum sp_code code;

	if ((code = admit_vllm_read(container, &vllm, err)) ||
	    (code = admit_vllm_environment(container, err)) ||
	    (code = check_fields(container, err)) || (code = check_snapshot(decision, err)) ||
	    (code = check_model(decision, vllm.model, vllm.revision, err)))
		return code;
	if (vllm.tokenizer != NULL && strcmp(vllm.tokenizer, vllm.model) != 0)
		return sp_err_set(err, SP_E_DENIED,
		    "--tokenizer %.200s is not the model's own: leave it out", vllm.tokenizer);
	return SP_OK;
}

static enum sp_code
check_container(
    struct decision *decision, const char *what, const json_t *container, struct sp_err *err)
{
	const char *sign = admit_vllm_sign(container);

	if (sign == NULL)
		return SP_OK;
	decision->served++;
	if (check_served(decision, container, err) == SP_OK)
		return SP_OK;
	/* who runs something else sees why it is taken for vLLM */
	return sp_err_prefix(
	    err, "%s %.100s (vLLM by its %s)", what, string_or_empty(container, "name"), sign);
}

static enum sp_code
check_pod(struct decision *decision, const json_t *spec, struct sp_err *err)
{
	static const struct {
		const char *key, *name;
	} lists[] = {{"initContainers", "init container"}, {"containers", "container"},
	    {"ephemeralContainers", "ephemeral container"}};
	const json_t *container;
	size_t i;
	enum sp_code code;

	if (!json_is_object(spec) || json_array_size(json_object_get(spec, "containers")) == 0)
		return sp_err_set(err, SP_E_DENIED, "the pod has no containers to check");
	for (size_t k = 0; k < 3; k++) {
		json_array_foreach(json_object_get(spec, lists[k].key), i, container)
		{
			if ((code = check_container(decision, lists[k].name, container, err)))
				return code;
		}
	}
	return SP_OK;
}

static enum sp_code
decide(const struct admit_request *request, struct decision *decision, struct sp_err *err)
{
	const json_t *spec = json_object_get(request->object, "spec");
	int is_update = strcmp(request->operation, "UPDATE") == 0;
	int is_pod = strcmp(request->kind, "Pod") == 0;

	decision->is_idle = strcmp(request->operation, "DELETE") == 0;
	if (decision->is_idle)
		return SP_OK;
	if (!is_update && strcmp(request->operation, "CREATE") != 0)
		return sp_err_set(err, SP_E_DENIED,
		    "operation %.32s is not checked by this webhook", request->operation);
	if (!is_pod && strcmp(request->kind, "Deployment") != 0)
		return sp_err_set(err, SP_E_DENIED,
		    "kind %.64s is not checked by this webhook: its configuration names Pods and "
		    "Deployments",
		    request->kind);
	/* labels, status, finalizers: they must be possible also for what was revoked since */
	decision->is_idle =
	    is_update && json_equal(spec, json_object_get(request->old_object, "spec"));
	if (decision->is_idle)
		return SP_OK;
	return check_pod(decision,
	    is_pod ? spec : json_object_get(json_object_get(spec, "template"), "spec"), err);
}

/* A message may have been cut within a character of what it quotes. */
static void
keep_utf8(char *text)
{
	if (sp_path_is_utf8(text, strlen(text)))
		return;
	for (; *text != '\0'; text++) {
		if ((unsigned char)*text >= 0x80)
			*text = '?';
	}
}

void
admit_decide(const struct admit_request *request, const struct sp_snapshot *snapshot,
    int64_t age_ms, int64_t max_age_ms, struct admit_verdict *out)
{
	struct decision decision = {snapshot, age_ms, max_age_ms, out, 0, 0};
	struct sp_err err;

	memset(out, 0, sizeof(*out));
	out->allowed = decide(request, &decision, &err) == SP_OK;
	if (!out->allowed)
		snprintf(out->message, sizeof(out->message), "sallyport: %s", err.msg);
	else if (decision.is_idle)
		snprintf(out->message, sizeof(out->message), "nothing is started by this");
	else if (decision.served == 0)
		snprintf(out->message, sizeof(out->message), "nothing in it runs vLLM");
	else
		snprintf(out->message, sizeof(out->message), "model %s@%" PRId64 " is registered",
		    out->model, out->version);
	keep_utf8(out->message);
}

char *
admit_answer(const struct admit_request *request, const struct admit_verdict *verdict, size_t *len)
{
	json_t *response =
	    json_pack("{s:s, s:b, s:{s:i, s:s}}", "uid", request->uid, "allowed", verdict->allowed,
		"status", "code", verdict->allowed ? 200 : 403, "message", verdict->message);
	char *text;

	SP_ASSERT(response != NULL);
	if (verdict->model[0] != '\0')
		json_object_set_new(response, "auditAnnotations",
		    json_pack("{s:s, s:s}", "model", verdict->model, "tree", verdict->tree.s));
	response = json_pack(
	    "{s:s, s:s, s:o}", "apiVersion", API, "kind", "AdmissionReview", "response", response);
	text = sp_json_canonical(response, len);
	json_decref(response);
	return text;
}
