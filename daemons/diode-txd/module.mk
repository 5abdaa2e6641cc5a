$(eval $(call program,diode-txd,daemons/diode-txd,main txd_step txd_io,bus release ledger store diode base proto,libzmq libuv libprotobuf-c libsodium gnutls jansson libconfig libseccomp libisal))
