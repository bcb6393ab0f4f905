/* SPDX-License-Identifier: MIT */
/* Guarded control stacks of AArch64, without a C library that knows them. */
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/victims/victim/shadow.h"
#include "tests/victims/victim/victim.h"

/* Linux 6.13, Documentation/arch/arm64/gcs.rst; writing and pushing are the other features. */
enum { HAS_GCS_BIT = 32 /* AT_HWCAP */, GET_STATUS = 74, SET_STATUS = 75, LOCK_STATUS = 76 };
enum { MAP_SHADOW_STACK = 453, WITH_TOKEN = 1 };

const uint64_t shadow_features = 7;

/* Inline, for who switches it on must not return. */
static inline __attribute__((always_inline)) long raw_prctl(long op, uint64_t arg)
{
	register long x8 __asm__("x8") = SYS_prctl, x0 __asm__("x0") = op;
	register uint64_t x1 __asm__("x1") = arg;
	register long x2 __asm__("x2") = 0, x3 __asm__("x3") = 0, x4 __asm__("x4") = 0;

	__asm__ volatile("svc #0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4)
			 : "memory");
	return x0;
}

bool shadow_here(void)
{
	return getauxval(AT_HWCAP) >> HAS_GCS_BIT & 1;
}

void shadow_enter(uint64_t features, bool lock, void (*fn)(void *), void *arg)
{
	if (raw_prctl(SET_STATUS, features))
		v_die("prctl(PR_SET_SHADOW_STACK_STATUS)");
	if (lock && raw_prctl(LOCK_STATUS, shadow_features))
		v_die("prctl(PR_LOCK_SHADOW_STACK_STATUS)");
	fn(arg);
	__builtin_trap();
}

uint64_t shadow_status(uint64_t *ret_locked)
{
	uint64_t status = 0;

	raw_prctl(GET_STATUS, (uint64_t)(uintptr_t)&status);
	*ret_locked = UINT64_MAX;
	return status;
}

uint64_t shadow_pointer(void)
{
	uint64_t p;

	__asm__ volatile("mrs %0, s3_3_c2_c5_1" : "=r"(p));
	return p;
}

bool shadow_switch_off(void)
{
	return raw_prctl(SET_STATUS, 0) == 0;
}

void shadow_smash(void)
{
	__asm__ volatile("	adr x30, 1f\n"
			 "	ret\n"
			 "1:	mov x0, #0\n"
			 "	mov x8, #94\n" /* exit_group */
			 "	svc #0" ::
				 : "x0", "x8", "x30", "memory");
}

bool shadow_map(uint64_t len, struct shadow_place *ret)
{
	long at = syscall(MAP_SHADOW_STACK, 0, len, WITH_TOKEN);

	ret->token = (uint64_t)at + len - 8;
	return at != -1;
}

/* GCSSS1 takes the token of the stack that is gone to, GCSSS2 leaves one on the other. */
__asm__(".pushsection .text\n"
	".macro to_other\n"
	"	sub sp, sp, #96\n"
	"	stp x19, x20, [sp]\n"
	"	stp x21, x22, [sp, #16]\n"
	"	stp x23, x24, [sp, #32]\n"
	"	stp x25, x26, [sp, #48]\n"
	"	stp x27, x28, [sp, #64]\n"
	"	stp x29, x30, [sp, #80]\n"
	"	mov x9, sp\n"
	"	ldp x10, x11, [x1]\n"
	"	mov sp, x10\n"
	"	sys #3, c7, c7, #2, x11\n"  /* GCSSS1 x11 */
	"	sysl x12, #3, c7, c7, #3\n" /* GCSSS2 x12 */
	"	stp x9, x12, [x0]\n"
	".endm\n"
	".globl shadow_start, shadow_switch\n"
	".type shadow_start, %function\n"
	"shadow_start:\n"
	"	to_other\n"
	"	blr x2\n"
	"	brk #1\n"
	".type shadow_switch, %function\n"
	"shadow_switch:\n"
	"	to_other\n"
	"	ldp x19, x20, [sp]\n"
	"	ldp x21, x22, [sp, #16]\n"
	"	ldp x23, x24, [sp, #32]\n"
	"	ldp x25, x26, [sp, #48]\n"
	"	ldp x27, x28, [sp, #64]\n"
	"	ldp x29, x30, [sp, #80]\n"
	"	add sp, sp, #96\n"
	"	ret\n"
	".popsection\n");
