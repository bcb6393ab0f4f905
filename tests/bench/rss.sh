#!/bin/bash
# SPDX-License-Identifier: MIT
# The tool's peak resident set for targets from 256 MiB to 8 GiB: flat, at most 128 MiB.
#
# Images go to a tmpfs when it has room. RSS_SIZES="256 1024" picks other sizes (MiB).
. "$(dirname "$0")/../lib/e2e.sh"

bar_kib=131072
sizes=${RSS_SIZES:-256 512 1024 2048 4096 8192}
image=$TMPDIR/image
worst=0
least=0

for size in $sizes; do
	free=$(awk '/^MemAvailable/ { print int($2 / 1024) }' /proc/meminfo)
	if [ $((size + size / 2 + 1024)) -gt "$free" ]; then
		echo "{\"bench\":\"rss\",\"size_mib\":$size,\"skipped\":\"only $free MiB of memory free\"}"
		continue
	fi
	victim_start "$TMPDIR/v" heap --size "$size" --pattern mix --facts 0 || die "$WHY"
	for codec in lz4 none; do
		rm -rf "$image"
		tests/lib/rss.py "$STASIS" dump -t "$VPID" -D "$image" -R --json --quiet --compress $codec \
			>"$TMPDIR/run" 2>"$TMPDIR/stderr"
		grep -q '"exit": 0' "$TMPDIR/run" || bad "$size MiB, $codec: $(<"$TMPDIR/stderr")"
		rss=$(sed -n 's/.*"peak_rss_kib": \([0-9]*\).*/\1/p' "$TMPDIR/run")
		python3 - "$size" "$codec" "$TMPDIR/run" <<-'X'
			import json, sys
			r = json.load(open(sys.argv[3]))
			m = r["run"]
			print(json.dumps({"bench": "rss", "size_mib": int(sys.argv[1]), "codec": sys.argv[2],
			    "peak_rss_kib": r["peak_rss_kib"], "wall_s": r["wall_s"], "raw_bytes": m["raw_bytes"],
			    "image_bytes": m["image_bytes"], "memory_ms": round(m["memory_ns"] / 1e6, 1),
			    "bottleneck": m["bottleneck"]}))
		X
		[ "$rss" -le "$worst" ] || worst=$rss
		{ [ "$least" = 0 ] || [ "$rss" -lt "$least" ]; } && least=$rss
	done
	victim_end "$TMPDIR/v" "($size MiB)"
	rm -rf "${TMPDIR:?}/v" "$image"
done
echo "{\"bench\":\"rss\",\"least_kib\":$least,\"worst_kib\":$worst,\"bar_kib\":$bar_kib,\"within_bar\":$(
	[ "$worst" -le $bar_kib ] && echo true || echo false
)}"
[ "$worst" -le $bar_kib ] || bad "peak RSS $worst KiB is above $bar_kib KiB"
finish
