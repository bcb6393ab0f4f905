#!/bin/bash
# SPDX-License-Identifier: MIT
# A process calls exec while its writes are tracked for the next dump: that one tracks the new memory, copies it while
# the process runs, and takes none of it for what the earlier image has.
. "$(dirname "$0")/../lib/e2e.sh"
need_program python3
need_root

cat >"$TMPDIR/program.py" <<'PY'
import mmap, os, sys, time
where, what = sys.argv[1:]
SIZE = 24 << 20
def wait(name):
    while not os.path.exists(where + "/" + name):
        time.sleep(0.01)
m = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
m[:] = what.encode() * SIZE
open(where + "/ready." + what, "w")
if what == "1":
    wait("go")
    os.execv(sys.executable, [sys.executable, sys.argv[0], where, "2"])
wait("ask")
assert m[:] == what.encode() * SIZE
open(where + "/right", "w")
time.sleep(1000)
PY

# copied TEXT LEAST MOST: bytes that the last dump copied while the process stood still.
copied() {
	python3 - "$OUT" "$2" "$3" <<'PY' || bad "$1: $OUT"
import json, sys
p = json.loads(sys.argv[1])["precopy"]
sys.exit(p["tracking"] == "uffd" and not int(sys.argv[2]) <= p["frozen_bytes"] <= int(sys.argv[3]))
PY
}

for parent in "" "--prev-images-dir ../one"; do
	dir=$TMPDIR/${parent:+with.}parent
	mkdir "$dir"
	setsid python3 "$TMPDIR/program.py" "$dir" 1 </dev/null >"$dir/out" 2>&1 &
	pid=$!
	living "$dir" $pid
	wait_for "$dir/ready.1"
	stasis dump -t $pid -D "$dir/one" -R --track-mem || die "dump: $ERR"
	touch "$dir/go"
	wait_for "$dir/ready.2"
	# shellcheck disable=SC2086
	stasis dump -t $pid -D "$dir/two" $parent -R --json || die "behind an exec: $ERR"
	copied "memory of behind an exec is copied while it stands still" 0 $((12 << 20))
	kill -KILL $pid
	wait $pid 2>/dev/null
	gone "$dir"
	stasis restore -D "$dir/two" -d || die "restore: $ERR"
	living "$dir" $pid
	touch "$dir/ask"
	wait_for "$dir/right"
	kill -KILL $pid
	gone "$dir"
done
finish
