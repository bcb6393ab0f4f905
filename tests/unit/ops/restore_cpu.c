/* SPDX-License-Identifier: MIT */
/* Images that this CPU cannot take, and register sets that are none: refused, each with its reason.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arch/arch.h"
#include "src/ops/restore.h"
#include "src/target/keys.h"
#include "src/target/put.h"

enum { XSTATE = 0x202, XCR0_OFF = 464, XSTATE_BV_OFF = 512, VL_OFF = 8 /* of SVE */, NSETS = 80 };

/* One process with one thread that has every register set of this CPU. */
static uint8_t bytes[ARCH_REGSET_MAX];
static struct m_regset sets[NSETS];
static struct m_thread thread;
static struct m_proc proc;
static struct model model;
static uint64_t auxv[4];
static struct restore_opts opts;
static struct restore restore;
static struct err err;

static int fresh(void **state)
{
	uint32_t n = 0;

	memset(bytes, 0, sizeof(bytes));
	bytes[VL_OFF] = 16;
	/* Without the pointer of a shadow stack, which is there when that is on. */
	for (const struct arch_regset *a = arch_host()->regsets; a->note; a++)
		if (!arch_inject.shadow || arch_inject.shadow->on ||
		    a->note != arch_inject.shadow->note)
			sets[n++] = (struct m_regset){a->note,
						      a->size		  ? a->size
						      : a->max_size < 576 ? a->max_size
									  : 576,
						      bytes};
	thread = (struct m_thread){.tid = 77, .nregsets = n, .regsets = sets};
	memcpy(auxv, (uint64_t[4]){AT_HWCAP, 0, AT_HWCAP2, 0}, sizeof(auxv));
	proc = (struct m_proc){.pid = 77, .comm = "p", .nthreads = 1, .threads = &thread};
	proc.mm.nauxv = 4;
	proc.mm.auxv = auxv;
	model = (struct model){.elf_machine = arch_host()->elf_machine,
			       .page_size = (uint32_t)sysconf(_SC_PAGESIZE),
			       .nprocs = 1,
			       .procs = &proc};
	opts = (struct restore_opts){.dir = "i"};
	restore = (struct restore){.opts = &opts, .model = &model};
	return 0;
}

static void refused(const char *why)
{
	int ret;

	err = (struct err){0};
	ret = restore_check_cpu(&restore, &err);
	if (ret >= 0 || !strstr(err.msg, why))
		fail_msg("wanted \"%s\", got %d \"%s\"", why, ret, err.msg);
}

static void taken(void)
{
	err = (struct err){0};
	if (restore_check_cpu(&restore, &err) < 0)
		fail_msg("%s", err.msg);
}

static void another_machine(void **state)
{
	taken();
	model.elf_machine = model.elf_machine == EM_S390 ? EM_PPC64 : EM_S390;
	refused("an image of another CPU");
	fresh(state);
	model.page_size = model.page_size == 65536 ? 4096 : 65536;
	refused(model.page_size == 65536 ? "pages of 65536 bytes, this kernel of"
					 : "pages of 4096 bytes, this kernel of 65536");
	fresh(state);
	model.nprocs = 0;
	refused("holds no process");
}

static void hostile_sets(void **state)
{
	uint32_t n = thread.nregsets;

	thread.nregsets = 0;
	taken(); /* a leader that has ended */
	thread.nregsets = n;
	thread.regsets = sets + 1;
	thread.nregsets = n - 1;
	refused("no general registers");
	fresh(state);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t len = sets[i].len;

		sets[i].len = 0;
		refused("has 0 bytes");
		sets[i].len = arch_host()->regsets[i].size ? len + 8 : ARCH_REGSET_MAX + 1;
		refused(arch_host()->regsets[i].name);
		sets[i].len = len;
	}
	taken();
	sets[n] = sets[0];
	thread.nregsets = n + 1;
	refused("0x1 twice");
	sets[n].note = 0x7777; /* not known here: the kernel decides */
	taken();
	for (uint32_t i = n; i < NSETS; i++)
		sets[i] = (struct m_regset){0x8000 + i, 8, bytes};
	thread.nregsets = NSETS;
	refused("80 register sets");
}

/* The whole of what is looked at, also in a second thread and process. */
static void second_ones(void **state)
{
	struct m_thread two[2] = {thread, thread};
	struct m_proc procs[2] = {proc, proc};

	two[1].tid = 78;
	two[1].nregsets = 0;
	proc.threads = two;
	proc.nthreads = 2;
	refused("thread 78 has no general registers");
	fresh(state);
	procs[1].pid = 79;
	procs[1].threads = &two[1];
	two[1] = thread;
	two[1].tid = 79;
	two[1].regsets = sets + 1;
	model.procs = procs;
	model.nprocs = 2;
	refused("thread 79 has no general registers");
	procs[1].state = M_DEAD;
	taken();
}

static void told_features(void **state)
{
	auxv[3] = 1ull << 63;
	refused("pid 77 (p) was started on a CPU that has what this one lacks: AT_HWCAP2 0x8000000000000000");
	assert_non_null(strstr(err.hint, "--cpu-cap ^ins"));
	opts.cpu_unchecked = RESTORE_CPU_FPU;
	refused("AT_HWCAP2");
	opts.cpu_unchecked = RESTORE_CPU_INS;
	taken();
	/* AT_HWCAP3 and AT_HWCAP4; 27 is the size of what restartable sequences have. */
	fresh(state);
	auxv[2] = 29, auxv[3] = 1ull << 63;
	refused("this one lacks: AT_HWCAP3 0x8000000000000000");
	auxv[2] = 30, auxv[3] = 1ull << 62;
	refused("this one lacks: AT_HWCAP4 0x4000000000000000");
	auxv[2] = 27;
	taken();
}

/* A name stands for one bit, a bit has one name. */
static void names_of_features(void **state)
{
	static const struct arch_desc *const all[] = {&arch_x86_64, &arch_aarch64, &arch_ppc64,
						      &arch_s390};

	for (unsigned i = 0; i < 4; i++)
		for (const struct arch_cap *c = all[i]->caps; c->name; c++) {
			assert_true(c->bit && !(c->bit & (c->bit - 1)));
			assert_true(c->type == AT_HWCAP || c->type == AT_HWCAP2 || c->type == 29);
			for (const struct arch_cap *d = c + 1; d->name; d++)
				if (!strcmp(c->name, d->name) ||
				    (c->type == d->type && c->bit == d->bit))
					fail_msg("%s: %s and %s", all[i]->name, c->name, d->name);
		}
	if (arch_host()->elf_machine != EM_AARCH64)
		return;
	auxv[2] = 29, auxv[3] = 1 << 2 | 1 << 1 | 1ull << 40;
	refused("this one lacks: mtestoreonly, lsfe, AT_HWCAP3 0x10000000000");
}

static const struct arch_ins *ins_of(const char *name)
{
	for (const struct arch_ins *i = arch_x86_64.ins; i->name; i++)
		if (!strcmp(i->name, name))
			return i;
	fail_msg("%s has no name", name);
	return NULL;
}

static void has_ins(const char *name)
{
	const struct arch_ins *i = ins_of(name);

	model.cpu_words[i->word] |= 1u << i->bit;
}

/* What no CPU has together: an instruction that was given up, and one that is newer. */
static void instructions(void **state)
{
	uint32_t mine[ARCH_INS_WORDS], whole[ARCH_INS_WORDS];

	if (!arch_host_ins(mine)) {
		assert_false(arch_host()->ins);
		skip();
	}
	taken(); /* of a version that did not look */
	model.ncpu_words = ARCH_INS_WORDS;
	memcpy(model.cpu_words, mine, sizeof(mine));
	taken();
	has_ins("avx512pf");
	has_ins("amx_complex");
	refused("i was made on a CPU with instructions that this one lacks: avx512pf, amx_complex");
	assert_null(strstr(err.msg, ", sse"));
	assert_non_null(strstr(err.hint, "--cpu-cap ^ins"));
	opts.cpu_unchecked = RESTORE_CPU_FPU;
	refused("avx512pf");
	opts.cpu_unchecked = RESTORE_CPU_INS;
	taken();
	/* Bits without a name are compared, too, with all that this CPU says. */
	fresh(state);
	arch_inject.ins_words(whole);
	model.ncpu_words = ARCH_INS_WORDS + 1;
	memcpy(model.cpu_words, whole, sizeof(whole));
	taken();
	model.cpu_words[ARCH_INS_WORDS] = 0x10;
	refused("this one lacks: word 11 0x10");
	/* More than a message holds. */
	memset(model.cpu_words, 0xff, sizeof(model.cpu_words));
	model.ncpu_words = ARCH_INS_WORDS;
	refused(" more");
	assert_null(strstr(err.msg, "sse2"));
}

/* AMX: registers and instructions that a process may use when it has asked for them. */
static void permitted(void **state)
{
	const uint64_t amx = 3ull << 17;
	uint64_t v = amx | 3;

	if (!arch_inject.permits || arch_inject.permits->here())
		skip();
	memcpy(bytes + XCR0_OFF, &v, sizeof(v));
	arch_host_ins(model.cpu_words);
	model.ncpu_words = ARCH_INS_WORDS;
	has_ins("amx_tile");
	has_ins("amx_int8");
	refused("instructions that this one lacks: amx_tile, amx_int8"); /* nobody knows */
	proc.permitted = ~(1ull << 18);
	taken();
	has_ins("avx512pf");
	refused("instructions that this one lacks: avx512pf");
	proc.permitted = ~0ull;
	refused("instructions that this one lacks: avx512pf, amx_tile, amx_int8");
	/* And registers. */
	model.ncpu_words = 0;
	refused("thread 77 ran on a CPU with registers that this one lacks: AMX configuration, AMX tiles");
	proc.permitted = 0;
	refused("AMX configuration, AMX tiles");
	proc.permitted = ~(1ull << 18);
	v |= 1ull << 40;
	memcpy(bytes + XCR0_OFF, &v, sizeof(v));
	refused("registers that this one lacks: XCR0 0x10000000000");
	v = amx | 3;
	memcpy(bytes + XCR0_OFF, &v, sizeof(v));
	taken();
	/* Whatever it was permitted, they are in use. */
	v = amx;
	memcpy(bytes + XSTATE_BV_OFF, &v, sizeof(v));
	opts.cpu_unchecked = RESTORE_CPU_FPU | RESTORE_CPU_INS;
	refused("thread 77 has registers that this CPU lacks: AMX configuration, AMX tiles");
}

/* No bit of a CPU that only kernels make use of is in an image. */
static void words(void **state)
{
	uint32_t mine[ARCH_INS_WORDS], seen[ARCH_INS_WORDS] = {0};

	for (const struct arch_ins *i = arch_x86_64.ins; i->name; i++) {
		assert_true(i->word < ARCH_INS_WORDS && i->bit < 32);
		assert_false(seen[i->word] >> i->bit & 1);
		seen[i->word] |= 1u << i->bit;
	}
	if (!arch_host_ins(mine))
		skip();
	for (unsigned i = 0; i < ARCH_INS_WORDS; i++)
		assert_false(mine[i] & ~seen[i]);
	/* SSE2, which all have; VMX and the APIC, the hypervisor, NX. */
	assert_true(mine[1] >> 26 & 1);
	assert_false(mine[0] >> 5 & 1 || mine[1] >> 9 & 1 || mine[0] >> 31 || mine[8] >> 20 & 1);
}

/* No CPU has bit 40 of XCR0; Linux has no use for bit 8. */
static void vectors(void **state)
{
	uint64_t v = 1ull << 40 | 3;

	if (arch_host()->elf_machine != EM_X86_64)
		skip();
	memcpy(bytes + XCR0_OFF, &v, sizeof(v));
	refused("thread 77 ran on a CPU with registers that this one lacks: XCR0 0x10000000000");
	assert_non_null(strstr(err.hint, "--cpu-cap ^fpu"));
	opts.cpu_unchecked = RESTORE_CPU_INS;
	refused("XCR0");
	opts.cpu_unchecked = RESTORE_CPU_FPU;
	taken();
	v = 1 << 8;
	memcpy(bytes + XSTATE_BV_OFF, &v, sizeof(v));
	refused("thread 77 has registers that this CPU lacks: processor trace, XCR0 0x10000000000");
	v = 0;
	memcpy(bytes + XSTATE_BV_OFF, &v, sizeof(v));
	taken();
}

/* A length that no CPU of today has, in the one set that has it in use. */
static void vector_lengths(void **state)
{
	enum { LONGEST = 256, FLAGS_OFF = 12 };
	struct m_regset *set = NULL;

	for (uint32_t i = 0; i < thread.nregsets; i++)
		if (sets[i].note == NT_ARM_SVE)
			set = &sets[i];
	bytes[VL_OFF] = 0;
	bytes[VL_OFF + 1] = LONGEST >> 8;
	if (!set || !arch_inject.cpu_lacks ||
	    !arch_inject.cpu_lacks(&(struct arch_set){NT_ARM_SVE, 576, bytes}, 0, &(bool){false},
				   (char[192]){0}, 192))
		skip();
	refused("thread 77 ran on a CPU with registers that this one lacks: SVE vectors of 2048 "
		"bits, in place of which it has ");
	assert_non_null(strstr(err.hint, "--cpu-cap ^fpu"));
	bytes[FLAGS_OFF] = 1;
	opts.cpu_unchecked = RESTORE_CPU_FPU;
	refused("thread 77 has registers that this CPU lacks: SVE vectors of 2048 bits");
}

static void tags_of_memory(void **state)
{
	struct m_vma v = {.start = 0x10000, .end = 0x12000, .flags = M_VMF_TAGS};

	proc.mm.nvmas = 1;
	proc.mm.vmas = &v;
	opts.cpu_unchecked = RESTORE_CPU_INS | RESTORE_CPU_FPU;
	if (arch_host_tags())
		taken();
	else
		refused("pid 77 (p) has memory with tags at 0x10000, which this CPU or its kernel "
			"does not have: MTE");
	v.flags = 0;
	taken();
}

/* What only the bytes of a set tell: see tests/fuzz/regsets.c for those of all CPUs. */
static void hostile_bytes(void **state)
{
	uint64_t v = 3;

	if (arch_host()->elf_machine != EM_X86_64)
		skip();
	memcpy(bytes + XCR0_OFF, &v, sizeof(v));
	taken();
	bytes[XSTATE_BV_OFF] = 4;
	refused("NT_X86_XSTATE (0x202) of thread 77 has registers that its XCR0 does not tell of");
	bytes[XSTATE_BV_OFF] = 3;
	bytes[XSTATE_BV_OFF + 15] = 0x80;
	refused("NT_X86_XSTATE (0x202) of thread 77 is in the compacted format");
	bytes[XSTATE_BV_OFF + 15] = 0;
	bytes[XSTATE_BV_OFF + 63] = 1;
	refused("NT_X86_XSTATE (0x202) of thread 77 has something in the part of its header");
	bytes[XSTATE_BV_OFF + 63] = 0;
	taken();
	/* MXCSR; NT_PRFPREG has the same bytes and comes first. */
	bytes[27] = 1;
	refused("NT_FPREGSET (0x2) of thread 77 has reserved bits in its MXCSR");
	sets[1] = sets[2];
	thread.nregsets = 2;
	refused("NT_X86_XSTATE (0x202) of thread 77 has reserved bits in its MXCSR");
	bytes[27] = 0;
	taken();
	sets[1].len = 575;
	refused("NT_X86_XSTATE (0x202) of thread 77 is cut off");
}

/* A pointer of a shadow stack, where the model has one from 0x10000 to 0x12000. */
static void shadow_stacks(void **state)
{
	static uint8_t words[24];
	const struct arch_shadow *s = arch_inject.shadow;
	struct m_vma vmas[2] = {{.start = 0x10000, .end = 0x12000, .flags = M_VMF_SHSTK},
				{.start = 0x20000, .end = 0x30000}};
	static const uint64_t outside[] = {0, 0xfff8, 0x12008, 0x20000, 0x11004, ~7ull};
	struct m_proc procs[2] = {proc, proc};
	struct m_regset *set = NULL;
	uint64_t v;

	if (!s)
		skip();
	proc.mm.nvmas = 2;
	proc.mm.vmas = vmas;
	for (uint32_t i = 0; i < thread.nregsets; i++)
		if (sets[i].note == s->note)
			set = &sets[i];
	if (!set)
		set = &sets[thread.nregsets++];
	memset(words, 0, sizeof(words));
	memcpy(words, &s->on, sizeof(s->on));
	*set = (struct m_regset){s->note, s->pointer_off + 8, words};
	thread.shadow = s->nr ? 1 : 0;
	for (unsigned i = 0; i < sizeof(outside) / sizeof(outside[0]); i++) {
		memcpy(words + s->pointer_off, &outside[i], 8);
		refused("of thread 77 points to 0");
	}
	for (v = 0x10000; v <= 0x12000; v += 0x800) {
		memcpy(words + s->pointer_off, &v, 8);
		if (put_has_shadow())
			taken();
		else
			refused("thread 77 has a shadow stack, which this CPU");
	}
	/* The mappings are another process's, who shares them. */
	procs[0].mm.nvmas = 2;
	procs[0].mm.vmas = vmas;
	procs[0].nthreads = 0;
	procs[0].vm_id = procs[1].vm_id = 5;
	procs[1].mm.nvmas = 0;
	procs[1].shares_vm = true;
	model.procs = procs;
	model.nprocs = 2;
	if (put_has_shadow())
		taken();
	else
		refused("thread 77 has a shadow stack, which this CPU");
	procs[1].shares_vm = false;
	refused("of thread 77 points to 0x");
	model.procs = &proc;
	model.nprocs = 1;
	if (!s->nr)
		return;
	thread.shadow = 0;
	refused("the pointer of a shadow stack that is not on");
	thread.shadow = 1;
	thread.nregsets--;
	refused("is on and has no pointer");
	thread.shadow = 0;
	taken();
}

/* Whether it is taken depends on this machine. */
static void known_key(int key, const char *what)
{
	char why[80];

	snprintf(why, sizeof(why), "does not have protection key %d (pkeys), which %s", key, what);
	if (keys_here() >> key & 1)
		taken();
	else
		refused(why);
}

static void keys_of_memory(void **state)
{
	struct m_vma vmas[2] = {{.start = 0x10000, .end = 0x12000},
				{.start = 0x20000, .end = 0x30000}};

	proc.mm.nvmas = 2;
	proc.mm.vmas = vmas;
	taken();
	vmas[1].pkey = 3;
	known_key(3, "its memory at 0x20000 has");
	vmas[1].pkey = 31;
	known_key(31, "its memory at 0x20000 has");
	/* The kernel's own. */
	vmas[1].prot = PROT_EXEC;
	vmas[1].pkey = 1;
	if (keys_here())
		taken();
	else
		refused("protection key 1 (pkeys), which its memory at 0x20000 has");
	vmas[1].pkey = 0;
	proc.mm.pkeys = 1 << 5;
	known_key(5, "it has allocated");
	proc.mm.pkeys = 1u << 31;
	known_key(31, "it has allocated");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(another_machine, fresh),
		cmocka_unit_test_setup(hostile_sets, fresh),
		cmocka_unit_test_setup(second_ones, fresh),
		cmocka_unit_test_setup(told_features, fresh),
		cmocka_unit_test_setup(names_of_features, fresh),
		cmocka_unit_test_setup(instructions, fresh),
		cmocka_unit_test_setup(permitted, fresh),
		cmocka_unit_test_setup(words, fresh),
		cmocka_unit_test_setup(vectors, fresh),
		cmocka_unit_test_setup(hostile_bytes, fresh),
		cmocka_unit_test_setup(shadow_stacks, fresh),
		cmocka_unit_test_setup(vector_lengths, fresh),
		cmocka_unit_test_setup(tags_of_memory, fresh),
		cmocka_unit_test_setup(keys_of_memory, fresh),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
