#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Draws what downtime.py has measured: tests/bench/plots.py RESULTS.jsonl OUTDIR

SVG by gnuplot: freeze over size for every tool, throughput over codec, the timeline of one image by each tool.
A plot whose numbers are not there is not drawn, and told.
"""
import json
import os
import shutil
import subprocess
import sys

NAMES = {
    "none": "nothing", "precopy": "stasis dump -R", "stop": "stasis, stop-and-copy",
    "fork": "fork alone", "gcore": "gcore", "criu": "criu", "bgsave": "BGSAVE",
}  # fmt: skip
HEAD = """set terminal svg size 900,540 font "sans,13" background "white"
set grid lc rgb "#dddddd"
set key outside right top
set tics nomirror
set border 3
"""


def load(path):
    with open(path) as f:
        return [json.loads(line) for line in f if line.strip()]


def quoted(text):
    return '"' + str(text).replace("\\", "").replace('"', "'") + '"'


def block(name, rows):
    return f"${name} << EOD\n" + "".join(" ".join(str(v) for v in row) + "\n" for row in rows) + "EOD\n"


def draw(script, path):
    p = subprocess.run(["gnuplot"], input=f"set output {quoted(path)}\n{script}".encode(), stderr=subprocess.PIPE, check=False)
    if p.returncode or p.stderr:
        sys.exit(f"gnuplot: {p.stderr.decode().strip()}")
    print(path)


def where(rows):
    r = rows[0]
    return f"{r['machine']}, {r['cpus']} CPUs, Linux {r['kernel']}"


def freeze_over_size(results, path):
    rows = [r for r in results if r["bench"] == "downtime" and r.get("row") == "size"]
    tools = [t for t in NAMES if any(r["tool"] == t for r in rows)]
    if not tools:
        return False
    script, plots = HEAD, []
    for t in tools:
        mine = sorted((r["mib"], r["longest_ms"], r["longest_ms_min"], r["longest_ms_max"]) for r in rows if r["tool"] == t)
        script += block(t, mine)
        plots.append(f"${t} using 1:2:3:4 with yerrorlines pt 7 ps 0.6 title {quoted(NAMES[t])}")
    title = f"Longest stop seen by a process that writes {rows[0]['rate_mb_per_s']} MB/s\\n{where(rows)}"
    script += f'set title "{title}"\nset logscale xy\nset xlabel "memory, MiB"\nset ylabel "ms"\n'
    sizes = sorted({r["mib"] for r in rows})
    script += "set xtics (" + ", ".join(f'"{s}" {s}' for s in sizes) + ")\n"
    script += f"set xrange [{sizes[0] / 1.3}:{sizes[-1] * 1.3}]\nplot " + ", ".join(plots) + "\n"
    draw(script, path)
    return True


def throughput_over_codec(results, path):
    rows = [r for r in results if r["bench"] == "downtime" and r.get("row", "").startswith("codec ")]
    if not rows:
        return False
    patterns = [p for p in ("text", "half", "random") if any(r["row"] == f"codec {p}" for r in rows)]
    by = {(r["tool"], r["row"][6:]): r["gb_per_s"] for r in rows if "gb_per_s" in r}
    tools = [t for t in dict.fromkeys(r["tool"] for r in rows)]
    labels = [f"{NAMES[t.split()[0]]}, {t.split()[1]}" for t in tools]
    script = HEAD + block("d", [[quoted(n)] + [by.get((t, p), "NaN") for p in patterns] for n, t in zip(labels, tools)])
    title = f"Bytes of memory per second of the whole dump, {rows[0]['mib']} MiB\\n{where(rows)}"
    script += f'set title "{title}"\nset style data histograms\nset style fill solid 0.8\nset yrange [0:*]\n'
    script += 'set ylabel "GB/s"\nset xtics rotate by -30\nplot '
    script += ", ".join(f"$d using {i + 2}:xtic(1) title {quoted(p)}" for i, p in enumerate(patterns)) + "\n"
    draw(script, path)
    return True


def timeline(results, path):
    rows = [r for r in results if r["bench"] == "downtime-trace"]
    if not rows:
        return False
    script = HEAD.replace("900,540", f"900,{160 * len(rows) + 60}")
    for i, r in enumerate(rows):
        per_s = 1000 / r["bucket_ms"] * 4096 / 1e6
        ms = [k * r["bucket_ms"] - r["begins_ms"] for k in range(len(r["pages"]))]
        script += block(f"t{i}", zip(ms, (p * per_s for p in r["pages"]), (us / 1000 for us in r["longest_us"])))
    script += f'set multiplot layout {len(rows)},1 title "One dump of {rows[0]["mib"]} MiB: MB/s written, and the '
    script += f'longest stop in each 10 ms (ms)\\n{where(rows)}"\nset ytics 100\nset yrange [0:*]\nset y2range [0.01:*]\n'
    script += 'set logscale y2\nset y2tics ("0.1" 0.1, "1" 1, "10" 10, "100" 100, "1000" 1000)\n'
    for i, r in enumerate(rows):
        end = r["wall_s"] * 1000
        script += f"set xrange [{-r['begins_ms']}:{end + 500}]\nset title {quoted(NAMES[r['tool']])} offset 0,-0.8\n"
        script += f"set arrow 1 from 0,graph 0 to 0,graph 1 nohead dt 2\nset arrow 2 from {end},graph 0 to {end},graph 1 nohead dt 2\n"
        script += f'plot $t{i} using 1:2 with lines title "MB/s", $t{i} using 1:3 axes x1y2 with impulses title "stop, ms"\n'
    draw(script + "unset multiplot\n", path)
    return True


def main():
    if not shutil.which("gnuplot"):
        sys.exit("gnuplot is missing: tools/setup/deps.sh plots installs Debian's gnuplot-nox")
    if not os.path.exists(sys.argv[1]):
        sys.exit(f"{sys.argv[1]} is missing: make bench-downtime measures it")
    results, out = load(sys.argv[1]), sys.argv[2]
    os.makedirs(out, exist_ok=True)
    drawn = 0
    for name, fn in (
        ("freeze-over-size", freeze_over_size),
        ("throughput-over-codec", throughput_over_codec),
        ("timeline", timeline),
    ):
        if fn(results, os.path.join(out, f"{name}.svg")):
            drawn += 1
        else:
            print(f"{name}: nothing was measured for it", file=sys.stderr)
    return 0 if drawn else 1


if __name__ == "__main__":
    sys.exit(main())
