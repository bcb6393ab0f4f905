#!/bin/bash
# SPDX-License-Identifier: MIT
# How the time of a dump grows with threads, mappings, processes and descriptors: it must grow linearly.
#
# Three dumps per size; JSON lines with the medians. "linear" compares the time per item at the largest
# and the smallest size.
. "$(dirname "$0")/../lib/e2e.sh"

image=$TMPDIR/image

# median_of FIELD FILE: of the dumps' JSON lines
summary() { # LABEL N FILE
	python3 - "$@" <<-'X'
		import json, statistics, sys
		label, n, name = sys.argv[1:4]
		runs = [json.loads(line) for line in open(name)]
		ms = lambda k: [r["run"][k] / 1e6 for r in runs]
		out = {"bench": "scale", "what": label, "n": int(n), "runs": len(runs)}
		for key in ("total_ns", "frozen_ns", "freezing_ns", "collect_ns", "memory_ns", "commit_ns"):
		    out[key[:-3] + "_ms"] = round(statistics.median(ms(key)), 2)
		out["total_ms_min"], out["total_ms_max"] = round(min(ms("total_ns")), 2), round(max(ms("total_ns")), 2)
		out["peak_rss_kib"] = max(r["peak_rss_kib"] for r in runs)
		out["processes"], out["threads"], out["vmas"] = (runs[0]["run"][k] for k in ("processes", "threads", "vmas"))
		print(json.dumps(out))
	X
}

series() { # LABEL SCENARIO SIZE...
	local label=$1 scenario=$2 n first='' last=''
	shift 2
	for n in "$@"; do
		victim_start "$TMPDIR/v" "$scenario" --n "$n" || {
			echo "{\"bench\":\"scale\",\"what\":\"$label\",\"n\":$n,\"skipped\":\"$WHY\"}"
			continue
		}
		: >"$TMPDIR/runs"
		for _ in 1 2 3; do
			rm -rf "$image"
			tests/lib/rss.py "$STASIS" dump -t "$VPID" -D "$image" -R --json --quiet >"$TMPDIR/run" 2>"$TMPDIR/stderr"
			grep -q '"exit": 0' "$TMPDIR/run" || bad "$label, $n: $(<"$TMPDIR/stderr")"
			cat "$TMPDIR/run" >>"$TMPDIR/runs"
		done
		victim_ok "$TMPDIR/v" "after three dumps ($label, $n)"
		victim_end "$TMPDIR/v" "($label, $n)"
		summary "$label" "$n" "$TMPDIR/runs" | tee "$TMPDIR/last"
		[ -n "$first" ] || first=$(<"$TMPDIR/last")
		last=$(<"$TMPDIR/last")
		rm -rf "${TMPDIR:?}/v" "$image"
	done
	python3 - "$label" "$first" "$last" <<-'X'
		import json, sys
		label, a, b = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
		growth, time = b["n"] / a["n"], b["total_ms"] / a["total_ms"]
		print(json.dumps({"bench": "scale", "what": label, "size_grows": growth, "time_grows": round(time, 2),
		    "linear": time <= 1.25 * growth}))
	X
}

series threads threads 250 500 1000 2000
series mappings vmas 3750 7500 15000 30000
series processes wide 60 120 250 500
series descriptors manyfds 2500 5000 10000
finish
