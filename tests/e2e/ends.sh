#!/bin/bash
# SPDX-License-Identifier: MIT
# What becomes of the tree after a dump: killed, stopped, running; and running after every failure.
# timeout: 240
# builds: plain asan
. "$(dirname "$0")/../lib/e2e.sh"

image=$TMPDIR/image

# Every process below $1, and itself.
tree_of() {
	local c
	echo "$1"
	# shellcheck disable=SC2013 # words are meant
	for c in $(cat /proc/"$1"/task/*/children 2>/dev/null); do tree_of "$c"; done
}
state_of() { # PID: a letter, X when it is gone
	local s
	s=$(awk '/^State:/ { print $2 }' "/proc/$1/status" 2>/dev/null)
	echo "${s:-X}"
}
# all_are LETTERS WHAT PID...: each is in one of these states, at the latest after a moment
all_are() {
	local want=$1 what=$2 pid i
	shift 2
	for pid; do
		for ((i = 0; i < 100; i++)); do
			[[ $want != *$(state_of "$pid")* ]] || continue 2
			sleep 0.02
		done
		bad "$what: process $pid is in state $(state_of "$pid"), not one of $want"
	done
}

for s in "wide --n 12" tree "threads --n 9"; do
	dir=$TMPDIR/${s%% *}
	# shellcheck disable=SC2086 # options are words
	victim_start "$dir" $s || die "$WHY"
	mapfile -t pids < <(tree_of "$VPID")
	was=
	for p in "${pids[@]}"; do was+=$(state_of "$p"); done

	# --- stopped: nobody holds it, and SIGCONT wakes it -----------------------------------------
	stasis dump -t "$VPID" -D "$image" -s || bad "$s, stopped: exit $RC: $ERR"
	stasis verify "$image" || bad "$s, stopped: verify: $ERR"
	tests/lib/check_image.py "$image" "$dir/facts" >"$dir/diff" 2>&1 ||
		bad "$s, stopped: $(head -n 5 "$dir/diff")"
	rm -rf "$image"
	all_are TZ "$s, left stopped" "${pids[@]}"
	for p in "${pids[@]}"; do nobody_traces "$p" "$s, left stopped"; done
	for i in "${!pids[@]}"; do
		[ "${was:i:1}" = T ] || kill -CONT "${pids[i]}"
	done
	all_are RSZT "$s, continued" "${pids[@]}"
	[ "$(state_of "$VPID")" != T ] || bad "$s: the root is still stopped"
	victim_ok "$dir" "after --leave-stopped and SIGCONT"

	# --- a failed dump: it runs on, whatever was to become of it -------------------------------
	for end in --leave-stopped --quiet; do
		for size in 4096 8192 16384; do
			mount_tmpfs "$TMPDIR/small" $size
			expect_refusal 9 "$s, $end, $size bytes" \
				dump -t "$VPID" -D "$TMPDIR/small/image" --no-log $end
			nothing_left "$TMPDIR/small/image" "$s, $end, $size bytes"
			unmount "$TMPDIR/small"
			[ "$(state_of "$VPID")" != T ] || bad "$s, $end, $size bytes: left stopped"
			victim_ok "$dir" "after a failed dump" || die "it is hurt"
		done
	done

	# --- killed: all of it, and not before the image is whole ------------------------------------
	stasis dump -t "$VPID" -D "$image" || bad "$s, killed: exit $RC: $ERR"
	all_are XZ "$s, killed" "${pids[@]}"
	stasis verify "$image" || bad "$s, killed: verify: $ERR"
	tests/lib/check_image.py "$image" "$dir/facts" >"$dir/diff" 2>&1 ||
		bad "$s, killed: $(head -n 5 "$dir/diff")"
	rm -rf "$image"
	gone "$dir"
done

# --- the tool is killed while it does that: dead only with a whole image --------------------------
dead=0 alive=0
for ((i = 0; i < 30; i++)); do
	dir=$TMPDIR/k$i
	victim_start "$dir" plain || die "$WHY"
	"$STASIS" dump -t "$VPID" -D "$image" --no-log >/dev/null 2>&1 &
	tool=$!
	sleep "$(printf '0.%06d' "$(random_below 40000)")"
	kill -KILL $tool 2>/dev/null
	wait $tool 2>/dev/null
	all_are XZRS "killed tool $i" "$VPID"
	for ((j = 0; j < 100; j++)); do
		grep -qs '^TracerPid:[^0-9]*0$' "/proc/$VPID/status" || [ "$(state_of "$VPID")" = X ] && break
		sleep 0.02
	done
	case $(state_of "$VPID") in
	[XZ])
		dead=$((dead + 1))
		stasis verify "$image" || bad "killed tool $i: the tree is dead, its image is not whole: $ERR"
		gone "$dir"
		;;
	*)
		alive=$((alive + 1))
		victim_end "$dir" "after a killed tool"
		;;
	esac
	rm -rf "$image"
done
echo "the tool was killed in 30 dumps: $dead trees are dead, $alive run on"
finish
