/* SPDX-License-Identifier: MIT */
/* victim_regs_rest() of rest.h: rbx points to the table. A call leaves nothing of rax, rcx and r11. */
#define R_GPR	  32
#define R_VEC	  288
#define R_GOT_GPR 1312
#define R_GOT_VEC 1568

	.text
	.globl	victim_regs_rest
	.type	victim_regs_rest, @function
victim_regs_rest:
	pushq	%rbp
	pushq	%rbx
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	movq	%rdi, %rbx
	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	movups	R_VEC + 16 * \n(%rbx), %xmm\n
	.endr
	movq	R_GPR + 8 * 2(%rbx), %rdx
	movq	R_GPR + 8 * 5(%rbx), %rbp
	.irp	n, 8, 9, 10, 12, 13, 14, 15
	movq	R_GPR + 8 * \n(%rbx), %r\n
	.endr
	movl	$35, %eax	/* nanosleep */
	movq	%rbx, %rdi
	xorl	%esi, %esi
	syscall
	movq	%rdx, R_GOT_GPR + 8 * 2(%rbx)
	movq	%rbp, R_GOT_GPR + 8 * 5(%rbx)
	.irp	n, 8, 9, 10, 12, 13, 14, 15
	movq	%r\n, R_GOT_GPR + 8 * \n(%rbx)
	.endr
	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	movups	%xmm\n, R_GOT_VEC + 16 * \n(%rbx)
	.endr
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%rbx
	popq	%rbp
	ret
	.size	victim_regs_rest, . - victim_regs_rest
	.section .note.GNU-stack, "", @progbits
