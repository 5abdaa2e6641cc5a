$(eval $(call lib,http,http range reply url))
$(eval $(call unit,http,$(BASE) lib/http/http lib/http/reply lib/http/url,gnutls jansson libmicrohttpd libcurl))
