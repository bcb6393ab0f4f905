#!/bin/bash
# SPDX-License-Identifier: MIT
# Runs every libFuzzer program of a build directory for a while, on a copy of its corpus.
#
#	tests/lib/fuzz.sh BUILD SECONDS
set -u
cd "$(dirname "$0")/../.." || exit 1
build=$1 seconds=$2 bad=0

for f in "$build"/tests/fuzz/*; do
	if [ ! -f "$f" ] || [ ! -x "$f" ]; then continue; fi
	name=${f##*/}
	work=$build/corpus/$name
	mkdir -p "$work" "$build/findings"
	seeds=tests/fuzz/corpus/$name
	[ -d "$seeds" ] || seeds=
	echo "fuzz $name, $seconds s"
	# shellcheck disable=SC2086 # no seeds, no argument
	if ! "$f" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -verbosity=0 \
		-print_final_stats=1 -artifact_prefix="$build/findings/$name-" "$work" $seeds; then
		echo "fuzz $name: found something, see $build/findings/$name-*"
		bad=1
	fi
done
exit $bad
