/* pulse.h -- a daemon's loop tells the service manager that it turns (base/notify.h). */
#ifndef SP_PULSE_H
#define SP_PULSE_H

#include <uv.h>

/* Says "WATCHDOG=1" now and as often as the manager wants it, never when it does not. The caller
 * closes timer, which is initialised in any case, with uv_close. */
void sp_pulse_start(uv_loop_t *loop, uv_timer_t *timer);

#endif
