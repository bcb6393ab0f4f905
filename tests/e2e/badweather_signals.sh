#!/bin/bash
# SPDX-License-Identifier: MIT
# SIGINT and SIGTERM to the tool at random instants: one message, exit code 14, no half image, and
# a target that has noticed nothing.
# timeout: 180
# builds: plain asan
. "$(dirname "$0")/../lib/e2e.sh"

rounds=${1:-40}
victim_start "$TMPDIR/v" heap --size 96 --pattern random || die "$WHY"
image=$TMPDIR/image

began=$EPOCHREALTIME
stasis dump -t "$VPID" -D "$image" -R || die "the first dump: $RC $ERR"
took=$((${EPOCHREALTIME/./} - ${began/./}))
rm -rf "$image"

interrupted=0
for ((i = 0; i < rounds; i++)); do
	sig=INT
	((i % 2)) && sig=TERM
	format=stasis
	((i % 5 == 4)) && format=criu
	# A shell starts what is in the background with SIGINT ignored.
	env --default-signal=INT,TERM "$STASIS" dump -t "$VPID" -D "$image" -R \
		--image-format $format >/dev/null 2>"$TMPDIR/stderr" &
	tool=$!
	us=$(random_below $((took + took / 5)))
	sleep "$(printf '%d.%06d' $((us / 1000000)) $((us % 1000000)))"
	kill -$sig $tool 2>/dev/null
	wait $tool
	RC=$?
	ERR=$(<"$TMPDIR/stderr")
	case $RC in
	0) stasis verify "$image" || bad "finished in spite of SIG$sig, but: $ERR" ;;
	14)
		interrupted=$((interrupted + 1))
		message_ok "SIG$sig after $us us"
		nothing_left "$image" "SIG$sig after $us us"
		;;
	$((128 + 2)) | $((128 + 15)))
		# Before the handlers are there, nothing has been touched.
		nothing_left "$image" "SIG$sig after $us us, very early"
		[ "$us" -lt 50000 ] || bad "SIG$sig after $us us killed the tool"
		;;
	*) bad "SIG$sig after $us us: exit code $RC: $ERR" ;;
	esac
	nobody_traces "$VPID" "SIG$sig after $us us"
	victim_ok "$TMPDIR/v" "after SIG$sig at $us us"
	rm -rf "$image"
done
[ $interrupted -gt $((rounds / 5)) ] || bad "only $interrupted of $rounds dumps were interrupted"
echo "$interrupted of $rounds dumps were interrupted; one takes $took us"
victim_end "$TMPDIR/v" "at the end"
finish
