#!/bin/bash
# SPDX-License-Identifier: MIT
# How the time of a restore grows with threads, mappings, processes and descriptors: it must grow linearly.
#
# Three restores per size; JSON lines with the medians. CRIU=/path/to/criu is measured beside it. cpu_ms is what
# ours takes of the CPUs, and does not mind other work on the machine; the restored processes' own time is not in it.
. "$(dirname "$0")/../lib/e2e.sh"
need_root
with_reaper "$@"

image=$TMPDIR/image

end_all() {
	local p
	for p in "$@"; do kill -KILL "$p" 2>/dev/null; done
	for p in "$@"; do
		while [ -d "/proc/$p" ]; do sleep 0.01; done
	done
}

# Killed one after the other, processes write into the page by which they are asked that their parents are
# gone: every restore begins with the page as it was.
clean() {
	cat "$TMPDIR/ctl" >"$TMPDIR/v/ctl"
}

# One size: medians in milliseconds, of ours and of CRIU's.
measure() { # LABEL SCENARIO N
	local pids runs='' theirs='' began us user system TIMEFORMAT='%U %S'
	victim_start "$TMPDIR/v" "$2" --n "$3" || die "$WHY"
	stasis dump -t "$VPID" -D "$image" -j --quiet --image-format criu --no-log || die "dump: $ERR"
	wait "$VPID" 2>/dev/null
	gone "$TMPDIR/v"
	cp "$TMPDIR/v/ctl" "$TMPDIR/ctl"
	mapfile -t pids < <(image_pids "$image")
	for _ in 1 2 3; do
		clean
		{ time stasis restore -D "$image" -j -d --json --quiet --no-log; } 2>"$TMPDIR/cpu"
		[ "$RC" = 0 ] || die "restore: $ERR"
		read -r user system <"$TMPDIR/cpu"
		runs+="{\"user_s\":$user,\"system_s\":$system,${OUT#\{}"$'\n'
		"$VICTIM" --check "$TMPDIR/v" 60 >/dev/null || bad "$1, $3: the restored victim is not right"
		end_all "${pids[@]}"
		[ -n "${CRIU:-}" ] || continue
		clean
		began=$EPOCHREALTIME
		"$CRIU" restore -D "$image" -j -d -o "$TMPDIR/criu.log" >/dev/null 2>&1 || continue
		us=$((${EPOCHREALTIME/./} - ${began/./}))
		theirs+="$us "
		end_all "${pids[@]}"
	done
	rm -rf "$image" "${TMPDIR:?}/v"
	python3 -c 'import json, statistics, sys
label, n, runs, theirs = sys.argv[1:5]
runs = [json.loads(l) for l in runs.splitlines() if l]
o = {"bench": "restore-scale", "what": label, "n": int(n)}
for k in ("total_ns", "spawn_ns", "maps_ns", "memory_ns", "state_ns"):
    o[k[:-3] + "_ms"] = round(statistics.median(r[k] for r in runs) / 1e6, 2)
o["cpu_ms"] = round(statistics.median(r["user_s"] + r["system_s"] for r in runs) * 1e3)
if theirs.split():
    o["criu_ms"] = round(statistics.median(int(v) for v in theirs.split()) / 1e3, 2)
print(json.dumps(o))' "$1" "$3" "$runs" "$theirs"
}

series() { # LABEL SCENARIO SIZE...
	local label=$1 scenario=$2 n first='' last=''
	shift 2
	for n in "$@"; do
		measure "$label" "$scenario" "$n" | tee "$TMPDIR/last"
		last=$(<"$TMPDIR/last")
		[ -n "$first" ] || first=$last
	done
	python3 -c 'import json, sys
label, a, b = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
growth, time, cpu = (b[k] / a[k] for k in ("n", "total_ms", "cpu_ms"))
print(json.dumps({"bench": "restore-scale", "what": label, "size_grows": growth, "time_grows": round(time, 2),
    "cpu_grows": round(cpu, 2), "linear": time <= 1.25 * growth}))' "$label" "$first" "$last"
}

series threads threads 500 1000 2000
series mappings vmas 7500 15000 30000
series processes wide 125 250 500
series descriptors manyfds 2000 4000 8000
finish
