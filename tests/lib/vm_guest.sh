#!/bin/bash
# SPDX-License-Identifier: MIT
# In a virtual machine, as process 1: runs the tests of a list, packs what they left, switches off.
# OUT: the disk for what they left. The console tells the host how it went.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C
mount -t tmpfs -o mode=1777,size=75% tmp /tmp
mount -t tmpfs run /run
mkdir -p /dev/pts /dev/shm /tmp/out
ln -s /proc/self/fd /dev/fd
ln -s /proc/self/fd/0 /dev/stdin
ln -s /proc/self/fd/1 /dev/stdout
ln -s /proc/self/fd/2 /dev/stderr
mount -t devpts -o ptmxmode=0666,mode=0620,gid=5 devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
busybox ip link set lo up
cd /stasis || busybox poweroff -f
read -r up _ </proc/uptime
echo "vm: Linux $(uname -r) of $(uname -m), pages of $(awk '/^KernelPageSize/ { print $2; exit }' /proc/self/smaps) KiB, up after $up s"
# What tests leave for the host is in /tmp/out.
# A test that does not end is named while the machine still has time to tell of it.
TMPDIR=/tmp VM_OUT=/tmp/out PATIENCE=10 tests/run.sh -j "$(nproc)" -t 240 -f list
mkdir -p /tmp/out/log
cp build/*/tests/log/* /tmp/out/log/
tar -c -f "$OUT" -C /tmp/out . || echo "vm: what tests left is lost"
sync
read -r up _ </proc/uptime
echo "vm: done after $up s"
busybox poweroff -f
