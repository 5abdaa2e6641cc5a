/* main.c -- quantd: what it does as a worker of the bus. */
#include "bus/step.h"
#include "bus/worker.h"
#include "quantd.h"

static const struct sp_worker_step steps[] = {
    {"quantize", quantd_work, quantd_seal, quantd_confine, NULL},
};

int
main(int argc, char **argv)
{
	static const struct sp_worker_spec spec = {
	    .service = "quantd",
	    .summary = "quantizes fetched models to 4-bit AWQ checkpoints and attests how",
	    .steps = steps,
	    .step_count = sizeof(steps) / sizeof(steps[0]),
	    .slots = 1, /* one model already takes every processor */
	    .open = quantd_open,
	    .close = sp_step_close,
	    .collects = 1,
	};

	return sp_worker_main(argc, argv, &spec);
}
