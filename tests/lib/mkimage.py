#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Makes an image directory from text, without a line of our writer and without .proto files.

    mkimage.py TEXT DIR

The text names files, entries and fields by number, as docs/IMAGES.md has them. A line each:

    file NAME MAGIC...          begins a file; the magics stand before its entries
    pages NAME LEN K...         a file of pages of LEN bytes, filled by rule K (0: zero)
    entry                       an entry begins; the fields that follow are its own
    N V                         field N, a number (0x.. and negative ones too)
    N z V                       the same, zigzag
    N f V                       the same, 8 bytes
    N s TEXT                    text to the end of the line
    N x HEX                     bytes; "HEX*N" repeats
    N p V V V                   packed numbers
    N r V V V                   field N once for each number
    N..M V                      fields N to M, each V
    N {   and   }               a message
    times K                     K times, up to the matching }
    data HEX                    raw bytes behind an entry
    pagesum NAME LEN FIRST N    in a pagemap's head: field 2001 for N pages of NAME from FIRST on
    manifest N                  in the inventory: field N for each of the other files
    sum N                       in the inventory: field N, the checksum of all before it; comes last

Nothing is done twice: a pages file must stand before its pagemap, the inventory at the end.
"""

import os
import shlex
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from xxh3 import xxh3_64  # noqa: E402


def varint(v):
    v &= (1 << 64) - 1
    out = b""
    while v > 127:
        out += bytes([v & 127 | 128])
        v >>= 7
    return out + bytes([v])


def key(n, wire):
    return varint(n << 3 | wire)


def block(n, b):
    return key(n, 2) + varint(len(b)) + b


def number(word):
    return int(word, 0)


def zigzag(v):
    return v << 1 ^ v >> 63


def hexbytes(words):
    out = b""
    for word in words:
        text, _, count = word.partition("*")
        out += bytes.fromhex(text) * int(count or 1)
    return out


def page(k, length):
    """A page of rule @k: what the byte at i is depends on both."""
    return bytes((k * 37 + i * 11 + i // 256) & 255 if k else 0 for i in range(length))


class Maker:
    def __init__(self, lines):
        self.lines = [
            (i, line.strip())
            for i, line in enumerate(lines, 1)
            if line.strip() and not line.lstrip().startswith("#")
        ]
        self.at = 0
        self.files = {}
        self.name = None

    def next(self):
        line = self.lines[self.at][1] if self.at < len(self.lines) else ""
        self.at += 1
        return line

    def starts(self, *words):
        return self.at < len(self.lines) and self.lines[self.at][1].split()[0] in words

    def fields(self, out=b""):
        """Fields up to the end of a message or entry."""
        while self.at < len(self.lines) and not self.starts("file", "pages", "entry", "data"):
            line = self.next()
            if line == "}":
                break
            out += self.field(line, out)
        return out

    def times(self, count):
        start, out = self.at, b""
        for _ in range(count):
            self.at = start
            out += self.fields()
        return out

    def field(self, line, before):
        words = line.split()
        if words[0] == "times":
            return self.times(number(words[1]))
        if words[0] == "pagesum":
            return self.pagesum(words[1], *map(number, words[2:]))
        if words[0] == "manifest":
            return b"".join(block(number(words[1]), self.listed(n)) for n in sorted(self.files))
        if words[0] == "sum":
            return self.last(number(words[1]), before)
        if ".." in words[0]:
            first, last = map(int, words[0].split(".."))
            return b"".join(key(n, 0) + varint(number(words[1])) for n in range(first, last + 1))
        return self.plain(int(words[0]), words[1:], line)

    def plain(self, n, words, line):
        kind, rest = words[0], words[1:]
        if kind == "{":
            return block(n, self.fields())
        if kind == "z":
            return key(n, 0) + varint(zigzag(number(rest[0])))
        if kind == "f":
            return key(n, 1) + number(rest[0]).to_bytes(8, "little")
        if kind == "s":
            return block(n, shlex.split(line)[2].encode() if rest else b"")
        if kind == "x":
            return block(n, hexbytes(rest))
        if kind == "p":
            return block(n, b"".join(varint(number(w)) for w in rest))
        if kind == "r":
            return b"".join(key(n, 0) + varint(number(w)) for w in rest)
        return key(n, 0) + varint(number(kind))

    def pagesum(self, name, length, first, count):
        data = self.files[name][first * length : (first + count) * length]
        body = block(1, varint(first)) + block(2, varint(count))
        return block(2001, body + key(3, 1) + xxh3_64(data).to_bytes(8, "little"))

    def listed(self, name):
        data = self.files[name]
        whole = not name.startswith("pages-")
        body = block(1, name.encode()) + key(2, 0) + varint(1 if whole else 3)
        body += key(3, 0) + varint(len(data))
        return body + (key(4, 1) + xxh3_64(data).to_bytes(8, "little") if whole else b"")

    def last(self, n, before):
        tag = key(n, 1)
        head = self.head + (len(before) + len(tag) + 8).to_bytes(4, "little")
        return tag + xxh3_64(head + before + tag).to_bytes(8, "little")

    def run(self):
        while self.at < len(self.lines):
            words = self.next().split()
            if words[0] == "pages":
                length = number(words[2])
                self.files[words[1]] = b"".join(page(number(k), length) for k in words[3:])
            elif words[0] == "file":
                self.file(words[1], words[2:])
            else:
                sys.exit(f"line {self.lines[self.at - 1][0]}: {words[0]}?")
        return self.files

    def file(self, name, magics):
        self.head = b"".join(number(m).to_bytes(4, "little") for m in magics)
        out = self.head
        while self.starts("entry", "data"):
            words = self.next().split()
            if words[0] == "data":
                out += hexbytes(words[1:])
            else:
                body = self.fields()
                out += len(body).to_bytes(4, "little") + body
        self.files[name] = out


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as f:
        files = Maker(f).run()
    os.mkdir(sys.argv[2], 0o700)
    for name, data in files.items():
        with open(os.path.join(sys.argv[2], name), "wb") as f:
            f.write(data)


if __name__ == "__main__":
    main()
