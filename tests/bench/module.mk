$(eval $(call program,sp-bench-ledger,tests/bench,ledger ledger_submit,bus release ledger base proto,libzmq libuv libprotobuf-c libsodium gnutls jansson libconfig sqlite3))
$(eval $(call program,sp-bench-prefill,tests/bench,prefill,engine model base,gnutls jansson))
$(eval $(call program,sp-bench-stream,tests/bench,stream,awq engine model base,gnutls jansson libpcre2-8 libutf8proc sleef))
$(B)/bin/sp-bench-stream: private LDFLAGS_ALL += -Wl,--wrap=sp_map_open
$(eval $(call program,sp-bench-kld,tests/bench,kld,eval engine model base,jansson gnutls libpcre2-8 libutf8proc))
$(eval $(call program,sp-bench-quantize,tests/bench,quantize,awq engine model base,jansson gnutls libpcre2-8 libutf8proc sleef))
