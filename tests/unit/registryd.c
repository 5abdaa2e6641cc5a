/*
 * registryd.c -- rules and forms of registrations, and the register step with real
 * releases: what is verified, what survives a crash, what the signed snapshot says.
 */
#include "registryd/registryd.h"
#include "base/file.h"
#include "base/time.h"
#include "bus/paths.h"
#include "hub/client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "release_rig.h"
#include "worker_stub.h"

#define H64 "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
#define NAME "org/name-AWQ" /* of the rig's candidate, version 1 */

static char top[64];
static struct sp_err err;

/* --- every step by which something becomes visible on the disk ----------------------------------
 */

/* The process dies before the rename of that number; -1: never. */
static int die_at = -1, renames;

static void
count_rename(void)
{
	if (renames++ == die_at)
		_exit(42);
}

int
rename(const char *from, const char *to)
{
	count_rename();
	return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int
renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
	count_rename();
	return (int)syscall(SYS_renameat2, from_fd, from, to_fd, to, flags);
}

/* what a power cut would lose is the store's own test; here it only takes time */
int
fsync(int fd)
{
	(void)fd;
	return 0;
}

static void
ok(enum sp_code code)
{
	if (code != SP_OK)
		fail_msg("%s: %s", sp_err_word(code), err.msg);
}

/* --- pure ---------------------------------------------------------------------------------------
 */

static struct registryd_entry
entry_of(const char *name, int64_t version, const char *tree)
{
	struct registryd_entry e = {.kind = "model", .version = version, .time = RIG_TIME};

	snprintf(e.name, sizeof(e.name), "%s", name);
	snprintf(e.tree.s, sizeof(e.tree.s), "%s", tree);
	snprintf(e.release.s, sizeof(e.release.s), "%s", H64);
	return e;
}

static void
test_entry(void **state)
{
	static const char *const bad[] = {"", "{}",
	    "{\"kind\":\"model\",\"name\":\"a\",\"release\":\"\",\"time\":\"" RIG_TIME
	    "\",\"tree\":\"" RIG_TREE "\",\"type\":\"sallyport-registration/1\",\"version\":0}",
	    "{\"kind\":\"model\",\"name\":\"../a\",\"release\":\"\",\"time\":\"" RIG_TIME
	    "\",\"tree\":\"" RIG_TREE "\",\"type\":\"sallyport-registration/1\",\"version\":1}",
	    "{\"kind\":\"model\",\"name\":\"a\",\"release\":\"x\",\"time\":\"" RIG_TIME
	    "\",\"tree\":\"" RIG_TREE "\",\"type\":\"sallyport-registration/1\",\"version\":1}",
	    "{\"kind\":\"model\",\"name\":\"a\",\"release\":\"\",\"time\":\"" RIG_TIME
	    "\",\"tree\":\"" RIG_TREE "\",\"type\":\"sallyport-registration/2\",\"version\":1}",
	    "{\"kind\":\"model\",\"name\":\"a\",\"release\":\"\",\"time\":\"yesterday\",\"tree\":"
	    "\"" RIG_TREE "\",\"type\":\"sallyport-registration/1\",\"version\":1}"};
	struct registryd_entry e = entry_of("org/m", 7, RIG_TREE), back;
	size_t len;
	char *text = registryd_entry_format(&e, &len);

	(void)state;
	ok(registryd_entry_parse((const uint8_t *)text, len, &back, &err));
	assert_memory_equal(&e, &back, sizeof(e));
	assert_int_equal(
	    registryd_entry_parse((const uint8_t *)text, len - 1, &back, &err), SP_E_INVALID);
	free(text);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (registryd_entry_parse((const uint8_t *)bad[i], strlen(bad[i]), &back, &err) ==
		    SP_OK)
			fail_msg("taken: %s", bad[i]);

	assert_int_equal(registryd_version_parse((const uint8_t *)"12\n", 3), 12);
	assert_int_equal(registryd_version_parse((const uint8_t *)"12", 2), -1);
	assert_int_equal(registryd_version_parse((const uint8_t *)"0\n", 2), -1);
	assert_int_equal(registryd_version_parse((const uint8_t *)"-1\n", 3), -1);
	assert_int_equal(registryd_version_parse((const uint8_t *)"\n", 1), -1);
	assert_int_equal(registryd_version_parse((const uint8_t *)"", 0), -1);
	assert_int_equal(
	    registryd_version_parse((const uint8_t *)"99999999999999999999\n", 21), -1);
}

static void
test_admit(void **state)
{
	struct registryd_entries all = {0};
	struct registryd_entry e;
	int known;

	(void)state;
	e = entry_of("org/m", 2, RIG_TREE);
	registryd_entries_add(&all, &e);
	e = entry_of("org/m", 5, RIG_OTHER);
	registryd_entries_add(&all, &e);
	e = entry_of("org/m", 6, RIG_TREE);
	ok(registryd_admit(&all, &e, &known, &err));
	assert_false(known);
	e = entry_of("org/m", 2, RIG_TREE);
	ok(registryd_admit(&all, &e, &known, &err));
	assert_true(known);
	e = entry_of("org/m", 2, RIG_OTHER);
	assert_int_equal(registryd_admit(&all, &e, &known, &err), SP_E_EXISTS);
	e = entry_of("org/m", 4, RIG_SOURCE);
	assert_int_equal(registryd_admit(&all, &e, &known, &err), SP_E_DENIED);
	e = entry_of("org/other", 1, RIG_SOURCE);
	ok(registryd_admit(&all, &e, &known, &err));
	free(all.entries);
}

/* --- the step -----------------------------------------------------------------------------------
 */

static struct rig rig;

/* An enclave: diode-rxd's store with a release in it, and registryd. */
struct stage {
	struct sp_worker worker;
	struct registryd *r;
	struct sp_store *rxd;
	struct sp_lease lease;
	struct sp_hex tree, release;
	Sallyport__Task task;
	Sallyport__Artifact artifacts[2], *list[2];
	struct sp_outcome outcome;
};

static void
put(const char *name, const char *text)
{
	char *path = sp_xasprintf("%s/%s", top, name);

	ok(sp_file_write(path, 0644, text, strlen(text), &err));
	free(path);
}

static void
load_conf(struct stage *s, const char *destination)
{
	char *path = sp_xasprintf("%s/sallyport.conf", top), *text;

	text = sp_xasprintf("side = \"enclave\"; host = \"gate\"; registryd: { listen = "
			    "\"127.0.0.1:0\"; }; diode-rxd: { destination = \"%s\"; };\n",
	    destination);
	ok(sp_file_write(path, 0644, text, strlen(text), &err));
	sp_conf_free(&s->worker.conf);
	ok(sp_conf_load(path, top, sp_conf_keys, &s->worker.conf, &err));
	free(text);
	free(path);
}

/* The release over what lies in top/model, as diode-rxd would have left it. */
static void
make_release(struct stage *s)
{
	char *dir = sp_xasprintf("%s/model", top), *envelope;
	struct rig_deviation whole = {.tree = s->tree.s};
	struct sp_tree tree = {0};
	struct rig_parts parts;
	struct rig_log log;
	json_t *bom;
	size_t len;

	ok(sp_tree_import(s->rxd, dir, &tree, &s->tree, &err));
	rig_parts(&rig, &whole, &parts);
	rig_log(rig_story, &parts, RIG_JOB, RIG_ORIGIN, rig.keys[SP_ROLE_LOG], &log);
	bom = rig_bom(&parts, &tree);
	envelope = rig_release(&rig, &parts, &log, bom, rig.keys[SP_ROLE_RELEASE], &len, &err);
	assert_non_null(envelope);
	ok(sp_store_put(s->rxd, envelope, len, &s->release, &err));
	free(envelope);
	json_decref(bom);
	rig_log_free(&log);
	rig_parts_free(&parts);
	sp_tree_clear(&tree);
	free(dir);
}

static void
make_task(struct stage *s)
{
	static const char *const roles[2] = {"candidate", "release"};

	sallyport__task__init(&s->task);
	s->task.job = (char *)(uintptr_t)RIG_JOB;
	s->task.step = (char *)(uintptr_t) "register";
	for (int i = 0; i < 2; i++) {
		sallyport__artifact__init(&s->artifacts[i]);
		s->artifacts[i].role = (char *)(uintptr_t)roles[i];
		s->artifacts[i].store = (char *)(uintptr_t) "diode-rxd";
		s->artifacts[i].tree = i == 0;
		s->list[i] = &s->artifacts[i];
	}
	s->artifacts[0].digest = s->tree.s;
	s->artifacts[1].digest = s->release.s;
	s->task.artifacts = s->list;
	s->task.n_artifacts = 2;
}

static void
start(struct stage *s)
{
	ok(registryd_start(&s->worker, s->worker.conf, &s->r, &err));
}

static void
stop(struct stage *s)
{
	registryd_close(s->r);
	s->r = NULL;
}

static void
stage_open(struct stage *s)
{
	char *path, *dir;

	snprintf(top, sizeof(top), "/tmp/sp-registry-XXXXXX");
	assert_non_null(mkdtemp(top));
	memset(s, 0, sizeof(*s));
	dir = sp_xasprintf("%s/model", top);
	ok(sp_file_mkdirs(dir, 0755, &err));
	free(dir);
	put("model/config.json", "{\"model_type\":\"qwen2\"}");
	put("model/tokenizer.json", "{}");
	put("model/model.safetensors", "weights");
	rig_open(&rig);
	load_conf(s, "enclave");
	s->worker.trust_envelope = rig.trust_envelope;
	path = sp_paths_key(s->worker.conf, REGISTRYD_SERVICE, "registry");
	dir = sp_xasprintf("%.*s", (int)(strrchr(path, '/') - path), path);
	ok(sp_file_mkdirs(dir, 0700, &err));
	ok(sp_key_save(rig.keys[SP_ROLE_REGISTRY], path, NULL, &err));
	free(dir);
	free(path);
	dir = sp_paths_store(s->worker.conf, "diode-rxd");
	ok(sp_store_open(dir, 1, &s->rxd, &err));
	free(dir);
	make_release(s);
	make_task(s);
	start(s);
}

static void
stage_close(struct stage *s)
{
	if (s->r != NULL)
		stop(s);
	sp_outcome_clear(&s->outcome);
	sp_store_close(&s->rxd);
	worker_stub_clear(&s->worker);
	rig_close(&rig);
	ok(sp_file_remove_all(top, &err));
}

static enum sp_code
seal(struct stage *s)
{
	sp_outcome_clear(&s->outcome);
	return registryd_seal(s->r, &s->worker, &s->task, &s->lease, SP_OK, &s->outcome, &err);
}

/* The newest snapshot that was published, verified. */
static void
snapshot_of(const struct stage *s, struct sp_snapshot *out)
{
	ok(sp_snapshot_verify(rig.trust, s->worker.published, s->worker.published_len, out, &err));
}

static int64_t
version_of(const struct stage *s)
{
	struct sp_snapshot snapshot;
	int64_t version;

	snapshot_of(s, &snapshot);
	version = snapshot.version;
	sp_snapshot_clear(&snapshot);
	return version;
}

/* What a client sees: the commit of NAME's main, or "" when there is none. */
static struct sp_git_oid
served(const struct stage *s)
{
	char *endpoint = sp_xasprintf("http://127.0.0.1:%u", sp_http_port(s->r->http));
	struct sp_client_options options = {.endpoint = endpoint};
	struct sp_answer_model model = {.commit = {""}};
	struct sp_client *client = NULL;
	struct sp_err why;

	ok(sp_client_new(&options, &client, &err));
	if (sp_client_model(client, NAME, "main", &model, &why) != SP_OK)
		model.commit.s[0] = '\0';
	sp_client_free(&client);
	free(endpoint);
	return model.commit;
}

static void
note_kept(void *arg, const char *digest)
{
	struct sp_hex *kept = arg; /* two, and room for one too many */

	while (kept->s[0] != '\0')
		kept++;
	snprintf(kept->s, sizeof(kept->s), "%s", digest);
}

static void
test_register(void **state)
{
	struct sp_hex kept[4] = {{{0}}};
	const struct sp_snapshot_model *m;
	struct sp_snapshot snapshot;
	struct sp_tree tree = {0};
	int64_t version;
	struct stage s;

	(void)state;
	stage_open(&s);
	assert_string_equal(served(&s).s, "");
	ok(seal(&s));
	assert_string_equal(served(&s).s, sp_tree_revision(s.tree.s).s);
	assert_string_equal(sp_outcome_get(&s.outcome, "name"), NAME);
	assert_string_equal(sp_outcome_find(&s.outcome, "candidate")->store, "registryd");
	assert_int_equal(s.lease.done, s.lease.total);
	snapshot_of(&s, &snapshot);
	assert_string_equal(snapshot.origin, "sallyport/enclave/gate");
	m = sp_snapshot_find(&snapshot, NAME, 0);
	assert_non_null(m);
	assert_string_equal(m->tree.s, s.tree.s);
	assert_string_equal(m->release.s, s.release.s);
	assert_string_equal(m->revision.s, sp_tree_revision(s.tree.s).s);
	assert_int_equal(m->file_count, 3);
	version = snapshot.version;
	sp_snapshot_clear(&snapshot);

	/* again, and after a restart: the same, under a higher version each time */
	ok(seal(&s));
	assert_int_equal(s.r->entries.count, 1);
	assert_true(version_of(&s) > version);
	version = version_of(&s);
	stop(&s);
	start(&s);
	assert_string_equal(served(&s).s, sp_tree_revision(s.tree.s).s);
	ok(registryd_publish(s.r, 0, &err)); /* after the publisher's own, or in its place */
	assert_true(version_of(&s) > version);
	snapshot_of(&s, &snapshot);
	assert_non_null(sp_snapshot_find(&snapshot, NAME, 1));
	sp_snapshot_clear(&snapshot);
	/* it needs nothing of diode-rxd's any more */
	ok(sp_tree_load(s.r->store, s.tree.s, &tree, &err));
	ok(sp_tree_verify(s.r->store, &tree, &err));
	assert_true(sp_store_has(s.r->store, s.release.s, NULL));
	/* and no collection takes them away */
	ok(registryd_keep(s.r, note_kept, kept, &err));
	assert_string_equal(kept[0].s, s.tree.s);
	assert_string_equal(kept[1].s, s.release.s);
	assert_string_equal(kept[2].s, "");
	sp_tree_clear(&tree);
	stage_close(&s);
}

/* Nothing of a refused release is seen: not by clients, not in a snapshot, not after a restart. */
static void
refused(struct stage *s, enum sp_code code, const char *says)
{
	enum sp_code is = seal(s);

	if (is != code || strstr(err.msg, says) == NULL)
		fail_msg("%s: %s; not %s: %s", sp_err_word(is), err.msg, sp_err_word(code), says);
	assert_string_equal(served(s).s, "");
	assert_int_equal(s->r->entries.count, 0);
	assert_null(sp_outcome_find(&s->outcome, "candidate"));
}

static void
spoil(const struct stage *s, const char *digest, const char *text, size_t len)
{
	char *path = sp_store_path(s->rxd, digest);

	ok(sp_file_write(path, 0440, text, len, &err));
	free(path);
}

static void
test_refusals(void **state)
{
	struct sp_hex weights = sp_sha256_hex("weights", 7), other;
	uint8_t *envelope = NULL;
	struct stage s;
	size_t len;

	(void)state;
	stage_open(&s);
	/* a blob that another wrote into its store under a name that is not its digest */
	spoil(&s, weights.s, "weightS", 7);
	refused(&s, SP_E_CORRUPT, "model.safetensors");
	ok(sp_store_put(s.rxd, "weights", 7, NULL, &err));
	/* another tree than the release's */
	ok(sp_store_put(s.rxd, "sallyport-tree/1\n", 17, &other, &err));
	s.artifacts[0].digest = other.s;
	refused(&s, SP_E_DENIED, "not of tree");
	s.artifacts[0].digest = s.tree.s;
	/* another job's release */
	s.task.job = (char *)(uintptr_t) "ffffffffffffffffffffffffffffffff";
	refused(&s, SP_E_DENIED, "belongs to job");
	s.task.job = (char *)(uintptr_t)RIG_JOB;
	/* one flipped byte of the release, whatever its name says */
	ok(sp_store_read(s.rxd, s.release.s, SP_RELEASE_MAX, &envelope, &len, &err));
	envelope[len / 2] ^= 1;
	spoil(&s, s.release.s, (char *)envelope, len);
	refused(&s, SP_E_CORRUPT, "damaged");
	ok(sp_store_put(s.rxd, envelope, len, &other, &err));
	s.artifacts[1].digest = other.s;
	assert_int_not_equal(seal(&s), SP_OK);
	assert_int_equal(s.r->entries.count, 0);
	s.artifacts[1].digest = s.release.s;
	envelope[len / 2] ^= 1;
	spoil(&s, s.release.s, (char *)envelope, len);
	free(envelope);
	/* made for another enclave */
	stop(&s);
	load_conf(&s, "elsewhere");
	start(&s);
	refused(&s, SP_E_DENIED, "\"elsewhere\"");
	stop(&s);
	load_conf(&s, "enclave");
	start(&s);
	/* no artifact at all */
	s.task.n_artifacts = 1;
	refused(&s, SP_E_INVALID, "\"release\"");
	s.task.n_artifacts = 2;
	s.lease.cancelled = 1;
	refused(&s, SP_E_CANCELLED, "cancelled");
	s.lease.cancelled = 0;
	ok(seal(&s));
	stage_close(&s);
}

/* A release that is in order, of a tree that no server can load. */
static void
test_no_model(void **state)
{
	struct stage s;
	char *path;

	(void)state;
	stage_open(&s);
	path = sp_xasprintf("%s/model/tokenizer.json", top);
	assert_int_equal(unlink(path), 0);
	free(path);
	make_release(&s);
	refused(&s, SP_E_INVALID, "tokenizer");
	stage_close(&s);
}

static void
test_versions(void **state)
{
	struct registryd_entry e;
	struct stage s;
	struct sp_hex other;
	struct sp_tree tree = {0};

	(void)state;
	stage_open(&s);
	ok(sp_store_put(s.r->store, "x", 1, &other, &err));
	ok(sp_tree_add(&tree, "x", 1, other.s, 0, &err));
	ok(sp_tree_save(s.r->store, &tree, &other, &err));
	sp_tree_clear(&tree);
	e = entry_of(NAME, 2, other.s);
	ok(registryd_state_add(s.r, &e, &err));
	assert_int_equal(seal(&s), SP_E_DENIED);
	assert_non_null(strstr(err.msg, "older than version 2"));
	assert_false(sp_store_has(s.r->store, s.tree.s, NULL)); /* not even copied */
	stage_close(&s);
	stage_open(&s);
	ok(sp_store_put(s.r->store, "x", 1, &other, &err));
	ok(sp_tree_add(&tree, "x", 1, other.s, 0, &err));
	ok(sp_tree_save(s.r->store, &tree, &other, &err));
	sp_tree_clear(&tree);
	e = entry_of(NAME, 1, other.s);
	ok(registryd_state_add(s.r, &e, &err));
	assert_int_equal(seal(&s), SP_E_EXISTS);
	stage_close(&s);
}

/* ledgerd away: the step fails so that it is tried again, and then succeeds; no version of a
 * snapshot is used twice. */
static void
test_publish_fails(void **state)
{
	int64_t version;
	struct stage s;

	(void)state;
	stage_open(&s);
	ok(registryd_publish(s.r, 0, &err));
	version = version_of(&s);
	s.worker.publish_code = SP_E_TIMEOUT;
	assert_int_equal(seal(&s), SP_E_TIMEOUT);
	assert_true(sp_err_may_retry(err.code));
	assert_int_equal(version_of(&s), version);
	/* ledgerd refuses the snapshot: that says nothing about the release, which would be
	 * quarantined by "denied" */
	s.worker.publish_code = SP_E_DENIED;
	assert_int_equal(seal(&s), SP_E_CONFIG);
	s.worker.publish_code = SP_OK;
	ok(seal(&s));
	assert_true(version_of(&s) > version + 1);
	stage_close(&s);
}

/* Puts text into a file of registryd's state; returns its path, malloc'd. */
static char *
put_state(const struct stage *s, const char *name, const char *text)
{
	char *dir = sp_paths_state(s->worker.conf, REGISTRYD_SERVICE);
	char *path = sp_xasprintf("%s/%s", dir, name);

	ok(sp_file_write(path, 0640, text, strlen(text), &err));
	free(dir);
	return path;
}

/* A disk that takes the number of a snapshot, but not the snapshot: the one before goes out under
 * no other number, and what was registered is told of as soon as the disk writes again. */
static void
test_snapshot_not_written(void **state)
{
	struct sp_snapshot snapshot;
	char *path, *dir;
	struct stage s;

	(void)state;
	stage_open(&s);
	ok(registryd_publish(s.r, 0, &err));
	dir = sp_paths_state(s.worker.conf, REGISTRYD_SERVICE);
	path = sp_xasprintf("%s/snapshot.json", dir);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_not_equal(seal(&s), SP_OK);
	assert_int_equal(rmdir(path), 0);
	ok(registryd_publish(s.r, 0, &err));
	snapshot_of(&s, &snapshot);
	assert_non_null(sp_snapshot_find(&snapshot, NAME, 1));
	assert_int_equal(snapshot.version, s.r->published_version);
	sp_snapshot_clear(&snapshot);
	free(path);
	free(dir);
	stage_close(&s);
}

/* A registration whose directory could not be synced was not acknowledged, but its file is there.
 */
static void
test_half_registered(void **state)
{
	struct registryd_entry e;
	struct stage s;
	char *name, *text;
	size_t len;

	(void)state;
	stage_open(&s);
	e = entry_of(NAME, 1, s.tree.s);
	text = registryd_entry_format(&e, &len);
	name = sp_xasprintf("models/%s.json", registryd_entry_key(NAME, 1).s);
	free(put_state(&s, name, text));
	ok(seal(&s));
	assert_string_equal(served(&s).s, sp_tree_revision(s.tree.s).s);
	free(text);
	/* one of another tree is never replaced, whatever we know of it */
	e = entry_of(NAME, 2, s.tree.s);
	e.tree.s[0] = e.tree.s[0] == '0' ? '1' : '0';
	text = registryd_entry_format(&e, &len);
	free(name);
	name = sp_xasprintf("models/%s.json", registryd_entry_key(NAME, 2).s);
	free(put_state(&s, name, text));
	e = entry_of(NAME, 2, s.tree.s);
	assert_int_equal(registryd_state_add(s.r, &e, &err), SP_E_EXISTS);
	free(text);
	free(name);
	stage_close(&s);
}

/* The newest snapshot that was signed at all: whoever died may have published it just before. */
static int64_t
signed_version(const struct stage *s)
{
	char *dir = sp_paths_state(s->worker.conf, REGISTRYD_SERVICE);
	char *path = sp_xasprintf("%s/snapshot.json", dir);
	struct sp_snapshot snapshot;
	int64_t version = 0;
	uint8_t *data = NULL;
	size_t len;

	if (sp_file_read(path, 1 << 20, &data, &len, &err) == SP_OK) {
		ok(sp_snapshot_verify(rig.trust, data, len, &snapshot, &err));
		version = snapshot.version;
		sp_snapshot_clear(&snapshot);
	}
	free(data);
	free(path);
	free(dir);
	return version;
}

/* Registering is killed before each of its renames in turn, started anew, and ends well. */
static void
test_kill(void **state)
{
	int status = 0, deaths = 0;
	int64_t version;
	struct stage s;
	pid_t pid;

	(void)state;
	for (int n = 0; n == 0 || WEXITSTATUS(status) == 42; n++) {
		assert_true(n < 200);
		stage_open(&s);
		stop(&s);
		fflush(NULL);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			renames = 0;
			die_at = n;
			if (registryd_start(&s.worker, s.worker.conf, &s.r, &err) != SP_OK ||
			    seal(&s) != SP_OK)
				_exit(1);
			_exit(0);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) != 1);
		deaths += WEXITSTATUS(status) == 42;
		version = signed_version(&s);
		start(&s);
		/* before the step is tried again: all of it is seen, or nothing */
		if (s.r->entries.count > 0)
			assert_string_equal(served(&s).s, sp_tree_revision(s.tree.s).s);
		ok(seal(&s));
		assert_true(version_of(&s) > version);
		assert_int_equal(s.r->entries.count, 1);
		assert_string_equal(served(&s).s, sp_tree_revision(s.tree.s).s);
		stage_close(&s);
	}
	/* three files, their listing, the release, git ids, registration, number, snapshot */
	assert_true(deaths >= 9);
}

/* The number of the newest snapshot: one that is spent is skipped; when it is lost or damaged,
 * nothing is signed under a guessed one. */
static void
test_number(void **state)
{
	int64_t before, version;
	char *path, text[32];
	struct stage s;

	(void)state;
	stage_open(&s);
	ok(seal(&s));
	before = version_of(&s);
	stop(&s);
	snprintf(text, sizeof(text), "%lld\n", (long long)before + 5);
	path = put_state(&s, "snapshot.version", text);
	free(path);
	start(&s);
	ok(registryd_publish(s.r, 0, &err));
	version = version_of(&s);
	assert_true(version > before + 5);
	stop(&s);
	path = put_state(&s, "snapshot.version", "");
	assert_int_equal(registryd_start(&s.worker, s.worker.conf, &s.r, &err), SP_E_CORRUPT);
	assert_non_null(strstr(err.msg, "snapshot.version"));
	assert_int_equal(unlink(path), 0);
	assert_int_equal(registryd_start(&s.worker, s.worker.conf, &s.r, &err), SP_E_CORRUPT);
	free(path);
	snprintf(text, sizeof(text), "%lld\n", (long long)version);
	path = put_state(&s, "snapshot.version", text);
	free(path);
	start(&s);
	ok(registryd_publish(s.r, 0, &err));
	assert_true(version_of(&s) > version);
	stage_close(&s);
}

/* What else a crash or a bad disk may leave of the state. */
static void
test_leftovers(void **state)
{
	struct registryd_entry e;
	struct sp_hex key = registryd_entry_key(NAME, 9);
	struct stage s;
	char *path, *name, *text;
	uint8_t *data = NULL;
	size_t len;

	(void)state;
	stage_open(&s);
	ok(seal(&s));
	stop(&s);
	/* a file half-written under its temporary name is no matter; damaged git ids are worked out
	 * again */
	path = put_state(&s, "models/x.json.tmp-abcdef", "{");
	free(path);
	name = sp_xasprintf("oids/%s", s.tree.s);
	path = put_state(&s, name, "sallyport-oids/1\n");
	start(&s);
	assert_string_equal(served(&s).s, sp_tree_revision(s.tree.s).s);
	ok(sp_file_read(path, 4096, &data, &len, &err));
	assert_true(len > 17);
	stop(&s);
	free(data);
	free(path);
	free(name);
	/* a registration under another's name is not believed */
	e = entry_of("org/other", 1, s.tree.s);
	text = registryd_entry_format(&e, &len);
	name = sp_xasprintf("models/%s.json", key.s);
	path = put_state(&s, name, text);
	assert_int_equal(registryd_start(&s.worker, s.worker.conf, &s.r, &err), SP_E_INVALID);
	assert_non_null(strstr(err.msg, key.s));
	free(path);
	free(name);
	free(text);
	stage_close(&s);
}

/* A tree that went bad on the disk: its model is not served and in no snapshot, the others are; its
 * version stays taken; registering it once more heals it. */
static void
test_damaged(void **state)
{
	struct sp_snapshot snapshot;
	struct stage s;
	char *path;

	(void)state;
	stage_open(&s);
	ok(seal(&s));
	path = sp_store_path(s.r->store, s.tree.s);
	stop(&s);
	assert_int_equal(unlink(path), 0);
	free(path);
	start(&s);
	assert_string_equal(served(&s).s, "");
	assert_int_equal(s.r->entries.count, 1);
	ok(registryd_publish(s.r, 0, &err));
	snapshot_of(&s, &snapshot);
	assert_int_equal(snapshot.count, 0);
	sp_snapshot_clear(&snapshot);
	ok(seal(&s));
	assert_string_equal(served(&s).s, sp_tree_revision(s.tree.s).s);
	snapshot_of(&s, &snapshot);
	assert_int_equal(snapshot.count, 1);
	sp_snapshot_clear(&snapshot);
	stage_close(&s);
}

static void
test_conf(void **state)
{
	static const struct {
		const char *text, *says;
	} bad[] = {
	    {"registryd: { listen = \"8780\"; };", "registryd.listen"},
	    {"registryd: { local: { a: { name = \"x\"; dir = \"/x\"; }; }; };", "standalone"},
	    {"registryd: { standalone = true; local: { a: { name = \"x\"; }; }; };", "local.a"},
	    {"registryd: { standalone = true; local: { a: { name = \"x/y/z\"; dir = \"/x\"; }; }; "
	     "};",
		"local.a.name"},
	    {"registryd: { standalone = true; local: { a: { name = \"x\"; dir = \"/x\"; kind = "
	     "\"space\"; }; }; };",
		"local.a.kind"},
	};
	struct sp_conf *conf = NULL;
	char *path;

	(void)state;
	snprintf(top, sizeof(top), "/tmp/sp-registry-XXXXXX");
	assert_non_null(mkdtemp(top));
	path = sp_xasprintf("%s/c", top);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		put("c", bad[i].text);
		ok(sp_conf_load(path, "", sp_conf_keys, &conf, &err));
		assert_int_equal(registryd_check(conf, &err), SP_E_CONFIG);
		if (strstr(err.msg, bad[i].says) == NULL)
			fail_msg("%zu: %s", i, err.msg);
		sp_conf_free(&conf);
	}
	free(path);
	ok(sp_file_remove_all(top, &err));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_entry),
	    cmocka_unit_test(test_admit),
	    cmocka_unit_test(test_register),
	    cmocka_unit_test(test_refusals),
	    cmocka_unit_test(test_no_model),
	    cmocka_unit_test(test_versions),
	    cmocka_unit_test(test_publish_fails),
	    cmocka_unit_test(test_snapshot_not_written),
	    cmocka_unit_test(test_half_registered),
	    cmocka_unit_test(test_kill),
	    cmocka_unit_test(test_number),
	    cmocka_unit_test(test_leftovers),
	    cmocka_unit_test(test_damaged),
	    cmocka_unit_test(test_conf),
	};

	unsetenv("http_proxy");
	unsetenv("all_proxy");
	unsetenv("ALL_PROXY");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
