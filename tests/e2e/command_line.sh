#!/bin/bash
# SPDX-License-Identifier: MIT
# What the command line promises: options that fit together, exit codes, JSON that is JSON, places of logs.
# builds: plain asan
. "$(dirname "$0")/../lib/e2e.sh"

victim_start "$TMPDIR/v" plain || die "$WHY"
image=$TMPDIR/image

# --- options that do not fit together, or cannot be had: said before anything is stopped --------
expect_refusal 2 "an empty name" dump -t "$VPID" -D '' -R
expect_refusal 2 "a codec for CRIU's pages" dump -t "$VPID" -D "$image" -R --image-format criu --compress lz4
expect_refusal 2 "O_DIRECT for CRIU's pages" dump -t "$VPID" -D "$image" -R --image-format criu --direct
expect_refusal 2 "lz4:0" dump -t "$VPID" -D "$image" -R --compress lz4:0
expect_refusal 2 "no such codec" dump -t "$VPID" -D "$image" -R --compress gzip
[[ $ERR == *"zstd[:LEVEL]"* ]] || bad "a wrong codec does not tell the right ones: $ERR"
expect_refusal 2 "0 threads" dump -t "$VPID" -D "$image" -R --threads 0
expect_refusal 2 "too much memory" dump -t "$VPID" -D "$image" -R --no-log --block-size 4M --compress zstd:22
[[ $ERR == *"smaller blocks"* ]] || bad "too much memory: no way out is named: $ERR"
expect_refusal 2 "an argument too many" dump -t "$VPID" -D "$image" -R more
[[ $ERR == *"'more'"* ]] || bad "an argument too many is not named: $ERR"
expect_refusal 2 "an argument too many" restore -D "$image" evenmore
[[ $ERR == *"'evenmore'"* ]] || bad "an argument too many is not named: $ERR"
expect_refusal 2 "an image without -D" restore "$image"
[[ $ERR == *"-D $image"* ]] || bad "restore DIR: -D is not told: $ERR"
expect_refusal 2 "an argument too many" check all
[[ $ERR == *"'all'"* ]] || bad "an argument too many is not named: $ERR"
stasis restore --help
[[ $OUT == *DIR.restore.binlog* ]] || bad "restore --help does not say where the log is: $OUT"

# --- a pre-dump is a dump, but not all of one -------------------------------------------------------
stasis pre-dump --help
[[ $OUT == *--prev-images-dir* && $OUT == *"The next dump stores"* ]] || bad "pre-dump --help: $OUT"
for o in --leave-running --leave-stopped --track-mem --allow-findings --image-format --network-lock "Without -R"; do
	[[ $OUT != *"$o"* ]] || bad "pre-dump --help has $o, which is a dump's: $OUT"
done
stasis dump --help
[[ $OUT == *--track-mem* && $OUT == *"Without -R"* ]] || bad "dump --help: $OUT"
for o in "-s" "--tracking none" "--image-format criu"; do
	# shellcheck disable=SC2086 # options are words
	expect_refusal 2 "pre-dump $o" pre-dump -t 1 -D "$TMPDIR/refused" $o
	[[ $ERR == *"pre-dump"*"for stasis dump"* ]] || bad "pre-dump $o: $ERR"
done
nothing_left "$image" "wrong options"
victim_ok "$TMPDIR/v" "after wrong options"

# --- options that must work, all the sizes that the manual names among them --------------------
for o in "--threads 999" "--threads 1" "--compress zstd:-7" "--compress none --image-format criu" \
	"--block-size 64K" "--block-size 1M" "--block-size 2M --compress zstd:19" "--block-size 4M" \
	"--block-size 4M --compress none" "--block-size 4M --compress zstd --threads 16" "-t $VPID"; do
	# shellcheck disable=SC2086 # options are words
	stasis dump -t "$VPID" -D "$image" -R $o || bad "$o: exit $RC: $ERR"
	stasis verify "$image" || bad "$o: verify: exit $RC: $ERR"
	rm -rf "$image"
done

# --- CRIU's statistics: their place is looked for before the tree is touched --------------------
victim_start "$TMPDIR/last" plain || die "$WHY"
stasis dump -t "$VPID" -D "$image" -W "$TMPDIR/nowhere" && bad "a missing work directory was made up"
message_ok "a missing work directory"
nothing_left "$image" "a missing work directory"
victim_ok "$TMPDIR/last" "after a missing work directory"
mkdir "$TMPDIR/wd"
stasis dump -t "$VPID" -D "$image" -W "$TMPDIR/wd" || bad "a work directory: exit $RC: $ERR"
[ ! -e "/proc/$VPID" ] || grep -q '^State:.Z' "/proc/$VPID/status" || bad "without -R the tree lives on"
gone "$TMPDIR/last"
crit show "$TMPDIR/wd/stats-dump" >"$TMPDIR/stats" || bad "crit does not read stats-dump"
python3 - "$TMPDIR/stats" <<-'X' || bad "stats-dump: $(cat "$TMPDIR/stats")"
	import json, sys
	d = json.load(open(sys.argv[1]))["entries"][0]["dump"]
	sys.exit(not (d["pages_written"] > 200 and d["frozen_time"] >= d["memdump_time"] > 0))
X
rm -rf "$image"
VPID=$(<"/proc/${LIVING[$TMPDIR/v]}/stat") VPID=${VPID%% *}

# --- the log lies beside the image, wherever that is ------------------------------------------------
mkdir "$TMPDIR/here"
(cd "$TMPDIR/here" && exec "$STASIS" dump -t "$VPID" -D . -R) 2>"$TMPDIR/stderr" ||
	bad "-D . in an empty directory: $? $(cat "$TMPDIR/stderr")"
stasis verify "$TMPDIR/here" || bad "-D .: verify: exit $RC: $ERR"
[ -e "$TMPDIR/here.binlog" ] || bad "-D .: the log is not beside the image"

# --- a way that this kernel does not have -----------------------------------------------------------
if ! stasis dump -t "$VPID" -D "$TMPDIR/soft" -R --no-log --tracking soft-dirty; then
	[ "$RC" = 16 ] || bad "--tracking soft-dirty: exit $RC: $ERR"
	[[ $ERR == *"soft-dirty marks: "*"leave --tracking out"* ]] || bad "--tracking soft-dirty: what is to be done is not told: $ERR"
fi

# --- what changes nothing is told -------------------------------------------------------------------
stasis dump -t "$VPID" -D "$TMPDIR/unused" -R --tracking none --max-cpu 50 --max-freeze 60000 || bad "--tracking none: $RC $ERR"
[[ $ERR == *"note: --max-freeze and --max-cpu changed nothing"* ]] || bad "nothing is said of --max-cpu and --max-freeze: $ERR"
rm -rf "$TMPDIR/unused"
stasis dump -t "$VPID" -D "$TMPDIR/unused" -R --tracking none || bad "--tracking none: $RC $ERR"
[[ $ERR != *"changed nothing"* ]] || bad "options that nobody gave changed nothing: $ERR"

# --- JSON is JSON, whatever a name holds ------------------------------------------------------------
odd=$TMPDIR/$'a\377b'
for o in "-t $VPID" "-t $((1 << 22))"; do
	# shellcheck disable=SC2086 # options are words
	stasis dump $o -D "$odd" -R --json --quiet
	python3 -c 'import json, sys
d = json.load(sys.stdin)
sys.exit(not ("dir" in d and d["exit_code"] == int(sys.argv[1]) and d["ok"] == (sys.argv[1] == "0")
	and (d["ok"] or d["error"])))' "$RC" <<<"$OUT" || bad "$o into a strange name: $OUT"
done
stasis verify --json "$odd" || bad "a strange name: verify: $ERR"
python3 -c 'import json, sys; sys.exit("dir" not in json.load(sys.stdin))' <<<"$OUT" || bad "verify: $OUT"
stasis dump -t "$VPID" -D "$image" -R --image-format criu --json --quiet || bad "criu, JSON: $ERR"
[[ $OUT == *'"codec":"none"'* ]] || bad "CRIU's pages are said to be compressed: $OUT"
[ -z "$ERR" ] || bad "--quiet says: $ERR"

# --- what an image does not carry is told, to people and to programs --------------------------------
exec 6< <(exec sleep 1000)
living sleeper $!
cat <&6 >/dev/null &
cat=$!
living pipe $cat
exec 6<&-
rm -rf "$image"
stasis dump -t $cat -D "$image" -R --json || bad "a pipe from outside: exit $RC: $ERR"
told="held by a process outside"
[[ $ERR == *"note: pid $cat: "*"$told"* ]] || bad "no note of a pipe from outside: $ERR"
python3 -c 'import json, sys
sys.exit(not any(sys.argv[1] in f["text"] for f in json.load(sys.stdin)["findings"]))' "$told" <<<"$OUT" ||
	bad "JSON has no finding of a pipe from outside: $OUT"
stasis show --brief "$image" || bad "show: $ERR"
[[ $OUT == *"$told"* ]] || bad "the image does not know what it lacks"
kill -KILL "${LIVING[sleeper]}" $cat
gone pipe
gone sleeper

# --- a second dump to the same name leaves the log of the first alone ---------------------------------
rm -rf "$TMPDIR/same"
stasis dump -t "$VPID" -D "$TMPDIR/same" -R || bad "the first of two: $ERR"
cp "$TMPDIR/same.binlog" "$TMPDIR/kept"
expect_refusal 10 "the second of two" dump -t "$VPID" -D "$TMPDIR/same" -R
cmp -s "$TMPDIR/same.binlog" "$TMPDIR/kept" || bad "the second dump has touched the log of the first"
rm -rf "$TMPDIR/same"

# --- what is no image ---------------------------------------------------------------------------------
for c in verify show bt "core -o $TMPDIR/core"; do
	# shellcheck disable=SC2086 # options are words
	for d in "$TMPDIR/nowhere" "$image/inventory.img" "$TMPDIR/v"; do
		expect_refusal 15 "$c of what is no image" $c "$d"
		[ -z "$OUT" ] || bad "$c of what is no image writes: $OUT"
	done
done
for f in nothing.img ../v/facts /etc/passwd; do
	stasis show "$image" "$f" && bad "show of $f"
	message_ok "show of $f"
	[ -z "$OUT" ] || bad "show of $f writes half a document: $OUT"
done
stasis show "$image" nothing.img
[[ $ERR == *"ls $image"* ]] || bad "show of a file that is not there: which are is not told: $ERR"

# --- a restore of what is no image leaves no log, a pidfile that cannot be written no process ----------
mkdir "$TMPDIR/empty"
for d in "$TMPDIR/nowhere" "$TMPDIR/empty"; do
	expect_refusal 15 "restore of what is no image" restore -D "$d"
	[ ! -e "$d.restore.binlog" ] || bad "a restore of what is no image has left $d.restore.binlog"
done
mkdir "$TMPDIR/part"
cp "$image"/* "$TMPDIR/part"
rm "$TMPDIR/part"/core-*.img
stasis restore -D "$TMPDIR/part" -d --pidfile "$TMPDIR/part.pid" && bad "restore of an image without core files"
[[ $ERR == *"$TMPDIR/part"*"stasis verify"* ]] || bad "a damaged image: neither where nor what to do: $ERR"
[ ! -e "$TMPDIR/part.pid" ] || bad "a pidfile of a restore that failed"
expect_refusal 1 "a pidfile that cannot be" restore -D "$image" -d --pidfile "$TMPDIR/nodir/pid"
[[ $ERR == *"create pidfile $TMPDIR/nodir/pid"*"nothing was restored"* ]] || bad "a pidfile that cannot be: $ERR"
for c in show bt "core -o $TMPDIR/core"; do
	# shellcheck disable=SC2086 # options are words
	expect_refusal 3 "$c of a process that is not there" $c -p 1 "$image"
done
[ ! -e "$TMPDIR/core" ] || bad "a core file of nothing"

victim_end "$TMPDIR/v" "at the end"
# --- a pid that is not there leaves no log, and an image in "." one beside it -------------------------
stasis dump -t 4194304 -D "$TMPDIR/never"
[ ! -e "$TMPDIR/never.binlog" ] || bad "a dump of no process has left a log"
victim_start "$TMPDIR/w" plain || die "$WHY"
stasis dump -t "$VPID" -D "$TMPDIR/dot" -R --quiet || die "dump: $ERR"
for name in . ./ "$TMPDIR/dot/." ../dot//; do
	rm -f "$TMPDIR/dot.restore.binlog"
	(cd "$TMPDIR/dot" && "$STASIS" restore -D "$name" -d >/dev/null 2>&1 </dev/null)
	[ -e "$TMPDIR/dot.restore.binlog" ] || bad "restore -D $name: no log beside the image: $(ls -mA "$TMPDIR" "$TMPDIR/dot")"
done

# --- a core to standard output, which takes one and is no terminal ------------------------------------
"$STASIS" core "$TMPDIR/dot" -o - >"$TMPDIR/piped" 2>"$TMPDIR/stderr" || bad "core -o -: $(<"$TMPDIR/stderr")"
stasis core "$TMPDIR/dot" -o "$TMPDIR/filed" || bad "core: $ERR"
cmp "$TMPDIR/piped" "$TMPDIR/filed" || bad "core -o - differs from a core in a file"
[ ! -e - ] || bad "core -o - has made a file"
if command -v script >/dev/null; then
	out=$(script -qec "$STASIS core $TMPDIR/dot -o -" /dev/null </dev/null)
	[[ $out == *"is a terminal"* ]] || bad "a core on a terminal: ${out:0:200}"
fi

# --- what is missing is said once ---------------------------------------------------------------------
rm "$TMPDIR/dot/files.img"
stasis verify "$TMPDIR/dot"
[ "$(grep -c "files.img: is missing" <<<"$OUT$ERR")" = 1 ] || bad "verify: $OUT $ERR"
victim_end "$TMPDIR/w" "at the end"

# --- pages of the manual fit a terminal -----------------------------------------------------------------
if command -v man >/dev/null; then
	for page in docs/man/*.1; do
		wide=$(MANWIDTH=80 man -l "$page" 2>/dev/null | awk 'length > 80')
		[ -z "$wide" ] || bad "$page is too wide: $wide"
	done
fi
finish
