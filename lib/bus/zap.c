/*
 * zap.c -- the ZAP handler of a ZeroMQ context.
 *
 * A ROUTER, where the RFC suggests REP: a REP that could not answer once would never hear again.
 * Before the frames of the RFC come the asking session's routing id and an empty frame.
 * Request frames: "1.0", request id, domain, address, routing id, mechanism, credentials (CURVE:
 * one frame, the 32-byte key). Reply: "1.0", request id, status ("200" or "400"), text, user id,
 * metadata.
 */
#include "bus/zap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ZAP_ENDPOINT "inproc://zeromq.zap.01"
#define FRAMES_MAX 10
#define PREFIX 2 /* routing id, empty frame */
#define FIELD_MAX 256

struct sp_zap {
	struct sp_zloop *zloop;
	sp_zap_fn *fn;
	void *ctx;
};

static const char *
parse_number(const char *at, int64_t *out)
{
	int64_t value = 0;
	int digits;

	for (digits = 0; *at >= '0' && *at <= '9' && digits < 10; digits++)
		value = value * 10 + (*at++ - '0');
	*out = value;
	return digits > 0 ? at : NULL;
}

int
sp_zap_parse_peer(const char *text, int64_t *uid, int64_t *gid, int64_t *pid)
{
	int64_t *const out[] = {uid, gid, pid};
	const char *at;
	size_t i;

	if (strncmp(text, "localhost", 9) != 0)
		return 0;
	at = text + 9;
	for (i = 0; i < 3; i++) {
		if (*at != ':')
			return 0;
		at = parse_number(at + 1, out[i]);
		if (at == NULL)
			return 0;
	}
	return *at == '\0';
}

/* A frame as a string: 0 when it is too long or holds a NUL. */
static int
frame_text(zmq_msg_t *frame, char out[FIELD_MAX])
{
	size_t len = zmq_msg_size(frame);

	if (len >= FIELD_MAX || memchr(zmq_msg_data(frame), 0, len) != NULL)
		return 0;
	memcpy(out, zmq_msg_data(frame), len);
	out[len] = '\0';
	return 1;
}

static enum sp_code
decide(struct sp_zap *zap, zmq_msg_t *frames, int count, char *user, struct sp_err *err)
{
	char version[FIELD_MAX], domain[FIELD_MAX], address[FIELD_MAX], mechanism[FIELD_MAX];
	struct sp_zap_request request = {domain, address, -1, NULL};
	int64_t gid, pid;

	if (count < 6 || !frame_text(&frames[0], version) || !frame_text(&frames[2], domain) ||
	    !frame_text(&frames[3], address) || !frame_text(&frames[5], mechanism) ||
	    strcmp(version, "1.0") != 0)
		return sp_err_set(err, SP_E_INVALID, "ZAP request is malformed");
	if (!sp_zap_parse_peer(address, &request.uid, &gid, &pid))
		request.uid = -1;
	if (strcmp(mechanism, "CURVE") == 0 && count == 7 && zmq_msg_size(&frames[6]) == 32)
		request.curve_key = zmq_msg_data(&frames[6]);
	else if (strcmp(mechanism, "NULL") != 0 || count != 6)
		return sp_err_set(err, SP_E_INVALID, "ZAP request has an unknown mechanism");
	return zap->fn(zap->ctx, &request, user, err);
}

static int
send_part(void *socket, const void *data, size_t len, int more)
{
	return zmq_send(socket, data, len, ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0)) >= 0;
}

static int
on_request(void *ctx, void *socket)
{
	struct sp_zap *zap = ctx;
	zmq_msg_t frames[FRAMES_MAX];
	char user[SP_NAME_MAX + 1] = "";
	struct sp_err err;
	int n = sp_zloop_recv(socket, frames, FRAMES_MAX), ok;

	/* only libzmq itself can send here; what is no request at all gets no answer, and a session
	 * without an answer lets nobody in */
	if (n == 0)
		return 0;
	if (n >= PREFIX + 2 && n <= FRAMES_MAX) {
		ok = decide(zap, frames + PREFIX, n - PREFIX, user, &err) == SP_OK;
		if (!ok)
			user[0] = '\0';
		(void)(send_part(socket, zmq_msg_data(&frames[0]), zmq_msg_size(&frames[0]), 1) &&
		       send_part(socket, "", 0, 1) && send_part(socket, "1.0", 3, 1) &&
		       send_part(socket, zmq_msg_data(&frames[PREFIX + 1]),
			   zmq_msg_size(&frames[PREFIX + 1]), 1) &&
		       send_part(socket, ok ? "200" : "400", 3, 1) &&
		       send_part(socket, ok ? "OK" : "refused", ok ? 2 : 7, 1) &&
		       send_part(socket, user, strlen(user), 1) && send_part(socket, "", 0, 0));
	}
	sp_zloop_drop(frames, n, FRAMES_MAX);
	return 1;
}

enum sp_code
sp_zap_open(uv_loop_t *loop, void *context, sp_zap_fn *fn, void *ctx, struct sp_zap **out,
    struct sp_err *err)
{
	struct sp_zap *zap = sp_xcalloc(1, sizeof(*zap));
	void *socket = zmq_socket(context, ZMQ_ROUTER);
	int linger = 0;
	enum sp_code code;

	*out = NULL;
	zap->fn = fn;
	zap->ctx = ctx;
	if (socket == NULL || zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof(linger)) != 0 ||
	    zmq_bind(socket, ZAP_ENDPOINT) != 0)
		code = sp_err_set(err, SP_E_IO, "bus: ZAP handler: %s", zmq_strerror(zmq_errno()));
	else
		code = sp_zloop_open(loop, socket, on_request, zap, &zap->zloop, err);
	if (code == SP_OK) {
		*out = zap;
		return SP_OK;
	}
	if (socket != NULL)
		zmq_close(socket);
	free(zap);
	return code;
}

void
sp_zap_close(struct sp_zap **zap)
{
	if (*zap == NULL)
		return;
	sp_zloop_close(&(*zap)->zloop);
	free(*zap);
	*zap = NULL;
}
