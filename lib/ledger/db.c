/* db.c -- connection, schema, statements. */
#include "ledger/db.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SCHEMA_VERSION 4
#define STATEMENTS_MAX 96
/* KiB of pages in memory: a batch of a busy host must fit, or its pages are written twice */
#define CACHE_KIB "65536"
/* Pages in the WAL before a COMMIT carries them into the database file: everybody waits for that,
 * so it is done often and takes a few milliseconds. A WAL that one large transaction made is cut
 * back. */
#define WAL_PAGES "1000"
#define WAL_BYTES_MAX "33554432"

struct sp_db {
	sqlite3 *handle;
	char *path;
	struct {
		const char *sql;
		sqlite3_stmt *stmt;
	} cache[STATEMENTS_MAX];
	size_t cached;
};

/*
 * job		a row per job: where it stands
 * attempt	the steps' leases, one row per attempt; at most one of a job is alive
 * artifact, attestation, detail	what steps left, in the order in which they came
 * approval	operators' signatures over the job's candidate, one per key
 * entry	the audit log: leaves in order; never changed, never removed
 * checkpoint	the newest that was signed
 * topic	the newest content that was published
 * version	the last version given out, per name
 */
static const char schema[] =
    "CREATE TABLE job(id TEXT PRIMARY KEY CHECK(length(id) = 32), recipe TEXT NOT NULL,"
    " state TEXT NOT NULL, resume TEXT NOT NULL, source TEXT NOT NULL, profile TEXT NOT NULL,"
    " policy BLOB NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL, destination TEXT NOT "
    "NULL,"
    " reason TEXT NOT NULL, candidate BLOB, approvals_needed INTEGER NOT NULL,"
    " submitter INTEGER NOT NULL, created_ms INTEGER NOT NULL, changed_ms INTEGER NOT NULL,"
    " first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL) STRICT;"
    "CREATE TABLE attempt(lease TEXT PRIMARY KEY CHECK(length(lease) = 32),"
    " job TEXT NOT NULL REFERENCES job(id), step TEXT NOT NULL, attempt INTEGER NOT NULL,"
    " state TEXT NOT NULL, worker TEXT NOT NULL, pin TEXT NOT NULL, avoid TEXT NOT NULL,"
    " not_before_ms INTEGER NOT NULL, seq INTEGER NOT NULL) STRICT;"
    "CREATE UNIQUE INDEX attempt_alive ON attempt(job)"
    " WHERE state IN ('offered', 'leased', 'running');"
    "CREATE INDEX attempt_job ON attempt(job);"
    "CREATE TABLE artifact(job TEXT NOT NULL REFERENCES job(id), ord INTEGER NOT NULL,"
    " step TEXT NOT NULL, role TEXT NOT NULL, digest TEXT NOT NULL, store TEXT NOT NULL,"
    " tree INTEGER NOT NULL, bytes INTEGER NOT NULL, PRIMARY KEY(job, ord)) STRICT;"
    "CREATE TABLE attestation(job TEXT NOT NULL REFERENCES job(id), ord INTEGER NOT NULL,"
    " step TEXT NOT NULL, envelope BLOB NOT NULL, PRIMARY KEY(job, ord)) STRICT;"
    "CREATE TABLE detail(job TEXT NOT NULL REFERENCES job(id), ord INTEGER NOT NULL,"
    " step TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY(job, ord)) STRICT;"
    "CREATE TABLE approval(job TEXT NOT NULL REFERENCES job(id), ord INTEGER NOT NULL,"
    " keyid TEXT NOT NULL, person TEXT NOT NULL, envelope BLOB NOT NULL, PRIMARY KEY(job, ord),"
    " UNIQUE(job, keyid)) STRICT;"
    "CREATE TABLE entry(seq INTEGER PRIMARY KEY, job TEXT NOT NULL, body BLOB NOT NULL,"
    " leaf BLOB NOT NULL CHECK(length(leaf) = 32)) STRICT;"
    "CREATE INDEX entry_job ON entry(job, seq) WHERE job <> '';"
    "CREATE TRIGGER entry_no_update BEFORE UPDATE ON entry BEGIN"
    " SELECT RAISE(ABORT, 'audit entries are never changed'); END;"
    "CREATE TRIGGER entry_no_delete BEFORE DELETE ON entry BEGIN"
    " SELECT RAISE(ABORT, 'audit entries are never removed'); END;"
    "CREATE TRIGGER entry_in_order BEFORE INSERT ON entry"
    " WHEN NEW.seq <> (SELECT coalesce(max(seq) + 1, 0) FROM entry) BEGIN"
    " SELECT RAISE(ABORT, 'audit entries are appended only'); END;"
    "CREATE TABLE checkpoint(one INTEGER PRIMARY KEY CHECK(one = 1), size INTEGER NOT NULL,"
    " note BLOB NOT NULL) STRICT;"
    "CREATE TRIGGER checkpoint_grows BEFORE UPDATE ON checkpoint WHEN NEW.size < OLD.size BEGIN"
    " SELECT RAISE(ABORT, 'a checkpoint never gets smaller'); END;"
    "CREATE TRIGGER checkpoint_no_delete BEFORE DELETE ON checkpoint BEGIN"
    " SELECT RAISE(ABORT, 'the checkpoint is never removed'); END;"
    "CREATE TABLE topic(topic TEXT PRIMARY KEY, content BLOB NOT NULL, seq INTEGER NOT NULL) "
    "STRICT;"
    "CREATE TABLE version(name TEXT PRIMARY KEY, last INTEGER NOT NULL CHECK(last > 0)) STRICT;";

/* What version 2 has beyond that: lists of jobs without a look at each that ever was. */
static const char schema_2[] =
    "CREATE UNIQUE INDEX job_order ON job(first_seq);"
    "CREATE INDEX job_under_way ON job(first_seq) WHERE " SP_DB_UNDER_WAY ";"
    "PRAGMA user_version = 2;";

/* What version 3 has beyond that: which jobs name a digest, and what operators let be collected.
 * collection	what an operator began; jobs that had ended by then (0: none) lost their names
 * collected	whose account of it stands in the log */
static const char schema_3[] =
    "CREATE INDEX IF NOT EXISTS artifact_digest ON artifact(digest);"
    "CREATE TABLE IF NOT EXISTS collection(id TEXT PRIMARY KEY CHECK(length(id) = 32),"
    " ended_before_ms INTEGER NOT NULL, seq INTEGER NOT NULL) STRICT;"
    "CREATE TABLE IF NOT EXISTS collected(id TEXT NOT NULL REFERENCES collection(id),"
    " worker TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY(id, worker)) STRICT;"
    "PRAGMA user_version = 3;";

/* What version 4 has instead: one index of attempts by job, where two had held the same ids at
 * random places. Each place is a page to write with a COMMIT, and again into the database file. */
#define ALIVE "state IN ('offered', 'leased', 'running')"
static const char schema_4[] =
    "DROP INDEX attempt_alive; DROP INDEX attempt_job;"
    "CREATE UNIQUE INDEX attempt_job ON attempt(job, CASE WHEN " ALIVE " THEN '' ELSE lease END);"
    "CREATE INDEX attempt_alive ON attempt(state) WHERE " ALIVE ";"
    "PRAGMA user_version = 4;";

static enum sp_code
in_use(const struct sp_db *db, struct sp_err *err)
{
	return sp_err_set(err, SP_E_EXISTS,
	    "database %s: in use by another process (is ledgerd running already?)", db->path);
}

static enum sp_code
fail(const struct sp_db *db, struct sp_err *err, const char *what)
{
	int primary = sqlite3_errcode(db->handle) & 0xff;
	enum sp_code code = SP_E_IO;

	if (primary == SQLITE_FULL)
		return sp_err_set(err, SP_E_NO_SPACE,
		    "database %s: %s: %s: make room on that disk, nothing was lost", db->path, what,
		    sqlite3_errmsg(db->handle));
	if (primary == SQLITE_NOMEM)
		code = SP_E_NO_MEMORY;
	else if (primary == SQLITE_CORRUPT || primary == SQLITE_NOTADB)
		code = SP_E_CORRUPT;
	else if (primary == SQLITE_CONSTRAINT)
		code = SP_E_STATE;
	else if (primary == SQLITE_BUSY || primary == SQLITE_LOCKED)
		return in_use(db, err);
	return sp_err_set(
	    err, code, "database %s: %s: %s", db->path, what, sqlite3_errmsg(db->handle));
}

/* --- opening ---------------------------------------------------------------------------------- */

static enum sp_code
exec(struct sp_db *db, const char *sql, struct sp_err *err)
{
	if (sqlite3_exec(db->handle, sql, NULL, NULL, NULL) != SQLITE_OK)
		return fail(db, err, sql);
	return SP_OK;
}

/* First column of the first row, "" when there is none. */
static enum sp_code
ask(struct sp_db *db, const char *sql, char *out, size_t size, struct sp_err *err)
{
	sqlite3_stmt *stmt = NULL;
	const char *text;
	int rc;

	out[0] = '\0';
	if (sqlite3_prepare_v2(db->handle, sql, -1, &stmt, NULL) != SQLITE_OK)
		return fail(db, err, sql);
	rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW) {
		text = (const char *)sqlite3_column_text(stmt, 0);
		snprintf(out, size, "%s", text != NULL ? text : "");
	}
	sqlite3_finalize(stmt);
	return rc == SQLITE_ROW || rc == SQLITE_DONE ? SP_OK : fail(db, err, sql);
}

static enum sp_code
set(struct sp_db *db, const char *pragma, const char *check, const char *want, struct sp_err *err)
{
	char got[32];
	enum sp_code code;

	code = ask(db, pragma, got, sizeof(got), err);
	if (code == SP_OK)
		code = ask(db, check, got, sizeof(got), err);
	if (code == SP_OK && strcmp(got, want) != 0)
		code = sp_err_set(err, SP_E_UNSUPPORTED,
		    "database %s: \"%s\" did not take: it is %s (a filesystem without shared "
		    "memory or locks?)",
		    db->path, pragma, got);
	return code;
}

static enum sp_code
configure(struct sp_db *db, struct sp_err *err)
{
	enum sp_code code;

	sqlite3_extended_result_codes(db->handle, 1);
	sqlite3_db_config(db->handle, SQLITE_DBCONFIG_DEFENSIVE, 1, (int *)NULL);
	sqlite3_db_config(db->handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, (int *)NULL);
	/* exclusive before WAL: then no shared memory is needed and the lock is never given up */
	code = set(db, "PRAGMA locking_mode = EXCLUSIVE", "PRAGMA locking_mode", "exclusive", err);
	if (code == SP_OK)
		code = set(db, "PRAGMA journal_mode = WAL", "PRAGMA journal_mode", "wal", err);
	/* some builds default to NORMAL in WAL mode: a commit would not survive a power cut */
	if (code == SP_OK)
		code = set(db, "PRAGMA synchronous = FULL", "PRAGMA synchronous", "2", err);
	if (code == SP_OK)
		code = set(db, "PRAGMA foreign_keys = ON", "PRAGMA foreign_keys", "1", err);
	/* what a savepoint must be able to undo is kept in memory, not in a file for each mark */
	if (code == SP_OK)
		code = set(db, "PRAGMA temp_store = MEMORY", "PRAGMA temp_store", "2", err);
	if (code == SP_OK)
		code = set(
		    db, "PRAGMA cache_size = -" CACHE_KIB, "PRAGMA cache_size", "-" CACHE_KIB, err);
	if (code == SP_OK)
		code = set(db, "PRAGMA wal_autocheckpoint = " WAL_PAGES,
		    "PRAGMA wal_autocheckpoint", WAL_PAGES, err);
	if (code == SP_OK)
		code = set(db, "PRAGMA journal_size_limit = " WAL_BYTES_MAX,
		    "PRAGMA journal_size_limit", WAL_BYTES_MAX, err);
	if (code == SP_OK)
		code = exec(db, "BEGIN EXCLUSIVE", err);
	return code;
}

/* Inside the first transaction. */
static enum sp_code
make_schema(struct sp_db *db, struct sp_err *err)
{
	static const char *const versions[SCHEMA_VERSION] = {schema, schema_2, schema_3, schema_4};
	char text[32];
	enum sp_code code;
	long version;

	code = ask(db, "PRAGMA user_version", text, sizeof(text), err);
	if (code != SP_OK)
		return code;
	version = strtol(text, NULL, 10);
	if (version < 0 || version > SCHEMA_VERSION)
		return sp_err_set(err, SP_E_UNSUPPORTED,
		    "database %s: has schema version %s, this ledgerd knows %d: install the "
		    "release that wrote it, or a newer one",
		    db->path, text, SCHEMA_VERSION);
	for (; code == SP_OK && version < SCHEMA_VERSION; version++)
		code = exec(db, versions[version], err);
	return code;
}

/* SQLite would make it with the umask's mode, and not sync the directory that names it. */
static enum sp_code
make_file(const char *path, struct sp_err *err)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
	char *dir = sp_xstrdup(path), *slash = strrchr(dir, '/');
	enum sp_code code = SP_OK;

	if (fd < 0)
		code = sp_err_errno(err, "database %s", path);
	else
		close(fd);
	if (slash != NULL)
		*slash = '\0';
	if (code == SP_OK)
		code = sp_file_sync_dir(slash == NULL ? "." : slash == dir ? "/" : dir, err);
	free(dir);
	return code;
}

enum sp_code
sp_db_open(const char *path, struct sp_db **out, struct sp_err *err)
{
	struct sp_db *db = sp_xcalloc(1, sizeof(*db));
	enum sp_code code;

	db->path = sp_xstrdup(path);
	code = make_file(path, err);
	if (code != SP_OK)
		goto out;
	if (sqlite3_open_v2(path, &db->handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) !=
	    SQLITE_OK) {
		code = fail(db, err, "open");
		goto out;
	}
	code = configure(db, err);
	if (code == SP_OK)
		code = make_schema(db, err);
	if (code == SP_OK)
		code = exec(db, "COMMIT", err);
out:
	if (code != SP_OK)
		sp_db_close(&db);
	*out = db;
	return code;
}

/* Nothing is left in the WAL: the file alone is the database. */
static int
is_settled(const char *path)
{
	char *wal = sp_xasprintf("%s-wal", path);
	struct stat st;
	int settled = stat(wal, &st) != 0 ? errno == ENOENT : st.st_size == 0;

	free(wal);
	return settled;
}

/* file:PATH?immutable=1, with what has a meaning in a URI escaped */
static char *
immutable_uri(const char *path)
{
	char *uri = sp_xcalloc(3 * strlen(path) + 32, 1), *at = uri + sprintf(uri, "file:");

	for (; *path != '\0'; path++)
		at += sprintf(at, strchr("%?#", *path) != NULL ? "%%%02X" : "%c", *path);
	strcpy(at, "?immutable=1");
	return uri;
}

static enum sp_code
begin_readonly(struct sp_db *db, const char *name, int flags, struct sp_err *err)
{
	char version[32] = "";
	enum sp_code code;
	long known;

	if (sqlite3_open_v2(name, &db->handle, flags | SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX,
		NULL) != SQLITE_OK)
		return fail(db, err, "open");
	sqlite3_extended_result_codes(db->handle, 1);
	sqlite3_db_config(db->handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, (int *)NULL);
	code = exec(db, "BEGIN", err);
	if (code == SP_OK)
		code = ask(db, "PRAGMA user_version", version, sizeof(version), err);
	known = strtol(version, NULL, 10);
	if (code == SP_OK && (known < 1 || known > SCHEMA_VERSION))
		code = sp_err_set(err, SP_E_UNSUPPORTED,
		    "database %s: it has schema version %s, here 1 to %d are known: is it "
		    "ledgerd's?",
		    db->path, version, SCHEMA_VERSION);
	return code;
}

/* Not by this process, whose own lock the close here would take away. A writer holds SQLite's lock
 * bytes (fileformat2, "lock-byte page") as long as it has the file. */
static int
is_locked(const char *path)
{
	struct flock lock = {
	    .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 0x40000000, .l_len = 512};
	int fd = open(path, O_RDONLY | O_CLOEXEC), locked = 0;

	if (fd >= 0) {
		locked = fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
		close(fd);
	}
	return locked;
}

enum sp_code
sp_db_open_readonly(const char *path, struct sp_db **out, struct sp_err *err)
{
	struct sp_db *db = sp_xcalloc(1, sizeof(*db));
	enum sp_code code;
	char *uri;

	db->path = sp_xstrdup(path);
	if (access(path, R_OK) != 0) {
		code = sp_err_errno(err, "database %s", path);
	} else if (is_locked(path)) {
		code = in_use(db, err);
	} else if (is_settled(path)) {
		/* then SQLite need not make files beside it, which not everybody may */
		uri = immutable_uri(path);
		code = begin_readonly(db, uri, SQLITE_OPEN_URI, err);
		free(uri);
	} else {
		code = begin_readonly(db, path, 0, err);
	}
	if (code != SP_OK)
		sp_db_close(&db);
	*out = db;
	return code;
}

void
sp_db_close(struct sp_db **db)
{
	size_t i;

	if (*db == NULL)
		return;
	for (i = 0; i < (*db)->cached; i++)
		sqlite3_finalize((*db)->cache[i].stmt);
	sqlite3_close((*db)->handle);
	free((*db)->path);
	free(*db);
	*db = NULL;
}

/* --- transactions ----------------------------------------------------------------------------- */

enum sp_code
sp_db_begin(struct sp_db *db, struct sp_err *err)
{
	return sp_db_run(db, "BEGIN IMMEDIATE", err, "");
}

enum sp_code
sp_db_commit(struct sp_db *db, struct sp_err *err)
{
	return sp_db_run(db, "COMMIT", err, "");
}

int
sp_db_in_transaction(struct sp_db *db)
{
	return !sqlite3_get_autocommit(db->handle);
}

void
sp_db_rollback(struct sp_db *db)
{
	if (sp_db_in_transaction(db))
		sqlite3_exec(db->handle, "ROLLBACK", NULL, NULL, NULL);
}

/* --- statements ------------------------------------------------------------------------------- */

static enum sp_code
lookup(struct sp_db *db, const char *sql, sqlite3_stmt **out, struct sp_err *err)
{
	size_t i;

	for (i = 0; i < db->cached; i++) {
		if (db->cache[i].sql == sql) {
			*out = db->cache[i].stmt;
			return SP_OK;
		}
	}
	SP_ASSERT(db->cached < STATEMENTS_MAX);
	if (sqlite3_prepare_v3(db->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, out, NULL) !=
	    SQLITE_OK)
		return fail(db, err, sql);
	db->cache[db->cached].sql = sql;
	db->cache[db->cached++].stmt = *out;
	return SP_OK;
}

static enum sp_code
bind(struct sp_db *db, sqlite3_stmt *stmt, const char *types, va_list ap, struct sp_err *err)
{
	int i, rc = SQLITE_OK;

	for (i = 1; *types != '\0' && rc == SQLITE_OK; types++, i++) {
		if (*types == 't') {
			rc = sqlite3_bind_text(
			    stmt, i, va_arg(ap, const char *), -1, SQLITE_TRANSIENT);
		} else if (*types == 'i') {
			rc = sqlite3_bind_int64(stmt, i, va_arg(ap, int64_t));
		} else {
			const void *data = va_arg(ap, const void *);
			size_t len = va_arg(ap, size_t);

			SP_ASSERT(*types == 'b');
			rc = sqlite3_bind_blob64(
			    stmt, i, len > 0 ? data : "", len, SQLITE_TRANSIENT);
		}
	}
	return rc == SQLITE_OK ? SP_OK : fail(db, err, "bind");
}

static enum sp_code
prepare(struct sp_db *db, const char *sql, sqlite3_stmt **out, struct sp_err *err,
    const char *types, va_list ap)
{
	enum sp_code code = lookup(db, sql, out, err);

	if (code == SP_OK)
		code = bind(db, *out, types, ap, err);
	return code;
}

enum sp_code
sp_db_prepare(struct sp_db *db, const char *sql, sqlite3_stmt **out, struct sp_err *err,
    const char *types, ...)
{
	enum sp_code code;
	va_list ap;

	va_start(ap, types);
	code = prepare(db, sql, out, err, types, ap);
	va_end(ap);
	return code;
}

enum sp_code
sp_db_step(struct sp_db *db, sqlite3_stmt *stmt, int *row, struct sp_err *err)
{
	int rc = sqlite3_step(stmt);

	*row = rc == SQLITE_ROW;
	if (rc == SQLITE_ROW || rc == SQLITE_DONE)
		return SP_OK;
	return fail(db, err, sqlite3_sql(stmt));
}

void
sp_db_done(sqlite3_stmt *stmt)
{
	if (stmt == NULL)
		return;
	sqlite3_reset(stmt);
	sqlite3_clear_bindings(stmt);
}

enum sp_code
sp_db_run(struct sp_db *db, const char *sql, struct sp_err *err, const char *types, ...)
{
	sqlite3_stmt *stmt = NULL;
	enum sp_code code;
	va_list ap;
	int row;

	va_start(ap, types);
	code = prepare(db, sql, &stmt, err, types, ap);
	va_end(ap);
	while (code == SP_OK) {
		code = sp_db_step(db, stmt, &row, err);
		if (!row)
			break;
	}
	sp_db_done(stmt);
	return code;
}

int
sp_db_changes(struct sp_db *db)
{
	return sqlite3_changes(db->handle);
}

/* --- columns ---------------------------------------------------------------------------------- */

char *
sp_db_text(sqlite3_stmt *stmt, int column)
{
	const char *text = (const char *)sqlite3_column_text(stmt, column);

	return sp_xstrdup(text != NULL ? text : "");
}

uint8_t *
sp_db_blob(sqlite3_stmt *stmt, int column, size_t *len)
{
	const void *data = sqlite3_column_blob(stmt, column);
	uint8_t *copy;

	*len = (size_t)sqlite3_column_bytes(stmt, column);
	copy = sp_xcalloc(*len + 1, 1);
	if (*len > 0)
		memcpy(copy, data, *len);
	return copy;
}

enum sp_code
sp_db_copy(sqlite3_stmt *stmt, int column, char *out, size_t size, struct sp_err *err)
{
	const char *text = (const char *)sqlite3_column_text(stmt, column);
	size_t len = text != NULL ? strlen(text) : 0;

	if (len >= size)
		return sp_err_set(err, SP_E_CORRUPT,
		    "database: column %s holds %zu bytes, at most %zu can be there",
		    sqlite3_column_name(stmt, column), len, size - 1);
	memcpy(out, text != NULL ? text : "", len + 1);
	return SP_OK;
}

int64_t
sp_db_int(sqlite3_stmt *stmt, int column)
{
	return sqlite3_column_int64(stmt, column);
}
