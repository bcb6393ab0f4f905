#!/bin/bash
# SPDX-License-Identifier: MIT
# Every victim is dumped in every format; image, second reader and victim must agree.
# timeout: 600
# builds: plain asan
. "$(dirname "$0")/../lib/e2e.sh"

# Those that never stand still have tests of their own (storms.sh); they are dumped here all the same,
# but what they wrote down about mappings that change is only what does not change.
scenarios=("$@")
if [ ${#scenarios[@]} -eq 0 ]; then
	mapfile -t scenarios < <("$VICTIM" --list | awk '{ print $1 }' |
		grep -vxE 'exiter|execstorm|forkstorm|threadstorm|reexec|leaderless|manyfds')
fi

# With sanitizers what is new is the tool's own memory: two formats see all of it.
EVERY_FORMAT=1
case $BUILD in *-asan) EVERY_FORMAT= ;; esac

options_of() {
	case $1 in
	vmas) echo "--n 3000" ;;
	heap) echo "--size 32" ;;
	esac
}

# One dump: verify, pycriu and second reader against the facts, victim right afterwards.
dump_one() { # SCENARIO DIR LABEL OPTIONS...
	local s=$1 dir=$2 label=$3 image=$2/image
	shift 3
	rm -rf "$image"
	if ! stasis dump -t "$VPID" -D "$image" -R "$@"; then
		bad "$s, $label: dump: exit $RC: $ERR"
		nothing_left "$image" "$s, $label"
		victim_ok "$dir" "after a failed dump ($label)"
		return
	fi
	[[ $ERR != *"could not be read"* ]] || bad "$s, $label: memory is missing: $ERR"
	nobody_traces "$VPID" "$s, $label"
	victim_ok "$dir" "after a dump ($label)" || return
	stasis verify "$image" || bad "$s, $label: verify: exit $RC: $OUT $ERR"
	tests/lib/check_image.py "$image" "$dir/facts" >"$dir/facts.out" 2>&1 ||
		bad "$s, $label: image and facts: $(head -n 20 "$dir/facts.out")"
	[ "$(stat -c %a "$image")" = 700 ] || bad "$s, $label: the directory's mode"
	[ -z "$(find "$image" -type f ! -perm 600)" ] || bad "$s, $label: a file's mode"
}

for s in "${scenarios[@]}"; do
	dir=$TMPDIR/$s
	reserved=
	if [[ $s = huge[ts]* && $(id -u) = 0 ]]; then
		reserved=$(</proc/sys/vm/nr_hugepages)
		echo 4 >/proc/sys/vm/nr_hugepages
	fi
	# shellcheck disable=SC2046 # options are words
	victim_start "$dir" "$s" $(options_of "$s")
	case $? in
	0)
		dump_one "$s" "$dir" default
		if [ -n "$EVERY_FORMAT" ]; then
			dump_one "$s" "$dir" none --compress none
			dump_one "$s" "$dir" lz4 --compress lz4:3 --threads 1
			dump_one "$s" "$dir" zstd --compress zstd:3 --block-size 64K
		fi
		dump_one "$s" "$dir" criu --image-format criu
		stasis show "$dir/image" || bad "$s: show: exit $RC: $ERR"
		python3 -c 'import json, sys; json.load(sys.stdin)' <<<"$OUT" || bad "$s: show is not JSON"
		stasis bt "$dir/image" || bad "$s: bt: exit $RC: $ERR"
		victim_end "$dir" "after all dumps"
		echo "$s: done"
		;;
	77) echo "$s: not here: $WHY" ;;
	esac
	[ -z "$reserved" ] || echo "$reserved" >/proc/sys/vm/nr_hugepages
	rm -rf "$dir"
done
finish
