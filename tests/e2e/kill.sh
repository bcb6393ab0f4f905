#!/bin/bash
# SPDX-License-Identifier: MIT
# Kills the tool, the guardian and both at a few hundred instants under threads that check themselves.
# builds: plain
# timeout: 600
prog=$BUILD/tests/killtest
[ -x "$prog" ] || { echo "no kill test for this CPU"; exit 77; }
exec "$prog" "${1:-${KILLS:-300}}" "${KILL_SEED:-$((RANDOM))}"
