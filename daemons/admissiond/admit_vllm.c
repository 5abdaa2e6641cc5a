/* admit_vllm.c -- the command line and environment of a container that runs vLLM. */
#include "admit.h"

#include <string.h>

#define ARGV_MAX 512

/* What an option does to the question which model is loaded. */
enum effect {
	FLAG,	   /* takes no value */
	VALUE,	   /* takes one value, loads nothing */
	MODEL,	   /* names the model */
	TOKENIZER, /* names a repository as well */
	REVISION,
	FORMAT, /* harmless for some values */
	DENIED	/* loads or runs something that no registration covers */
};

/* Options by their long name without "--". One that is not here is denied: it might load something.
 */
static const struct option {
	const char *name;
	enum effect effect;
} options[] = {
    {"model", MODEL},
    {"tokenizer", TOKENIZER},
    {"revision", REVISION},
    {"tokenizer-revision", REVISION},
    {"load-format", FORMAT},
    {"code-revision", DENIED},
    {"hf-config-path", DENIED},
    {"hf-overrides", DENIED},
    {"download-dir", DENIED},
    {"model-loader-extra-config", DENIED},
    {"lora-modules", DENIED},
    {"enable-lora", DENIED},
    {"prompt-adapters", DENIED},
    {"speculative-config", DENIED},
    {"speculative-model", DENIED},
    {"trust-remote-code", DENIED},
    {"config", DENIED},
    {"tool-parser-plugin", DENIED},
    {"reasoning-parser-plugin", DENIED},
    {"logits-processors", DENIED},
    {"middleware", DENIED},
    {"worker-cls", DENIED},
    {"worker-extension-cls", DENIED},
    {"kv-transfer-config", DENIED},
    {"host", VALUE},
    {"port", VALUE},
    {"uvicorn-log-level", VALUE},
    {"api-key", VALUE},
    {"served-model-name", VALUE},
    {"dtype", VALUE},
    {"quantization", VALUE},
    {"max-model-len", VALUE},
    {"max-num-seqs", VALUE},
    {"max-num-batched-tokens", VALUE},
    {"tensor-parallel-size", VALUE},
    {"pipeline-parallel-size", VALUE},
    {"data-parallel-size", VALUE},
    {"gpu-memory-utilization", VALUE},
    {"swap-space", VALUE},
    {"cpu-offload-gb", VALUE},
    {"kv-cache-dtype", VALUE},
    {"block-size", VALUE},
    {"seed", VALUE},
    {"tokenizer-mode", VALUE},
    {"tool-call-parser", VALUE},
    {"reasoning-parser", VALUE},
    {"max-logprobs", VALUE},
    {"distributed-executor-backend", VALUE},
    {"root-path", VALUE},
    {"chat-template-content-format", VALUE},
    {"enable-lora-bias", DENIED},
    {"max-seq-len-to-capture", VALUE},
    {"response-role", VALUE},
    {"ssl-keyfile", VALUE},
    {"ssl-certfile", VALUE},
    {"ssl-ca-certs", VALUE},
    {"stream-interval", VALUE},
    {"task", VALUE},
    {"runner", VALUE},
    {"enforce-eager", FLAG},
    {"no-enable-prefix-caching", FLAG},
    {"enable-request-id-headers", FLAG},
    {"enable-server-load-tracking", FLAG},
    {"enable-sleep-mode", FLAG},
    {"disable-sliding-window", FLAG},
    {"disable-cascade-attn", FLAG},
    {"disable-custom-all-reduce", FLAG},
    {"disable-uvicorn-access-log", FLAG},
    {"disable-fastapi-docs", FLAG},
    {"enable-prefix-caching", FLAG},
    {"enable-chunked-prefill", FLAG},
    {"enable-auto-tool-choice", FLAG},
    {"enable-expert-parallel", FLAG},
    {"disable-log-requests", FLAG},
    {"disable-log-stats", FLAG},
    {"disable-frontend-multiprocessing", FLAG},
};

#define OPTION_COUNT (sizeof(options) / sizeof(options[0]))

static const char *
text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text == NULL ? "" : text;
}

/* command and args in one; SP_E_DENIED when they are not lists of strings. */
static enum sp_code
read_argv(const json_t *container, const char *argv[ARGV_MAX], size_t *argc, struct sp_err *err)
{
	static const char *const keys[] = {"command", "args"};
	const json_t *item;
	size_t i;

	*argc = 0;
	for (size_t k = 0; k < 2; k++) {
		const json_t *list = json_object_get(container, keys[k]);

		if (list != NULL && !json_is_null(list) && !json_is_array(list))
			return sp_err_set(err, SP_E_DENIED, "%s is not a list", keys[k]);
		json_array_foreach(list, i, item)
		{
			if (!json_is_string(item) || *argc == ARGV_MAX)
				return sp_err_set(err, SP_E_DENIED,
				    "%s is not a list of at most %d strings", keys[k], ARGV_MAX);
			argv[(*argc)++] = json_string_value(item);
		}
	}
	return SP_OK;
}

int
admit_vllm_is(const json_t *container)
{
	static const char *const lists[] = {"command", "args"};
	const json_t *item;
	size_t i;

	if (strstr(text_of(container, "image"), "vllm") != NULL)
		return 1;
	for (size_t k = 0; k < 2; k++) {
		json_array_foreach(json_object_get(container, lists[k]), i, item)
		{
			const char *text = json_string_value(item);

			if (text != NULL && strstr(text, "vllm") != NULL)
				return 1;
		}
	}
	json_array_foreach(json_object_get(container, "env"), i, item)
	{
		if (strncmp(text_of(item, "name"), "VLLM_", 5) == 0)
			return 1;
	}
	return 0;
}

/* The option that name (without "--", '_' read as '-', up to a dot or '+') means, as argparse takes
 * it: an exact name first, else the beginning of one. Among several, the one that denies most. */
static const struct option *
find_option(const char *name)
{
	const struct option *found = NULL;
	size_t len = strlen(name);

	for (size_t i = 0; i < OPTION_COUNT; i++) {
		if (strcmp(options[i].name, name) == 0)
			return &options[i];
		if (strncmp(options[i].name, name, len) == 0 &&
		    (found == NULL || options[i].effect > found->effect))
			found = &options[i];
	}
	return found;
}

struct parse {
	const char *const *argv;
	size_t argc, at;
	struct admit_vllm *out;
};

static enum sp_code
set_once(const char **slot, const char *what, const char *value, struct sp_err *err)
{
	if (*slot != NULL && strcmp(*slot, value) != 0)
		return sp_err_set(err, SP_E_DENIED,
		    "%s is given twice, as %.200s and as %.200s: give it once", what, *slot, value);
	*slot = value;
	return SP_OK;
}

static enum sp_code
apply(struct parse *parse, const struct option *option, const char *value, struct sp_err *err)
{
	switch (option->effect) {
	case MODEL:
		return set_once(&parse->out->model, "the model", value, err);
	case TOKENIZER:
		return set_once(&parse->out->tokenizer, "--tokenizer", value, err);
	case REVISION:
		return set_once(&parse->out->revision, "the revision", value, err);
	case FORMAT:
		if (strcmp(value, "auto") == 0 || strcmp(value, "safetensors") == 0)
			return SP_OK;
		return sp_err_set(err, SP_E_DENIED,
		    "--load-format %.100s: only auto and safetensors load registered weights",
		    value);
	case FLAG:
	case VALUE:
	case DENIED:
		break;
	}
	return SP_OK;
}

/* One argument that begins with '-', and its value. */
static enum sp_code
parse_option(struct parse *parse, struct sp_err *err)
{
	const char *arg = parse->argv[parse->at++], *equals = strchr(arg, '='), *value = NULL;
	const struct option *option;
	char name[64];
	size_t len = 0;

	if (strncmp(arg, "--", 2) != 0 || arg[2] == '\0')
		return sp_err_set(err, SP_E_DENIED,
		    "argument %.100s: write options in their long form, --name=value", arg);
	for (const char *p = arg + 2; *p != '\0' && strchr("=.+", *p) == NULL; p++) {
		if (len == sizeof(name) - 1)
			return sp_err_set(err, SP_E_DENIED, "option %.100s is unknown", arg);
		name[len++] = *p == '_' ? '-' : *p;
	}
	name[len] = '\0';
	option = find_option(name);
	if (option != NULL && option->effect == DENIED)
		return sp_err_set(err, SP_E_DENIED,
		    "option %.100s: it can load what is not registered; leave it out", arg);
	if (option == NULL)
		return sp_err_set(err, SP_E_DENIED,
		    "option %.100s is not among those that are known to load nothing; leave it out",
		    arg);
	if (option->effect == FLAG)
		return SP_OK;
	if (equals != NULL)
		value = equals + 1;
	else if (parse->at < parse->argc && parse->argv[parse->at][0] != '-')
		value = parse->argv[parse->at++];
	if (value == NULL)
		return sp_err_set(err, SP_E_DENIED, "option %.100s has no value", arg);
	return apply(parse, option, value, err);
}

/* What comes before the options: the program. *at is where they begin. */
static enum sp_code
parse_program(const char *const *argv, size_t argc, size_t *at, struct sp_err *err)
{
	const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
	const char *program = argc == 0 ? "" : slash == NULL ? argv[0] : slash + 1;

	if (argc >= 2 && strcmp(program, "vllm") == 0 && strcmp(argv[1], "serve") == 0) {
		*at = 2;
		return SP_OK;
	}
	if (argc >= 3 && (strcmp(program, "python3") == 0 || strcmp(program, "python") == 0) &&
	    strcmp(argv[1], "-m") == 0 &&
	    strcmp(argv[2], "vllm.entrypoints.openai.api_server") == 0) {
		*at = 3;
		return SP_OK;
	}
	return sp_err_set(err, SP_E_DENIED,
	    "its command is %.100s: only [\"vllm\", \"serve\", MODEL, …] and [\"python3\", \"-m\", "
	    "\"vllm.entrypoints.openai.api_server\", \"--model\", MODEL, …] can be checked; shells "
	    "and "
	    "wrappers cannot",
	    argc == 0 ? "empty" : argv[0]);
}

enum sp_code
admit_vllm_read(const json_t *container, struct admit_vllm *out, struct sp_err *err)
{
	const char *argv[ARGV_MAX];
	struct parse parse = {.argv = argv, .out = out};
	enum sp_code code;

	memset(out, 0, sizeof(*out));
	if (json_array_size(json_object_get(container, "command")) == 0)
		return sp_err_set(err, SP_E_DENIED,
		    "it has no command, and what the image would start cannot be checked: write "
		    "command: [\"vllm\", \"serve\"]");
	if ((code = read_argv(container, argv, &parse.argc, err)) ||
	    (code = parse_program(argv, parse.argc, &parse.at, err)))
		return code;
	for (size_t i = 0; i < parse.argc; i++) {
		if (strstr(argv[i], "$(") != NULL)
			return sp_err_set(err, SP_E_DENIED,
			    "argument %.100s takes its value from the environment: write the value",
			    argv[i]);
	}
	if (parse.at == 2 && parse.at < parse.argc && argv[parse.at][0] != '-')
		out->model = argv[parse.at++];
	while (parse.at < parse.argc && code == SP_OK) {
		if (argv[parse.at][0] == '-')
			code = parse_option(&parse, err);
		else
			code = sp_err_set(err, SP_E_DENIED,
			    "argument %.100s belongs to no option: put the model right after "
			    "\"serve\", "
			    "and give options one value each",
			    argv[parse.at]);
	}
	if (code == SP_OK && out->model == NULL)
		code = sp_err_set(err, SP_E_DENIED,
		    "it names no model: vLLM would load its own default; write it after \"serve\"");
	return code;
}

/* Variables that make vLLM or Python load something else, whatever their value. */
static const char *const redirecting[] = {"VLLM_MODEL_REDIRECT_PATH", "VLLM_USE_MODELSCOPE",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "VLLM_PLUGINS", "VLLM_ADDITIONAL_ARGS", "S3_ENDPOINT_URL",
    "PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME", "LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT"};

static enum sp_code
check_variable(const char *name, struct sp_err *err)
{
	for (size_t i = 0; i < sizeof(redirecting) / sizeof(redirecting[0]); i++) {
		if (strcmp(name, redirecting[i]) == 0)
			return sp_err_set(err, SP_E_DENIED,
			    "variable %s can load what is not registered; leave it out", name);
	}
	return SP_OK;
}

static enum sp_code
require_one(const json_t *env, const char *name, struct sp_err *err)
{
	const json_t *item, *found = NULL;
	size_t i;

	json_array_foreach(env, i, item)
	{
		if (strcmp(text_of(item, "name"), name) != 0)
			continue;
		if (found != NULL)
			return sp_err_set(err, SP_E_DENIED, "variable %s is set twice", name);
		found = item;
	}
	if (found == NULL || strcmp(text_of(found, "value"), "1") != 0 ||
	    json_object_get(found, "valueFrom") != NULL)
		return sp_err_set(err, SP_E_DENIED,
		    "variable %s is not set to the literal \"1\": models come from the registry's "
		    "cache, never from a hub",
		    name);
	return SP_OK;
}

enum sp_code
admit_vllm_environment(const json_t *container, struct sp_err *err)
{
	const json_t *env = json_object_get(container, "env"), *item;
	size_t i;
	enum sp_code code;

	if (json_array_size(json_object_get(container, "envFrom")) > 0)
		return sp_err_set(err, SP_E_DENIED,
		    "envFrom: its variables can change after this check; list them under env");
	json_array_foreach(env, i, item)
	{
		if ((code = check_variable(text_of(item, "name"), err)))
			return code;
	}
	if ((code = require_one(env, "HF_HUB_OFFLINE", err)))
		return code;
	return require_one(env, "TRANSFORMERS_OFFLINE", err);
}
