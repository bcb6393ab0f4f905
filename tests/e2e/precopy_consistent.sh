#!/bin/bash
# SPDX-License-Identifier: MIT
# Processes that write at full speed are dumped while they run, killed and restored: each image is of one instant.
#
#	precopy_consistent.sh [ROUNDS [SCENARIO...]]	rounds per way and scenario, default 1
# timeout: 300
. "$(dirname "$0")/../lib/e2e.sh"
need_root
with_reaper "$@"
. tests/lib/real.sh
. tests/lib/precopy.sh

rounds=${1:-1}
shift
# A file system with a disk below it: there a read of O_DIRECT takes a while.
disk=$(mktemp -d /var/tmp/stasis-test.XXXXXX) || die "no directory in /var/tmp"
trap 'rm -rf "$disk"; kill_tree; cleanup' EXIT

# Where all of it is written between two looks a final copy has everything; with a rate, little of it.
variants=(
	"pairs" "pairs --rate 20000 --mib 48" "chain" "chain --rate 50000 --mib 64 --threads 4"
	# More than one slice of a round.
	"chain --rate 50000 --mib 160 --threads 2"
	"hugechain --rate 50000 --mib 32" "execchain --rate 50000 --mib 16" "family --rate 50000"
	"changes" "kernelwrites --disk $disk" "kernelwrites --kinds d --rate 0 --disk $disk"
	"kernelwrites --kinds v --rate 0 --disk $disk"
)
codecs=("lz4" "zstd:1" "none")
n=0 refusals=0

# Dumped with -R, killed a moment later, brought back from before: it goes on from there.
round() { # LABEL DIR OPTIONS...
	local label=$1 dir=$2
	shift 2
	rm -rf "$TMPDIR/image"
	stasis dump -t "$PID" -D "$TMPDIR/image" -R --json --quiet "$@" || {
		# Asked for one way, which the victim of this moment does not allow: just after an exec, say.
		if [[ $RC = 16 && $* = *--tracking* && $ERR = *"cannot be tracked"* ]]; then
			refusals=$((refusals + 1))
			message_ok "$label"
		else
			bad "$label: dump: exit code $RC: $ERR"
		fi
		nothing_left "$TMPDIR/image" "$label"
		victim_ok "$dir" "after a dump that was not made ($label)"
		return
	}
	count_way
	local used
	used=$(tracking)
	# The original has not noticed anything, now and then.
	[ $((n % 4)) != 0 ] || victim_ok "$dir" "after a dump ($label, $used)" || return
	kill_tree
	until_true 100 all_ended || die "$label: not all have ended: ${TREE[*]}"
	# What it found itself is not to be forgotten when it is asked again.
	stasis restore -D "$TMPDIR/image" -d --quiet || die "$label: restore: exit code $RC: $ERR"
	victim_ok "$dir" "after a restore ($label, $used)" || return
	n=$((n + 1))
}

for v in "${variants[@]}"; do
	scenario=${v%% *}
	case " $* " in *" $scenario "* | "  ") ;; *) continue ;; esac
	dir=$TMPDIR/v
	# shellcheck disable=SC2086 # options are words
	victim_start "$dir" $v
	case $? in
	0) ;;
	77)
		echo "$v: not here: $WHY"
		continue
		;;
	*) continue ;;
	esac
	PID=$VPID
	disown "$PID"
	[ ${#WAYS[@]} -gt 0 ] || ways "$PID"
	began=$SECONDS
	for ((i = 0; i < rounds; i++)); do
		for way in "${WAYS[@]}"; do
			codec=${codecs[$((n % ${#codecs[@]}))]}
			# shellcheck disable=SC2086 # options are words
			round "$v, $codec, ${way:-default}" "$dir" --compress "$codec" $way
			[ "$PROBLEMS" -eq 0 ] || break 2
		done
	done
	[ "$PROBLEMS" -ne 0 ] || "$VICTIM" --quit "$dir" 60 >"$TMPDIR/answer" ||
		bad "$v, at the end: $(<"$TMPDIR/answer")"
	kill_tree
	gone "$dir"
	PID=
	rm -rf "$dir"
	echo "$v: $((i * ${#WAYS[@]})) rounds in $((SECONDS - began)) s"
	[ "$PROBLEMS" -eq 0 ] || break
done
[ $n -gt 0 ] || die "no round was made"
[ $refusals -le $n ] || bad "more dumps were refused than made: $refusals"
echo "$n restored, of images by: $(ways_used)$refusals refused"
finish
