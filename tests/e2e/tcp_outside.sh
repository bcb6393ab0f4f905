#!/bin/bash
# SPDX-License-Identifier: MIT
# A TCP connection with somebody outside of the tree: refused, carried, or closed, as was asked for.
. "$(dirname "$0")/../lib/e2e.sh"
need_root
own_net "$@"
need_program python3
with_reaper "$@"

# Answers every line with the line and how many came; the state that a restore must bring back.
cat >"$TMPDIR/server.py" <<'PY'
import socket, sys
listener = socket.create_server(("127.0.0.1", 0))
with open(sys.argv[1], "w") as f:
    f.write("%d\n" % listener.getsockname()[1])
peer, _ = listener.accept()
lines, n = peer.makefile("rb"), 0
for line in lines:
    n += 1
    peer.sendall(b"%d %s" % (n, line))
with open(sys.argv[1] + ".end", "w") as f:
    f.write("end after %d\n" % n)
PY

start() { # NAME: the server, and a connection to it at descriptor 9
	local i
	rm -f "$TMPDIR/port" "$TMPDIR/port.end"
	setsid python3 "$TMPDIR/server.py" "$TMPDIR/port" </dev/null >/dev/null 2>&1 &
	SERVER=$!
	living "$1" "$SERVER"
	for ((i = 0; i < 200; i++)); do
		[ ! -s "$TMPDIR/port" ] || break
		sleep 0.05
	done
	[ -s "$TMPDIR/port" ] || die "the server does not start"
	exec 9<>"/dev/tcp/127.0.0.1/$(<"$TMPDIR/port")" || die "no connection"
}

say() { # TEXT WANTED WHEN
	local answer=
	echo "$1" >&9 || bad "$3: cannot send"
	read -r -t 10 answer <&9
	[ "$answer" = "$2" ] || bad "$3: the server answers '$answer' instead of '$2'"
}

back() { # OPTIONS...: the restoring command stays its parent
	local i
	wait "$SERVER" 2>/dev/null
	# The one that came back is not ours to wait for.
	for ((i = 0; i < 1000; i++)); do
		[ -e "/proc/$SERVER" ] || break
		sleep 0.02
	done
	rm -f "$TMPDIR/pid"
	"$STASIS" restore -D "$TMPDIR/image" "$@" --quiet --pidfile "$TMPDIR/pid" >"$TMPDIR/out" 2>&1 </dev/null 9<&- &
	PARENT=$!
	for ((i = 0; i < 400; i++)); do
		[ ! -s "$TMPDIR/pid" ] || return 0
		kill -0 "$PARENT" 2>/dev/null || break
		sleep 0.05
	done
	wait "$PARENT"
	die "restore: exit $?: $(cat "$TMPDIR/out")"
}

start carried
say hello "1 hello" "at first"
expect_refusal 16 "a connection without an option" dump -t "$SERVER" -D "$TMPDIR/image" -R
[[ $ERR == *"--tcp-established"* && $ERR == *"127.0.0.1:"* ]] || bad "the refusal does not help: $ERR"
nothing_left "$TMPDIR/image" "a refused connection"
say again "2 again" "after the refusal"

stasis dump -t "$SERVER" -D "$TMPDIR/image" -R --tcp-established || bad "dump -R: exit $RC: $ERR"
say on "3 on" "after a dump that let it run"
rm -rf "$TMPDIR/image"

# What is sent while it stands still or is gone comes when it is back: TCP sends it again.
for round in 1 2; do
	stasis dump -t "$SERVER" -D "$TMPDIR/image" --tcp-established || die "dump: exit $RC: $ERR"
	back
	say "round $round" "$((3 + round)) round $round" "after restore $round"
	rm -rf "$TMPDIR/image"
	[ $round = 2 ] || SERVER=$(<"$TMPDIR/pid")
done
kill -9 "$(<"$TMPDIR/pid")"
wait "$PARENT" 2>/dev/null
gone carried
exec 9>&-

closed() { # HOW: it has seen the end of its connection and ends
	wait "$PARENT" || bad "$1: the server with a closed connection ends with $?"
	[ "$(cat "$TMPDIR/port.end" 2>&1)" = "end after 1" ] || bad "$1: the program saw no end"
	rm -rf "$TMPDIR/image"
}

start closed
say hello "1 hello" "at first"
stasis dump -t "$SERVER" -D "$TMPDIR/image" --tcp-close || die "dump --tcp-close: exit $RC: $ERR"
exec 9>&-
back
closed "dump --tcp-close"
gone closed

start closed
say hello "1 hello" "at first"
stasis dump -t "$SERVER" -D "$TMPDIR/image" --tcp-established || die "dump: exit $RC: $ERR"
exec 9>&-
back --tcp-close
closed "restore --tcp-close"
gone closed
finish
