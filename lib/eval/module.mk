$(eval $(call lib,eval,csv gate mmlu humaneval answer policy report verdict sandbox sandbox_py \
	sandbox_filter sandbox_enter sandbox_kind mmlu_run humaneval_run kld))
EVAL_PURE := lib/eval/csv lib/eval/gate lib/eval/mmlu lib/eval/humaneval lib/eval/answer \
	lib/eval/policy lib/eval/report lib/eval/verdict lib/eval/sandbox_kind lib/model/strip
EVAL_SANDBOX := lib/eval/sandbox lib/eval/sandbox_py lib/eval/sandbox_filter lib/eval/sandbox_enter \
	lib/base/landlock
EVAL_ENGINE := lib/engine/pool lib/engine/kernels lib/engine/attention lib/engine/linear lib/engine/layer lib/engine/rope lib/engine/moe \
	lib/engine/weights lib/engine/model lib/engine/context lib/engine/forward \
	lib/engine/greedy lib/model/dtype lib/model/safetensors lib/model/index \
	lib/model/config $(TOKENIZER)
$(eval $(call unit,eval,$(BASE) lib/store/tree $(addprefix lib/eval/,csv gate mmlu humaneval verdict) lib/model/strip,gnutls jansson zlib))
$(eval $(call unit,eval_gate,$(BASE) lib/store/tree $(EVAL_PURE),gnutls jansson zlib))
$(eval $(call unit,eval_sandbox,$(BASE) lib/eval/verdict lib/eval/sandbox_kind $(EVAL_SANDBOX) tests/unit/sandbox_here,gnutls jansson libseccomp))
$(eval $(call unit,eval_model,$(BASE) lib/store/tree $(EVAL_PURE) $(EVAL_SANDBOX) $(EVAL_ENGINE) \
	lib/eval/mmlu_run lib/eval/humaneval_run tests/unit/sandbox_here,gnutls jansson zlib libseccomp libpcre2-8 libutf8proc))
$(eval $(call unit,eval_kld,lib/eval/kld))
