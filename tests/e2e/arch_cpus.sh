#!/bin/bash
# SPDX-License-Identifier: MIT
# The unit tests of arch/, and what tests/fuzz has of register sets, for the other CPUs: each with the code that only its
# build has, run by qemu-user.
# timeout: 240
. "$(dirname "$0")/../lib/e2e.sh"

# What the tests take from cmocka, whose library these compilers do not come with.
mkdir "$TMPDIR/include"
cat >"$TMPDIR/include/cmocka.h" <<'X'
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define must(c)                                                         \
	do {                                                            \
		if (!(c)) {                                             \
			printf("%s:%d: %s\n", __FILE__, __LINE__, #c); \
			exit(1);                                        \
		}                                                       \
	} while (0)
#define assert_true(c)		   must(c)
#define assert_false(c)		   must(!(c))
#define assert_non_null(p)	   must(p)
#define assert_ptr_equal(a, b)	   must((a) == (b))
#define assert_int_equal(a, b)	   must((a) == (b))
#define assert_memory_equal(a, b, n) must(!memcmp(a, b, n))
struct CMUnitTest {
	void (*run)(void **state);
};
#define cmocka_unit_test(f)                       \
	{                                         \
		f                                 \
	}
#define cmocka_run_group_tests(tests, up, down)                           \
	({                                                                \
		for (size_t i = 0; i < sizeof(tests) / sizeof(*tests); i++) \
			tests[i].run(NULL);                               \
		printf("%zu passed\n", sizeof(tests) / sizeof(*tests));   \
		0;                                                        \
	})
X

# Of what restores the fuzz target takes a function and what that asks; this stands for the rest.
cat >"$TMPDIR/rest.c" <<'X'
#include "src/target/put.h"
bool put_has_shadow(void)
{
	return true;
}
X
replay=(tests/fuzz/regsets.c tests/fuzz/driver.c src/ops/restore_cpu.c src/image/model.c src/image/arena.c src/target/keys.c \
	"$TMPDIR/rest.c")

build() { # NAME COMPILER SOURCE...
	"$2" -std=gnu11 -D_GNU_SOURCE -D__SANE_USERSPACE_TYPES__ -O1 -Wall -Werror -fno-strict-aliasing -static \
		-ffunction-sections -Wl,--gc-sections \
		-I"$TMPDIR/include" -I. -o "$TMPDIR/test" "${@:3}" 2>"$TMPDIR/errors" ||
		die "$1: $3: $(head -n 20 "$TMPDIR/errors")"
}

check() { # NAME FOLDER COMPILER QEMU
	local name=$1 folder=$2 cc=$3 qemu=$4 sources=(arch/arch.c) f t said
	[ "$name" != "$(uname -m)" ] || return
	if ! command -v "$cc" >/dev/null || ! command -v "$qemu" >/dev/null; then
		missing="$missing $name ($cc, $qemu)"
		return
	fi
	for f in arch/*/regs.c arch/*/fit.c arch/"$folder"/*.c; do
		[[ " ${sources[*]} " == *" $f "* ]] || sources+=("$f")
	done
	for t in tests/unit/arch/*.c; do
		case $t in
		# They trace a child, which qemu-user cannot: in tests/vm.
		*/kept_*.c) continue ;;
		*_"$folder".c) ;;
		*_x86.c | *_aarch64.c | *_ppc64.c | *_s390.c) continue ;;
		esac
		build "$name" "$cc" "$t" "${sources[@]}"
		said=$("$qemu" "$TMPDIR/test") || bad "$name: $t: $said"
		[[ $said =~ ^[1-9][0-9]*\ passed$ ]] || bad "$name: $t: $said"
		done="$done $name:$(basename "$t" .c)"
	done
	build "$name" "$cc" "${replay[@]}" "${sources[@]}"
	said=$("$qemu" "$TMPDIR/test" tests/fuzz/corpus/regsets 2>&1) || bad "$name: register sets: exit $?: $said"
	[[ $said =~ ^[1-9][0-9]*\ inputs$ ]] || bad "$name: register sets: $said"
	done="$done $name:fuzz/regsets(${said% inputs})"
}

missing='' done=''
check aarch64 aarch64 aarch64-linux-gnu-gcc qemu-aarch64
check ppc64le ppc64 powerpc64le-linux-gnu-gcc qemu-ppc64le
check s390x s390 s390x-linux-gnu-gcc qemu-s390x
[ -n "$done" ] || skip "no cross compiler or no qemu-user:$missing"
[ -z "$missing" ] || echo "not tried:$missing"
echo "passed:$done"
finish
