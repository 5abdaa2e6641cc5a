$(eval $(call program,validatord,daemons/validatord,main validatord_step validatord_io,eval engine model bus release store base proto,libzmq libuv libprotobuf-c libsodium gnutls jansson libconfig libpcre2-8 libutf8proc libseccomp zlib))
$(eval $(call unit,validatord,tests/unit/step_rig $(addprefix daemons/validatord/,validatord_step validatord_io) \
	$(addprefix lib/eval/,csv gate mmlu humaneval answer policy report verdict sandbox sandbox_py \
	sandbox_filter sandbox_enter sandbox_kind mmlu_run humaneval_run) $(CONFINE) tests/unit/sandbox_here \
	$(addprefix lib/engine/,kernels pool linear layer rope moe attention weights model context forward greedy) \
	$(addprefix lib/model/,dtype safetensors index config strip) $(TOKENIZER) \
	$(addprefix lib/bus/,outcome paths step) \
	$(addprefix lib/release/,key dsse trust statement candidate chain) \
	$(addprefix lib/store/,store tree tree_io) $(BASE) lib/base/program lib/base/conf lib/base/conf_keys proto/bus, \
	gnutls jansson libsodium libconfig libprotobuf-c libpcre2-8 libutf8proc libseccomp zlib))
