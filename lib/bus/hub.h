/*
 * hub.h -- ledgerd's end of the bus: workers, operators, published content; all on one uv loop.
 *
 * bus.socket     ROUTER, CURVE: workers, and those on other hosts at bus.tcp. A connection is
 *                admitted by its Curve key (ZAP, spec.admit) and each of its messages once more
 * under the name that admit gives it then; libzmq attaches key and uid to every message as User-Id.
 * Routing ids are libzmq's affair and prove nothing. bus.operators  ROUTER, NULL: who may open the
 * socket (mode 0660) may ask; the kernel names the uid. bus.snapshots  XPUB, NULL: signed content
 * by topic, frames [topic][content]; who subscribes gets the newest at once. On this host only: no
 * worker elsewhere needs what is published.
 *
 * One process to a name. While its connection stands and it is heard from, another one with the
 * same key is told so (Refusal "exists", once a connection) and not listened to; it takes the name
 * over when the first has gone, or was silent for half of ledgerd.lease_ms (a host that died leaves
 * its connection standing). So nothing changes hands to and fro.
 *
 * What comes in has at most SP_REQUEST_MAX bytes (published content comes in parts, and on_worker
 * sees the whole), what goes out SP_MESSAGE_MAX: an offer carries its job's evidence, an operator's
 * reply up to LEDGERD_LOG_BYTES_MAX of the log. A message that breaks a rule is dropped, logged
 * with its sender's name and counted. Callbacks run on the loop and may call any function here but
 * sp_hub_close. None blocks, but that sp_hub_close gives what is still to be sent half a second.
 *
 * The hub itself answers each Heartbeat with a Welcome (ledgerd.heartbeat_ms, ledgerd.lease_ms,
 * spec.origin) before on_worker sees it: workers take silence for a dead ledgerd. What is left to
 * ledgerd: Ack or Refusal (ack_seq: the envelope's seq) for each Accept, Result, Begin, Publish and
 * Record. Workers repeat Accept and Result, with the same seq, until they get one of the two, so a
 * repeat by the holder of the lease must be answered as the first was; the other three are repeated
 * (same seq) on a new connection only. A Heartbeat that names a lease that is not the worker's: a
 * Refusal with that lease. A worker answers a Cancel with a Failure "cancelled" once all has
 * stopped; ledgerd acknowledges it or refuses it.
 */
#ifndef SP_HUB_H
#define SP_HUB_H

#include "base/conf.h"
#include "bus.pb-c.h"
#include "release/key.h"
#include "release/trust.h"

#include <uv.h>

struct sp_hub;

/* A connection that asked something: copy it to answer later. uid, gid, pid as the kernel says. */
struct sp_hub_operator {
	int64_t uid, gid, pid;
	uint8_t routing[255];
	size_t routing_len;
};

/* Whether a worker with that key may come in; uid: of its process, -1 when not on this host. SP_OK
 * with its name, else why not. Asked at each connect and each message, so that a key that is
 * withdrawn or replaced says nothing more on a connection it still has. */
typedef enum sp_code sp_hub_admit_fn(void *ctx, const uint8_t key[SP_PUBKEY_LEN], int64_t uid,
    char name[SP_NAME_MAX + 1], struct sp_err *err);

/* From a worker, checked by bus/envelope.h (so only worker -> ledgerd bodies, digests and ids of
 * the right form). envelope is freed after the call. The name is admit's, asked just before. */
typedef void sp_hub_worker_fn(void *ctx, const char *worker, const Sallyport__Envelope *envelope);

/* From an operator: one frame of at most SP_REQUEST_MAX bytes, otherwise unchecked: see
 * bus/wire.h. */
typedef void
sp_hub_operator_fn(void *ctx, const struct sp_hub_operator *from, const uint8_t *data, size_t len);

struct sp_hub_spec {
	uv_loop_t *loop;
	const struct sp_conf *conf; /* bus.*, ledgerd.heartbeat_ms, ledgerd.lease_ms */
	const struct sp_key *key;   /* role bus; needed during sp_hub_open only */
	const char *origin;	    /* of the log; copied */
	sp_hub_admit_fn *admit;
	sp_hub_worker_fn *on_worker;
	sp_hub_operator_fn *on_operator;
	void *ctx; /* of the three */
};

/* The configuration's part of it. */
enum sp_code sp_hub_check(const struct sp_conf *conf, struct sp_err *err) SP_MUST_USE;
/* Binds the three sockets, and bus.tcp when it is set. A socket file left behind by a dead ledgerd
 * is replaced: the caller holds the database lock first, so that there is no living one. Errors
 * name the socket's path. */
enum sp_code
sp_hub_open(const struct sp_hub_spec *spec, struct sp_hub **out, struct sp_err *err) SP_MUST_USE;
/* Not from a callback of the hub. Frees when the loop has run its close callbacks. */
void sp_hub_close(struct sp_hub **hub);

/* The usual sp_hub_admit_fn body: the trust document's worker with that key, whose uid, when the
 * document gives one, must be the process's (a worker on another host has none, so the document
 * must say -1 for it). ledgerd's own entry is no worker. */
enum sp_code sp_hub_admit(const struct sp_trust *trust, const uint8_t key[SP_PUBKEY_LEN],
    int64_t uid, char name[SP_NAME_MAX + 1], struct sp_err *err);

/* To the newest connection of that worker. Sets envelope's version and seq. SP_E_UNREACHABLE when
 * it is not connected or does not read: nothing is lost that its next heartbeat does not bring up.
 */
enum sp_code sp_hub_send(struct sp_hub *hub, const char *worker, Sallyport__Envelope *envelope,
    struct sp_err *err) SP_MUST_USE;
/* SP_E_UNREACHABLE when the operator is gone. */
enum sp_code sp_hub_reply(struct sp_hub *hub, const struct sp_hub_operator *to, const void *data,
    size_t len, struct sp_err *err) SP_MUST_USE;
/* Keeps a copy as the topic's newest and sends it to who subscribed. SP_E_LIMIT beyond
 * SP_MESSAGE_MAX bytes or 16 topics. */
enum sp_code sp_hub_publish(struct sp_hub *hub, const char *topic, const void *content, size_t len,
    struct sp_err *err) SP_MUST_USE;

struct sp_hub_stats {
	uint64_t admitted, refused; /* connections of workers */
	uint64_t failed;	    /* handshakes: strangers, garbage, other keys of ledgerd */
	uint64_t rivals;	    /* connections that wanted a name in use */
	uint64_t malformed;	    /* messages dropped, of workers and operators */
	uint64_t unsent;	    /* messages for which sp_hub_send found no taker */
};
struct sp_hub_stats sp_hub_stats(const struct sp_hub *hub);

#endif
