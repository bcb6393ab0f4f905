#!/bin/bash
# SPDX-License-Identifier: MIT
# What comes while memory is copied is tracked, too: a forked child and new mappings do not lengthen the stop. And
# --strict-freeze means the stop, whatever it is made of.
. "$(dirname "$0")/../lib/e2e.sh"
need_program python3
need_root

cat >"$TMPDIR/program.py" <<'PY'
import hashlib, mmap, os, sys, time
# What it has is as it was, whenever it is asked: ask exists, and NAME.ok is made.
where, kind = sys.argv[1:]
def memory(mib, seed):
    m = mmap.mmap(-1, mib << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    block = hashlib.sha512(seed).digest() * (16 << 10)
    for at in range(0, mib << 20, len(block)):
        m[at:at + len(block)] = block
    return m, hashlib.sha1(m).digest()
def answer(name, *what):
    while not os.path.exists(where + "/ask"):
        time.sleep(0.02)
    assert all(hashlib.sha1(m).digest() == sum for m, sum in what)
    open(where + "/" + name + ".ok", "w")
    while True:
        time.sleep(1)
if kind == "cow":
    with open(where + "/file", "wb") as f:
        f.truncate(160 << 20)
    f = open(where + "/file", "rb")
    cow = mmap.mmap(f.fileno(), 160 << 20, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    for at in range(0, 160 << 20, 4096):
        cow[at] = 1
first = memory(64, b"first")
open(where + "/ready", "w")
if kind == "cow":
    answer("parent", first)
while not os.path.exists(where + "/go"):
    time.sleep(0.005)
if os.fork() == 0:
    answer("child", first, memory(48, b"child"))
more = memory(48, b"parent")
open(where + "/done", "w")
answer("parent", first, more)
PY

# program KIND: sets VPID and dir.
program() {
	dir=$TMPDIR/$1
	mkdir "$dir"
	setsid python3 "$TMPDIR/program.py" "$dir" "$1" </dev/null >"$dir/out" 2>&1 &
	VPID=$!
	living "$1" $VPID
	wait_for "$dir/ready"
}

program late
"$STASIS" dump -t $VPID -D "$TMPDIR/image" -R --json --max-cpu 5 >"$TMPDIR/json" 2>"$TMPDIR/err" &
tool=$!
for _ in {1..2000}; do
	grep -q '^VmFlags:.* uw' /proc/$VPID/smaps && break
	kill -0 $tool 2>/dev/null || break
	sleep 0.005
done
touch "$dir/go"
wait_for "$dir/done"
kill -0 $tool 2>/dev/null || echo "the dump was over before the child was there: nothing is shown"
wait $tool || die "dump: exit $?: $(cat "$TMPDIR/err")"
[ -e "$dir/done" ] || bad "the program did not get on"
python3 - "$TMPDIR/json" <<'PY' || bad "what came late was not tracked: $(cat "$TMPDIR/json")"
import json, sys
r = json.load(open(sys.argv[1]))
p = r["precopy"]
sys.exit(not (r["processes"] == 2 and p["late"] and p["processes"] == 2 and p["frozen_bytes"] < 8 << 20))
PY
read -r child </proc/$VPID/task/$VPID/children
nobody_traces $VPID "the dump"
grep -q '^VmFlags:.* uw' /proc/$VPID/smaps /proc/"$child"/smaps && bad "memory is still tracked"
kill -KILL $VPID "$child"
wait $VPID 2>/dev/null
while kill -0 $VPID 2>/dev/null || kill -0 "$child" 2>/dev/null; do sleep 0.02; done
gone late
stasis verify "$TMPDIR/image" || bad "verify: $ERR"
stasis restore -D "$TMPDIR/image" -d --pidfile "$TMPDIR/pid" -j || die "restore: $ERR"
touch "$dir/ask"
wait_for "$dir/parent.ok"
wait_for "$dir/child.ok"
kill -KILL $VPID "$child"
rm -rf "$TMPDIR/image"

# 160 MiB that no round copies: that takes longer than 20 ms, which is seen before they are copied.
program cow
expect_refusal 21 "a stop that is too long" dump -t $VPID -D "$TMPDIR/image" -R --strict-freeze --max-freeze 20
[[ $ERR == *"are not tracked"* ]] || bad "the refusal does not say why: $ERR"
nobody_traces $VPID "the refusal"
nothing_left "$TMPDIR/image" "the refusal"
stasis dump -t $VPID -D "$TMPDIR/image" -R --max-freeze 20 --json || bad "dump: $ERR"
[[ $ERR == *"--max-freeze 20 ms could not be kept"* ]] || bad "nothing is said of a stop that was too long: $ERR"
[[ $OUT == *'"freeze_kept":false'* || $OUT == *'"freeze_kept": false'* ]] || bad "JSON: $OUT"
touch "$dir/ask"
wait_for "$dir/parent.ok"
kill -KILL $VPID
gone cow
finish
