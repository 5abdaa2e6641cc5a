$(eval $(call lib,diode,layout frame link fec pace manifest tx assemble entry rx spool udp send recv))
