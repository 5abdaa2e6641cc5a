/*
 * db.h -- the SQLite database of a host: one writer, durable at each commit.
 *
 * WAL with synchronous=FULL, both read back after they were set; locked for as long as it is open,
 * so that a second ledgerd finds out at once.
 */
#ifndef SP_DB_H
#define SP_DB_H

#include "base/err.h"

#include <stdint.h>

struct sp_db;
struct sqlite3_stmt;

/* Jobs that have not ended (sp_jobs_ended), as a condition on the table "job"; word for word that
 * of an index, or SQLite would not use it. */
#define SP_DB_UNDER_WAY                                                                    \
	"state NOT IN ('SENT', 'REGISTERED', 'REVOKED', 'BLOCKED', 'FAILED', 'CANCELLED'," \
	" 'REJECTED', 'QUARANTINED') AND NOT (state = 'FETCHED' AND recipe = 'dataset')"

/* Makes the file (0640) and its tables when there are none; refuses another schema version. */
enum sp_code sp_db_open(const char *path, struct sp_db **out, struct sp_err *err) SP_MUST_USE;
/*
 * To look at, while nobody has it open for writing (SP_E_EXISTS): nothing in the file or its WAL is
 * changed, and what a killed writer left in the WAL counts. The whole is one transaction.
 */
enum sp_code
sp_db_open_readonly(const char *path, struct sp_db **out, struct sp_err *err) SP_MUST_USE;
void sp_db_close(struct sp_db **db);

enum sp_code sp_db_begin(struct sp_db *db, struct sp_err *err) SP_MUST_USE;
enum sp_code sp_db_commit(struct sp_db *db, struct sp_err *err) SP_MUST_USE;
void sp_db_rollback(struct sp_db *db); /* also when no transaction is open */
int sp_db_in_transaction(struct sp_db *db);

/*
 * Statements, for the files of lib/ledger. sql must be a literal: statements are kept by its
 * address. types says what follows: 't' const char *, 'i' int64_t, 'b' const void *, size_t.
 */
enum sp_code sp_db_prepare(struct sp_db *db, const char *sql, struct sqlite3_stmt **out,
    struct sp_err *err, const char *types, ...) SP_MUST_USE;
/* *row: 1 while there is another; the statement is reset by sp_db_done, which must follow. */
enum sp_code
sp_db_step(struct sp_db *db, struct sqlite3_stmt *stmt, int *row, struct sp_err *err) SP_MUST_USE;
void sp_db_done(struct sqlite3_stmt *stmt);
/* Prepare, step to the end, reset: for statements without a result. */
enum sp_code sp_db_run(
    struct sp_db *db, const char *sql, struct sp_err *err, const char *types, ...) SP_MUST_USE;
/* Rows that the last sp_db_run changed. */
int sp_db_changes(struct sp_db *db);

/* Columns of the current row: copies, malloc'd; text is never NULL. */
char *sp_db_text(struct sqlite3_stmt *stmt, int column);
uint8_t *sp_db_blob(struct sqlite3_stmt *stmt, int column, size_t *len);
/* Into a fixed array: SP_E_CORRUPT when it does not fit, for bytes that this side never wrote. */
enum sp_code sp_db_copy(
    struct sqlite3_stmt *stmt, int column, char *out, size_t size, struct sp_err *err) SP_MUST_USE;
int64_t sp_db_int(struct sqlite3_stmt *stmt, int column);

#endif
