#!/bin/bash
# SPDX-License-Identifier: MIT
# How long a restore takes until the program runs, beside the least it could take, in one run.
#
# RESTORE_MIB=4096 picks the heap's size, RESTORE_ROUNDS=5 the rounds. CRIU=/path/to/criu is measured too,
# by the time until the command ends (command_s of both). Images are in a directory of TMPDIR: in the page
# cache. On a busy machine only CPU time can be believed: cpu_s is that of the threads that fill, cpu_ratio is it
# over that of the bare loops, of lz4 both together. The bar of lz4 is over the larger of filling and unpacking
# alone; least_ratio is what a bare loop that does both, block by block, takes of the same, floor_ratio what the
# restore takes of that loop.
. "$(dirname "$0")/../lib/e2e.sh"
need_root
with_reaper "$@"
# CRIU wants the session of what it dumps within the pid namespace.
if [ -n "${CRIU:-}" ] && [ "$(ps -o sid= -p $$)" -eq 0 ]; then
	exec setsid --wait "$(realpath "$0")" "$@"
fi

mib=${RESTORE_MIB:-4096} rounds=${RESTORE_ROUNDS:-5}
fill=$(realpath "$BUILD/tests/bench/floor_fill")
[ -x "$fill" ] || die "$fill is not built"

victim_start "$TMPDIR/v" heap --size "$mib" --pattern "${RESTORE_PATTERN:-mix}" --facts 0 || die "$WHY"
for codec in lz4 zstd; do
	stasis dump -t "$VPID" -D "$TMPDIR/$codec" -j -R --quiet --compress $codec || die "dump: $ERR"
done
if [ -n "${CRIU:-}" ]; then
	mkdir "$TMPDIR/criu"
	"$CRIU" dump -t "$VPID" -D "$TMPDIR/criu" -j -R -o dump.log 2>/dev/null || die "criu dump: see $(tail -3 "$TMPDIR/criu/dump.log")"
fi
stasis dump -t "$VPID" -D "$TMPDIR/none" -j --quiet --compress none || die "dump: $ERR"
wait "$VPID" 2>/dev/null
gone "$TMPDIR/v"

# Runs on, is right, and ends.
end_restored() { # WHAT
	"$VICTIM" --check "$TMPDIR/v" 60 >/dev/null || bad "the restored victim is not right ($1)"
	kill -KILL "$VPID"
	while kill -0 "$VPID" 2>/dev/null; do sleep 0.05; done
}

restore() { # CODEC
	local t0=${EPOCHREALTIME/./} t1
	stasis restore -D "$TMPDIR/$1" -j -d --json --quiet || die "restore of $1: $ERR"
	t1=${EPOCHREALTIME/./}
	echo "{\"codec\":\"$1\",\"command_us\":$((t1 - t0)),${OUT#\{}" >>"$TMPDIR/runs"
	end_restored "$1"
}

restore_criu() {
	local t0=${EPOCHREALTIME/./} t1
	"$CRIU" restore -D "$TMPDIR/criu" -j -d -o restore.log 2>/dev/null || die "criu restore: $(tail -3 "$TMPDIR/criu/restore.log")"
	t1=${EPOCHREALTIME/./}
	echo "{\"codec\":\"criu\",\"command_us\":$((t1 - t0))}" >>"$TMPDIR/runs"
	end_restored criu
}

: >"$TMPDIR/floors"
: >"$TMPDIR/runs"
for ((i = 0; i <= rounds; i++)); do
	# The first round warms up: fresh memory of a virtual machine is slow once.
	if [ $i = 1 ]; then
		: >"$TMPDIR/floors"
		: >"$TMPDIR/runs"
	fi
	"$fill" "$TMPDIR/none" "$(nproc)" | grep uffd >>"$TMPDIR/floors" || die "fill"
	"$fill" "$TMPDIR/lz4" "$(nproc)" | grep -E 'unpack|both' >>"$TMPDIR/floors" || die "fill"
	restore none
	restore lz4
	restore zstd
	[ -z "${CRIU:-}" ] || restore_criu
done
python3 - "$TMPDIR" "$mib" <<-'X'
	import json, statistics, sys
	d, mib = sys.argv[1], int(sys.argv[2])
	load = lambda name: [json.loads(l) for l in open(f"{d}/{name}")]
	floors, runs = load("floors"), load("runs")
	med = lambda v: statistics.median(v)
	uffd = [f["s"] for f in floors if f["floor"] == "uffd"]
	unpack = [f["s"] for f in floors if f["floor"] == "unpack"]
	both = [f["s"] for f in floors if f["floor"] == "both"]
	cpu = {n: [f["cpu_s"] for f in floors if f["floor"] == n] for n in ("uffd", "unpack", "both")}
	for name, v in (("uffd", uffd), ("unpack", unpack), ("both", both)):
	    print(json.dumps({"bench": "restore", "what": "floor " + name, "mib": mib, "s": med(v), "min_s": min(v), "max_s": max(v),
	                      "cpu_s": round(med(cpu[name]), 4)}))
	command = lambda codec: med([r["command_us"] / 1e6 for r in runs if r["codec"] == codec] or [0])
	criu = command("criu")
	if criu:
	    print(json.dumps({"bench": "restore", "what": "criu", "mib": mib, "command_s": round(criu, 4)}))
	for codec in ("none", "lz4", "zstd"):
	    v = [r["total_ns"] / 1e9 for r in runs if r["codec"] == codec]
	    mem = [r["memory_ns"] / 1e9 for r in runs if r["codec"] == codec]
	    floor = uffd if codec != "lz4" else [max(a, b) for a, b in zip(uffd, unpack)]
	    bar = {"none": 1.15, "lz4": 1.25}.get(codec)
	    ratio = med([a / b for a, b in zip(v, floor)])
	    o = {"bench": "restore", "what": "restore " + codec, "mib": mib, "s": round(med(v), 4), "min_s": round(min(v), 4),
	         "max_s": round(max(v), 4), "memory_s": round(med(mem), 4), "command_s": round(command(codec), 4), "ratio": round(ratio, 3)}
	    o["cpu_s"] = round(med([r["fill_cpu_ns"] / 1e9 for r in runs if r["codec"] == codec]), 4)
	    if bar:
	        least = cpu["uffd"] if codec == "none" else [a + b for a, b in zip(cpu["uffd"], cpu["unpack"])]
	        o["cpu_ratio"] = round(o["cpu_s"] / med(least), 3)
	    if codec == "lz4":
	        o["least_ratio"] = round(med([a / b for a, b in zip(both, floor)]), 3)
	        o["floor_ratio"] = round(med([a / b for a, b in zip(v, both)]), 3)
	    if criu:
	        o["criu_takes_times"] = round(criu / command(codec), 2)
	    for stage in ("read", "unpack", "write"):
	        o[stage + "_busy_s"] = round(med([r[f"fill_{stage}_ns"] / 1e9 for r in runs if r["codec"] == codec]), 3)
	    if bar:
	        o["bar"], o["within_bar"] = bar, ratio <= bar
	    print(json.dumps(o))
X
finish
