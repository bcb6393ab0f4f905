#!/bin/bash
# SPDX-License-Identifier: MIT
# What a restore says beside its result: whom it waits for, and who has no terminal.
. "$(dirname "$0")/../lib/e2e.sh"
need_root
need_program python3
with_reaper "$@"
image=$TMPDIR/image

# Whose session began elsewhere: a restore from another one will want -j, which is said in time.
sh -c 'exec sleep 1000' </dev/null >/dev/null 2>&1 &
pid=$!
living sleeper $pid
stasis dump -t $pid -D "$image" -R --no-log || die "dump of a process that leads no session: $RC $ERR"
[[ $ERR == *"pid $pid: session "*" began outside of the tree: "*"--shell-job"* ]] ||
	bad "that a restore will need --shell-job is not said: $ERR"
rm -rf "$image"
stasis dump -t $pid -D "$image" -j -R || die "dump with -j: $RC $ERR"
[[ $ERR != *"--shell-job"* ]] || bad "--shell-job is recommended to who has used it: $ERR"
kill -KILL $pid
wait $pid 2>/dev/null
gone sleeper
stasis restore -D "$image" -j -d || die "restore: $RC $ERR"
size=$(stat -c %s "$image.restore.binlog")
[ "$size" -lt 1048576 ] || bad "the log of a restore is not cut when it is closed: $size bytes"
kill -KILL $pid
rm -rf "$image"

# A program that may not be run any more, and a file that has become a directory.
cp "$(command -v sleep)" "$TMPDIR/program"
: >"$TMPDIR/input"
sh -c "exec '$TMPDIR/program' 1000" <"$TMPDIR/input" >/dev/null 2>&1 &
pid=$!
living program $pid
for ((i = 0; i < 200; i++)); do
	[ "$(readlink /proc/$pid/exe)" = "$TMPDIR/program" ] && break
	sleep 0.02
done
stasis dump -t $pid -D "$image" -j --no-log || die "dump of a program: $RC $ERR"
wait $pid 2>/dev/null
gone program
chmod a-x "$TMPDIR/program"
stasis restore -D "$image" -j -d --no-log && bad "a program that may not be run was restored"
[[ $ERR == *"chmod +x $TMPDIR/program"* ]] || bad "a program that may not be run: what to do is not told: $ERR"
chmod a+x "$TMPDIR/program"
rm "$TMPDIR/input"
mkdir "$TMPDIR/input"
stasis restore -D "$image" -j -d --no-log && bad "a directory was taken for a file"
[[ $ERR == *"$TMPDIR/input): is of another kind now: a directory, it was a regular file"*"put back"* ]] ||
	bad "a file that has become a directory: $ERR"
rm -rf "$image"

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
