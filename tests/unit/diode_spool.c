/* diode_spool.c -- what the receiver's files say after a crash. */
#include "base/file.h"
#include "diode/spool.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define BLOCK 512 /* 8 symbols of 64 bytes */
#define BLOCKS 200
#define SIZE (BLOCK * (BLOCKS - 1) + 100)

static char dir[] = "/tmp/sp-diode-spool-XXXXXX";
static uint8_t object[SIZE];
static uint8_t digest[SP_DIGEST_LEN];
static struct sp_object_id id;
static const struct sp_layout layout = {SIZE, 8, 4, 64};

/* What a load reported. */
struct found {
	unsigned parts, verified;
	int is_manifest;
	struct sp_layout layout;
	uint8_t complete[(BLOCKS + 7) / 8];
	uint8_t digest[SP_DIGEST_LEN];
	uint64_t size;
};

static void
on_part(void *ctx, const struct sp_object_id *which, const struct sp_layout *of, int is_manifest,
    const uint8_t *complete)
{
	struct found *found = ctx;

	assert_memory_equal(which, &id, sizeof(id));
	found->parts++;
	found->is_manifest = is_manifest;
	found->layout = *of;
	assert_int_equal(sp_layout_blocks(of), BLOCKS);
	memcpy(found->complete, complete, sizeof(found->complete));
}

static void
on_verified(void *ctx, const uint8_t which[SP_DIGEST_LEN], uint64_t size)
{
	struct found *found = ctx;

	found->verified++;
	memcpy(found->digest, which, sizeof(found->digest));
	found->size = size;
}

static struct sp_spool *
load(struct found *found)
{
	struct sp_spool_visitor visitor = {on_part, on_verified, found};
	struct sp_spool *spool = NULL;
	struct sp_err err;

	memset(found, 0, sizeof(*found));
	if (sp_spool_open(dir, &spool, &err) != SP_OK ||
	    sp_spool_load(spool, &visitor, &err) != SP_OK)
		fail_msg("%s", err.msg);
	return spool;
}

static int
has(const struct found *found, unsigned block)
{
	return found->complete[block / 8] >> block % 8 & 1;
}

static unsigned
count(const struct found *found)
{
	unsigned n = 0;

	for (unsigned b = 0; b < BLOCKS; b++)
		n += (unsigned)has(found, b);
	return n;
}

static void
write_block(struct sp_spool *spool, uint64_t block)
{
	struct sp_err err;

	if (sp_spool_write(spool, &id, &layout, 0, block,
		object + sp_layout_block_offset(&layout, block), &err) != SP_OK)
		fail_msg("%s", err.msg);
}

static char *
file_of(const char *suffix)
{
	char hex[2 * sizeof(id.b) + 1];

	sp_hex_encode(id.b, sizeof(id.b), hex);
	return sp_xasprintf("%s/%s%s", dir, hex, suffix);
}

static unsigned
entries(void)
{
	struct dirent *entry;
	DIR *d = opendir(dir);
	unsigned n = 0;

	assert_non_null(d);
	while ((entry = readdir(d)) != NULL)
		n += entry->d_name[0] != '.';
	closedir(d);
	return n;
}

/* A spool in which blocks 0, 2, 4, … below upto are journaled. */
static void
fill(unsigned upto)
{
	struct found found;
	struct sp_spool *spool = load(&found);

	for (unsigned b = 0; b < upto; b += 2)
		write_block(spool, b);
	sp_spool_close(&spool);
}

static int
setup(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(object); i++)
		object[i] = (uint8_t)(i * 31 + i / 253);
	sp_sha256(object, sizeof(object), digest);
	memcpy(id.b, digest, sizeof(id.b));
	return mkdtemp(dir) != NULL ? 0 : -1;
}

static int
teardown(void **state)
{
	struct sp_err err;

	(void)state;
	return sp_file_remove_all(dir, &err) == SP_OK ? 0 : -1;
}

/* Each test begins with an empty spool. */
static int
empty(void **state)
{
	struct sp_err err;

	(void)state;
	return sp_file_remove_all(dir, &err) == SP_OK && mkdir(dir, 0700) == 0 ? 0 : -1;
}

static void
test_whole_object(void **state)
{
	uint8_t got[SP_DIGEST_LEN], *data = NULL, *content;
	struct found found;
	struct sp_spool *spool = load(&found), *second = NULL;
	struct sp_err err;
	char *path;
	size_t len;

	(void)state;
	assert_int_equal(found.parts + found.verified, 0);
	assert_int_equal(sp_spool_open(dir, &second, &err), SP_E_STATE);
	assert_null(second);
	/* from the end, so that no write simply follows the one before */
	for (unsigned b = BLOCKS; b-- > 0;)
		write_block(spool, b);
	sp_spool_finish(spool, &id);
	assert_int_equal(sp_spool_verify(spool, &id, SIZE, 0, got, &data, &err), SP_OK);
	assert_null(data);
	assert_memory_equal(got, digest, sizeof(digest));
	path = sp_spool_path(spool, digest);
	assert_int_equal(sp_file_read(path, SIZE, &content, &len, &err), SP_OK);
	assert_int_equal(len, SIZE);
	assert_memory_equal(content, object, SIZE);
	free(content);
	free(path);
	assert_int_equal(entries(), 1);
	sp_spool_close(&spool);

	spool = load(&found);
	assert_int_equal(found.verified, 1);
	assert_int_equal(found.parts, 0);
	assert_memory_equal(found.digest, digest, sizeof(digest));
	assert_int_equal(found.size, SIZE);
	sp_spool_drop_verified(spool, digest);
	assert_int_equal(entries(), 0);
	sp_spool_close(&spool);
	sp_spool_close(&spool);
}

/* Killed after a flush: what was flushed is there, and nothing else is claimed. */
static void
test_killed(void **state)
{
	uint8_t got[SP_DIGEST_LEN], *data = NULL;
	struct found found;
	struct sp_spool *spool;
	struct sp_err err;
	int status;
	pid_t pid = fork();

	(void)state;
	assert_true(pid >= 0);
	if (pid == 0) {
		spool = load(&found);
		for (unsigned b = 0; b < 40; b += 2)
			write_block(spool, b);
		if (sp_spool_flush(spool, &err) == SP_OK) {
			write_block(spool, 1);
			kill(getpid(), SIGKILL);
		}
		_exit(1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	spool = load(&found);
	assert_int_equal(found.parts, 1);
	assert_true(sp_layout_equal(&found.layout, &layout));
	assert_int_equal(found.is_manifest, 0);
	assert_int_equal(count(&found), 20);
	for (unsigned b = 0; b < 40; b += 2)
		assert_true(has(&found, b));
	for (unsigned b = 0; b < BLOCKS; b++)
		if (!has(&found, b))
			write_block(spool, b);
	sp_spool_finish(spool, &id);
	assert_int_equal(sp_spool_verify(spool, &id, SIZE, 0, got, &data, &err), SP_OK);
	assert_memory_equal(got, digest, sizeof(digest));
	sp_spool_close(&spool);
	assert_int_equal(entries(), 1);
}

/* More codewords than wait for the journal at a time, and a second run that adds to it. */
static void
test_resumed_twice(void **state)
{
	struct found found;
	struct sp_spool *spool;

	(void)state;
	fill(BLOCKS);
	spool = load(&found);
	assert_int_equal(count(&found), BLOCKS / 2);
	write_block(spool, 1);
	write_block(spool, 3);
	sp_spool_close(&spool);
	spool = load(&found);
	assert_int_equal(count(&found), BLOCKS / 2 + 2);
	assert_true(has(&found, 1) && has(&found, 3) && !has(&found, 5));
	sp_spool_drop(spool, &id);
	assert_int_equal(entries(), 0);
	sp_spool_close(&spool);
}

/* Every length and every changed byte of the journal: never a codeword that was not written. */
static void
test_torn_journal(void **state)
{
	char *journal = file_of(".journal"), *part = file_of(".part");
	uint8_t *good, *bad;
	struct found found;
	struct sp_spool *spool;
	struct sp_err err;
	unsigned kept = 0;
	size_t len;

	(void)state;
	fill(20);
	assert_int_equal(sp_file_read(journal, 4096, &good, &len, &err), SP_OK);
	assert_int_equal(len, 48 + 10 * 16);
	bad = malloc(len);
	for (size_t i = 0; i < 2 * len; i++) {
		memcpy(bad, good, len);
		if (i >= len)
			bad[i - len] ^= (uint8_t)(1 << i % 8);
		assert_int_equal(sp_file_write(journal, 0600, bad, i < len ? i : len, &err), SP_OK);
		assert_int_equal(sp_file_write(part, 0600, object, BLOCK * 20, &err), SP_OK);
		spool = load(&found);
		for (unsigned b = 0; b < BLOCKS; b++)
			assert_true(!has(&found, b) || (b < 20 && b % 2 == 0));
		/* all records in front of the tear count, the others do not */
		if (i < len)
			assert_int_equal(count(&found), i < 48 ? 0 : (i - 48) / 16);
		else
			assert_int_equal(count(&found), i - len < 48 ? 0 : (i - len - 48) / 16);
		assert_int_equal(entries(), found.parts == 1 ? 2 : 0);
		kept += found.parts;
		/* what comes later is journaled behind the last good record */
		if (found.parts == 1) {
			write_block(spool, 199);
			sp_spool_close(&spool);
			spool = load(&found);
			assert_true(has(&found, 199));
		}
		sp_spool_close(&spool);
	}
	assert_in_range(kept, 1, 2 * len - 1);
	free(bad);
	free(good);
	free(part);
	free(journal);
}

static void
test_corrupt_part(void **state)
{
	uint8_t got[SP_DIGEST_LEN], *data = NULL;
	struct found found;
	struct sp_spool *spool = load(&found);
	struct sp_err err;
	char *part = file_of(".part");
	int fd;

	(void)state;
	for (unsigned b = 0; b < BLOCKS; b++)
		write_block(spool, b);
	sp_spool_finish(spool, &id);
	fd = open(part, O_WRONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, "?", 1, 5000), 1);
	close(fd);
	assert_int_equal(sp_spool_verify(spool, &id, SIZE, 0, got, &data, &err), SP_OK);
	assert_memory_not_equal(got, digest, sizeof(digest));
	/* not taken for whole */
	assert_int_equal(access(part, F_OK), 0);
	assert_int_equal(truncate(part, SIZE - 1), 0);
	assert_int_equal(sp_spool_verify(spool, &id, SIZE, 0, got, &data, &err), SP_E_IO);
	sp_spool_drop(spool, &id);
	assert_int_equal(sp_spool_verify(spool, &id, SIZE, 0, got, &data, &err), SP_E_NOT_FOUND);
	sp_spool_close(&spool);
	free(part);
}

static void
test_manifest_stays(void **state)
{
	uint8_t got[SP_DIGEST_LEN], *data = NULL;
	struct found found;
	struct sp_spool *spool = load(&found);
	struct sp_err err;

	(void)state;
	for (unsigned b = 0; b < BLOCKS; b++)
		assert_int_equal(sp_spool_write(spool, &id, &layout, 1, b,
				     object + sp_layout_block_offset(&layout, b), &err),
		    SP_OK);
	sp_spool_finish(spool, &id);
	assert_int_equal(sp_spool_verify(spool, &id, SIZE, 1, got, &data, &err), SP_OK);
	assert_memory_equal(got, digest, sizeof(digest));
	assert_memory_equal(data, object, SIZE);
	free(data);
	sp_spool_close(&spool);
	spool = load(&found);
	assert_int_equal(found.parts, 1);
	assert_int_equal(found.is_manifest, 1);
	assert_int_equal(count(&found), BLOCKS);
	sp_spool_close(&spool);
}

static void
test_empty_object_and_strangers(void **state)
{
	uint8_t got[SP_DIGEST_LEN], *data = NULL;
	struct sp_object_id none;
	struct found found;
	struct sp_spool *spool = load(&found);
	struct sp_err err;
	char *path;

	(void)state;
	sp_sha256("", 0, got);
	memcpy(none.b, got, sizeof(none.b));
	assert_int_equal(sp_spool_verify(spool, &none, 0, 0, got, &data, &err), SP_OK);
	path = sp_spool_path(spool, got);
	assert_int_equal(access(path, F_OK), 0);
	free(path);
	sp_spool_close(&spool);
	/* a part without a journal, and a journal without a part, are of no use */
	path = file_of(".part");
	assert_int_equal(sp_file_write(path, 0600, object, 1000, &err), SP_OK);
	free(path);
	spool = load(&found);
	assert_int_equal(found.verified, 1);
	assert_int_equal(found.size, 0);
	assert_int_equal(found.parts, 0);
	assert_int_equal(entries(), 1);
	sp_spool_close(&spool);
	fill(4);
	path = file_of(".part");
	assert_int_equal(unlink(path), 0);
	free(path);
	spool = load(&found);
	assert_int_equal(found.parts, 0);
	assert_int_equal(entries(), 1);
	sp_spool_close(&spool);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(test_whole_object, empty),
	    cmocka_unit_test_setup(test_killed, empty),
	    cmocka_unit_test_setup(test_resumed_twice, empty),
	    cmocka_unit_test_setup(test_torn_journal, empty),
	    cmocka_unit_test_setup(test_corrupt_part, empty),
	    cmocka_unit_test_setup(test_manifest_stays, empty),
	    cmocka_unit_test_setup(test_empty_object_and_strangers, empty),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
