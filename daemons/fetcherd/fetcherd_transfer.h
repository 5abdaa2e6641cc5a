/*
 * fetcherd_transfer.h -- the threads of a download; for fetcherd_download.c, _transfer.c, _large.c.
 *
 * One thread per connection gets what the plan gives it and writes it. Caretakers hash large files
 * behind the bytes that are there without a gap, and turn whole ones into blobs. Syncers sync, each
 * a file at a time: what is not synced yet is bounded for each connection, and is what a crash
 * costs.
 */
#ifndef FETCHERD_TRANSFER_H
#define FETCHERD_TRANSFER_H

#include "base/pace.h"
#include "fetcherd/fetcherd.h"
#include "fetcherd/fetcherd_plan.h"
#include "store/part.h"

#include <pthread.h>
#include <stdatomic.h>

#define FETCHERD_CONNECTIONS_MAX 64
#define FETCHERD_CARETAKERS_MAX 4
#define FETCHERD_SYNCERS 4

struct fetcherd_transfer;

/* A large file's part of the disk and of the hub (fetcherd_large.io). */
struct fetcherd_large_io {
	struct sp_part *part;
	struct sp_client_target *target;
	struct sp_hash *sha256, *oid; /* oid: of a file that is no LFS file */
	uint64_t hashed;	      /* bytes, from the first on */
	int hashing, syncing, closing;
	int64_t synced_ms;			     /* when it was last synced */
	uint32_t unsynced[FETCHERD_CONNECTIONS_MAX]; /* bytes, by who has written them */
};

struct fetcherd_connection {
	struct fetcherd_transfer *transfer;
	struct sp_client *client;
	pthread_t thread;
	uint64_t part_bytes; /* that a part should have */
	/* its part of a large file */
	struct fetcherd_work_item item;
	uint64_t at;  /* where the buffer goes */
	uint64_t got; /* of this part */
	int is_stale; /* it was worth nothing any more */
	uint8_t *buf;
	size_t fill;
	/* under the lock: bytes written and not synced, of all files; seen: as it was last seen */
	uint64_t unsynced, unsynced_seen;
};

struct fetcherd_transfer {
	const struct fetcherd_download *d;
	struct sp_client_options hub;
	struct sp_hex *sha256; /* per file of the listing; "" until the store has it */
	int journal_fd;
	atomic_int stop; /* something has failed: all end */
	pthread_mutex_t lock;
	/* for connections: work, or room; for the syncer: bytes; for caretakers: something to do */
	pthread_cond_t changed, dirty, ready;
	struct fetcherd_plan plan;
	struct sp_pace pace;
	_Atomic uint64_t done;	  /* bytes */
	_Atomic int64_t files_ms; /* when the files under way were last told of */
	int ended;
	enum sp_code code; /* of the first failure */
	struct sp_err err;
	struct fetcherd_connection connections[FETCHERD_CONNECTIONS_MAX];
	unsigned connection_count;
};

/* --- fetcherd_transfer.c --- */

/* Gets every file whose sha256 is "". done: bytes of the others. */
enum sp_code fetcherd_transfer_run(const struct fetcherd_download *download, struct sp_hex *sha256,
    int journal_fd, uint64_t done, struct sp_err *err) SP_MUST_USE;

/* 1: everything ends. */
int fetcherd_transfer_stopped(struct fetcherd_transfer *t);
/* Ends everything with the first failure. Takes the lock. */
void
fetcherd_transfer_fail(struct fetcherd_transfer *t, enum sp_code code, const struct sp_err *err);
/* Waits for a change, at most ms. Under the lock. */
void fetcherd_transfer_wait(struct fetcherd_transfer *t, pthread_cond_t *cond, int64_t ms);
/* How many bytes there are more (or fewer: they were worth nothing). */
void fetcherd_transfer_count(struct fetcherd_transfer *t, int64_t bytes);
/* Tells the caller how far it is. */
void fetcherd_transfer_progress(struct fetcherd_transfer *t);
/* A line of the journal: the small file lies in the store. */
enum sp_code fetcherd_transfer_note(struct fetcherd_transfer *t, size_t file,
    const struct sp_hex *sha256, struct sp_err *err) SP_MUST_USE;

/* Keeps the rate: waits until so many bytes more may have come. */
enum sp_code
fetcherd_transfer_pace(struct fetcherd_transfer *t, size_t len, struct sp_err *err) SP_MUST_USE;

/* --- fetcherd_large.c --- */

/* A large file that the plan has given out: opens its part. */
void fetcherd_large_open(struct fetcherd_connection *c, size_t file);
/* The part of c->item. */
void fetcherd_large_get(struct fetcherd_connection *c);
/* Threads; ctx: the transfer. */
void *fetcherd_large_sync(void *ctx);
void *fetcherd_large_care(void *ctx);
/* When all threads are gone: what is there is synced, and left for another attempt. */
void fetcherd_large_leave(struct fetcherd_transfer *t);
/* Names the part of a file: as its content. */
void fetcherd_large_name(const struct sp_answer_file *file, char name[SP_PART_NAME_MAX + 1]);

#endif
