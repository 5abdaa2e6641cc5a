/* bars.c -- jobs under way as a terminal shows them. */
#include "bars.h"
#include "out.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define LABEL_MIN 12
#define LABEL_LEAST 6
#define BAR_MIN 10
#define BAR_MAX 40
#define COLUMNS_MIN 20

/* --- one line ------------------------------------------------------------------------------- */

static void
add_line(struct sp_buf *out, const char *text, size_t columns)
{
	char *clean = ctl_out_clean(text), *fit = ctl_out_fit(clean, columns - 1);

	sp_buf_printf(out, "%s\n", fit);
	free(fit);
	free(clean);
}

static unsigned
percent(uint64_t done, uint64_t total)
{
	if (done >= total)
		return 100;
	/* never 100 before the end */
	return (unsigned)((double)done / (double)total * 100 < 99
			      ? (double)done / (double)total * 100
			      : 99);
}

static void
add_bar(struct sp_buf *out, size_t width, uint64_t done, uint64_t total)
{
	size_t full, i;

	full = done >= total ? width : (size_t)((double)done / (double)total * (double)width);
	sp_buf_puts(out, "[");
	for (i = 0; i < width; i++)
		sp_buf_puts(out, i < full ? "=" : i == full ? ">" : " ");
	sp_buf_printf(out, "] %3u %%", percent(done, total));
}

/* How the columns of a job's rows are divided: "  LABEL  [BAR] 100 %  SIZES". */
struct columns {
	size_t all, label, bar; /* bar 0: there is no room for one */
};

static void
add_row(struct sp_buf *out, const struct columns *c, const char *label, uint64_t done,
    uint64_t total, const char *unit)
{
	char *clean = ctl_out_clean(label), *fit = ctl_out_fit(clean, c->label);
	char *sizes = ctl_out_progress(done, total, unit), *text, *line;
	struct sp_buf buf = {0};

	sp_buf_printf(&buf, "  %s%*s  ", fit, (int)(c->label - ctl_out_width(fit)), "");
	if (c->bar > 0 && total > 0)
		add_bar(&buf, c->bar, done, total);
	else if (c->bar > 0)
		sp_buf_printf(&buf, "%*s", (int)c->bar + 8, "");
	else if (total > 0)
		sp_buf_printf(&buf, "%3u %%", percent(done, total));
	else
		sp_buf_printf(&buf, "%5s", "");
	/* "1.00 GiB of 1.00 GiB" says no more than "1.00 GiB" beside a full bar */
	if (done == total && total > 0 && strcmp(unit, "bytes") == 0) {
		free(sizes);
		sizes = sp_xstrdup(ctl_out_size(total).s);
	}
	text = sp_buf_take(&buf, NULL);
	line = sp_xasprintf("%s  %s", text, sizes);
	add_line(out, line, c->all);
	free(line);
	free(text);
	free(sizes);
	free(fit);
	free(clean);
}

/* --- a job ---------------------------------------------------------------------------------- */

static struct columns
divide(const Sallyport__OperatorJobView *view, size_t all)
{
	struct columns c = {all, LABEL_MIN, 0};
	size_t i, w, rest, most;
	char *clean;

	for (i = 0; i < view->n_files; i++) {
		clean = ctl_out_clean(view->files[i]->path);
		w = ctl_out_width(clean);
		c.label = w > c.label ? w : c.label;
		free(clean);
	}
	/* a narrow terminal has "100 %" and the sizes behind the label, and no bar */
	most = all >= 60 ? all / 3 : all > 32 + LABEL_LEAST ? all - 32 : LABEL_LEAST;
	if (c.label > most)
		c.label = most;
	/* "  ", "  ", "[", "] 100 %", "  ", "1023 KiB of 1023 KiB", and the last column stays free
	 */
	rest = 2 + c.label + 2 + 1 + 7 + 2 + 20 + 1;
	if (all >= rest + BAR_MIN)
		c.bar = all - rest < BAR_MAX ? all - rest : BAR_MAX;
	return c;
}

/* Its state, and what is known of it without a bar. */
static void
add_head(struct sp_buf *out, const struct ctl_bars_job *job, int named, int bars, size_t columns)
{
	const Sallyport__OperatorJobView *view = job->view;
	char *line, *text, *speed;

	if (bars && view->phase[0] != '\0') {
		speed = ctl_view_speed(view, &job->rate);
		line = sp_xasprintf(
		    "%s  %s%s%s", view->state, view->phase, speed[0] != '\0' ? "  " : "", speed);
		free(speed);
	} else {
		line = ctl_view_line(view, &job->rate);
	}
	text = named ? sp_xasprintf("%.8s  %s  %s", view->job, view->name, line) : sp_xstrdup(line);
	add_line(out, text, columns);
	free(text);
	free(line);
}

static int
has_bar(const Sallyport__OperatorJobView *view)
{
	return view->phase[0] != '\0';
}

/* files: how many of its lines there are for files, and for the one that counts the rest. */
static void
add_job(struct sp_buf *out, const struct ctl_bars_job *job, int named, size_t columns, size_t files)
{
	const Sallyport__OperatorJobView *view = job->view;
	struct columns c = divide(view, columns);
	size_t shown = view->n_files <= files ? view->n_files : files - (files > 0), i;
	char *rest;

	add_head(out, job, named, 1, columns);
	for (i = 0; i < shown; i++)
		add_row(out, &c, view->files[i]->path, view->files[i]->done, view->files[i]->total,
		    "bytes");
	if (shown < view->n_files && files > 0) {
		rest = sp_xasprintf("  and %zu more files", view->n_files - shown);
		add_line(out, rest, columns);
		free(rest);
	}
	if (has_bar(view)) {
		/* what is behind a colon stands above */
		rest = view->n_files > 0
			   ? sp_xstrdup("in all")
			   : sp_xasprintf("%.*s", (int)strcspn(view->phase, ":"), view->phase);
		add_row(out, &c, rest, view->done, view->total, view->unit);
		free(rest);
	}
}

void
ctl_bars_draw(const struct ctl_bars_job *jobs, size_t count, int named, size_t columns,
    size_t max_lines, struct sp_buf *out)
{
	size_t needed = 0, room, files, i, shown;
	char *rest;

	columns = columns < COLUMNS_MIN ? COLUMNS_MIN : columns;
	for (i = 0; i < count; i++)
		needed += 1 + (size_t)has_bar(jobs[i].view);
	if (needed <= max_lines) {
		room = max_lines - needed;
		for (i = 0; i < count; i++) {
			files = jobs[i].view->n_files < room ? jobs[i].view->n_files : room;
			room -= files;
			add_job(out, &jobs[i], named, columns, files);
		}
		return;
	}
	shown = count <= max_lines ? count : max_lines - 1;
	for (i = 0; i < shown; i++)
		add_head(out, &jobs[i], named, 0, columns);
	if (shown < count) {
		rest = sp_xasprintf("and %zu more jobs", count - shown);
		add_line(out, rest, columns);
		free(rest);
	}
}

/* --- the screen ----------------------------------------------------------------------------- */

/* Rows that a line takes now: where the terminal has become narrower it was wrapped. */
static size_t
rows_of(size_t width, size_t columns)
{
	return width <= columns || columns == 0 ? 1 : (width + columns - 1) / columns;
}

static void
put_lines(struct sp_buf *out, const char *text)
{
	size_t len;

	for (; *text != '\0'; text += len + (text[len] == '\n')) {
		len = strcspn(text, "\n");
		sp_buf_add(out, text, len);
		sp_buf_puts(out, "\033[K\n"); /* what was longer there goes */
	}
}

void
ctl_bars_redraw(struct ctl_bars_screen *screen, size_t columns, const char *history,
    const char *frame, struct sp_buf *out)
{
	size_t up = 0, i, len;
	const char *at;
	char *line;

	if (history[0] == '\0' && screen->columns == columns && screen->frame != NULL &&
	    strcmp(screen->frame, frame) == 0)
		return;
	for (i = 0; i < screen->count; i++)
		up += rows_of(screen->widths[i], columns);
	if (up > 0)
		sp_buf_printf(out, "\r\033[%zuA", up);
	put_lines(out, history);
	put_lines(out, frame);
	if (up > 0)
		sp_buf_puts(out, "\033[J");
	screen->count = 0;
	for (at = frame; *at != '\0'; at += len + (at[len] == '\n')) {
		len = strcspn(at, "\n");
		line = strndup(at, len);
		SP_ASSERT(line != NULL);
		screen->widths =
		    sp_xrealloc(screen->widths, screen->count + 1, sizeof(*screen->widths));
		screen->widths[screen->count++] = ctl_out_width(line);
		free(line);
	}
	free(screen->frame);
	screen->frame = sp_xstrdup(frame);
	screen->columns = columns;
}

void
ctl_bars_clear(struct ctl_bars_screen *screen)
{
	free(screen->widths);
	free(screen->frame);
	memset(screen, 0, sizeof(*screen));
}
