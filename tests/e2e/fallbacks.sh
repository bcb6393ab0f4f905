#!/bin/bash
# SPDX-License-Identifier: MIT
# Kernels and containers without PAGEMAP_SCAN, io_uring, userfaultfd: dumped, copied while it runs, chained, ended and brought
# back all the same, each by another way, which is told.
# timeout: 300
# builds: plain asan
. "$(dirname "$0")/../lib/e2e.sh"
need_root
with_reaper "$@"
. tests/lib/real.sh

NOSYS=$(realpath -m "$BUILD/tests/lib/nosys")
"$NOSYS" kcmp -- /bin/true || skip "no seccomp filters here"
real=$STASIS
i=$TMPDIR/i

# What follows runs without these calls.
without() {
	printf '#!/bin/bash\nexec "%s" %s -- "%s" "$@"\n' "$NOSYS" "$*" "$real" >"$TMPDIR/denied"
	chmod 755 "$TMPDIR/denied"
	STASIS=$TMPDIR/denied
}
field() { sed -n "s/.*\"$1\": *\"\\{0,1\\}\\([a-z0-9-]*\\).*/\\1/p" <<<"$OUT"; }
# started DIR SCENARIO...: PID, VPID.
started() {
	victim_start "$@" || die "$WHY"
	PID=$VPID
	disown "$PID"
}
# brought_back LABEL DIR IMAGE OPTIONS...: after its end.
brought_back() {
	local label=$1 dir=$2 image=$3
	shift 3
	kill_tree
	until_true 100 all_ended || die "$label: not all have ended: ${TREE[*]}"
	stasis restore -D "$image" -d "$@" || die "$label: restore: exit code $RC: $ERR"
	nobody_traces "$PID" "$label"
	victim_ok "$dir" "after a restore ($label)"
}
ended() { # DIR
	kill_tree
	until_true 100 all_ended || die "$1: not all have ended"
	gone "$1"
	rm -rf "$1"
}

# What is there when nothing is denied, so that what is not says something.
started "$TMPDIR/v" chain --rate 20 --mib 8 --threads 2
stasis dump -t "$PID" -D "$i" -R --json --no-log || die "dump: $ERR"
tracked=$(field tracking) uring=$(field io_uring)
echo "not denied: tracking $tracked, io_uring $uring"
rm -rf "$i"

# The other way to a userfaultfd, in a mount namespace of ours alone: a container has no such device.
hidden=
if [ -e /dev/userfaultfd ] && [ "$(cat /proc/1/comm)" = reaper ]; then
	mount --bind /dev/null /dev/userfaultfd && MOUNTS+=(/dev/userfaultfd)
fi
if [ ! -e /dev/userfaultfd ] || [ /dev/userfaultfd -ef /dev/null ]; then hidden=1; fi

# One process that writes all the time, of which each image has to be of one instant.
for d in pagemap_scan io_uring_setup:1 userfaultfd:1 "pagemap_scan io_uring_setup:1 userfaultfd:1"; do
	rm -rf "$i".*
	without "$d"
	stasis pre-dump -t "$PID" -D "$i.0" --json --no-log || die "without $d: pre-dump: exit code $RC: $ERR"
	echo "without $d: tracking $(field tracking), io_uring $(field io_uring)"
	case $d:$(field tracking) in
	*pagemap_scan*:uffd) bad "without $d: tracked by userfaultfd" ;;
	userfaultfd*:uffd) [ -z "$hidden" ] || bad "without $d: tracked by userfaultfd" ;;
	io_uring*:"$tracked") ;;
	io_uring*) bad "without $d: tracking $(field tracking)" ;;
	esac
	[[ $d != *io_uring* ]] || [ "$(field io_uring)" = false ] || bad "without $d: io_uring is told"
	if [ "$(field tracking)" = none ]; then
		[[ $ERR == *"note: writes are not tracked from here on"* ]] || bad "without $d: that no keeper stays is not told: $ERR"
		case $d in
		*pagemap_scan*) why="no PAGEMAP_SCAN" ;;
		userfaultfd*) why="no userfaultfd WP_ASYNC (Linux 6.7): Operation not permitted" ;;
		*) why= ;;
		esac
		[[ $ERR == *"note: no pre-copy: $why"* ]] || bad "without $d: not the true reason, $why: $ERR"
	fi
	victim_ok "$TMPDIR/v" "after a pre-dump without $d"
	stasis dump -t "$PID" -D "$i.1" -R --track-mem --prev-images-dir ../i.0 --no-log ||
		die "without $d: an incremental dump: exit code $RC: $ERR"
	victim_ok "$TMPDIR/v" "after an incremental dump without $d"
	stasis dump -t "$PID" -D "$i.2" --prev-images-dir ../i.1 --no-log ||
		die "without $d: the last of a chain: exit code $RC: $ERR"
	stasis verify "$i.2" || bad "without $d: verify: $ERR"
	brought_back "a chain without $d" "$TMPDIR/v" "$i.2"
	if [[ $d = *userfaultfd* ]]; then
		grep -q 'without userfaultfd: ' <<<"$ERR" || bad "without $d: a restore does not tell: $ERR"
	else
		grep -q 'without userfaultfd' <<<"$ERR" && bad "without $d: a restore has no userfaultfd: $ERR"
	fi
	grep -q 'runs with seccomp filters' <<<"$ERR" || bad "without $d: filters are not told: $ERR"
	# Those of the restoring command are the victim's now.
	STASIS=$real
	for way in "--tracking none" "--image-format criu" ""; do
		rm -rf "$i.3"
		# shellcheck disable=SC2086 # options are words
		stasis dump -t "$PID" -D "$i.3" -R --no-log $way || bad "the victim without $d, $way: exit code $RC: $ERR"
		victim_ok "$TMPDIR/v" "after a dump, itself without $d, $way"
	done
	brought_back "itself without $d" "$TMPDIR/v" "$i.3" --quiet
	# As new, for those that follow.
	ended "$TMPDIR/v"
	started "$TMPDIR/v" chain --rate 20 --mib 8 --threads 2
done
ended "$TMPDIR/v"

# Memory of every kind, into processes that cannot be filled by userfaultfd.
for s in cow family protnone thp shared filepriv wide; do
	dir=$TMPDIR/$s
	rm -rf "$i.4"
	case $s in
	wide) started "$dir" $s --n 20 ;;
	*) started "$dir" $s ;;
	esac
	stasis dump -t "$PID" -D "$i.4" --no-log || die "$s: dump: exit code $RC: $ERR"
	without userfaultfd
	brought_back "$s without userfaultfd" "$dir" "$i.4"
	grep -q 'without userfaultfd: ' <<<"$ERR" || bad "$s: a restore does not tell: $ERR"
	STASIS=$real
	ended "$dir"
done

# Both in one container: who has filters may not read those of others, and says so.
printf '#!/bin/bash\nexec "%s" userfaultfd -- "%s" "$@"\n' "$NOSYS" "$VICTIM" >"$TMPDIR/victim"
chmod 755 "$TMPDIR/victim"
plain=$VICTIM
VICTIM=$TMPDIR/victim started "$TMPDIR/inside" plain
VICTIM=$plain
without userfaultfd
stasis dump -t "$PID" -D "$i.5" -R --no-log
echo "both with filters: exit code $RC: $ERR"
if [ "$RC" != 0 ]; then
	message_ok "both with filters"
	grep -q seccomp <<<"$ERR" || bad "both with filters: not said why: $ERR"
	nothing_left "$i.5" "both with filters"
fi
victim_ok "$TMPDIR/inside" "both with filters"
STASIS=$real
ended "$TMPDIR/inside"
finish
