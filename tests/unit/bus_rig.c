/* bus_rig.c -- a real hub in this process, real workers in others. */
#include "bus_rig.h"
#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/time.h"
#include "bus/envelope.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zmq.h>

#include <cmocka.h>

#define DEADLINE_MS 30000
#define PULSE_MS 2 /* how often conditions that make no event are looked at */
#define JOB "cccccccccccccccccccccccccccccccc"

/* --- the loop ------------------------------------------------------------------------------------
 */

static void
on_deadline(uv_timer_t *timer)
{
	((struct rig *)timer->data)->late = 1;
}

static void
on_pulse(uv_timer_t *timer)
{
	(void)timer;
}

void
rig_until(struct rig *rig, int (*done)(void *ctx), void *ctx)
{
	rig->late = 0;
	uv_timer_start(&rig->deadline, on_deadline, DEADLINE_MS, 0);
	uv_timer_start(&rig->pulse, on_pulse, PULSE_MS, PULSE_MS);
	while (!done(ctx) && !rig->late)
		uv_run(&rig->loop, UV_RUN_ONCE);
	uv_timer_stop(&rig->deadline);
	uv_timer_stop(&rig->pulse);
	if (rig->late)
		fail_msg("waited %d ms in vain", DEADLINE_MS);
}

/* --- messages ------------------------------------------------------------------------------------
 */

static void
add_message(struct rig *rig, struct rig_message *message)
{
	struct rig_message **at = &rig->messages;

	while (*at != NULL)
		at = &(*at)->next;
	*at = message;
}

void
rig_free(struct rig_message *message)
{
	free(message->worker);
	free(message->data);
	sallyport__envelope__free_unpacked(message->envelope, NULL);
	free(message);
}

static void
on_worker(void *ctx, const char *worker, const Sallyport__Envelope *envelope)
{
	struct rig_message *message = sp_xcalloc(1, sizeof(*message));
	size_t len = sallyport__envelope__get_packed_size(envelope);
	uint8_t *data = sp_xcalloc(len, 1);

	sallyport__envelope__pack(envelope, data);
	message->worker = sp_xstrdup(worker);
	message->envelope = sallyport__envelope__unpack(NULL, len, data);
	free(data);
	add_message(ctx, message);
}

static void
on_operator(void *ctx, const struct sp_hub_operator *from, const uint8_t *data, size_t len)
{
	struct rig_message *message = sp_xcalloc(1, sizeof(*message));

	message->operator= * from;
	message->data = sp_xcalloc(len + 1, 1);
	memcpy(message->data, data, len);
	message->len = len;
	add_message(ctx, message);
}

struct wanted {
	struct rig *rig;
	int operator;
	Sallyport__Envelope__BodyCase body;
};

/* Drops what comes before the message that is waited for. */
static int
has_come(void *ctx)
{
	const struct wanted *w = ctx;
	struct rig_message *m;

	while ((m = w->rig->messages) != NULL) {
		if (w->operator? m->worker == NULL
			       : (m->worker != NULL && m->envelope->body_case == w->body))
			return 1;
		w->rig->messages = m->next;
		rig_free(m);
	}
	return 0;
}

static struct rig_message *
take(struct wanted *wanted)
{
	struct rig_message *message;

	rig_until(wanted->rig, has_come, wanted);
	message = wanted->rig->messages;
	wanted->rig->messages = message->next;
	message->next = NULL;
	return message;
}

struct rig_message *
rig_wait(struct rig *rig, Sallyport__Envelope__BodyCase body)
{
	struct wanted wanted = {rig, 0, body};

	return take(&wanted);
}

struct rig_message *
rig_wait_operator(struct rig *rig)
{
	struct wanted wanted = {rig, 1, SALLYPORT__ENVELOPE__BODY__NOT_SET};

	return take(&wanted);
}

static void
send_ok(struct rig *rig, Sallyport__Envelope *envelope)
{
	struct sp_err err;

	if (sp_hub_send(rig->hub, RIG_WORKER, envelope, &err) != SP_OK)
		fail_msg("%s", err.msg);
}

void
rig_offer(struct rig *rig, const char *lease, const char *step, const char *name)
{
	char *texts[] = {sp_xstrdup(lease), sp_xstrdup(step), sp_xstrdup(name)};
	char job[] = JOB, kind[] = "model";
	Sallyport__Envelope envelope;
	Sallyport__Offer offer;
	Sallyport__Task task;
	size_t i;

	sallyport__envelope__init(&envelope);
	sallyport__offer__init(&offer);
	sallyport__task__init(&task);
	task.lease = texts[0];
	task.step = texts[1];
	task.name = texts[2];
	task.job = job;
	task.kind = kind;
	task.attempt = 1;
	offer.task = &task;
	envelope.body_case = SALLYPORT__ENVELOPE__BODY_OFFER;
	envelope.offer = &offer;
	send_ok(rig, &envelope);
	for (i = 0; i < 3; i++)
		free(texts[i]);
}

void
rig_cancel(struct rig *rig, const char *lease)
{
	char *id = sp_xstrdup(lease);
	Sallyport__Envelope envelope;
	Sallyport__Cancel cancel;

	sallyport__envelope__init(&envelope);
	sallyport__cancel__init(&cancel);
	cancel.lease = id;
	envelope.body_case = SALLYPORT__ENVELOPE__BODY_CANCEL;
	envelope.cancel = &cancel;
	send_ok(rig, &envelope);
	free(id);
}

void
rig_ack(struct rig *rig, uint64_t seq, uint64_t log_seq)
{
	Sallyport__Envelope envelope;
	Sallyport__Ack ack;

	sallyport__envelope__init(&envelope);
	sallyport__ack__init(&ack);
	ack.ack_seq = seq;
	ack.log_seq = log_seq;
	envelope.body_case = SALLYPORT__ENVELOPE__BODY_ACK;
	envelope.ack = &ack;
	send_ok(rig, &envelope);
}

void
rig_refuse(struct rig *rig, uint64_t seq, const char *lease)
{
	char *id = sp_xstrdup(lease), code[] = "denied", message[] = "this is not yours";
	Sallyport__Envelope envelope;
	Sallyport__Refusal refusal;

	sallyport__envelope__init(&envelope);
	sallyport__refusal__init(&refusal);
	refusal.ack_seq = seq;
	refusal.code = code;
	refusal.message = message;
	refusal.lease = id;
	envelope.body_case = SALLYPORT__ENVELOPE__BODY_REFUSAL;
	envelope.refusal = &refusal;
	send_ok(rig, &envelope);
	free(id);
}

void
rig_lease(struct rig *rig, const char *lease, const char *step, const char *name)
{
	struct rig_message *m;

	rig_offer(rig, lease, step, name);
	m = rig_wait(rig, SALLYPORT__ENVELOPE__BODY_ACCEPT);
	assert_string_equal(m->worker, RIG_WORKER);
	assert_string_equal(m->envelope->accept->lease, lease);
	rig_ack(rig, m->envelope->seq, 1);
	rig_free(m);
}

struct rig_message *
rig_result(struct rig *rig, const char *lease)
{
	struct rig_message *m = rig_wait(rig, SALLYPORT__ENVELOPE__BODY_RESULT);

	assert_string_equal(m->worker, RIG_WORKER);
	assert_string_equal(m->envelope->result->lease, lease);
	rig_ack(rig, m->envelope->seq, 2);
	return m;
}

struct rig_message *
rig_do(struct rig *rig, const char *lease, const char *step, const char *name)
{
	rig_lease(rig, lease, step, name);
	return rig_result(rig, lease);
}

const Sallyport__Failure *
rig_failure(const struct rig_message *m)
{
	assert_int_equal(m->envelope->result->outcome_case, SALLYPORT__RESULT__OUTCOME_FAILURE);
	return m->envelope->result->failure;
}

const char *
rig_detail(const struct rig_message *message, const char *key)
{
	const Sallyport__Result *r = message->envelope->result;
	int done = r->outcome_case == SALLYPORT__RESULT__OUTCOME_DONE;
	Sallyport__Detail **details = done ? r->done->details : r->failure->details;
	size_t count = done ? r->done->n_details : r->failure->n_details, i;

	for (i = 0; i < count; i++)
		if (strcmp(details[i]->key, key) == 0)
			return details[i]->value;
	return "";
}

/* --- keys, trust, configuration ------------------------------------------------------------------
 */

static struct sp_key *
new_key(enum sp_role role, const char *name)
{
	struct sp_key *key;
	struct sp_err err;

	if (sp_key_new(role, name, &key, &err) != SP_OK)
		fail_msg("%s", err.msg);
	return key;
}

static json_t *
worker_entry(const struct sp_key *key, const char *name, const char *service, int uid)
{
	char *text = sp_base64_encode(sp_key_public(key)->bytes, SP_PUBKEY_LEN);
	json_t *entry = json_pack(
	    "{s:s, s:s, s:s, s:i}", "key", text, "name", name, "service", service, "uid", uid);

	free(text);
	return entry;
}

static json_t *
root_role(const struct sp_key *root)
{
	char *text = sp_base64_encode(sp_key_public(root)->bytes, SP_PUBKEY_LEN);
	json_t *role = json_pack("{s:{s:[{s:s, s:s, s:s}], s:i}}", "root", "keys", "id",
	    sp_key_public(root)->id.s, "key", text, "name", "root", "threshold", 1);

	free(text);
	return role;
}

static void
write_trust(struct rig *rig)
{
	struct sp_key *root = new_key(SP_ROLE_ROOT, "root");
	char *dir = sp_xasprintf("%s/etc/sallyport/trust", rig->root), *payload, *envelope;
	int64_t now_ms = sp_time_unix_ms();
	struct sp_rfc3339 expires = sp_time_rfc3339(now_ms + 3600000);
	struct sp_hex digest;
	struct sp_err err;
	size_t len, envelope_len;
	json_t *doc;

	doc = json_pack("{s:s, s:o, s:s, s:[o, o, o, o], s:i}", "expires", expires.s, "roles",
	    root_role(root), "type", "sallyport-trust/1", "workers",
	    worker_entry(rig->worker, RIG_WORKER, "fetcherd", (int)getuid()),
	    worker_entry(rig->server, "ledgerd@bastion", "ledgerd", -1),
	    worker_entry(rig->other, RIG_OTHER, "quantd", -1),
	    worker_entry(rig->wrong_uid, RIG_WRONG_UID, "validatord", RIG_STRANGER_UID), "version",
	    1);
	assert_non_null(doc);
	payload = sp_json_canonical(doc, &len);
	digest = sp_sha256_hex(payload, len);
	if (sp_dsse_sign(root, SP_DSSE_TRUST, payload, len, &envelope, &envelope_len, &err) !=
		SP_OK ||
	    sp_file_mkdirs(dir, 0755, &err) != SP_OK ||
	    sp_trust_init(dir, (const uint8_t *)envelope, envelope_len, digest.s, now_ms, &err) !=
		SP_OK ||
	    sp_trust_load(dir, now_ms, &rig->trust, &err) != SP_OK)
		fail_msg("%s", err.msg);
	json_decref(doc);
	free(payload);
	free(envelope);
	free(dir);
	sp_key_free(&root);
}

static void
write_conf(struct rig *rig)
{
	static const char text[] = "side = \"bastion\";\n"
				   "ledgerd = { heartbeat_ms = 50; lease_ms = 30000; };\n";
	char *dir = sp_xasprintf("%s/etc/sallyport", rig->root);
	char *run = sp_xasprintf("%s/run/sallyport", rig->root);
	struct sp_err err;

	rig->conf_file = sp_xasprintf("%s/sallyport.conf", dir);
	if (sp_file_mkdirs(dir, 0755, &err) != SP_OK || sp_file_mkdirs(run, 0755, &err) != SP_OK ||
	    sp_file_write(rig->conf_file, 0644, text, sizeof(text) - 1, &err) != SP_OK ||
	    sp_conf_load(rig->conf_file, rig->root, sp_conf_keys, &rig->conf, &err) != SP_OK)
		fail_msg("%s", err.msg);
	free(dir);
	free(run);
}

/* --- hub -----------------------------------------------------------------------------------------
 */

static enum sp_code
admit(void *ctx, const uint8_t key[SP_PUBKEY_LEN], int64_t uid, char name[SP_NAME_MAX + 1],
    struct sp_err *err)
{
	struct rig *rig = ctx;

	if (rig->deny)
		return sp_err_set(err, SP_E_DENIED, "nobody comes in");
	return sp_hub_admit(rig->trust, key, rig->any_uid ? (int64_t)getuid() : uid, name, err);
}

void
rig_open_hub(struct rig *rig)
{
	struct sp_hub_spec spec = {
	    .loop = &rig->loop,
	    .conf = rig->conf,
	    .key = rig->server,
	    .origin = "sallyport/bastion/test",
	    .admit = admit,
	    .on_worker = on_worker,
	    .on_operator = on_operator,
	    .ctx = rig,
	};
	struct sp_err err;

	if (sp_hub_open(&spec, &rig->hub, &err) != SP_OK)
		fail_msg("%s", err.msg);
}

void
rig_close_hub(struct rig *rig)
{
	sp_hub_close(&rig->hub);
	while (uv_run(&rig->loop, UV_RUN_NOWAIT))
		;
}

void
rig_open(struct rig *rig)
{
	memset(rig, 0, sizeof(*rig));
	strcpy(rig->root, "/tmp/sp-bus-XXXXXX");
	assert_non_null(mkdtemp(rig->root));
	assert_int_equal(uv_loop_init(&rig->loop), 0);
	uv_timer_init(&rig->loop, &rig->deadline);
	uv_timer_init(&rig->loop, &rig->pulse);
	rig->deadline.data = rig;
	rig->server = new_key(SP_ROLE_BUS, "ledgerd@bastion");
	rig->worker = new_key(SP_ROLE_BUS, RIG_WORKER);
	rig->other = new_key(SP_ROLE_BUS, RIG_OTHER);
	rig->wrong_uid = new_key(SP_ROLE_BUS, RIG_WRONG_UID);
	write_trust(rig);
	write_conf(rig);
	rig_open_hub(rig);
}

void
rig_close(struct rig *rig)
{
	struct rig_message *m;

	if (rig->pid > 0) {
		kill(rig->pid, SIGKILL);
		waitpid(rig->pid, NULL, 0);
	}
	uv_close((uv_handle_t *)&rig->deadline, NULL);
	uv_close((uv_handle_t *)&rig->pulse, NULL);
	rig_close_hub(rig);
	assert_int_equal(uv_loop_close(&rig->loop), 0);
	while ((m = rig->messages) != NULL) {
		rig->messages = m->next;
		rig_free(m);
	}
	sp_key_free(&rig->server);
	sp_key_free(&rig->worker);
	sp_key_free(&rig->other);
	sp_key_free(&rig->wrong_uid);
	sp_trust_free(&rig->trust);
	sp_conf_free(&rig->conf);
	assert_int_equal(sp_file_remove_all(rig->root, NULL), SP_OK);
	free(rig->conf_file);
}

/* --- sockets without our worker's manners --------------------------------------------------------
 */

static int
no_linger(void *socket)
{
	int zero = 0;

	return zmq_setsockopt(socket, ZMQ_LINGER, &zero, sizeof(zero));
}

void
raw_open_as(struct rig *rig, struct raw *raw, int type, const struct sp_key *key,
    const uint8_t *server, const char *path)
{
	const char *where = sp_conf_string(rig->conf, path);
	char *endpoint =
	    sp_xasprintf("%s://%s", strcmp(path, "bus.tcp") == 0 ? "tcp" : "ipc", where);

	raw->context = zmq_ctx_new();
	raw->socket = zmq_socket(raw->context, type);
	raw->monitor = zmq_socket(raw->context, ZMQ_PAIR);
	assert_int_equal(no_linger(raw->socket), 0);
	assert_int_equal(zmq_socket_monitor(raw->socket, "inproc://monitor", ZMQ_EVENT_ALL), 0);
	assert_int_equal(zmq_connect(raw->monitor, "inproc://monitor"), 0);
	if (key != NULL) {
		zmq_setsockopt(raw->socket, ZMQ_CURVE_SERVERKEY, server, 32);
		zmq_setsockopt(raw->socket, ZMQ_CURVE_PUBLICKEY, sp_key_public(key)->bytes, 32);
		zmq_setsockopt(raw->socket, ZMQ_CURVE_SECRETKEY, sp_key_secret(key), 32);
	}
	assert_int_equal(zmq_connect(raw->socket, endpoint), 0);
	free(endpoint);
}

void
raw_open(struct rig *rig, struct raw *raw, const struct sp_key *key, const uint8_t *server,
    const char *path)
{
	raw_open_as(rig, raw, ZMQ_DEALER, key, server, path);
}

void
raw_close(struct raw *raw)
{
	/* libzmq leaks the account of what happens after nobody listens to it */
	zmq_socket_monitor(raw->socket, NULL, 0);
	zmq_close(raw->monitor);
	zmq_close(raw->socket);
	zmq_ctx_term(raw->context);
}

int
raw_was_turned_away(void *ctx)
{
	struct raw *raw = ctx;
	uint8_t event[16];
	char address[256];
	uint16_t kind;

	while (zmq_recv(raw->monitor, event, sizeof(event), ZMQ_DONTWAIT) > 0) {
		zmq_recv(raw->monitor, address, sizeof(address), ZMQ_DONTWAIT);
		memcpy(&kind, event, sizeof(kind));
		assert_int_not_equal(kind, ZMQ_EVENT_HANDSHAKE_SUCCEEDED);
		if (kind == ZMQ_EVENT_DISCONNECTED ||
		    kind == ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL ||
		    kind == ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL)
			return 1;
	}
	return 0;
}

int
raw_was_cut_off(void *ctx)
{
	struct raw *raw = ctx;
	uint8_t event[16];
	uint16_t kind = 0;

	while (kind != ZMQ_EVENT_DISCONNECTED &&
	       zmq_recv(raw->monitor, event, sizeof(event), ZMQ_DONTWAIT) > 0) {
		memcpy(&kind, event, sizeof(kind));
		zmq_recv(raw->monitor, event, sizeof(event), ZMQ_DONTWAIT); /* the address */
	}
	return kind == ZMQ_EVENT_DISCONNECTED;
}

/* --- worker processes ----------------------------------------------------------------------------
 */

/* output: file that stdout and stderr are added to. */
static pid_t
start(const char *const *args, const char *output)
{
	char *argv[16] = {sp_xstrdup("fetcherd")};
	posix_spawn_file_actions_t actions;
	size_t n;
	pid_t pid;

	for (n = 0; args[n] != NULL; n++)
		argv[n + 1] = sp_xstrdup(args[n]);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(
	    &actions, STDOUT_FILENO, output, O_WRONLY | O_CREAT | O_APPEND, 0600);
	posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
	assert_int_equal(posix_spawn(&pid, "/proc/self/exe", &actions, NULL, argv, environ), 0);
	posix_spawn_file_actions_destroy(&actions);
	for (n = 0; argv[n] != NULL; n++)
		free(argv[n]);
	return pid;
}

void
rig_start_worker(struct rig *rig, const struct sp_key *key)
{
	const char *const args[] = {"-f", "-v", "-c", rig->conf_file, "--root", rig->root, NULL};
	char *dir = sp_xasprintf("%s/etc/sallyport/keys/fetcherd", rig->root);
	char *path = sp_xasprintf("%s/bus.key", dir);
	struct sp_err err;

	if (sp_file_remove_all(dir, &err) != SP_OK || sp_file_mkdirs(dir, 0700, &err) != SP_OK ||
	    sp_key_save(key, path, NULL, &err) != SP_OK)
		fail_msg("%s", err.msg);
	rig_start_args(rig, args);
	free(dir);
	free(path);
}

void
rig_start_args(struct rig *rig, const char *const *args)
{
	char *log = sp_xasprintf("%s/worker.log", rig->root);

	rig->pid = start(args, log);
	free(log);
}

struct log_text {
	char *file;
	const char *text;
};

static int
has_text(void *ctx)
{
	const struct log_text *want = ctx;
	struct sp_err err;
	uint8_t *data;
	size_t len;
	int found;

	if (sp_file_read(want->file, 1 << 20, &data, &len, &err) != SP_OK)
		return 0;
	found = strstr((const char *)data, want->text) != NULL;
	free(data);
	return found;
}

void
rig_wait_log(struct rig *rig, const char *text)
{
	struct log_text want = {sp_xasprintf("%s/worker.log", rig->root), text};

	rig_until(rig, has_text, &want);
	free(want.file);
}

struct process {
	pid_t pid;
	int status;
};

static int
has_ended(void *ctx)
{
	struct process *p = ctx;

	return waitpid(p->pid, &p->status, WNOHANG) == p->pid;
}

static int
wait_process(struct rig *rig, pid_t pid)
{
	struct process p = {pid, 0};

	rig_until(rig, has_ended, &p);
	return WIFSIGNALED(p.status) ? 128 + WTERMSIG(p.status) : WEXITSTATUS(p.status);
}

int
rig_wait_worker(struct rig *rig)
{
	int status = wait_process(rig, rig->pid);

	rig->pid = 0;
	return status;
}

int
rig_run(struct rig *rig, char **output, const char *const *args)
{
	char *file = sp_xasprintf("%s/output", rig->root);
	int status = wait_process(rig, start(args, file));
	struct sp_err err;
	uint8_t *data;
	size_t len;

	if (sp_file_read(file, 1 << 20, &data, &len, &err) != SP_OK)
		fail_msg("%s", err.msg);
	assert_int_equal(sp_file_remove_all(file, &err), SP_OK);
	*output = (char *)data;
	free(file);
	return status;
}
