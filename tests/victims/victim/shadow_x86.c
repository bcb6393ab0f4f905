/* SPDX-License-Identifier: MIT */
/* User shadow stacks of x86-64, without a C library that knows them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/victims/victim/shadow.h"
#include "tests/victims/victim/victim.h"

/* Linux 6.6, Documentation/arch/x86/shstk.rst; WRSS is the other feature. */
enum { ENABLE = 0x5001, DISABLE = 0x5002, LOCK = 0x5003, STATUS = 0x5005, WITH_TOKEN = 1 };
enum { MAP_SHADOW_STACK = 453 };

const uint64_t shadow_features = 3;

/* Inline, for who switches it on must not return. */
static inline __attribute__((always_inline)) long raw_prctl(long op, uint64_t arg)
{
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(SYS_arch_prctl), "D"(op), "S"(arg)
			 : "rcx", "r11", "memory");
	return ret;
}

bool shadow_here(void)
{
	uint64_t status = 0;
	long at;

	if (raw_prctl(STATUS, (uint64_t)(uintptr_t)&status))
		return false;
	/* The calls are there without such a CPU. */
	at = syscall(MAP_SHADOW_STACK, 0, 4096, 0);
	return at != -1 && munmap((void *)at, 4096) == 0;
}

void shadow_enter(uint64_t features, bool lock, void (*fn)(void *), void *arg)
{
	for (uint64_t bit = 1; bit <= features; bit <<= 1)
		if (features & bit && raw_prctl(ENABLE, bit))
			v_die("arch_prctl(ARCH_SHSTK_ENABLE, %llu)", (unsigned long long)bit);
	if (lock && raw_prctl(LOCK, shadow_features))
		v_die("arch_prctl(ARCH_SHSTK_LOCK)");
	fn(arg);
	__builtin_trap();
}

uint64_t shadow_status(uint64_t *ret_locked)
{
	static const char key[] = "x86_Thread_features_locked:";
	uint64_t status = 0;
	char text[8192] = "";
	const char *at;
	FILE *f = fopen("/proc/thread-self/status", "r");

	raw_prctl(STATUS, (uint64_t)(uintptr_t)&status);
	if (f) {
		text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
		fclose(f);
	}
	at = strstr(text, key);
	*ret_locked = at && strstr(at, "shstk") ? 1 : 0;
	*ret_locked |= at && strstr(at, "wrss") ? 2 : 0;
	return status;
}

uint64_t shadow_pointer(void)
{
	uint64_t p = 0;

	__asm__ volatile("rdsspq %0" : "+r"(p));
	return p;
}

bool shadow_switch_off(void)
{
	return raw_prctl(DISABLE, SHADOW_ON) == 0;
}

void shadow_smash(void)
{
	__asm__ volatile("	lea 1f(%%rip), %%rax\n"
			 "	push %%rax\n"
			 "	ret\n"
			 "1:	mov $231, %%eax\n" /* exit_group */
			 "	xor %%edi, %%edi\n"
			 "	syscall\n" ::
				 : "rax", "rdi", "rcx", "r11", "memory");
}

bool shadow_map(uint64_t len, struct shadow_place *ret)
{
	long at = syscall(MAP_SHADOW_STACK, 0, len, WITH_TOKEN);

	ret->token = (uint64_t)at + len - 8;
	return at != -1;
}

/*
 * RSTORSSP takes the token of the stack that is gone to, SAVEPREVSSP leaves one on the other: below
 * its pointer.
 */
__asm__(".pushsection .text\n"
	".macro to_other\n"
	"	push %rbp\n"
	"	push %rbx\n"
	"	push %r12\n"
	"	push %r13\n"
	"	push %r14\n"
	"	push %r15\n"
	"	rdsspq %rax\n"
	"	sub $8, %rax\n"
	"	mov %rsp, 0(%rdi)\n"
	"	mov %rax, 8(%rdi)\n"
	"	mov 0(%rsi), %rsp\n"
	"	mov 8(%rsi), %rax\n"
	"	rstorssp (%rax)\n"
	"	saveprevssp\n"
	".endm\n"
	".globl shadow_start, shadow_switch\n"
	".type shadow_start, @function\n"
	"shadow_start:\n"
	"	to_other\n"
	"	call *%rdx\n"
	"	ud2\n"
	".type shadow_switch, @function\n"
	"shadow_switch:\n"
	"	to_other\n"
	"	pop %r15\n"
	"	pop %r14\n"
	"	pop %r13\n"
	"	pop %r12\n"
	"	pop %rbx\n"
	"	pop %rbp\n"
	"	ret\n"
	".popsection\n");
