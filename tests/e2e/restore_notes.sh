#!/bin/bash
# SPDX-License-Identifier: MIT
# What a restore says beside its result: whom it waits for, and who has no terminal.
. "$(dirname "$0")/../lib/e2e.sh"
need_root
need_program python3
with_reaper "$@"
image=$TMPDIR/image

# A child that has been killed is collected two seconds after that.
cat >"$TMPDIR/parent.py" <<'PY'
import os, subprocess, sys, time
child = subprocess.Popen(["setsid", "sleep", "1000"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
time.sleep(2)
child.wait()
time.sleep(1000)
PY
python3 "$TMPDIR/parent.py" >"$TMPDIR/pid" 2>&1 </dev/null &
parent=$!
living parent $parent
for ((i = 0; i < 200; i++)); do
	[ -s "$TMPDIR/pid" ] && [ "$(cat "/proc/$(<"$TMPDIR/pid")/comm" 2>/dev/null)" = sleep ] && break
	sleep 0.05
done
pid=$(<"$TMPDIR/pid")
stasis dump -t "$pid" -D "$image" -j --no-log || die "dump: $RC $ERR"
stasis restore -D "$image" -d --no-log || bad "a pid that comes free: $RC $ERR"
[[ $ERR == *"note: pid $pid is held by a process that has ended: waiting up to 5 s until its parent, pid $parent,"* ]] ||
	bad "the restore waits without a word: $ERR"
kill -KILL "$pid" $parent 2>/dev/null
wait $parent 2>/dev/null
gone parent
rm -rf "$image"

# The leader of a session, on a terminal of somebody else's.
cat >"$TMPDIR/leader.py" <<'PY'
import os, pty, sys, time
pid, master = pty.fork()
if pid == 0:
    os.execvp("sleep", ["sleep", "1000"])
print(pid, flush=True)
os.waitpid(pid, 0)
os.close(master)
PY
python3 "$TMPDIR/leader.py" >"$TMPDIR/pid" 2>&1 </dev/null &
holder=$!
living holder $holder
for ((i = 0; i < 200; i++)); do
	[ -s "$TMPDIR/pid" ] && [ "$(cat "/proc/$(<"$TMPDIR/pid")/comm" 2>/dev/null)" = sleep ] && break
	sleep 0.05
done
pid=$(<"$TMPDIR/pid")
stasis dump -t "$pid" -D "$image" -j --no-log || die "dump of a session's leader: $RC $ERR"
wait $holder 2>/dev/null
gone holder
cat >"$TMPDIR/terminal.py" <<'PY'
import os, pty, sys
pid, master = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
seen = b""
while True:
    try:
        part = os.read(master, 4096)
    except OSError:
        break
    if not part:
        break
    seen += part
    if b" runs: " in seen:
        break
sys.stdout.buffer.write(seen)
PY
timeout 30 python3 "$TMPDIR/terminal.py" "$STASIS" restore -D "$image" -j --no-log >"$TMPDIR/out" 2>&1
grep -q "pid $pid runs" "$TMPDIR/out" || bad "the leader does not run: $(<"$TMPDIR/out")"
grep -q "note: process $pid leads a session of its own and has no controlling terminal" "$TMPDIR/out" ||
	bad "that it has no terminal is not said: $(<"$TMPDIR/out")"
kill -KILL "$pid" 2>/dev/null
finish
