/*
 * collection.h -- which digests jobs name, and the collections of stores that operators began.
 *
 * A job names the artifacts that its steps left (the subjects of its attestations are among them),
 * in whatever store they lie: a tree that one daemon made is copied by another.
 */
#ifndef SP_COLLECTION_H
#define SP_COLLECTION_H

#include "ledger/db.h"
#include "ledger/jobs.h"

/* Pure: whether a job still names anything: one that goes on always does, one that has ended unless
 * that was before ended_before_ms (Unix; 0: all do). */
int sp_collection_counts(
    enum sp_recipe recipe, enum sp_job_state state, int64_t changed_ms, int64_t ended_before_ms);

/* digest: 64 hex digits. */
enum sp_code sp_collection_is_named(struct sp_db *db, const char *digest, int64_t ended_before_ms,
    int *named, struct sp_err *err) SP_MUST_USE;
/* *goes_on: there is such a job, and it has not ended. */
enum sp_code sp_collection_goes_on(
    struct sp_db *db, const char *job, int *goes_on, struct sp_err *err) SP_MUST_USE;

/* A collection that an operator began; seq: of its audit entry. */
enum sp_code sp_collection_add(struct sp_db *db, const char *id, int64_t ended_before_ms,
    uint64_t seq, struct sp_err *err) SP_MUST_USE;
enum sp_code
sp_collection_find(struct sp_db *db, const char *id, int *found, struct sp_err *err) SP_MUST_USE;
/* What a worker brought to it stands in the log, once, as entry seq. */
enum sp_code sp_collection_reported(struct sp_db *db, const char *id, const char *worker,
    int *reported, struct sp_err *err) SP_MUST_USE;
enum sp_code sp_collection_report(struct sp_db *db, const char *id, const char *worker,
    uint64_t seq, struct sp_err *err) SP_MUST_USE;
/* The latest moment up to which jobs that had ended lost their names; 0: there was none. */
enum sp_code
sp_collection_latest_cut(struct sp_db *db, int64_t *ms, struct sp_err *err) SP_MUST_USE;

#endif
