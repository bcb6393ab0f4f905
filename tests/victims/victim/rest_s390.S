/* SPDX-License-Identifier: MIT */
/* victim_regs_rest() of rest.h: r13 points to the table. A call takes r2 and r3 here. */
#define R_VECTORS 16
#define R_GPR	  32
#define R_VEC	  288
#define R_GOT_GPR 1312
#define R_GOT_VEC 1568
#define R_SAVED	  2592		/* f8 to f15 */

	.machine z13
	.text
	.globl	victim_regs_rest
	.type	victim_regs_rest, @function
victim_regs_rest:
	stmg	%r6, %r15, 48(%r15)
	lgr	%r13, %r2
	.irp	n, 8, 9, 10, 11, 12, 13, 14, 15
	std	%f\n, R_SAVED + 8 * (\n - 8)(%r13)
	.endr
	lt	%r1, R_VECTORS + 4(%r13)
	je	1f
	vlm	%v0, %v15, R_VEC(%r13)
	vlm	%v16, %v31, R_VEC + 256(%r13)
1:	.irp	n, 0, 1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14
	lg	%r\n, R_GPR + 8 * \n(%r13)
	.endr
	lgr	%r2, %r13
	lghi	%r3, 0
	svc	162		/* nanosleep */
	.irp	n, 0, 1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14
	stg	%r\n, R_GOT_GPR + 8 * \n(%r13)
	.endr
	lt	%r1, R_VECTORS + 4(%r13)
	je	1f
	vstm	%v0, %v15, R_GOT_VEC(%r13)
	vstm	%v16, %v31, R_GOT_VEC + 256(%r13)
1:	.irp	n, 8, 9, 10, 11, 12, 13, 14, 15
	ld	%f\n, R_SAVED + 8 * (\n - 8)(%r13)
	.endr
	lmg	%r6, %r14, 48(%r15)
	br	%r14
	.size	victim_regs_rest, . - victim_regs_rest
	.section .note.GNU-stack, "", @progbits
