#!/bin/bash
# SPDX-License-Identifier: MIT
# Who else is told of writes to a process's memory, or writes to it past its page tables, while it is copied: the keeper
# of another dump, a ring with buffers that are pinned. Nothing stale gets into an image. And of two dumps at the same
# time the second is refused, before the first hears of it.
. "$(dirname "$0")/../lib/e2e.sh"
need_program python3
need_root

cat >"$TMPDIR/program.py" <<'PY'
import ctypes, mmap, os, sys, time
where, kind = sys.argv[1:]
SIZE = 24 << 20
def wait(name):
    while not os.path.exists(where + "/" + name):
        time.sleep(0.01)
def touch(name):
    open(where + "/" + name, "w")
if kind == "nested" and os.fork():
    time.sleep(1000)
if kind == "nested":
    os.setsid()
with open(where + "/pid", "w") as f:
    f.write(str(os.getpid()))
m = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
m[:] = b"1" * SIZE
if kind == "pinned":
    libc = ctypes.CDLL(None, use_errno=True)
    params = (ctypes.c_char * 120)()
    ring = libc.syscall(425, 4, params)  # io_uring_setup
    at = ctypes.addressof(ctypes.c_char.from_buffer(m))
    iov = (ctypes.c_ulong * 2)(at, 1 << 20)
    if ring < 0 or libc.syscall(427, ring, 0, iov, 1) < 0:  # IORING_REGISTER_BUFFERS
        touch("nothing")
touch("ready")
wait("go")
m[:] = b"2" * SIZE
touch("written")
wait("ask")
assert m[:] == b"2" * SIZE
touch("right")
time.sleep(1000)
PY

# program KIND: sets VPID, pid and dir.
program() {
	dir=$TMPDIR/$1
	mkdir "$dir"
	setsid python3 "$TMPDIR/program.py" "$dir" "$1" </dev/null >"$dir/out" 2>&1 &
	VPID=$!
	living "$1" $VPID
	wait_for "$dir/ready"
	read -r pid <"$dir/pid" || true
}

program nested
stasis dump -t "$pid" -D "$TMPDIR/one" -R --track-mem || die "dump: $ERR"
# Its own tree's tracking is in nobody's way.
stasis check --pid "$pid" || bad "check of a process with a keeper: exit $RC: $OUT $ERR"
[[ $OUT == *"tracked by stasis for the next dump"* && $OUT != *userfaultfd* ]] || bad "check of a process with a keeper: $OUT"
touch "$dir/go"
wait_for "$dir/written"
# The tree that it is of, by somebody who knows nothing of that keeper.
stasis dump -t $VPID -D "$TMPDIR/other" -R && bad "memory that somebody else protects is dumped"
stasis dump -t "$pid" -D "$TMPDIR/two" --prev-images-dir ../one || die "the second dump: $ERR"
while kill -0 "$pid" 2>/dev/null && [ "$(ps -o stat= -p "$pid" | cut -c1)" != Z ]; do sleep 0.02; done
kill -KILL $VPID
wait $VPID 2>/dev/null
while kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
gone nested
stasis restore -D "$TMPDIR/two" -d || die "restore: $ERR"
touch "$dir/ask"
wait_for "$dir/right"
kill -KILL "$pid"

program pinned
if [ -e "$dir/nothing" ]; then
	echo "pinned: no io_uring with buffers here"
else
	stasis dump -t "$pid" -D "$TMPDIR/pinned.image" -R --allow-findings --json || die "dump: $ERR"
	python3 -c 'import json, sys; sys.exit(json.loads(sys.argv[1])["precopy"]["frozen_bytes"] < 24 << 20)' "$OUT" ||
		bad "memory that a ring may write to counts as stored: $OUT"
fi
kill -KILL "$pid"
gone pinned

# name_is_taken: somebody has the name by which two dumps keep clear of each other.
name_is_taken() {
	local i
	for ((i = 0; i < 500; i++)); do
		grep -q "@stasis-dump-$pid-" /proc/net/unix && return
		sleep 0.01
	done
	return 1
}
# dump_slowly DIR: in the background, sets tool; it has begun.
dump_slowly() {
	"$STASIS" dump -t "$pid" -D "$1" -R --max-cpu 4 --quiet 2>"$TMPDIR/slow.err" &
	tool=$!
	name_is_taken || die "nobody can be seen to dump: $(cat "$TMPDIR/slow.err")"
}

program plain
dump_slowly "$TMPDIR/first"
# Who asks as often as a queue of the kernel's is long (somaxconn, 4096) takes nobody's turn away.
python3 - "$pid" <<'PY' || bad "whose turn it is cannot be asked 5000 times"
import socket, sys, time
pid = sys.argv[1]
start = open("/proc/%s/stat" % pid).read().rpartition(")")[2].split()[19]
full = 0
for _ in range(5000):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.setblocking(False)
    try:
        s.connect("\0stasis-dump-%s-%s" % (pid, start))
    except BlockingIOError:
        full += 1
        time.sleep(0.01)
    s.close()
sys.exit(full > 50)
PY
expect_refusal 8 "a second dump" dump -t "$pid" -D "$TMPDIR/second" -R
[[ $ERR == *"another dump of pid $pid is under way (stasis, pid $tool)"*"try again"* ]] || bad "a second dump: $ERR"
nothing_left "$TMPDIR/second" "a second dump"
expect_refusal 8 "a check beside a dump" check --pid "$pid"
kill -0 $tool 2>/dev/null || bad "the first dump was over too early: nothing is shown"
wait $tool || bad "the first dump: exit $?: $(cat "$TMPDIR/slow.err")"
stasis verify "$TMPDIR/first" || bad "verify of the first dump: $ERR"
grep -q "@stasis-dump-$pid-" /proc/net/unix && bad "the dump is over and its name is not free"
# However the first one ends.
dump_slowly "$TMPDIR/killed"
kill -KILL $tool
wait $tool 2>/dev/null
for _ in {1..500}; do
	stasis dump -t "$pid" -D "$TMPDIR/third" -R && break
	[[ $RC == 8 && $ERR == *"another dump of pid $pid"* ]] || bad "after a tool that was killed: exit $RC: $ERR"
	sleep 0.02
done
[ -e "$TMPDIR/third/inventory.img" ] || bad "the name of a tool that was killed is never free: $ERR"
# A name is anybody's to take: a stranger's word counts for nothing, and is told of.
python3 - "$pid" >"$dir/stranger.out" 2>&1 <<'PY' &
import os, socket, sys, time
pid = sys.argv[1]
start = open("/proc/%s/stat" % pid).read().rpartition(")")[2].split()[19]
os.setresuid(65534, 65534, 65534)
s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
s.bind("\0stasis-dump-%s-%s" % (pid, start))
s.listen(100)
time.sleep(1000)
PY
stranger=$!
living stranger $stranger
name_is_taken || die "the stranger: $(cat "$dir/stranger.out")"
stasis dump -t "$pid" -D "$TMPDIR/fourth" -R || bad "a stranger keeps us from a dump: exit $RC: $ERR"
[[ $ERR == *"note: pid $pid: pid $stranger, which is user 65534's, has the name"* ]] || bad "nothing is said of a stranger: $ERR"
kill -KILL "$pid" $stranger
gone plain
gone stranger
finish
