#!/bin/bash
# SPDX-License-Identifier: MIT
# Nothing is left in a target that runs on: after a dump, a refused one, and after SIGKILL at any instant of it.
#
#	precopy_residue.sh [KILLS]	how often the tool is killed, per victim, by all ways together; default 20
# timeout: 300
# alone
. "$(dirname "$0")/../lib/e2e.sh"
need_root
export TMPDIR
with_reaper "$@"
. tests/lib/precopy.sh

kills=${1:-20}
image=$TMPDIR/image
tracer=$(realpath -m "${PLAIN_BUILD:-$BUILD}/tests/lib/tracer")

# Processes of this test that run the tool or a victim: "PID PROGRAM" lines.
ours() {
	local p exe
	for p in /proc/[0-9]*; do
		exe=$(readlink "$p/exe") || continue
		case $exe in "$STASIS" | "$VICTIM") ;; *) continue ;; esac
		grep -qzxF "TMPDIR=$TMPDIR" "$p/environ" 2>/dev/null || continue
		echo "${p#/proc/} ${exe##*/}"
	done
}

# The guardian of a tool that was killed has a moment to tidy up.
settled() {
	local i
	for ((i = 0; i < 100; i++)); do
		[ "$(ours)" != "$VPID victim" ] || return 0
		sleep 0.02
	done
	bad "$1: others than the victim are left: $(ours)"
	return 1
}

leftover=0
# same WHAT [GUARDIAN]: the victim is as before, and right. Nobody tidies up for a guardian that was killed:
# of what a batch had mapped a few pages may stay, and nothing else.
same() {
	local what=$1 guardian=${2:-} now added
	settled "$what" || return
	tests/lib/residue.py "$VPID" >"$TMPDIR/after" || {
		bad "$what: cannot look at the victim"
		return
	}
	now=$(diff "$TMPDIR/before" "$TMPDIR/after" | grep '^[<>]')
	if [ -n "$now" ] && [ -n "$guardian" ] && ! grep -qvE '^> map ' <<<"$now" && [ "$(wc -l <<<"$now")" -le 3 ]; then
		added=$(wc -l <<<"$now")
		leftover=$((leftover + added))
		cp "$TMPDIR/after" "$TMPDIR/before"
		now=
	fi
	[ -z "$now" ] || bad "$what: left in the victim: $now"
	victim_ok "$TMPDIR/v" "$what"
}

dumped() { # WAY OPTIONS...
	local way=$1
	shift
	rm -rf "$image"
	# shellcheck disable=SC2086 # options are words
	stasis dump -t "$VPID" -D "$image" -R --json --quiet $way "$@" || {
		bad "dump, ${way:-default}: exit code $RC: $ERR"
		return 1
	}
	count_way
}

# A dump that ends with an error in the middle of its work, or before.
refused() { # WAY
	local way=$1 full=$TMPDIR/full
	mkdir -p "$TMPDIR/taken/x"
	# shellcheck disable=SC2086 # options are words
	expect_refusal 10 "a directory that is not empty" dump -t "$VPID" -D "$TMPDIR/taken" -R --quiet $way
	same "after a dump to a directory that is not empty, ${way:-default}"

	mount_tmpfs "$full" 3m
	# shellcheck disable=SC2086 # options are words
	stasis dump -t "$VPID" -D "$full/image" -R --no-log --quiet $way && bad "16 MiB of hashes on a disk of 3 MiB"
	message_ok "disk full, ${way:-default}"
	nothing_left "$full/image" "disk full, ${way:-default}"
	unmount "$full"
	same "after a dump to a full disk, ${way:-default}: $ERR"

	"$tracer" "$VPID" >"$TMPDIR/tracer" 2>&1 &
	local t=$!
	until grep -qs . "$TMPDIR/tracer"; do sleep 0.02; done
	# shellcheck disable=SC2086 # options are words
	stasis dump -t "$VPID" -D "$image" -R --quiet $way && bad "dumped although it is traced"
	message_ok "traced, ${way:-default}"
	nothing_left "$image" "traced, ${way:-default}"
	kill $t
	wait $t 2>/dev/null
	same "after a dump of a traced process, ${way:-default}: $ERR"
}

frozen_ms() {
	echo $(($(sed -n 's/.*"frozen_ns": *\([0-9]*\).*/\1/p' <<<"$OUT") / 1000000))
}

# No freeze is as short as that; it is the budget that refuses, and not a failure.
strict() { # WAY
	"$STASIS" dump --help | grep -q -- --strict-freeze || return 0
	# shellcheck disable=SC2086 # options are words
	if stasis dump -t "$VPID" -D "$image" -R --json --quiet --strict-freeze --max-freeze 1 $1; then
		echo "${1:-default}: a budget of 1 ms was kept: frozen for $(frozen_ms) ms"
		# What is not tracked is copied in the freeze, tens of MiB of it.
		[ "$(tracking)" != none ] || [ "$(frozen_ms)" -le 5 ] || bad "${1:-default}: that is not 1 ms"
	else
		message_ok "--strict-freeze, ${1:-default}"
		nothing_left "$image" "--strict-freeze, ${1:-default}"
		echo "${1:-default}: --strict-freeze: exit code $RC: $(head -n 1 <<<"$ERR")"
	fi
	same "after --strict-freeze, ${1:-default}"
	rm -rf "$image"
}

killed=0 guardians=0 total=0
kill_at_random() { # WAY MICROSECONDS
	local way=$1 took=$2 i us tool guardian what
	for ((i = 0; i < (kills + ${#WAYS[@]} - 1) / ${#WAYS[@]}; i++)); do
		total=$((total + 1))
		# shellcheck disable=SC2086 # options are words
		"$STASIS" dump -t "$VPID" -D "$image" -R --quiet $way >/dev/null 2>"$TMPDIR/stderr" &
		tool=$!
		us=$(random_below $((took + took / 10)))
		sleep "$(printf '%d.%06d' $((us / 1000000)) $((us % 1000000)))"
		guardian=
		if ((i % 4 == 3)); then
			what="after SIGKILL to the guardian after $us us, ${way:-default}"
			guardian=$(cat "/proc/$tool/task/$tool/children" 2>/dev/null)
			# shellcheck disable=SC2086 # there may be none
			[ -z "$guardian" ] || kill -KILL ${guardian%% *} 2>/dev/null
			wait $tool
			RC=$?
			case $RC in
			0 | 18) [ -z "$guardian" ] || guardians=$((guardians + 1)) ;;
			*) bad "$what: exit code $RC: $(<"$TMPDIR/stderr")" ;;
			esac
		else
			what="after SIGKILL after $us us, ${way:-default}"
			kill -KILL $tool 2>/dev/null
			wait $tool 2>/dev/null
			[ $? != 137 ] || killed=$((killed + 1))
		fi
		same "$what" "$guardian" || return
		[ ! -e "$image" ] || stasis verify "$image" || bad "$what: an image that is not whole: $ERR"
		rm -rf "$image"
		[ "$PROBLEMS" -lt 5 ] || return
	done
}

one_victim() { # OPTIONS...
	local way began took i
	victim_start "$TMPDIR/v" "$@" || die "$WHY"
	[ ${#WAYS[@]} -gt 0 ] || ways "$VPID"
	sleep 0.2
	# A first dump: the stack of a thread that was stopped may have grown by it.
	dumped ""
	tests/lib/residue.py "$VPID" >"$TMPDIR/before"
	grep -qE '^(protected|userfaultfd|child) |TracerPid: [1-9]' "$TMPDIR/before" &&
		bad "$1, after the first dump: $(grep -E '^(protected|userfaultfd|child) |TracerPid: [1-9]' "$TMPDIR/before")"
	for way in "${WAYS[@]}"; do
		took=
		for ((i = 0; i < 3; i++)); do
			began=$EPOCHREALTIME
			dumped "$way" || break
			[ -n "$took" ] && [ $((${EPOCHREALTIME/./} - ${began/./})) -gt "$took" ] ||
				took=$((${EPOCHREALTIME/./} - ${began/./}))
			same "after a dump, ${way:-default}"
		done
		rm -rf "$image"
		[ "$2" = --rate ] || refused "$way"
		strict "$way"
		[ -z "$took" ] || kill_at_random "$way" "$took"
		[ "$PROBLEMS" -lt 5 ] || break
	done
	victim_end "$TMPDIR/v" "at the end"
	rm -rf "${TMPDIR:?}/v"
}

one_victim chain --mib 16
one_victim chain --rate 20000 --mib 48 --threads 3
[ $((killed + guardians)) -gt $((total / 3)) ] || bad "only $killed and $guardians of $total were killed"
echo "dumps by: $(ways_used)$killed tools and $guardians guardians killed of $total;" \
	"$leftover mappings were left by killed guardians"
finish
