#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Runs a program and adds what it cost: tests/lib/rss.py PROGRAM ARGS...

Prints one JSON object: exit code, wall seconds, peak resident set of the largest process of it in KiB,
and the program's own JSON line under "run" if it printed one.
"""
import json
import resource
import subprocess
import sys
import time

began = time.monotonic()
p = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE)
out = {
    "exit": p.returncode,
    "wall_s": round(time.monotonic() - began, 4),
    "peak_rss_kib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss,
}
try:
    out["run"] = json.loads(p.stdout.strip().splitlines()[-1])
except (ValueError, IndexError):
    pass
print(json.dumps(out))
