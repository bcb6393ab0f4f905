# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# What tests of dumps of running processes share: the ways to track that this machine offers, what a dump says
# it used. To be sourced after e2e.sh.

WAYS=()         # options of dump, a way each; "" is the default
declare -A USED # how often each way of tracking was used, as the dumps say

# ways PID: sets WAYS; every way that is not to be had here is told.
ways() {
	local way
	WAYS=("")
	"$STASIS" dump --help | grep -q -- --tracking || {
		echo "this stasis has no --tracking: every dump is stop-and-copy"
		return
	}
	for way in uffd soft-dirty fork none; do
		if stasis dump -t "$1" -D "$TMPDIR/probe" -R --quiet --json --tracking $way; then
			WAYS+=("--tracking $way")
			[ "$(tracking)" = $way ] || echo "--tracking $way: used $(tracking) instead"
		else
			echo "--tracking $way: not here: exit code $RC: $ERR"
			nothing_left "$TMPDIR/probe" "--tracking $way"
		fi
		rm -rf "$TMPDIR/probe"
	done
	[ ${#WAYS[@]} -gt 1 ] || bad "no way of tracking works here"
}

# The way that the dump of OUT says it has used.
tracking() {
	local way
	way=$(sed -n 's/.*"tracking": *"\([a-z-]*\)".*/\1/p' <<<"$OUT")
	echo "${way:-stop-and-copy}"
}

# count_way: the dump of OUT is one of those that were made.
count_way() {
	local way
	way=$(tracking)
	USED[$way]=$((${USED[$way]:-0} + 1))
}

ways_used() {
	local way
	for way in "${!USED[@]}"; do
		printf '%s %s, ' "${USED[$way]}" "$way"
	done
}
