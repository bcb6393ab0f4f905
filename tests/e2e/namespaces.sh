#!/bin/bash
# SPDX-License-Identifier: MIT
# A tree with namespaces of its own is refused before it is stopped, by name, and dumped for a look.
# builds: plain asan
. "$(dirname "$0")/../lib/e2e.sh"
need_root
need_program unshare

image=$TMPDIR/image
for kind in pid:-p mount:-m network:-n ipc:-i uts:-u user:-U cgroup:-C time:-T; do
	name=${kind%%:*} flag=${kind##*:}
	unshare "$flag" -f true 2>/dev/null || {
		echo "$name: not here"
		continue
	}
	unshare "$flag" -f sleep 1000 </dev/null >/dev/null 2>&1 &
	pid=$!
	living ns $pid
	until child=$(cat /proc/$pid/task/$pid/children 2>/dev/null) && [ -n "$child" ] &&
		[ "$(cat "/proc/${child% }/comm")" = sleep ]; do sleep 0.02; done
	child=${child% }
	expect_refusal 16 "$name" dump -t "$child" -D "$image" -R
	[[ $ERR == *"pid $child: $name namespace of its own"* ]] || bad "$name is not named: $ERR"
	nothing_left "$image" "$name"
	stasis check --pid "$child"
	[ "$RC" = 16 ] || bad "$name: check: exit code $RC"
	[[ $OUT == *"pid $child: $name namespace of its own"* ]] || bad "$name: check does not name it: $OUT"
	stasis dump -t "$child" -D "$image" -R --allow-findings || bad "$name, for a look: $ERR"
	stasis verify "$image" || bad "$name: verify: $ERR"
	kill -KILL "$child" 2>/dev/null
	wait $pid 2>/dev/null
	gone ns
	rm -rf "$image"
done
finish
