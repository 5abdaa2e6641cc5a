/* bus_rig.h -- a real hub in this process, real workers in others, all under a temporary root. */
#ifndef SP_TEST_BUS_RIG_H
#define SP_TEST_BUS_RIG_H

#include "bus/hub.h"

#include <sys/types.h>

#define RIG_WORKER "fetcherd@bastion" /* the worker that rig_start_worker runs */
#define RIG_OTHER "quantd@bastion"    /* its key is free for the test to misuse */
#define RIG_STRANGER_UID 4242	      /* whom the document wants RIG_WRONG_UID to be */
#define RIG_WRONG_UID "validatord@bastion"

struct rig_message {
	struct rig_message *next;
	char *worker; /* NULL: from an operator */
	Sallyport__Envelope *envelope;
	struct sp_hub_operator operator;
	uint8_t *data;
	size_t len;
};

struct rig {
	char root[32];
	char *conf_file;
	uv_loop_t loop;
	uv_timer_t deadline, pulse;
	int late;
	int deny;    /* the hub refuses every key */
	int any_uid; /* it admits as if the document gave nobody a uid */
	struct sp_conf *conf;
	struct sp_trust *trust;
	struct sp_key *server, *worker, *other, *wrong_uid;
	struct sp_hub *hub;
	struct rig_message *messages;
	pid_t pid; /* of the worker, 0: none */
};

/* Group setup: directories, keys, trust document, configuration, hub. */
void rig_open(struct rig *rig);
/* Ends the worker, the hub, and removes everything. */
void rig_close(struct rig *rig);
void rig_open_hub(struct rig *rig);
/* sp_hub_close, with its memory gone too. */
void rig_close_hub(struct rig *rig);

/* This very program with arguments makes a worker of itself: see main() of the test. key: what is
 * installed as its bus key. */
void rig_start_worker(struct rig *rig, const struct sp_key *key);
/* The same with arguments of the test's choice. */
void rig_start_args(struct rig *rig, const char *const *args);
/* Until the worker's log has that text. */
void rig_wait_log(struct rig *rig, const char *text);
/* The exit status, or 128 + signal. */
int rig_wait_worker(struct rig *rig);
/* Runs `worker ARGS…` to its end, with what it printed (malloc'd) in *output. */
int rig_run(struct rig *rig, char **output, const char *const *args);

/* A socket without our worker's manners. key NULL: no CURVE at all. path: key of the configuration.
 */
struct raw {
	void *context, *socket, *monitor;
};
void raw_open(struct rig *rig, struct raw *raw, const struct sp_key *key, const uint8_t *server,
    const char *path);
void raw_open_as(struct rig *rig, struct raw *raw, int type, const struct sp_key *key,
    const uint8_t *server, const char *path);
void raw_close(struct raw *raw);
/* For rig_until, ctx a struct raw: its connection was closed, and before that there was no word
 * about a handshake that is done. */
int raw_was_turned_away(void *ctx);
/* The connection was closed. */
int raw_was_cut_off(void *ctx);

/* Runs the loop until done(ctx); the test fails after 30 s. */
void rig_until(struct rig *rig, int (*done)(void *ctx), void *ctx);
/* The next message with that body; what comes before it is dropped. Free with rig_free. */
struct rig_message *rig_wait(struct rig *rig, Sallyport__Envelope__BodyCase body);
struct rig_message *rig_wait_operator(struct rig *rig);
void rig_free(struct rig_message *message);

/* From ledgerd to RIG_WORKER. */
void rig_offer(struct rig *rig, const char *lease, const char *step, const char *name);
void rig_cancel(struct rig *rig, const char *lease);
void rig_ack(struct rig *rig, uint64_t seq, uint64_t log_seq);
void rig_refuse(struct rig *rig, uint64_t seq, const char *lease);
/* Offer, accept, ack. */
void rig_lease(struct rig *rig, const char *lease, const char *step, const char *name);
/* The lease's result, acknowledged. */
struct rig_message *rig_result(struct rig *rig, const char *lease);
/* Offer to result. */
struct rig_message *rig_do(struct rig *rig, const char *lease, const char *step, const char *name);
/* What a result that is a failure says. */
const Sallyport__Failure *rig_failure(const struct rig_message *message);
/* A detail of a result, "" when it has none of that key. */
const char *rig_detail(const struct rig_message *message, const char *key);

#endif
