#!/bin/bash
# SPDX-License-Identifier: MIT
# A JVM that computes in many threads, collects garbage and compiles: dumped, killed, restored; the result is right.
# timeout: 180
. "$(dirname "$0")/../lib/e2e.sh"
need_root
need_program java
# A runtime environment compiles a source file only when the compiler's module is there.
java --list-modules 2>/dev/null | grep -q '^jdk.compiler' || skip "needs java with the module jdk.compiler"
with_reaper "$@"
. tests/lib/real.sh

cat >"$TMPDIR/Compute.java" <<'X'
import java.net.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;

public class Compute {
	static final AtomicLong steps = new AtomicLong();

	/* Garbage, exceptions, strings and floating point, always the same for the same seed. */
	static long work(int seed, int rounds) {
		Random r = new Random(seed);
		HashMap<String, long[]> kept = new HashMap<>();
		long sum = 0;
		for (int i = 0; i < rounds; i++) {
			long[] a = new long[500 + r.nextInt(500)];
			for (int k = 0; k < a.length; k++)
				a[k] = r.nextLong() ^ Double.doubleToLongBits(Math.sqrt(k + i) * Math.sin(i));
			kept.put("key " + r.nextInt(300), a);
			long[] b = kept.get("key " + r.nextInt(300));
			try {
				sum = sum * 31 + b[b.length / 2] + Arrays.hashCode(a);
			} catch (NullPointerException e) {
				sum = sum * 37 + 1;
			}
			steps.incrementAndGet();
		}
		return sum;
	}

	public static void main(String[] args) throws Exception {
		int threads = 6, rounds = Integer.parseInt(args[0]);
		if (args.length > 1) {
			ServerSocket server = new ServerSocket(0, 5, InetAddress.getLoopbackAddress());
			Thread teller = new Thread(() -> {
				try (Socket s = new Socket(server.getInetAddress(), server.getLocalPort())) {
					for (byte b = 0;; b++) {
						s.getOutputStream().write(b);
						Thread.sleep(1);
					}
				} catch (Exception e) {
					System.out.println("wrong: " + e);
				}
			});
			Thread listener = new Thread(() -> {
				try (Socket s = server.accept()) {
					for (byte b = 0;; b++)
						if ((byte) s.getInputStream().read() != b)
							System.out.println("wrong byte");
						else if (b == 0)
							System.out.println("at " + steps.get());
				} catch (Exception e) {
					System.out.println("wrong: " + e);
				}
			});
			teller.setDaemon(true);
			listener.setDaemon(true);
			listener.start();
			teller.start();
		}
		/* The same again until somebody says that it is enough; the first result must stay. */
		ExecutorService pool = Executors.newFixedThreadPool(threads);
		List<Future<Long>> results = new ArrayList<>();
		for (int i = 0; i < threads; i++) {
			int seed = i;
			results.add(pool.submit(() -> {
				long first = work(seed, rounds);
				while (args.length > 1 && !new java.io.File(args[1]).exists())
					if (work(seed, rounds) != first)
						System.out.println("wrong sum");
				return first;
			}));
		}
		long all = 0;
		for (Future<Long> f : results)
			all = all * 1000003 + f.get();
		pool.shutdown();
		System.out.println("result " + all);
		System.exit(0);
	}
}
X
rounds=1000
want=$(java -Xmx200m "$TMPDIR/Compute.java" $rounds) || die "java: $want"
start java -Xmx200m "$TMPDIR/Compute.java" $rounds "$TMPDIR/enough"
at() {
	sed -n 's/^at //p' "$OUTPUT" | tail -n 1
}
# The connection is alive, and so are the threads that count.
further() {
	[ "$(at)" -gt $(($1 + 2 * rounds)) ]
}
goes_on() { # LABEL
	local n
	n=$(at)
	until_true 200 further "$n" || bad "$1: it does not go on: $n, $(tail -n 5 "$OUTPUT")"
	grep -E 'wrong|Exception|#' "$OUTPUT" && bad "$1: it complains"
}
told 300 "^at [1-9]"
goes_on "before"
again "once"
goes_on "once"
again "twice" --compress zstd:1
goes_on "twice"
mapfile -t TREE < <(tree_pids "$PID")
touch "$TMPDIR/enough"
until_true 300 all_ended || bad "it does not end: $(tail -n 5 "$OUTPUT")"
[ "$(grep '^result' "$OUTPUT")" = "$want" ] || bad "another result: $want, $(tail -n 5 "$OUTPUT")"
PID=
finish
