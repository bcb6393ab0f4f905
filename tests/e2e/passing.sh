#!/bin/bash
# SPDX-License-Identifier: MIT
# What is in the way for a moment is waited for: connections that nobody has accepted
# yet, errors and bytes in terminals that nobody has taken. What stays is refused.
. "$(dirname "$0")/../lib/e2e.sh"
need_program python3

cat >"$TMPDIR/program.py" <<'EOF'
import os, pty, select, socket, struct, sys, time
state, busy, idle = sys.argv[1], *map(float, sys.argv[2:])
if state == "accept":
    l = socket.create_server(("127.0.0.1", 0))
elif state == "error":
    u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    other.bind(("127.0.0.1", 0))
    nobody = other.getsockname()
    other.close()
    u.connect(nobody)
elif state == "terminal":
    master, slave = pty.openpty()
print("ready", flush=True)
rounds = 0
while True:
    if state == "accept":
        c = socket.create_connection(l.getsockname())
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        time.sleep(busy)
        s = l.accept()[0]
        c.close()
        s.close()
    elif state == "error":
        u.send(b"?")
        time.sleep(busy)
        assert u.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    elif state == "terminal":
        os.write(master, b"?\n")
        time.sleep(busy)
        os.read(slave, 9)
        while select.select([master], [], [], 0)[0]:
            os.read(master, 9)
    rounds += 1
    print(rounds, flush=True)
    time.sleep(idle)
EOF

# program NAME STATE BUSY IDLE: it is in that state for BUSY seconds of each round; sets VPID.
program() {
	python3 "$TMPDIR/program.py" "$2" "$3" "$4" >"$TMPDIR/$1.out" &
	VPID=$!
	living "$1" $VPID
	for _ in {1..600}; do
		[ -s "$TMPDIR/$1.out" ] && return
		sleep 0.05
	done
	die "$1 does not start"
}

# moments STATE WHAT
moments() {
	local i options before
	program "moments of $1" "$1" 0.08 0.08
	for i in {1..8}; do
		for options in '' '--tracking none'; do
			# shellcheck disable=SC2086 # options are words
			stasis dump -t $VPID -D "$TMPDIR/image" -R $options ||
				bad "dump $i $options of a program that for moments has $2: exit $RC: $ERR"
			nobody_traces $VPID "dump $i"
			rm -rf "$TMPDIR/image"
		done
	done
	before=$(tail -n 1 "$TMPDIR/moments of $1.out")
	sleep 1
	[ "$(tail -n 1 "$TMPDIR/moments of $1.out")" != "$before" ] || bad "the program does not run on"
	kill -KILL $VPID
	gone "moments of $1"
}

# lasting STATE WHAT WORDS HOW-OFTEN
lasting() {
	local n
	program "$1 that lasts" "$1" 1000 0
	# Into the state.
	sleep 0.2
	expect_refusal 16 "$2" dump -t $VPID -D "$TMPDIR/image" -R
	[[ $ERR == *"$3"* ]] || bad "the refusal does not say why: $ERR"
	n=$(grep -c "$3.*cannot be restored" <<<"$ERR")
	[ "$n" = "$4" ] || bad "told $n times: $ERR"
	nobody_traces $VPID "a refusal"
	nothing_left "$TMPDIR/image" "a refusal"
	kill -KILL $VPID
	gone "$1 that lasts"
}

moments accept "a connection that waits to be accepted"
moments error "an error that it has not seen"
moments terminal "bytes in a terminal that it has not read"
lasting accept "a connection that nobody accepts" "wait to be accepted" 1
lasting error "an error that nobody asks for" "has not seen yet" 1
lasting terminal "bytes that nobody reads" "nobody has read yet" 2
finish
