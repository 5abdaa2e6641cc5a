/* watch.h -- following jobs: live on a terminal, line by line in a pipe, documents with --json. */
#ifndef CTL_WATCH_H
#define CTL_WATCH_H

#include "ctl.h"

enum ctl_watch_how {
	CTL_WATCH_END,	 /* until the job has ended */
	CTL_WATCH_PAUSE, /* or waits for operators */
	CTL_WATCH_QUIET	 /* the same, and shows nothing */
};

/* Follows one job; `until`: a state to stop at, may be NULL. The last view is left in *reply. */
enum sp_code ctl_watch_follow(struct ctl *ctl, const char *id, const char *until,
    enum ctl_watch_how how, Sallyport__OperatorReply **reply,
    const Sallyport__OperatorJobView **view, struct sp_err *err) SP_MUST_USE;

#endif
