/*
 * merkle_vectors.c -- every inclusion and consistency vector of transparency-dev/merkle
 * (tests/vectors/merkle/README.md): what their verifier accepts ours accepts, and nothing else.
 */
#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"
#include "ledger/merkle.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define VECTORS "tests/vectors/merkle/"
#define EACH 98	    /* vectors in a file */
#define ACCEPTED 6  /* of which these are right */
#define PROOF_MAX 8 /* hashes of the longest proof there */

typedef int check_fn(const json_t *vector, const uint8_t (*proof)[SP_DIGEST_LEN], size_t count);

static uint64_t
number(const json_t *vector, const char *key)
{
	const char *text = json_string_value(json_object_get(vector, key));
	uint64_t value;
	char *end;

	assert_non_null(text);
	errno = 0;
	value = strtoull(text, &end, 10);
	assert_true(errno == 0 && end != text && *end == '\0');
	return value;
}

/* A hash of fewer than 32 bytes, of which upstream has many, is filled up with `fill`. */
static void
hash_of(const json_t *value, uint8_t fill, uint8_t out[SP_DIGEST_LEN])
{
	uint8_t *bytes;
	size_t len;

	assert_true(json_is_string(value));
	bytes = sp_base64_decode(json_string_value(value), json_string_length(value), &len);
	assert_non_null(bytes);
	assert_true(len <= SP_DIGEST_LEN);
	memset(out, fill, SP_DIGEST_LEN);
	memcpy(out, bytes, len);
	free(bytes);
}

static int
check_inclusion(const json_t *vector, const uint8_t (*proof)[SP_DIGEST_LEN], size_t count)
{
	uint8_t leaf[SP_DIGEST_LEN], root[SP_DIGEST_LEN];

	/* unlike fillings: no leaf at all is not the root of a tree that has no root */
	hash_of(json_object_get(vector, "leafHash"), 0xff, leaf);
	hash_of(json_object_get(vector, "root"), 0, root);
	return sp_merkle_verify(
	    leaf, number(vector, "leafIdx"), number(vector, "treeSize"), proof, count, root);
}

static int
check_consistency(const json_t *vector, const uint8_t (*proof)[SP_DIGEST_LEN], size_t count)
{
	uint8_t old_root[SP_DIGEST_LEN], root[SP_DIGEST_LEN];

	hash_of(json_object_get(vector, "root1"), 0, old_root);
	hash_of(json_object_get(vector, "root2"), 0, root);
	return sp_merkle_verify_consistency(
	    number(vector, "size1"), old_root, number(vector, "size2"), root, proof, count);
}

/* 1 when the vector is one that is to be accepted */
static int
run_vector(const char *line, size_t len, check_fn *check)
{
	uint8_t proof[PROOF_MAX][SP_DIGEST_LEN];
	const json_t *hashes, *wrong;
	json_t *vector;
	size_t i, count;
	int right;

	assert_int_equal(sp_json_parse(line, len, "vector", &vector, NULL), SP_OK);
	hashes = json_object_get(vector, "proof");
	assert_true(json_is_array(hashes) || json_is_null(hashes));
	count = json_array_size(hashes);
	assert_true(count <= PROOF_MAX);
	for (i = 0; i < count; i++)
		hash_of(json_array_get(hashes, i), 0, proof[i]);
	wrong = json_object_get(vector, "wantErr");
	assert_true(json_is_boolean(wrong));
	right = !json_is_true(wrong);
	if (check(vector, (const uint8_t(*)[SP_DIGEST_LEN])proof, count) != right)
		fail_msg("%s should be %s", json_string_value(json_object_get(vector, "file")),
		    right ? "accepted" : "refused");
	json_decref(vector);
	return right;
}

static void
run_file(const char *path, check_fn *check)
{
	size_t len, ran = 0, accepted = 0;
	char *line, *end;
	uint8_t *text;

	assert_int_equal(sp_file_read(path, 1 << 20, &text, &len, NULL), SP_OK);
	for (line = (char *)text; (end = strchr(line, '\n')) != NULL; line = end + 1) {
		accepted += (size_t)run_vector(line, (size_t)(end - line), check);
		ran++;
	}
	assert_int_equal(*line, '\0');
	assert_int_equal(ran, EACH);
	assert_int_equal(accepted, ACCEPTED);
	free(text);
}

static void
test_inclusion(void **state)
{
	(void)state;
	run_file(VECTORS "inclusion.jsonl", check_inclusion);
}

static void
test_consistency(void **state)
{
	(void)state;
	run_file(VECTORS "consistency.jsonl", check_consistency);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_inclusion),
	    cmocka_unit_test(test_consistency),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
