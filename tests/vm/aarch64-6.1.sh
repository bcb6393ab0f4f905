#!/bin/bash
# SPDX-License-Identifier: MIT
# Tests on Debian's Linux 6.1 for AArch64.
# timeout: 900
. "$(dirname "$0")/../lib/vm.sh"
vm_main aarch64 6.1 "$@"
