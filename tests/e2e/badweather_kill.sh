#!/bin/bash
# SPDX-License-Identifier: MIT
# SIGKILL to the whole tool at random instants under a workload that checks memory and registers.
# timeout: 300
# alone
. "$(dirname "$0")/../lib/e2e.sh"

rounds=${1:-200}
victim_start "$TMPDIR/regs" regs --n 3 || die "$WHY"
regs=$VPID
victim_start "$TMPDIR/blocked" blocked || die "$WHY"
blocked=$VPID
image=$TMPDIR/image

mappings() {
	wc -l <"/proc/$1/maps"
}
threads_free() { # PID: waits until nobody traces any thread; the guardian may need a moment
	local i
	for ((i = 0; i < 200; i++)); do
		if ! grep -hs '^TracerPid:' /proc/"$1"/task/*/status | grep -qv '[^0-9]0$' &&
			! grep -hs '^State:' /proc/"$1"/task/*/status | grep -q '[tT] ('; then
			return
		fi
		sleep 0.02
	done
	bad "$2: threads of $1 are still held: $(grep -hs '^State:' /proc/"$1"/task/*/status | sort | uniq -c)"
}

declare -A maps_before=([$regs]=$(mappings "$regs") [$blocked]=$(mappings "$blocked"))
# What a batch mapped must be gone when the tool was killed: the guardian tidies up. When the guardian
# itself is killed nobody may touch the target any more, and at most a batch's own pages stay behind.
leftover=0
same_mappings() { # PID WHAT GUARDIAN-KILLED
	local now
	now=$(mappings "$1")
	[ "$now" = "${maps_before[$1]}" ] && return
	if [ -n "$3" ] && [ $((now - maps_before[$1])) -le 3 ]; then
		leftover=$((leftover + now - maps_before[$1]))
	else
		bad "$2: pid $1 had ${maps_before[$1]} mappings, now $now: $(cat "/proc/$1/maps")"
	fi
	maps_before[$1]=$now
}
# How long a dump takes here: the shortest, for the first has programs and pages to load.
took=
for _ in 1 2 3 4 5; do
	began=$EPOCHREALTIME
	stasis dump -t "$regs" -D "$image" -R || die "the first dumps: $RC $ERR"
	us=$((${EPOCHREALTIME/./} - ${began/./}))
	rm -rf "$image"
	if [ -z "$took" ] || [ $us -lt "$took" ]; then took=$us; fi
done

killed=0 guardians=0
for ((i = 0; i < rounds; i++)); do
	pid=$regs dir=$TMPDIR/regs
	((i % 3 == 2)) && pid=$blocked dir=$TMPDIR/blocked
	"$STASIS" dump -t "$pid" -D "$image" -R >/dev/null 2>"$TMPDIR/stderr" &
	tool=$!
	us=$(random_below $((took + took / 10)))
	sleep "$(printf '%d.%06d' $((us / 1000000)) $((us % 1000000)))"
	what="SIGKILL after $us us" guardian=
	if ((i % 4 == 3)); then
		# The guardian alone; the tool must notice and say so.
		what="SIGKILL to the guardian after $us us"
		guardian=$(cat "/proc/$tool/task/$tool/children" 2>/dev/null)
		# shellcheck disable=SC2086 # there may be none
		[ -z "$guardian" ] || kill -KILL ${guardian%% *} 2>/dev/null
		wait $tool
		RC=$?
		case $RC in
		0) [ -z "$guardian" ] || guardians=$((guardians + 1)) ;;
		18)
			guardians=$((guardians + 1))
			nothing_left "$image" "$what"
			;;
		*) bad "$what: exit code $RC: $(cat "$TMPDIR/stderr")" ;;
		esac
	else
		kill -KILL $tool 2>/dev/null
		wait $tool 2>/dev/null
		[ $? = 137 ] && killed=$((killed + 1))
	fi
	threads_free "$pid" "$what"
	same_mappings "$pid" "$what" "$guardian"
	victim_ok "$dir" "after $what" || break
	# Whole, or absent; what a killed dump leaves beside it goes with the next one.
	if [ -e "$image" ]; then
		stasis verify "$image" || bad "$what: an image that is not whole: $ERR"
	fi
	rm -rf "$image"
done
for pid in $regs $blocked; do
	stasis dump -t "$pid" -D "$image" -R || bad "the last dump: $RC $ERR"
	stasis verify "$image" || bad "the last image: $ERR"
	rm -rf "$image"
done
nothing_left "$image" "after the last dump"
[ $killed -gt $((rounds / 3)) ] || bad "only $killed of $rounds dumps were killed"
echo "$killed tools and $guardians guardians killed in $rounds dumps; one takes $took us; $leftover" \
	"mappings were left by killed guardians"
victim_end "$TMPDIR/regs" "at the end"
victim_end "$TMPDIR/blocked" "at the end"
finish
