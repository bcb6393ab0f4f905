#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# shellcheck shell=dash
# The first program of a virtual machine: loads modules, finds the disks, hands over to tests/lib/vm_guest.sh.
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
while read -r m; do
	$b insmod "/mod/$m" || echo "vm: module $m: not loaded"
done </mod/order

# disk NAME: the one with that serial number.
disk() {
	for s in /sys/block/vd*/serial; do
		read -r serial <"$s"
		[ "$serial" != "$1" ] || { s=${s%/serial} && echo "/dev/${s##*/}"; }
	done
}

i=0
while [ -z "$(disk root)" ] || [ -z "$(disk in)" ] || [ -z "$(disk out)" ]; do
	i=$((i + 1))
	[ $i -lt 100 ] || { echo "vm: no disks" && $b poweroff -f; }
	$b usleep 100000
done
$b mount -t ext4 "$(disk root)" /disk || { echo "vm: no root" && $b poweroff -f; }
$b tar -x -f "$(disk in)" -C /disk/stasis || { echo "vm: no programs" && $b poweroff -f; }
$b mount -t proc proc /disk/proc
$b mount -t sysfs sys /disk/sys
$b mount -t devtmpfs dev /disk/dev
$b cp $b /disk/bin/busybox
OUT=$(disk out) exec $b switch_root /disk /bin/bash /stasis/tests/lib/vm_guest.sh
