#!/bin/bash
# SPDX-License-Identifier: MIT
# Restores that cannot go well, or only just: no rights, no memory, taken pids, signals, two at once.
# timeout: 300
. "$(dirname "$0")/../lib/e2e.sh"
need_root
need_program python3 setpriv unshare
with_reaper "$@"

image=$TMPDIR/image
victim_start "$TMPDIR/v" threads --n 5 || die "$WHY"
root=$VPID
stasis dump -t "$root" -D "$image" -j --quiet --no-log || die "dump: $ERR"
wait "$root" 2>/dev/null
gone "$TMPDIR/v"

nobody_left() { # WHAT
	local i
	for ((i = 0; i < 200; i++)); do
		[ -d "/proc/$root" ] || return
		sleep 0.02
	done
	bad "$1: process $root is left"
	end_it
}
end_it() {
	kill -KILL "$root" 2>/dev/null
	local i
	for ((i = 0; i < 400; i++)); do
		[ -d "/proc/$root" ] || return
		sleep 0.02
	done
	die "process $root does not go"
}
# fails WHAT PATTERN: RC and ERR are an orderly failure that says PATTERN, and nothing is left.
fails() {
	if [ "$RC" = 0 ]; then
		bad "$1: success"
		end_it
		return
	fi
	[ "$RC" -lt 126 ] || bad "$1: exit code $RC"
	message_ok "$1"
	grep -qE "$2" <<<"$ERR" || bad "$1: does not say $2: $ERR"
	nobody_left "$1"
}
# run COMMAND...: as stasis does, with something before it.
run() {
	"$@" >"$TMPDIR/stdout" 2>"$TMPDIR/stderr" </dev/null
	RC=$?
	ERR=$(<"$TMPDIR/stderr")
}
restore=("$STASIS" restore -D "$image" -j -d --quiet --no-log)

# --- a pid that is taken, by another restore too
stasis restore -D "$image" -j -d --quiet --no-log || die "restore: $ERR"
victim_ok "$TMPDIR/v" "restored"
run "${restore[@]}"
[ "$RC" = 7 ] || [ "$RC" != 0 ] || bad "a second restore: success"
grep -q 'is taken' <<<"$ERR" || bad "a second restore: $ERR"
victim_ok "$TMPDIR/v" "after a second restore"
end_it

"${restore[@]}" >"$TMPDIR/one" 2>&1 &
one=$!
"${restore[@]}" >"$TMPDIR/two" 2>&1
two_rc=$?
wait $one
one_rc=$?
if [ $((one_rc == 0)) = $((two_rc == 0)) ]; then
	bad "two at once: exit codes $one_rc and $two_rc: $(cat "$TMPDIR/one" "$TMPDIR/two")"
fi
victim_ok "$TMPDIR/v" "after two restores at once"
end_it

# --- no rights
# Another user's image directory is not read at all; one that may be read needs the capability.
cp -r "$image" "$TMPDIR/open"
chmod -R a+rX "$TMPDIR/open"
run setpriv --reuid 12345 --regid 12345 --clear-groups "${restore[@]}"
fails "no right to read the image" 'ermission'
run setpriv --reuid 12345 --regid 12345 --clear-groups "$STASIS" restore -D "$TMPDIR/open" -j -d --quiet --no-log
fails "another user" 'ermission|allowed'
run setpriv --bounding-set -checkpoint_restore,-sys_admin --inh-caps -checkpoint_restore,-sys_admin "${restore[@]}"
fails "root without the capabilities" 'ermission|allowed'

# --- a user's own program, with the one capability that choosing pids needs
as_user=(setpriv --reuid 12345 --regid 12345 --clear-groups)
mkdir "$TMPDIR/user" "$TMPDIR/user/v"
chown -R 12345:12345 "$TMPDIR/user"
"${as_user[@]}" setsid "$VICTIM" threads --n 3 --dir "$TMPDIR/user/v" </dev/null >/dev/null 2>&1 &
pid=$("${as_user[@]}" "$VICTIM" --wait "$TMPDIR/user/v" 60) || die "user's victim: $pid"
living "$TMPDIR/user/v" "$pid"
run "${as_user[@]}" "$STASIS" dump -t "$pid" -D "$TMPDIR/user/image" --quiet --no-log
[ "$RC" = 0 ] || die "dump by its user: $ERR"
wait 2>/dev/null
run "${as_user[@]}" --inh-caps +checkpoint_restore --ambient-caps +checkpoint_restore \
	"$STASIS" restore -D "$TMPDIR/user/image" -d --quiet --no-log
[ "$RC" = 0 ] || bad "a user with CAP_CHECKPOINT_RESTORE: $ERR"
victim_ok "$TMPDIR/user/v" "restored by its user"
kill -KILL "$pid" 2>/dev/null
gone "$TMPDIR/user/v"

# --- no memory
for kib in 60000 120000 200000; do
	run bash -c "ulimit -v $kib; exec \"\$@\"" - "${restore[@]}"
	if [ "$RC" = 0 ]; then
		victim_ok "$TMPDIR/v" "restored with ulimit -v $kib"
		end_it
	else
		fails "ulimit -v $kib" '.'
	fi
done
for n in 8 20 40; do
	run bash -c "ulimit -n $n; exec \"\$@\"" - setpriv --bounding-set -sys_resource --inh-caps -sys_resource "${restore[@]}"
	if [ "$RC" = 0 ]; then
		victim_ok "$TMPDIR/v" "restored with ulimit -n $n"
		end_it
	else
		fails "ulimit -n $n" '.'
	fi
done

# --- signals to the command, at any instant
interrupted=0
for ((i = 0; i < 40; i++)); do
	sig=$([ $((i % 2)) = 0 ] && echo INT || echo TERM)
	"$STASIS" restore -D "$image" -j --quiet --no-log >"$TMPDIR/out" 2>"$TMPDIR/stderr" </dev/null &
	tool=$!
	sleep "0.$(printf %03d "$i")"
	# A shell's background child ignores SIGINT: the command itself sets what it catches.
	kill -"$sig" $tool 2>/dev/null
	for ((j = 0; j < 500; j++)); do
		kill -0 $tool 2>/dev/null || break
		sleep 0.02
		# Handed on: whether the victim ends by it is the victim's matter.
		[ $j != 50 ] || kill -KILL "$root" 2>/dev/null
	done
	[ $j -lt 500 ] || {
		bad "SIG$sig after $i ms: the command does not end"
		kill -KILL $tool
	}
	wait $tool 2>/dev/null
	RC=$?
	! grep -q interrupted "$TMPDIR/stderr" || interrupted=$((interrupted + 1))
	[ $RC != 0 ] || bad "SIG$sig after $i ms: success"
	nobody_left "SIG$sig after $i ms"
done
[ $interrupted -gt 0 ] || echo "no restore was given up in the middle"

# --- where the log cannot be written, from an image that cannot be
mount_tmpfs "$TMPDIR/ro" 100m
cp -r "$image" "$TMPDIR/ro/image"
mount -o remount,ro "$TMPDIR/ro"
run "$STASIS" restore -D "$TMPDIR/ro/image" -j -d --quiet
[ "$RC" = 0 ] || bad "from a read-only filesystem: $ERR"
victim_ok "$TMPDIR/v" "from a read-only filesystem"
end_it
mount_tmpfs "$TMPDIR/full" 200k
head -c 300k /dev/zero >"$TMPDIR/full/fill" 2>/dev/null
run "$STASIS" restore -D "$image" -j -d --quiet --log-file "$TMPDIR/full/log"
[ "$RC" = 0 ] || bad "with a log on a full disk: $ERR"
victim_ok "$TMPDIR/v" "with a log on a full disk"
end_it

# --- a pid namespace of its own
run unshare -p -f --mount-proc --kill-child "$STASIS" restore -D "$image" -j -d --quiet --no-log
if [ "$RC" != 0 ]; then
	echo "in a pid namespace: $ERR"
	message_ok "in a pid namespace"
fi
nobody_left "in a pid namespace"
finish
