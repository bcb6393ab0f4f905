#!/bin/bash
# SPDX-License-Identifier: MIT
# States that no image carries are refused, named, before the process is ended; it runs on.
# timeout: 120
. "$(dirname "$0")/../lib/e2e.sh"
need_root

odd=$(dirname "$VICTIM")/victims/odd
[ -x "$odd" ] || [ -z "${VM_OUT:-}" ] || skip "$odd is not built for other CPUs"
[ -x "$odd" ] || die "$odd is not built"
image=$TMPDIR/image
tried=0

only=" $* " # kinds; none: all

# refused KIND TEXT [frozen]: check --pid tells it, too, but what only a stopped process tells
refused() {
	local kind=$1 text=$2 pid said
	[[ $only = "  " || $only = *" $kind "* ]] || return
	rm -f "$TMPDIR/said"
	"$odd" "$kind" >"$TMPDIR/said" </dev/null &
	pid=$!
	living "odd $kind" $pid
	for _ in $(seq 100); do
		[ ! -s "$TMPDIR/said" ] || break
		sleep 0.02
	done
	read -r said <"$TMPDIR/said"
	case $said in
	ready*) ;;
	*)
		echo "$kind is not to be had here: $said"
		[ "$said" != "${said#no: }" ] || bad "$kind: $said"
		return
		;;
	esac
	tried=$((tried + 1))
	if [ $# = 2 ]; then
		stasis check --pid $pid
		[ "$RC" = 16 ] || bad "$kind: check: exit $RC: $OUT $ERR"
		grep -qE "pid [0-9]+: .*$text" <<<"$OUT" || bad "$kind: check does not tell: $OUT"
	fi
	stasis dump -t $pid -D "$image" --no-log
	[ "$RC" = 16 ] || bad "$kind: dump: exit $RC: $ERR"
	grep -qE "$text" <<<"$ERR" || bad "$kind: dump does not tell: $ERR"
	nothing_left "$image" "$kind"
	nobody_traces $pid "$kind"
	kill -0 $pid || bad "$kind: the process has gone"
	kill -KILL $pid
	wait $pid 2>/dev/null
	rm -rf "$image"
}

refused memory "memory in common with process [0-9]+"
refused siblings "descriptor table .CLONE_FILES. in common with process [0-9]+, which is not its parent"
refused tables "thread [0-9]+ has a (descriptor table|working directory) of its own"
refused children "pid namespace of its own for its children"
refused astray "fd [0-9]+: /: this name leads to another file or to none"
refused queue "fd [0-9]+: POSIX message queue /stasis-odd-[0-9]+.*not supported"
refused dispatch "system calls dispatched to itself" frozen
refused ldt "segments of its own" frozen
refused ports "thread [0-9]+ may use I/O ports" frozen
refused cpuid "cpuid that faults" frozen
[ $tried -ge 5 ] || [ "$only" != "  " ] || bad "only $tried kinds were tried"
finish
