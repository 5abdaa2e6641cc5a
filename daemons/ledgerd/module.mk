$(eval $(call program,ledgerd,daemons/ledgerd,main core check ledgerd_step ledgerd_io ledgerd_worker \
	ledgerd_operator ledgerd_view ledgerd_task profile source,bus release ledger base proto,\
	libzmq libuv libprotobuf-c libsodium gnutls jansson libconfig sqlite3))
LEDGERD_CORE := daemons/ledgerd/core daemons/ledgerd/check daemons/ledgerd/ledgerd_step \
	daemons/ledgerd/profile daemons/ledgerd/source
$(eval $(call unit,ledgerd_step,$(LEDGERD_CORE) lib/ledger/jobs lib/bus/outcome lib/bus/result \
	lib/bus/wire lib/release/key lib/release/dsse lib/release/trust lib/release/statement \
	lib/release/candidate lib/release/chain lib/base/conf proto/bus $(BASE),libsodium gnutls \
	jansson libprotobuf-c libconfig))
