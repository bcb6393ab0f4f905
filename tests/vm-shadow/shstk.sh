#!/bin/bash
# SPDX-License-Identifier: MIT
# User shadow stacks of x86-64, under Bochs.
# timeout: 900
. "$(dirname "$0")/../lib/vm_shadow.sh"
vm_shadow_main shstk
