$(eval $(call program,sp-tokenize,tests/peers,tokenize,model base,gnutls jansson libpcre2-8 libutf8proc))
$(eval $(call program,sp-greedy,tests/peers,greedy,engine model base,gnutls jansson libpcre2-8 libutf8proc))
