$(eval $(call lib,awq,round pack calib search gram block partial emit quantize))
AWQ_LAYER := $(addprefix lib/awq/,round pack search gram block) \
	$(addprefix lib/engine/,kernels pool layer attention) lib/model/dtype
$(eval $(call unit,awq,$(AWQ_LAYER) lib/model/safetensors lib/model/config $(BASE),gnutls jansson))
