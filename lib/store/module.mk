$(eval $(call lib,store,store part ranges tree tree_io))
$(eval $(call unit,store,$(BASE) lib/store/store lib/store/tree lib/store/tree_io,gnutls jansson))
$(eval $(call unit,store_part,$(BASE) lib/store/store lib/store/part lib/store/ranges,gnutls jansson))
