#!/bin/bash
# SPDX-License-Identifier: MIT
# Register sets that are none, of another CPU or of one with more: a restore is refused with the thread, the set and
# the difference, and leaves nobody; what is not in use can be said not to matter.
# timeout: 300
# builds: plain asan
. "$(dirname "$0")/../lib/e2e.sh"
[ "$(uname -m)" = x86_64 ] || skip "the sets are those of x86-64"
need_root
need_program python3
with_reaper "$@"
. tests/lib/real.sh

dir=$TMPDIR/v
changed=$TMPDIR/changed
victim_start "$dir" regs --n 3 || die "$WHY"
PID=$VPID
disown "$PID"
stasis dump -t "$PID" -D "$TMPDIR/criu" -R --no-log --image-format criu || die "dump: $ERR"
stasis dump -t "$PID" -D "$TMPDIR/image" --no-log || die "dump: $ERR"
until_true 100 test ! -e "/proc/$PID" || die "it does not end after the dump"
# Not the leader: what is wrong with the last thread is found when most is done.
tid=$(find "$TMPDIR/image" -name 'core-*.img' | sed 's/.*core-\([0-9]*\)\.img/\1/' | sort -n | tail -n 1)
[ "$tid" != "$PID" ] || die "it has one thread"

# What programs find, and no less.
stasis show "$TMPDIR/image" || bad "show: $ERR"
has=$(grep -o '"instructions": \[[^]]*\]' <<<"$OUT")
for name in sse2 popcnt avx2 bmi2 sha_ni avx512f avx512_vnni gfni rdpid clzero xsavec amx_tile; do
	grep -m 1 ^flags /proc/cpuinfo | grep -qw "$name" && want=yes || want=no
	[[ $has == *"\"$name\""* ]] && is=yes || is=no
	[ "$name" != sse2 ] || want=yes
	[ "$is" = "$want" ] || bad "$name is among the image's instructions: $is, of the CPU: $want"
done

change() { # NAME
	local from=$TMPDIR/image
	[[ $1 != stock-* ]] || from=$TMPDIR/criu
	rm -rf "$changed"
	cp -r "$from" "$changed"
	PYTHONDONTWRITEBYTECODE=1 tests/lib/change_regs.py "$changed" "$tid" "$1" || die "$1: not changed"
}

nobody() { # LABEL
	local left
	[ ! -e "/proc/$PID" ] || bad "$1: it is there"
	[ ! -e "/proc/$tid" ] || bad "$1: its last thread is there"
	left=$(pgrep -x 'victim|stasis.*' | tr '\n' ' ')
	[ -z "$left" ] || bad "$1: these are left: $left"
}

n=0
while read -r name code message; do
	if [ "$name" = shadow-lacking ] && grep -qw user_shstk /proc/cpuinfo; then
		echo "$name: this CPU has shadow stacks"
		continue
	fi
	change "$name"
	expect_refusal "$code" "$name" restore -D "$changed" -d --no-log
	grep -qE "${message//@TID/$tid}" <<<"$ERR" || bad "$name: $ERR"
	nobody "$name"
	# Registers that are in use matter, whatever was said.
	if [ "$name" = vectors-unknown ]; then
		expect_refusal "$code" "$name" restore -D "$changed" -d --no-log --cpu-cap none
		nobody "$name, --cpu-cap none"
	fi
	n=$((n + 1))
done < <(PYTHONDONTWRITEBYTECODE=1 tests/lib/change_regs.py)
[ $n -gt 30 ] || bad "only $n ways"

# Who knows better is believed: not about the one, about the other.
brought_back() { # NAME RIGHT WRONG
	change "$1"
	expect_refusal 6 "$1, --cpu-cap $3" restore -D "$changed" -d --no-log --cpu-cap "$3"
	nobody "$1, --cpu-cap $3"
	stasis restore -D "$changed" -d --no-log --cpu-cap "$2" || bad "$1, --cpu-cap $2: exit code $RC: $ERR"
	victim_ok "$dir" "after a restore ($1, --cpu-cap $2)"
	kill_tree
	until_true 100 test ! -e "/proc/$PID" || die "$1: it does not end"
}
brought_back features '^ins' '^fpu'
brought_back features fpu ins
brought_back instructions '^ins' '^fpu'
brought_back vectors-unused '^fpu' '^ins'
brought_back vectors-unused none cpu

# The image as it was.
stasis restore -D "$TMPDIR/image" -d --no-log || die "restore: exit code $RC: $ERR"
victim_ok "$dir" "after a restore"
kill_tree
gone "$dir"
finish
