# SPDX-License-Identifier: MIT
# stasis: GNU make, no configure. `make help` lists the targets.

VERSION := 0.1.0
comma := ,
HOST_ARCH := $(shell uname -m)
ARCH ?= $(HOST_ARCH)
# A cross build finds its compiler by itself, and its libraries in a sysroot that it unpacks.
CROSS := $(filter-out $(HOST_ARCH),$(ARCH))
TRIPLE := $(subst ppc64le,powerpc64le,$(ARCH))-linux-gnu
CROSS_COMPILE ?= $(if $(CROSS),$(TRIPLE)-)
SYSROOT := $(if $(CROSS),build/sysroot-$(ARCH))
# A machine that is booted to run tests has no libraries but what the tests bring along.
STATIC ?= $(CROSS)
CC = $(CROSS_COMPILE)gcc
AR = $(CROSS_COMPILE)ar
PKG_CONFIG ?= pkg-config
PROTOC_C ?= protoc-c
CLANG ?= clang-14
CLANG_FORMAT ?= clang-format-14
PREFIX ?= /usr/local

# D=asan|tsan|gcov and FAULTS=1 build beside the plain build, WERROR=1 is for CI.
B := build/$(ARCH)$(if $(filter-out gcc,$(notdir $(firstword $(CC)))),$(if $(CROSS_COMPILE),,-$(notdir $(firstword $(CC)))))$(if $(D),-$(D))$(if $(FAULTS),-faults)
ifeq ($(V),1)
Q :=
else
Q := @
endif

ARCH_DIR := $(if $(filter x86_64,$(ARCH)),x86,$(if $(filter aarch64,$(ARCH)),aarch64,$(if $(filter ppc64le,$(ARCH)),ppc64,$(if $(filter s390x,$(ARCH)),s390,$(error ARCH=$(ARCH) is not one of x86_64 aarch64 ppc64le s390x)))))

CFLAGS ?= -O2 -g
ALL_CPPFLAGS := -D_GNU_SOURCE -D__SANE_USERSPACE_TYPES__ -DSTASIS_VERSION='"$(VERSION)"' -I. -I$(B)/gen $(if $(SYSROOT),-isystem $(SYSROOT)/usr/include -isystem $(SYSROOT)/usr/include/$(TRIPLE)) $(if $(FAULTS),-DFAULTS) $(CPPFLAGS)
ALL_CFLAGS := -std=gnu11 -Wall -Wextra -Wno-unused-parameter -Wmissing-prototypes -Wstrict-prototypes -Wshadow -Wvla \
	-fno-strict-aliasing -fno-omit-frame-pointer -pthread $(if $(WERROR),-Werror) $(CFLAGS)
ifeq ($(D),asan)
ALL_CFLAGS += -fsanitize=address,undefined -fno-sanitize-recover=undefined -O1
SAN_LDFLAGS := -fsanitize=address,undefined
else ifeq ($(D),tsan)
ALL_CFLAGS += -fsanitize=thread -O1
SAN_LDFLAGS := -fsanitize=thread
else ifeq ($(D),gcov)
ALL_CFLAGS += --coverage -O0
SAN_LDFLAGS := --coverage
endif
ALL_LDFLAGS := -pthread $(SAN_LDFLAGS) $(if $(SYSROOT),-L$(SYSROOT)/usr/lib/$(TRIPLE) -Wl$(comma)-rpath-link$(comma)$(SYSROOT)/lib/$(TRIPLE)) $(LDFLAGS)
# Unit tests are static but for libc and cmocka, of which there is no static library.
STATIC_ALL := $(if $(STATIC),-static)
STATIC_EXT := $(if $(STATIC),-Wl$(comma)-Bstatic)
STATIC_END := $(if $(STATIC),-Wl$(comma)-Bdynamic)

# --- sources by folder; a library is one line ---------------------------------------------------
cs = $(sort $(foreach d,$(1),$(wildcard $(d)/*.c)))
SRC_memdump := $(call cs,memdump)
SRC_binlog := $(call cs,binlog)
SRC_arch := $(wildcard arch/arch.c arch/*/regs.c arch/*/fit.c) $(filter-out %/regs.c %/fit.c,$(wildcard arch/$(ARCH_DIR)/*.c))
PROTOS := $(sort $(wildcard src/image/*.proto src/serve/*.proto))
SRC_image := $(call cs,src/image)
SRC_target := $(call cs,src/target)
SRC_ops := $(call cs,src/ops)
SRC_serve := $(call cs,src/serve)
SRC_inspect := $(call cs,src/inspect)
SRC_cmd := $(call cs,src/cmd)
SRC_bindecode := $(call cs,tools/bindecode)

LIBS := memdump binlog arch image target ops serve inspect
objs = $(patsubst %.c,$(B)/%.o,$(1))
PB_OBJS := $(patsubst %.proto,$(B)/gen/%.pb-c.o,$(PROTOS))
PB_HDRS := $(patsubst %.proto,$(B)/gen/%.pb-c.h,$(PROTOS))

lib = $(B)/lib$(1).a
have = $(foreach l,$(1),$(if $(SRC_$(l)),$(call lib,$(l))))
ALL_LIBS := $(call have,$(LIBS))

# Link order: users before the used.
STASIS_LIBS := $(call have,serve ops inspect target image memdump binlog arch)
EXT_memdump := -lzstd -llz4 -lxxhash -luring
EXT_image := -lprotobuf-c
EXT_unwind := -lunwind-$(subst ppc64le,ppc64,$(ARCH)) -lunwind
EXT_inspect := $(EXT_unwind) $(if $(STATIC),-llzma -lz) -ljansson
EXT_ALL = $(EXT_inspect) $(EXT_image) $(EXT_memdump)

PROGRAMS := $(if $(SRC_cmd),$(B)/stasis) $(if $(SRC_bindecode),$(B)/bindecode)

.PHONY: all
all: $(PROGRAMS) $(ALL_LIBS)  ## all programs and libraries (V=1 shows commands, D=asan|tsan|gcov, FAULTS=1)

# --- rules --------------------------------------------------------------------------------------
.SECONDARY:
.DELETE_ON_ERROR:

SYSROOT_DONE := $(if $(SYSROOT),$(SYSROOT)/.done)
$(SYSROOT_DONE): tools/setup/sysroot.sh
	@command -v $(firstword $(CC)) >/dev/null || { echo "there is no $(firstword $(CC)), which 'make deps' installs" && exit 1; }
	$(Q)tools/setup/sysroot.sh $(ARCH) $(SYSROOT)

$(B)/%.o: %.c $(PB_HDRS) | $(SYSROOT_DONE)
	@mkdir -p $(@D)
	$(Q)$(if $(V),,echo "  CC  $<";) $(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(CFLAGS_$(<)) -MMD -MP -c -o $@ $<

$(B)/%.S.o: %.S
	@mkdir -p $(@D)
	$(Q)$(if $(V),,echo "  AS  $<";) $(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(B)/gen/%.pb-c.c $(B)/gen/%.pb-c.h: %.proto
	@mkdir -p $(B)/gen
	$(Q)$(if $(V),,echo "  PB  $<";) $(PROTOC_C) --c_out=$(B)/gen $<

$(B)/gen/%.pb-c.o: $(B)/gen/%.pb-c.c $(PB_HDRS) | $(SYSROOT_DONE)
	$(Q)$(CC) $(ALL_CPPFLAGS) $(filter-out -W%,$(ALL_CFLAGS)) -c -o $@ $<

define LIB_RULE
$$(call lib,$(1)): $$(call objs,$$(SRC_$(1))) $(2)
	@mkdir -p $$(@D)
	$$(Q)rm -f $$@; $$(AR) rcs $$@ $$^
endef
$(foreach l,$(filter-out image,$(LIBS)),$(eval $(call LIB_RULE,$(l))))
$(eval $(call LIB_RULE,image,$(PB_OBJS)))

# After a failure the program prints the last lines of its log: the decoder without its main.
DECODE_OBJS := $(call objs,$(wildcard tools/bindecode/decode*.c))
$(B)/stasis: $(call objs,$(SRC_cmd)) $(DECODE_OBJS) $(STASIS_LIBS)
	$(Q)$(if $(V),,echo "  LD  $@";) $(CC) $(ALL_LDFLAGS) $(STATIC_ALL) -o $@ $^ $(EXT_ALL)

$(B)/bindecode: $(call objs,$(SRC_bindecode))
	$(Q)$(if $(V),,echo "  LD  $@";) $(CC) $(ALL_LDFLAGS) $(STATIC_ALL) -o $@ $^ -ljansson

# --- tests: one program is one test -------------------------------------------------------------
# tests/unit/LIB/NAME.c links lib LIB (and what its floor allows) and nothing else of ours.
UNIT_LIBS_base :=
UNIT_LIBS_memdump := memdump
UNIT_LIBS_binlog := binlog
UNIT_LIBS_arch := arch
UNIT_LIBS_image := image memdump
UNIT_LIBS_target := target image memdump binlog arch
UNIT_LIBS_ops := ops target image memdump binlog arch
UNIT_LIBS_inspect := inspect image memdump arch
UNIT_LIBS_bindecode :=
UNIT_EXT_memdump := $(EXT_memdump)
UNIT_EXT_image := $(EXT_image) $(EXT_memdump)
UNIT_EXT_target := $(EXT_image) $(EXT_memdump)
UNIT_EXT_ops := $(EXT_image) $(EXT_memdump)
# Some static libunwinds do not go together with a shared C library.
UNIT_EXT_inspect := $(STATIC_END) $(EXT_unwind) $(STATIC_EXT) $(filter-out $(EXT_unwind),$(EXT_ALL))
UNIT_EXT_bindecode := -ljansson
# NAME_x86.c and its like: for one CPU alone.
OTHER_CPUS := $(filter-out %_$(ARCH_DIR),%_x86 %_aarch64 %_ppc64 %_s390)
unit_of = $(filter-out $(OTHER_CPUS),$(patsubst tests/unit/%.c,$(B)/tests/unit/%,$(wildcard tests/unit/$(1)/*.c)))
UNIT_ROOMS := base memdump binlog arch image target ops inspect bindecode
UNITS := $(foreach r,$(UNIT_ROOMS),$(call unit_of,$(r)))
define UNIT_RULE
$(call unit_of,$(1)): $(B)/tests/unit/$(1)/%: $(B)/tests/unit/$(1)/%.o $(call have,$(UNIT_LIBS_$(1))) $(if $(filter bindecode,$(1)),$(filter-out %/main.o,$(call objs,$(SRC_bindecode))))
	$$(Q)$$(CC) $$(ALL_LDFLAGS) -o $$@ $$^ $(STATIC_EXT) $(UNIT_EXT_$(1)) $(STATIC_END) -lcmocka
endef
$(foreach r,$(UNIT_ROOMS),$(eval $(call UNIT_RULE,$(r))))

# tests/victims/*.c, tests/lib/*.c, tests/bench/*.c: programs of their own, libc alone (+ libs below).
VICTIMS := $(patsubst %.c,$(B)/%,$(wildcard tests/victims/*.c tests/lib/*.c))
BENCHES := $(patsubst %.c,$(B)/%,$(wildcard tests/bench/*.c))
$(VICTIMS): $(B)/%: $(B)/%.o
	$(Q)$(CC) $(ALL_LDFLAGS) $(STATIC_ALL) -o $@ $^ -lrt -lm
$(BENCHES): $(B)/%: $(B)/%.o $(call have,memdump binlog)
	$(Q)$(CC) $(ALL_LDFLAGS) $(STATIC_ALL) -o $@ $^ $(EXT_memdump) -lrt -lm

# tests/fuzz/*.c: LLVMFuzzerTestOneInput; the plain driver replays the corpus, `make fuzz` uses clang.
FUZZ := $(patsubst tests/fuzz/%.c,$(B)/tests/fuzz/%,$(filter-out tests/fuzz/driver.c,$(wildcard tests/fuzz/*.c)))
$(FUZZ): $(B)/tests/fuzz/%: $(B)/tests/fuzz/%.o $(if $(FUZZING),,$(B)/tests/fuzz/driver.o) $(ALL_LIBS) $(filter-out %/main.o,$(call objs,$(SRC_bindecode)))
	$(Q)$(CC) $(ALL_LDFLAGS) $(STATIC_ALL) $(if $(FUZZING),-fsanitize=fuzzer) -o $@ $(filter-out %.a,$^) $(STASIS_LIBS) $(EXT_ALL)

.PHONY: tests
tests: all $(UNITS) $(VICTIMS) $(FUZZ)  ## builds all that tests/run.sh runs (of one build: D=, FAULTS=1)

# --- the commands of the README -----------------------------------------------------------------
.PHONY: deps demo
deps:  ## installs what is missing (Debian packages, by name)
	@tools/setup/deps.sh check

demo:  ## the main job on a real process, from a fresh machine
	@tools/setup/deps.sh demo
	@$(MAKE) --no-print-directory all
	@tools/setup/demo.sh $(B)/stasis

.PHONY: install
install: all  ## programs, man pages (PREFIX=/usr/local, DESTDIR=)
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 755 $(PROGRAMS) $(DESTDIR)$(PREFIX)/bin
	install -m 644 $(wildcard docs/man/*.1) $(DESTDIR)$(PREFIX)/share/man/man1

.PHONY: print-% clean help
# Under this name it takes criu's command line. A criu that is there stays.
.PHONY: install-criu
install-criu: install  ## a link criu beside the program, unless there is a criu
	@criu='$(DESTDIR)$(PREFIX)/bin/criu'; \
	if [ "$$(readlink "$$criu")" = stasis ]; then exit 0; fi; \
	if [ -e "$$criu" ] || [ -L "$$criu" ]; then \
		echo "$$criu is there and not ours: it stays as it is" >&2; exit 1; fi; \
	ln -s stasis "$$criu"

print-%:
	@echo '$($*)'

clean:  ## removes build/
	rm -rf build

help:  ## this list
	@sed -n 's/^\([a-z_.-]*\):.*## *\(.*\)/\1\t\2/p' Makefile tests/make.mk | expand -t 24

-include tests/make.mk

-include $(shell find $(B) -name '*.d' 2>/dev/null)
