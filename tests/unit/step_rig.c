/* step_rig.c -- what tests of quantd's and validatord's steps stand on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/file.h"
#include "step_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sp_err rig_err;
struct sp_lease rig_lease;
struct sp_worker rig_worker;
char rig_top[] = "/tmp/sp-step-XXXXXX";

static char state_dir[256]; /* of the service */

void
rig_ok(enum sp_code code)
{
	if (code != SP_OK)
		fail_msg("%s: %s", sp_err_word(code), rig_err.msg);
}

char *
rig_at(const char *name)
{
	return sp_xasprintf("%s/%s", rig_top, name);
}

/* --- the worker's side, as a step sees it ------------------------------------------------------
 */

void
sp_lease_progress(
    struct sp_lease *lease, const char *phase, uint64_t done, uint64_t total, const char *unit)
{
	size_t len = strlen(lease->phases);

	assert_true(done <= total);
	assert_true(unit[0] != '\0');
	lease->progress++;
	if (strncmp(phase, "layer", 5) == 0)
		lease->layers = done;
	if (strstr(lease->phases, phase) == NULL)
		snprintf(lease->phases + len, sizeof(lease->phases) - len, "%s ", phase);
}

char *
sp_lease_workdir(const struct sp_lease *lease, const char *key, struct sp_err *err)
{
	char *dir = sp_xasprintf("%s/work/%s", state_dir, key);

	(void)lease;
	assert_true(sp_hex_is_digest(key));
	assert_int_equal(sp_file_mkdirs(dir, 0700, err), SP_OK);
	return dir;
}

const struct sp_conf *
sp_worker_conf(const struct sp_worker *worker)
{
	return worker->conf;
}

static void
add_role(json_t *roles, const char *role, const struct sp_key *key)
{
	const struct sp_pubkey *pub = sp_key_public(key);
	char *bytes = sp_base64_encode(pub->bytes, SP_PUBKEY_LEN);

	json_object_set_new(roles, role,
	    json_pack("{s:[{s:s, s:s, s:s}], s:i}", "keys", "id", pub->id.s, "key", bytes, "name",
		pub->name, "threshold", 1));
	free(bytes);
}

enum sp_code
sp_worker_trust(const struct sp_worker *worker, struct sp_trust **trust, struct sp_err *err)
{
	json_t *roles = json_object(), *payload;
	enum sp_code code;
	char *text;
	size_t len;

	add_role(roles, "root", worker->root);
	add_role(roles, "fetch", worker->fetch);
	add_role(roles, "quantize", worker->quantize);
	payload = json_pack("{s:s, s:o, s:s, s:i, s:[]}", "expires", "2099-01-01T00:00:00.000Z",
	    "roles", roles, "type", "sallyport-trust/1", "version", 1, "workers");
	text = sp_json_canonical(payload, &len);
	code = sp_trust_parse((const uint8_t *)text, len, trust, err);
	free(text);
	json_decref(payload);
	return code;
}

/* --- the directory ---------------------------------------------------------------------------- */

static void
make_dir(const char *format, const char *service)
{
	char *name = sp_xasprintf(format, service), *path = rig_at(name);

	rig_ok(sp_file_mkdirs(path, 0755, &rig_err));
	free(path);
	free(name);
}

static void
save_key(const char *service, enum sp_role role)
{
	char *path = sp_xasprintf("%s/keys/%s/%s.key", rig_top, service, sp_role_word(role));
	char *name = sp_xasprintf("%s@bastion", service);
	struct sp_key *key;

	rig_ok(sp_key_new(role, name, &key, &rig_err));
	rig_ok(sp_key_save(key, path, NULL, &rig_err));
	sp_key_free(&key);
	free(name);
	free(path);
}

void
rig_open(const char *service, enum sp_role role, enum sp_role stranger, const char *more)
{
	char *path,
	    *conf = sp_xasprintf("side = \"bastion\"; store: { dir = \"/store\"; };\n"
				 "keys: { dir = \"/keys\"; }; state: { dir = \"/state\"; };\n"
				 "%s\n",
		more);

	assert_non_null(mkdtemp(rig_top));
	make_dir("store", "");
	make_dir("share", "");
	make_dir("keys/%s", service);
	make_dir("state/%s", service);
	snprintf(state_dir, sizeof(state_dir), "%s/state/%s", rig_top, service);
	save_key(service, role);
	path = rig_at("sallyport.conf");
	rig_ok(sp_file_write(path, 0644, conf, strlen(conf), &rig_err));
	rig_ok(sp_conf_load(path, rig_top, sp_conf_keys, &rig_worker.conf, &rig_err));
	free(path);
	free(conf);
	rig_ok(sp_key_new(SP_ROLE_ROOT, "root@offline", &rig_worker.root, &rig_err));
	rig_ok(sp_key_new(SP_ROLE_FETCH, "fetcherd@bastion", &rig_worker.fetch, &rig_err));
	rig_ok(sp_key_new(SP_ROLE_QUANTIZE, "quantd@bastion", &rig_worker.quantize, &rig_err));
	rig_ok(sp_key_new(stranger, "stranger", &rig_worker.stranger, &rig_err));
}

void
rig_close(void)
{
	sp_key_free(&rig_worker.root);
	sp_key_free(&rig_worker.fetch);
	sp_key_free(&rig_worker.quantize);
	sp_key_free(&rig_worker.stranger);
	sp_conf_free(&rig_worker.conf);
	rig_ok(sp_file_remove_all(rig_top, &rig_err));
}

struct sp_hex
rig_import(const char *service, const char *dir)
{
	char *store_dir = sp_xasprintf("%s/store/%s", rig_top, service);
	struct sp_store *store;
	struct sp_tree tree = {0};
	struct sp_hex digest;

	rig_ok(sp_store_open(store_dir, 1, &store, &rig_err));
	rig_ok(sp_tree_import(store, dir, &tree, &digest, &rig_err));
	sp_tree_clear(&tree);
	sp_store_close(&store);
	free(store_dir);
	return digest;
}

/* --- a task ----------------------------------------------------------------------------------- */

char *
rig_provenance(
    const struct sp_key *key, const char *tree, const char *build_type, const char *material)
{
	char *uri = sp_xasprintf("sallyport:tree:%s", material != NULL ? material : "");
	const struct sp_material from = {uri, "source", material, ""};
	const struct sp_provenance provenance = {
	    .subject_name = "fixture/qwen2-tiny",
	    .subject_tree = tree,
	    .build_type = build_type,
	    .materials = &from,
	    .material_count = material != NULL,
	    .builder = sp_key_public(key)->name,
	    .version = "1",
	    .invocation = RIG_JOB,
	    .started = "2026-11-24T05:02:03.123Z",
	    .finished = "2026-11-24T05:02:04.123Z",
	};
	size_t len, envelope_len;
	char *statement = sp_statement_provenance(&provenance, &len), *envelope;

	rig_ok(
	    sp_dsse_sign(key, SP_DSSE_INTOTO, statement, len, &envelope, &envelope_len, &rig_err));
	free(statement);
	free(uri);
	return envelope;
}

void
rig_task_envelope(struct rig_task *t, int i, char *envelope)
{
	free(t->envelopes[i]);
	t->envelopes[i] = envelope;
	t->proofs[i].envelope.data = (uint8_t *)envelope;
	t->proofs[i].envelope.len = strlen(envelope);
}

void
rig_task_policy(struct rig_task *t, const char *policy)
{
	t->task.policy.data = (uint8_t *)(uintptr_t)policy;
	t->task.policy.len = strlen(policy);
}

static char *
word(const char *text)
{
	return (char *)(uintptr_t)text;
}

void
rig_task_new(struct rig_task *t, const char *step, const char *policy, const struct sp_hex *trees,
    size_t count)
{
	static const struct {
		const char *role, *store, *step;
	} made[RIG_TREES] = {{"source", "fetcherd", "fetch"}, {"candidate", "quantd", "quantize"}};

	assert_true(count >= 1 && count <= RIG_TREES);
	memset(t, 0, sizeof(*t));
	memset(&rig_lease, 0, sizeof(rig_lease));
	sallyport__task__init(&t->task);
	for (size_t i = 0; i < count; i++) {
		t->trees[i] = trees[i];
		sallyport__artifact__init(&t->parts[i]);
		t->parts[i].role = word(made[i].role);
		t->parts[i].digest = t->trees[i].s;
		t->parts[i].store = word(made[i].store);
		t->parts[i].tree = 1;
		t->artifacts[i] = &t->parts[i];
		sallyport__attested__init(&t->proofs[i]);
		t->proofs[i].step = word(made[i].step);
		t->attestations[i] = &t->proofs[i];
	}
	t->task.job = word(RIG_JOB);
	t->task.step = word(step);
	t->task.kind = word("model");
	t->task.source = word("hf:fixture/qwen2-tiny@main");
	t->task.profile = word("fixture");
	t->task.name = word("fixture/qwen2-tiny-AWQ");
	t->task.artifacts = t->artifacts;
	t->task.n_artifacts = count;
	t->task.attestations = t->attestations;
	t->task.n_attestations = count;
	rig_task_policy(t, policy);
	rig_task_envelope(t, 0, rig_provenance(rig_worker.fetch, trees[0].s, SP_BUILD_FETCH, NULL));
	if (count > 1)
		rig_task_envelope(t, 1,
		    rig_provenance(rig_worker.quantize, trees[1].s, SP_BUILD_QUANTIZE, trees[0].s));
}

void
rig_task_free(struct rig_task *t)
{
	for (size_t i = 0; i < RIG_TREES; i++)
		free(t->envelopes[i]);
}
