#!/bin/bash
# SPDX-License-Identifier: MIT
# What gdb shows of a core file is what it shows attached to the live process; stasis bt agrees.
# timeout: 300
. "$(dirname "$0")/../lib/e2e.sh"
need_program gdb
[ "$(id -u)" = 0 ] || [ "$(cat /proc/sys/kernel/yama/ptrace_scope 2>/dev/null || echo 0)" = 0 ] ||
	skip "may not attach to processes"

STACKS=$(realpath "${PLAIN_BUILD:-$BUILD}/tests/victims/stacks")

run_gdb() { # OUT GDB-ARGUMENTS...
	local out=$1
	shift
	timeout 120 gdb -nx -batch -iex "set debuginfod enabled off" "$@" \
		-ex "info threads" -ex "echo MARK\n" -ex "thread apply all bt" \
		-ex "echo MARK\n" -ex "thread apply all -q -s info all-registers" \
		>"$out" 2>"$out.err" </dev/null
}

# Only a live process shows a thread's name; the thread that spins is somewhere else each time, and
# without symbols it is the one whose innermost frame has no name.
threads_of() { # GDB-OUTPUT
	sed -n '/^  Id /,/^MARK/p' "$1" | grep -v stack_spin | sed -E \
		-e 's/^[* ]+//; s/ +/ /g; s/ "[^"]*"//; /^MARK/d; /^Id/d' \
		-e 's/0x[0-9a-f]+ in \?\? \(\)/??/'
}

stacks_of() { # GDB-OUTPUT
	sed -n '/^MARK/,/^MARK/p' "$1" | sed -E -e 's/ "[^"]*"//; /^MARK/d; /^warning:/d; /^$/d' \
		-e '/stack_spin/s/^(#[0-9]+).*/\1 stack_spin/; s/^#0  0x[0-9a-f]+ in \?\? \(\)/#0 ??/'
}

# Names of the program's own functions, thread by thread: libraries are inlined differently.
own_frames_gdb() {
	stacks_of "$1" | sed -nE -e 's/.*\(LWP ([0-9]+)\).*/T \1/p' \
		-e 's/^#.*[ ]((stack_|main|thread)[a-z_]*)( \(.*)?$/\1/p'
}

own_frames_bt() {
	sed -nE -e 's/^Thread ([0-9]+) .*/T \1/p' \
		-e 's/^#.* ((stack_|main|thread)[a-z_]*)\+0x.*/\1/p' "$1"
}

# One line for each thread, by its number: gdb counts backwards.
by_thread() {
	awk '/^T / { if (l) print l; l = $2; next } { l = l " " $0 } END { print l }' | sort -n
}

same() { # WHAT A B
	local d
	d=$(diff "$2" "$3") || bad "$1: $(head -n 12 <<<"$d")"
}

compare() { # LABEL PROGRAM DUMP-OPTIONS...
	local label=$1 program=$2 dir=$TMPDIR/$1 pid how
	shift 2
	mkdir -p "$dir"
	"$program" >"$dir/out" 2>&1 </dev/null &
	pid=$!
	living "$label" $pid
	for _ in {1..600}; do
		grep -qs ready "$dir/out" && break
		sleep 0.1
	done
	grep -q ready "$dir/out" || die "$label: the victim is not ready: $(<"$dir/out")"
	run_gdb "$dir/attached" -p $pid "$program"
	grep -q 'stack_\|?? ()' "$dir/attached" || skip "gdb cannot attach: $(<"$dir/attached.err")"
	# Back in their calls, which gdb has interrupted.
	for _ in {1..50}; do
		grep -qs running /proc/$pid/task/*/syscall || break
		sleep 0.02
	done
	stasis dump -t $pid -D "$dir/image" -R "$@" || die "$label: dump: $ERR"
	kill -KILL $pid
	wait $pid 2>/dev/null
	gone "$label"
	stasis core "$dir/image" -o "$dir/core" || bad "$label: core: exit $RC: $ERR"
	[ "$(stat -c %a "$dir/core")" = 600 ] || bad "$label: mode of the core"
	run_gdb "$dir/with" "$program" "$dir/core"
	for how in attached with; do
		threads_of "$dir/$how" >"$dir/$how.threads"
		stacks_of "$dir/$how" >"$dir/$how.stacks"
	done
	[ "$(wc -l <"$dir/attached.threads")" -ge 5 ] || bad "$label: gdb attached shows no threads"
	same "$label: threads" "$dir/attached.threads" "$dir/with.threads"
	same "$label: stacks" "$dir/attached.stacks" "$dir/with.stacks"
	stasis bt "$dir/image" || bad "$label: bt: exit $RC: $ERR"
	echo "$OUT" >"$dir/bt"
	own_frames_gdb "$dir/attached" | by_thread >"$dir/own.gdb"
	own_frames_bt "$dir/bt" | by_thread >"$dir/own.bt"
	same "$label: frames of stasis bt" "$dir/own.gdb" "$dir/own.bt"
	! grep 'stops here' "$dir/bt" || bad "$label: a stack ends early"
}

# Before version 14 gdb takes Intel's layout of the xsave area for granted. AMD's is shorter: in any core, the
# kernel's too, such a gdb finds no AVX-512 registers there, and protection keys at the wrong place.
wide=
if grep -q AuthenticAMD /proc/cpuinfo && [ "$(gdb --version | sed -n '1s/.* \([0-9]*\)\..*/\1/p')" -lt 14 ]; then
	wide='|k[0-7]|[xyz]mm[0-9]+h?|pkru'
fi

# Every register of the threads that stand still.
registers() { # LABEL
	local dir=$TMPDIR/$1 how
	for how in attached with; do
		sed '1,/^MARK/d' "$dir/$how" | sed '1,/^MARK/d' |
			awk '/^warning|^\[/ { next } /^rax /{ n++ } n { print n, $0 }' >"$dir/$how.regs"
	done
	[ "$(wc -l <"$dir/attached.regs")" -ge 100 ] || bad "$1: gdb attached shows no registers"
	# the spinning one differs in its counter, its flags and where it is
	diff "$dir/attached.regs" "$dir/with.regs" | grep '^[<>]' |
		grep -vE " (rax|rip|eflags|eax|ax|al$wide) " >"$dir/regs.diff"
	[ ! -s "$dir/regs.diff" ] || bad "$1: registers: $(head -n 12 "$dir/regs.diff")"
}

compare dynamic "$STACKS"
registers dynamic
compare criu "$STACKS" --image-format criu

cp "$STACKS" "$TMPDIR/stacks.stripped"
if strip "$TMPDIR/stacks.stripped" 2>/dev/null; then
	compare stripped "$TMPDIR/stacks.stripped"
fi
if "${CC:-gcc}" -O2 -static -pthread -o "$TMPDIR/stacks.static" tests/victims/stacks.c 2>/dev/null; then
	compare static "$TMPDIR/stacks.static" --compress zstd
fi

# A tree gives a core for each process, --pid one of them.
bash -c 'sleep 1000 & sleep 1000 & wait' &
tree=$!
living tree $tree
until [ "$(pgrep -c -P $tree)" = 2 ]; do sleep 0.1; done
mapfile -t children < <(pgrep -P $tree)
stasis dump -t $tree -D "$TMPDIR/tree" -R || die "tree: dump: $ERR"
kill -KILL $tree "${children[@]}"
gone tree
stasis core "$TMPDIR/tree" -o "$TMPDIR/core" || bad "tree: core: exit $RC: $ERR"
for pid in $tree "${children[@]}"; do
	[ -s "$TMPDIR/core.$pid" ] || bad "tree: no core of $pid"
done
[ ! -e "$TMPDIR/core" ] || bad "tree: a core without a pid"
stasis core "$TMPDIR/tree" -o "$TMPDIR/one" --pid "${children[0]}" || bad "tree: --pid: $ERR"
[ -s "$TMPDIR/one" ] || bad "tree: --pid gives no core"
expect_refusal 3 "a pid that is not in the image" core "$TMPDIR/tree" -o "$TMPDIR/none" --pid 1
[ ! -e "$TMPDIR/none" ] || bad "a core of nobody"
finish
