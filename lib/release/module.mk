$(eval $(call lib,release,key dsse trust statement candidate bom chain proof release snapshot))
