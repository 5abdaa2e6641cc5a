/*
 * log.h -- the audit log as a whole: everything recomputed from the entries. Pure.
 *
 * What an entry says is in proto/audit.proto, which events may follow which in ledger/jobs.h.
 */
#ifndef SP_LEDGER_LOG_H
#define SP_LEDGER_LOG_H

#include "ledger/note.h"
#include "ledger/replay.h"

struct sp_log_report {
	char origin[256];
	uint64_t size;	    /* of the checkpoint */
	uint64_t entries;   /* that were looked at */
	uint64_t uncovered; /* of those, behind the checkpoint: committed, but not yet signed for */
	uint8_t root[SP_DIGEST_LEN];
	uint64_t jobs;
};

/*
 * Verifies a whole log: checkpoint is a note signed by the key of vkey (ledger/note.h) under the
 * checkpoint's origin as name; entries are numbered from 0 without a gap and of that origin; the
 * RFC 6962 root of the first `size` of them is the checkpoint's; and every job's transitions follow
 * the table of jobs.h, each result by the worker that held the lease. Says what is wrong with which
 * entry: SP_E_DENIED (signature), SP_E_CORRUPT (root, sequence), SP_E_INVALID (an entry, or a
 * transition that cannot be), SP_E_INCOMPLETE (fewer entries than the checkpoint signs for).
 * report (may be NULL) is filled as far as it went; replay (may be NULL) holds the jobs afterwards,
 * to be freed with sp_replay_free whatever was returned.
 */
enum sp_code sp_log_verify(const struct sp_log_bytes *entries, uint64_t count,
    const uint8_t *checkpoint, size_t checkpoint_len, const char *vkey,
    struct sp_log_report *report, struct sp_replay *replay, struct sp_err *err) SP_MUST_USE;

#endif
