#!/bin/bash
# SPDX-License-Identifier: MIT
# Threads, forks, signals and kills at once, and disks that fill up: each call is there or counted.
# timeout: 240
. "$(dirname "$0")/../lib/e2e.sh"
. tests/lib/binlog.sh
need_program gcc python3

cat >"$TMPDIR/storm.c" <<'X'
/* Everybody counts: "PID.TID KIND N", from 0 on, in calls and in signal handlers. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/err.h"
#include "binlog/pr.h"

static __thread unsigned in_handler, in_call;
static __thread int me;

static void on_signal(int sig)
{
	if (me) /* a thread between its birth and its first line has nothing to say */
		pr_warn("%d.%d handler %u\n", (int)getpid(), me, in_handler++);
}

static void count(unsigned n)
{
	for (unsigned i = 0; i < n; i++, in_call++)
		if (in_call % 7)
			pr_debug("%d.%d call %u\n", (int)getpid(), me, in_call);
		else
			pr_info("%d.%d call %u %s %*d %m\n", (int)getpid(), me, in_call, "literal", 20, (int)i);
}

static void child(int how)
{
	sigset_t none;

	/* The child's counters are its own. */
	me = 0;
	in_call = in_handler = 0;
	me = (int)syscall(SYS_gettid);
	sigemptyset(&none);
	pthread_sigmask(SIG_SETMASK, &none, NULL);
	count(500);
	if (how == 0)
		kill(getpid(), SIGKILL);
	_exit(0);
}

static void *run(void *arg)
{
	me = (int)syscall(SYS_gettid);
	for (int k = 0; k < 20; k++) {
		sigset_t all, old;
		pid_t pid;

		count(300);
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &old);
		pid = k % 2 ? fork() : (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
		if (pid == 0)
			child(k % 4);
		pthread_sigmask(SIG_SETMASK, &old, NULL);
		count(300);
		while (waitpid(pid, NULL, 0) < 0)
			;
	}
	return NULL;
}

int main(int argc, char **argv)
{
	const struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
	const struct itimerval fast = {{0, 100}, {0, 100}};
	const struct itimerval off = {{0, 0}, {0, 0}};
	struct binlog_opts opts = BINLOG_OPTS_DEFAULT;
	struct err err = {0};
	pthread_t t[10];

	opts.max_len = argc > 2 ? strtoull(argv[2], NULL, 0) : 0;
	if (binlog_open(argv[1], &opts, &err) < 0)
		return puts(err.msg), 1;
	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &fast, NULL);
	for (int i = 0; i < 10; i++)
		pthread_create(&t[i], NULL, run, NULL);
	for (int i = 0; i < 10; i++)
		pthread_join(t[i], NULL);
	setitimer(ITIMER_REAL, &off, NULL);
	signal(SIGALRM, SIG_IGN);
	binlog_close();
	return 0;
}
X
cat >"$TMPDIR/count.c" <<'X'
/* Counts to argv[2], says on stdout how far it is, and then waits for its death or ends. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/err.h"
#include "binlog/pr.h"
int main(int argc, char **argv)
{
	struct err err = {0};
	unsigned n = (unsigned)strtoul(argv[2], NULL, 0);

	if (binlog_open(argv[1], NULL, &err) < 0)
		return puts(err.msg), 1;
	for (unsigned i = 0; i < n; i++) {
		pr_debug("count %u %s\n", i, argv[1]);
		if (argc > 3 && i % 1000 == 999) {
			printf("%u\n", i + 1);
			fflush(stdout);
		}
	}
	binlog_close();
	return 0;
}
X
library gcc "$TMPDIR"
program gcc "$TMPDIR" storm "$TMPDIR/storm.c" -O2
program gcc "$TMPDIR" count "$TMPDIR/count.c" -O2

# --- everything at once
"$TMPDIR/storm" "$TMPDIR/log" || die "the storm failed: $?"
"$BINDECODE" --raw -o "$TMPDIR/text" "$TMPDIR/log" || bad "storm: bindecode"
"$BINDECODE" --check "$TMPDIR/log" >"$TMPDIR/check" || bad "storm: $(<"$TMPDIR/check")"
python3 - "$TMPDIR/text" 210 <<'X' || bad "storm: see above"
import collections, sys
seen, calls = collections.Counter(), collections.Counter()
for line in open(sys.argv[1]):
    who, kind, n = line.split()[:3]
    if int(n) != seen[who, kind]:
        sys.exit(f"{who} {kind}: {n} instead of {seen[who, kind]}")
    seen[who, kind] += 1
    calls[kind] += 1
want = 10 * 20 * (600 + 500)
if calls["call"] != want or calls["handler"] < 100:
    sys.exit(f"{calls}, {want} calls wanted")
if len({w for w, _ in seen}) != 210:
    sys.exit(f"{len({w for w, _ in seen})} threads instead of 210")
X

# --- the same with a bound: what is missing is counted
"$TMPDIR/storm" "$TMPDIR/log" 2000000 || die "the bounded storm failed: $?"
"$BINDECODE" --check "$TMPDIR/log" >"$TMPDIR/check"
rc=$?
[ $rc = 4 ] || bad "bounded: exit code $rc: $(<"$TMPDIR/check")"
[ "$(stat -c %s "$TMPDIR/log")" -le 2000000 ] || bad "bounded: $(stat -c %s "$TMPDIR/log") bytes"

# --- killed at random instants
for ((i = 0; i < 40; i++)); do
	exec 3< <(exec "$TMPDIR/count" "$TMPDIR/log" 100000000 say)
	pid=$!
	living count "$pid"
	read -r -u 3 said
	sleep "0.0$(random_below 10)"
	kill -KILL "$pid"
	while read -r -u 3 line; do said=$line; done
	exec 3<&-
	gone count
	got=$("$BINDECODE" --raw "$TMPDIR/log" | awk '$2 != NR - 1 { print "line " NR ": " $0; exit } END { print NR }')
	[ "$got" -ge "$said" ] || bad "killed: it said $said, the log has $got"
	"$BINDECODE" --check "$TMPDIR/log" >"$TMPDIR/check" || bad "killed: $(<"$TMPDIR/check")"
done

# --- a disk that is full, or becomes so
check_full() { # WHAT LOG CALLS
	local decoded lost
	"$BINDECODE" --check "$2" >"$TMPDIR/check"
	[ $? = 4 ] || bad "$1: $(<"$TMPDIR/check")"
	decoded=$(awk '$2 == "records" && NF == 2 { print $1 }' "$TMPDIR/check")
	lost=$(awk '/records lost, by/ { print $1 }' "$TMPDIR/check")
	[ $((decoded + lost)) = "$3" ] || bad "$1: $decoded + $lost is not $3"
	"$BINDECODE" --raw "$2" 2>"$TMPDIR/said" | tail -n 1 | grep -q "^count $(($3 - 1)) " || bad "$1: the newest is not there"
	grep -q "the writer lost $lost records" "$TMPDIR/said" || bad "$1: $(<"$TMPDIR/said")"
}
if [ "$(id -u)" = 0 ]; then
	mount_tmpfs "$TMPDIR/full" 1m
	"$TMPDIR/count" "$TMPDIR/full/log" 200000 || bad "full tmpfs: exit code $?"
	check_full "full tmpfs" "$TMPDIR/full/log" 200000
	rm "$TMPDIR/full/log"
	for kib in 1000 1016 1020 1024; do # so that a ring, a header, nothing fits
		head -c "${kib}k" /dev/zero >"$TMPDIR/full/other" 2>/dev/null
		"$TMPDIR/count" "$TMPDIR/full/log" 1000 >"$TMPDIR/said"
		rc=$?
		case $rc in
		0) "$BINDECODE" --check "$TMPDIR/full/log" >"$TMPDIR/check"; [ $? = 4 ] || bad "$kib KiB used: $(<"$TMPDIR/check")" ;;
		1) grep -q 'No space left' "$TMPDIR/said" || bad "$kib KiB used: $(<"$TMPDIR/said")" ;;
		*) bad "$kib KiB used: exit code $rc" ;;
		esac
		rm -f "$TMPDIR/full"/*
	done
	truncate -s 6M "$TMPDIR/disk"
	mkdir "$TMPDIR/ext4"
	if mkfs.ext4 -q "$TMPDIR/disk" 2>/dev/null && mount -o loop "$TMPDIR/disk" "$TMPDIR/ext4" 2>/dev/null; then
		MOUNTS+=("$TMPDIR/ext4")
		"$TMPDIR/count" "$TMPDIR/ext4/log" 500000 || bad "full ext4: exit code $?"
		check_full "full ext4" "$TMPDIR/ext4/log" 500000
		rm "$TMPDIR/ext4/log"
		(ulimit -f 300; trap '' XFSZ; exec "$TMPDIR/count" "$TMPDIR/ext4/log" 100000) || bad "file size limit: exit code $?"
		check_full "file size limit" "$TMPDIR/ext4/log" 100000
	fi
fi
finish
