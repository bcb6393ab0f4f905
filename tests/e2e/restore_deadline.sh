#!/bin/bash
# SPDX-License-Identifier: MIT
# A poll() or a futex wait that sleeps at the dump ends after a restore when its time is up, and not that much later.
. "$(dirname "$0")/../lib/e2e.sh"
need_root
need_program python3
with_reaper "$@"
[ -r /proc/timer_list ] || skip "the kernel does not list its timers"
[ "$(uname -m)" != aarch64 ] || skip "no poll() on this CPU"
image=$TMPDIR/image
limit=${PATIENCE:+60000}
# A number that no other has.
limit=${limit:-7137}

cat >"$TMPDIR/sleeper.py" <<'END'
import os, select, sys, time
here, limit = sys.argv[1] + "/", int(sys.argv[2])
end, begin = os.pipe()
open(here + "ready", "w").close()
t = time.monotonic()
poll = select.poll()
poll.register(end, select.POLLIN)
poll.poll(limit)
with open(here + "new", "w") as f:
    f.write(str(int((time.monotonic() - t) * 1000)))
os.rename(here + "new", here + "took")
END

# slept OPTIONS TIMES COMMAND...: dumped so often when half of its time is up.
slept() {
	local options=$1 times=$2 n before away took
	shift 2
	mkdir "$TMPDIR/v"
	setsid "$@" "$TMPDIR/v" "$limit" </dev/null >"$TMPDIR/out" 2>&1 &
	pid=$!
	living sleeper $pid
	await_file "$TMPDIR/v/ready" || die "$1 $options: it does not get ready: $(<"$TMPDIR/out")"
	sleep $((limit / 2000))
	before=$(date +%s%3N)
	for ((n = 1; n <= times; n++)); do
		# shellcheck disable=SC2086 # options are words
		stasis dump -t $pid -D "$image" $options --no-log || die "$1 $options: dump: $RC $ERR"
		[ -z "$options" ] || kill -KILL $pid
		wait $pid 2>/dev/null
		stasis restore -D "$image" -d --no-log || die "$1 $options: restore: $RC $ERR"
		rm -rf "$image"
		# It is asleep again.
		[ "$n" = "$times" ] || sleep 0.3
	done
	away=$(($(date +%s%3N) - before))
	await_file "$TMPDIR/v/took" $((limit / 500)) || die "$1 $options: it does not wake: $(<"$TMPDIR/out")"
	took=$(<"$TMPDIR/v/took")
	echo "${1##*/}, dump $options, $times: $took ms of $limit, $away of them away"
	[ "$took" -ge "$limit" ] || bad "$1 $options: it woke after $took ms of $limit"
	[ "$took" -le $((limit + away + 1000)) ] ||
		bad "$1 $options: it slept for $took ms of $limit, $away away"
	gone sleeper
	rm -rf "$TMPDIR/v"
}

slept "" 1 python3 "$TMPDIR/sleeper.py"
slept -R 1 python3 "$TMPDIR/sleeper.py"
# Elsewhere the code does not tell what a call was that goes on.
[ "$(uname -m)" != x86_64 ] || slept "" 2 "$BUILD/tests/victims/futexer"
finish
