#!/bin/bash
# SPDX-License-Identifier: MIT
# Every victim is dumped, killed and restored in every format, twice in a row, and then checks itself.
# timeout: 900
# builds: plain asan
. "$(dirname "$0")/../lib/e2e.sh"
need_root
with_reaper "$@"

# Not here: those that end by themselves, and those whose state is of a kind that is refused.
scenarios=("$@")
if [ ${#scenarios[@]} -eq 0 ]; then
	mapfile -t scenarios < <("$VICTIM" --list | awk '{ print $1 }' | grep -vxE 'exiter|reexec|leaderless|amx')
fi

formats=("--compress lz4" "--compress zstd --block-size 64K" "--compress none" "--image-format criu")
case $BUILD in *-asan) formats=("--compress lz4" "--image-format criu") ;; esac
# An emulated machine is slow, and formats are no question of the kernel.
[ -z "${VM_OUT:-}" ] || formats=("--compress lz4")
twice() {
	[ -n "${VM_OUT:-}" ] || again "$1" "$2" "$3, twice" "${@:4}"
}

options_of() {
	case $1 in
	vmas) echo "--n 2000" ;;
	wide) echo "--n 40" ;;
	threads) echo "--n 60" ;;
	manyfds) echo "--n 1000" ;;
	heap) echo "--size 32" ;;
	esac
}

# Dumped, killed, brought back: VPID again. The restoring command stays its parent.
again() { # SCENARIO DIR LABEL OPTIONS...
	local s=$1 dir=$2 label=$3 image=$2/image i
	shift 3
	rm -rf "$image" "$dir/pid"
	# A connection may just be waiting to be accepted, which is refused; the victim goes on.
	for ((i = 0; i < 5; i++)); do
		stasis dump -t "$VPID" -D "$image" -j "$@"
		[[ $RC = 16 && $ERR == *"wait to be accepted"* ]] || break
		sleep 0.1
	done
	[ "$RC" = 0 ] || {
		bad "$s, $label: dump: exit $RC: $ERR"
		return 1
	}
	wait "$PARENT" 2>/dev/null
	"$STASIS" restore -D "$image" -j --quiet --pidfile "$dir/pid" >"$dir/restore.out" 2>&1 </dev/null &
	PARENT=$!
	for ((i = 0; i < 600; i++)); do
		[ -s "$dir/pid" ] && break
		kill -0 "$PARENT" 2>/dev/null || break
		sleep 0.05
	done
	[ -s "$dir/pid" ] || {
		wait "$PARENT"
		bad "$s, $label: restore: exit $?: $(cat "$dir/restore.out")"
		gone "$dir"
		return 1
	}
	[ "$(<"$dir/pid")" = "$VPID" ] || bad "$s, $label: pid $(<"$dir/pid") instead of $VPID"
	nobody_traces "$VPID" "$s, $label"
	victim_ok "$dir" "after a restore ($label)"
}

for s in "${scenarios[@]}"; do
	reserved=
	if [[ $s = huge[ts]* ]]; then
		reserved=$(</proc/sys/vm/nr_hugepages)
		echo 8 >/proc/sys/vm/nr_hugepages
	fi
	n=0
	for format in "${formats[@]}"; do
		dir=$TMPDIR/$s
		# shellcheck disable=SC2046 # options are words
		victim_start "$dir" "$s" $(options_of "$s")
		rc=$?
		[ $rc != 77 ] || {
			echo "$s: not here: $WHY"
			break
		}
		[ $rc = 0 ] || break
		PARENT=$VPID
		# shellcheck disable=SC2086 # options are words
		again "$s" "$dir" "$format" $format && twice "$s" "$dir" "$format" $format &&
			victim_end "$dir" "($format)" && n=$((n + 1))
		if [ -n "${LIVING[$dir]:-}" ]; then
			victim_kill "$dir"
		fi
		wait "$PARENT" 2>/dev/null
		rm -rf "$dir"
	done
	[ -z "$reserved" ] || echo "$reserved" >/proc/sys/vm/nr_hugepages
	[ $n = 0 ] || echo "$s: restored in $n formats"
done
finish
