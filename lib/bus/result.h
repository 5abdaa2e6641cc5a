/*
 * result.h -- outcomes as bus.proto Done and Failure, and back.
 *
 * Texts that a step wrote (messages, values) may quote what came from outside; they are made to
 * obey the rules of bus/envelope.h, since a result refused for its form could never be reported.
 */
#ifndef SP_RESULT_H
#define SP_RESULT_H

#include "bus/outcome.h"

/* A Done when code is SP_OK, else a Failure with all that outcome holds. Points into outcome, which
 * must outlive it. */
struct sp_result {
	Sallyport__Done done;
	Sallyport__Failure failure;
	Sallyport__Artifact *artifacts, **artifact_list;
	Sallyport__Detail *details, **detail_list;
	char **texts; /* cleaned copies */
	size_t text_count;
	int ok; /* done is filled, else failure */
};

/* err: of a failure; may be NULL. */
void sp_result_build(struct sp_result *result, enum sp_code code, const struct sp_err *err,
    const struct sp_outcome *outcome);
void sp_result_clear(struct sp_result *result);

/* Copies what a child left (already checked by sp_event_unpack) to outcome. The second returns the
 * failure's code, never SP_OK, and fills err. */
void sp_result_take_done(struct sp_outcome *outcome, const Sallyport__Done *done);
enum sp_code sp_result_take_failure(
    struct sp_outcome *outcome, const Sallyport__Failure *failure, struct sp_err *err);

/* malloc'd: text as UTF-8 of at most max bytes; bytes that are none, and control characters but \n
 * and \t, become '?'. */
char *sp_result_clean(const char *text, size_t max);

#endif
