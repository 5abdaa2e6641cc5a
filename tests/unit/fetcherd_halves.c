/* fetcherd_halves.c -- both halves of the step against a real registryd as the hub, and what each
 * refuses; which hub it is, and as whom it is asked. */
#include "base/file.h"
#include "base/time.h"
#include "bus/paths.h"
#include "fetcherd/fetcherd.h"
#include "registryd/registryd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "release_rig.h"
#include "worker_stub.h"

#define C40 "0123456789abcdef0123456789abcdef01234567"
#define H64 "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

static char top[64];
static struct sp_err err;

static void
ok(enum sp_code code)
{
	if (code != SP_OK)
		fail_msg("%s: %s", sp_err_word(code), err.msg);
}

static int
setup(void **state)
{
	(void)state;
	snprintf(top, sizeof(top), "/tmp/sp-fetch-XXXXXX");
	return mkdtemp(top) != NULL ? 0 : -1;
}

static int
teardown(void **state)
{
	(void)state;
	return sp_file_remove_all(top, &err) == SP_OK ? 0 : -1;
}

static void
put(const char *name, const char *text, mode_t mode)
{
	char *path = sp_xasprintf("%s/%s", top, name);

	ok(sp_file_write(path, mode, text, strlen(text), &err));
	free(path);
}

struct stage {
	struct sp_worker upstream, worker;
	struct registryd *registryd;
	struct sp_lease lease;
	char *work;
	Sallyport__Task task;
	char *source;
	void *ctx; /* of fetcherd */
	struct sp_outcome outcome;
};
static struct rig rig;

static struct sp_conf *
load_conf(const char *name, const char *text)
{
	struct sp_conf *conf = NULL;
	char *path = sp_xasprintf("%s/%s", top, name);

	ok(sp_file_write(path, 0644, text, strlen(text), &err));
	ok(sp_conf_load(path, top, sp_conf_keys, &conf, &err));
	free(path);
	return conf;
}

static void
set_policy(struct stage *s, const char *policy)
{
	free(s->task.policy.data);
	s->task.policy.data = (uint8_t *)sp_xstrdup(policy);
	s->task.policy.len = strlen(policy);
}

static void
stage_open(struct stage *s, const char *source)
{
	char *dir, *text, *key;

	memset(s, 0, sizeof(*s));
	dir = sp_xasprintf("%s/model", top);
	ok(sp_file_mkdirs(dir, 0755, &err));
	free(dir);
	put("model/config.json", "{}", 0644);
	put("model/model.safetensors", "weights", 0644);
	s->upstream.conf = load_conf("upstream.conf",
	    "registryd: { listen = \"127.0.0.1:0\"; standalone = true; local: { a: { "
	    "name = \"org/m\"; dir = \"/model\"; }; }; };\n");
	ok(registryd_start(NULL, s->upstream.conf, &s->registryd, &err));

	rig_open(&rig);
	text =
	    sp_xasprintf("side = \"bastion\"; fetcherd: { endpoint = \"http://127.0.0.1:%u\"; };\n",
		sp_http_port(s->registryd->http));
	s->worker.conf = load_conf("sallyport.conf", text);
	free(text);
	s->worker.trust_envelope = rig.trust_envelope;
	key = sp_paths_key(s->worker.conf, FETCHERD_SERVICE, "fetch");
	dir = sp_xasprintf("%.*s", (int)(strrchr(key, '/') - key), key);
	ok(sp_file_mkdirs(dir, 0700, &err));
	ok(sp_key_save(rig.keys[SP_ROLE_FETCH], key, NULL, &err));
	free(dir);
	free(key);
	ok(fetcherd_check(s->worker.conf, &err));
	ok(fetcherd_open(&s->worker, &s->ctx, &err));
	s->work = sp_xasprintf("%s/work", top);
	s->lease.dir = s->work;
	sallyport__task__init(&s->task);
	s->source = sp_xstrdup(source);
	s->task.source = s->source;
	s->task.job = (char *)(uintptr_t)RIG_JOB;
	s->task.step = (char *)(uintptr_t) "fetch";
	s->task.kind = (char *)(uintptr_t) "model";
	set_policy(s, "{}");
}

static void
stage_close(struct stage *s)
{
	sp_outcome_clear(&s->outcome);
	if (s->ctx != NULL)
		fetcherd_close(s->ctx);
	registryd_close(s->registryd);
	worker_stub_clear(&s->worker);
	worker_stub_clear(&s->upstream);
	rig_close(&rig);
	free(s->task.policy.data);
	free(s->work);
	free(s->source);
}

/* The upstream serves what lies in its directory now; its port is another. */
static void
stage_reopen(struct stage *s)
{
	char *text;

	registryd_close(s->registryd);
	ok(registryd_start(NULL, s->upstream.conf, &s->registryd, &err));
	sp_conf_free(&s->worker.conf);
	text =
	    sp_xasprintf("side = \"bastion\"; fetcherd: { endpoint = \"http://127.0.0.1:%u\"; };\n",
		sp_http_port(s->registryd->http));
	s->worker.conf = load_conf("sallyport.conf", text);
	free(text);
}

static enum sp_code
run(struct stage *s)
{
	enum sp_code code;

	sp_outcome_clear(&s->outcome);
	code = fetcherd_work(s->worker.conf, &s->task, &s->lease, &s->outcome, &err);
	if (code == SP_OK)
		code =
		    fetcherd_seal(s->ctx, &s->worker, &s->task, &s->lease, code, &s->outcome, &err);
	return code;
}

static void
check_statement(const struct stage *s, const char *commit, const char *tree)
{
	const json_t *definition, *material;
	struct sp_statement statement;
	struct sp_dsse dsse;
	size_t count;

	ok(sp_dsse_parse(s->outcome.attestation, s->outcome.attestation_len, &dsse, &err));
	ok(sp_trust_verify(rig.trust, SP_ROLE_FETCH, 0, &dsse, NULL, 0, &count, &err));
	assert_int_equal(count, 1);
	ok(sp_statement_parse(dsse.payload, dsse.payload_len, &statement, &err));
	assert_string_equal(statement.subject_name, "org/m");
	assert_string_equal(statement.subject_tree, tree);
	assert_string_equal(sp_statement_build_type(&statement), SP_BUILD_FETCH);
	definition = json_object_get(statement.predicate, "buildDefinition");
	material = json_array_get(json_object_get(definition, "resolvedDependencies"), 0);
	assert_string_equal(json_string_value(json_object_get(material, "uri")), "hf:org/m");
	assert_string_equal(
	    json_string_value(json_object_get(json_object_get(material, "digest"), "gitCommit")),
	    commit);
	sp_statement_clear(&statement);
	sp_dsse_clear(&dsse);
}

static void
test_step(void **state)
{
	const struct sp_artifact *source;
	struct sp_store *store = NULL;
	struct sp_tree tree = {0};
	struct sp_hex blob;
	struct stage s;
	const char *commit;
	char *dir, *path;

	(void)state;
	stage_open(&s, "hf:org/m@main");
	ok(run(&s));
	source = sp_outcome_find(&s.outcome, "source");
	commit = sp_outcome_get(&s.outcome, "commit");
	assert_int_equal(source->bytes, 9);
	assert_string_equal(source->store, "fetcherd");
	assert_memory_equal(source->digest.s, commit, 40); /* as our own hub makes commits */
	assert_string_equal(sp_outcome_get(&s.outcome, "files"), "2");
	assert_string_equal(sp_outcome_get(&s.outcome, "licence"), "not stated");
	check_statement(&s, commit, source->digest.s);
	assert_int_equal(rmdir(s.work), 0); /* the work directory in it is gone */

	dir = sp_paths_store(s.worker.conf, FETCHERD_SERVICE);
	ok(sp_store_open(dir, 0, &store, &err));
	ok(sp_tree_load(store, source->digest.s, &tree, &err));
	ok(sp_tree_verify(store, &tree, &err));
	sp_tree_clear(&tree);

	/* a blob that went bad in between is found out, removed, and comes again */
	blob = sp_sha256_hex("weights", 7);
	path = sp_store_path(store, blob.s);
	ok(sp_file_write(path, 0440, "weightS", 7, &err));
	assert_int_equal(run(&s), SP_E_INCOMPLETE);
	assert_true(sp_err_may_retry(err.code));
	assert_null(s.outcome.attestation);
	ok(run(&s));
	ok(sp_store_verify(store, blob.s, NULL, NULL, NULL, &err));
	free(path);
	free(dir);
	sp_store_close(&store);
	stage_close(&s);
}

static void
test_step_refusals(void **state)
{
	struct stage s;

	(void)state;
	stage_open(&s, "hf:org/none");
	assert_int_equal(run(&s), SP_E_NOT_FOUND);
	free(s.source);
	s.task.source = s.source = sp_xstrdup("hf:org/m@" C40);
	assert_int_equal(run(&s), SP_E_NOT_FOUND);
	free(s.source);
	s.task.source = s.source = sp_xstrdup("github:owner/repo@v1");
	assert_int_equal(run(&s), SP_E_UNSUPPORTED);
	free(s.source);
	s.task.source = s.source = sp_xstrdup("hf:org/m");
	set_policy(&s, "{\"fetch\":{\"scan\":true}}");
	assert_int_equal(run(&s), SP_E_CONFIG);
	assert_non_null(strstr(err.msg, "fetch.scan"));
	stage_close(&s);
}

/* A claim of the tree with that one file in it, which lies in the store. */
static void
claim_file(struct stage *s, const char *path, const char *text, int executable)
{
	char *dir = sp_paths_store(s->worker.conf, FETCHERD_SERVICE);
	struct sp_store *store = NULL;
	struct sp_tree tree = {0};
	struct sp_hex blob, digest;

	ok(sp_store_open(dir, 1, &store, &err));
	ok(sp_store_put(store, text, strlen(text), &blob, &err));
	if (path != NULL)
		ok(sp_tree_add(&tree, path, strlen(text), blob.s, executable, &err));
	ok(sp_tree_save(store, &tree, &digest, &err));
	sp_outcome_clear(&s->outcome);
	sp_outcome_artifact(&s->outcome, "source", digest.s, FETCHERD_SERVICE, 1, 1);
	sp_outcome_detail(&s->outcome, "commit", "%s", C40);
	sp_outcome_detail(&s->outcome, "licence", "mit");
	sp_outcome_detail(&s->outcome, "gated", "no");
	sp_outcome_detail(&s->outcome, "started", "%s", RIG_TIME);
	sp_outcome_detail(&s->outcome, "left_out_files", "0");
	sp_outcome_detail(&s->outcome, "left_out_bytes", "0");
	sp_tree_clear(&tree);
	sp_store_close(&store);
	free(dir);
}

/* The child may have been taken over: what it claims is checked before the key is used. */
static void
test_claims(void **state)
{
	struct sp_hex nothing = sp_sha256_hex("no such tree", 12);
	struct sp_outcome *o;
	struct stage s;

	(void)state;
	stage_open(&s, "hf:org/m@" C40);
	o = &s.outcome;
#define SEAL() fetcherd_seal(s.ctx, &s.worker, &s.task, &s.lease, SP_OK, o, &err)
	assert_int_equal(SEAL(), SP_E_INTERNAL); /* nothing at all */
	sp_outcome_artifact(o, "source", nothing.s, FETCHERD_SERVICE, 1, 0);
	sp_outcome_detail(o, "commit", "%s", C40);
	sp_outcome_detail(o, "licence", "mit");
	sp_outcome_detail(o, "gated", "no");
	sp_outcome_detail(o, "started", "%s", RIG_TIME);
	sp_outcome_detail(o, "left_out_files", "0");
	sp_outcome_detail(o, "left_out_bytes", "0");
	assert_int_equal(SEAL(), SP_E_NOT_FOUND); /* a tree that is not there */
	assert_null(o->attestation);
	sp_outcome_clear(o);
	sp_outcome_artifact(o, "source", nothing.s, FETCHERD_SERVICE, 1, 0);
	sp_outcome_detail(o, "commit", "fedcba9876543210fedcba9876543210fedcba98");
	sp_outcome_detail(o, "licence", "mit");
	sp_outcome_detail(o, "gated", "no");
	sp_outcome_detail(o, "started", "%s", RIG_TIME);
	sp_outcome_detail(o, "left_out_files", "0");
	sp_outcome_detail(o, "left_out_bytes", "0");
	assert_int_equal(SEAL(), SP_E_INTERNAL); /* another commit than was submitted */
	sp_outcome_clear(o);
	sp_outcome_artifact(o, "source", nothing.s, "quantd", 1, 0);
	assert_int_equal(SEAL(), SP_E_INTERNAL); /* another's store */
	assert_null(o->attestation);
	claim_file(&s, "run.sh", "x", 1);
	assert_int_equal(SEAL(), SP_E_UNSUPPORTED);
	claim_file(&s, NULL, "x", 0);
	assert_int_equal(SEAL(), SP_E_INVALID);
	assert_null(o->attestation);
	claim_file(&s, "config.json", "{}", 0);
	assert_int_equal(SEAL(), SP_OK);
	/* numbers go into the job's details as they are */
	for (size_t i = 0; i < 3; i++) {
		static const char *const bad[] = {"", "-1", "12345678901234567890123456"};

		claim_file(&s, "config.json", "{}", 0);
		free(o->details[4].value);
		assert_string_equal(o->details[4].key, "left_out_files");
		o->details[4].value = sp_xstrdup(bad[i]);
		assert_int_equal(SEAL(), SP_E_INTERNAL);
		assert_null(o->attestation);
	}
	stage_close(&s);
}

/* --- verified early, changed later --------------------------------------------------------------
 */

#define GOOD "weights"
#define EVIL "smuggle"

static void
say(struct stage *s, const char *kind, const char *content, size_t len)
{
	char *copy = sp_xstrdup(kind);
	Sallyport__ChildNote note;

	sallyport__child_note__init(&note);
	note.kind = copy;
	note.content.data = (uint8_t *)(uintptr_t)content;
	note.content.len = len;
	fetcherd_hear(s->ctx, &s->lease, &note);
	free(copy);
}

static char blob_path[256];

/* A tree of one file, which is in the store, and of which the child has said so. Its mode is what
 * the child likes. */
static void
store_and_say(struct stage *s)
{
	struct sp_hex blob = sp_sha256_hex(GOOD, strlen(GOOD));
	char *dir = sp_paths_store(s->worker.conf, FETCHERD_SERVICE);

	claim_file(s, "model.safetensors", GOOD, 0);
	snprintf(blob_path, sizeof(blob_path), "%s/sha256/%.2s/%s", dir, blob.s, blob.s + 2);
	assert_int_equal(chmod(blob_path, 0640), 0);
	say(s, "stored", blob.s, SP_HEX_LEN);
	free(dir);
}

/* Waits until the daemon is through with it: 1 when it was verified and is held. */
static int
is_held(struct stage *s)
{
	uint64_t size;

	return fetcherd_early_has(
	    sp_lease_kept(&s->lease), sp_sha256_hex(GOOD, strlen(GOOD)).s, &size);
}

static enum sp_code
seal(struct stage *s)
{
	return fetcherd_seal(s->ctx, &s->worker, &s->task, &s->lease, SP_OK, &s->outcome, &err);
}

/* What a child that was taken over does to a file that was verified: found out, and nothing is
 * signed. */
static void
expect_found_out(struct stage *s, const char *what)
{
	enum sp_code code = seal(s);

	if (code != SP_E_INCOMPLETE || s->outcome.attestation != NULL)
		fail_msg("%s: %s: %s", what, sp_err_word(code), err.msg);
	assert_null(sp_lease_kept(&s->lease));
	assert_int_equal(access(blob_path, F_OK), -1); /* so that it is fetched again */
}

static void
test_verified_early(void **state)
{
	struct sp_hex other = sp_sha256_hex("no such blob", 12);
	struct stage s;

	(void)state;
	stage_open(&s, "hf:org/m@" C40);
	store_and_say(&s);
	/* nonsense is passed over */
	say(&s, "stored", "x", 1);
	say(&s, "stored", NULL, 0);
	say(&s, "else", other.s, SP_HEX_LEN);
	for (int i = 0; i < 1000; i++) {
		other = sp_sha256_hex(&i, sizeof(i));
		say(&s, "stored", other.s, SP_HEX_LEN);
	}
	(void)is_held(&s);
	assert_int_equal(seal(&s), SP_OK);
	assert_non_null(s.outcome.attestation);
	assert_null(sp_lease_kept(&s.lease));
	/* a job that was stopped leaves nothing behind */
	store_and_say(&s);
	s.lease.cancelled = 1;
	sp_lease_keep(&s.lease, NULL, NULL);
	stage_close(&s);
}

/* The name leads to another file: put there after the first was verified. */
static void
test_early_replaced(void **state)
{
	struct stage s;

	(void)state;
	stage_open(&s, "hf:org/m@" C40);
	store_and_say(&s);
	if (!is_held(&s))
		skip();
	ok(sp_file_write(blob_path, 0440, EVIL, strlen(EVIL), &err));
	expect_found_out(&s, "replaced");
	stage_close(&s);
}

/* Written to from before it was verified until after: by a descriptor, and by a mapping that has
 * none. */
static void
test_early_open(void **state)
{
	struct stage s;
	char *map;
	int fd;

	(void)state;
	stage_open(&s, "hf:org/m@" C40);
	store_and_say(&s); /* and then once more, while it is open */
	sp_lease_keep(&s.lease, NULL, NULL);
	fd = open(blob_path, O_RDWR);
	assert_true(fd >= 0);
	say(&s, "stored", sp_sha256_hex(GOOD, strlen(GOOD)).s, SP_HEX_LEN);
	assert_false(is_held(&s));
	assert_int_equal(pwrite(fd, EVIL, strlen(EVIL), 0), strlen(EVIL));
	close(fd);
	expect_found_out(&s, "written by an old descriptor");

	store_and_say(&s);
	sp_lease_keep(&s.lease, NULL, NULL);
	fd = open(blob_path, O_RDWR);
	map = mmap(NULL, strlen(GOOD), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(map != MAP_FAILED);
	close(fd);
	say(&s, "stored", sp_sha256_hex(GOOD, strlen(GOOD)).s, SP_HEX_LEN);
	assert_false(is_held(&s));
	memcpy(map, EVIL, strlen(EVIL));
	expect_found_out(&s, "written by a mapping");
	munmap(map, strlen(GOOD));
	stage_close(&s);
}

/* Opened for writing while it is held: whoever does waits, and that it tried is known. */
static void
test_early_written(void **state)
{
	struct stage s;
	int status, fd;
	pid_t pid;

	(void)state;
	stage_open(&s, "hf:org/m@" C40);
	store_and_say(&s);
	if (!is_held(&s))
		skip();
	pid = fork();
	if (pid == 0) {
		fd = open(blob_path, O_WRONLY);
		_exit(fd >= 0 && pwrite(fd, EVIL, strlen(EVIL), 0) > 0 ? 0 : 1);
	}
	for (int i = 0; i < 2000 && is_held(&s); i++)
		usleep(5000);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	expect_found_out(&s, "written while it was held");

	/* cut by a descriptor that is not for writing: that breaks no lease */
	store_and_say(&s);
	assert_true(is_held(&s));
	fd = open(blob_path, O_RDONLY | O_TRUNC);
	assert_true(fd >= 0);
	close(fd);
	expect_found_out(&s, "cut");
	stage_close(&s);
}

/* What the profile does not want is refused by the child, and by the daemon when the child has been
 * taken over; with the key that lets it in, both take it. */
static void
test_both_halves(void **state)
{
	static const struct {
		const char *path, *text, *lax, *says;
	} cases[] = {
	    {"pytorch_model.bin", "x", "\"pickle\":true", "fetch.pickle"},
	    {"sub/model.PKL", "x", "\"pickle\":true", "fetch.pickle"},
	    {"modeling_x.py", "x", "\"remote_code\":true", "fetch.remote_code"},
	    {"config.json", "{\"auto_map\":{\"AutoConfig\":\"x.X\"}}", "\"remote_code\":true",
		"auto_map"},
	    {"tokenizer_config.json", "{\"a\":NaN,\"auto_ma\\u0070\":{}}", "\"remote_code\":true",
		"auto_map"},
	};
	struct stage s;
	char *policy, *path;

	(void)state;
	stage_open(&s, "hf:org/m");
	path = sp_xasprintf("%s/model/sub", top);
	ok(sp_file_mkdirs(path, 0755, &err));
	free(path);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		path = sp_xasprintf("model/%s", cases[i].path);
		put(path, cases[i].text, 0644);
		stage_reopen(&s);
		policy = sp_xasprintf("{\"fetch\":{%s}}", cases[i].lax);
		for (int half = 0; half < 2; half++) {
			set_policy(&s, "{\"fetch\":{\"pickle\":false,\"remote_code\":false}}");
			for (int lax = 0; lax < 2; lax++) {
				enum sp_code code;

				if (half == 1)
					claim_file(&s, cases[i].path, cases[i].text, 0);
				code = half == 0 ? run(&s)
						 : fetcherd_seal(s.ctx, &s.worker, &s.task,
						       &s.lease, SP_OK, &s.outcome, &err);
				if (code != (lax ? SP_OK : SP_E_BLOCKED) ||
				    (s.outcome.attestation != NULL) != lax)
					fail_msg("%s, half %d, %s: %s: %s", cases[i].path, half,
					    lax ? "lax" : "strict", sp_err_word(code), err.msg);
				if (!lax && (strstr(err.msg, cases[i].says) == NULL ||
						strstr(err.msg, cases[i].path) == NULL))
					fail_msg("%s: %s", cases[i].path, err.msg);
				set_policy(&s, policy);
			}
		}
		free(policy);
		free(path);
		path = sp_xasprintf("%s/model/%s", top, cases[i].path);
		ok(sp_file_remove_all(path, &err));
		free(path);
		put("model/config.json", "{}", 0644);
	}
	stage_close(&s);
}

/* Licences: the child asks the hub, the daemon looks at what the child says of it. */
static void
test_licence_halves(void **state)
{
	struct stage s;

	(void)state;
	stage_open(&s, "hf:org/m");
	set_policy(&s, "{\"fetch\":{\"licences\":[\"apache-2.0\"]}}");
	assert_int_equal(run(&s), SP_E_BLOCKED);
	assert_non_null(strstr(err.msg, "states no licence"));
	assert_non_null(strstr(err.msg, "hf:org/m@"));
	claim_file(&s, "config.json", "{}", 0); /* under the licence mit */
	assert_int_equal(
	    fetcherd_seal(s.ctx, &s.worker, &s.task, &s.lease, SP_OK, &s.outcome, &err),
	    SP_E_BLOCKED);
	assert_non_null(strstr(err.msg, "\"mit\""));
	assert_null(s.outcome.attestation);
	/* the child has said no: the daemon passes it on and keeps nothing of it */
	claim_file(&s, "config.json", "{}", 0);
	sp_err_set(&err, SP_E_BLOCKED, "what the child said");
	assert_int_equal(
	    fetcherd_seal(s.ctx, &s.worker, &s.task, &s.lease, SP_E_BLOCKED, &s.outcome, &err),
	    SP_E_BLOCKED);
	assert_string_equal(err.msg, "what the child said");
	assert_int_equal(s.outcome.artifact_count + s.outcome.detail_count, 0);
	stage_close(&s);
}

/* A configuration that is too large to be looked through is refused before it is fetched. */
static void
test_large_config(void **state)
{
	const size_t size = SP_JSON_MAX + 1;
	uint8_t *zeros = sp_xcalloc(1, size);
	struct sp_hex digest = sp_sha256_hex(zeros, size);
	struct sp_store *store = NULL;
	struct stage s;
	char *path;

	(void)state;
	stage_open(&s, "hf:org/m");
	path = sp_xasprintf("%s/model/my_config.json", top);
	ok(sp_file_write(path, 0644, zeros, size, &err));
	stage_reopen(&s);
	assert_int_equal(run(&s), SP_E_BLOCKED);
	assert_non_null(strstr(err.msg, "my_config.json"));
	free(path);
	path = sp_paths_store(s.worker.conf, FETCHERD_SERVICE);
	ok(sp_store_open(path, 0, &store, &err));
	assert_false(sp_store_has(store, digest.s, NULL));
	sp_store_close(&store);
	free(path);
	free(zeros);
	stage_close(&s);
}

/* Another job that fetches the same commit, or waits to, is not robbed of the work directory. */
static void
test_shared_work(void **state)
{
	struct sp_source source;
	struct sp_hex key;
	struct stage s;
	char *dir;
	int fd;

	(void)state;
	stage_open(&s, "hf:org/m");
	ok(fetcherd_work(s.worker.conf, &s.task, &s.lease, &s.outcome, &err));
	ok(fetcherd_source(s.source, &source, &err));
	key = fetcherd_work_key(&source, sp_outcome_get(&s.outcome, "commit"));
	dir = sp_xasprintf("%s/%s", s.work, key.s);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(flock(fd, LOCK_SH), 0);
	ok(fetcherd_seal(s.ctx, &s.worker, &s.task, &s.lease, SP_OK, &s.outcome, &err));
	assert_int_equal(access(dir, F_OK), 0);
	close(fd);
	/* and the last one removes it */
	ok(run(&s));
	assert_int_equal(access(dir, F_OK), -1);
	free(dir);
	stage_close(&s);
}

/* What the profile leaves out is counted, and what is left is another tree. */
static void
test_patterns(void **state)
{
	const json_t *definition, *fetch;
	struct sp_statement statement;
	struct sp_hex whole;
	struct sp_dsse dsse;
	struct stage s;

	(void)state;
	stage_open(&s, "hf:org/m");
	ok(run(&s));
	whole = sp_outcome_find(&s.outcome, "source")->digest;
	assert_string_equal(sp_outcome_get(&s.outcome, "left_out_files"), "0");
	put("model/pytorch_model.bin", "a pickle", 0644);
	put("model/flax_model.msgpack", "flax", 0644);
	stage_reopen(&s);
	set_policy(&s, "{\"fetch\":{\"ignore\":[\"*.bin\",\"flax*\"]}}");
	ok(run(&s));
	assert_string_equal(sp_outcome_find(&s.outcome, "source")->digest.s, whole.s);
	assert_string_equal(sp_outcome_get(&s.outcome, "files"), "2");
	assert_string_equal(sp_outcome_get(&s.outcome, "left_out_files"), "2");
	assert_string_equal(sp_outcome_get(&s.outcome, "left_out_bytes"), "12");
	ok(sp_dsse_parse(s.outcome.attestation, s.outcome.attestation_len, &dsse, &err));
	ok(sp_statement_parse(dsse.payload, dsse.payload_len, &statement, &err));
	definition = json_object_get(statement.predicate, "buildDefinition");
	fetch = json_object_get(json_object_get(definition, "externalParameters"), "fetch");
	assert_int_equal(json_object_size(fetch), 7);
	assert_string_equal(
	    json_string_value(json_array_get(json_object_get(fetch, "ignore"), 1)), "flax*");
	assert_true(json_is_false(json_object_get(fetch, "pickle")));
	sp_statement_clear(&statement);
	sp_dsse_clear(&dsse);
	set_policy(&s, "{\"fetch\":{\"allow\":[\"*.gguf\"]}}");
	assert_int_equal(run(&s), SP_E_BLOCKED);
	assert_non_null(strstr(err.msg, "none of its 4 files"));
	stage_close(&s);
}

static void
test_conf(void **state)
{
	static const char *const bad[] = {"endpoint = \"huggingface.co\";",
	    "endpoint = \"https://h/\";", "endpoint = \"http://h\"; token_file = \"/t\";"};
	struct sp_conf *conf;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char *text = sp_xasprintf("fetcherd: { %s };\n", bad[i]);

		conf = load_conf("c", text);
		assert_int_equal(fetcherd_check(conf, &err), SP_E_CONFIG);
		assert_non_null(strstr(err.msg, "fetcherd."));
		sp_conf_free(&conf);
		free(text);
	}
	conf = load_conf("c", "fetcherd: { token_file = \"/t\"; };\n");
	ok(fetcherd_check(conf, &err));
	sp_conf_free(&conf);
}

/* The environment's endpoint counts where the configuration names none. */
static void
test_environment(void **state)
{
	static const struct {
		const char *said, *is;
	} cases[] = {{NULL, "https://huggingface.co"}, {"", "https://huggingface.co"},
	    {"https://mirror.example", "https://mirror.example"},
	    {"http://mirror.example:8080/hf//", "http://mirror.example:8080/hf"}};
	struct sp_conf *conf = load_conf("c", "side = \"bastion\";\n");
	char *endpoint;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (cases[i].said != NULL)
			setenv("HF_ENDPOINT", cases[i].said, 1);
		endpoint = fetcherd_endpoint(conf);
		assert_string_equal(endpoint, cases[i].is);
		ok(fetcherd_check(conf, &err));
		free(endpoint);
	}
	setenv("HF_ENDPOINT", "///", 1);
	assert_int_equal(fetcherd_check(conf, &err), SP_E_CONFIG);
	assert_non_null(strstr(err.msg, "HF_ENDPOINT"));
	setenv("HF_ENDPOINT", "mirror.example", 1);
	assert_int_equal(fetcherd_check(conf, &err), SP_E_CONFIG);
	sp_conf_free(&conf);
	conf = load_conf("c", "fetcherd: { endpoint = \"https://huggingface.co\"; };\n");
	endpoint = fetcherd_endpoint(conf);
	assert_string_equal(endpoint, "https://huggingface.co");
	free(endpoint);
	sp_conf_free(&conf);
	unsetenv("HF_ENDPOINT");
}

/* systemd's credential counts where the configuration names no file. */
static void
test_credential(void **state)
{
	struct sp_conf *conf = load_conf("c", "fetcherd: { endpoint = \"https://h\"; };\n");
	char *token = NULL, *path;

	(void)state;
	setenv("HF_TOKEN", "hf_environment", 1);
	setenv("CREDENTIALS_DIRECTORY", top, 1);
	fetcherd_find_credential();
	ok(fetcherd_token(conf, &token, &err));
	assert_null(token); /* no credential, and never the environment's */
	put("hf-token", "hf_credential\n", 0400);
	fetcherd_find_credential();
	/* a child has the path, not the directory */
	unsetenv("CREDENTIALS_DIRECTORY");
	fetcherd_find_credential();
	ok(fetcherd_token(conf, &token, &err));
	assert_string_equal(token, "hf_credential");
	fetcherd_token_free(&token);
	sp_conf_free(&conf);
	conf = load_conf("c", "fetcherd: { endpoint = \"http://h\"; };\n");
	assert_int_equal(fetcherd_check(conf, &err), SP_E_CONFIG);
	assert_non_null(strstr(err.msg, "hf-token"));
	sp_conf_free(&conf);
	put("token", "hf_file", 0600);
	conf = load_conf("c", "fetcherd: { token_file = \"/token\"; };\n");
	ok(fetcherd_token(conf, &token, &err));
	assert_string_equal(token, "hf_file");
	fetcherd_token_free(&token);
	/* no file at all, and what is no file */
	path = sp_xasprintf("%s/token", top);
	ok(sp_file_remove_all(path, &err));
	assert_int_equal(fetcherd_token(conf, &token, &err), SP_E_NOT_FOUND);
	assert_non_null(strstr(err.msg, "fetcherd.token_file"));
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(fetcherd_token(conf, &token, &err), SP_E_CONFIG);
	if (geteuid() == 0) {
		put("token", "hf_file", 0600);
		assert_int_equal(chown(path, 65534, 65534), 0);
		assert_int_equal(fetcherd_token(conf, &token, &err), SP_E_CONFIG);
		assert_non_null(strstr(err.msg, "uid 65534"));
	}
	assert_null(token);
	free(path);
	sp_conf_free(&conf);
	setenv("CREDENTIALS_DIRECTORY", "/nowhere", 1);
	fetcherd_find_credential();
	assert_null(getenv(FETCHERD_CREDENTIAL));
	unsetenv("CREDENTIALS_DIRECTORY");
	unsetenv("HF_TOKEN");
}

/* A token that everybody can read, or that would break a field of the request, is not sent. */
static void
test_token_file(void **state)
{
	static const struct {
		const char *text;
		mode_t mode;
		const char *says;
	} cases[] = {{"hf_x\n", 0644, "chmod"}, {"", 0600, "token"}, {"a b\n", 0600, "token"},
	    {"a\nX: y\n", 0600, "token"}};
	struct stage s;

	(void)state;
	stage_open(&s, "hf:org/m");
	sp_conf_free(&s.worker.conf);
	s.worker.conf = load_conf("sallyport.conf",
	    "side = \"bastion\"; fetcherd: { endpoint = \"https://127.0.0.1:1\"; token_file = "
	    "\"/token\"; };\n");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		put("token", cases[i].text, cases[i].mode);
		assert_int_equal(run(&s), SP_E_CONFIG);
		if (strstr(err.msg, cases[i].says) == NULL)
			fail_msg("%zu: %s", i, err.msg);
	}
	put("token", "hf_x\n", 0600);
	assert_int_equal(run(&s), SP_E_UNREACHABLE); /* taken, but nobody is there */
	stage_close(&s);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
	    T(test_step),
	    T(test_step_refusals),
	    T(test_claims),
	    T(test_verified_early),
	    T(test_early_replaced),
	    T(test_early_open),
	    T(test_early_written),
	    T(test_both_halves),
	    T(test_licence_halves),
	    T(test_large_config),
	    T(test_shared_work),
	    T(test_patterns),
	    T(test_conf),
	    T(test_environment),
	    T(test_credential),
	    T(test_token_file),
	};

	unsetenv("HF_ENDPOINT");
	unsetenv("CREDENTIALS_DIRECTORY");
	unsetenv(FETCHERD_CREDENTIAL);
	unsetenv("http_proxy");
	unsetenv("https_proxy");
	unsetenv("HTTPS_PROXY");
	unsetenv("all_proxy");
	unsetenv("ALL_PROXY");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
