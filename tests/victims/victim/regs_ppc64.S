/* SPDX-License-Identifier: MIT */
/*
 * A loop that holds known values in every register of a ppc64le thread and compares them for ever.
 *
 * uint64_t victim_regs_spin(struct victim_regs *r): r1 points to *r while it runs. r0 and r12 are
 * scratch, r2 and r13 stay what they are; all others hold values of the table all the time, vs0 but
 * while all vector registers are compared. Returns 0 when told to stop, 100 + n when general register n
 * was wrong, 200 and up for special ones, 1000 for vectors. Offsets as in regs_ppc64.c.
 */
#define R_SAVED_SP 0
#define R_COUNT	   8
#define R_STOP	   16
#define R_ISA31	   20		/* POWER10: hashst */
#define R_CR	   24
#define R_XER	   32
#define R_CTR	   40
#define R_LR	   48
#define R_TAR	   56
#define R_DSCR	   64
#define R_PPR	   72
#define R_VRSAVE   80
#define R_FPSCR	   88
#define R_HASH	   96		/* what hashst makes of r1 and r2 */
#define R_SC_PPR   104		/* what a system call leaves in PPR */
#define R_SAVED	   112		/* r14 to r31, LR, CR, r2 */
#define R_GPR	   304
#define R_VSCR	   560
#define R_VEC	   576		/* 64 vectors of 16 bytes */
#define R_SCRATCH  1600
#define R_SCR	   2624

#define SPR_DSCR   3
#define SPR_VRSAVE 256
#define SPR_TAR	   815
#define SPR_PPR	   896

.macro want_gpr n
	ld	12, R_GPR + 8 * \n(1)
	cmpd	12, \n
	li	12, 100 + \n
	bne	.Lbad
.endm

/* r0 has the value. */
.macro want where, code
	ld	12, \where(1)
	cmpd	12, 0
	li	12, \code
	bne	.Lbad
.endm

/* hashst r2, -8(r1 + R_SCR + 8), which assemblers know since POWER10 */
.macro hash
	addi	12, 1, R_SCR + 8
	.long	31 << 26 | 31 << 21 | 12 << 16 | 2 << 11 | 722 << 1 | 1
	ld	0, R_SCR(1)
.endm

	.machine power8
	.abiversion 2
	.text
	.globl	victim_regs_spin
	.type	victim_regs_spin, @function
victim_regs_spin:
	std	1, R_SAVED_SP(3)
	mr	1, 3
	.irp	n, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
	std	\n, R_SAVED + 8 * (\n - 14)(1)
	.endr
	mflr	0
	std	0, R_SAVED + 8 * 18(1)
	mfcr	0
	std	0, R_SAVED + 8 * 19(1)
	li	0, 20		/* getpid */
	sc
	mfspr	0, SPR_PPR
	std	0, R_SC_PPR(1)
	std	2, R_GPR + 8 * 2(1)
	std	13, R_GPR + 8 * 13(1)

	/* FPSCR and VSCR before the registers that they come through. */
	lfd	0, R_FPSCR(1)
	mtfsf	0xff, 0
	addi	12, 1, R_VSCR
	lxvd2x	32, 0, 12
	mtvscr	0
	ld	0, R_VRSAVE(1)
	mtspr	SPR_VRSAVE, 0
	.set	i, 0
	.rept	64
	li	12, R_VEC + 16 * i
	lxvd2x	i, 1, 12
	.set	i, i + 1
	.endr

	ld	0, R_DSCR(1)
	mtspr	SPR_DSCR, 0
	ld	0, R_TAR(1)
	mtspr	SPR_TAR, 0
	ld	0, R_LR(1)
	mtlr	0
	ld	0, R_CTR(1)
	mtctr	0
	ld	0, R_XER(1)
	mtxer	0
	ld	0, R_CR(1)
	mtcrf	0x7f, 0
	.irp	n, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
	ld	\n, R_GPR + 8 * \n(1)
	.endr
	ld	0, R_PPR(1)
	mtspr	SPR_PPR, 0
	lwz	0, R_ISA31(1)
	cmpwi	0, 0
	beq	.Lloop
	hash
	std	0, R_HASH(1)

.Lloop:
	.irp	n, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
	want_gpr \n
	.endr
	mfcr	0
	clrldi	0, 0, 36	/* CR0 is ours */
	want	R_CR, 200
	mfxer	0
	want	R_XER, 201
	mfctr	0
	want	R_CTR, 202
	mflr	0
	want	R_LR, 203
	mfspr	0, SPR_TAR
	want	R_TAR, 204
	mfspr	0, SPR_DSCR
	want	R_DSCR, 205
	/* A system call resets it, so a dump may; put back, for the next look. */
	mfspr	0, SPR_PPR
	ld	12, R_SC_PPR(1)
	cmpd	12, 0
	beq	.Lreset
	want	R_PPR, 206
.Lreset:
	ld	0, R_PPR(1)
	mtspr	SPR_PPR, 0
	mfspr	0, SPR_VRSAVE
	want	R_VRSAVE, 207
	ld	12, R_COUNT(1)
	addi	12, 12, 1
	std	12, R_COUNT(1)
	lwz	0, R_STOP(1)
	cmpwi	0, 0
	bne	.Lout
	andi.	0, 12, 0x3f
	bne	.Lloop

	/* Vector registers, FPSCR and VSCR, through memory. */
	.set	i, 0
	.rept	64
	li	12, R_SCRATCH + 16 * i
	stxvd2x	i, 1, 12
	.set	i, i + 1
	.endr
	mffs	0
	stfd	0, R_SCR(1)
	lfd	0, R_VEC(1)
	li	12, R_VEC
	lxvd2x	0, 1, 12
	ld	0, R_SCR(1)
	want	R_FPSCR, 208
	mfvscr	0
	li	12, R_SCR
	stxvd2x	32, 1, 12
	li	12, R_VEC + 16 * 32
	lxvd2x	32, 1, 12
	ld	0, R_SCR(1)
	want	R_VSCR, 209
	ld	0, R_SCR + 8(1)
	want	R_VSCR + 8, 210
	.set	i, 0
	.rept	128
	ld	0, R_SCRATCH + 8 * i(1)
	ld	12, R_VEC + 8 * i(1)
	cmpd	0, 12
	bne	.Lbad_vec
	.set	i, i + 1
	.endr
	lwz	0, R_ISA31(1)
	cmpwi	0, 0
	beq	.Lloop
	hash
	want	R_HASH, 211
	b	.Lloop

.Lbad_vec:
	li	12, 1000
.Lbad:
	mr	3, 12
	b	.Lback
.Lout:
	li	3, 0
.Lback:
	ld	0, R_SAVED + 8 * 18(1)
	mtlr	0
	ld	0, R_SAVED + 8 * 19(1)
	mtcrf	0xff, 0
	.irp	n, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
	ld	\n, R_SAVED + 8 * (\n - 14)(1)
	.endr
	ld	2, R_GPR + 8 * 2(1)
	li	0, 0
	std	0, R_SCR(1)
	lfd	0, R_SCR(1)
	mtfsf	0xff, 0
	ld	1, R_SAVED_SP(1)
	blr
	.size	victim_regs_spin, . - victim_regs_spin

	.section .note.GNU-stack, "", @progbits
