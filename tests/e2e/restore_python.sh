#!/bin/bash
# SPDX-License-Identifier: MIT
# python3 with threads, subprocesses, a pool of processes and asyncio: dumped, killed, restored; it counts on.
# timeout: 180
. "$(dirname "$0")/../lib/e2e.sh"
need_root
need_program python3
with_reaper "$@"
. tests/lib/real.sh

cat >"$TMPDIR/program.py" <<'PY'
import asyncio, hashlib, multiprocessing, os, queue, signal, subprocess, sys, tempfile, threading, time

steps, lock, trouble = {}, threading.Lock(), []
def step(name):
    with lock:
        steps[name] = steps.get(name, 0) + 1
def watched(f):
    def run():
        try:
            f()
        except BaseException as e:
            trouble.append("%s: %r" % (f.__name__, e))
    threading.Thread(target=run, daemon=True).start()

def pipes():
    cat = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    n = 0
    while True:
        n += 1
        line = b"%d\n" % n * 500
        cat.stdin.write(line)
        cat.stdin.flush()
        assert cat.stdout.read(len(line)) == line
        step("pipes")
def short_lived():
    while True:
        assert subprocess.run(["sh", "-c", "exit 7"]).returncode == 7
        step("short_lived")
def queues():
    q, out = queue.Queue(10), []
    def consume():
        want = 0
        while True:
            assert q.get(timeout=60) == want
            want += 1
            step("queues")
    watched(consume)
    for i in range(1 << 60):
        q.put(i)
        if i % 100 == 0: time.sleep(0.001)
def files():
    f = tempfile.TemporaryFile()
    for i in range(1 << 60):
        f.seek(i % 100 * 1000)
        f.write(b"%010d" % i)
        if i >= 100:
            f.seek((i - 99) % 100 * 1000)
            assert f.read(10) == b"%010d" % (i - 99)
        step("files")
        time.sleep(0.0005)
def aio():
    async def main():
        async def echo(r, w):
            while True:
                w.write(await r.readexactly(1000))
                await w.drain()
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        r, w = await asyncio.open_connection(*server.sockets[0].getsockname())
        while True:
            data = os.urandom(1000)
            w.write(data)
            assert await asyncio.wait_for(r.readexactly(1000), 60) == data
            step("aio")
            await asyncio.sleep(0.001)
    asyncio.run(main())
def sleeper():
    # Time that stood still is not slept again, and none is missing.
    while True:
        t = time.monotonic()
        time.sleep(0.05)
        assert 0.05 <= time.monotonic() - t, "woken too early"
        step("sleeper")
def square(x):
    time.sleep(0.002)
    return x * x
def pool():
    with multiprocessing.get_context("fork").Pool(2) as p:
        for i in range(1 << 60):
            assert p.map(square, range(i, i + 8)) == [x * x for x in range(i, i + 8)]
            step("pool")
def counter(n, v):
    while True:
        with v.get_lock():
            v.value += 1
        time.sleep(0.001)
shared = multiprocessing.Value("q", 0)
child = multiprocessing.Process(target=counter, args=(1, shared), daemon=True)
child.start()
def sharing():
    last = shared.value
    while True:
        time.sleep(0.02)
        with shared.get_lock():
            assert shared.value >= last
            if shared.value > last: step("sharing")
            last = shared.value

for f in (pool, pipes, short_lived, queues, files, aio, sleeper, sharing):
    watched(f)
alarms = 0
def alarm(*_):
    global alarms
    alarms += 1
signal.signal(signal.SIGALRM, alarm)
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
chain = b"seed"
for i in range(1 << 60):
    for _ in range(1000):
        chain = hashlib.sha256(chain).digest()
    if i % 100 == 0:
        with open(sys.argv[1] + ".new", "w") as f:
            with lock:
                steps["alarm"] = alarms
                print(i, chain.hex(), len(steps), *(f"{k}={v}" for k, v in sorted(steps.items())), file=f)
            print("trouble", *trouble, file=f)
        os.rename(sys.argv[1] + ".new", sys.argv[1])
PY
start python3 "$TMPDIR/program.py" "$TMPDIR/state"

# Everything has moved on since the call, nothing is wrong.
moves() { # LABEL
	until_true 100 test -s "$TMPDIR/state"
	cp "$TMPDIR/state" "$TMPDIR/state.before"
	until_true 200 python3 - "$TMPDIR/state.before" "$TMPDIR/state" <<-'PY' || bad "$1: $(cat "$TMPDIR/state.before" "$TMPDIR/state" "$OUTPUT")"
		import sys
		def read(name):
		    words = open(name).readline().split()
		    return dict(w.split("=") for w in words[3:])
		before, now = read(sys.argv[1]), read(sys.argv[2])
		assert len(now) == 9, now
		assert all(int(now[k]) > int(before.get(k, 0)) + 1 for k in now), now
	PY
	grep -qx trouble "$TMPDIR/state" || bad "$1: $(tail -n 1 "$TMPDIR/state")"
	[ ! -s "$OUTPUT" ] || bad "$1: $(<"$OUTPUT")"
}
moves "before"
again "once"
moves "once"
again "twice" --compress zstd:1
moves "twice"
# The computation has not missed a step.
python3 - "$TMPDIR/state" <<'PY' || bad "the computation is wrong"
import hashlib, sys
i, have = open(sys.argv[1]).readline().split()[:2]
chain = b"seed"
for _ in range((int(i) + 1) * 1000):
    chain = hashlib.sha256(chain).digest()
assert chain.hex() == have
PY
stopped "at the end" kill_tree
finish
