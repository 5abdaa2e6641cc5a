LEDGER := lib/ledger/merkle lib/ledger/note lib/ledger/jobs lib/ledger/entry lib/ledger/replay \
	lib/ledger/log lib/ledger/tiles lib/bus/wire lib/base/parallel proto/audit
LEDGER_DB := $(LEDGER) lib/ledger/db lib/ledger/table lib/ledger/collection lib/ledger/inspect lib/ledger/ledger lib/ledger/change \
	lib/bus/outcome lib/release/candidate proto/bus

$(eval $(call lib,ledger,merkle note jobs entry replay log tiles db table collection inspect ledger change))
$(eval $(call unit,ledger,lib/ledger/merkle lib/ledger/note $(BASE),libsodium gnutls jansson))
$(eval $(call unit,merkle_vectors,lib/ledger/merkle $(BASE),libsodium gnutls jansson))
$(eval $(call unit,ledger_jobs,$(LEDGER) $(BASE),libsodium gnutls jansson libprotobuf-c))
$(eval $(call unit,ledger_db,tests/unit/ledger_rig $(LEDGER_DB) $(BASE),sqlite3 libsodium gnutls jansson libprotobuf-c))
$(eval $(call unit,ledger_check,tests/unit/ledger_rig $(LEDGER_DB) $(BASE),sqlite3 libsodium gnutls jansson libprotobuf-c))
$(eval $(call unit,ledger_collection,lib/ledger/collection lib/ledger/db lib/ledger/table lib/ledger/jobs $(BASE),sqlite3 gnutls jansson))
