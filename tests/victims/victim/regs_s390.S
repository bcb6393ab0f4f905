/* SPDX-License-Identifier: MIT */
/*
 * Loops that hold known values in every register of an s390x thread and compare them for ever.
 *
 * uint64_t victim_regs_spin(struct victim_regs *r): r15 points to *r while it runs, so that all
 * other general registers hold values of the table most of the time (r0 and r1 are scratch while
 * the others are compared). The caller puts *r on its own stack, below its frame. Returns 0 when
 * told to stop, 100 + n when general register n was wrong, 200 for the condition code, 201 for FPC,
 * 202 for the access registers, 1000 for floating point and vectors. Offsets as in regs_s390.c.
 */
#define R_COUNT	    168
#define R_STOP	    176
#define R_VX	    180
#define R_FPC	    184
#define R_CC	    188
#define R_GPR	    192		/* 16 words */
#define R_ACR	    320		/* 16 of four bytes */
#define R_VEC	    384		/* 32 vectors of 16 bytes; f0 to f15 are the first halves */
#define R_SCRATCH   896		/* as R_VEC */
#define R_SCR_ACR   1408
#define R_SCR_FPC   1472
#define R_SAVED_FPR 1496	/* f8 to f15 */
#define R_SAVED_ACR 1560
#define R_SAVED_FPC 1624
#define R_SAVED_GPR 1632	/* r6 to r15 */

	.machine z13
	.text
	.globl	victim_regs_spin
	.type	victim_regs_spin, @function
victim_regs_spin:
	/* Not where the caller has room for them, below *r: a tool that dies leaves a frame there. */
	lgr	%r1, %r2
	stmg	%r6, %r15, R_SAVED_GPR(%r1)
	.irp	n, 8, 9, 10, 11, 12, 13, 14, 15
	std	%f\n, R_SAVED_FPR + 8 * (\n - 8)(%r1)
	.endr
	stam	%a0, %a15, R_SAVED_ACR(%r1)
	stfpc	R_SAVED_FPC(%r1)
	lgr	%r15, %r1

	lfpc	R_FPC(%r15)
	chsi	R_VX(%r15), 0
	je	.Lload_fp
	vlm	%v0, %v15, R_VEC(%r15)
	vlm	%v16, %v31, R_VEC + 256(%r15)
	j	.Lload
.Lload_fp:
	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	ld	%f\n, R_VEC + 16 * \n(%r15)
	.endr
.Lload:
	lam	%a0, %a15, R_ACR(%r15)
	lmg	%r0, %r14, R_GPR(%r15)

.Lloop:
	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	cg	%r\n, R_GPR + 8 * \n(%r15)
	jne	.Lbad_\n
	.endr
	agsi	R_COUNT(%r15), 1
	chsi	R_STOP(%r15), 0
	jne	.Lout

	/* The condition code is there for as long as nothing is compared. */
	l	%r1, R_CC(%r15)
	lhi	%r0, 200
	spm	%r1
.Lwait:
	brct	%r0, .Lwait
	ipm	%r0
	cl	%r0, R_CC(%r15)
	jne	.Lbad_cc
	stfpc	R_SCR_FPC(%r15)
	clc	R_SCR_FPC(4, %r15), R_FPC(%r15)
	jne	.Lbad_fpc
	stam	%a0, %a15, R_SCR_ACR(%r15)
	clc	R_SCR_ACR(64, %r15), R_ACR(%r15)
	jne	.Lbad_acr
	tm	R_COUNT + 7(%r15), 0x3f
	jnz	.Lagain

	/* The caller copied R_VEC to R_SCRATCH, so what is not stored is equal. */
	chsi	R_VX(%r15), 0
	je	.Lstore_fp
	vstm	%v0, %v15, R_SCRATCH(%r15)
	vstm	%v16, %v31, R_SCRATCH + 256(%r15)
	j	.Lcompare
.Lstore_fp:
	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	std	%f\n, R_SCRATCH + 16 * \n(%r15)
	.endr
.Lcompare:
	clc	R_SCRATCH(256, %r15), R_VEC(%r15)
	jne	.Lbad_vec
	clc	R_SCRATCH + 256(256, %r15), R_VEC + 256(%r15)
	jne	.Lbad_vec
.Lagain:
	lg	%r0, R_GPR(%r15)
	lg	%r1, R_GPR + 8(%r15)
	j	.Lloop

	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
.Lbad_\n:
	lghi	%r2, 100 + \n
	j	.Lback
	.endr
.Lbad_cc:
	lghi	%r2, 200
	j	.Lback
.Lbad_fpc:
	lghi	%r2, 201
	j	.Lback
.Lbad_acr:
	lghi	%r2, 202
	j	.Lback
.Lbad_vec:
	lghi	%r2, 1000
	j	.Lback
.Lout:
	lghi	%r2, 0
.Lback:
	lgr	%r1, %r15
	lam	%a0, %a15, R_SAVED_ACR(%r1)
	lfpc	R_SAVED_FPC(%r1)
	.irp	n, 8, 9, 10, 11, 12, 13, 14, 15
	ld	%f\n, R_SAVED_FPR + 8 * (\n - 8)(%r1)
	.endr
	lmg	%r6, %r15, R_SAVED_GPR(%r1)
	br	%r14
	.size	victim_regs_spin, . - victim_regs_spin
	.section .note.GNU-stack, "", @progbits
