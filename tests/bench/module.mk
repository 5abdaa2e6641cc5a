$(eval $(call program,sp-bench-ledger,tests/bench,ledger ledger_submit,bus release ledger base proto,libzmq libuv libprotobuf-c libsodium gnutls jansson libconfig sqlite3))
$(eval $(call program,sp-bench-prefill,tests/bench,prefill,engine model base,gnutls jansson))
