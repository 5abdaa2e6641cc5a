$(eval $(call lib,engine,pool kernels layer weights forward))
