#!/bin/bash
# SPDX-License-Identifier: MIT
# SIGKILL to the restoring command at random instants: nothing of the tree is left, or all of it runs.
# timeout: 300
# alone
. "$(dirname "$0")/../lib/e2e.sh"
need_root
with_reaper "$@"

rounds=${1:-120}
image=$TMPDIR/image
victim_start "$TMPDIR/v" wide --n 12 || die "$WHY"
root=$VPID
stasis dump -t "$root" -D "$image" -j || die "dump: $ERR"
wait "$root" 2>/dev/null
gone "$TMPDIR/v"
mapfile -t pids < <(image_pids "$image")
[ ${#pids[@]} -gt 10 ] || die "only ${#pids[@]} processes"

alive() {
	local p
	for p in "${pids[@]}"; do
		[ ! -d "/proc/$p" ] || grep -q '^State:.Z' "/proc/$p/status" 2>/dev/null || echo "$p"
	done
}
# settle N...: until one of these numbers of processes is there; sets left.
settle() {
	local j n
	for ((j = 0; j < 100; j++)); do
		left=$(alive | wc -l)
		for n in "$@"; do
			[ "$left" != "$n" ] || return
		done
		sleep 0.02
	done
}
kill_all() {
	local p i
	for p in "${pids[@]}"; do kill -KILL "$p" 2>/dev/null; done
	for ((i = 0; i < 400; i++)); do
		[ -n "$(for p in "${pids[@]}"; do [ ! -d "/proc/$p" ] || echo "$p"; done)" ] || return
		sleep 0.02
	done
	bad "processes do not go: ${pids[*]}"
}

# The page by which the victim is asked is a shared file. Killed one after the other its processes write
# there that their parents are gone: every restore begins with the page as it was.
cp "$TMPDIR/v/ctl" "$TMPDIR/ctl"
clean() {
	cat "$TMPDIR/ctl" >"$TMPDIR/v/ctl"
}

# How long a restore takes here: the shortest of three.
took=
for _ in 1 2 3; do
	clean
	began=$EPOCHREALTIME
	stasis restore -D "$image" -j -d --quiet --no-log || die "restore: $ERR"
	us=$((${EPOCHREALTIME/./} - ${began/./}))
	if [ -z "$took" ] || [ $us -lt "$took" ]; then took=$us; fi
	"$VICTIM" --check "$TMPDIR/v" 60 >/dev/null || die "the restored victim is not right"
	kill_all
done

# The instants are drawn from the time a restore takes. On a machine that is now slower than it was above
# too few get through: after the rounds the time is doubled until there are enough of them.
killed=0 whole=0 nothing=0
for ((i = 0; i < rounds || (whole < 4 && i < 2 * rounds); i++)); do
	((i < rounds || i % 10 != 0)) || took=$((took * 2))
	clean
	"$STASIS" restore -D "$image" -j -d --quiet --no-log >"$TMPDIR/out" 2>&1 </dev/null &
	tool=$!
	us=$(random_below $took)
	sleep "$(printf '%d.%06d' $((us / 1000000)) $((us % 1000000)))"
	what="SIGKILL after $us us"
	prey=$tool
	if ((i % 3 == 2)); then
		# The worker alone; the command tells.
		prey=$(cat "/proc/$tool/task/$tool/children" 2>/dev/null)
		prey=${prey%% *}
		# It may be the root that has just come to life.
		[ "$prey" != "$root" ] || prey=
		what="SIGKILL to the worker after $us us"
	fi
	[ -z "$prey" ] || kill -KILL "$prey" 2>/dev/null
	wait "$tool" 2>/dev/null
	RC=$?
	[ $RC = 137 ] && killed=$((killed + 1))
	# Dying takes a moment, and so does the worker's last step: all may be there and none of them stay.
	answer=
	settle 0 "${#pids[@]}"
	if [ "$left" != 0 ] && answer=$("$VICTIM" --check "$TMPDIR/v" 20); then
		whole=$((whole + 1))
		kill_all
		continue
	fi
	settle 0
	if [ "$left" = 0 ]; then
		nothing=$((nothing + 1))
		[ $RC != 0 ] || bad "$what: success, and no process: $answer"
	else
		bad "$what: exit $RC: $left of ${#pids[@]} processes are left, $answer"
	fi
	kill_all
	[ "$PROBLEMS" -lt 5 ] || break
done
echo "$killed of $i commands killed; $nothing times nothing was left, $whole times all of the tree"
[ $nothing -gt $((rounds / 5)) ] || bad "only $nothing restores were ended"
[ $whole -gt 3 ] || bad "only $whole restores went through"
finish
