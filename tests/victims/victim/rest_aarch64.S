/* SPDX-License-Identifier: MIT */
/* victim_regs_rest() of rest.h: x19 points to the table. A call takes x0, x1 and x8 here. */
#define R_GPR	  32
#define R_VEC	  288
#define R_GOT_GPR 1312
#define R_GOT_VEC 1568

.macro vectors op
	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	\op	q\n, [x0, #16 * \n]
	.endr
	.irp	n, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
	\op	q\n, [x0, #16 * \n]
	.endr
.endm

	.text
	.globl	victim_regs_rest
	.type	victim_regs_rest, %function
victim_regs_rest:
	stp	x29, x30, [sp, #-160]!
	stp	x19, x20, [sp, #16]
	stp	x21, x22, [sp, #32]
	stp	x23, x24, [sp, #48]
	stp	x25, x26, [sp, #64]
	stp	x27, x28, [sp, #80]
	stp	d8, d9, [sp, #96]
	stp	d10, d11, [sp, #112]
	stp	d12, d13, [sp, #128]
	stp	d14, d15, [sp, #144]
	mov	x19, x0
	add	x0, x19, #R_VEC
	vectors	ldr
	.irp	n, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30
	ldr	x\n, [x19, #R_GPR + 8 * \n]
	.endr
	mov	x8, #101	/* nanosleep */
	mov	x0, x19
	mov	x1, #0
	svc	#0
	.irp	n, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30
	str	x\n, [x19, #R_GOT_GPR + 8 * \n]
	.endr
	add	x0, x19, #R_GOT_VEC
	vectors	str
	ldp	x19, x20, [sp, #16]
	ldp	x21, x22, [sp, #32]
	ldp	x23, x24, [sp, #48]
	ldp	x25, x26, [sp, #64]
	ldp	x27, x28, [sp, #80]
	ldp	d8, d9, [sp, #96]
	ldp	d10, d11, [sp, #112]
	ldp	d12, d13, [sp, #128]
	ldp	d14, d15, [sp, #144]
	ldp	x29, x30, [sp], #160
	ret
	.size	victim_regs_rest, . - victim_regs_rest
	.section .note.GNU-stack, "", %progbits
