/* SPDX-License-Identifier: MIT */
/* victim_regs_rest() of rest.h: r31 points to the table. A call leaves r14 to r31 alone, and all vectors. */
#define R_GPR	  32
#define R_VEC	  288
#define R_GOT_GPR 1312
#define R_GOT_VEC 1568
#define R_SAVED	  2592		/* r14 to r31, 8 bytes, vs14 to vs31, vs52 to vs63 */
#define R_SAVED_V 2752

	.machine power8
	.abiversion 2
	.text
	.globl	victim_regs_rest
	.type	victim_regs_rest, @function
victim_regs_rest:
	.irp	n, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
	std	\n, R_SAVED + 8 * (\n - 14)(3)
	.endr
	mr	31, 3
	.irp	n, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
	li	12, R_SAVED_V + 16 * (\n - 14)
	stxvd2x	\n, 31, 12
	.endr
	.irp	n, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63
	li	12, R_SAVED_V + 16 * (\n - 52 + 18)
	stxvd2x	\n, 31, 12
	.endr
	.set	i, 0
	.rept	64
	li	12, R_VEC + 16 * i
	lxvd2x	i, 31, 12
	.set	i, i + 1
	.endr
	.irp	n, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30
	ld	\n, R_GPR + 8 * \n(31)
	.endr
	li	0, 162		/* nanosleep */
	mr	3, 31
	li	4, 0
	sc
	.irp	n, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30
	std	\n, R_GOT_GPR + 8 * \n(31)
	.endr
	.set	i, 0
	.rept	64
	li	12, R_GOT_VEC + 16 * i
	stxvd2x	i, 31, 12
	.set	i, i + 1
	.endr
	.irp	n, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
	li	12, R_SAVED_V + 16 * (\n - 14)
	lxvd2x	\n, 31, 12
	.endr
	.irp	n, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63
	li	12, R_SAVED_V + 16 * (\n - 52 + 18)
	lxvd2x	\n, 31, 12
	.endr
	.irp	n, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
	ld	\n, R_SAVED + 8 * (\n - 14)(31)
	.endr
	blr
	.size	victim_regs_rest, . - victim_regs_rest
	.section .note.GNU-stack, "", @progbits
