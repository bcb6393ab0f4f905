#!/bin/bash
# SPDX-License-Identifier: MIT
# Logs cut, torn, overwritten and with turned bits: what is lost is what was hit, and bindecode says so.
# timeout: 180
# builds: plain asan
. "$(dirname "$0")/../lib/e2e.sh"
. tests/lib/binlog.sh
need_program gcc python3

cat >"$TMPDIR/writer.c" <<'X'
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>
#include "base/err.h"
#include "binlog/pr.h"
static void *run(void *arg)
{
	for (int i = 0; i < 15000; i++)
		if (i % 3)
			pr_info("thread %d line %d of %s\n", *(int *)arg, i, "a literal");
		else
			pr_debug("thread %d line %d: %s %#lx %.3f\n", *(int *)arg, i, i % 2 ? "odd" : "even",
				 (long)i * i, i / 7.0);
	return NULL;
}
int main(int argc, char **argv)
{
	int who[3] = {0, 1, 2};
	pthread_t t[3];
	struct err err = {0};

	if (argc > 2) { /* killed with all that it wrote */
		if (binlog_open(argv[1], NULL, &err) < 0)
			return puts(err.msg), 1;
		run(&who[0]);
		kill(getpid(), SIGKILL);
	}
	if (binlog_open(argv[1], NULL, &err) < 0)
		return puts(err.msg), 1;
	for (int i = 0; i < 3; i++)
		pthread_create(&t[i], NULL, run, &who[i]);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	binlog_close();
	return 0;
}
X
library gcc "$TMPDIR"
program gcc "$TMPDIR" writer "$TMPDIR/writer.c" -O2
"$TMPDIR/writer" "$TMPDIR/log" || die "the writer failed"
("$TMPDIR/writer" "$TMPDIR/killed" k) 2>/dev/null

# Of a log that nobody closed, too: a chunk that is gone is missed, wherever it stood, and the end of the file.
"$BINDECODE" --check "$TMPDIR/killed" >"$TMPDIR/out" || bad "a killed writer's log: $(<"$TMPDIR/out")"
grep -q "not closed" "$TMPDIR/out" || bad "it does not say that the log was not closed: $(<"$TMPDIR/out")"
python3 - "$TMPDIR/killed" >"$TMPDIR/chunks" <<'X'
import sys
log, o = open(sys.argv[1], "rb").read(), 4096
while o < len(log):
    step = int.from_bytes(log[o + 24:o + 32], "little") if log[o:o + 4] == b"BLK\x01" else 4096
    if step > 4096 or log[o:o + 4] == b"BLK\x01":
        print(o, step, log[o + 4])
    o += step
X
[ "$(grep -c ' 4$' "$TMPDIR/chunks")" -ge 4 ] || bad "too few chunks: $(<"$TMPDIR/chunks")"
while read -r off len type; do
	cp "$TMPDIR/killed" "$TMPDIR/hurt"
	[ "$type" != 4 ] || dd if=/dev/zero of="$TMPDIR/hurt" bs=4096 seek=$((off / 4096)) count=$((len / 4096)) conv=notrunc status=none
	"$BINDECODE" --check "$TMPDIR/hurt" >"$TMPDIR/out"
	[ $? = 3 ] || [ "$type" != 4 ] || bad "the chunk at $off of a log that was not closed is not missed: $(<"$TMPDIR/out")"
	truncate -s "$off" "$TMPDIR/hurt"
	"$BINDECODE" --check "$TMPDIR/hurt" >"$TMPDIR/out"
	[ $? = 3 ] || bad "a cut at $off of a log that was not closed is not missed: $(<"$TMPDIR/out")"
done <"$TMPDIR/chunks"

# The ring has the newest records: none of its pages that held some may be zero.
read -r off len _ <<<"$(grep ' 3$' "$TMPDIR/chunks")"
pages=0
for ((page = off / 4096 + 1; page < (off + len) / 4096; page++)); do
	cmp -s -n 4096 -i $((page * 4096)):0 "$TMPDIR/killed" /dev/zero && continue
	cp "$TMPDIR/killed" "$TMPDIR/hurt"
	dd if=/dev/zero of="$TMPDIR/hurt" bs=4096 seek=$page count=1 conv=notrunc status=none
	"$BINDECODE" --raw "$TMPDIR/hurt" >"$TMPDIR/out" 2>/dev/null
	rc=$?
	# A segment that a chunk has as well is not read from the ring; of the end of one that was left nobody knows.
	[ $rc = 3 ] || [ $(((page - off / 4096) % 16)) = 0 ] || [ "$(wc -l <"$TMPDIR/out")" = 15000 ] || bad "page $page of a ring is zero, and nothing is said"
	pages=$((pages + (rc == 3)))
	if grep -q -v -x 'thread 0 line [0-9]* of a literal\|thread 0 line [0-9]*: [a-z]* 0x[0-9a-f]* [0-9.]*\|thread 0 line 0: even 0 0.000' "$TMPDIR/out"; then
		bad "page $page of a ring is zero, and lines are made up"
	fi
done
[ $pages -gt 0 ] || bad "the ring has no page that matters"

python3 - "$BINDECODE" "$TMPDIR/log" "$TMPDIR/hurt" "${SEED:-1}" <<'X' || bad "see above"
import random, re, subprocess, sys

program, log, hurt, seed = sys.argv[1:]
rnd = random.Random(int(seed))
sound = open(log, "rb").read()
problems = 0


def bad(text):
    global problems
    print("BAD:", text)
    problems += 1


def decode(*options):
    p = subprocess.run([program, *options, hurt], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if p.returncode not in (0, 3, 4, 5):
        bad(f"{what}: exit code {p.returncode}: {p.stderr.decode(errors='replace')}")
    return p.returncode, p.stdout.decode(errors="replace").splitlines(), p.stderr.decode(errors="replace")


def hurt_is(data):
    open(hurt, "wb").write(data)


what = "sound"
hurt_is(sound)
code, all_lines, said = decode("--raw")
if code or said or len(all_lines) != 45000:
    sys.exit(f"the sound log: exit code {code}, {len(all_lines)} lines, {said}")
known = set(all_lines)

# Blocks, as docs/BINLOG.md 2 walks them: (offset, length, type, record bytes).
blocks, o = [], 4096
while o < len(sound):
    if sound[o:o + 4] == b"BLK\x01":
        n = int.from_bytes(sound[o + 24:o + 32], "little")
        blocks.append((o, n, sound[o + 4], int.from_bytes(sound[o + 44:o + 48], "little")))
        o += n
    else:
        o += 4096
chunks = [b for b in blocks if b[2] == 4]
if len(chunks) < 10:
    sys.exit(f"only {len(chunks)} chunks")


def expect(hit, most_wrong, must_say=True):
    """@hit: blocks that were damaged; of others every line is there, in the order of each thread."""
    code, lines, said = decode("--raw")
    check, report, _ = decode("--check")
    if must_say and (code != 3 or check != 3):
        bad(f"{what}: exit codes {code} and {check} instead of 3")
    lost = sum(1 for _ in all_lines) - len([l for l in lines if l in known])
    # A record has 24 bytes at least here.
    if lost > sum(b[3] // 24 + 1 for b in hit):
        bad(f"{what}: {lost} lines are gone")
    wrong = [l for l in lines if l not in known]
    if len(wrong) > most_wrong:
        bad(f"{what}: {len(wrong)} lines that nobody wrote: {wrong[:3]}")
    # A turned bit can make one line another one that exists: then one stands behind a later one.
    last, back = [-1] * 3, 0
    for l in lines:
        m = re.match(r"thread (\d) line (\d+)", l)
        if m and l in known:
            t, n = int(m[1]), int(m[2])
            back += n <= last[t]
            last[t] = n
    if back > most_wrong:
        bad(f"{what}: {back} lines are out of order")
    text = "\n".join(report)
    if must_say and not re.search(r"[1-9]\d* +(bytes|chunks|blocks|dictionaries)[^\n]*", text):
        bad(f"{what}: the report does not say what was hurt: {text}")
    return text


for i in range(25):
    b = rnd.choice(chunks)
    data = bytearray(sound)
    bit = rnd.randrange((64 + b[3]) * 8)
    data[b[0] + bit // 8] ^= 1 << bit % 8
    what = f"bit {bit} of the chunk at {b[0]} turned"
    hurt_is(data)
    expect([b], 1)

for i in range(10):
    b = rnd.choice(chunks)
    data = bytearray(sound)
    n = rnd.randrange(8, 3000)
    at = b[0] + 64 + rnd.randrange(b[3] - n) // 8 * 8
    data[at:at + n] = rnd.choice([bytes(n), b"\xff" * n, rnd.randbytes(n)])
    what = f"{n} bytes at {at} overwritten"
    hurt_is(data)
    text = expect([b], 2)
    m = re.search(r"(\d+) +bytes skipped", text)
    if data[at] and not m:
        bad(f"{what}: nothing was skipped: {text}")
    elif m and int(m[1]) > n + 400:
        bad(f"{what}: {m[1]} bytes were skipped")

for i in range(5):  # a block header: the walk finds the next block
    b = rnd.choice(chunks)
    data = bytearray(sound)
    data[b[0] + rnd.randrange(28)] ^= 0x10
    what = f"header of the chunk at {b[0]} damaged"
    hurt_is(data)
    text = expect([b], 0)
    if not re.search(r"[1-9]\d* +bytes skipped", text):
        bad(f"{what}: {text}")

# The file is cut, between blocks, too: every block before the cut is there, and the end is missed.
for cut in [rnd.randrange(4096, len(sound)) for _ in range(12)] + [b[0] for b in rnd.sample(blocks, 10)]:
    what = f"cut at {cut}"
    hurt_is(sound[:cut])
    expect([b for b in blocks if b[0] + b[1] > cut], 0)

# All of a block is zero: nothing is left that could be wrong.
short = [b for b in chunks if b[1] < 65536]
for b in blocks[:4] + short + rnd.sample(blocks[4:], 8):
    what = f"block at {b[0]} lost"
    hurt_is(sound[:b[0]] + bytes(b[1]) + sound[b[0] + b[1]:])
    expect(blocks if b[2] == 1 else [b], 0)

for i in range(5):  # a whole page is zero, as after a crash of the machine
    b = rnd.choice(chunks)
    page = b[0] + 4096 * rnd.randrange(1, b[1] // 4096)
    data = bytearray(sound)
    data[page:page + 4096] = bytes(4096)
    what = f"page at {page} lost"
    hurt_is(data)
    expect([b], 1)  # the record that the page's edge cuts

for i in range(40):  # anything at all: an answer, not a crash
    data = bytearray(sound[:rnd.choice([len(sound), 300000, 20000])])
    for _ in range(rnd.choice([1, 10, 100, 1000])):
        data[rnd.randrange(len(data))] = rnd.randrange(256)
    what = f"random damage {i}"
    hurt_is(data)
    for options in (["--raw"], ["--check", "--force"], ["--force", "-F", "json"], ["--stats"]):
        decode(*options)
data = bytearray(sound)
data[30] ^= 1
what = "a header that is damaged"
hurt_is(data)
for options in (["--check", "--force"], ["--force", "--raw"]):
    if decode(*options)[0] != 3:
        bad(f"{options}: no word of it in the exit code")
hurt_is(rnd.randbytes(500000))
what = "noise"
if decode("--raw")[0] != 5:
    bad("noise is taken for a log")
sys.exit(problems != 0)
X
finish
