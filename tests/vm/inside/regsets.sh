#!/bin/bash
# SPDX-License-Identifier: MIT
# Every register set of every thread is byte for byte what it was: dumped, killed, restored, dumped again before a thread runs.
# timeout: 300
. "$(dirname "$0")/../../lib/e2e.sh"
need_root
with_reaper "$@"
# Blocked for so long that no call is over when the tree is restored, however slow the machine: its thread would
# have to run on. The main thread of these waits for nothing at all: should it run before the second dump, it shows.
for s in "regs --n 4" "threads --n 50" "blocked --ms 1000000 --rest 0"; do
	dir=$TMPDIR/${s%% *}
	# shellcheck disable=SC2086 # options are words
	victim_start "$dir" $s || die "$s: $WHY"
	disown "$VPID"
	stasis dump -t "$VPID" -D "$dir/a" -j --quiet || die "$s: dump: exit $RC: $ERR"
	stasis restore -D "$dir/a" -d -j -s --quiet || die "$s: restore: exit $RC: $ERR"
	stasis dump -t "$VPID" -D "$dir/b" -j -R --quiet || die "$s: dump again: exit $RC: $ERR"
	tests/lib/regsets.py "$dir/a" "$dir/b" || bad "$s: register sets differ"
	kill -CONT "$VPID"
	# One that is blocked cannot say much in time; images.sh asks it.
	[[ $s == blocked* ]] || victim_ok "$dir" "when it runs on ($s)"
	victim_kill "$dir"
done
finish
