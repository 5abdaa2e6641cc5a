/* log.h -- one line per event on stderr (journald adds the time): "level daemon: job=… text". */
#ifndef SP_LOG_H
#define SP_LOG_H

#include "base/err.h"

enum sp_log_level { SP_LOG_ERROR, SP_LOG_WARN, SP_LOG_INFO, SP_LOG_DEBUG };

/* daemon: the name in front of each line; verbose: 0 info and above, 1 debug too. */
void sp_log_init(const char *daemon, int verbose);

/* job may be NULL. Control characters of the text are written as \xHH: a line stays a line. */
void sp_log(enum sp_log_level level, const char *job, const char *fmt, ...) SP_PRINTF(3, 4);

#define sp_log_error(job, ...) sp_log(SP_LOG_ERROR, job, __VA_ARGS__)
#define sp_log_warn(job, ...) sp_log(SP_LOG_WARN, job, __VA_ARGS__)
#define sp_log_info(job, ...) sp_log(SP_LOG_INFO, job, __VA_ARGS__)
#define sp_log_debug(job, ...) sp_log(SP_LOG_DEBUG, job, __VA_ARGS__)

#endif
