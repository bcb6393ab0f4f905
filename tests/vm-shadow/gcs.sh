#!/bin/bash
# SPDX-License-Identifier: MIT
# Guarded control stacks of AArch64, under a QEMU and a kernel of newer Debians.
# timeout: 900
. "$(dirname "$0")/../lib/vm_shadow.sh"
vm_shadow_main gcs
