/* sallyctl_bars.c -- what `sallyctl watch` draws: bars, rates, time left, names from the internet.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/time.h"
#include "bus/envelope.h"
#include "sallyctl/bars.h"
#include "sallyctl/out.h"

#define JOB "00112233445566778899aabbccddeeff"

static Sallyport__OperatorJobView view;
static Sallyport__FileProgress files[SP_BUS_FILES_MAX], *list[SP_BUS_FILES_MAX];
static struct ctl_bars_job jobs[3];

static char *
text_of(const char *literal)
{
	return (char *)(uintptr_t)literal;
}

static int
set_up(void **state)
{
	size_t i;

	(void)state;
	sallyport__operator_job_view__init(&view);
	view.job = text_of(JOB);
	view.name = text_of("org/a-AWQ");
	view.state = text_of("FETCHING");
	view.phase = text_of("download");
	view.unit = text_of("bytes");
	view.done = 1 << 20;
	view.total = 4 << 20;
	view.files = list;
	view.n_files = 0;
	for (i = 0; i < SP_BUS_FILES_MAX; i++) {
		sallyport__file_progress__init(&files[i]);
		files[i].path = text_of("config.json");
		list[i] = &files[i];
	}
	memset(jobs, 0, sizeof(jobs));
	for (i = 0; i < 3; i++)
		jobs[i].view = &view;
	return 0;
}

static void
draws(size_t count, int named, size_t columns, size_t max_lines, const char *want)
{
	struct sp_buf out = {0};

	ctl_bars_draw(jobs, count, named, columns, max_lines, &out);
	assert_string_equal(out.data != NULL ? (char *)out.data : "", want);
	sp_buf_free(&out);
}

static void
one_job(void **state)
{
	(void)state;
	draws(1, 0, 80, 23,
	    "FETCHING  download\n"
	    "  download      [========>                        ]  25 %  1.00 MiB of 4.00 MiB\n");
	jobs[0].rate.per_s = 1 << 19;
	view.n_files = 2;
	files[0].done = files[0].total = 1500;
	files[1].path = text_of("model-00001-of-00004.safetensors");
	files[1].done = 1 << 19;
	files[1].total = 3 << 20;
	draws(1, 0, 80, 23,
	    "FETCHING  download  512 KiB/s  6 s left\n"
	    "  config.json                 [===================] 100 %  1.46 KiB\n"
	    "  model-0...0004.safetensors  [===>               ]  16 %  512 KiB of 3.00 MiB\n"
	    "  in all                      [====>              ]  25 %  1.00 MiB of 4.00 MiB\n");
	/* of a size that nobody has told, and no bar where it would say nothing */
	files[1].total = 0;
	draws(1, 0, 50, 23,
	    "FETCHING  download  512 KiB/s  6 s left\n"
	    "  config.json         100 %  1.46 KiB\n"
	    "  model...afetensors         512 KiB\n"
	    "  in all               25 %  1.00 MiB of 4.00 MiB\n");
	/* other steps count other things */
	view.n_files = 0;
	view.state = text_of("QUANTIZING");
	view.phase = text_of("layer");
	view.unit = text_of("layers");
	view.done = 23;
	view.total = 24;
	jobs[0].rate.per_s = 0.05;
	draws(1, 0, 80, 23,
	    "QUANTIZING  layer  0.050/s  20 s left\n"
	    "  layer         [===============================> ]  95 %  23/24 layers\n");
}

static void
little_room(void **state)
{
	size_t i;

	(void)state;
	view.n_files = SP_BUS_FILES_MAX;
	for (i = 0; i < SP_BUS_FILES_MAX; i++)
		files[i].total = 10;
	draws(1, 0, 40, 5,
	    "FETCHING  download\n"
	    "  c...json    0 %  0 B of 10 B\n"
	    "  c...json    0 %  0 B of 10 B\n"
	    "  and 14 more files\n"
	    "  in all     25 %  1.00 MiB of 4.00 MiB\n");
	draws(1, 0, 20, 1, "FETCH...of 4.00 MiB\n");
}

static void
many_jobs(void **state)
{
	Sallyport__OperatorJobView waits = view;

	(void)state;
	waits.state = text_of("AWAITING_APPROVAL");
	waits.phase = text_of("");
	waits.n_files = 0;
	jobs[1].view = &waits;
	draws(2, 1, 80, 23,
	    "00112233  org/a-AWQ  FETCHING  download\n"
	    "  download      [========>                        ]  25 %  1.00 MiB of 4.00 MiB\n"
	    "00112233  org/a-AWQ  AWAITING_APPROVAL\n");
	draws(3, 1, 80, 3,
	    "00112233  org/a-AWQ  FETCHING  download  1.00 MiB of 4.00 MiB\n"
	    "00112233  org/a-AWQ  AWAITING_APPROVAL\n"
	    "00112233  org/a-AWQ  FETCHING  download  1.00 MiB of 4.00 MiB\n");
	draws(3, 1, 80, 2,
	    "00112233  org/a-AWQ  FETCHING  download  1.00 MiB of 4.00 MiB\n"
	    "and 2 more jobs\n");
}

/* Whatever a file is called: nothing steers the terminal, no line is wrapped. */
static void
hostile_names(void **state)
{
	static const char *const names[] = {
	    "a\x1b[2Jb",
	    "\xc2\x9b"
	    "31mred",
	    "evil\xe2\x80\xaegpj.exe",		 /* U+202E */
	    "zero\xe2\x80\x8bwidth\xef\xbb\xbf", /* U+200B, U+FEFF */
	    "line\xe2\x80\xa8"
	    "end", /* U+2028 */
	    "\xd8\x9c"
	    "arabic mark",
	    "tag\xf3\xa0\x81\x81", /* U+E0041 */
	    "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e"
	    "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e.txt",
	    "a\xcc\x81\xcc\x81\xcc\x81\xcc\x81", /* accents upon accents */
	    "\xff\xfe",
	};
	struct sp_buf out = {0};
	char *line, *rest;
	size_t i, columns;

	(void)state;
	view.n_files = sizeof(names) / sizeof(names[0]);
	for (i = 0; i < view.n_files; i++)
		files[i].path = text_of(names[i]);
	view.name = view.phase = text_of(names[0]);
	for (columns = 1; columns < 200; columns++) {
		out.len = 0;
		ctl_bars_draw(jobs, 2, 1, columns, 100, &out);
		for (rest = (char *)out.data; (line = strsep(&rest, "\n")) != NULL;) {
			assert_true(ctl_out_width(line) < (columns < 20 ? 20 : columns));
			for (i = 0; line[i] != '\0'; i++)
				assert_true((unsigned char)line[i] >= 0x20 && line[i] != 0x7f);
			assert_null(strstr(line, "\xe2\x80"));
			assert_null(strstr(line, "\xef\xbb\xbf"));
			assert_null(strstr(line, "\xd8\x9c"));
			assert_null(strstr(line, "\xf3\xa0"));
			assert_null(strstr(line, "\xc2\x9b"));
		}
	}
	sp_buf_free(&out);
}

static void
numbers(void **state)
{
	static const uint64_t values[] = {0, 1, 99, 100, 1 << 20, UINT64_MAX - 1, UINT64_MAX};
	struct sp_buf out = {0};
	size_t i, j;

	(void)state;
	for (i = 0; i < 7; i++) {
		for (j = 0; j < 7; j++) {
			view.done = values[i];
			view.total = values[j];
			out.len = 0;
			ctl_bars_draw(jobs, 1, 0, 80, 5, &out);
			if (values[j] > 0)
				assert_int_equal(strstr((char *)out.data, "100 %") != NULL,
				    values[i] >= values[j]);
		}
	}
	sp_buf_free(&out);
}

/* --- lists ---------------------------------------------------------------------------------- */

static void
lists(void **state)
{
	Sallyport__OperatorJobView failed = view;
	const Sallyport__OperatorJobView *views[] = {&view, &failed};
	char *text = NULL;
	size_t len;
	FILE *to = open_memstream(&text, &len);

	(void)state;
	view.source = failed.source = text_of("hf:org/a");
	view.changed = text_of("2026-11-24T05:02:03.123Z");
	failed.changed = text_of("2026-11-24T04:00:03.123Z");
	failed.state = text_of("FAILED");
	failed.phase = text_of("");
	failed.reason = text_of("no answer\x1b[2J");
	failed.model_version = 3;
	/* the newest last; ids as long as it takes */
	failed.job = text_of("0011223344556677889900aabbccddee");
	ctl_view_list(views, 2, sp_time_parse_rfc3339("2026-11-24T05:02:48.123Z"), to);
	fclose(to);
	assert_string_equal(text,
	    "JOB                    STATE     FOR         NAME         SOURCE    PROGRESS\n"
	    "001122334455667788990  FAILED    1 h 02 min  org/a-AWQ@3  hf:org/a  no "
	    "answer\\x1b[2J\n"
	    "00112233445566778899a  FETCHING  45 s        org/a-AWQ    hf:org/a  1.00 MiB of 4.00 "
	    "MiB\n");
	free(text);
}

static void
state_names(void **state)
{
	enum sp_job_state found;

	(void)state;
	assert_true(ctl_view_find_state("awaiting-approval", &found));
	assert_int_equal(found, SP_JOB_AWAITING_APPROVAL);
	assert_true(ctl_view_find_state("FAILED", &found));
	assert_int_equal(found, SP_JOB_FAILED);
	assert_false(ctl_view_find_state("", &found));
	assert_false(ctl_view_find_state("nonsense", &found));
	assert_false(ctl_view_find_state(
	    "awaiting_approval_and_many_more_characters_than_any_state_has", &found));
}

/* --- rates ---------------------------------------------------------------------------------- */

static void
rates(void **state)
{
	struct ctl_view_rate rate = {0};
	int64_t now_ms, left_ms;

	(void)state;
	view.total = 100000000;
	view.done = 0;
	/* reports come each second, looks each 250 ms: the rate does not jump between them */
	for (now_ms = 1000; now_ms <= 30000; now_ms += 250) {
		view.done = (uint64_t)(now_ms / 1000) * 1000000;
		ctl_view_rate(&rate, &view, now_ms);
		if (now_ms >= 10000)
			assert_true(rate.per_s > 850000 && rate.per_s < 1150000);
	}
	left_ms = ctl_view_left_ms(&rate, &view);
	assert_true(left_ms > 55000 && left_ms < 85000);
	/* it stands still: slower and slower, and in the end nothing is promised */
	for (; now_ms <= 60000; now_ms += 250)
		ctl_view_rate(&rate, &view, now_ms);
	assert_true(rate.per_s > 0 && rate.per_s < 10000);
	for (; now_ms <= 200000; now_ms += 250)
		ctl_view_rate(&rate, &view, now_ms);
	assert_true(ctl_view_left_ms(&rate, &view) == -1);
	/* a step that begins anew has no rate yet */
	view.done = 0;
	ctl_view_rate(&rate, &view, now_ms);
	assert_true(rate.per_s < 0 && ctl_view_left_ms(&rate, &view) == -1);
	view.done = 10;
	ctl_view_rate(&rate, &view, now_ms + 1000);
	assert_true(rate.per_s > 9.9 && rate.per_s < 10.1);
	view.total = 0;
	assert_true(ctl_view_left_ms(&rate, &view) == -1);
}

/* --- the screen ----------------------------------------------------------------------------- */

static void
redraws(struct ctl_bars_screen *screen, size_t columns, const char *history, const char *frame,
    const char *want)
{
	struct sp_buf out = {0};

	ctl_bars_redraw(screen, columns, history, frame, &out);
	assert_string_equal(out.data != NULL ? (char *)out.data : "", want);
	sp_buf_free(&out);
}

static void
screen(void **state)
{
	struct ctl_bars_screen s = {0};

	(void)state;
	redraws(&s, 80, "", "one\ntwo\n", "one\033[K\ntwo\033[K\n");
	redraws(&s, 80, "past\n", "three\n", "\r\033[2Apast\033[K\nthree\033[K\n\033[J");
	redraws(&s, 80, "", "", "\r\033[1A\033[J");
	redraws(&s, 80, "", "", "");
	redraws(&s, 80, "", "same\n", "same\033[K\n");
	redraws(&s, 80, "", "same\n", "");
	redraws(&s, 79, "", "same\n", "\r\033[1Asame\033[K\n\033[J");
	redraws(&s, 79, "", "", "\r\033[1A\033[J");
	/* a line that was 45 columns wide takes three rows of 20 */
	redraws(&s, 80, "", "123456789012345678901234567890123456789012345\nx\n",
	    "123456789012345678901234567890123456789012345\033[K\nx\033[K\n");
	redraws(&s, 20, "", "y\n", "\r\033[4Ay\033[K\n\033[J");
	ctl_bars_clear(&s);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(one_job, set_up),
	    cmocka_unit_test_setup(little_room, set_up),
	    cmocka_unit_test_setup(many_jobs, set_up),
	    cmocka_unit_test_setup(hostile_names, set_up),
	    cmocka_unit_test_setup(numbers, set_up),
	    cmocka_unit_test_setup(lists, set_up),
	    cmocka_unit_test(state_names),
	    cmocka_unit_test_setup(rates, set_up),
	    cmocka_unit_test(screen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
