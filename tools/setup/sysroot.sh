#!/bin/bash
# SPDX-License-Identifier: MIT
# sysroot.sh ARCH DIR: unpacks the libraries of another CPU that a cross build needs into DIR, from Debian packages.
# Nothing outside DIR is touched: apt's state is private, with the mirror and the keyring of this machine.
set -eu

arch=$1 dir=$2
case $arch in
aarch64) deb=arm64 ;;
ppc64le) deb=ppc64el ;;
s390x) deb=s390x ;;
x86_64) deb=amd64 ;;
*)
	echo "sysroot.sh: ARCH=$arch is not one of aarch64 ppc64le s390x x86_64" >&2
	exit 2
	;;
esac
packages="libzstd-dev liblz4-dev libxxhash-dev liburing-dev libprotobuf-c-dev libunwind-dev liblzma-dev zlib1g-dev
libjansson-dev libcmocka-dev libcmocka0 libunwind8 liblzma5"

die() {
	echo "sysroot.sh: $*" >&2
	exit 1
}

command -v apt-get >/dev/null || die "this is not Debian: put what Debian has in these packages into $dir, for $arch, and touch $dir/.done:" "$packages"
# shellcheck disable=SC2016
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep '/debian/*$' | head -n 1)
[ -n "$mirror" ] || die "no Debian mirror in apt's lists: run apt-get update, then try again"
suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-bookworm}")

rm -rf "$dir"
mkdir -p "$dir/apt/lists/partial" "$dir/apt/cache/archives/partial" "$dir/debs"
dir=$(cd "$dir" && pwd)
: >"$dir/apt/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$dir/apt/sources.list"
cat >"$dir/apt/apt.conf" <<CONF
Dir::State "$dir/apt"; Dir::State::status "$dir/apt/status"; Dir::Cache "$dir/apt/cache";
Dir::Etc::sourcelist "$dir/apt/sources.list"; Dir::Etc::sourceparts "/dev/null"; Dir::Etc::preferencesparts "/dev/null";
Acquire::Languages "none"; Acquire::GzipIndexes "true"; APT::Sandbox::User "root";
APT::Architecture "$deb"; APT::Architectures { "$deb"; };
CONF
export APT_CONFIG=$dir/apt/apt.conf

echo "unpacking Debian libraries for $arch into ${dir##*/}"
log=$dir/log
# shellcheck disable=SC2086
if ! { apt-get -qq update && cd "$dir/debs" && apt-get -qq download $packages; } >"$log" 2>&1; then
	tail -n 20 "$log" >&2
	die "the packages of $arch could not be had: see above"
fi
for p in "$dir"/debs/*.deb; do
	dpkg -x "$p" "$dir"
done
rm -rf "${dir:?}"/{apt,debs,log,usr/share}
touch "$dir/.done"
