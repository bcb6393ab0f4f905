# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# What tests with real programs share: started, dumped and killed, brought back, looked at by their own
# clients. To be sourced after e2e.sh and with_reaper.
#
# The program is one tree, PID its root, which leads a session. Its clients are part of the tree where
# they are connected while it is dumped.

PID=
TREE=() # all that have been seen of it

# start COMMAND...: PID; its output is in OUTPUT.
start() {
	OUTPUT=$TMPDIR/output
	: >"$OUTPUT" # there before anybody looks into it
	setsid "$@" >"$OUTPUT" 2>&1 </dev/null &
	PID=$!
	disown $PID
}

# The pids of the tree, a line each, its root first.
tree_pids() { # PID
	local p children
	echo "$1"
	read -ra children < <(cat /proc/"$1"/task/*/children 2>/dev/null | tr '\n' ' ')
	for p in "${children[@]}"; do
		tree_pids "$p"
	done
}

all_ended() {
	local p
	for p in "${TREE[@]}"; do
		[ ! -e "/proc/$p" ] || return 1
	done
}

kill_tree() {
	[ -z "$PID" ] || [ ! -e "/proc/$PID" ] || mapfile -t TREE < <(tree_pids "$PID")
	[ ${#TREE[@]} -eq 0 ] || kill -KILL "${TREE[@]}" 2>/dev/null
}
trap 'kill_tree; cleanup' EXIT

# until_true TENTHS COMMAND...: as soon as it succeeds.
until_true() {
	local i n=$1
	shift
	for ((i = 0; i < n; i++)); do
		"$@" >/dev/null 2>&1 && return 0
		sleep 0.1
	done
	return 1
}

# told TENTHS TEXT: the program has written it.
told() {
	until_true "$1" grep -q -- "$2" "$OUTPUT" || die "no '$2' in: $(tail -n 20 "$OUTPUT")"
}

restored() { # LABEL
	stasis restore -D "$TMPDIR/image" -d "${RESTORE_OPTIONS[@]}" || {
		all_ended || bad "$1: a failed restore has left processes: $(ps -o pid,args -p "${TREE[*]}")"
		die "$1: restore: exit code $RC: $ERR"
	}
	[ -e "/proc/$PID" ] || die "$1: nobody there after a restore: $(tail -n 20 "$OUTPUT")"
	nobody_traces "$PID" "$1"
}
RESTORE_OPTIONS=()

# again LABEL OPTIONS...: the tree is dumped, which kills it, and restored.
again() {
	local label=$1
	shift
	rm -rf "$TMPDIR/image"
	mapfile -t TREE < <(tree_pids "$PID")
	stasis dump -t "$PID" -D "$TMPDIR/image" "$@" || die "$label: dump: exit code $RC: $ERR"
	until_true 100 all_ended || die "$label: not all have ended after the dump: ${TREE[*]}"
	echo "$label: $OUT$ERR"
	restored "$label"
}

# A dump that is refused says why, leaves no image and a program that runs on.
refused() { # LABEL WHAT OPTIONS...
	local label=$1 what=$2
	shift 2
	stasis dump -t "$PID" -D "$TMPDIR/refused" "$@"
	[ "$RC" = 16 ] || bad "$label: exit code $RC instead of 16: $ERR"
	grep -qE "$what" <<<"$ERR" || bad "$label: not '$what' but: $ERR"
	nothing_left "$TMPDIR/refused" "$label"
	nobody_traces "$PID" "$label"
}

# broken_restores LABEL OPTIONS...: dumped and killed; images that lack something bring back nobody, the whole
# one brings back all.
broken_restores() {
	local label=$1 f size
	shift
	rm -rf "$TMPDIR/image"
	mapfile -t TREE < <(tree_pids "$PID")
	stasis dump -t "$PID" -D "$TMPDIR/image" -R "$@" || die "$label: dump: exit code $RC: $ERR"
	stasis restore -D "$TMPDIR/image" -d && die "$label: restored beside the program"
	kill -0 "$PID" || die "$label: a refused restore has ended the program"
	rm -rf "$TMPDIR/image"
	stasis dump -t "$PID" -D "$TMPDIR/image" "$@" || die "$label: dump: exit code $RC: $ERR"
	until_true 100 all_ended || die "$label: not all have ended after the dump: ${TREE[*]}"
	for f in "$TMPDIR/image/"*; do
		# What it says the inventory says too: for others' programs.
		[ "${f##*/}" != timens-0.img ] || continue
		size=$(stat -c %s "$f")
		rm -rf "$TMPDIR/broken"
		cp -r "$TMPDIR/image" "$TMPDIR/broken"
		truncate -s $((size / 2)) "$TMPDIR/broken/${f##*/}"
		if stasis restore -D "$TMPDIR/broken" -d; then
			bad "$label: restored with half of ${f##*/}"
			kill -KILL "$PID"
		fi
		until_true 20 all_ended || die "$label: half of ${f##*/} has left processes: ${TREE[*]}"
	done
	rm -rf "$TMPDIR/broken"
	restored "$label"
}

# stopped LABEL COMMAND...: it ends the program; all of the tree ends.
stopped() {
	local label=$1
	shift
	mapfile -t TREE < <(tree_pids "$PID")
	"$@" >/dev/null 2>&1
	until_true 100 all_ended || bad "$label: does not end: $(ps -o pid,stat,args -p "${TREE[*]}")"
	PID=
}
