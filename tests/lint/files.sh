# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Lists the tree's own files for the lint tests: `lint_files GLOB...`, relative to $ROOT.

ROOT=${ROOT:-$(cd "$(dirname "$0")/../.." && pwd)}
cd "$ROOT" || exit 1

lint_files() {
	if [ -d .git ] || [ -f .git ]; then
		git ls-files -co --exclude-standard -- "$@"
	else
		local g
		for g in "$@"; do
			[ "$g" = "${g##*/}" ] && g="*/$g" || g="./$g"
			find . -path ./build -prune -o -type f -path "$g" -print | sed 's,^\./,,'
		done
	fi | sort -u | while read -r f; do
		[ -f "$f" ] && echo "$f"
	done
}
