/* main.c -- diode-txd: what it does as a worker of the bus. */
#include "bus/worker.h"
#include "txd.h"

static const struct sp_worker_step steps[] = {
    {"package", NULL, txd_seal_package, NULL, NULL},
    {"send", NULL, txd_seal_send, NULL, NULL},
};

int
main(int argc, char **argv)
{
	static const struct sp_worker_spec spec = {
	    .service = "diode-txd",
	    .summary = "packages approved models as signed releases and sends them over the diode",
	    .steps = steps,
	    .step_count = sizeof(steps) / sizeof(steps[0]),
	    .slots = 1, /* one wire: transfers leave in the order in which they were packaged */
	    .check = txd_check,
	    .open = txd_open,
	    .close = txd_close,
	    .collects = 1,
	};

	return sp_worker_main(argc, argv, &spec);
}
