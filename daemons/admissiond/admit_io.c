/* admit_io.c -- the webhook's socket, the snapshot in force, the log. */
#include "admit.h"
#include "base/file.h"
#include "base/log.h"
#include "base/time.h"
#include "bus/paths.h"
#include "bus/result.h"
#include "bus/worker.h"
#include "http/http.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define SERVICE "admissiond"
#define RECORD_MS 2000	    /* apiservers wait 2 to 3 s for a webhook */
#define CLOCK_SKEW_MS 60000 /* between registryd's clock and ours */
#define CONNECTIONS 128	    /* each may hold a body of ADMIT_BODY_MAX in memory */
#define DETAILS_MAX 10
#define VALUE_MAX 1024 /* bytes; what a client may choose to be longer is cut off */

struct admit {
	struct sp_worker *worker;
	struct sp_http *http;
	int64_t max_age_ms;
	char *seen_file; /* decimal: the highest snapshot version that we ever believed */

	pthread_rwlock_t lock; /* of what follows */
	struct sp_snapshot snapshot;
	int has_snapshot;
	int64_t signed_ms;
};

enum sp_code
admit_check(const struct sp_conf *conf, struct sp_err *err)
{
	enum sp_code code = sp_conf_require(conf, "admissiond.tls_cert", err);

	return code != SP_OK ? code : sp_conf_require(conf, "admissiond.tls_key", err);
}

/* --- the snapshot in force --- */

/* 0 when no snapshot was ever believed. A file that is there and cannot be read is an error: to go
 * on without it would open the door to an old snapshot. */
static enum sp_code
load_seen(const struct admit *admit, int64_t *version, struct sp_err *err)
{
	uint8_t *data;
	size_t len;
	char *end;
	enum sp_code code = sp_file_read(admit->seen_file, 32, &data, &len, err);

	*version = 0;
	if (code == SP_E_NOT_FOUND)
		return SP_OK;
	if (code != SP_OK)
		return code;
	*version = strtoll((char *)data, &end, 10);
	if (*version < 1 || *end != '\n')
		code = sp_err_set(err, SP_E_CORRUPT,
		    "%s holds no version: write the newest snapshot's version there (`sallyctl "
		    "models --json`)",
		    admit->seen_file);
	free(data);
	return code;
}

static enum sp_code
accept_snapshot(struct admit *admit, const uint8_t *content, size_t len,
    struct sp_snapshot *snapshot, int64_t *signed_ms, struct sp_err *err)
{
	struct sp_trust *trust = NULL;
	int64_t seen;
	char text[32];
	enum sp_code code;

	if ((code = sp_worker_trust(admit->worker, &trust, err)) ||
	    (code = sp_snapshot_verify(trust, content, len, snapshot, err)) ||
	    (code = load_seen(admit, &seen, err)))
		goto out;
	*signed_ms = sp_time_parse_rfc3339(snapshot->time);
	if (snapshot->version < seen)
		code = sp_err_set(err, SP_E_DENIED,
		    "version %" PRId64 " is older than version %" PRId64 ", which was seen before",
		    snapshot->version, seen);
	else if (*signed_ms > sp_time_unix_ms() + CLOCK_SKEW_MS)
		code = sp_err_set(err, SP_E_DENIED, "it was signed at %s, which is in the future",
		    snapshot->time);
	else if (snapshot->version > seen) {
		int n = snprintf(text, sizeof(text), "%" PRId64 "\n", snapshot->version);

		code = sp_file_write(admit->seen_file, 0600, text, (size_t)n, err);
	}
out:
	sp_trust_free(&trust);
	return code;
}

static void
on_snapshot(void *ctx, const uint8_t *content, size_t len)
{
	struct admit *admit = ctx;
	struct sp_snapshot snapshot = {0}, old;
	int64_t signed_ms = 0;
	struct sp_err err;

	if (accept_snapshot(admit, content, len, &snapshot, &signed_ms, &err) != SP_OK) {
		sp_log_error(NULL, "snapshot refused: %s", err.msg);
		sp_snapshot_clear(&snapshot);
		return;
	}
	sp_log_info(NULL, "snapshot %" PRId64 " of %s: %zu models", snapshot.version,
	    snapshot.origin, snapshot.count);
	pthread_rwlock_wrlock(&admit->lock);
	old = admit->snapshot;
	admit->snapshot = snapshot;
	admit->has_snapshot = 1;
	admit->signed_ms = signed_ms;
	pthread_rwlock_unlock(&admit->lock);
	sp_snapshot_clear(&old);
}

/* --- the log --- */

/* A record in the making. */
struct record {
	Sallyport__Record body;
	Sallyport__Detail detail[DETAILS_MAX], *details[DETAILS_MAX];
	char *values[DETAILS_MAX]; /* cleaned copies: a value of any length or form is recorded */
};

static void
add_detail(struct record *record, const char *key, const char *value)
{
	size_t n = record->body.n_details++;
	Sallyport__Detail *detail = &record->detail[n];

	SP_ASSERT(n < DETAILS_MAX);
	sallyport__detail__init(detail);
	record->values[n] = sp_result_clean(value, VALUE_MAX);
	detail->key = (char *)(uintptr_t)key; /* only read while the record is packed */
	detail->value = record->values[n];
	record->details[n] = detail;
}

/* Returns when the decision stands in the audit log. */
static enum sp_code
record_decision(struct admit *admit, const struct admit_request *request,
    const struct admit_verdict *verdict, struct sp_err *err)
{
	struct record record;
	char version[24], kind[] = "admission";
	enum sp_code code;

	sallyport__record__init(&record.body);
	record.body.kind = kind;
	record.body.reason = (char *)(uintptr_t)verdict->message;
	record.body.details = record.details;
	add_detail(&record, "allowed", verdict->allowed ? "true" : "false");
	add_detail(&record, "uid", request->uid);
	add_detail(&record, "operation", request->operation);
	add_detail(&record, "kind", request->kind);
	add_detail(&record, "namespace", request->name_space);
	add_detail(&record, "name", request->name);
	add_detail(&record, "user", request->user);
	if (verdict->model[0] != '\0') {
		snprintf(version, sizeof(version), "%" PRId64, verdict->version);
		add_detail(&record, "model", verdict->model);
		add_detail(&record, "version", version);
		add_detail(&record, "tree", verdict->tree.s);
	}
	code = sp_worker_record(admit->worker, &record.body, RECORD_MS, NULL, err);
	for (size_t i = 0; i < record.body.n_details; i++)
		free(record.values[i]);
	return code;
}

/* --- the webhook --- */

static void
review(struct admit *admit, const struct admit_request *request, struct sp_http_reply *reply)
{
	struct admit_verdict verdict;
	struct sp_err err;
	char *answer;
	size_t len;

	pthread_rwlock_rdlock(&admit->lock);
	admit_decide(request, admit->has_snapshot ? &admit->snapshot : NULL,
	    sp_time_unix_ms() - admit->signed_ms, admit->max_age_ms, &verdict);
	pthread_rwlock_unlock(&admit->lock);
	/* a dry run admits nothing, and must leave no trace (sideEffects: NoneOnDryRun) */
	if (!request->dry_run && record_decision(admit, request, &verdict, &err) != SP_OK) {
		sp_log_error(NULL, "decision on %s %s/%s not recorded: %s", request->kind,
		    request->name_space, request->name, err.msg);
		if (verdict.allowed) {
			verdict.allowed = 0;
			snprintf(verdict.message, sizeof(verdict.message),
			    "sallyport: the decision could not be written to the audit log, and "
			    "what is "
			    "not in the log does not start: is ledgerd running?");
		}
	}
	sp_log_info(NULL, "%s %s %s/%s: %s: %s", request->operation, request->kind,
	    request->name_space, request->name, verdict.allowed ? "allowed" : "denied",
	    verdict.message);
	answer = admit_answer(request, &verdict, &len);
	sp_http_reply_body(reply, 200, "application/json", answer, len);
	free(answer);
}

static void
reply_text(struct sp_http_reply *reply, unsigned status, const char *text)
{
	sp_http_reply_body(reply, status, "text/plain; charset=utf-8", text, strlen(text));
}

static void
on_request(void *ctx, const struct sp_http_request *http, struct sp_http_reply *reply)
{
	struct admit *admit = ctx;
	struct admit_request request;
	struct sp_err err;
	int ready;

	if (strcmp(http->path, "/healthz") == 0) {
		reply_text(reply, 200, "alive\n");
	} else if (strcmp(http->path, "/readyz") == 0) {
		pthread_rwlock_rdlock(&admit->lock);
		ready = admit->has_snapshot &&
			sp_time_unix_ms() - admit->signed_ms <= admit->max_age_ms;
		pthread_rwlock_unlock(&admit->lock);
		reply_text(reply, ready ? 200 : 503,
		    ready ? "ready\n" : "no fresh snapshot of the registry\n");
	} else if (strcmp(http->path, "/validate") != 0) {
		reply_text(reply, 404, "the webhook's path is /validate\n");
	} else if (strcmp(http->method, "POST") != 0) {
		reply_text(reply, 405, "POST an AdmissionReview\n");
	} else if (admit_request_parse(http->body, http->body_len, &request, &err) != SP_OK) {
		sp_log_warn(NULL, "request from %s refused: %s", http->peer, err.msg);
		reply_text(reply, 400, err.msg);
	} else {
		review(admit, &request, reply);
		admit_request_clear(&request);
	}
}

/* --- start and end --- */

static enum sp_code
start_http(struct admit *admit, const struct sp_conf *conf, struct sp_err *err)
{
	struct sp_http_options options = {
	    .listen = sp_conf_string(conf, "admissiond.listen"),
	    .cert_file = sp_conf_string(conf, "admissiond.tls_cert"),
	    .key_file = sp_conf_string(conf, "admissiond.tls_key"),
	    .threads = 4, /* each waits for the log; 4 are enough to group commits */
	    .connections = CONNECTIONS,
	    .body_max = ADMIT_BODY_MAX,
	    .handler = on_request,
	    .ctx = admit,
	};

	return sp_http_start(&options, &admit->http, err);
}

enum sp_code
admit_open(struct sp_worker *worker, void **ctx, struct sp_err *err)
{
	const struct sp_conf *conf = sp_worker_conf(worker);
	struct admit *admit = sp_xcalloc(1, sizeof(*admit));
	char *state = sp_paths_state(conf, SERVICE);
	int64_t seen;
	enum sp_code code;

	admit->worker = worker;
	admit->max_age_ms = sp_conf_int(conf, "admissiond.snapshot_max_age_s") * 1000;
	admit->seen_file = sp_xasprintf("%s/seen", state);
	pthread_rwlock_init(&admit->lock, NULL);
	if ((code = sp_file_mkdirs(state, 0700, err)) || (code = load_seen(admit, &seen, err)) ||
	    (code = start_http(admit, conf, err))) {
		admit_close(admit);
	} else {
		sp_worker_subscribe(worker, "snapshot", on_snapshot, admit);
		*ctx = admit;
	}
	free(state);
	return code;
}

void
admit_close(void *ctx)
{
	struct admit *admit = ctx;

	sp_http_stop(&admit->http);
	sp_snapshot_clear(&admit->snapshot);
	pthread_rwlock_destroy(&admit->lock);
	free(admit->seen_file);
	free(admit);
}
