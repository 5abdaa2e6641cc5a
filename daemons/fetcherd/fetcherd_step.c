/* fetcherd_step.c -- sources, the journal, the statement: no file, socket or clock. */
#include "base/buf.h"
#include "base/version.h"
#include "fetcherd.h"

#include <stdlib.h>
#include <string.h>

enum sp_code
fetcherd_source(const char *text, struct sp_source *out, struct sp_err *err)
{
	enum sp_code code = sp_source_parse(text, out, err);

	if (code == SP_OK && out->scheme != SP_SOURCE_HF && out->scheme != SP_SOURCE_HF_DATASET)
		code = sp_err_set(err, SP_E_UNSUPPORTED,
		    "source \"%.200s\": only hf: and hf-dataset: are fetched so far", text);
	return code;
}

struct sp_hex
fetcherd_work_key(const struct sp_source *source, const char *commit)
{
	struct sp_buf buf = {0};
	struct sp_hex key;

	sp_buf_printf(&buf, "fetch %s:%s@%s", sp_source_word(source->scheme), source->repo, commit);
	key = sp_sha256_hex(buf.data, buf.len);
	sp_buf_free(&buf);
	return key;
}

/* --- journal ------------------------------------------------------------------------------------
 */

#define OID_LEN 40
#define LINE_LEN (OID_LEN + 1 + SP_HEX_LEN) /* without '\n' */

static int
parse_line(const uint8_t *line, size_t len, struct fetcherd_known *out)
{
	if (len != LINE_LEN || line[OID_LEN] != ' ')
		return 0;
	memcpy(out->oid.s, line, OID_LEN);
	out->oid.s[OID_LEN] = '\0';
	memcpy(out->sha256.s, line + OID_LEN + 1, SP_HEX_LEN);
	out->sha256.s[SP_HEX_LEN] = '\0';
	return sp_source_is_commit(out->oid.s) && sp_hex_is_digest(out->sha256.s);
}

static int
by_oid(const void *a, const void *b)
{
	return strcmp(
	    ((const struct fetcherd_known *)a)->oid.s, ((const struct fetcherd_known *)b)->oid.s);
}

void
fetcherd_journal_parse(const uint8_t *data, size_t len, struct fetcherd_journal *out)
{
	const uint8_t *p = data, *end = data + len, *eol;
	struct fetcherd_known known;

	memset(out, 0, sizeof(*out));
	for (; p < end && (eol = memchr(p, '\n', (size_t)(end - p))) != NULL; p = eol + 1) {
		if (!parse_line(p, (size_t)(eol - p), &known))
			continue;
		/* lines have one length, so the text's length bounds their number */
		if (out->known == NULL)
			out->known = sp_xcalloc(len / LINE_LEN + 1, sizeof(known));
		out->known[out->count++] = known;
	}
	if (out->count > 0)
		qsort(out->known, out->count, sizeof(known), by_oid);
}

const char *
fetcherd_journal_find(const struct fetcherd_journal *journal, const struct sp_git_oid *oid)
{
	struct fetcherd_known key = {.oid = *oid}, *found = NULL;

	if (journal->count > 0)
		found = bsearch(&key, journal->known, journal->count, sizeof(key), by_oid);
	return found != NULL ? found->sha256.s : NULL;
}

void
fetcherd_journal_clear(struct fetcherd_journal *journal)
{
	free(journal->known);
	memset(journal, 0, sizeof(*journal));
}

/* --- statement ----------------------------------------------------------------------------------
 */

char *
fetcherd_statement(const struct fetcherd_facts *facts, size_t *len)
{
	const char *repo = facts->source->repo;
	char *uri = sp_xasprintf("%s:%s", sp_source_word(facts->source->scheme), repo);
	char *text = NULL;
	struct sp_material material = {
	    .uri = uri, .name = repo, .sha256 = "", .git_commit = facts->commit};
	struct sp_provenance provenance = {.subject_name = repo,
	    .subject_tree = facts->tree,
	    .build_type = SP_BUILD_FETCH,
	    .materials = &material,
	    .material_count = 1,
	    .builder = facts->builder,
	    .version = SP_VERSION,
	    .invocation = facts->job,
	    .started = facts->started,
	    .finished = facts->finished};

	provenance.external = json_pack("{s:o, s:s, s:s}", "fetch",
	    fetcherd_policy_json(facts->policy), "profile", facts->profile, "source", facts->text);
	provenance.internal = json_pack("{s:s, s:s, s:s}", "endpoint", facts->endpoint, "licence",
	    facts->licence, "gated", facts->gated);
	if (provenance.external != NULL && provenance.internal != NULL)
		text = sp_statement_provenance(&provenance, len);
	json_decref(provenance.external);
	json_decref(provenance.internal);
	free(uri);
	return text;
}
