#!/bin/bash
# SPDX-License-Identifier: MIT
# The number of a process that has ended is given to another one: the image of the first is no parent for it. What a
# restore has made of an image goes on with it.
. "$(dirname "$0")/../lib/e2e.sh"
need_program python3
need_root

cat >"$TMPDIR/program.py" <<'PY'
import mmap, os, sys, time
SIZE = 4 << 20
m = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
m[:] = sys.argv[2].encode() * SIZE
open(sys.argv[1], "w").close()
time.sleep(1000)
PY
cat >"$TMPDIR/numbered.py" <<'PY'
# numbered.py PID PROGRAM...: a child with that number.
import ctypes, os, sys
pid = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
tids = (ctypes.c_int * 1)(pid)
args = (ctypes.c_ulong * 11)(0, 0, 0, 0, 17, 0, 0, 0, ctypes.addressof(tids), 1, 0)
got = libc.syscall(435, args, ctypes.sizeof(args))  # clone3
if got < 0:
    sys.exit("clone3: " + os.strerror(ctypes.get_errno()))
if got == 0:
    os.setsid()
    os.execvp(sys.argv[2], sys.argv[2:])
os.waitpid(got, 0)
PY

ready() {
	local i
	for ((i = 0; i < 1200; i++)); do
		[ -e "$1" ] && return
		sleep 0.025
	done
	die "$1 does not come: $(cat "$TMPDIR/out")"
}
end() {
	kill -KILL "$1"
	while kill -0 "$1" 2>/dev/null; do sleep 0.02; done
}

setsid python3 "$TMPDIR/program.py" "$TMPDIR/first" 1 </dev/null >"$TMPDIR/out" 2>&1 &
pid=$!
disown $pid
ready "$TMPDIR/first"
stasis dump -t $pid -D "$TMPDIR/i.0" --leave-running || die "dump: $ERR"
stasis dump -t $pid -D "$TMPDIR/i.1" --prev-images-dir ../i.0 --leave-running || bad "the same process: $ERR"
end $pid
stasis restore -D "$TMPDIR/i.1" -d || die "restore: $ERR"
stasis dump -t $pid -D "$TMPDIR/i.2" --prev-images-dir ../i.1 --leave-running || bad "what was restored: $ERR"
end $pid

python3 "$TMPDIR/numbered.py" $pid python3 "$TMPDIR/program.py" "$TMPDIR/second" 2 </dev/null >"$TMPDIR/out" 2>&1 &
ready "$TMPDIR/second"
expect_refusal 2 "another process with that number" dump -t $pid -D "$TMPDIR/i.3" --prev-images-dir ../i.2 -R
[[ $ERR == *"the earlier image ../i.2 is of another process: python3, which started at another time than this one, had pid $pid"* ]] ||
	bad "another process with that number: $ERR"
nothing_left "$TMPDIR/i.3" "another process with that number"
stasis dump -t $pid -D "$TMPDIR/i.3" || bad "without a parent: $ERR"
finish
