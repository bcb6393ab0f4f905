#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Makes a block file from text, after docs/FORMAT.md and without a line of our writer.

    mkblocks.py TEXT FILE

    file MINOR ALIGN ID                      first; pages of 4096 bytes
    block SPACE CODEC[@ROUND] ADDR:K,K...    a page per K from ADDR on, filled by rule K of mkimage.py
    block SPACE same=PID ADDR:N [...]        N pages from ADDR on are those of that process
    map SPACE FOLLOW ADDR:N [...]            the space has N pages from ADDR on; FOLLOW records of it follow

CODEC is none, lz4 (the last page is zero) or zero. Index and trailer follow by themselves.
"""
import os
import struct
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from xxh3 import xxh3_64  # noqa: E402

PAGE = 4096
CODECS = {"none": 0, "lz4": 1, "zero": 3, "map": 4, "same": 5}


def page(k):
    return bytes((k * 37 + i * 11 + i // 256) & 255 if k else 0 for i in range(PAGE))


def more(n):
    """What follows a length of 15 in a token."""
    return b"\xff" * (n // 255) + bytes([n % 255])


def lz4_block(raw):
    """Literals up to the first of the zeros that end it, one match of that, five literals."""
    front = raw.rstrip(b"\0") + b"\0"
    match = len(raw) - len(front) - 5
    return b"\xff" + more(len(front) - 15) + front + b"\x01\0" + more(match - 4 - 15) + b"\x50" + bytes(5)


def summed(magic, rest):
    return magic + struct.pack("<Q", xxh3_64(rest)) + rest


def main():
    out = b""
    blocks = []
    for line in open(sys.argv[1], encoding="ascii"):
        words = line.split("#")[0].split()
        if not words:
            continue
        if words[0] == "file":
            minor, align, ident = (int(w, 0) for w in words[1:])
            rest = struct.pack("<HHIIIQ24x", 1, minor, PAGE, align, 0, ident)
            out = summed(b"\x93STASIS\n", rest).ljust(align, b"\0")
            continue
        space, (codec, _, same) = int(words[1], 0), words[2].partition("=")
        codec, _, number = codec.partition("@")
        if words[0] == "map":
            codec, number = "map", words[2]
        number = int(same or number or 0)
        raw, extents = b"", []
        for word in words[3:]:
            addr, _, what = word.partition(":")
            if codec in ("same", "map"):
                extents.append((int(addr, 0), int(what) * PAGE))
                continue
            extents.append((int(addr, 0), len(what.split(",")) * PAGE))
            raw += b"".join(page(int(k)) for k in what.split(","))
        lists = b"".join(struct.pack("<QQ", *e) for e in extents)
        if codec == "map":
            raw, lists, extents = lists, b"", []
        raw_len = sum(e[1] for e in extents)
        payload = {"none": raw, "map": raw, "lz4": lz4_block(raw) if codec == "lz4" else b""}.get(codec, b"")
        head = struct.pack(
            "<QQIIQHHI8x",
            ident,
            space,
            raw_len,
            len(payload),
            xxh3_64(payload) if payload else 0,
            CODECS[codec],
            len(extents),
            number,
        )
        entry = struct.pack(
            "<QQIIHHI", len(out), space, raw_len, len(payload), CODECS[codec], len(extents), number
        )
        order = (1, extents[0][0], number) if extents else (0, -number, 0)
        blocks.append((space, order, entry, lists, raw_len))
        out += summed(b"\x93STBLK\r\n", head + lists)
        out = out.ljust(-(-len(out) // align) * align, b"\0") + payload
        out = out.ljust(-(-len(out) // align) * align, b"\0")
    blocks.sort()
    nextents = sum(len(b[3]) // 16 for b in blocks)
    index = summed(b"\x93STIDX\r\n", struct.pack("<QQQ24x", ident, len(blocks), nextents))
    index += b"".join(b[2] for b in blocks) + b"".join(b[3] for b in blocks)
    at = len(out)
    end = -(-(at + len(index) + 64) // align) * align
    rest = struct.pack("<QQQQQQ", ident, at, len(index), xxh3_64(index), sum(b[4] for b in blocks), end)
    out = (out + index).ljust(end - 64, b"\0") + summed(b"\x93STEND\r\n", rest)
    with open(sys.argv[2], "wb") as f:
        f.write(out)


main()
