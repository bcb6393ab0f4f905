#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A process with state of many kinds, for restore_proc.sh: threads, a child, memory of all sorts."""
import ctypes
import fcntl
import mmap
import os
import resource
import signal
import sys
import tempfile
import threading
import time

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.madvise.argtypes = libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.mlock.argtypes = libc.munlock.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.mlock2.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
AT = 0x300000000000
keep = []


def area(n, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, fd=-1, prot=3):
    addr = libc.mmap(AT + (n << 20), 8 * 4096, prot, flags | 0x100000, fd, 0)
    if addr != AT + (n << 20):
        raise OSError(ctypes.get_errno(), f"area {n}")
    if prot & 2:
        ctypes.memset(addr, n, 4 * 4096)
    return addr


def memory(path):
    for n, advice in enumerate((1, 2, 10, 12, 14, 15, 16, 18)):
        libc.madvise(area(n), 8 * 4096, advice)
    libc.mlock(area(20), 8 * 4096)
    libc.mlock2(area(21), 8 * 4096, 1)
    libc.prctl(0x53564D41, 0, area(22), 8 * 4096, ctypes.cast(b"a name", ctypes.c_void_p).value)
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 8 * 4096)
    ro = os.open(path, os.O_RDONLY)
    area(23, mmap.MAP_SHARED, ro, 1)
    area(24, mmap.MAP_SHARED, fd)
    area(25, mmap.MAP_PRIVATE, ro)
    libc.mprotect(area(26, mmap.MAP_PRIVATE, ro), 8 * 4096, 5)
    libc.mprotect(area(27), 4 * 4096, 1)
    area(28, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
    area(29, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)
    area(30, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x20000)
    libc.madvise(area(31) + 4096, 4096, 102)
    m = os.memfd_create("mem", os.MFD_ALLOW_SEALING)
    os.ftruncate(m, 8 * 4096)
    area(32, mmap.MAP_SHARED, m)
    area(33, mmap.MAP_PRIVATE, m)
    os.ftruncate(m, 4 * 4096 + 5)
    libc.mlock(area(34, prot=0), 8 * 4096)


def thread(n):
    open(f"/proc/self/task/{threading.get_native_id()}/comm", "w").write(f"thread {n}")
    if n == 1:
        libc.prctl(29, 12345678, 0, 0, 0)
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 3)
    if n == 2:
        os.sched_setaffinity(0, {0})
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    if n == 3:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGRTMAX})
    while True:
        time.sleep(1000)


def main():
    here = sys.argv[1]
    resource.setrlimit(resource.RLIMIT_CORE, (5000, 70000))
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, 700))
    os.umask(0o123)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGWINCH, lambda *a: None)
    memory(here + "/file")
    for name, flags in (("a", os.O_APPEND), ("b", os.O_NONBLOCK), ("c", os.O_DIRECTORY | os.O_PATH)):
        path = here if flags & os.O_PATH else here + "/file"
        keep.append(os.open(path, flags | (0 if flags & os.O_PATH else os.O_RDWR)))
    os.lseek(keep[1], 777, os.SEEK_SET)
    keep.append(tempfile.TemporaryFile(dir=here))
    os.set_inheritable(keep[1], True)
    os.dup2(keep[1], 250, False)
    fcntl.flock(keep[1], fcntl.LOCK_EX)
    r, w = os.pipe()
    fcntl.fcntl(r, 1031, 8192)
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        libc.prctl(1, signal.SIGUSR2, 0, 0, 0)
        libc.prctl(4, 0, 0, 0, 0)
        os.nice(4)
        while True:
            time.sleep(1000)
    for n in range(5):
        threading.Thread(target=thread, args=(n,), daemon=True).start()
    libc.prctl(36, 1, 0, 0, 0)
    libc.prctl(15, ctypes.cast(b"many kinds", ctypes.c_void_p).value, 0, 0, 0)
    time.sleep(0.3)
    open(here + "/ready", "w").close()
    while True:
        time.sleep(1000)


main()
