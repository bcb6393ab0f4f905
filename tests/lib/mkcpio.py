#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes a directory as a cpio archive (newc), as a kernel takes it for its first root: mkcpio.py DIR >FILE"""
import os
import stat
import sys


def entry(out, ino, name, mode, data=b"", rdev=(0, 0)):
    fields = (ino, mode, 0, 0, 1, 0, len(data), 0, 0, *rdev, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08x" % f for f in fields) + name + b"\0"
    out.write(head + b"\0" * (-len(head) % 4))
    out.write(data + b"\0" * (-len(data) % 4))


def main():
    top, out, ino = sys.argv[1], sys.stdout.buffer, 1
    for base, dirs, files in os.walk(top):
        for name in sorted(dirs) + sorted(files):
            path = os.path.join(base, name)
            st = os.lstat(path)
            data = b""
            if stat.S_ISLNK(st.st_mode):
                data = os.fsencode(os.readlink(path))
            elif stat.S_ISREG(st.st_mode):
                with open(path, "rb") as f:
                    data = f.read()
            entry(out, ino, os.fsencode(os.path.relpath(path, top)), st.st_mode, data)
            ino += 1
    # What the first program writes to, before there is a /dev.
    entry(out, ino, b"dev/console", stat.S_IFCHR | 0o600, rdev=(5, 1))
    entry(out, 0, b"TRAILER!!!", 0)


main()
