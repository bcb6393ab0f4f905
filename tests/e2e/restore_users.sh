#!/bin/bash
# SPDX-License-Identifier: MIT
# After a restore unix sockets tell of the users who connected them, not of the one who restored them.
# timeout: 60
. "$(dirname "$0")/../lib/e2e.sh"
need_root
need_program python3
with_reaper "$@"
. tests/lib/real.sh

# Everything between root, who listens, and two users; answers to SIGUSR1.
cat >"$TMPDIR/program.py" <<'PY'
import os, signal, socket, struct, sys
path = sys.argv[1]
def as_user(uid, f):
    os.setegid(uid)
    os.seteuid(uid)
    try:
        return f()
    finally:
        os.seteuid(0)
        os.setegid(0)
def connect(where):
    s = socket.socket(socket.AF_UNIX)
    s.connect(where)
    return s
def listen(where):
    s = socket.socket(socket.AF_UNIX)
    s.bind(where)
    os.chmod(where, 0o777)
    return s
root, user = listen(path + "/root"), listen(path + "/user")
root.listen()
as_user(4001, user.listen)
made = {"root": root, "user": user, "pair": as_user(4002, socket.socketpair)[0]}
for name, listener in (("root", root), ("user", user)):
    for uid in (0, 4001, 4002):
        client = as_user(uid, lambda: connect(path + "/" + name))
        made["client %s %d" % (name, uid)] = client
        made["server %s %d" % (name, uid)] = listener.accept()[0]
pair = as_user(4001, socket.socketpair)
made["first"], made["second"] = pair
def tell(*_):
    print(*("%s: %d %d," % (k, *struct.unpack("iII", s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1:])
            for k, s in made.items()), flush=True)
signal.signal(signal.SIGUSR1, tell)
tell()
while True:
    signal.pause()
PY
mkdir "$TMPDIR/socks"
chmod 755 "$TMPDIR/socks"
start python3 "$TMPDIR/program.py" "$TMPDIR/socks"
told 50 "^root: 0 0,"
before=$(tail -n 1 "$OUTPUT")
grep -q "server root 4002: 4002 4002,.*client user 0: 4001 4001,.*second: 4001 4001," <<<"$before" || die "not as it should be: $before"
lines() {
	[ "$(wc -l <"$OUTPUT")" -ge "$1" ]
}
n=1
for round in once twice; do
	again $round
	kill -USR1 $PID
	n=$((n + 1))
	until_true 50 lines $n
	[ "$(tail -n 1 "$OUTPUT")" = "$before" ] || bad "$round: others are seen: $(tail -n 1 "$OUTPUT")"
done
stopped "at the end" kill_tree

# One that waits to be accepted is seen as of the user who has it.
cat >"$TMPDIR/waiting.py" <<'PY'
import os, signal, socket, struct, sys
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o777)
s.listen()
os.setgroups([])
os.setresgid(4001, 4001, 4001)
os.setresuid(4001, 4001, 4001)
c = socket.socket(socket.AF_UNIX)
os.chdir("/")
c.connect(sys.argv[1])
def tell(*_):
    a = s.accept()[0]
    print("accepted:", struct.unpack("iII", a.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1:], flush=True)
signal.signal(signal.SIGUSR1, tell)
os.write(1, b"ready\n")
while True:
    signal.pause()
PY
start python3 "$TMPDIR/waiting.py" "$TMPDIR/socks/waiting"
told 50 "^ready"
again "waiting"
kill -USR1 $PID
told 50 "^accepted"
grep -q "^accepted: (4001, 4001)" "$OUTPUT" || bad "waiting: $(tail -n 1 "$OUTPUT")"
stopped "at the end" kill_tree
finish
