/*
 * worker_stub.h -- the worker's side of the bus as a daemon's step sees it, for tests that call
 * steps themselves: no bus, no ledgerd, no child processes.
 */
#ifndef WORKER_STUB_H
#define WORKER_STUB_H

#include "bus/worker.h"

struct sp_worker {
	struct sp_conf *conf;
	const char
	    *trust_envelope; /* DSSE over the trust document; its signature is not looked at */
	/* the newest that was published */
	uint8_t *published;
	size_t published_len;
	unsigned publishes;
	enum sp_code publish_code; /* what publishing returns; SP_OK takes it */
};
void worker_stub_clear(struct sp_worker *worker);

struct sp_lease {
	const char *dir; /* work directories lie below it */
	int cancelled;
	uint64_t done, total; /* of the newest progress */
	unsigned reports;
	size_t files; /* under way, as last said */
	unsigned notes;
	char note[128]; /* the newest: its content, cut */
	void *kept;
	void (*end_kept)(void *data);
};

#endif
