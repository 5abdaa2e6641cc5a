RELEASE := lib/release/key lib/release/dsse lib/release/trust lib/release/statement \
	lib/release/candidate lib/release/bom lib/release/chain lib/release/proof \
	lib/release/release lib/release/snapshot

$(eval $(call lib,release,key dsse trust statement candidate bom chain proof release snapshot))
$(eval $(call unit,release,lib/release/key lib/release/dsse lib/release/trust lib/release/statement \
	lib/release/candidate lib/release/snapshot $(BASE),libsodium gnutls jansson))
$(eval $(call unit,release_chain,tests/unit/release_rig $(RELEASE) lib/ledger/merkle lib/ledger/note \
	lib/ledger/entry lib/ledger/jobs lib/bus/wire proto/audit $(BASE),libsodium gnutls jansson \
	libprotobuf-c))
