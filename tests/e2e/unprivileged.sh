#!/bin/bash
# SPDX-License-Identifier: MIT
# One's own processes, dumped by an ordinary user: the same contents, or a refusal in plain words.
. "$(dirname "$0")/../lib/e2e.sh"
need_root
need_program setpriv

cp "$STASIS" "$VICTIM" "$TMPDIR/"
chmod 755 "$TMPDIR/stasis" "$TMPDIR/victim"
for p in stasis victim; do
	cat >"$TMPDIR/as-nobody-$p" <<-X
		#!/bin/sh
		exec setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all --bounding-set=-all \\
			--no-new-privs "$TMPDIR/$p" "\$@"
	X
	chmod 755 "$TMPDIR/as-nobody-$p"
done
real=$STASIS
"$TMPDIR/as-nobody-stasis" check >"$TMPDIR/check" 2>&1
if grep -q '^NO *clone3 set_tid' "$TMPDIR/check" && grep -q '^A dump is possible' "$TMPDIR/check"; then
	grep -q '^A dump is possible here, a restore is not' "$TMPDIR/check" ||
		bad "check of a user who cannot restore: $(tail -n 1 "$TMPDIR/check")"
else
	grep -q '^A dump and a restore are possible' "$TMPDIR/check" && bad "check: a user may restore: $(<"$TMPDIR/check")"
fi
mkdir -m 777 "$TMPDIR/open"
image=$TMPDIR/open/image
dumped=0
for s in plain shared memfd threads filepriv regs tree pending; do
	dir=$TMPDIR/open/$s
	mkdir -m 777 "$dir"
	VICTIM=$TMPDIR/as-nobody-victim
	victim_start "$dir" "$s" || {
		echo "$s: not here: $WHY"
		continue
	}
	VICTIM=$TMPDIR/victim
	STASIS=$TMPDIR/as-nobody-stasis
	for format in stasis criu; do
		rm -rf "$image"
		if stasis dump -t "$VPID" -D "$image" -R --no-log --image-format $format; then
			dumped=$((dumped + 1))
			stasis verify "$image" || bad "$s, $format: verify: $ERR"
			tests/lib/check_image.py "$image" "$dir/facts" >"$TMPDIR/diff" 2>&1 ||
				bad "$s, $format: $(head -n 5 "$TMPDIR/diff")"
		else
			message_ok "$s, $format"
			nothing_left "$image" "$s, $format"
			case $RC in
			7 | 16) echo "$s, $format: refused: $ERR" ;;
			*) bad "$s, $format: exit code $RC: $ERR" ;;
			esac
		fi
		nobody_traces "$VPID" "$s, $format"
		victim_ok "$dir" "after an unprivileged dump ($format)"
	done
	STASIS=$real
	victim_end "$dir" "at the end"
done
echo "$dumped images"
[ $dumped -gt 0 ] || skip "processes of one's own cannot be traced here (kernel.yama.ptrace_scope)"
finish
