#!/bin/bash
# SPDX-License-Identifier: MIT
# sqlite3 in the middle of a transaction: dumped, killed, restored; it still has its locks, and commits or rolls back.
# timeout: 120
. "$(dirname "$0")/../lib/e2e.sh"
need_root
need_program sqlite3
with_reaper "$@"
. tests/lib/real.sh

# ask SQL TEXT: the program runs it and prints TEXT when it is done.
ask() {
	printf '%s\n.print %s\n' "$1" "$2" >"$TMPDIR/in"
	told 100 "^$2\$"
}
outside() {
	sqlite3 "$TMPDIR/db" "$1" 2>&1
}
rows() {
	outside "select count(*) || ' ' || coalesce(sum(x), 0) from t"
}
locked() { # LABEL
	grep -q "database is locked" <<<"$(outside "insert into t values (0, '')")" ||
		bad "$1: somebody else can write in the middle of a transaction"
}

for mode in delete wal; do
	mkfifo "$TMPDIR/in"
	# The program keeps the FIFO open for writing itself: whoever asks may come and go.
	start bash -c 'exec sqlite3 "$1" <>"$2"' - "$TMPDIR/db" "$TMPDIR/in"
	ask "pragma journal_mode = $mode; pragma cache_size = 20; create table t (x, y); create index i on t (y);
		insert into t select value, hex(randomblob(50)) from generate_series(1, 1000);" "filled"
	before=$(rows)
	[ "$before" = "1000 500500" ] || die "$mode: not filled: $before"
	ask "begin immediate; insert into t select value, hex(randomblob(50)) from generate_series(1001, 20000);" "begun"
	locked "$mode, before"
	again "$mode, once"
	locked "$mode, once"
	[ $mode = delete ] || [ "$(rows)" = "$before" ] || bad "$mode: what is not committed is seen: $(rows)"
	again "$mode, twice"
	locked "$mode, twice"
	ask "commit;" "committed"
	[ "$(rows)" = "20000 200010000" ] || bad "$mode, committed: $(rows)"
	ask "begin immediate; update t set x = x + 1, y = hex(randomblob(60)); delete from t where x % 3 = 0;" "changed"
	# Its statement journal is a file without a name.
	again "$mode, thrice" --ghost-limit 64M
	ask "rollback;" "rolled"
	[ "$(rows)" = "20000 200010000" ] || bad "$mode, rolled back: $(rows)"
	outside "insert into t values (0, '')"
	[ "$(outside "pragma integrity_check")" = ok ] || bad "$mode: $(outside "pragma integrity_check")"
	grep -i error "$OUTPUT" && bad "$mode: the program complains"
	stopped "$mode, at the end" sh -c "echo .quit >'$TMPDIR/in'"
	rm -f "$TMPDIR/in" "$TMPDIR"/db*
done
finish
