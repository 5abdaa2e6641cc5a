/* inbox.h -- the receiver's objects, what they hold in the spool, and what is to be done for them.
 * Internal to rx.c, which decides; this keeps the books. */
#ifndef SP_INBOX_H
#define SP_INBOX_H

#include "diode/rx.h"

#include <sys/queue.h>

#define SP_INBOX_BUCKETS 65536
#define SP_INBOX_NEVER INT64_MIN

enum sp_incoming_state {
	SP_INBOX_RECEIVING,
	SP_INBOX_VERIFYING, /* everything written, digest being computed */
	SP_INBOX_DONE,	    /* verified, in the spool */
	SP_INBOX_HELD	    /* nothing of it is wanted: the owner has it or gave it up */
};

/* An object by its id: stray until a transfer names it (or is begun by it). */
struct sp_incoming {
	LIST_ENTRY(sp_incoming) chain;
	TAILQ_ENTRY(sp_incoming) stray; /* while transfers is 0 */
	struct sp_object_id id;
	enum sp_incoming_state state;
	int is_manifest;
	uint64_t generation;
	struct sp_layout layout; /* k is 0 until a symbol has come */
	uint8_t *taken;		 /* bit per codeword: decoded, perhaps not written yet */
	uint64_t written;	 /* codewords */
	uint64_t writing;
	uint64_t charged_bytes;	 /* in spool_bytes */
	uint64_t session;	 /* newest that sent a symbol of it */
	uint32_t transfers;	 /* that name it, or whose manifest it is */
	struct sp_object object; /* as named; of a stray, digest once it is verified */
	int64_t heard_ms, closed_ms;
};

/* An action, and what its event points at. */
struct sp_queued {
	STAILQ_ENTRY(sp_queued) next;
	struct sp_rx_action action;
	char *text;
	struct sp_rx_gap *gaps;
};

struct sp_inbox {
	struct sp_assemble *assemble;
	uint64_t spool_bytes, stray_bytes; /* charged to all, and to the strays among them */
	uint64_t generation;		   /* given out last */
	TAILQ_HEAD(, sp_incoming) strays;  /* oldest first */
	size_t stray_count;
	STAILQ_HEAD(, sp_queued) actions;
	struct sp_queued *current; /* the action taken last */
	LIST_HEAD(, sp_incoming) buckets[SP_INBOX_BUCKETS];
};

void sp_inbox_init(struct sp_inbox *set, uint64_t memory_max_bytes);
void sp_inbox_clear(struct sp_inbox *set);

/* Appends an action for entry (may be NULL); the caller fills in the rest. */
struct sp_queued *
sp_inbox_push(struct sp_inbox *set, enum sp_rx_action_kind kind, const struct sp_incoming *entry);
int sp_inbox_next_action(struct sp_inbox *set, struct sp_rx_action *action);

struct sp_object_id sp_inbox_id(const uint8_t digest[SP_DIGEST_LEN]);
struct sp_incoming *sp_inbox_find(struct sp_inbox *set, const struct sp_object_id *id);
/* A stray, charged with size bytes. */
struct sp_incoming *
sp_inbox_new(struct sp_inbox *set, const struct sp_object_id *id, uint64_t size, int64_t now_ms);
/* Sets what the entry may take up in the spool. */
void sp_inbox_charge(struct sp_inbox *set, struct sp_incoming *entry, uint64_t bytes);
/* A transfer (bit number) names the entry; a stray no more. */
void sp_inbox_adopt(struct sp_inbox *set, struct sp_incoming *entry, unsigned transfer);
/* The transfer is gone; an entry that no other names is dropped and freed. */
void sp_inbox_disown(struct sp_inbox *set, struct sp_incoming *entry, unsigned transfer);
/* Back to an object of which nothing has come. What is in the spool or on its way there goes. */
void sp_inbox_reset(struct sp_inbox *set, struct sp_incoming *entry);
/* As reset, and from now on its symbols are ignored. */
void sp_inbox_hold(struct sp_inbox *set, struct sp_incoming *entry);
/* Drops and frees a stray. */
void sp_inbox_free(struct sp_inbox *set, struct sp_incoming *entry);
/* Drops the oldest stray that takes up room; 0 when there is none. */
int sp_inbox_evict_stray(struct sp_inbox *set);
/* Everything is written: asks for the digest. */
void sp_inbox_verify(struct sp_inbox *set, struct sp_incoming *entry);
void sp_inbox_lay_out(struct sp_incoming *entry, const struct sp_layout *layout);

#endif
