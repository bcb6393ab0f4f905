#!/bin/bash
# SPDX-License-Identifier: MIT
# Who is forked from another than its parent: sessions of dead leaders below several parents; memory.
. "$(dirname "$0")/../lib/e2e.sh"
need_root
need_program python3
with_reaper "$@"
image=$TMPDIR/image

cat >"$TMPDIR/family.py" <<'END'
import ctypes, mmap, os, sys, time
here = sys.argv[1] + "/"
libc = ctypes.CDLL(None, use_errno=True)
PAGE, PAGES = 4096, 512

def subreaper(on):
    if libc.prctl(36, on, 0, 0, 0):
        sys.exit("prctl")

def write(name, text=""):
    with open(here + name + ".new", "w") as f:
        f.write(text)
    os.rename(here + name + ".new", here + name)

def exists(name):
    return os.path.exists(here + name)

def wait_for(*names):
    while not all(exists(n) for n in names):
        time.sleep(0.01)

memory = mmap.mmap(-1, PAGES * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for i in range(PAGES):
    memory[i * PAGE] = i % 251

def others():
    return [l for l in open("/proc/self/maps").read().splitlines()]

# Looks at itself when told to.
def stay(name, changed=()):
    session = os.getsid(0)
    write("session-" + name, str(session))
    write("ready-" + name, str(os.getpid()))
    wait_for("go")
    bad = []
    for i in range(PAGES):
        want = 255 if i in changed else i % 251
        if memory[i * PAGE] != want:
            bad.append(f"{name}: page {i} is {memory[i * PAGE]}, not {want}")
    if os.getsid(0) != session:
        bad.append(f"{name}: is in session {os.getsid(0)}, not {session}")
    wanted = int(open(here + "parent-" + name).read())
    if os.getppid() != wanted:
        bad.append(f"{name}: its parent is {os.getppid()}, not {wanted}")
    write("answer-" + name, "".join(b + "\n" for b in bad))
    while not exists("end"):
        time.sleep(0.05)
    os._exit(0)

def fork(run):
    pid = os.fork()
    if pid == 0:
        try:
            run()
        finally:
            os._exit(1)
    return pid

def orphan_of_middle(name, changed=()):
    middle = fork(lambda: fork(lambda: stay(name, changed)) and os._exit(0))
    os.waitpid(middle, 0)

# A leader that lives, has changed pages since its orphan was born, and has a child of its own.
def leader():
    os.setsid()
    orphan_of_middle("orphan")
    wait_for("ready-orphan")
    for i in range(100, 200):
        memory[i * PAGE] = 255
    fork(lambda: stay("child", range(100, 200)))
    stay("leader", range(100, 200))

# The session of a dead leader, one orphan here and one at the root.
def lower():
    subreaper(1)
    def dead():
        os.setsid()
        def late():
            fork(lambda: stay("upper"))
            wait_for("let-go")
            os._exit(0)
        fork(late)
        fork(lambda: stay("lower"))
        os._exit(0)
    os.waitpid(fork(dead), 0)
    wait_for("ready-upper", "ready-lower")
    subreaper(0)
    write("let-go")
    while True:
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            pass
        if exists("let-be"):
            break
        time.sleep(0.01)
    stay("low")

subreaper(1)
names = ("orphan", "child", "leader", "upper", "lower")
pids = {"leader": fork(leader)}
wait_for("ready-leader")
pids["low"] = fork(lower)
# One that shares nothing, with a child that shares nothing with it.
pids["shell"] = fork(lambda: os.execvp("sh", ["sh", "-c", "sleep 1000 & wait"]))
wait_for(*("ready-" + n for n in names), "let-go")
time.sleep(0.2)
write("let-be")
wait_for("ready-low")
names += ("low",)
pid = {n: int(open(here + "ready-" + n).read()) for n in names}

def parent_of(p):
    return open(f"/proc/{p}/stat").read().rsplit(")", 1)[1].split()[1]

for n in names:
    write("parent-" + n, parent_of(pid[n]))
if int(parent_of(pid["upper"])) != os.getpid() or int(parent_of(pid["lower"])) != pid["low"]:
    sys.exit("the orphans have other parents")
while not open(f"/proc/{pids['shell']}/task/{pids['shell']}/children").read().split():
    time.sleep(0.01)
asleep = int(open(f"/proc/{pids['shell']}/task/{pids['shell']}/children").read().split()[0])
while open(f"/proc/{asleep}/comm").read() != "sleep\n":
    time.sleep(0.01)
time.sleep(0.3)

def mappings(p):
    return [l.split()[0] for l in open(f"/proc/{p}/maps")]

before = {p: mappings(p) for p in list(pid.values()) + [asleep, pids["shell"]]}
write("ready")
wait_for("go")
bad = ""
for p, had in before.items():
    has = mappings(p)
    more = [m for m in has if m not in had]
    if more:
        bad += f"process {p} has mappings that it had not: {len(more)}, {more[0]} for one\n"
wait_for(*("answer-" + n for n in names))
bad += "".join(open(here + "answer-" + n).read() for n in names)
if open(here + "session-upper").read() != open(here + "session-lower").read():
    bad += "two sessions\n"
write("answer", bad)
write("end")
os.kill(asleep, 9)
END
mkdir "$TMPDIR/v"
setsid python3 "$TMPDIR/family.py" "$TMPDIR/v" </dev/null >"$TMPDIR/out" 2>&1 &
pid=$!
living family $pid
await_file "$TMPDIR/v/ready" 20 || die "the family does not get ready: $(<"$TMPDIR/out")"
for n in once twice; do
	rm -rf "$image"
	stasis dump -t $pid -D "$image" --no-log || die "$n: dump: $RC $ERR"
	wait $pid 2>/dev/null
	stasis restore -D "$image" -d --no-log || die "$n: restore: $RC $ERR"
done
: >"$TMPDIR/v/go"
await_file "$TMPDIR/v/answer" 20 || die "the restored family does not answer: $(<"$TMPDIR/out")"
[ ! -s "$TMPDIR/v/answer" ] || bad "$(<"$TMPDIR/v/answer")"
finish
