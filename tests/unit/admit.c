/* admit.c -- admissiond's decision: what may start, and what a message says when it may not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "admissiond/admit.h"

#include <stdlib.h>
#include <string.h>

#define NAME "fixture/qwen2-tiny-AWQ"
#define COMMIT "0123456789012345678901234567890123456789"
#define ENV "{'name':'HF_HUB_OFFLINE','value':'1'},{'name':'TRANSFORMERS_OFFLINE','value':'1'}"

static char *files[] = {"config.json", "model.safetensors", "tokenizer.json"};
static struct sp_snapshot_model models[] = {
    {.name = NAME,
	.kind = "model",
	.version = 1,
	.revision = {COMMIT},
	.files = files,
	.file_count = 3},
    {.name = "org/no-tokenizer", .kind = "model", .version = 1, .files = files, .file_count = 2},
    {.name = "org/revoked",
	.kind = "model",
	.version = 1,
	.files = files,
	.file_count = 3,
	.revoked = 1},
    {.name = "org/tool", .kind = "file", .version = 1, .files = files, .file_count = 3},
};
static struct sp_snapshot snapshot = {.version = 7, .models = models, .count = 4};

/* JSON with ' for " */
static char *
quoted(const char *text)
{
	char *copy = strdup(text);

	for (char *p = copy; *p != '\0'; p++)
		*p = *p == '\'' ? '"' : *p;
	return copy;
}

static struct admit_verdict
ask(const char *kind, const char *operation, const char *object, const struct sp_snapshot *known,
    int64_t age_ms)
{
	char body[8192], *text;
	struct admit_request request;
	struct admit_verdict verdict;
	struct sp_err err;
	json_t *answer, *response;
	size_t len;

	snprintf(body, sizeof(body),
	    "{'apiVersion':'admission.k8s.io/v1','kind':'AdmissionReview','request':{'uid':'u-1',"
	    "'operation':'%s','kind':{'group':'','version':'v1','kind':'%s'},'namespace':'models',"
	    "'userInfo':{'username':'deployer'},'object':%s}}",
	    operation, kind, object);
	text = quoted(body);
	assert_int_equal(
	    admit_request_parse((const uint8_t *)text, strlen(text), &request, &err), SP_OK);
	admit_decide(&request, known, age_ms, 3600000, &verdict);
	free(text);
	text = admit_answer(&request, &verdict, &len);
	assert_int_equal(sp_json_parse(text, len, "answer", &answer, &err), SP_OK);
	response = json_object_get(answer, "response");
	assert_string_equal(json_string_value(json_object_get(response, "uid")), "u-1");
	assert_int_equal(json_is_true(json_object_get(response, "allowed")), verdict.allowed);
	assert_null(json_object_get(response, "patch"));
	json_decref(answer);
	free(text);
	admit_request_clear(&request);
	return verdict;
}

/* A pod of one container made of these members. */
static struct admit_verdict
ask_container(const char *members)
{
	char object[4096];

	snprintf(object, sizeof(object),
	    "{'metadata':{'name':'p'},'spec':{'containers':[{'name':'main',%s}]}}", members);
	return ask("Pod", "CREATE", object, &snapshot, 1000);
}

/* … that serves with these arguments after ["vllm", "serve"]. */
static struct admit_verdict
ask_args(const char *args)
{
	char members[2048];

	snprintf(members, sizeof(members),
	    "'image':'vllm/vllm-openai','command':['vllm','serve'],'args':[%s],'env':[" ENV "]",
	    args);
	return ask_container(members);
}

static void
assert_denied(struct admit_verdict verdict, const char *says)
{
	assert_false(verdict.allowed);
	if (strstr(verdict.message, says) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", verdict.message, says);
}

static void
registered_model_is_allowed(void **state)
{
	struct admit_verdict verdict = ask_args("'" NAME "','--port','8000'");

	(void)state;
	assert_true(verdict.allowed);
	assert_string_equal(verdict.model, NAME);
	assert_int_equal(verdict.version, 1);
	assert_true(ask_args("'" NAME "','--revision','" COMMIT "'").allowed);
	assert_true(ask_args("'" NAME "','--load-format','safetensors','--tokenizer-mode=auto',"
			     "'--distributed-executor-backend=mp','--served_model_name','x'")
			.allowed);
	assert_true(ask_args("'--model=" NAME "','--revision=v1'").allowed);
	assert_true(
	    ask_args("'--model','" NAME "','--max_model_len=512','--enforce-eager'").allowed);
	assert_true(ask_container("'image':'x','command':['python3','-m',"
				  "'vllm.entrypoints.openai.api_server','--model','" NAME "'],"
				  "'env':[" ENV "]")
			.allowed);
	assert_true(ask("Deployment", "CREATE",
	    "{'spec':{'template':{'spec':{'containers':[{'name':'v','image':'vllm',"
	    "'command':['/usr/local/bin/vllm','serve','" NAME "'],'env':[" ENV "]}]}}}}",
	    &snapshot, 0)
			.allowed);
}

static void
unknown_model_is_denied(void **state)
{
	(void)state;
	assert_denied(ask_args("'someone/else'"), "someone/else is not registered");
	assert_denied(ask_args("'org/revoked'"), "org/revoked is not registered");
	assert_denied(ask_args("'org/no-tokenizer'"), "without a tokenizer");
	assert_denied(ask_args("'org/tool'"), "registered as file");
	assert_denied(ask_args("'" NAME "','--revision','other'"), "revision other");
	assert_denied(ask_args("'/mnt/models'"), "is a path");
	assert_denied(ask_args("'./models'"), "is a path");
	assert_denied(ask_args("'s3://bucket/model'"), "outside the registry");
	assert_denied(ask_args("'--port','8000'"), "names no model");
}

static void
ambiguous_lines_are_denied(void **state)
{
	static const char *const args[] = {
	    "'" NAME "','--model','someone/else'",
	    "'--model=" NAME "','--model=someone/else'",
	    "'--model=" NAME "','someone/else'",
	    "'--enforce-eager','someone/else','--model=" NAME "'",
	    "'" NAME "','--some-new-option','x'",
	    "'" NAME "','--tokenizer','someone/else'",
	    /* names that begin another one, whatever the version of vLLM makes of them */
	    "'" NAME "','--chat-template','/mnt/x.jinja'",
	    "'" NAME "','--max-model','512'",
	    "'--mode','" NAME "'",
	    /* values that are a class, a directory or two */
	    "'" NAME "','--distributed-executor-backend','pkg.Class'",
	    "'" NAME "','--generation-config','/mnt/x'",
	    "'" NAME "','--tokenizer-mode=custom'",
	    "'" NAME "','--load-format','auto safetensors'",
	    "'" NAME "','--load-format='",
	    "'" NAME "','--load_format=saf'",
	    "'" NAME "','--lora-modules','a=someone/else'",
	    "'" NAME "','--lora_modules','a=someone/else'",
	    "'" NAME "','--speculative-config.model','someone/else'",
	    "'" NAME "','--speculative-con={}'",
	    "'" NAME "','--trust-remote-code'",
	    "'" NAME "','--trust'",
	    "'" NAME "','--config','x.yaml'",
	    "'" NAME "','--load-format','runai_streamer'",
	    "'" NAME "','--hf-overrides={}'",
	    "'" NAME "','-O3'",
	    "'" NAME "','--port'",
	    "'$(MODEL)'",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(args) / sizeof(args[0]); i++) {
		if (ask_args(args[i]).allowed)
			fail_msg("allowed: %s", args[i]);
	}
}

static void
only_known_programs_are_read(void **state)
{
	(void)state;
	assert_denied(ask_container("'image':'vllm/vllm-openai','args':['--model','" NAME
				    "'],'env':[" ENV "]"),
	    "has no command");
	assert_denied(ask_container("'image':'x','command':['sh','-c','vllm serve " NAME
				    "'],'env':[" ENV "]"),
	    "shells and wrappers");
	assert_denied(ask_container("'image':'x','command':['env','vllm','serve','" NAME
				    "'],'env':[" ENV "]"),
	    "shells and wrappers");
	assert_denied(ask_container("'image':'vllm','command':'vllm','env':[" ENV "]"), "command");
	assert_denied(ask_container("'image':'vllm','command':['vllm','serve',7],'env':[" ENV "]"),
	    "strings");
	assert_denied(ask_container("'image':'x','command':['sh','-c','exec VLLM serve x']"),
	    "container main (vLLM by its command)");
	assert_denied(
	    ask_container("'image':'web','env':[{'name':'VLLM_URL','value':'http://vllm'}]"),
	    "container main (vLLM by its env)");
	/* what runs no vLLM is not our concern */
	assert_true(ask_container("'image':'nginx'").allowed);
}

static void
offline_is_required(void **state)
{
	static const char head[] = "'image':'vllm','command':['vllm','serve','" NAME "'],";
	static const struct {
		const char *env, *says;
	} cases[] = {
	    {"'env':[]", "HF_HUB_OFFLINE"},
	    {"'env':[{'name':'HF_HUB_OFFLINE','value':'1'}]", "TRANSFORMERS_OFFLINE"},
	    {"'env':[{'name':'HF_HUB_OFFLINE','value':'0'},{'name':'TRANSFORMERS_OFFLINE','value':'"
	     "1'}]",
		"HF_HUB_OFFLINE"},
	    {"'env':[" ENV ",{'name':'HF_HUB_OFFLINE','value':'0'}]", "set twice"},
	    {"'env':[{'name':'HF_HUB_OFFLINE','valueFrom':{}},{'name':'TRANSFORMERS_OFFLINE','"
	     "value':'1'}]",
		"HF_HUB_OFFLINE"},
	    {"'env':[" ENV ",{'name':'VLLM_MODEL_REDIRECT_PATH','value':'x'}]",
		"VLLM_MODEL_REDIRECT_PATH"},
	    {"'env':[" ENV ",{'name':'PYTHONPATH','value':'x'}]", "PYTHONPATH"},
	    {"'env':[" ENV ",{'name':'VLLM_NCCL_SO_PATH','value':'x'}]", "VLLM_NCCL_SO_PATH"},
	    {"'env':[" ENV ",{'name':'LD_PRELOAD','value':'x'}]", "LD_PRELOAD"},
	    {"'env':[" ENV ",{'name':'PATH','value':'x'}]", "PATH"},
	    {"'env':[" ENV "],'envFrom':[{'configMapRef':{'name':'x'}}]", "envFrom"},
	    {"'env':[" ENV "],'lifecycle':{'postStart':{}}", "lifecycle"},
	    {"'env':[" ENV "],'workingDir':'/mnt'", "workingDir"},
	    {"'env':[" ENV "],'startupProbe':{'exec':{'command':['sh']}}", "startupProbe"},
	};
	char members[1024];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		snprintf(members, sizeof(members), "%s%s", head, cases[i].env);
		assert_denied(ask_container(members), cases[i].says);
	}
	snprintf(members, sizeof(members),
	    "%s'env':[" ENV ",{'name':'VLLM_LOGGING_LEVEL','value':'INFO'},"
	    "{'name':'PYTHONUNBUFFERED','value':'1'},{'name':'HF_HOME','value':'/cache'}],"
	    "'workingDir':'','livenessProbe':{'httpGet':{'path':'/health','port':8000}}",
	    head);
	assert_true(ask_container(members).allowed);
}

static void
every_container_is_read(void **state)
{
	static const char bad[] =
	    "{'name':'bad','image':'vllm','command':['vllm','serve','someone/else'],"
	    "'env':[" ENV "]}";
	char object[2048];

	(void)state;
	snprintf(object, sizeof(object),
	    "{'spec':{'initContainers':[%s],'containers':[{'name':'n','image':'nginx'}]}}", bad);
	assert_denied(ask("Pod", "CREATE", object, &snapshot, 0), "init container bad");
	snprintf(object, sizeof(object),
	    "{'spec':{'ephemeralContainers':[%s],'containers':[{'name':'n','image':'nginx'}]}}",
	    bad);
	assert_denied(ask("Pod", "UPDATE", object, &snapshot, 0), "ephemeral container bad");
	assert_denied(ask("Pod", "CREATE", "{'spec':{}}", &snapshot, 0), "no containers");
	assert_denied(ask("Pod", "CREATE", "null", &snapshot, 0), "no containers");
	assert_denied(ask("ReplicaSet", "CREATE", "{}", &snapshot, 0), "ReplicaSet");
	assert_denied(ask("Pod", "CONNECT", "{}", &snapshot, 0), "CONNECT");
	assert_true(ask("Pod", "DELETE", "null", &snapshot, 0).allowed);
}

/* Labels, status, finalizers, deletion: possible also when the model was revoked since. */
static void
what_starts_nothing_is_allowed(void **state)
{
	static const char spec[] =
	    "{'containers':[{'name':'v','image':'vllm','command':['vllm','serve','org/revoked'],"
	    "'env':[" ENV "]}]}";
	char objects[4096];
	struct admit_verdict verdict;

	(void)state;
	snprintf(objects, sizeof(objects),
	    "{'metadata':{'labels':{'a':'b'}},'spec':%s},'oldObject':{'metadata':{},'spec':%s}",
	    spec, spec);
	verdict = ask("Pod", "UPDATE", objects, &snapshot, 0);
	assert_true(verdict.allowed);
	assert_string_equal(verdict.message, "nothing is started by this");
	/* on creation there is no such excuse */
	assert_denied(ask("Pod", "CREATE", objects, &snapshot, 0), "org/revoked");
	/* more replicas start pods */
	snprintf(objects, sizeof(objects),
	    "{'spec':{'replicas':2,'template':{'spec':%s}}},"
	    "'oldObject':{'spec':{'replicas':1,'template':{'spec':%s}}}",
	    spec, spec);
	assert_denied(ask("Deployment", "UPDATE", objects, &snapshot, 0), "org/revoked");
	assert_denied(ask("Pod", "UPDATE", "null,'oldObject':null", &snapshot, 0), "no containers");
}

static void
no_fresh_snapshot_admits_nothing(void **state)
{
	static const char object[] =
	    "{'spec':{'containers':[{'name':'v','image':'vllm','command':['vllm','serve','" NAME
	    "'],"
	    "'env':[" ENV "]}]}}";

	(void)state;
	assert_denied(ask("Pod", "CREATE", object, NULL, 0), "no signed snapshot");
	assert_denied(ask("Pod", "CREATE", object, &snapshot, 3600001), "3600 s old");
	assert_true(ask("Pod", "CREATE", object, &snapshot, 3600000).allowed);
}

static void
broken_requests_are_refused(void **state)
{
	static const char *const bodies[] = {"", "{", "[]", "null", "{'apiVersion':'v1'}",
	    "{'apiVersion':'admission.k8s.io/v1','kind':'AdmissionReview'}",
	    "{'apiVersion':'admission.k8s.io/v1','kind':'AdmissionReview','request':{}}",
	    "{'apiVersion':'admission.k8s.io/"
	    "v1','kind':'AdmissionReview','request':{'uid':'a','uid':'b'}}",
	    "{'apiVersion':'admission.k8s.io/"
	    "v1beta1','kind':'AdmissionReview','request':{'uid':'a'}}"};
	struct admit_request request;
	struct sp_err err;

	(void)state;
	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		char *text = quoted(bodies[i]);

		assert_int_not_equal(
		    admit_request_parse((const uint8_t *)text, strlen(text), &request, &err),
		    SP_OK);
		free(text);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(registered_model_is_allowed),
	    cmocka_unit_test(unknown_model_is_denied),
	    cmocka_unit_test(ambiguous_lines_are_denied),
	    cmocka_unit_test(only_known_programs_are_read),
	    cmocka_unit_test(offline_is_required),
	    cmocka_unit_test(every_container_is_read),
	    cmocka_unit_test(what_starts_nothing_is_allowed),
	    cmocka_unit_test(no_fresh_snapshot_admits_nothing),
	    cmocka_unit_test(broken_requests_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
