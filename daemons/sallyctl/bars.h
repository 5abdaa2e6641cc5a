/*
 * bars.h -- jobs under way as a terminal shows them: a bar for each file, one for the whole. Pure:
 * views, sizes and the clock in, text out.
 */
#ifndef CTL_BARS_H
#define CTL_BARS_H

#include "base/buf.h"
#include "view.h"

/* A job that is followed. */
struct ctl_bars_job {
	const Sallyport__OperatorJobView *view;
	struct ctl_view_rate rate;
};

/*
 * Lines for those jobs, each ended by '\n' and narrower than `columns` (at least 20), at most
 * max_lines (at least 1) of them. With `named`, each job's first line says which it is. What does
 * not fit: first files go, then bars, then jobs, and a line says how many. Everything is clean.
 */
void ctl_bars_draw(const struct ctl_bars_job *jobs, size_t count, int named, size_t columns,
    size_t max_lines, struct sp_buf *out);

/*
 * A part of the screen that is drawn again and again: the last lines above the cursor. It is left
 * with the cursor in the first column below it and changes nothing of the terminal, so whoever is
 * killed between two drawings leaves it whole.
 */
struct ctl_bars_screen {
	size_t *widths; /* of the lines that are there */
	size_t count;
	char *frame; /* they themselves */
	size_t columns;
};

/* The bytes that replace what is there by `frame` (lines), after `history` (lines, may be ""),
 * which stays for good; none when that changes nothing. columns: the terminal's, which may have
 * changed since. */
void ctl_bars_redraw(struct ctl_bars_screen *screen, size_t columns, const char *history,
    const char *frame, struct sp_buf *out);
void ctl_bars_clear(struct ctl_bars_screen *screen);

#endif
