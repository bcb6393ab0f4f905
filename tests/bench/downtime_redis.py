# SPDX-License-Identifier: MIT
"""What clients of a redis-server see while an image of it is made; for downtime.py."""
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import threading
import time

from downtime_tools import NULL, Failed, Nothing, Stasis, Tool

# Values that compress about as records of text do.
FILL = """local n = tonumber(ARGV[1])
for i = n, n + 9999 do
  local h = redis.sha1hex(tostring(i))
  redis.call("SET", "key:" .. i, h .. string.rep(string.sub(h, 1, 8) .. " record " .. i .. ",", 30) .. h)
end"""


# Those that are neither as FILL has made them nor as the client that is measured has set them.
COMPARE = """local bad = 0
for i = tonumber(ARGV[1]), tonumber(ARGV[1]) + 9999 do
  local h = redis.sha1hex(tostring(i))
  local v = redis.call("GET", "key:" .. i)
  if v ~= h .. string.rep(string.sub(h, 1, 8) .. " record " .. i .. ",", 30) .. h and
      not (v and #v == 20 and tonumber(v)) then
    bad = bad + 1
  end
end
return bad"""


class Chain(threading.Thread):
    """A client that sets one of LINKS keys after the other to numbers that go up: all of it tells one instant."""

    LINKS = 997

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.over, self.at = port, threading.Event(), 0

    def run(self):
        with socket.create_connection(("127.0.0.1", self.port)) as s, s.makefile("rb") as f:
            while not self.over.is_set():
                words = (b"SET", b"chain:%d" % (self.at % self.LINKS), b"%d" % self.at)
                s.sendall(b"*3\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
                if f.readline() != b"+OK\r\n":
                    return
                self.at += 1

    def end(self):
        self.over.set()
        self.join()

    @classmethod
    def broken(cls, server):
        """Links that are not of the instant of the newest one."""
        values = [int(server.cli("get", f"chain:{k}") or -1) for k in range(cls.LINKS)]
        newest = max(values)
        want = [newest - (newest - k) % cls.LINKS for k in range(cls.LINKS)]
        return sum(v != w for v, w in zip(values, want)), newest


class Server:
    """A redis-server on the loopback address, with so many MiB of data."""

    def __init__(self, place, mib):
        self.port, self.load, self.keys = 20000 + random.randrange(20000), None, 0
        words = ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen(
            [*words, "--dir", place, "--daemonize", "no"], stdin=NULL, stdout=NULL, stderr=NULL, start_new_session=True
        )
        self.pid = self.process.pid
        for _ in range(100):
            if self.cli("ping") == "PONG":
                break
            time.sleep(0.1)
        else:
            raise Failed("redis-server does not answer")
        while self.used_mib() < mib:
            self.cli("eval", FILL, "0", str(self.keys))
            self.keys += 10000

    def cli(self, *words):
        p = subprocess.run(["redis-cli", "-p", str(self.port), *words], stdout=subprocess.PIPE, stderr=NULL, check=False)
        return p.stdout.decode().strip()

    def used_mib(self):
        for line in self.cli("info", "memory").splitlines():
            if line.startswith("used_memory:"):
                return int(line.split(":")[1]) >> 20
        return 0

    def begin_load(self):
        """More clients, where a processor is left for them."""
        if len(os.sched_getaffinity(0)) >= 4 and shutil.which("redis-benchmark"):
            words = ["redis-benchmark", "-p", str(self.port), "-c", "4", "-n", "2000000000", "-r", str(self.keys)]
            self.load = subprocess.Popen([*words, "-t", "set,get", "-d", "100", "-q"], stdout=NULL, stderr=NULL)

    def end(self):
        for p in (self.load, self.process):
            if p:
                p.kill()
                p.wait()

    def bring_back(self, program, directory):
        """The server of an image in the place of this one, which ends."""
        self.end()
        words = [program, "restore", "-D", directory, "-d", "--tcp-close", "--quiet", "--no-log"]
        p = subprocess.run(words, stdin=NULL, stdout=NULL, stderr=subprocess.PIPE, check=False)
        if p.returncode:
            raise Failed(p.stderr.decode(errors="replace").strip())


class Bgsave(Tool):
    """What redis does itself: it forks, the child writes."""

    def run(self, ticker):
        began = time.monotonic()
        last = ticker.cli("lastsave")
        ticker.cli("bgsave")
        # It says when in whole seconds: the next one is awaited as well.
        while "rdb_bgsave_in_progress:1" in ticker.cli("info", "persistence"):
            time.sleep(0.05)
        if ticker.cli("lastsave") == last and time.monotonic() - began > 2:
            raise Failed("no BGSAVE was made")
        return {"wall_s": time.monotonic() - began}


class Still(Nothing):
    def run(self, ticker):
        time.sleep(3)
        return {"wall_s": 3.0}


def pinged(bench, server, tool, pause_us):
    """One image, and what a client has seen of it."""
    client = subprocess.Popen(
        [bench.pinger, str(server.port), str(server.keys), str(pause_us)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    time.sleep(0.3)
    try:
        r = tool.run(server)
    finally:
        time.sleep(0.1)
        out, _ = client.communicate(b"end\n")
        tool.tidy()
    if client.returncode:
        raise Failed("a client has lost its connection")
    o = json.loads(out)
    r.update(worst_ms=o["worst_ns"] / 1e6, p99_ms=o["p99_ns"] / 1e6, requests_per_s=o["requests"] / o["seconds"])
    return r


def restored(bench, server):
    """(what is wrong with a restored copy, number of the newest link): dumped while it is written to."""
    directory = os.path.join(bench.place, "copy")
    chain = Chain(server.port)
    chain.start()
    time.sleep(1)
    words = [bench.stasis, "dump", "-t", str(server.pid), "-D", directory, "-R", "--tcp-close", "--quiet", "--no-log"]
    p = subprocess.run(words, stdin=NULL, stdout=NULL, stderr=subprocess.PIPE, check=False)
    # What comes now must not be in the copy.
    at = chain.at
    time.sleep(0.2)
    chain.end()
    if p.returncode:
        raise Failed(p.stderr.decode(errors="replace").strip())
    back = False
    try:
        server.bring_back(bench.stasis, directory)
        back = True
        broken, newest = Chain.broken(server)
        broken += newest > at
        for first in range(0, server.keys, 10000):
            broken += int(server.cli("eval", COMPARE, "0", str(first)))
    finally:
        if back:
            os.kill(server.pid, signal.SIGKILL)
        shutil.rmtree(directory, ignore_errors=True)
    return broken, newest


def compare(bench, server, mib, emit, say):
    try:
        broken, newest = restored(bench, server)
    except Failed as e:
        say(f"  restored copy: left out: {e}")
        emit("downtime-failed", row="redis", tool="restored copy", error=str(e))
        return
    emit("downtime-redis-copy", mib=mib, keys=server.keys, links=Chain.LINKS, newest=newest, broken=broken)
    bench.bar(f"redis, {mib} MiB: keys of the restored copy that are not of its instant", broken, 0, "keys")


def run(bench, emit, say):
    if not shutil.which("redis-server") or not shutil.which("redis-cli"):
        say("redis: left out: no redis-server here")
        return
    mib = 1024 if bench.args.full else min(256, bench.args.sizes[-1])
    place, tools = bench.place, {"none": Still("none", bench.place)}
    for name in ("precopy", "stop"):
        if name in bench.tools:
            t = bench.tools[name]
            tools[name] = Stasis(name, place, bench.stasis, *t.options, "--tcp-close")
    tools["bgsave"] = Bgsave("bgsave", place)
    tools.update({n: bench.tools[n] for n in ("gcore", "criu") if n in bench.tools})
    if not bench.fits(mib, tools):
        return
    server = Server(place, mib)
    runs = {n: [] for n in tools}
    try:
        server.begin_load()
        pause = 0 if server.load else 100
        say(f"redis: {server.used_mib()} MiB, {server.keys} keys, " + (
            "redis-benchmark and one client beside it" if server.load else "one client, no processor for redis-benchmark"))
        for i in range(bench.args.rounds + 1):
            for n in list(tools):
                try:
                    r = pinged(bench, server, tools[n], pause)
                except Failed as e:
                    say(f"  {n}: left out: {e}")
                    emit("downtime-failed", row="redis", tool=n, error=str(e))
                    del tools[n]
                    runs.pop(n)
                    continue
                if i:
                    runs[n].append(r)
        compare(bench, server, mib, emit, say)
    finally:
        server.end()
    worst = {}
    for n in tools:
        med = {k: statistics.median(r[k] for r in runs[n]) for k in runs[n][0] if not isinstance(runs[n][0][k], str)}
        worst[n] = med["worst_ms"]
        values = [r["worst_ms"] for r in runs[n]]
        emit("downtime", row="redis", tool=n, mib=mib, rounds_measured=len(values), load=bool(server.load),
             worst_ms_min=round(min(values), 3), worst_ms_max=round(max(values), 3),
             **{k: round(v, 3) for k, v in med.items()})
        say(f"  {n:14} worst {med['worst_ms']:9.2f} ms ({min(values):.2f} to {max(values):.2f}); "
            f"p99 {med['p99_ms']:.2f} ms, {med['requests_per_s']:.0f} requests/s, wall {med['wall_s']:.2f} s")
    if "precopy" in worst:
        bench.bar(f"redis, {mib} MiB: worst latency above the worst without", worst["precopy"] - worst["none"], 10, "ms")
