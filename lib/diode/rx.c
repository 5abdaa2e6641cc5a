/* rx.c -- the receiver's core: objects and transfers. */
#include "diode/inbox.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define TRANSFERS_MAX 32 /* bits of struct sp_incoming's transfers */
/* What costs memory whatever its size: objects of all transfers together, and strays */
#define OBJECTS_MAX ((size_t)4 * SP_MANIFEST_OBJECTS_MAX)
#define STRAYS_MAX ((size_t)2 * SP_MANIFEST_OBJECTS_MAX)

enum progress { UNUSED, ACTIVE, INCOMPLETE, COMPLETE, FORGOTTEN };

struct transfer {
	enum progress progress;
	struct sp_incoming *entry; /* of the manifest */
	struct sp_manifest manifest;
	size_t missing; /* objects */
	int64_t heard_ms, done_ms;
};

struct sp_rx {
	struct sp_rx_config config;
	struct sp_rx_counts counts;
	struct sp_inbox set;
	int link_is_up;
	int64_t heard_ms;
	struct transfer transfers[TRANSFERS_MAX];
};

static int
have_nothing(void *ctx, const uint8_t digest[SP_DIGEST_LEN])
{
	(void)ctx;
	(void)digest;
	return 0;
}

void
sp_rx_defaults(struct sp_rx_config *config)
{
	memset(config, 0, sizeof(*config));
	config->spool_max_bytes = 4ull << 30;
	config->stray_max_bytes = 1ull << 30;
	config->memory_max_bytes = 256ull << 20;
	config->idle_timeout_ms = 5000;
	config->grace_ms = 500;
	config->link_timeout_ms = 5000;
	config->keep_ms = 3600 * 1000L;
	config->have = have_nothing;
}

struct sp_rx *
sp_rx_new(const struct sp_rx_config *config)
{
	struct sp_rx *rx = sp_xcalloc(1, sizeof(*rx));

	rx->config = *config;
	sp_inbox_init(&rx->set, config->memory_max_bytes);
	return rx;
}

void
sp_rx_free(struct sp_rx **rx)
{
	if (*rx == NULL)
		return;
	for (int i = 0; i < TRANSFERS_MAX; i++)
		sp_manifest_clear(&(*rx)->transfers[i].manifest);
	sp_inbox_clear(&(*rx)->set);
	free(*rx);
	*rx = NULL;
}

/* --- actions --- */

static struct sp_rx_event *
push_event(struct sp_rx *rx, enum sp_rx_event_kind kind, const struct sp_incoming *entry,
    const struct transfer *transfer)
{
	struct sp_rx_event *event = &sp_inbox_push(&rx->set, SP_RX_EVENT, entry)->action.event;

	event->kind = kind;
	if (transfer != NULL)
		event->manifest = &transfer->manifest;
	return event;
}

static void
push_failure(struct sp_rx *rx, enum sp_rx_event_kind kind, const struct sp_incoming *entry,
    enum sp_code code, const char *text)
{
	struct sp_queued *queued = sp_inbox_push(&rx->set, SP_RX_EVENT, entry);

	queued->text = sp_xstrdup(text);
	queued->action.event.kind = kind;
	queued->action.event.code = code;
	queued->action.event.text = queued->text;
}

int
sp_rx_next(struct sp_rx *rx, struct sp_rx_action *action)
{
	return sp_inbox_next_action(&rx->set, action);
}

/* --- transfers --- */

static int
is_complete(const struct sp_incoming *entry)
{
	return entry->state == SP_INBOX_DONE || entry->state == SP_INBOX_HELD;
}

static void
transfer_done(struct sp_rx *rx, struct transfer *transfer, int64_t now_ms)
{
	transfer->progress = COMPLETE;
	transfer->done_ms = now_ms;
	push_event(rx, SP_RX_TRANSFER_DONE, transfer->entry, transfer);
}

/* An object that transfers name has been verified. */
static void
object_done(struct sp_rx *rx, struct sp_incoming *entry, int64_t now_ms)
{
	for (unsigned i = 0; i < TRANSFERS_MAX; i++) {
		struct transfer *transfer = &rx->transfers[i];

		if ((entry->transfers >> i & 1) == 0 || transfer->progress == FORGOTTEN)
			continue;
		push_event(rx, SP_RX_OBJECT_DONE, entry, transfer)->object = &entry->object;
		if (--transfer->missing == 0)
			transfer_done(rx, transfer, now_ms);
	}
}

/* Frees the transfer's slot; entries that no other transfer names go with it. */
static void
transfer_release(struct sp_rx *rx, struct transfer *transfer)
{
	unsigned number = (unsigned)(transfer - rx->transfers);

	for (size_t i = 0; i <= transfer->manifest.count; i++) {
		struct sp_incoming *entry = transfer->entry;

		if (i < transfer->manifest.count) {
			struct sp_object_id id = sp_inbox_id(transfer->manifest.objects[i].digest);

			entry = sp_inbox_find(&rx->set, &id);
		}
		if (entry != NULL)
			sp_inbox_disown(&rx->set, entry, number);
	}
	sp_manifest_clear(&transfer->manifest);
	memset(transfer, 0, sizeof(*transfer));
}

/* Of those in that state, the one that has been in it for longest. */
static struct transfer *
transfer_oldest(struct sp_rx *rx, enum progress progress)
{
	struct transfer *oldest = NULL;

	for (unsigned i = 0; i < TRANSFERS_MAX; i++) {
		struct transfer *transfer = &rx->transfers[i];
		int is_older = oldest == NULL ||
			       (progress == COMPLETE ? transfer->done_ms < oldest->done_ms
						     : transfer->heard_ms < oldest->heard_ms);

		if (transfer->progress == progress && is_older)
			oldest = transfer;
	}
	return oldest;
}

/* Makes room by giving up what waits in vain for longest: for symbols, else for its owner. 0 when
 * there is nothing of that kind. */
static int
evict_transfer(struct sp_rx *rx, int64_t now_ms)
{
	struct transfer *transfer = transfer_oldest(rx, INCOMPLETE);

	if (transfer == NULL) {
		transfer = transfer_oldest(rx, COMPLETE);
		if (transfer == NULL || now_ms - transfer->done_ms < rx->config.keep_ms)
			return 0;
	}
	transfer_release(rx, transfer);
	return 1;
}

static struct transfer *
transfer_slot(struct sp_rx *rx, int64_t now_ms)
{
	do {
		for (unsigned i = 0; i < TRANSFERS_MAX; i++)
			if (rx->transfers[i].progress == UNUSED)
				return &rx->transfers[i];
	} while (evict_transfer(rx, now_ms));
	return NULL;
}

/* The transfer of that job that is under way, not yet taken, or incomplete. */
static struct transfer *
transfer_of_job(struct sp_rx *rx, const char *job, const struct transfer *but)
{
	for (unsigned i = 0; i < TRANSFERS_MAX; i++) {
		struct transfer *transfer = &rx->transfers[i];

		if (transfer != but && transfer->progress != UNUSED &&
		    transfer->progress != FORGOTTEN && strcmp(transfer->manifest.job, job) == 0)
			return transfer;
	}
	return NULL;
}

/* Bytes that the spool would have to take on for this manifest, beyond what it is charged with. */
static uint64_t
bytes_to_come(struct sp_rx *rx, const struct sp_manifest *manifest)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < manifest->count; i++) {
		const struct sp_object *object = &manifest->objects[i];
		struct sp_object_id id = sp_inbox_id(object->digest);
		const struct sp_incoming *entry = sp_inbox_find(&rx->set, &id);
		uint64_t add = object->size - (entry != NULL ? entry->charged_bytes : 0);

		if (entry != NULL && entry->charged_bytes > object->size)
			continue;
		if (add > UINT64_MAX / 2 - bytes)
			return UINT64_MAX / 2;
		bytes += add;
	}
	return bytes;
}

static size_t
object_count(const struct sp_rx *rx)
{
	size_t count = 0;

	for (unsigned i = 0; i < TRANSFERS_MAX; i++)
		count += rx->transfers[i].manifest.count;
	return count;
}

/* Nothing that is here already contradicts the manifest. */
static enum sp_code
transfer_agrees(struct sp_rx *rx, const struct sp_manifest *manifest, struct sp_err *err)
{
	const struct transfer *other = transfer_of_job(rx, manifest->job, NULL);

	if (other != NULL && other->progress != INCOMPLETE)
		return sp_err_set(err, SP_E_EXISTS,
		    "manifest of job %s: another transfer of it, with release %s, is under way or "
		    "not yet taken",
		    manifest->job, sp_hex_of(other->manifest.release).s);
	for (size_t i = 0; i < manifest->count; i++) {
		const struct sp_object *object = &manifest->objects[i];
		struct sp_object_id id = sp_inbox_id(object->digest);
		const struct sp_incoming *entry = sp_inbox_find(&rx->set, &id);

		if (entry != NULL &&
		    (entry->is_manifest ||
			(entry->transfers != 0 && entry->layout.size != object->size)))
			return sp_err_set(err, SP_E_INVALID,
			    "manifest of job %s: object %s of %llu bytes contradicts another "
			    "transfer",
			    manifest->job, sp_hex_of(object->digest).s,
			    (unsigned long long)object->size);
	}
	return SP_OK;
}

static enum sp_code
transfer_fits(
    struct sp_rx *rx, const struct sp_manifest *manifest, int64_t now_ms, struct sp_err *err)
{
	while (object_count(rx) + manifest->count > OBJECTS_MAX)
		if (!evict_transfer(rx, now_ms))
			return sp_err_set(err, SP_E_LIMIT,
			    "transfer of job %s has %zu objects beside %zu that are awaited or not "
			    "yet taken; together at most %zu",
			    manifest->job, manifest->count, object_count(rx), OBJECTS_MAX);
	while (bytes_to_come(rx, manifest) + rx->set.spool_bytes > rx->config.spool_max_bytes)
		if (!evict_transfer(rx, now_ms))
			return sp_err_set(err, SP_E_LIMIT,
			    "transfer of job %s needs %llu bytes beside %llu in use; "
			    "spool_max_bytes is %llu",
			    manifest->job, (unsigned long long)bytes_to_come(rx, manifest),
			    (unsigned long long)rx->set.spool_bytes,
			    (unsigned long long)rx->config.spool_max_bytes);
	return SP_OK;
}

/* Enters one object of a new transfer. */
static void
transfer_name(
    struct sp_rx *rx, struct transfer *transfer, const struct sp_object *object, int64_t now_ms)
{
	unsigned number = (unsigned)(transfer - rx->transfers);
	struct sp_object_id id = sp_inbox_id(object->digest);
	struct sp_incoming *entry = sp_inbox_find(&rx->set, &id);

	if (entry == NULL) {
		entry = sp_inbox_new(&rx->set, &id, object->size, now_ms);
	} else if (entry->layout.size != object->size ||
		   (entry->state == SP_INBOX_DONE &&
		       memcmp(entry->object.digest, object->digest, SP_DIGEST_LEN) != 0)) {
		/* a stray that only shares the prefix, or whose sender was wrong about its size */
		sp_inbox_reset(&rx->set, entry);
		entry->layout.size = object->size;
		sp_inbox_charge(&rx->set, entry, object->size);
	}
	sp_inbox_adopt(&rx->set, entry, number);
	entry->object = *object;
	if (entry->state != SP_INBOX_DONE && rx->config.have(rx->config.have_ctx, object->digest)) {
		sp_inbox_hold(&rx->set, entry);
	} else if (entry->state == SP_INBOX_HELD) {
		/* given up with another transfer, and wanted again */
		sp_inbox_reset(&rx->set, entry);
		sp_inbox_charge(&rx->set, entry, object->size);
	}
	if (entry->state == SP_INBOX_DONE)
		push_event(rx, SP_RX_OBJECT_DONE, entry, transfer)->object = &entry->object;
	if (!is_complete(entry))
		transfer->missing++;
	if (object->size == 0 && entry->state == SP_INBOX_RECEIVING)
		sp_inbox_verify(&rx->set, entry);
}

static void
transfer_begin(
    struct sp_rx *rx, struct sp_incoming *entry, const uint8_t *data, size_t len, int64_t now_ms)
{
	struct transfer *transfer = transfer_slot(rx, now_ms), *replaced;
	struct sp_manifest manifest = {0};
	enum sp_code code;
	struct sp_err err;

	if (transfer == NULL)
		code = sp_err_set(
		    &err, SP_E_LIMIT, "%d transfers are under way or not yet taken", TRANSFERS_MAX);
	else
		code = sp_manifest_parse(data, len, &manifest, &err);
	if (code == SP_OK)
		code = transfer_agrees(rx, &manifest, &err);
	if (code == SP_OK)
		code = transfer_fits(rx, &manifest, now_ms, &err);
	if (code != SP_OK) {
		push_failure(rx, SP_RX_TRANSFER_REFUSED, entry, code, err.msg);
		sp_inbox_hold(&rx->set, entry);
		sp_manifest_clear(&manifest);
		return;
	}
	transfer->progress = ACTIVE;
	transfer->entry = entry;
	transfer->manifest = manifest;
	transfer->heard_ms = now_ms;
	sp_inbox_adopt(&rx->set, entry, (unsigned)(transfer - rx->transfers));
	push_event(rx, SP_RX_TRANSFER_KNOWN, entry, transfer);
	for (size_t i = 0; i < transfer->manifest.count; i++)
		transfer_name(rx, transfer, &transfer->manifest.objects[i], now_ms);
	/* only now: what both name stays */
	replaced = transfer_of_job(rx, transfer->manifest.job, transfer);
	if (replaced != NULL)
		transfer_release(rx, replaced);
	if (transfer->missing == 0)
		transfer_done(rx, transfer, now_ms);
}

/* 1 when something of the transfer is between the link and the disk: its end is not known yet. */
static int
transfer_is_busy(struct sp_rx *rx, const struct transfer *transfer)
{
	for (size_t i = 0; i < transfer->manifest.count; i++) {
		struct sp_object_id id = sp_inbox_id(transfer->manifest.objects[i].digest);
		const struct sp_incoming *entry = sp_inbox_find(&rx->set, &id);

		if (entry->state == SP_INBOX_VERIFYING || entry->writing > 0)
			return 1;
	}
	return 0;
}

static void
add_gap(struct sp_queued *queued, size_t *cap, const struct sp_incoming *entry, uint64_t block,
    uint64_t count, uint64_t bytes)
{
	struct sp_rx_event *event = &queued->action.event;

	if (event->gap_count == *cap) {
		*cap = *cap == 0 ? 16 : *cap * 2;
		queued->gaps = sp_xrealloc(queued->gaps, *cap, sizeof(*queued->gaps));
		event->gaps = queued->gaps;
	}
	queued->gaps[event->gap_count++] = (struct sp_rx_gap){&entry->object, block, count, bytes};
	event->missing_bytes += bytes;
}

static void
add_gaps(struct sp_queued *queued, size_t *cap, const struct sp_incoming *entry)
{
	uint64_t blocks, begin = 0, bytes = 0;

	if (entry->layout.k == 0) {
		add_gap(queued, cap, entry, 0, 0, entry->layout.size);
		return;
	}
	blocks = sp_layout_blocks(&entry->layout);
	for (uint64_t b = 0; b <= blocks; b++) {
		if (b < blocks && (entry->taken[b / 8] >> (b % 8) & 1) == 0) {
			begin = bytes == 0 ? b : begin;
			bytes += sp_layout_block_len(&entry->layout, b);
		} else if (bytes > 0) {
			add_gap(queued, cap, entry, begin, b - begin, bytes);
			bytes = 0;
		}
	}
}

static void
transfer_incomplete(struct sp_rx *rx, struct transfer *transfer)
{
	struct sp_queued *queued = sp_inbox_push(&rx->set, SP_RX_EVENT, transfer->entry);
	size_t cap = 0;

	transfer->progress = INCOMPLETE;
	queued->action.event.kind = SP_RX_TRANSFER_INCOMPLETE;
	queued->action.event.manifest = &transfer->manifest;
	for (size_t i = 0; i < transfer->manifest.count; i++) {
		struct sp_object_id id = sp_inbox_id(transfer->manifest.objects[i].digest);
		const struct sp_incoming *entry = sp_inbox_find(&rx->set, &id);

		if (entry->state == SP_INBOX_RECEIVING)
			add_gaps(queued, &cap, entry);
	}
}

void
sp_rx_forget(struct sp_rx *rx, const char *job, int64_t now_ms)
{
	uint32_t wanted = 0;

	for (unsigned i = 0; i < TRANSFERS_MAX; i++) {
		struct transfer *transfer = &rx->transfers[i];

		if (transfer->progress != UNUSED && strcmp(transfer->manifest.job, job) == 0)
			transfer->progress = FORGOTTEN;
		if (transfer->progress != UNUSED && transfer->progress != FORGOTTEN)
			wanted |= 1u << i;
	}
	for (unsigned i = 0; i < TRANSFERS_MAX; i++) {
		struct transfer *transfer = &rx->transfers[i];

		if (transfer->progress != FORGOTTEN || strcmp(transfer->manifest.job, job) != 0)
			continue;
		transfer->heard_ms = now_ms;
		sp_inbox_hold(&rx->set, transfer->entry);
		for (size_t j = 0; j < transfer->manifest.count; j++) {
			struct sp_object_id id = sp_inbox_id(transfer->manifest.objects[j].digest);
			struct sp_incoming *entry = sp_inbox_find(&rx->set, &id);

			if ((entry->transfers & wanted) == 0)
				sp_inbox_hold(&rx->set, entry);
		}
	}
}

/* --- input --- */

/* Fits the entry to a symbol's layout. 0 when they contradict each other. */
static int
entry_accepts(
    struct sp_rx *rx, struct sp_incoming *entry, const struct sp_frame *frame, uint64_t session)
{
	if (entry->layout.size != frame->layout.size ||
	    entry->is_manifest != ((frame->flags & SP_FRAME_MANIFEST) != 0))
		return 0;
	if (entry->layout.k != 0 && !sp_layout_equal(&entry->layout, &frame->layout)) {
		/* a sender started anew with another code: what came in the old one is no use */
		if (session <= entry->session)
			return 0;
		sp_inbox_reset(&rx->set, entry);
	}
	if (entry->layout.k == 0)
		sp_inbox_lay_out(entry, &frame->layout);
	if (session > entry->session)
		entry->session = session;
	return 1;
}

/* A new object by its first symbol; NULL when the spool has no room for one nobody named. */
static struct sp_incoming *
stray_new(struct sp_rx *rx, const struct sp_frame *frame, int64_t now_ms)
{
	uint64_t size = frame->layout.size;
	int is_manifest = (frame->flags & SP_FRAME_MANIFEST) != 0;
	struct sp_incoming *entry;

	if (size > rx->config.stray_max_bytes || (is_manifest && size > SP_MANIFEST_MAX))
		return NULL;
	while (rx->set.stray_count >= STRAYS_MAX)
		sp_inbox_free(&rx->set, TAILQ_FIRST(&rx->set.strays));
	while (rx->set.stray_bytes + size > rx->config.stray_max_bytes)
		if (!sp_inbox_evict_stray(&rx->set))
			return NULL;
	while (rx->set.spool_bytes + size > rx->config.spool_max_bytes)
		if (!evict_transfer(rx, now_ms))
			return NULL;
	entry = sp_inbox_new(&rx->set, &frame->object, size, now_ms);
	entry->is_manifest = is_manifest;
	return entry;
}

/* Who is this symbol a sign of life of, and does the sender say that it was the last of all? */
static void
hear(struct sp_rx *rx, struct sp_incoming *entry, const struct sp_frame *frame, int64_t now_ms)
{
	entry->heard_ms = now_ms;
	for (unsigned i = 0; i < TRANSFERS_MAX; i++) {
		struct transfer *transfer = &rx->transfers[i];

		if ((entry->transfers >> i & 1) == 0)
			continue;
		transfer->heard_ms = now_ms;
		if (transfer->progress == INCOMPLETE && (frame->flags & SP_FRAME_CLOSING) == 0) {
			transfer->progress = ACTIVE;
			transfer->entry->closed_ms = SP_INBOX_NEVER;
		}
	}
	if (entry->is_manifest && (frame->flags & SP_FRAME_CLOSING) == 0)
		entry->closed_ms = SP_INBOX_NEVER;
	else if (entry->is_manifest && frame->pass + 1 == frame->passes &&
		 entry->closed_ms == SP_INBOX_NEVER)
		entry->closed_ms = now_ms;
}

static void
take_symbol(struct sp_rx *rx, const struct sp_frame *frame, const uint8_t *payload,
    uint64_t session, int64_t now_ms)
{
	struct sp_incoming *entry = sp_inbox_find(&rx->set, &frame->object);
	struct sp_rx_action *write;
	uint8_t *data, bit;

	rx->counts.symbols++;
	if (entry == NULL)
		entry = stray_new(rx, frame, now_ms);
	if (entry == NULL) {
		rx->counts.refused++;
		return;
	}
	hear(rx, entry, frame, now_ms);
	if (entry->state != SP_INBOX_RECEIVING) {
		rx->counts.surplus++;
		return;
	}
	if (!entry_accepts(rx, entry, frame, session)) {
		rx->counts.mismatched++;
		return;
	}
	bit = (uint8_t)(1 << frame->block % 8);
	if (entry->taken[frame->block / 8] & bit) {
		rx->counts.surplus++;
		return;
	}
	if (sp_assemble_add(rx->set.assemble, frame, payload, &data) != SP_ASSEMBLE_DONE)
		return;
	entry->taken[frame->block / 8] |= bit;
	entry->writing++;
	write = &sp_inbox_push(&rx->set, SP_RX_WRITE, entry)->action;
	write->block = frame->block;
	write->data = data;
}

void
sp_rx_datagram(struct sp_rx *rx, const struct sp_frame *frame, const uint8_t *payload,
    uint64_t session, int64_t now_ms)
{
	rx->heard_ms = now_ms;
	if (!rx->link_is_up) {
		rx->link_is_up = 1;
		push_event(rx, SP_RX_LINK_UP, NULL, NULL);
	}
	switch (frame->type) {
	case SP_FRAME_SYMBOL:
		take_symbol(rx, frame, payload, session, now_ms);
		break;
	case SP_FRAME_HEARTBEAT:
		rx->counts.heartbeats++;
		break;
	case SP_FRAME_FILLER:
		rx->counts.fillers++;
		break;
	}
}

void
sp_rx_written(struct sp_rx *rx, const struct sp_rx_action *write, enum sp_code code, int64_t now_ms)
{
	struct sp_incoming *entry = sp_inbox_find(&rx->set, &write->id);

	sp_assemble_release(rx->set.assemble, write->data);
	if (entry == NULL || entry->generation != write->generation)
		return;
	entry->writing--;
	entry->heard_ms = now_ms;
	if (code == SP_OK)
		entry->written++;
	else /* as if it had been lost: another pass may find a disk with room */
		entry->taken[write->block / 8] &= (uint8_t) ~(1 << write->block % 8);
	if (entry->written == sp_layout_blocks(&entry->layout))
		sp_inbox_verify(&rx->set, entry);
}

void
sp_rx_verified(struct sp_rx *rx, const struct sp_object_id *id, enum sp_code code,
    const uint8_t digest[SP_DIGEST_LEN], const uint8_t *data, size_t len, int64_t now_ms)
{
	struct sp_incoming *entry = sp_inbox_find(&rx->set, id);
	int matches = code == SP_OK && memcmp(digest, id->b, sizeof(id->b)) == 0;
	char text[256];

	if (entry == NULL || entry->state != SP_INBOX_VERIFYING) {
		/* dropped in the meantime, but the spool has just kept it */
		struct sp_rx_action *drop;

		if (!matches || data != NULL)
			return;
		drop = &sp_inbox_push(&rx->set, SP_RX_DROP, NULL)->action;
		drop->id = *id;
		drop->is_verified = 1;
		memcpy(drop->digest, digest, sizeof(drop->digest));
		return;
	}
	if (matches && entry->is_manifest) {
		entry->state = SP_INBOX_DONE;
		transfer_begin(rx, entry, data, len, now_ms);
		return;
	}
	if (matches && entry->transfers != 0)
		matches = memcmp(digest, entry->object.digest, SP_DIGEST_LEN) == 0;
	if (matches) {
		memcpy(entry->object.digest, digest, SP_DIGEST_LEN);
		entry->state = SP_INBOX_DONE;
		object_done(rx, entry, now_ms);
		return;
	}
	if (code == SP_OK)
		snprintf(
		    text, sizeof(text), "the bytes received have SHA-256 %s", sp_hex_of(digest).s);
	else
		snprintf(text, sizeof(text), "could not be read back from the spool");
	push_failure(rx, SP_RX_OBJECT_FAILED, entry, code == SP_OK ? SP_E_CORRUPT : code, text);
	sp_inbox_reset(&rx->set, entry);
}

void
sp_rx_tick(struct sp_rx *rx, int64_t now_ms)
{
	const struct sp_rx_config *config = &rx->config;
	struct sp_incoming *entry, *next;

	if (rx->link_is_up && now_ms - rx->heard_ms >= config->link_timeout_ms) {
		rx->link_is_up = 0;
		push_event(rx, SP_RX_LINK_DOWN, NULL, NULL);
	}
	for (unsigned i = 0; i < TRANSFERS_MAX; i++) {
		struct transfer *transfer = &rx->transfers[i];
		int is_silent = now_ms - transfer->heard_ms >= config->idle_timeout_ms;

		if (transfer->progress == FORGOTTEN && is_silent) {
			transfer_release(rx, transfer);
		} else if (transfer->progress == ACTIVE) {
			int64_t closed_ms = transfer->entry->closed_ms;
			int is_over =
			    closed_ms != SP_INBOX_NEVER && now_ms - closed_ms >= config->grace_ms;

			if ((is_silent || is_over) && !transfer_is_busy(rx, transfer))
				transfer_incomplete(rx, transfer);
		}
	}
	for (entry = TAILQ_FIRST(&rx->set.strays); entry != NULL; entry = next) {
		next = TAILQ_NEXT(entry, stray);
		if (now_ms - entry->heard_ms < config->idle_timeout_ms)
			continue;
		if (entry->is_manifest && entry->state == SP_INBOX_RECEIVING) {
			push_event(rx, SP_RX_TRANSFER_LOST, entry, NULL);
			sp_inbox_free(&rx->set, entry);
		} else if (entry->state == SP_INBOX_HELD) {
			sp_inbox_free(&rx->set, entry);
		}
	}
}

/* --- what a spool holds from before --- */

void
sp_rx_resume(struct sp_rx *rx, const struct sp_object_id *id, const struct sp_layout *layout,
    int is_manifest, const uint8_t *complete, int64_t now_ms)
{
	uint64_t blocks = sp_layout_blocks(layout);
	struct sp_incoming *entry;

	if (sp_inbox_find(&rx->set, id) != NULL)
		return;
	entry = sp_inbox_new(&rx->set, id, layout->size, now_ms);
	entry->is_manifest = is_manifest;
	sp_inbox_lay_out(entry, layout);
	for (uint64_t b = 0; b < blocks; b++) {
		if ((complete[b / 8] >> (b % 8) & 1) == 0)
			continue;
		entry->taken[b / 8] |= (uint8_t)(1 << b % 8);
		entry->written++;
	}
	if (entry->written == blocks)
		sp_inbox_verify(&rx->set, entry);
}

void
sp_rx_resume_verified(
    struct sp_rx *rx, const uint8_t digest[SP_DIGEST_LEN], uint64_t size, int64_t now_ms)
{
	struct sp_object_id id = sp_inbox_id(digest);
	struct sp_incoming *entry;

	if (sp_inbox_find(&rx->set, &id) != NULL)
		return;
	entry = sp_inbox_new(&rx->set, &id, size, now_ms);
	memcpy(entry->object.digest, digest, SP_DIGEST_LEN);
	entry->state = SP_INBOX_DONE;
}

void
sp_rx_counts(const struct sp_rx *rx, struct sp_rx_counts *counts)
{
	*counts = rx->counts;
	sp_assemble_counts(rx->set.assemble, &counts->assemble);
}
