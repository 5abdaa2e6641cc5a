/* main.c -- validatord: what it does as a worker of the bus. */
#include "bus/step.h"
#include "bus/worker.h"
#include "validatord.h"

static const struct sp_worker_step steps[] = {
    {"validate", validatord_work, validatord_seal, validatord_confine, NULL},
};

int
main(int argc, char **argv)
{
	static const struct sp_worker_spec spec = {
	    .service = "validatord",
	    .summary = "compares quantized models with their originals and signs the verdict",
	    .steps = steps,
	    .step_count = sizeof(steps) / sizeof(steps[0]),
	    .slots = 1, /* one model already takes every processor */
	    .check = validatord_check,
	    .open = validatord_open,
	    .close = sp_step_close,
	    .collects = 1,
	};

	return sp_worker_main(argc, argv, &spec);
}
