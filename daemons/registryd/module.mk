REGISTRYD := registryd_step registryd_state registryd_serve registryd_register registryd_io

$(eval $(call program,registryd,daemons/registryd,main $(REGISTRYD),\
	bus release ledger hub http store base proto,\
	libzmq libuv libprotobuf-c libsodium gnutls jansson libconfig libseccomp libmicrohttpd))
# a step and what it stands on, without bus and ledgerd: tests/unit/worker_stub is in their place
REGISTRYD_TEST := tests/unit/worker_stub $(addprefix daemons/registryd/,$(REGISTRYD)) \
	$(addprefix lib/hub/,answer address retry exchange client catalog listing plan) \
	$(addprefix lib/http/,conns http range reply url) $(addprefix lib/store/,store part ranges tree tree_io hold) \
	$(addprefix lib/release/,key dsse trust statement candidate bom chain proof release snapshot) \
	$(addprefix lib/ledger/,merkle note entry jobs) $(addprefix lib/bus/,outcome wire paths) \
	$(BASE) lib/base/conf lib/base/conf_keys lib/base/pace proto/audit proto/bus
# it says itself which addresses are inside
$(eval $(call unit,hub_wire,$(filter-out lib/hub/address,$(REGISTRYD_TEST)),\
	libsodium gnutls jansson libprotobuf-c libconfig libmicrohttpd libcurl))
$(eval $(call unit,hub_listing,lib/base/glob $(REGISTRYD_TEST),\
	libsodium gnutls jansson libprotobuf-c libconfig libmicrohttpd libcurl))
FETCHERD := fetcherd_conf fetcherd_policy fetcherd_step fetcherd_plan fetcherd_large \
	fetcherd_transfer fetcherd_download fetcherd_net fetcherd_early fetcherd_verify fetcherd_io
# their hub is a registryd, or speaks through lib/http
$(eval $(call unit,fetcherd,tests/unit/release_rig \
	lib/base/glob $(addprefix daemons/fetcherd/,$(FETCHERD)) $(REGISTRYD_TEST) $(CONFINE),\
	libsodium gnutls jansson libprotobuf-c libconfig libmicrohttpd libcurl libseccomp))
$(eval $(call unit,fetcherd_halves,tests/unit/release_rig \
	lib/base/glob $(addprefix daemons/fetcherd/,$(FETCHERD)) $(REGISTRYD_TEST) $(CONFINE),\
	libsodium gnutls jansson libprotobuf-c libconfig libmicrohttpd libcurl libseccomp))
$(eval $(call unit,registryd,tests/unit/release_rig $(REGISTRYD_TEST),\
	libsodium gnutls jansson libprotobuf-c libconfig libmicrohttpd libcurl))
$(eval $(call unit,registryd_step,$(REGISTRYD_TEST),\
	libsodium gnutls jansson libprotobuf-c libconfig libmicrohttpd libcurl))
$(eval $(call unit,registryd_wire,$(REGISTRYD_TEST),\
	libsodium gnutls jansson libprotobuf-c libconfig libmicrohttpd libcurl))
