/* diode_steps.c -- what diode-txd and diode-rxd decide: transfers, notes, what may ride along. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "diode-rxd/rxd.h"
#include "diode-txd/txd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JOB "00112233445566778899aabbccddeeff"

static struct sp_object
object_of(const char *text)
{
	struct sp_object object = {.size = strlen(text), .kind = SP_OBJECT_BLOB};

	sp_sha256(text, strlen(text), object.digest);
	return object;
}

static void
add_file(struct sp_tree *tree, const char *path, const char *text)
{
	struct sp_err err;

	assert_int_equal(
	    sp_tree_add(tree, path, strlen(text), sp_sha256_hex(text, strlen(text)).s, 0, &err),
	    SP_OK);
}

static void
make(struct sp_manifest *manifest, struct sp_tree *tree)
{
	struct sp_object release = object_of("release"), listing = object_of("listing");
	struct sp_err err;

	add_file(tree, "config.json", "{}");
	add_file(tree, "weights", "www");
	add_file(tree, "weights.copy", "www");
	assert_int_equal(txd_manifest(JOB, &release, &listing, tree, manifest, &err), SP_OK);
}

static void
manifest_names_each_content_once(void **state)
{
	struct sp_manifest manifest, parsed;
	struct sp_tree tree = {0};
	struct sp_err err;
	uint8_t *data;
	size_t len;

	(void)state;
	make(&manifest, &tree);
	assert_int_equal(manifest.count, 4);
	assert_int_equal(sp_manifest_pack(&manifest, &data, &len, &err), SP_OK);
	assert_int_equal(sp_manifest_parse(data, len, &parsed, &err), SP_OK);
	assert_int_equal(parsed.count, 4);
	assert_string_equal(parsed.job, JOB);
	free(data);
	sp_manifest_clear(&parsed);
	sp_manifest_clear(&manifest);
	sp_tree_clear(&tree);
}

static void
nothing_rides_along(void **state)
{
	struct sp_manifest manifest;
	struct sp_tree tree = {0};
	struct sp_hex listing = sp_sha256_hex("listing", 7);
	struct sp_err err;

	(void)state;
	make(&manifest, &tree);
	assert_int_equal(rxd_check_objects(&manifest, listing.s, &tree, &err), SP_OK);
	manifest.objects[3] = object_of("stowaway");
	assert_int_equal(rxd_check_objects(&manifest, listing.s, &tree, &err), SP_E_DENIED);
	assert_non_null(strstr(err.msg, sp_sha256_hex("stowaway", 8).s));
	sp_manifest_clear(&manifest);
	sp_tree_clear(&tree);
}

static void
candidate_belongs_to_job_and_place(void **state)
{
	struct sp_candidate candidate = {.job = JOB, .destination = "enclave"};
	struct sp_err err;

	(void)state;
	assert_int_equal(rxd_check_candidate(&candidate, JOB, "enclave", &err), SP_OK);
	assert_int_equal(rxd_check_candidate(&candidate, JOB, "elsewhere", &err), SP_E_DENIED);
	assert_non_null(strstr(err.msg, "elsewhere"));
	assert_int_equal(
	    rxd_check_candidate(&candidate, "ffffffffffffffffffffffffffffffff", "enclave", &err),
	    SP_E_DENIED);
}

/* --- notes --- */

struct note {
	Sallyport__ChildNote note;
	Sallyport__Detail detail[4], *details[4];
	char kind[16], key[4][16], value[4][64];
};

static const Sallyport__ChildNote *
note_of(struct note *n, const char *kind, const char *const pairs[])
{
	sallyport__child_note__init(&n->note);
	strcpy(n->kind, kind);
	n->note.kind = n->kind;
	n->note.details = n->details;
	for (size_t i = 0; pairs[2 * i] != NULL; i++) {
		sallyport__detail__init(&n->detail[i]);
		strcpy(n->key[i], pairs[2 * i]);
		strcpy(n->value[i], pairs[2 * i + 1]);
		n->detail[i].key = n->key[i];
		n->detail[i].value = n->value[i];
		n->details[i] = &n->detail[i];
		n->note.n_details = i + 1;
	}
	return &n->note;
}

#define NOTE(n, kind, ...) note_of(n, kind, (const char *const[]){__VA_ARGS__, NULL})

/* A note "known" of the manifest; its content is malloc'd. */
static const Sallyport__ChildNote *
known_of(struct note *n, const struct sp_manifest *manifest)
{
	struct sp_err err;

	NOTE(n, "known", "repaired", "5");
	assert_int_equal(
	    sp_manifest_pack(manifest, &n->note.content.data, &n->note.content.len, &err), SP_OK);
	return &n->note;
}

static enum sp_code
take(struct rxd_table *table, const Sallyport__ChildNote *note)
{
	char forget[SP_JOB_ID_LEN + 1];
	struct sp_err err;
	enum sp_code code = rxd_table_note(table, note, forget, &err);

	assert_string_equal(forget, "");
	return code;
}

static void
transfer_goes_its_way(void **state)
{
	struct rxd_table table = {0};
	struct rxd_transfer *transfer;
	struct sp_manifest manifest;
	struct sp_tree tree = {0};
	struct note n;

	(void)state;
	make(&manifest, &tree);
	assert_int_equal(take(&table, known_of(&n, &manifest)), SP_OK);
	transfer = rxd_table_unsaid(&table);
	assert_non_null(transfer);
	assert_string_equal(transfer->manifest.job, JOB);
	assert_int_equal(transfer->total_bytes, 7 + 7 + 2 + 3);
	transfer->unsaid = 0;

	/* told again by a receiver that was started anew: from the beginning */
	transfer->done_bytes = 5;
	assert_int_equal(take(&table, &n.note), SP_OK);
	transfer = rxd_table_find(&table, JOB);
	assert_int_equal(table.count, 1);
	assert_int_equal(transfer->done_bytes, 0);
	assert_int_equal(transfer->unsaid, 1);
	transfer->unsaid = 0;
	free(n.note.content.data);

	assert_int_equal(take(&table, NOTE(&n, "incomplete", "job", JOB, "missing", "3", "gaps",
					  "x", "fault", "the disk is full")),
	    SP_OK);
	assert_int_equal(transfer->unsaid, 0);
	assert_int_equal(transfer->state, RXD_INCOMPLETE);
	assert_int_equal(transfer->missing_bytes, 3);
	assert_string_equal(transfer->fault, "the disk is full");

	/* a later pass brings more: ledgerd hears of it again */
	assert_int_equal(take(&table, NOTE(&n, "object", "job", JOB, "bytes", "3")), SP_OK);
	assert_int_equal(transfer->state, RXD_KNOWN);
	assert_ptr_equal(rxd_table_unsaid(&table), transfer);
	transfer->unsaid = 0;
	assert_int_equal(take(&table, NOTE(&n, "done", "job", JOB, "repaired", "12")), SP_OK);
	assert_null(rxd_table_unsaid(&table));
	assert_int_equal(transfer->state, RXD_DONE);
	assert_int_equal(transfer->counts.repaired, 12 - 5); /* since it was known */

	/* a receiver that started anew has nothing until it says so */
	assert_int_equal(take(&table, NOTE(&n, "started", NULL)), SP_OK);
	assert_null(rxd_table_find(&table, JOB));
	assert_int_equal(table.count, 0);
	sp_manifest_clear(&manifest);
	sp_tree_clear(&tree);
}

/* The receiver was told to forget it, and died before it heard. */
static void
finished_transfer_is_forgotten(void **state)
{
	struct rxd_table table = {0};
	char forget[SP_JOB_ID_LEN + 1];
	struct sp_manifest manifest;
	struct sp_tree tree = {0};
	struct sp_err err;
	struct note n;

	(void)state;
	make(&manifest, &tree);
	known_of(&n, &manifest);
	assert_int_equal(take(&table, &n.note), SP_OK);
	rxd_table_finish(&table, JOB);
	assert_null(rxd_table_find(&table, JOB));
	assert_true(rxd_table_is_finished(&table, JOB));
	assert_int_equal(rxd_table_note(&table, &n.note, forget, &err), SP_OK);
	assert_string_equal(forget, JOB);
	assert_null(rxd_table_find(&table, JOB));
	free(n.note.content.data);
	assert_int_equal(take(&table, NOTE(&n, "done", "job", JOB)), SP_OK);
	/* one that was only given up may come again */
	memset(&table, 0, sizeof(table));
	known_of(&n, &manifest);
	assert_int_equal(take(&table, &n.note), SP_OK);
	rxd_table_remove(&table, JOB);
	assert_int_equal(take(&table, &n.note), SP_OK);
	assert_non_null(rxd_table_find(&table, JOB));
	free(n.note.content.data);
	rxd_table_clear(&table);
	sp_manifest_clear(&manifest);
	sp_tree_clear(&tree);
}

/* ledgerd may be away, or still hold the job for running when more of it comes. */
static void
ledgerd_hears_of_it(void **state)
{
	struct rxd_table table = {0};
	struct rxd_transfer *transfer;
	struct sp_manifest manifest;
	struct sp_tree tree = {0};
	struct note n;

	(void)state;
	make(&manifest, &tree);
	assert_int_equal(take(&table, known_of(&n, &manifest)), SP_OK);
	free(n.note.content.data);
	transfer = rxd_table_find(&table, JOB);
	for (unsigned i = 0; i < 100; i++) {
		transfer->unsaid = 0;
		assert_true(rxd_table_said(&table, JOB, SP_E_TIMEOUT, 1000 * i));
		assert_ptr_equal(rxd_table_unsaid(&table), transfer);
		assert_int_equal(transfer->say_ms, 1000 * i + RXD_AGAIN_MS);
	}
	for (unsigned i = 1; i < RXD_REFUSALS_MAX; i++) {
		transfer->unsaid = 0;
		assert_true(rxd_table_said(&table, JOB, SP_E_STATE, 0));
		assert_non_null(rxd_table_unsaid(&table));
	}
	transfer->unsaid = 0;
	assert_false(rxd_table_said(&table, JOB, SP_E_STATE, 0));
	assert_null(rxd_table_unsaid(&table));
	/* it goes on when it comes to life again */
	assert_int_equal(take(&table, NOTE(&n, "incomplete", "job", JOB, "missing", "3")), SP_OK);
	assert_int_equal(take(&table, NOTE(&n, "done", "job", JOB)), SP_OK);
	assert_ptr_equal(rxd_table_unsaid(&table), transfer);
	/* a yes may be about a step that was just ending: only one that comes ends the matter */
	transfer->unsaid = 0;
	assert_true(rxd_table_said(&table, JOB, SP_OK, 0));
	assert_ptr_equal(rxd_table_unsaid(&table), transfer);
	assert_int_equal(transfer->say_ms, RXD_AGAIN_MS);
	rxd_table_claim(transfer);
	assert_null(rxd_table_unsaid(&table));
	/* it ends INCOMPLETE, which ledgerd hears from the step */
	assert_int_equal(take(&table, NOTE(&n, "incomplete", "job", JOB, "missing", "3")), SP_OK);
	rxd_table_unclaim(transfer, 0, 0);
	assert_null(rxd_table_unsaid(&table));
	assert_int_equal(take(&table, NOTE(&n, "object", "job", JOB, "bytes", "1")), SP_OK);
	assert_ptr_equal(rxd_table_unsaid(&table), transfer);
	/* cancelled: whether by ledgerd's restart or an operator, ledgerd knows */
	rxd_table_claim(transfer);
	rxd_table_unclaim(transfer, 1, 5);
	assert_ptr_equal(rxd_table_unsaid(&table), transfer);
	assert_int_equal(transfer->say_ms, 5 + RXD_AGAIN_MS);
	rxd_table_clear(&table);
	assert_true(rxd_table_said(&table, JOB, SP_E_STATE, 0));
	sp_manifest_clear(&manifest);
	sp_tree_clear(&tree);
}

/* Whatever the child says, the table is bounded; what is over gives way to what is new. */
static void
table_is_bounded(void **state)
{
	struct rxd_table table = {0};
	struct sp_manifest manifest;
	struct sp_tree tree = {0};
	char oldest[SP_JOB_ID_LEN + 1];
	struct note n;

	(void)state;
	make(&manifest, &tree);
	for (unsigned i = 0; i <= RXD_TRANSFERS_MAX; i++) {
		snprintf(manifest.job, sizeof(manifest.job), "%032x", i);
		assert_int_equal(take(&table, known_of(&n, &manifest)),
		    i < RXD_TRANSFERS_MAX ? SP_OK : SP_E_LIMIT);
		free(n.note.content.data);
	}
	assert_int_equal(table.count, RXD_TRANSFERS_MAX);
	for (unsigned i = 3; i < 6; i++) {
		snprintf(oldest, sizeof(oldest), "%032x", i);
		assert_int_equal(
		    take(&table, NOTE(&n, i == 5 ? "incomplete" : "done", "job", oldest)), SP_OK);
	}
	/* the incomplete one, then those that are done, the oldest first */
	for (unsigned i = 0; i < 3; i++) {
		snprintf(manifest.job, sizeof(manifest.job), "%032x", 100 + i);
		snprintf(oldest, sizeof(oldest), "%032x", i == 0 ? 5 : 2 + i);
		assert_non_null(rxd_table_find(&table, oldest));
		assert_int_equal(take(&table, known_of(&n, &manifest)), SP_OK);
		assert_null(rxd_table_find(&table, oldest));
		free(n.note.content.data);
	}
	assert_int_equal(table.count, RXD_TRANSFERS_MAX);
	rxd_table_clear(&table);
	sp_manifest_clear(&manifest);
	sp_tree_clear(&tree);
}

static void
broken_notes_change_nothing(void **state)
{
	struct rxd_table table = {0};
	uint8_t junk[] = "\xff\xff\xff";
	struct note n;

	(void)state;
	note_of(&n, "known", (const char *const[]){NULL});
	n.note.content.data = junk;
	n.note.content.len = sizeof(junk);
	assert_int_not_equal(take(&table, &n.note), SP_OK);
	assert_int_equal(take(&table, NOTE(&n, "done", "job", JOB)), SP_E_INVALID);
	assert_int_equal(take(&table, NOTE(&n, "done", "work", JOB)), SP_E_INVALID);
	assert_null(table.first);
}

/* --- package --- */

static void
package_reads_its_task(void **state)
{
	char tree[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
	char role[] = "candidate", store[] = "quantd", kind[] = "model";
	uint8_t policy[] = "{\"approvals\":2}", bytes[] = "bytes", hash[SP_DIGEST_LEN] = {7};
	uint8_t silent[] = "{}", list[] = "[]";
	Sallyport__Artifact artifact, *artifacts[] = {&artifact};
	Sallyport__LogProof proof, *proofs[] = {&proof};
	ProtobufCBinaryData hashes[] = {{sizeof(hash), hash}};
	struct txd_package package;
	Sallyport__Task task;
	struct sp_err err;

	(void)state;
	sallyport__task__init(&task);
	sallyport__artifact__init(&artifact);
	sallyport__log_proof__init(&proof);
	artifact.role = role;
	artifact.digest = tree;
	artifact.store = store;
	artifact.tree = 1;
	proof.seq = 9;
	proof.hashes = hashes;
	proof.n_hashes = 1;
	task.kind = kind;
	task.artifacts = artifacts;
	task.n_artifacts = 1;
	task.proofs = proofs;
	task.n_proofs = 1;
	task.policy = (ProtobufCBinaryData){sizeof(policy) - 1, policy};
	assert_int_equal(txd_package_read(&task, &package, &err), SP_E_DENIED); /* no approval */
	task.candidate = (ProtobufCBinaryData){5, bytes};
	assert_int_equal(txd_package_read(&task, &package, &err), SP_OK);
	assert_int_equal(package.approvals, 2);
	assert_string_equal(package.tree.digest.s, tree);
	assert_int_equal(package.proof_count, 1);
	assert_int_equal(package.proofs[0].seq, 9);
	assert_int_equal(package.proofs[0].hashes[0][0], 7);
	txd_package_clear(&package);
	/* a profile that says nothing of approvals leaves it to the trust document */
	task.policy = (ProtobufCBinaryData){2, silent};
	assert_int_equal(txd_package_read(&task, &package, &err), SP_OK);
	assert_int_equal(package.approvals, 0);
	txd_package_clear(&package);
	task.policy.data = list;
	assert_int_equal(txd_package_read(&task, &package, &err), SP_E_INVALID);
	task.policy = (ProtobufCBinaryData){sizeof(policy) - 1, policy};
	hashes[0].len = 31;
	assert_int_equal(txd_package_read(&task, &package, &err), SP_E_INVALID);
	hashes[0].len = SP_DIGEST_LEN;
	artifact.tree = 0;
	assert_int_equal(txd_package_read(&task, &package, &err), SP_E_INVALID);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(manifest_names_each_content_once),
	    cmocka_unit_test(nothing_rides_along),
	    cmocka_unit_test(candidate_belongs_to_job_and_place),
	    cmocka_unit_test(transfer_goes_its_way),
	    cmocka_unit_test(finished_transfer_is_forgotten),
	    cmocka_unit_test(ledgerd_hears_of_it),
	    cmocka_unit_test(table_is_bounded),
	    cmocka_unit_test(broken_notes_change_nothing),
	    cmocka_unit_test(package_reads_its_task),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
