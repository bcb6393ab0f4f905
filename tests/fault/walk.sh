#!/bin/bash
# SPDX-License-Identifier: MIT
# Every failure point of a dump, as an error and as SIGKILL: afterwards the target is alive and equal,
# and no half image is left.
# builds: faults
# timeout: 300
. "$(dirname "$0")/../lib/e2e.sh"

mapfile -t points < <("$STASIS" --list-faults | sort -u | grep -v "^restore\.")
[ ${#points[@]} -gt 5 ] || die "only ${#points[@]} failure points: ${points[*]}"

image=$TMPDIR/image
declare -A hit=()
guardians=0

# After SIGKILL a guardian may need a moment.
released() {
	local i
	for ((i = 0; i < 250; i++)); do
		grep -hs '^TracerPid:' /proc/"$VPID"/task/*/status | grep -qv '[^0-9]0$' || return 0
		sleep 0.02
	done
	bad "$1: the target is still traced"
}

walk() { # LABEL DUMP-OPTIONS...
	local label=$1 point action
	shift
	for point in "${points[@]}"; do
		for action in error kill; do
			for n in 1 3; do
				STASIS_FAULT=$point:$action:$n stasis dump -t "$VPID" -D "$image" -R "$@"
				released "$label, $point:$action:$n"
				case $action:$RC in
				*:0)
					# Not on this way, or something that is only a nuisance.
					stasis verify "$image" || bad "$label, $point:$action:$n: verify: $ERR"
					rm -rf "$image"
					continue
					;;
				error:*)
					hit[$point]=1
					message_ok "$label, $point:error:$n"
					nothing_left "$image" "$label, $point:error:$n"
					[[ $point != memdump.* ]] || [ "$RC" = 12 ] ||
						bad "$label, $point: EIO ends with exit code $RC: $ERR"
					[ "$RC" -lt 128 ] || bad "$label, $point:error:$n: died: exit code $RC"
					;;
				kill:137)
					hit[$point]=1
					[ ! -e "$image" ] || stasis verify "$image" ||
						bad "$label, $point:kill:$n: an image that is not whole"
					rm -rf "$image"
					;;
				kill:*)
					# The point is in the guardian: the tool lives and tells.
					hit[$point]=1
					guardians=$((guardians + 1))
					message_ok "$label, $point:kill:$n"
					nothing_left "$image" "$label, $point:kill:$n"
					;;
				esac
				victim_ok "$DIR" "after $label, $point:$action:$n" || die "the target is hurt"
			done
		done
	done
	# What killed dumps left beside the image goes with the next dump.
	stasis dump -t "$VPID" -D "$image" -R "$@" || bad "$label: the dump after all: $ERR"
	stasis verify "$image" || bad "$label: the image after all: $ERR"
	rm -rf "$image"
	nothing_left "$image" "$label, after all"
}

DIR=$TMPDIR/blocked
victim_start "$DIR" blocked || die "$WHY"
before=$(wc -l <"/proc/$VPID/maps")
walk blocked
# A batch's two mappings may stay when the guardian was killed in the middle of it, and only then.
left=$(($(wc -l <"/proc/$VPID/maps") - before))
if [ $left -lt 0 ] || [ $left -gt $((2 * guardians)) ]; then
	bad "$left new mappings after $guardians killed guardians: $(cat "/proc/$VPID/maps")"
fi
victim_end "$DIR" "at the end"
DIR=$TMPDIR/regs
victim_start "$DIR" regs --n 2 || die "$WHY"
walk criu --image-format criu
victim_end "$DIR" "at the end"

# A tree that is to end stands still until its image is safe: whatever fails, it runs on, and it never
# ends without an image.
ended=0
for point in "${points[@]}"; do
	for action in error kill; do
		[ -e "$TMPDIR/ending" ] || victim_start "$TMPDIR/ending" plain || die "$WHY"
		STASIS_FAULT=$point:$action stasis dump -t "$VPID" -D "$image" --no-log
		released "to be killed, $point:$action"
		[ "$RC" = 0 ] || hit[$point]=1
		if "$VICTIM" --check "$TMPDIR/ending" 5 >/dev/null 2>&1; then
			[ "$RC" != 0 ] || bad "to be killed, $point:$action: it lives: $ERR"
			[ "$RC" = 0 ] || [ "$RC" = 137 ] || nothing_left "$image" "to be killed, $point:$action"
		else
			ended=$((ended + 1))
			stasis verify "$image" || bad "to be killed, $point:$action: dead, and no image: $ERR"
			victim_kill "$TMPDIR/ending"
			rm -rf "$TMPDIR/ending"
		fi
		rm -rf "$image"
	done
done
[ $ended -gt 3 ] || bad "only $ended trees were killed in the end"

missed=()
for point in "${points[@]}"; do
	[ -n "${hit[$point]:-}" ] || missed+=("$point")
done
echo "${#hit[@]} of ${#points[@]} points were passed; not: ${missed[*]:-}"
[ ${#hit[@]} -gt $((${#points[@]} / 2)) ] || bad "more than half of the points were never passed"
finish
