/* gc.c -- gc: lets the daemons remove from their stores what no job, release or registration names.
 */
#include "base/buf.h"
#include "base/hash.h"
#include "ctl.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define POLL_MS 200 /* between looks at how it goes */
#define DAYS_MAX 36500

/* --- asking --------------------------------------------------------------------------------- */

static enum sp_code
parse_days(struct ctl *ctl, const char *text, uint32_t *days, struct sp_err *err)
{
	unsigned long n;

	if (text[0] == '\0' || strlen(text) > 5 || strspn(text, "0123456789") != strlen(text))
		return ctl_usage(ctl, err, "--ended wants a number of days, not \"%.20s\"", text);
	n = strtoul(text, NULL, 10);
	if (n > DAYS_MAX)
		return ctl_usage(ctl, err, "--ended: at most %d days", DAYS_MAX);
	*days = (uint32_t)n;
	return SP_OK;
}

static enum sp_code
ask(struct ctl *ctl, Sallyport__OperatorGc *body, Sallyport__OperatorReply **reply,
    struct sp_err *err)
{
	Sallyport__OperatorRequest request;

	sallyport__operator_request__init(&request);
	request.body_case = SALLYPORT__OPERATOR_REQUEST__BODY_GC;
	request.gc = body;
	return ctl_ask(ctl, &request, 0, SALLYPORT__OPERATOR_REPLY__BODY_COLLECTION, reply, err);
}

/* --- showing -------------------------------------------------------------------------------- */

/* One line that overwrites itself, of those that are at it. */
static void
show_progress(const Sallyport__OperatorCollection *c)
{
	struct sp_buf line = {0};
	char *progress;
	size_t i;

	for (i = 0; i < c->n_daemons; i++) {
		const Sallyport__OperatorCollector *d = c->daemons[i];

		if (strcmp(d->state, "running") != 0)
			continue;
		progress = ctl_out_progress(d->done, d->total, d->unit);
		sp_buf_printf(
		    &line, "%s%s: %s %s", line.len > 0 ? ", " : "", d->name, d->phase, progress);
		free(progress);
	}
	if (line.len > 0) {
		fputs("\r\033[K", stderr);
		ctl_out_print(stderr, "%.*s", (int)line.len, (const char *)line.data);
		fflush(stderr);
	}
	sp_buf_free(&line);
}

static json_t *
daemon_json(const Sallyport__OperatorCollector *d)
{
	json_t *obj = json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I}", "name", d->name, "state",
	    d->state, "kept", (json_int_t)d->kept, "kept_bytes", (json_int_t)d->kept_bytes,
	    "removed", (json_int_t)d->removed, "removed_bytes", (json_int_t)d->removed_bytes,
	    "leftovers", (json_int_t)d->leftovers);

	SP_ASSERT(obj != NULL);
	if (d->message[0] != '\0')
		json_object_set_new(obj, "message", json_string(d->message));
	return obj;
}

static void
print_json(
    struct ctl *ctl, const Sallyport__OperatorCollection *c, enum sp_code code, struct sp_err *err)
{
	json_t *list = json_array(), *document;
	size_t i;

	for (i = 0; i < c->n_daemons; i++)
		json_array_append_new(list, daemon_json(c->daemons[i]));
	document = json_pack(
	    "{s:s, s:o, s:b}", "collection", c->id, "daemons", list, "dry_run", c->dry_run);
	SP_ASSERT(document != NULL);
	if (!c->dry_run)
		json_object_set_new(document, "log_seq", json_integer((json_int_t)c->log_seq));
	if (code != SP_OK)
		json_object_set_new(document, "error", ctl_error_json(err));
	ctl_out_json(document);
	ctl->told = 1;
}

static void
add_row(struct ctl_out_table *table, const Sallyport__OperatorCollector *d)
{
	char *kept, *removed, *leftovers;

	if (strcmp(d->state, "done") != 0) {
		ctl_out_row(table, d->name, d->state, "", "", "", "", d->message, NULL);
		return;
	}
	kept = sp_xasprintf("%" PRIu64, d->kept);
	removed = sp_xasprintf("%" PRIu64, d->removed);
	leftovers = sp_xasprintf("%" PRIu64, d->leftovers);
	ctl_out_row(table, d->name, d->state, kept, removed, ctl_out_size(d->removed_bytes).s,
	    leftovers, NULL);
	free(kept);
	free(removed);
	free(leftovers);
}

static void
print_text(const Sallyport__OperatorCollection *c)
{
	struct ctl_out_table table = {.right = 1u << 2 | 1u << 3 | 1u << 4 | 1u << 5};
	uint64_t bytes = 0;
	size_t i;

	ctl_out_row(&table, "DAEMON", "", "KEPT", c->dry_run ? "GARBAGE" : "REMOVED", "SIZE",
	    "LEFTOVERS", "", NULL);
	for (i = 0; i < c->n_daemons; i++) {
		add_row(&table, c->daemons[i]);
		bytes += c->daemons[i]->removed_bytes;
	}
	ctl_out_table(&table, "", stdout);
	if (c->dry_run)
		printf("\nNothing was removed: without --dry-run, %s of blobs would be.\n",
		    ctl_out_size(bytes).s);
	else
		printf("\n%s of blobs removed; log entry %" PRIu64 ".\n", ctl_out_size(bytes).s,
		    c->log_seq);
}

/* --- gc ------------------------------------------------------------------------------------- */

static enum sp_code
verdict(const Sallyport__OperatorCollection *c, struct sp_err *err)
{
	size_t done = 0, busy = 0, i;

	for (i = 0; i < c->n_daemons; i++) {
		done += strcmp(c->daemons[i]->state, "done") == 0;
		busy += strcmp(c->daemons[i]->state, "busy") == 0;
	}
	if (c->n_daemons == 0)
		return sp_err_set(
		    err, SP_E_STATE, "no daemon with a store is connected: are they running?");
	if (done == c->n_daemons)
		return SP_OK;
	return sp_err_set(err, SP_E_STATE, "%zu of %zu daemons collected nothing%s",
	    c->n_daemons - done, c->n_daemons,
	    busy > 0 ? ": run it again when those that are busy have done their steps" : "");
}

enum sp_code
ctl_gc(struct ctl *ctl, const struct ctl_args *args, struct sp_err *err)
{
	const struct timespec pause = {0, POLL_MS * 1000000L};
	const char *ended = ctl_args_get(args, "--ended");
	int terminal = !ctl->json && isatty(STDERR_FILENO);
	Sallyport__OperatorReply *reply;
	uint8_t bytes[SP_JOB_ID_LEN / 2];
	char id[SP_JOB_ID_LEN + 1];
	Sallyport__OperatorGc body;
	enum sp_code code = SP_OK;

	SP_ASSERT(sodium_init() >= 0);
	randombytes_buf(bytes, sizeof(bytes));
	sp_hex_encode(bytes, sizeof(bytes), id);
	sallyport__operator_gc__init(&body);
	body.request = id;
	body.dry_run = ctl_args_get(args, "--dry-run") != NULL;
	body.ended = ended != NULL;
	if (ended != NULL)
		code = parse_days(ctl, ended, &body.ended_days, err);
	if (code == SP_OK)
		code = ask(ctl, &body, &reply, err);
	while (code == SP_OK && !reply->collection->over) {
		if (terminal)
			show_progress(reply->collection);
		sallyport__operator_reply__free_unpacked(reply, NULL);
		nanosleep(&pause, NULL);
		code = ask(ctl, &body, &reply, err);
	}
	if (terminal)
		fputs("\r\033[K", stderr);
	if (code != SP_OK)
		return code;
	code = verdict(reply->collection, err);
	if (ctl->json)
		print_json(ctl, reply->collection, code, err);
	else
		print_text(reply->collection);
	sallyport__operator_reply__free_unpacked(reply, NULL);
	return code;
}
