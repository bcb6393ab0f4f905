#!/bin/bash
# SPDX-License-Identifier: MIT
# Kernels and containers that lack a system call: the way round it gives the same image.
# timeout: 240
# builds: plain asan
. "$(dirname "$0")/../lib/e2e.sh"

NOSYS=$(realpath -m "$BUILD/tests/lib/nosys")
[ -x "$NOSYS" ] || die "$NOSYS is not built"
"$NOSYS" kcmp -- /bin/true || skip "no seccomp filters here"
real=$STASIS
image=$TMPDIR/image

# What follows runs without these calls.
without() {
	printf '#!/bin/bash\nexec "%s" %s -- "%s" "$@"\n' "$NOSYS" "$*" "$real" >"$TMPDIR/denied"
	chmod 755 "$TMPDIR/denied"
	STASIS=$TMPDIR/denied
}

# ENOSYS is 38, EPERM 1, EINVAL 22
denials=(pagemap_scan io_uring_setup io_uring_setup:1 io_uring_enter:1 io_uring_register:1 close_range
	pidfd_getfd pidfd_open kcmp renameat2 renameat2:22 madvise:22 userfaultfd
	"pagemap_scan io_uring_setup close_range pidfd_getfd pidfd_open kcmp renameat2 userfaultfd")

scenarios=(sparse filepriv shared thp files tree)
# An emulated machine is slow.
[ -z "${VM_OUT:-}" ] || denials=(io_uring_setup userfaultfd "${denials[-1]}") scenarios=(files)

for s in "${scenarios[@]}"; do
	dir=$TMPDIR/$s
	victim_start "$dir" "$s" || {
		echo "$s: not here: $WHY"
		continue
	}
	for d in "${denials[@]}"; do
		for format in stasis criu; do
			rm -rf "$image"
			without "$d"
			# Without pidfd_getfd nobody can tell what is in a socket: a reason to refuse.
			stasis dump -t "$VPID" -D "$image" -R --no-log --image-format $format --allow-findings
			STASIS=$real
			if [ "$RC" != 0 ]; then
				bad "$s, $format, without $d: exit code $RC: $ERR"
				continue
			fi
			victim_ok "$dir" "after a dump without $d"
			stasis verify "$image" || bad "$s, $format, without $d: verify: $ERR"
			tests/lib/check_image.py "$image" "$dir/facts" >"$TMPDIR/diff" 2>&1 ||
				bad "$s, $format, without $d: $(head -n 10 "$TMPDIR/diff")"
			if [[ $d == io_uring_[se]* ]] && [ $format = stasis ]; then
				without "$d"
				rm -rf "$image"
				stasis dump -t "$VPID" -D "$image" -R --no-log
				STASIS=$real
				[ "$(grep -c 'io_uring is not available' <<<"$ERR")" = 1 ] ||
					bad "without $d the fallback is not told once: $ERR"
			fi
		done
	done
	victim_end "$dir" "at the end"
done
finish
