$(eval $(call program,sallyctl,daemons/sallyctl,main ctl args out client view jobs entry evidence log \
	approve models chain scan pull keys trust_new trust,release ledger store bus base proto,libzmq \
	libprotobuf-c libsodium gnutls jansson libconfig))
$(eval $(call unit,sallyctl,$(addprefix daemons/sallyctl/,args out client view entry trust_new scan ctl) \
	lib/bus/wire lib/ledger/jobs lib/store/tree lib/release/key lib/release/dsse lib/release/trust \
	lib/base/conf lib/base/conf_keys proto/operator proto/audit $(BASE),libzmq libprotobuf-c \
	libsodium gnutls jansson libconfig))
