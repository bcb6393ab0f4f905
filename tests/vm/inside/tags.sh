#!/bin/bash
# SPDX-License-Identifier: MIT
# In a virtual machine of a CPU that has them: tags of memory, with each codec, in CRIU's format, copied while it runs, in a chain.
# timeout: 300
. "$(dirname "$0")/../../lib/e2e.sh"
need_root
with_reaper "$@"
[ -n "${VM_OUT:-}" ] || skip "this is for virtual machines: make check-vm"
"$VICTIM" --list | grep -q '^mte ' || skip "memory of this CPU has no tags"
. tests/lib/real.sh

victim_start "$TMPDIR/v" mte || die "$WHY"
PID=$VPID
disown "$PID"
i=$TMPDIR/i
victim_ok "$TMPDIR/v" "before all"

brought_back() { # LABEL IMAGE
	kill_tree
	until_true 100 all_ended || die "$1: not all have ended: ${TREE[*]}"
	stasis restore -D "$2" -d --quiet || die "$1: restore: exit $RC: $ERR"
	victim_ok "$TMPDIR/v" "after a restore ($1)"
}

n=0
for how in "--compress none" "--compress lz4" "--compress zstd" "--image-format criu"; do
	# shellcheck disable=SC2086 # options are words
	stasis dump -t "$PID" -D "$i.$n" -j --leave-stopped $how || die "$how: dump: exit $RC: $ERR"
	stasis verify "$i.$n" || bad "$how: verify: exit $RC: $ERR"
	brought_back "$how" "$i.$n"
	n=$((n + 1))
done

# Copied while it runs; then a chain, and one image of that.
stasis dump -t "$PID" -D "$i.run" -R || die "dump -R: exit $RC: $ERR"
brought_back "copied while it ran" "$i.run"
stasis pre-dump -t "$PID" -D "$i.p0" || die "pre-dump: exit $RC: $ERR"
stasis dump -t "$PID" -D "$i.p1" -R --track-mem --prev-images-dir ../i.p0 || die "dump on it: exit $RC: $ERR"
stasis verify "$i.p1" || bad "chain: verify: exit $RC: $ERR"
stasis squash "$i.p1" -o "$i.s" || die "squash: exit $RC: $ERR"
brought_back "a chain, squashed" "$i.s"

# Tags are counted, and are in a core file: 128 bytes for each page of a mapping.
stasis show "$i.s" || die "show: exit $RC: $ERR"
grep -q '"tagged_bytes": *[1-9]' <<<"$OUT" || bad "show tells of no tags"
mkdir -p "$VM_OUT/images"
cp -a "$i.0" "$VM_OUT/images/mte-0"
cp "$i.0.binlog" "$VM_OUT/images/mte-0.binlog"
cp "$TMPDIR/v/facts" "$VM_OUT/images/mte-0.facts"
stasis bt "$i.0" || bad "bt: exit $RC: $ERR"
echo "$OUT" >"$VM_OUT/images/mte-0.bt"
kill_tree
gone "$TMPDIR/v"
finish
