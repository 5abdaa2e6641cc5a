/* ledger.c -- Merkle tree and signed notes against the vectors of others. */
#include "ledger/merkle.h"
#include "ledger/note.h"

#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* --- RFC 6962: inputs, roots and proofs of certificate-transparency's reference tests --------- */

static const struct {
	const char *data;
	size_t len;
} inputs[8] = {{"", 0}, {"\x00", 1}, {"\x10", 1}, {"\x20\x21", 2}, {"\x30\x31", 2},
    {"\x40\x41\x42\x43", 4}, {"\x50\x51\x52\x53\x54\x55\x56\x57", 8},
    {"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f", 16}};

static const char *const roots[9] = {
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
};

#define H_LEAF0 "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
#define H_LEAF1 "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
#define H_LEAF4 "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
#define H_0_2 "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
#define H_2_4 "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
#define H_4_6 "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"
#define H_6_8 "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
#define H_0_4 "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"
#define H_4_8 "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"

static const struct {
	uint64_t index, size;
	size_t count;
	const char *proof[3];
} inclusions[] = {
    {0, 1, 0, {NULL}},
    {0, 8, 3, {H_LEAF1, H_2_4, H_4_8}},
    {5, 8, 3, {H_LEAF4, H_6_8, H_0_4}},
    {2, 3, 1, {H_0_2}},
    {1, 5, 3, {H_LEAF0, H_2_4, H_LEAF4}},
};

static const struct {
	uint64_t old_size, size;
	size_t count;
	const char *proof[3];
} consistencies[] = {
    {1, 1, 0, {NULL}},
    {1, 8, 3, {H_LEAF1, H_2_4, H_4_8}},
    {6, 8, 3, {H_4_6, H_6_8, H_0_4}},
    {2, 5, 2, {H_2_4, H_LEAF4}},
};

static void
unhex(const char *hex, uint8_t out[SP_DIGEST_LEN])
{
	assert_int_equal(sp_hex_decode(hex, out, SP_DIGEST_LEN), SP_OK);
}

static enum sp_code
input_leaf(void *ctx, uint64_t index, uint8_t out[SP_DIGEST_LEN], struct sp_err *err)
{
	(void)ctx;
	(void)err;
	sp_merkle_leaf(inputs[index].data, inputs[index].len, out);
	return SP_OK;
}

static void
test_merkle_roots(void **state)
{
	struct sp_merkle_nodes nodes = {0};
	uint8_t leaf[SP_DIGEST_LEN], root[SP_DIGEST_LEN];
	struct sp_merkle tree = {0};
	size_t i;

	(void)state;
	for (i = 0; i <= 8; i++) {
		sp_merkle_root(&tree, root);
		assert_string_equal(sp_hex_of(root).s, roots[i]);
		assert_int_equal(
		    sp_merkle_root_from(i, sp_merkle_nodes_get, &nodes, root, NULL), SP_OK);
		assert_string_equal(sp_hex_of(root).s, roots[i]);
		if (i == 8)
			break;
		input_leaf(NULL, i, leaf, NULL);
		sp_merkle_append(&tree, leaf);
		sp_merkle_nodes_append(&nodes, leaf);
	}
	/* what was taken back can be appended again, differently */
	sp_merkle_nodes_truncate(&nodes, 5);
	memset(leaf, 7, sizeof(leaf));
	sp_merkle_nodes_append(&nodes, leaf);
	sp_merkle_nodes_truncate(&nodes, 5);
	for (i = 5; i < 8; i++) {
		input_leaf(NULL, i, leaf, NULL);
		sp_merkle_nodes_append(&nodes, leaf);
	}
	assert_int_equal(sp_merkle_root_from(8, sp_merkle_nodes_get, &nodes, root, NULL), SP_OK);
	assert_string_equal(sp_hex_of(root).s, roots[8]);
	assert_int_equal(sp_merkle_nodes_get(&nodes, 3, 1, root, NULL), SP_E_NOT_FOUND);
	sp_merkle_nodes_free(&nodes);
}

static void
test_merkle_inclusion(void **state)
{
	uint8_t proof[SP_MERKLE_PROOF_MAX][SP_DIGEST_LEN], leaf[SP_DIGEST_LEN];
	uint8_t root[SP_DIGEST_LEN];
	size_t i, j, count;

	(void)state;
	for (i = 0; i < sizeof(inclusions) / sizeof(inclusions[0]); i++) {
		assert_int_equal(sp_merkle_prove(inclusions[i].index, inclusions[i].size,
				     input_leaf, NULL, proof, &count, NULL),
		    SP_OK);
		assert_int_equal(count, inclusions[i].count);
		for (j = 0; j < count; j++)
			assert_string_equal(sp_hex_of(proof[j]).s, inclusions[i].proof[j]);
	}
	assert_int_equal(
	    sp_merkle_prove(8, 8, input_leaf, NULL, proof, &count, NULL), SP_E_NOT_FOUND);
	/* every leaf of every size, and that nothing else passes */
	for (i = 1; i <= 8; i++) {
		unhex(roots[i], root);
		for (j = 0; j < i; j++) {
			input_leaf(NULL, j, leaf, NULL);
			assert_int_equal(
			    sp_merkle_prove(j, i, input_leaf, NULL, proof, &count, NULL), SP_OK);
			assert_true(
			    sp_merkle_verify(leaf, j, i, (const uint8_t(*)[32])proof, count, root));
			assert_false(sp_merkle_verify(
			    leaf, j ^ 1, i, (const uint8_t(*)[32])proof, count, root));
			assert_false(sp_merkle_verify(
			    leaf, j + i, i, (const uint8_t(*)[32])proof, count, root));
			if (count > 0) {
				assert_false(sp_merkle_verify(
				    leaf, j, i, (const uint8_t(*)[32])proof, count - 1, root));
				proof[count - 1][31] ^= 1;
				assert_false(sp_merkle_verify(
				    leaf, j, i, (const uint8_t(*)[32])proof, count, root));
				proof[count - 1][31] ^= 1;
			}
			memset(proof[count], 0, SP_DIGEST_LEN);
			assert_false(sp_merkle_verify(
			    leaf, j, i, (const uint8_t(*)[32])proof, count + 1, root));
			leaf[0] ^= 0x80;
			assert_false(
			    sp_merkle_verify(leaf, j, i, (const uint8_t(*)[32])proof, count, root));
		}
	}
}

static void
test_merkle_consistency(void **state)
{
	uint8_t proof[SP_MERKLE_PROOF_MAX][SP_DIGEST_LEN];
	uint8_t old_root[SP_DIGEST_LEN], root[SP_DIGEST_LEN];
	const uint8_t(*p)[32] = (const uint8_t(*)[32])proof;
	size_t i, j, count;

	(void)state;
	for (i = 0; i < sizeof(consistencies) / sizeof(consistencies[0]); i++) {
		assert_int_equal(sp_merkle_prove_consistency(consistencies[i].old_size,
				     consistencies[i].size, input_leaf, NULL, proof, &count, NULL),
		    SP_OK);
		assert_int_equal(count, consistencies[i].count);
		for (j = 0; j < count; j++)
			assert_string_equal(sp_hex_of(proof[j]).s, consistencies[i].proof[j]);
	}
	assert_int_equal(
	    sp_merkle_prove_consistency(5, 4, input_leaf, NULL, proof, &count, NULL), SP_E_INVALID);
	assert_int_equal(
	    sp_merkle_prove_consistency(0, 4, input_leaf, NULL, proof, &count, NULL), SP_E_INVALID);
	unhex(roots[0], old_root);
	for (i = 0; i <= 8; i++) {
		unhex(roots[i], root);
		assert_false(sp_merkle_verify_consistency(0, old_root, i, root, p, 0));
	}
	for (i = 1; i <= 8; i++) {
		unhex(roots[i], root);
		for (j = 1; j <= i; j++) {
			unhex(roots[j], old_root);
			assert_int_equal(sp_merkle_prove_consistency(
					     j, i, input_leaf, NULL, proof, &count, NULL),
			    SP_OK);
			assert_true(sp_merkle_verify_consistency(j, old_root, i, root, p, count));
			assert_false(
			    sp_merkle_verify_consistency(i + 1, old_root, i, root, p, count));
			memset(proof[count], 0, SP_DIGEST_LEN);
			assert_false(
			    sp_merkle_verify_consistency(j, old_root, i, root, p, count + 1));
			if (count > 0) {
				assert_false(sp_merkle_verify_consistency(
				    j, old_root, i, root, p, count - 1));
				proof[0][0] ^= 1;
				assert_false(
				    sp_merkle_verify_consistency(j, old_root, i, root, p, count));
				proof[0][0] ^= 1;
			}
			old_root[5] ^= 4;
			assert_false(sp_merkle_verify_consistency(j, old_root, i, root, p, count));
		}
	}
}

/* --- signed notes ----------------------------------------------------------------------------- */

/* c2sp.org/signed-note, "Verifier keys", Example */
static const char spec_vkey[] =
    "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
static const char spec_note[] = "This is an example message.\n"
				"\n"
				"\xe2\x80\x94 example.com/foo "
				"Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOB"
				"H3mFXmRKuwHjG1Yu72IneyaQM=\n";

/* c2sp.org/signed-note, introduction: an empty line inside the text */
static const char poem[] = "Ognuno sta solo sul cuor della terra\n"
			   "trafitto da un raggio di sole:\n"
			   "\n"
			   "ed \xc3\xa8 subito sera.\n"
			   "\n"
			   "\xe2\x80\x94 quasimodo.example/salvatore "
			   "NnugSzTjtVAewIS+Z/iJhUPeFDkO/"
			   "5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n";

/* golang.org/x/mod/sumdb/note, package example: key, text and what signing gives */
static const char go_vkey[] = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
static const char go_skey[] = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
static const char go_text[] = "If you think cryptography is the answer to your problem,\n"
			      "then you don't know what your problem is.\n";
static const char go_note[] =
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "\xe2\x80\x94 PeterNeumann "
    "x08go/ZJkuBS9UG/"
    "SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

/* c2sp.org/tlog-checkpoint and /tlog-cosignature, examples */
static const char behind_the_sofa[] =
    "example.com/behind-the-sofa\n"
    "20852163\n"
    "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    "\n"
    "\xe2\x80\x94 example.com/behind-the-sofa "
    "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "\xe2\x80\x94 witness.example.com/w1 "
    "jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+"
    "mbIUBkBIfZ+qnA==\n";

static enum sp_code
parse_note(const char *text, struct sp_note *out)
{
	return sp_note_parse((const uint8_t *)text, strlen(text), out, NULL);
}

static void
test_note_spec_examples(void **state)
{
	struct sp_checkpoint checkpoint;
	struct sp_note note;
	char name[256], *vkey;
	uint8_t pk[32];

	(void)state;
	assert_int_equal(sp_note_parse_vkey(spec_vkey, name, pk, NULL), SP_OK);
	assert_string_equal(name, "example.com/foo");
	assert_int_equal(sp_note_keyid(name, pk), 0x530d903a);
	vkey = sp_note_vkey(name, pk);
	assert_string_equal(vkey, spec_vkey);
	free(vkey);
	assert_int_equal(parse_note(spec_note, &note), SP_OK);
	assert_string_equal(note.text, "This is an example message.\n");
	assert_true(sp_note_verify(&note, name, pk));
	assert_false(sp_note_verify(&note, "example.com/bar", pk));
	note.text[0] ^= 1;
	assert_false(sp_note_verify(&note, name, pk));
	sp_note_clear(&note);

	assert_int_equal(parse_note(poem, &note), SP_OK);
	assert_int_equal(note.sig_count, 1);
	assert_string_equal(note.sigs[0].name, "quasimodo.example/salvatore");
	assert_int_equal(note.sigs[0].keyid, 0x367ba04b);
	assert_int_equal(strncmp(note.text, poem, note.text_len), 0);
	assert_string_equal(note.text + note.text_len - 13, "subito sera.\n");
	sp_note_clear(&note);

	/* the witness's timestamped cosignature is of a type that is left out */
	assert_int_equal(parse_note(behind_the_sofa, &note), SP_OK);
	assert_int_equal(note.sig_count, 1);
	assert_string_equal(note.sigs[0].name, "example.com/behind-the-sofa");
	assert_int_equal(sp_checkpoint_parse(note.text, note.text_len, &checkpoint, NULL), SP_OK);
	assert_string_equal(checkpoint.origin, "example.com/behind-the-sofa");
	assert_int_equal(checkpoint.size, 20852163);
	vkey = sp_checkpoint_format(&checkpoint);
	assert_string_equal(vkey, note.text);
	free(vkey);
	sp_note_clear(&note);
}

static void
sign_with(void *ctx, const void *data, size_t len, uint8_t sig[64])
{
	crypto_sign_detached(sig, NULL, data, len, ctx);
}

static void
test_note_go_reference(void **state)
{
	uint8_t pk[32], sk[64], own_pk[32], *typed;
	struct sp_note note;
	char name[256], *signed_;
	size_t len;

	(void)state;
	assert_int_equal(sp_note_parse_vkey(go_vkey, name, pk, NULL), SP_OK);
	assert_int_equal(parse_note(go_note, &note), SP_OK);
	assert_true(sp_note_verify(&note, name, pk));
	sp_note_clear(&note);
	/* Ed25519 is deterministic: signing must give the very bytes that Go gives */
	typed = sp_base64_decode(go_skey, strlen(go_skey), &len);
	assert_int_equal(len, 33);
	crypto_sign_seed_keypair(own_pk, sk, typed + 1);
	free(typed);
	assert_memory_equal(own_pk, pk, 32);
	signed_ = sp_note_sign(go_text, name, pk, sign_with, sk, &len);
	assert_int_equal(len, strlen(go_note));
	assert_string_equal(signed_, go_note);
	free(signed_);
}

static void
test_note_refuses(void **state)
{
	static const char *const bad[] = {
	    "",
	    "\n",
	    "text\n",
	    "text\n\n",
	    "text\n\xe2\x80\x94 a AAAAAAAA\n",
	    "\n\xe2\x80\x94 a AAAAAAAA\n",
	    "text\n\n\xe2\x80\x94 a AAAAAAAA",		/* last line without end */
	    "text\n\n\xe2\x80\x94 a+b AAAAAAAA\n",	/* plus in the name */
	    "text\n\n\xe2\x80\x94 \xc2\xa0 AAAAAAAA\n", /* no-break space in the name */
	    "text\n\n\xe2\x80\x94  AAAAAAAA\n",		/* no name */
	    "text\n\n\xe2\x80\x94 a AAAA\n",		/* no signature behind the key id */
	    "text\n\n\xe2\x80\x94 a AAAAAAA\n",		/* not base64 */
	    "text\n\n- a AAAAAAAA\n",
	    "te\x01xt\n\n\xe2\x80\x94 a AAAAAAAA\n",
	    "te\xfft\n\n\xe2\x80\x94 a AAAAAAAA\n",
	};
	static const char *const bad_vkeys[] = {"", "a", "a+b", "a+00000000+",
	    "example.com/foo+530d903b+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
	    "example.com/bar+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
	    "example.com/foo+530d903a+AukyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
	    "+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"};
	static const char *const bad_checkpoints[] = {"", "a\n1\n", "a\n01\nQUJD\n",
	    "a\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\nmore\n",
	    "\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
	    "a\n-1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
	    "a\n18446744073709551616\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n",
	    "a\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2J=\n"};
	struct sp_checkpoint checkpoint;
	char name[256], many[4096];
	struct sp_note note;
	uint8_t pk[32];
	size_t i, at;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (parse_note(bad[i], &note) == SP_OK)
			fail_msg("note %zu was accepted", i);
	}
	for (i = 0; i < sizeof(bad_vkeys) / sizeof(bad_vkeys[0]); i++)
		assert_int_not_equal(sp_note_parse_vkey(bad_vkeys[i], name, pk, NULL), SP_OK);
	for (i = 0; i < sizeof(bad_checkpoints) / sizeof(bad_checkpoints[0]); i++)
		assert_int_not_equal(sp_checkpoint_parse(bad_checkpoints[i],
					 strlen(bad_checkpoints[i]), &checkpoint, NULL),
		    SP_OK);
	/* sixteen signatures must be taken, more need not */
	at = (size_t)snprintf(many, sizeof(many), "text\n\n");
	for (i = 0; i < 16; i++)
		at += (size_t)snprintf(many + at, sizeof(many) - at, "\xe2\x80\x94 a AAAAAAAA\n");
	assert_int_equal(parse_note(many, &note), SP_OK);
	sp_note_clear(&note);
	snprintf(many + at, sizeof(many) - at, "\xe2\x80\x94 a AAAAAAAA\n");
	assert_int_equal(parse_note(many, &note), SP_E_LIMIT);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_merkle_roots),
	    cmocka_unit_test(test_merkle_inclusion),
	    cmocka_unit_test(test_merkle_consistency),
	    cmocka_unit_test(test_note_spec_examples),
	    cmocka_unit_test(test_note_go_reference),
	    cmocka_unit_test(test_note_refuses),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
