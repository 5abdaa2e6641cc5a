$(eval $(call program,sp-e2e,tests/e2e,tool,diode release base proto,gnutls libsodium libisal jansson libprotobuf-c libconfig))
