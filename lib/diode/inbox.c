/* inbox.c -- the receiver's objects, and what is to be done for them. */
#include "diode/inbox.h"

#include <stdlib.h>
#include <string.h>

void
sp_inbox_init(struct sp_inbox *set, uint64_t memory_max_bytes)
{
	memset(set, 0, sizeof(*set));
	set->assemble = sp_assemble_new(memory_max_bytes);
	TAILQ_INIT(&set->strays);
	STAILQ_INIT(&set->actions);
}

static void
free_queued(struct sp_queued *queued)
{
	if (queued == NULL)
		return;
	free(queued->text);
	free(queued->gaps);
	free(queued);
}

void
sp_inbox_clear(struct sp_inbox *set)
{
	struct sp_queued *queued;
	struct sp_incoming *entry;

	while ((queued = STAILQ_FIRST(&set->actions)) != NULL) {
		STAILQ_REMOVE_HEAD(&set->actions, next);
		if (queued->action.kind == SP_RX_WRITE)
			sp_assemble_release(set->assemble, queued->action.data);
		free_queued(queued);
	}
	free_queued(set->current);
	for (size_t i = 0; i < SP_INBOX_BUCKETS; i++)
		while ((entry = LIST_FIRST(&set->buckets[i])) != NULL) {
			LIST_REMOVE(entry, chain);
			free(entry->taken);
			free(entry);
		}
	sp_assemble_free(&set->assemble);
}

struct sp_queued *
sp_inbox_push(struct sp_inbox *set, enum sp_rx_action_kind kind, const struct sp_incoming *entry)
{
	struct sp_queued *queued = sp_xcalloc(1, sizeof(*queued));

	queued->action.kind = kind;
	if (entry != NULL) {
		queued->action.id = entry->id;
		queued->action.layout = entry->layout;
		queued->action.is_manifest = entry->is_manifest;
		queued->action.generation = entry->generation;
		queued->action.event.object_id = entry->id;
	}
	STAILQ_INSERT_TAIL(&set->actions, queued, next);
	return queued;
}

int
sp_inbox_next_action(struct sp_inbox *set, struct sp_rx_action *action)
{
	free_queued(set->current);
	set->current = STAILQ_FIRST(&set->actions);
	if (set->current == NULL)
		return 0;
	STAILQ_REMOVE_HEAD(&set->actions, next);
	*action = set->current->action;
	return 1;
}

/* Ids are digests, so their first bytes are a hash already. */
static size_t
bucket_of(const struct sp_object_id *id)
{
	return (size_t)(id->b[0] << 8 | id->b[1]);
}

struct sp_object_id
sp_inbox_id(const uint8_t digest[SP_DIGEST_LEN])
{
	struct sp_object_id id;

	memcpy(id.b, digest, sizeof(id.b));
	return id;
}

struct sp_incoming *
sp_inbox_find(struct sp_inbox *set, const struct sp_object_id *id)
{
	struct sp_incoming *entry;

	for (entry = LIST_FIRST(&set->buckets[bucket_of(id)]); entry != NULL;
	     entry = LIST_NEXT(entry, chain))
		if (memcmp(&entry->id, id, sizeof(*id)) == 0)
			break;
	return entry;
}

void
sp_inbox_charge(struct sp_inbox *set, struct sp_incoming *entry, uint64_t bytes)
{
	set->spool_bytes += bytes - entry->charged_bytes;
	if (entry->transfers == 0)
		set->stray_bytes += bytes - entry->charged_bytes;
	entry->charged_bytes = bytes;
}

struct sp_incoming *
sp_inbox_new(struct sp_inbox *set, const struct sp_object_id *id, uint64_t size, int64_t now_ms)
{
	struct sp_incoming *entry = sp_xcalloc(1, sizeof(*entry));

	entry->id = *id;
	entry->layout.size = size;
	entry->generation = ++set->generation;
	entry->heard_ms = now_ms;
	entry->closed_ms = SP_INBOX_NEVER;
	LIST_INSERT_HEAD(&set->buckets[bucket_of(id)], entry, chain);
	TAILQ_INSERT_TAIL(&set->strays, entry, stray);
	set->stray_count++;
	sp_inbox_charge(set, entry, size);
	return entry;
}

void
sp_inbox_adopt(struct sp_inbox *set, struct sp_incoming *entry, unsigned transfer)
{
	if (entry->transfers == 0) {
		TAILQ_REMOVE(&set->strays, entry, stray);
		set->stray_count--;
		set->stray_bytes -= entry->charged_bytes;
	}
	entry->transfers |= 1u << transfer;
}

void
sp_inbox_reset(struct sp_inbox *set, struct sp_incoming *entry)
{
	int has_part = entry->layout.k != 0 || entry->state == SP_INBOX_VERIFYING;
	int has_whole = entry->state == SP_INBOX_DONE && !entry->is_manifest;

	if (has_part || has_whole) {
		struct sp_rx_action *drop = &sp_inbox_push(set, SP_RX_DROP, entry)->action;

		drop->is_verified = has_whole;
		memcpy(drop->digest, entry->object.digest, sizeof(drop->digest));
	}
	sp_assemble_forget(set->assemble, &entry->id);
	free(entry->taken);
	entry->taken = NULL;
	entry->written = 0;
	entry->writing = 0;
	entry->layout.k = 0;
	entry->state = SP_INBOX_RECEIVING;
	entry->generation = ++set->generation;
}

void
sp_inbox_hold(struct sp_inbox *set, struct sp_incoming *entry)
{
	if (entry->state != SP_INBOX_HELD)
		sp_inbox_reset(set, entry);
	entry->state = SP_INBOX_HELD;
	sp_inbox_charge(set, entry, 0);
}

void
sp_inbox_free(struct sp_inbox *set, struct sp_incoming *entry)
{
	SP_ASSERT(entry->transfers == 0);
	sp_inbox_hold(set, entry);
	TAILQ_REMOVE(&set->strays, entry, stray);
	set->stray_count--;
	LIST_REMOVE(entry, chain);
	free(entry);
}

void
sp_inbox_disown(struct sp_inbox *set, struct sp_incoming *entry, unsigned transfer)
{
	if ((entry->transfers >> transfer & 1) == 0)
		return;
	entry->transfers &= ~(1u << transfer);
	if (entry->transfers != 0)
		return;
	TAILQ_INSERT_TAIL(&set->strays, entry, stray);
	set->stray_count++;
	set->stray_bytes += entry->charged_bytes;
	sp_inbox_free(set, entry);
}

int
sp_inbox_evict_stray(struct sp_inbox *set)
{
	struct sp_incoming *entry = TAILQ_FIRST(&set->strays);

	while (entry != NULL && entry->charged_bytes == 0)
		entry = TAILQ_NEXT(entry, stray);
	if (entry == NULL)
		return 0;
	sp_inbox_free(set, entry);
	return 1;
}

void
sp_inbox_verify(struct sp_inbox *set, struct sp_incoming *entry)
{
	entry->state = SP_INBOX_VERIFYING;
	sp_inbox_push(set, SP_RX_VERIFY, entry);
}

void
sp_inbox_lay_out(struct sp_incoming *entry, const struct sp_layout *layout)
{
	entry->layout = *layout;
	entry->taken = sp_xcalloc((size_t)(sp_layout_blocks(layout) + 7) / 8, 1);
}
