/* statement.c -- in-toto statements, and what the chain asks of them. */
#include "release/statement.h"
#include "fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct sp_statement statement;
	struct sp_err err;
	size_t again_len;
	char *again;

	if (sp_statement_parse(data, len, &statement, &err) != SP_OK)
		return 0;
	SP_ASSERT(sp_hex_is_digest(statement.subject_tree));
	SP_ASSERT(statement.subject_name != NULL && statement.predicate != NULL);
	sp_statement_uses_tree(&statement, statement.subject_tree);
	sp_statement_build_type(&statement);
	sp_statement_result(&statement);
	sp_statement_builder(&statement);
	sp_statement_job(&statement);
	sp_statement_time(&statement);
	again = sp_json_canonical(statement.root, &again_len);
	SP_ASSERT(again_len == len && memcmp(again, data, len) == 0);
	free(again);
	sp_statement_clear(&statement);
	return 0;
}
