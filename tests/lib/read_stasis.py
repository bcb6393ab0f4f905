#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A second reader of the block file, after docs/FORMAT.md; it shares no code with the program.

    tests/lib/read_stasis.py FILE                     what the spaces hold, a line per extent
    tests/lib/read_stasis.py FILE SPACE               that space: its pages, each after its address in 8 bytes
    tests/lib/read_stasis.py FILE SPACE ADDR LEN      those bytes, on standard output

Blocks are found by walking their heads from the start of the file, as a torn file would be read; the
index and the trailer must then say the same. What counts is settled page by page: rounds, maps, parents; pages that
are those of another process are found in its blocks.
"""
import bisect
import ctypes
import os
import struct
import sys

HEAD = 64
NONE, LZ4, ZSTD, ZERO, MAP, SAME = range(6)
HAS_PARENT = 1
CHAIN = 256

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
    __slots__ = (
        "file", "pos", "payload", "space", "raw_len", "packed_len", "payload_sum", "codec", "round", "same_as", "extents"
    )  # fmt: skip


class BlockFile:
    def __init__(self, path, depth=1):
        self.file = open(path, "rb")
        self.size = os.fstat(self.file.fileno()).st_size
        self.last = (None, b"")
        self.head()
        self.trailer()
        self.blocks = list(self.walk())
        self.index()
        self.parent = None
        if self.parent_id is not None:
            need(depth < CHAIN, "too many parents")
            where = os.path.join(os.path.dirname(path), "parent", os.path.basename(path))
            self.parent = BlockFile(where, depth + 1)
            need(self.parent.id == self.parent_id, f"{where} is not the parent of {path}")
        self.map = {}
        spaces, layered = {}, set()
        for block in self.blocks:
            spaces.setdefault(block.space, []).append(block)
            if block.round or block.codec == MAP:
                layered.add(block.space)
        for space, blocks in spaces.items():
            maps = [b for b in blocks if b.codec == MAP]
            if space in layered:
                self.map[space] = self.settle(space, maps, [b for b in blocks if b.codec != MAP])
            else:
                self.map[space] = self.plain(blocks)
        same = [b for b in self.blocks if b.codec == SAME]
        need(not same or self.parent is None, "pages of other processes in a file with a parent")
        for block in same:
            need(not layered & {block.space, block.same_as}, f"rounds or a map beside the block at {block.pos:#x}")
        theirs = {space: self.find_same(space) for space in {b.space for b in same}}
        self.map.update(theirs)

    def find_same(self, space):
        """The pieces of a space, those that are another's as pieces of that one's blocks."""
        found = []
        for addr, length, block, at in self.map[space]:
            if block.codec != SAME:
                found.append((addr, length, block, at))
                continue
            there = [p for p in self.pieces(block.same_as, addr, addr + length) if p[2].codec != SAME]
            need(sum(p[1] for p in there) == length, f"pages of process {block.same_as} from {addr:#x} on are not there")
            found += there
        return found

    def plain(self, blocks):
        found = []
        for block in blocks:
            at = 0
            for addr, length in block.extents:
                found.append((addr, length, block, at))
                at += length
        found.sort(key=lambda e: e[0])
        for a, b in zip(found, found[1:]):
            need(a[0] + a[1] <= b[0], f"extents overlap at {b[0]:#x}")
        return found

    def settle(self, space, maps, blocks):
        """Page by page: the highest round, what the map names, the parent's where none is stored."""
        pages = {}
        for block in sorted(blocks, key=lambda b: b.round):
            at = 0
            for addr, length in block.extents:
                for a in range(addr, addr + length, self.page):
                    need(a not in pages or pages[a][0].round < block.round, f"{a:#x} is twice in round {block.round}")
                    pages[a] = (block, at)
                    at += self.page
        if maps:
            maps.sort(key=lambda b: -b.round)
            need([b.round for b in maps] == list(range(len(maps)))[::-1], f"records of the map of {space:#x}")
            need(len(maps) == 1 or all(b.packed_len for b in maps), f"empty record in the map of {space:#x}")
            named, last = {}, 0
            theirs = {}
            for record in maps:
                data = self.payload_of(record)
                for addr, length in struct.iter_unpack("<QQ", data):
                    need(length and addr % self.page == 0 and length % self.page == 0, f"map extent at {addr:#x}")
                    need(addr >= last, f"map extents at {addr:#x}")
                    last = addr + length
                    for a in range(addr, last, self.page):
                        if a not in pages and not theirs:
                            need(self.parent, f"{a:#x} of {space:#x} is not stored, and there is no parent")
                            theirs = self.parent.pages_of(space)
                        found = pages.get(a) or theirs.get(a)
                        need(found, f"{a:#x} of {space:#x} is not in the parent")
                        named[a] = found
            pages = named
        runs = []
        for a in sorted(pages):
            block, at = pages[a]
            if runs and runs[-1][2] is block and runs[-1][0] + runs[-1][1] == a and runs[-1][3] + runs[-1][1] == at:
                runs[-1][1] += self.page
            else:
                runs.append([a, self.page, block, at])
        return runs

    def pages_of(self, space):
        return {
            addr + n: (block, at + n)
            for addr, length, block, at in self.map.get(space, [])
            for n in range(0, length, self.page)
        }

    def bytes_at(self, pos, length):
        data = os.pread(self.file.fileno(), length, pos)
        need(len(data) == length, f"{length} bytes at {pos:#x} are not there")
        return data

    def head(self):
        h = self.bytes_at(0, HEAD)
        magic, total, major, minor, self.page, self.align, flags, self.id, parent = struct.unpack_from("<8sQHHIIIQQ", h)
        need(magic == b"\x93STASIS\n" and total == checksum(h[16:]), "file head")
        need(major == 1 and minor <= 1, f"version {major}.{minor}")
        need(flags in ((0, HAS_PARENT) if minor else (0,)) and (flags or not parent), "flags")
        self.minor = minor
        self.parent_id = parent if flags else None

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
            b.file = self
            magic, total, ident, b.space, b.raw_len, b.packed_len, b.payload_sum, b.codec, n, b.round, zero = (
                struct.unpack_from("<8sQQQIIQHHIQ", h)
            )
            need(self.minor or not b.round, f"round in a file of format 1.0 at {pos:#x}")
            need(b.codec <= (SAME if self.minor else ZERO), f"codec of the block at {pos:#x}")
            need(zero == 0, f"reserved bytes of the block at {pos:#x}")
            b.same_as = 0
            if b.codec == SAME:
                b.round, b.same_as = 0, b.round
                need(0 < b.space < 1 << 32 and b.same_as not in (0, b.space), f"processes of the block at {pos:#x}")
            need(magic == b"\x93STBLK\r\n" and ident == self.id, f"block head at {pos:#x}")
            extents = self.bytes_at(pos + HEAD, 16 * n)
            need(total == checksum(h[16:] + extents), f"checksum of the block head at {pos:#x}")
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

    def payload_of(self, b):
        data = self.bytes_at(b.payload, b.packed_len)
        need((checksum(data) if data else 0) == b.payload_sum, f"checksum of the payload at {b.payload:#x}")
        return data

    def unpack(self, b):
        if b.file is not self:
            return b.file.unpack(b)
        if self.last[0] is b:
            return self.last[1]
        data = self.payload_of(b)
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
        """(address, bytes) of what the space has in [start, end), ascending."""
        for addr, length, block, at in self.pieces(space, start, end):
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
    if len(sys.argv) == 3:
        for at, data in f.read(int(sys.argv[2], 0), 0, 1 << 64):
            for n in range(0, len(data), f.page):
                sys.stdout.buffer.write(struct.pack("<Q", at + n) + data[n : n + f.page])
        return
    for space in f.spaces():
        for addr, length, block, _ in f.map[space]:
            f.unpack(block)
            name = ("none", "lz4", "zstd", "zero")[block.codec]
            if block.space != space:
                name += f", same as {block.space}"
            print(f"{space:#x} {addr:#x}..{addr + length:#x} {name}")


if __name__ == "__main__":
    try:
        main()
    except (Damaged, OSError, struct.error) as e:
        sys.exit(f"{sys.argv[1]}: {e}")
