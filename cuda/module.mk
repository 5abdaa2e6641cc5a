# The kernels, twice: by g++ for the emulator, which the tests of every build run, and by nvcc for a
# GPU with CUDA=1.
CUDA_SOURCES := memory gemm norm stats gram factor plane round attention int4
CUDA_REAL := device gemm_lt
GPU_EMU := $(addprefix cuda/,$(CUDA_SOURCES)) $(addprefix cuda/emu/,emu device gemm) lib/model/dtype lib/base/err

CXXFLAGS_EMU = -std=c++17 -D_GNU_SOURCE -DSP_EMU -Icuda -Ilib -Wall -Wextra \
	-Wno-unknown-pragmas -Werror -fno-exceptions -fno-rtti -fno-threadsafe-statics \
	-ffp-contract=off -fno-strict-aliasing -ffile-prefix-map=$(CURDIR)=. $(SANFLAGS) -O1

$(B)/cuda/%.o: cuda/%.cu $(B)/flags-emu
	@mkdir -p $(@D); echo "  CXX     $<"
	$(Q)$(CXX) -x c++ $(CXXFLAGS_EMU) -MMD -MP -c -o $@ $<

$(B)/cuda/emu/%.o: cuda/emu/%.cc $(B)/flags-emu
	@mkdir -p $(@D); echo "  CXX     $<"
	$(Q)$(CXX) $(CXXFLAGS_EMU) -MMD -MP -c -o $@ $<

$(B)/flags-emu: FORCE
	@mkdir -p $(@D)
	@flags='$(subst ','\'',$(CXX) $(CXXFLAGS_EMU))'; \
		if [ "$$flags" != "$$(cat $@ 2>/dev/null)" ]; then printf '%s\n' "$$flags" >$@; fi

# $(call gpu_unit,NAME,what it links beside the kernels,pkg-config names): a test of kernels: of the
# emulator's as any unit test, and of the GPU's as $(B)/gpu/NAME
GPU_PROGRAMS :=
GPU_CHECKS :=
define gpu_unit
$(call unit,$(1),$(2) tests/unit/gpu_rig $(GPU_EMU),$(3))
GPU_CHECKS += $(B)/gpu/$(1)
$(call gpu_program,$(1),tests/unit/$(1) tests/unit/gpu_rig $(2) lib/model/dtype lib/base/err,cmocka $(3))
endef

# $(call gpu_program,NAME,its objects,pkg-config names)
define gpu_program
GPU_PROGRAMS += $(B)/gpu/$(1)
OBJS += $(call objs,$(filter tests/% cuda/%,$(2)))
$(B)/gpu/$(1): $(sort $(call objs,$(2))) $(CUDA_OBJECTS) $(B)/flags $(B)/flags-cuda
	@mkdir -p $$(@D); echo "  LINK    gpu/$(1)"
	$$(Q)$(CXX) -o $$@ $$(filter %.o,$$^) $$(LDFLAGS_ALL) $$(CUDA_LIBS) $(if $(strip $(3)),$$(call pkglibs,$(3))) -lm
endef

# sm_80: A100; sm_89: L4, L40; sm_90: H100, H200; sm_100: B200, whose PTX newer ones translate
CUDA_ARCHS := 80 89 90 100
CUDA_LT = $(firstword $(wildcard $(addprefix $(CUDA_AT)/,lib64/libcublasLt.so lib/libcublasLt.so \
	lib/*-linux-gnu/libcublasLt.so lib/libcublasLt.so.*)))
CUDA_OBJECTS := $(patsubst %,$(B)/nv/%.o,$(CUDA_SOURCES) $(CUDA_REAL))
ifeq ($(CUDA),1)
CUDA_AT := $(shell cuda/toolkit.sh)
ifeq ($(CUDA_AT),)
$(error CUDA=1: no CUDA toolkit: see above)
endif
ifeq ($(CUDA_LT),)
$(error CUDA=1: $(CUDA_AT) has no lib64/libcublasLt.so: install cuBLAS, or say CUDA_HOME=)
endif
# what this one knows of: sm_100 from CUDA 12.8 on
CUDA_KNOWN := $(shell $(CUDA_AT)/bin/nvcc --list-gpu-arch)
CUDA_ARCHS := $(foreach a,$(CUDA_ARCHS),$(if $(filter compute_$a,$(CUDA_KNOWN)),$a))
ifeq ($(CUDA_ARCHS),)
$(error CUDA=1: $(CUDA_AT)/bin/nvcc knows of none of sm_80, sm_89, sm_90, sm_100)
endif
CUDA_SEED := $(findstring --frandom-seed,$(shell $(CUDA_AT)/bin/nvcc --help))
endif
CUDA_CODE = $(foreach a,$(CUDA_ARCHS),-gencode arch=compute_$a,code=sm_$a) \
	-gencode arch=compute_$(lastword $(CUDA_ARCHS)),code=compute_$(lastword $(CUDA_ARCHS))
NVCCFLAGS = -std=c++17 -D_GNU_SOURCE -Icuda -Ilib -O3 -Werror all-warnings $(CUDA_CODE) \
	-Xcompiler -Wall,-Wextra,-Werror,-Wno-unused-parameter,-fno-strict-aliasing,-ffile-prefix-map=$(CURDIR)=.
CUDA_LIBS = $(CUDA_LT) -Wl,-rpath,$(dir $(CUDA_LT)) $(firstword $(wildcard $(addsuffix /libcudart_static.a,$(CUDA_AT)/lib* $(CUDA_AT)/lib/*-linux-gnu))) -ldl -lrt

$(B)/nv/%.o: cuda/%.cu $(B)/flags-cuda
	@mkdir -p $(@D); echo "  NVCC    $<"
	$(Q)$(CUDA_AT)/bin/nvcc $(NVCCFLAGS) $(if $(CUDA_SEED),$(CUDA_SEED) $<) -ccbin $(CXX) -MMD -MP -c -o $@ $<

$(B)/flags-cuda: FORCE
	@mkdir -p $(@D)
	@flags='$(subst ','\'',$(CUDA_AT) $(NVCCFLAGS))'; \
		if [ "$$flags" != "$$(cat $@ 2>/dev/null)" ]; then printf '%s\n' "$$flags" >$@; fi

KERNELS := lib/engine/kernels lib/engine/pool
$(eval $(call gpu_unit,gpu_norm,$(KERNELS),))
$(eval $(call gpu_unit,gpu_plus,$(KERNELS) $(addprefix lib/awq/,gram factor plane round),))
$(eval $(call gpu_unit,gpu_round,$(KERNELS) $(addprefix lib/awq/,gram search power round pack),sleef))
$(eval $(call gpu_unit,gpu_attention,$(KERNELS) lib/engine/attention,))
$(eval $(call gpu_unit,gpu_int4,$(KERNELS) $(addprefix lib/awq/,round pack),))

$(eval $(call gpu_program,bench,cuda/bench lib/model/dtype lib/base/err,))

programs: $$(if $$(filter 1,$$(CUDA)),$$(GPU_PROGRAMS))

gpu-programs: $$(GPU_PROGRAMS)

gpu-check-run: $$(GPU_CHECKS)
	$(Q)for test in $^; do echo "== $${test##*/}"; "$$test" || exit 1; done

gpu-bench-run: $(B)/gpu/bench
	$(Q)$(B)/gpu/bench $(B)/gpu-bench.json
