#!/bin/bash
# SPDX-License-Identifier: MIT
# Dumps that store what has changed since the last one: chains are restored, squashed, and refused when they are broken.
# timeout: 240
# builds: plain asan
. "$(dirname "$0")/../lib/e2e.sh"
need_root
with_reaper "$@"
. tests/lib/real.sh

i=$TMPDIR/i
size() { stat -c %s "$1/memory.stasis"; }
# field NAME: a number or word of the last dump's --json line.
field() { sed -n "s/.*\"$1\": *\"\\{0,1\\}\\([a-z0-9-]*\\).*/\\1/p" <<<"$OUT"; }
keepers() {
	local p n=0
	for p in /proc/[0-9]*; do
		[ "$(cat "$p/comm" 2>/dev/null)" = stasis-keep ] && n=$((n + 1))
	done
	echo $n
}
no_keeper() { [ "$(keepers)" = 0 ]; }
one_keeper() { [ "$(keepers)" = 1 ]; }
brought_back() { # LABEL IMAGE
	kill_tree
	until_true 100 all_ended || die "$1: not all have ended: ${TREE[*]}"
	stasis verify "$2" || bad "$1: verify: $ERR"
	stasis restore -D "$2" -d --quiet || die "$1: restore: exit code $RC: $ERR"
	victim_ok "$TMPDIR/v" "after a restore ($1)"
}

mib=48 rate=2000 codecs=(lz4 none zstd:1)
# An emulated machine is slow: so little is to be written between two dumps that take their time.
[ -z "${VM_OUT:-}" ] || mib=16 rate=20 codecs=(lz4)
# By soft-dirty marks a huge page is written as a whole, and nothing would be small.
[ -z "${VM_OUT:-}" ] || echo madvise >/sys/kernel/mm/transparent_hugepage/enabled
victim_start "$TMPDIR/v" chain --rate $rate --mib $mib --threads 2 || die "$WHY"
PID=$VPID
disown "$PID"

# Tracked from dump to dump by a keeper; every image is of one instant, and small.
stasis pre-dump -t "$PID" -D "$i.0" --json || die "dump: $ERR"
have=$(field tracking)
if [ "$have" = none ]; then
	echo "writes are not tracked here: $(sed -n 's/.*"reason": *"\([^"]*\)".*/\1/p' <<<"$OUT")"
fi
last=0
for ((n = 1; n < 5; n++)); do
	stasis dump -t "$PID" -D "$i.$n" -R --json --track-mem --prev-images-dir "../i.$last" ||
		die "dump $n: exit code $RC: $ERR"
	if [ "$have" != none ]; then
		[ "$(field compared)" = false ] || bad "dump $n: contents were compared though writes had been tracked"
		! grep -q "compare" <<<"$ERR" || bad "dump $n: contents are said to be compared: $ERR"
		until_true 50 one_keeper || bad "dump $n: $(keepers) keepers"
	fi
	[ $(($(size "$i.$n") * 2)) -lt "$(size "$i.0")" ] ||
		bad "dump $n: $(size "$i.$n") bytes, the first one had $(size "$i.0")"
	[ "$(readlink "$i.$n/parent")" = "../i.$last" ] || bad "dump $n: no link to its parent"
	last=$n
done
victim_ok "$TMPDIR/v" "after five dumps"
brought_back "a chain of five" "$i.4"
until_true 50 no_keeper || bad "a keeper outlives its tree"

# One whole image of the chain, which needs nobody.
stasis squash "$i.4" -o "$TMPDIR/whole" || bad "squash: $ERR"
[ ! -e "$TMPDIR/whole/parent" ] || bad "the whole image has a parent"
tests/lib/read_stasis.py "$TMPDIR/whole/memory.stasis" >/dev/null || bad "squash: the second reader cannot read it"
mkdir "$TMPDIR/aside"
mv "$i".? "$TMPDIR/aside"
brought_back "squashed" "$TMPDIR/whole"
mv "$TMPDIR/aside/"* "$TMPDIR"

# Without a keeper contents are compared: no less right, and no larger.
for codec in "${codecs[@]}"; do
	rm -rf "$i.5" "$i.6"
	stasis dump -t "$PID" -D "$i.5" -R --json --compress "$codec" || die "dump: $ERR"
	stasis dump -t "$PID" -D "$i.6" -R --json --compress "$codec" --prev-images-dir ../i.5 || die "dump: $ERR"
	[ "$(field compared)" = true ] || bad "$codec: nobody has tracked writes, and contents were not compared"
	grep -q "^note: all pages were compared with those of ../i.5: nothing had tracked" <<<"$ERR" ||
		bad "$codec: that all was compared is not told: $ERR"
	grep -q "MiB of memory, .*iB of it changed -> .*iB, of use with its parent ../i.5 only," <<<"$ERR" ||
		bad "$codec: the result of an incremental dump: $ERR"
	! grep -q "ratio" <<<"$ERR" || bad "$codec: a ratio of an incremental dump is none: $ERR"
	[ $(($(size "$i.6") * 2)) -lt "$(size "$i.5")" ] || bad "$codec: $(size "$i.6") of $(size "$i.5") bytes"
	brought_back "compared, $codec" "$i.6"
done
# Nothing is tracked, nothing copied ahead: the same, frozen.
rm -rf "$i.6"
stasis dump -t "$PID" -D "$i.6" -R --json --tracking none --prev-images-dir ../i.5 || bad "--tracking none: $ERR"
[ $(($(size "$i.6") * 2)) -lt "$(size "$i.5")" ] || bad "--tracking none: $(size "$i.6") of $(size "$i.5") bytes"
brought_back "--tracking none" "$i.6"

# A keeper of another image than the one named, and one that was killed: contents are compared.
rm -rf "$i".?
stasis dump -t "$PID" -D "$i.0" -R --json || die "dump: $ERR"
stasis dump -t "$PID" -D "$i.1" -R --json --track-mem || die "dump: $ERR"
stasis dump -t "$PID" -D "$i.2" -R --json --track-mem --prev-images-dir ../i.0 || die "dump: $ERR"
[ "$(field compared)" = true ] || bad "the keeper of one image was taken for another's"
brought_back "another image's keeper" "$i.2"
stasis dump -t "$PID" -D "$i.3" -R --json --track-mem --prev-images-dir ../i.2 || die "dump: $ERR"
for p in /proc/[0-9]*; do
	[ "$(cat "$p/comm" 2>/dev/null)" = stasis-keep ] && kill -KILL "${p#/proc/}"
done
stasis dump -t "$PID" -D "$i.4" -R --json --prev-images-dir ../i.3 || die "dump: $ERR"
[ "$have" = none ] || [ "$(field compared)" = true ] || bad "the keeper was killed, and its word taken"
brought_back "a keeper that was killed" "$i.4"

# Somebody else has cleared the marks in between: what the keeper has is not believed.
if [ "$have" = soft-dirty ]; then
	rm -rf "$i.5" "$i.6"
	stasis dump -t "$PID" -D "$i.5" -R --json --track-mem --prev-images-dir ../i.4 || die "dump: $ERR"
	echo 4 >"/proc/$PID/clear_refs"
	stasis dump -t "$PID" -D "$i.6" -R --json --prev-images-dir ../i.5 || die "dump: $ERR"
	[ "$(field compared)" = true ] || bad "marks that somebody else had cleared were taken for true"
	brought_back "marks that somebody else had cleared" "$i.6"
	rm -rf "$i.5" "$i.6"
fi

# The rest is no question of the kernel.
if [ -n "${VM_OUT:-}" ]; then
	kill_tree
	gone "$TMPDIR/v"
	finish
fi

# What is broken is named, and nothing is left.
broken() { # WHAT CODE PATTERN OPTIONS...
	local what=$1 code=$2 pattern=$3
	shift 3
	if stasis dump -t "$PID" -D "$TMPDIR/refused" -R "$@"; then
		bad "$what: dumped"
	else
		[ "$RC" = "$code" ] || bad "$what: exit code $RC, not $code: $ERR"
		grep -q "$pattern" <<<"$ERR" || bad "$what: nothing of '$pattern': $ERR"
	fi
	nothing_left "$TMPDIR/refused" "$what"
	victim_ok "$TMPDIR/v" "$what"
}
broken "no such image" 1 "earlier image ../nobody" --prev-images-dir ../nobody
mkdir "$TMPDIR/empty"
broken "no image" 1 "../empty has no memory.stasis.*" --prev-images-dir ../empty
grep -q "leave --prev-images-dir out" <<<"$ERR" || bad "no image: what is to be done is not told: $ERR"
broken "no name" 2 "name of the earlier image is empty" --prev-images-dir ''
victim_start "$TMPDIR/w" chain --rate 100 --mib 4 || die "$WHY"
stasis dump -t "$VPID" -D "$TMPDIR/other" -R || die "dump: $ERR"
victim_end "$TMPDIR/w" "the other one"
VPID=$PID
broken "another process's image" 2 'of another process' --prev-images-dir ../other
broken "a budget, and nothing tracked" 21 'would stand still' --prev-images-dir ../i.4 --tracking none --strict-freeze --max-freeze 1
broken "--track-mem without -R" 2 'add -R' --track-mem --leave-stopped
mv "$i.3" "$TMPDIR/away"
lacks='parent 1: the earlier image of .*/i.4 is not there: its link "parent" leads to ../i.3: '
broken "a parent's parent is gone" 15 "the earlier image ../i.4: $lacks" --prev-images-dir ../i.4
grep -q "^  put the earlier image back.*leave --prev-images-dir out" <<<"$ERR" || bad "what is to be done is not told: $ERR"
! stasis verify "$i.4" || bad "verify of a chain that lacks a link"
grep -q "^damaged: $lacks.*put the earlier image back" <<<"$ERR" || bad "verify says nothing of the parent: $ERR"
kill_tree
until_true 100 all_ended || die "not all have ended"
! stasis restore -D "$i.4" -d --quiet || bad "restore of a chain that lacks a link"
[ "$RC" = 15 ] || bad "restore of a broken chain: exit code $RC: $ERR"
grep -q "^  put the earlier image back" <<<"$ERR" || bad "restore of a broken chain: what is to be done is not told: $ERR"
mv "$TMPDIR/away" "$i.3"
# Another image in the parent's place.
mv "$i.2" "$TMPDIR/away"
cp -r "$TMPDIR/other" "$i.2"
! stasis verify "$i.4" || bad "verify of a chain with a wrong link"
grep -q "i.2/memory.stasis: is another file than the child was made with: put the earlier" <<<"$ERR" ||
	bad "verify of a chain with a wrong link: $ERR"
! stasis restore -D "$i.4" -d --quiet || bad "restore of a chain with a wrong link"
rm -rf "$i.2"
mv "$TMPDIR/away" "$i.2"
stasis restore -D "$i.4" -d --quiet || bad "put back: $ERR"
victim_ok "$TMPDIR/v" "put back"
kill_tree
gone "$TMPDIR/v"
finish
