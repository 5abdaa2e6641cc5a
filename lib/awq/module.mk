$(eval $(call lib,awq,round pack calib power search gram race trial mix block factor plane plus plan partial inspect emit quantize settings card picture convert))
AWQ_LAYER := $(addprefix lib/awq/,round pack power search gram race trial mix block factor plane plus) \
	$(addprefix lib/engine/,kernels pool linear layer rope moe attention spill) lib/model/dtype
AWQ_CHECKPOINT := $(addprefix lib/awq/,calib plan partial inspect emit quantize) \
	$(addprefix lib/engine/,weights model context forward stream) \
	$(addprefix lib/model/,safetensors index config strip) $(TOKENIZER)
$(eval $(call unit,awq,$(AWQ_LAYER) lib/model/safetensors lib/model/config $(BASE),gnutls jansson sleef))
$(eval $(call unit,awq_f32,$(AWQ_LAYER) lib/engine/weights $(addprefix lib/model/,safetensors index config) $(BASE),gnutls jansson sleef))
$(eval $(call unit,awq_quantize,$(AWQ_LAYER) $(AWQ_CHECKPOINT) lib/eval/kld $(BASE),gnutls jansson libpcre2-8 libutf8proc sleef))
$(eval $(call unit,awq_moe,$(AWQ_LAYER) $(AWQ_CHECKPOINT) lib/eval/kld $(BASE),gnutls jansson libpcre2-8 libutf8proc sleef))
$(eval $(call unit,awq_plus,$(addprefix lib/awq/,round gram factor plane plan) \
	$(addprefix lib/engine/,kernels pool linear layer rope moe attention) \
	$(addprefix lib/model/,dtype safetensors config) $(BASE),gnutls jansson))
$(eval $(call unit,awq_race,lib/awq/race $(BASE),gnutls jansson))
$(eval $(call unit,awq_card,lib/awq/card lib/awq/picture $(BASE),gnutls jansson))
