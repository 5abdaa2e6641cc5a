$(eval $(call lib,base,err hash buf file path time log json conf conf_keys))
$(eval $(call unit,base,$(BASE) lib/base/conf lib/base/conf_keys,gnutls jansson libconfig))
