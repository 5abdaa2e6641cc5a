/* doctor_report.c -- findings, for people and machines. */
#include "doctor.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void
doctor_say(
    struct doctor_report *report, enum doctor_level level, const char *check, const char *fmt, ...)
{
	struct doctor_finding *finding;
	va_list ap;

	report->list = sp_xrealloc(report->list, report->count + 1, sizeof(*report->list));
	finding = &report->list[report->count++];
	finding->level = level;
	finding->check = check;
	finding->todo = NULL;
	va_start(ap, fmt);
	finding->seen = sp_xvasprintf(fmt, ap);
	va_end(ap);
	report->errors += level == DOCTOR_ERROR;
	report->warnings += level == DOCTOR_WARNING;
}

void
doctor_todo(struct doctor_report *report, const char *fmt, ...)
{
	struct doctor_finding *finding = &report->list[report->count - 1];
	va_list ap;

	SP_ASSERT(finding->todo == NULL);
	va_start(ap, fmt);
	finding->todo = sp_xvasprintf(fmt, ap);
	va_end(ap);
}

void
doctor_report_clear(struct doctor_report *report)
{
	size_t i;

	for (i = 0; i < report->count; i++) {
		free(report->list[i].seen);
		free(report->list[i].todo);
	}
	free(report->list);
	memset(report, 0, sizeof(*report));
}

const char *
doctor_level_word(enum doctor_level level)
{
	return level == DOCTOR_OK ? "ok" : level == DOCTOR_WARNING ? "warning" : "error";
}

json_t *
doctor_report_json(const struct doctor_report *report, const char *side)
{
	json_t *list = json_array(), *finding;
	char *seen, *todo;
	size_t i;

	for (i = 0; i < report->count; i++) {
		/* paths need not be UTF-8 */
		seen = ctl_out_clean(report->list[i].seen);
		finding =
		    json_pack("{s:s, s:s, s:s}", "level", doctor_level_word(report->list[i].level),
			"check", report->list[i].check, "seen", seen);
		free(seen);
		if (report->list[i].todo != NULL) {
			todo = ctl_out_clean(report->list[i].todo);
			json_object_set_new(finding, "do", json_string(todo));
			free(todo);
		}
		json_array_append_new(list, finding);
	}
	finding = json_pack("{s:o, s:I, s:I}", "findings", list, "errors",
	    (json_int_t)report->errors, "warnings", (json_int_t)report->warnings);
	if (side != NULL)
		json_object_set_new(finding, "side", json_string(side));
	return finding;
}

void
doctor_report_print(const struct doctor_report *report, FILE *to)
{
	const struct doctor_finding *f;
	size_t i;

	for (i = 0; i < report->count; i++) {
		f = &report->list[i];
		ctl_out_print(
		    to, "%-7s  %-13s  %s\n", doctor_level_word(f->level), f->check, f->seen);
		if (f->todo != NULL)
			ctl_out_print(to, "%-7s  %-13s    do: %s\n", "", "", f->todo);
	}
	ctl_out_print(to, "\n%zu error%s, %zu warning%s\n", report->errors,
	    report->errors == 1 ? "" : "s", report->warnings, report->warnings == 1 ? "" : "s");
}
