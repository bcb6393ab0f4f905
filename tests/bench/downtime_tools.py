# SPDX-License-Identifier: MIT
"""The programs that make an image of a process, and the process that notices it; for downtime.py."""
import json
import os
import shutil
import subprocess
import sys
import threading
import time

NULL = subprocess.DEVNULL


class Failed(Exception):
    """A tool that did not do it, with its last words."""


class Ticker:
    """tests/bench/ticker.c: a process that writes, and sees how long it was kept from it."""

    def __init__(self, program, directory, size, rate, pattern="text", threads=1, idle=0, vmas=0, calm=0):
        self.program, self.ctl = program, os.path.join(directory, "ctl")
        options = {"size": size, "rate": rate, "pattern": pattern, "threads": threads, "idle": idle, "vmas": vmas, "calm": calm}
        words = [w for name, value in options.items() for w in (f"--{name}", str(value))]
        self.process = subprocess.Popen(
            [program, "run", self.ctl, *words], stdin=NULL, stdout=NULL, stderr=NULL, start_new_session=True, cwd="/"
        )
        self.pid = self.process.pid
        self.ask("wait")

    def ask(self, command, ms=0):
        p = subprocess.run([self.program, "ask", self.ctl, command, str(ms)], stdout=subprocess.PIPE, check=False)
        if p.returncode:
            raise Failed(f"the victim does not answer to '{command}'")
        o = json.loads(p.stdout) if p.stdout else None
        if o and "error" in o:
            raise Failed(f"the victim, asked for '{command}': {o['error']} (make bench-downtime builds it)")
        return o

    def end(self):
        self.process.kill()
        self.process.wait()
        os.unlink(self.ctl)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


class Watch(threading.Thread):
    """The most memory that a process and its children had at a time, by the kernel's high-water marks, added up.

    What the children of a fork share with it is counted for each: this is more than there was.
    """

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.peaks, self.over = pid, {}, threading.Event()

    def look(self, pid):
        try:
            with open(f"/proc/{pid}/status") as f:
                for line in f:
                    if line.startswith("VmHWM:"):
                        self.peaks[pid] = int(line.split()[1])
            with open(f"/proc/{pid}/task/{pid}/children") as f:
                for child in f.read().split():
                    self.look(int(child))
        except OSError:
            pass

    def run(self):
        while not self.over.wait(0.01):
            self.look(self.pid)

    def mib(self):
        return round(sum(self.peaks.values()) / 1024, 1)


def run_watched(words):
    """(wall seconds, standard output, peak MiB) of a command that succeeds."""
    began = time.monotonic()
    p = subprocess.Popen(words, stdin=NULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    watch = Watch(p.pid)
    watch.start()
    out, err = p.communicate()
    wall = time.monotonic() - began
    watch.over.set()
    watch.join()
    if p.returncode:
        lines = err.decode(errors="replace").strip().splitlines() or [f"exit code {p.returncode}"]
        raise Failed(lines[-1])
    return wall, out.decode(errors="replace"), watch.mib()


def tree_size(path):
    """Bytes on disk: a core file has holes."""
    return sum(
        os.stat(os.path.join(d, name)).st_blocks * 512 for d, _, names in os.walk(path) for name in names
    )


class Tool:
    """One way to an image. run() returns what it says of itself."""

    leaves = None  # the directory it writes

    def __init__(self, name, place):
        self.name, self.place = name, place
        self.dir = os.path.join(place, "image")

    def run(self, ticker):
        raise NotImplementedError

    def tidy(self):
        shutil.rmtree(self.dir, ignore_errors=True)


class Stasis(Tool):
    def __init__(self, name, place, program, *options):
        super().__init__(name, place)
        self.program, self.options, self.last_wall_s = program, options, 1.0

    def run(self, ticker):
        words = [self.program, "dump", "-t", str(ticker.pid), "-D", self.dir, "-R", "--json", "--quiet", "--no-log"]
        wall, out, peak = run_watched(words + list(self.options))
        self.last_wall_s = wall
        o = json.loads(out.strip().splitlines()[-1])
        r = {"wall_s": wall, "peak_mib": peak, "image_mib": o["image_bytes"] / 2**20}
        for key in ("frozen_ns", "freezing_ns", "collect_ns", "memory_ns", "commit_ns", "total_ns", "raw_bytes"):
            r[key] = o.get(key, 0)
        pre = o.get("precopy", {})
        r["tracking"] = pre.get("tracking", "none")
        if r["tracking"] != "none":
            r["longest_stop_ns"] = pre.get("longest_stop_ns", r["frozen_ns"])
            r["predicted_ns"] = pre.get("predicted_ns", 0)
            r["rounds"] = pre.get("rounds", 0)
            r["residual_mib"] = (pre.get("round_bytes") or [0])[-1] / 2**20
            r["dirty_mb_per_s"] = pre.get("dirty_bytes_per_s", 0) / 1e6
        return r


class Gcore(Tool):
    def run(self, ticker):
        os.makedirs(self.dir, exist_ok=True)
        wall, _, peak = run_watched(["gcore", "-o", os.path.join(self.dir, "core"), str(ticker.pid)])
        return {"wall_s": wall, "peak_mib": peak, "image_mib": tree_size(self.dir) / 2**20}


class Criu(Tool):
    def __init__(self, name, place, program):
        super().__init__(name, place)
        self.program = program

    def run(self, ticker):
        os.makedirs(self.dir, exist_ok=True)
        words = [self.program, "dump", "-t", str(ticker.pid), "-D", self.dir, "-o", "log", "-R", "--tcp-close"]
        wall, _, peak = run_watched(words)
        return {"wall_s": wall, "peak_mib": peak, "image_mib": tree_size(self.dir) / 2**20}


class Fork(Tool):
    """A fork in the victim, whose child lives for a second; no image is written."""

    def run(self, ticker):
        began = time.monotonic()
        o = ticker.ask("fork", 1000)
        return {"wall_s": time.monotonic() - began, "fork_ns": o["fork_ns"]}


class Nothing(Tool):
    """The floor: what the victim notices of the machine when nobody dumps it."""

    def run(self, ticker):
        time.sleep(1)
        return {"wall_s": 1.0}


class Busy(Tool):
    """The floor of long runs: nobody dumps the victim, but one other CPU is at work, copying memory.

    It takes as long as the last run of @like. What the victim sees then is the machine: other programs, or a
    hypervisor that gives its CPUs to somebody else ("steal_ms").
    """

    COPY = "a, b, t = bytearray(64 << 20), bytes(64 << 20), time.monotonic() + float(sys.argv[1])\n" \
        "while time.monotonic() < t:\n    a[:] = b"

    def __init__(self, name, place, like):
        super().__init__(name, place)
        self.like = like

    def run(self, ticker):
        seconds = max(1.0, self.like.last_wall_s)
        code = "import os, sys, time\nos.sched_setaffinity(0, [max(os.sched_getaffinity(0))])\n" + self.COPY
        subprocess.run([sys.executable, "-c", code, str(seconds)], check=True)
        return {"wall_s": seconds}


def has_precopy(program):
    p = subprocess.run([program, "dump", "--help"], stdout=subprocess.PIPE, check=False)
    return b"--tracking" in p.stdout


def make_tools(program, place, say):
    """Name to tool, of those that can be had here; @say is told of those that cannot."""
    tools = {"none": Nothing("none", place), "fork": Fork("fork", place)}
    if has_precopy(program):
        tools["precopy"] = Stasis("precopy", place, program)
        tools["busy"] = Busy("busy", place, tools["precopy"])
        tools["stop"] = Stasis("stop", place, program, "--tracking", "none")
    else:
        say("this stasis has no --tracking: no rows of pre-copy, and no bars")
        tools["stop"] = Stasis("stop", place, program)
    if shutil.which("gcore"):
        tools["gcore"] = Gcore("gcore", place)
    else:
        say("no gcore here (Debian package gdb)")
    if os.environ.get("CRIU"):
        tools["criu"] = Criu("criu", place, os.environ["CRIU"])
    else:
        say("no CRIU=/path/to/criu: it is not measured")
    return tools
