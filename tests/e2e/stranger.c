/*
 * stranger.c -- speaks to ledgerd's bus as no worker of ours would, and says what came of it.
 *
 * sp-stranger TO SERVERPUB KEY|- SERVICE STEP WHAT, where KEY is a bus key's file or - for no
 *CURVE: greet      a heartbeat, as a worker version malformed frames oversize huge something that
 *breaks a rule, then a heartbeat mute       takes every offer and never says another word of it;
 *until it is killed Prints "welcome", "refused CODE", "turned away" (the handshake failed), "cut
 *off" or "silence".
 */
#include "base/limits.h"
#include "base/log.h"
#include "base/time.h"
#include "bus/envelope.h"
#include "release/key.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#define PATIENCE_MS 20000
#define BEAT_MS 200

struct stranger {
	void *context, *socket, *monitor;
	char *service, *step;
	uint64_t seq;
};

static void
send_envelope(struct stranger *s, Sallyport__Envelope *envelope)
{
	struct sp_err err;
	uint8_t *data;
	size_t len;

	envelope->seq = ++s->seq;
	SP_ASSERT(sp_envelope_pack(envelope, SP_FROM_WORKER, &data, &len, &err) == SP_OK);
	zmq_send(s->socket, data, len, 0);
	free(data);
}

static void
beat(struct stranger *s)
{
	char version[] = "0";
	Sallyport__Envelope envelope;
	Sallyport__Heartbeat body;

	sallyport__envelope__init(&envelope);
	sallyport__heartbeat__init(&body);
	body.service = s->service;
	body.version = version;
	body.steps = &s->step;
	body.n_steps = 1;
	body.free = 1;
	envelope.body_case = SALLYPORT__ENVELOPE__BODY_HEARTBEAT;
	envelope.heartbeat = &body;
	send_envelope(s, &envelope);
}

static void
break_rule(struct stranger *s, const char *what)
{
	char *large = sp_xcalloc(SP_MESSAGE_MAX, 2);

	if (strcmp(what, "version") == 0)
		zmq_send(s->socket,
		    "\x08\x02\x5a\x22\x0a\x20"
		    "0123456789abcdef0123456789abcdef",
		    38, 0);
	else if (strcmp(what, "malformed") == 0)
		zmq_send(s->socket, "\x08\x01\x5a\xff\xff\xff", 6, 0);
	else if (strcmp(what, "frames") == 0) {
		zmq_send(s->socket, "\x08\x01", 2, ZMQ_SNDMORE);
		zmq_send(s->socket, "\x08\x01", 2, 0);
	} else if (strcmp(what, "oversize") == 0)
		zmq_send(s->socket, large, SP_REQUEST_MAX + 1, 0);
	else if (strcmp(what, "huge") == 0)
		zmq_send(s->socket, large, (size_t)2 * SP_MESSAGE_MAX, 0);
	free(large);
}

/* What libzmq tells of the connection: NULL when nothing of note. First frame: u16 event, u32
 * value. */
static const char *
read_monitor(struct stranger *s)
{
	uint8_t event[64], address[256];
	uint16_t kind = 0;

	if (zmq_recv(s->monitor, event, sizeof(event), ZMQ_DONTWAIT) < (int)sizeof(kind))
		return NULL;
	zmq_recv(s->monitor, address, sizeof(address), ZMQ_DONTWAIT);
	memcpy(&kind, event, sizeof(kind));
	if (kind == ZMQ_EVENT_DISCONNECTED)
		return "cut off";
	return kind == ZMQ_EVENT_CONNECTED ? NULL : "turned away";
}

static void
accept_offer(struct stranger *s, char *lease)
{
	Sallyport__Envelope envelope;
	Sallyport__Accept body;

	sallyport__envelope__init(&envelope);
	sallyport__accept__init(&body);
	body.lease = lease;
	envelope.body_case = SALLYPORT__ENVELOPE__BODY_ACCEPT;
	envelope.accept = &body;
	send_envelope(s, &envelope);
}

/* Reads a message; text receives what to say of it. */
static int
read_message(struct stranger *s, int mute, char text[64])
{
	Sallyport__Envelope *envelope;
	zmq_msg_t frame;
	int said = 0;

	zmq_msg_init(&frame);
	if (zmq_msg_recv(&frame, s->socket, ZMQ_DONTWAIT) >= 0 &&
	    sp_envelope_unpack(zmq_msg_data(&frame), zmq_msg_size(&frame), SP_FROM_LEDGERD,
		&envelope, NULL) == SP_OK) {
		said = envelope->body_case == SALLYPORT__ENVELOPE__BODY_WELCOME ||
		       envelope->body_case == SALLYPORT__ENVELOPE__BODY_REFUSAL;
		if (envelope->body_case == SALLYPORT__ENVELOPE__BODY_REFUSAL)
			snprintf(text, 64, "refused %.40s", envelope->refusal->code);
		else
			snprintf(text, 64, "welcome");
		if (mute && envelope->body_case == SALLYPORT__ENVELOPE__BODY_OFFER)
			accept_offer(s, envelope->offer->task->lease);
		sallyport__envelope__free_unpacked(envelope, NULL);
	}
	zmq_msg_close(&frame);
	return said && !mute;
}

static void
converse(struct stranger *s, int mute)
{
	zmq_pollitem_t items[2] = {{s->socket, 0, ZMQ_POLLIN, 0}, {s->monitor, 0, ZMQ_POLLIN, 0}};
	int64_t deadline_ms = sp_time_monotonic_ms() + PATIENCE_MS;
	const char *said;
	char text[64];

	while (mute || sp_time_monotonic_ms() < deadline_ms) {
		beat(s);
		if (zmq_poll(items, 2, BEAT_MS) <= 0)
			continue;
		if ((items[0].revents & ZMQ_POLLIN) && read_message(s, mute, text)) {
			puts(text);
			return;
		}
		if ((items[1].revents & ZMQ_POLLIN) && (said = read_monitor(s)) != NULL) {
			puts(said);
			return;
		}
	}
	puts("silence");
}

static int
open_socket(
    struct stranger *s, const char *to, const struct sp_pubkey *server, const struct sp_key *key)
{
	int zero = 0;

	s->context = zmq_ctx_new();
	s->socket = zmq_socket(s->context, ZMQ_DEALER);
	s->monitor = zmq_socket(s->context, ZMQ_PAIR);
	if (key != NULL) {
		zmq_setsockopt(s->socket, ZMQ_CURVE_SERVERKEY, server->bytes, 32);
		zmq_setsockopt(s->socket, ZMQ_CURVE_PUBLICKEY, sp_key_public(key)->bytes, 32);
		zmq_setsockopt(s->socket, ZMQ_CURVE_SECRETKEY, sp_key_secret(key), 32);
	}
	return zmq_setsockopt(s->socket, ZMQ_LINGER, &zero, sizeof(zero)) == 0 &&
	       zmq_socket_monitor(s->socket, "inproc://monitor",
		   ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
		       ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH) ==
		   0 &&
	       zmq_connect(s->monitor, "inproc://monitor") == 0 && zmq_connect(s->socket, to) == 0;
}

int
main(int argc, char **argv)
{
	struct stranger s = {.seq = 1};
	struct sp_pubkey server;
	struct sp_key *key = NULL;
	struct sp_err err;

	sp_log_init("sp-stranger", 0);
	if (argc != 7) {
		fprintf(stderr, "usage: sp-stranger TO SERVERPUB KEY|- SERVICE STEP WHAT\n");
		return 2;
	}
	if (sp_pubkey_load(argv[2], &server, &err) != SP_OK ||
	    (strcmp(argv[3], "-") != 0 &&
		sp_key_load(argv[3], SP_ROLE_BUS, NULL, &key, &err) != SP_OK)) {
		sp_log_error(NULL, "%s", err.msg);
		return 1;
	}
	s.service = argv[4];
	s.step = argv[5];
	if (!open_socket(&s, argv[1], &server, key)) {
		sp_log_error(NULL, "%s: %s", argv[1], zmq_strerror(zmq_errno()));
		return 1;
	}
	break_rule(&s, argv[6]);
	converse(&s, strcmp(argv[6], "mute") == 0);
	zmq_socket_monitor(s.socket, NULL, 0);
	zmq_close(s.monitor);
	zmq_close(s.socket);
	zmq_ctx_term(s.context);
	sp_key_free(&key);
	return 0;
}
