#!/busybox sh
# SPDX-License-Identifier: MIT
# shellcheck shell=dash
# All of a machine with shadow stacks, as process 1: dumps, kills and restores the victim, sends home what that left.
# OUT, of the kernel's command line: the serial line for it.
/busybox mkdir -p /proc /sys /dev /tmp
/busybox mount -t proc proc /proc
/busybox mount -t sysfs sys /sys
/busybox mount -t devtmpfs dev /dev
/busybox mount -t tmpfs tmp /tmp
/busybox --install -s /bin
export PATH=/bin TMPDIR=/tmp
mkdir -p /tmp/out/images
ip link set lo up
read -r up _ </proc/uptime
echo "vm: Linux $(uname -r) of $(uname -m), up after $up s"

problems=0
bad() {
	echo "vm: BAD: $*"
	problems=$((problems + 1))
}

ok() { # WHAT COMMAND...
	what=$1
	shift
	"$@" >/tmp/said 2>&1 && return
	bad "$what: exit $?"
	sed 's/^/    | /' /tmp/said
	return 1
}

# How many mappings are shadow stacks.
stacks() {
	grep -c '^VmFlags:.* ss' "/proc/$pid/smaps"
}

# Of each thread, what the kernel tells of it beside the registers.
features() {
	grep -h '^x86_Thread_features' /proc/"$pid"/task/*/status
}

start() {
	rm -rf /tmp/v && mkdir /tmp/v
	setsid victim "${scenario:-shadow}" --dir /tmp/v >/tmp/victim.said 2>&1 &
	pid=$(victim --wait /tmp/v 30) || {
		cat /tmp/victim.said
		bad "the victim: $pid"
		return 1
	}
}

# dump NAME ARGUMENT...
dump() {
	name=$1
	shift
	ok "dump ($name)" stasis dump -t "$pid" -D "/tmp/out/images/$name" "$@" &&
		cp /tmp/v/facts "/tmp/out/images/$name.facts"
}

restore() {
	ok "restore ($name)" stasis restore -D "/tmp/out/images/$name" -d --quiet
}

check() {
	ok "$1: the victim" victim --check /tmp/v
}

# Dumped, killed, restored; and what was restored again.
twice() { # NAME ARGUMENT...
	start || return
	was=$(features)
	first=$1
	shift
	dump "$first" "$@" && wait "$!"
	restore && check "after a restore" || return
	[ "$(features)" = "$was" ] || bad "$first: other features, or locks: $(features)"
	once=$(stacks)
	dump "$first-again" "$@" && sleep 1
	restore && check "after a second restore" || return
	[ "$(features)" = "$was" ] || bad "$first: other features, or locks, after the second: $(features)"
	[ "$(stacks)" -eq "$once" ] || bad "$first: $(stacks) shadow stacks, $once before"
	ok "$first: at the end" victim --quit /tmp/v
}

# Dumped while it goes on.
runs_on() { # NAME ARGUMENT...
	start || return
	was=$(stacks)
	dump "$@" && check "after a dump"
	[ "$(stacks)" -eq "$was" ] || bad "$name: $(stacks) shadow stacks, $was before the dump"
	kill -9 "$pid" && wait "$!"
	restore && check "restored after it was killed" && ok "$name: at the end" victim --quit /tmp/v
}

# A tool that dies at a point leaves the program as it was.
killed() { # POINT:kill[:N]
	start || return
	if STASIS_FAULT=$1 stasis-faults dump -t "$pid" -D /tmp/half -R >/tmp/said 2>&1; then
		bad "$1: the dump went well"
	fi
	rm -rf /tmp/half*
	check "$1: a killed dump" && ok "$1: at the end" victim --quit /tmp/v
}

# A scenario in every format, and dumped while it runs: killed and restored each time.
each_way() { # SCENARIO
	scenario=$1
	before=$problems
	start || return
	for how in "--compress none" "--compress lz4" "--compress zstd" "--image-format criu" -R; do
		rm -rf /tmp/way*
		# shellcheck disable=SC2086 # options are words
		ok "$1, $how: dump" stasis dump -t "$pid" -D /tmp/way $how || return
		[ "$how" != -R ] || check "$1: dumped while it runs"
		# shellcheck disable=SC2046 # pids are words
		[ "$how" != -R ] || kill -9 "$pid" $(cat "/proc/$pid/task/$pid/children")
		sleep 1
		ok "$1, $how: restore" stasis restore -D /tmp/way -d --quiet || return
		check "$1, $how"
	done
	ok "$1: at the end" victim --quit /tmp/v
	scenario=
	[ "$problems" -ne "$before" ] || echo "vm: $1 came back each way"
}

# Registers that no machine of tests/vm has: streaming mode, ZA, ZT0, FPMR.
registers() {
	for feature in sme sme2 fpmr; do
		grep -qw "$feature" /proc/cpuinfo || bad "there is no $feature"
	done
	each_way regs
	[ -e /bin/stasis-faults ] || return
	scenario=regs
	for point in target.first_call:kill target.entered:kill:2 target.entered:kill:5 target.batch_resumed:kill \
		target.batch_resumed:kill:3 target.undo:kill:2 target.undo:kill:3; do
		killed $point
	done
	scenario=
	echo "vm: registers looked at after points of death"
}

stasis check >/tmp/out/check 2>&1
grep -i shadow /tmp/out/check
twice plain
# Several threads write: see fill_late().
twice small-blocks --block-size 64K
runs_on running -R
twice criu --image-format criu
if [ "$(uname -m)" = aarch64 ]; then
	# Tags of memory: this emulator has one for each 16 bytes, where that of tests/vm has two for a page.
	each_way mte
	registers
fi
if [ -e /bin/stasis-faults ]; then
	for point in target.first_call:kill target.entered:kill target.entered:kill:2 target.entered:kill:9 \
		target.batch_resumed:kill target.batch_resumed:kill:5 target.undo:kill target.undo:kill:5; do
		killed $point
	done
	echo "vm: killed at points of death"
fi
dmesg >/tmp/out/dmesg
read -r up _ </proc/uptime
[ "$problems" -gt 0 ] || echo "vm: passed after $up s"
tar -c -C /tmp/out . | gzip | base64 >"$(sed 's/.*OUT=\([^ ]*\).*/\1/' /proc/cmdline)"
sync
echo "vm: done"
sleep 1
poweroff -f
