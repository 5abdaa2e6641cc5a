/*
 * envelope.h -- bus messages in and out, each checked against every rule of bus.proto.
 *
 * Rules: version 1; one known body, of the direction that it travels in; lease and job ids 32,
 * digests 64 lower-case hex digits; service, step, kind, store, topic: 1 to 31 of [a-z0-9-];
 * failure codes from SP_CODES; one-line texts without control characters; paths as in a tree
 * (sp_path_check); counts and lengths as below; from a worker at most SP_REQUEST_MAX bytes, from
 * ledgerd SP_MESSAGE_MAX: an offer carries all the evidence that its job has gathered.
 */
#ifndef SP_ENVELOPE_H
#define SP_ENVELOPE_H

#include "base/err.h"
#include "bus.pb-c.h"

#include <stdint.h>

#define SP_ENVELOPE_VERSION 1
#define SP_BUS_WORD_MAX 31
#define SP_BUS_LINE_MAX 64     /* bytes of a phase, unit, detail key */
#define SP_BUS_TEXT_MAX 4096   /* bytes of a detail value, reason or message */
#define SP_BUS_DETAILS_MAX 256 /* also what a step's failure and an audit record carry */
#define SP_BUS_ARTIFACTS_MAX 64
#define SP_BUS_LEASES_MAX 1024
#define SP_BUS_STEPS_MAX 32
#define SP_BUS_ATTESTED_MAX 64
#define SP_BUS_PROOFS_MAX 4096
#define SP_BUS_NAMES_MAX 8192 /* digests, and jobs, that one question asks about */
#define SP_BUS_FILES_MAX 16   /* of one progress report */

enum sp_envelope_from { SP_FROM_WORKER, SP_FROM_LEDGERD };

/* data: untrusted. *out: free with sallyport__envelope__free_unpacked. */
enum sp_code sp_envelope_unpack(const uint8_t *data, size_t len, enum sp_envelope_from from,
    Sallyport__Envelope **out, struct sp_err *err) SP_MUST_USE;

/* Sets envelope's version, checks the same rules, so that what we send is never refused for its
 * form. *data is malloc'd. */
enum sp_code sp_envelope_pack(Sallyport__Envelope *envelope, enum sp_envelope_from from,
    uint8_t **data, size_t *len, struct sp_err *err) SP_MUST_USE;

/* What a child process said (untrusted) or is told; the same rules for what it holds, but that a
 * Progress names no lease. *out: free with sallyport__child_event__free_unpacked. */
enum sp_code sp_event_unpack(
    const uint8_t *data, size_t len, Sallyport__ChildEvent **out, struct sp_err *err) SP_MUST_USE;
/* The frame: u32be length, then the event. *frame is malloc'd. */
enum sp_code sp_event_frame(const Sallyport__ChildEvent *event, uint8_t **frame, size_t *len,
    struct sp_err *err) SP_MUST_USE;

/* The Task that a step's child reads. *out: free with sallyport__task__free_unpacked. */
enum sp_code sp_task_unpack(
    const uint8_t *data, size_t len, Sallyport__Task **out, struct sp_err *err) SP_MUST_USE;

/* 1 when text is 32 lower-case hex digits; 1 when it is 1 to 31 of [a-z0-9-]. */
int sp_bus_is_id(const char *text);
int sp_bus_is_word(const char *text);

#endif
