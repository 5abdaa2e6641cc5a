/*
 * ledger.c -- sp-bench-ledger: how fast the ledger is, alone and inside ledgerd.
 *
 *	sp-bench-ledger appends DIR RUNS      entries of 64 writers, committed as ledgerd does, and
 *	                                      the same bytes into a plain SQLite table
 *	sp-bench-ledger fill DB KEY ORIGIN FULL SHORT
 *	                                      a database of FULL jobs that were sent and SHORT that
 *	                                      were cancelled, as ledgerd would have left it
 *	sp-bench-ledger submit SOCKET SNAPSHOTS CONNECTIONS COUNT
 *	                                      round trips through a ledgerd that runs
 */
#include "ledger.h"
#include "base/file.h"
#include "ledger/change.h"

#include <sodium.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WRITERS 64
#define BATCHES 150

static const struct sp_actor self = {0, 0, "ledgerd", "ledgerd@bastion", ""};
static uint8_t log_pk[32], log_sk[64];

double
bench_now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void
bench_check(enum sp_code code, const struct sp_err *err)
{
	if (code == SP_OK)
		return;
	fprintf(stderr, "sp-bench-ledger: %s\n", err->msg);
	exit(1);
}

static void
sign(void *ctx, const void *data, size_t len, uint8_t sig[64])
{
	(void)ctx;
	crypto_sign_detached(sig, NULL, data, len, log_sk);
}

static void
sign_with_key(void *ctx, const void *data, size_t len, uint8_t sig[64])
{
	sp_key_sign(ctx, data, len, sig);
}

/* --- appends ---------------------------------------------------------------------------------- */

/* What admissiond records of one decision. */
static struct sp_entry *
admission(unsigned writer, unsigned round)
{
	static const struct sp_actor admissiond = {0, 0, "admissiond", "admissiond@enclave",
	    "b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0"};
	struct sp_entry *entry = sp_entry_new(&admissiond, "admission");
	char pod[64];

	snprintf(pod, sizeof(pod), "model-server-%u-%u", writer, round);
	sp_entry_reason(entry, "allowed: registered as version 7");
	sp_entry_detail(entry, "namespace", "inference");
	sp_entry_detail(entry, "pod", pod);
	sp_entry_detail(entry, "model", "org/name-AWQ");
	return entry;
}

/* Every writer has one entry under way and waits for it to be durable, so a batch holds one of
 * each: ledgerd marks, appends, commits; the commit stores the checkpoint over the batch before. */
static double
run_ours(const char *path, size_t *entry_bytes)
{
	struct sp_ledger_spec spec = {.path = path,
	    .origin = "sallyport/enclave/bench",
	    .self = self,
	    .pk = log_pk,
	    .sign = sign};
	struct sp_ledger *ledger;
	struct sp_entry *entry;
	struct sp_err err;
	double start;
	uint64_t seq;
	size_t len;

	bench_check(sp_ledger_open(&spec, &ledger, &err), &err);
	start = bench_now_s();
	for (unsigned round = 0; round < BATCHES; round++) {
		bench_check(sp_ledger_begin(ledger, &err), &err);
		for (unsigned writer = 0; writer < WRITERS; writer++) {
			bench_check(sp_ledger_mark(ledger, &err), &err);
			entry = admission(writer, round);
			bench_check(sp_ledger_append(
					ledger, entry, 1764000000000 + round, round, &seq, &err),
			    &err);
			sp_entry_free(&entry);
		}
		bench_check(sp_ledger_commit(ledger, &err), &err);
	}
	bench_check(sp_ledger_sign(ledger, NULL, &err), &err);
	start = bench_now_s() - start;
	entry = admission(63, BATCHES);
	free(sp_entry_pack(entry, 9999, spec.origin, 1764000000000, 1, &len));
	*entry_bytes = len;
	sp_entry_free(&entry);
	sp_ledger_close(&ledger);
	return WRITERS * BATCHES / start;
}

static void
sql(sqlite3 *db, const char *text)
{
	if (sqlite3_exec(db, text, NULL, NULL, NULL) == SQLITE_OK)
		return;
	fprintf(stderr, "sp-bench-ledger: %s: %s\n", text, sqlite3_errmsg(db));
	exit(1);
}

/* Rows of the same size in the same batches under the same pragmas, and nothing else. */
static double
run_rival(const char *path, size_t entry_bytes)
{
	uint8_t *body = sp_xcalloc(entry_bytes + 32, 1);
	sqlite3_stmt *insert;
	sqlite3 *db;
	double start;

	randombytes_buf(body, entry_bytes + 32);
	if (sqlite3_open(path, &db) != SQLITE_OK)
		exit(1);
	sql(db, "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL;"
		"PRAGMA synchronous = FULL;"
		"CREATE TABLE entry(seq INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT");
	sqlite3_prepare_v2(db, "INSERT INTO entry(body) VALUES(?)", -1, &insert, NULL);
	start = bench_now_s();
	for (unsigned round = 0; round < BATCHES; round++) {
		sql(db, "BEGIN IMMEDIATE");
		for (unsigned writer = 0; writer < WRITERS; writer++) {
			sqlite3_bind_blob64(insert, 1, body, entry_bytes + 32, SQLITE_STATIC);
			if (sqlite3_step(insert) != SQLITE_DONE)
				exit(1);
			sqlite3_reset(insert);
		}
		sql(db, "COMMIT");
	}
	start = bench_now_s() - start;
	sqlite3_finalize(insert);
	sqlite3_close(db);
	free(body);
	return WRITERS * BATCHES / start;
}

static int
appends(const char *dir, unsigned runs)
{
	double *ours = sp_xcalloc(runs, sizeof(*ours)), *rival = sp_xcalloc(runs, sizeof(*rival));
	size_t entry_bytes;
	char *path;

	for (unsigned i = 0; i < runs; i++) {
		path = sp_xasprintf("%s/ours%u.db", dir, i);
		ours[i] = run_ours(path, &entry_bytes);
		free(path);
		path = sp_xasprintf("%s/rival%u.db", dir, i);
		rival[i] = run_rival(path, entry_bytes);
		free(path);
		fprintf(stderr, "run %u: %.0f/s, plain SQLite %.0f/s (%zu bytes an entry)\n", i + 1,
		    ours[i], rival[i], entry_bytes);
	}
	printf("{\"name\":\"ledger_appends_per_s\",\"unit\":\"1/s\",\"better\":\"higher\","
	       "\"target\":0.8,\"rival\":\"plain SQLite, WAL, FULL, same batches\",\"ours\":");
	bench_print_list(ours, runs);
	printf(",\"rival_values\":");
	bench_print_list(rival, runs);
	printf("}\n");
	free(ours);
	free(rival);
	return 0;
}

void
bench_print_list(const double *values, size_t count)
{
	for (size_t i = 0; i < count; i++)
		printf("%s%.6g", i == 0 ? "[" : ",", values[i]);
	printf("]");
}

/* --- fill ------------------------------------------------------------------------------------- */

struct filler {
	struct sp_ledger *ledger;
	uint64_t ids; /* given out */
	unsigned pending;
	char lease[SP_JOB_ID_LEN + 1];
};

static void
fresh_id(struct filler *f, char id[SP_JOB_ID_LEN + 1])
{
	uint8_t raw[SP_DIGEST_LEN];

	f->ids++;
	sp_sha256(&f->ids, sizeof(f->ids), raw);
	sp_hex_encode(raw, SP_JOB_ID_LEN / 2, id);
}

static void
step(struct filler *f, struct sp_change *c)
{
	struct sp_changed changed;
	struct sp_err err;
	char next[SP_JOB_ID_LEN + 1];

	fresh_id(f, next);
	c->next_lease = next;
	c->unix_ms = 1764000000000 + (int64_t)f->ids;
	c->monotonic_ms = (int64_t)f->ids;
	bench_check(sp_change_apply(f->ledger, c, &changed, &err), &err);
	c->next_lease = NULL;
	if (changed.has_next)
		memcpy(f->lease, next, sizeof(next));
	sp_changed_clear(&changed);
	if (++f->pending < 2000)
		return;
	bench_check(sp_ledger_commit(f->ledger, &err), &err);
	bench_check(sp_ledger_begin(f->ledger, &err), &err);
	f->pending = 0;
}

/* A step taken and done, with what it leaves. */
static void
work(struct filler *f, const char *job, const char *service, const char *role)
{
	struct sp_actor actor = {0, 0, service, "", "c0c0"};
	struct sp_change c = {.job = job, .event = SP_EV_LEASE};
	struct sp_outcome outcome = {0};
	char name[64], lease[SP_JOB_ID_LEN + 1];

	snprintf(name, sizeof(name), "%s@bastion", service);
	memcpy(lease, f->lease, sizeof(lease));
	actor.name = name;
	c.actor = actor;
	c.worker = name;
	c.lease = lease;
	step(f, &c);
	if (role != NULL)
		sp_outcome_artifact(
		    &outcome, role, sp_sha256_hex(lease, sizeof(lease)).s, service, 1, 4096);
	sp_outcome_detail(&outcome, "seconds", "%d", 17);
	sp_outcome_attest(&outcome, lease, sizeof(lease));
	c.event = SP_EV_DONE;
	c.outcome = &outcome;
	step(f, &c);
	sp_outcome_clear(&outcome);
}

static void
life(struct filler *f, unsigned number, int full)
{
	static const struct sp_actor anna = {1, 1000, "", "anna", ""};
	char job[SP_JOB_ID_LEN + 1], source[64], profile[] = "fixture", name[64],
						 destination[] = "enclave";
	uint8_t policy[] = "{\"approvals\":1}";
	struct sp_job fresh = {.recipe = SP_RECIPE_MODEL,
	    .source = source,
	    .profile = profile,
	    .name = name,
	    .destination = destination,
	    .policy = policy,
	    .policy_len = sizeof(policy) - 1,
	    .approvals_needed = 1,
	    .submitter = 1000};
	struct sp_change c = {.job = job, .event = SP_EV_SUBMIT, .actor = anna, .fresh = &fresh};

	fresh_id(f, job);
	snprintf(source, sizeof(source), "hf:org/model-%u@main", number % 500);
	snprintf(name, sizeof(name), "org/model-%u-AWQ", number % 500);
	step(f, &c);
	if (full) {
		work(f, job, "fetcherd", "source");
		work(f, job, "quantd", "candidate");
		work(f, job, "validatord", NULL);
		c.event = SP_EV_APPROVED;
		step(f, &c);
		work(f, job, "diode-txd", NULL);
		work(f, job, "diode-txd", NULL);
	} else {
		c.event = SP_EV_CANCEL;
		c.reason = "no longer wanted";
		step(f, &c);
	}
}

static int
fill(const char *path, const char *key_file, const char *origin, unsigned full, unsigned cancelled)
{
	struct sp_key *key;
	struct sp_ledger_spec spec = {
	    .path = path, .origin = origin, .self = self, .pk = NULL, .sign = sign_with_key};
	struct filler f = {0};
	struct sp_err err;
	double start = bench_now_s();

	bench_check(sp_key_load(key_file, SP_ROLE_LOG, NULL, &key, &err), &err);
	spec.pk = sp_key_public(key)->bytes;
	spec.ctx = key;
	bench_check(sp_ledger_open(&spec, &f.ledger, &err), &err);
	bench_check(sp_ledger_begin(f.ledger, &err), &err);
	for (unsigned i = 0; i < full + cancelled; i++)
		life(&f, i, i < full);
	bench_check(sp_ledger_commit(f.ledger, &err), &err);
	bench_check(sp_ledger_sign(f.ledger, NULL, &err), &err);
	fprintf(stderr, "%s: %llu entries of %u jobs in %.1f s\n", path,
	    (unsigned long long)sp_ledger_size(f.ledger), full + cancelled, bench_now_s() - start);
	sp_ledger_close(&f.ledger);
	sp_key_free(&key);
	return 0;
}

int
main(int argc, char **argv)
{
	SP_ASSERT(sodium_init() >= 0);
	crypto_sign_keypair(log_pk, log_sk);
	if (argc == 4 && strcmp(argv[1], "appends") == 0)
		return appends(argv[2], (unsigned)atoi(argv[3]));
	if (argc == 7 && strcmp(argv[1], "fill") == 0)
		return fill(
		    argv[2], argv[3], argv[4], (unsigned)atoi(argv[5]), (unsigned)atoi(argv[6]));
	if (argc == 6 && strcmp(argv[1], "submit") == 0)
		return bench_submit(
		    argv[2], argv[3], (unsigned)atoi(argv[4]), (unsigned)atoi(argv[5]));
	fprintf(stderr, "sp-bench-ledger: see the head of tests/bench/ledger.c\n");
	return 2;
}
