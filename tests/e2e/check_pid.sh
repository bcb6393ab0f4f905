#!/bin/bash
# SPDX-License-Identifier: MIT
# `stasis check --pid` lists what a dump would refuse: sockets and terminals too, and it stops nothing.
# builds: plain asan
. "$(dirname "$0")/../lib/e2e.sh"
need_root
need_program python3
image=$TMPDIR/image

# Everything that is held has its other end in the process that started it, or inside of the tree.
cat >"$TMPDIR/holder.py" <<'PY'
import array, os, pty, socket, sys, time
name = sys.argv[1]
stream, stream_peer = socket.socketpair()
dgram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
log.bind(name + "/log")
dgram.connect(name + "/log")
server = socket.create_server(("127.0.0.1", 0))
tcp = socket.create_connection(server.getsockname())
tcp_peer, _ = server.accept()
half = socket.create_connection(server.getsockname())
half_peer, _ = server.accept()
half_peer.shutdown(socket.SHUT_WR)
master, slave = pty.openpty()
mine = {"stream": stream, "dgram": dgram, "tcp": tcp, "half": half}
if os.fork() == 0:
    for s in (stream_peer, log, server, tcp_peer, half_peer):
        s.close()
    os.close(master)
    os.setsid()
    # Inside of the tree nothing is in the way.
    a, b = socket.socketpair()
    travels, stays = socket.socketpair()
    a.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [travels.fileno()]))])
    if sys.argv[2] == "queue":
        travels.close()
    own = socket.create_server(("127.0.0.1", 0))
    c = socket.create_connection(own.getsockname())
    d, _ = own.accept()
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(name + "/own")
    unix.listen()
    e = socket.socket(socket.AF_UNIX)
    e.connect(name + "/own")
    g, _ = unix.accept()
    m, s = pty.openpty()
    if sys.argv[2] == "inside":
        for x in mine.values():
            x.close()
        os.close(slave)
    with open(name + "/held.new", "w") as out:
        for k, v in mine.items():
            out.write("%s %d\n" % (k, v.fileno()))
        out.write("tty %d\npid %d\n" % (slave, os.getpid()))
    os.rename(name + "/held.new", name + "/held")
    for fd in (a, b, c, d, e, g, stays):
        fd.fileno()
    time.sleep(600)
    sys.exit(0)
for s in mine.values():
    s.close()
os.close(slave)
time.sleep(600)
PY

holder() { # KIND
	rm -rf "$TMPDIR/h"
	mkdir "$TMPDIR/h"
	setsid python3 "$TMPDIR/holder.py" "$TMPDIR/h" "$1" >"$TMPDIR/h.err" 2>&1 </dev/null &
	other=$!
	living other $other
	await_file "$TMPDIR/h/held" || die "the holder is not ready: $(cat "$TMPDIR/h.err")"
	declare -gA FD=()
	while read -r k v; do FD[$k]=$v; done <"$TMPDIR/h/held"
	pid=${FD[pid]}
}

drop() {
	kill -KILL "$pid" $other 2>/dev/null
	wait $other 2>/dev/null
	gone other
}

listed() { # TEXT WHERE
	grep -q "^.*pid $pid: fd ${FD[stream]}: unix socket, connected to one of pid $other (python3) outside of the tree" <<<"$1" ||
		bad "$2: the unix stream is not listed: $1"
	grep -q "pid $pid: fd ${FD[dgram]}: unix socket, .*outside of the tree ($TMPDIR/h/log): --ext-unix-sk" <<<"$1" ||
		bad "$2: the unix datagram socket is not listed: $1"
	grep -q "pid $pid: fd ${FD[tcp]}: TCP connection 127.0.0.1:.*outside of the tree" <<<"$1" ||
		bad "$2: the TCP connection is not listed: $1"
	grep -q "pid $pid: fd ${FD[half]}: TCP connection 127.0.0.1:.*outside of the tree" <<<"$1" ||
		bad "$2: the half closed TCP connection is not listed: $1"
	grep -q "pid $pid: fd ${FD[tty]}: terminal /dev/pts/.*--shell-job" <<<"$1" ||
		bad "$2: the terminal is not listed: $1"
}

switches() {
	sed -n 's/^voluntary_ctxt_switches:\t//p' "/proc/$pid/status"
}

holder outside
before=$(switches)
stasis check --pid "$pid"
[ "$RC" = 16 ] || bad "check: exit $RC: $OUT $ERR"
listed "$OUT" check
[ "$(grep -c . <<<"$OUT")" = 5 ] || bad "check lists something else: $OUT"
[ "$(switches)" = "$before" ] || bad "check woke the process"
nobody_traces "$pid" "after a check"

expect_refusal 16 "a dump" dump -t "$pid" -D "$image"
listed "$ERR" "a dump"
[ "$(switches)" = "$before" ] || bad "the refused dump woke the process"
nothing_left "$image" "after a refusal"

stasis check --pid "$pid" --shell-job --tcp-established --ext-unix-sk
[ "$RC" = 16 ] || bad "check with options: exit $RC: $OUT $ERR"
[ "$(grep -c . <<<"$OUT")" = 1 ] || bad "check with options: $OUT"
stasis check --pid "$pid" -j --tcp-close -x
[ "$(grep -c . <<<"$OUT")" = 1 ] || bad "check with --tcp-close: $OUT"
stasis check --shell-job
[ "$RC" = 2 ] || bad "an option without --pid: exit $RC: $ERR"
drop

# Both ends inside, one of them in a queue: nothing, and a dump agrees.
for kind in inside queue; do
	holder $kind
	opts=(-j --tcp-close)
	[ $kind = inside ] || opts+=(-x)
	stasis check --pid "$pid" "${opts[@]}"
	if [ $kind = inside ]; then
		[ "$RC" = 0 ] || bad "check, all inside: exit $RC: $OUT $ERR"
		stasis dump -t "$pid" -D "$image" "${opts[@]}" -R || bad "dump, all inside: exit $RC: $ERR"
		rm -rf "$image"
	fi
	grep "outside" <<<"$OUT" | grep -v "fd ${FD[stream]}:" && bad "check, one end in a queue: $OUT"
	drop
done
finish
