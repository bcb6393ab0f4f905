#!/bin/bash
# SPDX-License-Identifier: MIT
# Pages that a family shares since it was forked stay shared under a dump, are stored once, and are
# shared again after a restore.
# timeout: 600
# builds: plain asan
. "$(dirname "$0")/../lib/e2e.sh"
need_root
with_reaper "$@"

N=8
declare -A SIZE=(["--compress lz4"]=256) # MiB; 64 for the others
case $BUILD in *-asan) SIZE=(["--compress lz4"]=24 ["--compress zstd"]=24 ["--image-format criu"]=24) ;; esac

# The pids of the tree, a line each, its root first.
tree_pids() { # PID
	local p children
	echo "$1"
	read -ra children < <(cat /proc/"$1"/task/*/children 2>/dev/null | tr '\n' ' ')
	for p in "${children[@]}"; do
		tree_pids "$p"
	done
}

# The memory of the tree in KiB, what is shared counted once.
pss() { # PID
	local p sum=0
	for p in $(tree_pids "$1"); do
		sum=$((sum + $(awk '/^Pss:/ { print $2 }' "/proc/$p/smaps_rollup")))
	done
	echo "$sum"
}

# More than 1.3 times what it was?
compare() { # LABEL BEFORE
	local now
	now=$(pss "$VPID")
	echo "$1: $2 KiB before, $now after"
	[ $((now * 10)) -le $(($2 * 13)) ] || bad "$1: the tree had $2 KiB and has $now"
}

restore() { # LABEL
	stasis restore -D "$TMPDIR/image" -d || {
		bad "$1: restore: exit $RC: $ERR"
		return 1
	}
	nobody_traces "$VPID" "$1"
	victim_ok "$TMPDIR/v" "$1"
}

all_ended() { # PID...
	local p i
	for ((i = 0; i < 100; i++)); do
		for p; do
			[ ! -e "/proc/$p" ] || break
		done
		[ -e "/proc/$p" ] || return 0
		sleep 0.05
	done
	return 1
}

for format in "--compress lz4" "--compress zstd" "--compress none" "--image-format criu"; do
	victim_start "$TMPDIR/v" cow --size "${SIZE[$format]:-64}" --n $N || die "$WHY"
	before=$(pss "$VPID")
	mapfile -t tree < <(tree_pids "$VPID")
	# shellcheck disable=SC2086 # options are words
	stasis dump -t "$VPID" -D "$TMPDIR/image" -R $format || die "$format: dump -R: $ERR"
	compare "$format, which goes on" "$before"
	"$STASIS" verify "$TMPDIR/image" 2>"$TMPDIR/verify" || bad "$format: verify: $(<"$TMPDIR/verify")"
	victim_ok "$TMPDIR/v" "$format, which goes on"
	kill -KILL "${tree[@]}"
	all_ended "${tree[@]}" || die "they do not end"
	if restore "$format"; then
		compare "$format" "$before"
		rm -rf "$TMPDIR/image"
		# shellcheck disable=SC2086 # options are words
		stasis dump -t "$VPID" -D "$TMPDIR/image" $format || die "$format, twice: dump: $ERR"
		# In one go: once. A pre-copy, as above, stores them for each.
		stored=$(du -k "$TMPDIR/image/memory.stasis" 2>/dev/null | cut -f 1)
		[ $((${stored:-0} * 10)) -le $((before * 13)) ] || bad "$format, twice: $stored KiB are stored"
		all_ended "${tree[@]}" || die "they do not end"
		restore "$format, twice" && compare "$format, twice" "$before"
	fi
	victim_end "$TMPDIR/v" "($format)"
	rm -rf "$TMPDIR/image" "$TMPDIR/v"
done

# A child of an image that has pages as those of another process, and one of both.
victim_start "$TMPDIR/v" cow --size 24 --n $N || die "$WHY"
before=$(pss "$VPID")
mapfile -t tree < <(tree_pids "$VPID")
stasis dump -t "$VPID" -D "$TMPDIR/image.0" -R --tracking none --json || die "the first of two: dump: $ERR"
[[ $OUT =~ \"same_bytes\":\ *[1-9] ]] || bad "the first of two stores pages for each: $OUT"
stasis dump -t "$VPID" -D "$TMPDIR/image" -R --prev-images-dir ../image.0 || die "the second of two: dump: $ERR"
read -r first second < <(stat -c %s "$TMPDIR/image.0/memory.stasis" "$TMPDIR/image/memory.stasis" | paste -s)
[ $((second * 10)) -lt "$first" ] || bad "the second of two has $second bytes, the first one had $first"
stasis verify "$TMPDIR/image" || bad "two: verify: $ERR"
stasis squash "$TMPDIR/image" -o "$TMPDIR/whole" || bad "two: squash: $ERR"
# A reader that shares no code with the program finds the same in both.
for p in "${tree[@]:0:2}"; do
	two=$(tests/lib/read_stasis.py "$TMPDIR/image/memory.stasis" "$p" | cksum)
	one=$(tests/lib/read_stasis.py "$TMPDIR/whole/memory.stasis" "$p" | cksum)
	[[ $two = "$one" && $two != *" 0" ]] || bad "process $p of two images and of the one made of them: $two, $one"
done
victim_ok "$TMPDIR/v" "two, which goes on"
kill -KILL "${tree[@]}"
all_ended "${tree[@]}" || die "they do not end"
restore "two" && compare "two" "$before"
mapfile -t tree < <(tree_pids "$VPID")
kill -KILL "${tree[@]}"
all_ended "${tree[@]}" || die "they do not end"
mv "$TMPDIR/image" "$TMPDIR/image.1"
mv "$TMPDIR/whole" "$TMPDIR/image"
restore "two, made one" && compare "two, made one" "$before"
victim_end "$TMPDIR/v" "(two)"
rm -rf "$TMPDIR"/image* "$TMPDIR/v"

# Who may not see frame numbers stores every page; the restore compares.
need_program setpriv
victim_start "$TMPDIR/v" cow --size 24 --n $N || die "$WHY"
before=$(pss "$VPID")
mapfile -t tree < <(tree_pids "$VPID")
setpriv --bounding-set -sys_admin "$STASIS" dump -t "$VPID" -D "$TMPDIR/image" --json >"$TMPDIR/json" 2>"$TMPDIR/err" </dev/null ||
	die "without CAP_SYS_ADMIN: dump: $(<"$TMPDIR/err")"
grep -q '"same_bytes": *0[,}]' "$TMPDIR/json" || bad "without CAP_SYS_ADMIN: $(<"$TMPDIR/json")"
all_ended "${tree[@]}" || die "they do not end"
restore "without CAP_SYS_ADMIN" && compare "without CAP_SYS_ADMIN" "$before"
victim_end "$TMPDIR/v" "(without CAP_SYS_ADMIN)"
finish
