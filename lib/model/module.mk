$(eval $(call lib,model,dtype safetensors config nfc pattern bpe tokenizer_parse tokenizer))
