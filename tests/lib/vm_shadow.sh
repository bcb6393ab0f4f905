# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# What tests in tests/vm-shadow share: a machine with shadow stacks is booted with our program and its victim.
#
#	vm_shadow_main gcs|shstk	all of a test
#
# In there all is one run of tests/lib/vm_shadow_init.sh, for the machine is slow. What it leaves comes over a serial
# line and is looked at here, on the host.
. "$(dirname "${BASH_SOURCE[0]}")/vm.sh"

# An initramfs: busybox, our programs and the libraries that they name.
shadow_initrd() { # CPU HOME RET
	local rd=$TMPDIR/rd lib
	mkdir -p "$rd/bin"
	cp "$2/busybox" "$rd/busybox"
	cp "build/$1/stasis" "build/$1/tests/victim" "$rd/bin/"
	[ ! -e "build/$1-faults/stasis" ] || cp "build/$1-faults/stasis" "$rd/bin/stasis-faults"
	cp tests/lib/vm_shadow_init.sh "$rd/init"
	chmod 755 "$rd/init"
	if [ "$1" = "$(uname -m)" ]; then
		strip "$rd/bin/"*
		for lib in $(ldd "build/$1/stasis" | grep -o '/[^ ]*'); do
			mkdir -p "$rd${lib%/*}"
			cp -L "$lib" "$rd$lib"
		done
	fi
	tests/lib/mkcpio.py "$rd" | gzip -1 >"$3"
	rm -rf "$rd"
}

shadow_boot_gcs() { # HOME INITRD LOG OUT
	"$1/usr/lib64/ld-linux-x86-64.so.2" --library-path "$1/usr/lib/x86_64-linux-gnu" \
		"$1/usr/bin/qemu-system-aarch64" -L "$1/usr/share/qemu" -M virt,mte=on -cpu max,pauth-impdef=on \
		-accel tcg,thread=multi,tb-size=128 -m 512 -smp 2 -nographic -nodefaults -serial "file:$3" \
		-serial "file:$4" -no-reboot -kernel "$1/vmlinuz" -initrd "$2" \
		-append "console=ttyAMA0 $VM_BOOT OUT=/dev/ttyAMA1" </dev/null >"$TMPDIR/emulator" 2>&1
}

# nopku: Bochs 3.0 and Linux disagree about where the shadow stack's state is in an XSAVE area behind that of PKRU.
shadow_boot_shstk() { # HOME INITRD LOG OUT
	local iso=$TMPDIR/iso ld="$1/usr/lib64/ld-linux-x86-64.so.2" libs=$1/usr/lib/x86_64-linux-gnu
	mkdir -p "$iso/isolinux"
	cp "$1/usr/lib/ISOLINUX/isolinux.bin" "$1/usr/lib/syslinux/modules/bios/ldlinux.c32" "$iso/isolinux/"
	cp "$1/vmlinuz" "$iso/vmlinuz"
	cp "$2" "$iso/initrd"
	cat >"$iso/isolinux/isolinux.cfg" <<-CONF
		DEFAULT l
		PROMPT 0
		LABEL l
		 KERNEL /vmlinuz
		 APPEND initrd=/initrd console=ttyS0 $VM_BOOT nopku clearcpuid=pku nopti cryptomgr.notests tsc=reliable OUT=/dev/ttyS1
	CONF
	"$ld" --library-path "$libs" "$1/usr/bin/xorriso" -as mkisofs -quiet -o "$TMPDIR/boot.iso" \
		-b isolinux/isolinux.bin -c isolinux/boot.cat -no-emul-boot -boot-load-size 4 -boot-info-table \
		"$iso" >"$TMPDIR/emulator" 2>&1 || return 1
	cat >"$TMPDIR/bochsrc" <<-CONF
		config_interface: textconfig
		display_library: term
		cpu: model=tigerlake, count=1, ips=100000000, reset_on_triple_fault=0, ignore_bad_msrs=1
		memory: guest=512, host=512
		romimage: file=$1/usr/share/bochs/BIOS-bochs-latest
		vgaromimage: file=$1/usr/share/vgabios/vgabios.bin
		vga: extension=vbe, update_freq=1
		pci: enabled=1, chipset=i440fx
		ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
		ata0-master: type=cdrom, path="$TMPDIR/boot.iso", status=inserted
		boot: cdrom
		com1: enabled=1, mode=file, dev=$3
		com2: enabled=1, mode=file, dev=$4
		log: $TMPDIR/bochs.log
		panic: action=fatal
		clock: sync=none, time0=utc
	CONF
	echo c >"$TMPDIR/debugger"
	# Its display wants a terminal.
	TERM=vt100 LTDL_LIBRARY_PATH=$libs/bochs/plugins script -qc "stty cols 100 rows 40
		$ld --library-path $libs $1/usr/bin/bochs-bin -q -f $TMPDIR/bochsrc -rc $TMPDIR/debugger" /dev/null \
		</dev/null >"$TMPDIR/emulator" 2>&1
}

# As vm_images does, but for backtraces, which are for this machine's own CPU; and that shadow stacks are in them.
shadow_images() { # KIND DIR
	local facts image n=0 what here
	here=build/$(uname -m)
	for facts in "$2"/images/*.facts; do
		[ -e "$facts" ] || continue
		image=${facts%.facts}
		n=$((n + 1))
		what="image ${image##*/} of $1"
		"$here/stasis" verify "$image" >"$TMPDIR/said" || vm_bad "$what: verify: $(cat "$TMPDIR/said")"
		"$here/stasis" show "$image" | tests/lib/shadow_shown.py "$1" || vm_bad "$what: show"
		tests/lib/check_image.py "$image" "$facts" || vm_bad "$what: image and facts"
		"$here/stasis" core "$image" -o "$TMPDIR/core" || vm_bad "$what: core"
		rm -f "$TMPDIR/core"*
		"$here/bindecode" "$image.binlog" >"$TMPDIR/said" || vm_bad "$what: bindecode"
		grep -q 'guardian: freeze: done' "$TMPDIR/said" || vm_bad "$what: bindecode: no freeze"
	done
	echo "vm: $n images looked at"
	[ "$n" -gt 0 ] || vm_bad "it has left no image"
}

vm_shadow_main() { # KIND
	local home=$PWD/build/vm/shadow/$1 cpu log out
	case $1 in
	gcs) cpu=aarch64 ;;
	shstk) cpu=x86_64 ;;
	esac
	[ -x "build/$cpu/tests/victim" ] || vm_skip "build/$cpu is not built: $(vm_why "$cpu" check-vm-shadow)"
	vm_tmp
	tests/lib/vm_shadow_prepare.sh "$1" || exit $?
	log=$home/console.log out=$home/out
	rm -rf "$log" "$out"
	mkdir "$out"
	: >"$TMPDIR/out"
	shadow_initrd "$cpu" "$home" "$TMPDIR/initrd" || vm_bad "no initramfs"
	"shadow_boot_$1" "$home" "$TMPDIR/initrd" "$log" "$TMPDIR/out" ||
		vm_bad "the emulator ends with $?: $(tail -n 3 "$TMPDIR/emulator")"
	sed -i 's/\r//g' "$log"
	grep -aE '^(vm: |    \| )' "$log"
	grep -aq '^vm: passed' "$log" || {
		vm_bad "it has not passed in there; the console says at the end:"
		tail -n 20 "$log" | sed 's/^/    > /'
	}
	base64 -d -i <"$TMPDIR/out" | tar -x -z -m -C "$out" || vm_bad "what it left cannot be unpacked"
	shadow_images "$1" "$out"
	[ "$VM_PROBLEMS" -eq 0 ] || exit 1
	exit 0
}
