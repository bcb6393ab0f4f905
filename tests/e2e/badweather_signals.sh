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
	# On a busy machine the program may not have come to its first line yet.
	caught=$(sed -n 's/^SigCgt:[^0-9a-f]*//p' "/proc/$tool/status" 2>/dev/null)
	early=
	[ -z "$caught" ] || [ $((0x$caught & 2)) != 0 ] || early=1
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
		[ -n "$early" ] || bad "SIG$sig after $us us killed the tool"
		;;
	*) bad "SIG$sig after $us us: exit code $RC: $ERR" ;;
	esac
	nobody_traces "$VPID" "SIG$sig after $us us"
	victim_ok "$TMPDIR/v" "after SIG$sig at $us us"
	rm -rf "$image"
done
[ $interrupted -gt $((rounds / 5)) ] || bad "only $interrupted of $rounds dumps were interrupted"
echo "$interrupted of $rounds dumps were interrupted; one takes $took us"

# While a thread does not stop there is nothing to wait for either. The child is found stopped now and
# then, and lives on.
"$BUILD/tests/lib/vforker" 3 >"$TMPDIR/vforker" &
vforker=$!
living vforker $vforker
for _ in $(seq 100); do [ -s "$TMPDIR/vforker" ] && break; sleep 0.05; done
began=$EPOCHREALTIME
env --default-signal=INT "$STASIS" dump -t $vforker -D "$image" -R --freeze-timeout 60000 \
	>/dev/null 2>"$TMPDIR/stderr" &
tool=$!
sleep 0.6
kill -INT $tool
wait $tool
RC=$?
ERR=$(<"$TMPDIR/stderr")
us=$((${EPOCHREALTIME/./} - ${began/./}))
[ $RC = 14 ] || bad "SIGINT while a thread does not stop: exit code $RC: $ERR"
message_ok "SIGINT while a thread does not stop"
[ $us -lt 2500000 ] || bad "SIGINT while a thread does not stop: it took $us us"
nothing_left "$image" "SIGINT while a thread does not stop"
nobody_traces $vforker "SIGINT while a thread does not stop"
for _ in $(seq 100); do
	grep -q back "$TMPDIR/vforker" && break
	sleep 0.1
done
grep -q back "$TMPDIR/vforker" || bad "the child of vfork() does not come to its end"

# A freeze that takes too long says which option helps.
"$BUILD/tests/lib/vforker" 60 >"$TMPDIR/vforker" &
living vforker2 $!
for _ in $(seq 100); do [ -s "$TMPDIR/vforker" ] && break; sleep 0.05; done
expect_refusal 19 "a thread that does not stop" dump -t "${LIVING[vforker2]}" -D "$image" -R --freeze-timeout 300
[[ $ERR == *--freeze-timeout* ]] || bad "a thread that does not stop: no option is named: $ERR"
nothing_left "$image" "a thread that does not stop"
nobody_traces "${LIVING[vforker2]}" "a thread that does not stop"
victim_end "$TMPDIR/v" "at the end"
finish
