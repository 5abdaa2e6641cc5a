$(eval $(call lib,http,conns http range reply url))
$(eval $(call unit,http,$(BASE) lib/http/conns lib/http/http lib/http/reply lib/http/url,gnutls jansson libmicrohttpd libcurl))
$(eval $(call unit,http_hostile,$(BASE) lib/http/conns lib/http/http lib/http/reply lib/http/url,gnutls jansson libmicrohttpd))
