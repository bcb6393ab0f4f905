#!/bin/bash
# SPDX-License-Identifier: MIT
# nginx with two workers and clients in the middle of downloads: dumped, killed, restored; every byte arrives.
# timeout: 120
. "$(dirname "$0")/../lib/e2e.sh"
need_root
need_program nginx python3
with_reaper "$@"
. tests/lib/real.sh

mkdir "$TMPDIR/www" "$TMPDIR/tmp"
head -c 20000000 /dev/urandom >"$TMPDIR/www/big"
echo "small" >"$TMPDIR/www/small"
chmod -R a+rX "$TMPDIR/www"
port=$((20000 + $$ % 10000))
cat >"$TMPDIR/nginx.conf" <<X
worker_processes 2;
daemon off;
pid $TMPDIR/nginx.pid;
error_log $TMPDIR/error.log;
events { worker_connections 64; }
http {
	access_log $TMPDIR/access.log;
	keepalive_requests 100000;
	client_body_temp_path $TMPDIR/tmp/a;
	proxy_temp_path $TMPDIR/tmp/b;
	fastcgi_temp_path $TMPDIR/tmp/c;
	uwsgi_temp_path $TMPDIR/tmp/d;
	scgi_temp_path $TMPDIR/tmp/e;
	sendfile on;
	server {
		listen unix:$TMPDIR/nginx.sock;
		listen 127.0.0.1:$port;
		root $TMPDIR/www;
	}
}
X
# One connection for ever, read slowly enough to be always in the middle of something.
cat >"$TMPDIR/client.py" <<'PY'
import hashlib, http.client, socket, sys, time
where, name, want = sys.argv[1:]
class Local(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(where)
c = Local("localhost") if where.startswith("/") else http.client.HTTPConnection("127.0.0.1", int(where))
c.connect()
first = c.sock
n = 0
while True:
    c.request("GET", "/big")
    r = c.getresponse()
    h = hashlib.sha256()
    while piece := r.read(200000):
        h.update(piece)
        time.sleep(0.005)
    if r.status != 200 or h.hexdigest() != want:
        sys.exit("%s: answer %d differs" % (name, n))
    if c.sock is not first:
        sys.exit("%s: lost its connection" % name)
    n += 1
    print(name, n, flush=True)
PY
want=$(sha256sum <"$TMPDIR/www/big")
cat >"$TMPDIR/tree" <<X
nginx -p "$TMPDIR" -c "$TMPDIR/nginx.conf" &
until [ -S "$TMPDIR/nginx.sock" ]; do sleep 0.1; done
for n in 1 2; do
	python3 "$TMPDIR/client.py" "$TMPDIR/nginx.sock" unix\$n ${want%% *} &
	python3 "$TMPDIR/client.py" $port tcp\$n ${want%% *} &
done
wait -n
echo "ended: \$?"
X
start bash "$TMPDIR/tree"
all_go_on() { # LABEL
	local n have
	for n in unix1 unix2 tcp1 tcp2; do
		have=$(grep -c "^$n " "$OUTPUT")
		until_true 100 sh -c "[ \$(grep -c '^$n ' '$OUTPUT') -gt $have ]" ||
			bad "$1: $n does not go on: $(tail -n 5 "$OUTPUT")"
	done
	grep -E 'ended|differs|lost|Error' "$OUTPUT" && bad "$1: a client complains"
	answers "$1"
}
# To somebody new, by both ways in.
answers() { # LABEL
	python3 - "$TMPDIR/nginx.sock" "$port" <<-'PY' || bad "$1: nginx does not answer a new client"
		import socket, sys
		for s in (socket.socket(socket.AF_UNIX), socket.socket()):
		    s.settimeout(10)
		    s.connect(sys.argv[1] if s.family == socket.AF_UNIX else ("127.0.0.1", int(sys.argv[2])))
		    s.sendall(b"GET /small HTTP/1.0\r\n\r\n")
		    answer = b""
		    while piece := s.recv(4096):
		        answer += piece
		    assert answer.endswith(b"\r\n\r\nsmall\n"), answer
	PY
}
all_go_on "before"
again "once"
all_go_on "once"
again "twice" --compress zstd:1
all_go_on "twice"

# The master still knows its workers: new ones for a new configuration.
workers() {
	pgrep -P "$(<"$TMPDIR/nginx.pid")" | sort | tr '\n' ' '
}
old=$(workers)
nginx -p "$TMPDIR" -c "$TMPDIR/nginx.conf" -s reload 2>/dev/null
two_others() {
	local now w
	now=$(workers)
	for w in $now; do
		[[ " $old " == *" $w "* ]] || return 0
	done
	return 1
}
until_true 50 two_others || bad "no new workers after a reload: $old, $(workers)"
answers "after a reload"
grep -E 'alert|emerg|crit' "$TMPDIR/error.log" && bad "nginx complains"
stopped "at the end" kill_tree
finish
