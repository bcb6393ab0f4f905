#!/bin/bash
# SPDX-License-Identifier: MIT
# How long a process stands still while it is dumped, seen from inside, beside other tools: see downtime.py.
#
# DOWNTIME="--full --rounds 7" are its arguments, by default the short ones; CRIU=/path/to/criu is measured too.
cd "$(dirname "$0")/../.." || exit 1
export BUILD=${BUILD:-build/$(uname -m)}
# shellcheck disable=SC2086 # options are words
exec python3 tests/bench/downtime.py ${DOWNTIME:-} "$@"
