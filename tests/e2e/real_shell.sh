#!/bin/bash
# SPDX-License-Identifier: MIT
# A shell that forks and execs as fast as it can: pipelines whose output it compares.
# timeout: 120
. "$(dirname "$0")/../lib/e2e.sh"

cat >"$TMPDIR/loop.sh" <<'X'
n=0
while [ -e "$1/go" ]; do
	x=$(printf '%s\n' c b a | sort | tr -d '\n')
	y=$(/bin/echo "$n" | sed 's/$/!/')
	if [ "$x" != abc ] || [ "$y" != "$n!" ]; then
		echo "round $n: '$x' '$y'" >>"$1/problems"
	fi
	/bin/false && echo "round $n: false is true" >>"$1/problems"
	n=$((n + 1))
	echo $n >"$1/count"
done
X
touch "$TMPDIR/go"
bash "$TMPDIR/loop.sh" "$TMPDIR" >"$TMPDIR/out" 2>&1 &
shell=$!
living shell $shell
sleep 0.3

for ((i = 0; i < 12; i++)); do
	opt=()
	((i % 4 == 3)) && opt=(--image-format criu)
	if stasis dump -t "$shell" -D "$TMPDIR/image" -R "${opt[@]}"; then
		stasis verify "$TMPDIR/image" || bad "dump $i: verify: $ERR"
		tests/lib/check_image.py "$TMPDIR/image" >"$TMPDIR/check.out" 2>&1 ||
			bad "dump $i: $(<"$TMPDIR/check.out")"
		stasis bt "$TMPDIR/image" || bad "dump $i: bt: exit code $RC: $ERR"
	else
		bad "dump $i: exit code $RC: $ERR"
		nothing_left "$TMPDIR/image" "dump $i"
	fi
	rm -rf "$TMPDIR/image"
	before=$(cat "$TMPDIR/count")
	for _ in $(seq 100); do
		[ "$(cat "$TMPDIR/count")" != "$before" ] && break
		sleep 0.05
	done
	[ "$(cat "$TMPDIR/count")" != "$before" ] || bad "dump $i: the shell stands still"
done
rm "$TMPDIR/go"
wait $shell || bad "the shell ended with $?"
gone shell
[ ! -e "$TMPDIR/problems" ] || bad "$(<"$TMPDIR/problems")"
[ ! -s "$TMPDIR/out" ] || bad "$(<"$TMPDIR/out")"
echo "$(cat "$TMPDIR/count") rounds"
finish
