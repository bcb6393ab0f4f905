#!/bin/bash
# SPDX-License-Identifier: MIT
# Options of bindecode that have no effect beside others, wrong values, and the fields of its forms as the texts name them.
. "$(dirname "$0")/../lib/e2e.sh"
. tests/lib/binlog.sh
need_program gcc python3

# --- a log of every kind of argument, of a call without a site, and of losses
cat >"$TMPDIR/writer.c" <<'C'
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "base/err.h"
#include "binlog/pr.h"
__extension__ typedef __int128 i128;
__extension__ typedef unsigned __int128 u128;
static void *lose(void *arg)
{
	char text[1024];
	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	for (int i = 0; i < 5000; i++)
		pr_debug("%s\n", text);
	return arg;
}
int main(int argc, char **argv)
{
	struct binlog_opts opts = BINLOG_OPTS_DEFAULT;
	const wchar_t wrong[] = {0x110000, 0};
	struct err err = {0};
	char *null = NULL, *text = argv[0];
	const char *format = "%d of no site\n";
	double d = argc, inf = HUGE_VAL;
	i128 big = (i128)1 << 100;
	pthread_t t;

	opts.level = 254;
	opts.max_len = argc > 2 ? 1 << 20 : 0;
	if (binlog_open(argv[1], &opts, &err) < 0)
		return 1;
	pr_info("%d %u %ld %lu %lu %lld %llu\n", argc, (unsigned)argc, (long)argc, (unsigned long)argc, (unsigned long)-argc, -big, (u128)big);
	pr_info("%f %f %Lf %p %s %s\n", d, inf, (long double)d, (void *)text, text, null);
	pr_err("%ls %ls %s\n", (wchar_t *)L"wide" + argc - argc, (wchar_t *)wrong + argc - argc, strerror(ENOENT));
	errno = EPERM;
	pr_perror("no %d", argc);
	BINLOG(argc + 10, "level at run time\n");
	BINLOG(BINLOG_INFO, format, argc);
	if (argc > 2 && !pthread_create(&t, NULL, lose, NULL))
		pthread_join(t, NULL);
	binlog_close();
	return 0;
}
C
library gcc "$TMPDIR"
program gcc "$TMPDIR" writer "$TMPDIR/writer.c" -O1 -Wno-format
a=$TMPDIR/a.blog b=$TMPDIR/b.blog
"$TMPDIR/writer" "$a" || die "no log"
"$TMPDIR/writer" "$b" lose || die "no log that loses"

# --- what has no effect is refused, and says what it goes with
useless() { # WHAT IT SAYS, OPTIONS...
	local says=$1
	shift
	"$BINDECODE" "$@" "$a" >"$TMPDIR/out" 2>"$TMPDIR/said"
	rc=$?
	[ $rc = 2 ] || bad "bindecode $*: exit code $rc, not 2"
	[ ! -s "$TMPDIR/out" ] || bad "bindecode $*: refused, and prints"
	grep -qF -e "$says" "$TMPDIR/said" || bad "bindecode $* says: $(<"$TMPDIR/said")"
}
works() { # OPTIONS...
	"$BINDECODE" "$@" "$a" >"$TMPDIR/out" 2>"$TMPDIR/said" || bad "bindecode $*: exit code $?: $(<"$TMPDIR/said")"
	[ -s "$TMPDIR/out" ] || bad "bindecode $*: nothing comes out"
	[ ! -s "$TMPDIR/said" ] || bad "bindecode $* says: $(<"$TMPDIR/said")"
}
for mode in --stats '-F json' '-F csv' '-F trace' --check; do
	# shellcheck disable=SC2086 # two words
	{
		useless '--prefix goes only with records as text' -P %t $mode
		useless '--raw goes only with records as text' $mode --raw
		useless '--wall goes only with the default prefix of text' $mode -w
		useless '--colour=always goes only with records as text' --colour=always $mode
		[ "$mode" = --check ] || works $mode --colour=never
	}
done
for mode in --stats --check; do
	useless '--context goes only with records' $mode -C 3
	useless '--utc goes only with times of day' $mode --utc
done
for filter in '--level=info' '--file=writer.c' '--function=main' '--pid=1' '--tid=1' '--since=1' '--until=1' '--grep=a'; do
	useless "${filter%=*} goes only with records or --stats" --check "$filter"
done
useless '--stats goes only with records: --check goes alone' --check --stats
useless '--follow goes only with records: --check goes alone' --check -f
for form in json csv trace; do
	useless '--check reports as text' --check -F $form
	[ $form = json ] || useless '--stats has the forms text and json' --stats -F $form
	useless '--top goes only with --stats' -F $form --top 3
done
useless '--top goes only with --stats' --top 3
useless '--sort goes only with --stats' --sort bytes
useless '--ignore-case goes only with --grep' -i
useless '--invert-match goes only with --grep' -v
useless '--wall goes only with' -w -P '%t '
useless '--wall goes only with' -w --raw
useless '--colour=always goes only with' --raw --colour=always
useless '--utc goes only with times of day' --utc
useless '--utc goes only with times of day' --utc -P '%%T %t'
useless '--utc goes only with times of day' --utc -F json
useless '--utc goes only with times of day' --utc --raw
useless '--context goes only with errors' -C 1 -l msg
useless 'one --grep only' -e a -e b
useless "--output $a is one of the logs" -o "$a"
works -o /dev/stdout --check --force --colour=auto -F text
works --utc -w
works --utc -P '%-30T'
works --utc -F csv
works --utc -F json --since 1970-01-01
works --utc --stats --until 2100-01-01
works --raw -P '%l ' -C 1 -l debug
works --stats -F json --top 1 --sort gap -e ZZZ -i -v
works -F json -C 0
mkfifo "$TMPDIR/fifo"
cat "$a" >"$TMPDIR/fifo" &
"$BINDECODE" -f - <"$TMPDIR/fifo" >"$TMPDIR/out" 2>"$TMPDIR/said"
[ $? = 2 ] || bad "a pipe is followed"
wait $!
"$BINDECODE" "$a" >"$TMPDIR/want"
"$BINDECODE" -f - <"$a" | cmp -s "$TMPDIR/want" - || bad "standard input that is a file is not followed"
"$BINDECODE" -w "$a" "$b" >"$TMPDIR/want" 2>/dev/null
"$BINDECODE" -w -f "$b" "$a" 2>/dev/null | cmp -s "$TMPDIR/want" - || bad "what is there at one look is not merged by time"

# --- a wrong value: what would be right
useless '--level takes msg, error, warn, info, debug or a number from 0 to 254, not "foo"' -l foo
useless '--level takes a number from 0 to 254, not "255"' -l 255
useless '--sort takes bytes, count or gap, not "foo"' --stats --sort foo
useless '--format takes text, json, csv or trace, not "foo"' -F foo
useless '--colour takes auto, always or never, not "foo"' --colour=foo
useless '--top takes a number from 1 to 4294967295, not "0"' --stats --top 0
useless '--context takes a number from 0 to 100000, not "-1"' -C -1
useless '--pid takes a number from 0 to 4294967295, not "foo"' --pid foo
useless '--since and --until take a time, not "foo"' --since foo
useless '--grep takes an extended regular expression, not "("' -e '('

# --- the fields
python3 - "$BINDECODE" "$a" "$b" <<-'X' || bad "fields: see above"
	import csv, io, json, re, subprocess, sys
	program, a, b = sys.argv[1:]
	bad = 0
	def run(*options):
	    return subprocess.run([program, *options], stdout=subprocess.PIPE, check=True).stdout.decode()
	def complain(*what):
	    global bad
	    bad = 1
	    print(*what)
	spec = open("docs/BINLOG.md").read().split("\n## 11. ")[1]
	page = open("docs/man/bindecode.1").read().split("\n.SH FIELDS\n")[1].split("\n.SH ")[0]
	titles = ["JSON", "Arguments in JSON", "CSV", "Chrome trace events", "Statistics in JSON"]
	def of_spec(title):
	    text = re.search(r"^### 11\.\d+ " + re.escape(title) + r"\n(.*?)(?=^### |\Z)", spec, re.M | re.S)[1]
	    return re.findall(r"^\| (\w+) \| (\w+) \| ([\w-]+) \| (.+) \|$", text, re.M)
	def of_page(title):
	    text = re.search(r'^\.SS "' + re.escape(title) + r'"\n(.*?)(?=^\.SS |\Z)', page, re.M | re.S)[1]
	    rows = re.findall(r"^(\w+)@(\w+)@T\{\n(?:in (\w+), )?(.+)\nT\}$", text, re.M)
	    return [(n, t, u or "-", m.replace("\\-", "-").replace("\\(aq", "'")) for n, t, u, m in rows]
	texts = {}
	for title in titles:
	    texts[title] = of_spec(title)
	    if not texts[title] or texts[title] != of_page(title):
	        complain(title, "is told differently:", set(texts[title]) ^ set(of_page(title)))
	types = {dict: "object", list: "array", str: "string", int: "number", float: "number", bool: "true"}
	def compare(title, objects, may_be=lambda name, value: False):
	    told = {n: t for n, t, _, _ in texts[title]}
	    seen = {}
	    for o in objects:
	        for name, value in o.items():
	            seen.setdefault(name, value)
	            if name in told and types[type(value)] != told[name] and not may_be(name, value):
	                complain(f"{title}: {name} is no {told[name]}: {value!r}")
	    if set(seen) != set(told):
	        complain(f"{title}: printed and not told, or told and not printed: {set(seen) ^ set(told)}")
	    absent = {n: m for n, _, _, m in texts[title] if re.search("[Aa]bsent|Else absent", m)}
	    return told, absent
	lines = [json.loads(l) for l in run("-F", "json", a, b).splitlines()] + [json.loads(l) for l in run("-F", "json", b).splitlines()]
	_, absent = compare("JSON", lines)
	losses = [l for l in lines if "event" in l]
	calls = [l for l in lines if "event" not in l]
	if not losses or not calls:
	    complain(f"{len(calls)} calls, {len(losses)} losses")
	for name, meaning in absent.items():
	    if "Absent in a loss" in meaning and any(name in l for l in losses) or "Absent in a call" in meaning and any(name in l for l in calls):
	        complain(f"JSON: {name} is there, and told to be absent")
	for name in set(n for n, *_ in texts["JSON"]) - set(absent):
	    if not all(name in l for l in lines):
	        complain(f"JSON: {name} is absent, and nobody says so")
	for l in calls:
	    for name in ("level", "file", "line", "function", "site", "format", "args", "text"):
	        if name not in l:
	            complain(f"JSON: a call without {name}")
	    if ("errno" in l) != ("%m" in l["format"]):
	        complain(f"JSON: errno of {l}")
	if any("log" in l for l in lines[-3:]) or not all("log" in l for l in lines[:3]):
	    complain("JSON: log")
	if not any(l["level"] == "trace" for l in calls) or not any(l["site"] == 5 and l["format"] == "%d of no site\n" for l in calls):
	    complain("JSON: a level above debug, a call without a site")
	arguments = [x for l in calls for x in l["args"]]
	def text_or_null(name, value):
	    return (value is None and name in ("str", "wide") or
	            isinstance(value, str) and (name == "f64" and value.strip("-") in ("inf", "nan") or
	                                        name in ("u64", "i128", "u128") and re.fullmatch(r"-?\d{19,}", value)))
	types[type(None)] = "null"
	compare("Arguments in JSON", arguments, text_or_null)
	for x in arguments:
	    if len(x) > 1 and set(x) not in ({"str", "errno"}, {"wide", "invalid"}):
	        complain(f"an argument {x}")
	rows = run("-F", "csv", a, b).split("\r\n")
	if rows[0].split(",") != [n for n, *_ in texts["CSV"]]:
	    complain("CSV:", rows[0])
	table = list(csv.DictReader(io.StringIO("\r\n".join(rows), newline="")))
	number = re.compile(r"-?\d+(\.\d+)?")
	for r in table:
	    for n, t, _, _ in texts["CSV"]:
	        if t == "number" and not number.fullmatch(r[n]):
	            complain(f"CSV: {n} is {r[n]!r}")
	if not any((r["level"], r["file"], r["line"], r["function"]) == ("loss", "", "0", "") and "lost" in r["text"] for r in table):
	    complain("CSV: no loss")
	trace = json.loads(run("-F", "trace", a, b))
	events = trace["traceEvents"]
	told, _ = compare("Chrome trace events", [trace] + events)
	of = {"call": {"name", "cat", "ph", "s", "ts", "pid", "tid", "args"}, "loss": {"name", "cat", "ph", "s", "ts", "pid", "tid"}, "name": {"name", "ph", "pid", "tid", "args"}}
	for e in events:
	    kind = "name" if e["ph"] == "M" else "loss" if e["cat"] == "loss" else "call"
	    if set(e) != of[kind] or kind == "call" and set(e["args"]) != {"file", "line", "function", "format", "args"} or kind == "name" and set(e["args"]) != {"name"}:
	        complain(f"trace: {e}")
	stats = [json.loads(l) for l in run("--stats", "-F", "json", a, b).splitlines()]
	_, absent = compare("Statistics in JSON", stats)
	for s in stats:
	    kind = "thread" if "tid" in s else "site"
	    missing = {n for n, m in absent.items() if "Absent of a " + kind in m}
	    if set(s) != {n for n, *_ in texts["Statistics in JSON"]} - missing:
	        complain(f"statistics: {s}")
	sys.exit(bad)
X
finish
