#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What a dump could have left in a process: tests/lib/residue.py PID

Prints a line per thing, in an order that is always the same, for two of these to be compared: descriptors,
mappings, mappings that a userfaultfd is registered for, pages that are write-protected by one, children,
tracers, signal masks. Of a process whose descriptors and mappings stand still.
"""
import os
import re
import struct
import sys

UFFD_WP = 1 << 57  # Documentation/admin-guide/mm/pagemap.rst, since 5.13
PAGE = 4096


def descriptors(pid):
    for fd in sorted(os.listdir(f"/proc/{pid}/fd"), key=int):
        yield f"fd {fd} {os.readlink(f'/proc/{pid}/fd/{fd}')}"


def mappings(pid):
    where = ""
    with open(f"/proc/{pid}/smaps") as smaps:
        for line in smaps:
            if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                where = line.strip()
                yield f"map {where}"
            elif line.startswith("VmFlags:"):
                flags = [f for f in line.split()[1:] if f in ("um", "uw", "ui")]
                if flags:
                    yield f"userfaultfd {' '.join(flags)} {where}"


def protected(pid):
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:
        for line in maps:
            start, end = (int(x, 16) for x in line.split()[0].split("-"))
            if start >= 1 << 47:  # vsyscall
                continue
            n = 0
            for at in range(start // PAGE, end // PAGE, 1 << 16):
                count = min(1 << 16, end // PAGE - at)
                data = os.pread(pagemap.fileno(), count * 8, at * 8)
                n += sum(1 for (e,) in struct.iter_unpack("<Q", data) if e & UFFD_WP)
            if n:
                yield f"protected {n} pages of {line.strip()}"


def threads(pid):
    for tid in sorted(os.listdir(f"/proc/{pid}/task"), key=int):
        with open(f"/proc/{pid}/task/{tid}/status") as status:
            for line in status:
                if re.match(r"TracerPid|SigBlk|SigCgt|SigIgn|Seccomp:|NoNewPrivs", line):
                    yield f"thread {tid} {' '.join(line.split())}"
        with open(f"/proc/{pid}/task/{tid}/children") as children:
            for child in children.read().split():
                yield f"child {child}"


def main():
    pid = int(sys.argv[1])
    for what in (descriptors, mappings, protected, threads):
        for line in what(pid):
            print(line)


if __name__ == "__main__":
    main()
