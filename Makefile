# Sallyport. `make help` lists the targets.
SHELL := /bin/bash
# every shell of a recipe fails when a command of a pipe does
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.SECONDEXPANSION:
MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := all

V ?= 0
Q := $(if $(filter 1,$(V)),,@)
SAN ?= 0
B := build/$(if $(filter 1,$(SAN)),san,rel)
# where `make san` builds: beside B when the command line names one
SAN_B := $(if $(filter command,$(firstword $(origin B))),$(B)-san,build/san)
CC := gcc
CXX := g++
AR := ar
# 1: also what runs on a GPU, by the system's CUDA or by the packages of cuda/toolkit.txt
CUDA ?= 0
PREFIX ?= /usr/local
# where `make fuzz` builds, likewise, and for how long each target runs
FUZZ_B := $(if $(filter command,$(firstword $(origin B))),$(B)-fuzz,build/fuzz)
FUZZ_S ?= 20
# where `make coverage` builds, and the share of lib/'s lines that tests must run
COVERAGE_B := $(if $(filter command,$(firstword $(origin B))),$(B)-coverage,build/coverage)
COVERAGE_PERCENT := 85
CRASH_KILLS ?= 1000
CRASH_SEED ?=

# Debian 12's packages: what is built against, what checks, and what the tests run
# (g++: the kernels of cuda/, which tests run on the CPU)
PACKAGES := gcc g++ libc6-dev make pkg-config protobuf-c-compiler libzmq3-dev libprotobuf-c-dev \
	libuv1-dev libsodium-dev libgnutls28-dev libcurl4-gnutls-dev libmicrohttpd-dev \
	libjansson-dev libpcre2-dev libutf8proc-dev libisal-dev libseccomp-dev libconfig-dev \
	libsqlite3-dev zlib1g-dev libsleef-dev \
	libcmocka-dev clang-format clang-tidy cppcheck \
	bubblewrap python3 jq curl gnutls-bin ca-certificates systemd strace
# `make peers` and, without the system's CUDA, `make cuda` alone
PEERS_PACKAGES := python3-venv
# `make fuzz` alone
FUZZ_PACKAGES := clang-14 libclang-rt-14-dev

PKGS := libzmq libprotobuf-c libuv libsodium gnutls libcurl libmicrohttpd jansson libpcre2-8 \
	libutf8proc libisal libseccomp libconfig sqlite3 zlib sleef
WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wcast-qual -Werror
CFLAGS ?= -O2 -g
CFLAGS_ALL = -std=c11 -D_GNU_SOURCE $(WARN) -Ilib -Idaemons -Icuda -I$(B) -I$(B)/proto $(PKG_CFLAGS) \
	-ffile-prefix-map=$(CURDIR)=. -fno-strict-aliasing -fstack-protector-strong \
	-ffp-contract=off -pthread $(SANFLAGS) $(CFLAGS)
# what protoc-c writes is not ours to warn about
CFLAGS_PROTO = -std=c11 -I$(B)/proto $(SANFLAGS) -O2 -g -fPIC -ffile-prefix-map=$(CURDIR)=.
LDFLAGS_ALL = -pthread -Wl,--as-needed -Wl,-z,relro,-z,now -Wl,--build-id=none $(SANFLAGS) $(LDFLAGS)
ifeq ($(SAN),1)
SANFLAGS := -fsanitize=address,undefined -fno-omit-frame-pointer -fno-sanitize-recover=all
else
CFLAGS_ALL += -D_FORTIFY_SOURCE=2
endif
FUZZ_FLAGS := -fsanitize=address,undefined,fuzzer-no-link -fno-omit-frame-pointer \
	-fno-sanitize-recover=all
# asked once, and only when something is built (a fresh machine has no pkg-config yet)
PKG_CFLAGS = $(eval PKG_CFLAGS := $$(shell pkg-config --cflags $(PKGS)))$(PKG_CFLAGS)

# a make that was given no -j uses every processor
SUBMAKE = $(MAKE) --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j$$(nproc))

# --- what there is to build: each folder's module.mk adds one line per program or library --------
ALL :=
UNIT :=
OBJS :=
LIBS :=
INSTALL :=
PROTOS := $(wildcard proto/*.proto)
PROTO_C := $(PROTOS:proto/%.proto=$(B)/proto/%.pb-c.c)
PROTO_H := $(PROTO_C:.c=.h)

objs = $(patsubst %,$(B)/%.o,$(1))
pkglibs = $(shell pkg-config --libs $(1))

# $(call lib,NAME,sources without .c): archive build/.../NAME.a
define lib
LIBS += $(B)/lib/$(1).a
OBJS += $(call objs,$(addprefix lib/$(1)/,$(2)))
$(B)/lib/$(1).a: $(call objs,$(addprefix lib/$(1)/,$(2))) $(3)
	$$(Q)rm -f $$@ && $(AR) rcsD $$@ $$^
endef

# $(call program,NAME,DIR,sources,libs it may use,pkg-config names): a program, installed when a
# daemon's module.mk names it. Flags of one program: `$(B)/bin/NAME: private LDFLAGS_ALL += …`;
# without `private` they would reach what it is made of.
define program
ALL += $(B)/bin/$(1)
INSTALL += $(if $(filter daemons/%,$(lastword $(MAKEFILE_LIST))),$(1))
OBJS += $(call objs,$(addprefix $(2)/,$(3)))
$(B)/bin/$(1): $(call objs,$(addprefix $(2)/,$(3))) $(patsubst %,$(B)/lib/%.a,$(4)) $(B)/flags
	@mkdir -p $$(@D); echo "  LINK    $(1)"
	$$(Q)$(CC) -o $$@ $(call objs,$(addprefix $(2)/,$(3))) -Wl,--start-group \
		$(patsubst %,$(B)/lib/%.a,$(4)) -Wl,--end-group $$(LDFLAGS_ALL) $$(call pkglibs,$(5)) -lm
endef

# $(call unit,NAME,exactly the objects it links beside its own,pkg-config names)
define unit
UNIT += $(B)/unit/$(1)
OBJS += $(B)/tests/unit/$(1).o
$(B)/unit/$(1): $(B)/tests/unit/$(1).o $(call objs,$(2)) $(B)/flags
	@mkdir -p $$(@D); echo "  LINK    unit/$(1)"
	$$(Q)$(CC) -o $$@ $$(filter %.o,$$^) $$(LDFLAGS_ALL) $$(call pkglibs,cmocka $(3)) -lm
endef

BASE := lib/base/err lib/base/hash lib/base/buf lib/base/file lib/base/path lib/base/time \
	lib/base/log lib/base/json lib/base/notify lib/base/source
# reading text as a model does; with jansson, libpcre2-8 and libutf8proc
TOKENIZER := $(addprefix lib/model/,nfc pattern bpe tokenizer \
	$(addprefix tokenizer_,field parts vocab parse normal added word decode))
# what keeps a worker's child from all that it does not need; with libseccomp
CONFINE := lib/bus/confine lib/bus/confine_filter lib/bus/confine_mounts lib/base/landlock

# what scripts learn of the build
RUN_ENV = B=$(B) BIN=$(abspath $(B))/bin

# --- targets -------------------------------------------------------------------------------------
all: deps-present ## build every program (default)
	+$(Q)$(SUBMAKE) programs

include $(sort $(wildcard lib/*/module.mk daemons/*/module.mk tests/*/module.mk)) systemd/module.mk
include cuda/module.mk

programs: $$(ALL)
units: $$(UNIT)

deps: ## install the Debian packages that are missing; as another user than root only name them
	$(Q)sh tests/check/deps.sh install $(PACKAGES)

deps-present:
	$(Q)sh tests/check/deps.sh present $(PACKAGES)

test: deps-present ## unit tests, then integration tests with the real daemons
	+$(Q)$(SUBMAKE) programs units
	$(Q)$(RUN_ENV) tests/run.sh $(UNIT) $(wildcard tests/integration/*.sh)

test-unit: deps-present ## unit tests alone
	+$(Q)$(SUBMAKE) units
	$(Q)$(RUN_ENV) TEST_SLOWER=$(if $(filter 1,$(SAN)),4,1) tests/run.sh $(UNIT)

san: deps-present ## unit tests under AddressSanitizer and UndefinedBehaviorSanitizer
	+$(Q)$(SUBMAKE) SAN=1 B=$(SAN_B) test-unit

fuzz: deps-present ## each fuzz target for FUZZ_S seconds (20); installs clang when it is missing
	$(Q)sh tests/check/deps.sh install $(FUZZ_PACKAGES) >&2
	+$(Q)$(SUBMAKE) SAN=1 B=$(FUZZ_B) CC=clang-14 SANFLAGS='$(FUZZ_FLAGS)' fuzz-targets

coverage: deps-present ## lines of lib/ that unit and integration tests run; fails below 85 %
	+$(Q)$(SUBMAKE) B=$(COVERAGE_B) CFLAGS='-O1 -g -Wno-error --coverage' \
		LDFLAGS=--coverage coverage-run

# counts add up over runs: they begin with none
coverage-run: programs units
	$(Q)find $(B) -name '*.gcda' -delete
	$(Q)$(RUN_ENV) TEST_SLOWER=4 tests/run.sh $(UNIT) $(wildcard tests/integration/*.sh)
	$(Q)python3 tests/check/coverage.py $(B) $(COVERAGE_PERCENT)

check: deps-present ## format, static analysis, headers that compile alone, size budgets, units
	+$(Q)$(SUBMAKE) check-format check-budgets check-headers check-cppcheck check-tidy check-units
	@echo "check: all passed"

crash: all ## kill -9 at CRASH_KILLS (1000) random moments, CRASH_SEED (drawn): what must hold then
	$(Q)$(RUN_ENV) tests/integration/kill9.sh
	$(Q)$(RUN_ENV) INJECT_STRIDE=1 tests/integration/inject.sh
	$(Q)$(RUN_ENV) tests/e2e/crash.sh $(CRASH_KILLS) $(CRASH_SEED)

check-reproducible: deps-present ## HEAD built twice, in different directories, gives the same programs
	$(Q)tests/check/reproducible.sh

demo: all ## both sides on this machine: a model goes the whole way
	$(Q)$(RUN_ENV) tests/e2e/demo.sh

bench: all ## speeds and sizes, as ratios; `make bench-NAME` runs one (tests/bench/NAME.sh)
	$(Q)$(RUN_ENV) tests/bench/run.py

bench-%: all
	$(Q)$(RUN_ENV) tests/bench/run.py $*

cuda: deps-present ## what runs on a GPU, compiled; where the system has no CUDA it is fetched once
	$(Q)sh tests/check/deps.sh install $(PEERS_PACKAGES) >&2 || true
	+$(Q)$(SUBMAKE) CUDA=1 gpu-programs

gpu-check: deps-present ## on a GPU: every kernel against the CPU's; fails where there is none
	+$(Q)$(SUBMAKE) CUDA=1 gpu-check-run

gpu-bench: deps-present ## on a GPU: bandwidth, products, every kernel beside what is attainable
	+$(Q)$(SUBMAKE) CUDA=1 gpu-bench-run

peers: all $(B)/unit/awq_f32 ## against the real peers (PEERS="hf tlog": only those); says which could not be had
	$(Q)sh tests/check/deps.sh install $(PEERS_PACKAGES) >&2 || true
	$(Q)$(RUN_ENV) tests/peers/run.sh $(PEERS)

install: all install-units ## install under $(DESTDIR)$(PREFIX)
	$(Q)for p in $(INSTALL); do \
		dir=sbin; if [ "$$p" = sallyctl ]; then dir=bin; fi; \
		install -D -m 0755 "$(B)/bin/$$p" "$(DESTDIR)$(PREFIX)/$$dir/$$p"; \
	done
	$(Q)for page in $(wildcard daemons/*/*.[158]); do \
		install -D -m 0644 "$$page" \
			"$(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$${page##*/}"; \
	done
	$(Q)install -D -m 0644 share/calibration.jsonl \
		"$(DESTDIR)$(PREFIX)/share/sallyport/calibration.jsonl"
	$(Q)"$(B)/bin/sallyctl" completion bash | install -D -m 0644 /dev/stdin \
		"$(DESTDIR)$(PREFIX)/share/bash-completion/completions/sallyctl"

clean: ## remove what was built
	rm -rf $(B) $(SAN_B) $(FUZZ_B) $(COVERAGE_B)

help: ## this list
	@sed -n 's/^\([a-z-]*\):.* ## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20
	@echo; echo "V=1 shows commands, SAN=1 builds with sanitizers, B=DIR builds in DIR, -jN limits"

.PHONY: all programs units deps deps-present test test-unit san fuzz coverage coverage-run crash check demo bench peers cuda gpu-check gpu-bench install clean help \
	check-format check-budgets check-headers check-cppcheck check-tidy check-reproducible FORCE

# --- checks --------------------------------------------------------------------------------------
# tests/vectors holds what other implementations wrote
SOURCES := $(sort $(filter-out tests/vectors/%,$(shell find lib daemons tests cuda \
	-name '*.[ch]' 2>/dev/null)))
# those of C++ have others that need them
HEADERS := $(filter-out cuda/gpu.h cuda/mma.h cuda/emu/%,$(filter %.h,$(SOURCES)))

check-format:
	$(Q)clang-format --dry-run -Werror $(SOURCES) $(wildcard cuda/*.cu cuda/emu/*.cc)

check-budgets:
	$(Q)python3 tests/check/budgets.py && python3 tests/check/conf_keys.py

check-headers: $(HEADERS:%=$(B)/check/%.o)

$(B)/check/%.h.o: %.h $(B)/flags | $(PROTO_H)
	@mkdir -p $(@D)
	$(Q)$(CC) -x c $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

# the cache knows the sources' changes, but not those of what cppcheck is told
check-cppcheck:
	$(Q)cache=$(B)/cppcheck/$$(cat tests/check/cppcheck.* Makefile | sha1sum | cut -c -8); \
	mkdir -p $$cache; \
	cppcheck --quiet --std=c11 --library=posix,gnu,tests/check/cppcheck.xml \
		--enable=warning,performance,portability --inline-suppr \
		--suppressions-list=tests/check/cppcheck.txt --error-exitcode=1 \
		--cppcheck-build-dir=$$cache -j "$$(nproc)" -D_GNU_SOURCE -Ilib -Idaemons \
		--include=/usr/include/$$($(CC) -print-multiarch)/sys/queue.h \
		$(filter %.c,$(SOURCES))

# one stamp a file, older than nothing that the file includes; a file that fails says so every time
check-tidy: $(patsubst %,$(B)/tidy/%.ok,$(filter %.c,$(SOURCES)))

$(B)/tidy/%.c.ok: %.c .clang-tidy tests/check/tidy.h $(B)/flags | $(PROTO_H)
	@mkdir -p $(@D); echo "  TIDY    $<"
	$(Q)$(CC) $(CFLAGS_ALL) -MM -MP -MT $@ -MF $(@:.ok=.d) $<
	$(Q)clang-tidy --quiet $< -- $(filter-out -D_FORTIFY_SOURCE=% -ffile-prefix-map=%,$(CFLAGS_ALL)) \
		$(if $(filter lib/base/err.c,$<),,-include tests/check/tidy.h) 2>$(@:.ok=.err) || \
		{ grep -v ' generated\.$$' $(@:.ok=.err) >&2; exit 1; }
	@touch $@

# --- rules ---------------------------------------------------------------------------------------
# flags: changes when the compiler or its flags do, and everything is built from it
$(B)/flags: FORCE
	@mkdir -p $(@D)
	@flags='$(subst ','\'',$(CC) $(CFLAGS_ALL) / $(CFLAGS_PROTO) / $(LDFLAGS_ALL))'; \
		if [ "$$flags" != "$$(cat $@ 2>/dev/null)" ]; then printf '%s\n' "$$flags" >$@; fi

# protoc-c writes both files at once; a .proto may import any other
$(B)/proto/%.pb-c.c $(B)/proto/%.pb-c.h: proto/%.proto $(PROTOS)
	@mkdir -p $(@D)
	$(Q)protoc-c --proto_path=proto --c_out=$(B)/proto $<

$(B)/proto/%.o: $(B)/proto/%.pb-c.c $(B)/flags | $(PROTO_H)
	$(Q)$(CC) $(CFLAGS_PROTO) -MMD -MP -c -o $@ $<

$(B)/lib/proto.a: $(PROTO_C:.pb-c.c=.o)
	@mkdir -p $(@D)
	$(Q)rm -f $@ && $(AR) rcsD $@ $^

$(B)/%.o: %.c $(B)/flags | $(PROTO_H)
	@mkdir -p $(@D); echo "  CC      $<"
	$(Q)$(CC) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

# kept between runs, though only pattern rules mention them
.SECONDARY: $(PROTO_C) $(PROTO_H)

-include $(shell find $(B) -name '*.d' 2>/dev/null)
