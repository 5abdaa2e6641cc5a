/* rxd_verify.c -- what diode-rxd keeps and what it refuses: true releases of a real tree in a real
 * spool and store, and every way in which they can be wrong or we can. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/json.h"
#include "base/path.h"
#include "diode-rxd/rxd.h"
#include "release_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES 5

static const char *const files[FILES][2] = {
    {"config.json", "{}"},
    {"empty", ""},
    {"model.safetensors", "the weights themselves"},
    {"sub/copy of config.json", "{}"},
    {"tokenizer.json", "[1, 2, 3]"},
};

static char top[] = "/tmp/sp-rxd-verify-XXXXXX";
static struct sp_err err;
static struct rig rig;

/* A transfer as the receiver leaves it: each object a file of the spool. */
struct arrival {
	struct sp_conf *conf;
	struct sp_store *store;
	char *spool;
	struct sp_manifest manifest;
	struct sp_object objects[FILES + 3];
	struct sp_hex release, listing;
	struct rxd_source source;
	/* of the last rxd_verify */
	const char *check;
	struct sp_release *verified;
	struct sp_tree tree;
	uint64_t progress;
	uint64_t cancel_at; /* progress that cancels; 0: none */
};

static void
ok(enum sp_code code)
{
	if (code != SP_OK)
		fail_msg("%s: %s", sp_err_word(code), err.msg);
}

static char *
at(const char *name)
{
	return sp_xasprintf("%s/%s", top, name);
}

/* --- making ---------------------------------------------------------------------------------- */

static void
spool_put(struct arrival *a, enum sp_object_kind kind, const void *data, size_t len)
{
	struct sp_object *object = &a->objects[a->manifest.count];
	struct sp_hex hex = sp_sha256_hex(data, len);
	char *path = sp_xasprintf("%s/%s", a->spool, hex.s);

	ok(sp_file_write(path, 0600, data, len, &err));
	free(path);
	for (size_t i = 0; i < a->manifest.count; i++)
		if (strcmp(sp_hex_of(a->objects[i].digest).s, hex.s) == 0)
			return;
	sp_sha256(data, len, object->digest);
	object->size = len;
	object->kind = kind;
	a->manifest.count++;
}

/* The release over that tree, with a true chain and log. */
static void
make_release(struct arrival *a, const struct sp_tree *tree)
{
	const struct rig_deviation whole = {.tree = a->listing.s};
	struct rig_parts parts;
	struct rig_log log;
	json_t *bom;
	char *envelope;
	size_t len;

	rig_parts(&rig, &whole, &parts);
	rig_log(rig_story, &parts, RIG_JOB, RIG_ORIGIN, rig.keys[SP_ROLE_LOG], &log);
	bom = rig_bom(&parts, tree);
	envelope = rig_release(&rig, &parts, &log, bom, rig.keys[SP_ROLE_RELEASE], &len, &err);
	assert_non_null(envelope);
	spool_put(a, SP_OBJECT_RELEASE, envelope, len);
	memcpy(a->manifest.release, a->objects[a->manifest.count - 1].digest, SP_DIGEST_LEN);
	a->release = sp_sha256_hex(envelope, len);
	free(envelope);
	json_decref(bom);
	rig_log_free(&log);
	rig_parts_free(&parts);
}

static void
load_conf(struct arrival *a, const char *destination)
{
	char *path = at("sallyport.conf");
	char *text = sp_xasprintf("side = \"enclave\"; diode-rxd: { listen = \"127.0.0.1:0\"; "
				  "destination = \"%s\"; spool_max_mib = 16; };\n",
	    destination);

	sp_conf_free(&a->conf);
	ok(sp_file_write(path, 0644, text, strlen(text), &err));
	ok(sp_conf_load(path, top, sp_conf_keys, &a->conf, &err));
	a->source.conf = a->conf;
	free(text);
	free(path);
}

/* odd: one size in the listing is wrong. */
static void
arrive(struct arrival *a, int odd)
{
	struct sp_tree tree = {0};
	uint8_t *data;
	char *dir = at("store");
	size_t len;

	memset(a, 0, sizeof(*a));
	a->spool = at("spool");
	ok(sp_file_mkdirs(a->spool, 0700, &err));
	ok(sp_store_open(dir, 1, &a->store, &err));
	free(dir);
	load_conf(a, "enclave");
	strcpy(a->manifest.job, RIG_JOB);
	a->manifest.objects = a->objects;
	for (size_t i = 0; i < FILES; i++) {
		size_t size = strlen(files[i][1]);

		spool_put(a, SP_OBJECT_BLOB, files[i][1], size);
		ok(sp_tree_add(&tree, files[i][0], size + (odd && i == 2),
		    sp_sha256_hex(files[i][1], size).s, 0, &err));
	}
	ok(sp_tree_format(&tree, &data, &len, &err));
	spool_put(a, SP_OBJECT_TREE, data, len);
	a->listing = sp_sha256_hex(data, len);
	free(data);
	make_release(a, &tree);
	sp_tree_clear(&tree);
	a->source.store = a->store;
	a->source.spool_dir = a->spool;
	a->source.manifest = &a->manifest;
}

static void
forget_result(struct arrival *a)
{
	sp_release_free(&a->verified);
	sp_tree_clear(&a->tree);
	a->progress = 0;
}

static void
depart(struct arrival *a)
{
	static const char *const dirs[] = {"spool", "store", "var"};

	forget_result(a);
	sp_conf_free(&a->conf);
	sp_store_close(&a->store);
	free(a->spool);
	for (size_t i = 0; i < sizeof(dirs) / sizeof(*dirs); i++) {
		char *path = at(dirs[i]);

		ok(sp_file_remove_all(path, &err));
		free(path);
	}
}

/* --- asking ---------------------------------------------------------------------------------- */

static int
on_progress(void *ctx, uint64_t done, uint64_t total)
{
	struct arrival *a = ctx;

	assert_true(done <= total && done >= a->progress);
	a->progress = done;
	return a->cancel_at != 0 && done >= a->cancel_at;
}

static enum sp_code
verify_as(struct arrival *a, const char *job)
{
	forget_result(a);
	a->check = NULL;
	return rxd_verify(&a->source, rig.trust, job, a->release.s, on_progress, a, &a->verified,
	    &a->tree, &a->check, &err);
}

static enum sp_code
verify(struct arrival *a)
{
	return verify_as(a, RIG_JOB);
}

/* Refused by that check, and neither release nor listing is in the store: nothing can name it. */
static void
refused(struct arrival *a, enum sp_code want, const char *check, const char *says)
{
	enum sp_code code = verify(a);

	if (code != want)
		fail_msg("%s, not %s: %s", sp_err_word(code), sp_err_word(want), err.msg);
	assert_string_equal(a->check, check);
	if (strstr(err.msg, says) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", err.msg, says);
	assert_false(sp_store_has(a->store, a->release.s, NULL));
	assert_false(sp_store_has(a->store, a->listing.s, NULL));
}

static struct sp_hex
hex_of(size_t file)
{
	return sp_sha256_hex(files[file][1], strlen(files[file][1]));
}

static char *
spool_path(const struct arrival *a, const char *digest)
{
	return sp_xasprintf("%s/%s", a->spool, digest);
}

static void
flip(const char *path)
{
	uint8_t *data;
	size_t len;

	ok(sp_file_read(path, 1 << 20, &data, &len, &err));
	data[len / 2] ^= 1;
	ok(sp_file_write(path, 0600, data, len, &err));
	free(data);
}

static void
spool_flip(const struct arrival *a, const char *digest)
{
	char *path = spool_path(a, digest);

	flip(path);
	free(path);
}

static void
spool_remove(const struct arrival *a, const char *digest)
{
	char *path = spool_path(a, digest);

	assert_int_equal(unlink(path), 0);
	free(path);
}

/* --- good ------------------------------------------------------------------------------------ */

static void
good_release_is_taken(void **state)
{
	struct arrival a;

	(void)state;
	arrive(&a, 0);
	ok(verify(&a));
	assert_string_equal(a.verified->candidate.tree.s, a.listing.s);
	assert_int_equal(a.tree.count, FILES);
	assert_int_equal(a.progress, sp_tree_bytes(&a.tree));
	ok(sp_tree_verify(a.store, &a.tree, &err));
	assert_true(sp_store_has(a.store, a.release.s, NULL));
	assert_true(sp_store_has(a.store, a.listing.s, NULL));
	/* once more, as after a crash: the spool is still there */
	ok(verify(&a));
	/* … and after the receiver has forgotten it: all of it is in the store */
	a.source.manifest = NULL;
	ok(verify(&a));
	depart(&a);
}

/* What an earlier release brought does not come again. */
static void
blobs_of_the_store_count(void **state)
{
	struct arrival a;
	struct sp_hex hex;

	(void)state;
	arrive(&a, 0);
	ok(sp_store_put(a.store, files[2][1], strlen(files[2][1]), &hex, &err));
	spool_remove(&a, hex.s);
	ok(verify(&a));
	depart(&a);
}

static void
cancelled_between_files(void **state)
{
	struct arrival a;

	(void)state;
	arrive(&a, 0);
	a.cancel_at = 1;
	assert_int_equal(verify(&a), SP_E_CANCELLED);
	assert_false(sp_store_has(a.store, a.listing.s, NULL));
	a.cancel_at = 0;
	ok(verify(&a));
	depart(&a);
}

/* --- refused --------------------------------------------------------------------------------- */

static void
flipped_bytes_are_refused(void **state)
{
	struct sp_hex weights = hex_of(2);
	struct arrival a;

	(void)state;
	arrive(&a, 0);
	spool_flip(&a, a.release.s);
	refused(&a, SP_E_CORRUPT, "release", "other bytes");
	spool_flip(&a, a.release.s);
	spool_flip(&a, a.listing.s);
	refused(&a, SP_E_CORRUPT, "tree", "other bytes");
	spool_flip(&a, a.listing.s);
	spool_flip(&a, weights.s);
	refused(&a, SP_E_CORRUPT, "files", "model.safetensors");
	spool_flip(&a, weights.s);
	ok(verify(&a));
	depart(&a);
}

/* A flipped release under its own digest: what a sender without the release key can bring. */
static void
unsigned_release_is_refused(void **state)
{
	struct arrival a;
	uint8_t *data;
	char *path;
	size_t len;

	(void)state;
	arrive(&a, 0);
	path = spool_path(&a, a.release.s);
	ok(sp_file_read(path, 1 << 20, &data, &len, &err));
	data[len / 2] = data[len / 2] == 'A' ? 'B' : 'A';
	a.manifest.count--;
	spool_put(&a, SP_OBJECT_RELEASE, data, len);
	memcpy(a.manifest.release, a.objects[a.manifest.count - 1].digest, SP_DIGEST_LEN);
	a.release = sp_sha256_hex(data, len);
	assert_int_equal(verify(&a), SP_E_DENIED);
	assert_string_equal(a.check, "release");
	free(data);
	free(path);
	depart(&a);
}

static void
wrong_place_and_job_are_refused(void **state)
{
	struct arrival a;

	(void)state;
	arrive(&a, 0);
	assert_int_equal(verify_as(&a, "ffeeddccbbaa99887766554433221100"), SP_E_DENIED);
	assert_string_equal(a.check, "candidate");
	assert_non_null(strstr(err.msg, RIG_JOB));
	load_conf(&a, "elsewhere");
	refused(&a, SP_E_DENIED, "candidate", "diode-rxd.destination");
	load_conf(&a, "enclave");
	ok(verify(&a));
	depart(&a);
}

static void
stowaway_is_refused(void **state)
{
	struct arrival a;

	(void)state;
	arrive(&a, 0);
	spool_put(&a, SP_OBJECT_BLOB, "stowaway", 8);
	refused(&a, SP_E_DENIED, "tree", sp_sha256_hex("stowaway", 8).s);
	assert_false(sp_store_has(a.store, sp_sha256_hex("stowaway", 8).s, NULL));
	depart(&a);
}

/* The transfer is whole, but never promised a file that the tree names. */
static void
file_left_out_is_refused(void **state)
{
	struct sp_hex weights = hex_of(2);
	struct arrival a;
	size_t i = 0;

	(void)state;
	arrive(&a, 0);
	spool_remove(&a, weights.s);
	while (strcmp(sp_hex_of(a.objects[i].digest).s, weights.s) != 0)
		i++;
	a.objects[i] = a.objects[--a.manifest.count];
	refused(&a, SP_E_DENIED, "files", "model.safetensors");
	depart(&a);
}

static void
wrong_size_is_refused(void **state)
{
	struct arrival a;

	(void)state;
	arrive(&a, 1);
	refused(&a, SP_E_DENIED, "files", "model.safetensors has 22 bytes, its tree says 23");
	depart(&a);
}

/* --- our own faults: the release is none the worse for them ---------------------------------- */

static void
expect_incomplete(struct arrival *a)
{
	assert_int_equal(verify(a), SP_E_INCOMPLETE);
	assert_non_null(strstr(err.msg, "send the release again"));
	assert_false(sp_store_has(a->store, a->listing.s, NULL));
}

static void
what_is_gone_may_come_again(void **state)
{
	struct sp_hex weights = hex_of(2);
	struct arrival a;

	(void)state;
	arrive(&a, 0);
	spool_remove(&a, weights.s);
	expect_incomplete(&a);
	spool_put(&a, SP_OBJECT_BLOB, files[2][1], strlen(files[2][1]));
	spool_remove(&a, a.listing.s);
	expect_incomplete(&a);
	spool_remove(&a, a.release.s);
	expect_incomplete(&a);
	/* a receiver that does not know of it yet */
	a.source.manifest = NULL;
	expect_incomplete(&a);
	depart(&a);
}

/* A blob that the disk has spoilt is removed: as long as it is there the receiver does not await
 * it.
 */
static void
damaged_store_heals(void **state)
{
	struct sp_hex weights;
	struct arrival a;
	char *path;

	(void)state;
	arrive(&a, 0);
	ok(sp_store_put(a.store, files[2][1], strlen(files[2][1]), &weights, &err));
	spool_remove(&a, weights.s);
	path = sp_store_path(a.store, weights.s);
	flip(path);
	expect_incomplete(&a);
	assert_non_null(strstr(err.msg, "damaged"));
	assert_false(sp_store_has(a.store, weights.s, NULL));
	/* one that also came is healed by that */
	spool_put(&a, SP_OBJECT_BLOB, files[2][1], strlen(files[2][1]));
	ok(sp_store_put(a.store, files[2][1], strlen(files[2][1]), &weights, &err));
	flip(path);
	ok(verify(&a));
	ok(sp_store_verify(a.store, weights.s, NULL, NULL, NULL, &err));
	free(path);
	depart(&a);
}

/* A store that went away (its disk is not mounted) is no verdict. */
static void
faults_of_ours_are_tried_again(void **state)
{
	struct arrival a;
	char *store = at("store"), *aside = at("aside");
	enum sp_code code;

	(void)state;
	arrive(&a, 0);
	assert_int_equal(rename(store, aside), 0);
	code = verify(&a);
	assert_true(sp_err_may_retry(code));
	assert_int_equal(err.code, code);
	assert_int_equal(rename(aside, store), 0);
	ok(verify(&a));
	free(store);
	free(aside);
	depart(&a);
}

/* --- quarantine ------------------------------------------------------------------------------ */

static char *
quarantine_path(const char *name)
{
	return sp_xasprintf(
	    "%s/var/lib/sallyport/state/diode-rxd/quarantine/" RIG_JOB "/%s", top, name);
}

static void
quarantine_keeps_it(void **state)
{
	struct arrival a;
	struct stat spooled, kept;
	json_t *root;
	uint8_t *data;
	char *path;
	size_t len;

	(void)state;
	arrive(&a, 0);
	ok(rxd_quarantined(a.conf, RIG_JOB, &err));
	/* text that is not UTF-8 and has control characters, as a hostile name may bring it */
	ok(rxd_quarantine(&a.source, RIG_JOB, "files", "bad \xff\x1b[2J name", &err));
	path = quarantine_path("reason.json");
	ok(sp_file_read(path, 4096, &data, &len, &err));
	ok(sp_json_parse_canonical(data, len, "reason", &root, &err));
	assert_string_equal(json_string_value(json_object_get(root, "check")), "files");
	assert_string_equal(json_string_value(json_object_get(root, "job")), RIG_JOB);
	assert_string_equal(json_string_value(json_object_get(root, "reason")), "bad ??[2J name");
	assert_int_equal(json_integer_value(json_object_get(root, "kept")), (int)a.manifest.count);
	assert_int_equal(stat(path, &kept), 0);
	assert_int_equal(kept.st_mode & 0777, 0400);
	json_decref(root);
	free(data);
	free(path);
	for (size_t i = 0; i < a.manifest.count; i++) {
		struct sp_hex hex = sp_hex_of(a.objects[i].digest);
		char *from = spool_path(&a, hex.s);

		path = quarantine_path(hex.s);
		assert_int_equal(stat(from, &spooled), 0);
		assert_int_equal(stat(path, &kept), 0);
		assert_int_equal(kept.st_ino, spooled.st_ino);
		free(from);
		free(path);
	}
	/* the verdict stands, whatever comes later under that name */
	assert_int_equal(rxd_quarantined(a.conf, RIG_JOB, &err), SP_E_DENIED);
	assert_non_null(strstr(err.msg, "[2J name"));
	ok(rxd_quarantined(a.conf, "ffeeddccbbaa99887766554433221100", &err));
	/* an attempt that was killed in the middle is done again */
	ok(rxd_quarantine(&a.source, RIG_JOB, "files", "again", &err));
	assert_int_equal(rxd_quarantined(a.conf, RIG_JOB, &err), SP_E_DENIED);
	depart(&a);
}

/* Neither bytes nor entries without end: who holds the link key alone must not fill the disk. */
static void
quarantine_is_bounded(void **state)
{
	struct arrival a;
	char *big, *path, job[SP_JOB_ID_LEN + 1];
	const size_t len = 9 << 20; /* two of them are more than the 16 MiB of the spool */
	struct stat st;
	unsigned i;

	(void)state;
	arrive(&a, 0);
	big = sp_xcalloc(len, 1);
	spool_put(&a, SP_OBJECT_BLOB, big, len);
	ok(rxd_quarantine(&a.source, "00000000000000000000000000000000", "files", "reason", &err));
	big[0] = 1;
	a.manifest.count--;
	spool_put(&a, SP_OBJECT_BLOB, big, len);
	ok(rxd_quarantine(&a.source, RIG_JOB, "files", "reason", &err));
	path = quarantine_path(sp_sha256_hex(big, len).s);
	assert_int_not_equal(stat(path, &st), 0);
	free(path);
	assert_int_equal(rxd_quarantined(a.conf, RIG_JOB, &err), SP_E_DENIED);
	free(big);
	a.source.manifest = NULL;
	for (i = 1; i <= 1024; i++) {
		snprintf(job, sizeof(job), "%032x", i);
		ok(rxd_quarantine(&a.source, job, "release", "reason", &err));
	}
	snprintf(job, sizeof(job), "%032x", 1022);
	assert_int_equal(rxd_quarantined(a.conf, job, &err), SP_E_DENIED);
	snprintf(job, sizeof(job), "%032x", 1023);
	ok(rxd_quarantined(a.conf, job, &err));
	depart(&a);
}

static int
setup(void **state)
{
	(void)state;
	rig_open(&rig);
	return mkdtemp(top) != NULL ? 0 : -1;
}

static int
teardown(void **state)
{
	(void)state;
	rig_close(&rig);
	return sp_file_remove_all(top, &err) == SP_OK ? 0 : -1;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(good_release_is_taken),
	    cmocka_unit_test(blobs_of_the_store_count),
	    cmocka_unit_test(cancelled_between_files),
	    cmocka_unit_test(flipped_bytes_are_refused),
	    cmocka_unit_test(unsigned_release_is_refused),
	    cmocka_unit_test(wrong_place_and_job_are_refused),
	    cmocka_unit_test(stowaway_is_refused),
	    cmocka_unit_test(file_left_out_is_refused),
	    cmocka_unit_test(wrong_size_is_refused),
	    cmocka_unit_test(what_is_gone_may_come_again),
	    cmocka_unit_test(damaged_store_heals),
	    cmocka_unit_test(faults_of_ours_are_tried_again),
	    cmocka_unit_test(quarantine_keeps_it),
	    cmocka_unit_test(quarantine_is_bounded),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
