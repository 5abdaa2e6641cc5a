BUS := lib/bus/outcome lib/bus/paths lib/bus/wire lib/bus/envelope lib/bus/parts lib/bus/result lib/bus/zloop \
	lib/bus/zap lib/bus/hub lib/bus/lease lib/bus/spawn lib/bus/child lib/bus/bus lib/bus/ask \
	lib/bus/work lib/bus/helper lib/bus/worker_step lib/bus/collect lib/bus/pulse lib/bus/worker \
	lib/bus/worker_main $(filter lib/bus/%,$(CONFINE))

# what a worker that can be collected stands on
COLLECT := lib/store/store lib/store/tree lib/store/tree_io lib/store/gc lib/store/part \
	lib/store/ranges

$(eval $(call lib,bus,$(BUS:lib/bus/%=%) step))
$(eval $(call unit,bus,lib/bus/outcome lib/bus/wire lib/bus/envelope lib/bus/result \
	lib/bus/worker_step proto/bus $(BASE),libprotobuf-c gnutls jansson))
$(eval $(call unit,bus_collect,tests/unit/bus_rig tests/unit/bus_fetcher $(BUS) $(COLLECT) proto/bus lib/release/key \
	lib/release/dsse lib/release/trust lib/base/conf lib/base/conf_keys lib/base/program lib/base/landlock $(BASE),libzmq libuv libsodium libseccomp \
	libprotobuf-c gnutls jansson libconfig))
$(eval $(call unit,bus_wire,tests/unit/bus_rig tests/unit/bus_fetcher $(BUS) $(COLLECT) proto/bus lib/release/key lib/release/dsse \
	lib/release/trust lib/base/conf lib/base/conf_keys lib/base/program lib/base/landlock $(BASE),libzmq libuv libsodium libseccomp \
	libprotobuf-c gnutls jansson libconfig))
$(eval $(call unit,progress,daemons/ledgerd/core daemons/ledgerd/live lib/ledger/jobs $(BUS) $(COLLECT) proto/bus lib/release/key \
	lib/release/dsse lib/release/trust lib/base/conf lib/base/conf_keys lib/base/program lib/base/landlock $(BASE),libzmq libuv libsodium libseccomp \
	libprotobuf-c gnutls jansson libconfig))
$(eval $(call unit,bus_peers,tests/unit/bus_rig tests/unit/bus_fetcher $(BUS) $(COLLECT) proto/bus lib/release/key lib/release/dsse \
	lib/release/trust lib/base/conf lib/base/conf_keys lib/base/program lib/base/landlock $(BASE),libzmq libuv libsodium libseccomp \
	libprotobuf-c gnutls jansson libconfig))
