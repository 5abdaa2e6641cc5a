# Fuzz targets (libFuzzer), built by `make fuzz` alone: it needs clang, which nothing else does.
FUZZ :=
FUZZ_COMMON := tests/fuzz/fuzz tests/fuzz/random

# $(call fuzz,NAME,libs,pkg-config names,objects beside its own)
define fuzz
FUZZ += $(B)/fuzz/$(1)
$(B)/fuzz/$(1): $(call objs,tests/fuzz/$(1) $(FUZZ_COMMON) $(4)) $(patsubst %,$(B)/lib/%.a,$(2)) $(B)/flags
	@mkdir -p $$(@D); echo "  LINK    fuzz/$(1)"
	$$(Q)$(CC) -o $$@ -fsanitize=fuzzer $$(filter %.o,$$^) -Wl,--start-group \
		$$(filter %.a,$$^) -Wl,--end-group $$(LDFLAGS_ALL) $$(call pkglibs,libsodium $(3)) -lm
endef

FUZZ_BUS := libzmq libuv libprotobuf-c gnutls jansson libconfig libseccomp
$(eval $(call fuzz,envelope,bus base proto,$(FUZZ_BUS)))
$(eval $(call fuzz,operator,bus base proto,$(FUZZ_BUS)))
$(eval $(call fuzz,child,bus release store base proto,$(FUZZ_BUS)))
$(eval $(call fuzz,frame,diode base,gnutls))
$(eval $(call fuzz,manifest,diode base proto,gnutls libprotobuf-c))
$(eval $(call fuzz,tree,store base,gnutls))
FUZZ_RELEASE := gnutls jansson libprotobuf-c
$(eval $(call fuzz,part,store base,gnutls))
$(eval $(call fuzz,dsse,release base,$(FUZZ_RELEASE)))
$(eval $(call fuzz,statement,release base,$(FUZZ_RELEASE)))
$(eval $(call fuzz,candidate,release base,$(FUZZ_RELEASE)))
$(eval $(call fuzz,trust,release base,$(FUZZ_RELEASE)))
$(eval $(call fuzz,snapshot,release base,$(FUZZ_RELEASE)))
$(eval $(call fuzz,key,release base,$(FUZZ_RELEASE)))
FUZZ_RIG := tests/unit/release_rig
$(eval $(call fuzz,release,release ledger bus store base proto,cmocka $(FUZZ_RELEASE),$(FUZZ_RIG)))
$(eval $(call fuzz,note,ledger base,gnutls))
$(eval $(call fuzz,log,ledger release bus base proto,$(FUZZ_RELEASE)))
FUZZ_MODEL := gnutls jansson libpcre2-8 libutf8proc
$(eval $(call fuzz,safetensors,model base,$(FUZZ_MODEL)))
$(eval $(call fuzz,index,model base,$(FUZZ_MODEL)))
$(eval $(call fuzz,config,model base,$(FUZZ_MODEL)))
$(eval $(call fuzz,tokenizer,model base,$(FUZZ_MODEL)))
$(eval $(call fuzz,encode,model base,$(FUZZ_MODEL)))
$(eval $(call fuzz,csv,eval model store base,gnutls jansson zlib))
$(eval $(call fuzz,humaneval,eval model store base,gnutls jansson zlib))
$(eval $(call fuzz,admit,release base,$(FUZZ_RELEASE),$(addprefix daemons/admissiond/,admit_vllm admit_step)))
$(eval $(call fuzz,hub,hub http release store base,$(FUZZ_RELEASE),\
	$(addprefix daemons/fetcherd/,fetcherd_policy fetcherd_step)))
$(eval $(call fuzz,policy,hub http release store base,$(FUZZ_RELEASE),daemons/fetcherd/fetcherd_policy))
$(eval $(call fuzz,plan,hub http store base,gnutls jansson))
$(eval $(call fuzz,url,http base,gnutls))
$(eval $(call fuzz,conf,base,gnutls libconfig))
$(eval $(call fuzz,json,base,gnutls jansson))
$(eval $(call fuzz,card,base,gnutls jansson,lib/awq/card))
$(eval $(call fuzz,profile,hub eval model ledger release bus store base proto,$(FUZZ_RELEASE) libconfig zlib,\
	lib/awq/settings lib/awq/card $(addprefix daemons/,ledgerd/profile quantd/quantd_step)))
$(eval $(call fuzz,state,eval model hub release store bus base proto,$(FUZZ_RELEASE) zlib,daemons/registryd/registryd_step))

# not fuzzed: writes seeds
FUZZ_SEED := $(B)/fuzz-seed
$(FUZZ_SEED): $(call objs,tests/fuzz/seed tests/fuzz/random $(FUZZ_RIG)) \
		$(patsubst %,$(B)/lib/%.a,release ledger bus diode model store base proto) $(B)/flags
	@mkdir -p $(@D); echo "  LINK    fuzz-seed"
	$(Q)$(CC) -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group \
		$(LDFLAGS_ALL) $(call pkglibs,cmocka libsodium gnutls jansson libprotobuf-c \
		libpcre2-8 libutf8proc) -lm

fuzz-targets: $(FUZZ) $(FUZZ_SEED)
	$(Q)tests/fuzz/seeds.sh $(FUZZ_SEED) $(B)/fuzz-corpus
	$(Q)tests/fuzz/run.sh $(FUZZ_S) $(B) $(FUZZ)
.PHONY: fuzz-targets
