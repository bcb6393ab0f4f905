#!/bin/bash
# SPDX-License-Identifier: MIT
# Checksums of files: compared when the image has them, and said when it has not.
. "$(dirname "$0")/../lib/e2e.sh"
need_root
need_program python3
with_reaper "$@"
image=$TMPDIR/image

start() { # OPTIONS of the dump
	printf '%2000s' same >"$TMPDIR/data"
	setsid python3 -c 'import sys, time
f = open(sys.argv[1]); f.read(100)
print("ready", flush=True)
time.sleep(1000)' "$TMPDIR/data" >"$TMPDIR/out" 2>&1 </dev/null &
	pid=$!
	living holder $pid
	for ((i = 0; i < 200; i++)); do
		grep -q ready "$TMPDIR/out" && break
		sleep 0.05
	done
	rm -rf "$image"
	stasis dump -t $pid -D "$image" "$@" || die "dump $*: $RC $ERR"
	wait $pid 2>/dev/null
}

# A change that leaves size and time of modification as they were.
change() {
	touch -r "$TMPDIR/data" "$TMPDIR/time"
	printf 'X' | dd of="$TMPDIR/data" bs=1 seek="$1" conv=notrunc status=none
	touch -r "$TMPDIR/time" "$TMPDIR/data"
}

back() {
	stasis restore -D "$image" -d --file-validation checksum || bad "restore: $RC $ERR"
	kill -KILL $pid
	# It is the reaper's.
	while [ -e /proc/$pid ]; do sleep 0.02; done
}

start
change 5
back
[[ $ERR == *"note: the image has no checksum of "*" files, "*" for one: compared by build id or size"* ]] ||
	bad "nothing is said of missing checksums: $ERR"
stasis restore -D "$image" -d --quiet || bad "restore: $RC $ERR"
[[ $ERR != *checksum* ]] || bad "checksums are missed that nobody asked for: $ERR"
kill -KILL $pid
while [ -e /proc/$pid ]; do sleep 0.02; done

start --file-validation checksum-full
back
[[ $ERR != *"no checksum"* ]] || bad "the image has all checksums, and yet: $ERR"
change 1999
expect_refusal 20 "a changed file" restore -D "$image" -d --file-validation checksum
[[ $ERR == *"$TMPDIR/data: has changed: its checksum is "*", it was "* ]] || bad "not named: $ERR"
gone holder
finish
