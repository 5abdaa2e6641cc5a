$(eval $(call lib,bus,outcome paths wire envelope result zloop zap hub lease spawn child bus ask work helper worker_step worker worker_main))
