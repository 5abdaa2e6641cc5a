/* main.c -- registryd: what it does as a worker of the bus. */
#include "registryd.h"

static const struct sp_worker_step steps[] = {
    {"register", NULL, registryd_seal, NULL, NULL},
};

int
main(int argc, char **argv)
{
	static const struct sp_worker_spec spec = {
	    .service = REGISTRYD_SERVICE,
	    .summary = "registers verified releases, serves them as a Hugging Face hub does, and "
		       "signs the list of what may run",
	    .steps = steps,
	    .step_count = sizeof(steps) / sizeof(steps[0]),
	    .slots = 1, /* one registration after the other: versions are compared */
	    .check = registryd_check,
	    .open = registryd_open,
	    .close = registryd_close,
	    .collects = 1,
	    .keep = registryd_keep,
	    .standalone = registryd_standalone,
	};

	return sp_worker_main(argc, argv, &spec);
}
