REGISTRYD := registryd_step registryd_state registryd_serve registryd_register registryd_io

$(eval $(call program,registryd,daemons/registryd,main $(REGISTRYD),\
	bus release ledger hub http store base proto,\
	libzmq libuv libprotobuf-c libsodium gnutls jansson libconfig libmicrohttpd))
