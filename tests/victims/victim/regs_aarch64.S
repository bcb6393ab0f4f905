/* SPDX-License-Identifier: MIT */
/*
 * Loops that hold known values in every register of an aarch64 thread and compare them for ever.
 *
 * uint64_t victim_regs_spin(struct victim_regs *r): sp points to *r while it runs, so that all
 * general registers hold values of the table most of the time; a few are scratch while the others
 * are compared. The caller puts *r on its own stack, below its frame. Returns 0 when told to stop,
 * 100 + n when general register n was wrong, 1000 for a vector or predicate register, 1001 for FPSR or
 * FPCR, 1002 for ZA, 1003 for FPMR, 1004 for POR_EL0, 1005 for ZT0. Offsets as in regs_aarch64.h.
 */
#define R_SAVED_SP 0
#define R_COUNT	   8
#define R_STOP	   16
#define R_MODE	   20		/* 0 FPSIMD, 1 SVE, 2 streaming SVE and ZA */
#define R_FPSR	   24
#define R_FPCR	   28
#define R_GPR	   32		/* x0 to x30 */
#define R_VL	   280
#define R_ZA	   288		/* where the matrix that is wanted lies */
#define R_FPMR	   296		/* 0: none */
#define R_P	   304		/* 16 predicates, each of VL / 8 bytes; then FFR */
#define R_Z	   864		/* 32 vectors, each of VL bytes */
#define R_SCR_P	   9056
#define R_SCR_Z	   9616
#define R_HAS_ZT   17808
#define R_POR	   17816		/* 0: none */
#define R_SAVED	   17824		/* the caller's x29, x30, x19 to x28, d8 to d15 */

	.arch	armv9-a+sme

/* Newer than some assemblers: FPMR, POR_EL0, and what SME2 has for ZT0, at x1. */
#define FPMR	   s3_3_c4_c4_2
#define POR_EL0	   s3_3_c10_c2_4
#define LDR_ZT0_X1 .inst 0xe11f8020
#define STR_ZT0_X1 .inst 0xe13f8020

.macro numbers op
	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	\op	\n
	.endr
.endm

.macro high op
	.irp	n, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
	\op	\n
	.endr
.endm

.macro load_z n
	ldr	z\n, [x0, #\n, mul vl]
.endm
.macro store_z n
	str	z\n, [x0, #\n, mul vl]
.endm
.macro load_p n
	ldr	p\n, [x0, #\n, mul vl]
.endm
.macro store_p n
	str	p\n, [x0, #\n, mul vl]
.endm
.macro load_q n
	ldr	q\n, [x0, #16 * \n]
.endm
.macro store_q n
	str	q\n, [x0, #16 * \n]
.endm

/* From general registers that are compared first; x0 is scratch. */
.macro want n
	ldr	x0, [sp, #R_GPR + 8 * \n]
	cmp	x\n, x0
	mov	x0, #100 + \n
	b.ne	.Lbad
.endm

/* x2 bytes at x0 and x1; x3, x4 are scratch. */
.macro same code
77:	ldr	x3, [x0], #8
	ldr	x4, [x1], #8
	cmp	x3, x4
	mov	x4, #\code
	b.ne	.Lbad4
	subs	x2, x2, #8
	b.hi	77b
.endm

	.text
	.globl	victim_regs_spin
	.type	victim_regs_spin, %function
victim_regs_spin:
	/* Not below sp, where a tool that dies leaves a frame. */
	add	x2, x0, #4, lsl #12
	add	x2, x2, #R_SAVED - 16384
	stp	x29, x30, [x2, #0]
	stp	x19, x20, [x2, #16]
	stp	x21, x22, [x2, #32]
	stp	x23, x24, [x2, #48]
	stp	x25, x26, [x2, #64]
	stp	x27, x28, [x2, #80]
	stp	d8, d9, [x2, #96]
	stp	d10, d11, [x2, #112]
	stp	d12, d13, [x2, #128]
	stp	d14, d15, [x2, #144]
	mov	x1, sp
	str	x1, [x0, #R_SAVED_SP]
	mov	sp, x0

	ldr	w1, [sp, #R_MODE]
	cbz	w1, .Lload_q
	cmp	w1, #2
	b.ne	1f
	smstart
	ldr	x1, [sp, #R_ZA]
	mov	w12, #0
	ldr	x2, [sp, #R_VL]
2:	ldr	za[w12, 0], [x1]
	add	x1, x1, x2
	add	w12, w12, #1
	cmp	w12, w2
	b.lo	2b
	ldr	x2, [sp, #R_HAS_ZT]
	cbz	x2, 3f
	LDR_ZT0_X1
	b	3f
1:	add	x0, sp, #R_P
	ldr	p0, [x0, #16, mul vl]
	wrffr	p0.b
3:	add	x0, sp, #R_Z
	numbers	load_z
	high	load_z
	add	x0, sp, #R_P
	numbers	load_p
	b	.Lload
.Lload_q:
	add	x0, sp, #R_Z
	numbers	load_q
	high	load_q
.Lload:
	ldr	w1, [sp, #R_FPCR]
	msr	fpcr, x1
	ldr	w1, [sp, #R_FPSR]
	msr	fpsr, x1
	ldr	x1, [sp, #R_FPMR]
	cbz	x1, 1f
	msr	FPMR, x1
1:	ldr	x1, [sp, #R_POR]
	cbz	x1, 1f
	msr	POR_EL0, x1
	isb
1:
	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30
	ldr	x\n, [sp, #R_GPR + 8 * \n]
	.endr

.Lloop:
	.rept	16
	ldr	x1, [sp, #R_GPR]
	cmp	x0, x1
	mov	x1, #100
	b.ne	.Lbad1
	ldr	x1, [sp, #R_GPR + 8]
	.irp	n, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30
	want	\n
	.endr
	ldr	x0, [sp, #R_GPR]
	.endr

	mrs	x1, fpsr
	ldr	w0, [sp, #R_FPSR]
	cmp	w0, w1
	mov	x0, #1001
	b.ne	.Lbad
	mrs	x1, fpcr
	ldr	w0, [sp, #R_FPCR]
	cmp	w0, w1
	mov	x0, #1001
	b.ne	.Lbad
	ldr	x0, [sp, #R_FPMR]
	cbz	x0, 1f
	mrs	x1, FPMR
	cmp	x0, x1
	mov	x0, #1003
	b.ne	.Lbad
1:	ldr	x0, [sp, #R_POR]
	cbz	x0, 1f
	mrs	x1, POR_EL0
	cmp	x0, x1
	mov	x0, #1004
	b.ne	.Lbad
1:
	ldr	w1, [sp, #R_MODE]
	cbz	w1, .Lsame_q
	add	x0, sp, #2, lsl #12
	add	x0, x0, #R_SCR_Z - 8192
	numbers	store_z
	high	store_z
	add	x0, sp, #2, lsl #12
	add	x0, x0, #R_SCR_P - 8192
	numbers	store_p
	ldr	x2, [sp, #R_VL]
	lsl	x2, x2, #1
	cmp	w1, #2
	b.eq	1f
	rdffr	p0.b
	str	p0, [x0, #16, mul vl]
	ldr	p0, [x0]
	add	x2, x2, x2, lsr #4
1:	mov	x1, x0
	add	x0, sp, #R_P
	same	1000
	ldr	x2, [sp, #R_VL]
	lsl	x2, x2, #5
	add	x1, sp, #2, lsl #12
	add	x1, x1, #R_SCR_Z - 8192
	add	x0, sp, #R_Z
	same	1000
	ldr	w1, [sp, #R_MODE]
	cmp	w1, #2
	b.ne	.Lagain
	ldr	x5, [sp, #R_ZA]
	mov	w12, #0
2:	add	x1, sp, #2, lsl #12
	add	x1, x1, #R_SCR_Z - 8192
	str	za[w12, 0], [x1]
	mov	x0, x5
	ldr	x2, [sp, #R_VL]
	add	x5, x5, x2
	same	1002
	add	w12, w12, #1
	ldr	x2, [sp, #R_VL]
	cmp	w12, w2
	b.lo	2b
	ldr	x1, [sp, #R_HAS_ZT]
	cbz	x1, .Lagain
	add	x1, sp, #2, lsl #12
	add	x1, x1, #R_SCR_Z - 8192
	STR_ZT0_X1
	mov	x0, x5
	mov	x2, #64
	same	1005
	b	.Lagain
.Lsame_q:
	add	x0, sp, #2, lsl #12
	add	x0, x0, #R_SCR_Z - 8192
	numbers	store_q
	high	store_q
	mov	x1, x0
	add	x0, sp, #R_Z
	mov	x2, #512
	same	1000
.Lagain:
	ldr	x0, [sp, #R_COUNT]
	add	x0, x0, #16
	str	x0, [sp, #R_COUNT]
	ldr	w1, [sp, #R_STOP]
	.irp	n, 2, 3, 4, 5, 12
	ldr	x\n, [sp, #R_GPR + 8 * \n]
	.endr
	mov	x0, #0
	cbnz	w1, .Lbad
	ldr	x0, [sp, #R_GPR]
	ldr	x1, [sp, #R_GPR + 8]
	b	.Lloop
.Lbad4:
	mov	x0, x4
	b	.Lbad
.Lbad1:
	mov	x0, x1
.Lbad:
	ldr	w1, [sp, #R_MODE]
	cmp	w1, #2
	b.ne	1f
	smstop
1:	msr	fpcr, xzr
	ldr	x1, [sp, #R_SAVED_SP]
	add	x2, sp, #4, lsl #12
	add	x2, x2, #R_SAVED - 16384
	ldp	x29, x30, [x2, #0]
	ldp	x19, x20, [x2, #16]
	ldp	x21, x22, [x2, #32]
	ldp	x23, x24, [x2, #48]
	ldp	x25, x26, [x2, #64]
	ldp	x27, x28, [x2, #80]
	ldp	d8, d9, [x2, #96]
	ldp	d10, d11, [x2, #112]
	ldp	d12, d13, [x2, #128]
	ldp	d14, d15, [x2, #144]
	mov	sp, x1
	ret
	.size	victim_regs_spin, . - victim_regs_spin
	.section .note.GNU-stack, "", %progbits
