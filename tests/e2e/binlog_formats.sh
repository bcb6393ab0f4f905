#!/bin/bash
# SPDX-License-Identifier: MIT
# 1,600 formats of every shape with random arguments: decoded text is snprintf's, byte for byte.
# timeout: 300
. "$(dirname "$0")/../lib/e2e.sh"
. tests/lib/binlog.sh
need_program gcc clang-14 python3

formats=$TMPDIR/formats
mkdir "$formats"
tests/lib/binlog_formats.py "$formats" 1600 "${SEED:-1}" || die "no programs were made"

check() { # CC FLAGS...
	local cc=$1 dir=$TMPDIR/$1
	shift
	library "$cc" "$dir"
	compile "$cc" "$dir/formats" -w -I"$formats" "$@" -- "$formats"/*.c
	"$cc" -pthread -o "$dir/prog" "$dir/formats"/*.o "$dir/lib"/*.o || die "$cc cannot link"
	"$dir/prog" "$dir/log" "$dir/text" 10 || die "$cc: the writer failed"
	"$BINDECODE" --raw -o "$dir/got" "$dir/log" || bad "$cc: bindecode"
	same "$cc" "$dir/text" "$dir/got"
	[ "$(wc -l <"$dir/got")" = 16000 ] || bad "$cc: $(wc -l <"$dir/got") lines instead of 16000"
	"$BINDECODE" --check "$dir/log" >"$dir/check" || bad "$cc: $(<"$dir/check")"
	grep -q ' 16000  records' "$dir/check" || bad "$cc: $(<"$dir/check")"

	"$dir/prog" "$dir/log" "$dir/text" 3 sink || die "$cc: the writer failed with a sink"
	"$BINDECODE" --raw -o "$dir/got" "$dir/log" || bad "$cc: bindecode, with a sink"
	same "$cc, the sink's text" "$dir/text" "$dir/got"
}

check gcc -O1
check clang-14 -O0
finish
