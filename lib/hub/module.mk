$(eval $(call lib,hub,source answer client table listing plan))
$(eval $(call unit,hub,$(BASE) lib/hub/source lib/hub/answer lib/hub/table lib/hub/listing \
	lib/hub/plan lib/http/reply lib/http/url lib/store/tree,gnutls jansson))
