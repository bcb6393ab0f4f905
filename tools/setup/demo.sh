#!/bin/bash
# SPDX-License-Identifier: MIT
# The main job on a real process: a redis-server with 512 MiB of data is dumped while clients keep talking to it.
# Then it is killed and brought back. Usage: demo.sh PATH-TO-STASIS. Everything happens in a temporary
# directory, on a port of the loopback address.
set -euo pipefail

stasis=$(realpath "${1:?usage: demo.sh PATH-TO-STASIS}")
mib=${DEMO_MIB:-512}
dir=$(mktemp -d "${TMPDIR:-/tmp}/stasis-demo.XXXXXX")
cd "$dir"
port=
server=
load=

finish() {
	[ -z "$load" ] || kill "$load" 2>/dev/null || true
	[ -z "$server" ] || kill "$server" 2>/dev/null || true
	wait 2>/dev/null || true
	rm -rf "$dir"
}
trap finish EXIT
trap 'exit 130' INT TERM

say() {
	if [ -t 1 ]; then
		printf '\n\033[1m%s\033[0m\n' "$*"
	else
		printf '\n%s\n' "$*"
	fi
}
cli() { redis-cli -p "$port" "$@"; }

say "1. a redis-server with at least $mib MiB of data"
# On a port that is free, in a session of its own: so it can be brought back anywhere.
for _ in 1 2 3 4 5; do
	port=$((20000 + RANDOM % 20000))
	setsid redis-server --bind 127.0.0.1 --port $port --save '' --appendonly no --daemonize no \
		</dev/null >/dev/null 2>&1 &
	server=$!
	for _ in $(seq 100); do
		cli ping >/dev/null 2>&1 && break 2
		kill -0 $server 2>/dev/null || break
		sleep 0.1
	done
done
fill='local names = {"ada", "grace", "edsger", "barbara", "donald", "frances", "ken", "radia"}
local seed = tonumber(ARGV[1])
for i = seed, seed + tonumber(ARGV[2]) - 1 do
  local h = redis.sha1hex(tostring(i))
  redis.call("SET", "user:" .. i, string.format(
    "{\"id\":%d,\"name\":\"%s\",\"token\":\"%s\",\"balance\":%d.%02d,\"tags\":[\"%s\",\"%s\"],\"about\":\"%s\"}",
    i, names[i % 8 + 1], h, i * 7919 % 100000, i % 100, names[i * 3 % 8 + 1], names[i * 5 % 8 + 1],
    string.rep("record " .. (i % 977) .. " ", 24)))
end'
n=0
while used=$(cli info memory | tr -d '\r' | sed -n 's/^used_memory:\([0-9]*\)$/\1/p') && [ "$used" -lt $((mib << 20)) ]; do
	cli eval "$fill" 0 "$n" 50000 >/dev/null
	n=$((n + 50000))
done
echo "redis-server is pid $server: $n keys, $((used >> 20)) MiB"

say "2. clients keep talking to it"
redis-benchmark -p $port -c 8 -n 100000000 -r "$n" -q SET bench:__rand_int__ hello >/dev/null 2>&1 &
load=$!
sleep 1
before=$(cli info stats | tr -d '\r' | sed -n 's/^total_commands_processed:\(.*\)$/\1/p')

say "3. stasis dump -t $server -D image -R --tcp-close"
# The clients are not part of the tree: in the image their connections are closed ones.
"$stasis" dump -t "$server" -D image -R --tcp-close

sleep 1
after=$(cli info stats | tr -d '\r' | sed -n 's/^total_commands_processed:\(.*\)$/\1/p')
if [ "$after" -le "$before" ] || ! kill -0 "$load" 2>/dev/null; then
	echo "redis-server no longer answers its clients: that is a bug" >&2
	exit 1
fi
echo "the clients noticed nothing but a pause: $((after - before)) commands answered since"

say "4. stasis verify image"
"$stasis" verify image

say "5. stasis bt image: the stacks of its threads, read from the image"
"$stasis" bt image >stacks
grep -q "main+" stacks
sed -n '1,24p' stacks
rest=$(($(wc -l <stacks) - 24))
[ "$rest" -le 0 ] || echo "... and $rest more lines"

say "6. it is killed, and brought back: stasis restore -D image -d"
kill "$load" 2>/dev/null || true
wait "$load" 2>/dev/null || true
load=
kill -KILL "$server"
wait "$server" 2>/dev/null || true
"$stasis" restore -D image -d
keys=$(cli dbsize | tr -d '\r')
right=0
for i in $(seq 1 997 "$n"); do
	[ "$(cli get "user:$i" | grep -c "\"id\":$i,")" = 1 ] && right=$((right + 1))
done
asked=$(seq 1 997 "$n" | wc -l)
if [ "$keys" -lt "$n" ] || [ "$right" != "$asked" ]; then
	echo "the data is not what it was: that is a bug" >&2
	exit 1
fi
echo "redis-server is pid $server again and has $keys keys; $right of $right that were asked for are right"

say "The image, in CRIU's metadata format and our block file:"
find image -type f -printf '%10s  %f\n' | sort -k2
