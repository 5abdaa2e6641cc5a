/* main.c -- fetcherd: what it does as a worker of the bus. */
#include "fetcherd.h"

static const struct sp_worker_step steps[] = {
    {"fetch", fetcherd_work, fetcherd_seal, fetcherd_confine, fetcherd_hear},
};

int
main(int argc, char **argv)
{
	static const struct sp_worker_spec spec = {
	    .service = FETCHERD_SERVICE,
	    .summary = "fetches models from a hub, pins and verifies them, attests where they come "
		       "from",
	    .steps = steps,
	    .step_count = sizeof(steps) / sizeof(steps[0]),
	    .slots = 2,
	    .check = fetcherd_check,
	    .open = fetcherd_open,
	    .close = fetcherd_close,
	    .collects = 1,
	};

	fetcherd_find_credential();
	return sp_worker_main(argc, argv, &spec);
}
