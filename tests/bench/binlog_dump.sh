#!/bin/bash
# SPDX-License-Identifier: MIT
# What the log costs a whole dump: at the most verbose level against switched off, in turn.
#
# A pair is two dumps of the same victim one after the other, the first of them in turn this and that;
# the figure is the median of the wall-time ratios of all pairs. CPU time and the quartiles stand beside
# it as information: where the quartiles are far apart, the machine was busy with something else, and
# the run is to be repeated, with more pairs (BINLOG_PAIRS) or alone. The image goes to memory when there is
# room, so that the disk's own moods are not measured; the log goes to this disk.
. "$(dirname "$0")/../lib/e2e.sh"

pairs=${BINLOG_PAIRS:-40}
image=$TMPDIR/image
[ ! -d /dev/shm ] || [ ! -w /dev/shm ] || image=$(mktemp -d /dev/shm/stasis-bench.XXXXXX)/image

compare() { # WHAT SCENARIO OPTIONS...
	local what=$1
	shift
	victim_start "$TMPDIR/v" "$@" || {
		echo "{\"bench\":\"binlog_dump\",\"row\":\"$what\",\"skipped\":\"$WHY\"}"
		return
	}
	python3 - "$what" "$pairs" "$image" "$TMPDIR/log" "$STASIS" "$VPID" "$BUILD/bindecode" <<-'X' ||
		import json, os, resource, shutil, statistics, subprocess, sys, time
		what, pairs, image, log, stasis, pid, bindecode = sys.argv[1:]
		def cost(options):
		    shutil.rmtree(image, ignore_errors=True)
		    before, t = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
		    done = subprocess.run([stasis, "dump", "-t", pid, "-D", image, "-R", "--quiet", *options],
		        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
		    wall, after = time.monotonic() - t, resource.getrusage(resource.RUSAGE_CHILDREN)
		    if done.returncode:
		        sys.exit(f"dump {' '.join(options)}, after {len(walls)} pairs: exit code {done.returncode}\n{done.stdout}")
		    return wall, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
		on, off = ["-vv", "-o", log], ["--no-log"]
		walls, cpus, base = [], [], []
		cost(on), cost(off)
		for i in range(int(pairs)):
		    first, second = (on, off) if i % 2 else (off, on)
		    a, b = cost(first), cost(second)
		    with_log, without = (a, b) if i % 2 else (b, a)
		    walls.append(with_log[0] / without[0])
		    cpus.append(with_log[1] / without[1])
		    base.append(without[0])
		calls = len(subprocess.run([bindecode, "--raw", log], check=True, stdout=subprocess.PIPE).stdout.splitlines())
		q = statistics.quantiles(walls, n=4)
		wall, cpu = statistics.median(walls), statistics.median(cpus)
		print(json.dumps({"bench": "binlog_dump", "row": what, "pairs": int(pairs), "calls": calls,
		    "dump_ms": round(statistics.median(base) * 1e3, 1), "ratio": round(wall, 4),
		    "quartiles": [round(q[0], 4), round(q[2], 4)], "cpu_ratio": round(cpu, 4),
		    "log_bytes": os.path.getsize(log), "bar": 1.01, "ok": wall <= 1.01}))
	X
		bad "$what: see above"
	victim_end "$TMPDIR/v" "($what)"
	rm -rf "${TMPDIR:?}/v" "$image"
}

compare "30,000 mappings" vmas --n 30000
compare "500 threads" threads --n 500
compare "100 processes" wide --n 100
[ "$image" = "$TMPDIR/image" ] || rm -rf "${image%/image}"
finish
