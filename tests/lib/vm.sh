# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# What tests in tests/vm share: Debian's kernel for a CPU is booted with our programs, without KVM, and runs tests.
#
#	vm_main CPU KERNEL [LIST]	as vm_prepare.sh; all of a test
#
# Tests that run inside are listed in tests/vm/list-CPU-KERNEL, or where there is none in tests/vm/list-KERNEL. What they leave is looked at here, on the host.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1

VM_PROBLEMS=0
vm_bad() {
	echo "BAD: $*"
	VM_PROBLEMS=$((VM_PROBLEMS + 1))
}

vm_skip() {
	echo "$*"
	exit 77
}

vm_tmp() {
	if [ -z "${TMPDIR:-}" ] || [ "$TMPDIR" = /tmp ]; then
		TMPDIR=$(mktemp -d) || exit 1
		trap 'rm -rf "$TMPDIR"' EXIT
	fi
	export TMPDIR
}

# The machine of a CPU: sets QEMU.
vm_machine() { # CPU
	local console program options
	case $1 in
	x86_64) program=qemu-system-x86_64 options="-M q35 -cpu max" console=ttyS0 ;;
	aarch64) program=qemu-system-aarch64 options="-M virt,${VM_MTE:-mte=on} -cpu max,pauth-impdef=on" console=ttyAMA0 ;;
	ppc64le) program=qemu-system-ppc64 options="-M pseries,x-vof=on -cpu power10" console=hvc0 ;;
	s390x) program=qemu-system-s390x options="-M s390-ccw-virtio -cpu max" console=ttysclp0 ;;
	esac
	command -v "$program" >/dev/null || vm_skip "needs $program"
	# shellcheck disable=SC2206 # options are words
	QEMU=("$program" $options -append "console=$console $VM_BOOT")
}
# A panic ends the machine; nobody needs to hear of each module.
VM_BOOT="panic=-1 loglevel=4 random.trust_cpu=on mitigations=off"

# Programs and tests, without what only builds need.
vm_pack() { # CPU FILE LIST
	cp "$3" "$TMPDIR/list" || return 1
	tar -c -f "$2" --exclude='*.o' --exclude='*.d' --exclude='*.a' --exclude=tests/log --exclude=gen \
		--exclude=fuzz tests docs/BINLOG.md "build/$1" -C "$TMPDIR" list
}

vm_boot() { # CPU KERNEL LOG
	local home d name file snapshot
	home=build/vm/$1-$2
	vm_machine "$1"
	for d in root:build/vm/"$1"/root.ext4:on in:"$TMPDIR/in":off out:"$TMPDIR/out":off; do
		IFS=: read -r name file snapshot <<<"$d"
		QEMU+=(-drive "if=none,id=$name,format=raw,snapshot=$snapshot,file=$file"
			-device "virtio-blk,drive=$name,serial=$name")
	done
	local TIMEFORMAT="vm: the machine took %R s, %U + %S s of CPU time"
	# Less than a test in tests/vm has, so that a machine that stands still can be told of.
	time timeout --foreground "${VM_SECONDS:-840}" "${QEMU[@]}" -accel tcg,thread=multi,tb-size=256 -smp 2 \
		-m "${VM_MEMORY:-1536}" -nographic -nodefaults -serial stdio -no-reboot \
		-kernel "$home/vmlinuz" -initrd "$home/initrd" >"$3" 2>&1 </dev/null
	sed -i 's/\r//g' "$3"
}

# The tests that failed or were skipped, and how it ended.
vm_judge() { # LOG
	grep -aE '^(vm: |\[[0-9]+/[0-9]+\] |    \| |failed: |[0-9]+ passed, )' "$1"
	if ! grep -aq '^vm: done' "$1"; then
		vm_bad "the machine has not come to its end:"
		tail -n 40 "$1" | sed 's/^/    > /'
	fi
	grep -aqE '^[1-9][0-9]* passed, 0 failed' "$1" || vm_bad "tests have failed in there"
}

# A core file has the sets of registers that every thread of such a CPU has, for readelf as well.
vm_core_notes() { # CPU FILE...
	local cpu=$1 file note notes
	shift
	for file in "$@"; do
		notes=$(readelf -n "$file" 2>&1) || return 1
		for note in NT_PRSTATUS NT_FPREGSET $(vm_notes "$cpu"); do
			grep -q "$note\b" <<<"$notes" || {
				echo "no $note in ${file##*/} of $cpu"
				return 1
			}
		done
	done
}

vm_notes() { # CPU
	case $1 in
	x86_64) echo NT_X86_XSTATE ;;
	aarch64) echo NT_ARM_TLS NT_ARM_HW_BREAK NT_ARM_HW_WATCH NT_ARM_SVE ;;
	ppc64le) echo NT_PPC_VMX NT_PPC_VSX NT_PPC_TAR NT_PPC_PPR NT_PPC_DSCR ;;
	s390x) echo NT_S390_VXRS_LOW NT_S390_VXRS_HIGH NT_S390_SYSTEM_CALL NT_S390_LAST_BREAK ;;
	esac
}

# Images and logs that a machine has left, looked at by the programs of this one.
vm_images() { # CPU DIR LIST
	local facts image n=0 here what frame
	here=build/$(uname -m)
	for facts in "$2"/images/*.facts; do
		[ -e "$facts" ] || continue
		image=${facts%.facts}
		n=$((n + 1))
		what="image ${image##*/} of $1"
		"$here/stasis" verify "$image" || vm_bad "$what: verify"
		"$here/stasis" show "$image" | python3 -c 'import json, sys; json.load(sys.stdin)' ||
			vm_bad "$what: show"
		tests/lib/check_image.py "$image" "$facts" || vm_bad "$what: image and facts"
		# libunwind is for one CPU: tests in there have unwound the images of others.
		if [ "$1" = "$(uname -m)" ]; then "$here/stasis" bt "$image" >"$image.bt" || vm_bad "$what: bt"; fi
		# All the way; the static victims of the others alone bring their symbols for what the host has not.
		[ "$1" = "$(uname -m)" ] && frame='#1' || frame='.* main+0x'
		grep -q "^ *$frame" "$image.bt" || vm_bad "$what: bt: no $frame: $(head -n 5 "$image.bt")"
		"$here/stasis" core "$image" -o "$TMPDIR/core" || vm_bad "$what: core"
		vm_core_notes "$1" "$TMPDIR/core"* || vm_bad "$what: notes of the core"
		case $1-${image##*/} in
		s390x-regs-*) tests/lib/core_regs.py "$TMPDIR/core"* "$facts" || vm_bad "$what: core and facts" ;;
		esac
		rm -f "$TMPDIR/core"*
		"$here/bindecode" "$image.binlog" >"$TMPDIR/log" || vm_bad "$what: bindecode"
		grep -q 'guardian: freeze: done' "$TMPDIR/log" || vm_bad "$what: bindecode: no freeze"
	done
	echo "vm: $n images looked at"
	# Whoever asks for tests of their own need not ask for this one.
	[ "$n" -gt 0 ] || ! grep -q '^vm/inside/images' "$3" || vm_bad "it has left no image"
}

# Why there are no programs for a CPU.
vm_why() { # CPU [TARGET]
	if [ -s "build/$1/why" ]; then grep -v '^make' "build/$1/why" | tail -n 1; else echo "make ${2:-check-vm} builds it"; fi
}

vm_main() { # CPU KERNEL [LIST]
	local log list=${3:-tests/vm/list-$1-$2}
	[ -e "$list" ] || list=tests/vm/list-$2
	[ -x "build/$1/tests/victim" ] || vm_skip "build/$1 is not built: $(vm_why "$1")"
	vm_tmp
	vm_machine "$1"
	tests/lib/vm_prepare.sh "$1" "$2" || exit $?
	log=build/vm/$1-$2/console.log
	vm_pack "$1" "$TMPDIR/in" "$list" || vm_bad "the programs could not be packed"
	truncate -s 1G "$TMPDIR/out"
	vm_boot "$1" "$2" "$log"
	vm_judge "$log"
	rm -rf "build/vm/$1-$2/out" "$TMPDIR/in"
	mkdir "build/vm/$1-$2/out"
	tar -x -m -f "$TMPDIR/out" -C "build/vm/$1-$2/out" || vm_bad "what tests left cannot be unpacked"
	vm_images "$1" "build/vm/$1-$2/out" "$list"
	[ "$VM_PROBLEMS" -eq 0 ] || exit 1
	exit 0
}
