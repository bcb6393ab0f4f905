#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What /proc and a few system calls tell about processes, to be compared before and after.

    procstate.py save FILE PID...          their state into FILE
    procstate.py diff BEFORE AFTER         prints what differs and may not; exit 1 if anything does

MAY_DIFFER below is the list of what is another's after a restore, with the reason of each.
"""
import ctypes
import json
import os
import re
import sys

# Patterns over "PLACE KEY"; the reasons are the documentation.
MAY_DIFFER = [
    # counted by the kernel, for what runs now
    r"status (VmPeak|VmHWM|VmSize|VmRSS|RssAnon|RssFile|RssShmem|VmData|VmStk|VmExe|VmLib|VmPTE|VmSwap|VmPin)$",
    r"status (voluntary|nonvoluntary)_ctxt_switches$",
    r"status (State|SigPnd|ShdPnd|SigQ)$",  # between two system calls; queued signals of others of the user
    r"stat (minflt|cminflt|majflt|cmajflt|utime|stime|cutime|cstime|starttime|processor|wchan|kstk.*)$",
    r"stat (rss|vsize|delayacct|guest_time|cguest_time|state|flags|itrealvalue)$",
    # memory that was not there before the dump, or is not after it: the same contents
    r"smaps .* (Rss|Pss|Pss_Dirty|Shared_\w+|Private_\w+|Referenced|Anonymous|KSM|LazyFree|AnonHugePages|"
    r"ShmemPmdMapped|FilePmdMapped|Swap|SwapPss|Locked|THPeligible)$",
    # who took a flock is the restoring command; O_TMPFILE and O_NOFOLLOW are of the opening
    r"fdinfo \d+ lock.*FLOCK",
    # moments
    r"fdinfo .* (mnt_id|ino|it_value|ticks|eventfd-id)$",
    # room for descriptors of the restoring command's, which are gone; the parent of the root is its own
    r"status FDSize$",
    # victims read and write while they check themselves, and look at that themselves
    r"fdinfo \d+ pos$",
    # the place where the restore was asked for
    r"link ns/.*$",
    r"file (cgroup|cpuset|sessionid|autogroup|mountinfo)$",
    r"call ioprio$",
    r"file coredump_filter$",
]
MAY = re.compile("|".join(f"(?:{p})" for p in MAY_DIFFER))

STAT = """pid comm state ppid pgrp session tty_nr tpgid flags minflt cminflt majflt cmajflt utime stime
cutime cstime priority nice num_threads itrealvalue starttime vsize rss rsslim startcode endcode startstack
kstkesp kstkeip signal blocked sigignore sigcatch wchan nswap cnswap exit_signal processor rt_priority policy
delayacct guest_time cguest_time start_data end_data start_brk arg_start arg_end env_start env_end
exit_code""".split()

libc = ctypes.CDLL(None, use_errno=True)


def read(path):
    try:
        with open(path, "rb") as f:
            return f.read().decode("latin-1")
    except OSError as e:
        return f"({e.strerror})"


def link(path):
    try:
        return os.readlink(path)
    except OSError as e:
        return f"({e.strerror})"


def stat(text):
    head, tail = text[: text.rindex(")")], text[text.rindex(")") + 2 :]
    return dict(zip(STAT, [head.split(" ", 1)[0], head.split("(", 1)[1]] + tail.split()))


def sched(tid):
    buf = ctypes.create_string_buffer(56)
    libc.syscall(315, tid, buf, 56, 0)
    return buf.raw[4:48].hex()


def task(base, tid, out):
    for line in read(f"{base}/status").splitlines():
        key, _, value = line.partition(":")
        out[f"task {tid} status {key}"] = value.strip()
    for key, value in stat(read(f"{base}/stat")).items():
        out[f"task {tid} stat {key}"] = value
    for name in ("comm", "attr/current", "timerslack_ns", "oom_score_adj"):
        out[f"task {tid} file {name}"] = read(f"{base}/{name}")
    out[f"task {tid} call sched_getattr"] = sched(tid)
    out[f"task {tid} call ioprio"] = str(libc.syscall(252, 1, tid))
    out[f"task {tid} call affinity"] = str(sorted(os.sched_getaffinity(tid)))


def smaps(text, out):
    name = ""
    for line in text.splitlines():
        m = re.match(r"([0-9a-f]+-[0-9a-f]+) (\S+) (\S+) (\S+) (\S+) *(.*)", line)
        if m:
            where = m
            name = m[1]
            # Memory of nobody's file has another inode; so have segments.
            ino = m[5] if m[6].startswith("/") and "(deleted)" not in m[6] and "zero" not in m[6] else ""
            out[f"smaps {name} map"] = f"{m[2]} {m[3]} {ino} {m[6]}"
            continue
        key, _, value = line.partition(":")
        if key == "VmFlags":
            # soft-dirty is the kernel's own bookkeeping; "wf" to "nr" stay
            flags = value.split()
            # Private memory that is not to be written is counted as needed, or not, by what was in it.
            drop = {"sd"} | ({"ac"} if "wr" not in flags and not where[6].startswith("/") else set())
            value = " ".join(f for f in flags if f not in drop)
        out[f"smaps {name} {key}"] = value.strip()


def fdinfo(pid, out):
    for fd in sorted(os.listdir(f"/proc/{pid}/fd"), key=int):
        out[f"fd {fd} link"] = re.sub(r"/#\d+ \(deleted\)$", "/#N (deleted)", re.sub(r"\[\d+\]", "[N]", link(f"/proc/{pid}/fd/{fd}")))
        for line in read(f"/proc/{pid}/fdinfo/{fd}").splitlines():
            key, _, value = line.partition(":")
            value = re.sub(r"(ino|sdev|pos):\S+", "", value) if key in ("tfd",) else value
            if key == "flags":
                value = f"{int(value, 8) & ~0o20600000:o}"
            out[f"fdinfo {fd} {key}" + (value[:12] if key in ("tfd", "inotify wd", "lock") else "")] = value.strip()


def process(pid):
    out = {}
    if read(f"/proc/{pid}/stat").rpartition(")")[2].split()[0] == "Z":
        for key in ("comm", "ppid", "pgrp", "session", "exit_signal", "exit_code"):
            out[f"zombie stat {key}"] = stat(read(f"/proc/{pid}/stat"))[key]
        return out
    for tid in sorted(os.listdir(f"/proc/{pid}/task"), key=int):
        task(f"/proc/{pid}/task/{tid}", int(tid), out)
    for name in ("limits", "cmdline", "environ", "auxv", "oom_score_adj", "cgroup", "cpuset", "mountinfo",
                 "personality", "loginuid", "sessionid", "coredump_filter", "autogroup", "uid_map", "setgroups"):
        out[f"file {name}"] = read(f"/proc/{pid}/{name}")
    for name in ("exe", "cwd", "root", *("ns/" + n for n in os.listdir(f"/proc/{pid}/ns"))):
        out[f"link {name}"] = link(f"/proc/{pid}/{name}")
    out["file timers"] = read(f"/proc/{pid}/timers")
    smaps(read(f"/proc/{pid}/smaps"), out)
    fdinfo(pid, out)
    return out


def main():
    if sys.argv[1] == "save":
        with open(sys.argv[2], "w") as f:
            json.dump({pid: process(int(pid)) for pid in sys.argv[3:]}, f)
        return 0
    before, after = (json.load(open(name)) for name in sys.argv[2:4])
    bad = 0
    for pid in before:
        # Of the root alone: its parent is not in the tree.
        for key in [k for k in before[pid] if re.search(r" (stat ppid|status PPid)$", k)]:
            if before[pid][key] not in before:
                before[pid][key] = after.get(pid, {}).get(key)
    for pid in sorted(before.keys() | after.keys()):
        a, b = before.get(pid, {}), after.get(pid, {})
        for key in sorted(a.keys() | b.keys()):
            if a.get(key) == b.get(key) or MAY.search(re.sub(r"^task \d+ ", "", key)):
                continue
            bad += 1
            if bad <= 60:
                print(f"process {pid}: {key}: before {a.get(key)!r:.300}, after {b.get(key)!r:.300}")
    return 1 if bad else 0


sys.exit(main())
