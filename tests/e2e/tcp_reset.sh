#!/bin/bash
# SPDX-License-Identifier: MIT
# A connection that its other side has given up between dump and restore: the message says what helps, and it does.
. "$(dirname "$0")/../lib/e2e.sh"
need_root
need_program python3
with_reaper "$@"
image=$TMPDIR/image

cat >"$TMPDIR/server.py" <<'PY'
import socket, sys, time
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
peer, _ = listener.accept()
time.sleep(1000)
PY
# It has sent more than there is room for at the other end: some of it was never sent.
cat >"$TMPDIR/client.py" <<'PY'
import socket, sys, time
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
s.setblocking(False)
try:
    while True:
        s.send(b"x" * 65536)
except BlockingIOError:
    pass
print("full", flush=True)
while True:
    time.sleep(1000)
PY
until_said() { # FILE TEXT
	local i
	for ((i = 0; i < 200; i++)); do
		grep -q "$2" "$1" && return
		sleep 0.05
	done
	die "$2 does not come: $(<"$1")"
}

setsid python3 "$TMPDIR/server.py" >"$TMPDIR/port" 2>&1 </dev/null &
server=$!
living server $server
until_said "$TMPDIR/port" '[0-9]'
setsid python3 "$TMPDIR/client.py" "$(<"$TMPDIR/port")" >"$TMPDIR/said" 2>&1 </dev/null &
client=$!
living client $client
until_said "$TMPDIR/said" full
stasis dump -t $client -D "$image" --tcp-established || die "dump: $RC $ERR"
wait $client 2>/dev/null
kill -KILL $server
wait $server 2>/dev/null
gone server

stasis restore -D "$image" -d --no-log
if [ "$RC" = 0 ]; then
	# The answer came later than the last byte was written: the program is told.
	kill -KILL $client
	while [ -e /proc/$client ]; do sleep 0.02; done
else
	message_ok "a connection that was reset"
	[[ $ERR == *"--tcp-close"* ]] || bad "the message does not say what helps: $ERR"
	[ ! -e /proc/$client ] || bad "a process is left"
fi
echo "restore: exit $RC: $ERR"
stasis restore -D "$image" -d --no-log --tcp-close || bad "--tcp-close: $RC $ERR"
kill -KILL $client
gone client
finish
