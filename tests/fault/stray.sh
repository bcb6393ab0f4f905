#!/bin/bash
# SPDX-License-Identifier: MIT
# The guardian is killed while everything stands still after its batches: no thread keeps a signal of
# ours, not even one that blocks all of them.
# builds: faults
. "$(dirname "$0")/../lib/e2e.sh"

image=$TMPDIR/image
for s in masks "threads --n 5" actions; do
	dir=$TMPDIR/${s%% *}
	# shellcheck disable=SC2086 # options are words
	victim_start "$dir" $s || die "$WHY"
	cat /proc/"$VPID"/task/*/status | grep -E '^(SigPnd|ShdPnd):' >"$TMPDIR/before"
	STASIS_FAULT=dump.collected:stop "$STASIS" dump -t "$VPID" -D "$image" -R --no-log \
		>/dev/null 2>"$TMPDIR/stderr" </dev/null &
	tool=$!
	for _ in $(seq 200); do
		grep -qs '^State:.T' /proc/$tool/status && break
		sleep 0.02
	done
	guardian=$(cat "/proc/$tool/task/$tool/children")
	[ -n "$guardian" ] || die "$s: there is no guardian: $(<"$TMPDIR/stderr")"
	kill -KILL "${guardian%% *}"
	kill -CONT $tool
	wait $tool
	RC=$?
	ERR=$(<"$TMPDIR/stderr")
	[ $RC = 18 ] || bad "$s: exit code $RC: $ERR"
	message_ok "$s"
	nothing_left "$image" "$s"
	nobody_traces "$VPID" "$s"
	cat /proc/"$VPID"/task/*/status | grep -E '^(SigPnd|ShdPnd):' >"$TMPDIR/after"
	diff "$TMPDIR/before" "$TMPDIR/after" >"$TMPDIR/diff" || bad "$s: pending signals: $(<"$TMPDIR/diff")"
	victim_end "$dir" "after its guardian was killed"
done

# After the image has its name: it stays, the tree was let go, and both are said.
victim_start "$TMPDIR/late" plain || die "$WHY"
STASIS_FAULT=dump.committed:stop "$STASIS" dump -t "$VPID" -D "$image" --no-log \
	>/dev/null 2>"$TMPDIR/stderr" </dev/null &
tool=$!
for _ in $(seq 200); do
	grep -qs '^State:.T' /proc/$tool/status && break
	sleep 0.02
done
guardian=$(cat "/proc/$tool/task/$tool/children")
kill -KILL "${guardian%% *}"
kill -CONT $tool
wait $tool
RC=$?
ERR=$(<"$TMPDIR/stderr")
[ $RC = 18 ] || bad "killed after the image was there: exit code $RC: $ERR"
message_ok "killed after the image was there"
[[ $ERR == *"is whole"* ]] || bad "killed after the image was there: not told: $ERR"
stasis verify "$image" || bad "killed after the image was there: verify: $ERR"
victim_end "$TMPDIR/late" "after its guardian was killed late"
finish
