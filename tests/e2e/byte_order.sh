#!/bin/bash
# SPDX-License-Identifier: MIT
# An image of a big-endian machine, kept in tests/golden, is verified, shown and made a core file on any machine.
# builds: plain asan
. "$(dirname "$0")/../lib/e2e.sh"
IMAGE=tests/golden/image-s390x FACTS=tests/golden/image-s390x.facts

stasis verify $IMAGE || bad "verify: $RC $ERR"
stasis show $IMAGE || bad "show: $RC $ERR"
"$STASIS" show $IMAGE >"$TMPDIR/shown"
while read -r what tid name value; do
	[ "$what" = reg ] || continue
	grep -qE "\"$name\": \"?${value}[\",}]" "$TMPDIR/shown" || bad "show: thread $tid: no $name of $value"
done <$FACTS
grep -q '"cpu": "s390x"' "$TMPDIR/shown" || bad "show: no s390x"
tests/lib/check_image.py $IMAGE $FACTS || bad "CRIU's decoder: see above"
# A thread in clock_nanosleep(), 262 there: its call is to end with EINTR, and the kernel's word for it is kept.
grep -q '"NT_S390_SYSTEM_CALL"' "$TMPDIR/shown" || bad "show: NT_S390_SYSTEM_CALL has no name"

stasis core -o "$TMPDIR/core" $IMAGE || bad "core: $RC $ERR"
tests/lib/core_regs.py "$TMPDIR/core" $FACTS || bad "core: see above"

cp -r $IMAGE "$TMPDIR/copy"
chmod -R u+w "$TMPDIR/copy"
stasis squash "$TMPDIR/copy" -o "$TMPDIR/squashed" || bad "squash: $RC $ERR"
stasis verify "$TMPDIR/squashed" || bad "verify what squash wrote: $RC $ERR"
stasis core -o "$TMPDIR/core2" "$TMPDIR/squashed" || bad "core of it: $RC $ERR"
cmp "$TMPDIR/core" "$TMPDIR/core2" || bad "the core file after squash is another"
if [ "$(uname -m)" != s390x ]; then
	expect_refusal 6 "a restore on another CPU" restore -d -D "$TMPDIR/copy"
fi
finish
