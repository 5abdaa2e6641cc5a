/* bus_fetcher.h -- a worker for tests, of the service "fetcherd". */
#ifndef SP_TEST_BUS_FETCHER_H
#define SP_TEST_BUS_FETCHER_H

#include "bus/worker.h"

/* What its step "copy" leaves behind. */
#define BUS_FETCHER_DIGEST "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

/* A blob that the daemon itself needs, whatever jobs name. */
#define BUS_FETCHER_KEEPS "what the daemon itself needs"

extern const struct sp_worker_spec bus_fetcher_spec;

#endif
