#!/bin/bash
# SPDX-License-Identifier: MIT
# What only the process itself can be asked for, and long queues of signals: the image has it as it was.
. "$(dirname "$0")/../lib/e2e.sh"

victim=$BUILD/tests/victims/context
[ -x "$victim" ] || die "$victim is not built"
"$victim" >"$TMPDIR/said" &
pid=$!
living context $pid
for _ in $(seq 200); do
	grep -q ready "$TMPDIR/said" && break
	sleep 0.02
done
grep -q ready "$TMPDIR/said" || skip "the state cannot be had here: $(tail -n 1 "$TMPDIR/said")"
sed -n 's/^fact //p' "$TMPDIR/said" >"$TMPDIR/facts"

image=$TMPDIR/image
for options in "" "--image-format criu"; do
	# shellcheck disable=SC2086 # options are words
	stasis dump -t $pid -D "$image" -R $options || die "dump $options: exit $RC: $ERR"
	stasis verify "$image" || bad "verify: $ERR"
	tests/lib/check_image.py "$image" "$TMPDIR/facts" >"$TMPDIR/diff" 2>&1 ||
		bad "queues $options: $(head -n 5 "$TMPDIR/diff")"
	stasis show "$image" || bad "show: exit $RC: $ERR"
	python3 - "$TMPDIR/said" <(echo "$OUT") <<-'X' || bad "state $options"
		import json, sys
		said = [l.split() for l in open(sys.argv[1])]
		proc = json.load(open(sys.argv[2]))["processes"][0]
		wrong = 0
		for words in said:
		    if words[0] not in ("show", "near"):
		        continue
		    have = proc
		    for key in words[1].split("."):
		        have = have[int(key) if key.isdigit() else key]
		    want = json.loads(words[2])
		    # A timer has run on for a while, but not for a minute.
		    unit = 10**9 if words[1].endswith("_ns") else 10**6
		    if have != want if words[0] == "show" else not want - 60 * unit < have <= want:
		        print(f"{words[1]} is {have}, not {want}")
		        wrong += 1
		sys.exit(wrong > 0)
	X
	rm -rf "$image"
done
kill -0 $pid || bad "it is gone"
finish
