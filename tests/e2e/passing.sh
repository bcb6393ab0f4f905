#!/bin/bash
# SPDX-License-Identifier: MIT
# What is in the way for a moment is waited for: connections that nobody has accepted yet. What stays is refused.
. "$(dirname "$0")/../lib/e2e.sh"
need_program python3

# program NAME BUSY IDLE: a connection waits to be accepted BUSY seconds of each round; sets VPID.
program() {
	python3 - "$2" "$3" >"$TMPDIR/$1.out" <<'EOF' &
import socket, struct, sys, time
busy, idle = map(float, sys.argv[1:])
l = socket.create_server(("127.0.0.1", 0))
print("ready", flush=True)
rounds = 0
while True:
    c = socket.create_connection(l.getsockname())
    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    time.sleep(busy)
    s = l.accept()[0]
    c.close()
    s.close()
    rounds += 1
    print(rounds, flush=True)
    time.sleep(idle)
EOF
	VPID=$!
	living "$1" $VPID
	for _ in {1..600}; do
		[ -s "$TMPDIR/$1.out" ] && return
		sleep 0.05
	done
	die "$1 does not start"
}

program moments 0.08 0.08
for i in {1..12}; do
	for options in '' '--tracking none'; do
		# shellcheck disable=SC2086 # options are words
		stasis dump -t $VPID -D "$TMPDIR/image" -R $options ||
			bad "dump $i $options of a program whose connections wait for a moment: exit $RC: $ERR"
		nobody_traces $VPID "dump $i"
		rm -rf "$TMPDIR/image"
	done
done
before=$(tail -n 1 "$TMPDIR/moments.out")
sleep 1
[ "$(tail -n 1 "$TMPDIR/moments.out")" != "$before" ] || bad "the program does not run on"
kill -KILL $VPID
gone moments

program lasting 1000 0
expect_refusal 16 "a connection that nobody accepts" dump -t $VPID -D "$TMPDIR/image" -R
[[ $ERR == *"wait to be accepted"* ]] || bad "the refusal does not say why: $ERR"
n=$(grep -c 'wait to be accepted.*cannot be restored' <<<"$ERR")
[ "$n" = 1 ] || bad "told $n times: $ERR"
nobody_traces $VPID "a refusal"
nothing_left "$TMPDIR/image" "a refusal"
finish
