$(eval $(call lib,http,http url))
$(eval $(call unit,http,$(BASE) lib/http/http lib/http/url,gnutls jansson libmicrohttpd libcurl))
