#!/bin/bash
# SPDX-License-Identifier: MIT
# A job of a shell is restored as one: it has the terminal, ^Z stops it, fg and bg wake it, and so for ever.
# timeout: 120
. "$(dirname "$0")/../lib/e2e.sh"
need_root
need_program python3
with_reaper "$@"

cat >"$TMPDIR/job.py" <<'PY'
import os, sys
n = 0
print("job", os.getpid(), flush=True)
for line in sys.stdin:
    n += 1
    print("answer %d to %s" % (n, line.strip()), flush=True)
PY

# A shell on a terminal of its own, and somebody who types.
cat >"$TMPDIR/typist.py" <<'PY'
import os, pty, re, select, signal, subprocess, sys, time

stasis, work = sys.argv[1:3]
pid, master = pty.fork()
if pid == 0:
    os.environ.update(PS1="ready$ ", HISTFILE="/dev/null", TERM="dumb")
    os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
seen = ""

def until(pattern, seconds=20):
    global seen
    end = time.time() + seconds
    while not re.search(pattern, seen):
        left = end - time.time()
        if left < 0 or not select.select([master], [], [], left)[0]:
            sys.exit("no %r in %r" % (pattern, seen))
        seen += os.read(master, 4096).decode(errors="replace")
    found = re.search(pattern, seen)
    seen = seen[found.end():]
    return found

def type(text, pattern):
    os.write(master, text.encode())
    return until(pattern)

until(r"ready\$ ")
job = int(type("python3 %s/job.py\n" % work, r"job (\d+)\r").group(1))
type("one\n", r"answer 1 to one")
for round in range(2):
    image = "%s/image%d" % (work, round)
    subprocess.run([stasis, "dump", "-t", str(job), "-D", image, "-j", "--quiet", "--no-log"],
                   check=True, stdin=subprocess.DEVNULL)
    until(r"ready\$ ")
    type("%s restore -D %s -j --no-log\n" % (stasis, image), r"pid %d runs" % job)
    n = 2 + 4 * round
    type("two\n", r"answer %d to two" % n)
    type("\x1a", r"Stopped[^\n]*restore")
    until(r"ready\$ ")
    state = open("/proc/%d/stat" % job).read().rsplit(")", 1)[1].split()[0]
    if state != "T":
        sys.exit("the job is not stopped: %s" % state)
    type("echo shell $((6*7))\n", r"shell 42")
    type("fg\n", r"restore")
    type("three\n", r"answer %d to three" % (n + 1))
    # In the background it waits for the terminal, and is brought back to it.
    type("\x1a", r"Stopped[^\n]*restore")
    until(r"ready\$ ")
    type("bg\n", r"ready\$ ")
    type("fg\n", r"restore")
    type("four\n", r"answer %d to four" % (n + 2))
    type("five\n", r"answer %d to five" % (n + 3))
type("\x03", r"ready\$ ")
type("echo status $?\n", r"status (130|1)\r")
if os.path.exists("/proc/%d" % job):
    sys.exit("the job is still there")
os.write(master, b"exit\n")
PY
timeout 100 python3 "$TMPDIR/typist.py" "$STASIS" "$TMPDIR" >"$TMPDIR/out" 2>&1 || bad "$(<"$TMPDIR/out")"
finish
