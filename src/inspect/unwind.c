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
	uint8_t fpregs[1024]; /* NT_FPREGSET */
	uint32_t fpregs_len;
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

/* Where general registers are kept in floating-point ones, which are those of the innermost frame.
 */
static int access_fpreg(unw_addr_space_t as, unw_regnum_t reg, unw_fpreg_t *val, int write,
			void *arg)
{
	struct unwind *u = arg;
	const struct arch_unwind *a = u->arch->unwind;
	uint64_t bits;

	if (write || !a || reg < a->fp_first || reg >= a->fp_first + a->nfp)
		return -UNW_EBADREG;
	bits = regs_get(u->fpregs, u->fpregs_len, a->fp_off + 8u * (unsigned)(reg - a->fp_first), 8,
			u->arch);
	memcpy(val, &bits, sizeof(bits));
	return 0;
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

/* The description's name for what libunwind calls @name. */
static const char *our_name(const struct arch_desc *arch, const char *name)
{
	const struct arch_alias *a = arch->unwind ? arch->unwind->names : NULL;

	for (; a && a->theirs; a++)
		if (!strcasecmp(a->theirs, name))
			return a->ours;
	return name;
}

/* libunwind's register numbers by name: "RIP" is "rip" of the description. */
static void map_regs(struct unwind *u)
{
	for (int reg = 0; reg < MAX_REGS; reg++) {
		const char *name = reg <= UNW_REG_LAST ? unw_regname(reg) : NULL;

		u->reg_off[reg] = -1;
		name = name ? our_name(u->arch, name) : NULL;
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

static bool is_at(struct unwind *u, uint64_t pc, const struct arch_gadget *g)
{
	uint8_t buf[16];

	return g->len <= sizeof(buf) && !procmem_fetch(u->pm, pc, buf, g->len, NULL) &&
	       !memcmp(buf, g->bytes, g->len);
}

/*
 * Whether @pc is at the code that a signal handler returns to. *ret: how to go on from there, NULL:
 * libunwind knows.
 */
static bool at_sigreturn(struct unwind *u, uint64_t pc, const struct arch_sigframe **ret)
{
	const struct arch_sigframe *f = u->arch->unwind ? u->arch->unwind->frames : NULL;
	const struct arch_gadget *g = arch_inject.sigreturn;

	for (; f && f->code.len; f++)
		if (is_at(u, pc, &f->code)) {
			*ret = f;
			return true;
		}
	*ret = NULL;
	for (; !f && g->len; g++)
		if (is_at(u, pc, g))
			return true;
	return false;
}

/* From the handler's frame to what it interrupted. */
static int step_out(struct unwind *u, unw_cursor_t *c, const struct arch_sigframe *f)
{
	unw_word_t sp;
	int ret;

	if (f->regs_len > u->regs_len || unw_get_reg(c, UNW_REG_SP, &sp) < 0)
		return -UNW_EBADREG;
	ret = procmem_fetch(u->pm, sp + f->off, u->regs, f->regs_len, u->err);
	if (ret == 0)
		ret = procmem_fetch(u->pm, sp + f->off + f->regs_len, u->fpregs, f->fp_len, u->err);
	if (ret && ret != -EFAULT)
		u->error = ret;
	if (ret)
		return -UNW_EINVAL;
	u->fpregs_len = f->fp_len;
	ret = unw_init_remote(c, u->as, u);
	return ret < 0 ? ret : 1;
}

/* The registers of the thread, in @u. */
static bool begin(struct unwind *u, const struct m_thread *t)
{
	const struct m_regset *r = model_regset(t, NT_PRSTATUS), *fp = model_regset(t, NT_FPREGSET);

	if (!r || r->len > sizeof(u->regs))
		return false;
	memcpy(u->regs, r->data, r->len);
	u->regs_len = r->len;
	u->fpregs_len = fp && fp->len <= sizeof(u->fpregs) ? fp->len : 0;
	if (u->fpregs_len)
		memcpy(u->fpregs, fp->data, fp->len);
	regs_undo_restart(u->regs, u->regs_len, t, u->arch);
	return true;
}

const char *unwind_thread(struct unwind *u, const struct m_thread *t, unsigned max,
			  bool (*emit)(void *arg, const struct unwind_frame *f), void *arg,
			  struct err *err)
{
	const struct arch_sigframe *out;
	bool exact = true; /* pc is where it stood, not where a call returns to */
	unw_cursor_t c;
	int ret;

	if (!begin(u, t))
		return "no general registers in the image";
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
		/* A handler "returns" to the first byte there: nothing was called before it. */
		f.signal = at_sigreturn(u, pc, &out);
		f.lookup = exact || f.signal ? pc : pc - 1;
		exact = f.signal;
		if (!emit(arg, &f))
			return NULL;
		/* libunwind looks at code there, and believes that no instruction begins elsewhere.
		 */
		if (arch_inject.code_align && pc % arch_inject.code_align)
			return reason(-UNW_EINVALIDIP);
		u->reads = 0;
		ret = out ? step_out(u, &c, out) : unw_step(&c);
		if (ret == 0)
			return NULL;
	}
	return u->error ? "the image is damaged there" : reason(ret);
}
