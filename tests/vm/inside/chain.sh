#!/bin/bash
# SPDX-License-Identifier: MIT
# A process that writes is dumped while it runs: a chain by what the kernel tracks, each way of tracking, a kernel without calls.
# timeout: 300
. "$(dirname "$0")/../../lib/e2e.sh"
need_root
with_reaper "$@"
. tests/lib/real.sh
. tests/lib/precopy.sh
NOSYS=$(realpath -m "$BUILD/tests/lib/nosys")

i=$TMPDIR/i
size() { stat -c %s "$1/memory.stasis"; }
field() { sed -n "s/.*\"$1\": *\"\\{0,1\\}\\([a-z0-9-]*\\).*/\\1/p" <<<"$OUT"; }
brought_back() { # LABEL IMAGE
	kill_tree
	until_true 100 all_ended || die "$1: not all have ended: ${TREE[*]}"
	stasis restore -D "$2" -d --quiet || die "$1: restore: exit $RC: $ERR"
	victim_ok "$TMPDIR/v" "after a restore ($1)"
}

# By soft-dirty marks a huge page is written as a whole, and nothing would be small.
echo madvise >/sys/kernel/mm/transparent_hugepage/enabled
victim_start "$TMPDIR/v" chain --rate 20 --mib 8 --threads 2 || die "$WHY"
PID=$VPID
disown "$PID"

# Two that hold what has changed since the last one.
stasis pre-dump -t "$PID" -D "$i.0" --json || die "pre-dump: exit $RC: $ERR"
have=$(field tracking)
echo "tracking: $have"
# Linux 6.1 has nothing for it on aarch64; every other of these kernels has soft-dirty marks or more.
case $(uname -mr) in
6.1.*aarch64) ;;
*) [ "$have" != none ] || bad "nothing is tracked here: $OUT" ;;
esac
for n in 1 2; do
	stasis dump -t "$PID" -D "$i.$n" -R --json --track-mem --prev-images-dir "../i.$((n - 1))" ||
		die "dump $n: exit $RC: $ERR"
	[ "$have" = none ] || [ "$(field compared)" = false ] ||
		bad "dump $n: contents were compared though writes had been tracked"
	[ $(($(size "$i.$n") * 2)) -lt "$(size "$i.0")" ] ||
		bad "dump $n: $(size "$i.$n") bytes, the first one had $(size "$i.0")"
done
brought_back "a chain of three" "$i.2"

# Each way that this kernel has, with a codec each.
codecs=(lz4 zstd:1 none) n=0
for way in uffd soft-dirty none; do
	rm -rf "$TMPDIR/image"
	if stasis dump -t "$PID" -D "$TMPDIR/image" -R --json --tracking $way --compress "${codecs[n % 3]}"; then
		count_way
		n=$((n + 1))
		[ $way = none ] || brought_back "$way" "$TMPDIR/image"
	else
		echo "--tracking $way: not here: ${ERR%%$'\n'*}"
		nothing_left "$TMPDIR/image" "--tracking $way"
	fi
done
[ $n -gt 1 ] || [ "$have" = none ] || bad "ways of tracking that work here: $n"
echo "images by: $(ways_used)"

# A kernel that has none of the newer calls.
real=$STASIS
printf '#!/bin/bash\nexec "%s" %s -- "%s" "$@"\n' "$NOSYS" \
	"pagemap_scan io_uring_setup close_range pidfd_getfd pidfd_open kcmp renameat2 userfaultfd" "$real" >"$TMPDIR/denied"
chmod 755 "$TMPDIR/denied"
rm -rf "$TMPDIR/image"
STASIS=$TMPDIR/denied
stasis dump -t "$PID" -D "$TMPDIR/image" -R --allow-findings || bad "without the newer calls: exit $RC: $ERR"
STASIS=$real
brought_back "without the newer calls" "$TMPDIR/image"
kill_tree
gone "$TMPDIR/v"
finish
