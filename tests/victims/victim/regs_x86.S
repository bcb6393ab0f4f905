/* SPDX-License-Identifier: MIT */
/*
 * Loops that hold known values in every register of an x86-64 thread and compare them for ever.
 *
 * uint64_t victim_regs_spin(struct victim_regs *r): rsp points to *r while it runs, so that all
 * other general registers hold values of the table all the time (rax is scratch while the vector
 * registers are compared). The caller puts *r on its own stack, below its frame. Returns 0 when told
 * to stop, 100 + n when general register n was wrong, 1000 for any other. Offsets as in regs_x86.c.
 */
#define R_SAVED_SP 0
#define R_COUNT	   8
#define R_STOP	   16
#define R_MODE	   20
#define R_MXCSR	   24
#define R_FPUCW	   28
#define R_GPR	   32		/* 16 words in the order of instruction encoding */
#define R_K	   160		/* k1..k7, one word each, [0] unused */
#define R_MM	   224		/* mm0..mm7 */
#define R_VEC	   320		/* 32 vectors of 64 bytes */
#define R_SCRATCH  2368		/* as R_VEC, then as R_K, R_MM */
#define R_SCR_K	   4416
#define R_SCR_MM   4480
#define R_SCR_CTL  4544

.macro want reg, n
	cmpq	R_GPR + 8 * \n(%rsp), \reg
	movl	$(100 + \n), R_SCR_CTL + 32(%rsp)
	jne	.Lbad
.endm

.macro same from, to, words
	.set	i, 0
	.rept	\words
	movq	\from + 8 * i(%rsp), %rax
	cmpq	\to + 8 * i(%rsp), %rax
	jne	.Lbad_vec
	.set	i, i + 1
	.endr
.endm

	.text
	.globl	victim_regs_spin
	.type	victim_regs_spin, @function
victim_regs_spin:
	pushq	%rbp
	pushq	%rbx
	pushq	%r12
	pushq	%r13
	pushq	%r14
	pushq	%r15
	movq	%rsp, R_SAVED_SP(%rdi)
	movq	%rdi, %rsp

	stmxcsr	R_SCR_CTL + 8(%rsp)
	fnstcw	R_SCR_CTL + 16(%rsp)
	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7
	movq	R_MM + 8 * \n(%rsp), %mm\n
	.endr
	ldmxcsr	R_MXCSR(%rsp)
	fldcw	R_FPUCW(%rsp)
	cmpl	$1, R_MODE(%rsp)
	je	.Lload_avx
	ja	.Lload_avx512
	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	movups	R_VEC + 64 * \n(%rsp), %xmm\n
	.endr
	jmp	.Lload_gpr
.Lload_avx:
	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	vmovups	R_VEC + 64 * \n(%rsp), %ymm\n
	.endr
	jmp	.Lload_gpr
.Lload_avx512:
	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
	vmovups	R_VEC + 64 * \n(%rsp), %zmm\n
	.endr
	.irp	n, 1, 2, 3, 4, 5, 6, 7
	kmovq	R_K + 8 * \n(%rsp), %k\n
	.endr

.Lload_gpr:
	movq	R_GPR + 8 * 0(%rsp), %rax
	movq	R_GPR + 8 * 1(%rsp), %rcx
	movq	R_GPR + 8 * 2(%rsp), %rdx
	movq	R_GPR + 8 * 3(%rsp), %rbx
	movq	R_GPR + 8 * 5(%rsp), %rbp
	movq	R_GPR + 8 * 6(%rsp), %rsi
	movq	R_GPR + 8 * 7(%rsp), %rdi
	.irp	n, 8, 9, 10, 11, 12, 13, 14, 15
	movq	R_GPR + 8 * \n(%rsp), %r\n
	.endr

.Lloop:
	want	%rax, 0
	want	%rcx, 1
	want	%rdx, 2
	want	%rbx, 3
	want	%rsp, 4
	want	%rbp, 5
	want	%rsi, 6
	want	%rdi, 7
	.irp	n, 8, 9, 10, 11, 12, 13, 14, 15
	want	%r\n, \n
	.endr
	incq	R_COUNT(%rsp)
	cmpl	$0, R_STOP(%rsp)
	jne	.Lout
	testl	$0x3f, R_COUNT(%rsp)
	jnz	.Lloop

	/* Vector, mask and MMX registers and the control words, through memory. */
	cmpl	$1, R_MODE(%rsp)
	je	.Lstore_avx
	ja	.Lstore_avx512
	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	movups	%xmm\n, R_SCRATCH + 64 * \n(%rsp)
	.endr
	jmp	.Lcompare
.Lstore_avx:
	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
	vmovups	%ymm\n, R_SCRATCH + 64 * \n(%rsp)
	.endr
	jmp	.Lcompare
.Lstore_avx512:
	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
	vmovups	%zmm\n, R_SCRATCH + 64 * \n(%rsp)
	.endr
	.irp	n, 1, 2, 3, 4, 5, 6, 7
	kmovq	%k\n, R_SCR_K + 8 * \n(%rsp)
	.endr
.Lcompare:
	.irp	n, 0, 1, 2, 3, 4, 5, 6, 7
	movq	%mm\n, R_SCR_MM + 8 * \n(%rsp)
	.endr
	/* The caller copied R_VEC to R_SCRATCH, so what this mode does not store is equal. */
	same	R_SCRATCH, R_VEC, 256
	same	R_SCR_K, R_K, 16
	stmxcsr	R_SCR_CTL(%rsp)
	movl	R_SCR_CTL(%rsp), %eax
	cmpl	R_MXCSR(%rsp), %eax
	jne	.Lbad_vec
	fnstcw	R_SCR_CTL(%rsp)
	movw	R_SCR_CTL(%rsp), %ax
	cmpw	R_FPUCW(%rsp), %ax
	jne	.Lbad_vec
	movq	R_GPR(%rsp), %rax
	jmp	.Lloop

.Lbad_vec:
	movl	$1000, R_SCR_CTL + 32(%rsp)
.Lbad:
	movl	R_SCR_CTL + 32(%rsp), %eax
	jmp	.Lback
.Lout:
	xorl	%eax, %eax
.Lback:
	emms
	ldmxcsr	R_SCR_CTL + 8(%rsp)
	fldcw	R_SCR_CTL + 16(%rsp)
	movq	R_SAVED_SP(%rsp), %rsp
	popq	%r15
	popq	%r14
	popq	%r13
	popq	%r12
	popq	%rbx
	popq	%rbp
	ret
	.size	victim_regs_spin, . - victim_regs_spin
	.section .note.GNU-stack, "", @progbits
