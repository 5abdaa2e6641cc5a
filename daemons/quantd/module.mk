$(eval $(call program,quantd,daemons/quantd,main quantd_step quantd_machine quantd_io,awq engine model bus release store base proto,libzmq libuv libprotobuf-c libsodium gnutls jansson libconfig libseccomp libpcre2-8 libutf8proc sleef))
$(eval $(call unit,quantd,tests/unit/step_rig $(addprefix daemons/quantd/,quantd_step quantd_machine quantd_io) \
	$(addprefix lib/awq/,round pack power search gram race trial mix block factor plane plus calib plan partial inspect emit quantize settings card picture convert) \
	$(addprefix lib/engine/,kernels pool linear layer rope moe attention weights spill stream) \
	$(addprefix lib/model/,dtype safetensors index config strip) $(TOKENIZER) \
	$(addprefix lib/bus/,outcome paths step) \
	$(addprefix lib/release/,key dsse trust statement candidate chain) \
	$(addprefix lib/store/,store tree tree_io) $(BASE) lib/base/program lib/base/conf lib/base/conf_keys proto/bus $(CONFINE), \
	gnutls jansson libsodium libconfig libprotobuf-c libpcre2-8 libutf8proc libseccomp sleef))
