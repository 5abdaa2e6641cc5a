$(eval $(call lib,engine,pool kernels attention layer weights forward))
