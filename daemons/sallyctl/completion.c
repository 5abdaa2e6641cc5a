/*
 * completion.c -- completion for bash, made from the table of commands.
 *
 * The script holds what the table says (commands, options, placeholders as kinds, roles, states)
 * and asks sallyctl itself for jobs and models. What comes back from there is cut down to harmless
 * characters before `compgen -W`, which expands the words it is given, sees it.
 */
#include "completion.h"
#include "ctl.h"
#include "ledger/jobs.h"

#include <stdlib.h>
#include <string.h>

static const struct {
	const char *placeholder, *kind;
} kinds[] = {
    {"ID", "job"},
    {"DIR", "dir"},
    {"OUT", "dir"},
    {"METHOD", "method"},
    {"WORD", "fallback"},
    {"FILE", "file"},
    {"PUBFILE", "file"},
    {"ENVELOPE", "file"},
    {"F", "file"},
    {"ROLE", "role"},
    {"ROLE=K", "threshold"},
    {"STATE", "state"},
    {"L", "layout"},
    {"P", "profile"},
    {"SOURCE", "source"},
    {"NAME[@V]", "model"},
    {"NAME@V", "model"},
    {"SERVICE:UID:PUBFILE", "none"},
    {"SHELL", "shell"},
    {"NAME", "none"},
    {"N", "none"},
    {"DAYS", "none"},
    {"SEQ", "none"},
    {"TIME", "none"},
    {"HEX", "none"},
    {"TEXT", "none"},
    {"CODE", "none"},
};

const char *
ctl_completion_kind(const char *placeholder)
{
	size_t i, len = strlen(placeholder);

	/* "[ID]": it may be left out */
	if (len > 2 && placeholder[0] == '[' && placeholder[len - 1] == ']') {
		placeholder++;
		len -= 2;
	}
	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strlen(kinds[i].placeholder) == len &&
		    memcmp(kinds[i].placeholder, placeholder, len) == 0)
			return kinds[i].kind;
	return NULL;
}

static const char *
kind_of(const char *placeholder)
{
	const char *kind = ctl_completion_kind(placeholder);

	return kind != NULL ? kind : "none";
}

/* --- the table as shell --------------------------------------------------------------------- */

static void
put_options(struct sp_buf *out, const struct ctl_option *option)
{
	const char *space = "";

	for (; option->name != NULL; option++) {
		sp_buf_printf(out, "%s%s%s%s", space, option->name,
		    option->value != NULL ? "=" : "",
		    option->value != NULL ? kind_of(option->value) : "");
		space = " ";
	}
}

static void
put_words(struct sp_buf *out, const char *words)
{
	char *copy = sp_xstrdup(words), *rest = copy, *word;
	const char *space = "";

	while ((word = strsep(&rest, " ")) != NULL)
		if (word[0] != '\0') {
			sp_buf_printf(out, "%s%s", space, kind_of(word));
			space = " ";
		}
	free(copy);
}

/* One line a command: name, then its options, then its arguments, with | between. */
static void
put_table(struct sp_buf *out, const struct ctl_command *commands)
{
	sp_buf_puts(out, "_sallyctl_commands='");
	for (; commands->name != NULL; commands++) {
		sp_buf_printf(out, "%s|", commands->name);
		put_options(out, commands->options);
		sp_buf_puts(out, "|");
		put_words(out, commands->words);
		sp_buf_puts(out, "\n");
	}
	sp_buf_puts(out, "'\n");
}

static void
put_names(struct sp_buf *out)
{
	enum sp_job_state state;
	enum sp_role role;

	sp_buf_puts(out, "_sallyctl_globals='");
	put_options(out, ctl_globals);
	sp_buf_puts(out, "'\n_sallyctl_roles='");
	for (role = 0; role < SP_ROLE_COUNT; role++)
		sp_buf_printf(out, "%s%s", role > 0 ? " " : "", sp_role_word(role));
	sp_buf_puts(out, "'\n_sallyctl_states='");
	for (state = SP_JOB_NONE + 1; state < SP_JOB_STATE_COUNT; state++)
		sp_buf_printf(
		    out, "%s%s", state > SP_JOB_NONE + 1 ? " " : "", sp_jobs_state_name(state));
	sp_buf_puts(out, "'\n");
}

/* --- the rest of the script ----------------------------------------------------------------- */

static const char head[] =
    "# bash completion for sallyctl, made from its table of commands: sallyctl completion bash\n";

static const char body[] =
    "# _sallyctl_ask WHAT…: quietly, and not for long\n"
    "_sallyctl_ask() { timeout 2 \"${_sallyctl_call[@]}\" \"$@\" --json 2>/dev/null </dev/null; }\n"
    "\n"
    "_sallyctl_jobs() { _sallyctl_ask jobs \"$@\" | grep -o '\"job\":\"[0-9a-f]*\"' | cut -d '\"' "
    "-f 4; }\n"
    "\n"
    "# _sallyctl_offer KIND CURRENT\n"
    "_sallyctl_offer() {\n"
    "	local list=\n"
    "	case $1 in\n"
    "	job)\n"
    "		list=$(_sallyctl_jobs)\n"
    "		# those that have ended only when none of the others is meant\n"
    "		if [ -z \"$(compgen -W \"$list\" -- \"$2\")\" ]; then list=$(_sallyctl_jobs "
    "--all); fi "
    ";;\n"
    "	model) list=$(_sallyctl_ask models | grep -o '\"name\":\"[A-Za-z0-9._/-]*\"' |\n"
    "		cut -d '\"' -f 4) ;;\n"
    "	role) list=$_sallyctl_roles ;;\n"
    "	threshold) list=${_sallyctl_roles// /= }= ;;\n"
    "	method) list='awq awq+' ;;\n"
    "	fallback) list='leave refuse smaller' ;;\n"
    "	state) list=$_sallyctl_states ;;\n"
    "	layout) list='plain hf' ;;\n"
    "	shell) list=bash ;;\n"
    "	source) list='hf: hf-dataset:' ;;\n"
    "	profile) list=$(cd \"$_sallyctl_root/etc/sallyport/profiles.d\" 2>/dev/null &&\n"
    "		printf '%s\\n' *.conf | grep -x '[A-Za-z0-9._-]*' | sed 's/\\.conf$//') ;;\n"
    "	file | dir)\n"
    "		compopt -o filenames 2>/dev/null\n"
    "		mapfile -t COMPREPLY < <(compgen -\"${1:0:1}\" -- \"$2\")\n"
    "		return ;;\n"
    "	none) return ;;\n"
    "	esac\n"
    "	case $1 in source | threshold) compopt -o nospace 2>/dev/null ;; esac\n"
    "	mapfile -t COMPREPLY < <(compgen -W \"$list\" -- \"$2\")\n"
    "}\n"
    "\n"
    "# _sallyctl_value OPTION LIST: the kind of its value, nothing when it takes none\n"
    "_sallyctl_value() {\n"
    "	local o\n"
    "	for o in $2; do\n"
    "		if [ \"${o%%=*}\" = \"$1\" ] && [[ $o == *=* ]]; then echo \"${o#*=}\"; fi\n"
    "	done\n"
    "}\n"
    "\n"
    "_sallyctl() {\n"
    "	local IFS=$' \\t\\n' all line name options arguments cur kind\n"
    "	local given=() words=() i word skip= own= expects= rest=\n"
    "	_sallyctl_call=(\"$1\") _sallyctl_root=${SALLYPORT_ROOT-} COMPREPLY=()\n"
    "	cur=${COMP_WORDS[COMP_CWORD]}\n"
    "	all=$_sallyctl_globals\n"
    "	while IFS='|' read -r name options arguments; do all+=\" $options\"; done \\\n"
    "		<<<\"$_sallyctl_commands\"\n"
    "	# bash cuts at = as at a space\n"
    "	for ((i = 1; i < COMP_CWORD; i++)); do given+=(\"${COMP_WORDS[i]}\"); done\n"
    "	if [ \"$cur\" = = ]; then given+=(=) cur=; fi\n"
    "	for ((i = 0; i < ${#given[@]}; i++)); do\n"
    "		word=${given[i]}\n"
    "		if [ -n \"$skip\" ]; then\n"
    "			if [ \"$word\" = = ]; then continue; fi\n"
    "			case $skip in\n"
    "			--root) _sallyctl_root=$word _sallyctl_call+=(--root \"$word\") ;;\n"
    "			-c) _sallyctl_call+=(-c \"$word\") ;;\n"
    "			esac\n"
    "			skip=\n"
    "		elif [[ $word == -* ]]; then\n"
    "			if [ -n \"$(_sallyctl_value \"$word\" \"$all\")\" ]; then skip=$word; fi\n"
    "		else\n"
    "			words+=(\"$word\")\n"
    "		fi\n"
    "	done\n"
    "	if [ -n \"$skip\" ]; then\n"
    "		kind=$(_sallyctl_value \"$skip\" \"$all\")\n"
    "		_sallyctl_offer \"${kind%%[[:space:]]*}\" \"$cur\"\n"
    "		return\n"
    "	fi\n"
    "	while IFS='|' read -r name options arguments; do\n"
    "		if [ -z \"$name\" ]; then continue; fi\n"
    "		if [ \"$name\" = \"${words[*]:0:1}\" ] || [ \"$name\" = \"${words[*]:0:2}\" ]; "
    "then\n"
    "			own=$options expects=$arguments\n"
    "			line=${words[*]:0:2}\n"
    "			if [ \"$name\" = \"$line\" ] && [[ $name == *' '* ]]; then i=2; else i=1; "
    "fi\n"
    "			words=(\"${words[@]:i}\")\n"
    "			rest=known\n"
    "			break\n"
    "		fi\n"
    "	done <<<\"$_sallyctl_commands\"\n"
    "	if [[ $cur == -* ]]; then\n"
    "		line=\n"
    "		for word in $own $_sallyctl_globals; do line+=\" ${word%%=*}\"; done\n"
    "		mapfile -t COMPREPLY < <(compgen -W \"$line\" -- \"$cur\")\n"
    "	elif [ -n \"$rest\" ]; then\n"
    "		read -r -a given <<<\"$expects\"\n"
    "		i=${#words[@]}\n"
    "		_sallyctl_offer \"${given[i]:-none}\" \"$cur\"\n"
    "	else\n"
    "		line=\n"
    "		while IFS='|' read -r name options arguments; do\n"
    "			if [ ${#words[@]} = 0 ]; then\n"
    "				line+=\" ${name%% *}\"\n"
    "			elif [ ${#words[@]} = 1 ] && [[ $name == \"${words[0]} \"* ]]; then\n"
    "				line+=\" ${name#* }\"\n"
    "			fi\n"
    "		done <<<\"$_sallyctl_commands\"\n"
    "		mapfile -t COMPREPLY < <(compgen -W \"$line\" -- \"$cur\" | sort -u)\n"
    "	fi\n"
    "}\n"
    "complete -F _sallyctl sallyctl\n";

void
ctl_completion_bash(const struct ctl_command *commands, struct sp_buf *out)
{
	sp_buf_puts(out, head);
	put_table(out, commands);
	put_names(out);
	sp_buf_puts(out, body);
}

enum sp_code
ctl_completion(struct ctl *ctl, const struct ctl_args *args, struct sp_err *err)
{
	struct sp_buf script = {0};

	if (strcmp(args->words[0], "bash") != 0)
		return ctl_usage(
		    ctl, err, "there is completion for bash, not for \"%.40s\"", args->words[0]);
	ctl_completion_bash(ctl_commands, &script);
	if (ctl->json)
		ctl_out_json(
		    json_pack("{s:s, s:s}", "shell", "bash", "script", (const char *)script.data));
	else
		fwrite(script.data, 1, script.len, stdout);
	sp_buf_free(&script);
	return SP_OK;
}
