#!/bin/bash
# SPDX-License-Identifier: MIT
# How fast bindecode prints records, on one CPU; and that a killed writer's 20,000 calls are all there.
. "$(dirname "$0")/../lib/e2e.sh"

bindecode=$BUILD/bindecode
log=$TMPDIR/log
calls=${BINLOG_CALLS:-10000000}
bar=10000000

"$BUILD/tests/bench/binlog" --write "$log" "$calls" || die "the writer failed"
cat "$log" >/dev/null
for form in "" "--raw" "--wall" "--stats" "--check" "-F csv" "-F json" "-F trace"; do
	python3 - "$calls" "$bar" "$form" "$bindecode" "$log" <<-'X' || bad "$form: see above"
		import json, resource, statistics, subprocess, sys
		calls, bar, form, program, log = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], *sys.argv[4:]
		seconds = []
		for _ in range(5):
		    before = resource.getrusage(resource.RUSAGE_CHILDREN)
		    subprocess.run([program, *form.split(), "-o", "/dev/null", log], check=True)
		    after = resource.getrusage(resource.RUSAGE_CHILDREN)
		    seconds.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
		rate = calls / statistics.median(seconds)
		row = {"bench": "binlog_decode", "row": form or "text with prefix", "records": calls,
		       "per_second_and_core": round(rate), "ns_per_record": round(1e9 / rate, 1)}
		judged = form in ("", "--raw", "--wall", "--stats", "--check")
		if judged:
		    row.update(bar=bar, ok=rate >= bar)
		print(json.dumps(row))
	X
done
rm "$log"

"$BUILD/tests/bench/binlog" --killed "$log" 20000
got=$("$bindecode" --raw "$log" | grep -c '^call ')
echo "{\"bench\":\"binlog_decode\",\"row\":\"20,000 calls, then SIGKILL\",\"decoded\":$got,\"bar\":20000,\"ok\":$(
	[ "$got" = 20000 ] && echo true || echo false
)}"
[ "$got" = 20000 ] || bad "$got of 20,000 calls are there"
finish
