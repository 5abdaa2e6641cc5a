/* rxd_daemon.c -- diode-rxd as it runs: a true release comes over UDP while the daemon, its
 * receiver or the bus die at any moment. The hub is ours, the daemon a process of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/json.h"
#include "base/time.h"
#include "bus/hub.h"
#include "bus/worker.h"
#include "diode-rxd/rxd.h"
#include "diode/send.h"
#include "diode/udp.h"
#include "release_rig.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORKER "diode-rxd@enclave"
#define DEADLINE_MS 60000
#define PULSE_MS 5
#define WEIGHTS 600000 /* bytes: some seconds at the slow rate */
#define FAST (32u << 20)
#define SLOW (256u << 10)
#define OBJECTS 4

/* The daemon: this program under its name. */
static const struct sp_worker_step steps[] = {
    {"receive", NULL, rxd_seal_receive, NULL, NULL},
    {"verify", NULL, rxd_seal_verify, NULL, NULL},
};
static const struct sp_worker_helper helpers[] = {{"receiver", rxd_receive, rxd_confine, "link"}};
static const struct sp_worker_spec daemon_spec = {.service = RXD_SERVICE,
    .summary = "for a test",
    .steps = steps,
    .step_count = 2,
    .slots = 8,
    .helpers = helpers,
    .helper_count = 1,
    .check = rxd_check,
    .open = rxd_open,
    .close = rxd_close};

static struct sp_err err;
static struct rig rig;

struct message {
	struct message *next;
	Sallyport__Envelope *envelope;
};

static struct world {
	char root[40];
	char *conf_file, *objects_dir;
	struct sp_conf *conf;
	struct sp_trust *trust;
	struct sp_key *server, *worker, *link;
	uv_loop_t loop;
	uv_timer_t pulse;
	struct sp_hub *hub;
	struct message *messages;
	uint64_t progress; /* of the lease, as heartbeats say */
	pid_t pid;
	unsigned port, leases;
	struct sp_manifest manifest;
	struct sp_object objects[OBJECTS];
	char *paths[OBJECTS];
	struct sp_hex release, listing;
	struct sp_send *send;
	struct sp_tx *tx;
	struct sp_send_files files;
	_Atomic int sent;
} w;

static void
ok(enum sp_code code)
{
	if (code != SP_OK)
		fail_msg("%s: %s", sp_err_word(code), err.msg);
}

static char *
at(const char *name)
{
	return sp_xasprintf("%s/%s", w.root, name);
}

/* --- the bus --------------------------------------------------------------------------------- */

static void
on_worker(void *ctx, const char *worker, const Sallyport__Envelope *envelope)
{
	size_t len = sallyport__envelope__get_packed_size(envelope);
	struct message *message, **end = &w.messages;
	uint8_t *data = malloc(len);

	(void)ctx;
	assert_string_equal(worker, WORKER);
	if (envelope->body_case == SALLYPORT__ENVELOPE__BODY_HEARTBEAT &&
	    envelope->heartbeat->n_leases > 0)
		w.progress = envelope->heartbeat->leases[0]->done;
	message = sp_xcalloc(1, sizeof(*message));
	sallyport__envelope__pack(envelope, data);
	message->envelope = sallyport__envelope__unpack(NULL, len, data);
	free(data);
	while (*end != NULL)
		end = &(*end)->next;
	*end = message;
}

static void
on_operator(void *ctx, const struct sp_hub_operator *from, const uint8_t *data, size_t len)
{
	(void)ctx, (void)from, (void)data, (void)len;
}

static enum sp_code
admit(void *ctx, const uint8_t key[SP_PUBKEY_LEN], int64_t uid, char name[SP_NAME_MAX + 1],
    struct sp_err *e)
{
	(void)ctx;
	return sp_hub_admit(w.trust, key, uid, name, e);
}

static void
drop_message(void)
{
	struct message *message = w.messages;

	w.messages = message->next;
	sallyport__envelope__free_unpacked(message->envelope, NULL);
	free(message);
}

static void
on_pulse(uv_timer_t *timer)
{
	(void)timer;
}

/* Lets the loop turn until there is a message of that kind at the front, or the condition holds. */
static void
until(Sallyport__Envelope__BodyCase body, int (*condition)(void), const char *what)
{
	int64_t end_ms = sp_time_monotonic_ms() + DEADLINE_MS;

	for (;;) {
		while (w.messages != NULL && w.messages->envelope->body_case != body)
			drop_message();
		if (condition != NULL ? condition() : w.messages != NULL)
			return;
		if (sp_time_monotonic_ms() > end_ms)
			fail_msg("waited in vain for %s", what);
		uv_run(&w.loop, UV_RUN_ONCE);
	}
}

static void
say(Sallyport__Envelope *envelope)
{
	ok(sp_hub_send(w.hub, WORKER, envelope, &err));
}

/* To the message at the front, which goes. */
static void
ack(void)
{
	Sallyport__Envelope envelope;
	Sallyport__Ack body;

	sallyport__envelope__init(&envelope);
	sallyport__ack__init(&body);
	body.ack_seq = w.messages->envelope->seq;
	envelope.body_case = SALLYPORT__ENVELOPE__BODY_ACK;
	envelope.ack = &body;
	say(&envelope);
	drop_message();
}

static void
await_begin(void)
{
	until(SALLYPORT__ENVELOPE__BODY_BEGIN, NULL, "a begin");
	assert_string_equal(w.messages->envelope->begin->job, RIG_JOB);
	assert_string_equal(w.messages->envelope->begin->step, "receive");
	ack();
}

/* Offer, accept, ack: the step runs. */
static void
lease(const char *step)
{
	char id[SP_JOB_ID_LEN + 1], job[] = RIG_JOB, kind[] = "model", name[16];
	char role[] = "release", store[] = RXD_SERVICE;
	Sallyport__Artifact artifact, *artifacts[] = {&artifact};
	Sallyport__Envelope envelope;
	Sallyport__Offer offer;
	Sallyport__Task task;

	snprintf(id, sizeof(id), "%032x", ++w.leases);
	snprintf(name, sizeof(name), "%s", step);
	sallyport__envelope__init(&envelope);
	sallyport__offer__init(&offer);
	sallyport__task__init(&task);
	sallyport__artifact__init(&artifact);
	artifact.role = role;
	artifact.store = store;
	artifact.digest = w.release.s;
	task.lease = id;
	task.job = job;
	task.kind = kind;
	task.step = name;
	task.attempt = 1;
	task.artifacts = artifacts;
	task.n_artifacts = strcmp(step, "verify") == 0;
	offer.task = &task;
	envelope.body_case = SALLYPORT__ENVELOPE__BODY_OFFER;
	envelope.offer = &offer;
	w.progress = 0;
	say(&envelope);
	until(SALLYPORT__ENVELOPE__BODY_ACCEPT, NULL, "an accept");
	ack();
}

static char *
detail(Sallyport__Detail **details, size_t count, const char *key)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(details[i]->key, key) == 0)
			return details[i]->value;
	return NULL;
}

/* The step's result; code "ok" is a Done. */
static void
expect(const char *code, const char *says)
{
	const Sallyport__Result *result;

	until(SALLYPORT__ENVELOPE__BODY_RESULT, NULL, "a result");
	result = w.messages->envelope->result;
	if (result->outcome_case == SALLYPORT__RESULT__OUTCOME_FAILURE) {
		if (strcmp(result->failure->code, code) != 0 ||
		    strstr(result->failure->message, says) == NULL)
			fail_msg("%s: %s", result->failure->code, result->failure->message);
	} else {
		assert_string_equal(code, "ok");
		assert_non_null(detail(result->done->details, result->done->n_details, says));
	}
	ack();
}

static void
expect_taken(void)
{
	char *dir = at("var/lib/sallyport/store/diode-rxd");
	struct sp_tree tree = {0};
	struct sp_store *store;

	lease("receive");
	expect("ok", "repaired_symbols");
	lease("verify");
	expect("ok", "version");
	ok(sp_store_open(dir, 0, &store, &err));
	ok(sp_tree_load(store, w.listing.s, &tree, &err));
	ok(sp_tree_verify(store, &tree, &err));
	assert_true(sp_store_has(store, w.release.s, NULL));
	sp_tree_clear(&tree);
	sp_store_close(&store);
	free(dir);
}

/* --- the daemon ------------------------------------------------------------------------------ */

static int
is_connected(void)
{
	return sp_hub_stats(w.hub).admitted > 0 && w.messages != NULL;
}

static void
daemon_start(void)
{
	char name[] = RXD_SERVICE, f[] = "-f", v[] = "-v", c[] = "-c", r[] = "--root";
	char *argv[] = {name, f, v, c, w.conf_file, r, w.root, NULL}, *log = at("log");
	posix_spawn_file_actions_t actions;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(
	    &actions, STDERR_FILENO, log, O_WRONLY | O_CREAT | O_APPEND, 0600);
	while (w.messages != NULL)
		drop_message();
	assert_int_equal(posix_spawn(&w.pid, "/proc/self/exe", &actions, NULL, argv, environ), 0);
	posix_spawn_file_actions_destroy(&actions);
	free(log);
	until(SALLYPORT__ENVELOPE__BODY_HEARTBEAT, is_connected, "a heartbeat");
}

static int
daemon_end(int signal_number)
{
	int status;

	assert_int_equal(kill(w.pid, signal_number), 0);
	assert_int_equal(waitpid(w.pid, &status, 0), w.pid);
	w.pid = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static pid_t
receiver_pid(void)
{
	char path[64];
	pid_t pid = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)w.pid, (int)w.pid);
	file = fopen(path, "r");
	assert_non_null(file);
	assert_int_equal(fscanf(file, "%d", &pid), 1);
	fclose(file);
	return pid;
}

static int
is_bound(void)
{
	struct sp_udp_receiver *probe = NULL;
	char listen[32];

	snprintf(listen, sizeof(listen), "127.0.0.1:%u", w.port);
	if (sp_udp_receiver_open(listen, 1 << 16, &probe, NULL, NULL) != SP_OK)
		return 1;
	sp_udp_receiver_close(&probe);
	return 0;
}

/* Some of the transfer has come, and the lease says so. */
static int
has_progress(void)
{
	return w.progress > 0;
}

/* --- the sender ------------------------------------------------------------------------------ */

static void
on_sent(void *ctx, enum sp_code code, const struct sp_err *e)
{
	(void)ctx, (void)e;
	w.sent = code == SP_OK ? 1 : -1;
}

static int
is_sent(void)
{
	return w.sent != 0;
}

static void
send_start(uint64_t rate_bytes_per_s)
{
	struct sp_tx_config code;
	char to[32];
	struct sp_send_config config = {.destination = to,
	    .rate_bytes_per_s = rate_bytes_per_s,
	    .pass_pause_ms = 1,
	    .heartbeat_ms = 50,
	    .symbol_size = SP_FRAME_SYMBOL_DEFAULT};

	until(SALLYPORT__ENVELOPE__BODY_BEGIN, is_bound, "the receiver's socket");
	snprintf(to, sizeof(to), "127.0.0.1:%u", w.port);
	memcpy(config.key, sp_key_secret(w.link), SP_LINK_KEY_LEN);
	sp_tx_defaults(&code);
	w.sent = 0;
	w.files = (struct sp_send_files){(const char *const *)w.paths, 0, -1};
	ok(sp_tx_new(&code, &w.manifest, sp_send_files_read, &w.files, &w.tx, &err));
	ok(sp_send_open(&config, &w.send, &err));
	ok(sp_send_start(w.send, w.tx, on_sent, NULL, &err));
}

static void
send_end(void)
{
	sp_send_close(&w.send);
	sp_tx_free(&w.tx);
	sp_send_files_close(&w.files);
}

/* --- a release ------------------------------------------------------------------------------- */

static void
add_object(enum sp_object_kind kind, const void *data, size_t len)
{
	size_t i = w.manifest.count++;

	sp_sha256(data, len, w.objects[i].digest);
	w.objects[i].size = len;
	w.objects[i].kind = kind;
	w.paths[i] = sp_xasprintf("%s/%zu", w.objects_dir, i);
	ok(sp_file_write(w.paths[i], 0600, data, len, &err));
}

/* flipped: the release has a byte that was not signed. */
static void
make_release(int flipped)
{
	const struct rig_deviation whole = {.tree = w.listing.s};
	struct sp_tree tree = {0};
	struct rig_parts parts;
	struct rig_log log;
	uint8_t *weights = malloc(WEIGHTS), *listing;
	char *envelope;
	json_t *bom;
	size_t len;

	for (size_t i = 0; i < WEIGHTS; i++)
		weights[i] = (uint8_t)(i * 2654435761u >> 13);
	memset(&w.manifest, 0, sizeof(w.manifest));
	w.manifest.objects = w.objects;
	strcpy(w.manifest.job, RIG_JOB);
	ok(sp_tree_add(&tree, "config.json", 2, sp_sha256_hex("{}", 2).s, 0, &err));
	ok(sp_tree_add(
	    &tree, "model.safetensors", WEIGHTS, sp_sha256_hex(weights, WEIGHTS).s, 0, &err));
	ok(sp_tree_format(&tree, &listing, &len, &err));
	w.listing = sp_sha256_hex(listing, len);
	rig_parts(&rig, &whole, &parts);
	rig_log(rig_story, &parts, RIG_JOB, RIG_ORIGIN, rig.keys[SP_ROLE_LOG], &log);
	bom = rig_bom(&parts, &tree);
	add_object(SP_OBJECT_TREE, listing, len);
	add_object(SP_OBJECT_BLOB, "{}", 2);
	add_object(SP_OBJECT_BLOB, weights, WEIGHTS);
	envelope = rig_release(&rig, &parts, &log, bom, rig.keys[SP_ROLE_RELEASE], &len, &err);
	assert_non_null(envelope);
	if (flipped)
		envelope[len / 2] = envelope[len / 2] == 'A' ? 'B' : 'A';
	add_object(SP_OBJECT_RELEASE, envelope, len);
	w.release = sp_sha256_hex(envelope, len);
	memcpy(w.manifest.release, w.objects[3].digest, SP_DIGEST_LEN);
	free(envelope);
	json_decref(bom);
	rig_log_free(&log);
	rig_parts_free(&parts);
	sp_tree_clear(&tree);
	free(listing);
	free(weights);
}

/* --- set up ---------------------------------------------------------------------------------- */

static json_t *
worker_entry(const struct sp_key *key, const char *name, const char *service)
{
	char *text = sp_base64_encode(sp_key_public(key)->bytes, SP_PUBKEY_LEN);
	json_t *entry = json_pack(
	    "{s:s, s:s, s:s, s:i}", "key", text, "name", name, "service", service, "uid", -1);

	free(text);
	return entry;
}

/* The rig's document as version 1, then with the bus's workers. */
static void
write_trust(void)
{
	const char *v1 = rig.trust_envelope;
	int64_t now_ms = sp_time_unix_ms();
	char *dir = at("etc/sallyport/trust"), *text, *envelope;
	struct sp_dsse dsse;
	json_t *doc, *workers = json_array();
	size_t len;

	ok(sp_file_mkdirs(dir, 0755, &err));
	ok(sp_trust_init(dir, (const uint8_t *)v1, strlen(v1), rig.fingerprint.s, now_ms, &err));
	ok(sp_dsse_parse((const uint8_t *)v1, strlen(v1), &dsse, &err));
	ok(sp_json_parse(dsse.payload, dsse.payload_len, "trust", &doc, &err));
	json_array_append_new(workers, worker_entry(w.worker, WORKER, RXD_SERVICE));
	json_array_append_new(workers, worker_entry(w.server, "ledgerd@enclave", "ledgerd"));
	json_object_set_new(doc, "workers", workers);
	json_object_set_new(doc, "version", json_integer(2));
	text = sp_json_canonical(doc, &len);
	envelope = rig_envelope(rig.keys[SP_ROLE_ROOT], SP_DSSE_TRUST, text, len);
	ok(sp_trust_update(dir, (const uint8_t *)envelope, strlen(envelope), now_ms, &err));
	ok(sp_trust_load(dir, now_ms, &w.trust, &err));
	free(envelope);
	json_decref(doc);
	sp_dsse_clear(&dsse);
	free(dir);
}

static void
write_keys(void)
{
	char *dir = at("etc/sallyport/keys/diode-rxd"), *path;

	ok(sp_file_mkdirs(dir, 0700, &err));
	path = sp_xasprintf("%s/bus.key", dir);
	ok(sp_key_save(w.worker, path, NULL, &err));
	free(path);
	path = sp_xasprintf("%s/link.key", dir);
	ok(sp_key_save(w.link, path, NULL, &err));
	free(path);
	free(dir);
}

static void
write_conf(void)
{
	struct sp_udp_receiver *nobody = NULL;
	char *run = at("run/sallyport"), *text;

	ok(sp_udp_receiver_open("127.0.0.1:0", 1 << 16, &nobody, NULL, &err));
	w.port = sp_udp_receiver_port(nobody);
	sp_udp_receiver_close(&nobody);
	ok(sp_file_mkdirs(run, 0755, &err));
	w.conf_file = at("etc/sallyport/sallyport.conf");
	text = sp_xasprintf("side = \"enclave\";\n"
			    "ledgerd = { heartbeat_ms = 50; lease_ms = 5000; };\n"
			    "diode-rxd = { listen = \"127.0.0.1:%u\"; idle_timeout_ms = 2000;\n"
			    "grace_ms = 100; spool_max_mib = 64; };\n",
	    w.port);
	ok(sp_file_write(w.conf_file, 0644, text, strlen(text), &err));
	ok(sp_conf_load(w.conf_file, w.root, sp_conf_keys, &w.conf, &err));
	free(text);
	free(run);
}

static int
setup(void **state)
{
	struct sp_hub_spec spec = {.loop = &w.loop,
	    .origin = "sallyport/enclave/test",
	    .admit = admit,
	    .on_worker = on_worker,
	    .on_operator = on_operator};

	(void)state;
	memset(&w, 0, sizeof(w));
	strcpy(w.root, "/tmp/sp-rxd-daemon-XXXXXX");
	assert_non_null(mkdtemp(w.root));
	rig_open(&rig);
	ok(sp_key_new(SP_ROLE_BUS, "ledgerd@enclave", &w.server, &err));
	ok(sp_key_new(SP_ROLE_BUS, WORKER, &w.worker, &err));
	ok(sp_key_new(SP_ROLE_LINK, "link", &w.link, &err));
	w.objects_dir = at("objects");
	ok(sp_file_mkdirs(w.objects_dir, 0700, &err));
	write_trust();
	write_keys();
	write_conf();
	assert_int_equal(uv_loop_init(&w.loop), 0);
	uv_timer_init(&w.loop, &w.pulse);
	uv_timer_start(&w.pulse, on_pulse, PULSE_MS, PULSE_MS);
	spec.conf = w.conf;
	spec.key = w.server;
	ok(sp_hub_open(&spec, &w.hub, &err));
	make_release(0);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	if (w.pid > 0)
		daemon_end(SIGKILL);
	if (w.send != NULL)
		send_end();
	sp_hub_close(&w.hub);
	uv_close((uv_handle_t *)&w.pulse, NULL);
	uv_run(&w.loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&w.loop), 0);
	while (w.messages != NULL)
		drop_message();
	for (size_t i = 0; i < OBJECTS; i++)
		free(w.paths[i]);
	sp_conf_free(&w.conf);
	sp_trust_free(&w.trust);
	sp_key_free(&w.server);
	sp_key_free(&w.worker);
	sp_key_free(&w.link);
	rig_close(&rig);
	free(w.conf_file);
	free(w.objects_dir);
	return sp_file_remove_all(w.root, &err) == SP_OK ? 0 : -1;
}

/* --- tests ----------------------------------------------------------------------------------- */

static void
release_is_taken(void **state)
{
	(void)state;
	daemon_start();
	send_start(FAST);
	await_begin();
	expect_taken();
	/* the result was lost with ledgerd: it is asked for again, and all of it is in the store */
	lease("verify");
	expect("ok", "version");
	assert_int_equal(daemon_end(SIGTERM), 0);
}

/* While the lease of the receive step runs. */
static void
daemon_is_killed(void **state)
{
	(void)state;
	daemon_start();
	send_start(SLOW);
	await_begin();
	lease("receive");
	until(SALLYPORT__ENVELOPE__BODY_RESULT, has_progress, "progress");
	assert_int_equal(daemon_end(SIGKILL), 128 + SIGKILL);
	daemon_start();
	await_begin();
	until(SALLYPORT__ENVELOPE__BODY_BEGIN, is_sent, "the sender");
	send_end();
	/* what was on its way when it died may be lost: then it says so, and a resend brings it */
	send_start(FAST);
	expect_taken();
	assert_int_equal(daemon_end(SIGTERM), 0);
}

static void
receiver_is_killed(void **state)
{
	(void)state;
	daemon_start();
	send_start(SLOW);
	await_begin();
	lease("receive");
	until(SALLYPORT__ENVELOPE__BODY_RESULT, has_progress, "progress");
	assert_int_equal(kill(receiver_pid(), SIGKILL), 0);
	/* the lease goes on with the next receiver, which had to let too much pass meanwhile */
	expect("incomplete", "did not come");
	until(SALLYPORT__ENVELOPE__BODY_BEGIN, is_sent, "the sender");
	assert_null(w.messages);
	send_end();
	send_start(FAST);
	await_begin();
	expect_taken();
	assert_int_equal(daemon_end(SIGTERM), 0);
}

/* The sender stops in the middle; what comes later makes the job begin again, and is enough. */
static void
transfer_is_repaired(void **state)
{
	(void)state;
	daemon_start();
	send_start(SLOW);
	await_begin();
	lease("receive");
	until(SALLYPORT__ENVELOPE__BODY_RESULT, has_progress, "progress");
	sp_send_cancel(w.send);
	expect("incomplete", "send the release again");
	send_end();
	send_start(FAST);
	await_begin();
	expect_taken();
	assert_int_equal(daemon_end(SIGTERM), 0);
}

static void
flipped_release_is_quarantined(void **state)
{
	char *path = at("var/lib/sallyport/state/diode-rxd/quarantine/" RIG_JOB "/reason.json");

	(void)state;
	for (size_t i = 0; i < OBJECTS; i++)
		free(w.paths[i]);
	make_release(1);
	daemon_start();
	send_start(FAST);
	await_begin();
	lease("receive");
	expect("ok", "repaired_symbols");
	assert_int_not_equal(access(path, F_OK), 0);
	lease("verify");
	expect("denied", "check \"release\"");
	assert_int_equal(access(path, F_OK), 0);
	/* killed before ledgerd had the verdict: it is the same one */
	assert_int_equal(daemon_end(SIGKILL), 128 + SIGKILL);
	daemon_start();
	lease("verify");
	expect("denied", "refused before");
	assert_int_equal(daemon_end(SIGTERM), 0);
	free(path);
}

/* A receive step for something that never came, or ended: no wait without end, no thread left. */
static void
nothing_comes(void **state)
{
	(void)state;
	daemon_start();
	lease("receive");
	expect("incomplete", "nothing of this transfer");
	lease("verify");
	expect("incomplete", "release: object");
	lease("receive");
	assert_int_equal(daemon_end(SIGTERM), 0);
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(release_is_taken, setup, teardown),
	    cmocka_unit_test_setup_teardown(daemon_is_killed, setup, teardown),
	    cmocka_unit_test_setup_teardown(receiver_is_killed, setup, teardown),
	    cmocka_unit_test_setup_teardown(transfer_is_repaired, setup, teardown),
	    cmocka_unit_test_setup_teardown(flipped_release_is_quarantined, setup, teardown),
	    cmocka_unit_test_setup_teardown(nothing_comes, setup, teardown),
	};

	if (strcmp(argv[0], RXD_SERVICE) == 0)
		return sp_worker_main(argc, argv, &daemon_spec);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
