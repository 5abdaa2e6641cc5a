/* diode_steps.c -- what diode-txd and diode-rxd decide: transfers, notes, what may ride along. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "diode-rxd/rxd.h"
#include "diode-txd/txd.h"

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

static void
transfer_goes_its_way(void **state)
{
	struct rxd_table table = {0};
	const struct rxd_transfer *begun;
	struct rxd_transfer *transfer;
	struct sp_manifest manifest;
	struct sp_tree tree = {0};
	struct sp_err err;
	struct note n;

	(void)state;
	make(&manifest, &tree);
	note_of(&n, "known", (const char *const[]){NULL});
	assert_int_equal(
	    sp_manifest_pack(&manifest, &n.note.content.data, &n.note.content.len, &err), SP_OK);
	assert_int_equal(rxd_table_note(&table, &n.note, &begun, &err), SP_OK);
	assert_non_null(begun);
	transfer = rxd_table_find(&table, JOB);
	assert_int_equal(transfer->total_bytes, 7 + 7 + 2 + 3);

	/* told again by a receiver that was started anew: the same transfer, from the beginning */
	transfer->done_bytes = 5;
	assert_int_equal(rxd_table_note(&table, &n.note, &begun, &err), SP_OK);
	assert_ptr_equal(begun, transfer);
	assert_int_equal(transfer->done_bytes, 0);
	free(n.note.content.data);

	assert_int_equal(
	    rxd_table_note(&table, NOTE(&n, "incomplete", "job", JOB, "missing", "3", "gaps", "x"),
		&begun, &err),
	    SP_OK);
	assert_null(begun);
	assert_int_equal(transfer->state, RXD_INCOMPLETE);
	assert_int_equal(transfer->missing_bytes, 3);

	/* a later pass brings more: ledgerd hears of it again */
	assert_int_equal(
	    rxd_table_note(&table, NOTE(&n, "object", "job", JOB, "bytes", "3"), &begun, &err),
	    SP_OK);
	assert_ptr_equal(begun, transfer);
	assert_int_equal(
	    rxd_table_note(&table, NOTE(&n, "done", "job", JOB, "repaired", "12"), &begun, &err),
	    SP_OK);
	assert_null(begun);
	assert_int_equal(transfer->state, RXD_DONE);
	assert_int_equal(transfer->counts.repaired, 12);
	rxd_table_clear(&table);
	assert_null(rxd_table_find(&table, JOB));
	sp_manifest_clear(&manifest);
	sp_tree_clear(&tree);
}

static void
broken_notes_change_nothing(void **state)
{
	struct rxd_table table = {0};
	const struct rxd_transfer *begun;
	uint8_t junk[] = "\xff\xff\xff";
	struct sp_err err;
	struct note n;

	(void)state;
	note_of(&n, "known", (const char *const[]){NULL});
	n.note.content.data = junk;
	n.note.content.len = sizeof(junk);
	assert_int_not_equal(rxd_table_note(&table, &n.note, &begun, &err), SP_OK);
	assert_int_equal(
	    rxd_table_note(&table, NOTE(&n, "done", "job", JOB), &begun, &err), SP_E_INVALID);
	assert_int_equal(
	    rxd_table_note(&table, NOTE(&n, "done", "work", JOB), &begun, &err), SP_E_INVALID);
	assert_null(table.first);
}

/* --- package --- */

static void
package_reads_its_task(void **state)
{
	char tree[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
	char role[] = "candidate", store[] = "quantd", kind[] = "model";
	uint8_t policy[] = "{\"approvals\":2}", bytes[] = "bytes", hash[SP_DIGEST_LEN] = {7};
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
	    cmocka_unit_test(broken_notes_change_nothing),
	    cmocka_unit_test(package_reads_its_task),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
