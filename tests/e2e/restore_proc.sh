#!/bin/bash
# SPDX-License-Identifier: MIT
# /proc tells the same of a process after a restore as before its dump, wherever the restore is run from.
# timeout: 300
. "$(dirname "$0")/../lib/e2e.sh"
need_root
need_program python3 ionice taskset setarch
with_reaper "$@"

state=tests/lib/procstate.py

# Everything a command hands on to its children is another one here.
elsewhere() {
	(
		umask 0027
		ulimit -Sn 400
		ulimit -Sc 0
		ulimit -Ss 3000
		trap '' HUP USR2 WINCH
		echo 300 >/proc/self/oom_score_adj
		echo 0x7f >/proc/self/coredump_filter
		echo 777000 >/proc/self/timerslack_ns
		cd /usr && LEAK=leaked exec nice -n 7 ionice -c 3 taskset -c 0 setarch -R "$@"
	)
}

# proc_case NAME WAIT_COMMAND...: sets nothing; the process is $VPID.
compare() { # LABEL DIR
	local label=$1 dir=$2 image=$2/image pids
	mapfile -t pids < <(tree_of "$VPID")
	python3 $state save "$dir/before" "${pids[@]}" || die "$label: no state"
	stasis dump -t "$VPID" -D "$image" -j --quiet --no-log || {
		bad "$label: dump: $ERR"
		return 1
	}
	wait "$VPID" 2>/dev/null
	elsewhere "$STASIS" restore -D "$image" -j -d --quiet --no-log >"$dir/restore" 2>&1 </dev/null || {
		bad "$label: restore: $(<"$dir/restore")"
		return 1
	}
	python3 $state save "$dir/after" "${pids[@]}" || bad "$label: no state after the restore"
	python3 $state diff "$dir/before" "$dir/after" >"$dir/diff" || {
		bad "$label: $(<"$dir/diff")"
		return 1
	}
}

tree_of() {
	local child
	echo "$1"
	while read -rd " " child; do tree_of "$child"; done < <(cat "/proc/$1/task/"*/children 2>/dev/null)
}

scenarios=("$@")
[ ${#scenarios[@]} -gt 0 ] || scenarios=(plain guard protnone memfd shared filepriv fileshared
	deep threads masks actions altstack timers state sched rseq files tree seccomp creds opened epolls pipes manykinds)
for s in "${scenarios[@]}"; do
	[ "$s" != manykinds ] || continue
	dir=$TMPDIR/$s
	victim_start "$dir" "$s"
	rc=$?
	[ $rc != 77 ] || {
		echo "$s: not here: $WHY"
		continue
	}
	[ $rc = 0 ] || continue
	compare "$s" "$dir" && echo "$s: the same"
	victim_kill "$dir"
	for p in $(tree_of "$VPID"); do kill -KILL "$p" 2>/dev/null; done
done
case " ${scenarios[*]} " in *" manykinds "*)
	dir=$TMPDIR/manykinds
	mkdir "$dir"
	A=1 B="2 3" setsid python3 tests/lib/manykinds.py "$dir" </dev/null >/dev/null 2>"$dir/err" &
	VPID=$!
	living "$dir" $VPID
	await_file "$dir/ready" || die "manykinds does not get ready: $(<"$dir/err")"
	compare manykinds "$dir" && echo "manykinds: the same"
	for p in $(tree_of "$VPID"); do kill -KILL "$p" 2>/dev/null; done
	gone "$dir"
	;;
esac
finish
