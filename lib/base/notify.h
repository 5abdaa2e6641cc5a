/*
 * notify.h -- tells the service manager how a daemon is: ready, alive, ending. The protocol is that
 * of sd_notify(3), spoken without its library: one datagram of "NAME=value" lines to the socket
 * that NOTIFY_SOCKET names. Without a manager every function does nothing.
 */
#ifndef SP_NOTIFY_H
#define SP_NOTIFY_H

#include "base/err.h"

#include <stdint.h>

/* Takes NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID out of the environment, so that no child
 * speaks in our name. Before the first thread: it changes the environment. */
void sp_notify_init(void);

/* How often to say "WATCHDOG=1": half of what the manager waits for; 0: it does not ask for it. */
uint64_t sp_notify_watchdog_ms(void);

/* state: "READY=1", "STOPPING=1", "WATCHDOG=1", … or NULL; fmt: one line for people ("STATUS="),
 * or NULL. Control characters in it become spaces: what is put in cannot say more than it should. A
 * message that is lost is not an error of the daemon: the manager is the one to act. */
void sp_notify(const char *state, const char *fmt, ...) SP_PRINTF(2, 3);

#endif
