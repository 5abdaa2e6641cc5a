$(eval $(call program,sallyctl,daemons/sallyctl,main ctl args out client view jobs entry evidence log \
	approve models chain scan pull keys trust_new trust,release ledger store bus base proto,libzmq \
	libprotobuf-c libsodium gnutls jansson libconfig))
