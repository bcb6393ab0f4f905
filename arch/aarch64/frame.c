/* SPDX-License-Identifier: MIT */
/* aarch64: the signal frame from which a thread puts itself right, should its tracer die. */
#include "arch/aarch64/frame.h"

#include <elf.h>
#include <signal.h>
#include <string.h>

#include "arch/aarch64/sve.h"

/* One register, <asm/sigcontext.h> of Linux 6.9 and 6.12. */
struct word {
	uint32_t magic, len;
	uint8_t value[8];
};

/* struct extra_context, Linux 4.13. */
struct extra {
	uint32_t magic, len;
	uint64_t addr;
	uint32_t size, reserved[3];
};

enum {
	MAGIC_FPMR = 0x46504d52,
	MAGIC_POE = 0x504f4530,
	MAGIC_EXTRA = 0x45585401,
	KERNEL_ROOM = 4096,
	END_LEN = 16,
	SVE_FLAG_SM = 1,
};

static bool is_sve(const struct arch_set *set)
{
	struct sve_header h;

	return (set->note == NT_ARM_SVE || set->note == NT_ARM_SSVE) &&
	       aarch64_sve_header(set, &h) && (h.flags & SVE_REGS) &&
	       set->len >= SVE_HEAD + aarch64_sve_regs_len(h.vl) + 8;
}

/*
 * A call ends streaming mode, which makes FPMR zero. Calls leave POR_EL0 as it is, but rt_sigreturn
 * from a frame without it writes whatever lies on the kernel's stack (Linux 6.13 and newer). ZA and
 * ZT0 stay as they are through calls, and through a frame without them.
 */
bool aarch64_is_lost(const struct arch_set *set)
{
	static const uint8_t zero[8];

	switch (set->note) {
	case NT_ARM_FPMR:
		return set->len == sizeof(zero) && memcmp(set->data, zero, sizeof(zero));
	case NT_ARM_POE:
		return set->len == sizeof(zero);
	}
	return is_sve(set);
}

/* Low halves and status as a frame has them. FPSR and FPCR follow the registers, 16-aligned. */
static void fp_of_sve(struct fpsimd *fp, const struct arch_set *set)
{
	uint32_t end;
	struct sve_header h;

	aarch64_sve_header(set, &h);
	for (unsigned i = 0; i < 32; i++)
		memcpy(fp->v + 16 * i, set->data + SVE_HEAD + i * h.vl, 16);
	end = (SVE_HEAD + aarch64_sve_regs_len(h.vl) + 15) & ~15u;
	if (set->len < end + 8)
		return;
	memcpy(&fp->fpsr, set->data + end, 4);
	memcpy(&fp->fpcr, set->data + end + 4, 4);
}

static uint32_t sve_len(const struct arch_set *set)
{
	struct sve_header h;

	aarch64_sve_header(set, &h);
	return (SVE_HEAD + aarch64_sve_regs_len(h.vl) + 15) & ~15u;
}

static void put_sve(uint8_t *at, const struct arch_set *set)
{
	struct {
		uint32_t magic, len;
		uint16_t vl, flags, reserved[2];
	} head = {.magic = SVE_MAGIC, .len = sve_len(set)};
	struct sve_header h;

	aarch64_sve_header(set, &h);
	head.vl = h.vl;
	head.flags = set->note == NT_ARM_SSVE ? SVE_FLAG_SM : 0;
	memcpy(at, &head, sizeof(head));
	memcpy(at + sizeof(head), set->data + SVE_HEAD, aarch64_sve_regs_len(h.vl));
}

/* Of the two first a thread has one at most. */
struct frame_more aarch64_frame_more(const struct arch_set sets[4])
{
	return (struct frame_more){
		.sve = aarch64_is_lost(&sets[1])   ? &sets[1]
		       : aarch64_is_lost(&sets[0]) ? &sets[0]
						   : NULL,
		.fpmr = aarch64_is_lost(&sets[2]) ? &sets[2] : NULL,
		.poe = aarch64_is_lost(&sets[3]) ? &sets[3] : NULL,
	};
}

static size_t words_len(const struct frame_more *m)
{
	return sizeof(struct word) * (size_t)(!!m->fpmr + !!m->poe);
}

/* Whether the vector registers are in the extra part. */
static bool has_extra(const struct frame_more *m)
{
	return m->sve &&
	       sizeof(struct fpsimd) + words_len(m) + sve_len(m->sve) + END_LEN > KERNEL_ROOM;
}

size_t aarch64_frame_len(const struct frame_more *m)
{
	return sizeof(struct frame) + words_len(m) +
	       (has_extra(m) ? sizeof(struct extra) + END_LEN : 0) +
	       (m->sve ? sve_len(m->sve) : 0) + END_LEN;
}

static uint8_t *put_word(uint8_t *at, uint32_t magic, const struct arch_set *set)
{
	struct word w = {.magic = magic, .len = sizeof(w)};

	if (!set)
		return at;
	memcpy(w.value, set->data, sizeof(w.value));
	memcpy(at, &w, sizeof(w));
	return at + sizeof(w);
}

void aarch64_put_frame(struct frame *f, uint64_t addr, const struct regs *r, uint64_t sigmask,
		       const struct frame_more *m)
{
	uint8_t *at = f->more;

	memset(f, 0, aarch64_frame_len(m));
	/* Not a mode of sigaltstack(2): the kernel then leaves the alternate stack as it is. */
	f->ss_flags = 0x7fff;
	f->sigmask = sigmask;
	memcpy(f->x, r->x, sizeof(f->x));
	f->sp = r->sp;
	f->pc = r->pc;
	f->pstate = r->pstate;
	f->fp.magic = FPSIMD_MAGIC;
	f->fp.len = sizeof(f->fp);
	at = put_word(at, MAGIC_FPMR, m->fpmr);
	at = put_word(at, MAGIC_POE, m->poe);
	if (has_extra(m)) {
		struct extra e = {
			.magic = MAGIC_EXTRA,
			.len = sizeof(e),
			.addr = addr + (uint64_t)(at - (uint8_t *)f) + sizeof(e) + END_LEN,
			.size = sve_len(m->sve) + END_LEN,
		};

		memcpy(at, &e, sizeof(e));
		at += sizeof(e) + END_LEN;
	}
	if (m->sve) {
		fp_of_sve(&f->fp, m->sve);
		put_sve(at, m->sve);
	}
}
