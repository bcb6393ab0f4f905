#!/bin/bash
# SPDX-License-Identifier: MIT
# Runs every test and says how it went: one program, one test; see tests/README.md.
#
#	tests/run.sh [-l] [-j N] [-t SECONDS] [-f FILE] [NAME...]
#				-l lists, -j slots (2), -t no test has longer, NAME: a part of a test's name,
#				-f only those of a list: a pattern of names a line and arguments; after a !
#				those that are not meant
#
# Environment: BUILDS (build directories, the plain one first; default: those that exist), or BUILD
# for one; STASIS (program to test instead of the build's own); PATIENCE (timeouts are so many times as
# long); AGAIN=1 (up to three tests that failed run once more, alone: who passes then is named as unsteady).
# Exit 0 when nothing failed.
set -u
cd "$(dirname "$0")/.." || exit 1

slots=2 list='' wanted='' most=1000000
while getopts lj:f:t: opt; do
	case $opt in
	l) list=1 ;;
	j) slots=$OPTARG ;;
	f) wanted=$OPTARG ;;
	t) most=$OPTARG ;;
	*) exit 2 ;;
	esac
done
shift $((OPTIND - 1))

plain=${BUILD:-build/$(uname -m)}
builds=${BUILDS:-}
if [ -z "$builds" ]; then
	builds=$plain
	[ -n "${BUILD:-}" ] || for d in asan tsan faults clang-14; do
		[ -d "$plain-$d" ] && builds+=" $plain-$d"
	done
fi

# --- which tests there are: name, build, source (for its header comment), command -----------------
names=() tbuild=() tsource=() tcmd=()
add() { # NAME BUILD SOURCE COMMAND
	local want=$1 pattern
	if [ $# -gt 0 ] && [ ${#filters[@]} -gt 0 ]; then
		want=
		for pattern in "${filters[@]}"; do
			case $1 in *"$pattern"*) want=1 ;; esac
		done
	fi
	[ -n "$want" ] || return 0
	[ -n "$wanted" ] || patterns=("$1")
	for pattern in "${patterns[@]}"; do
		# shellcheck disable=SC2254 # a pattern is meant
		case $1 in ${pattern#!}) [ "${pattern::1}" != ! ] || return 0 ;; esac
	done
	for pattern in "${patterns[@]}"; do
		# shellcheck disable=SC2254 # a pattern is meant
		case $1 in
		${pattern%%[[:blank:]]*})
			names+=("$1") tbuild+=("$2") tsource+=("$3")
			case $pattern in *[[:blank:]]*) tcmd+=("$4 ${pattern#*[[:blank:]]}") ;; *) tcmd+=("$4") ;; esac
			;;
		esac
	done
}
patterns=()
if [ -n "$wanted" ]; then
	mapfile -t patterns < <(sed 's/#.*//; s/[[:blank:]]*$//; /^$/d' "$wanted")
	[ ${#patterns[@]} -gt 0 ] || {
		echo "no test in the list $wanted" >&2
		exit 1
	}
fi

# The value of "word: value" in the first 30 lines of a source, or "yes" for the bare word.
header() { # SOURCE WORD
	[ -f "$1" ] || return 0
	sed -n "30q; s/^[ #/*]*$2: *\\([^*]*[^* ]\\) *\\(\\*\\/\\)\\{0,1\\}\$/\\1/p;
		s/^[ #/*]*$2 *\\(\\*\\/\\)\\{0,1\\}\$/yes/p" "$1" | head -n 1
}

kind_of() { # BUILD: asan, tsan, faults, clang-14 or plain
	local base=${1##*/}
	case $base in *-*) echo "${base#*-}" ;; *) echo plain ;; esac
}

program() {
	[ -f "$1" ] && [ -x "$1" ]
}

filters=("$@")
for f in tests/lint/*; do
	program "$f" && add "lint/${f##*/}" "$plain" "$f" "$f"
done
for b in $builds; do
	kind=$(kind_of "$b")
	[ "$kind" = plain ] && tag= || tag=$kind:
	for f in "$b"/tests/unit/*/*; do
		program "$f" || continue
		add "$tag${f#"$b"/tests/}" "$b" "${f#"$b"/}.c" "$f"
	done
	for f in "$b"/tests/fuzz/*; do
		program "$f" || continue
		add "$tag${f#"$b"/tests/}" "$b" "${f#"$b"/}.c" "$f tests/fuzz/corpus/${f##*/}"
	done
	for f in tests/e2e/* tests/fault/* tests/golden/* tests/vm/* ${VM_OUT:+tests/vm/inside/*} \
		${VM_SHADOW:+tests/vm-shadow/*}; do
		program "$f" || continue
		on=$(header "$f" builds)
		case " ${on:-plain} " in
		*" $kind "*) n=${f#tests/} && add "$tag${n%.sh}" "$b" "$f" "$f" ;;
		esac
	done
done

if [ -n "$list" ]; then
	printf '%s\n' "${names[@]}"
	exit 0
fi
if [ ${#names[@]} -eq 0 ]; then
	[[ -n ${VM_SHADOW:-} || " $*" != *" vm-shadow"* ]] || echo "tests of vm-shadow are found with VM_SHADOW=1 alone" >&2
	echo "no test matches: $* (what is not built is not found: make tests)" >&2
	exit 1
fi

# --- running one ------------------------------------------------------------------------------------
# In memory where there is room, so that a slow disk does not make fsync the subject of every test.
place=${TMPDIR:-/tmp}
if [ -z "${TMPDIR:-}" ] && [ "$(stat -f -c %T /dev/shm 2>/dev/null)" = tmpfs ] &&
	! findmnt -no OPTIONS /dev/shm 2>/dev/null | grep -qw noexec &&
	[ "$(df -m --output=avail /dev/shm | tail -n 1)" -gt 4096 ]; then
	place=/dev/shm
fi
tmp=$(mktemp -d "$place/stasis-tests.XXXXXX") || exit 1
chmod 755 "$tmp" # some tests drop to another user
trap 'rm -rf "$tmp"' EXIT

# In a session of its own, whose leader outlives the test and then kills its own process group: no
# other process can be hit. The exit status goes through a file.
start() { # INDEX
	local i=$1 b=${tbuild[$1]} kind wrap='' t
	kind=$(kind_of "$b")
	t=$(header "${tsource[i]}" timeout)
	t=$((${t:-120} * ${PATIENCE:-1}))
	[ "$t" -le "$most" ] || t=$most
	case $kind in asan | tsan) wrap="setarch -R" ;; esac
	mkdir -p "$tmp/$i"
	log=$b/tests/log/${names[i]//[:\/]/-}.log
	mkdir -p "${log%/*}"
	# The outer shell only keeps bash from reporting that the inner one was killed; the inner one,
	# not this one, expands what is quoted.
	# shellcheck disable=SC2016
	(
		export BUILD=$b PLAIN_BUILD=$plain STASIS=${STASIS:-$b/stasis} TMPDIR=$tmp/$i LC_ALL=C
		export ASAN_OPTIONS=${ASAN_OPTIONS:-exitcode=1} TSAN_OPTIONS=${TSAN_OPTIONS:-exitcode=1}
		export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
		setsid bash -c 'trap : TERM; exec >"$5" 2>&1
			echo $$ >"$4.leader"
			timeout --foreground -k 5 "$1" $2 $3 </dev/null; echo $? >"$4.rc"
			kill -KILL 0' run "$t" "$wrap" "${tcmd[i]}" "$tmp/$i" "$log" &
		wait $!
	) 2>/dev/null &
	slot_of[$!]=$i
	began[$i]=$EPOCHREALTIME
}

declare -A slot_of=() began=()
passed=0 failed=0 skipped=0 done_n=0 failures=() logs=() told=()

finish() { # INDEX
	local i=$1 rc=1 log sec
	log=${tbuild[i]}/tests/log/${names[i]//[:\/]/-}.log
	[ -s "$tmp/$i.rc" ] && rc=$(<"$tmp/$i.rc")
	rm -rf "${tmp:?}/$i"
	sec=$(((${EPOCHREALTIME/./} - ${began[$i]/./}) / 10000))
	sec=$(printf '%d.%02d' $((sec / 100)) $((sec % 100)))
	done_n=$((done_n + 1))
	local at="[$done_n/${#names[@]}]"
	case $rc in
	0)
		passed=$((passed + 1))
		echo "$at pass ${names[i]} (${sec}s)"
		;;
	77)
		skipped=$((skipped + 1))
		echo "$at skip ${names[i]}: $(tail -n 1 "$log")"
		;;
	*)
		failed=$((failed + 1))
		failures+=("$i") logs[i]=$log
		[ "$rc" = 124 ] || [ "$rc" = 137 ] && rc="$rc, timeout"
		echo "$at FAIL ${names[i]} (exit $rc, ${sec}s), $log:"
		tail -n 60 "$log" | sed 's/^/    | /'
		;;
	esac
}

reap_one() {
	local pid=
	wait -n -p pid
	[ -n "${pid:-}" ] || return 0
	finish "${slot_of[$pid]}"
	unset "slot_of[$pid]"
}

run_all() { # SLOTS INDEX...
	local max=$1 i
	shift
	for i in "$@"; do
		while [ ${#slot_of[@]} -ge "$max" ]; do
			reap_one
		done
		start "$i"
	done
	while [ ${#slot_of[@]} -gt 0 ]; do
		reap_one
	done
}

interrupted() {
	local i
	for i in "${slot_of[@]}"; do
		kill -KILL -- "-$(<"$tmp/$i.leader")" 2>/dev/null
	done
	exit 130
}
trap interrupted INT TERM

together=() alone=()
for i in "${!names[@]}"; do
	if [ -n "$(header "${tsource[i]}" alone)" ]; then alone+=("$i"); else together+=("$i"); fi
done
run_all "$slots" "${together[@]}"
run_all 1 "${alone[@]}"

# What stands there last is read where an output is long. The log of a second run is not that of the first.
for i in "${failures[@]}"; do
	told[i]=$(grep -aE '^(BAD|FATAL|not ok|.*(FAIL|ERROR|error:|timeout))' "${logs[i]}" | head -n 8 | cut -c 1-600)
done
unsteady=()
if [ -n "${AGAIN:-}" ] && [ ${#failures[@]} -gt 0 ] && [ ${#failures[@]} -le 3 ]; then
	first=("${failures[@]}") failures=()
	for i in "${first[@]}"; do
		failed=$((failed - 1)) done_n=$((done_n - 1))
		n=${#failures[@]}
		run_all 1 "$i"
		[ ${#failures[@]} -gt "$n" ] || unsteady+=("$i")
	done
fi
[ ${#unsteady[@]} -eq 0 ] || for i in "${unsteady[@]}"; do
	echo "unsteady, passed at the second run: ${names[i]}: ${told[i]}"
done
[ ${#failures[@]} -eq 0 ] || for i in "${failures[@]}"; do
	echo "failed: ${names[i]}: ${told[i]}"
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
