#!/bin/bash
# SPDX-License-Identifier: MIT
# redis-server and clients that count: dumped under load, killed, restored; no answer is lost, all data is there.
# timeout: 240
# REDIS_MIB: mebibytes of data, default 256
. "$(dirname "$0")/../lib/e2e.sh"
need_root
need_program redis-server redis-cli
with_reaper "$@"
. tests/lib/real.sh

mib=${REDIS_MIB:-256}
free=$(awk '/^MemAvailable/ { print int($2 / 1024) }' /proc/meminfo)
[ "$free" -gt $((mib * 3 + 500)) ] || skip "needs $((mib * 3 + 500)) MiB of free memory, has $free"

# A client knows what the server must answer: how often it has counted, and the value it has put there.
cat >"$TMPDIR/client.py" <<'PY'
import os, random, socket, sys, zlib
family, where, name = sys.argv[1:]
if family == "unix":
    s = socket.socket(socket.AF_UNIX)
    s.connect(where)
else:
    s = socket.create_connection(("127.0.0.1", int(where)))
f = s.makefile("rb")
def send(*args):
    s.sendall(b"*%d\r\n" % len(args) + b"".join(b"$%d\r\n%s\r\n" % (len(a), a) for a in args))
key = name.encode()
send(b"SELECT", b"1")
assert f.readline() == b"+OK\r\n"
n = 0
while True:
    value = random.randbytes(random.choice((10, 1000, 100000)))
    send(b"SET", b"value:" + key, value)
    for _ in range(20):
        send(b"INCR", b"count:" + key)
    send(b"GET", b"value:" + key)
    assert f.readline() == b"+OK\r\n"
    for _ in range(20):
        n += 1
        answer = f.readline()
        if answer != b":%d\r\n" % n:
            sys.exit("%s: %r instead of %d" % (name, answer, n))
    assert f.readline() == b"$%d\r\n" % len(value)
    if f.read(len(value) + 2) != value + b"\r\n":
        sys.exit(name + ": another value")
PY
cat >"$TMPDIR/tree" <<'X'
cd "$1" || exit 1
redis-server --port "$2" --bind 127.0.0.1 --unixsocket "$1/redis.sock" --save '' --appendonly no --dir "$1" \
	--daemonize no &
until redis-cli -s "$1/redis.sock" ping 2>/dev/null | grep -q PONG; do sleep 0.1; done
echo "ready"
# The load begins when the data is there.
until [ -e "$1/load" ]; do sleep 0.1; done
for n in 1 2 3; do
	python3 "$1/client.py" unix "$1/redis.sock" "unix$n" &
	python3 "$1/client.py" tcp "$2" "tcp$n" &
done
echo "load"
wait -n
echo "ended: $?"
X
cli() {
	redis-cli -s "$TMPDIR/redis.sock" "$@"
}
port=$((20000 + $$ % 10000))
start bash "$TMPDIR/tree" "$TMPDIR" $port
told 100 ready

# Two thirds compress well, one third not at all. Databases 0: data, 1: load.
cli debug populate 1 warm >/dev/null 2>&1
python3 - "$mib" <<'X' | cli --pipe >/dev/null
import os, sys
out = sys.stdout.buffer
for i in range(int(sys.argv[1]) * 1024):
    value = os.urandom(900) if i % 3 == 0 else (b"%d " % i) * 120
    key = b"key:%d" % i
    out.write(b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(key), key, len(value), value))
X
# All keys and values in one number.
digest() {
	# shellcheck disable=SC2016
	cli eval 'local ks, h = redis.call("keys", "*"), "" table.sort(ks) for _, k in ipairs(ks) do
		h = redis.sha1hex(h .. k .. redis.call("get", k)) end return #ks .. " " .. h' 0
}
counted() {
	cli -n 1 mget count:unix1 count:unix2 count:unix3 count:tcp1 count:tcp2 count:tcp3 | tr '\n' ' '
}
before=$(digest)
[ "${before%% *}" = $((mib * 1024)) ] || die "not filled: $before"
touch "$TMPDIR/load"
told 100 load

# All clients go on counting, and none has found anything wrong.
still() { # LABEL
	local a b i
	read -ra a < <(counted)
	until_true 100 more "${a[@]}" || bad "$1: not all clients go on: ${a[*]}, $(counted)"
	grep -qE 'ended|Traceback|instead|another' "$OUTPUT" && bad "$1: $(tail -n 20 "$OUTPUT")"
}
more() {
	local b i=0
	read -ra b < <(counted)
	[ ${#b[@]} = 6 ] || return 1
	for n in "$@"; do
		[ "${b[i++]}" -gt $((n + 20)) ] || return 1
	done
}
still "before"

# Somebody from outside over TCP: carried by an option only.
exec 9<>"/dev/tcp/127.0.0.1/$port"
printf 'PING\r\n' >&9
read -r -t 10 answer <&9
[ "$answer" = $'+PONG\r' ] || bad "the client from outside: $answer"
refused "client from outside" "pid [0-9]+: fd [0-9]+: .*tcp-established"
printf 'PING\r\n' >&9
read -r -t 10 answer <&9
[ "$answer" = $'+PONG\r' ] || bad "the client from outside after a refused dump: $answer"
still "after a refused dump"
exec 9>&-
sleep 0.2

again "once"
still "once"
again "twice" --compress zstd:1
still "twice"
after=$(digest)
[ "$before" = "$after" ] || bad "the data has changed: $before, $after"
stopped "at the end" cli shutdown nosave
finish
