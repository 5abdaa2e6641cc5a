$(eval $(call lib,engine,pool kernels linear attention layer rope moe weights model context forward greedy spill stream))
$(eval $(call unit,engine_kernels,lib/engine/kernels lib/engine/pool lib/model/dtype lib/base/err))
ENGINE := $(addprefix lib/engine/,kernels pool linear attention layer rope moe weights model context forward greedy spill stream) \
	$(addprefix lib/model/,dtype safetensors index config)
$(eval $(call unit,engine_weights,$(ENGINE) $(BASE),gnutls jansson))
$(eval $(call unit,engine,$(ENGINE) $(BASE),gnutls jansson))
$(eval $(call unit,engine_stream,$(ENGINE) $(BASE),gnutls jansson))
$(eval $(call unit,engine_arch,$(ENGINE) $(BASE),gnutls jansson))
