#!/bin/bash
# SPDX-License-Identifier: MIT
# A process whose threads live for microseconds: once it is said to be frozen, all of it is.
# builds: faults
# timeout: 180
. "$(dirname "$0")/../lib/e2e.sh"

chains=$(dirname "$VICTIM")/victims/chains
[ -x "$chains" ] || die "$chains is not built"
"$chains" >"$TMPDIR/said" &
root=$!
living chains $root
for _ in $(seq 100); do
	[ -s "$TMPDIR/said" ] && break
	sleep 0.02
done

frozen=0
for ((i = 0; i < 15; i++)); do
	STASIS_FAULT=dump.frozen:stop "$STASIS" dump -t $root -D "$TMPDIR/image" -R --no-log \
		--freeze-timeout 3000 >/dev/null 2>"$TMPDIR/stderr" </dev/null &
	tool=$!
	for _ in $(seq 400); do
		grep -qs '^State:.T' /proc/$tool/status && break
		[ -e /proc/$tool/status ] || break
		sleep 0.02
	done
	if ! grep -qs '^State:.T' /proc/$tool/status; then
		wait $tool
		echo "round $i: $(head -n 1 "$TMPDIR/stderr")"
		continue
	fi
	frozen=$((frozen + 1))
	python3 - $root <<-'X' || bad "round $i: not all of it stands still"
		import os, sys, time
		def look(root):
		    todo, there, loose = [root], set(), []
		    while todo:
		        pid = todo.pop()
		        for tid in os.listdir(f"/proc/{pid}/task"):
		            at = f"/proc/{pid}/task/{tid}"
		            try:
		                text, children = open(at + "/status").read(), open(at + "/children").read()
		            except (FileNotFoundError, ProcessLookupError):
		                continue
		            there.add(tid)
		            status = dict(l.split(":\t", 1) for l in text.splitlines() if ":\t" in l)
		            if status["State"][0] not in "tZX" or status["State"][0] == "t" and status["TracerPid"] == "0":
		                loose.append((pid, tid, status["State"]))
		            todo += map(int, children.split())
		    return there, loose
		# One that was ending when it was asked to stop still runs, in the kernel, until it is gone; it
		# makes no others.
		before, _ = look(int(sys.argv[1]))
		time.sleep(0.1)
		after, loose = look(int(sys.argv[1]))
		if loose or after - before:
		    print(loose[:5], "new:", sorted(after - before)[:5])
		sys.exit(loose != [] or not after <= before)
	X
	kill -CONT $tool
	wait $tool || echo "round $i: $(head -n 1 "$TMPDIR/stderr")"
	rm -rf "$TMPDIR/image"
done
echo "frozen $frozen times"
[ $frozen -gt 0 ] || bad "it was never frozen"
kill -0 $root 2>/dev/null || bad "it is gone"
finish
