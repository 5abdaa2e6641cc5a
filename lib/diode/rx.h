/* rx.h -- the receiver's core: symbols and completions in, actions out; no socket, file or clock.
 */
#ifndef SP_RX_H
#define SP_RX_H

#include "diode/assemble.h"
#include "diode/manifest.h"

/*
 * An object is received codeword by codeword into the spool, then verified against its digest. Its
 * manifest may come before, between or after it; objects that no manifest has named are kept within
 * stray_max_bytes. A transfer is a manifest and its objects: it ends as DONE, INCOMPLETE or
 * REFUSED, never in silence. After INCOMPLETE all that came is kept, and a later pass or resend
 * goes on. A job has one transfer at a time: another manifest of it is refused while the first is
 * under way or not yet taken, and replaces one that is INCOMPLETE.
 */
struct sp_rx_config {
	uint64_t spool_max_bytes;  /* of all objects together, by the sizes announced */
	uint64_t stray_max_bytes;  /* of objects not named by a manifest yet */
	uint64_t memory_max_bytes; /* of codewords in memory (assemble.h) */
	int64_t idle_timeout_ms; /* transfer without symbols: longer than the sender's pass pause */
	int64_t grace_ms;	 /* from the end of the last pass to INCOMPLETE */
	int64_t link_timeout_ms; /* no valid datagram at all: LINK_DOWN */
	/* A complete transfer that its owner has not taken for so long gives way when others need
	 * the room, so that a job that nobody wants any more cannot fill the spool for ever. */
	int64_t keep_ms;
	/* 1 when the owner has the bytes of this digest already: then they are not awaited. */
	int (*have)(void *ctx, const uint8_t digest[SP_DIGEST_LEN]);
	void *have_ctx;
};

/* 4 GiB spool, a quarter of it for strays, 256 MiB memory, 5 s, 500 ms, 5 s, an hour, have:
 * nothing.
 */
void sp_rx_defaults(struct sp_rx_config *config);

/* A run of codewords that did not come. */
struct sp_rx_gap {
	const struct sp_object *object;
	uint64_t block, count; /* whole object with its layout still unknown: 0, 0 */
	uint64_t bytes;
};

enum sp_rx_event_kind {
	SP_RX_TRANSFER_KNOWN,	   /* manifest */
	SP_RX_OBJECT_DONE,	   /* manifest, object: verified, in the spool */
	SP_RX_OBJECT_FAILED,	   /* object_id, code: CORRUPT or IO; awaited again */
	SP_RX_TRANSFER_DONE,	   /* manifest: all objects are there */
	SP_RX_TRANSFER_INCOMPLETE, /* manifest, gaps, missing_bytes */
	SP_RX_TRANSFER_REFUSED,	   /* object_id of the manifest, code and text: bad or too large */
	SP_RX_TRANSFER_LOST,	   /* object_id: symbols of a manifest, but never enough of them */
	SP_RX_LINK_UP,		   /* a first valid datagram, or again after LINK_DOWN */
	SP_RX_LINK_DOWN
};

struct sp_rx_event {
	enum sp_rx_event_kind kind;
	struct sp_object_id object_id;
	const struct sp_manifest *manifest;
	const struct sp_object *object;
	enum sp_code code;
	const char *text;
	const struct sp_rx_gap *gaps;
	size_t gap_count;
	uint64_t missing_bytes;
};

enum sp_rx_action_kind {
	SP_RX_WRITE,  /* write data at its place, journal it, answer with sp_rx_written */
	SP_RX_VERIFY, /* everything is written: hash it, keep it, answer with sp_rx_verified */
	SP_RX_DROP,   /* remove what was written for id or, when is_verified, the object digest */
	SP_RX_EVENT
};

struct sp_rx_action {
	enum sp_rx_action_kind kind;
	struct sp_object_id id;
	struct sp_layout layout;
	int is_manifest;
	uint64_t block;
	uint64_t
	    generation; /* of the object: what was asked for before a DROP answers nothing after */
	uint8_t *data;	/* WRITE: sp_layout_block_len bytes, of the core until sp_rx_written */
	uint8_t digest[SP_DIGEST_LEN]; /* DROP */
	int is_verified;	       /* DROP */
	struct sp_rx_event event;
};

struct sp_rx_counts {
	uint64_t symbols;    /* valid ones that came */
	uint64_t surplus;    /* of codewords or objects already complete */
	uint64_t mismatched; /* contradict what is known of their object */
	uint64_t refused;    /* of objects for which there is no room in the spool */
	uint64_t heartbeats, fillers;
	struct sp_assemble_counts assemble;
};

struct sp_rx;
struct sp_rx *sp_rx_new(const struct sp_rx_config *config);
void sp_rx_free(struct sp_rx **rx);

/* Input. After each call, take all actions before the next. session: from sp_link_open. */
void sp_rx_datagram(struct sp_rx *rx, const struct sp_frame *frame, const uint8_t *payload,
    uint64_t session, int64_t now_ms);
void sp_rx_written(
    struct sp_rx *rx, const struct sp_rx_action *write, enum sp_code code, int64_t now_ms);
/* digest of what was read back; for a manifest data holds its bytes. code other than SP_OK: the
 * spool could not be read. */
void sp_rx_verified(struct sp_rx *rx, const struct sp_object_id *id, enum sp_code code,
    const uint8_t digest[SP_DIGEST_LEN], const uint8_t *data, size_t len, int64_t now_ms);
void sp_rx_tick(struct sp_rx *rx, int64_t now_ms);

/* Before the first datagram: what the spool holds from before. complete: one bit per codeword. */
void sp_rx_resume(struct sp_rx *rx, const struct sp_object_id *id, const struct sp_layout *layout,
    int is_manifest, const uint8_t *complete, int64_t now_ms);
/* …, an object that was verified: its symbols are not needed. */
void sp_rx_resume_verified(
    struct sp_rx *rx, const uint8_t digest[SP_DIGEST_LEN], uint64_t size, int64_t now_ms);

/* The owner has taken a transfer's objects, or gives it up: what only it names leaves the spool.
 * Symbols that still come for it are ignored until it is silent. */
void sp_rx_forget(struct sp_rx *rx, const char *job, int64_t now_ms);

/* Output: 0 when there is none. What an event points at is valid until the next call. */
int sp_rx_next(struct sp_rx *rx, struct sp_rx_action *action);

void sp_rx_counts(const struct sp_rx *rx, struct sp_rx_counts *counts);

#endif
