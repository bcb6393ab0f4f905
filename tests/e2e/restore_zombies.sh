#!/bin/bash
# SPDX-License-Identifier: MIT
# Children that have ended and were not waited for: their parent learns the same of them after a restore.
. "$(dirname "$0")/../lib/e2e.sh"
need_root
need_program python3
with_reaper "$@"

cat >"$TMPDIR/parent.py" <<'END'
import os, signal, sys, time
here = sys.argv[1]
children = {}
# Some that the restoring command ignores or catches, some that leave a core file.
for how in (0, 1, 2, 3, 6, 9, 10, 11, 13, 14, 15, 34, 64):
    pid = os.fork()
    if pid == 0:
        if how and how != 9:
            signal.signal(how, signal.SIG_DFL)
        open("/proc/self/comm", "w").write(f"dead-{how}")
        if how:
            os.kill(os.getpid(), how)
        os._exit(7)
    children[pid] = how
for pid in children:
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
open(here + "/ready", "w").close()
while not os.path.exists(here + "/go"):
    time.sleep(0.02)
lines = []
for pid, how in children.items():
    comm = open(f"/proc/{pid}/comm").read().strip()
    _, status = os.waitpid(pid, 0)
    got = f"{comm} signal {os.WTERMSIG(status)} exit {os.WEXITSTATUS(status)}"
    want = f"dead-{how} signal {how} exit {0 if how else 7}"
    if got != want:
        lines.append(f"{want}, got {got}")
with open(here + "/answer.new", "w") as f:
    f.write("".join(line + "\n" for line in lines))
os.rename(here + "/answer.new", here + "/answer")
END
mkdir "$TMPDIR/v"
setsid python3 "$TMPDIR/parent.py" "$TMPDIR/v" </dev/null >/dev/null 2>"$TMPDIR/err" &
pid=$!
living "$TMPDIR/v" $pid
await_file "$TMPDIR/v/ready" || die "the parent does not get ready: $(<"$TMPDIR/err")"
stasis dump -t $pid -D "$TMPDIR/image" --quiet --no-log || die "dump: $ERR"
wait $pid 2>/dev/null
began=$SECONDS
stasis restore -D "$TMPDIR/image" -d --quiet --no-log || die "restore: $ERR"
[ $((SECONDS - began)) -lt 9 ] || bad "it took $((SECONDS - began)) s"
: >"$TMPDIR/v/go"
await_file "$TMPDIR/v/answer" || die "the restored parent does not answer"
[ ! -s "$TMPDIR/v/answer" ] || bad "$(<"$TMPDIR/v/answer")"
finish
