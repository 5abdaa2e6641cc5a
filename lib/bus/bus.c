/* bus.c -- a worker's sockets: DEALER to ledgerd, its monitor, SUB for published content. */
#include "base/log.h"
#include "base/time.h"
#include "bus/paths.h"
#include "bus/worker_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE_MAX 64
#define RECONNECT_MS 50 /* libzmq's first pause; doubles */
#define RECONNECT_MAX_MS 1000
#define HANDSHAKE_MS 10000

/* --- key and trust -------------------------------------------------------------------------------
 */

/* Finds the server's key, and that this worker's own is one that ledgerd will let in. */
static enum sp_code
use_trust(struct sp_worker *worker, const struct sp_trust *trust, struct sp_err *err)
{
	const char *side = sp_conf_string(worker->conf, "side");
	const struct sp_pubkey *own = sp_key_public(worker->key);
	const struct sp_trust_worker *entry;
	char *name = sp_xasprintf("ledgerd@%s", side);
	char hex[2 * SP_PUBKEY_LEN + 1];

	entry = sp_trust_worker_by_name(trust, name);
	if (entry != NULL)
		memcpy(worker->server_key, entry->key, SP_PUBKEY_LEN);
	free(name);
	if (entry == NULL)
		return sp_err_set(err, SP_E_CONFIG,
		    "trust document version %lld names no worker \"ledgerd@%s\": is the "
		    "configuration's side right?",
		    (long long)sp_trust_version(trust), side);
	entry = sp_trust_worker_by_key(trust, own->bytes);
	if (entry != NULL && strcmp(entry->service, worker->spec->service) == 0)
		return SP_OK;
	sp_hex_encode(own->bytes, SP_PUBKEY_LEN, hex);
	if (entry == NULL)
		return sp_err_set(err, SP_E_CONFIG,
		    "bus key %s is not among the workers of trust document version %lld: add it "
		    "there, or install the key that is",
		    hex, (long long)sp_trust_version(trust));
	return sp_err_set(err, SP_E_CONFIG,
	    "bus key %s belongs to %s, a %s, in trust document version %lld, not to a %s", hex,
	    entry->name, entry->service, (long long)sp_trust_version(trust), worker->spec->service);
}

static enum sp_code
load_trust(struct sp_worker *worker, struct sp_err *err)
{
	struct sp_trust *trust;
	enum sp_code code = sp_worker_trust(worker, &trust, err);

	if (code != SP_OK)
		return code;
	code = use_trust(worker, trust, err);
	sp_trust_free(&trust);
	return code;
}

enum sp_code
sp_worker_trust(const struct sp_worker *worker, struct sp_trust **trust, struct sp_err *err)
{
	char *dir = sp_paths_trust(worker->conf);
	enum sp_code code = sp_trust_load(dir, sp_time_unix_ms(), trust, err);

	free(dir);
	return code;
}

enum sp_code
sp_bus_prepare(struct sp_worker *worker, struct sp_err *err)
{
	char *path = sp_paths_key(worker->conf, worker->spec->service, "bus");
	enum sp_code code = sp_key_load(path, SP_ROLE_BUS, NULL, &worker->key, err);

	free(path);
	return code == SP_OK ? load_trust(worker, err) : code;
}

/* What to connect to, malloc'd, and what to call it in messages. */
static char *
find_ledgerd(const struct sp_worker *worker, struct sp_err *err)
{
	const char *tcp = sp_conf_string(worker->conf, "bus.connect");

	return tcp != NULL ? sp_zloop_address("bus.connect", tcp, 0, err)
			   : sp_zloop_endpoint(sp_conf_string(worker->conf, "bus.socket"), err);
}

enum sp_code
sp_bus_check(const struct sp_conf *conf, struct sp_err *err)
{
	const char *tcp = sp_conf_string(conf, "bus.connect");
	char *endpoint = tcp != NULL ? sp_zloop_address("bus.connect", tcp, 0, err) : NULL;

	if (tcp != NULL && endpoint == NULL)
		return SP_E_CONFIG;
	free(endpoint);
	return SP_OK;
}

static const char *
name_ledgerd(const struct sp_worker *worker)
{
	const char *tcp = sp_conf_string(worker->conf, "bus.connect");

	return tcp != NULL ? tcp : sp_conf_string(worker->conf, "bus.socket");
}

/* --- what comes in -------------------------------------------------------------------------------
 */

static void
on_envelope(struct sp_worker *worker, Sallyport__Envelope *envelope)
{
	struct sp_worker_event event = {.lease = ""};
	Sallyport__Task *task = NULL;
	struct sp_work *work = NULL;

	switch (envelope->body_case) {
	case SALLYPORT__ENVELOPE__BODY_WELCOME:
		event.kind = SP_EVENT_WELCOME;
		event.heartbeat_ms = envelope->welcome->heartbeat_ms;
		if (!worker->state.welcomed)
			sp_log_info(NULL, "bus: welcomed by %s", envelope->welcome->origin);
		break;
	case SALLYPORT__ENVELOPE__BODY_OFFER:
		task = envelope->offer->task;
		event.kind = SP_EVENT_OFFER;
		event.lease = task->lease;
		if (sp_work_find(worker, task->lease) == NULL) {
			envelope->offer->task = NULL;
			work = sp_work_new(worker, task);
			if (work == NULL)
				return;
			event.lease = work->lease.id;
		}
		break;
	case SALLYPORT__ENVELOPE__BODY_CANCEL:
		event.kind = SP_EVENT_CANCEL;
		event.lease = envelope->cancel->lease;
		sp_log_info(NULL, "bus: lease=%s cancelled: %s", envelope->cancel->lease,
		    envelope->cancel->reason);
		break;
	case SALLYPORT__ENVELOPE__BODY_ACK:
		event.kind = SP_EVENT_ACK;
		event.seq = envelope->ack->ack_seq;
		worker->answer_log_seq = envelope->ack->log_seq;
		break;
	case SALLYPORT__ENVELOPE__BODY_NAMED:
		event.kind = SP_EVENT_ACK;
		event.seq = envelope->named->ack_seq;
		worker->named = envelope->named;
		break;
	case SALLYPORT__ENVELOPE__BODY_COLLECT:
		event.kind = SP_EVENT_COLLECT;
		event.lease = envelope->collect->id;
		worker->collect = envelope->collect;
		break;
	default: /* sp_envelope_unpack lets nothing else through */
		event.kind = SP_EVENT_REFUSAL;
		event.seq = envelope->refusal->ack_seq;
		event.lease = envelope->refusal->lease;
		worker->refusal = envelope->refusal;
		sp_log_warn(NULL, "bus: ledgerd refuses: %s: %s lease=%s", envelope->refusal->code,
		    envelope->refusal->message, envelope->refusal->lease);
		break;
	}
	sp_worker_event(worker, &event);
	worker->refusal = NULL;
	worker->named = NULL;
	worker->collect = NULL;
	worker->answer_log_seq = 0;
	/* an offer that was not taken: there was no slot for it */
	if (work != NULL && sp_worker_step_find(&worker->state, work->lease.id) == NULL)
		sp_work_free(work);
}

static int
on_message(void *ctx, void *socket)
{
	struct sp_worker *worker = ctx;
	Sallyport__Envelope *envelope;
	zmq_msg_t frame;
	struct sp_err err;
	int n = sp_zloop_recv(socket, &frame, 1);

	if (n == 0)
		return 0;
	if (n != 1)
		sp_log_warn(NULL, "bus: message from ledgerd dropped: it has more than one frame");
	else if (sp_envelope_unpack(zmq_msg_data(&frame), zmq_msg_size(&frame), SP_FROM_LEDGERD,
		     &envelope, &err) != SP_OK)
		sp_log_warn(NULL, "bus: message from ledgerd dropped: %s", err.msg);
	else {
		on_envelope(worker, envelope);
		sallyport__envelope__free_unpacked(envelope, NULL);
	}
	sp_zloop_drop(&frame, n, 1);
	return 1;
}

/* libzmq's own account of the connection. First frame: u16 event, u32 value, in host order. */
static int
on_monitor(void *ctx, void *socket)
{
	struct sp_worker *worker = ctx;
	struct sp_worker_event event = {.lease = ""};
	zmq_msg_t frames[2];
	uint16_t kind;
	int n = sp_zloop_recv(socket, frames, 2);

	if (n == 0)
		return 0;
	kind = 0;
	if (n == 2 && zmq_msg_size(&frames[0]) == 6)
		memcpy(&kind, zmq_msg_data(&frames[0]), sizeof(kind));
	sp_zloop_drop(frames, n, 2);
	switch (kind) {
	case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
		event.kind = SP_EVENT_CONNECTED;
		break;
	case ZMQ_EVENT_DISCONNECTED:
		if (worker->state.connected)
			sp_log_warn(NULL, "bus: connection to ledgerd lost: its leases go on");
		event.kind = SP_EVENT_DISCONNECTED;
		break;
	case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
		sp_log_warn(
		    NULL, "bus: ledgerd refuses this worker's key or uid; its log says why");
		event.kind = SP_EVENT_KEY_REFUSED;
		break;
	case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
	case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
		sp_log_warn(NULL,
		    "bus: handshake with ledgerd failed: is %s served by the ledgerd that the "
		    "trust document names?",
		    name_ledgerd(worker));
		event.kind = SP_EVENT_DISCONNECTED;
		break;
	default:
		return 1;
	}
	sp_worker_event(worker, &event);
	return 1;
}

/* Frames: topic, content. Subscriptions are prefixes, topics are whole words. */
static int
on_published(void *ctx, void *socket)
{
	struct sp_worker *worker = ctx;
	const struct sp_topic_sub *t;
	zmq_msg_t frames[2];
	int n = sp_zloop_recv(socket, frames, 2);

	if (n == 0)
		return 0;
	for (t = worker->topics; n == 2 && t != NULL; t = t->next)
		if (zmq_msg_size(&frames[0]) == strlen(t->topic) &&
		    memcmp(zmq_msg_data(&frames[0]), t->topic, strlen(t->topic)) == 0)
			t->fn(t->ctx, zmq_msg_data(&frames[1]), zmq_msg_size(&frames[1]));
	sp_zloop_drop(frames, n, 2);
	return 1;
}

/* --- sockets -------------------------------------------------------------------------------------
 */

static int
set_int(void *socket, int option, int value)
{
	return zmq_setsockopt(socket, option, &value, sizeof(value)) == 0;
}

static int
set_options(void *socket)
{
	int64_t max_bytes = SP_MESSAGE_MAX;

	return set_int(socket, ZMQ_LINGER, 0) && set_int(socket, ZMQ_SNDHWM, QUEUE_MAX) &&
	       set_int(socket, ZMQ_RCVHWM, QUEUE_MAX) &&
	       set_int(socket, ZMQ_RECONNECT_IVL, RECONNECT_MS) &&
	       set_int(socket, ZMQ_RECONNECT_IVL_MAX, RECONNECT_MAX_MS) &&
	       set_int(socket, ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS) &&
	       zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &max_bytes, sizeof(max_bytes)) == 0;
}

/* IMMEDIATE: what cannot be sent now is said again in its newest form, not queued in an old one. */
static int
set_dealer(struct sp_worker *worker, void *socket)
{
	return set_options(socket) && set_int(socket, ZMQ_IMMEDIATE, 1) &&
	       zmq_setsockopt(socket, ZMQ_CURVE_SERVERKEY, worker->server_key, SP_PUBKEY_LEN) ==
		   0 &&
	       zmq_setsockopt(socket, ZMQ_CURVE_PUBLICKEY, sp_key_public(worker->key)->bytes,
		   SP_PUBKEY_LEN) == 0 &&
	       zmq_setsockopt(
		   socket, ZMQ_CURVE_SECRETKEY, sp_key_secret(worker->key), SP_PUBKEY_LEN) == 0;
}

static enum sp_code
zmq_fault(const char *what, struct sp_err *err)
{
	return sp_err_set(err, SP_E_IO, "bus: %s: %s", what, zmq_strerror(zmq_errno()));
}

static enum sp_code
open_monitor(struct sp_worker *worker, void *dealer, struct sp_err *err)
{
	int events = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED |
		     ZMQ_EVENT_HANDSHAKE_FAILED_AUTH | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
		     ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL;
	char endpoint[64];
	void *socket;
	enum sp_code code;

	/* a new name each time: the old one lives until libzmq has got round to closing it */
	snprintf(endpoint, sizeof(endpoint), "inproc://monitor-%u", ++worker->connections);
	if (zmq_socket_monitor(dealer, endpoint, events) != 0)
		return zmq_fault("monitor", err);
	socket = zmq_socket(worker->context, ZMQ_PAIR);
	if (socket == NULL || !set_int(socket, ZMQ_LINGER, 0) || zmq_connect(socket, endpoint) != 0)
		code = zmq_fault("monitor", err);
	else
		code =
		    sp_zloop_open(&worker->loop, socket, on_monitor, worker, &worker->monitor, err);
	if (code != SP_OK && socket != NULL)
		zmq_close(socket);
	return code;
}

enum sp_code
sp_bus_open(struct sp_worker *worker, struct sp_err *err)
{
	char *endpoint = find_ledgerd(worker, err);
	enum sp_code code;
	void *socket;

	if (endpoint == NULL)
		return SP_E_CONFIG;
	if (worker->context == NULL)
		worker->context = zmq_ctx_new();
	socket = worker->context != NULL ? zmq_socket(worker->context, ZMQ_DEALER) : NULL;
	if (socket == NULL || !set_dealer(worker, socket) ||
	    !set_int(socket, ZMQ_IPV6, sp_zloop_is_ipv6(endpoint)))
		code = zmq_fault("socket", err);
	else
		code = open_monitor(worker, socket, err);
	if (code == SP_OK && zmq_connect(socket, endpoint) != 0)
		code = zmq_fault(name_ledgerd(worker), err);
	if (code == SP_OK)
		code =
		    sp_zloop_open(&worker->loop, socket, on_message, worker, &worker->dealer, err);
	free(endpoint);
	if (code == SP_OK) {
		worker->dealer_socket = socket;
		return SP_OK;
	}
	if (socket != NULL)
		zmq_close(socket);
	sp_zloop_close(&worker->monitor);
	return code;
}

enum sp_code
sp_bus_subscribe(struct sp_worker *worker, struct sp_err *err)
{
	const char *path = sp_conf_string(worker->conf, "bus.snapshots");
	const struct sp_topic_sub *t;
	enum sp_code code = SP_OK;
	char *endpoint;
	void *socket;

	if (worker->topics == NULL)
		return SP_OK;
	if (sp_conf_string(worker->conf, "bus.connect") != NULL)
		return sp_err_set(err, SP_E_CONFIG,
		    "bus.connect is set, but %s needs what ledgerd publishes, which does not leave "
		    "its "
		    "host: run it there",
		    worker->spec->service);
	endpoint = sp_zloop_endpoint(path, err);
	if (endpoint == NULL)
		return SP_E_CONFIG;
	socket = zmq_socket(worker->context, ZMQ_SUB);
	if (socket == NULL || !set_options(socket))
		code = zmq_fault("socket", err);
	for (t = worker->topics; code == SP_OK && t != NULL; t = t->next)
		if (zmq_setsockopt(socket, ZMQ_SUBSCRIBE, t->topic, strlen(t->topic)) != 0)
			code = zmq_fault(t->topic, err);
	if (code == SP_OK && zmq_connect(socket, endpoint) != 0)
		code = zmq_fault(path, err);
	if (code == SP_OK)
		code = sp_zloop_open(
		    &worker->loop, socket, on_published, worker, &worker->subscriber, err);
	free(endpoint);
	if (code != SP_OK && socket != NULL)
		zmq_close(socket);
	return code;
}

static void
close_dealer(struct sp_worker *worker)
{
	if (worker->dealer_socket != NULL)
		zmq_socket_monitor(worker->dealer_socket, NULL, 0);
	worker->dealer_socket = NULL;
	sp_zloop_close(&worker->monitor);
	sp_zloop_close(&worker->dealer);
}

void
sp_bus_reopen(struct sp_worker *worker)
{
	struct sp_err err;

	sp_log_warn(NULL,
	    "bus: no answer from ledgerd at %s: is it running? connecting anew, with the trust "
	    "document as it is now",
	    name_ledgerd(worker));
	close_dealer(worker);
	/* when that fails, the next attempt is due as for a connection that was made in vain */
	if (load_trust(worker, &err) != SP_OK || sp_bus_open(worker, &err) != SP_OK)
		sp_log_error(NULL, "%s", err.msg);
}

void
sp_bus_close(struct sp_worker *worker)
{
	close_dealer(worker);
	sp_zloop_close(&worker->subscriber);
	if (worker->context != NULL)
		zmq_ctx_term(worker->context);
	worker->context = NULL;
	sp_key_free(&worker->key);
}

enum sp_code
sp_bus_send(
    struct sp_worker *worker, Sallyport__Envelope *envelope, uint64_t seq, struct sp_err *err)
{
	size_t len, events_len = sizeof(int);
	uint8_t *data;
	enum sp_code code;
	int events, rc;

	if (worker->dealer_socket == NULL)
		return sp_err_set(err, SP_E_UNREACHABLE, "not connected to ledgerd");
	envelope->seq = seq;
	code = sp_envelope_pack(envelope, SP_FROM_WORKER, &data, &len, err);
	if (code != SP_OK)
		return code;
	/* makes libzmq look at its mailbox: a connection made just now counts */
	zmq_getsockopt(worker->dealer_socket, ZMQ_EVENTS, &events, &events_len);
	rc = zmq_send(worker->dealer_socket, data, len, ZMQ_DONTWAIT);
	free(data);
	if (rc < 0)
		return sp_err_set(err, SP_E_UNREACHABLE, "not connected to ledgerd");
	return SP_OK;
}
