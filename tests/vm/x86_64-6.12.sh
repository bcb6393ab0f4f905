#!/bin/bash
# SPDX-License-Identifier: MIT
# Tests on Debian's Linux 6.12 for x86-64.
# timeout: 900
. "$(dirname "$0")/../lib/vm.sh"
vm_main x86_64 6.12 "$@"
