#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs the Debian packages that are missing, by name, and says so. Arguments: demo, check, plots (more packages).
set -eu

build="gcc make pkg-config libc6-dev liburing-dev libzstd-dev liblz4-dev libxxhash-dev libprotobuf-c-dev
protobuf-c-compiler libunwind-dev libjansson-dev libcmocka-dev"
demo="redis-server redis-tools"
check="$demo clang-14 libclang-rt-14-dev clang-format-14 shellcheck python3 gdb strace util-linux procps
psmisc criu python3-protobuf"
# Real programs that are dumped and restored. A JVM and node are too big to be asked for: their tests say that
# they skipped.
check="$check nginx-light postgresql sqlite3 tmux"
# The binary log is written by programs of the other CPUs, which qemu-user runs. Debian has compilers for all of them on
# amd64, arm64 and ppc64el; what is not built skips and says so.
check="$check qemu-user"
host=$(dpkg --print-architecture 2>/dev/null || echo amd64)
for cpu in amd64:x86-64 arm64:aarch64 ppc64el:powerpc64le s390x:s390x; do
	case $host:${cpu%:*} in
	s390x:* | "$host:$host") ;;
	*) check="$check gcc-${cpu#*:}-linux-gnu libc6-dev-${cpu%:*}-cross" ;;
	esac
done
# Debian's kernels for the four CPUs, in virtual machines; their packages are kept below build/vm.
check="$check qemu-system-x86 qemu-system-arm qemu-system-ppc qemu-system-misc e2fsprogs xz-utils"
plots=gnuplot-nox

want=$build
for arg in "$@"; do
	case $arg in
	demo) want="$want $demo" ;;
	check) want="$want $check" ;;
	plots) want="$plots" ;;
	*)
		echo "deps.sh: '$arg' is not one of demo, check, plots" >&2
		exit 2
		;;
	esac
done

missing=
for pkg in $want; do
	status=$(dpkg-query -W -f '${db:Status-Status}' "$pkg" 2>/dev/null || true)
	[ "$status" = installed ] || missing="$missing $pkg"
done
[ -n "$missing" ] || exit 0

echo "installing Debian packages:$missing"
if ! command -v apt-get >/dev/null; then
	echo "this is not Debian: install the equivalents of the packages named above, then try again" >&2
	exit 1
fi
sudo=
if [ "$(id -u)" != 0 ]; then
	if ! command -v sudo >/dev/null; then
		echo "root is needed to install packages: run 'make deps' as root" >&2
		exit 1
	fi
	sudo=sudo
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Services of the packages (redis) must not start by themselves.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
	$sudo chmod 755 "$policy"
	trap 'rm -f "$log"; $sudo rm -f "$policy"' EXIT
fi
install() {
	# shellcheck disable=SC2086
	$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing >"$log" 2>&1
}
if ! install; then
	$sudo apt-get update >/dev/null
	if ! install; then
		tail -n 20 "$log" >&2
		echo "the packages could not be installed: see above" >&2
		exit 1
	fi
fi
