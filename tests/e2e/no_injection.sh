#!/bin/bash
# SPDX-License-Identifier: MIT
# A program in which no system call can be made: what is missing is a finding, and no restore comes of it.
# builds: plain asan
. "$(dirname "$0")/../lib/e2e.sh"
need_root

NOSTACK=$(realpath "${PLAIN_BUILD:-$BUILD}/tests/victims/nostack")
image=$TMPDIR/image
setsid "$NOSTACK" >"$TMPDIR/out" 2>&1 </dev/null &
pid=$!
living nostack $pid
for ((i = 0; i < 200; i++)); do
	! grep -q ready "$TMPDIR/out" || grep -q '\[stack\]' /proc/$pid/maps || break
	sleep 0.02
done
grep -q ready "$TMPDIR/out" || die "the victim is not ready: $(cat "$TMPDIR/out")"
! grep -q '\[stack\]' /proc/$pid/maps || skip "the victim has its stack yet"

want="pid $pid: its signal actions, timers and limits cannot be asked for"
expect_refusal 16 "a dump" dump -t "$pid" -D "$image"
[[ $ERR == *"$want"* ]] || bad "the dump does not say what is missing: $ERR"
[[ $ERR == *--allow-findings* ]] || bad "the dump does not say what to do: $ERR"
nothing_left "$image" "after a refusal"
nobody_traces "$pid" "after a refusal"

stasis dump -t "$pid" -D "$image" --allow-findings || bad "for a look: $RC $ERR"
[[ $ERR == *"$want"* ]] || bad "the dump for a look does not say what is missing: $ERR"
wait $pid 2>/dev/null
gone nostack
stasis verify "$image" || bad "verify: $ERR"
expect_refusal 16 "a restore" restore -D "$image" -d
[[ $ERR == *"signal actions, timers and limits"*"pid $pid"* ]] || bad "the restore does not say why: $ERR"
[ ! -e /proc/$pid ] || bad "a refused restore left process $pid"
finish
