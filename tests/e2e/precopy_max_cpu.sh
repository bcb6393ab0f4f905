#!/bin/bash
# SPDX-License-Identifier: MIT
# With --max-cpu the tool takes no more CPU time than it was given while the tree runs.
# timeout: 180
. "$(dirname "$0")/../lib/e2e.sh"
need_root

percent=5
victim_start "$TMPDIR/v" heap --size 64 --pattern text || die "$WHY"

# CPU and wall time of one dump in ms, of the tool and the children it has waited for: "CPU WALL".
dump_times() { # DIR OPTIONS...
	local dir=$1 TIMEFORMAT='%R %U %S'
	shift
	{ time "$STASIS" dump -t "$VPID" -D "$dir" -R --json --quiet --no-log "$@" >"$TMPDIR/out" 2>"$TMPDIR/err"; } 2>&1 |
		awk '{ printf "%d %d\n", ($2 + $3) * 1000, $1 * 1000 }'
}

read -r cpu wall < <(dump_times "$TMPDIR/limited" --max-cpu "$percent")
grep -q '"ok": *true' "$TMPDIR/out" || die "dump --max-cpu: $(cat "$TMPDIR/err")"
if ! grep -q '"tracking": *"uffd"' "$TMPDIR/out"; then
	skip "writes are not tracked here: $(sed -n 's/.*"reason": *"\([^"]*\)".*/\1/p' "$TMPDIR/out")"
fi
# The surveys and the stop are no copying: they are not held back.
[ "$((cpu * 100))" -le "$((wall * (percent + 7)))" ] ||
	bad "--max-cpu $percent: $cpu ms of CPU in $wall ms"
victim_ok "$TMPDIR/v" "after a dump with --max-cpu"
stasis verify "$TMPDIR/limited" || bad "verify: $ERR"

expect_refusal 2 "no CPU at all" dump -t "$VPID" -D "$TMPDIR/none" -R --max-cpu 0
nothing_left "$TMPDIR/none" "no CPU at all"
victim_end "$TMPDIR/v" "at the end"
echo "$cpu ms of CPU in $wall ms"
finish
