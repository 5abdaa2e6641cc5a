$(eval $(call lib,store,store tree tree_io))
$(eval $(call unit,store,$(BASE) lib/store/store lib/store/tree lib/store/tree_io,gnutls jansson))
