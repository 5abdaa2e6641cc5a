$(eval $(call lib,hub,source answer client table listing plan))
