$(eval $(call lib,http,http reply url))
$(eval $(call unit,http,$(BASE) lib/http/http lib/http/reply lib/http/url,gnutls jansson libmicrohttpd libcurl))
