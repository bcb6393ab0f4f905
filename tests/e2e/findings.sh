#!/bin/bash
# SPDX-License-Identifier: MIT
# What cannot be restored is refused before anything stops, all of it is listed, and an option goes on.
# timeout: 120
# builds: plain asan
. "$(dirname "$0")/../lib/e2e.sh"

need_program python3
image=$TMPDIR/image

# An io_uring instance, a userfaultfd and a large deleted file; what the kernel does not allow is left out.
cat >"$TMPDIR/holder.py" <<'PY'
import ctypes, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)
name = sys.argv[1] + "/big"
fd = os.open(name, os.O_RDWR | os.O_CREAT)
os.write(fd, b"x" * (3 << 20))
os.unlink(name)
print("big", fd)
params = ctypes.create_string_buffer(256)
uring = libc.syscall(425, 4, params)
if uring >= 0: print("io_uring instance", uring)
uffd = libc.syscall(323, 0) if os.uname().machine == "x86_64" else -1
if uffd >= 0: print("userfaultfd", uffd)
print("ready", flush=True)
time.sleep(600)
PY
python3 "$TMPDIR/holder.py" "$TMPDIR" >"$TMPDIR/held" 2>&1 </dev/null &
pid=$!
living holder $pid
for ((i = 0; i < 200; i++)); do
	grep -q ready "$TMPDIR/held" && break
	sleep 0.05
done
grep -q ready "$TMPDIR/held" || die "the process is not ready: $(cat "$TMPDIR/held")"

# listed TEXT WHERE: a line for each thing, not only the first
listed() {
	local what fd
	while read -r what fd; do
		case $what in
		big) grep -q "pid $pid: fd $fd: .*/big: deleted file with 30.. KiB" <<<"$1" ||
			bad "$2: the deleted file is not listed: $1" ;;
		io_uring) grep -q "pid $pid: fd ${fd#instance }: io_uring instance: not supported" <<<"$1" ||
			bad "$2: io_uring is not listed: $1" ;;
		userfaultfd) grep -q "pid $pid: fd $fd: userfaultfd: not supported" <<<"$1" ||
			bad "$2: userfaultfd is not listed: $1" ;;
		esac
	done <"$TMPDIR/held"
}

stasis check --pid "$pid"
[ "$RC" = 16 ] || bad "check: exit $RC: $OUT $ERR"
listed "$OUT" check
stasis check --pid "$pid" --json
python3 -c 'import json, sys; l = json.load(sys.stdin); assert l[0]["fatal"] and l[0]["pid"] and l[0]["text"]' \
	<<<"$OUT" || bad "check --json: $OUT"
nobody_traces "$pid" "after a check"

stasis dump -t "$pid" -D "$image"
[ "$RC" = 16 ] || bad "dump: exit $RC: $ERR"
listed "$ERR" dump
grep -q -- "--allow-findings" <<<"$ERR" || bad "dump: no word of what to do: $ERR"
nothing_left "$image" "after a refusal"
nobody_traces "$pid" "after a refusal"
kill -0 "$pid" || die "the refused process has gone"

stasis dump -t "$pid" -D "$image" -R --allow-findings
[ "$RC" = 0 ] || bad "--allow-findings: exit $RC: $ERR"
listed "$ERR" "--allow-findings"
stasis verify "$image" || bad "verify: $ERR"
expect_refusal 16 "restore of an image to look at" restore -D "$image" --no-log
[[ $ERR == *"looking at only"*"dumped without --allow-findings"* ]] || bad "restore of an image to look at: $ERR"
rm -rf "$image"

stasis dump -t "$pid" -D "$image" -R --allow-findings --ghost-limit 4M
[ "$RC" = 0 ] || bad "--ghost-limit: exit $RC: $ERR"
grep -q "deleted file" <<<"$ERR" && bad "--ghost-limit 4M is not enough for 3M: $ERR"
[ "$(stat -c %s "$image/ghost-file-1.img")" -gt $((3 << 20)) ] || bad "the deleted file is not in the image"
stasis verify "$image" || bad "verify: $ERR"

# Nothing in the way of this one.
victim_start "$TMPDIR/v" pipes || die "$WHY"
stasis check --pid "$VPID"
[ "$RC" = 0 ] || bad "check of a plain victim: exit $RC: $OUT $ERR"
stasis dump -t "$VPID" -D "$TMPDIR/image2" -R --file-validation checksum-full || bad "checksums: $RC $ERR"
victim_end "$TMPDIR/v" "at the end"
kill -KILL $pid
finish
