/* ledgerd.h -- what ledgerd's files share: the daemon, its batch of one commit, its answers. */
#ifndef LEDGERD_H
#define LEDGERD_H

#include "base/conf.h"
#include "bus/hub.h"
#include "collect.h"
#include "core.h"
#include "operator.pb-c.h"
#include "profile.h"

#include <sys/stat.h>
#include <uv.h>

#define LEDGERD_SERVICE "ledgerd"
#define LEDGERD_WAITERS_MAX 256
#define LEDGERD_WAIT_MAX_MS 60000
#define LEDGERD_JOBS_MAX 1000		 /* of one list */
#define LEDGERD_REPLY_BYTES (512u << 10) /* of jobs or entries in one reply, and one more */

/* What is said once the batch is committed. */
enum ledgerd_out_kind { LEDGERD_OUT_WORKER, LEDGERD_OUT_OPERATOR, LEDGERD_OUT_TOPIC };
struct ledgerd_out {
	enum ledgerd_out_kind kind;
	char worker[SP_NAME_MAX + 1];
	Sallyport__Envelope *envelope; /* to a worker; owned */
	int repeats; /* the worker asks again until it is answered: silence does no harm */
	struct sp_hub_operator to;
	uint64_t seq;	   /* of the request */
	const char *topic; /* a literal */
	uint8_t *data;	   /* to an operator, of a topic; owned */
	size_t len;
};

/* An operator's request that is answered when its job changes. */
struct ledgerd_waiter {
	struct sp_hub_operator from;
	uint64_t seq;
	char job[SP_JOB_ID_LEN + 1];
	uint64_t after;
	int64_t deadline_ms;
};

struct ledgerd {
	const struct sp_conf *conf;
	char *origin, *name; /* sallyport/SIDE/HOST, ledgerd@SIDE */
	char key_id[SP_HEX_LEN + 1];
	struct sp_key *log_key;
	int64_t started_ms;
	struct sp_ledger *ledger;
	struct ledgerd_core core;
	struct ledgerd_collection *collection; /* the newest; NULL: none since the start */

	char *trust_dir, *trust_file;
	struct sp_trust *trust; /* NULL: could not be read; never cached beyond a minute */
	struct stat trust_seen;
	int64_t trust_ms;
	struct ledgerd_profile_kept profile;

	uv_loop_t *loop;
	struct sp_hub *hub;
	uv_timer_t timer, settle;
	uv_idle_t flush;
	uint64_t published; /* size of the checkpoint that was published last */
	uv_signal_t on_term, on_int;

	int in_batch;
	int64_t batch_ms; /* when it was begun */
	int moved;	  /* the core follows something that the message under way did */
	int stale; /* the core follows something that did not happen, and could not be read since */
	struct ledgerd_out *out;
	size_t out_count, out_cap;
	struct ledgerd_waiter waiters[LEDGERD_WAITERS_MAX];
	size_t waiter_count;
};

/* --- ledgerd_io.c: commit, then say ----------------------------------------------------------- */

enum sp_code ledgerd_open(
    struct ledgerd *l, const struct sp_conf *conf, uv_loop_t *loop, struct sp_err *err) SP_MUST_USE;
void ledgerd_close(struct ledgerd *l);
/* Lets ledgerd_flush run when the loop comes round. */
void ledgerd_wake(struct ledgerd *l);
/* Commits what is open, sends, offers, wakes; what a turn of the loop left to do. The checkpoint
 * over it is stored with the next batch, or alone where that would take long to come. */
void ledgerd_flush(struct ledgerd *l);
/* The same, and the checkpoint that covers all of it is stored and published. */
void ledgerd_settle(struct ledgerd *l);

/* The trust document in force; SP_E_* with a message when it cannot be read. */
enum sp_code
ledgerd_trust(struct ledgerd *l, const struct sp_trust **out, struct sp_err *err) SP_MUST_USE;

/* Opens the batch's transaction when there is none, and marks where this message begins. */
enum sp_code ledgerd_batch(struct ledgerd *l, struct sp_err *err) SP_MUST_USE;
/* What the message did is undone; the rest of the batch stays unless the disk is full. */
void ledgerd_undo(struct ledgerd *l, const struct sp_err *err);
/* One transition, in the batch: applied, noted in the core, logged, and a lease that it ends
 * without the worker's doing is cancelled. seq (may be NULL): of its entry. */
enum sp_code ledgerd_apply(struct ledgerd *l, struct sp_change *change, struct sp_changed *changed,
    struct sp_err *err) SP_MUST_USE;
/* 32 hex digits: Unix ms in 12, so that an index of them grows at its end alone; 20 random ones. */
void ledgerd_fresh_id(char id[SP_JOB_ID_LEN + 1]);

/* Answers and news, sent when the batch is committed. */
/* Takes envelope over. repeats: the worker asks again until it is answered. */
void ledgerd_say(struct ledgerd *l, const char *worker, Sallyport__Envelope *envelope, int repeats);
void
ledgerd_ack(struct ledgerd *l, const char *worker, uint64_t ack_seq, uint64_t log_seq, int repeats);
void ledgerd_refuse(struct ledgerd *l, const char *worker, uint64_t ack_seq, const char *lease,
    const struct sp_err *err, int repeats);
void ledgerd_publish(struct ledgerd *l, const char *topic, const void *content, size_t len);
/* seq and version are set here. */
void ledgerd_reply(struct ledgerd *l, const struct sp_hub_operator *to, uint64_t seq,
    Sallyport__OperatorReply *reply);
void ledgerd_reply_error(
    struct ledgerd *l, const struct sp_hub_operator *to, uint64_t seq, const struct sp_err *err);

/* --- ledgerd_worker.c, ledgerd_operator.c: messages ------------------------------------------- */

sp_hub_worker_fn ledgerd_on_worker;
sp_hub_operator_fn ledgerd_on_operator;
/* Leases that were not renewed. */
void ledgerd_expire(struct ledgerd *l);

/* --- ledgerd_gc.c: collections of the workers' stores ------------------------------------------
 */

void ledgerd_gc(struct ledgerd *l, const struct sp_actor *actor, const struct sp_hub_operator *from,
    uint64_t seq, const Sallyport__OperatorGc *body);
void
ledgerd_gc_heartbeat(struct ledgerd *l, const char *worker, const Sallyport__Heartbeat *heartbeat);
void ledgerd_gc_names(
    struct ledgerd *l, const char *worker, uint64_t seq, const Sallyport__Names *names);
void ledgerd_gc_collected(struct ledgerd *l, const struct sp_actor *actor, uint64_t seq,
    const Sallyport__Collected *collected);
/* What was begun in a batch that was not committed did not happen. */
void ledgerd_gc_rolled_back(struct ledgerd *l);
void ledgerd_gc_expire(struct ledgerd *l);
/* SP_E_STATE when what the job left may have been collected since it ended. */
enum sp_code
ledgerd_gc_check_retry(struct ledgerd *l, const struct sp_job *job, struct sp_err *err) SP_MUST_USE;

/* --- ledgerd_view.c: what is told of a job and of this host ----------------------------------- */

/* Grows with every transition and every progress report. */
uint64_t ledgerd_view_change(struct ledgerd *l, const struct sp_job *job);
/* full: with artifacts, attestations, candidate, details and files. Free with _free. */
enum sp_code ledgerd_view_job(struct ledgerd *l, const struct sp_job *job, int full,
    Sallyport__OperatorJobView **out, struct sp_err *err) SP_MUST_USE;
void ledgerd_view_free(Sallyport__OperatorJobView **view);
/* What is told of this host. Free with sallyport__operator_host__free_unpacked(…, NULL). */
enum sp_code
ledgerd_view_host(struct ledgerd *l, Sallyport__OperatorHost **out, struct sp_err *err) SP_MUST_USE;

/* --- ledgerd_task.c: what a worker is told of its step ---------------------------------------- */

/* As protobuf-c frees them with the message they become part of. Operators are told the same. */
ProtobufCBinaryData ledgerd_task_bytes(const void *data, size_t len);
Sallyport__Artifact **ledgerd_task_artifacts(const struct sp_table_extras *extras, size_t *count);
Sallyport__Attested **
ledgerd_task_attestations(const struct sp_table_extras *extras, size_t *count);

/* Free with sallyport__task__free_unpacked(…, NULL). */
enum sp_code ledgerd_task_build(struct ledgerd *l, const struct sp_attempt *attempt,
    Sallyport__Task **out, struct sp_err *err) SP_MUST_USE;

#endif
