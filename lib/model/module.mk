$(eval $(call lib,model,dtype safetensors config tokenizer))
