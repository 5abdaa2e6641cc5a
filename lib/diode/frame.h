/* frame.h -- the datagram of the diode protocol: layout of its header, parsed and written. */
#ifndef SP_FRAME_H
#define SP_FRAME_H

#include "diode/layout.h"

/*
 * Datagram, protocol version 1. Integers are big-endian. The header is the associated data of
 * AES-256-GCM (link.h), the symbol its plaintext, so that a datagram carries all that is needed to
 * place it, and nothing of it can be changed.
 *
 *	off len
 *	  0   3  magic "SPD"
 *	  3   1  protocol version, 1
 *	  4   1  type: 0 symbol, 1 heartbeat, 2 filler
 *	  5   1  flags: 1 the object is a manifest, 2 the manifest that closes a pass
 *	  6   1  pass, from 0
 *	  7   1  passes in all, at least pass + 1
 *	  8  32  session id, random at each start of a sender
 *	 40   8  counter of the session's datagrams, from 0: nonce and replay check
 *	 48  16  object id: the first bytes of its SHA-256
 *	 64   8  object size in bytes, at least 1
 *	 72   8  block: number of the codeword inside the object
 *	 80   1  symbol index: source 0..k-1, parity k..k+parity-1
 *	 81   1  k
 *	 82   1  parity rows of all passes together
 *	 83   1  0
 *	 84   2  symbol size S in bytes
 *	 86   2  0
 *	 88   S  symbol, encrypted
 *	 88+S 16 tag
 *
 * Heartbeat and filler have the same length as the session's symbols; S is theirs too, and pass
 * and all fields of bytes 48 to 83 are 0 (passes is 1, to keep one rule). One length for all
 * datagrams tells an observer nothing and keeps the link's behaviour the same for all of them.
 */
#define SP_FRAME_MAX 1472 /* bytes: Ethernet MTU 1500 less IPv4 and UDP headers */
#define SP_FRAME_HEADER_LEN 88
#define SP_FRAME_TAG_LEN 16
#define SP_FRAME_SESSION_LEN 32
#define SP_FRAME_ID_LEN 16
#define SP_FRAME_SYMBOL_MAX (SP_FRAME_MAX - SP_FRAME_HEADER_LEN - SP_FRAME_TAG_LEN)
/* A multiple of 64 keeps every symbol of a codeword on a cache line. */
#define SP_FRAME_SYMBOL_DEFAULT (SP_FRAME_SYMBOL_MAX / 64 * 64)

enum sp_frame_type { SP_FRAME_SYMBOL, SP_FRAME_HEARTBEAT, SP_FRAME_FILLER };
enum { SP_FRAME_MANIFEST = 1, SP_FRAME_CLOSING = 2 };

/* Objects are known by the first 128 bits of their SHA-256 until the manifest has named them. */
struct sp_object_id {
	uint8_t b[SP_FRAME_ID_LEN];
};

struct sp_frame {
	enum sp_frame_type type;
	unsigned flags;
	unsigned pass;
	unsigned passes;
	uint8_t session[SP_FRAME_SESSION_LEN];
	uint64_t counter;
	struct sp_object_id object;
	struct sp_layout layout; /* of the object; size 0 when it is no symbol */
	uint64_t block;
	unsigned index;
};

/* Why a datagram was dropped; the order is the order of the checks. */
enum sp_frame_drop {
	SP_FRAME_OK,
	SP_FRAME_BAD_SIZE,   /* no header fits, or its length is not what the header says */
	SP_FRAME_BAD_MAGIC,  /* not ours, or another protocol version */
	SP_FRAME_BAD_FIELD,  /* a field outside its range */
	SP_FRAME_REPLAYED,   /* counter seen before, or too old to tell */
	SP_FRAME_BAD_TAG,    /* not sealed with our key, or changed on the way */
	SP_FRAME_NO_SESSION, /* a valid new session while the table is full of live ones */
	SP_FRAME_DROP_COUNT
};
const char *sp_frame_drop_word(enum sp_frame_drop drop);

/* Reads and checks the header of one datagram of len bytes. Pure; frame is filled on SP_FRAME_OK.
 */
enum sp_frame_drop sp_frame_parse(const uint8_t *data, size_t len, struct sp_frame *frame);

/* Writes the header. The frame must be one that sp_frame_parse would accept. */
void sp_frame_write(const struct sp_frame *frame, uint8_t out[SP_FRAME_HEADER_LEN]);

static inline size_t
sp_frame_len(const struct sp_frame *frame)
{
	return SP_FRAME_HEADER_LEN + frame->layout.symbol_size + SP_FRAME_TAG_LEN;
}

#endif
