#!/bin/bash
# SPDX-License-Identifier: MIT
# Targets that fork, exec, make threads, map and exit as fast as they can while they are dumped.
# timeout: 240
# builds: plain asan
. "$(dirname "$0")/../lib/e2e.sh"

image=$TMPDIR/image

for s in forkstorm execstorm threadstorm mapstorm brkstorm reexec; do
	dir=$TMPDIR/$s
	victim_start "$dir" $s || die "$WHY"
	for ((i = 0; i < 8; i++)); do
		format=stasis
		((i % 4 == 3)) && format=criu
		if ! stasis dump -t "$VPID" -D "$image" -R --image-format $format; then
			bad "$s: dump $i: exit code $RC: $ERR"
			nothing_left "$image" "$s"
		elif stasis verify "$image"; then
			# Between an exec and its new mappings the facts do not hold.
			[ $s = reexec ] || tests/lib/check_image.py "$image" "$dir/facts" >"$dir/facts.out" 2>&1 ||
				bad "$s: image and facts: $(head -n 20 "$dir/facts.out")"
		else
			bad "$s: verify: $ERR"
		fi
		nobody_traces "$VPID" "$s"
		victim_ok "$dir" "after dump $i" || break
		rm -rf "$image"
	done
	victim_end "$dir" "after eight dumps"
	echo "$s: done"
done

# Nothing but exec, of a program that is long about it: to be stopped in the middle, again and again.
echo 'exec bash "$0"' >"$TMPDIR/execs"
bash "$TMPDIR/execs" &
pid=$!
living execs $pid
for ((i = 0; i < 40; i++)); do
	stasis dump -t $pid -D "$image" -R --freeze-timeout 3000 || bad "execs: dump $i: exit code $RC: $ERR"
	rm -rf "$image"
done
kill -KILL $pid
wait $pid 2>/dev/null
gone execs

# The first thread is gone, the process is not.
victim_start "$TMPDIR/leaderless" leaderless || die "$WHY"
sleep 0.1
if stasis dump -t "$VPID" -D "$image" -R; then
	stasis verify "$image" || bad "leaderless: verify: $ERR"
else
	message_ok "leaderless"
	nothing_left "$image" "leaderless"
	echo "leaderless: $ERR"
fi
victim_ok "$TMPDIR/leaderless" "after a dump or refusal"
victim_end "$TMPDIR/leaderless" "at the end"
rm -rf "$image"

# Ends by itself at a random instant: before, during or after the dump.
gone=0
for ((i = 0; i < 60; i++)); do
	how='exit'
	((i % 3 == 1)) && how='kill'
	((i % 3 == 2)) && how=thread
	dir=$TMPDIR/exiter-$i
	mkdir -p "$dir"
	"$VICTIM" exiter --dir "$dir" --ms 40 --how $how >/dev/null 2>&1 &
	pid=$!
	"$VICTIM" --wait "$dir" 10 >/dev/null
	stasis dump -t $pid -D "$image" -R
	case $RC in
	0) stasis verify "$image" || bad "exiter ($how): verify: $ERR" ;;
	3 | 5 | 13)
		gone=$((gone + 1))
		message_ok "exiter ($how)"
		nothing_left "$image" "exiter ($how)"
		;;
	*) bad "exiter ($how): exit code $RC: $ERR" ;;
	esac
	rm -rf "$image" "$dir"
	wait $pid 2>/dev/null
done
echo "exiter: gone in $gone of 60 dumps"
finish
