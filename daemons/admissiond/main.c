/* main.c -- admissiond: what it does as a worker of the bus: it takes no steps, it answers. */
#include "admit.h"
#include "bus/worker.h"

int
main(int argc, char **argv)
{
	static const struct sp_worker_spec spec = {
	    .service = "admissiond",
	    .summary =
		"answers Kubernetes which models may run, from the registry's signed snapshot",
	    .check = admit_check,
	    .open = admit_open,
	    .close = admit_close,
	};

	return sp_worker_main(argc, argv, &spec);
}
