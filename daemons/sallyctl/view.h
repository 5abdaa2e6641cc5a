/* view.h -- a job as ledgerd describes it, for machines and for people. Pure. */
#ifndef CTL_VIEW_H
#define CTL_VIEW_H

#include "base/err.h"
#include "ledger/jobs.h"
#include "operator.pb-c.h"

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

json_t *ctl_view_json(const Sallyport__OperatorJobView *view); /* new reference */
void ctl_view_print(const Sallyport__OperatorJobView *view, FILE *to);

/* A line each; views as ledgerd lists them, newest first: the newest comes last. Ids are as short
 * as they can be told apart. */
void ctl_view_list(
    const Sallyport__OperatorJobView *const *views, size_t count, int64_t now_unix_ms, FILE *to);

/* A state as people write it: "FAILED", "failed", "awaiting-approval". 1 when there is one. */
int ctl_view_find_state(const char *text, enum sp_job_state *out);
/* 1 when nothing follows by itself any more. */
int ctl_view_ended(const Sallyport__OperatorJobView *view);
/* 1 when the job is in that state, or has passed it on its way to a good end. */
int ctl_view_reached(const Sallyport__OperatorJobView *view, const char *state);
/* SP_OK while it goes on and when it has ended well; SP_E_BLOCKED or SP_E_DENIED when a gate,
 * operators or verification said no; SP_E_STATE when it failed or was cancelled. */
enum sp_code ctl_view_outcome(const Sallyport__OperatorJobView *view, struct sp_err *err);
/* What an operator does next, malloc'd; NULL when there is nothing to do. */
char *ctl_view_next(const Sallyport__OperatorJobView *view);

/* How fast a phase goes: the mean of its first seconds, then one that forgets over so many. */
struct ctl_view_rate {
	char phase[65];
	uint64_t first, done;
	int64_t first_ms, at_ms;
	double per_s; /* <= 0: not known */
};
/* To be called with each view, changed or not: a step that stands still grows slower. */
void
ctl_view_rate(struct ctl_view_rate *rate, const Sallyport__OperatorJobView *view, int64_t now_ms);
/* Until the phase's end; -1: not known. */
int64_t ctl_view_left_ms(
    const struct ctl_view_rate *rate, const Sallyport__OperatorJobView *view) SP_MUST_USE;
/* "512 KiB/s  6 s left", malloc'd; "" when nothing is known. */
char *ctl_view_speed(const Sallyport__OperatorJobView *view, const struct ctl_view_rate *rate);
/* "FETCHING  download  1.00 MiB of 4.00 MiB  512 KiB/s  6 s left", malloc'd and clean. */
char *ctl_view_line(const Sallyport__OperatorJobView *view, const struct ctl_view_rate *rate);

#endif
