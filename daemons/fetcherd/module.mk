$(eval $(call program,fetcherd,daemons/fetcherd,main fetcherd_step fetcherd_download fetcherd_io,\
	bus release ledger hub http store base proto,\
	libzmq libuv libprotobuf-c libsodium gnutls jansson libconfig libcurl))
