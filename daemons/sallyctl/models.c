/* models.c -- models, model. */
#include "models.h"
#include "base/time.h"
#include "bus/paths.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* --- the snapshot --------------------------------------------------------------------------- */

enum sp_code
ctl_models_snapshot(
    struct ctl *ctl, const struct sp_trust *trust, struct sp_snapshot *out, struct sp_err *err)
{
	static char topic[] = "snapshot";
	Sallyport__OperatorRequest request;
	Sallyport__OperatorReply *reply;
	Sallyport__OperatorTopic body;
	const ProtobufCBinaryData *content;
	enum sp_code code;

	memset(out, 0, sizeof(*out));
	sallyport__operator_request__init(&request);
	sallyport__operator_topic__init(&body);
	body.topic = topic;
	request.body_case = SALLYPORT__OPERATOR_REQUEST__BODY_PUBLISHED;
	request.published = &body;
	code = ctl_ask(ctl, &request, 0, SALLYPORT__OPERATOR_REPLY__BODY_CONTENT, &reply, err);
	if (code != SP_OK)
		return code;
	content = &reply->content->content;
	if (content->len == 0)
		code = sp_err_set(err, SP_E_NOT_FOUND,
		    "no snapshot was published here yet: registryd, which does that, runs in the "
		    "enclave");
	else
		code = sp_snapshot_verify(trust, content->data, content->len, out, err);
	sallyport__operator_reply__free_unpacked(reply, NULL);
	return code;
}

/* For who needs the trust document no further. */
static enum sp_code
newest(struct ctl *ctl, struct sp_snapshot *out, struct sp_err *err)
{
	struct sp_trust *trust;
	enum sp_code code = ctl_trust(ctl, &trust, err);

	if (code == SP_OK)
		code = ctl_models_snapshot(ctl, trust, out, err);
	sp_trust_free(&trust);
	return code;
}

/* --- printing ------------------------------------------------------------------------------- */

static json_t *
model_json(const struct sp_snapshot_model *m, int files)
{
	json_t *obj, *list;
	size_t i;

	obj = json_pack("{s:s, s:s, s:I, s:s, s:s, s:s, s:I, s:b}", "name", m->name, "kind",
	    m->kind, "version", (json_int_t)m->version, "tree", m->tree.s, "release", m->release.s,
	    "revision", m->revision.s, "bytes", (json_int_t)m->bytes, "revoked", m->revoked);
	SP_ASSERT(obj != NULL);
	if (!files)
		return obj;
	list = json_array();
	for (i = 0; i < m->file_count; i++)
		json_array_append_new(list, json_string(m->files[i]));
	json_object_set_new(obj, "files", list);
	return obj;
}

static char *
age_of(const struct sp_snapshot *snapshot)
{
	int64_t ms = sp_time_unix_ms() - sp_time_parse_rfc3339(snapshot->time);

	return sp_xasprintf("%s, %s ago", snapshot->time, ctl_out_duration(ms).s);
}

static void
print_models(const struct sp_snapshot *snapshot, int all)
{
	struct ctl_out_table table = {.right = 1u << 1 | 1u << 2};
	const struct sp_snapshot_model *m;
	char *version, *age = age_of(snapshot);
	size_t i;

	ctl_out_row(&table, "NAME", "VERSION", "SIZE", "REVISION", "TREE", "", NULL);
	for (i = 0; i < snapshot->count; i++) {
		m = &snapshot->models[i];
		if (m->revoked && !all)
			continue;
		version = sp_xasprintf("%" PRId64, m->version);
		ctl_out_row(&table, m->name, version, ctl_out_size(m->bytes).s, m->revision.s,
		    m->tree.s, m->revoked ? "revoked" : "", NULL);
		free(version);
	}
	if (table.count == 1)
		ctl_out_row(&table, "nothing is registered", NULL);
	ctl_out_table(&table, "", stdout);
	ctl_out_print(stdout, "\nSnapshot %" PRId64 " of %s, %s; its signature holds.\n",
	    snapshot->version, snapshot->origin, age);
	free(age);
}

enum sp_code
ctl_models(struct ctl *ctl, const struct ctl_args *args, struct sp_err *err)
{
	int all = ctl_args_get(args, "--all") != NULL;
	struct sp_snapshot snapshot;
	enum sp_code code;
	json_t *list;
	size_t i;

	code = newest(ctl, &snapshot, err);
	if (code != SP_OK)
		return code;
	if (ctl->json) {
		list = json_array();
		for (i = 0; i < snapshot.count; i++)
			if (all || !snapshot.models[i].revoked)
				json_array_append_new(list, model_json(&snapshot.models[i], 0));
		ctl_out_json(
		    json_pack("{s:o, s:s, s:s, s:I}", "models", list, "origin", snapshot.origin,
			"time", snapshot.time, "version", (json_int_t)snapshot.version));
	} else {
		print_models(&snapshot, all);
	}
	sp_snapshot_clear(&snapshot);
	return SP_OK;
}

/* --- one model ------------------------------------------------------------------------------ */

static enum sp_code
find(struct ctl *ctl, const char *text, const struct sp_snapshot *snapshot,
    const struct sp_snapshot_model **out, struct sp_err *err)
{
	char name[SP_NAME_MAX + 1];
	enum sp_code code;
	int64_t version;
	size_t i;

	code = ctl_model_name(ctl, text, name, &version, err);
	if (code != SP_OK)
		return code;
	*out = sp_snapshot_find(snapshot, name, version);
	if (*out != NULL)
		return SP_OK;
	for (i = 0; i < snapshot->count; i++)
		if (strcmp(snapshot->models[i].name, name) == 0 && snapshot->models[i].revoked &&
		    (version == 0 || snapshot->models[i].version == version))
			return sp_err_set(err, SP_E_DENIED, "%s is revoked", text);
	return sp_err_set(
	    err, SP_E_NOT_FOUND, "%s is not registered; `sallyctl models` lists what is", text);
}

static void
print_model(const struct sp_snapshot_model *m)
{
	size_t i;

	ctl_out_print(stdout, "%s version %" PRId64 "\n", m->name, m->version);
	ctl_out_field(stdout, "kind", "%s", m->kind);
	ctl_out_field(stdout, "size", "%s in %zu files", ctl_out_size(m->bytes).s, m->file_count);
	ctl_out_field(stdout, "revision", "%s", m->revision.s);
	ctl_out_field(stdout, "tree", "%s", m->tree.s);
	ctl_out_field(stdout, "release", "%s", m->release.s);
	for (i = 0; i < m->file_count; i++)
		ctl_out_field(stdout, i == 0 ? "files" : "", "%s", m->files[i]);
	ctl_out_print(stdout,
	    "\nNext: `sallyctl chain %s@%" PRId64 "`, or `sallyctl pull %s DIR`\n", m->name,
	    m->version, m->name);
}

enum sp_code
ctl_model(struct ctl *ctl, const struct ctl_args *args, struct sp_err *err)
{
	const struct sp_snapshot_model *model;
	struct sp_snapshot snapshot;
	enum sp_code code;

	code = newest(ctl, &snapshot, err);
	if (code != SP_OK)
		return code;
	code = find(ctl, args->words[0], &snapshot, &model, err);
	if (code == SP_OK && ctl->json)
		ctl_out_json(model_json(model, 1));
	else if (code == SP_OK)
		print_model(model);
	sp_snapshot_clear(&snapshot);
	return code;
}

/* --- a model and its release ---------------------------------------------------------------- */

static enum sp_code
open_release(struct ctl *ctl, struct ctl_registered *out, struct sp_err *err)
{
	const struct sp_snapshot_model *m = out->model;
	const struct sp_candidate *c;
	const struct sp_conf *conf;
	struct sp_err inner;
	const char *check;
	enum sp_code code;
	char *dir;

	code = ctl_conf(ctl, &conf, err);
	if (code != SP_OK)
		return code;
	dir = sp_paths_store(conf, "registryd");
	code = sp_store_open(dir, 0, &out->store, err);
	free(dir);
	if (code == SP_OK)
		code = sp_store_read(out->store, m->release.s, SP_RELEASE_MAX, &out->envelope,
		    &out->envelope_len, err);
	if (code != SP_OK)
		return code;
	code = sp_release_verify(
	    out->trust, out->envelope, out->envelope_len, &out->release, &check, &inner);
	if (code != SP_OK)
		return sp_err_set(err, code, "release %.16s… of %s fails the check \"%s\": %s",
		    m->release.s, m->name, check, inner.msg);
	c = &out->release->candidate;
	if (strcmp(c->name, m->name) != 0 || c->version != m->version ||
	    strcmp(c->kind, m->kind) != 0 || strcmp(c->tree.s, m->tree.s) != 0)
		return sp_err_set(err, SP_E_DENIED,
		    "the snapshot gives the %s %s@%" PRId64 " the release of the %s %s@%" PRId64,
		    m->kind, m->name, m->version, c->kind, c->name, c->version);
	return SP_OK;
}

enum sp_code
ctl_registered_open(
    struct ctl *ctl, const char *text, struct ctl_registered *out, struct sp_err *err)
{
	enum sp_code code;

	memset(out, 0, sizeof(*out));
	code = ctl_trust(ctl, &out->trust, err);
	if (code == SP_OK)
		code = ctl_models_snapshot(ctl, out->trust, &out->snapshot, err);
	if (code == SP_OK)
		code = find(ctl, text, &out->snapshot, &out->model, err);
	if (code == SP_OK)
		code = open_release(ctl, out, err);
	return code;
}

void
ctl_registered_clear(struct ctl_registered *registered)
{
	sp_release_free(&registered->release);
	free(registered->envelope);
	sp_store_close(&registered->store);
	sp_snapshot_clear(&registered->snapshot);
	sp_trust_free(&registered->trust);
}
