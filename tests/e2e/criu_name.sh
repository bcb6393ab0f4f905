#!/bin/bash
# SPDX-License-Identifier: MIT
# Under the name criu: its options, exit codes, file names and habits with directories.
# timeout: 300
. "$(dirname "$0")/../lib/e2e.sh"
with_reaper "$@"
need_root

mkdir "$TMPDIR/bin"
CRIU=$TMPDIR/bin/criu
ln -s "$STASIS" "$CRIU"

criu() {
	OUT=$("$CRIU" "$@" 2>"$TMPDIR/stderr" </dev/null)
	RC=$?
	ERR=$(<"$TMPDIR/stderr")
	return $RC
}

# refused WHAT ARGS...: exit code 1 and a message with WHAT in it; an empty directory stays so.
refused() {
	local what=$1
	shift
	mkdir -p "$TMPDIR/refused"
	criu "$@" && bad "$*: was done"
	[ "$RC" = 1 ] || bad "$*: exit code $RC"
	grep -qFe "criu: Error: $what" <<<"$ERR" || bad "$*: says nothing of '$what': $ERR"
	[ -z "$(ls -A "$TMPDIR/refused")" ] || bad "$*: left $(ls -mA "$TMPDIR/refused")"
}

# until_gone: the victim's pid is free again: whoever its parent is has collected it.
until_gone() {
	local i
	for ((i = 0; i < 200; i++)); do
		[ -e "/proc/$VPID" ] || return 0
		sleep 0.05
	done
	bad "pid $VPID is still there"
}

# decoded FILE: what crit makes of it on one line; nothing without crit.
decoded() {
	command -v crit >/dev/null || return 0
	crit show "$1" | tr -d ' \n'
}

# --- words -----------------------------------------------------------------------------------------
criu --version || bad "--version: $RC $ERR"
grep -qxE 'Version: [0-9]+\.[0-9]+' <<<"$OUT" || bad "--version: $OUT"
criu -h || bad "-h: $RC"
refused "pre-dump" pre-dump -t 1 -D "$TMPDIR/refused"
[[ $ERR == *"stasis pre-dump"* ]] || bad "pre-dump: stasis has one, which is not told: $ERR"
criu && bad "no command: exit code 0"
criu check || bad "check: $RC $OUT $ERR"
[ "$OUT" = "Looks good." ] || bad "check: $OUT"
criu check --all || bad "check --all counts what no dump needs: $RC $OUT $ERR"
criu check --feature clone3_set_tid || bad "check --feature: $ERR"
criu check --feature list || bad "check --feature list: $ERR"
for f in mem_dirty_track uffd compat_cr; do
	grep -qw "$f" <<<"$OUT" || bad "--feature list: no $f"
done
for f in mem_dirty_track uffd compat_cr no_such_thing; do
	refused "$f" check --feature "$f"
done

victim_start "$TMPDIR/v" regs --n 3 || die "$WHY"
D=(-t "$VPID" -D "$TMPDIR/refused")
refused --lazy-pages dump "${D[@]}" --lazy-pages
refused --page-server dump "${D[@]}" --page-server
refused --track-mem dump "${D[@]}" --track-mem
refused --prev-images-dir dump "${D[@]}" --prev-images-dir ..
refused --external dump "${D[@]}" --external 'mnt[]'
refused --manage-cgroups dump "${D[@]}" --manage-cgroups
refused --action-script dump "${D[@]}" --action-script /bin/true
refused --config dump "${D[@]}" --config /dev/null
refused --ghost-limit dump "${D[@]}" --ghost-limit 3X
refused --timeout dump "${D[@]}" --timeout soon
refused --frobnicate dump "${D[@]}" --frobnicate
refused --root restore -D "$TMPDIR/refused" --root /mnt
refused --restore-sibling restore -D "$TMPDIR/refused" -S
refused "which process" dump -D "$TMPDIR/refused"
refused pre-dump pre-dump "${D[@]}"
refused page-server page-server
refused frob frob
refused "directory $TMPDIR/none" dump -t "$VPID" -D "$TMPDIR/none"
refused "directory $TMPDIR/none" dump "${D[@]}" -W "$TMPDIR/none"
victim_ok "$TMPDIR/v" "after refusals"

# --- dump ------------------------------------------------------------------------------------------
I=$TMPDIR/images W=$TMPDIR/work
mkdir -m 755 "$I" "$W"
echo theirs >"$I/descriptors.json"
echo theirs >"$I/core-1.img"
# Nobody is there: what was in the directory stays.
mkdir "$TMPDIR/gone"
sleep 0 &
wait $!
criu dump -t $! -D "$I" -o dump.log -v4 && bad "dumped an ended process"
[ "$RC" = 1 ] || bad "an ended process: exit code $RC"
[ "$(ls -mA "$I")" = "core-1.img, descriptors.json, dump.log" ] ||
	bad "a dump that failed left $(ls -mA "$I")"
[ -s "$I/dump.log" ] || bad "-o dump.log of a dump that failed: is empty"

criu dump --tree "$VPID" --images-dir "$I" --work-dir "$W" --log-file d.log -v4 -R --file-locks \
	--tcp-established -x --link-remap --ghost-limit 2M --timeout 20 --no-track-mem --display-stats ||
	bad "dump: $RC $ERR"
grep -qE '^Frozen time: [0-9]+ us$' <<<"$OUT" || bad "--display-stats of a dump: $OUT"
[ -f "$I/pages-1.img" ] || bad "no pages-1.img"
[ -f "$I/pagemap-$VPID.img" ] || bad "no pagemap-$VPID.img"
[ ! -e "$I/core-1.img" ] || bad "an older image's file is still there"
[ "$(<"$I/descriptors.json")" = theirs ] || bad "somebody else's file has changed"
[ "$(stat -c %a "$I")" = 755 ] || bad "the directory's mode has changed"
compgen -G "$I/.[a-z]*" >/dev/null && bad "left behind: $(ls -mA "$I")"
grep -q file-locks "$W/d.log" || bad "the log says nothing of --file-locks"
[ -e "$I/stats-dump" ] && bad "statistics beside the image and not in the work directory"
case $(decoded "$W/stats-dump") in
'' | *'"dump":{'*'"pages_written":'[1-9]*) ;;
*) bad "stats-dump: $(decoded "$W/stats-dump")" ;;
esac
stasis verify "$I" || bad "verify: $ERR"
victim_ok "$TMPDIR/v" "after a dump with -R"

# Again into the same directory, which is the working directory, with defaults; less in the log.
(cd "$I" && "$CRIU" dump -t "$VPID" -j -o dump.log -v1) || bad "dump again: $?"
[ -s "$I/dump.log" ] && bad "-v1: $(<"$I/dump.log")"
[ -s "$I/stats-dump" ] || bad "no stats-dump in the images' directory"
wait "${LIVING[$TMPDIR/v]}" 2>/dev/null
kill -0 "$VPID" 2>/dev/null && bad "alive after a dump without -R"
gone "$TMPDIR/v"

# --- restore ---------------------------------------------------------------------------------------
echo 1 >"$W/taken"
refused "create pidfile" restore -D "$I" -W "$W" -d -j --pidfile taken
criu restore -D "$I" -W "$W" -o r.log -v4 -d -j --pidfile pid --display-stats || bad "restore: $RC $ERR"
living "$TMPDIR/v" "$VPID"
[ "$(<"$W/pid")" = "$VPID" ] || bad "--pidfile: $(<"$W/pid")"
[ -s "$W/r.log" ] || bad "-o r.log: is empty"
grep -qE '^Pages restored: [1-9]' <<<"$OUT" || bad "--display-stats of a restore: $OUT"
case $(decoded "$W/stats-restore") in
'' | *'"restore":{'*'"pages_restored":'[1-9]*) ;;
*) bad "stats-restore: $(decoded "$W/stats-restore")" ;;
esac
victim_ok "$TMPDIR/v" "restored"
refused "pid $VPID of the image is taken" restore -D "$I" -d -j -W "$W" --pidfile second
[ ! -e "$W/second" ] || bad "a pidfile of a restore that failed"

# Waits for what it restored and exits with 0, however that ended.
criu dump -t "$VPID" -D "$I" -j || bad "dump the restored: $RC $ERR"
until_gone
"$CRIU" restore -D "$I" -j </dev/null &
tool=$!
for ((i = 0; i < 100; i++)); do
	[ -e "/proc/$VPID/stat" ] && sleep 0.5 && victim_ok "$TMPDIR/v" "restored by one that waits" && break
	sleep 0.1
done
kill -KILL "$VPID"
wait $tool || bad "restore without -d: exit code $?"
until_gone

# --exec-cmd: another program takes the tool's place, with the tree as its child.
criu restore -D "$I" -j --exec-cmd -- sh -c "kill -KILL $VPID; wait; echo ran" ||
	bad "--exec-cmd: $RC $ERR"
[ "$OUT" = ran ] || bad "--exec-cmd: $OUT $ERR"
gone "$TMPDIR/v"

# --- leave stopped ---------------------------------------------------------------------------------
victim_start "$TMPDIR/s" regs || die "$WHY"
criu dump -t "$VPID" -D "$I" -s -j || bad "dump -s: $RC $ERR"
grep -q '^State:.T' "/proc/$VPID/status" || bad "dump -s: $(grep State "/proc/$VPID/status")"
kill -CONT "$VPID"
victim_end "$TMPDIR/s" "stopped and continued"
finish
