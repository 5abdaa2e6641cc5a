/* verdict.h -- what the tests' side of a sandbox prints, read by the parent; pure. */
#ifndef SP_VERDICT_H
#define SP_VERDICT_H

#include "base/err.h"

#include <stdint.h>

#define SP_VERDICT_NONCE_LEN 32 /* hex digits: 128 bits */

/* X(member, word in reports) */
#define SP_VERDICT_OUTCOMES(X)                                                  \
	X(SP_VERDICT_UNKNOWN, "unknown") /* not run */                          \
	X(SP_VERDICT_PASSED, "passed")                                          \
	X(SP_VERDICT_WRONG, "wrong") /* an assertion failed, or an exception */ \
	X(SP_VERDICT_DIED, "died")   /* it exited, or was killed at a limit */  \
	X(SP_VERDICT_TIMEOUT, "timeout")

enum sp_verdict_outcome {
#define X(id, word) id,
	SP_VERDICT_OUTCOMES(X)
#undef X
	    SP_VERDICT_OUTCOME_COUNT
};
const char *sp_verdict_word(enum sp_verdict_outcome outcome);
int sp_verdict_find(const char *word, enum sp_verdict_outcome *out); /* 1 when known */

/*
 * Lines, each at most 120 bytes of printable ASCII and '\n':
 *	ready            both interpreters are up; nothing generated has run yet
 *	nonce HEX        check() returned; HEX must be the nonce that was given
 *	wrong NAME       an exception of that type came out of the program or of check()
 *	died NAME        the program's side went away or broke the protocol
 *	broken TEXT      the task itself cannot be run: prompt or test is at fault
 * "ready" comes first, then exactly one of the others, then the end. Whatever deviates is no pass.
 */
struct sp_verdict {
	char nonce[SP_VERDICT_NONCE_LEN + 1];
	char line[128];
	size_t len;
	int ready;
	int decided; /* outcome is final; further bytes are ignored */
	int broken;  /* the task is at fault: detail says how */
	enum sp_verdict_outcome outcome;
	char detail[128];
};

void sp_verdict_init(struct sp_verdict *verdict, const char *nonce);
void sp_verdict_feed(struct sp_verdict *verdict, const uint8_t *data, size_t len);
/* No more bytes will come: undecided becomes SP_VERDICT_DIED. */
void sp_verdict_end(struct sp_verdict *verdict);

#endif
