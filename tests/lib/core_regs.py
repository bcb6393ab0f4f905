#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares the general registers in an s390x core file with facts of the victim: core_regs.py CORE FACTS"""
import struct
import sys

NT_PRSTATUS, PT_NOTE, EM_S390 = 1, 4, 22


def notes(core):
    if core[:6] != b"\x7fELF\x02\x02":
        sys.exit("not a 64-bit big-endian ELF file")
    kind, machine = struct.unpack_from(">HH", core, 16)
    if (kind, machine) != (4, EM_S390):
        sys.exit(f"type {kind}, machine {machine}: not a core file of an s390x")
    phoff, = struct.unpack_from(">Q", core, 32)
    phnum, = struct.unpack_from(">H", core, 56)
    for i in range(phnum):
        p_type, _, off, _, _, size = struct.unpack_from(">IIQQQQ", core, phoff + 56 * i)
        pos, end = off, off + size
        while p_type == PT_NOTE and pos < end:
            namesz, descsz, n_type = struct.unpack_from(">III", core, pos)
            pos += 12 + (namesz + 3 & ~3)
            yield n_type, core[pos:pos + descsz]
            pos += descsz + 3 & ~3


def main():
    with open(sys.argv[1], "rb") as f:
        core = f.read()
    threads = {}
    for n_type, desc in notes(core):
        if n_type == NT_PRSTATUS:
            tid, = struct.unpack_from(">I", desc, 32)
            regs = desc[112:]
            values = {f"r{i}": struct.unpack_from(">Q", regs, 16 + 8 * i)[0] for i in range(16)}
            values |= {f"a{i}": struct.unpack_from(">I", regs, 144 + 4 * i)[0] for i in range(16)}
            threads[tid] = values
    n = 0
    with open(sys.argv[2]) as f:
        for line in f:
            word = line.split()
            if word[0] != "reg":
                continue
            n += 1
            got = threads.get(int(word[1]), {}).get(word[2])
            if got != int(word[3], 0):
                sys.exit(f"{line.strip()}: the core file has {got and hex(got)}")
    if n < 50:
        sys.exit(f"only {n} registers")


main()
