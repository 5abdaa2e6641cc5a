/* verdict.c -- what the tests' side of a sandbox prints. */
#include "eval/verdict.h"

#include <stdio.h>
#include <string.h>

const char *
sp_verdict_word(enum sp_verdict_outcome outcome)
{
	static const char *const words[] = {
#define X(id, word) word,
	    SP_VERDICT_OUTCOMES(X)
#undef X
	};

	SP_ASSERT((size_t)outcome < SP_VERDICT_OUTCOME_COUNT);
	return words[outcome];
}

int
sp_verdict_find(const char *word, enum sp_verdict_outcome *out)
{
	int i;

	for (i = 0; i < SP_VERDICT_OUTCOME_COUNT; i++)
		if (strcmp(word, sp_verdict_word((enum sp_verdict_outcome)i)) == 0) {
			*out = (enum sp_verdict_outcome)i;
			return 1;
		}
	return 0;
}

void
sp_verdict_init(struct sp_verdict *verdict, const char *nonce)
{
	memset(verdict, 0, sizeof(*verdict));
	SP_ASSERT(strlen(nonce) == SP_VERDICT_NONCE_LEN);
	memcpy(verdict->nonce, nonce, SP_VERDICT_NONCE_LEN);
}

static void
decide(struct sp_verdict *verdict, enum sp_verdict_outcome outcome, const char *detail)
{
	verdict->decided = 1;
	verdict->outcome = outcome;
	snprintf(verdict->detail, sizeof(verdict->detail), "%s", detail);
}

static void
take_line(struct sp_verdict *verdict)
{
	const char *line = verdict->line;

	if (strcmp(line, "ready") == 0 && !verdict->ready)
		verdict->ready = 1;
	else if (strncmp(line, "broken ", 7) == 0) {
		verdict->broken = 1;
		decide(verdict, SP_VERDICT_UNKNOWN, line + 7);
	} else if (!verdict->ready)
		// NOLINTNEXTLINE(bugprone-branch-clone): the order of the questions decides
		decide(verdict, SP_VERDICT_DIED, "protocol");
	else if (strncmp(line, "nonce ", 6) == 0 && strcmp(line + 6, verdict->nonce) == 0)
		decide(verdict, SP_VERDICT_PASSED, "");
	else if (strncmp(line, "wrong ", 6) == 0)
		decide(verdict, SP_VERDICT_WRONG, line + 6);
	else if (strncmp(line, "died ", 5) == 0)
		decide(verdict, SP_VERDICT_DIED, line + 5);
	else
		decide(verdict, SP_VERDICT_DIED, "protocol");
}

void
sp_verdict_feed(struct sp_verdict *verdict, const uint8_t *data, size_t len)
{
	size_t i;

	for (i = 0; i < len && !verdict->decided; i++) {
		if (data[i] == '\n') {
			verdict->line[verdict->len] = '\0';
			verdict->len = 0;
			take_line(verdict);
		} else if (data[i] < 0x20 || data[i] > 0x7e ||
			   verdict->len == sizeof(verdict->line) - 1)
			decide(verdict, SP_VERDICT_DIED, "protocol");
		else
			verdict->line[verdict->len++] = (char)data[i];
	}
}

void
sp_verdict_end(struct sp_verdict *verdict)
{
	if (!verdict->decided)
		decide(verdict, SP_VERDICT_DIED, "no verdict");
}
