#!/bin/bash
# SPDX-License-Identifier: MIT
# Tests on Debian's Linux 6.1 for s390x.
# timeout: 900
. "$(dirname "$0")/../lib/vm.sh"
vm_main s390x 6.1 "$@"
