/* main.c -- diode-rxd: what it does as a worker of the bus. */
#include "bus/worker.h"
#include "rxd.h"

static const struct sp_worker_step steps[] = {
    {"receive", NULL, rxd_seal_receive, NULL, NULL},
    {"verify", NULL, rxd_seal_verify, NULL, NULL},
};

static const struct sp_worker_helper helpers[] = {
    {"receiver", rxd_receive, rxd_confine, "link"},
};

int
main(int argc, char **argv)
{
	static const struct sp_worker_spec spec = {
	    .service = RXD_SERVICE,
	    .summary = "receives releases from the diode, verifies them, keeps or quarantines them",
	    .steps = steps,
	    .step_count = sizeof(steps) / sizeof(steps[0]),
	    /* the receiver's 32 transfers, each waiting for its own end, and some being verified:
	     * none that dawdles keeps another waiting */
	    .slots = 40,
	    .helpers = helpers,
	    .helper_count = sizeof(helpers) / sizeof(helpers[0]),
	    .check = rxd_check,
	    .open = rxd_open,
	    .close = rxd_close,
	    .collects = 1,
	    .keep = rxd_keep,
	};

	return sp_worker_main(argc, argv, &spec);
}
