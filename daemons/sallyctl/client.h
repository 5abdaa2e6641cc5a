/* client.h -- sallyctl's end of the operators' socket (proto/operator.proto): one question, one
 * answer. */
#ifndef CTL_CLIENT_H
#define CTL_CLIENT_H

#include "base/err.h"
#include "operator.pb-c.h"

#include <stdint.h>

struct ctl_client;

/* path: of the socket. SP_E_UNREACHABLE when there is none, SP_E_DENIED when it may not be used. */
enum sp_code
ctl_client_open(const char *path, struct ctl_client **out, struct sp_err *err) SP_MUST_USE;
void ctl_client_close(struct ctl_client **client);

/*
 * Sends request (version and seq are set here) and waits for its reply. Asks a second time over a
 * new connection when none comes: requests are idempotent. A reply that says no becomes its code
 * and message; *reply is free of errors then and freed with
 * sallyport__operator_reply__free_unpacked(…, NULL). SP_E_UNREACHABLE after the second silence of
 * timeout_ms.
 */
enum sp_code ctl_client_ask(struct ctl_client *client, Sallyport__OperatorRequest *request,
    int timeout_ms, Sallyport__OperatorReply **reply, struct sp_err *err) SP_MUST_USE;

/* Pure: reads a message. *mine: it answers seq (or nothing at all), else it is to be dropped. */
enum sp_code ctl_client_read(const uint8_t *data, size_t len, uint64_t seq, int *mine,
    Sallyport__OperatorReply **reply, struct sp_err *err) SP_MUST_USE;

#endif
