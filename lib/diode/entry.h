/* entry.h -- the receiver's objects, what they hold in the spool, and what is to be done for them.
 * Internal to rx.c, which decides; this keeps the books. */
#ifndef SP_ENTRY_H
#define SP_ENTRY_H

#include "diode/rx.h"

#include <sys/queue.h>

#define SP_ENTRY_BUCKETS 65536
#define SP_ENTRY_NEVER INT64_MIN

enum sp_entry_state {
	SP_ENTRY_RECEIVING,
	SP_ENTRY_VERIFYING, /* everything written, digest being computed */
	SP_ENTRY_DONE,	    /* verified, in the spool */
	SP_ENTRY_HELD	    /* nothing of it is wanted: the owner has it or gave it up */
};

/* An object by its id: stray until a transfer names it (or is begun by it). */
struct sp_entry {
	LIST_ENTRY(sp_entry) chain;
	TAILQ_ENTRY(sp_entry) stray; /* while transfers is 0 */
	struct sp_object_id id;
	enum sp_entry_state state;
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

struct sp_entries {
	struct sp_assemble *assemble;
	uint64_t spool_bytes, stray_bytes; /* charged to all, and to the strays among them */
	uint64_t generation;		   /* given out last */
	TAILQ_HEAD(, sp_entry) strays;	   /* oldest first */
	size_t stray_count;
	STAILQ_HEAD(, sp_queued) actions;
	struct sp_queued *current; /* the action taken last */
	LIST_HEAD(, sp_entry) buckets[SP_ENTRY_BUCKETS];
};

void sp_entry_init(struct sp_entries *set, uint64_t memory_max_bytes);
void sp_entry_clear(struct sp_entries *set);

/* Appends an action for entry (may be NULL); the caller fills in the rest. */
struct sp_queued *
sp_entry_push(struct sp_entries *set, enum sp_rx_action_kind kind, const struct sp_entry *entry);
int sp_entry_next_action(struct sp_entries *set, struct sp_rx_action *action);

struct sp_object_id sp_entry_id(const uint8_t digest[SP_DIGEST_LEN]);
struct sp_entry *sp_entry_find(struct sp_entries *set, const struct sp_object_id *id);
/* A stray, charged with size bytes. */
struct sp_entry *
sp_entry_new(struct sp_entries *set, const struct sp_object_id *id, uint64_t size, int64_t now_ms);
/* Sets what the entry may take up in the spool. */
void sp_entry_charge(struct sp_entries *set, struct sp_entry *entry, uint64_t bytes);
/* A transfer (bit number) names the entry; a stray no more. */
void sp_entry_adopt(struct sp_entries *set, struct sp_entry *entry, unsigned transfer);
/* The transfer is gone; an entry that no other names is dropped and freed. */
void sp_entry_disown(struct sp_entries *set, struct sp_entry *entry, unsigned transfer);
/* Back to an object of which nothing has come. What is in the spool or on its way there goes. */
void sp_entry_reset(struct sp_entries *set, struct sp_entry *entry);
/* As reset, and from now on its symbols are ignored. */
void sp_entry_hold(struct sp_entries *set, struct sp_entry *entry);
/* Drops and frees a stray. */
void sp_entry_free(struct sp_entries *set, struct sp_entry *entry);
/* Drops the oldest stray that takes up room; 0 when there is none. */
int sp_entry_evict_stray(struct sp_entries *set);
/* Everything is written: asks for the digest. */
void sp_entry_verify(struct sp_entries *set, struct sp_entry *entry);
void sp_entry_lay_out(struct sp_entry *entry, const struct sp_layout *layout);

#endif
