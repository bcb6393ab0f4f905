#!/bin/bash
# SPDX-License-Identifier: MIT
# What a virtual machine needs, from Debian packages: a disk with bash and its like, a kernel, an initramfs.
#
#	vm_prepare.sh CPU KERNEL	CPU: x86_64 aarch64 ppc64le s390x; KERNEL: 6.1 or 6.12
#
#	build/vm/CPU/root.ext4		programs and libraries of Debian 12
#	build/vm/CPU-KERNEL/vmlinuz	Debian's kernel: bookworm's, or that of bookworm-backports
#	build/vm/CPU-KERNEL/initrd	busybox, the modules in the order of their loading, tests/lib/vm_init.sh
#
# Nothing else is touched: apt's state is private, with the mirror and the keyring of this machine. What is there
# is not made again; remove build/vm to begin anew. Exit 77, and the reason in the last line, when it cannot be had.
set -u
cd "$(dirname "$0")/../.." || exit 1

cpu=$1 kernel=$2
case $cpu in
x86_64) deb=amd64 flavour=amd64 ;;
aarch64) deb=arm64 flavour=arm64 ;;
ppc64le) deb=ppc64el flavour=powerpc64le ;;
s390x) deb=s390x flavour=s390x ;;
*)
	echo "vm_prepare.sh: '$cpu' is not one of x86_64 aarch64 ppc64le s390x" >&2
	exit 2
	;;
esac
case $kernel in
6.1) suite=bookworm ;;
6.12) suite=bookworm-backports ;;
*)
	echo "vm_prepare.sh: '$kernel' is not one of 6.1 6.12" >&2
	exit 2
	;;
esac

# What tests call, and the libraries of our programs.
packages="bash coreutils mawk grep sed findutils diffutils util-linux mount procps tar gzip python3 libc6 libgcc-s1
libzstd1 liblz4-1 libxxhash0 liburing2 libprotobuf-c1 libunwind8 libjansson4 libcmocka0
criu python3-protobuf"
# Whoever would load one by itself finds no modprobe: all that is asked for is loaded at the start.
modules="virtio_pci virtio_ccw virtio_blk crc32c_generic ext4 unix_diag inet_diag tcp_diag udp_diag netlink_diag
af_packet_diag nf_tables nfnetlink"

vm=$PWD/build/vm
home=$vm/$cpu-$kernel
fresh() { # FILE SOURCE...: made after these
	local f
	for f in "${@:2}"; do
		[ "$1" -nt "$f" ] || return 1
	done
}

root_ready() { fresh "$vm/$cpu/root.ext4" tests/lib/vm_prepare.sh; }
kernel_ready() { fresh "$home/initrd" tests/lib/vm_prepare.sh tests/lib/vm_init.sh; }
# While another machine is prepared, those that are ready need not wait.
if root_ready && kernel_ready; then exit 0; fi
mkdir -p "$vm/$cpu" "$home"
exec 9>"$vm/lock"
flock 9

cannot() {
	echo "cannot prepare Linux $kernel for $cpu: $*"
	exit 77
}

for p in apt-get dpkg-deb mke2fs python3 xz; do
	command -v "$p" >/dev/null || PATH=$PATH:/usr/sbin:/sbin
	command -v "$p" >/dev/null || cannot "there is no $p here"
done

. tests/lib/vm_apt.sh

# These packages and what they need, a line each. Those that are of no CPU are not found as one's.
closure() {
	# shellcheck disable=SC2046 # a list of packages
	apt-get -y --no-install-recommends -o APT::Architecture="$deb" --print-uris install \
		$(printf "%s:$deb " "$@") 2>"$vm/apt/log" |
		sed -n "s/^'[^']*' \([^_]*\)_[^ ]*_all\.deb .*/\1/p; s/^'[^']*' \([^_]*\)_.*/\1:$deb/p"
}

make_root() {
	local dir=$vm/$cpu/root need
	rm -rf "$dir" "$vm/$cpu/debs"
	apt_ready bookworm '"amd64"; "arm64"; "ppc64el"; "s390x";' bookworm bookworm-backports
	# shellcheck disable=SC2046,SC2086 # lists of packages
	need=$(closure $packages)
	[ -n "$need" ] || cannot "apt-get: $(tail -n 1 "$vm/apt/log")"
	# shellcheck disable=SC2086 # a list of packages
	fetch "$vm/$cpu/debs" $need
	mkdir -p "$dir"
	for p in "$vm/$cpu/debs/"*.deb; do
		dpkg-deb -x "$p" "$dir" || cannot "dpkg-deb: $p"
	done
	rm -rf "$vm/$cpu/debs" "${dir:?}"/usr/share/{doc,man,locale,info,bash-completion,lintian,perl,zoneinfo}
	# What the packages' scripts would have done. Compiling is slow where it is emulated.
	[ ! -d "$dir/usr/lib/$(basename "$(realpath "$(command -v python3)")")" ] ||
		python3 -m compileall -q "$dir"/usr/lib/python3* >/dev/null
	ln -sf mawk "$dir/usr/bin/awk"
	ln -sf bash "$dir/bin/sh"
	mkdir -p "$dir"/{proc,sys,dev,tmp,run,stasis,var/tmp,etc,root}
	chmod 1777 "$dir/tmp" "$dir/var/tmp"
	printf 'root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n' >"$dir/etc/passwd"
	printf 'root:x:0:\ntty:x:5:\nnogroup:x:65534:\n' >"$dir/etc/group"
	printf '127.0.0.1 localhost\n' >"$dir/etc/hosts"
	rm -f "$vm/$cpu/root.part"
	mke2fs -q -t ext4 -b 4096 -O ^has_journal -d "$dir" "$vm/$cpu/root.part" 1200M >"$vm/apt/log" 2>&1 ||
		cannot "mke2fs: $(tail -n 1 "$vm/apt/log")"
	rm -rf "$dir"
	mv "$vm/$cpu/root.part" "$vm/$cpu/root.ext4"
}

# depends FILE: the modules that it needs first.
depends() {
	tr '\0' '\n' <"$1" | sed -n 's/^depends=//p' | tr ',' '\n' | grep .
}

# add_module NAME: it and those that it needs, in the order of their loading. One that is not there is built in.
add_module() {
	local f need
	case " $loaded " in *" $1 "*) return ;; esac
	f=$(find "$home/mod" -name "${1//[-_]/[-_]}.ko*" | head -n 1)
	loaded+=" $1"
	[ -n "$f" ] || return 0
	case $f in *.xz) xz -d "$f" && f=${f%.xz} ;; esac
	for need in $(depends "$f"); do
		add_module "$need"
	done
	cp "$f" "$home/rd/mod/"
	echo "${f##*/}" >>"$home/rd/mod/order"
}

make_kernel() {
	local image loaded='' m
	apt_ready bookworm '"amd64"; "arm64"; "ppc64el"; "s390x";' bookworm bookworm-backports
	rm -rf "$home/debs" "$home/mod" "$home/rd"
	image=$(apt-cache depends -t $suite "linux-image-$flavour:$deb" |
		sed -n 's/.*Depends: \(linux-image-[0-9][^ :]*\).*/\1/p' | head -n 1)
	[ -n "$image" ] || cannot "there is no linux-image-$flavour in $suite"
	fetch "$home/debs" "$image:$deb" "busybox-static:$deb"
	mkdir -p "$home/mod" "$home/rd"/{bin,mod,proc,sys,dev,disk}
	dpkg-deb --fsys-tarfile "$home/debs/"linux-image-*.deb | tar -x -C "$home/mod"
	dpkg-deb --fsys-tarfile "$home/debs/"busybox-static_*.deb | tar -x -C "$home/rd/bin" --strip-components 2 ./bin/busybox
	for m in $modules; do
		add_module "$m"
	done
	cp tests/lib/vm_init.sh "$home/rd/init"
	chmod 755 "$home/rd/init"
	cp "$home/mod/boot/"vmlinu* "$home/vmlinuz"
	cp "$home/mod/boot/"config-* "$home/config"
	tests/lib/mkcpio.py "$home/rd" >"$home/initrd.part" || cannot "mkcpio.py"
	rm -rf "$home/debs" "$home/mod" "$home/rd"
	mv "$home/initrd.part" "$home/initrd"
}

root_ready || make_root
kernel_ready || make_kernel
