$(eval $(call lib,bus,outcome paths wire envelope zloop zap hub))
