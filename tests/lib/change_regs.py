#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Changes what an image of x86-64 says of a thread's registers, in ways that a restore must refuse; checksums stay right.

    change_regs.py                  lists the ways, a line each: NAME CODE MESSAGE
    change_regs.py DIR TID NAME     changes the image; @TID in MESSAGE is the thread

CODE is the exit code of a restore, MESSAGE a regular expression for what it says.
"""
import os
import struct
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from hostile import Image, build, parse, sign, strip  # noqa: E402

THREAD_INFO, EXTENSION, REGSETS, SHADOW, SHADOW_LOCKED = 2, 2000, 1, 22, 23
PRSTATUS, FPREGS, XSTATE, SHSTK = 1, 2, 0x202, 0x204
CS, FS_BASE, MXCSR, XCR0, XSTATE_BV, XCOMP_BV, RESERVED = 17 * 8, 21 * 8, 24, 464, 512, 520, 575
AARCH64, MARCH_AARCH64 = 183, 3
VMA, VMA_FLAGS, KIND_ANON = 14, 4, 1
CPU_WORDS = 17
IMAGE, ABI = 15, 6  # exit codes


def edit(path, change):
    with open(path, "rb") as f:
        image = Image(f.read())
    change(image)
    with open(path, "wb") as f:
        f.write(image.bytes())


class Thread:
    """Its register sets, [note, bytes] in their order, and the numbers of what CRIU does not keep."""

    def __init__(self, more):
        self.sets, self.others = [], []
        for number, wire, value in parse(more):
            if number == REGSETS:
                fields = {n: v for n, _, v in parse(value)}
                self.sets.append([fields[1], bytearray(fields[2])])
            else:
                self.others.append([number, wire, value])

    def __getitem__(self, note):
        return next(s[1] for s in self.sets if s[0] == note)

    def __setitem__(self, note, data):
        next(s for s in self.sets if s[0] == note)[1] = bytearray(data)

    def put(self, note, off, fmt, value):
        struct.pack_into(fmt, self[note], off, value)

    def number(self, number, value):
        self.others.append([number, 0, value])

    def drop(self, note):
        self.sets = [s for s in self.sets if s[0] != note]

    def message(self):
        sets = [[REGSETS, 2, build([[1, 0, note], [2, 2, bytes(data)]])] for note, data in self.sets]
        return build(sets + self.others)


def thread(change):
    """What changes a thread of an image."""

    def whole(directory, tid):
        def core(image):
            fields = parse(image.entries[0])
            for f in fields:
                if f[0] == EXTENSION:
                    t = Thread(f[2])
                    change(t)
                    f[2] = t.message()
            # CRIU's message, which is believed where there is no set.
            image.entries[0] = build([f for f in fields if f[0] != THREAD_INFO])

        edit(f"{directory}/core-{tid}.img", core)

    return whole


def inventory(number, value):
    def whole(directory, tid):
        def info(image):
            fields = parse(image.entries[0])
            for f in fields:
                if f[0] == EXTENSION:
                    f[2] = build([[n, w, value if n == number else v] for n, w, v in parse(f[2])])
            image.entries[0] = build(fields)

        edit(f"{directory}/inventory.img", info)

    return whole


def instructions(directory, tid):
    """The CPU had avx512pf, word 2 bit 26, which was given up, and some of a word that nobody knows."""
    def info(image):
        fields = parse(image.entries[0])
        for f in fields:
            if f[0] == EXTENSION:
                more = parse(f[2])
                words = [w for w in more if w[0] == CPU_WORDS]
                if len(words) != 11 or words[0][1]:
                    raise ValueError(f"{len(words)} words of instructions, packed or not")
                words[2][2] |= 1 << 26
                f[2] = build(more + [[CPU_WORDS, 0, 5]])
        image.entries[0] = build(fields)

    edit(f"{directory}/inventory.img", info)


def hwcap2(directory, tid):
    """AT_HWCAP2 of all processes has a bit that no CPU has."""
    for name in os.listdir(directory):
        if not name.startswith("mm-"):
            continue

        def mm(image):
            fields = parse(image.entries[0])
            auxv = [f for f in fields if f[0] == 13]
            if len(auxv) == 1 and auxv[0][1] == 2:
                raise ValueError("a packed auxiliary vector")
            for kind, value in zip(auxv[::2], auxv[1::2]):
                if kind[2] == 26:
                    value[2] |= 1 << 40
            image.entries[0] = build(fields)

        edit(f"{directory}/{name}", mm)


def of_march(directory, march):
    for name in os.listdir(directory):
        if name.startswith("core-"):
            edit(f"{directory}/{name}", lambda image: image.entries.__setitem__(
                0, build([[n, w, march if n == 1 else v] for n, w, v in parse(image.entries[0])])))


def of_another(directory, tid):
    inventory(5, AARCH64)(directory, tid)
    of_march(directory, MARCH_AARCH64)


def stock_of_another(directory, tid):
    """As another tool makes it: the CPU is in the core files alone."""
    strip(directory, True)
    of_march(directory, MARCH_AARCH64)


def twice(note):
    return thread(lambda t: t.sets.append([note, bytes(t[note])]))


def put(note, off, fmt, value):
    return thread(lambda t: t.put(note, off, fmt, value))


def resize(note, length):
    return thread(lambda t: t.__setitem__(note, (bytes(t[note]) + bytes(20000))[:length]))


def add(note, data):
    return thread(lambda t: t.sets.append([note, data]))


def many(t):
    t.sets += [[0x8000 + i, bytes(8)] for i in range(80)]


def compacted(t):
    t.put(XSTATE, XCOMP_BV, "<Q", 1 << 63 | 7)


def unknown_component(t):
    t.put(XSTATE, XCR0, "<Q", struct.unpack_from("<Q", t[XSTATE], XCR0)[0] | 1 << 40)
    t.put(XSTATE, XSTATE_BV, "<Q", struct.unpack_from("<Q", t[XSTATE], XSTATE_BV)[0] | 1 << 40)


def more_than_xcr0(t):
    """AVX, without a place for it."""
    t.put(XSTATE, XCR0, "<Q", struct.unpack_from("<Q", t[XSTATE], XCR0)[0] & ~4)
    t.put(XSTATE, XSTATE_BV, "<Q", struct.unpack_from("<Q", t[XSTATE], XSTATE_BV)[0] | 4)


def pointer_alone(t):
    t.sets.append([SHSTK, struct.pack("<Q", 0x10000)])


def features_alone(t):
    t.number(SHADOW, 1)


def features_and_pointer(t):
    pointer_alone(t)
    features_alone(t)


def on_a_stack(directory, tid):
    """A mapping of the image is a shadow stack, and the pointer points there."""
    found = []

    def mm(image):
        fields = parse(image.entries[0])
        for f in fields:
            if f[0] != VMA or found:
                continue
            v = parse(f[2])
            numbers = {n: x for n, w, x in v if w == 0}
            more = next(x for n, _, x in v if n == EXTENSION)
            if {n: x for n, w, x in parse(more) if w == 0}.get(1) != KIND_ANON:
                continue
            found.append(numbers[2])
            kept = [x for x in parse(more) if x[0] != VMA_FLAGS]
            more = build(kept + [[VMA_FLAGS, 0, 1 << 16]])
            f[2] = build([[n, w, more if n == EXTENSION else x] for n, w, x in v])
        image.entries[0] = build(fields)

    for name in os.listdir(directory):
        if name.startswith("mm-"):
            edit(f"{directory}/{name}", mm)

    def pointer(t):
        t.sets.append([SHSTK, struct.pack("<Q", found[0] - 8)])
        features_alone(t)

    thread(pointer)(directory, tid)


XS, GP, FP = r"NT_X86_XSTATE \(0x202\) of thread @TID ", r"NT_PRSTATUS \(0x1\) of thread @TID", r"NT_FPREGSET \(0x2\) of thread @TID "
WAYS = {
    "no-registers": (IMAGE, "thread @TID has no general registers", thread(lambda t: t.sets.clear())),
    "no-general": (IMAGE, "thread @TID has no general registers", thread(lambda t: t.drop(PRSTATUS))),
    "general-last": (IMAGE, "thread @TID has no general registers", thread(lambda t: t.sets.append(t.sets.pop(0)))),
    "general-short": (IMAGE, GP + " has 208 bytes", resize(PRSTATUS, 208)),
    "general-long": (IMAGE, GP + " has 224 bytes", resize(PRSTATUS, 224)),
    "general-twice": (IMAGE, "thread @TID: register set 0x1 is there twice", twice(PRSTATUS)),
    "kernel-segment": (IMAGE, GP + ": the kernel refuses", put(PRSTATUS, CS, "<Q", 0x10)),
    "kernel-thread-pointer": (IMAGE, GP + ": the kernel refuses", put(PRSTATUS, FS_BASE, "<Q", 0xFFFF800000000000)),
    "vectors-empty": (IMAGE, "thread @TID: register set 0x202 is empty", resize(XSTATE, 0)),
    "vectors-cut": (IMAGE, XS + "is cut off", resize(XSTATE, 575)),
    "vectors-long": (IMAGE, XS + "has 16385 bytes", resize(XSTATE, 16385)),
    "vectors-twice": (IMAGE, "thread @TID: register set 0x202 is there twice", twice(XSTATE)),
    "vectors-compacted": (IMAGE, XS + "is in the compacted format", thread(compacted)),
    "vectors-reserved": (IMAGE, XS + "has something in the part", put(XSTATE, RESERVED, "<B", 1)),
    "vectors-unknown": (ABI, "thread @TID has registers that this CPU lacks: XCR0 0x10000000000", thread(unknown_component)),
    "vectors-behind": (IMAGE, XS + "has registers that its XCR0 does not tell of", thread(more_than_xcr0)),
    "vectors-mxcsr": (IMAGE, XS + "has reserved bits in its MXCSR", put(XSTATE, MXCSR, "<I", 0x80001F80)),
    "fpu-mxcsr": (IMAGE, FP + "has reserved bits in its MXCSR", put(FPREGS, MXCSR, "<I", 0x80001F80)),
    "fpu-short": (IMAGE, FP + "has 8 bytes", resize(FPREGS, 8)),
    "of-no-cpu": (ABI, r"unknown kind \(0x7777\) of thread @TID", add(0x7777, bytes(64))),
    "of-no-cpu-huge": (ABI, r"unknown kind \(0x7777\) of thread @TID", add(0x7777, bytes(200000))),
    "of-aarch64": (ABI, r"NT_ARM_SVE \(0x405\) of thread @TID .*aarch64", add(0x405, bytes(544))),
    "of-ppc64le": (ABI, r"NT_PPC_VMX \(0x100\) of thread @TID .*ppc64le", add(0x100, bytes(544))),
    "of-s390x": (ABI, r"NT_S390_TDB \(0x308\) of thread @TID .*s390x", add(0x308, bytes(256))),
    "too-many": (IMAGE, "thread @TID has 8[0-9] register sets", thread(many)),
    "shadow-pointer": (IMAGE, r"NT_X86_SHSTK \(0x204\) of thread @TID: the pointer of .* not on", thread(pointer_alone)),
    "shadow-short": (IMAGE, r"NT_X86_SHSTK \(0x204\) of thread @TID has 4 bytes", add(SHSTK, bytes(4))),
    "shadow-features": (IMAGE, r"NT_X86_SHSTK \(0x204\) of thread @TID: .* has no pointer", thread(features_alone)),
    "shadow-outside": (IMAGE, r"NT_X86_SHSTK \(0x204\) of thread @TID points to 0x10000", thread(features_and_pointer)),
    "shadow-lacking": (ABI, "thread @TID has a shadow stack, which this CPU or its kernel does not have", on_a_stack),
    "shadow-unknown": (IMAGE, "thread @TID: features 0x8 and 0 of a shadow stack", thread(lambda t: t.number(SHADOW, 8))),
    "shadow-locked": (IMAGE, "thread @TID: features 0 and 0x70 of", thread(lambda t: t.number(SHADOW_LOCKED, 0x70))),
    "another-cpu": (ABI, "is an image of another CPU: aarch64, this is x86_64", of_another),
    "stock-of-another-cpu": (ABI, "is an image of another CPU: aarch64, this is x86_64", stock_of_another),
    # No dump says two things of one: a message about the one is as good as one about the other.
    "two-cpus": (IMAGE, "mtype 1 of another CPU", inventory(5, AARCH64)),
    "two-page-sizes": (IMAGE, "VMA [0-9]* is 0x", inventory(6, 65536)),
    "features": (ABI, "has what this one lacks: AT_HWCAP2 0x10000000000", hwcap2),
    "instructions": (ABI, "instructions that this one lacks: avx512pf, word 11 0x5", instructions),
    # Of registers alone that are not in use, for --cpu-cap.
    "vectors-unused": (ABI, "thread @TID ran on a CPU with registers that this one lacks: XCR0 0x10000000000",
                       thread(lambda t: t.put(XSTATE, XCR0 + 5, "<B", 1))),
}


def main():
    if len(sys.argv) == 1:
        for name, (code, message, _) in WAYS.items():
            print(name, code, message)
        return
    directory, tid, name = sys.argv[1:]
    WAYS[name][2](directory, tid)
    if not name.startswith("stock-"):
        sign(directory)


main()
