/* show.c -- how far a long work of sallyctl's own is. */
#include "show.h"
#include "base/time.h"
#include "place.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define FRAME_MS 100
#define COLUMNS 80 /* of a terminal that does not say */

static size_t
columns(void)
{
	struct winsize size;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
		return COLUMNS;
	return size.ws_col;
}

static void
open_show(struct ctl_show *show)
{
	if (show->opened)
		return;
	show->opened = 1;
	show->terminal = ctl_meter_wanted(show->ctl);
}

static void
redraw(struct ctl_show *show, const char *history, const char *frame)
{
	struct sp_buf out = {0};

	ctl_bars_redraw(&show->screen, columns(), history, frame, &out);
	if (out.len > 0)
		fwrite(out.data, 1, out.len, stderr);
	fflush(stderr);
	sp_buf_free(&out);
}

static void
draw(struct ctl_show *show, const Sallyport__OperatorJobView *view)
{
	struct ctl_bars_job job = {.view = view, .rate = show->rate};
	struct sp_buf frame = {0};

	ctl_bars_draw(&job, 1, 0, columns(), 2, &frame);
	redraw(show, "", frame.data != NULL ? (const char *)frame.data : "");
	sp_buf_free(&frame);
}

void
ctl_show(struct ctl_show *show, const char *phase, uint64_t done, uint64_t total, const char *unit)
{
	Sallyport__OperatorJobView view;
	int64_t now = sp_time_monotonic_ms();
	int bytes = strcmp(unit, "bytes") == 0;
	char units[16];

	open_show(show);
	if (show->ctl->json)
		return;
	if (!show->terminal) {
		if (bytes || show->told == done + 1)
			return;
		show->told = done + 1;
		ctl_out_print(
		    stderr, "%s, %" PRIu64 " of %" PRIu64 " %s\n", phase, done, total, unit);
		return;
	}
	if (bytes && done < total && now - show->shown_ms < FRAME_MS)
		return;
	show->shown_ms = now;
	sallyport__operator_job_view__init(&view);
	snprintf(show->phase, sizeof(show->phase), "%s", phase);
	snprintf(units, sizeof(units), "%s", unit);
	view.phase = show->phase;
	view.unit = units;
	view.done = done;
	view.total = total;
	ctl_view_rate(&show->rate, &view, now);
	draw(show, &view);
}

void
ctl_show_line(struct ctl_show *show, const char *fmt, ...)
{
	char *text, *clean, *line;
	va_list args;

	open_show(show);
	if (show->ctl->json)
		return;
	va_start(args, fmt);
	text = sp_xvasprintf(fmt, args);
	va_end(args);
	clean = ctl_out_clean(text);
	line = sp_xasprintf("%s\n", clean);
	if (show->terminal)
		redraw(show, line, "");
	else
		fputs(line, stderr);
	free(text);
	free(clean);
	free(line);
}

void
ctl_show_close(struct ctl_show *show)
{
	if (show->opened && show->terminal)
		redraw(show, "", "");
	ctl_bars_clear(&show->screen);
}
