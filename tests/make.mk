# SPDX-License-Identifier: MIT
# Targets about tests; included by the Makefile at the top.

# --- the victim: tests/victims/victim/*.c linked into one program --------------------------------
# Always without sanitizers: their shadow memory and handlers are not what the tests want to dump.
VICTIM := $(B)/tests/victim
# regs_CPU.c, regs_CPU.S, regs_CPU_*.c, rest_CPU.S: the CPU's own; shadow_CPU.c and shadow.c: where it has shadow stacks.
VICTIM_REGS := $(or $(wildcard tests/victims/victim/regs_$(ARCH_DIR).[cS] tests/victims/victim/regs_$(ARCH_DIR)_*.c tests/victims/victim/rest_$(ARCH_DIR).S),tests/victims/victim/regs_none.c)
VICTIM_SHADOW := $(addprefix tests/victims/victim/,$(if $(wildcard tests/victims/victim/shadow_$(ARCH_DIR).c),shadow.c shadow_$(ARCH_DIR).c))
VICTIM_SRC := $(sort $(filter-out tests/victims/victim/regs_% tests/victims/victim/shadow%,$(wildcard tests/victims/victim/*.c)) $(VICTIM_REGS) $(VICTIM_SHADOW))
VICTIM_OBJS := $(patsubst %.c,$(B)/%.o,$(filter %.c,$(VICTIM_SRC))) $(patsubst %.S,$(B)/%.S.o,$(filter %.S,$(VICTIM_SRC)))
VICTIM_FLAGS := $(filter-out -fsanitize% -fno-sanitize% --coverage,$(ALL_CFLAGS)) -Wno-missing-field-initializers

$(VICTIM_OBJS): ALL_CFLAGS := $(VICTIM_FLAGS)
$(VICTIM): $(VICTIM_OBJS)
	$(Q)$(CC) -pthread $(LDFLAGS) $(STATIC_ALL) -o $@ $^

# A 32-bit process, to be refused: assembly alone, so no 32-bit C library is needed.
VICTIM32 := $(if $(filter x86_64,$(ARCH)),$(B)/tests/victim32)
$(B)/tests/victim32: tests/victims/victim32.s
	@mkdir -p $(@D)
	$(Q)$(CC) -m32 -nostdlib -static -Wl,--build-id=none -o $@ $<

tests: $(VICTIM) $(VICTIM32)

# --- check ----------------------------------------------------------------------------------------
PLAIN_B := build/$(ARCH)
MAKE_IN = +$(Q)$(MAKE) --no-print-directory

.PHONY: check check-builds deps lint format lines floors fuzz bench tests-tsan
check: deps  ## everything a change must pass, from a fresh machine (runs deps)
	$(MAKE_IN) check-builds
	$(Q)BUILDS='$(PLAIN_B) $(PLAIN_B)-asan $(PLAIN_B)-tsan $(PLAIN_B)-faults' tests/run.sh

# Tests in virtual machines of other kernels and CPUs; what make check does of them, alone.
.PHONY: check-vm
check-vm: deps  ## Debian's kernels under qemu, without KVM: tests/vm alone
	$(MAKE_IN) tests
	$(MAKE_IN) builds-vm
	$(Q)BUILD=$(PLAIN_B) tests/run.sh vm/

# Not a part of make check: emulators and kernels of newer Debians, and slow ones.
.PHONY: check-vm-shadow
check-vm-shadow: deps  ## shadow stacks: GCS under QEMU, SHSTK under Bochs: tests/vm-shadow alone
	$(MAKE_IN) $(SHADOW_CPUS:%=build-shadow-%)
	$(Q)VM_SHADOW=1 BUILD=$(PLAIN_B) tests/run.sh vm-shadow/

check-builds:  ## what check needs: plain, clang, ASan+UBSan, TSan (memdump, binlog), failure points
	$(MAKE_IN) tests
	$(MAKE_IN) CC=$(CLANG) tests
	$(MAKE_IN) D=asan tests
	$(MAKE_IN) D=tsan tests-tsan
	$(MAKE_IN) FAULTS=1 all

# What machines of other CPUs boot. Where there is no compiler, or libraries cannot be had, their tests skip and
# say so; what does not compile is an error.
VM_CPUS := $(filter-out $(HOST_ARCH),x86_64 aarch64 ppc64le s390x)
.PHONY: builds-vm tests-vm sysroot
builds-vm: $(VM_CPUS:%=build-vm-%)
build-vm-%:
	@rm -f build/$*/why
	+$(Q)if mkdir -p build/$* && $(MAKE) --no-print-directory ARCH=$* sysroot >build/$*/why 2>&1; then \
		rm -f build/$*/why && $(MAKE) --no-print-directory ARCH=$* CFLAGS=-O1 tests-vm; \
	else \
		rm -f build/$*/tests/victim && echo "not built for $*: $$(grep -v '^make' build/$*/why | tail -n 1)"; \
	fi

SHADOW_CPUS := x86_64 aarch64
build-shadow-%:
	@mkdir -p build/$* && rm -f build/$*/why
	+$(Q)if $(MAKE) --no-print-directory ARCH=$* sysroot >build/$*/why 2>&1; then \
		rm -f build/$*/why && $(MAKE) --no-print-directory ARCH=$* tests && \
			$(MAKE) --no-print-directory ARCH=$* FAULTS=1 all; \
	else \
		rm -f build/$*/tests/victim && echo "not built for $*: $$(grep -v '^make' build/$*/why | tail -n 1)"; \
	fi

sysroot: $(SYSROOT_DONE)
	@command -v $(firstword $(CC)) >/dev/null || { echo "there is no $(firstword $(CC))" && exit 1; }

# The programs, the victim, and of unit tests those that ask a kernel or a CPU.
UNITS_VM := $(filter $(addprefix $(B)/tests/unit/,arch/% target/% memdump/reader_vm memdump/track memdump/soft_dirty \
	memdump/vm_to_file memdump/kin binlog/rings binlog/crash binlog/life inspect/bt inspect/core inspect/show),$(UNITS))
tests-vm: $(PROGRAMS) $(VICTIM) $(UNITS_VM) $(addprefix $(B)/tests/lib/,reaper nosys)

tests-tsan: $(filter $(B)/tests/unit/memdump/% $(B)/tests/unit/binlog/%,$(UNITS))

lint:  ## floors, headers, lines, words, format, shellcheck
	$(Q)BUILDS=$(B) tests/run.sh lint/

lines floors:
	$(Q)tests/lint/$@

format:  ## clang-format on every C file
	$(Q)git ls-files -co --exclude-standard '*.c' '*.h' | xargs $(CLANG_FORMAT) -i --style=file

# --- fuzz: clang's libFuzzer on every tests/fuzz/*.c, FUZZ_SECONDS each --------------------------
FUZZ_SECONDS ?= 60
FUZZ_FLAGS := -fsanitize=fuzzer-no-link,address,undefined
fuzz: deps  ## libFuzzer on every parser (FUZZ_SECONDS=60 each); findings are left in build/fuzz
	$(MAKE_IN) CC=$(CLANG) FUZZING=1 B=build/fuzz fuzz-programs \
		CFLAGS='-O1 -g $(FUZZ_FLAGS)' LDFLAGS='-fsanitize=address,undefined'
	$(Q)tests/lib/fuzz.sh build/fuzz $(FUZZ_SECONDS)

.PHONY: fuzz-programs
fuzz-programs: $(FUZZ)

# --- bench: JSON lines on stdout and in build/bench.jsonl ------------------------------------------
bench: deps  ## the bars of docs: one JSON line per measurement, in build/bench.jsonl too
	$(MAKE_IN) all $(VICTIM) $(BENCHES)
	$(Q)BUILD=$(B) STASIS=$(B)/stasis tests/lib/bench.sh

.PHONY: bench-restore
bench-restore: deps  ## a restore beside bare copies of the same bytes, in build/bench-restore.jsonl too
	$(MAKE_IN) all $(VICTIM) $(VICTIMS) $(B)/tests/bench/floor_fill
	$(Q)BUILD=$(B) STASIS=$(B)/stasis OUT=build/bench-restore.jsonl tests/lib/bench.sh restore restore_scale

.PHONY: bench-binlog
bench-binlog: deps  ## the log's bars beside fprintf and a bare loop, in build/bench-binlog.jsonl too
	$(MAKE_IN) all $(VICTIM) $(B)/tests/bench/binlog
	$(Q)BUILD=$(B) STASIS=$(B)/stasis OUT=build/bench-binlog.jsonl tests/lib/bench.sh binlog binlog_decode binlog_dump

# Sizes of the bars: make bench-downtime DOWNTIME=--full (24 GiB of memory; CRIU=/path/to/criu beside it).
.PHONY: bench-downtime
bench-downtime: deps  ## how long a process stands still, seen from inside, beside other tools (DOWNTIME=--full: the bars; rows: tests/README.md)
	$(MAKE_IN) all $(B)/tests/bench/ticker $(B)/tests/bench/pinger
	$(Q)BUILD=$(B) STASIS=$(B)/stasis OUT=build/bench-downtime.jsonl tests/lib/bench.sh downtime

.PHONY: plots
plots:  ## draws what bench-downtime has measured: SVG in build/plots (installs gnuplot)
	$(Q)tools/setup/deps.sh plots
	$(Q)tests/bench/plots.py build/bench-downtime.jsonl build/plots

# --- the kill test: tests/e2e/kill.sh runs it ------------------------------------------------------
# cpu_CPU.c: the CPU's own threads.
KILL_CPU := $(wildcard tests/e2e/kill/cpu_$(ARCH_DIR).c)
KILL := $(if $(KILL_CPU),$(B)/tests/killtest)
KILL_SRC := $(filter-out tests/e2e/kill/cpu_%,$(wildcard tests/e2e/kill/*.c)) $(KILL_CPU)
KILL_OBJS := $(patsubst %.c,$(B)/%.o,$(KILL_SRC)) $(B)/tests/victims/victim/regs_$(ARCH_DIR).S.o
$(KILL): $(KILL_OBJS) $(call have,target image binlog arch)
	$(Q)$(CC) $(ALL_LDFLAGS) $(STATIC_ALL) -o $@ $^ $(EXT_image) $(EXT_memdump)

tests tests-vm: $(KILL)
