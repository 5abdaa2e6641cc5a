/*
 * zap.h -- the ZAP handler of a ZeroMQ context (rfc.zeromq.org/spec/27), on the uv loop.
 *
 * libzmq's I/O threads ask over inproc and wait for the answer without blocking, so the handler
 * needs no thread and no locks of its own.
 */
#ifndef SP_ZAP_H
#define SP_ZAP_H

#include "base/limits.h"
#include "bus/zloop.h"

#include <stdint.h>

struct sp_zap_request {
	const char *domain;
	const char *address;	  /* "localhost:UID:GID:PID" on ipc, else the network address */
	int64_t uid;		  /* -1: the peer is not on this host */
	const uint8_t *curve_key; /* 32 bytes, NULL with the NULL mechanism */
};

/* SP_OK and user (the User-Id of each message from that peer), else it is refused. */
typedef enum sp_code sp_zap_fn(void *ctx, const struct sp_zap_request *request,
    char user[SP_NAME_MAX + 1], struct sp_err *err);

struct sp_zap;
enum sp_code sp_zap_open(uv_loop_t *loop, void *context, sp_zap_fn *fn, void *ctx,
    struct sp_zap **out, struct sp_err *err) SP_MUST_USE;
void sp_zap_close(struct sp_zap **zap);

/* 1 when text is exactly "localhost:UID:GID:PID". */
int sp_zap_parse_peer(const char *text, int64_t *uid, int64_t *gid, int64_t *pid);

#endif
