/* ledger_rig.h -- a ledger in a directory of its own, for the tests of lib/ledger. */
#ifndef LEDGER_RIG_H
#define LEDGER_RIG_H

#include "ledger/ledger.h"

#define ORIGIN "sallyport/bastion/test"

extern const struct sp_actor self;
extern uint8_t log_pk[32], log_sk[64]; /* drawn by the test program's main */

struct fixture {
	char dir[64];
	char *path; /* of the database */
	struct sp_ledger *ledger;
	unsigned leases; /* ids given out */
	char lease[33];	 /* the newest */
};

/* With log_sk, for struct sp_ledger_spec. */
void sign(void *ctx, const void *data, size_t len, uint8_t sig[64]);
enum sp_code open_ledger(struct fixture *f, struct sp_err *err);
/* Closes it first; the test fails when it does not open. */
void reopen(struct fixture *f);

/* Of each test: *state is a struct fixture. */
int setup(void **state);
int teardown(void **state);

#endif
