#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Are the victim's shadow stacks in what `stasis show` says of its image? shadow_shown.py gcs|shstk <JSON"""
import json
import sys

WORKERS = 10  # the victim's, and as many that two of them have made; every other one is locked

kind = sys.argv[1]
process = json.load(sys.stdin)["processes"][0]
problems = []
name = {"gcs": "NT_ARM_GCS", "shstk": "NT_X86_SHSTK"}[kind]
with_set = [t for t in process["threads"] if any(s["name"] == name for s in t["register_sets"])]
stacks = [m for m in process["mappings"] if "ss" in m["vmflags"].split()]
# Where the set is always there, the main thread has it, too.
want = WORKERS + 2 + (kind == "gcs")
if len(with_set) != want:
    problems.append("%d threads of %d have %s" % (len(with_set), want, name))
if len(stacks) < 4:
    problems.append("%d mappings are shadow stacks" % len(stacks))
if kind == "shstk":
    on = [t["shadow_stack"] for t in process["threads"] if "shadow_stack" in t]
    both = [s for s in on if s["features"] == "0x3"]
    locked = [s for s in on if s["locked"] == "0x3"]
    if len(on) != want or len(both) != 2 or len(locked) != want // 2:
        problems.append("features and locks: %s" % on)
for problem in problems:
    print("BAD:", problem)
sys.exit(bool(problems))
