#!/bin/bash
# SPDX-License-Identifier: MIT
# Somebody kills the target, or one process of it, while it stands still: the dump says so and leaves no
# image, and what lives runs on.
# builds: faults
. "$(dirname "$0")/../lib/e2e.sh"

image=$TMPDIR/image
for point in dump.frozen dump.collected; do
	for whom in root child; do
		dir=$TMPDIR/$point-$whom
		victim_start "$dir" wide --n 3 || die "$WHY"
		child=$(cat "/proc/$VPID/task/$VPID/children")
		STASIS_FAULT=$point:stop "$STASIS" dump -t "$VPID" -D "$image" -R --no-log \
			>/dev/null 2>"$TMPDIR/stderr" </dev/null &
		tool=$!
		for _ in $(seq 200); do
			grep -qs '^State:.T' /proc/$tool/status && break
			sleep 0.02
		done
		case $whom in
		root) victim=$VPID ;;
		*) victim=${child%% *} ;;
		esac
		kill -KILL "$victim"
		sleep 0.1
		kill -CONT $tool
		wait $tool
		RC=$?
		ERR=$(<"$TMPDIR/stderr")
		[ $RC = 13 ] || bad "$point, $whom killed: exit code $RC: $ERR"
		message_ok "$point, $whom killed"
		[[ $ERR == *"$victim"* ]] || bad "$point, $whom killed: $victim is not named: $ERR"
		nothing_left "$image" "$point, $whom killed"
		for c in $child; do
			[ ! -e "/proc/$c" ] || nobody_traces "$c" "$point, $whom killed"
		done
		victim_kill "$dir"
		rm -rf "$dir"
	done
done
finish
