#!/bin/bash
# SPDX-License-Identifier: MIT
# Places that cannot take an image: full at every stage, read-only, in use, failing.
# timeout: 300
. "$(dirname "$0")/../lib/e2e.sh"
need_root

victim_start "$TMPDIR/v" plain || die "$WHY"

refused() { # CODE WHAT DIR OPTIONS...
	local code=$1 what=$2 dir=$3
	shift 3
	expect_refusal "$code" "$what" dump -t "$VPID" -D "$dir" -R "$@"
	victim_ok "$TMPDIR/v" "after $what"
	nobody_traces "$VPID" "$what"
}

# --- existing places ----------------------------------------------------------------------------
mkdir "$TMPDIR/used"
echo precious >"$TMPDIR/used/file"
refused 10 "a directory in use" "$TMPDIR/used"
[ "$(cat "$TMPDIR/used/file")" = precious ] || bad "a directory in use was changed"
echo precious >"$TMPDIR/file"
refused 10 "a file in place of the directory" "$TMPDIR/file"
[ "$(cat "$TMPDIR/file")" = precious ] || bad "a file in use was changed"
mkdir "$TMPDIR/empty"
stasis dump -t "$VPID" -D "$TMPDIR/empty" -R || bad "an empty directory was refused: $RC $ERR"
stasis verify "$TMPDIR/empty" || bad "the image in an empty directory: $ERR"
refused 10 "a second image in the same place" "$TMPDIR/empty"
stasis verify "$TMPDIR/empty" || bad "the first image was damaged by the refused second: $ERR"
# Relative paths, a slash at the end, dots.
for d in rel/ ./rel ../"$(basename "$TMPDIR")"/rel; do
	(cd "$TMPDIR" && "$STASIS" dump -t "$VPID" -D "$d" -R >/dev/null 2>stderr) ||
		bad "path $d: $(cat "$TMPDIR/stderr")"
	stasis verify "$TMPDIR/rel" || bad "path $d: $ERR"
	rm -rf "$TMPDIR/rel"
done
stasis dump -t "$VPID" -D "$TMPDIR/no/such/place" -R && bad "a missing parent directory was made up"
message_ok "a missing parent"

# --- full ------------------------------------------------------------------------------------------
# From nothing to just enough; every size on the way ends a dump at another point.
full_walk() { # LABEL OPTIONS...
	local label=$1 size=4096 steps=0 mnt=$TMPDIR/small
	shift
	while :; do
		mount_tmpfs "$mnt" $size
		stasis dump -t "$VPID" -D "$mnt/image" -R "$@"
		if [ "$RC" = 0 ]; then
			stasis verify "$mnt/image" || bad "$label, $size bytes: verify: $ERR"
			unmount "$mnt"
			break
		fi
		[ "$RC" = 9 ] || bad "$label, $size bytes: exit code $RC: $ERR"
		message_ok "$label, $size bytes"
		[[ $ERR == *"$mnt/image"* ]] || bad "$label, $size bytes: which directory is full is not told: $ERR"
		nothing_left "$mnt/image" "$label, $size bytes"
		unmount "$mnt"
		steps=$((steps + 1))
		[ $steps -lt 200 ] || {
			bad "$label: still no success at $size bytes"
			break
		}
		size=$(((size + (size < 131072 ? 4096 : size / 16) + 4095) / 4096 * 4096))
	done
	victim_ok "$TMPDIR/v" "after the disk was full"
	nobody_traces "$VPID" "$label"
	[ $steps -gt 5 ] || bad "$label: only $steps sizes were too small"
	echo "full disk, $label: $steps sizes too small, $size bytes enough"
}
full_walk none --compress none
full_walk default
full_walk pwrite --no-io-uring
full_walk direct --direct
full_walk criu --image-format criu

# No room for file names rather than bytes.
for n in 2 3 4 6 8 10 12 14 16; do
	mount_tmpfs "$TMPDIR/few" 64m
	mount -o "remount,nr_inodes=$n" "$TMPDIR/few" || skip "nr_inodes"
	stasis dump -t "$VPID" -D "$TMPDIR/few/image" -R
	case $RC in
	0) ;;
	9)
		message_ok "$n inodes"
		nothing_left "$TMPDIR/few/image" "$n inodes"
		;;
	*) bad "$n inodes: exit code $RC: $ERR" ;;
	esac
	unmount "$TMPDIR/few"
done
victim_ok "$TMPDIR/v" "after inodes ran out"

# A limit on file size comes as a signal, too.
for kib in 0 1 64 256; do
	(
		ulimit -f $kib
		exec "$STASIS" dump -t "$VPID" -D "$TMPDIR/limited" -R --compress none
	) >/dev/null 2>"$TMPDIR/stderr.limited"
	RC=$?
	ERR=$(<"$TMPDIR/stderr.limited")
	[ $RC = 9 ] || bad "file size limit of $kib KiB: exit code $RC: $ERR"
	nothing_left "$TMPDIR/limited" "file size limit of $kib KiB"
done
victim_ok "$TMPDIR/v" "after file size limits"

# Descriptors run out.
for n in 4 6 8 10 12 16 20; do
	(
		ulimit -n $n
		exec "$STASIS" dump -t "$VPID" -D "$TMPDIR/limited" -R
	) >/dev/null 2>"$TMPDIR/stderr.limited"
	RC=$?
	ERR=$(<"$TMPDIR/stderr.limited")
	if [ $RC != 0 ]; then
		[ $RC -lt 100 ] || bad "limit of $n descriptors: exit code $RC: $ERR"
		nothing_left "$TMPDIR/limited" "limit of $n descriptors"
	fi
	rm -rf "$TMPDIR/limited"
done
victim_ok "$TMPDIR/v" "after descriptor limits"
nobody_traces "$VPID" "descriptor limits"

# --- read-only ------------------------------------------------------------------------------------
mount_tmpfs "$TMPDIR/ro" 64m
mount -o remount,ro "$TMPDIR/ro"
refused 11 "a read-only file system" "$TMPDIR/ro/image"
unmount "$TMPDIR/ro"
mkdir -m 555 "$TMPDIR/locked"
cp "$STASIS" "$TMPDIR/stasis-copy"
victim_start "$TMPDIR/creds" creds || die "$WHY"
setpriv --reuid 65534 --regid 65534 --clear-groups "$TMPDIR/stasis-copy" \
	dump -t "$VPID" -D "$TMPDIR/locked/image" -R >/dev/null 2>"$TMPDIR/stderr.locked"
RC=$?
ERR=$(<"$TMPDIR/stderr.locked")
case $RC in
7 | 11) message_ok "a directory without permission" ;;
*) bad "a directory without permission: exit code $RC: $ERR" ;;
esac
victim_end "$TMPDIR/creds" "after a directory without permission"

# --- failing: a zram disk that may not use the memory it needs answers with EIO ------------------
failing_disk() {
	local n mib=$1 opt=$2
	n=$(cat /sys/class/zram-control/hot_add 2>/dev/null) || return 1
	zram=/dev/zram$n
	echo 64M >"/sys/block/zram$n/disksize" && mkfs.ext2 -q "$zram" &&
		echo "$mib" >"/sys/block/zram$n/mem_limit" && mkdir -p "$TMPDIR/eio" &&
		mount "$zram" "$TMPDIR/eio" || return 1
	MOUNTS+=("$TMPDIR/eio")
	stasis dump -t "$BIG" -D "$TMPDIR/eio/image" -R --compress none "$opt"
	[ $RC = 12 ] || bad "a failing disk ($mib, $opt): exit code $RC: $ERR"
	message_ok "a failing disk"
	nothing_left "$TMPDIR/eio/image" "a failing disk"
	unmount "$TMPDIR/eio"
	echo "$n" >/sys/class/zram-control/hot_remove
}
victim_start "$TMPDIR/big" heap --size 24 --pattern random || die "$WHY"
BIG=$VPID
if failing_disk 1M --no-io-uring; then
	failing_disk 1M --direct
	failing_disk 8M --threads=1
else
	echo "no zram here: EIO is left to the failure points"
fi
victim_end "$TMPDIR/big" "after a failing disk"
victim_end "$TMPDIR/v" "at the end"
finish
