#!/bin/bash
# SPDX-License-Identifier: MIT
# A kernel that lets only the tracing thread read by force what a process may not read itself: all of it is in the image.
# builds: faults
# timeout: 240
. "$(dirname "$0")/../lib/e2e.sh"
need_root
with_reaper "$@"
. tests/lib/real.sh

image=$TMPDIR/image
# The victim of scenario "protnone", and one whose children have such memory in common with it.
for s in protnone guard cow; do
	dir=$TMPDIR/$s
	victim_start "$dir" $s || die "$WHY"
	PID=$VPID
	disown "$PID"
	for way in "" "--tracking none" "--image-format criu" "--track-mem"; do
		label="$s, ${way:-by default}"
		rm -rf "$image"
		# Every read of /proc/PID/mem by the tool ends with EIO; by the guardian none does.
		# shellcheck disable=SC2086 # options are words
		STASIS_FAULT=memdump.force:error:0 stasis dump -t "$PID" -D "$image" -R -v $way || {
			bad "$label: exit code $RC: $ERR"
			continue
		}
		grep -q 'could not be read' <<<"$ERR" && bad "$label: lost: $ERR"
		victim_ok "$dir" "after a dump ($label)"
		stasis verify "$image" || bad "$label: verify: $ERR"
		tests/lib/check_image.py "$image" "$dir/facts" >"$TMPDIR/diff" 2>&1 ||
			bad "$label: $(head -n 10 "$TMPDIR/diff")"
	done
	# As one that has to end: and what the image has is enough to go on with.
	rm -rf "$image"
	mapfile -t TREE < <(tree_pids "$PID")
	STASIS_FAULT=memdump.force:error:0 stasis dump -t "$PID" -D "$image" || die "$s: dump: exit code $RC: $ERR"
	until_true 100 all_ended || die "$s: not all have ended"
	stasis restore -D "$image" -d --quiet || die "$s: restore: exit code $RC: $ERR"
	victim_ok "$dir" "after a restore ($s)"
	kill_tree
	until_true 100 all_ended || die "$s: not all have ended in the end"
	gone "$dir"
done
finish
