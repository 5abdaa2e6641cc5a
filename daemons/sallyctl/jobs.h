/* jobs.h -- jobs from ledgerd, for the commands that show or name them. */
#ifndef CTL_JOBS_H
#define CTL_JOBS_H

#include "ctl.h"

/* id: a job's, or the beginning of it. after_change, wait_ms: as in OperatorJob. *view points into
 * *reply, which is freed with sallyport__operator_reply__free_unpacked(…, NULL). */
enum sp_code ctl_jobs_fetch(struct ctl *ctl, const char *id, uint64_t after_change, int wait_ms,
    Sallyport__OperatorReply **reply, const Sallyport__OperatorJobView **view,
    struct sp_err *err) SP_MUST_USE;
/* Those under way, with `ended` also the others; without what only one job's view has. Newest
 * first, as many as fit a message (`more` says so); before: 0, or the first_seq that theirs must be
 * below. */
enum sp_code ctl_jobs_list(struct ctl *ctl, int ended, uint64_t before,
    Sallyport__OperatorReply **reply, struct sp_err *err) SP_MUST_USE;

#endif
