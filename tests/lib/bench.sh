#!/bin/bash
# SPDX-License-Identifier: MIT
# Runs the benchmarks one after another; each prints JSON lines, which are kept in build/bench.jsonl.
#
#	BUILD=... STASIS=... [OUT=build/bench.jsonl] tests/lib/bench.sh [NAME...]
set -u
cd "$(dirname "$0")/../.." || exit 1
out=${OUT:-build/bench.jsonl} bad=0
: >"$out"

cpu=$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1)
printf '{"bench":"machine","cpu":"%s","cpus":%d,"kernel":"%s","mem_mib":%d,"commit":"%s"}\n' \
	"$cpu" "$(nproc)" "$(uname -r)" "$(awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo)" \
	"$(git rev-parse --short HEAD 2>/dev/null || echo none)" | tee -a "$out"
for f in "$BUILD"/tests/bench/* tests/bench/*.sh; do
	if [ ! -f "$f" ] || [ ! -x "$f" ]; then continue; fi
	# What others are measured against or by is run by them.
	case ${f##*/} in floor_* | ticker | pinger) continue ;; esac
	if [ $# -gt 0 ]; then
		case " $* " in *" $(basename "$f" .sh) "*) ;; *) continue ;; esac
	fi
	echo "# $f" >&2
	"$f" | tee -a "$out"
	[ "${PIPESTATUS[0]}" = 0 ] || {
		echo "$f failed" >&2
		bad=1
	}
done
exit $bad
