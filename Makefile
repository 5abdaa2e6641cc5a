# Sallyport. `make help` lists the targets.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.SECONDEXPANSION:
MAKEFLAGS += --no-builtin-rules
# every shell of a recipe fails when a command of a pipe does
.SHELLFLAGS := -euo pipefail -c

V ?= 0
Q := $(if $(filter 1,$(V)),,@)
SAN ?= 0
B := build/$(if $(filter 1,$(SAN)),san,rel)
CC := gcc
AR := ar
PREFIX ?= /usr/local

PKGS := libzmq libprotobuf-c libuv libsodium gnutls libcurl libmicrohttpd jansson libpcre2-8 \
	libutf8proc libisal libseccomp libconfig sqlite3 zlib
WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wcast-qual -Werror
CFLAGS ?= -O2 -g
CFLAGS_ALL = -std=c11 -D_GNU_SOURCE $(WARN) -Ilib -Idaemons -I$(B) $(PKG_CFLAGS) \
	-ffile-prefix-map=$(CURDIR)=. -fno-strict-aliasing -fstack-protector-strong \
	-ffp-contract=off -pthread $(SANFLAGS) $(CFLAGS)
LDFLAGS_ALL = -pthread -Wl,--as-needed -Wl,-z,relro,-z,now -Wl,--build-id=none $(SANFLAGS) $(LDFLAGS)
ifeq ($(SAN),1)
SANFLAGS := -fsanitize=address,undefined -fno-omit-frame-pointer -fno-sanitize-recover=all
else
CFLAGS_ALL += -D_FORTIFY_SOURCE=2
endif
# asked once, and only when something is built (a fresh machine has no pkg-config yet)
PKG_CFLAGS = $(eval PKG_CFLAGS := $$(shell pkg-config --cflags $(PKGS)))$(PKG_CFLAGS)

# --- what there is to build: each folder's module.mk adds one line per program or library --------
ALL :=
UNIT :=
OBJS :=
LIBS :=
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

# $(call program,NAME,DIR,sources,libs it may use,pkg-config names)
define program
ALL += $(B)/bin/$(1)
OBJS += $(call objs,$(addprefix $(2)/,$(3)))
$(B)/bin/$(1): $(call objs,$(addprefix $(2)/,$(3))) $(patsubst %,$(B)/lib/%.a,$(4))
	@mkdir -p $$(@D); echo "  LINK    $(1)"
	$$(Q)$(CC) -o $$@ $(call objs,$(addprefix $(2)/,$(3))) -Wl,--start-group \
		$(patsubst %,$(B)/lib/%.a,$(4)) -Wl,--end-group $$(LDFLAGS_ALL) $$(call pkglibs,$(5)) -lm
endef

# $(call unit,NAME,exactly the objects it links beside its own,pkg-config names)
define unit
UNIT += $(B)/unit/$(1)
OBJS += $(B)/tests/unit/$(1).o
$(B)/unit/$(1): $(B)/tests/unit/$(1).o $(call objs,$(2))
	@mkdir -p $$(@D); echo "  LINK    unit/$(1)"
	$$(Q)$(CC) -o $$@ $$^ $$(LDFLAGS_ALL) $$(call pkglibs,cmocka $(3)) -lm
endef

BASE := lib/base/err lib/base/hash lib/base/buf lib/base/file lib/base/path lib/base/time \
	lib/base/log lib/base/json

all: deps-present
	$(Q)$(MAKE) --no-print-directory -j$$(nproc) programs

include $(sort $(wildcard lib/*/module.mk daemons/*/module.mk tests/*/module.mk))

programs: $$(ALL)

# --- rules ----------------------------------------------------------------------------------------
$(B)/proto/%.pb-c.c $(B)/proto/%.pb-c.h: proto/%.proto
	@mkdir -p $(@D)
	$(Q)protoc-c --proto_path=proto --c_out=$(B)/proto $<

$(B)/proto/%.o: $(B)/proto/%.pb-c.c
	$(Q)$(CC) -std=c11 -I$(B) -I$(B)/proto $(SANFLAGS) -O2 -g -fPIC \
		-ffile-prefix-map=$(CURDIR)=. -c -o $@ $<

$(B)/lib/proto.a: $(PROTO_C:.pb-c.c=.o)
	$(Q)rm -f $@ && $(AR) rcsD $@ $^

$(B)/%.o: %.c | $(PROTO_H)
	@mkdir -p $(@D); echo "  CC      $<"
	$(Q)$(CC) $(CFLAGS_ALL) -I$(B)/proto -MMD -MP -c -o $@ $<

-include $(shell find $(B) -name '*.d' 2>/dev/null)
