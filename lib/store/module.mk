$(eval $(call lib,store,store part ranges tree tree_io gc))
$(eval $(call unit,store,$(BASE) lib/store/store lib/store/tree lib/store/tree_io,gnutls jansson))
$(eval $(call unit,store_part,$(BASE) lib/store/store lib/store/part lib/store/ranges,gnutls jansson))
$(eval $(call unit,store_gc,$(BASE) lib/store/store lib/store/tree lib/store/tree_io lib/store/gc,gnutls jansson))
