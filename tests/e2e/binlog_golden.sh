#!/bin/bash
# SPDX-License-Identifier: MIT
# Logs of every version and of several CPUs, kept in tests/golden with the text that snprintf made there.
#
# log-VERSION-CPU was written by the program of tests/lib/binlog_formats.py (100 formats, seed 7, 2 rounds).
. "$(dirname "$0")/../lib/e2e.sh"
. tests/lib/binlog.sh
need_program gzip

n=0
for log in tests/golden/log-*.blog.gz; do
	name=$(basename "$log" .blog.gz)
	gzip -dc "$log" >"$TMPDIR/log"
	gzip -dc "tests/golden/$name.txt.gz" >"$TMPDIR/text"
	"$BINDECODE" --raw -o "$TMPDIR/got" "$TMPDIR/log" || bad "$name: bindecode"
	same "$name" "$TMPDIR/text" "$TMPDIR/got"
	"$BINDECODE" --check "$TMPDIR/log" >"$TMPDIR/check" || bad "$name: $(<"$TMPDIR/check")"
	n=$((n + 1))
done
[ $n -ge 3 ] || bad "only $n logs"
finish
