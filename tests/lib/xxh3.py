# SPDX-License-Identifier: MIT
"""XXH3, 64 bits, seed 0: the checksum of images and block files, for tools that share no code with us.

Written from the specification in xxHash's doc/xxhash_spec.md. Slow: some MB/s.
"""

M64 = (1 << 64) - 1
P32_1, P32_2, P32_3 = 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D
P64_1, P64_2, P64_3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
P64_4, P64_5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
MX1, MX2 = 0x165667919E3779F9, 0x9FB21C651E98DF25

SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f"
    "cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c"
    "3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364"
    "eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e"
    "2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)


def u32(b, at):
    return int.from_bytes(b[at : at + 4], "little")


def u64(b, at):
    return int.from_bytes(b[at : at + 8], "little")


def swap64(x):
    return int.from_bytes(x.to_bytes(8, "little"), "big")


def rotl(x, n):
    return (x << n | x >> (64 - n)) & M64


def fold(a, b):
    p = a * b
    return (p & M64) ^ (p >> 64)


def avalanche(h):
    h ^= h >> 37
    h = h * MX1 & M64
    return h ^ (h >> 32)


def avalanche64(h):
    h ^= h >> 33
    h = h * P64_2 & M64
    h ^= h >> 29
    h = h * P64_3 & M64
    return h ^ (h >> 32)


def short(b):
    n = len(b)
    if n > 8:
        lo = u64(b, 0) ^ u64(SECRET, 24) ^ u64(SECRET, 32)
        hi = u64(b, n - 8) ^ u64(SECRET, 40) ^ u64(SECRET, 48)
        return avalanche((n + swap64(lo) + hi + fold(lo, hi)) & M64)
    if n >= 4:
        h = (u32(b, n - 4) + (u32(b, 0) << 32)) ^ u64(SECRET, 8) ^ u64(SECRET, 16)
        h ^= rotl(h, 49) ^ rotl(h, 24)
        h = h * MX2 & M64
        h ^= (h >> 35) + n
        h = h * MX2 & M64
        return h ^ (h >> 28)
    if n:
        c = b[0] << 16 | b[n >> 1] << 24 | b[n - 1] | n << 8
        return avalanche64(c ^ u32(SECRET, 0) ^ u32(SECRET, 4))
    return avalanche64(u64(SECRET, 56) ^ u64(SECRET, 64))


def mix16(b, at, secret_at):
    return fold(u64(b, at) ^ u64(SECRET, secret_at), u64(b, at + 8) ^ u64(SECRET, secret_at + 8))


def middle(b):
    n = len(b)
    acc = n * P64_1
    if n <= 128:
        for i in range((n - 1) // 32, -1, -1):
            acc += mix16(b, 16 * i, 32 * i) + mix16(b, n - 16 * (i + 1), 32 * i + 16)
        return avalanche(acc & M64)
    for i in range(8):
        acc += mix16(b, 16 * i, 16 * i)
    acc = avalanche(acc & M64)
    for i in range(8, n // 16):
        acc += mix16(b, 16 * i, 16 * (i - 8) + 3)
    acc += mix16(b, n - 16, 136 - 17)
    return avalanche(acc & M64)


def stripe(acc, b, at, secret_at):
    for i in range(8):
        v = u64(b, at + 8 * i)
        k = v ^ u64(SECRET, secret_at + 8 * i)
        acc[i ^ 1] = (acc[i ^ 1] + v) & M64
        acc[i] = (acc[i] + (k & 0xFFFFFFFF) * (k >> 32)) & M64


def merge(acc, secret_at, start):
    for i in range(4):
        start += fold(
            acc[2 * i] ^ u64(SECRET, secret_at + 16 * i),
            acc[2 * i + 1] ^ u64(SECRET, secret_at + 16 * i + 8),
        )
    return avalanche(start & M64)


def long(b):
    n = len(b)
    acc = [P32_3, P64_1, P64_2, P64_3, P64_4, P32_2, P64_5, P32_1]
    block = 64 * 16  # as many stripes as the secret has steps of 8
    for at in range(0, (n - 1) // block * block, block):
        for i in range(16):
            stripe(acc, b, at + 64 * i, 8 * i)
        for i in range(8):
            a = acc[i]
            acc[i] = (a ^ (a >> 47) ^ u64(SECRET, 128 + 8 * i)) * P32_1 & M64
    at = (n - 1) // block * block
    for i in range((n - 1 - at) // 64):
        stripe(acc, b, at + 64 * i, 8 * i)
    stripe(acc, b, n - 64, 192 - 64 - 7)
    return merge(acc, 11, n * P64_1)


def xxh3_64(b):
    """The 64-bit hash of the bytes @b as a number."""
    b = bytes(b)
    if len(b) <= 16:
        return short(b)
    return middle(b) if len(b) <= 240 else long(b)
