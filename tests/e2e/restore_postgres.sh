#!/bin/bash
# SPDX-License-Identifier: MIT
# PostgreSQL under pgbench: dumped, killed, restored; every transaction is there once and no page is damaged.
# timeout: 240
. "$(dirname "$0")/../lib/e2e.sh"
need_root
need_program setpriv python3
bin=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
[ -x "$bin/pgbench" ] || skip "needs postgresql"
id postgres >/dev/null 2>&1 || skip "needs a user postgres"
with_reaper "$@"
. tests/lib/real.sh

dir=$TMPDIR/pg
mkdir "$dir"
chown postgres "$dir"
as_postgres=(setpriv --reuid postgres --regid postgres --init-groups)
"${as_postgres[@]}" "$bin/initdb" -D "$dir/data" -A trust --data-checksums >"$TMPDIR/initdb.out" 2>&1 ||
	die "initdb: $(tail -n 5 "$TMPDIR/initdb.out")"

port=$((30000 + $$ % 10000))
clients=4 each=700
total=$((2 * clients * each))
cat >"$TMPDIR/tree" <<X
cd "$dir" || exit 1
PGHOST=$dir PGPORT=$port
export PGHOST PGPORT
$bin/postgres -D data -k "$dir" -p $port -c listen_addresses=127.0.0.1 -c shared_buffers=64MB \
	-c autovacuum_naptime=1s &
until $bin/pg_isready -q; do sleep 0.1; done
$bin/pgbench -i -s 2 -q postgres >init.log 2>&1 || exit 1
echo loaded
$bin/pgbench -n -c $clients -j 2 -t $each -R 250 postgres >bench.unix 2>&1 &
a=\$!
PGHOST=127.0.0.1 $bin/pgbench -n -c $clients -j 2 -t $each -R 250 postgres >bench.tcp 2>&1 &
wait \$! \$a
echo "benched"
wait
X
chmod 644 "$TMPDIR/tree"
sql() {
	"${as_postgres[@]}" "$bin/psql" -h "$dir" -p $port -XqAt -c "$1" postgres
}
start "${as_postgres[@]}" bash "$TMPDIR/tree"
told 300 "^loaded"

committed() {
	sql "select count(*) from pgbench_history"
}
# Those committed before a dump are there after the restore, and more come.
step() { # LABEL OPTIONS...
	local label=$1 before after
	before=$(committed)
	again "$@"
	after=$(committed)
	[ "${after:-0}" -ge "$before" ] || bad "$label: $before transactions before, $after after"
	echo "$label: $before, $after of $total"
	[ "$after" -lt $total ] || bad "$label: no load any more"
	sleep 1
	[ "$(committed)" -gt "$after" ] || bad "$label: no transaction since"
}
sleep 1
step "once"
step "twice" --compress zstd:1
told 300 "^benched"

for n in unix tcp; do
	grep -q "processed: $((total / 2))/$((total / 2))" "$dir/bench.$n" || bad "pgbench over $n: $(<"$dir/bench.$n")"
	grep -q "failed transactions: 0 " "$dir/bench.$n" || bad "pgbench over $n: $(<"$dir/bench.$n")"
done
[ "$(committed)" = $total ] || bad "$(committed) transactions instead of $total"
sums=$(sql 'select (select sum(delta) from pgbench_history) = all (array[(select sum(abalance) from pgbench_accounts),
	(select sum(tbalance) from pgbench_tellers), (select sum(bbalance) from pgbench_branches)])')
[ "$sums" = t ] || bad "the sums differ: $sums"
"${as_postgres[@]}" "$bin/pg_amcheck" -h "$dir" -p $port --install-missing --heapallindexed -a \
	>"$TMPDIR/amcheck.out" 2>&1 || bad "pg_amcheck: $(<"$TMPDIR/amcheck.out")"
complaints=$(sed -n '/^loaded/,$p' "$OUTPUT" | grep -E 'PANIC|FATAL|ERROR|WARNING')
[ -z "$complaints" ] || bad "the server complains: $complaints"
stopped "at the end" "${as_postgres[@]}" "$bin/pg_ctl" -D "$dir/data" -m fast -w stop
"${as_postgres[@]}" "$bin/pg_checksums" -D "$dir/data" --check >"$TMPDIR/checksums.out" 2>&1 ||
	bad "pg_checksums: $(tail -n 5 "$TMPDIR/checksums.out")"
finish
