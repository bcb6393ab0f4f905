#!/bin/bash
# SPDX-License-Identifier: MIT
# bash with a pipeline, jobs and traps: dumped, killed, restored; images that lack something bring back nobody.
# timeout: 180
. "$(dirname "$0")/../lib/e2e.sh"
need_root
with_reaper "$@"
. tests/lib/real.sh

mkdir "$TMPDIR/jobs"
cat >"$TMPDIR/program" <<'X'
cd "$1" || exit 1
trap 'echo "usr1 $((++usr1))"' USR1
# Started and ended for ever, with here documents, substitutions and exit codes.
(
	for ((j = 0; ; j++)); do
		x=$(cat <<<"$j" | sed 's/$/ done/') || exit 1
		[ "$x" = "$j done" ] || { echo "wrong: $x"; exit 1; }
		(exit $((j % 256)))
		[ $? = $((j % 256)) ] || { echo "wrong: exit code of $j"; exit 1; }
		echo "$j" >jobs/n
	done
) &
coproc sort_of { while read -r line; do echo "got $line"; done; }
for ((i = 1; i <= $2; i++)); do
	echo "$i"
	[ $((i % 5000)) != 0 ] || sleep 0.1
done | tee copy | awk '{ s += $1; printf "%d %.0f\n", $1, s; fflush() }' | while read -r n sum; do
	[ "$sum" = $((n * (n + 1) / 2)) ] || { echo "wrong: $n $sum"; exit 1; }
	[ $((n % 1000)) != 0 ] || echo "at $n $sum"
done
echo "pipeline ${PIPESTATUS[*]}"
echo "asked" >&"${sort_of[1]}"
read -r answer <&"${sort_of[0]}"
echo "answer: $answer"
while :; do wait; done
X
count=150000
start bash "$TMPDIR/program" "$TMPDIR" $count
told 100 "^at 5000 "
again "once"
n=$(grep -c "^at " "$OUTPUT")
until_true 100 sh -c "[ \$(grep -c '^at ' '$OUTPUT') -gt $n ]" || bad "the pipeline does not go on"
broken_restores "twice" --compress zstd:1
n=$(<"$TMPDIR/jobs/n")
until_true 100 sh -c "[ \$(cat '$TMPDIR/jobs/n') -gt $n ]" || bad "the loop does not go on"
told 400 "^pipeline"
grep -qx "pipeline 0 0 0 0" "$OUTPUT" || bad "$(grep pipeline "$OUTPUT")"
told 50 "^answer: got asked"
[ "$(grep "^at " "$OUTPUT" | tail -n 1)" = "at $count $((count * (count + 1) / 2))" ] || bad "the sum is wrong"
cmp <(seq $count) "$TMPDIR/copy" || bad "the copy differs"
grep wrong "$OUTPUT" && bad "something was wrong"
again "with nothing but jobs"
kill -USR1 $PID
told 50 "^usr1 1"
stopped "at the end" kill_tree
finish
