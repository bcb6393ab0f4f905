#!/bin/bash
# SPDX-License-Identifier: MIT
# Names of files around a restore: a link in the place of a user's file leads nobody to what is not his;
# a restore that fails late takes no name away that the next one needs.
# builds: faults
# timeout: 90
. "$(dirname "$0")/../lib/e2e.sh"
need_root
need_program python3
with_reaper "$@"
. tests/lib/real.sh

dir=$TMPDIR/files image=$TMPDIR/image
mkdir -p "$dir/other"
chmod 777 "$dir"
printf 'his own' >"$dir/his"
printf 'secret!' >"$dir/secret"
chown 4001 "$dir/his"
chmod 600 "$dir/secret"
cat >"$TMPDIR/program.py" <<'PY'
import os, signal, socket, sys
d = sys.argv[1]
f = None
if sys.argv[2] == "user":
    os.setgroups([])
    os.setresgid(4001, 4001, 4001)
    os.setresuid(4001, 4001, 4001)
    f = os.open(d + "/his", os.O_RDONLY)
else:
    f = os.open(d + "/name", os.O_RDWR | os.O_CREAT)
    os.write(f, b"his own")
    os.link(d + "/name", d + "/other/name")
    os.unlink(d + "/name")
    s = socket.socket(socket.AF_UNIX)
    s.bind(d + "/socket")
    s.listen()
def tell(*_):
    print("read", os.pread(f, 7, 0).decode(), os.fstat(f).st_nlink, flush=True)
signal.signal(signal.SIGUSR1, tell)
tell()
while True:
    signal.pause()
PY

start python3 "$TMPDIR/program.py" "$dir" user
told 50 "^read his own"
stasis dump -t "$PID" -D "$image" || die "dump: $ERR"
wait "$PID" 2>/dev/null
mv "$dir/his" "$dir/moved"
ln -s secret "$dir/his"
stasis restore -D "$image" -d --no-log
[ "$RC" = 0 ] && bad "a link to another file was followed"
message_ok "a link"
grep -q "symbolic link is on the way" <<<"$ERR" || bad "a link: $ERR"
rm "$dir/his"
mv "$dir/moved" "$dir/his"
stasis restore -D "$image" -d --no-log || bad "after it was put back: $ERR"
kill -KILL "$PID"
rm -rf "$image"

start python3 "$TMPDIR/program.py" "$dir" names
told 50 "^read his own 1"
pid=$PID
stasis dump -t "$pid" -D "$image" --link-remap || die "dump: $ERR"
wait "$pid" 2>/dev/null
rm -f "$dir/socket"
for point in restore.registers:error restore.point_of_no_return:error restore.registers:kill; do
	compgen -G "$dir/link_remap.*" >/dev/null || bad "before $point: no other name"
	STASIS_FAULT=$point stasis restore -D "$image" -d --no-log
	[ "$RC" != 0 ] || bad "$point: success"
	[ ! -e "$dir/socket" ] || {
		[ "${point##*:}" = kill ] || bad "$point: the socket is left"
		rm -f "$dir/socket"
	}
done
stasis restore -D "$image" -d --no-log || bad "after failures: $ERR"
compgen -G "$dir/link_remap.*" >/dev/null && bad "the other name is left after a restore"
n=$(wc -l <"$OUTPUT")
kill -USR1 "$pid"
for _ in $(seq 100); do
	[ "$(wc -l <"$OUTPUT")" -le "$n" ] || break
	sleep 0.02
done
[ "$(tail -n 1 "$OUTPUT")" = "read his own 1" ] || bad "it reads: $(tail -n 1 "$OUTPUT")"
kill -KILL "$pid"
finish
