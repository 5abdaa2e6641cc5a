/*
 * hub.c -- ledgerd's end of the bus.
 *
 * ROUTER options. No ZMQ_ROUTER_HANDOVER: a peer may claim a routing id of its choice, and must not
 * get another's messages that way. Our workers claim none, so the ids are libzmq's own and a
 * reconnect has a new one; the peers table below follows it. ZMQ_ROUTER_MANDATORY, so that a
 * message for a peer that is gone is an error here and not silence.
 */
#include "bus/hub.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/time.h"
#include "bus/envelope.h"
#include "bus/parts.h"
#include "bus/zap.h"
#include "bus/zloop.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SOCKET_MODE 0660
#define TOPICS_MAX 16
#define PEERS_MAX 4096	   /* workers ever seen: more than any trust document names */
#define RECEIVED_MAX 16	   /* messages of one peer held here: they may be SP_REQUEST_MAX each */
#define OVERSIZE 4	   /* up to so many times too large is read, to be told from whom it is */
#define QUEUE_MAX 64	   /* messages for one peer that does not read */
#define LINGER_MS 500	   /* for the last acknowledgements, at the end */
#define HANDSHAKE_MS 10000 /* a connection that has not said who it is by then is closed */
#define COMPLAINTS_MAX 20  /* log lines about what others do wrong, each second */
#define MONITOR "inproc://workers-monitor"
#define SUBSCRIPTION_MAX 1024 /* bytes of one; it is a topic's name, or a command of ZMTP's */

struct route {
	uint8_t id[255];
	size_t len;
};

struct peer {
	char *name;
	struct route route;
	int64_t heard_ms;
	struct route rival; /* that was told last to wait for this name */
	struct sp_parts parts;
};

struct topic {
	char name[SP_BUS_WORD_MAX + 1];
	uint8_t *content;
	size_t len;
	int wanted; /* somebody has just subscribed */
};

struct sp_hub {
	void *context;
	struct sp_zap *zap;
	struct sp_zloop *workers, *operators, *snapshots, *monitor;
	void *workers_socket, *operators_socket, *snapshots_socket; /* borrowed from the three */
	sp_hub_admit_fn *admit;
	sp_hub_worker_fn *on_worker;
	sp_hub_operator_fn *on_operator;
	void *ctx;
	uint32_t heartbeat_ms, lease_ms;
	char *origin;
	uint64_t seq;
	struct peer *peers;
	size_t peer_count;
	struct topic topics[TOPICS_MAX];
	size_t topic_count;
	struct sp_hub_stats stats;
	int64_t complaints_s; /* the second that complaints counts */
	unsigned complaints;
};

/* --- complaints ----------------------------------------------------------------------------------
 */

/* Who sends rubbish, or connects, as fast as it can must not fill the disk with our log. */
static int
may_log(struct sp_hub *hub)
{
	int64_t now_s = sp_time_monotonic_ms() / 1000;

	if (now_s != hub->complaints_s) {
		if (hub->complaints > COMPLAINTS_MAX)
			sp_log_warn(NULL, "bus: %u more of such lines left out in that second",
			    hub->complaints - COMPLAINTS_MAX);
		hub->complaints_s = now_s;
		hub->complaints = 0;
	}
	return ++hub->complaints <= COMPLAINTS_MAX;
}

static void
complain(struct sp_hub *hub, const char *kind, const char *who, const char *why)
{
	hub->stats.malformed++;
	if (may_log(hub))
		sp_log_warn(NULL, "bus: message from %s %s dropped: %s", kind, who, why);
}

/* --- workers -------------------------------------------------------------------------------------
 */

static struct peer *
find_peer(const struct sp_hub *hub, const char *name)
{
	size_t i;

	for (i = 0; i < hub->peer_count; i++)
		if (strcmp(hub->peers[i].name, name) == 0)
			return &hub->peers[i];
	return NULL;
}

static int
same_route(const struct route *route, zmq_msg_t *frame)
{
	return route->len == zmq_msg_size(frame) &&
	       memcmp(route->id, zmq_msg_data(frame), route->len) == 0;
}

static void
set_route(struct route *route, zmq_msg_t *frame)
{
	route->len = zmq_msg_size(frame);
	memcpy(route->id, zmq_msg_data(frame), route->len);
}

/* [routing][data] without waiting. */
static enum sp_code
send_routed(void *socket, const uint8_t *routing, size_t routing_len, const void *data, size_t len,
    struct sp_err *err)
{
	/* with ROUTER_MANDATORY the first frame already fails when the peer is gone or does not
	 * read; what follows it belongs to the same message and cannot */
	if (zmq_send(socket, routing, routing_len, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0 ||
	    zmq_send(socket, data, len, ZMQ_DONTWAIT) < 0)
		return sp_err_set(err, SP_E_UNREACHABLE, "%s",
		    zmq_errno() == EAGAIN ? "does not read its messages" : "is not connected");
	return SP_OK;
}

static enum sp_code
send_envelope(
    struct sp_hub *hub, const struct route *to, Sallyport__Envelope *envelope, struct sp_err *err)
{
	enum sp_code code;
	uint8_t *data;
	size_t len;

	envelope->seq = ++hub->seq;
	code = sp_envelope_pack(envelope, SP_FROM_LEDGERD, &data, &len, err);
	if (code != SP_OK)
		return code;
	code = send_routed(hub->workers_socket, to->id, to->len, data, len, err);
	free(data);
	return code;
}

/* 0 when the connection is gone; one that does not read is still there. */
static int
welcome(struct sp_hub *hub, const struct route *to)
{
	Sallyport__Envelope envelope;
	Sallyport__Welcome body;
	struct sp_err err;
	int gone;

	sallyport__envelope__init(&envelope);
	sallyport__welcome__init(&body);
	body.heartbeat_ms = hub->heartbeat_ms;
	body.lease_ms = hub->lease_ms;
	body.origin = hub->origin;
	envelope.body_case = SALLYPORT__ENVELOPE__BODY_WELCOME;
	envelope.welcome = &body;
	if (send_envelope(hub, to, &envelope, &err) == SP_OK)
		return 1;
	gone = zmq_errno() != EAGAIN;
	sp_log_debug(NULL, "bus: welcome: %s", err.msg);
	return !gone;
}

static void
refuse(struct sp_hub *hub, const struct route *to, uint64_t seq, const struct sp_err *why)
{
	char *code = sp_xstrdup(sp_err_word(why->code)), *message = sp_xstrdup(why->msg);
	Sallyport__Envelope envelope;
	Sallyport__Refusal body;
	struct sp_err err;

	sallyport__envelope__init(&envelope);
	sallyport__refusal__init(&body);
	body.ack_seq = seq;
	body.code = code;
	body.message = message;
	envelope.body_case = SALLYPORT__ENVELOPE__BODY_REFUSAL;
	envelope.refusal = &body;
	if (send_envelope(hub, to, &envelope, &err) != SP_OK)
		sp_log_debug(NULL, "bus: refusal: %s", err.msg);
	free(code);
	free(message);
}

static struct peer *
add_peer(struct sp_hub *hub, const char *name)
{
	struct peer *peer;

	if (hub->peer_count == PEERS_MAX)
		return NULL;
	hub->peers = sp_xrealloc(hub->peers, hub->peer_count + 1, sizeof(*hub->peers));
	peer = &hub->peers[hub->peer_count++];
	memset(peer, 0, sizeof(*peer));
	peer->name = sp_xstrdup(name);
	return peer;
}

/* Whether the name is another connection's; the one that asks is told so, once. It repeats what it
 * has to say when it is welcomed at last. */
static int
is_taken(struct sp_hub *hub, struct peer *peer, zmq_msg_t *routing, int64_t now_ms)
{
	struct sp_err why;

	if (peer->route.len == 0 || now_ms - peer->heard_ms >= hub->lease_ms / 2 ||
	    !welcome(hub, &peer->route))
		return 0;
	if (same_route(&peer->rival, routing))
		return 1;
	set_route(&peer->rival, routing);
	hub->stats.rivals++;
	sp_err_set(&why, SP_E_EXISTS,
	    "another process has the key of %s, and is connected: this one is not listened to "
	    "while "
	    "that is so. Give each worker a key and a name of its own",
	    peer->name);
	refuse(hub, &peer->rival, 0, &why);
	if (may_log(hub))
		sp_log_warn(NULL,
		    "bus: a second process with the key of %s: it waits until the first has gone",
		    peer->name);
	return 1;
}

/* The peer whose message this is, answers go to its connection; NULL when it is not to be heard. */
static struct peer *
note_peer(struct sp_hub *hub, const char *name, zmq_msg_t *routing)
{
	int64_t now_ms = sp_time_monotonic_ms();
	struct peer *peer = find_peer(hub, name);

	if (peer == NULL)
		peer = add_peer(hub, name);
	if (peer == NULL) {
		complain(hub, "worker", name, "too many workers");
		return NULL;
	}
	if (!same_route(&peer->route, routing)) {
		if (is_taken(hub, peer, routing, now_ms))
			return NULL;
		if (may_log(hub))
			sp_log_info(NULL, "bus: %s is connected", name);
		set_route(&peer->route, routing);
		peer->rival.len = 0;
		sp_parts_clear(&peer->parts);
	}
	peer->heard_ms = now_ms;
	return peer;
}

/* 1: publish holds the whole content now, which is the peer's. Other parts are answered here. */
static int
join_parts(struct sp_hub *hub, struct peer *peer, uint64_t seq, Sallyport__Publish *publish)
{
	Sallyport__Envelope envelope;
	Sallyport__Ack ack;
	struct sp_err err;
	int whole;

	if (publish->content.len == publish->total)
		return 1;
	if (sp_parts_add(&peer->parts, publish, &whole, &err) != SP_OK) {
		sp_log_warn(NULL, "bus: %s: %s", peer->name, err.msg);
		refuse(hub, &peer->route, seq, &err);
		return 0;
	}
	if (whole) {
		free(publish->content.data);
		publish->content.data = peer->parts.data;
		publish->content.len = peer->parts.len;
		peer->parts.data = NULL;
		sp_parts_clear(&peer->parts);
		return 1;
	}
	sallyport__envelope__init(&envelope);
	sallyport__ack__init(&ack);
	ack.ack_seq = seq;
	envelope.body_case = SALLYPORT__ENVELOPE__BODY_ACK;
	envelope.ack = &ack;
	if (send_envelope(hub, &peer->route, &envelope, &err) != SP_OK)
		sp_log_debug(NULL, "bus: acknowledgement: %s", err.msg);
	return 0;
}

/* The user of a connection, libzmq's User-Id of its messages: KEY:UID, the key in hex. */
static void
put_user(char user[SP_NAME_MAX + 1], const uint8_t key[SP_PUBKEY_LEN], int64_t uid)
{
	snprintf(user, SP_NAME_MAX + 1, "%s:%lld", sp_hex_of(key).s, (long long)uid);
}

/* Whose message it is now: the trust document may be another than when the connection was made.
 * Where nobody's, name is the user. */
static enum sp_code
name_of(struct sp_hub *hub, const char *user, char name[SP_NAME_MAX + 1], struct sp_err *err)
{
	uint8_t key[SP_PUBKEY_LEN];
	struct sp_hex hex;
	enum sp_code code;

	snprintf(hex.s, sizeof(hex.s), "%s", user);
	if (sp_hex_decode(hex.s, key, sizeof(key)) != SP_OK || user[SP_HEX_LEN] != ':')
		code = sp_err_set(err, SP_E_INTERNAL, "its connection's user is none of ours");
	else
		code =
		    hub->admit(hub->ctx, key, strtoll(user + SP_HEX_LEN + 1, NULL, 10), name, err);
	if (code != SP_OK)
		snprintf(name, SP_NAME_MAX + 1, "%s", user);
	return code;
}

static void
turn_away(struct sp_hub *hub, const char *name, zmq_msg_t *routing, uint64_t seq,
    const struct sp_err *why)
{
	struct route route;

	complain(hub, "worker", name, why->msg);
	set_route(&route, routing);
	refuse(hub, &route, seq, why);
}

/* denied: why it is nobody's, NULL when it is the worker's. */
static void
take_from_worker(struct sp_hub *hub, const char *name, const struct sp_err *denied,
    zmq_msg_t *routing, zmq_msg_t *data)
{
	Sallyport__Envelope *envelope;
	struct peer *peer = NULL;
	struct sp_err err;
	int heard;

	if (sp_envelope_unpack(
		zmq_msg_data(data), zmq_msg_size(data), SP_FROM_WORKER, &envelope, &err) != SP_OK) {
		complain(hub, "worker", name, err.msg);
		return;
	}
	if (denied != NULL)
		turn_away(hub, name, routing, envelope->seq, denied);
	else
		peer = note_peer(hub, name, routing);
	heard = peer != NULL;
	if (heard && envelope->body_case == SALLYPORT__ENVELOPE__BODY_HEARTBEAT)
		welcome(hub, &peer->route);
	if (heard && envelope->body_case == SALLYPORT__ENVELOPE__BODY_PUBLISH)
		heard = join_parts(hub, peer, envelope->seq, envelope->publish);
	if (heard)
		hub->on_worker(hub->ctx, name, envelope);
	sallyport__envelope__free_unpacked(envelope, NULL);
}

/* The User-Id of our own ZAP reply; libzmq lets nothing that the peer says take its place. */
static const char *
sender_of(zmq_msg_t *frame)
{
	const char *name = zmq_msg_gets(frame, "User-Id");

	return name != NULL && name[0] != '\0' ? name : NULL;
}

static int
on_worker_message(void *ctx, void *socket)
{
	struct sp_hub *hub = ctx;
	char name[SP_NAME_MAX + 1];
	zmq_msg_t frames[2];
	const char *user;
	struct sp_err err;
	enum sp_code code;
	int n = sp_zloop_recv(socket, frames, 2);

	if (n == 0)
		return 0;
	user = n >= 2 ? sender_of(&frames[1]) : NULL;
	if (user == NULL)
		complain(hub, "worker", "(not known)", "its connection has no user");
	else {
		code = name_of(hub, user, name, &err);
		if (n != 2)
			complain(hub, "worker", name, "it has more than one frame");
		else
			take_from_worker(
			    hub, name, code != SP_OK ? &err : NULL, &frames[0], &frames[1]);
	}
	sp_zloop_drop(frames, n, 2);
	return 1;
}

enum sp_code
sp_hub_send(
    struct sp_hub *hub, const char *worker, Sallyport__Envelope *envelope, struct sp_err *err)
{
	const struct peer *peer = find_peer(hub, worker);
	enum sp_code code;

	if (peer == NULL) {
		hub->stats.unsent++;
		return sp_err_set(err, SP_E_UNREACHABLE, "worker %s is not connected", worker);
	}
	code = send_envelope(hub, &peer->route, envelope, err);
	if (code != SP_OK && code != SP_E_UNREACHABLE)
		return code;
	if (code == SP_OK)
		return SP_OK;
	hub->stats.unsent++;
	return sp_err_prefix(err, "worker %s", worker);
}

/* --- operators -----------------------------------------------------------------------------------
 */

static int
on_operator_message(void *ctx, void *socket)
{
	struct sp_hub *hub = ctx;
	struct sp_hub_operator from;
	zmq_msg_t frames[2];
	const char *who;
	int n = sp_zloop_recv(socket, frames, 2);

	if (n == 0)
		return 0;
	memset(&from, 0, sizeof(from));
	who = n >= 2 ? sender_of(&frames[1]) : NULL;
	if (who == NULL || !sp_zap_parse_peer(who, &from.uid, &from.gid, &from.pid))
		complain(hub, "operator", "(not known)", "its connection has no user id");
	else if (n != 2)
		complain(hub, "operator", who, "it has more than one frame");
	else {
		from.routing_len = zmq_msg_size(&frames[0]);
		memcpy(from.routing, zmq_msg_data(&frames[0]), from.routing_len);
		hub->on_operator(
		    hub->ctx, &from, zmq_msg_data(&frames[1]), zmq_msg_size(&frames[1]));
	}
	sp_zloop_drop(frames, n, 2);
	return 1;
}

enum sp_code
sp_hub_reply(struct sp_hub *hub, const struct sp_hub_operator *to, const void *data, size_t len,
    struct sp_err *err)
{
	if (len > SP_MESSAGE_MAX)
		return sp_err_set(err, SP_E_LIMIT,
		    "reply of %zu bytes: larger than the %u that a message may have", len,
		    SP_MESSAGE_MAX);
	if (send_routed(hub->operators_socket, to->routing, to->routing_len, data, len, err) ==
	    SP_OK)
		return SP_OK;
	return sp_err_prefix(err, "operator with uid %lld", (long long)to->uid);
}

/* --- published content ---------------------------------------------------------------------------
 */

/* A subscriber that does not read loses messages (XPUB drops them); its next connection brings it
 * the newest again. */
static void
send_topic(struct sp_hub *hub, struct topic *topic)
{
	topic->wanted = 0;
	if (zmq_send(hub->snapshots_socket, topic->name, strlen(topic->name),
		ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0 ||
	    zmq_send(hub->snapshots_socket, topic->content, topic->len, ZMQ_DONTWAIT) < 0)
		sp_log_warn(NULL, "bus: topic %s not published: %s", topic->name,
		    zmq_strerror(zmq_errno()));
}

/* Subscriptions: byte 1 (on) or 0 (off), then the prefix of the topics. However many come in one
 * turn, each topic is sent once: to all who have it, since XPUB cannot tell them apart. */
static int
on_subscription(void *ctx, void *socket)
{
	struct sp_hub *hub = ctx;
	zmq_msg_t frame;
	const uint8_t *data;
	size_t len, i;
	int n, got;

	for (got = 0; got < SP_ZLOOP_TURN_MAX; got++) {
		n = sp_zloop_recv(socket, &frame, 1);
		if (n == 0)
			break;
		data = zmq_msg_data(&frame);
		len = zmq_msg_size(&frame);
		for (i = 0; len > 0 && data[0] == 1 && i < hub->topic_count; i++)
			if (len - 1 <= strlen(hub->topics[i].name) &&
			    memcmp(hub->topics[i].name, data + 1, len - 1) == 0)
				hub->topics[i].wanted = 1;
		sp_zloop_drop(&frame, n, 1);
	}
	for (i = 0; i < hub->topic_count; i++)
		if (hub->topics[i].wanted)
			send_topic(hub, &hub->topics[i]);
	return got > 0;
}

static struct topic *
find_topic(struct sp_hub *hub, const char *name, struct sp_err *err)
{
	struct topic *topic;
	size_t i;

	for (i = 0; i < hub->topic_count; i++)
		if (strcmp(hub->topics[i].name, name) == 0)
			return &hub->topics[i];
	if (!sp_bus_is_word(name)) {
		sp_err_set(err, SP_E_INVALID, "topic is not 1 to %d of [a-z0-9-]", SP_BUS_WORD_MAX);
		return NULL;
	}
	if (hub->topic_count == TOPICS_MAX) {
		sp_err_set(err, SP_E_LIMIT, "topic %s: there are %d already", name, TOPICS_MAX);
		return NULL;
	}
	topic = &hub->topics[hub->topic_count++];
	snprintf(topic->name, sizeof(topic->name), "%s", name);
	return topic;
}

enum sp_code
sp_hub_publish(
    struct sp_hub *hub, const char *topic, const void *content, size_t len, struct sp_err *err)
{
	struct sp_err mine;
	struct topic *t;

	if (err == NULL)
		err = &mine;
	if (len == 0 || len > SP_MESSAGE_MAX)
		return sp_err_set(err, SP_E_LIMIT, "topic %s: content is not 1 to %u bytes", topic,
		    SP_MESSAGE_MAX);
	t = find_topic(hub, topic, err);
	if (t == NULL)
		return err->code;
	t->content = sp_xrealloc(t->content, len, 1);
	memcpy(t->content, content, len);
	t->len = len;
	send_topic(hub, t);
	return SP_OK;
}

/* --- who may come in -----------------------------------------------------------------------------
 */

enum sp_code
sp_hub_admit(const struct sp_trust *trust, const uint8_t key[SP_PUBKEY_LEN], int64_t uid,
    char name[SP_NAME_MAX + 1], struct sp_err *err)
{
	const struct sp_trust_worker *worker = sp_trust_worker_by_key(trust, key);

	if (worker == NULL)
		return sp_err_set(err, SP_E_DENIED,
		    "its key is not among the workers of trust document version %lld",
		    (long long)sp_trust_version(trust));
	if (strcmp(worker->service, "ledgerd") == 0)
		return sp_err_set(err, SP_E_DENIED, "%s is not a worker: that key is the bus's own",
		    worker->name);
	if (worker->uid >= 0 && uid < 0)
		return sp_err_set(err, SP_E_DENIED,
		    "%s must run as uid %lld on this host, but its connection shows no uid",
		    worker->name, (long long)worker->uid);
	if (worker->uid >= 0 && worker->uid != uid)
		return sp_err_set(err, SP_E_DENIED,
		    "%s must run as uid %lld, but its process has uid %lld", worker->name,
		    (long long)worker->uid, (long long)uid);
	snprintf(name, SP_NAME_MAX + 1, "%s", worker->name);
	return SP_OK;
}

/* The ZAP handler's question. user receives what libzmq attaches to each message. */
static enum sp_code
on_zap(void *ctx, const struct sp_zap_request *request, char *user, struct sp_err *err)
{
	struct sp_hub *hub = ctx;
	char name[SP_NAME_MAX + 1];
	enum sp_code code;

	if (strcmp(request->domain, "operators") == 0 && request->curve_key == NULL) {
		if (request->uid < 0)
			return sp_err_set(err, SP_E_DENIED, "an operator's process has no uid");
		snprintf(user, SP_NAME_MAX + 1, "%s", request->address);
		return SP_OK;
	}
	if (strcmp(request->domain, "workers") != 0 || request->curve_key == NULL)
		return sp_err_set(err, SP_E_DENIED, "wrong mechanism for this socket");
	code = hub->admit(hub->ctx, request->curve_key, request->uid, name, err);
	if (code == SP_OK) {
		put_user(user, request->curve_key, request->uid);
		hub->stats.admitted++;
		return SP_OK;
	}
	hub->stats.refused++;
	if (may_log(hub))
		sp_log_warn(NULL, "bus: connection from %s with key %s refused: %s",
		    request->address, sp_hex_of(request->curve_key).s, err->msg);
	return code;
}

/* --- sockets -------------------------------------------------------------------------------------
 */

static int
set_int(void *socket, int option, int value)
{
	return zmq_setsockopt(socket, option, &value, sizeof(value)) == 0;
}

/* max_bytes: of what comes in. */
static int
set_common(void *socket, int64_t max_bytes)
{
	return zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &max_bytes, sizeof(max_bytes)) == 0 &&
	       set_int(socket, ZMQ_LINGER, LINGER_MS) && set_int(socket, ZMQ_SNDHWM, QUEUE_MAX) &&
	       set_int(socket, ZMQ_RCVHWM, RECEIVED_MAX) &&
	       set_int(socket, ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS);
}

static int
set_router(void *socket, const char *domain, int64_t max_bytes)
{
	return set_common(socket, max_bytes) && set_int(socket, ZMQ_ROUTER_MANDATORY, 1) &&
	       zmq_setsockopt(socket, ZMQ_ZAP_DOMAIN, domain, strlen(domain)) == 0;
}

static int
set_curve(void *socket, const struct sp_key *key)
{
	return set_int(socket, ZMQ_CURVE_SERVER, 1) &&
	       zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, sp_key_secret(key), SP_PUBKEY_LEN) == 0;
}

/* A dead host's connection goes after some two minutes; while it stands its worker is not heard
 * from and loses its leases. */
static int
set_keepalive(void *socket)
{
	return set_int(socket, ZMQ_TCP_KEEPALIVE, 1) &&
	       set_int(socket, ZMQ_TCP_KEEPALIVE_IDLE, 60) &&
	       set_int(socket, ZMQ_TCP_KEEPALIVE_INTVL, 20) &&
	       set_int(socket, ZMQ_TCP_KEEPALIVE_CNT, 3);
}

/* The mode is right from the first moment on: bind(2) obeys the umask. */
static enum sp_code
bind_path(void *socket, const char *path, struct sp_err *err)
{
	char *endpoint = sp_zloop_endpoint(path, err);
	mode_t old;
	int rc;

	if (endpoint == NULL)
		return SP_E_CONFIG;
	old = umask(0777 & ~SOCKET_MODE);
	rc = zmq_bind(socket, endpoint);
	umask(old);
	free(endpoint);
	if (rc != 0)
		return sp_err_set(err, SP_E_IO,
		    "socket %s: %s: does its directory exist, and may this user write there?", path,
		    zmq_strerror(zmq_errno()));
	return SP_OK;
}

/* Takes the socket over, bound to the path that key of the configuration names. */
static enum sp_code
start(struct sp_hub *hub, const struct sp_hub_spec *spec, void *socket, const char *key,
    sp_zloop_fn *fn, struct sp_zloop **out, struct sp_err *err)
{
	enum sp_code code = sp_conf_require(spec->conf, key, err);

	if (code == SP_OK)
		code = bind_path(socket, sp_conf_string(spec->conf, key), err);
	if (code == SP_OK)
		code = sp_zloop_open(spec->loop, socket, fn, hub, out, err);
	if (code != SP_OK)
		zmq_close(socket);
	return code;
}

static enum sp_code
no_socket(void *socket, struct sp_err *err)
{
	enum sp_code code =
	    sp_err_set(err, SP_E_IO, "bus: cannot set up a socket: %s", zmq_strerror(zmq_errno()));

	if (socket != NULL)
		zmq_close(socket);
	return code;
}

/* For workers on other hosts: another address of the workers' socket. */
static enum sp_code
bind_tcp(void *socket, const char *address, struct sp_err *err)
{
	char *endpoint = sp_zloop_address("bus.tcp", address, 1, err), bound[256];
	size_t len = sizeof(bound);
	enum sp_code code = SP_OK;

	if (endpoint == NULL)
		return SP_E_CONFIG;
	if (!set_int(socket, ZMQ_IPV6, sp_zloop_is_ipv6(endpoint)) || !set_keepalive(socket) ||
	    zmq_bind(socket, endpoint) != 0 ||
	    zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, bound, &len) != 0)
		code = sp_err_set(err, SP_E_IO,
		    "bus.tcp: %s: %s: is it an address of this host, and free?", address,
		    zmq_strerror(zmq_errno()));
	else
		sp_log_info(NULL, "bus: workers on other hosts may connect to %s", bound);
	free(endpoint);
	return code;
}

/* Handshakes that came to nothing before ZAP could be asked. First frame: u16 event, u32 value. */
static int
on_monitor(void *ctx, void *socket)
{
	struct sp_hub *hub = ctx;
	zmq_msg_t frames[2];
	int n = sp_zloop_recv(socket, frames, 2);

	if (n == 0)
		return 0;
	hub->stats.failed++;
	if (n == 2 && may_log(hub))
		sp_log_warn(NULL,
		    "bus: a connection to %.*s failed its handshake: no worker, or one whose trust "
		    "document names another ledgerd",
		    (int)zmq_msg_size(&frames[1]), (const char *)zmq_msg_data(&frames[1]));
	sp_zloop_drop(frames, n, 2);
	return 1;
}

static enum sp_code
open_monitor(struct sp_hub *hub, uv_loop_t *loop, struct sp_err *err)
{
	void *s = zmq_socket(hub->context, ZMQ_PAIR);
	enum sp_code code;

	if (s == NULL || !set_int(s, ZMQ_LINGER, 0) ||
	    zmq_socket_monitor(hub->workers_socket, MONITOR,
		ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL) != 0 ||
	    zmq_connect(s, MONITOR) != 0)
		return no_socket(s, err);
	code = sp_zloop_open(loop, s, on_monitor, hub, &hub->monitor, err);
	if (code != SP_OK)
		zmq_close(s);
	return code;
}

static enum sp_code
open_sockets(struct sp_hub *hub, const struct sp_hub_spec *spec, struct sp_err *err)
{
	const char *tcp = sp_conf_string(spec->conf, "bus.tcp");
	enum sp_code code;
	void *s;

	s = zmq_socket(hub->context, ZMQ_ROUTER);
	if (s == NULL || !set_router(s, "workers", (int64_t)OVERSIZE * SP_REQUEST_MAX) ||
	    !set_curve(s, spec->key))
		return no_socket(s, err);
	hub->workers_socket = s;
	code = start(hub, spec, s, "bus.socket", on_worker_message, &hub->workers, err);
	if (code == SP_OK)
		code = open_monitor(hub, spec->loop, err);
	if (code == SP_OK && tcp != NULL)
		code = bind_tcp(s, tcp, err);
	if (code != SP_OK)
		return code;
	s = zmq_socket(hub->context, ZMQ_ROUTER);
	if (s == NULL || !set_router(s, "operators", SP_REQUEST_MAX))
		return no_socket(s, err);
	hub->operators_socket = s;
	code = start(hub, spec, s, "bus.operators", on_operator_message, &hub->operators, err);
	if (code != SP_OK)
		return code;
	s = zmq_socket(hub->context, ZMQ_XPUB);
	/* VERBOSE: a second subscriber to a topic counts too */
	if (s == NULL || !set_common(s, SUBSCRIPTION_MAX) || !set_int(s, ZMQ_XPUB_VERBOSE, 1))
		return no_socket(s, err);
	hub->snapshots_socket = s;
	return start(hub, spec, s, "bus.snapshots", on_subscription, &hub->snapshots, err);
}

enum sp_code
sp_hub_check(const struct sp_conf *conf, struct sp_err *err)
{
	const char *tcp = sp_conf_string(conf, "bus.tcp");
	char *endpoint;

	if (tcp == NULL)
		return SP_OK;
	endpoint = sp_zloop_address("bus.tcp", tcp, 1, err);
	if (endpoint == NULL)
		return SP_E_CONFIG;
	free(endpoint);
	return SP_OK;
}

enum sp_code
sp_hub_open(const struct sp_hub_spec *spec, struct sp_hub **out, struct sp_err *err)
{
	struct sp_hub *hub = sp_xcalloc(1, sizeof(*hub));
	enum sp_code code;

	*out = NULL;
	SP_ASSERT(sp_key_public(spec->key)->role == SP_ROLE_BUS);
	hub->admit = spec->admit;
	hub->on_worker = spec->on_worker;
	hub->on_operator = spec->on_operator;
	hub->ctx = spec->ctx;
	hub->heartbeat_ms = (uint32_t)sp_conf_int(spec->conf, "ledgerd.heartbeat_ms");
	hub->lease_ms = (uint32_t)sp_conf_int(spec->conf, "ledgerd.lease_ms");
	hub->origin = sp_xstrdup(spec->origin);
	hub->context = zmq_ctx_new();
	if (hub->context == NULL) {
		code = no_socket(NULL, err);
		goto out;
	}
	/* the handler is there before the first peer and until the last is gone: without one libzmq
	 * asks nobody, and the peer's own User-Id would count */
	code = sp_zap_open(spec->loop, hub->context, on_zap, hub, &hub->zap, err);
	if (code == SP_OK)
		code = open_sockets(hub, spec, err);
out:
	if (code != SP_OK)
		sp_hub_close(&hub);
	*out = hub;
	return code;
}

void
sp_hub_close(struct sp_hub **out)
{
	struct sp_hub *hub = *out;
	size_t i;

	if (hub == NULL)
		return;
	*out = NULL;
	if (hub->monitor != NULL)
		zmq_socket_monitor(hub->workers_socket, NULL, 0);
	sp_zloop_close(&hub->monitor);
	sp_zloop_close(&hub->workers);
	sp_zloop_close(&hub->operators);
	sp_zloop_close(&hub->snapshots);
	sp_zap_close(&hub->zap);
	if (hub->context != NULL)
		zmq_ctx_term(hub->context);
	for (i = 0; i < hub->peer_count; i++) {
		free(hub->peers[i].name);
		sp_parts_clear(&hub->peers[i].parts);
	}
	for (i = 0; i < hub->topic_count; i++)
		free(hub->topics[i].content);
	free(hub->peers);
	free(hub->origin);
	free(hub);
}

struct sp_hub_stats
sp_hub_stats(const struct sp_hub *hub)
{
	return hub->stats;
}
