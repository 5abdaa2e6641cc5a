/* send.h -- the sender's edge: a thread that owns link and socket, and paces what leaves. */
#ifndef SP_SEND_H
#define SP_SEND_H

#include "diode/link.h"
#include "diode/tx.h"

struct sp_send_config {
	const char *destination; /* host:port, borrowed during sp_send_open */
	uint8_t key[SP_LINK_KEY_LEN];
	uint64_t rate_bytes_per_s; /* of datagrams, without Ethernet, IP and UDP headers */
	int64_t pass_pause_ms;	   /* between the passes of a transfer */
	int64_t heartbeat_ms;	   /* when idle */
	/* 1: filler at the full rate when idle, so that neither switches nor observers see a change
	 */
	int constant_rate;
	unsigned symbol_size; /* of heartbeats and filler: that of the transfers */
};

struct sp_send;

/* Draws a session id, opens the socket, starts the thread: heartbeats begin. */
enum sp_code sp_send_open(
    const struct sp_send_config *config, struct sp_send **out, struct sp_err *err) SP_MUST_USE;
/* Stops the thread; a transfer under way ends as cancelled. */
void sp_send_close(struct sp_send **send);

/* Called once per started transfer, on the sending thread: SP_OK when all passes have left. */
typedef void sp_send_done_fn(void *ctx, enum sp_code code, const struct sp_err *err);

/* Sends all passes of tx, which stays the caller's and must not be touched until done was called.
 * Its symbols have the size of the config. SP_E_STATE while another transfer is under way. */
enum sp_code sp_send_start(struct sp_send *send, struct sp_tx *tx, sp_send_done_fn *done, void *ctx,
    struct sp_err *err) SP_MUST_USE;
/* The transfer under way, if any, ends soon as SP_E_CANCELLED. */
void sp_send_cancel(struct sp_send *send);

struct sp_send_progress {
	unsigned pass, passes;		   /* 1 of 3, …; 0, 0 when idle */
	uint64_t done, total;		   /* bytes of objects in this pass */
	uint64_t datagrams, bytes, unsent; /* since sp_send_open */
	uint64_t heartbeats, fillers;
};
void sp_send_progress(struct sp_send *send, struct sp_send_progress *progress);

/* Objects as files, for sp_tx_new: paths[i] is that of object i. fd is -1 at first, and closed by
 * sp_send_files_close. A file that is shorter than its object is SP_E_CORRUPT. */
struct sp_send_files {
	const char *const *paths;
	size_t open;
	int fd;
};
sp_tx_read_fn sp_send_files_read; /* ctx: struct sp_send_files */
void sp_send_files_close(struct sp_send_files *files);

#endif
