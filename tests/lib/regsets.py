#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares every register set of every thread in two images of the same threads, byte for byte.

    tests/lib/regsets.py BEFORE AFTER     AFTER: of the restored tree, before one of its threads has run

Reads the metadata by itself: of Core field 1 (the CPU) and 2000 (what CRIU does not keep of a thread); of that field 1
(a register set: its note, its bytes) and 2 (it was in a system call); what may differ stands in ENTRY, OWN, CALL and
begun_again(), with the reason; that it is the kernel which changes it is proved by tests/unit/arch/kept_*.c.
"""
import errno
import glob
import os
import struct
import sys

X86, AARCH64, PPC64, S390 = 1, 3, 4, 5
# CPU: note, first byte, end. The kernel's own notes of how it was entered last, which no program can see: a thread
# that is stopped anew has entered it anew.
ENTRY = {
    X86: [(0x1, 120, 128)],  # orig_rax
    # msr: which vector registers are loaded just now; orig_gpr3; softe, trap, dar, dsisr, result
    PPC64: [(0x1, 264, 272), (0x1, 272, 280), (0x1, 312, 352)],
    S390: [(0x307, 0, 4)],  # NT_S390_SYSTEM_CALL
}
# Sets that the kernel lets nobody write, it takes them and keeps its own: the address of the branch taken last, and
# what a transaction told when it was aborted, which it shows of threads without one, too, by the interrupt that
# stopped them.
OWN = {S390: [0x306, 0x308]}  # NT_S390_LAST_BREAK, NT_S390_TDB
# A call that a dump has interrupted begins again: the program counter is at the call, not behind it, and what was
# its result is its number or first argument again.
CALL = {
    X86: [(0x1, 80, 88), (0x1, 128, 136)],  # rax, rip
    AARCH64: [(0x1, 64, 72)],  # x8: restart_syscall, once the call has gone on
    PPC64: [(0x1, 0, 8), (0x1, 24, 32), (0x1, 256, 264), (0x1, 304, 312)],  # r0, r3, nip, ccr
}
# Sets that every thread has on the machines of tests/vm: one that a dump does not read is the same on both sides.
THERE = {
    X86: [0x1, 0x2, 0x202],
    AARCH64: [0x1, 0x2, *range(0x401, 0x40B)],
    PPC64: [0x1, 0x2, 0x100, 0x102, 0x103, 0x104, 0x105],  # NT_PPC_EBB and what is of a transaction: in use alone
    S390: [0x1, 0x2, 0x306, 0x307, 0x309, 0x30A],
}


def varint(data, pos):
    value = shift = 0
    while True:
        byte = data[pos]
        pos += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, pos


def fields(data):
    pos = 0
    while pos < len(data):
        key, pos = varint(data, pos)
        if key & 7 == 0:
            value, pos = varint(data, pos)
        else:
            size = {1: 8, 5: 4}.get(key & 7)
            if size is None:
                size, pos = varint(data, pos)
            value, pos = data[pos : pos + size], pos + size
        yield key >> 3, value


class Thread:
    def __init__(self, path):
        with open(path, "rb") as f:
            data = f.read()
        size, = struct.unpack_from("<I", data, 8)
        self.cpu, self.in_call, self.sets = 0, False, {}
        for number, value in fields(data[12 : 12 + size]):
            if number == 1:
                self.cpu = value
            elif number == 2000:
                for n, v in fields(value):
                    if n == 1:
                        regset = dict(fields(v))
                        self.sets[regset[1]] = regset[2]
                    elif n == 2:
                        self.in_call = bool(v)

    def notes(self):
        return self.sets.keys() - set(OWN.get(self.cpu, []))

    def begun_again(self):
        """Of s390x, where nothing of a call may differ but this: one that the kernel would have gone on with is
        kept as one that failed with EINTR, and where it is begun again by restore stands at its beginning."""
        if self.cpu != S390 or not self.in_call:
            return {}
        psw, r2, orig = (struct.unpack_from(">Q", self.sets[0x1], at)[0] for at in (8, 16 + 16, 208))
        length = struct.unpack_from(">I", self.sets[0x307])[0] >> 16
        if r2 != 2**64 - errno.EINTR or not length:
            return {}
        return {(0x1, 8): struct.pack(">Q", psw - length), (0x1, 16 + 16): struct.pack(">Q", orig)}

    def may_differ(self):
        spans = ENTRY.get(self.cpu, []) + (CALL.get(self.cpu, []) if self.in_call else [])
        return {(note, i) for note, first, end in spans for i in range(first, end)}


def image(path):
    threads = {os.path.basename(p): Thread(p) for p in glob.glob(f"{path}/core-*.img")}
    return {name: t for name, t in threads.items() if t.sets}


def compare(name, before, after):
    wrong, may, again = [], before.may_differ(), before.begun_again()
    # All of it or nothing.
    if any(after.sets.get(note, b"")[at : at + 8] != word for (note, at), word in again.items()):
        again = {}
    if before.notes() != after.notes():
        wrong.append(f"{name}: sets {sorted(map(hex, before.sets))} before, {sorted(map(hex, after.sets))} after")
    missing = set(THERE[before.cpu]) - before.sets.keys()
    if missing:
        wrong.append(f"{name}: no set {' '.join(sorted(map(hex, missing)))}")
    for note in sorted(before.notes() & after.notes()):
        b, a = before.sets[note], after.sets[note]
        if len(b) != len(a):
            wrong.append(f"{name}: note {note:#x}: {len(b)} bytes before, {len(a)} after")
            continue
        for at in range(0, len(b), 8):
            was, now = b[at : at + 8], a[at : at + 8]
            if now == again.get((note, at)):
                continue
            if any(x != y and (note, at + i) not in may for i, (x, y) in enumerate(zip(was, now))):
                wrong.append(f"{name}: note {note:#x}, byte {at}: {was.hex()} before, {now.hex()} after"
                             f"{', in a system call' if before.in_call else ''}")
    return wrong


def main():
    before, after = image(sys.argv[1]), image(sys.argv[2])
    wrong = []
    if before.keys() != after.keys() or not before:
        wrong.append(f"threads: {sorted(before)} before, {sorted(after)} after")
    for name in sorted(before.keys() & after.keys()):
        wrong += compare(name, before[name], after[name])
    for line in wrong[:20]:
        print(line)
    notes = sorted({note for t in before.values() for note in t.notes()})
    total = sum(len(t.sets[note]) for t in before.values() for note in t.notes())
    calls = sum(t.in_call for t in before.values())
    print(f"{len(before)} threads, {calls} of them in system calls; sets {' '.join(map(hex, notes))}; "
          f"{total} bytes; {len(wrong)} differences")
    sys.exit(1 if wrong else 0)


main()
