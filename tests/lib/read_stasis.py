#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A second reader of the block file, after docs/FORMAT.md; it shares no code with the program.

    tests/lib/read_stasis.py FILE                     what is stored, a line per extent
    tests/lib/read_stasis.py FILE SPACE ADDR LEN      those bytes, on standard output

Blocks are found by walking their heads from the start of the file, as a torn file would be read; the
index and the trailer must then say the same.
"""
import bisect
import ctypes
import os
import struct
import sys

HEAD = 64
NONE, LZ4, ZSTD, ZERO, SAME = range(5)

lz4 = ctypes.CDLL("liblz4.so.1")
zstd = ctypes.CDLL("libzstd.so.1")
xxh = ctypes.CDLL("libxxhash.so.0")
zstd.ZSTD_decompress.restype = ctypes.c_size_t
zstd.ZSTD_decompress.argtypes = [ctypes.c_char_p, ctypes.c_size_t] * 2
xxh.XXH3_64bits.restype = ctypes.c_uint64
xxh.XXH3_64bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]


class Damaged(Exception):
    pass


def need(truth, what):
    if not truth:
        raise Damaged(what)


def checksum(data):
    return xxh.XXH3_64bits(data, len(data))


def align_up(value, align):
    return (value + align - 1) & ~(align - 1)


class Block:
    __slots__ = ("pos", "payload", "space", "raw_len", "packed_len", "payload_sum", "codec", "same_as", "extents")


class BlockFile:
    def __init__(self, path):
        self.file = open(path, "rb")
        self.size = os.fstat(self.file.fileno()).st_size
        self.last = (None, b"")
        self.head()
        self.trailer()
        self.blocks = list(self.walk())
        self.index()
        self.map = {}
        for block in self.blocks:
            at = 0
            for addr, length in block.extents:
                self.map.setdefault(block.space, []).append((addr, length, block, at))
                at += length
        for found in self.map.values():
            found.sort(key=lambda e: e[0])
            for a, b in zip(found, found[1:]):
                need(a[0] + a[1] <= b[0], f"extents overlap at {b[0]:#x}")
        for block in self.blocks:
            for addr, length in block.extents if block.codec == SAME else ():
                there = sum(n for _, n, b, _ in self.pieces(block.same_as, addr, addr + length) if b.codec != SAME)
                need(there == length, f"pages of process {block.same_as} from {addr:#x} on are not there")

    def bytes_at(self, pos, length):
        data = os.pread(self.file.fileno(), length, pos)
        need(len(data) == length, f"{length} bytes at {pos:#x} are not there")
        return data

    def head(self):
        h = self.bytes_at(0, HEAD)
        magic, total, major, self.minor, self.page, self.align, flags, self.id = struct.unpack_from("<8sQHHIIIQ", h)
        need(magic == b"\x93STASIS\n" and total == checksum(h[16:]), "file head")
        need(major == 1 and self.minor <= 1, f"version {major}.{self.minor}")

    def trailer(self):
        t = self.bytes_at(self.size - HEAD, HEAD)
        magic, total, ident, self.index_pos, self.index_len, self.index_sum, self.raw_bytes, length = struct.unpack(
            "<8sQQQQQQQ", t
        )
        need(magic == b"\x93STEND\r\n" and total == checksum(t[16:]), "trailer")
        need(ident == self.id and length == self.size, "trailer of another file")

    def walk(self):
        pos = align_up(HEAD, self.align)
        while pos < self.index_pos:
            h = self.bytes_at(pos, HEAD)
            b = Block()
            b.pos = pos
            magic, total, ident, b.space, b.raw_len, b.packed_len, b.payload_sum, b.codec, n, b.same_as, zero = (
                struct.unpack_from("<8sQQQIIQHHIQ", h)
            )
            need(magic == b"\x93STBLK\r\n" and ident == self.id, f"block head at {pos:#x}")
            extents = self.bytes_at(pos + HEAD, 16 * n)
            need(total == checksum(h[16:] + extents), f"checksum of the block head at {pos:#x}")
            need(zero == 0 and (b.same_as != 0) == (b.codec == SAME), f"reserved bytes of the block at {pos:#x}")
            need(b.codec < (SAME + 1 if self.minor else SAME), f"codec of the block at {pos:#x}")
            need(b.codec != SAME or (b.space >> 56 == 0 and b.space != b.same_as), f"space of the block at {pos:#x}")
            b.extents = [struct.unpack_from("<QQ", extents, 16 * i) for i in range(n)]
            need(sum(e[1] for e in b.extents) == b.raw_len, f"lengths of the block at {pos:#x}")
            b.payload = pos + align_up(HEAD + 16 * n, self.align)
            yield b
            pos = align_up(b.payload + b.packed_len, self.align)
        need(pos == self.index_pos, f"blocks end at {pos:#x}, the index begins at {self.index_pos:#x}")

    def index(self):
        data = self.bytes_at(self.index_pos, self.index_len)
        need(checksum(data) == self.index_sum, "checksum of the index")
        magic, total, ident, nblocks, nextents = struct.unpack_from("<8sQQQQ", data)
        need(magic == b"\x93STIDX\r\n" and ident == self.id, "index head")
        need(nblocks == len(self.blocks), f"the index names {nblocks} blocks, there are {len(self.blocks)}")
        need(nextents == sum(len(b.extents) for b in self.blocks), "extents of the index")
        need(sum(b.raw_len for b in self.blocks) == self.raw_bytes, "bytes of all blocks")

    def unpack(self, b):
        if self.last[0] is b:
            return self.last[1]
        data = self.bytes_at(b.payload, b.packed_len)
        need((checksum(data) if data else 0) == b.payload_sum, f"checksum of the payload at {b.payload:#x}")
        if b.codec == ZERO:
            raw = bytes(b.raw_len)
        elif b.codec == NONE:
            raw = data
        else:
            out = ctypes.create_string_buffer(b.raw_len)
            if b.codec == LZ4:
                n = lz4.LZ4_decompress_safe(data, out, len(data), b.raw_len)
            else:
                n = zstd.ZSTD_decompress(out, b.raw_len, data, len(data))
            need(n == b.raw_len, f"the block at {b.pos:#x} does not unpack")
            raw = out.raw
        need(len(raw) == b.raw_len, f"length of the block at {b.pos:#x}")
        self.last = (b, raw)
        return raw

    def spaces(self):
        return sorted(self.map)

    def pieces(self, space, start, end):
        """(address, length, block, offset in it) of what is stored in [start, end), ascending."""
        found = self.map.get(space, [])
        for addr, length, block, at in found[max(bisect.bisect(found, start, key=lambda e: e[0]) - 1, 0) :]:
            lo, hi = max(addr, start), min(addr + length, end)
            if lo >= end:
                break
            if lo < hi:
                yield lo, hi - lo, block, at + lo - addr

    def read(self, space, start, end):
        """(address, bytes) of what is stored in [start, end), ascending."""
        for addr, length, block, at in self.pieces(space, start, end):
            if block.codec == SAME:
                yield from self.read(block.same_as, addr, addr + length)
            else:
                yield addr, self.unpack(block)[at : at + length]


def main():
    f = BlockFile(sys.argv[1])
    if len(sys.argv) == 5:
        space, addr, length = (int(a, 0) for a in sys.argv[2:])
        for at, data in f.read(space, addr, addr + length):
            need(at == addr, f"{addr:#x} is not stored")
            sys.stdout.buffer.write(data)
            addr += len(data)
        return
    for space in f.spaces():
        for addr, length, block, _ in f.map[space]:
            if block.codec != SAME:
                f.unpack(block)
            name = ("none", "lz4", "zstd", "zero", f"same as {block.same_as}")[block.codec]
            print(f"{space:#x} {addr:#x}..{addr + length:#x} {name}")


if __name__ == "__main__":
    try:
        main()
    except (Damaged, OSError, struct.error) as e:
        sys.exit(f"{sys.argv[1]}: {e}")
