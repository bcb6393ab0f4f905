# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# What end-to-end tests of the log share: programs built from binlog/ and base/ alone. Source it after e2e.sh.

# shellcheck disable=SC2034 # for the tests
BINDECODE=$(realpath -m "$BUILD/bindecode")
[ -x "$BINDECODE" ] || die "$BINDECODE is not built"

# compile CC DIR FLAGS... -- SOURCES: objects to DIR, two at a time
compile() {
	local cc=$1 dir=$2 flags=()
	shift 2
	while [ "$1" != -- ]; do
		flags+=("$1")
		shift
	done
	shift
	mkdir -p "$dir"
	# shellcheck disable=SC2016 # expanded by the inner shell
	printf '%s\n' "$@" | xargs -P 2 -I '{}' sh -c 'o=$1/$(basename "$2" .c).o; shift; s=$1; shift
		exec "$@" -std=gnu11 -D_GNU_SOURCE -pthread -I. -c -o "$o" "$s"' sh "$dir" '{}' "$cc" "${flags[@]}" 2>"$dir/errors" ||
		die "$cc: $(head -n 20 "$dir/errors")"
}

# library CC DIR FLAGS...: the whole of binlog/ to DIR/lib, nothing of ours but base/ beside it
library() {
	local cc=$1 dir=$2
	shift 2
	compile "$cc" "$dir/lib" -O2 "$@" -- binlog/*.c
}

# program CC DIR NAME SOURCE [FLAGS...]: DIR/NAME from SOURCE and DIR/lib
program() {
	local cc=$1 dir=$2 name=$3 source=$4
	shift 4
	compile "$cc" "$dir/obj-$name" "$@" -- "$source"
	"$cc" -pthread -o "$dir/$name" "$dir/obj-$name"/*.o "$dir/lib"/*.o || die "$cc cannot link $name"
}

# same WHAT WANT GOT: byte for byte, and not empty
same() {
	[ -s "$2" ] || bad "$1: $2 is empty"
	cmp -s "$2" "$3" || bad "$1: $(cmp "$2" "$3" 2>&1): $(diff -a "$2" "$3" | head -n 6)"
}
