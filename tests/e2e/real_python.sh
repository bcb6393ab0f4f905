#!/bin/bash
# SPDX-License-Identifier: MIT
# A python3 program with threads that compute, sleep, wait on queues and on a socket.
# timeout: 120
. "$(dirname "$0")/../lib/e2e.sh"
need_program python3

cat >"$TMPDIR/service.py" <<'X'
import hashlib, queue, socket, sys, threading, time

want = hashlib.sha256(b"stasis" * 100000).hexdigest()
problems, rounds = [], [0] * 8
todo, done = queue.Queue(), queue.Queue()


def compute(i):
    while True:
        if hashlib.sha256(b"stasis" * 100000).hexdigest() != want:
            problems.append("hash")
        rounds[i] += 1


def sleeper(i):
    while True:
        began = time.monotonic()
        time.sleep(0.05)
        if time.monotonic() - began < 0.05:
            problems.append("short sleep")
        rounds[i] += 1


def worker(i):
    while True:
        done.put(todo.get() * 2)
        rounds[i] += 1


def feeder(i):
    n = 0
    while True:
        todo.put(n)
        if done.get() != n * 2:
            problems.append("queue")
        n += 1
        rounds[i] += 1


server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen(5)
for i, f in enumerate([compute, compute, sleeper, worker, feeder]):
    threading.Thread(target=f, args=(i,), name=f.__name__, daemon=True).start()
print("ready", flush=True)
while True:
    conn, _ = server.accept()
    conn.sendall(("bad %s" % problems[0] if problems else "ok %s" % " ".join(map(str, rounds))).encode())
    conn.close()
X
python3 -u "$TMPDIR/service.py" "$TMPDIR/sock" >"$TMPDIR/service.out" 2>&1 &
service=$!
living service $service
for _ in $(seq 100); do
	grep -q ready "$TMPDIR/service.out" && break
	sleep 0.1
done
# The interpreter itself, should python3 be a script that starts it.
while child=$(cat "/proc/$service/task/$service/children") && [ -n "$child" ]; do
	service=${child%% *}
done

ask() {
	python3 -c 'import socket, sys
s = socket.socket(socket.AF_UNIX); s.settimeout(20); s.connect(sys.argv[1]); print(s.recv(1000).decode())' \
		"$TMPDIR/sock"
}
answer() { # WHEN: it must be well and every thread must go on
	local first second i
	first=$(ask)
	sleep 0.5
	second=$(ask)
	read -ra a <<<"$first"
	read -ra b <<<"$second"
	if [ "${a[0]:-}" != ok ] || [ "${b[0]:-}" != ok ]; then
		bad "$1: $first; $second; $(tail -n 5 "$TMPDIR/service.out")"
		return
	fi
	for i in 1 2 3 4 5; do
		[ "${b[i]}" -gt "${a[i]}" ] || bad "$1: thread $i stands still: $first; $second"
	done
}
answer "before"
for codec in default none lz4 zstd:3; do
	opt=()
	[ $codec = default ] || opt=(--compress "$codec")
	stasis dump -t "$service" -D "$TMPDIR/image" -R "${opt[@]}" || bad "$codec: exit code $RC: $ERR"
	answer "after a dump with $codec"
	stasis verify "$TMPDIR/image" || bad "$codec: verify: $ERR"
	tests/lib/check_image.py "$TMPDIR/image" >"$TMPDIR/check.out" 2>&1 || bad "$codec: $(<"$TMPDIR/check.out")"
	stasis bt "$TMPDIR/image" || bad "bt: exit code $RC: $ERR"
	rm -rf "$TMPDIR/image"
done
grep -q . <<<"$OUT" || bad "bt prints nothing"
nobody_traces "$service" "at the end"
finish
