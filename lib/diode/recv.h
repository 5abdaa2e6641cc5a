/* recv.h -- the receiver's edge: socket, spool and the threads between them. */
#ifndef SP_RECV_H
#define SP_RECV_H

#include "diode/link.h"
#include "diode/rx.h"

/*
 * Four threads, each with one kind of work, so that nothing on the way of a datagram waits for a
 * disk: one only receives, into a ring; one opens datagrams, runs the core and rebuilds codewords;
 * one writes and journals; one reads whole objects back and hashes them.
 *
 * Memory: ring_slots * 1.5 KiB (48 MiB) + rx.memory_max_bytes (256 MiB) + 2 MiB of receive buffers.
 */
struct sp_recv_config {
	const char *listen; /* host:port, borrowed during sp_recv_open */
	uint8_t key[SP_LINK_KEY_LEN];
	const char *spool_dir; /* borrowed likewise */
	struct sp_rx_config rx;
	unsigned ring_slots; /* a power of two: datagrams between receiving and opening, 32,768 */
	int rcvbuf_bytes;    /* asked of the kernel, 64 MiB */
};

/* Fills all but listen, key and spool_dir. */
void sp_recv_defaults(struct sp_recv_config *config);

struct sp_recv;

/* Called for one event at a time, on the core's thread or within sp_recv_open; what it points at is
 * valid meanwhile. It must not block, nor call sp_recv_close. */
typedef void sp_recv_event_fn(void *ctx, const struct sp_rx_event *event);

/* Resumes what the spool holds, then starts to receive. *out is set before the first event. */
enum sp_code sp_recv_open(const struct sp_recv_config *config, sp_recv_event_fn *event, void *ctx,
    struct sp_recv **out, struct sp_err *err) SP_MUST_USE;
/* Stops receiving; what was decoded is written and journaled. */
void sp_recv_close(struct sp_recv **recv);

/* Where the bytes of an object lie after SP_RX_OBJECT_DONE, until sp_recv_forget; malloc'd. */
char *sp_recv_path(const struct sp_recv *recv, const uint8_t digest[SP_DIGEST_LEN]);
/* sp_rx_forget for all transfers of a job; from any thread, done soon after. */
void sp_recv_forget(struct sp_recv *recv, const char *job);
unsigned sp_recv_port(const struct sp_recv *recv);

struct sp_recv_stats {
	struct sp_link_counts
	    link; /* dropped[SP_FRAME_BAD_SIZE] includes those too long to be ours */
	struct sp_rx_counts rx;
	uint64_t ring_overflow;	  /* datagrams that found the ring full */
	uint64_t kernel_overflow; /* datagrams that found the socket's buffer full */
	uint64_t spool_errors;
	char spool_error[SP_ERR_MSG_MAX]; /* the last one, "" when there was none */
	int rcvbuf_bytes;		  /* what the kernel gave */
};
void sp_recv_stats(struct sp_recv *recv, struct sp_recv_stats *stats);

#endif
