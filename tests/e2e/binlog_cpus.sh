#!/bin/bash
# SPDX-License-Identifier: MIT
# Writers of the other CPUs, big-endian s390x too, run by qemu-user: their logs are decoded here.
# timeout: 300
. "$(dirname "$0")/../lib/e2e.sh"
. tests/lib/binlog.sh
need_program python3

formats=$TMPDIR/formats
mkdir "$formats"
tests/lib/binlog_formats.py "$formats" 400 2 || die "no programs were made"
cat >"$TMPDIR/clock.c" <<'X'
/* Logs what CLOCK_MONOTONIC says since the log was opened, in nanoseconds, every 10 ms. */
#include <stdio.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>
#include "base/err.h"
#include "binlog/pr.h"

static long long now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ll + ts.tv_nsec;
}

static void *thread(void *arg)
{
	for (int i = 0; i < 20000; i++)
		pr_debug("thread %d says %d\n", *(int *)arg, i);
	return NULL;
}

int main(int argc, char **argv)
{
	struct err err = {0};
	long long start = now();
	static int one = 1, two = 2;
	pthread_t t;

	if (binlog_open(argv[1], NULL, &err) < 0)
		return puts(err.msg), 1;
	for (int i = 0; i < 20; i++) {
		const struct timespec ts = {0, 10000000};

		pr_info("clock %lld\n", now() - start);
		nanosleep(&ts, NULL);
	}
	pthread_create(&t, NULL, thread, &one);
	thread(&two);
	pthread_join(t, NULL);
	if (fork() == 0) {
		for (int i = 0; i < 20000; i++)
			pr_debug("child says %d\n", i);
		kill(getpid(), SIGKILL);
	}
	wait(NULL);
	binlog_close();
	return 0;
}
X

check() { # NAME COMPILER QEMU
	local name=$1 cc=$2 qemu=$3 dir=$TMPDIR/$1
	if ! command -v "$cc" >/dev/null || ! command -v "$qemu" >/dev/null; then
		missing="$missing $name ($cc, $qemu)"
		return
	fi
	done="$done $name"
	library "$cc" "$dir" -Wall -Wextra -Wno-unused-parameter -Werror
	compile "$cc" "$dir/formats" -w -O1 -I"$formats" -- "$formats"/*.c
	"$cc" -static -pthread -o "$dir/prog" "$dir/formats"/*.o "$dir/lib"/*.o 2>"$dir/errors" ||
		die "$name: cannot link: $(<"$dir/errors")"
	"$qemu" "$dir/prog" "$dir/log" "$dir/text" 5 || die "$name: the writer failed"
	"$BINDECODE" --raw -o "$dir/got" "$dir/log" || bad "$name: bindecode"
	same "$name" "$dir/text" "$dir/got"
	"$BINDECODE" --check "$dir/log" >"$dir/check" || bad "$name: $(<"$dir/check")"
	grep -qF "$4" "$dir/check" || bad "$name: not of that CPU: $(<"$dir/check")"

	compile "$cc" "$dir/clock" -O2 -- "$TMPDIR/clock.c"
	"$cc" -static -pthread -o "$dir/clock/prog" "$dir/clock"/*.o "$dir/lib"/*.o || die "$name: cannot link"
	"$qemu" "$dir/clock/prog" "$dir/log" || die "$name: the second writer failed"
	"$BINDECODE" --raw "$dir/log" >"$dir/got" || bad "$name: bindecode, the second time"
	for who in "thread 1" "thread 2" child; do
		[ "$(grep "^$who says " "$dir/got" | awk '$NF != NR - 1' | wc -l)" = 0 ] || bad "$name: $who out of order"
		[ "$(grep -c "^$who says " "$dir/got")" = 20000 ] || bad "$name: records of $who are missing"
	done
	# The counter's time beside the clock's, which the writer read just before: a constant apart, but
	# for moments in which somebody else had the CPU. A wrong unit would be off by half of 200 ms.
	off=$("$BINDECODE" -P '%t ' --grep '^clock' "$dir/log" | awk '{ print int($1 * 1e9 - $3) }' | sort -n |
		awk '{ d[NR] = $1 } END { print NR == 20 ? d[14] - d[7] : "not known" }')
	[ "$off" -lt 10000000 ] || bad "$name: times are off by $off ns"
}

missing='' done=''
check aarch64 aarch64-linux-gnu-gcc qemu-aarch64 'aarch64, little-endian'
check ppc64le powerpc64le-linux-gnu-gcc qemu-ppc64le 'ppc64, little-endian'
check s390x s390x-linux-gnu-gcc qemu-s390x 's390, big-endian'
[ -n "$done" ] || skip "no cross compiler or no qemu-user:$missing"
[ -z "$missing" ] || echo "not tried:$missing"
finish
