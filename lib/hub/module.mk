$(eval $(call lib,hub,answer address retry exchange client catalog listing plan))
$(eval $(call unit,hub,$(BASE) lib/hub/answer lib/hub/address lib/hub/retry lib/http/range lib/http/url,gnutls jansson))
$(eval $(call unit,hub_plan,$(BASE) lib/hub/catalog lib/hub/listing lib/hub/plan \
	lib/http/range lib/http/reply lib/http/url lib/store/tree,gnutls jansson))
