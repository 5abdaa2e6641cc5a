$(eval $(call lib,model,dtype safetensors index config nfc pattern bpe tokenizer_parse tokenizer strip))
$(eval $(call unit,model,$(BASE) lib/model/dtype lib/model/safetensors lib/model/config,gnutls jansson))
$(eval $(call unit,tokenizer,$(BASE) $(addprefix lib/model/,nfc pattern bpe tokenizer_parse tokenizer),gnutls jansson libpcre2-8 libutf8proc))
