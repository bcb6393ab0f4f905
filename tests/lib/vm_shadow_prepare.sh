#!/bin/bash
# SPDX-License-Identifier: MIT
# What a machine with shadow stacks needs: an emulator of Debian 13 or its backports, run from its own
# libraries, and a kernel.
#
#	vm_shadow_prepare.sh gcs	qemu-system-aarch64 (10.2 or newer) and the kernel of trixie-backports
#	vm_shadow_prepare.sh shstk	Bochs 3.0, xorriso, isolinux; the kernel of bookworm-backports
#
#	build/vm/shadow/KIND/		usr/...: the packages, unpacked
#	build/vm/shadow/KIND/vmlinuz
#	build/vm/shadow/KIND/busybox	static, of the machine's CPU
#
# apt's state is private, with the mirror and the keyring of this machine. Exit 77, and the reason in the last line,
# when it cannot be had.
set -u
cd "$(dirname "$0")/../.." || exit 1

kind=$1
vm=$PWD/build/vm/shadow
home=$vm/$kind
mkdir -p "$vm"
exec 9>"$vm/lock"
flock 9

cannot() {
	echo "cannot prepare a machine with $kind: $*"
	exit 77
}

[ "$(uname -m)" = x86_64 ] || cannot "its emulator is one for x86-64"
for p in apt-get dpkg-deb python3; do
	command -v "$p" >/dev/null || cannot "there is no $p here"
done

. tests/lib/vm_apt.sh

# These packages and what they need.
closure() { # SUITE PACKAGE...
	apt-get -y --no-install-recommends --print-uris -t "$1" install "${@:2}" 2>"$vm/apt/log" |
		sed -n "s/^'[^']*' \([^_]*\)_.*/\1/p"
}

unpack() { # SUITE PACKAGE...
	local need p
	need=$(closure "$@")
	[ -n "$need" ] || cannot "apt-get: $(tail -n 1 "$vm/apt/log")"
	# shellcheck disable=SC2086 # a list of packages
	fetch "$home.debs" -t "$1" $need
	for p in "$home.debs/"*.deb; do
		dpkg-deb -x "$p" "$home.part" || cannot "dpkg-deb: $p"
	done
	rm -rf "$home.debs"
}

# The program of a package alone: of another CPU, it is not for this system.
take_busybox() { # CPU
	fetch "$home.debs" -t bookworm "busybox-static:$1"
	dpkg-deb --fsys-tarfile "$home.debs/"busybox-static_*.deb |
		tar -x -C "$home.part" --strip-components 2 ./bin/busybox
	rm -rf "$home.debs"
}

take_kernel() { # SUITE PACKAGE
	fetch "$home.debs" -t "$1" "$2"
	dpkg-deb --fsys-tarfile "$home.debs/"linux-*.deb | tar -x -C "$home.debs" --wildcards '*/vmlinuz*'
	find "$home.debs" -name 'vmlinuz*' -exec mv {} "$home.part/vmlinuz" \;
	rm -rf "$home.debs"
	[ -e "$home.part/vmlinuz" ] || cannot "$2 has no kernel in it"
}

# The package that is meant by the one which is always there: PREFIX and a version.
newest() { # SUITE PACKAGE PREFIX
	apt-cache depends -t "$1" "$2" | sed -n "s/.*Depends: $3\([0-9][^ :]*\).*/\1/p" | head -n 1
}

gcs() {
	local version
	unpack trixie-backports qemu-system-arm
	take_busybox arm64
	version=$(newest trixie-backports linux-image-arm64:arm64 linux-image-)
	[ -n "$version" ] || cannot "there is no linux-image-arm64 in trixie-backports"
	take_kernel trixie-backports "linux-binary-$version:arm64"
}

shstk() {
	local version
	unpack trixie bochs bochs-term bochsbios vgabios xorriso isolinux syslinux-common
	take_busybox amd64
	version=$(newest bookworm-backports linux-image-amd64 linux-image-)
	[ -n "$version" ] || cannot "there is no linux-image-amd64 in bookworm-backports"
	take_kernel bookworm-backports "linux-image-$version"
}

if [ ! "$home/vmlinuz" -nt tests/lib/vm_shadow_prepare.sh ]; then
	rm -rf "$home" "$home.part" "$home.debs"
	apt_ready trixie '"amd64"; "arm64";' bookworm bookworm-backports trixie trixie-backports
	mkdir "$home.part"
	"$kind"
	rm -rf "$home.part"/usr/share/{doc,man,locale,info,icons}
	touch "$home.part/vmlinuz"
	mv "$home.part" "$home"
fi
