#!/bin/bash
# SPDX-License-Identifier: MIT
# redis-server with more than 512 MiB of data is dumped while clients keep talking to it.
# timeout: 240
# alone
. "$(dirname "$0")/../lib/e2e.sh"
need_program redis-server redis-cli redis-benchmark

free=$(awk '/^MemAvailable/ { print int($2 / 1024) }' /proc/meminfo)
[ "$free" -gt 2500 ] || skip "needs 2.5 GiB of free memory, has $free MiB"

sock=$TMPDIR/redis.sock
cli() {
	redis-cli -s "$sock" "$@"
}

redis-server --port 0 --unixsocket "$sock" --save '' --appendonly no --dir "$TMPDIR" \
	--enable-debug-command yes --daemonize no >"$TMPDIR/redis.log" 2>&1 &
server=$!
living redis $server
for _ in $(seq 100); do
	[ "$(cli ping 2>/dev/null)" = PONG ] && break
	sleep 0.1
done
[ "$(cli ping)" = PONG ] || die "redis-server does not start: $(tail -n 5 "$TMPDIR/redis.log")"

# Two thirds compress well, one third not at all.
cli debug populate 400000 plain 1000 >/dev/null
python3 - <<-'X' | cli --pipe >/dev/null
	import os, sys
	out = sys.stdout.buffer
	for i in range(0, 200000):
	    key, value = b"random:%d" % i, os.urandom(1000)
	    out.write(b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(key), key, len(value), value))
X
canary=canary-$RANDOM$RANDOM$RANDOM
cli set canary "$canary" >/dev/null
used=$(cli info memory | tr -d '\r' | sed -n 's/^used_memory://p')
[ "$used" -gt $((512 << 20)) ] || die "only $used bytes of data"

# All values of database 0 in one number; the load works in database 1.
# shellcheck disable=SC2016
digest() {
	cli eval 'local ks, h = redis.call("keys", "*"), "" table.sort(ks) for _, k in ipairs(ks) do
		h = redis.sha1hex(h .. k .. redis.call("get", k)) end return h' 0
}
before=$(digest)
[ ${#before} = 40 ] || die "digest: $before"

redis-benchmark -s "$sock" --dbnum 1 -q -c 20 -r 20000 -d 200 -t set,get,lpush -n 100000000 \
	>"$TMPDIR/load.out" 2>&1 &
load=$!
living load $load
sleep 0.5

commands() {
	cli info stats | tr -d '\r' | sed -n 's/^total_commands_processed://p'
}
dump_under_load() { # LABEL OPTIONS...
	local label=$1 image=$TMPDIR/image-$1 seen
	shift
	stasis dump -t "$server" -D "$image" -R --allow-findings "$@" || {
		bad "$label: dump: exit code $RC: $ERR"
		return
	}
	echo "$label: $OUT$ERR"
	seen=$(commands)
	sleep 0.3
	[ "$(commands)" -gt "$((seen + 100))" ] || bad "$label: the server does not answer any more"
	kill -0 $load || bad "$label: the clients lost their connections: $(tail -n 3 "$TMPDIR/load.out")"
	stasis verify "$image" || bad "$label: verify: $ERR"
	tests/lib/check_image.py "$image" >"$TMPDIR/check.out" 2>&1 || bad "$label: $(<"$TMPDIR/check.out")"
}
dump_under_load default
dump_under_load zstd --compress zstd:1
rm -rf "$TMPDIR/image-zstd"

stasis bt "$TMPDIR/image-default" || bad "bt: exit code $RC: $ERR"
n=$(find "/proc/$server/task" -mindepth 1 -maxdepth 1 | wc -l)
[ "$(grep -cE '^(thread|Thread|tid)' <<<"$OUT")" -ge "$n" ] ||
	bad "bt shows fewer than $n threads: $(head -n 20 <<<"$OUT")"
stasis core "$TMPDIR/image-default" -o "$TMPDIR/core" || bad "core: exit code $RC: $ERR"
grep -qaF "$canary" "$TMPDIR/core" || bad "the core file does not hold the canary's value"
rm -rf "$TMPDIR/core" "$TMPDIR/image-default"

kill $load
wait $load 2>/dev/null
gone load
after=$(digest)
[ "$before" = "$after" ] || bad "the server's data has changed: $before, $after"
nobody_traces "$server" "at the end"
cli shutdown nosave >/dev/null 2>&1
wait $server
gone redis
finish
