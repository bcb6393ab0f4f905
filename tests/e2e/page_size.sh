#!/bin/bash
# SPDX-License-Identifier: MIT
# An image of a kernel with other pages is read as such, and not restored: CRIU's too, which says it nowhere.
# builds: plain asan
. "$(dirname "$0")/../lib/e2e.sh"
need_program python3

own=$(getconf PAGESIZE)
refused() { # NAME PAGE SED: what makes the golden image one of that page size
	local dir=$TMPDIR/$1
	sed "$3" "tests/golden/$1.txt" >"$dir.txt"
	! cmp -s "tests/golden/$1.txt" "$dir.txt" || die "$1: nothing to change"
	PYTHONDONTWRITEBYTECODE=1 python3 tests/lib/mkimage.py "$dir.txt" "$dir" || die "$1: not made"
	stasis show "$dir"
	grep -q "\"page_size\": $2," <<<"$OUT" || bad "$1: show has another page size: $ERR"
	expect_refusal 6 "$1" restore -D "$dir" -d --no-log
	[[ $ERR == *"has pages of $2 bytes, this kernel of $own"* ]] || bad "$1: not said why: $ERR"
}

# AT_PAGESZ in the auxiliary vector, and mappings that begin and end at such pages.
refused criu-4.2 8192 's/^\t12 40$/\t12 40\n\t13 6\n\t13 8192/; s/^\(\t\t2 0x.\)1000$/\12000/; s/^\t\t3 4096$/\t\t3 8192/'
refused image-1.0 2048 's/^\(\t\t6 \)4096$/\12048/'
finish
