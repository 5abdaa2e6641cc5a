$(eval $(call lib,release,key))
