$(eval $(call lib,bus,outcome paths wire envelope result zloop zap hub lease spawn child bus ask work helper worker_step worker worker_main))
$(eval $(call unit,bus,lib/bus/outcome lib/bus/wire lib/bus/envelope lib/bus/result \
	lib/bus/worker_step proto/bus $(BASE),libprotobuf-c gnutls jansson))
