#!/bin/bash
# SPDX-License-Identifier: MIT
# Tests on Debian's Linux 6.12 for ppc64le.
# timeout: 900
. "$(dirname "$0")/../lib/vm.sh"
vm_main ppc64le 6.12 "$@"
