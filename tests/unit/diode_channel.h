/* diode_channel.h -- for tests: a sender's core, a receiver's core, and a channel between them that
 * loses, repeats and shuffles by a seeded generator. */
#ifndef TEST_DIODE_CHANNEL_H
#define TEST_DIODE_CHANNEL_H

#include "diode/rx.h"
#include "diode/tx.h"

#define OBJECTS_MAX 16
#define JOB "0123456789abcdef0123456789abcdef"

extern uint64_t seed; /* of the generator */

struct source {
	struct sp_manifest manifest;
	struct sp_object objects[OBJECTS_MAX];
	uint8_t *data[OBJECTS_MAX];
	struct sp_tx_config config;
	struct sp_tx *tx;
};

struct datagram {
	struct sp_frame frame;
	uint8_t payload[SP_FRAME_SYMBOL_MAX];
};

struct pass {
	struct datagram *items;
	size_t count;
};

struct file {
	struct sp_object_id id;
	struct sp_layout layout;
	int is_manifest, is_verified;
	uint8_t *data;
	uint8_t *complete; /* a byte per codeword: the journal */
	unsigned writes;
};

struct sink {
	struct sp_rx_config config;
	struct sp_rx *rx;
	struct file files[OBJECTS_MAX + 2];
	size_t count;
	unsigned events[SP_RX_LINK_DOWN + 1];
	struct sp_rx_event last; /* by kind's own fields; pointers not to be followed */
	char text[SP_ERR_MSG_MAX];
	uint64_t gap_blocks, gap_bytes;
	unsigned failing_writes; /* so many more writes meet a full disk */
	unsigned drops;
	uint64_t memory_most;
};

/* splitmix64 (Steele, Lea, Flood 2014) */
uint64_t draw(void);
void source_make(struct source *source, const size_t *sizes, size_t count, unsigned k, unsigned m);
/* Takes up changes of source->config. */
void source_renew(struct source *source);
void source_free(struct source *source);
struct pass pass_make(struct source *source, unsigned number);
/* Loses, repeats, and swaps datagrams with others at most distance away. */
void
pass_harm(struct pass *pass, unsigned lose_permille, unsigned repeat_permille, size_t distance);
struct file *sink_file(struct sink *sink, const struct sp_object_id *id);
/* Executes what the core asks for, at once. */
void sink_settle(struct sink *sink, int64_t now_ms);
void sink_make(struct sink *sink);
void sink_reconfigure(struct sink *sink);
void sink_free(struct sink *sink);
/* Feeds datagrams [from, to) of a pass; frees none of it. */
void feed(struct sink *sink, const struct pass *pass, size_t from, size_t to, uint64_t session,
    int64_t now_ms);
void tick(struct sink *sink, int64_t now_ms);
void expect_all(struct sink *sink, const struct source *source);
struct sp_rx_counts counts_of(const struct sink *sink);

#endif
