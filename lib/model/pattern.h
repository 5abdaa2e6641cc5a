/* pattern.h -- the split patterns of tokenizer.json. */
#ifndef SP_PATTERN_H
#define SP_PATTERN_H

#include "base/err.h"

struct sp_pattern;
struct sp_pattern_work;

/*
 * tokenizers reads patterns with Oniguruma (its Ruby syntax, Unicode), we with PCRE2. What both
 * read alike is accepted; the rest is SP_E_UNSUPPORTED and names the place. A compiled pattern is
 * read-only, threads may share it; work belongs to one thread.
 */
enum sp_code
sp_pattern_compile(const char *text, struct sp_pattern **out, struct sp_err *err) SP_MUST_USE;
/* As above, for a text that stands for itself. */
enum sp_code
sp_pattern_compile_text(const char *text, struct sp_pattern **out, struct sp_err *err) SP_MUST_USE;
/* A character that Rust's regex crate takes for part of a word (its \w; Unicode TR 18, annex C). */
enum sp_code sp_pattern_compile_word(struct sp_pattern **out, struct sp_err *err) SP_MUST_USE;
void sp_pattern_free(struct sp_pattern **pattern);

enum sp_code sp_pattern_work_new(struct sp_pattern_work **out, struct sp_err *err) SP_MUST_USE;
void sp_pattern_work_free(struct sp_pattern_work **work);

/* First match in text[len] (valid UTF-8) at or after from (the first byte of a character, or len).
 * *start == *end == len + 1 when there is none. SP_E_LIMIT when the search takes more steps than
 * the rest of the text explains. */
enum sp_code
sp_pattern_find(const struct sp_pattern *pattern, struct sp_pattern_work *work, const char *text,
    size_t len, size_t from, size_t *start, size_t *end, struct sp_err *err) SP_MUST_USE;

#endif
