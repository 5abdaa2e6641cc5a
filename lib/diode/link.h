/* link.h -- AES-256-GCM around the datagrams: session keys, nonces, replay window. */
#ifndef SP_LINK_H
#define SP_LINK_H

#include "diode/frame.h"

#define SP_LINK_KEY_LEN 32
#define SP_LINK_SESSIONS 8	      /* senders and their restarts that a receiver tells apart */
#define SP_LINK_WINDOW 65536	      /* counters below the highest one that are still told apart */
#define SP_LINK_SESSION_IDLE_MS 10000 /* a session silent for so long may give way to a new one */

/*
 * Key of a session: HKDF-SHA256 (RFC 5869) of the 32-byte link key, salt = session id, info =
 * "sallyport diode 1". Nonce: four zero bytes, then the counter as u64be; a counter is used once in
 * a session, and a session id is random at each start, so no pair of key and nonce comes twice.
 */

/* The sending end. The key is copied into the cipher and not kept. */
struct sp_link_tx;
enum sp_code
sp_link_tx_new(const uint8_t key[SP_LINK_KEY_LEN], const uint8_t session[SP_FRAME_SESSION_LEN],
    struct sp_link_tx **out, struct sp_err *err) SP_MUST_USE;
void sp_link_tx_free(struct sp_link_tx **link);
/* Sets session and counter of frame, writes header, ciphertext and tag to out and returns their
 * length, sp_frame_len(frame). payload: layout.symbol_size bytes; NULL for a heartbeat or filler.
 */
size_t sp_link_seal(struct sp_link_tx *link, struct sp_frame *frame, const uint8_t *payload,
    uint8_t out[SP_FRAME_MAX]);

/* What arrived, counted since sp_link_rx_new. */
struct sp_link_counts {
	uint64_t dropped[SP_FRAME_DROP_COUNT]; /* by reason; [SP_FRAME_OK] counts those accepted */
	uint64_t reordered; /* accepted, but a later counter had been seen before */
	uint64_t lost;	    /* counters inside the range seen of each session that never came */
	uint64_t sessions;
};

/* The receiving end; used by one thread. A session is entered only after a tag was valid under its
 * key, the table is of fixed size, and a session that was heard of in the last
 * SP_LINK_SESSION_IDLE_MS is never evicted: forged datagrams change nothing but counts. */
struct sp_link_rx;
struct sp_link_rx *sp_link_rx_new(const uint8_t key[SP_LINK_KEY_LEN]);
void sp_link_rx_free(struct sp_link_rx **link); /* wipes the key */
/* On SP_FRAME_OK fills frame, payload (frame->layout.symbol_size bytes) and *session: 1, 2, … in
 * the order in which sessions were entered. */
enum sp_frame_drop
sp_link_open(struct sp_link_rx *link, const uint8_t *data, size_t len, int64_t now_ms,
    struct sp_frame *frame, uint8_t payload[SP_FRAME_SYMBOL_MAX], uint64_t *session);
void sp_link_counts(const struct sp_link_rx *link, struct sp_link_counts *counts);

#endif
