/* ledger.c -- Merkle tree, signed notes, tiles, the job table and its replay; all pure. */
#include "base/file.h"
#include "ledger/entry.h"
#include "ledger/log.h"
#include "ledger/tiles.h"

#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* --- RFC 6962: inputs, roots and proofs of certificate-transparency's reference tests ----------
 */

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
	for (i = 0; i <= 8; i++) {
		unhex(roots[i], root);
		for (j = 0; j <= i; j++) {
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

/* --- signed notes ------------------------------------------------------------------------------
 */

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

/* --- the table of a job's life -----------------------------------------------------------------
 */

static const char *const action_words[] = {
    "nothing", "offer", "again", "work", "await", "ask", "end"};

/* Every transition that there is, written down a second time: recipes (m model, i image, s image
 * with scan, f file, d dataset), from, event, to, action. All others are refused. */
static const char *const transitions[][5] = {
    {"misfd", "", "submit", "SUBMITTED", "offer"},
    {"misfd", "SUBMITTED", "lease", "FETCHING", "work"},
    {"misfd", "SUBMITTED", "cancel", "CANCELLED", "end"},
    {"misfd", "FETCHING", "lease", "FETCHING", "work"},
    {"misfd", "FETCHING", "lost", "FETCHING", "again"},
    {"misfd", "FETCHING", "again", "FETCHING", "again"},
    {"misfd", "FETCHING", "fail", "FAILED", "end"},
    {"misfd", "FETCHING", "block", "BLOCKED", "end"},
    {"misfd", "FETCHING", "cancel", "CANCELLED", "end"},
    {"ms", "FETCHING", "done", "FETCHED", "offer"},
    {"if", "FETCHING", "done", "FETCHED", "await"},
    {"d", "FETCHING", "done", "FETCHED", "end"},
    {"s", "FETCHED", "lease", "SCANNING", "work"},
    {"m", "FETCHED", "lease", "QUANTIZING", "work"},
    {"ms", "FETCHED", "cancel", "CANCELLED", "end"},
    {"if", "FETCHED", "await", "AWAITING_APPROVAL", "ask"},
    {"s", "SCANNING", "lease", "SCANNING", "work"},
    {"s", "SCANNING", "lost", "SCANNING", "again"},
    {"s", "SCANNING", "again", "SCANNING", "again"},
    {"s", "SCANNING", "fail", "FAILED", "end"},
    {"s", "SCANNING", "block", "BLOCKED", "end"},
    {"s", "SCANNING", "cancel", "CANCELLED", "end"},
    {"s", "SCANNING", "done", "AWAITING_APPROVAL", "ask"},
    {"m", "QUANTIZING", "lease", "QUANTIZING", "work"},
    {"m", "QUANTIZING", "lost", "QUANTIZING", "again"},
    {"m", "QUANTIZING", "again", "QUANTIZING", "again"},
    {"m", "QUANTIZING", "fail", "FAILED", "end"},
    {"m", "QUANTIZING", "block", "BLOCKED", "end"},
    {"m", "QUANTIZING", "cancel", "CANCELLED", "end"},
    {"m", "QUANTIZING", "done", "QUANTIZED", "offer"},
    {"m", "QUANTIZED", "lease", "VALIDATING", "work"},
    {"m", "QUANTIZED", "cancel", "CANCELLED", "end"},
    {"m", "VALIDATING", "lease", "VALIDATING", "work"},
    {"m", "VALIDATING", "lost", "VALIDATING", "again"},
    {"m", "VALIDATING", "again", "VALIDATING", "again"},
    {"m", "VALIDATING", "fail", "FAILED", "end"},
    {"m", "VALIDATING", "block", "BLOCKED", "end"},
    {"m", "VALIDATING", "cancel", "CANCELLED", "end"},
    {"m", "VALIDATING", "done", "VALIDATED", "await"},
    {"m", "VALIDATED", "await", "AWAITING_APPROVAL", "ask"},
    {"misf", "AWAITING_APPROVAL", "approve", "AWAITING_APPROVAL", "nothing"},
    {"misf", "AWAITING_APPROVAL", "approved", "APPROVED", "offer"},
    {"misf", "AWAITING_APPROVAL", "reject", "REJECTED", "end"},
    {"misf", "AWAITING_APPROVAL", "cancel", "CANCELLED", "end"},
    {"misf", "APPROVED", "lease", "PACKAGING", "work"},
    {"misf", "APPROVED", "cancel", "CANCELLED", "end"},
    {"misf", "PACKAGING", "lease", "PACKAGING", "work"},
    {"misf", "PACKAGING", "lost", "PACKAGING", "again"},
    {"misf", "PACKAGING", "again", "PACKAGING", "again"},
    {"misf", "PACKAGING", "fail", "FAILED", "end"},
    {"misf", "PACKAGING", "cancel", "CANCELLED", "end"},
    {"misf", "PACKAGING", "done", "PACKAGED", "offer"},
    {"misf", "PACKAGED", "lease", "SENDING", "work"},
    {"misf", "PACKAGED", "cancel", "CANCELLED", "end"},
    {"misf", "SENDING", "lease", "SENDING", "work"},
    {"misf", "SENDING", "lost", "SENDING", "again"},
    {"misf", "SENDING", "again", "SENDING", "again"},
    {"misf", "SENDING", "fail", "FAILED", "end"},
    {"misf", "SENDING", "cancel", "CANCELLED", "end"},
    {"misf", "SENDING", "done", "SENT", "end"},
    {"misf", "", "begin", "RECEIVING", "offer"},
    {"misf", "RECEIVING", "lease", "RECEIVING", "work"},
    {"misf", "RECEIVING", "lost", "RECEIVING", "again"},
    {"misf", "RECEIVING", "again", "RECEIVING", "again"},
    {"misf", "RECEIVING", "fail", "FAILED", "end"},
    {"misf", "RECEIVING", "incomplete", "INCOMPLETE", "end"},
    {"misf", "RECEIVING", "quarantine", "QUARANTINED", "end"},
    {"misf", "RECEIVING", "cancel", "CANCELLED", "end"},
    {"misf", "RECEIVING", "done", "RECEIVED", "offer"},
    {"misf", "INCOMPLETE", "begin", "RECEIVING", "offer"},
    {"misf", "INCOMPLETE", "cancel", "CANCELLED", "end"},
    {"misf", "RECEIVED", "lease", "VERIFYING", "work"},
    {"misf", "RECEIVED", "cancel", "CANCELLED", "end"},
    {"misf", "VERIFYING", "lease", "VERIFYING", "work"},
    {"misf", "VERIFYING", "lost", "VERIFYING", "again"},
    {"misf", "VERIFYING", "again", "VERIFYING", "again"},
    {"misf", "VERIFYING", "fail", "FAILED", "end"},
    {"misf", "VERIFYING", "quarantine", "QUARANTINED", "end"},
    {"misf", "VERIFYING", "cancel", "CANCELLED", "end"},
    {"misf", "VERIFYING", "done", "VERIFIED", "offer"},
    {"misf", "VERIFIED", "lease", "REGISTERING", "work"},
    {"misf", "VERIFIED", "cancel", "CANCELLED", "end"},
    {"misf", "REGISTERING", "lease", "REGISTERING", "work"},
    {"misf", "REGISTERING", "lost", "REGISTERING", "again"},
    {"misf", "REGISTERING", "again", "REGISTERING", "again"},
    {"misf", "REGISTERING", "fail", "FAILED", "end"},
    {"misf", "REGISTERING", "quarantine", "QUARANTINED", "end"},
    {"misf", "REGISTERING", "cancel", "CANCELLED", "end"},
    {"misf", "REGISTERING", "done", "REGISTERED", "end"},
    {"misf", "REGISTERED", "revoke", "REVOKED", "end"},
    {"misfd", "FAILED", "retry", "(resume)", "offer"},
};
#define TRANSITIONS (sizeof(transitions) / sizeof(transitions[0]))

static const char recipe_letters[] = "misfd";

static const char *const *
expected(enum sp_recipe recipe, enum sp_job_state from, enum sp_job_event event)
{
	size_t i;

	for (i = 0; i < TRANSITIONS; i++)
		if (strchr(transitions[i][0], recipe_letters[recipe]) != NULL &&
		    strcmp(transitions[i][1], sp_jobs_state_name(from)) == 0 &&
		    strcmp(transitions[i][2], sp_jobs_event_name(event)) == 0)
			return transitions[i];
	return NULL;
}

static void
test_jobs_every_state_and_event(void **state)
{
	enum sp_job_action action;
	enum sp_job_state to;
	const char *const *row;
	size_t allowed = 0, wanted = 0;
	struct sp_err err;
	enum sp_code code;
	int r, s, e;

	(void)state;
	for (r = 0; r < SP_RECIPE_COUNT; r++) {
		for (s = 0; s < SP_JOB_STATE_COUNT; s++) {
			for (e = 0; e < SP_JOB_EVENT_COUNT; e++) {
				row = expected(
				    (enum sp_recipe)r, (enum sp_job_state)s, (enum sp_job_event)e);
				code = sp_jobs_next((enum sp_recipe)r, (enum sp_job_state)s,
				    SP_JOB_QUANTIZED, (enum sp_job_event)e, &to, &action, &err);
				if ((row != NULL) != (code == SP_OK))
					fail_msg("%s: \"%s\" x %s is %s",
					    sp_jobs_recipe_name((enum sp_recipe)r),
					    sp_jobs_state_name((enum sp_job_state)s),
					    sp_jobs_event_name((enum sp_job_event)e),
					    row != NULL ? "missing" : "allowed");
				if (row == NULL) {
					assert_int_equal(code, SP_E_STATE);
					continue;
				}
				allowed++;
				assert_string_equal(sp_jobs_state_name(to),
				    strcmp(row[3], "(resume)") == 0 ? "QUANTIZED" : row[3]);
				assert_string_equal(action_words[action], row[4]);
			}
		}
	}
	/* and every line above was met, once per recipe */
	for (size_t i = 0; i < TRANSITIONS; i++)
		wanted += strlen(transitions[i][0]);
	assert_int_equal(allowed, wanted);
}

static void
test_jobs_names(void **state)
{
	enum sp_job_state s;
	enum sp_job_event e;
	enum sp_recipe r;
	enum sp_step step;
	enum sp_lease_state lease;
	int i;

	(void)state;
	for (i = 0; i < SP_JOB_STATE_COUNT; i++) {
		assert_true(sp_jobs_state_find(sp_jobs_state_name((enum sp_job_state)i), &s));
		assert_int_equal(s, i);
	}
	for (i = 0; i < SP_JOB_EVENT_COUNT; i++) {
		assert_true(sp_jobs_event_find(sp_jobs_event_name((enum sp_job_event)i), &e));
		assert_int_equal(e, i);
	}
	for (i = 0; i < SP_RECIPE_COUNT; i++) {
		assert_true(sp_jobs_recipe_find(sp_jobs_recipe_name((enum sp_recipe)i), &r));
		assert_int_equal(r, i);
	}
	for (i = 0; i < SP_STEP_COUNT; i++) {
		assert_true(sp_jobs_step_find(sp_jobs_step_name((enum sp_step)i), &step));
		assert_int_equal(step, i);
	}
	for (i = 0; i < SP_LEASE_STATE_COUNT; i++) {
		assert_true(sp_jobs_lease_find(sp_jobs_lease_name((enum sp_lease_state)i), &lease));
		assert_int_equal(lease, i);
	}
	assert_false(sp_jobs_state_find("submitted", &s));
	assert_string_equal(sp_jobs_kind(SP_RECIPE_SCANNED), "image");
	assert_true(sp_jobs_step(SP_RECIPE_MODEL, SP_JOB_FETCHED, &step));
	assert_string_equal(sp_jobs_step_service(step), "quantd");
	assert_false(sp_jobs_step(SP_RECIPE_IMAGE, SP_JOB_FETCHED, &step));
	assert_int_equal(
	    sp_jobs_resume(SP_RECIPE_MODEL, SP_JOB_PACKAGING, SP_JOB_NONE), SP_JOB_APPROVED);
	assert_int_equal(
	    sp_jobs_resume(SP_RECIPE_MODEL, SP_JOB_FAILED, SP_JOB_APPROVED), SP_JOB_APPROVED);
	assert_true(sp_jobs_ended(SP_RECIPE_DATASET, SP_JOB_FETCHED));
	assert_false(sp_jobs_ended(SP_RECIPE_MODEL, SP_JOB_FETCHED));
	assert_false(sp_jobs_ended(SP_RECIPE_MODEL, SP_JOB_INCOMPLETE));
}

static void
test_jobs_failures(void **state)
{
	(void)state;
	assert_int_equal(sp_jobs_failure(SP_STEP_VALIDATE, SP_E_BLOCKED, 0, 1, 5), SP_EV_BLOCK);
	assert_int_equal(sp_jobs_failure(SP_STEP_PACKAGE, SP_E_BLOCKED, 0, 1, 5), SP_EV_FAIL);
	assert_int_equal(sp_jobs_failure(SP_STEP_FETCH, SP_E_TIMEOUT, 1, 4, 5), SP_EV_AGAIN);
	assert_int_equal(sp_jobs_failure(SP_STEP_FETCH, SP_E_TIMEOUT, 1, 5, 5), SP_EV_FAIL);
	assert_int_equal(sp_jobs_failure(SP_STEP_FETCH, SP_E_NOT_FOUND, 0, 1, 5), SP_EV_FAIL);
	assert_int_equal(sp_jobs_failure(SP_STEP_FETCH, SP_E_CANCELLED, 0, 1, 5), SP_EV_LOST);
	assert_int_equal(sp_jobs_failure(SP_STEP_FETCH, SP_E_CORRUPT, 0, 1, 5), SP_EV_FAIL);
	assert_int_equal(sp_jobs_failure(SP_STEP_VERIFY, SP_E_CORRUPT, 0, 1, 5), SP_EV_QUARANTINE);
	assert_int_equal(sp_jobs_failure(SP_STEP_VERIFY, SP_E_DENIED, 1, 1, 5), SP_EV_QUARANTINE);
	assert_int_equal(sp_jobs_failure(SP_STEP_VERIFY, SP_E_INVALID, 0, 5, 5), SP_EV_QUARANTINE);
	assert_int_equal(sp_jobs_failure(SP_STEP_VERIFY, SP_E_NO_SPACE, 1, 1, 5), SP_EV_AGAIN);
	assert_int_equal(
	    sp_jobs_failure(SP_STEP_RECEIVE, SP_E_INCOMPLETE, 1, 1, 5), SP_EV_INCOMPLETE);
	assert_int_equal(sp_jobs_failure(SP_STEP_VERIFY, SP_E_INCOMPLETE, 1, 1, 5), SP_EV_AGAIN);
	assert_int_equal(sp_jobs_backoff_ms(1000, 1), 1000);
	assert_int_equal(sp_jobs_backoff_ms(1000, 2), 2000);
	assert_int_equal(sp_jobs_backoff_ms(1000, 5), 16000);
	assert_int_equal(sp_jobs_backoff_ms(1000, 100), 3600000);
}

/* --- replay and verification of a whole log -----------------------------------------------------
 */

#define JOB "00112233445566778899aabbccddeeff"
#define LEASE1 "11111111111111111111111111111111"
#define LEASE2 "22222222222222222222222222222222"
#define ORIGIN "sallyport/bastion/test"

static const struct sp_actor anna = {1, 1000, "", "anna", ""};
static const struct sp_actor ledgerd = {0, 0, "ledgerd", "ledgerd@bastion", ""};
static const struct sp_actor fetcherd = {0, 0, "fetcherd", "fetcherd@bastion", ""};
static const struct sp_actor other = {0, 0, "fetcherd", "fetcherd2@bastion", ""};
static const struct sp_actor quantd = {0, 0, "quantd", "quantd@bastion", ""};

struct script {
	const struct sp_actor *actor;
	const char *event, *from, *to, *step, *lease, *recipe;
};

struct sample {
	struct sp_log_bytes bytes[600];
	uint8_t *owned[600];
	uint64_t count;
};

static void
add(struct sample *log, const struct script *s)
{
	struct sp_entry *entry = sp_entry_new(s->actor, s->event);
	size_t len;

	if (s->to != NULL)
		sp_entry_job(entry, JOB, s->from, s->to);
	if (s->step != NULL)
		sp_entry_step(entry, s->step, s->lease);
	if (s->recipe != NULL)
		sp_entry_detail(entry, "recipe", s->recipe);
	log->owned[log->count] =
	    sp_entry_pack(entry, log->count, ORIGIN, 1764000000000 + (int64_t)log->count, 5, &len);
	log->bytes[log->count].data = log->owned[log->count];
	log->bytes[log->count++].len = len;
	sp_entry_free(&entry);
}

static void
drop(struct sample *log)
{
	while (log->count > 0)
		free(log->owned[--log->count]);
}

static const struct script story[] = {
    {&ledgerd, "start", NULL, NULL, NULL, NULL, NULL},
    {&anna, "submit", "", "SUBMITTED", NULL, NULL, "model"},
    {&fetcherd, "lease", "SUBMITTED", "FETCHING", "fetch", LEASE1, NULL},
    {&ledgerd, "lost", "FETCHING", "FETCHING", "fetch", LEASE1, NULL},
    {&other, "lease", "FETCHING", "FETCHING", "fetch", LEASE2, NULL},
    {&other, "done", "FETCHING", "FETCHED", "fetch", LEASE2, NULL},
};
#define STORY (sizeof(story) / sizeof(story[0]))

/* What may stand after the story, and what must not: from where the job really is. */
static const struct script bad_ends[] = {
    {&anna, "approved", "AWAITING_APPROVAL", "APPROVED", NULL, NULL, NULL},
    {&ledgerd, "await", "FETCHED", "AWAITING_APPROVAL", NULL, NULL, NULL},
    {&quantd, "lease", "FETCHED", "VALIDATING", "quantize", LEASE1, NULL},
    {&quantd, "lease", "FETCHED", "QUANTIZING", "validate", LEASE1, NULL},
    {&quantd, "lease", "FETCHED", "QUANTIZING", "quantize", "", NULL},
    {&other, "lease", "FETCHED", "QUANTIZING", "quantize", LEASE1, NULL},
    {&anna, "lease", "FETCHED", "QUANTIZING", "quantize", LEASE1, NULL},
    {&fetcherd, "cancel", "FETCHED", "CANCELLED", NULL, NULL, NULL},
    {&other, "done", "FETCHING", "FETCHED", "fetch", LEASE2, NULL},
    {&anna, "submit", "", "SUBMITTED", NULL, NULL, "model"},
    {&anna, "frobnicate", "FETCHED", "FETCHED", NULL, NULL, NULL},
    {&anna, "cancel", "FETCHED", "GONE", NULL, NULL, NULL},
    {&ledgerd, "cancel", NULL, NULL, NULL, NULL, NULL},
};

static void
replay_all(const struct sample *log, struct sp_replay *replay)
{
	struct sp_err err;
	uint64_t i;

	for (i = 0; i < log->count; i++)
		if (sp_replay_entry(replay, log->bytes[i].data, log->bytes[i].len, &err) != SP_OK)
			fail_msg("%s", err.msg);
}

static void
test_replay(void **state)
{
	const struct sp_replay_job *job;
	struct sp_replay replay = {0};
	struct sample log = {.count = 0};
	struct sp_err err;
	size_t i;

	(void)state;
	for (i = 0; i < 5; i++)
		add(&log, &story[i]);
	replay_all(&log, &replay);
	job = sp_replay_find(&replay, JOB);
	assert_non_null(job);
	assert_int_equal(job->state, SP_JOB_FETCHING);
	assert_int_equal(job->resume, SP_JOB_SUBMITTED);
	assert_int_equal(job->attempt, 2);
	assert_string_equal(job->lease, LEASE2);
	assert_string_equal(job->worker, "fetcherd2@bastion");
	assert_int_equal(job->first_seq, 1);
	assert_int_equal(job->last_seq, 4);
	/* the one whose lease was lost cannot bring a result */
	log.count = 5;
	add(&log,
	    &(struct script){&fetcherd, "done", "FETCHING", "FETCHED", "fetch", LEASE1, NULL});
	assert_int_equal(
	    sp_replay_entry(&replay, log.bytes[5].data, log.bytes[5].len, &err), SP_E_INVALID);
	free(log.owned[--log.count]);
	add(&log,
	    &(struct script){&fetcherd, "done", "FETCHING", "FETCHED", "fetch", LEASE2, NULL});
	assert_int_equal(
	    sp_replay_entry(&replay, log.bytes[5].data, log.bytes[5].len, &err), SP_E_INVALID);
	assert_non_null(strstr(err.msg, "holder"));
	free(log.owned[--log.count]);
	add(&log, &story[5]);
	assert_int_equal(
	    sp_replay_entry(&replay, log.bytes[5].data, log.bytes[5].len, &err), SP_OK);
	assert_int_equal(sp_replay_find(&replay, JOB)->state, SP_JOB_FETCHED);
	assert_int_equal(sp_replay_find(&replay, JOB)->attempt, 1);
	for (i = 0; i < sizeof(bad_ends) / sizeof(bad_ends[0]); i++) {
		add(&log, &bad_ends[i]);
		if (sp_replay_entry(&replay, log.bytes[STORY].data, log.bytes[STORY].len, &err) ==
		    SP_OK)
			fail_msg("bad end %zu was accepted", i);
		assert_int_equal(replay.size, STORY);
		free(log.owned[--log.count]);
	}
	assert_null(sp_replay_find(&replay, "ffffffffffffffffffffffffffffffff"));
	sp_replay_free(&replay);
	drop(&log);
}

/* Thousands of jobs: the index by id holds. */
static void
test_replay_many(void **state)
{
	struct sp_replay replay = {0};
	struct sp_entry *entry;
	char id[33];
	uint8_t *data;
	size_t len;
	int i;

	(void)state;
	for (i = 0; i < 3000; i++) {
		entry = sp_entry_new(&anna, "submit");
		snprintf(id, sizeof(id), "%032x", i * 7919);
		sp_entry_job(entry, id, "", "SUBMITTED");
		sp_entry_detail(entry, "recipe", "file");
		data = sp_entry_pack(entry, (uint64_t)i, ORIGIN, 0, 0, &len);
		assert_int_equal(sp_replay_entry(&replay, data, len, NULL), SP_OK);
		free(data);
		sp_entry_free(&entry);
	}
	for (i = 0; i < 3000; i++) {
		snprintf(id, sizeof(id), "%032x", i * 7919);
		assert_non_null(sp_replay_find(&replay, id));
		assert_int_equal(sp_replay_find(&replay, id)->first_seq, i);
	}
	sp_replay_free(&replay);
}

static void
test_entry_fits(void **state)
{
	struct sp_entry *entry = sp_entry_new(&anna, "submit");
	Sallyport__Entry *parsed;
	char big[5000], key[200];
	uint8_t *data;
	size_t len, i;

	(void)state;
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	memset(key, 'k', sizeof(key) - 1);
	key[sizeof(key) - 1] = '\0';
	sp_entry_job(entry, JOB, "", "SUBMITTED");
	sp_entry_reason(entry, big);
	for (i = 0; i < 300; i++)
		sp_entry_detail(entry, key, big + (i % 2 == 0 ? 0 : sizeof(big) - 1025));
	for (i = 0; i < 64; i++)
		sp_entry_subject(entry, "candidate-candidate-candidate-x", roots[i % 9],
		    "store-store-store-store-store-x", 1, UINT64_MAX);
	data = sp_entry_pack(entry, UINT64_MAX, ORIGIN, 0, INT64_MAX, &len);
	assert_in_range(len, 30000, SP_ENTRY_MAX);
	assert_int_equal(sp_entry_parse(data, len, &parsed, NULL), SP_OK);
	assert_int_equal(parsed->n_details, SP_ENTRY_DETAILS_MAX);
	assert_int_equal(strncmp(parsed->details[0]->value, "sha256:", 7), 0);
	assert_string_equal(parsed->details[1]->value, big + sizeof(big) - 1025);
	sallyport__entry__free_unpacked(parsed, NULL);
	/* every cut of it is refused, not read beyond */
	for (i = 0; i < len; i += 97)
		assert_int_not_equal(sp_entry_parse(data, i, &parsed, NULL), SP_OK);
	free(data);
	sp_entry_free(&entry);
}

static char *
checkpoint_of(
    const struct sample *log, uint64_t size, const char *origin, const uint8_t sk[64], size_t *len)
{
	struct sp_checkpoint c = {.size = size};
	uint8_t leaf[SP_DIGEST_LEN], secret[64];
	struct sp_merkle tree = {0};
	char *text, *note;
	uint64_t i;

	for (i = 0; i < size; i++) {
		sp_merkle_leaf(log->bytes[i].data, log->bytes[i].len, leaf);
		sp_merkle_append(&tree, leaf);
	}
	sp_merkle_root(&tree, c.root);
	snprintf(c.origin, sizeof(c.origin), "%s", origin);
	text = sp_checkpoint_format(&c);
	memcpy(secret, sk, sizeof(secret));
	note = sp_note_sign(text, origin, sk + 32, sign_with, secret, len);
	free(text);
	return note;
}

static enum sp_code
verify(const struct sample *log, uint64_t count, const char *note, size_t len, const char *vkey,
    struct sp_log_report *report)
{
	return sp_log_verify(
	    log->bytes, count, (const uint8_t *)note, len, vkey, report, NULL, NULL);
}

static void
test_log_verify(void **state)
{
	struct sample log = {.count = 0};
	struct sp_log_report report;
	uint8_t pk[32], sk[64], pk2[32], sk2[64], *byte;
	char *note, *vkey, *other_key, *elsewhere;
	size_t i, j, len;

	(void)state;
	crypto_sign_keypair(pk, sk);
	crypto_sign_keypair(pk2, sk2);
	vkey = sp_note_vkey(ORIGIN, pk);
	other_key = sp_note_vkey(ORIGIN, pk2);
	elsewhere = sp_note_vkey("sallyport/bastion/other", pk);
	for (i = 0; i < STORY; i++)
		add(&log, &story[i]);
	note = checkpoint_of(&log, STORY, ORIGIN, sk, &len);
	assert_int_equal(verify(&log, STORY, note, len, vkey, &report), SP_OK);
	assert_string_equal(report.origin, ORIGIN);
	assert_int_equal(report.size, STORY);
	assert_int_equal(report.entries, STORY);
	assert_int_equal(report.uncovered, 0);
	assert_int_equal(report.jobs, 1);
	assert_int_equal(verify(&log, STORY, note, len, other_key, &report), SP_E_DENIED);
	assert_int_equal(verify(&log, STORY, note, len, elsewhere, &report), SP_E_DENIED);
	assert_int_equal(verify(&log, STORY - 1, note, len, vkey, &report), SP_E_INCOMPLETE);
	/* any byte of any entry */
	for (i = 0; i < STORY; i++) {
		for (j = 0; j < log.bytes[i].len; j += 7) {
			byte = &log.owned[i][j];
			*byte ^= 1;
			assert_int_equal(
			    verify(&log, STORY, note, len, vkey, &report), SP_E_CORRUPT);
			*byte ^= 1;
		}
	}
	free(note);
	/* entries beyond the checkpoint are looked at, and reported as not yet signed for */
	note = checkpoint_of(&log, 3, ORIGIN, sk, &len);
	assert_int_equal(verify(&log, STORY, note, len, vkey, &report), SP_OK);
	assert_int_equal(report.uncovered, STORY - 3);
	free(note);
	/* a log whose owner signed nonsense: the root is right, the story is not */
	add(&log, &bad_ends[0]);
	note = checkpoint_of(&log, STORY + 1, ORIGIN, sk, &len);
	assert_int_equal(verify(&log, STORY + 1, note, len, vkey, &report), SP_E_INVALID);
	assert_int_equal(report.entries, STORY);
	free(note);
	free(vkey);
	free(other_key);
	free(elsewhere);
	drop(&log);
}

/* --- tiles ---------------------------------------------------------------------------------------
 */

static void
test_tiles_paths(void **state)
{
	char path[SP_TILES_PATH_MAX];

	(void)state;
	sp_tiles_path(0, 1234067, 256, path);
	assert_string_equal(path, "tile/0/x001/x234/067");
	sp_tiles_path(SP_TILES_ENTRIES, 0, 5, path);
	assert_string_equal(path, "tile/entries/000.p/5");
	sp_tiles_path(2, 1000, 1, path);
	assert_string_equal(path, "tile/2/x001/000.p/1");
	sp_tiles_path(63, UINT64_MAX, 255, path);
	assert_string_equal(path, "tile/63/x018/x446/x744/x073/x709/x551/615.p/255");
	/* the specification's example: 70,000 entries */
	assert_int_equal(sp_tiles_width(0, 272, 70000), 256);
	assert_int_equal(sp_tiles_width(0, 273, 70000), 112);
	assert_int_equal(sp_tiles_width(0, 274, 70000), 0);
	assert_int_equal(sp_tiles_width(1, 0, 70000), 256);
	assert_int_equal(sp_tiles_width(1, 1, 70000), 17);
	assert_int_equal(sp_tiles_width(2, 0, 70000), 1);
	assert_int_equal(sp_tiles_width(3, 0, 70000), 0);
	assert_int_equal(sp_tiles_width(0, 0, 256), 256);
	assert_int_equal(sp_tiles_width(0, 1, 256), 0);
	assert_int_equal(sp_tiles_width(1, 0, 256), 1);
	assert_int_equal(sp_tiles_width(SP_TILES_ENTRIES, 0, 0), 0);
}

static void
flip(const char *dir, const char *name, size_t at)
{
	char *path = sp_xasprintf("%s/%s", dir, name);
	uint8_t *data;
	size_t len;

	assert_int_equal(sp_file_read(path, 1 << 20, &data, &len, NULL), SP_OK);
	data[at] ^= 1;
	assert_int_equal(sp_file_write(path, 0644, data, len, NULL), SP_OK);
	free(data);
	free(path);
}

static void
test_tiles_roundtrip(void **state)
{
	static const struct script admission = {
	    &ledgerd, "admission", NULL, NULL, NULL, NULL, NULL};
	char dir[] = "/tmp/sp-tiles-XXXXXX", *note, *vkey;
	struct sample *log = sp_xcalloc(1, sizeof(*log));
	struct sp_tiles_log in;
	uint8_t pk[32], sk[64];
	struct sp_err err;
	size_t i, len;

	(void)state;
	assert_non_null(mkdtemp(dir));
	crypto_sign_keypair(pk, sk);
	vkey = sp_note_vkey(ORIGIN, pk);
	for (i = 0; i < STORY; i++)
		add(log, &story[i]);
	while (log->count < 600)
		add(log, &admission);
	note = checkpoint_of(log, 598, ORIGIN, sk, &len);
	assert_int_equal(
	    sp_tiles_export(dir, log->bytes, 500, (uint8_t *)note, len, NULL), SP_E_INCOMPLETE);
	assert_int_equal(sp_tiles_export(dir, log->bytes, 600, (uint8_t *)note, len, &err), SP_OK);
	assert_int_equal(sp_tiles_import(dir, &in, &err), SP_OK);
	assert_int_equal(in.count, 598);
	assert_int_equal(sp_log_verify(in.entries, in.count, in.checkpoint, in.checkpoint_len, vkey,
			     NULL, NULL, &err),
	    SP_OK);
	for (i = 0; i < 598; i++)
		assert_memory_equal(in.entries[i].data, log->bytes[i].data, log->bytes[i].len);
	sp_tiles_clear(&in);
	flip(dir, "tile/1/000.p/2", 40);
	assert_int_equal(sp_tiles_import(dir, &in, &err), SP_E_CORRUPT);
	assert_non_null(strstr(err.msg, "tile/1/000.p/2"));
	flip(dir, "tile/1/000.p/2", 40);
	flip(dir, "tile/entries/001", 0);
	assert_int_equal(sp_tiles_import(dir, &in, &err), SP_E_CORRUPT);
	flip(dir, "tile/entries/001", 0);
	flip(dir, "tile/entries/002.p/86", 50);
	assert_int_equal(sp_tiles_import(dir, &in, &err), SP_E_CORRUPT);
	assert_int_equal(sp_file_remove_all(dir, NULL), SP_OK);
	assert_int_equal(sp_tiles_import(dir, &in, &err), SP_E_NOT_FOUND);
	free(note);
	free(vkey);
	drop(log);
	free(log);
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
	    cmocka_unit_test(test_jobs_every_state_and_event),
	    cmocka_unit_test(test_jobs_names),
	    cmocka_unit_test(test_jobs_failures),
	    cmocka_unit_test(test_replay),
	    cmocka_unit_test(test_replay_many),
	    cmocka_unit_test(test_entry_fits),
	    cmocka_unit_test(test_log_verify),
	    cmocka_unit_test(test_tiles_paths),
	    cmocka_unit_test(test_tiles_roundtrip),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
