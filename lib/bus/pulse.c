/* pulse.c -- a daemon's loop tells the service manager that it turns. */
#include "bus/pulse.h"
#include "base/notify.h"

static void
on_beat(uv_timer_t *timer)
{
	(void)timer;
	sp_notify("WATCHDOG=1", NULL);
}

void
sp_pulse_start(uv_loop_t *loop, uv_timer_t *timer)
{
	uint64_t every_ms = sp_notify_watchdog_ms();

	SP_ASSERT(uv_timer_init(loop, timer) == 0);
	if (every_ms == 0)
		return;
	SP_ASSERT(uv_timer_start(timer, on_beat, 0, every_ms) == 0);
	/* to be alive is no work: a loop that has nothing else to do may end */
	uv_unref((uv_handle_t *)timer);
}
