#!/bin/bash
# SPDX-License-Identifier: MIT
# Changed images, with and without checksums: an error, no process left, nothing touched outside.
# timeout: 300
# builds: plain asan
. "$(dirname "$0")/../lib/e2e.sh"
need_root
need_program python3 unshare

seconds=${1:-25} seed=${2:-$(date +%j)}
work=$TMPDIR/work
mkdir "$work"
touch "$TMPDIR/stamp"
sleep 0.01
unshare -m -p -f --mount-proc --kill-child python3 tests/lib/hostile.py "$STASIS" "$VICTIM" "$work" "$seconds" "$seed" \
	${3+"$3"} </dev/null >"$TMPDIR/out" 2>&1 || bad "seed $seed: $(<"$TMPDIR/out")"
tail -1 "$TMPDIR/out"
touched=$(find /etc /usr /opt -xdev -newer "$TMPDIR/stamp" -type f 2>/dev/null | head -5)
[ -z "$touched" ] || bad "touched: $touched"
[ "$(ls -A "$TMPDIR")" = "$(printf 'out\nstamp\nstderr\nwork\n' | grep -xF "$(ls -A "$TMPDIR")")" ] ||
	bad "more is there: $(ls -mA "$TMPDIR")"
finish
