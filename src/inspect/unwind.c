/* SPDX-License-Identifier: MIT */
/* Frames of a thread: libunwind's view of an image, through accessors. */
#include "src/inspect/unwind.h"

#include <elf.h>
#include <libunwind.h>
#include <stdlib.h>
#include <strings.h>

#include "base/cleanup.h"
#include "src/inspect/regs.h"

/*
 * Exported by libunwind for tools that find the table themselves, but declared in no header; perf
 * uses it the same way.
 */
#define search_unwind_table UNW_OBJ(dwarf_search_unwind_table)
extern int search_unwind_table(unw_addr_space_t as, unw_word_t ip, unw_dyn_info_t *di,
			       unw_proc_info_t *pi, int need_unwind_info, void *arg);

enum {
	READS_PER_FRAME = 1 << 16, /* words; a real one needs some hundreds */
	VDSO_MAX = 1 << 20,
	MAX_REGS = 256,
};

/* Tables built from .eh_frame have no address in the process; they appear here, where none can be.
 */
#define TABLE_ADDR 0xf000000000000000ULL

struct unwind {
	const struct arch_desc *arch;
	struct objects *objects;
	struct procmem *pm;
	unw_addr_space_t as;
	int16_t reg_off[MAX_REGS]; /* libunwind's number to offset in NT_PRSTATUS, -1: none */
	uint8_t reg_size[MAX_REGS];
	/* the vDSO is an object whose file is the image */
	bool vdso_tried;
	struct object vdso;
	uint8_t *vdso_bytes;
	/* while one thread is unwound */
	uint8_t regs[1024];
	uint32_t regs_len;
	struct elf_unwind table; /* the built one that TABLE_ADDR shows now */
	unsigned reads;
	int error; /* -errno of the image, sticks */
	struct err *err;
};

static int read_table(struct unwind *u, uint64_t addr, unw_word_t *val)
{
	uint64_t off = addr - TABLE_ADDR;

	if (!u->table.table || off / 8 >= u->table.n)
		return -UNW_EINVAL;
	memcpy(val, u->table.table + off / 4, sizeof(*val));
	return 0;
}

static int access_mem(unw_addr_space_t as, unw_word_t addr, unw_word_t *val, int write, void *arg)
{
	struct unwind *u = arg;
	int ret;

	if (write || u->error || ++u->reads > READS_PER_FRAME)
		return -UNW_EINVAL;
	if (addr >= TABLE_ADDR && addr - TABLE_ADDR < 1ULL << 32)
		return read_table(u, addr, val);
	ret = procmem_fetch(u->pm, addr, val, sizeof(*val), u->err);
	if (ret && ret != -EFAULT)
		u->error = ret;
	return ret ? -UNW_EINVAL : 0;
}

static int access_reg(unw_addr_space_t as, unw_regnum_t reg, unw_word_t *val, int write, void *arg)
{
	struct unwind *u = arg;

	if (write || reg < 0 || reg >= MAX_REGS || u->reg_off[reg] < 0)
		return -UNW_EBADREG;
	*val = regs_get(u->regs, u->regs_len, (uint32_t)u->reg_off[reg], u->reg_size[reg], u->arch);
	return 0;
}

/* No ABI we unwind saves vector registers across calls in a way CFI describes. */
static int access_fpreg(unw_addr_space_t as, unw_regnum_t reg, unw_fpreg_t *val, int write,
			void *arg)
{
	return -UNW_EBADREG;
}

static int find_proc_info(unw_addr_space_t as, unw_word_t ip, unw_proc_info_t *pi, int need,
			  void *arg)
{
	struct unwind *u = arg;
	struct elf_unwind t;
	unw_dyn_info_t di;
	struct place p;

	unwind_place(u, ip, &p);
	if (!p.loaded || !elf_unwind_table(p.obj->elf, &t))
		return -UNW_ENOINFO;
	u->table = t;
	memset(&di, 0, sizeof(di));
	di.format = UNW_INFO_FORMAT_REMOTE_TABLE;
	di.start_ip = p.vma->start;
	di.end_ip = p.vma->end;
	di.u.rti.segbase = p.bias + t.base;
	di.u.rti.table_data = t.table ? TABLE_ADDR : p.bias + t.vaddr;
	di.u.rti.table_len = t.n * 8 / sizeof(unw_word_t);
	return search_unwind_table(as, ip, &di, pi, need, arg);
}

static void put_unwind_info(unw_addr_space_t as, unw_proc_info_t *pi, void *arg)
{
	/* search_unwind_table() allocates from libunwind's own pool, which goes with the space */
}

static int get_dyn_info(unw_addr_space_t as, unw_word_t *addr, void *arg)
{
	return -UNW_ENOINFO;
}

static int resume(unw_addr_space_t as, unw_cursor_t *c, void *arg)
{
	return -UNW_EINVAL;
}

static int get_proc_name(unw_addr_space_t as, unw_word_t addr, char *buf, size_t len,
			 unw_word_t *off, void *arg)
{
	return -UNW_ENOINFO;
}

/* libunwind's register numbers by name: "RIP" is "rip" of the description. */
static void map_regs(struct unwind *u)
{
	for (int reg = 0; reg < MAX_REGS; reg++) {
		const char *name = reg <= UNW_REG_LAST ? unw_regname(reg) : NULL;

		u->reg_off[reg] = -1;
		for (size_t i = 0; name && u->arch->regs[i].name; i++)
			if (!strcasecmp(u->arch->regs[i].name, name)) {
				u->reg_off[reg] = (int16_t)u->arch->regs[i].off;
				u->reg_size[reg] = u->arch->regs[i].size;
			}
	}
}

struct unwind *unwind_new(const struct arch_desc *arch, struct objects *objects, struct procmem *pm,
			  struct err *err)
{
	static unw_accessors_t accessors = {
		.find_proc_info = find_proc_info,
		.put_unwind_info = put_unwind_info,
		.get_dyn_info_list_addr = get_dyn_info,
		.access_mem = access_mem,
		.access_reg = access_reg,
		.access_fpreg = access_fpreg,
		.resume = resume,
		.get_proc_name = get_proc_name,
	};
	struct unwind *u = calloc(1, sizeof(*u));

	if (!u) {
		err_set(err, ENOMEM, "unwind stacks");
		return NULL;
	}
	u->arch = arch;
	u->objects = objects;
	u->pm = pm;
	map_regs(u);
	u->as = unw_create_addr_space(&accessors, 0);
	if (!u->as) {
		err_set(err, ENOMEM, "unwind stacks");
		free(u);
		return NULL;
	}
	/* Threads stand in the same functions; the cache lives as long as the address space. */
	unw_set_caching_policy(u->as, UNW_CACHE_GLOBAL);
	return u;
}

void unwind_free(struct unwind *u)
{
	if (!u)
		return;
	unw_destroy_addr_space(u->as);
	elf_close(u->vdso.elf);
	free(u->vdso_bytes);
	free(u);
}

/* Its bytes are in the image, as the kernel had mapped them. */
static struct object *vdso_of(struct unwind *u, const struct m_vma *v)
{
	uint64_t len = v->end - v->start, done = 0;

	if (!u->vdso_tried) {
		u->vdso_tried = true;
		u->vdso.fd = -1;
		u->vdso_bytes = len <= VDSO_MAX ? malloc(len) : NULL;
		while (u->vdso_bytes && done < len) {
			ssize_t n = procmem_read(u->pm, v->start + done, u->vdso_bytes + done,
						 len - done, NULL);

			if (n <= 0)
				break;
			done += (uint64_t)n;
		}
		if (done == len)
			u->vdso.elf = elf_of_bytes(u->vdso_bytes, len, NULL);
	}
	return &u->vdso;
}

void unwind_place(struct unwind *u, uint64_t addr, struct place *ret)
{
	const struct m_vma *v = procmem_vma(u->pm, addr);
	struct place p = {.vma = v};

	if (v) {
		p.file_off = addr - v->start;
		if (v->kind == M_VMA_VDSO) {
			p.obj = vdso_of(u, v);
		} else if (v->file_id) {
			p.obj = objects_get(u->objects, v->file_id);
			p.file_off += v->pgoff;
		}
	}
	if (p.obj && p.obj->elf && elf_machine(p.obj->elf) == u->arch->elf_machine &&
	    elf_vaddr_of(p.obj->elf, p.file_off, &p.vaddr)) {
		p.loaded = true;
		p.bias = addr - p.vaddr;
	}
	*ret = p;
}

static const char *reason(int ret)
{
	switch (-ret) {
	case UNW_EBADREG:
		return "a register it needs is not known";
	case UNW_EINVALIDIP:
		return "the next frame has no valid address";
	case UNW_EBADFRAME:
		return "the next frame makes no sense";
	case UNW_ENOINFO:
	case UNW_EUNSPEC:
		return "no unwind information";
	case UNW_EINVAL:
		return "memory it needs is not there";
	}
	return "the unwinder gave up";
}

/*
 * libunwind 1.6 says "signal frame" of the interrupted function's frame, one step after the frame
 * of the trampoline that the kernel made. So each frame is handed out only when the next is known.
 */
static bool step(struct unwind *u, unw_cursor_t *c, struct unwind_frame *f, int *ret)
{
	u->reads = 0;
	*ret = unw_step(c);
	if (*ret <= 0 || unw_is_signal_frame(c) <= 0)
		return false;
	/* The handler "returns" to the first byte of the trampoline: nothing was called before it.
	 */
	f->signal = true;
	f->lookup = f->pc;
	return true;
}

const char *unwind_thread(struct unwind *u, const struct m_thread *t, unsigned max,
			  bool (*emit)(void *arg, const struct unwind_frame *f), void *arg,
			  struct err *err)
{
	const struct m_regset *r = model_regset(t, NT_PRSTATUS);
	bool exact = true; /* pc is where it stood, not where a call returns to */
	unw_cursor_t c;
	int ret;

	if (!r || r->len > sizeof(u->regs))
		return "no general registers in the image";
	memcpy(u->regs, r->data, r->len);
	u->regs_len = r->len;
	regs_undo_restart(u->regs, u->regs_len, t, u->arch);
	u->err = err;
	u->error = 0;
	u->reads = 0;
	ret = unw_init_remote(&c, u->as, u);
	for (unsigned i = 0; ret >= 0; i++) {
		struct unwind_frame f = {0};
		unw_word_t pc = 0;

		if (i == max)
			return "more frames than are shown";
		if (unw_get_reg(&c, UNW_REG_IP, &pc) < 0 || (!pc && i))
			return NULL;
		f.pc = pc;
		f.lookup = exact ? pc : pc - 1;
		exact = step(u, &c, &f, &ret);
		if (!emit(arg, &f) || ret == 0)
			return NULL;
	}
	return u->error ? "the image is damaged there" : reason(ret);
}
