$(eval $(call program,fetcherd,daemons/fetcherd,main fetcherd_conf fetcherd_policy fetcherd_step fetcherd_plan fetcherd_large \
	fetcherd_transfer fetcherd_download fetcherd_net fetcherd_early fetcherd_verify fetcherd_io,\
	bus release ledger hub http store base proto,\
	libzmq libuv libprotobuf-c libsodium gnutls jansson libconfig libseccomp libcurl))
$(eval $(call unit,fetcherd_policy,daemons/fetcherd/fetcherd_policy lib/base/glob lib/store/tree $(BASE),\
	gnutls jansson))
$(eval $(call unit,fetcherd_plan,daemons/fetcherd/fetcherd_plan lib/hub/retry lib/store/ranges lib/base/err,))
$(eval $(call unit,fetcherd_transfer,tests/unit/hostile_hub \
	$(addprefix daemons/fetcherd/,fetcherd_policy fetcherd_step fetcherd_plan fetcherd_large fetcherd_transfer fetcherd_download) \
	$(addprefix lib/hub/,answer address retry exchange client) lib/http/url lib/http/range \
	$(addprefix lib/store/,store part ranges tree tree_io hold) lib/release/statement lib/base/source \
	lib/base/glob lib/base/pace $(BASE),gnutls jansson libcurl))
