#!/bin/bash
# SPDX-License-Identifier: MIT
# What a socket or terminal has that no image carries is refused, by name, and is still there afterwards.
# timeout: 120
# builds: plain asan
. "$(dirname "$0")/../lib/e2e.sh"
need_root
need_program python3

cat >"$TMPDIR/holder.py" <<'PY'
import errno, os, pty, select, socket, struct, sys, time
kind, go = sys.argv[1:]
def tcp():
    l = socket.create_server(("127.0.0.1", 0))
    a = socket.create_connection(l.getsockname())
    b, _ = l.accept()
    return a, b
def received(s, what):
    got = b""
    s.setblocking(False)
    try:
        while len(got) < 100:
            d = s.recv(50)
            if not d: break
            got += d
    except BlockingIOError:
        pass
    assert got == what, got
def fails(s, error):
    try:
        s.recv(1)
    except OSError as e:
        assert e.errno == error, e
        return
    assert False, "no error"
RESET = struct.pack("ii", 1, 0)
if kind == "urgent" or kind == "urgentread" or kind == "urgentinline":
    a, s = tcp()
    if kind == "urgentinline": s.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    a.send(b"ab"); a.send(b"!", socket.MSG_OOB); a.send(b"cd")
    time.sleep(0.1)
    if kind == "urgentread": assert s.recv(1, socket.MSG_OOB) == b"!"
    def after():
        if kind == "urgent": assert s.recv(1, socket.MSG_OOB) == b"!"
        received(s, b"ab!cd" if kind == "urgentinline" else b"abcd")
elif kind == "unixurgent":
    a, s = socket.socketpair()
    a.send(b"ab")
    try:
        a.send(b"!", socket.MSG_OOB)
    except OSError as e:
        print("skip", flush=True); sys.exit(0)
    a.send(b"cd")
    def after():
        assert s.recv(1, socket.MSG_OOB) == b"!"
        received(s, b"abcd")
elif kind == "reset":
    a, s = tcp()
    a.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET); a.close()
    def after(): fails(s, errno.ECONNRESET)
elif kind == "over":
    a, s = tcp()
    a.send(b"last words"); a.close(); s.shutdown(socket.SHUT_WR)
    time.sleep(0.1)
    def after(): received(s, b"last words")
elif kind == "udperror":
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    t = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    t.bind(("127.0.0.1", 0)); s.connect(t.getsockname()); t.close(); s.send(b"x")
    time.sleep(0.1)
    def after(): fails(s, errno.ECONNREFUSED)
elif kind == "tty":
    m, s = pty.openpty()
    os.write(m, b"typed ahead\n")
    time.sleep(0.1)
    def after(): assert os.read(s, 100) == b"typed ahead\n"
elif kind == "udpcork":
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    t = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    t.bind(("127.0.0.1", 0)); s.connect(t.getsockname())
    s.setsockopt(socket.IPPROTO_UDP, 1, 1); s.send(b"half a ")
    def after():
        s.send(b"datagram"); s.setsockopt(socket.IPPROTO_UDP, 1, 0)
        assert t.recv(100) == b"half a datagram"
elif kind == "sources":
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    group, lo = socket.inet_aton("239.1.2.4"), socket.inet_aton("127.0.0.1")
    try:
        s.setsockopt(socket.IPPROTO_IP, 39, group + lo + lo) # IP_ADD_SOURCE_MEMBERSHIP
    except OSError:
        print("skip", flush=True); sys.exit(0)
    def after(): s.setsockopt(socket.IPPROTO_IP, 40, group + lo + lo)
print("ready", s if isinstance(s, int) else s.fileno(), flush=True)
while not os.path.exists(go): time.sleep(0.02)
after()
print("as it was", flush=True)
PY

# refused KIND TEXT: a dump of that is refused for its descriptor, and changes nothing
refused() {
	local kind=$1 text=$2 said=$TMPDIR/$1.out pid fd i
	python3 "$TMPDIR/holder.py" "$kind" "$TMPDIR/$kind.go" >"$said" 2>&1 </dev/null &
	pid=$!
	living "$kind" $pid
	for ((i = 0; i < 200; i++)); do
		grep -qE 'ready|skip|Error' "$said" && break
		sleep 0.05
	done
	grep -q skip "$said" && return
	fd=$(awk '/^ready/ { print $2 }' "$said")
	[ -n "$fd" ] || die "$kind: not ready: $(cat "$said")"
	stasis dump -t $pid -D "$TMPDIR/image-$kind" ${3:+$3}
	[ "$RC" = 16 ] || bad "$kind: dump: exit $RC: $ERR"
	grep -q "pid $pid: fd $fd: .*$text" <<<"$ERR" || bad "$kind: fd $fd is not named: $ERR"
	nothing_left "$TMPDIR/image-$kind" "after a refusal ($kind)"
	nobody_traces $pid "after a refusal ($kind)"
	touch "$TMPDIR/$kind.go"
	wait $pid
	gone "$kind"
	grep -q "as it was" "$said" || bad "$kind: not as it was: $(cat "$said")"
}

refused urgent "urgent data"
refused urgentread "urgent data"
refused urgentinline "urgent data"
refused unixurgent "urgent data"
refused reset "has not seen yet"
refused over "10 bytes of a connection that is over"
refused udperror "has not seen yet"
refused udpcork "UDP_CORK"
refused sources "list of sources"
# The master echoes what was typed, which its reader has not read either.
refused tty "terminal /dev/pts/.* bytes that nobody has read"
finish
