#!/bin/bash
# SPDX-License-Identifier: MIT
# Targets that cannot be dumped: each is refused with a message and an exit code of its own, untouched.
# builds: plain asan
. "$(dirname "$0")/../lib/e2e.sh"

image=$TMPDIR/image
refused() { # CODE WHAT PID
	expect_refusal "$1" "$2" dump -t "$3" -D "$image" -R
	nothing_left "$image" "$2"
}

# A pid that was in use a moment ago and is free now.
sleep 0 &
free=$!
wait $free
refused 3 "no such process" $free
for text in 0 -1 abc '' 99999999999; do
	expect_refusal 2 "pid '$text'" dump -t "$text" -D "$image" -R
done
expect_refusal 16 "--tracking fork" dump -t $$ -D "$image" -R --tracking fork
[[ $ERR = *"by a fork"*"--tracking uffd"* ]] || bad "--tracking fork: no reason, or no other way: $ERR"
nothing_left "$image" "--tracking fork"
expect_refusal 2 "--tracking what" dump -t $$ -D "$image" -R --tracking what
expect_refusal 2 "no pid" dump -D "$image"
expect_refusal 2 "no directory" dump -t $$
expect_refusal 2 "unknown option" dump -t $$ -D "$image" --frobnicate
expect_refusal 2 "unknown command" frobnicate
expect_refusal 2 "unknown codec" dump -t $$ -D "$image" --compress gzip
expect_refusal 2 "level out of range" dump -t $$ -D "$image" --compress zstd:99
nothing_left "$image" "wrong command lines"

# The program that started the tool cannot be stopped by it without stopping itself.
stasis dump -t $$ -D "$image" -R && bad "an ancestor was dumped"
message_ok "an ancestor"
nothing_left "$image" "an ancestor"

kthread=$(awk '$2 == "(kthreadd)" { print $1; exit }' /proc/2/stat 2>/dev/null)
[ -z "$kthread" ] || refused 4 "a kernel thread" "$kthread"

# A child that its parent, replaced by another program, never waits for.
bash -c 'sleep 0.05 & echo $!; exec sleep 100' >"$TMPDIR/zombie" &
parent=$!
for _ in $(seq 100); do
	zombie=$(cat "$TMPDIR/zombie" 2>/dev/null)
	[ -n "$zombie" ] && grep -qs '^State:.Z' "/proc/$zombie/status" && break
	sleep 0.05
done
refused 5 "a zombie" "$zombie"
kill -KILL $parent

v32=$BUILD/tests/victim32
if [ -x "$v32" ] && { "$v32" & } 2>/dev/null && kill -0 $!; then
	p32=$!
	refused 6 "a 32-bit process" $p32
	grep -q '^State:.S' /proc/$p32/status || bad "the 32-bit process does not run on"
	kill -KILL $p32
else
	echo "no 32-bit processes here"
fi

# A thread that is not the first of its process.
victim_start "$TMPDIR/threads" threads --n 3 || die "$WHY"
for t in /proc/"$VPID"/task/*; do
	[ "${t##*/}" = "$VPID" ] || tid=${t##*/}
done
stasis dump -t "$tid" -D "$image" -R && bad "a thread was taken for a process"
message_ok "a thread's id"
nothing_left "$image" "a thread's id"
victim_ok "$TMPDIR/threads" "after its thread was refused"

# Somebody else traces one thread of it.
"$BUILD/tests/lib/tracer" "$tid" >"$TMPDIR/tracer" &
tracer=$!
for _ in $(seq 100); do
	grep -q tracing "$TMPDIR/tracer" && break
	sleep 0.05
done
refused 8 "a traced thread" "$VPID"
case $ERR in *"$tracer"*) ;; *) bad "the message does not name the tracer $tracer: $ERR" ;; esac
kill -KILL $tracer
wait $tracer 2>/dev/null
victim_ok "$TMPDIR/threads" "after its tracer went"
stasis dump -t "$VPID" -D "$image" -R || bad "a dump after the tracer went: $RC $ERR"
rm -rf "$image"

# Another user's process. The program must be reachable for that user.
if [ "$(id -u)" = 0 ]; then
	cp "$STASIS" "$TMPDIR/stasis-copy"
	chmod 755 "$TMPDIR/stasis-copy"
	mkdir -m 777 "$TMPDIR/open"
	real=$STASIS
	cat >"$TMPDIR/as-nobody" <<-X
		#!/bin/sh
		exec setpriv --reuid 65534 --regid 1000 --clear-groups --no-new-privs \
			"$TMPDIR/stasis-copy" "\$@"
	X
	chmod 755 "$TMPDIR/as-nobody"
	STASIS=$TMPDIR/as-nobody
	image=$TMPDIR/open/image
	refused 7 "another user's process" "$VPID"
	victim_ok "$TMPDIR/threads" "after another user tried"

	# One's own process without any privilege: dumped, or refused in plain words.
	victim_start "$TMPDIR/creds" creds || die "$WHY"
	if stasis dump -t "$VPID" -D "$image" -R; then
		STASIS=$real
		stasis verify "$image" || bad "dumped without privileges: verify: $ERR"
	else
		message_ok "one's own process without privileges"
		nothing_left "$image" "one's own process without privileges"
		echo "without privileges: $ERR"
	fi
	STASIS=$real
	victim_end "$TMPDIR/creds" "after a dump without privileges"
fi
victim_end "$TMPDIR/threads" "at the end"
finish
