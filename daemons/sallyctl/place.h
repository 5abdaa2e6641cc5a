/* place.h -- a directory that appears in one piece, when all that belongs into it is there. */
#ifndef CTL_PLACE_H
#define CTL_PLACE_H

#include "ctl.h"

/* The directory as it is named on the command line, without '/' at its end; malloc'd. */
char *ctl_place_dir(const char *word);
/* Before hours of copying: dir must be nothing or an empty directory. */
enum sp_code ctl_place_check(const char *dir, struct sp_err *err) SP_MUST_USE;
/* Calls fill with a directory beside dir that nobody looks at, and gives it dir's name when all of
 * it is on the disk: what is there is complete, after a power cut too. */
typedef enum sp_code ctl_place_fn(void *ctx, const char *dir, struct sp_err *err);
enum sp_code
ctl_place(const char *dir, ctl_place_fn *fill, void *ctx, struct sp_err *err) SP_MUST_USE;

/* One line that overwrites itself, on a terminal, ten times a second. */
struct ctl_meter {
	const char *what;
	int64_t shown_ms;
	int on;
};
int ctl_meter_wanted(const struct ctl *ctl);
void ctl_meter_progress(void *ctx, uint64_t done_bytes, uint64_t total_bytes);
void ctl_meter_end(struct ctl_meter *meter);

#endif
