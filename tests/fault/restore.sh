#!/bin/bash
# SPDX-License-Identifier: MIT
# Every failure point of a restore, as an error and as SIGKILL: no process of the tree is left, and the
# next restore works.
# builds: faults
# timeout: 300
. "$(dirname "$0")/../lib/e2e.sh"
need_root
with_reaper "$@"

mapfile -t points < <("$STASIS" --list-faults | sort -u | grep -E '^(restore|target)\.')
image=$TMPDIR/image

begin() { # SCENARIO OPTIONS...
	rm -rf "$image" "$TMPDIR/v"
	victim_start "$TMPDIR/v" "$@" || die "$WHY"
	stasis dump -t "$VPID" -D "$image" -j || die "dump: $ERR"
	wait "$VPID" 2>/dev/null
	gone "$TMPDIR/v"
	mapfile -t pids < <(image_pids "$image")
	cp "$TMPDIR/v/ctl" "$TMPDIR/ctl"
}

# Who is let go before another is killed may see its parent die, and writes that down for good.
as_dumped() {
	cp "$TMPDIR/ctl" "$TMPDIR/v/ctl"
}

left() {
	local p i list
	for ((i = 0; i < 150; i++)); do
		list=
		for p in "${pids[@]}"; do
			[ ! -d "/proc/$p" ] || grep -q '^State:.Z' "/proc/$p/status" 2>/dev/null || list+=" $p"
		done
		[ -n "$list" ] || return
		sleep 0.02
	done
	echo "$list"
}

declare -A hit=()
try() { # POINT
	local point=$1 action n what p list
	for action in error kill; do
		for n in 1 2; do
			what=$point:$action:$n
			as_dumped
			STASIS_FAULT=$what stasis restore -D "$image" -j -d --quiet --no-log
			if [ "$RC" = 0 ]; then
				# Not on this way, or something that is only a nuisance.
				victim_ok "$TMPDIR/v" "$what: success, but the victim"
				for p in "${pids[@]}"; do kill -KILL "$p" 2>/dev/null; done
				left >/dev/null
				continue
			fi
			hit[$point]=1
			message_ok "$what"
			[ "$RC" -lt 128 ] || [ "$action" = kill ] || bad "$what: died: exit code $RC"
			list=$(left)
			[ -z "$list" ] || {
				bad "$what: processes are left:$list"
				for p in "${pids[@]}"; do kill -KILL "$p" 2>/dev/null; done
			}
		done
	done
}

after_all() {
	as_dumped
	stasis restore -D "$image" -j -d --quiet --no-log || bad "the restore after all: $ERR"
	victim_ok "$TMPDIR/v" "after all"
	for p in "${pids[@]}"; do kill -KILL "$p" 2>/dev/null; done
	left >/dev/null
}

begin tree
for point in "${points[@]}"; do
	try "$point"
done

# Whoever is killed while the tree is let go: the worker, the command, both at once, the one that watches.
# A part of the tree is alive by then in a way that the kernel does not undo.
stopped_worker() {
	local i
	for ((i = 0; i < 400; i++)); do
		worker=$(cat "/proc/$tool/task/$tool/children" 2>/dev/null)
		worker=${worker%% *}
		[ -z "$worker" ] || ! grep -q '^State:.T' "/proc/$worker/status" 2>/dev/null || return 0
		sleep 0.02
	done
	die "the worker does not stop"
}
for prey in worker command both warden; do
	as_dumped
	STASIS_FAULT=restore.letting_go:stop:3 "$STASIS" restore -D "$image" -j -d --quiet --no-log \
		>"$TMPDIR/out" 2>&1 </dev/null &
	tool=$!
	stopped_worker
	read -r warden _ <"/proc/$worker/task/$worker/children"
	[ "$(cat "/proc/$warden/comm")" = restore-warden ] || bad "no warden: $(cat "/proc/$warden/comm")"
	case $prey in
	worker) kill -KILL "$worker" ;;
	command) kill -KILL "$tool" ;;
	both) kill -KILL "$tool" "$worker" ;;
	warden) kill -KILL "$warden" ;;
	esac
	kill -CONT "$worker" 2>/dev/null
	wait "$tool" 2>/dev/null
	case $prey in
	worker | both)
		list=$(left)
		[ -z "$list" ] || bad "$prey killed while the tree is let go: processes are left:$list"
		;;
	*)
		victim_ok "$TMPDIR/v" "$prey killed"
		;;
	esac
	for p in "${pids[@]}"; do kill -KILL "$p" 2>/dev/null; done
	left >/dev/null
done
after_all
# Parents that are full before they have children.
begin cow --size 2
for point in restore.parent restore.child restore.memory; do
	try "$point"
done
after_all
for point in "${points[@]}"; do
	case $point in
	restore.special) ;; # a deleted special file: e2e/restore_ghosts
	restore.*) [ -n "${hit[$point]:-}" ] || bad "$point was never passed" ;;
	esac
done
echo "${#hit[@]} of ${#points[@]} points were passed"
finish
