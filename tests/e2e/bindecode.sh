#!/bin/bash
# SPDX-License-Identifier: MIT
# Every option of bindecode on logs of real dumps; the program's own log options; following a live log.
# timeout: 180
. "$(dirname "$0")/../lib/e2e.sh"
. tests/lib/binlog.sh
need_program python3 gcc

# --- two logs of two dumps, the second of them begun while the first victim still lives
victim_start "$TMPDIR/v1" threads --n 5 || die "$WHY"
p1=$VPID
victim_start "$TMPDIR/v2" threads --n 320 || die "$WHY"
p2=$VPID
a=$TMPDIR/a.binlog b=$TMPDIR/b.log
stasis dump -t "$p1" -D "$TMPDIR/a" -R --tracking none -vv || bad "dump: $ERR"
stasis dump -t "$p2" -D "$TMPDIR/b" -R --tracking none -v4 -o "$b" || bad "dump: $ERR"
[ -s "$a" ] || bad "no log beside the image"
[ -s "$b" ] || bad "no log where -o says"
"$BINDECODE" --check "$a" "$b" >"$TMPDIR/check" || bad "check: $(<"$TMPDIR/check")"

lines() { # ARGS...: how many lines of text come out
	"$BINDECODE" --raw "$@" >"$TMPDIR/lines" || bad "bindecode $*: exit code $?"
	wc -l <"$TMPDIR/lines"
}
sum() { # WHAT TOTAL PARTS...
	local what=$1 total=$2 n=0 part
	shift 2
	for part; do n=$((n + part)); done
	[ "$n" = "$total" ] || bad "$what: $* do not make up $total"
}
all=$(lines "$b")
[ "$all" -gt 300 ] || bad "only $all lines at the most verbose level"
grep -q "^dump of pid $p2: survey" "$TMPDIR/lines" || bad "the log does not begin with the survey"

# --- which records
info=$(lines -l info "$b")
between() { # LOW N HIGH
	[ "$1" -le "$2" ] && [ "$2" -le "$3" ]
}
between 5 "$info" 50 || bad "$info lines of level info"
[ "$(lines -l 3 "$b")" = "$info" ] || bad "levels by number"
[ "$(lines -l error "$b")" = 0 ] || bad "errors in a log of success"
sum "files" "$all" "$(lines -s 'dump*.c' "$b")" "$(lines -s src/target/guard.c "$b")" "$(lines -s phase.c "$b")"
[ "$(lines -s 'src/*/dump_log.c' "$b")" = "$(lines -s dump_log.c "$b")" ] || bad "files by pattern"
line=$("$BINDECODE" -P '%b:%n|' -s dump_log.c "$b" | sed -n 's/^dump_log.c:\([0-9]*\)|.*in system call.*/\1/p' | head -n 1)
n=$(lines -s "dump_log.c:$line" "$b")
between 300 "$n" 400 || bad "$n lines of dump_log.c:$line"
[ "$(lines -e ' in system call: [0-9]+' "$b")" = "$n" ] || bad "--grep"
[ "$(lines -i -e ' IN SYSTEM CALL: [0-9]+' "$b")" = "$n" ] || bad "--ignore-case"
sum "invert" "$all" "$n" "$(lines -v -e ' in system call: [0-9]+' "$b")"
sum "functions" "$all" "$(lines --function 'log_*' "$b")" "$(lines --function 'd*' --function guard_main --function 'phase_*' "$b")"
mapfile -t pids < <("$BINDECODE" -P '%p %i ' "$b" | awk '!s[$1]++ { print $1 }')
[ ${#pids[@]} = 2 ] || bad "${#pids[@]} processes have written"
sum "pids" "$all" "$(lines --pid "${pids[0]}" "$b")" "$(lines --pid "${pids[1]}" "$b")"
sum "tids" "$all" "$(lines --tid "${pids[0]}" --tid "${pids[1]}" "$b")"
middle=$("$BINDECODE" -P '%t ' "$b" | sed -n "$((all / 2))p" | cut -d ' ' -f 1)
before=$(lines --until "$middle" "$b") behind=$(lines --since "$middle" "$b")
# Those of the very moment are in both.
between "$all" $((before + behind)) $((all + all / 2)) || bad "window: $before and $behind of $all around $middle"
[ "$(lines --since "$middle" --until "$middle" "$b")" = $((before + behind - all)) ] || bad "window: $middle itself"
wall=$("$BINDECODE" --utc -P '%T|' "$b" | sed -n "$((all / 2))p" | cut -d '|' -f 1)
[ "$(lines --utc --since "${wall#* }" "$b")" -ge 1 ] || bad "--since $wall"
sum "merged" "$(lines "$a" "$b")" "$all" "$(lines "$a")"
"$BINDECODE" -P '%T ' --utc "$a" "$b" | cut -d ' ' -f 1,2 | sort -c || bad "merged logs are not in order of time"
"$BINDECODE" -P '%T ' --utc "$b" "$a" | cmp -s - <("$BINDECODE" -P '%T ' --utc "$a" "$b") || bad "the order of the logs matters"

# --- what is printed
python3 - "$BINDECODE" "$a" "$b" <<-'X' || bad "forms: see above"
	import csv, datetime, io, json, re, subprocess, sys
	program, *logs = sys.argv[1:]
	def run(*options):
	    return subprocess.run([program, *options, *logs], check=True, stdout=subprocess.PIPE).stdout.decode()
	raw = run("--raw").splitlines()
	def same(what, got):
	    if got != raw:
	        sys.exit(f"{what}: {len(got)} lines, {len(raw)} wanted; {[p for p in zip(got, raw) if p[0] != p[1]][:2]}")
	objects = [json.loads(line) for line in run("-F", "json").splitlines()]
	same("json", [o["text"].rstrip("\n") for o in objects])
	first = next(o for o in objects if "in system call: %d" in o["format"])
	if first["args"][0] != {"u32": first["args"][0]["u32"]} or first["level"] != "debug" or not first["file"].endswith("dump_log.c"):
	    sys.exit(f"json: {first}")
	age = datetime.datetime.now().timestamp() - first["unix"]
	if not 0 <= age < 120:
	    sys.exit(f"json: {age} s ago")
	rows = list(csv.DictReader(io.StringIO(run("-F", "csv"), newline="")))
	same("csv", [r["text"].rstrip("\n") for r in rows])
	events = json.loads(run("-F", "trace"))["traceEvents"]
	same("trace", [e["name"] for e in events if e["ph"] == "i"])
	names = {e["args"]["name"] for e in events if e["ph"] == "M"}
	if not {"stasis", "stasis-guard"} <= names:
	    sys.exit(f"trace: {names}")
	text = run().splitlines()
	if [t.split(": ", 1)[1] for t in text] != raw:
	    sys.exit("text: not the prefix and what printf prints")
	coloured = run("--colour=always")
	if "\033[2m" not in coloured or re.sub("\033\\[[0-9;]*m", "", coloured).splitlines() != text:
	    sys.exit("colour: not the same text")
	stats = [json.loads(line) for line in run("--stats", "-F", "json").splitlines()]
	for key in "format", "tid":
	    if sum(s["count"] for s in stats if key in s) != len(raw):
	        sys.exit(f"stats by {key}: {stats}")
	top = run("--stats", "--top", "1", "--sort", "count").splitlines()
	if "in system call: %d" not in top[1]:
	    sys.exit(f"stats: {top}")
X
if command -v script >/dev/null; then
	script -qec "'$BINDECODE' '$b'" /dev/null </dev/null | grep -q $'\033\\[2m' || bad "no colour on a terminal"
	NO_COLOR=1 script -qec "'$BINDECODE' '$b'" /dev/null </dev/null | grep -q $'\033' && bad "colour although NO_COLOR"
fi
"$BINDECODE" --raw - <"$b" | cmp -s - "$TMPDIR/lines" || "$BINDECODE" --raw "$b" | cmp -s - <("$BINDECODE" --raw - <"$b") ||
	bad "standard input"

# --- the program's options
stasis dump -t "$p2" -D "$TMPDIR/c" -R -v1 || bad "dump -v1: $ERR"
[ "$(lines "$TMPDIR/c.binlog")" = 0 ] || bad "-v1 logs more than errors"
stasis dump -t "$p2" -D "$TMPDIR/d" -R --log-text -vv || bad "dump --log-text: $ERR"
between 300 "$(wc -l <"$TMPDIR/d.log")" 100000 || bad "--log-text: $(wc -l <"$TMPDIR/d.log") lines"
for word in '^dump of pid .* done$' '^guardian: collect: done' 'in system call: [01]'; do
	grep -q "$word" "$TMPDIR/d.log" || bad "--log-text: no line like '$word'"
done
[ ! -e "$TMPDIR/d.binlog" ] || bad "--log-text leaves a binary log"
stasis dump -t "$p2" -D "$TMPDIR/e" -R --no-log || bad "dump --no-log: $ERR"
! compgen -G "$TMPDIR/e.*" >/dev/null || bad "--no-log leaves a log"
stasis dump -t "$p2" -D "$TMPDIR/f" -R -o /nowhere/log || bad "a log that cannot be is the dump's end: $ERR"
grep -q 'no log is written.*nowhere' <<<"$ERR" || bad "no word about the log: $ERR"

# A failure shows the last lines, nobody needs the decoder.
stasis dump -t "$p2" -D "$TMPDIR/a" -R -o "$TMPDIR/failed" && bad "a dump onto an image"
stasis dump -t "$$" -D "$TMPDIR/g" -R -o "$TMPDIR/failed" && bad "a dump of a tree with ourselves in it"
grep -q "the last lines of $TMPDIR/failed" <<<"$ERR" || bad "no last lines: $ERR"
grep -q "^  | dump of pid $$ .* failed: " <<<"$ERR" || bad "the failure is not among the last lines: $ERR"
"$BINDECODE" -C 1 "$TMPDIR/failed" >"$TMPDIR/context" || bad "-C: exit code $?"
between 2 "$(wc -l <"$TMPDIR/context")" 3 || bad "-C: $(<"$TMPDIR/context")"
grep -q ' error .*failed: ' "$TMPDIR/context" || bad "-C: $(<"$TMPDIR/context")"
"$BINDECODE" -C 1 -F trace "$TMPDIR/failed" | python3 -c 'import json, sys
events = json.load(sys.stdin)["traceEvents"]
sys.exit(not any("failed: " in e["name"] for e in events) or not any(e["ph"] == "M" for e in events))' || bad "-C -F trace"
[ "$(lines -C 5 "$b")" = 0 ] || bad "-C shows surroundings of no error"
victim_end "$TMPDIR/v1" "at the end"
victim_end "$TMPDIR/v2" "at the end"

# --- a live log
cat >"$TMPDIR/writer.c" <<'X'
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/err.h"
#include "binlog/pr.h"
static int lines, fast;
static void *run(void *arg)
{
	for (int i = 0; i < lines; i++) {
		pr_info("%d line %d\n", *(int *)arg, i);
		if (!fast && i % 200 == 0)
			usleep(3000);
	}
	return NULL;
}
int main(int argc, char **argv)
{
	int who[4] = {0, 1, 2, 3};
	struct err err = {0};
	pthread_t t[3];

	fast = !strcmp(argv[2], "fast");
	lines = atoi(argv[3]);
	if (binlog_open(argv[1], NULL, &err) < 0)
		return 1;
	pr_info("ready\n");
	getchar();
	if (fast)
		return run(&who[0]), binlog_close(), 0;
	for (int i = 0; i < 3; i++)
		pthread_create(&t[i], NULL, run, &who[i]);
	if (fork() == 0) {
		run(&who[3]);
		_exit(0);
	}
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	wait(NULL);
	if (!strcmp(argv[2], "killed"))
		kill(getpid(), SIGKILL);
	binlog_close();
	return 0;
}
X
library gcc "$TMPDIR"
program gcc "$TMPDIR" writer "$TMPDIR/writer.c" -O2
for how in closed killed fast; do
	n=20000 all="0 1 2 3"
	if [ $how = fast ]; then # one ring that turns faster than it can be looked at
		n=1500000 all=0
	fi
	rm -f "$TMPDIR/live" "$TMPDIR/in" "$TMPDIR/followed"
	mkfifo "$TMPDIR/in"
	"$TMPDIR/writer" "$TMPDIR/live" $how $n <"$TMPDIR/in" &
	writer=$!
	living writer $writer
	exec 4>"$TMPDIR/in"
	for _ in $(seq 100); do
		[ "$("$BINDECODE" --raw "$TMPDIR/live" 2>/dev/null)" = ready ] && break
		sleep 0.05
	done
	# Through a pipe that is slower than the writer.
	(set -o pipefail && timeout 60 "$BINDECODE" -f --raw "$TMPDIR/live" 2>"$TMPDIR/said" |
		grep --line-buffered '' >"$TMPDIR/followed") &
	follower=$!
	for _ in $(seq 100); do
		[ -s "$TMPDIR/followed" ] && break
		sleep 0.05
	done
	[ "$(<"$TMPDIR/followed")" = ready ] || bad "$how: the first line does not come while the log is live"
	echo >&4
	exec 4>&-
	wait $writer
	gone writer
	wait $follower
	rc=$?
	[ $rc = 0 ] || bad "$how: the follower's exit code is $rc: $(<"$TMPDIR/said")"
	for who in $all; do
		grep "^$who line" "$TMPDIR/followed" | awk -v n=$n '$3 != NR - 1 { print; exit 1 } END { exit NR != n }' ||
			bad "$how: lines of $who are missing or out of order"
	done
	"$BINDECODE" --raw "$TMPDIR/live" | sort | cmp -s - <(sort "$TMPDIR/followed") || bad "$how: following says something else than the log"
done
finish
