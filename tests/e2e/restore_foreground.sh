#!/bin/bash
# SPDX-License-Identifier: MIT
# A terminal whose foreground group has just ended, as between two commands of a shell, is restored.
# timeout: 60
. "$(dirname "$0")/../lib/e2e.sh"
need_root
need_program python3
with_reaper "$@"
. tests/lib/real.sh

cat >"$TMPDIR/program.py" <<'PY'
import fcntl, os, pty, signal, termios, time
m,s=pty.openpty()
pid=os.fork()
if pid==0:
    os.setsid(); fcntl.ioctl(s,termios.TIOCSCTTY,0)
    signal.signal(signal.SIGTTOU,signal.SIG_IGN)
    c=os.fork()
    if c==0:
        os.setpgid(0,0); time.sleep(0.2); os._exit(0)
    os.setpgid(c,c); os.tcsetpgrp(s,c); os.waitpid(c,0)
    print("dead group",flush=True)
    time.sleep(1000)
os.waitpid(pid,0)
PY
start python3 "$TMPDIR/program.py"
told 50 "^dead group"
again "once"
again "twice"
stopped "at the end" kill_tree
finish
