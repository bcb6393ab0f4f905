/* SPDX-License-Identifier: MIT */
/*
 * Stacks unwound by whatever call-frame information an ELF object has: the input is the vDSO of an
 * image, whose code the thread stands in; the stack is full of addresses near there.
 */
#include <elf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "src/inspect/unwind.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { PAGE = 4096, NREGS = 27 };

static const uint64_t vdso_addr = 0x7f0000000000, stack_addr = 0x7ff000000000;
static const uint8_t *vdso;
static uint64_t vdso_len;
static uint64_t stack[PAGE / 8];

/* In the place of the image: two mappings' pages. */
int image_mem_extent(struct image_mem *mem, uint64_t space, uint64_t addr,
		     struct md_extent *ret_extent, struct err *err)
{
	return 0;
}

ssize_t image_mem_read(struct image_mem *mem, uint64_t space, uint64_t addr, void *buf, size_t len,
		       struct err *err)
{
	if (addr >= stack_addr && addr - stack_addr < PAGE) {
		uint64_t off = addr - stack_addr;

		len = len < PAGE - off ? len : PAGE - off;
		memcpy(buf, (const uint8_t *)stack + off, len);
		return (ssize_t)len;
	}
	if (addr >= vdso_addr && addr - vdso_addr < vdso_len) {
		uint64_t off = addr - vdso_addr;

		len = len < vdso_len - off ? len : vdso_len - off;
		memcpy(buf, vdso + off, len);
		return (ssize_t)len;
	}
	return 0;
}

static bool emit(void *arg, const struct unwind_frame *f)
{
	struct unwind *u = arg;
	const char *name;
	uint64_t start;
	struct place p;

	unwind_place(u, f->lookup, &p);
	if (p.loaded)
		object_symbol(p.obj, p.vaddr, &name, &start);
	return true;
}

static void unwind_from(const struct model *m, uint64_t off)
{
	const struct arch_desc *arch = arch_host();
	uint64_t regs[NREGS], pc = vdso_addr + off, sp = stack_addr + 64;
	struct m_regset set = {.note = NT_PRSTATUS, .len = sizeof(regs), .data = (void *)regs};
	struct m_thread t = {.tid = 1, .nregsets = 1, .regsets = &set};
	struct objects *objects = objects_new(m);
	struct procmem *pm = objects ? procmem_new(NULL, objects, m, &m->procs[0]) : NULL;
	struct unwind *u = pm ? unwind_new(arch, objects, pm, NULL) : NULL;

	for (size_t i = 0; i < PAGE / 8; i++)
		stack[i] = i % 8 ? vdso_addr + (off + i % 32) % vdso_len : stack_addr + i * 8;
	for (size_t i = 0; i < NREGS; i++)
		regs[i] = stack_addr + 8 * i;
	memcpy((uint8_t *)regs + arch->pc_off, &pc, 8);
	memcpy((uint8_t *)regs + arch->sp_off, &sp, 8);
	if (u)
		unwind_thread(u, &t, 100, emit, u, NULL);
	unwind_free(u);
	procmem_free(pm);
	objects_free(objects);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct m_vma vmas[2] = {
		{.start = vdso_addr, .prot = PROT_READ | PROT_EXEC, .kind = M_VMA_VDSO},
		{.start = stack_addr, .prot = PROT_READ | PROT_WRITE, .kind = M_VMA_ANON},
	};
	struct m_proc proc = {.pid = 1, .state = M_ALIVE, .mm = {.nvmas = 2, .vmas = vmas}};
	struct model m = {.page_size = PAGE, .nprocs = 1, .procs = &proc};

	if (len < 64 || arch_host()->elf_machine != EM_X86_64)
		return 0;
	vdso = data;
	vdso_len = len;
	vmas[0].end = vdso_addr + len;
	vmas[1].end = stack_addr + PAGE;
	m.elf_machine = arch_host()->elf_machine;
	for (uint64_t i = 1; i < 8; i++)
		unwind_from(&m, i * len / 8);
	return 0;
}
