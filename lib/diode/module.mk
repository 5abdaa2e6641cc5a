$(eval $(call lib,diode,layout frame link fec pace manifest tx assemble entry rx spool udp send recv))
$(eval $(call unit,diode_fec,$(addprefix lib/diode/,fec layout pace) lib/base/err,libisal))
$(eval $(call unit,diode_frame,$(addprefix lib/diode/,frame link layout) lib/base/err,gnutls))
$(eval $(call unit,diode_rx,tests/unit/diode_channel $(addprefix lib/diode/,rx entry assemble tx frame fec layout manifest) $(addprefix lib/base/,err hash path time buf) proto/diode,libisal gnutls libprotobuf-c))
