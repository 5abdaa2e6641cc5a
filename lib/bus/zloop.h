/*
 * zloop.h -- a ZeroMQ socket in a uv loop.
 *
 * ZMQ_FD is edge-triggered and speaks of the socket's mailbox, not of messages: every zmq call may
 * swallow the edge. So the fd only wakes the loop; whether there is something to do is asked of
 * ZMQ_EVENTS before the loop goes to sleep (prepare) and after it woke (check), each turn.
 */
#ifndef SP_ZLOOP_H
#define SP_ZLOOP_H

#include "base/err.h"

#include <uv.h>
#include <zmq.h>

#define SP_ZLOOP_TURN_MAX 64 /* messages of one socket before others get their turn */

struct sp_zloop;

/* Reads one message from socket with ZMQ_DONTWAIT; 0 when there was none (EAGAIN). Runs on the
 * loop; may close its own sp_zloop. */
typedef int sp_zloop_fn(void *ctx, void *socket);

/* Takes the socket over: sp_zloop_close closes it. */
enum sp_code sp_zloop_open(uv_loop_t *loop, void *socket, sp_zloop_fn *fn, void *ctx,
    struct sp_zloop **out, struct sp_err *err) SP_MUST_USE;
/* Closes the socket now; memory goes when the loop has run the close callbacks. */
void sp_zloop_close(struct sp_zloop **zloop);

/*
 * Reads one message without waiting. Returns how many frames it has, 0 when there is none. Of a
 * message of more than max frames the first max are kept and max + 1 is returned. Close what was
 * read with sp_zloop_drop(frames, returned, max).
 */
int sp_zloop_recv(void *socket, zmq_msg_t *frames, int max);
void sp_zloop_drop(zmq_msg_t *frames, int count, int max);

/* Endpoint of a network address, malloc'd, or NULL with err that names key: text is HOST:PORT,
 * where HOST is a name, an IPv4 address or an IPv6 address in brackets; PORT 0 only when binding.
 */
char *sp_zloop_address(const char *key, const char *text, int binding, struct sp_err *err);
/* 1 when it is an IPv6 address. */
int sp_zloop_is_ipv6(const char *endpoint);

/* Path of an ipc endpoint ("ipc://" + path), malloc'd, or NULL with err: libzmq and the kernel take
 * at most 107 bytes. */
char *sp_zloop_endpoint(const char *path, struct sp_err *err);

#endif
