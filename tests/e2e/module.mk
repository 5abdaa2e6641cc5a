$(eval $(call program,sp-e2e,tests/e2e,tool,eval diode release ledger store base proto,gnutls libsodium libisal libseccomp jansson libprotobuf-c libconfig))
$(eval $(call program,quantd-sabotaged,daemons/quantd,main quantd_step quantd_machine quantd_io ../../tests/e2e/sabotage,awq engine model bus release ledger store base proto,libzmq libuv libprotobuf-c libsodium gnutls jansson libconfig libseccomp libpcre2-8 libutf8proc sleef))
$(B)/bin/quantd-sabotaged: private LDFLAGS_ALL += -Wl,--wrap=sp_pack_gemm
ALL += $(B)/bin/slow.so
$(B)/bin/slow.so: tests/e2e/slow.c $(B)/flags
	@mkdir -p $(@D); echo "  LINK    slow.so"
	$(Q)$(CC) $(CFLAGS_ALL) -fPIC -shared -o $@ $< $(LDFLAGS_ALL)
$(eval $(call program,sp-stranger,tests/e2e,stranger,bus release store base proto,libzmq libprotobuf-c libsodium gnutls jansson))
