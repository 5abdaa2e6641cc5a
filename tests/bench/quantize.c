/*
 * quantize.c -- sp-bench-quantize METHOD GROUP SAMPLES THREADS SOURCE WORK OUT TEXTS.jsonl:
 * sp_quantize_run, its report on stdout; seconds and the process's peak memory on stderr.
 */
#include "awq/quantize.h"

#include "base/file.h"
#include "base/time.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

int
main(int argc, char **argv)
{
	struct sp_quantize spec = {.sequence = 512};
	uint8_t *texts = NULL;
	json_t *report = NULL;
	struct rusage usage;
	struct sp_err err;
	int64_t began_ns;
	enum sp_code rc;

	if (argc != 9) {
		fprintf(stderr, "usage: sp-bench-quantize METHOD GROUP SAMPLES THREADS SOURCE WORK "
				"OUT TEXTS.jsonl\n");
		return 2;
	}
	spec.method = argv[1];
	spec.group_size = strtoul(argv[2], NULL, 10);
	spec.samples = strtoul(argv[3], NULL, 10);
	spec.source = argv[5];
	spec.work = argv[6];
	spec.out = argv[7];
	began_ns = sp_time_monotonic_ns();
	if ((rc = sp_pool_open((unsigned)strtoul(argv[4], NULL, 10), &spec.pool, &err)) ||
	    (rc = sp_file_read(argv[8], 1 << 30, &texts, &spec.calibration_size, &err)))
		goto out;
	spec.calibration = texts;
	rc = sp_quantize_run(&spec, &report, &err);
	if (rc == SP_OK) {
		getrusage(RUSAGE_SELF, &usage);
		json_dumpf(report, stdout, JSON_SORT_KEYS);
		printf("\n");
		fprintf(stderr, "%.3f s, %.1f MiB\n",
		    (double)(sp_time_monotonic_ns() - began_ns) / 1e9,
		    (double)usage.ru_maxrss / 1024);
	}
out:
	if (rc != SP_OK)
		fprintf(stderr, "sp-bench-quantize: %s\n", err.msg);
	json_decref(report);
	sp_pool_close(&spec.pool);
	free(texts);
	return rc == SP_OK ? 0 : 1;
}
