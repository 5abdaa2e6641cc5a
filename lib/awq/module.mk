$(eval $(call lib,awq,round pack calib search gram block))
AWQ_UNDER_TEST := lib/awq/round lib/awq/pack lib/awq/calib lib/awq/search lib/awq/gram lib/awq/block
ENGINE_FOR_AWQ := lib/engine/kernels lib/engine/pool lib/engine/layer lib/engine/attention \
	lib/engine/weights lib/model/dtype lib/model/safetensors lib/model/config lib/model/tokenizer
