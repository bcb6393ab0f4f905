#!/bin/bash
# SPDX-License-Identifier: MIT
# Register sets that a build has never heard of are in its images, and come back byte for byte.
# timeout: 120
. "$(dirname "$0")/../lib/e2e.sh"
need_root
with_reaper "$@"

# Vector registers: the kernel has them in elements of 8 or of 16 bytes. On aarch64 keys as well.
case $(uname -m) in
x86_64) hidden=0x202 ;;
aarch64) hidden="0x405 0x407" ;;
ppc64le) hidden="0x100 0x102 0x103" ;;
s390x) hidden="0x309 0x30a" ;;
*) skip "another CPU" ;;
esac
# shellcheck disable=SC2086 # notes are words
tests/lib/hide_sets.py "$STASIS" "$TMPDIR/stasis" $hidden || die "a program without $hidden"
chmod 755 "$TMPDIR/stasis"
v=$TMPDIR/v
victim_start "$v" regs --n 4 || die "$WHY"
disown "$VPID"
knows=$STASIS
STASIS=$TMPDIR/stasis
stasis dump -t "$VPID" -D "$v/a" -j --quiet || die "dump: exit $RC: $ERR"
stasis restore -D "$v/a" -d -j -s --quiet || die "restore: exit $RC: $ERR"
STASIS=$knows
stasis dump -t "$VPID" -D "$v/b" -j -R --quiet || die "dump again: exit $RC: $ERR"
tests/lib/regsets.py "$v/a" "$v/b" || bad "register sets differ"
kill -CONT "$VPID"
victim_ok "$v" "when it runs on"
victim_kill "$v"

# An image of a build that knows more, with registers that a thread of it does not have at first.
victim_start "$v.2" regs --n 4 || die "$WHY"
disown "$VPID"
stasis dump -t "$VPID" -D "$v/c" -j --quiet || die "a second dump: exit $RC: $ERR"
STASIS=$TMPDIR/stasis
stasis restore -D "$v/c" -d -j --quiet || die "a second restore: exit $RC: $ERR"
victim_ok "$v.2" "restored by a program that does not know them"
victim_kill "$v.2"
finish
