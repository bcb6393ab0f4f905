#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Compares an image with the facts a victim wrote about itself.

    tests/lib/check_image.py IMAGE [FACTS]

Metadata is decoded by CRIU's own pycriu (every .img file must decode), pages by the second reader or,
in CRIU's own layout, here: none of our code is trusted with looking at what our code wrote. Facts are
described in tests/README.md. Prints what differs; exit 1 if anything does. Between its messages CRIU
has words in the byte order of the image's CPU, which pycriu takes for that of its own.
"""
import base64
import glob
import os
import re
import struct
import sys
import zlib

from pycriu import images

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

CHUNK = 4 << 20
SHMEM = 1 << 56  # the space of a shared segment, docs/FORMAT.md
problems = []


def bad(text):
    problems.append(text)
    if len(problems) <= 40:
        print(text)


class BigEndian:
    """For pycriu in place of `struct`: words of the other order."""

    @staticmethod
    def unpack(fmt, data):
        return struct.unpack(">" + fmt, data)


INVENTORY = 0x58313116  # CRIU's magic number at its start


def byte_order(path):
    with open(f"{path}/inventory.img", "rb") as f:
        return ">" if f.read(4) == struct.pack(">I", INVENTORY) else "<"


AT_PAGESZ = 6


def page_size(metadata):
    """Of the CPU that the image is from: by the auxiliary vector of one of its processes."""
    for name, entries in metadata.items():
        if name.startswith("mm-"):
            auxv = entries[0].get("mm_saved_auxv", [])
            for key, value in zip(auxv[::2], auxv[1::2]):
                if key == AT_PAGESZ:
                    return value
    return 4096


class CriuMemory:
    """pagemap-*.img and pages-*.img."""

    def __init__(self, path, metadata):
        page = page_size(metadata)
        self.maps = {}
        self.lazy = {}  # of each space: (start, end) of what lazy restore may bring later
        for name, entries in metadata.items():
            m = re.fullmatch(r"pagemap-(shmem-)?(\d+)\.img", name)
            if not m:
                continue
            space = (SHMEM if m[1] else 0) | int(m[2])
            pages = open(f"{path}/pages-{entries[0]['pages_id']}.img", "rb")
            at, last, found = 0, 0, []
            for e in entries[1:]:
                n = e.get("nr_pages") or e["compat_nr_pages" if "compat_nr_pages" in e else "nr_pages"]
                if e["vaddr"] < last:
                    bad(f"{name}: entries are not in order at {e['vaddr']:#x}")
                last = e["vaddr"] + n * page
                if e.get("flags", 4) & 2:
                    self.lazy.setdefault(space, []).append((e["vaddr"], last))
                if e.get("flags", 4) & 4:
                    found.append((e["vaddr"], n * page, at))
                    at += n * page
            size = os.fstat(pages.fileno()).st_size
            if size != at:
                bad(f"{name}: names {at} bytes, its pages file has {size}")
            self.maps[space] = (pages, found)

    def spaces(self):
        return self.maps.keys()

    def extents(self, space, start, end):
        """(address, bytes) of what is stored in [start, end)."""
        pages, found = self.maps.get(space, (None, []))
        for addr, length, at in found:
            lo, hi = max(addr, start), min(addr + length, end)
            for a in range(lo, hi, CHUNK):
                n = min(CHUNK, hi - a)
                yield a, os.pread(pages.fileno(), n, at + a - addr)


class StasisMemory:
    """The block file, through the second reader."""

    def __init__(self, path):
        import read_stasis

        self.file = read_stasis.BlockFile(f"{path}/memory.stasis")

    def spaces(self):
        return self.file.spaces()

    def extents(self, space, start, end):
        return self.file.read(space, start, end)


class Image:
    def __init__(self, path):
        self.meta = {}
        self.order = byte_order(path)
        sys.modules[images.load.__module__].struct = BigEndian if self.order == ">" else struct
        for name in sorted(glob.glob(f"{path}/*.img")):
            base = os.path.basename(name)
            if base.startswith("pages-"):
                continue
            try:
                with open(name, "rb") as f:
                    self.meta[base] = images.load(f, pretty=False, no_payload=True)["entries"]
            except Exception as e:  # whatever pycriu raises, the file is not CRIU's
                bad(f"{base}: pycriu does not decode it: {e!r}")
        block = os.path.exists(f"{path}/memory.stasis")
        self.mem = StasisMemory(path) if block else CriuMemory(path, self.meta)
        self.files = {e["id"]: e for e in self.meta.get("files.img", [])}
        self.checked = 0

    def one(self, name):
        entries = self.meta.get(name)
        if not entries:
            bad(f"{name} is missing")
            raise KeyError(name)
        return entries[0]

    def leader(self, pid):
        return self.one(f"core-{pid}.img")

    def vma_at(self, pid, addr):
        for vma in self.one(f"mm-{pid}.img")["vmas"]:
            if vma["start"] <= addr < vma["end"]:
                return vma
        raise KeyError(f"no mapping at {addr:#x} of {pid}")

    def thread_core(self, tid):
        return self.one(f"core-{tid}.img")["thread_core"]

    def fd(self, pid, fd):
        table = self.one(f"ids-{pid}.img")["files_id"]
        for e in self.meta.get(f"fdinfo-{table}.img", []):
            if e["fd"] == fd:
                return e, self.files[e["id"]]
        raise KeyError(f"descriptor {fd} of {pid}")


def num(text):
    return int(text, 0)


def content_crc(img, space, start, length, backing=b""):
    """The checksum of a range: stored pages over @backing, and zeros where neither is."""
    crc, at, stored = 0, start, 0

    def gap(crc, lo, hi):
        while lo < hi:
            n = min(hi - lo, CHUNK)
            part = backing[lo - start : lo - start + n]
            crc = zlib.crc32(part + bytes(n - len(part)), crc)
            lo += n
        return crc

    for addr, data in img.mem.extents(space, start, start + length):
        if addr < at:
            bad(f"space {space:#x}: {addr:#x} is stored twice or out of order")
            break
        crc = zlib.crc32(data, gap(crc, at, addr))
        at = addr + len(data)
        stored += len(data)
    return gap(crc, at, start + length), stored


def region(img, pid, addr, length, crc, *name):
    have, _ = content_crc(img, num(pid), num(addr), num(length))
    if have != int(crc, 16):
        bad(f"pid {pid}: contents of {' '.join(name)} at {addr}+{length}: {have:08x}, not {crc}")


def file_region(img, pid, addr, length, crc, path, offset):
    with open(path, "rb") as f:
        f.seek(num(offset))
        backing = f.read(num(length))
    have, _ = content_crc(img, num(pid), num(addr), num(length), backing)
    if have != int(crc, 16):
        bad(f"pid {pid}: contents of {path} mapped at {addr}: {have:08x}, not {crc}")


def copied(img, pid, addr, length, pages):
    _, stored = content_crc(img, num(pid), num(addr), num(length))
    if stored != num(pages) * page_size(img.meta):
        bad(f"pid {pid}: {stored} bytes stored at {addr}+{length}, {pages} pages were written")


def shm(img, pid, addr, length, crc, *name):
    vma = img.vma_at(num(pid), num(addr))
    shmid = vma["shmid"]
    if vma["status"] & 0x4000:  # a memfd entry, which names the segment
        inode = img.files[shmid]["memfd"]["inode_id"]
        entries = img.meta.get("memfd.img", [])
        shmid = next(e["shmid"] for e in entries if e["inode_id"] == inode)
    elif vma["status"] & 0x400:  # the IPC id; which segment that is stands in a field of our own
        shmid = min(s for s in img.mem.spaces() if s & SHMEM)
    start = num(addr) - vma["start"] + vma["pgoff"]
    have, _ = content_crc(img, SHMEM | shmid, start, num(length))
    if have != int(crc, 16):
        bad(f"pid {pid}: shared memory {' '.join(name)} at {addr}: {have:08x}, not {crc}")


def guard(img, pid, addr, length):
    for vma in img.one(f"mm-{pid}.img")["vmas"]:
        if vma["status"] & 0x10000 and vma["start"] == num(addr):
            if vma["end"] - vma["start"] != num(length):
                bad(f"pid {pid}: guard at {addr} has {vma['end'] - vma['start']} bytes")
            return
    bad(f"pid {pid}: the guard pages at {addr} are not in the image")


def reg_of(core, name):
    """By the CPU's own message: in arrays by number, or by name."""
    for info, arrays in CPUS.items():
        regs = core.get(info, {}).get("gpregs")
        if regs:
            array, number = arrays.get(name[0]), name[1:]
            if array and number.isdigit():
                return regs[array][int(number)]
            return regs[PPC64_NAMES.get(name, name) if info == "ti_ppc64" else name]
    regs = core["thread_info"]["gpregs"]
    return regs[name[1:] if re.fullmatch(r"r[a-z].", name) else name]


CPUS = {"ti_aarch64": {"x": "regs"}, "ti_ppc64": {"r": "gpr"}, "ti_s390": {"r": "gprs", "a": "acrs"}}
PPC64_NAMES = {"lr": "link"}


def reg(img, tid, name, value):
    have = reg_of(img.one(f"core-{tid}.img"), name)
    if have != num(value):
        bad(f"tid {tid}: {name} is {have:#x}, not {value}")


def fpregs(img, tid):
    return img.one(f"core-{tid}.img")["thread_info"]["fpregs"]


def as_bytes(words, total):
    size = total // len(words)
    return struct.pack(f"<{len(words)}{ {4: 'I', 8: 'Q'}[size]}", *words)


def vec(img, tid, n, hexa):
    n, want = num(n), bytes.fromhex(hexa)
    arm = img.one(f"core-{tid}.img").get("ti_aarch64")
    if arm:
        have = struct.pack("<2Q", *arm["fpsimd"]["vregs"][2 * n : 2 * n + 2])
        if have != want:
            bad(f"tid {tid}: vector register {n} is {have.hex()}, not {hexa}")
        return
    fp = fpregs(img, tid)
    xs = fp.get("xsave", {})
    if n >= 16:
        have = as_bytes(xs["hi16_zmm"], 1024)[64 * (n - 16) : 64 * (n - 15)]
    else:
        have = as_bytes(fp["xmm_space"], 256)[16 * n : 16 * n + 16]
        if len(want) > 16:
            have += as_bytes(xs["ymmh_space"], 256)[16 * n : 16 * n + 16]
        if len(want) > 32:
            have += as_bytes(xs["zmm_upper"], 512)[32 * n : 32 * n + 32]
    if have != want:
        bad(f"tid {tid}: vector register {n} is {have.hex()}, not {hexa}")


def mxcsr(img, tid, value):
    if fpregs(img, tid)["mxcsr"] != num(value):
        bad(f"tid {tid}: mxcsr is {fpregs(img, tid)['mxcsr']:#x}")


def fpucw(img, tid, value):
    if fpregs(img, tid)["cwd"] != num(value):
        bad(f"tid {tid}: FPU control word is {fpregs(img, tid)['cwd']:#x}")


def sigmask(img, tid, mask):
    core = img.one(f"core-{tid}.img")
    have = core["tc"]["blk_sigset"] if "tc" in core else core["thread_core"]["blk_sigset"]
    if have != num(mask):
        bad(f"tid {tid}: signal mask {have:#x}, not {mask}")


def queue(img, where, key, signo, value):
    """Facts come in the order of the queue; each takes its signal out of it."""
    infos = where.setdefault("queue", [raw(s["siginfo"]) for s in where[key].get("signals", [])])
    for i, info in enumerate(infos):
        sig, _, _, _, pid, uid, val = struct.unpack_from(img.order + "7i", info)
        if sig == num(signo):
            if val != num(value):
                return f"signal {sig} has value {val}, not {value}"
            del infos[i]
            return None
    return f"signal {signo} with value {value} is missing"


def raw(value):
    import base64

    return value if isinstance(value, bytes) else base64.b64decode(value)


def pending(img, tid, signo, value):
    why = queue(img, img.thread_core(tid), "signals_p", signo, value)
    if why:
        bad(f"tid {tid}: private queue: {why}")


def shared_pending(img, pid, signo, value):
    why = queue(img, img.leader(pid)["tc"], "signals_s", signo, value)
    if why:
        bad(f"pid {pid}: shared queue: {why}")


def sigaction(img, pid, signo, flags, mask):
    numbers = [n for n in range(1, 65) if n not in (9, 19)]
    sa = img.leader(pid)["tc"]["sigactions"][numbers.index(num(signo))]
    if sa["sigaction"] < 2 or sa["flags"] & ~0x04000000 != num(flags) or sa["mask"] != num(mask):
        bad(f"pid {pid}: action of signal {signo} is {sa}")


def altstack(img, tid, addr, length):
    sas = img.thread_core(tid)["sas"]
    if sas["ss_sp"] != num(addr) or sas["ss_size"] != num(length):
        bad(f"tid {tid}: alternate stack {sas}")


def timer(img, pid, tid_, clock, signo, value, interval):
    for t in img.leader(pid)["tc"]["timers"].get("posix", []):
        if t["it_id"] == num(tid_):
            every = t["isec"] * 10**9 + t["insec"]
            if (t["clock_id"], every) != (num(clock), num(interval)):
                bad(f"pid {pid}: timer {tid_}: {t}")
            # an int in the first bytes of a pointer's place
            have = t["sival_ptr"] >> 32 if img.order == ">" else t["sival_ptr"] & 0xFFFFFFFF
            if num(signo) and (t["si_signo"], have) != (num(signo), num(value)):
                bad(f"pid {pid}: timer {tid_} notifies otherwise: {t}")
            return
    bad(f"pid {pid}: timer {tid_} is not in the image")


def itimer(img, pid, which, interval):
    t = img.leader(pid)["tc"]["timers"][which]
    have = t["isec"] * 10**9 + t["iusec"] * 1000
    if have != num(interval):
        bad(f"pid {pid}: interval timer {which}: {t}")


def rlimit(img, pid, which, cur, peak):
    limit = img.leader(pid)["tc"]["rlimits"]["rlimits"][num(which)]
    want = tuple(num(x) & 0xFFFFFFFFFFFFFFFF for x in (cur, peak))
    if (limit["cur"], limit["max"]) != want:
        bad(f"pid {pid}: limit {which} is {limit}")


def cwd(img, pid, path):
    fs = img.one(f"fs-{pid}.img")
    have = img.files[fs["cwd_id"]]["reg"]["name"]
    if have != path:
        bad(f"pid {pid}: current directory {have}")


def umask(img, pid, mask):
    if img.one(f"fs-{pid}.img")["umask"] != num(mask):
        bad(f"pid {pid}: umask {img.one(f'fs-{pid}.img')['umask']:o}")


def nice(img, tid, value):
    if img.thread_core(tid)["sched_nice"] != num(value):
        bad(f"tid {tid}: nice {img.thread_core(tid)['sched_nice']}")


def comm(img, tid, *name):
    if img.thread_core(tid)["comm"] != " ".join(name):
        bad(f"tid {tid}: comm {img.thread_core(tid)['comm']!r}")


def sched(img, tid, policy, prio):
    if img.thread_core(tid)["sched_policy"] != num(policy):
        bad(f"tid {tid}: scheduling policy {img.thread_core(tid)['sched_policy']}")


def rseq(img, tid, addr):
    if img.thread_core(tid)["rseq_entry"]["rseq_abi_pointer"] != num(addr):
        bad(f"tid {tid}: rseq {img.thread_core(tid)['rseq_entry']}")


def robust(img, tid, addr, length):
    tc = img.thread_core(tid)
    if (tc["futex_rla"], tc["futex_rla_len"]) != (num(addr), num(length)):
        bad(f"tid {tid}: robust list {tc['futex_rla']:#x}+{tc['futex_rla_len']}")


def seccomp(img, tid, mode):
    have = img.thread_core(tid)["seccomp_mode"]
    if have not in (num(mode), {"2": "filter", "1": "strict"}.get(mode)):
        bad(f"tid {tid}: seccomp mode {have}")
    if num(mode) != 2:
        return
    # From the oldest to the newest, by way of what is called prev; each is classic BPF.
    table = img.one("seccomp.img")["seccomp_filters"]
    at = img.thread_core(tid).get("seccomp_filter")
    if at is None:
        bad(f"tid {tid}: no seccomp filter")
    for _ in range(len(table)):
        if at is None:
            break
        size = len(base64.b64decode(table[at]["filter"]))
        if not size or size % 8:
            bad(f"seccomp filter {at} has {size} bytes")
        at = table[at].get("prev")
    if at is not None:
        bad(f"tid {tid}: a chain of seccomp filters without end")


def creds(img, tid, uid, gid):
    c = img.thread_core(tid)["creds"]
    if any(c[k] != num(uid) for k in ("uid", "euid", "suid", "fsuid")):
        bad(f"tid {tid}: credentials {c}")
    if any(c[k] != num(gid) for k in ("gid", "egid", "sgid", "fsgid")):
        bad(f"tid {tid}: credentials {c}")


def groups(img, tid, want):
    have = sorted(img.thread_core(tid)["creds"].get("groups", []))
    if have != sorted(num(g) for g in want.split(",")):
        bad(f"tid {tid}: groups {have}")


def task(img, pid, ppid, pgid, sid, state, *status):
    for e in img.meta["pstree.img"]:
        if e["pid"] != num(pid):
            continue
        root = img.meta["pstree.img"][0]["pid"] == num(pid)
        if (root or e["ppid"] == num(ppid)) and (e["pgid"], e["sid"]) == (num(pgid), num(sid)):
            break
        bad(f"pid {pid}: tree entry {e}")
        return
    else:
        bad(f"pid {pid} is not in the tree")
        return
    tc = img.leader(pid)["tc"]
    if tc["task_state"] != {"alive": 1, "dead": 2, "stopped": 3}[state]:
        bad(f"pid {pid}: state {tc['task_state']}, not {state}")
    if status and tc["exit_code"] != num(status[0]) << 8:
        bad(f"pid {pid}: exit code {tc['exit_code']:#x}")


FD_TYPES = {
    "reg": 1, "pipe": 2, "fifo": 3, "inet": 4, "unix": 5, "eventfd": 6, "epoll": 7, "inotify": 8,
    "signalfd": 9, "tty": 11, "timerfd": 17, "memfd": 18, "pidfd": 20,
}  # fmt: skip


def fd(img, pid, number, kind):
    try:
        entry, file = img.fd(num(pid), num(number))
    except KeyError as e:
        bad(f"pid {pid}: {e} ({kind}) is not in the image")
        return
    names = {"REG": "reg", "PIPE": "pipe", "FIFO": "fifo", "INETSK": "inet", "UNIXSK": "unix",
             "EVENTFD": "eventfd", "EVENTPOLL": "epoll", "INOTIFY": "inotify", "SIGNALFD": "signalfd",
             "TTY": "tty", "TIMERFD": "timerfd", "MEMFD": "memfd", "PIDFD": "pidfd"}  # fmt: skip
    have = names.get(entry.get("type"), entry.get("type"))
    # Older CRIU's schema has no name for a pidfd and leaves the number or the default.
    if have not in (kind, FD_TYPES[kind]) and kind != "pidfd":
        bad(f"pid {pid}: descriptor {number} is {have}, not {kind}")


def pos(img, pid, number, want):
    if img.fd(num(pid), num(number))[1]["reg"]["pos"] != num(want):
        bad(f"pid {pid}: descriptor {number}: position {img.fd(num(pid), num(number))[1]['reg']}")


def eventfd(img, pid, number, count):
    if img.fd(num(pid), num(number))[1]["efd"]["counter"] != num(count):
        bad(f"pid {pid}: eventfd {number}: {img.fd(num(pid), num(number))[1]['efd']}")


def signalfd(img, pid, number, mask):
    if img.fd(num(pid), num(number))[1]["sgfd"]["sigmask"] != num(mask):
        bad(f"pid {pid}: signalfd {number}: {img.fd(num(pid), num(number))[1]['sgfd']}")


def epoll(img, pid, number, target, events, data):
    tfds = img.fd(num(pid), num(number))[1]["epfd"].get("tfd", [])
    for t in tfds:  # the kernel adds EPOLLERR and EPOLLHUP to what is asked for
        if t["tfd"] == num(target):
            if t["data"] != num(data) or t["events"] & 0xFFFFFFE7 != num(events):
                bad(f"pid {pid}: epoll {number}: {t}")
            return
    bad(f"pid {pid}: epoll {number} does not watch {target}")


def timerfd(img, pid, number, interval):
    t = img.fd(num(pid), num(number))[1]["tfd"]
    if t["isec"] * 10**9 + t["insec"] != num(interval):
        bad(f"pid {pid}: timerfd {number}: {t}")


def seals(img, pid, number, want):
    inode = img.fd(num(pid), num(number))[1]["memfd"]["inode_id"]
    for e in img.meta.get("memfd.img", []):
        if e["inode_id"] == inode:
            if e["seals"] != num(want):
                bad(f"pid {pid}: memfd {number}: {e}")
            return
    bad(f"pid {pid}: memfd {number} has no inode entry")


def nothing(img, *_):
    """Facts that metadata in CRIU's format has no place for, or that other tests use."""


CHECKS = {
    "region": region, "file-region": file_region, "copied": copied, "shm": shm, "guard": guard,
    "reg": reg, "vec": vec, "mxcsr": mxcsr, "fpucw": fpucw, "sigmask": sigmask, "pending": pending,
    "shared-pending": shared_pending, "sigaction": sigaction, "altstack": altstack, "timer": timer,
    "itimer": itimer, "rlimit": rlimit, "cwd": cwd, "umask": umask, "nice": nice, "comm": comm,
    "sched": sched, "rseq": rseq, "robust": robust, "seccomp": seccomp, "creds": creds,
    "groups": groups, "task": task, "fd": fd, "pos": pos, "eventfd": eventfd, "signalfd": signalfd,
    "epoll": epoll, "timerfd": timerfd, "seals": seals, "scenario": nothing, "pid": nothing,
    "affinity": nothing, "frames": nothing,
}  # fmt: skip


def stack_pages(img):
    """The page that a thread's stack pointer is in cannot be brought later."""
    for e in img.meta.get("pstree.img", []):
        for tid in e.get("threads", []):
            core = img.meta.get(f"core-{tid}.img", [{}])[0]
            sp = core.get("thread_info", {}).get("gpregs", {}).get("sp", 0)
            if any(lo <= sp & ~(page_size(img.meta) - 1) < hi for lo, hi in img.mem.lazy.get(e["pid"], [])):
                bad(f"tid {tid}: the page of its stack pointer {sp:#x} is lazy")


def main():
    img = Image(sys.argv[1])
    n = 0
    if isinstance(img.mem, CriuMemory):
        stack_pages(img)
    with open(sys.argv[2]) if len(sys.argv) > 2 else open(os.devnull) as facts:
        for line in facts:
            words = line.split()
            if words[0] == "#":
                continue
            try:
                CHECKS[words[0]](img, *words[1:])
            except (KeyError, IndexError, StopIteration, TypeError, ValueError) as e:
                bad(f"{line.strip()}: cannot be found in the image: {e!r}")
            n += 1
    print(f"{len(img.meta)} files decoded, {n} facts, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
