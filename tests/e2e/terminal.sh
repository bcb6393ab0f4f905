#!/bin/bash
# SPDX-License-Identifier: MIT
# On a terminal a dump shows where it is, in one row; on a pipe nothing but its result.
. "$(dirname "$0")/../lib/e2e.sh"

victim_start "$TMPDIR/v" heap --size 200 --pattern random --facts 0 || die "$WHY"
for width in 40 80 200; do
	python3 - "$width" "$STASIS" dump -t "$VPID" -D "$TMPDIR/image" -R -j --no-log >"$TMPDIR/seen" <<-'X' ||
		import fcntl, os, pty, struct, sys, termios
		master, slave = pty.openpty()
		fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, int(sys.argv[1]), 0, 0))
		pid = os.fork()
		if pid == 0:
		    os.dup2(slave, 2)
		    os.execv(sys.argv[2], ["stasis"] + sys.argv[3:])
		os.close(slave)
		seen = b""
		while True:
		    try:
		        part = os.read(master, 65536)
		    except OSError:
		        break
		    if not part:
		        break
		    seen += part
		sys.stdout.buffer.write(seen)
		sys.exit(os.waitpid(pid, 0)[1] != 0)
	X
		bad "$width columns: the dump failed: $(<"$TMPDIR/seen")"
	python3 - "$width" "$TMPDIR/seen" <<-'X' || bad "$width columns"
		import re, sys
		width = int(sys.argv[1])
		rows = open(sys.argv[2], newline="").read().replace("\033[K", "").split("\r")
		wrong = [r for r in rows[:-2] if len(r) >= width and "frozen" not in r]
		bars = [r for r in rows if re.match(r"(memory|pre-copy) +\[[#-]+", r)]
		if width > 100:
		    bars = [r for r in bars if re.search(r"% .* of .*GB/s +ratio .*ETA", r)]
		if wrong or not bars or "frozen" not in rows[-2]:
		    print("rows:", rows)
		    sys.exit(1)
	X
	rm -rf "$TMPDIR/image"
done
stasis dump -t "$VPID" -D "$TMPDIR/image" -R -j --no-log || bad "on a pipe: exit $RC: $ERR"
[ "$(grep -vc '^pre-copy: [0-9]* rounds* of ' <<<"$ERR")" = 1 ] || bad "on a pipe: $ERR"
case $ERR$OUT in *$'\r'* | *$'\033'*) bad "control characters on a pipe: $ERR" ;; esac
victim_end "$TMPDIR/v" "at the end"
finish
