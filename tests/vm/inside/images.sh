#!/bin/bash
# SPDX-License-Identifier: MIT
# In a virtual machine: images of each codec and their logs, for the host to look at; each is restored first.
# timeout: 300
. "$(dirname "$0")/../../lib/e2e.sh"
need_root
with_reaper "$@"
[ -n "${VM_OUT:-}" ] || skip "this is for virtual machines: make check-vm"
mkdir -p "$VM_OUT/images"

# The default, others, and one of CRIU's format.
options=("" "--compress zstd:3 --block-size 64K" "--compress none" "--image-format criu")
n=0
for s in "regs --n 3" "threads --n 50" blocked tree; do
	name=${s%% *}-$n
	dir=$TMPDIR/$name image=$VM_OUT/images/$name
	# shellcheck disable=SC2086 # options are words
	victim_start "$dir" $s || continue
	disown "$VPID"
	# shellcheck disable=SC2086 # options are words
	stasis dump -t "$VPID" -D "$image" -j ${options[n % ${#options[@]}]} || die "$s: dump: exit $RC: $ERR"
	cp "$dir/facts" "$image.facts"
	stasis bt "$image" || bad "$s: bt: exit $RC: $ERR"
	echo "$OUT" >"$image.bt"
	stasis restore -D "$image" -d -j --quiet || die "$s: restore: exit $RC: $ERR"
	victim_ok "$dir" "after a restore ($s)"
	victim_kill "$dir"
	n=$((n + 1))
done
[ $n -eq 4 ] || bad "$n images of 4"
finish
