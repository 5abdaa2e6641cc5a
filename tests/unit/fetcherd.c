/*
 * fetcherd.c -- what may be fetched, downloads that go on after a failure, and both halves of the
 * step against a real registryd as the hub.
 */
#include "fetcherd/fetcherd.h"
#include "base/file.h"
#include "base/time.h"
#include "bus/paths.h"
#include "registryd/registryd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

/* --- pure ---------------------------------------------------------------------------------------
 */

static enum sp_code
check_names(const char *const *names, size_t count, uint64_t size)
{
	struct sp_answer_file files[8];
	struct sp_answer_tree tree = {.files = files, .count = count};

	memset(files, 0, sizeof(files));
	for (size_t i = 0; i < count; i++) {
		files[i].path = (char *)(uintptr_t)names[i];
		files[i].size = size;
		tree.bytes += size;
	}
	return fetcherd_check_files(&tree, &err);
}

static void
test_names(void **state)
{
	static const char *const fine[] = {
	    ".gitattributes", "README.md", "config.json", "model.safetensors", "sub/bin", "python"};
	static const char *const refused[] = {"pytorch_model.bin", "a.PT", "x/y.pth", "m.pkl",
	    "m.ckpt", "modeling_qwen.py", "a.pickle"};
	static const char *const clash[] = {"a", "a-b", "a/b"};
	static const char *const twice[] = {"a", "b", "a"};

	(void)state;
	ok(check_names(fine, 6, 1));
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		assert_int_equal(check_names(&refused[i], 1, 1), SP_E_UNSUPPORTED);
		assert_non_null(strstr(err.msg, refused[i]));
	}
	assert_int_equal(check_names(clash, 3, 1), SP_E_INVALID);
	assert_int_equal(check_names(twice, 3, 1), SP_E_INVALID);
	assert_int_equal(check_names(fine, 0, 1), SP_E_INVALID);
	assert_int_equal(check_names(fine, 1, FETCHERD_FILE_MAX + 1), SP_E_LIMIT);
	assert_int_equal(check_names(fine, 5, FETCHERD_FILE_MAX), SP_E_LIMIT);
}

static void
test_journal(void **state)
{
	static const char text[] =
	    C40 " " H64 "\n"
		"short\n"
		"0123456789abcdef0123456789abcdef0123456X " H64 "\n"
		"fedcba9876543210fedcba9876543210fedcba98 " H64 "\n" C40 " 2cf24d";
	struct sp_git_oid oid = {C40};
	struct fetcherd_journal journal;

	(void)state;
	fetcherd_journal_parse((const uint8_t *)text, sizeof(text) - 1, &journal);
	assert_int_equal(journal.count, 2);
	assert_string_equal(fetcherd_journal_find(&journal, &oid), H64);
	oid.s[0] = '1';
	assert_null(fetcherd_journal_find(&journal, &oid));
	fetcherd_journal_clear(&journal);
	for (size_t n = 0; n < sizeof(text) - 1; n++) {
		uint8_t *copy = malloc(n + 1);

		memcpy(copy, text, n);
		fetcherd_journal_parse(copy, n, &journal);
		assert_true(journal.count <= 2);
		fetcherd_journal_clear(&journal);
		free(copy);
	}
	assert_null(fetcherd_journal_find(&journal, &oid));
}

/* --- downloads ----------------------------------------------------------------------------------
 */

/* A hub of three files, one of which can be out of order. */
struct hub {
	struct sp_http *http;
	pthread_mutex_t lock;
	int broken; /* the answer to "b" is 503 */
	int lying;  /* the answer to "b" has other bytes */
	unsigned asked[3];
};

static const struct {
	const char *path, *text;
	int lfs;
} files[3] = {{"a.json", "{}", 0}, {"b", "second file", 0}, {"m.safetensors", "weights", 1}};

static void
serve(void *ctx, const struct sp_http_request *request, struct sp_http_reply *reply)
{
	struct hub *hub = ctx;
	const char *name = strrchr(request->path, '/') + 1;
	int broken, lying;

	pthread_mutex_lock(&hub->lock);
	broken = hub->broken;
	lying = hub->lying;
	for (size_t i = 0; i < 3; i++)
		hub->asked[i] += strcmp(files[i].path, name) == 0;
	pthread_mutex_unlock(&hub->lock);
	for (size_t i = 0; i < 3; i++) {
		if (strcmp(files[i].path, name) != 0)
			continue;
		if (i == 1 && broken)
			sp_http_reply_body(reply, 503, "text/plain", "", 0);
		else
			sp_http_reply_body(reply, 200, "application/octet-stream",
			    i == 1 && lying ? "sEcond file" : files[i].text, strlen(files[i].text));
	}
}

static void
make_listing(struct sp_answer_file out[3], struct sp_answer_tree *tree)
{
	struct sp_hash *hash;

	memset(tree, 0, sizeof(*tree));
	memset(out, 0, 3 * sizeof(*out));
	for (size_t i = 0; i < 3; i++) {
		size_t len = strlen(files[i].text);

		hash = sp_git_blob_new(len);
		sp_hash_add(hash, files[i].text, len);
		out[i].oid = sp_git_blob_finish(hash);
		sp_hash_free(&hash);
		out[i].path = (char *)(uintptr_t)files[i].path;
		out[i].size = len;
		out[i].lfs = files[i].lfs;
		if (files[i].lfs)
			out[i].sha256 = sp_sha256_hex(files[i].text, len);
		tree->bytes += len;
	}
	tree->files = out;
	tree->count = 3;
}

static uint64_t progress_done;

static void
on_progress(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
	(void)ctx;
	assert_true(done_bytes <= total_bytes);
	progress_done = done_bytes;
}

/* A hub and a download from it. */
struct fetching {
	struct hub hub;
	struct sp_client_options options;
	struct fetcherd_download d;
	struct sp_answer_file listed[3];
	struct sp_answer_tree listing;
	char *endpoint, *store_dir;
};

static void
fetching_open(struct fetching *f)
{
	struct sp_http_options http = {
	    .listen = "127.0.0.1:0", .threads = 2, .handler = serve, .ctx = &f->hub};

	memset(f, 0, sizeof(*f));
	pthread_mutex_init(&f->hub.lock, NULL);
	ok(sp_http_start(&http, &f->hub.http, &err));
	f->endpoint = sp_xasprintf("http://127.0.0.1:%u", sp_http_port(f->hub.http));
	f->options.endpoint = f->endpoint;
	f->store_dir = sp_xasprintf("%s/store", top);
	make_listing(f->listed, &f->listing);
	f->d = (struct fetcherd_download){.hub = &f->options,
	    .repo = "o/m",
	    .commit = C40,
	    .listing = &f->listing,
	    .store_dir = f->store_dir,
	    .work_dir = top,
	    .parallel = 1,
	    .progress = on_progress};
	ok(sp_store_open(f->store_dir, 1, &f->d.store, &err));
}

static void
fetching_close(struct fetching *f)
{
	sp_store_close(&f->d.store);
	sp_http_stop(&f->hub.http);
	pthread_mutex_destroy(&f->hub.lock);
	free(f->endpoint);
	free(f->store_dir);
}

static void
test_download(void **state)
{
	struct sp_tree tree = {0};
	struct fetching f;
	char *journal;
	FILE *file;

	(void)state;
	fetching_open(&f);
	/* the second of three fails: the third is not begun, the first is kept */
	f.hub.broken = 1;
	assert_int_equal(fetcherd_download(&f.d, &tree, &err), SP_E_UNREACHABLE);
	assert_true(sp_err_may_retry(err.code));
	assert_int_equal(tree.count, 0);
	assert_int_equal(f.hub.asked[0], 1);
	assert_int_equal(f.hub.asked[2], 0);
	/* a crash in the middle of a line of the journal */
	journal = sp_xasprintf("%s/journal", top);
	file = fopen(journal, "a");
	fputs("0123456789abcdef", file);
	assert_int_equal(fclose(file), 0);
	free(journal);
	/* other bytes than the listing says never enter the store */
	f.hub.broken = 0;
	f.hub.lying = 1;
	assert_int_equal(fetcherd_download(&f.d, &tree, &err), SP_E_CORRUPT);
	assert_non_null(strstr(err.msg, "o/m@0123456789ab: b"));
	assert_false(sp_store_has(f.d.store, sp_sha256_hex("sEcond file", 11).s, NULL));
	f.hub.lying = 0;
	f.d.parallel = 3;
	ok(fetcherd_download(&f.d, &tree, &err));
	assert_int_equal(f.hub.asked[0], 1);
	assert_int_equal(f.hub.asked[1], 3);
	assert_int_equal(f.hub.asked[2], 1);
	assert_int_equal(tree.count, 3);
	assert_int_equal(progress_done, f.listing.bytes);
	ok(sp_tree_verify(f.d.store, &tree, &err));
	sp_tree_clear(&tree);
	/* all there: the hub is not asked at all */
	ok(fetcherd_download(&f.d, &tree, &err));
	assert_int_equal(f.hub.asked[0] + f.hub.asked[1] + f.hub.asked[2], 5);
	sp_tree_clear(&tree);
	fetching_close(&f);
}

/* More than the disk can hold is refused before the first byte. */
static void
test_no_room(void **state)
{
	struct sp_tree tree = {0};
	struct fetching f;

	(void)state;
	fetching_open(&f);
	f.listed[1].size = UINT64_C(1) << 60;
	f.listing.bytes += f.listed[1].size;
	assert_int_equal(fetcherd_download(&f.d, &tree, &err), SP_E_NO_SPACE);
	assert_non_null(strstr(err.msg, f.store_dir));
	assert_int_equal(f.hub.asked[0] + f.hub.asked[1] + f.hub.asked[2], 0);
	fetching_close(&f);
}

/* --- both halves, against a registryd -----------------------------------------------------------
 */

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
	free(s->work);
	free(s->source);
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
	put("model/pytorch_model.bin", "x", 0644);
	registryd_close(s.registryd);
	ok(registryd_start(NULL, s.upstream.conf, &s.registryd, &err));
	sp_conf_free(&s.worker.conf);
	{
		char *text = sp_xasprintf("side = \"bastion\"; fetcherd: { endpoint = "
					  "\"http://127.0.0.1:%u\"; };\n",
		    sp_http_port(s.registryd->http));

		s.worker.conf = load_conf("sallyport.conf", text);
		free(text);
	}
	assert_int_equal(run(&s), SP_E_UNSUPPORTED);
	assert_non_null(strstr(err.msg, "pytorch_model.bin"));
	stage_close(&s);
}

/* A claim of the tree with that one file in it, which lies in the store. */
static void
claim_file(struct stage *s, const char *path, int executable)
{
	char *dir = sp_paths_store(s->worker.conf, FETCHERD_SERVICE);
	struct sp_store *store = NULL;
	struct sp_tree tree = {0};
	struct sp_hex blob, digest;

	ok(sp_store_open(dir, 1, &store, &err));
	ok(sp_store_put(store, "x", 1, &blob, &err));
	if (path != NULL)
		ok(sp_tree_add(&tree, path, 1, blob.s, executable, &err));
	ok(sp_tree_save(store, &tree, &digest, &err));
	sp_outcome_clear(&s->outcome);
	sp_outcome_artifact(&s->outcome, "source", digest.s, FETCHERD_SERVICE, 1, 1);
	sp_outcome_detail(&s->outcome, "commit", "%s", C40);
	sp_outcome_detail(&s->outcome, "licence", "mit");
	sp_outcome_detail(&s->outcome, "gated", "no");
	sp_outcome_detail(&s->outcome, "started", "%s", RIG_TIME);
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
	assert_int_equal(SEAL(), SP_E_NOT_FOUND); /* a tree that is not there */
	assert_null(o->attestation);
	sp_outcome_clear(o);
	sp_outcome_artifact(o, "source", nothing.s, FETCHERD_SERVICE, 1, 0);
	sp_outcome_detail(o, "commit", "fedcba9876543210fedcba9876543210fedcba98");
	sp_outcome_detail(o, "licence", "mit");
	sp_outcome_detail(o, "gated", "no");
	sp_outcome_detail(o, "started", "%s", RIG_TIME);
	assert_int_equal(SEAL(), SP_E_INTERNAL); /* another commit than was submitted */
	sp_outcome_clear(o);
	sp_outcome_artifact(o, "source", nothing.s, "quantd", 1, 0);
	assert_int_equal(SEAL(), SP_E_INTERNAL); /* another's store */
	assert_null(o->attestation);
	/* files that the child itself should not have taken */
	claim_file(&s, "a/model.PKL", 0);
	assert_int_equal(SEAL(), SP_E_UNSUPPORTED);
	claim_file(&s, "run.sh", 1);
	assert_int_equal(SEAL(), SP_E_UNSUPPORTED);
	claim_file(&s, NULL, 0);
	assert_int_equal(SEAL(), SP_E_INVALID);
	assert_null(o->attestation);
	claim_file(&s, "config.json", 0);
	assert_int_equal(SEAL(), SP_OK);
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
	    cmocka_unit_test(test_names),
	    cmocka_unit_test(test_journal),
	    T(test_download),
	    T(test_no_room),
	    T(test_step),
	    T(test_step_refusals),
	    T(test_claims),
	    T(test_conf),
	    T(test_token_file),
	};

	unsetenv("http_proxy");
	unsetenv("https_proxy");
	unsetenv("HTTPS_PROXY");
	unsetenv("all_proxy");
	unsetenv("ALL_PROXY");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
