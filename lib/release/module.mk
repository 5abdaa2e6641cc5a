$(eval $(call lib,release,key dsse trust statement candidate))
