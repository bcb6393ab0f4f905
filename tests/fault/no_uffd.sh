#!/bin/bash
# SPDX-License-Identifier: MIT
# A process that may make no userfaultfd: it is copied while it runs by another way or not at all, and filled by another.
# builds: faults
# timeout: 240
. "$(dirname "$0")/../lib/e2e.sh"
need_root
with_reaper "$@"
. tests/lib/real.sh

image=$TMPDIR/image
for s in chain cow family protnone tree; do
	dir=$TMPDIR/$s
	options=()
	[ $s != chain ] || options=(--rate 20 --mib 8 --threads 2)
	victim_start "$dir" $s "${options[@]}" || die "$WHY"
	PID=$VPID
	disown "$PID"
	for n in 0 1; do # all processes, and the first alone
		rm -rf "$image"
		STASIS_FAULT=target.track:error:$n stasis dump -t "$PID" -D "$image" -R --json || {
			bad "$s, track:$n: exit code $RC: $ERR"
			continue
		}
		if [ $n = 0 ] && grep -q '"tracking": *"uffd"' <<<"$OUT"; then bad "$s: tracked by userfaultfd: $OUT"; fi
		victim_ok "$dir" "after a dump (track:$n)"
		stasis verify "$image" || bad "$s, track:$n: verify: $ERR"
		mapfile -t TREE < <(tree_pids "$PID")
		rm -rf "$image"
		STASIS_FAULT=target.track:error:$n stasis dump -t "$PID" -D "$image" || die "$s, track:$n: $ERR"
		until_true 100 all_ended || die "$s: not all have ended"
		STASIS_FAULT=target.userfaultfd:error:$n stasis restore -D "$image" -d || die "$s, userfaultfd:$n: $ERR"
		grep -q 'without userfaultfd: .*Operation not permitted' <<<"$ERR" ||
			bad "$s, userfaultfd:$n: not told: $ERR"
		victim_ok "$dir" "after a restore (userfaultfd:$n)"
	done
	kill_tree
	until_true 100 all_ended || die "$s: not all have ended in the end"
	gone "$dir"
done
finish
