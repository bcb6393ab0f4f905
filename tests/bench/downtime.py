#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""How long a process stands still while an image of it is made, seen from inside of it.

    BUILD=build/x86_64 tests/bench/downtime.py [--full] [--rounds N] [--rows ROW,...] [--sizes MIB,...]
        [--pattern text|random|half] [--dir DIR]

JSON lines on standard output, a table on standard error. The victim (ticker.c) writes one word to a random page
for every 4096 bytes of its rate. All tools of a row take turns in each round, after one that does not count;
numbers are medians. tests/README.md tells what the rows are. --dir: where images go; default TMPDIR, else /dev/shm. --full has the sizes of the bars.
"""
import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import downtime_redis  # noqa: E402
from downtime_tools import Failed, Stasis, Ticker, make_tools  # noqa: E402

MACHINE = {}


def say(text):
    print(text, file=sys.stderr, flush=True)


def emit(bench, **fields):
    print(json.dumps({"bench": bench, **fields, **MACHINE}), flush=True)


def machine():
    cpu = "unknown"
    with open("/proc/cpuinfo") as f:
        for line in f:
            if line.startswith("model name"):
                cpu = line.split(":", 1)[1].strip()
                break
    return {"machine": cpu, "cpus": len(os.sched_getaffinity(0)), "kernel": platform.release()}


def available_mib():
    with open("/proc/meminfo") as f:
        for line in f:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) // 1024
    return 0


def steal_ms():
    """What a hypervisor has taken of all CPUs so far."""
    with open("/proc/stat") as f:
        return int(f.readline().split()[8]) * 1000 / os.sysconf("SC_CLK_TCK")


def measured(ticker, tool):
    """One image, and what the victim has seen of it."""
    ticker.ask("reset")
    time.sleep(0.4)
    before = ticker.ask("read")
    ticker.ask("reset")
    stolen = steal_ms()
    try:
        r = tool.run(ticker)
        seen = ticker.ask("read")
    finally:
        tool.tidy()
    r["steal_ms"] = steal_ms() - stolen
    r["longest_ms"] = seen["longest_ns"] / 1e6
    r["p99_ms"] = seen["p99_ns"] / 1e6
    r["over_1ms"] = seen["over_1ms"]
    r["mb_per_s"] = seen["mb_per_s"]
    if before["mb_per_s"]:
        r["lost_percent"] = 100 * (1 - seen["mb_per_s"] / before["mb_per_s"])
    if "frozen_ns" in r:
        r["tool_ms"] = r.get("longest_stop_ns", r["frozen_ns"]) / 1e6
    if r.get("memory_ns") and r.get("raw_bytes"):
        r["memory_gb_per_s"] = r["raw_bytes"] / r["memory_ns"]
        r["gb_per_s"] = r["raw_bytes"] / r["total_ns"]
    return r


def summary(runs):
    """Medians, and the range of what varies most."""
    out = {"rounds_measured": len(runs)}
    for key in runs[0]:
        values = [r[key] for r in runs if key in r]
        if isinstance(values[0], str):
            out[key] = "/".join(sorted(set(values)))
            continue
        out[key] = round(statistics.median(values), 3)
        if key in ("longest_ms", "tool_ms", "wall_s", "p99_ms"):
            out[key + "_min"], out[key + "_max"] = round(min(values), 3), round(max(values), 3)
    return out


class Bench:
    def __init__(self, args, place):
        self.args, self.place = args, place
        build = os.environ.get("BUILD", f"build/{platform.machine()}")
        self.stasis = os.path.abspath(os.environ.get("STASIS", f"{build}/stasis"))
        self.ticker = os.path.abspath(f"{build}/tests/bench/ticker")
        self.pinger = os.path.abspath(f"{build}/tests/bench/pinger")
        self.tools = make_tools(self.stasis, place, say)
        self.results = {}  # (row, size, tool) to summary

    def fits(self, mib, tools):
        """The victim, an image of the same size in memory, and a second copy of what is written meanwhile."""
        copies = 2.3 if {"gcore", "criu", "fork"} & set(tools) else 1.9
        need = int(mib * copies) + 600
        if available_mib() < need:
            say(f"  left out: {mib} MiB need {need} MiB of memory, there are {available_mib()}")
            return False
        return True

    def row(self, row, names, size, rate, rounds=None, tools=None, **victim):
        tools = tools or self.tools
        names = [n for n in names if n in tools]
        what = {"row": row, "mib": size, "rate_mb_per_s": rate, "pattern": self.args.pattern, **victim}
        say(f"{row}: {size} MiB, {rate} MB/s" + "".join(f", {v} {k}" for k, v in victim.items()))
        if not self.fits(size, names):
            emit("downtime-left-out", **what)
            return
        runs = {n: [] for n in names}
        victim.setdefault("pattern", self.args.pattern)
        with Ticker(self.ticker, self.place, size, rate, **victim) as ticker:
            for i in range((rounds or self.args.rounds) + 1):
                for n in list(names):
                    try:
                        r = measured(ticker, tools[n])
                    except Failed as e:
                        say(f"  {n}: left out: {e}")
                        emit("downtime-failed", tool=n, error=str(e), **what)
                        names.remove(n)
                        runs.pop(n)
                        continue
                    # The first round has programs and pages to load.
                    if i:
                        runs[n].append(r)
        for n in names:
            s = self.results[(row, size, n)] = summary(runs[n])
            emit("downtime", tool=n, **what, **s)
            self.table_line(n, s)

    def table_line(self, name, s):
        text = f"  {name:14} longest {s['longest_ms']:9.2f} ms ({s['longest_ms_min']:.2f} to {s['longest_ms_max']:.2f})"
        if s["steal_ms"]:
            text += f", stolen {s['steal_ms']:.0f} ms"
        if "tool_ms" in s:
            text += f", by the tool {s['tool_ms']:.2f}"
        text += f"; p99 {s['p99_ms']:.2f} ms, lost {s.get('lost_percent', 0):.1f} %, wall {s['wall_s']:.2f} s"
        if "peak_mib" in s:
            text += f", {s['peak_mib']:.0f} MiB"
        if "rounds" in s:
            text += f"; {s['tracking']}, {s['rounds']:g} rounds"
        say(text)

    def bar(self, what, value, bar, unit, at_least=False):
        ok = value >= bar if at_least else value <= bar
        emit("downtime-bar", what=what, value=round(value, 3), bar=bar, unit=unit, within_bar=ok)
        say(f"  bar: {what}: {value:.2f} {unit}, {'at least' if at_least else 'at most'} {bar}: {'yes' if ok else 'NO'}")

    def got(self, row, size, tool):
        return self.results.get((row, size, tool))

    # --- the rows ---

    def sizes(self):
        for mib in self.args.sizes:
            self.row("size", ["none", "precopy", "busy", "stop", "fork", "gcore", "criu"], mib, 100)
        middle = self.args.main
        pre, stop = self.got("size", middle, "precopy"), self.got("size", middle, "stop")
        if pre and stop:
            at = f", {middle} MiB, 100 MB/s"
            self.bar("longest stop seen by the victim" + at, pre["longest_ms"], 6, "ms")
            self.bar("longest stop by the tool's clock" + at, pre["tool_ms"], 4, "ms")
            self.bar("shorter than stop-and-copy" + at, stop["longest_ms"] / pre["longest_ms"], 200, "x", True)
            self.bar("lost throughput" + at, pre["lost_percent"], 10, "%")
            self.bar("p99 of ticks" + at, pre["p99_ms"], 2, "ms")
            self.bar("wall against stop-and-copy" + at, pre["wall_s"] / stop["wall_s"], 1.3, "x")
            self.bar("memory beside the residual" + at, pre["peak_mib"] - pre.get("residual_mib", 0), 128, "MiB")
        have = [(m, self.got("size", m, "precopy")) for m in self.args.sizes if m >= 1024 or not self.args.full]
        have = [(m, r) for m, r in have if r]
        if len(have) > 1:
            (a, ra), (b, rb) = have[0], have[-1]
            slope = (rb["longest_ms"] - ra["longest_ms"]) / (b - a) * 1024
            self.bar(f"slope from {a} to {b} MiB", slope, 0.7, "ms per GiB")

    def rates(self):
        mib = self.args.main
        for rate in (0, 10, 500):
            self.row("rate", ["none", "precopy", "busy", "stop", "fork"], mib, rate)
        pre, fork = self.got("rate", mib, "precopy"), self.got("rate", mib, "fork")
        if pre:
            self.bar(f"500 MB/s, {mib} MiB", pre["tool_ms"], 20, "ms")
            if fork:
                self.bar(f"500 MB/s, {mib} MiB, against a bare fork", pre["tool_ms"], round(fork["longest_ms"], 2), "ms")

    def calm(self):
        """A victim that sleeps between writes: it leaves its CPU to whoever copies."""
        mib = self.args.main
        self.row("calm", ["none", "precopy", "stop"], mib, 100, calm=1)
        pre, stop = self.got("calm", mib, "precopy"), self.got("calm", mib, "stop")
        if pre and stop:
            at = f", {mib} MiB, 100 MB/s, asleep between writes"
            self.bar("wall against stop-and-copy" + at, pre["wall_s"] / stop["wall_s"], 1.3, "x")
            self.bar("lost throughput" + at, pre["lost_percent"], 10, "%")

    def incremental(self):
        """Dumps with 1 % of the memory written since the last one, each behind a full one."""
        mib, percent = self.args.main, 1
        if "precopy" not in self.tools or not self.fits(mib, ["precopy"]):
            return
        say(f"incremental: {mib} MiB, {percent} % written between two dumps")
        runs = []
        full = Stasis("full", self.place, self.stasis, "--track-mem")
        part = Stasis("part", self.place, self.stasis, "--track-mem", "--prev-images-dir", "../" + os.path.basename(full.dir))
        part.dir += ".part"
        with Ticker(self.ticker, self.place, mib, 0, pattern=self.args.pattern, calm=1) as ticker:
            for i in range(self.args.rounds + 1):
                try:
                    a = full.run(ticker)
                    ticker.ask("write", mib * 256 * percent // 100)
                    b = part.run(ticker)
                finally:
                    full.tidy()
                    part.tidy()
                if i:
                    runs.append({
                        "full_s": a["wall_s"], "part_s": b["wall_s"], "faster": a["wall_s"] / b["wall_s"],
                        "full_mib": a["image_mib"], "part_mib": b["image_mib"],
                        "smaller": a["image_mib"] / b["image_mib"], "wall_s": b["wall_s"],
                    })
        s = summary(runs)
        emit("downtime-incremental", mib=mib, percent=percent, pattern=self.args.pattern, **s)
        self.bar(f"incremental, {mib} MiB, {percent} % written: faster than full", s["faster"], 20, "x", True)
        self.bar(f"incremental, {mib} MiB, {percent} % written: smaller than full", s["smaller"], 20, "x", True)

    def small(self):
        for idle, bar in ((0, 2), (100, 6)):
            self.row(f"small{idle or ''}", ["none", "precopy", "stop", "fork", "gcore", "criu"], 4, 100, idle=idle)
            pre = self.got(f"small{idle or ''}", 4, "precopy")
            if pre:
                self.bar(f"4 MiB, {idle} more threads", pre["longest_ms"], bar, "ms")

    def shapes(self):
        mib = min(1024, self.args.sizes[-1])
        self.row("threads", ["none", "precopy", "stop", "gcore"], mib, 100, threads=64)
        self.row("vmas", ["none", "precopy", "stop", "gcore"], mib, 100, vmas=10)
        self.row("vmas", ["none", "precopy", "stop", "gcore"], mib, 100, vmas=20000 if self.args.full else 2000)

    def codecs(self):
        mib = min(1024, self.args.sizes[-1])
        tools = {}
        for codec in ("none", "lz4", "zstd"):
            for name in ("precopy", "stop"):
                if name in self.tools:
                    t = self.tools[name]
                    tools[f"{name} {codec}"] = Stasis(name, self.place, self.stasis, *t.options, "--compress", codec)
        for pattern in ("text", "random", "half"):
            self.row(f"codec {pattern}", list(tools), mib, 10, tools=tools, pattern=pattern)

    def timeline(self):
        """One image of each tool, in buckets of 10 ms."""
        mib = self.args.main
        names = [n for n in ("precopy", "stop", "fork", "gcore") if n in self.tools]
        if not self.fits(mib, names):
            return
        say(f"timeline: {mib} MiB, 100 MB/s")
        with Ticker(self.ticker, self.place, mib, 100, pattern=self.args.pattern) as ticker:
            for n in names:
                for counts in (False, True):
                    ticker.ask("reset")
                    time.sleep(0.5)
                    try:
                        r = self.tools[n].run(ticker)
                    except Failed as e:
                        say(f"  {n}: left out: {e}")
                        break
                    finally:
                        self.tools[n].tidy()
                    time.sleep(0.5)
                    if counts:
                        trace = ticker.ask("trace")
                        emit("downtime-trace", tool=n, mib=mib, begins_ms=500, wall_s=round(r["wall_s"], 4), **trace)

    def redis(self):
        downtime_redis.run(self, emit, say)


ROWS = ("sizes", "rates", "calm", "incremental", "small", "shapes", "codecs", "timeline", "redis")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--full", action="store_true")
    p.add_argument("--rounds", type=int)
    p.add_argument("--rows", default=",".join(ROWS))
    p.add_argument("--sizes")
    p.add_argument("--pattern", default="text", choices=("text", "random", "half"))
    p.add_argument("--dir")
    args = p.parse_args()
    args.rounds = args.rounds or (5 if args.full else 3)
    if args.sizes:
        args.sizes = [int(s) for s in args.sizes.split(",")]
    else:
        args.sizes = [256, 1024, 4096, 8192] if args.full else [256, 1024]
    # The size of the bars, or the largest there is.
    args.main = 4096 if 4096 in args.sizes else args.sizes[-1]
    rows = args.rows.split(",")
    if set(rows) - set(ROWS):
        p.error(f"rows are {', '.join(ROWS)}")
    MACHINE.update(machine())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    place = tempfile.mkdtemp(prefix="stasis-downtime.", dir=args.dir or os.environ.get("TMPDIR") or "/dev/shm")
    try:
        bench = Bench(args, place)
        for row in rows:
            getattr(bench, row)()
    finally:
        shutil.rmtree(place, ignore_errors=True)


if __name__ == "__main__":
    main()
