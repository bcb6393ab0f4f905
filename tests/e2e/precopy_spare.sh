#!/bin/bash
# SPDX-License-Identifier: MIT
# While the tree runs and needs a CPU for itself, whatever the tool does is done on the others.
# timeout: 120
. "$(dirname "$0")/../lib/e2e.sh"
need_root
need_program python3
[ "$(nproc)" -ge 2 ] || skip "one CPU: there is none to leave to the tree"

# 64 MiB, and a loop that never sleeps.
setsid python3 -c '
import sys
b = bytearray(range(256)) * (64 << 12)
open(sys.argv[1], "w").close()
i = 0
while True:
    i = (i + 4096) % len(b)
    b[i] = (b[i] + 1) % 256
' "$TMPDIR/ready" >/dev/null 2>&1 </dev/null &
target=$!
# shellcheck disable=SC2034 # cleanup() ends what is in it
LIVING[target]=$target
await_file "$TMPDIR/ready" 20 || die "python3 does not start"
mine=$(sed -n 's/^Cpus_allowed_list:\t//p' /proc/self/status)

"$STASIS" dump -t "$target" -D "$TMPDIR/image" -R --json --quiet --no-log --max-cpu 25 >"$TMPDIR/out" 2>"$TMPDIR/err" &
tool=$!
apart=0 runs=0 kernels=0
while [ -e "/proc/$tool/stat" ] && [ "$(sed 's/.*) //; s/ .*//' "/proc/$tool/stat" 2>/dev/null)" != Z ]; do
	# Threads that the kernel has made for io_uring before are idle, and not ours to place.
	allowed=$(awk '/^Name:/ { name = $2 } /^Cpus_allowed_list:/ && name !~ /^iou-/ { print "on " $2 }' \
		/proc/"$tool"/task/*/status 2>/dev/null)
	ticks=$(awk '/\(iou-/ { n += $14 + $15 } END { print n + 0 }' /proc/"$tool"/task/*/stat 2>/dev/null)
	[ "${ticks:-0}" -le "$kernels" ] || kernels=$ticks
	if [ -n "$allowed" ]; then
		runs=$((runs + 1))
		case $allowed in *"on $mine"*) ;; *) apart=$((apart + 1)) ;; esac
	fi
done
wait "$tool" || die "dump: $(cat "$TMPDIR/err")"
grep -q '"tracking": *"uffd"' "$TMPDIR/out" || skip "writes are not tracked here: $(head -c 600 "$TMPDIR/out")"
[ "$apart" -gt $((runs / 3)) ] || bad "in $runs looks at the tool's threads all of them kept to fewer CPUs than $mine $apart times"
# Writing is done there, too: what else the kernel's threads do takes no time to speak of.
[ "$kernels" -le 3 ] || bad "threads of the kernel, on any CPU, wrote for $kernels ticks"
kill "$target"
stasis verify "$TMPDIR/image" || bad "verify: $ERR"
echo "$apart of $runs looks; $kernels ticks of the kernel's threads"
finish
