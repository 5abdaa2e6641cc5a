/* progress.c -- the files that a step has in hand: what its lease, the bus and ledgerd keep. */
#include "base/file.h"
#include "base/limits.h"
#include "bus/lease.h"
#include "ledgerd/core.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LEASE_A "0123456789abcdef0123456789abcdef"
#define JOB "ffffffffffffffffffffffffffffffff"

/* What is kept of the files that a step names. */
static void
test_lease_files(void **unused)
{
	struct sp_lease_file files[20] = {{"../x", 1, 1}, {"a\nb", 1, 1}};
	char deep[SP_PATH_MAX + 1], names[20][8];
	struct sp_lease_report report;
	struct sp_lease lease;
	size_t i;

	(void)unused;
	sp_lease_init(&lease, LEASE_A, "", "/", -1);
	sp_lease_progress_files(&lease, files, 2);
	sp_lease_progress(&lease, "download", 1, 2, "bytes");
	sp_lease_read(&lease, &report);
	assert_int_equal(report.progress.n_files, 0);
	sp_lease_report_clear(&report);
	for (i = 2; i < 20; i++) {
		snprintf(names[i], sizeof(names[i]), "f%zu", i);
		files[i] = (struct sp_lease_file){names[i], i, 100};
	}
	sp_lease_progress_files(&lease, files, 20);
	sp_lease_read(&lease, &report);
	assert_int_equal(report.progress.n_files, SP_BUS_FILES_MAX);
	assert_string_equal(report.progress.files[0]->path, "f2");
	assert_int_equal(report.progress.files[15]->done, 17);
	/* the report is its own: what the lease does next is not seen in it */
	memset(deep, 'd', SP_PATH_MAX);
	deep[SP_PATH_MAX] = '\0';
	for (i = 0; i < 20; i++)
		files[i].path = deep;
	files[5].path = "short";
	sp_lease_progress_files(&lease, files, 20);
	assert_string_equal(report.progress.files[1]->path, "f3");
	sp_lease_report_clear(&report);
	sp_lease_read(&lease, &report);
	assert_int_equal(report.progress.n_files, 4);
	assert_string_equal(report.progress.files[3]->path, "short");
	sp_lease_report_clear(&report);
	/* named before a phase's first report they are of that phase, else they end with theirs */
	sp_lease_progress(&lease, "verify", 1, 2, "bytes");
	sp_lease_read(&lease, &report);
	assert_int_equal(report.progress.n_files, 4);
	sp_lease_report_clear(&report);
	sp_lease_progress(&lease, "verify", 2, 2, "bytes");
	sp_lease_progress(&lease, "store", 2, 2, "bytes");
	sp_lease_read(&lease, &report);
	assert_int_equal(report.progress.n_files, 0);
	sp_lease_report_clear(&report);
	sp_lease_destroy(&lease);
}

static char vanishes[128]; /* a directory that somebody removes as soon as it is made, once */

int
mkdir(const char *path, mode_t mode)
{
	int rc = (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);

	if (rc == 0 && strcmp(path, vanishes) == 0) {
		vanishes[0] = '\0';
		assert_int_equal(rmdir(path), 0);
	}
	return rc;
}

/* Another job that has worked on the same is through, and takes the directory away. */
static void
test_workdir_vanishes(void **unused)
{
	char top[] = "/tmp/sp-progress-XXXXXX", *dir;
	struct sp_lease lease;
	struct sp_err err;

	(void)unused;
	assert_non_null(mkdtemp(top));
	snprintf(vanishes, sizeof(vanishes), "%s/work/" LEASE_A LEASE_A, top);
	sp_lease_init(&lease, LEASE_A, JOB, top, -1);
	dir = sp_lease_workdir(&lease, LEASE_A LEASE_A, &err);
	assert_int_equal(vanishes[0], '\0');
	assert_true(dir != NULL && access(dir, F_OK) == 0);
	free(dir);
	sp_lease_destroy(&lease);
	assert_int_equal(sp_file_remove_all(top, &err), SP_OK);
}

/* The files of a progress report, as a child says them and as its worker does. */
static void
test_files(void **unused)
{
	static const char *const bad[] = {
	    "", "/etc/passwd", "../x", "a//b", "a\x1b[2J", "a\xc2\x9b", "a\\b", "\xff"};
	Sallyport__FileProgress file, *files[SP_BUS_FILES_MAX + 1];
	Sallyport__Progress progress, *leases[1] = {&progress};
	char lease[] = LEASE_A, service[] = "fetcherd", path[SP_PATH_MAX + 2];
	Sallyport__ChildEvent event, *back;
	Sallyport__Heartbeat heartbeat;
	Sallyport__Envelope envelope;
	struct sp_err err;
	uint8_t *data;
	size_t len, i;

	(void)unused;
	sallyport__file_progress__init(&file);
	sallyport__progress__init(&progress);
	sallyport__child_event__init(&event);
	sallyport__envelope__init(&envelope);
	sallyport__heartbeat__init(&heartbeat);
	event.event_case = SALLYPORT__CHILD_EVENT__EVENT_PROGRESS;
	event.progress = &progress;
	envelope.body_case = SALLYPORT__ENVELOPE__BODY_HEARTBEAT;
	envelope.heartbeat = &heartbeat;
	heartbeat.service = service;
	heartbeat.n_leases = 1;
	heartbeat.leases = leases;
	for (i = 0; i <= SP_BUS_FILES_MAX; i++)
		files[i] = &file;
	file.path = path;
	file.done = 7;
	file.total = UINT64_MAX;
	progress.files = files;
	progress.n_files = SP_BUS_FILES_MAX;
	memset(path, 'p', SP_PATH_MAX);
	path[SP_PATH_MAX] = '\0';
	assert_int_equal(sp_event_frame(&event, &data, &len, &err), SP_OK);
	assert_int_equal(sp_event_unpack(data + 4, len - 4, &back, &err), SP_OK);
	assert_int_equal(back->progress->n_files, SP_BUS_FILES_MAX);
	assert_string_equal(back->progress->files[15]->path, path);
	assert_true(back->progress->files[15]->total == UINT64_MAX);
	sallyport__child_event__free_unpacked(back, NULL);
	free(data);
	progress.n_files = SP_BUS_FILES_MAX + 1;
	assert_int_equal(sp_event_frame(&event, &data, &len, &err), SP_E_LIMIT);
	assert_non_null(strstr(err.msg, "progress.files"));
	progress.n_files = 1;
	strcpy(path + SP_PATH_MAX, "p");
	assert_int_equal(sp_event_frame(&event, &data, &len, &err), SP_E_LIMIT);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		strcpy(path, bad[i]);
		progress.lease = (char *)(uintptr_t) "";
		assert_int_equal(sp_event_frame(&event, &data, &len, &err), SP_E_INVALID);
		assert_non_null(strstr(err.msg, "progress.files"));
		progress.lease = lease;
		assert_int_equal(
		    sp_envelope_pack(&envelope, SP_FROM_WORKER, &data, &len, &err), SP_E_INVALID);
	}
	strcpy(path, "a/b");
	assert_int_equal(sp_envelope_pack(&envelope, SP_FROM_WORKER, &data, &len, &err), SP_OK);
	free(data);
}

/* The files in hand are kept with the lease, and go with it. */
static void
test_files_in_hand(void **unused)
{
	const struct ledgerd_who fetcherd = {"fetcherd@bastion", "fetcherd"};
	struct sp_attempt a = {.lease = LEASE_A,
	    .job = JOB,
	    .step = SP_STEP_FETCH,
	    .state = SP_LEASE_RUNNING,
	    .worker = "fetcherd@bastion"};
	struct sp_changed changed = {.had_attempt = 1};
	Sallyport__Progress progress, *list[1] = {&progress};
	Sallyport__FileProgress file, *files[1] = {&file};
	Sallyport__Heartbeat heartbeat;
	struct ledgerd_core core = {.settings = {.lease_ms = 1000}};
	struct ledgerd_actions actions = {0};
	struct ledgerd_live *live;
	char path[] = "config.json";

	(void)unused;
	sallyport__heartbeat__init(&heartbeat);
	sallyport__progress__init(&progress);
	sallyport__file_progress__init(&file);
	heartbeat.n_leases = 1;
	heartbeat.leases = list;
	progress.lease = a.lease;
	progress.n_files = 1;
	progress.files = files;
	file.path = path;
	file.total = 9;
	ledgerd_core_load(&core, &a, 1, 0);
	ledgerd_core_heartbeat(&core, &fetcherd, &heartbeat, 0, &actions);
	live = ledgerd_core_lease(&core, LEASE_A);
	assert_int_equal(live->news, 1);
	ledgerd_core_heartbeat(&core, &fetcherd, &heartbeat, 0, &actions);
	assert_int_equal(live->news, 1);
	file.done = 5;
	ledgerd_core_heartbeat(&core, &fetcherd, &heartbeat, 0, &actions);
	assert_int_equal(live->news, 2);
	ledgerd_core_load(&core, &a, 1, 0);
	live = ledgerd_core_lease(&core, LEASE_A);
	assert_int_equal(live->file_count, 1);
	assert_string_equal(live->files[0]->path, "config.json");
	assert_int_equal(live->files[0]->done, 5);
	progress.n_files = 0;
	ledgerd_core_heartbeat(&core, &fetcherd, &heartbeat, 0, &actions);
	assert_int_equal(live->file_count, 0);
	assert_int_equal(live->news, 3);
	progress.n_files = 1;
	ledgerd_core_heartbeat(&core, &fetcherd, &heartbeat, 0, &actions);
	changed.attempt = a;
	changed.attempt.state = SP_LEASE_DONE;
	ledgerd_core_note(&core, &changed, 20);
	assert_int_equal(core.lives.count, 0);
	ledgerd_actions_clear(&actions);
	ledgerd_core_free(&core);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_lease_files),
	    cmocka_unit_test(test_workdir_vanishes),
	    cmocka_unit_test(test_files),
	    cmocka_unit_test(test_files_in_hand),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
