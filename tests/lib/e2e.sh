# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# What end-to-end tests share: victims, dumps, complaints. To be sourced first; sets -u.
#
# A test calls `bad TEXT` for everything that is wrong and goes on, `die` when going on is pointless,
# `skip` when the machine cannot do it, and `finish` at the end.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1

# Whatever this test was given beside its three descriptors is not a victim's business.
for fd in "/proc/$$/fd/"*; do
	fd=${fd##*/}
	[ "$fd" -le 2 ] || [ "$fd" = 255 ] || eval "exec $fd>&-"
done

BUILD=${BUILD:-build/$(uname -m)}
STASIS=$(realpath -m "${STASIS:-$BUILD/stasis}")
# The victim of the plain build: it is the same in all of them.
VICTIM=$(realpath -m "${PLAIN_BUILD:-$BUILD}/tests/victim")
OWN_TMP=
if [ -z "${TMPDIR:-}" ] || [ "$TMPDIR" = /tmp ]; then
	TMPDIR=$(mktemp -d) || exit 1
	OWN_TMP=1
fi
# Others' children must reach it, whoever they are.
chmod 711 "$TMPDIR"
PROBLEMS=0
TEST_PID=$BASHPID
declare -A LIVING=() # directories of victims that run, and their pids
MOUNTS=()

bad() {
	echo "BAD: $*"
	PROBLEMS=$((PROBLEMS + 1))
}

die() {
	echo "FATAL: $*"
	exit 1
}

skip() {
	echo "$*"
	exit 77
}

finish() {
	[ $PROBLEMS -eq 0 ] || die "$PROBLEMS problems"
	exit 0
}

cleanup() {
	local d
	# A child that a signal hits between fork and exec still has our traps.
	[ "$BASHPID" = "$TEST_PID" ] || return
	for d in "${!LIVING[@]}"; do
		kill -KILL "${LIVING[$d]}" 2>/dev/null
	done
	for d in "${MOUNTS[@]}"; do
		umount -l "$d"
	done
	# Whatever belongs to a victim ends when its directory is gone.
	rm -rf "${TMPDIR:?}"/*
	[ -z "$OWN_TMP" ] || rm -rf "$TMPDIR"
}
trap cleanup EXIT
trap 'exit 143' TERM INT

[ -x "$STASIS" ] || die "$STASIS is not built"
[ -x "$VICTIM" ] || die "$VICTIM is not built"

# Starts the test again below a process that collects orphans at once, in a pid namespace of its own where
# that can be had: pids of processes that have ended are wanted again, and nobody else is to take them.
with_reaper() {
	local reaper
	reaper=$(realpath -m "${PLAIN_BUILD:-$BUILD}/tests/lib/reaper")
	[ -x "$reaper" ] || die "$reaper is not built"
	if [ -z "${REAPED:-}" ]; then
		export REAPED=1
		[ -z "$OWN_TMP" ] || rm -rf "$TMPDIR"
		[ -z "$OWN_TMP" ] || unset TMPDIR
		if unshare --pid --fork --mount-proc true 2>/dev/null; then
			# Terminals of its own as well: their numbers are wanted again, too.
			# shellcheck disable=SC2016 # the inner shell expands it
			exec unshare --pid --fork --kill-child --mount-proc "$reaper" bash -c '
				mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts /dev/pts &&
					mount --bind /dev/pts/ptmx /dev/ptmx
				exec "$@"' pts "$(realpath "$0")" "$@"
		fi
		exec "$reaper" "$(realpath "$0")" "$@"
	fi
}

# Starts the test again in a net namespace of its own, where that can be had: packets that it has held
# back, should it fail, are nobody else's business. Ahead of with_reaper.
own_net() {
	[ -z "${OWN_NET:-}" ] || return 0
	export OWN_NET=1
	unshare --net true 2>/dev/null || return 0
	need_program python3
	[ -z "$OWN_TMP" ] || rm -rf "$TMPDIR"
	[ -z "$OWN_TMP" ] || unset TMPDIR
	exec unshare --net python3 -c '
import fcntl, os, socket, struct, sys
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
fcntl.ioctl(socket.socket(), SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))
os.execv(sys.argv[1], sys.argv[1:])' "$(realpath "$0")" "$@"
}

need_root() {
	[ "$(id -u)" = 0 ] || skip "needs root"
}

need_program() {
	local p
	for p in "$@"; do
		command -v "$p" >/dev/null || skip "needs $p"
	done
}

# living NAME PID: a process of this test's own, killed at its end; gone NAME: not any more.
living() {
	LIVING[$1]=$2
}

gone() {
	unset "LIVING[$1]"
}

# victim_start DIR SCENARIO [OPTIONS]: sets VPID; 77 when the scenario cannot be had here.
victim_start() {
	local dir=$1 rc
	shift
	mkdir -p "$dir"
	"$VICTIM" "$1" --dir "$dir" "${@:2}" >"$dir/out" 2>&1 </dev/null &
	LIVING[$dir]=$!
	VPID=$("$VICTIM" --wait "$dir" 60)
	rc=$?
	if [ $rc != 0 ]; then
		WHY=$VPID
		wait "${LIVING[$dir]}"
		unset "LIVING[$dir]"
		[ $rc = 77 ] || bad "victim $1: $WHY $(cat "$dir/out")"
	fi
	return $rc
}

# victim_ok DIR WHEN: asks; complains when it is not all right.
victim_ok() {
	local answer
	answer=$("$VICTIM" --check "$1" 60) || {
		bad "victim ${1##*/} $2: $answer"
		return 1
	}
}

# victim_end DIR WHEN: asks it to end and to check what can only be checked at the end.
victim_end() {
	local answer rc=0
	answer=$("$VICTIM" --quit "$1" 60) || {
		bad "victim ${1##*/} $2, at its end: $answer"
		rc=1
	}
	[ $rc = 0 ] || kill -KILL "${LIVING[$1]}" 2>/dev/null
	wait "${LIVING[$1]}" 2>/dev/null
	unset "LIVING[$1]"
	return $rc
}

victim_kill() {
	kill -KILL "${LIVING[$1]}" 2>/dev/null
	wait "${LIVING[$1]}" 2>/dev/null
	unset "LIVING[$1]"
}

# Runs stasis; output in OUT, errors in ERR, exit code in RC.
# shellcheck disable=SC2034 # OUT is for the tests
stasis() {
	OUT=$("$STASIS" "$@" 2>"$TMPDIR/stderr" </dev/null)
	RC=$?
	ERR=$(<"$TMPDIR/stderr")
	return $RC
}

# expect_refusal CODE WHAT ARGS...: that exit code, one line on stderr that says something.
expect_refusal() {
	local code=$1 what=$2
	shift 2
	stasis "$@"
	if [ "$RC" != "$code" ]; then
		bad "$what: exit code $RC instead of $code: $ERR"
	fi
	message_ok "$what"
}

# One message: one line that starts with the program's name; a hint below it is indented, and a wrong
# command line is told where help is.
message_ok() {
	local n others
	n=$(grep -cE '^stasis( [a-z-]+)?: ' <<<"$ERR")
	others=$(grep -vE '^(stasis( [a-z-]+)?: |  |note: |Usage: |Try |$)' <<<"$ERR")
	if [ "$n" != 1 ] || { [ -n "$others" ] && [ "$RC" != 2 ]; }; then
		bad "$1: $n messages instead of one: $ERR"
	fi
	case $ERR in
	*Sanitizer* | *"runtime error"* | *Assertion*) bad "$1: $ERR" ;;
	esac
}

# nothing_left DIR WHAT: neither the image nor a half one beside it.
nothing_left() {
	local parent=${1%/*} name=${1##*/}
	[ ! -e "$1" ] || [ -z "$(ls -A "$1")" ] || bad "$2: $1 exists: $(ls -mA "$1")"
	if compgen -G "$parent/.$name.partial*" >/dev/null; then
		bad "$2: a half image is left: $(compgen -G "$parent/.$name.partial*")"
	fi
}

# nobody_traces PID WHAT: no thread has a tracer or is stopped.
nobody_traces() {
	local s
	for s in /proc/"$1"/task/*/status; do
		if ! grep -qs '^TracerPid:[^0-9]*0$' "$s" && [ -e "$s" ]; then
			bad "$2: ${s%/status} is still traced"
		fi
	done
}

# The pids of the processes in an image that are alive there, a line each.
image_pids() {
	"$STASIS" show "$1" | python3 -c 'import json, sys
for p in json.load(sys.stdin)["processes"]:
    if p["state"] != "dead":
        print(p["pid"])'
}

# mount_tmpfs DIR SIZE
mount_tmpfs() {
	mkdir -p "$1"
	mount -t tmpfs -o "size=$2,mode=755" stasis-test "$1" || skip "cannot mount a tmpfs here"
	MOUNTS+=("$1")
}

unmount() {
	local m keep=()
	umount "$1"
	for m in "${MOUNTS[@]}"; do
		[ "$m" = "$1" ] || keep+=("$m")
	done
	MOUNTS=("${keep[@]}")
}

# await_file FILE [SECONDS]: until it is there; false when it is not after 10, or so many.
await_file() {
	local i
	for ((i = 0; i < ${2:-10} * 50; i++)); do
		[ ! -e "$1" ] || return 0
		sleep 0.02
	done
	[ -e "$1" ]
}

# wait_for DIR/FILE: until it is there; else the end, with what DIR/out says.
wait_for() {
	await_file "$1" 30 || die "$1 does not come: $(cat "${1%/*}/out" 2>&1)"
}

# A random number below $1, without the bias and the 15 bits of $RANDOM mattering here.
random_below() {
	echo $(((RANDOM * 32768 + RANDOM) % $1))
}
