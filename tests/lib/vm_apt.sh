# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# An apt of one's own, for what prepares machines: its state is in $vm/apt, with the mirror and the keyring of this
# machine. Sourced; needs $vm, and cannot(), which ends with a reason.

: "${vm:?}"

# apt_ready RELEASE CPUS SUITE...: CPUS as apt calls them, each in quotes and with a semicolon.
apt_ready() {
	local mirror key=/usr/share/keyrings/debian-archive-keyring.gpg s
	export APT_CONFIG=$vm/apt/apt.conf
	[ ! -e "$vm/apt/ready" ] || return 0
	# shellcheck disable=SC2016 # apt expands it
	mirror=$(unset APT_CONFIG && apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' |
		grep '/debian/*$' | head -n 1)
	[ -n "$mirror" ] || cannot "apt has no Debian mirror: run apt-get update once"
	[ -e $key ] || cannot "there is no $key: install debian-archive-keyring"
	mkdir -p "$vm/apt/lists/partial" "$vm/apt/cache/archives/partial"
	: >"$vm/apt/status"
	for s in "${@:3}"; do
		echo "deb [signed-by=$key] $mirror $s main"
	done >"$vm/apt/sources.list"
	cat >"$APT_CONFIG" <<-CONF
		Dir::State "$vm/apt"; Dir::State::status "$vm/apt/status"; Dir::Cache "$vm/apt/cache";
		Dir::Etc::sourcelist "$vm/apt/sources.list"; Dir::Etc::sourceparts "/dev/null";
		Dir::Etc::preferencesparts "/dev/null"; Acquire::Languages "none"; Acquire::GzipIndexes "true";
		APT::Sandbox::User "root"; APT::Architecture "amd64"; APT::Default-Release "$1";
		APT::Architectures { $2 };
	CONF
	apt-get -qq update >"$vm/apt/log" 2>&1 || cannot "apt-get update: $(tail -n 1 "$vm/apt/log")"
	touch "$vm/apt/ready"
}

# fetch DIR ARGUMENT...: these packages, exactly.
fetch() {
	mkdir -p "$1"
	(cd "$1" && apt-get -qq download "${@:2}") >"$vm/apt/log" 2>&1 ||
		cannot "apt-get download: $(tail -n 1 "$vm/apt/log")"
}
