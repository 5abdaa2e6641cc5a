$(eval $(call lib,hub,answer address client catalog listing plan))
$(eval $(call unit,hub,$(BASE) lib/hub/answer lib/hub/address lib/hub/catalog lib/hub/listing \
	lib/hub/plan lib/http/reply lib/http/url lib/store/tree,gnutls jansson))
