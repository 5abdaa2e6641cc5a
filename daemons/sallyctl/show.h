/* show.h -- how far a long work of sallyctl's own is: a bar on a terminal, lines elsewhere. */
#ifndef CTL_SHOW_H
#define CTL_SHOW_H

#include "bars.h"
#include "ctl.h"

/* Zero-initialised but for ctl is ready; closed by ctl_show_close. */
struct ctl_show {
	const struct ctl *ctl;
	int opened, terminal;
	char phase[96]; /* "layer: error 0.01 -> 0.004" */
	struct ctl_view_rate rate;
	struct ctl_bars_screen screen;
	int64_t shown_ms;
	uint64_t told; /* what the newest line said is done, and one more */
};

/* On stderr: a terminal gets a bar, ten times a second at most; anything else a line for each of
 * what is not counted in bytes, and nothing for bytes. Nothing with --json. unit: "bytes", … */
void
ctl_show(struct ctl_show *show, const char *phase, uint64_t done, uint64_t total, const char *unit);
/* A line that stays. */
void ctl_show_line(struct ctl_show *show, const char *fmt, ...) SP_PRINTF(2, 3);
/* Takes the bar away. */
void ctl_show_close(struct ctl_show *show);

#endif
