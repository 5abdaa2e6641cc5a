/* envelope.c -- bus messages in and out, each checked against every rule of bus.proto. */
#include "bus/envelope.h"
#include "base/hash.h"
#include "base/limits.h"
#include "base/path.h"
#include "bus/wire.h"

#include <stdlib.h>
#include <string.h>

/* --- fields --------------------------------------------------------------------------------------
 */

/* Strings that the sender of a message built here left NULL travel as "". */
static const char *
text_of(const char *text)
{
	return text != NULL ? text : "";
}

int
sp_bus_is_id(const char *text)
{
	return strlen(text) == SP_JOB_ID_LEN && strspn(text, "0123456789abcdef") == SP_JOB_ID_LEN;
}

int
sp_bus_is_word(const char *text)
{
	size_t len = strnlen(text, SP_BUS_WORD_MAX + 1);

	return len > 0 && len <= SP_BUS_WORD_MAX &&
	       strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}

static enum sp_code
check_id(const char *field, const char *text, struct sp_err *err)
{
	if (!sp_bus_is_id(text_of(text)))
		return sp_err_set(
		    err, SP_E_INVALID, "%s is not %d lower-case hex digits", field, SP_JOB_ID_LEN);
	return SP_OK;
}

static enum sp_code
check_word(const char *field, const char *text, struct sp_err *err)
{
	if (!sp_bus_is_word(text_of(text)))
		return sp_err_set(
		    err, SP_E_INVALID, "%s is not 1 to %d of [a-z0-9-]", field, SP_BUS_WORD_MAX);
	return SP_OK;
}

/* UTF-8 of at most max bytes. */
static enum sp_code
check_text(const char *field, const char *text, size_t max, struct sp_err *err)
{
	size_t len = strnlen(text_of(text), max + 1);

	if (len > max)
		return sp_err_set(err, SP_E_LIMIT, "%s is longer than %zu bytes", field, max);
	if (!sp_path_is_utf8(text_of(text), len))
		return sp_err_set(err, SP_E_INVALID, "%s is not UTF-8", field);
	return SP_OK;
}

/* Text without control characters: what goes into names, log lines and tables. */
static enum sp_code
check_line(const char *field, const char *text, size_t max, struct sp_err *err)
{
	const uint8_t *s = (const uint8_t *)text_of(text);
	enum sp_code code = check_text(field, text, max, err);

	for (; code == SP_OK && *s != '\0'; s++)
		if (*s < 0x20 || *s == 0x7f || (*s == 0xc2 && s[1] <= 0x9f))
			return sp_err_set(err, SP_E_INVALID, "%s has a control character", field);
	return code;
}

static enum sp_code
check_count(const char *field, size_t count, size_t max, struct sp_err *err)
{
	if (count > max)
		return sp_err_set(err, SP_E_LIMIT, "%s: more than %zu", field, max);
	return SP_OK;
}

/* --- parts ---------------------------------------------------------------------------------------
 */

static enum sp_code
check_progress(const Sallyport__Progress *p, int in_child, struct sp_err *err)
{
	enum sp_code code = SP_OK;
	size_t i;

	if (!in_child)
		code = check_id("progress.lease", p->lease, err);
	else if (*text_of(p->lease) != '\0')
		code = sp_err_set(err, SP_E_INVALID, "progress.lease is not for a child to say");
	if (code == SP_OK)
		code = check_line("progress.phase", p->phase, SP_BUS_LINE_MAX, err);
	if (code == SP_OK)
		code = check_line("progress.unit", p->unit, SP_BUS_LINE_MAX, err);
	if (code == SP_OK)
		code = check_count("progress.files", p->n_files, SP_BUS_FILES_MAX, err);
	for (i = 0; code == SP_OK && i < p->n_files; i++)
		if (sp_path_check(text_of(p->files[i]->path), err) != SP_OK)
			code = sp_err_prefix(err, "progress.files");
	return code;
}

static enum sp_code
check_artifacts(Sallyport__Artifact *const *artifacts, size_t count, struct sp_err *err)
{
	enum sp_code code = check_count("artifacts", count, SP_BUS_ARTIFACTS_MAX, err);
	size_t i;

	for (i = 0; code == SP_OK && i < count; i++) {
		code = check_word("artifact.role", artifacts[i]->role, err);
		if (code == SP_OK)
			code = check_word("artifact.store", artifacts[i]->store, err);
		if (code == SP_OK && !sp_hex_is_digest(text_of(artifacts[i]->digest)))
			code = sp_err_set(err, SP_E_INVALID,
			    "artifact.digest is not %d lower-case hex digits", SP_HEX_LEN);
	}
	return code;
}

static enum sp_code
check_details(Sallyport__Detail *const *details, size_t count, struct sp_err *err)
{
	enum sp_code code = check_count("details", count, SP_BUS_DETAILS_MAX, err);
	size_t i;

	for (i = 0; code == SP_OK && i < count; i++) {
		code = check_line("detail.key", details[i]->key, SP_BUS_LINE_MAX, err);
		if (code == SP_OK && *text_of(details[i]->key) == '\0')
			code = sp_err_set(err, SP_E_INVALID, "detail.key is empty");
		if (code == SP_OK)
			code = check_text("detail.value", details[i]->value, SP_BUS_TEXT_MAX, err);
	}
	return code;
}

static enum sp_code
check_done(const Sallyport__Done *d, struct sp_err *err)
{
	enum sp_code code = check_artifacts(d->artifacts, d->n_artifacts, err);

	return code == SP_OK ? check_details(d->details, d->n_details, err) : code;
}

static enum sp_code
check_failure_code(const char *field, const char *word, struct sp_err *err)
{
	enum sp_code code = sp_err_from_word(text_of(word));

	if (code == SP_OK || strcmp(sp_err_word(code), text_of(word)) != 0)
		return sp_err_set(err, SP_E_INVALID, "%s is not a known failure", field);
	return SP_OK;
}

static enum sp_code
check_failure(const Sallyport__Failure *f, struct sp_err *err)
{
	enum sp_code code = check_failure_code("failure.code", f->code, err);

	if (code == SP_OK)
		code = check_text("failure.message", f->message, SP_BUS_TEXT_MAX, err);
	if (code == SP_OK)
		code = check_artifacts(f->artifacts, f->n_artifacts, err);
	return code == SP_OK ? check_details(f->details, f->n_details, err) : code;
}

static enum sp_code
check_attested(const Sallyport__Task *t, struct sp_err *err)
{
	enum sp_code code =
	    check_count("task.attestations", t->n_attestations, SP_BUS_ATTESTED_MAX, err);
	size_t i;

	for (i = 0; code == SP_OK && i < t->n_attestations; i++) {
		code = check_word("attested.step", t->attestations[i]->step, err);
		if (code == SP_OK && t->attestations[i]->envelope.len == 0)
			code = sp_err_set(err, SP_E_INVALID, "attested.envelope is empty");
	}
	return code;
}

static enum sp_code
check_proofs(const Sallyport__Task *t, struct sp_err *err)
{
	enum sp_code code = check_count("task.proofs", t->n_proofs, SP_BUS_PROOFS_MAX, err);
	const Sallyport__LogProof *p;
	size_t i, j;

	for (i = 0; code == SP_OK && i < t->n_proofs; i++) {
		p = t->proofs[i];
		code = check_count("proof.hashes", p->n_hashes, 64, err);
		if (code == SP_OK && (p->entry.len == 0 || p->entry.len > SP_ENTRY_MAX))
			code = sp_err_set(
			    err, SP_E_LIMIT, "proof.entry is not 1 to %d bytes", SP_ENTRY_MAX);
		for (j = 0; code == SP_OK && j < p->n_hashes; j++)
			if (p->hashes[j].len != SP_DIGEST_LEN)
				code = sp_err_set(
				    err, SP_E_INVALID, "proof.hashes: not %d bytes", SP_DIGEST_LEN);
	}
	return code;
}

static enum sp_code
check_task(const Sallyport__Task *t, struct sp_err *err)
{
	enum sp_code code;

	if (t == NULL)
		return sp_err_set(err, SP_E_INVALID, "offer.task is missing");
	code = check_id("task.lease", t->lease, err);
	if (code == SP_OK)
		code = check_id("task.job", t->job, err);
	if (code == SP_OK)
		code = check_word("task.step", t->step, err);
	if (code == SP_OK)
		code = check_word("task.kind", t->kind, err);
	if (code == SP_OK)
		code = check_line("task.source", t->source, SP_SOURCE_MAX, err);
	if (code == SP_OK)
		code = check_line("task.profile", t->profile, SP_NAME_MAX, err);
	if (code == SP_OK)
		code = check_line("task.name", t->name, SP_NAME_MAX, err);
	if (code == SP_OK)
		code = check_line("task.destination", t->destination, SP_NAME_MAX, err);
	if (code == SP_OK)
		code = check_artifacts(t->artifacts, t->n_artifacts, err);
	if (code == SP_OK)
		code = check_attested(t, err);
	return code == SP_OK ? check_proofs(t, err) : code;
}

/* --- bodies --------------------------------------------------------------------------------------
 */

static enum sp_code
check_heartbeat(const Sallyport__Heartbeat *h, struct sp_err *err)
{
	enum sp_code code = check_word("heartbeat.service", h->service, err);
	size_t i;

	if (code == SP_OK)
		code = check_line("heartbeat.version", h->version, SP_BUS_LINE_MAX, err);
	if (code == SP_OK)
		code = check_count("heartbeat.steps", h->n_steps, SP_BUS_STEPS_MAX, err);
	for (i = 0; code == SP_OK && i < h->n_steps; i++)
		code = check_word("heartbeat.steps", h->steps[i], err);
	if (code == SP_OK)
		code = check_count("heartbeat.leases", h->n_leases, SP_BUS_LEASES_MAX, err);
	if (code == SP_OK)
		code = check_count("heartbeat.free", h->free, SP_BUS_LEASES_MAX, err);
	for (i = 0; code == SP_OK && i < h->n_leases; i++)
		code = check_progress(h->leases[i], 0, err);
	if (code == SP_OK && h->collection != NULL)
		code = check_progress(h->collection, 0, err);
	return code;
}

static enum sp_code
check_result(const Sallyport__Result *r, struct sp_err *err)
{
	enum sp_code code = check_id("result.lease", r->lease, err);

	if (code != SP_OK)
		return code;
	switch (r->outcome_case) {
	case SALLYPORT__RESULT__OUTCOME_DONE:
		return check_done(r->done, err);
	case SALLYPORT__RESULT__OUTCOME_FAILURE:
		return check_failure(r->failure, err);
	default:
		return sp_err_set(err, SP_E_INVALID, "result is neither done nor failure");
	}
}

static enum sp_code
check_begin(const Sallyport__Begin *b, struct sp_err *err)
{
	enum sp_code code = check_id("begin.job", b->job, err);

	if (code == SP_OK && *text_of(b->kind) != '\0') /* may not be known yet */
		code = check_word("begin.kind", b->kind, err);
	if (code == SP_OK)
		code = check_word("begin.step", b->step, err);
	if (code == SP_OK)
		code = check_line("begin.source", b->source, SP_SOURCE_MAX, err);
	return code == SP_OK ? check_line("begin.name", b->name, SP_NAME_MAX, err) : code;
}

static enum sp_code
check_publish(const Sallyport__Publish *p, struct sp_err *err)
{
	enum sp_code code = check_word("publish.topic", p->topic, err);

	if (code == SP_OK && p->content.len == 0)
		code = sp_err_set(err, SP_E_INVALID, "publish.content is empty");
	if (code == SP_OK && p->total > SP_MESSAGE_MAX)
		code = sp_err_set(err, SP_E_LIMIT, "publish.total is more than %u", SP_MESSAGE_MAX);
	if (code == SP_OK && (p->offset > p->total || p->content.len > p->total - p->offset))
		code = sp_err_set(err, SP_E_INVALID, "publish: the part ends beyond its total");
	return code;
}

static enum sp_code
check_record(const Sallyport__Record *r, struct sp_err *err)
{
	enum sp_code code = check_word("record.kind", r->kind, err);

	if (code == SP_OK)
		code = check_text("record.reason", r->reason, SP_BUS_TEXT_MAX, err);
	return code == SP_OK ? check_details(r->details, r->n_details, err) : code;
}

static enum sp_code
check_names(const Sallyport__Names *n, struct sp_err *err)
{
	enum sp_code code = check_id("names.collection", n->collection, err);
	size_t i;

	if (code == SP_OK && n->digests.len % SP_DIGEST_LEN != 0)
		code = sp_err_set(
		    err, SP_E_INVALID, "names.digests: not %d bytes each", SP_DIGEST_LEN);
	if (code == SP_OK)
		code = check_count(
		    "names.digests", n->digests.len / SP_DIGEST_LEN, SP_BUS_NAMES_MAX, err);
	if (code == SP_OK)
		code = check_count("names.jobs", n->n_jobs, SP_BUS_NAMES_MAX, err);
	for (i = 0; code == SP_OK && i < n->n_jobs; i++)
		code = check_id("names.jobs", n->jobs[i], err);
	return code;
}

static enum sp_code
check_collected(const Sallyport__Collected *c, struct sp_err *err)
{
	enum sp_code code = check_id("collected.id", c->id, err);

	if (code == SP_OK && *text_of(c->code) != '\0')
		code = check_failure_code("collected.code", c->code, err);
	return code == SP_OK ? check_text("collected.message", c->message, SP_BUS_TEXT_MAX, err)
			     : code;
}

static enum sp_code
check_named(const Sallyport__Named *n, struct sp_err *err)
{
	enum sp_code code = check_count("named.digests", n->digests.len, SP_BUS_NAMES_MAX, err);

	return code == SP_OK ? check_count("named.jobs", n->jobs.len, SP_BUS_NAMES_MAX, err) : code;
}

static enum sp_code
check_welcome(const Sallyport__Welcome *w, struct sp_err *err)
{
	if (w->heartbeat_ms == 0 || w->heartbeat_ms > 600000 || w->lease_ms == 0)
		return sp_err_set(
		    err, SP_E_INVALID, "welcome: heartbeat_ms or lease_ms is out of range");
	return check_line("welcome.origin", w->origin, SP_NAME_MAX, err);
}

static enum sp_code
check_refusal(const Sallyport__Refusal *r, struct sp_err *err)
{
	enum sp_code code = check_failure_code("refusal.code", r->code, err);

	if (code == SP_OK)
		code = check_text("refusal.message", r->message, SP_BUS_TEXT_MAX, err);
	if (code == SP_OK && *text_of(r->lease) != '\0')
		code = check_id("refusal.lease", r->lease, err);
	return code;
}

static enum sp_code
check_from_worker(const Sallyport__Envelope *e, struct sp_err *err)
{
	switch (e->body_case) {
	case SALLYPORT__ENVELOPE__BODY_HEARTBEAT:
		return check_heartbeat(e->heartbeat, err);
	case SALLYPORT__ENVELOPE__BODY_ACCEPT:
		return check_id("accept.lease", e->accept->lease, err);
	case SALLYPORT__ENVELOPE__BODY_RESULT:
		return check_result(e->result, err);
	case SALLYPORT__ENVELOPE__BODY_BEGIN:
		return check_begin(e->begin, err);
	case SALLYPORT__ENVELOPE__BODY_PUBLISH:
		return check_publish(e->publish, err);
	case SALLYPORT__ENVELOPE__BODY_RECORD:
		return check_record(e->record, err);
	case SALLYPORT__ENVELOPE__BODY_NAMES:
		return check_names(e->names, err);
	case SALLYPORT__ENVELOPE__BODY_COLLECTED:
		return check_collected(e->collected, err);
	default:
		return sp_err_set(err, SP_E_INVALID, "body is none that a worker sends");
	}
}

static enum sp_code
check_from_ledgerd(const Sallyport__Envelope *e, struct sp_err *err)
{
	enum sp_code code;

	switch (e->body_case) {
	case SALLYPORT__ENVELOPE__BODY_WELCOME:
		return check_welcome(e->welcome, err);
	case SALLYPORT__ENVELOPE__BODY_OFFER:
		return check_task(e->offer->task, err);
	case SALLYPORT__ENVELOPE__BODY_CANCEL:
		code = check_id("cancel.lease", e->cancel->lease, err);
		if (code == SP_OK)
			code = check_text("cancel.reason", e->cancel->reason, SP_BUS_TEXT_MAX, err);
		return code;
	case SALLYPORT__ENVELOPE__BODY_ACK:
		return SP_OK;
	case SALLYPORT__ENVELOPE__BODY_REFUSAL:
		return check_refusal(e->refusal, err);
	case SALLYPORT__ENVELOPE__BODY_COLLECT:
		return check_id("collect.id", e->collect->id, err);
	case SALLYPORT__ENVELOPE__BODY_NAMED:
		return check_named(e->named, err);
	default:
		return sp_err_set(err, SP_E_INVALID, "body is none that ledgerd sends");
	}
}

static enum sp_code
check_envelope(const Sallyport__Envelope *e, enum sp_envelope_from from, struct sp_err *err)
{
	enum sp_code code;

	if (e->version != SP_ENVELOPE_VERSION)
		return sp_err_set(err, SP_E_UNSUPPORTED,
		    "bus message: version %u, not %d: sender and receiver are of different "
		    "releases of Sallyport",
		    e->version, SP_ENVELOPE_VERSION);
	code = from == SP_FROM_WORKER ? check_from_worker(e, err) : check_from_ledgerd(e, err);
	return code == SP_OK ? SP_OK : sp_err_prefix(err, "bus message");
}

/* --- in and out ----------------------------------------------------------------------------------
 */

static size_t
max_bytes(enum sp_envelope_from from)
{
	return from == SP_FROM_WORKER ? SP_REQUEST_MAX : SP_MESSAGE_MAX;
}

enum sp_code
sp_envelope_unpack(const uint8_t *data, size_t len, enum sp_envelope_from from,
    Sallyport__Envelope **out, struct sp_err *err)
{
	Sallyport__Envelope *e;
	struct sp_err mine;
	enum sp_code code;

	if (err == NULL)
		err = &mine;
	*out = NULL;
	if (len > max_bytes(from))
		return sp_err_set(err, SP_E_LIMIT,
		    "bus message of %zu bytes: larger than the %zu that one may have", len,
		    max_bytes(from));
	e = (Sallyport__Envelope *)sp_wire_unpack(&sallyport__envelope__descriptor, data, len, err);
	if (e == NULL)
		return err->code;
	code = check_envelope(e, from, err);
	if (code != SP_OK)
		sallyport__envelope__free_unpacked(e, NULL);
	else
		*out = e;
	return code;
}

enum sp_code
sp_envelope_pack(Sallyport__Envelope *envelope, enum sp_envelope_from from, uint8_t **data,
    size_t *len, struct sp_err *err)
{
	enum sp_code code;

	*data = NULL;
	*len = 0;
	envelope->version = SP_ENVELOPE_VERSION;
	code = check_envelope(envelope, from, err);
	if (code != SP_OK)
		return code;
	*len = sallyport__envelope__get_packed_size(envelope);
	if (*len > max_bytes(from))
		return sp_err_set(err, SP_E_LIMIT,
		    "bus message of %zu bytes: larger than the %zu that one may have", *len,
		    max_bytes(from));
	*data = malloc(*len);
	if (*data == NULL)
		return sp_err_set(err, SP_E_NO_MEMORY, "bus message of %zu bytes: no memory", *len);
	sallyport__envelope__pack(envelope, *data);
	return SP_OK;
}

static enum sp_code
check_event(const Sallyport__ChildEvent *e, struct sp_err *err)
{
	enum sp_code code;

	switch (e->event_case) {
	case SALLYPORT__CHILD_EVENT__EVENT_PROGRESS:
		return check_progress(e->progress, 1, err);
	case SALLYPORT__CHILD_EVENT__EVENT_DONE:
		return check_done(e->done, err);
	case SALLYPORT__CHILD_EVENT__EVENT_FAILURE:
		return check_failure(e->failure, err);
	case SALLYPORT__CHILD_EVENT__EVENT_NOTE:
		code = check_word("note.kind", e->note->kind, err);
		if (code == SP_OK)
			code = check_details(e->note->details, e->note->n_details, err);
		return code;
	default:
		return sp_err_set(err, SP_E_INVALID, "event is none that is known");
	}
}

enum sp_code
sp_event_unpack(const uint8_t *data, size_t len, Sallyport__ChildEvent **out, struct sp_err *err)
{
	Sallyport__ChildEvent *e;
	struct sp_err mine;
	enum sp_code code;

	if (err == NULL)
		err = &mine;
	*out = NULL;
	e = (Sallyport__ChildEvent *)sp_wire_unpack(
	    &sallyport__child_event__descriptor, data, len, err);
	if (e == NULL)
		return err->code;
	code = check_event(e, err);
	if (code != SP_OK)
		sallyport__child_event__free_unpacked(e, NULL);
	else
		*out = e;
	return code;
}

enum sp_code
sp_event_frame(const Sallyport__ChildEvent *event, uint8_t **frame, size_t *len, struct sp_err *err)
{
	enum sp_code code = check_event(event, err);
	size_t body;

	*frame = NULL;
	*len = 0;
	if (code != SP_OK)
		return code;
	body = sallyport__child_event__get_packed_size(event);
	if (body > SP_MESSAGE_MAX)
		return sp_err_set(err, SP_E_LIMIT,
		    "child's event of %zu bytes: larger than the %u that one may have", body,
		    SP_MESSAGE_MAX);
	*frame = malloc(body + 4);
	if (*frame == NULL)
		return sp_err_set(
		    err, SP_E_NO_MEMORY, "child's event of %zu bytes: no memory", body);
	(*frame)[0] = (uint8_t)(body >> 24);
	(*frame)[1] = (uint8_t)(body >> 16);
	(*frame)[2] = (uint8_t)(body >> 8);
	(*frame)[3] = (uint8_t)body;
	sallyport__child_event__pack(event, *frame + 4);
	*len = body + 4;
	return SP_OK;
}

enum sp_code
sp_task_unpack(const uint8_t *data, size_t len, Sallyport__Task **out, struct sp_err *err)
{
	Sallyport__Task *t;
	struct sp_err mine;
	enum sp_code code;

	if (err == NULL)
		err = &mine;
	*out = NULL;
	t = (Sallyport__Task *)sp_wire_unpack(&sallyport__task__descriptor, data, len, err);
	if (t == NULL)
		return err->code;
	code = check_task(t, err);
	if (code != SP_OK)
		sallyport__task__free_unpacked(t, NULL);
	else
		*out = t;
	return code;
}
