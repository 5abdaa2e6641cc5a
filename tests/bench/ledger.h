/* ledger.h -- what the files of sp-bench-ledger share. */
#ifndef BENCH_LEDGER_H
#define BENCH_LEDGER_H

#include "base/err.h"

double bench_now_s(void);
void bench_check(enum sp_code code, const struct sp_err *err); /* ends the program on an error */
void bench_print_list(const double *values, size_t count);     /* as JSON */

/* Round trips of `submit` over so many connections at once, count of them in all, and when the
 * checkpoint over each is published: prints submit latencies' and checkpoints' p99 in ms, submits
 * a second. */
int bench_submit(const char *socket, const char *snapshots, unsigned connections, unsigned count);

#endif
