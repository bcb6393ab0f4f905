#!/bin/bash
# SPDX-License-Identifier: MIT
# TCP connections at full speed, with ends inside and outside of the tree: no byte lost, none wrong, no stall.
# timeout: 600
. "$(dirname "$0")/../lib/e2e.sh"
need_root
own_net "$@"
with_reaper "$@"

rounds=${1:-20}
STREAM=$(realpath -m "${PLAIN_BUILD:-$BUILD}/tests/victims/stream")
[ -x "$STREAM" ] || die "$STREAM is not built"
image=$TMPDIR/image
LONGEST=0

look() { # NAME: GOT ENDED ERROR of an end
	read -r _ GOT ENDED ERROR < <("$STREAM" look "$TMPDIR/$1")
	[ -z "$ERROR" ] || die "$1: $ERROR"
}

# flows WHEN NAME...: so many more bytes arrive at each end, soon.
flows() {
	local when=$1 name i from began=${EPOCHREALTIME/./}
	shift
	for name in "$@"; do
		look "$name"
		from=$GOT
		for ((i = 0; i < 1000; i++)); do
			look "$name"
			[ "$GOT" -lt $((from + 3000000)) ] || break
			sleep 0.02
		done
		[ "$GOT" -ge $((from + 3000000)) ] ||
			die "$when: $name stands still: got $((GOT - from)) more bytes in 20 s, $(ss -tinp 2>/dev/null | tail -n 30)"
	done
	i=$(((${EPOCHREALTIME/./} - began) / 1000))
	[ $i -le "$LONGEST" ] || LONGEST=$i
}

ended() { # PID: and collected
	local i
	for ((i = 0; i < 500; i++)); do
		[ -e "/proc/$1" ] || return 0
		sleep 0.01
	done
	die "$1 does not end"
}

again() { # WHAT PID OPTIONS...
	local what=$1 pid=$2
	shift 2
	rm -rf "$image"
	stasis dump -t "$pid" -D "$image" "$@" || die "$what: dump: exit $RC: $ERR"
	ended "$pid"
	stasis restore -D "$image" -d || die "$what: restore: exit $RC: $ERR"
}

started() { # FILE
	local i
	for ((i = 0; i < 200; i++)); do
		[ ! -s "$1" ] || return 0
		sleep 0.02
	done
	die "$1 does not come"
}

pair_start() { # OPTIONS...
	rm -f "$TMPDIR/p."*
	setsid "$STREAM" pair "$TMPDIR/p" "$@" </dev/null >/dev/null 2>&1 &
	PAIR=$!
	disown $PAIR
	living pair $PAIR
	started "$TMPDIR/p.b"
}

outside_start() { # OPTIONS...: OWN is to be dumped, OTHER is its peer
	rm -f "$TMPDIR/port" "$TMPDIR/own" "$TMPDIR/other"
	setsid "$STREAM" serve "$TMPDIR/own" -p "$TMPDIR/port" -F "$@" </dev/null >/dev/null 2>&1 &
	OWN=$!
	disown $OWN
	living own $OWN
	started "$TMPDIR/port"
	setsid "$STREAM" connect "$TMPDIR/other" -p "$TMPDIR/port" "$@" </dev/null >/dev/null 2>&1 &
	OTHER=$!
	disown $OTHER
	living other $OTHER
}

end() { # NAME PID...
	gone "$1"
	shift
	kill -KILL "$@" 2>/dev/null
	ended "$1"
}

no_tables() { # WHEN
	command -v nft >/dev/null || return
	[[ $(nft list tables) != *CRIU* ]] || bad "$1: packets are still held back: $(nft list ruleset)"
}

# Both ends in the tree.
for family in 4 6 mapped; do
	pair_start -f $family -F
	flows "a pair, $family" p.a p.b
	for ((i = 1; i <= rounds; i++)); do
		again "pair, $family, round $i" "$PAIR"
		flows "pair, $family, round $i" p.a p.b
	done
	end pair "$PAIR"
	echo "pair, $family: $GOT bytes, at most $LONGEST ms to the first 3 MB"
	LONGEST=0
	[ "$rounds" -lt 20 ] || rounds=$((rounds / 4))
done
rounds=${1:-20}

# The peer is somebody else.
for family in 4 6 mapped; do
	outside_start -f $family
	flows "outside, $family" own other
	for ((i = 1; i <= rounds; i++)); do
		again "outside, $family, round $i" "$OWN" --tcp-established
		flows "outside, $family, round $i" own other
	done
	no_tables "outside, $family"
	end own "$OWN"
	end other "$OTHER"
	echo "outside, $family: $GOT bytes, at most $LONGEST ms to the first 3 MB"
	LONGEST=0
	[ "$rounds" -lt 20 ] || rounds=$((rounds / 4))
done

# Half closed: one side has said all that it has to say, the other goes on.
half() { # WHAT PID GOING SILENT: which ends send for ever, and have sent all
	local i
	for ((i = 0; i < 300; i++)); do
		look "$3"
		[ "$ENDED" = 0 ] || return 0
		sleep 0.02
	done
	die "$1: $3 has not seen the end of the stream: got $GOT"
}
sent=30000000
for when in early late; do
	pair_start -n $sent
	[ $when = early ] || half "a half closed pair" "$PAIR" p.a
	for ((i = 1; i <= 3; i++)); do
		again "half closed pair, $when, round $i" "$PAIR"
		flows "half closed pair, $when, round $i" p.b
	done
	half "a half closed pair, $when" "$PAIR" p.a
	[ "$GOT" = $sent ] || bad "half closed pair, $when: $GOT bytes instead of $sent"
	end pair "$PAIR"
done
for who in serve connect; do
	for when in early late; do
		what="half closed, $when, the end that does $who is dumped"
		outside_start -n $sent
		[ $who = serve ] || { i=$OWN OWN=$OTHER OTHER=$i; }
		[ $when = early ] || half "$what" "$OWN" own
		for ((i = 1; i <= 3; i++)); do
			again "$what, round $i" "$OWN" --tcp-established
			flows "$what, round $i" other
		done
		half "$what" "$OWN" own
		[ "$GOT" = $sent ] || bad "$what: $GOT bytes instead of $sent"
		end own "$OWN"
		end other "$OTHER"
	done
done

# A dump that lets the tree run on.
pair_start
outside_start
for ((i = 1; i <= 5; i++)); do
	for pid in "$PAIR" "$OWN"; do
		rm -rf "$image"
		stasis dump -t "$pid" -D "$image" --tcp-established -R || bad "dump -R: exit $RC: $ERR"
	done
	flows "after dump -R, $i" p.a p.b own other
done

# SIGKILL of the tool at random instants: what was not killed goes on.
rounds=${1:-20}
took=
for _ in 1 2 3; do
	rm -rf "$image"
	began=${EPOCHREALTIME/./}
	stasis dump -t "$OWN" -D "$image" --tcp-established || die "dump: exit $RC: $ERR"
	us=$((${EPOCHREALTIME/./} - began))
	if [ -z "$took" ] || [ $us -lt "$took" ]; then took=$us; fi
	ended "$OWN"
	stasis restore -D "$image" -d || die "restore: exit $RC: $ERR"
done
killed=0
for ((i = 1; i <= 2 * rounds; i++)); do
	pid=$PAIR
	((i % 2)) || pid=$OWN
	rm -rf "$image"
	"$STASIS" dump -t "$pid" -D "$image" --tcp-established --quiet --no-log >/dev/null 2>&1 </dev/null &
	tool=$!
	us=$(random_below $took)
	sleep "$(printf '%d.%06d' $((us / 1000000)) $((us % 1000000)))"
	kill -KILL $tool 2>/dev/null
	wait $tool 2>/dev/null
	[ $? = 137 ] && killed=$((killed + 1))
	if [ -e "$image/inventory.img" ] && {
		# The guardian may just be about to end it.
		sleep 0.3
		[ ! -e "/proc/$pid" ]
	}; then
		stasis restore -D "$image" -d || die "SIGKILL $i: restore: exit $RC: $ERR"
	fi
	if [ "$pid" = "$PAIR" ]; then
		flows "SIGKILL $i after $us us" p.a p.b
	else
		flows "SIGKILL $i after $us us" own other
	fi
done
echo "$killed of $((2 * rounds)) dumps killed"
[ $killed -ge "$rounds" ] || bad "only $killed of $((2 * rounds)) dumps were killed"
no_tables "after SIGKILL"

# As long as it takes: the peer hears nothing, and a restore that fails is not the end of it.
rm -rf "$image"
stasis dump -t "$OWN" -D "$image" --tcp-established || die "dump: exit $RC: $ERR"
[[ $ERR == *"held back until the restore"* ]] || bad "the dump does not say that packets are held: $ERR"
ended "$OWN"
sleep 1.5
mv "$image/block-1.stasis" "$image/away" 2>/dev/null || mv "$image/core-$OWN.img" "$image/away"
if stasis restore -D "$image" -d; then bad "an image without one of its files is restored"; fi
look other
mv "$image/away" "$image/$([ -e "$image/core-$OWN.img" ] && echo block-1.stasis || echo "core-$OWN.img")"
stasis restore -D "$image" -d || die "restore: exit $RC: $ERR"
flows "after 1.5 s and a restore that failed" own other

# The peer is gone by the time of the restore: what it had acknowledged no more, the program finds out.
ended_early() {
	read -r _ _ _ ERROR < <("$STREAM" look "$TMPDIR/own")
	[[ $ERROR == *"Connection reset"* || $ERROR == *"Broken pipe"* ]]
}
rm -rf "$image"
stasis dump -t "$OWN" -D "$image" --tcp-established || die "dump: exit $RC: $ERR"
ended "$OWN"
kill -KILL "$OTHER"
ended "$OTHER"
stasis restore -D "$image" -d || die "a peer that is gone: restore: exit $RC: $ERR"
for ((i = 0; i < 300; i++)); do
	! ended_early || break
	sleep 0.02
done
ended_early || bad "a peer that is gone: the program has not noticed: '$ERROR'"
outside_start
flows "at the end" own other

# Without: this shows that the above holds anything.
rm -rf "$image"
stasis dump -t "$OWN" -D "$image" --tcp-established --network-lock skip || die "dump: exit $RC: $ERR"
[[ $ERR != *"held back"* ]] || bad "packets are held although that was not wanted: $ERR"
sleep 1
read -r _ _ _ ERROR < <("$STREAM" look "$TMPDIR/other")
[[ $ERROR == *"Connection reset"* ]] || bad "the peer of a process that is gone has not noticed: '$ERROR'"
gone own
gone other
finish
