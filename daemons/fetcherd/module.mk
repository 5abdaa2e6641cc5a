$(eval $(call program,fetcherd,daemons/fetcherd,main fetcherd_conf fetcherd_policy fetcherd_step fetcherd_download fetcherd_io,\
	bus release ledger hub http store base proto,\
	libzmq libuv libprotobuf-c libsodium gnutls jansson libconfig libseccomp libcurl))
$(eval $(call unit,fetcherd_policy,daemons/fetcherd/fetcherd_policy lib/base/glob lib/store/tree $(BASE),\
	gnutls jansson))
