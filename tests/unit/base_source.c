/* base_source.c -- sources as operators write them. */
#include "base/source.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#define C40 "0123456789abcdef0123456789abcdef01234567"
#define DIGEST "2222222222222222222222222222222222222222222222222222222222222222"

static struct sp_err err;

static void
test_good(void **state)
{
	static const struct {
		const char *text;
		enum sp_source_scheme scheme;
		const char *repo, *revision;
	} good[] = {
	    {"hf:org/Model-1.5_b", SP_SOURCE_HF, "org/Model-1.5_b", "main"},
	    {"hf:org/name@v1.0+cu12", SP_SOURCE_HF, "org/name", "v1.0+cu12"},
	    {"hf:gpt2", SP_SOURCE_HF, "gpt2", "main"},
	    {"hf:gpt2@refs/pr/1", SP_SOURCE_HF, "gpt2", "refs/pr/1"},
	    {"hf:gpt2@" C40, SP_SOURCE_HF, "gpt2", C40},
	    {"hf:a/b@feature/x#2", SP_SOURCE_HF, "a/b", "feature/x#2"},
	    {"hf-dataset:cais/mmlu@abc123", SP_SOURCE_HF_DATASET, "cais/mmlu", "abc123"},
	    {"hf-dataset:squad", SP_SOURCE_HF_DATASET, "squad", "main"},
	    {"github:owner/repo@v1.2.3", SP_SOURCE_GITHUB, "owner/repo", "v1.2.3"},
	    {"image:nginx", SP_SOURCE_IMAGE, "nginx", ""},
	    {"image:vllm/vllm-openai:v0.32.0", SP_SOURCE_IMAGE, "vllm/vllm-openai", ""},
	    {"image:registry.k8s.io/pause:3.9", SP_SOURCE_IMAGE, "pause", ""},
	    {"image:localhost:5000/a/b@sha256:" DIGEST, SP_SOURCE_IMAGE, "a/b", ""},
	    {"image:ghcr.io/org/name:tag@sha256:" DIGEST, SP_SOURCE_IMAGE, "org/name", ""},
	};
	struct sp_source source;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		if (sp_source_parse(good[i].text, &source, &err) != SP_OK)
			fail_msg("%s: %s", good[i].text, err.msg);
		assert_int_equal(source.scheme, good[i].scheme);
		assert_string_equal(source.repo, good[i].repo);
		assert_string_equal(source.revision, good[i].revision);
		assert_memory_equal(
		    sp_source_word(source.scheme), good[i].text, strcspn(good[i].text, ":"));
	}
}

static void
test_bad(void **state)
{
	static const char *const bad[] = {"hf:", "hf:a/b/c", "hf:/a", "hf:a/", "hf:a b", "hf:../x",
	    "hf:a/b@", "hf:a/b@x y", "hf:a/b@x..y", "hf:a/b@/x", "hf:a/b@x/", "hf:a/b@x//y",
	    "hf:a/b@x~1", "hf:a/b@-x", "hf:a/b@x\ny", "hf:a/b@x\\y", "hf:a/b@x@{1}", "hf:-a/b",
	    "hf:a/b@\xc3\xa9", "hf-dataset:", "hf-dataset:a/b/c", "hf-dataset:a/b@",
	    "github:owner/repo", "github:owner/repo@", "image:", "image:a/b/c",
	    "image:a:", "image:a@sha256:00", "image:a@sha1:" DIGEST, "image:a$b"};
	static const char *const foreign[] = {"", "nonsense", "HF:org/name", "hf-datasets:a/b",
	    "hf", "file:///etc/passwd", "https://huggingface.co/a/b"};
	struct sp_source source;
	char text[SP_SOURCE_MAX + 2];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (sp_source_parse(bad[i], &source, &err) != SP_E_INVALID ||
		    strncmp(err.msg, "source: ", 8) != 0)
			fail_msg("%s: %s", bad[i], err.msg);
	for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++)
		if (sp_source_parse(foreign[i], &source, &err) != SP_E_UNSUPPORTED)
			fail_msg("taken: %s", foreign[i]);
	memset(text, 'a', sizeof(text));
	memcpy(text, "hf:", 3);
	text[sizeof(text) - 1] = '\0';
	assert_int_equal(sp_source_parse(text, &source, &err), SP_E_LIMIT); /* as a whole */
	text[700] = '\0';
	assert_int_equal(sp_source_parse(text, &source, &err), SP_E_LIMIT); /* the name */
	text[10] = '@';
	assert_int_equal(sp_source_parse(text, &source, &err), SP_E_LIMIT); /* the revision */
	memcpy(text, "image:", 6);
	text[10] = 'a';
	assert_int_equal(sp_source_parse(text, &source, &err), SP_E_LIMIT);
}

static void
test_commit(void **state)
{
	(void)state;
	assert_true(sp_source_is_commit(C40));
	assert_false(sp_source_is_commit(""));
	assert_false(sp_source_is_commit(C40 "0"));
	assert_false(sp_source_is_commit("0123456789ABCDEF0123456789abcdef01234567"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_good),
	    cmocka_unit_test(test_bad),
	    cmocka_unit_test(test_commit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
