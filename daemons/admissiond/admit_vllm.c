/* admit_vllm.c -- the command line and environment of a container that runs vLLM. */
#include "admit.h"

#include <string.h>

#define ARGV_MAX 512

/* What an option does to the question which model is loaded. */
enum effect {
	FLAG,	   /* takes no value */
	VALUE,	   /* takes one value, loads nothing */
	CHOICE,	   /* takes one value, which loads nothing when it is one of these */
	MODEL,	   /* names the model */
	TOKENIZER, /* names a repository as well */
	REVISION,
	DENIED /* loads or runs something that no registration covers */
};

/* Options by their long name without "--". One that is not here is denied: it might load something.
 */
static const struct option {
	const char *name;
	enum effect effect;
	const char *choices; /* words */
} options[] = {
    {"model", MODEL, NULL},
    {"tokenizer", TOKENIZER, NULL},
    {"revision", REVISION, NULL},
    {"tokenizer-revision", REVISION, NULL},

    /* other values name a class, a directory, or a way around the files of the model */
    {"load-format", CHOICE, "auto safetensors"},
    {"generation-config", CHOICE, "auto vllm"},
    {"tokenizer-mode", CHOICE, "auto slow mistral"},
    {"distributed-executor-backend", CHOICE, "mp ray uni external_launcher"},

    {"chat-template", DENIED, NULL},
    {"code-revision", DENIED, NULL},
    {"config", DENIED, NULL},
    {"config-format", DENIED, NULL},
    {"download-dir", DENIED, NULL},
    {"enable-lora", DENIED, NULL},
    {"enable-lora-bias", DENIED, NULL},
    {"hf-config-path", DENIED, NULL},
    {"hf-overrides", DENIED, NULL},
    {"kv-transfer-config", DENIED, NULL},
    {"log-config-file", DENIED, NULL},
    {"logits-processors", DENIED, NULL},
    {"lora-modules", DENIED, NULL},
    {"middleware", DENIED, NULL},
    {"model-loader-extra-config", DENIED, NULL},
    {"prompt-adapters", DENIED, NULL},
    {"reasoning-parser-plugin", DENIED, NULL},
    {"scheduler-cls", DENIED, NULL},
    {"speculative-config", DENIED, NULL},
    {"speculative-model", DENIED, NULL},
    {"tool-parser-plugin", DENIED, NULL},
    {"trust-remote-code", DENIED, NULL},
    {"worker-cls", DENIED, NULL},
    {"worker-extension-cls", DENIED, NULL},

#define TAKES(name)               \
	{                         \
		name, VALUE, NULL \
	}
    TAKES("allowed-headers"),
    TAKES("allowed-methods"),
    TAKES("allowed-origins"),
    TAKES("api-key"),
    TAKES("api-server-count"),
    TAKES("block-size"),
    TAKES("chat-template-content-format"),
    TAKES("cpu-offload-gb"),
    TAKES("data-parallel-address"),
    TAKES("data-parallel-rank"),
    TAKES("data-parallel-rpc-port"),
    TAKES("data-parallel-size"),
    TAKES("data-parallel-size-local"),
    TAKES("dtype"),
    TAKES("gpu-memory-utilization"),
    TAKES("guided-decoding-backend"),
    TAKES("host"),
    TAKES("kv-cache-dtype"),
    TAKES("limit-mm-per-prompt"),
    TAKES("long-prefill-token-threshold"),
    TAKES("max-log-len"),
    TAKES("max-logprobs"),
    TAKES("max-long-partial-prefills"),
    TAKES("max-model-len"),
    TAKES("max-num-batched-tokens"),
    TAKES("max-num-partial-prefills"),
    TAKES("max-num-seqs"),
    TAKES("max-parallel-loading-workers"),
    TAKES("max-seq-len-to-capture"),
    TAKES("num-gpu-blocks-override"),
    TAKES("override-generation-config"),
    TAKES("pipeline-parallel-size"),
    TAKES("port"),
    TAKES("prefix-caching-hash-algo"),
    TAKES("quantization"),
    TAKES("reasoning-parser"),
    TAKES("response-role"),
    TAKES("root-path"),
    TAKES("runner"),
    TAKES("scheduling-policy"),
    TAKES("seed"),
    TAKES("served-model-name"),
    TAKES("ssl-ca-certs"),
    TAKES("ssl-cert-reqs"),
    TAKES("ssl-certfile"),
    TAKES("ssl-keyfile"),
    TAKES("stream-interval"),
    TAKES("swap-space"),
    TAKES("task"),
    TAKES("tensor-parallel-size"),
    TAKES("tool-call-parser"),
    TAKES("uvicorn-log-level"),
#undef TAKES

#define SWITCH(name)             \
	{                        \
		name, FLAG, NULL \
	}
    SWITCH("allow-credentials"),
    SWITCH("async-scheduling"),
    SWITCH("calculate-kv-scales"),
    SWITCH("disable-cascade-attn"),
    SWITCH("disable-custom-all-reduce"),
    SWITCH("disable-fastapi-docs"),
    SWITCH("disable-frontend-multiprocessing"),
    SWITCH("disable-log-requests"),
    SWITCH("disable-log-stats"),
    SWITCH("disable-sliding-window"),
    SWITCH("disable-uvicorn-access-log"),
    SWITCH("enable-auto-tool-choice"),
    SWITCH("enable-chunked-prefill"),
    SWITCH("enable-expert-parallel"),
    SWITCH("enable-force-include-usage"),
    SWITCH("enable-log-requests"),
    SWITCH("enable-prefix-caching"),
    SWITCH("enable-prompt-tokens-details"),
    SWITCH("enable-reasoning"),
    SWITCH("enable-request-id-headers"),
    SWITCH("enable-server-load-tracking"),
    SWITCH("enable-sleep-mode"),
    SWITCH("enforce-eager"),
    SWITCH("no-enable-chunked-prefill"),
    SWITCH("no-enable-log-requests"),
    SWITCH("no-enable-prefix-caching"),
    SWITCH("return-tokens-as-token-ids"),
#undef SWITCH
};

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

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

/* In any case: "VLLM" in a script means the same program. */
static int
mentions_vllm(const char *text)
{
	return text != NULL && strcasestr(text, "vllm") != NULL;
}

const char *
admit_vllm_sign(const json_t *container)
{
	static const char *const lists[] = {"command", "args"};
	const json_t *item;
	size_t i;

	if (mentions_vllm(text_of(container, "image")))
		return "image";
	for (size_t k = 0; k < 2; k++) {
		json_array_foreach(json_object_get(container, lists[k]), i, item)
		{
			if (mentions_vllm(json_string_value(item)))
				return lists[k];
		}
	}
	json_array_foreach(json_object_get(container, "env"), i, item)
	{
		if (strncmp(text_of(item, "name"), "VLLM_", 5) == 0)
			return "env";
	}
	return NULL;
}

/* By its whole name (without "--", '_' read as '-', up to a dot or '+'): argparse would also take
 * the beginning of one, but which one that is differs between versions of vLLM. */
static const struct option *
find_option(const char *name)
{
	for (size_t i = 0; i < COUNT(options); i++) {
		if (strcmp(options[i].name, name) == 0)
			return &options[i];
	}
	return NULL;
}

/* 1 when words, parted by spaces, has that very word. */
static int
has_word(const char *words, const char *word)
{
	size_t len = strlen(word);

	if (len == 0 || strchr(word, ' ') != NULL)
		return 0;
	for (const char *at = words; (at = strstr(at, word)) != NULL; at += len) {
		if ((at == words || at[-1] == ' ') && (at[len] == ' ' || at[len] == '\0'))
			return 1;
	}
	return 0;
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
	case CHOICE:
		if (has_word(option->choices, value))
			return SP_OK;
		return sp_err_set(err, SP_E_DENIED,
		    "--%s %.100s: it can load what is not registered; it may be one of: %s",
		    option->name, value, option->choices);
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
		    "option %.100s is not among those that are known to load nothing; leave it "
		    "out, "
		    "or write its name in full",
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

/* Of the variables that vLLM, Python and the loader read, those that load nothing. The others name
 * files, libraries, classes or models. */
static const char *const harmless[] = {
    "VLLM_ALLOW_LONG_MAX_MODEL_LEN",
    "VLLM_API_KEY",
    "VLLM_ATTENTION_BACKEND",
    "VLLM_CONFIGURE_LOGGING",
    "VLLM_CPU_KVCACHE_SPACE",
    "VLLM_CPU_NUM_OF_RESERVED_CPU",
    "VLLM_CPU_OMP_THREADS_BIND",
    "VLLM_DISABLE_COMPILE_CACHE",
    "VLLM_DO_NOT_TRACK",
    "VLLM_ENGINE_ITERATION_TIMEOUT_S",
    "VLLM_FLASH_ATTN_VERSION",
    "VLLM_HOST_IP",
    "VLLM_HTTP_TIMEOUT_KEEP_ALIVE",
    "VLLM_KEEP_ALIVE_ON_ENGINE_DEATH",
    "VLLM_LOGGING_LEVEL",
    "VLLM_LOGGING_PREFIX",
    "VLLM_LOG_STATS_INTERVAL",
    "VLLM_NO_USAGE_STATS",
    "VLLM_PORT",
    "VLLM_RPC_TIMEOUT",
    "VLLM_SKIP_P2P_CHECK",
    "VLLM_SLEEP_WHEN_IDLE",
    "VLLM_USE_DEEP_GEMM",
    "VLLM_USE_FLASHINFER_SAMPLER",
    "VLLM_USE_TRITON_AWQ",
    "VLLM_USE_V1",
    "VLLM_WORKER_MULTIPROC_METHOD",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONFAULTHANDLER",
    "PYTHONHASHSEED",
    "PYTHONIOENCODING",
    "PYTHONUNBUFFERED",
    "PYTHONUTF8",
};

static enum sp_code
check_variable(const char *name, struct sp_err *err)
{
	static const char *const families[] = {"VLLM_", "PYTHON", "LD_"};
	int is_read = strcmp(name, "PATH") == 0 || strcmp(name, "S3_ENDPOINT_URL") == 0;

	for (size_t i = 0; i < COUNT(families); i++)
		is_read |= strncmp(name, families[i], strlen(families[i])) == 0;
	for (size_t i = 0; i < COUNT(harmless); i++)
		is_read &= strcmp(name, harmless[i]) != 0;
	if (!is_read)
		return SP_OK;
	return sp_err_set(err, SP_E_DENIED,
	    "variable %.100s is not among those that are known to load nothing; leave it out",
	    name);
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
