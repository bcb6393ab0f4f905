# SPDX-License-Identifier: MIT
# A 32-bit process that does nothing but live: pause(2) for ever.
	.globl	_start
	.text
_start:
	movl	$29, %eax
	int	$0x80
	jmp	_start
	.section .note.GNU-stack, "", @progbits
