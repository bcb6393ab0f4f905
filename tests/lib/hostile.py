#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Restores images that were changed at random, and by hand; the first process of a pid namespace.

    hostile.py STASIS VICTIM WORKDIR SECONDS SEED [ROUND]

Whatever an image says: the command ends in time and by itself, and when it fails no process is left.
Half of the images have their checksums made good again, half are without any, as another tool's are. Prints
what is wrong, with the round that shows it again; exit 1 then.
"""
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from xxh3 import xxh3_64  # noqa: E402

EXTENSION, MANIFEST, SUM = 2000, 2001, 536870911
INVENTORY = struct.pack("<I", 0x58313116)
LIMIT = 40  # seconds for one restore


def varint(v):
    v &= (1 << 64) - 1
    out = bytearray()
    while v > 127:
        out.append(v & 127 | 128)
        v >>= 7
    out.append(v)
    return bytes(out)


def get_varint(b, at):
    v = shift = 0
    while True:
        if at >= len(b) or shift > 63:
            raise ValueError
        v |= (b[at] & 127) << shift
        shift += 7
        at += 1
        if not b[at - 1] & 128:
            return v, at


def parse(b):
    """[number, wire type, value] of a message; ValueError when it is none."""
    fields, at = [], 0
    while at < len(b):
        tag, at = get_varint(b, at)
        wire, number = tag & 7, tag >> 3
        if not number or wire not in (0, 1, 2, 5):
            raise ValueError
        if wire == 0:
            value, at = get_varint(b, at)
        else:
            n = {1: 8, 5: 4}.get(wire)
            if n is None:
                n, at = get_varint(b, at)
            if at + n > len(b):
                raise ValueError
            value, at = b[at : at + n], at + n
        fields.append([number, wire, value])
    return fields


def build(fields):
    out = bytearray()
    for number, wire, value in fields:
        out += varint(number << 3 | wire)
        if wire == 0:
            out += varint(value)
        else:
            out += (varint(len(value)) if wire == 2 else b"") + value
    return bytes(out)


class Image:
    """One file: magics, then entries; raw is what stands behind the last that is one."""

    def __init__(self, data):
        # The inventory has one magic, all others two.
        self.head = data[:4] if data[:4] == INVENTORY else data[:8]
        self.entries, at = [], len(self.head)
        while at + 4 <= len(data):
            n = struct.unpack_from("<I", data, at)[0]
            if at + 4 + n > len(data):
                break
            self.entries.append(data[at + 4 : at + 4 + n])
            at += 4 + n
        self.raw = data[at:]

    def bytes(self):
        return self.head + b"".join(struct.pack("<I", len(e)) + e for e in self.entries) + self.raw


TEXTS = [b"", b"/", b"..", b"../../../../etc/passwd", b"/etc/passwd", b"/proc/1/mem", b"/dev/zero", b"\xff\xfe",
         b"a" * 5000, b"/" * 300, b"/proc/self/fd/0", b"/dev/full", b"%s%n%s"]


def number(rng, pids):
    return rng.choice([0, 1, 2, 3, 7, 0x7F, 0xFF, 0xFFF, 0x1000, 0xFFFF, 1 << 20, 1 << 31, (1 << 31) - 1, (1 << 32) - 1,
                       1 << 32, 1 << 40, 0x7FFFFFFFF000, 1 << 47, 1 << 62, 1 << 63, (1 << 64) - 1, (1 << 64) - 4096,
                       0xFFFFFFFF81000000, os.getpid(), *pids, rng.getrandbits(rng.randrange(1, 65))])


def change_message(rng, b, pids, depth=0):
    """One field of it, or of one within it, is another."""
    try:
        fields = parse(b)
    except ValueError:
        fields = []
    if not fields:
        return rng.choice(TEXTS) if rng.random() < 0.5 else rng.randbytes(rng.randrange(40))
    i = rng.randrange(len(fields))
    f = fields[i]
    what = rng.random()
    if what < 0.08:
        del fields[i]
    elif what < 0.14:
        fields.insert(rng.randrange(len(fields) + 1), f)
    elif what < 0.17:
        fields[i:i] = [f] * rng.choice([50, 3000])
    elif what < 0.20:
        rng.shuffle(fields)
    elif f[1] == 0:
        f[2] = rng.choice([number(rng, pids), f[2] + rng.choice([1, -1, 4096, -4096]), f[2] ^ 1 << rng.randrange(64)])
    elif f[1] != 2:
        f[2] = rng.randbytes(len(f[2]))
    elif depth < 6 and f[2] and rng.random() < 0.85:
        f[2] = change_message(rng, f[2], pids, depth + 1)
    else:
        f[2] = rng.choice([f[2][: rng.randrange(len(f[2]) + 1)], f[2] * 3, rng.choice(TEXTS)])
    return build(fields)


def change_bytes(rng, data):
    data = bytearray(data)
    what = rng.random()
    if what < 0.3 or not data:
        return bytes(data[: rng.randrange(len(data) + 1)])
    if what < 0.4:
        return bytes(data) + rng.randbytes(rng.randrange(1, 5000))
    for _ in range(rng.choice([1, 1, 2, 8, 100])):
        data[rng.randrange(len(data))] = rng.choice([0, 255, rng.randrange(256)])
    return bytes(data)


def change_file(rng, path, pids):
    what = rng.random()
    if what < 0.02:
        os.unlink(path)
    elif what < 0.06:
        os.unlink(path)
        how = rng.randrange(4)
        if how == 0:
            os.mkfifo(path)
        elif how == 1:
            os.mkdir(path)
        else:
            os.symlink(rng.choice(["/etc/passwd", "/dev/zero", os.path.basename(path), "inventory.img"]), path)
    elif what < 0.25 or not path.endswith(".img") or "/pages-" in path:
        with open(path, "rb") as f:
            data = f.read()
        with open(path, "wb") as f:
            f.write(change_bytes(rng, data))
    else:
        with open(path, "rb") as f:
            image = Image(f.read())
        for _ in range(rng.choice([1, 1, 1, 2, 4])):
            if image.entries:
                i = rng.randrange(len(image.entries))
                image.entries[i] = change_message(rng, image.entries[i], pids)
        if image.entries and rng.random() < 0.05:
            image.entries *= 2
        with open(path, "wb") as f:
            f.write(image.bytes())


def sign(directory):
    """The inventory lists what is there now, and is right about it."""
    path = f"{directory}/inventory.img"
    if not os.path.isfile(path) or os.path.islink(path):
        return
    try:
        with open(path, "rb") as f:
            image = Image(f.read())
        fields = parse(image.entries[0])
    except (OSError, ValueError, IndexError):
        return
    fields = [f for f in fields if f[0] != SUM]
    for f in fields:
        if f[0] != MANIFEST or f[1] != 2:
            continue
        try:
            entry = parse(f[2])
            name = next(e[2] for e in entry if e[0] == 1).decode()
            check = next(e[2] for e in entry if e[0] == 2)
            if not os.path.isfile(f"{directory}/{name}"):
                continue
            with open(f"{directory}/{name}", "rb") as g:
                data = g.read()
        except (OSError, ValueError, StopIteration, AttributeError):
            continue
        for e in entry:
            if e[0] == 3:
                e[2] = len(data)
            if e[0] == 4 and check in (1, 2):
                e[2] = struct.pack("<Q", xxh3_64(data if check == 1 else data[-4096:]))
        f[2] = build(entry)
    fields.append([SUM, 1, bytes(8)])
    image.entries = [build(fields)]
    image.raw = b""
    data = image.bytes()[:-8]
    with open(path, "wb") as f:
        f.write(data + struct.pack("<Q", xxh3_64(data)))


def strip(directory, everything):
    """Nothing of ours in the inventory, or in any file."""
    for name in os.listdir(directory):
        path = f"{directory}/{name}"
        if name != "inventory.img" and not (everything and name.endswith(".img") and not name.startswith("pages-")):
            continue
        with open(path, "rb") as f:
            image = Image(f.read())
        image.entries = [stripped(e) for e in image.entries]
        with open(path, "wb") as f:
            f.write(image.bytes())


def stripped(b):
    try:
        return build([[n, w, stripped(v) if w == 2 and len(v) > 16 else v] for n, w, v in parse(b) if n < EXTENSION])
    except ValueError:
        return b


# --- by hand ---------------------------------------------------------------------------------------------------


def by_hand(name, directory, pids):
    """Whole images that chance does not make."""

    def edit(file, change):
        with open(f"{directory}/{file}", "rb") as f:
            image = Image(f.read())
        change(image)
        with open(f"{directory}/{file}", "wb") as f:
            f.write(image.bytes())

    def each(number, value):
        def change(image):
            for i, e in enumerate(image.entries):
                image.entries[i] = build([[n, w, value(i) if n == number and w == 0 else v] for n, w, v in parse(e)])

        return change

    def vmas(image):
        fields = parse(image.entries[0])
        some = next(f for f in fields if f[0] == 14)
        one = parse(some[2])
        first = fields.index(some)
        for n in range(300000):
            v = [[k, w, 0x10000000 + n * 8192 + (4096 if k == 2 else 0) if k in (1, 2) else x] for k, w, x in one]
            fields.append([14, 2, build(v)])
        # Below all others, and so before them.
        image.entries[0] = build(fields[:first] + fields[-300000:] + fields[first:-300000])

    root = pids[0]
    if name == "cycle":
        edit("pstree.img", each(2, lambda i: pids[(i + 1) % len(pids)]))
    elif name == "pid 1":
        edit("pstree.img", each(1, lambda i: 1))
    elif name == "pid -1":
        edit("pstree.img", each(1, lambda i: (1 << 32) - 1))
    elif name == "sessions":
        edit("pstree.img", each(4, lambda i: 30000 + i))
    elif name == "one table":
        # Of descriptors: that of the last for all but the root, which is the parent of most.
        with open(f"{directory}/ids-{pids[-1]}.img", "rb") as f:
            table = next(v for n, _, v in parse(Image(f.read()).entries[0]) if n == 2)
        for pid in pids[1:]:
            edit(f"ids-{pid}.img", each(2, lambda i: table))
    elif name == "many mappings":
        edit(f"mm-{root}.img", vmas)
    elif name == "parent is itself":
        os.symlink(".", f"{directory}/parent")
    elif name == "parent is the root":
        os.symlink("/", f"{directory}/parent")
    elif name == "sparse terabyte":
        for file in os.listdir(directory):
            if file.startswith(("pages-", "memory")):
                os.truncate(f"{directory}/{file}", 1 << 40)
    elif name == "no file":
        shutil.rmtree(directory)
        os.mkdir(directory)


HAND = ["cycle", "pid 1", "pid -1", "sessions", "many mappings", "parent is itself", "parent is the root",
        "sparse terabyte", "no file", "one table"]
NEVER = ["cycle", "pid 1", "pid -1", "no file", "one table"]


# --- running ---------------------------------------------------------------------------------------------------


def others():
    """Processes of this namespace beside us, zombies collected before."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                with open(f"/proc/{name}/stat", encoding="latin-1") as f:
                    found.append(f.read().rpartition(")")[0] + ")")
            except OSError:
                pass
    return found


def end_all():
    deadline = time.monotonic() + 20
    while others() and time.monotonic() < deadline:
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            pass
        time.sleep(0.01)
    return not others()


def restore(stasis, directory):
    """What is wrong with it, and the exit code."""
    args = [stasis, "restore", "-D", directory, "-d", "-j", "--quiet", "--no-log"]
    tool = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        # The restored ones have the same standard error: not to its end.
        code = tool.wait(LIMIT)
    except subprocess.TimeoutExpired:
        tool.kill()
        tool.wait()
        return f"still there after {LIMIT} s", None
    os.set_blocking(tool.stderr.fileno(), False)
    text = (tool.stderr.read() or b"").decode("latin-1")
    tool.stderr.close()
    if code < 0 or code >= 126 or "was killed by signal" in text or "Sanitizer" in text or "Assertion" in text:
        return f"exit code {code}: {text}", code
    if code and not text.startswith("stasis restore: "):
        return f"exit code {code} without a message: {text}", code
    left = others() if code else []
    if left:
        time.sleep(0.3)
        left = others()
    return (f"exit code {code} ({text}), and these are left: {left}" if left else None), code


def dump(stasis, victim, work, scenario, criu):
    state, image = f"{work}/{scenario}", f"{work}/image-{scenario}-{criu}"
    shutil.rmtree(state, ignore_errors=True)
    os.mkdir(state)
    subprocess.Popen([victim, scenario, "--dir", state, "--n", "3"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                     stderr=subprocess.DEVNULL)
    if subprocess.run([victim, "--wait", state, "30"], stdout=subprocess.DEVNULL).returncode:
        end_all()
        return None
    pid = int([o for o in others()][0].split()[0])
    got = subprocess.run([stasis, "dump", "-t", str(pid), "-D", image, "-j", "--quiet", "--no-log"]
                         + (["--image-format", "criu"] if criu else []))
    end_all()
    return None if got.returncode else image


def main():
    stasis, victim, work, seconds, seed = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]), sys.argv[5]
    only = sys.argv[6] if len(sys.argv) > 6 else None
    images = []
    for scenario in ("tree", "threads", "files", "memfd", "seccomp", "timers", "ghosts", "pipes", "creds", "unixpairs"):
        for criu in (0, 1):
            image = dump(stasis, victim, work, scenario, criu)
            if image:
                images.append((image, criu))
    if len(images) < 12:
        print(f"only {len(images)} images")
        return 1
    bad = restored = refused = slowest = 0
    at = f"{work}/changed"
    deadline = time.monotonic() + seconds
    rounds = 0
    while time.monotonic() < deadline and bad < 10:
        label = HAND[rounds] if rounds < len(HAND) else f"{seed}.{rounds}"
        rounds += 1
        label = only or label
        rng = random.Random(label)
        image, criu = images[0] if label in HAND else rng.choice(images)
        if label in HAND:
            image, criu = images[1]
        shutil.rmtree(at, ignore_errors=True)
        shutil.copytree(image, at, symlinks=True)
        pids = sorted(int(n[3:-4]) for n in os.listdir(at) if n.startswith("mm-"))
        stock = criu and (label in HAND or rng.random() < 0.7)
        if stock:
            strip(at, rng.random() < 0.7)
        if label in HAND:
            by_hand(label, at, pids)
        else:
            for _ in range(rng.choice([1, 1, 2])):
                files = [f for f in os.listdir(at) if os.path.isfile(f"{at}/{f}")]
                change_file(rng, f"{at}/{rng.choice(files)}", pids)
        if not stock:
            sign(at)
        began = time.monotonic()
        wrong, code = restore(stasis, at)
        took = time.monotonic() - began
        slowest = max(slowest, took)
        if took > 15 and not wrong:
            wrong = f"exit code {code} after {took:.1f} s"
        if label in NEVER and code == 0 and not wrong:
            wrong = "it was restored"
        restored += code == 0
        refused += bool(code)
        if wrong:
            bad += 1
            print(f"round {label}: {image}: {wrong}")
        if not end_all():
            print(f"round {label}: processes that do not die: {others()}")
            return 1
        if only:
            print(f"round {label}: exit code {code}, {wrong}")
            break
    print(f"{rounds} images: {restored} were restored, {refused} refused, the slowest took {slowest:.1f} s")
    if not only and (refused < rounds / 10 or restored < 1):
        print("that is not what was meant to be tried")
        bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
