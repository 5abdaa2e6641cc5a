$(eval $(call program,ledgerd,daemons/ledgerd,main core live check ledgerd_step ledgerd_io ledgerd_worker \
	ledgerd_operator ledgerd_gc ledgerd_view ledgerd_task collect profile,bus release ledger base proto,\
	libzmq libuv libprotobuf-c libsodium gnutls jansson libconfig sqlite3))
$(eval $(call unit,ledgerd_step,tests/unit/release_rig \
	daemons/ledgerd/core daemons/ledgerd/live daemons/ledgerd/check daemons/ledgerd/ledgerd_step \
	$(addprefix lib/release/,key dsse trust statement candidate bom chain proof release) \
	lib/ledger/jobs lib/ledger/entry lib/ledger/merkle lib/ledger/note lib/bus/outcome lib/bus/result \
	lib/bus/wire proto/bus proto/audit $(BASE),libsodium gnutls jansson libprotobuf-c))
$(eval $(call unit,ledgerd_conf,daemons/ledgerd/profile lib/base/conf lib/base/glob \
	$(BASE),gnutls jansson libconfig))
$(eval $(call unit,ledgerd_live,daemons/ledgerd/core daemons/ledgerd/live lib/ledger/jobs lib/bus/outcome proto/bus \
	$(BASE),libprotobuf-c gnutls jansson))
$(eval $(call unit,ledgerd_collect,daemons/ledgerd/collect proto/bus $(BASE),libprotobuf-c gnutls jansson))
