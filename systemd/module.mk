# Units are made from UNIT.service.in: what all daemons give up is written once, in hardening.in.
UNITS := $(patsubst %.in,$(B)/%,$(wildcard systemd/*.service.in))

$(B)/systemd/%.service: systemd/%.service.in systemd/hardening.in systemd/local-network.in $(B)/prefix
	@mkdir -p $(@D)
	$(Q)sed -e '/^@HARDENING@$$/{r systemd/hardening.in' -e 'd}' \
		-e '/^@LOCAL_NETWORK@$$/{r systemd/local-network.in' -e 'd}' \
		-e 's|@SBIN@|$(PREFIX)/sbin|' $< >$@

$(B)/prefix: FORCE
	@mkdir -p $(@D)
	@if [ "$(PREFIX)" != "$$(cat $@ 2>/dev/null)" ]; then echo "$(PREFIX)" >$@; fi

install-units: $(UNITS)
	$(Q)lib="$(DESTDIR)$(PREFIX)/lib"; \
	install -d "$$lib/systemd/system" "$$lib/sysusers.d" "$$lib/tmpfiles.d"; \
	install -m 0644 $(UNITS) $(wildcard systemd/*.target) "$$lib/systemd/system"; \
	install -m 0644 systemd/sallyport.sysusers "$$lib/sysusers.d/sallyport.conf"; \
	install -m 0644 systemd/sallyport.tmpfiles "$$lib/tmpfiles.d/sallyport.conf"

check-units:
	+$(Q)sh tests/check/units.sh

.PHONY: install-units check-units
