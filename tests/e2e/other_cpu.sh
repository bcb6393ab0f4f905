#!/bin/bash
# SPDX-License-Identifier: MIT
# An image of another CPU with pages of another length: every command that looks at images takes it, restore says why not.
# builds: plain asan
. "$(dirname "$0")/../lib/e2e.sh"
need_program python3

# Made by Linux 6.1 for ppc64le, pages of 64 KiB: `victim regs --n 1`, and what that thread had in its registers.
image=tests/golden/ppc64le-64k facts=tests/golden/ppc64le-64k.txt
[ "$(uname -m)" != ppc64le ] || skip "the image is of this CPU"

stasis verify "$image"
[ "$RC" = 0 ] || bad "verify: $RC $ERR"
stasis show "$image"
cat >"$TMPDIR/show.json" <<<"$OUT"
stasis core "$image" -o "$TMPDIR/core"
[ "$RC" = 0 ] || bad "core: $RC $ERR"
stasis squash "$image" -o "$TMPDIR/squashed"
[ "$RC" = 0 ] || bad "squash: $RC $ERR"
stasis verify "$TMPDIR/squashed"
[ "$RC" = 0 ] || bad "verify what squash made: $RC $ERR"

python3 - "$facts" "$TMPDIR/show.json" "$TMPDIR/core" <<'END' || bad "show or core has other registers"
import json, struct, sys

want, tid = {}, 0
for line in open(sys.argv[1]):
    f = line.split()
    if f[0] == "reg":
        tid, want[f[2]] = int(f[1]), int(f[3], 0)

doc = json.load(open(sys.argv[2]))
assert doc["origin"]["cpu"] == "ppc64le" and doc["origin"]["page_size"] == 65536

def threads(v):
    if isinstance(v, dict):
        if "registers" in v:
            yield v
        v = list(v.values())
    for e in v if isinstance(v, list) else ():
        yield from threads(e)

regs = next(t["registers"] for t in threads(doc) if t.get("tid") == tid)
for name, value in want.items():
    assert int(regs[name], 0) == value, f"show: {name} is {regs[name]}"

core = open(sys.argv[3], "rb").read()
assert core[:6] == b"\x7fELF\x02\x01" and struct.unpack_from("<H", core, 18)[0] == 21
phoff, = struct.unpack_from("<Q", core, 32)
phnum, = struct.unpack_from("<H", core, 56)
found = []
for i in range(phnum):
    kind, _, off, _, _, size, _, align = struct.unpack_from("<IIQQQQQQ", core, phoff + 56 * i)
    assert kind != 1 or align == 65536, f"core: a segment on {align} bytes"
    at = off if kind == 4 else None
    while at is not None and at < off + size:
        nlen, dlen, note = struct.unpack_from("<III", core, at)
        data = at + 12 + (nlen + 3) // 4 * 4
        # pr_pid is at 32, struct pt_regs at 112
        if note == 1 and struct.unpack_from("<I", core, data + 32)[0] == tid:
            found = struct.unpack_from("<48Q", core, data + 112)
        at = data + (dlen + 3) // 4 * 4
places = {f"r{i}": i for i in range(32)} | {"ctr": 35, "lr": 36, "xer": 37}
for name, value in want.items():
    assert found[places[name]] == value, f"core: {name} is {found[places[name]]:#x}"
END

readelf -h "$TMPDIR/core" | grep -q "Flags:.*0x2, abiv2" || bad "core: not of ELFv2: $(readelf -h "$TMPDIR/core" | grep Flags)"

stasis bt "$image"
[ "$RC" != 0 ] || bad "bt: no refusal"
[[ $ERR == *"of ppc64le, and libunwind here unwinds $(uname -m) only"*"stasis core"* ]] || bad "bt: not said why: $ERR"
expect_refusal 6 "an image of another CPU" restore -D "$image" -d --no-log
[[ $ERR == *"is an image of another CPU: ppc64le, this is $(uname -m)"* ]] || bad "not said why: $ERR"
for cap in fly '' ',' ^ ^none 'fpu,' ',ins' 'fpu,,ins' 'fpu ins' FPU fpux "$(printf 'fpu,%.0s' {1..5000})"; do
	expect_refusal 2 "a capability of no CPU, ${cap::20}" restore -D "$image" -d --no-log "--cpu-cap=$cap"
done
finish
