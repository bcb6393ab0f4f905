#!/bin/bash
# SPDX-License-Identifier: MIT
# Pages that are swapped out belong to the image, however the page tables are looked at.
# alone
. "$(dirname "$0")/../lib/e2e.sh"
need_root
need_program mkswap swapon

NOSYS=$(realpath -m "$BUILD/tests/lib/nosys")
image=$TMPDIR/image

n=$(cat /sys/class/zram-control/hot_add 2>/dev/null) || skip "no zram here"
swap=/dev/zram$n
drop_swap() {
	swapoff "$swap" 2>/dev/null
	echo "$n" >/sys/class/zram-control/hot_remove
	cleanup
}
trap drop_swap EXIT
if ! echo 256M >"/sys/block/zram$n/disksize" || ! mkswap "$swap" >/dev/null 2>&1 ||
	! swapon "$swap" 2>/dev/null; then
	skip "no swap on zram here"
fi

swapped() {
	awk '/^VmSwap:/ { print $2 }' "/proc/$1/status"
}

for s in plain "heap --size 8 --pattern half" sparse; do
	dir=$TMPDIR/${s%% *}
	# shellcheck disable=SC2086 # options are words
	victim_start "$dir" $s || die "$WHY"
	for way in PAGEMAP_SCAN pagemap criu; do
		# Pages that are on their way to a list of the kernel's are passed over: once more. Asked once: the
		# victim looks at its memory from time to time, and has it back.
		for _ in {1..50}; do
			"$BUILD/tests/lib/pageout" "$VPID" 2>"$TMPDIR/why" ||
				skip "nothing can be swapped out here: $(<"$TMPDIR/why")"
			kib=$(swapped "$VPID")
			[ "$kib" -le 500 ] || break
			sleep 0.1
		done
		[ "$kib" -gt 500 ] || die "$s: only $kib KiB are swapped out"
		options=()
		real=$STASIS
		case $way in
		pagemap)
			printf '#!/bin/bash\nexec "%s" pagemap_scan -- "%s" "$@"\n' "$NOSYS" "$real" >"$TMPDIR/denied"
			chmod 755 "$TMPDIR/denied"
			STASIS=$TMPDIR/denied
			;;
		criu) options=(--image-format criu) ;;
		esac
		stasis dump -t "$VPID" -D "$image" -R --no-log "${options[@]}" || bad "$s, $way: exit $RC: $ERR"
		STASIS=$real
		stasis verify "$image" || bad "$s, $way: verify: $ERR"
		tests/lib/check_image.py "$image" "$dir/facts" >"$TMPDIR/diff" 2>&1 ||
			bad "$s, $way: $(head -n 5 "$TMPDIR/diff")"
		rm -rf "$image"
		victim_ok "$dir" "after a dump of swapped pages ($way)"
	done
	victim_end "$dir" "at the end"
done
finish
