#!/bin/bash
# SPDX-License-Identifier: MIT
# A process at its limit of memory is dumped; the limit is what it was, and so it is after a restore.
# builds: plain faults
. "$(dirname "$0")/../lib/e2e.sh"
need_root
need_program python3
with_reaper "$@"
image=$TMPDIR/image

cat >"$TMPDIR/holder.py" <<'END'
import mmap, os, resource, sys, time
here, which = sys.argv[1:]
here += "/"
which = {"AS": resource.RLIMIT_AS, "DATA": resource.RLIMIT_DATA}[which]
words = [int(w) * mmap.PAGESIZE for w in open("/proc/self/statm").read().split()]
size = words[0] if which == resource.RLIMIT_AS else words[5]
limit = (size + (64 << 10), size + (64 << 10) if os.getenv("HARD") else resource.RLIM_INFINITY)
resource.setrlimit(which, limit)
try:
    mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    sys.exit("no limit")
except OSError:
    pass
open(here + "ready", "w").close()
while not os.path.exists(here + "go"):
    time.sleep(0.02)
if resource.getrlimit(which) != limit:
    print("the limit is", resource.getrlimit(which), "and was", limit, flush=True)
open(here + "done", "w").close()
END

limits() {
	grep -E "Max (address space|data size)" "/proc/$1/limits"
}

start() { # WHICH
	dir=$TMPDIR/$1
	rm -rf "$dir" "$image"
	mkdir "$dir"
	setsid python3 "$TMPDIR/holder.py" "$dir" "$1" </dev/null >"$dir/out" 2>&1 &
	pid=$!
	living "$1" $pid
	await_file "$dir/ready" || die "$1: does not get ready: $(<"$dir/out")"
	before=$(limits $pid)
}

ends() { # WHAT
	: >"$dir/go"
	await_file "$dir/done" || bad "$1: it does not end"
	[ ! -s "$dir/out" ] || bad "$1: $(<"$dir/out")"
}

for which in AS DATA; do
	for HARD in "" 1; do
		# Beyond a hard limit: CAP_SYS_RESOURCE.
		[ -z "$HARD" ] || [ $((0x$(awk '/^CapEff/ { print $2 }' /proc/self/status) >> 24 & 1)) = 1 ] || {
			echo "hard limits: not here"
			continue
		}
		export HARD
		start $which
		if [[ $BUILD == *-faults ]]; then
			STASIS_FAULT=target.limits_raised:kill stasis dump -t $pid -D "$image" -R --no-log
			[ "$RC" = 18 ] || bad "$which: the guardian was to be killed: $RC $ERR"
			[ "$(limits $pid)" = "$before" ] ||
				bad "$which: after the guardian's death: $(limits $pid), not $before"
		fi
		stasis dump -t $pid -D "$image" -R --no-log || bad "$which: dump: $RC $ERR"
		[ "$(limits $pid)" = "$before" ] || bad "$which: after a dump: $(limits $pid), not $before"
		rm -rf "$image"
		if [ -n "$HARD" ]; then
			ends "$which, after a dump"
			wait $pid
			gone $which
			continue
		fi
		stasis dump -t $pid -D "$image" --no-log || bad "$which: dump: $RC $ERR"
		wait $pid 2>/dev/null
		stasis restore -D "$image" -d --no-log || die "$which: restore: $RC $ERR"
		[ "$(limits $pid)" = "$before" ] || bad "$which: after a restore: $(limits $pid), not $before"
		ends "$which, after a restore"
		gone $which
	done
done
finish
