/* doctor.c -- the command: look, judge, tell. */
#include "doctor.h"

enum sp_code
ctl_doctor(struct ctl *ctl, const struct ctl_args *args, struct sp_err *err)
{
	struct doctor_facts facts;
	struct doctor_report report = {0};
	enum sp_code code = SP_OK;

	(void)args;
	doctor_facts(ctl, &facts);
	doctor_judge(&facts, &report);
	doctor_judge_host(&facts, &report);
	if (ctl->json)
		ctl_out_json(doctor_report_json(&report, facts.side));
	else
		doctor_report_print(&report, stdout);
	ctl->told = 1;
	if (report.errors > 0)
		code = sp_err_set(err, SP_E_STATE, "%zu of the findings %s to be mended",
		    report.errors, report.errors == 1 ? "is an error" : "are errors");
	doctor_report_clear(&report);
	doctor_facts_clear(&facts);
	return code;
}
