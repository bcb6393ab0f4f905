#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes a program that has never heard of some register sets, of one that has.

    tests/lib/hide_sets.py PROGRAM NEW NOTE...     NOTE: of this machine's CPU

In the program's table of a CPU's sets (struct arch_regset of arch/arch.h: note, owner, name, size, most, since; 40 bytes)
their notes become one that no kernel has.
"""
import os
import struct
import sys

NONE, ENTRY = 0x7FFFFFF0, 40
# The first two entries of each table, by the bytes of NT_PRSTATUS and of NT_FPREGSET.
FIRST = {"x86_64": (216, 512), "aarch64": (272, 528), "ppc64le": (384, 264), "s390x": (216, 136)}


def main():
    program, new, notes = sys.argv[1], sys.argv[2], [int(n, 0) for n in sys.argv[3:]]
    with open(program, "rb") as f:
        data = bytearray(f.read())
    order = ">" if sys.byteorder == "big" else "<"

    def entry(at):
        note, _, size, most = struct.unpack_from(order + "I20sII", data, at)
        return note, size, most

    want = FIRST[os.uname().machine]
    tables = [
        at
        for at in range(0, len(data) - 3 * ENTRY, 8)
        if data[at : at + 4] == struct.pack(order + "I", 1)
        and [entry(at), entry(at + ENTRY)] == [(1, want[0], want[0]), (2, want[1], want[1])]
    ]
    if len(tables) != 1:
        sys.exit(f"{program}: {len(tables)} tables of register sets")
    at, hidden = tables[0], 0
    while entry(at)[0]:
        if entry(at)[0] in notes:
            struct.pack_into(order + "I", data, at, NONE)
            hidden += 1
        at += ENTRY
    if hidden != len(notes):
        sys.exit(f"{program}: {hidden} of {len(notes)} sets in its table")
    with open(new, "wb") as f:
        f.write(data)


main()
