#!/bin/bash
# SPDX-License-Identifier: MIT
# A program of 50 units with shared headers and macros around macros, its shared objects, stripped, gone.
# timeout: 180
. "$(dirname "$0")/../lib/e2e.sh"
. tests/lib/binlog.sh
need_program gcc clang-14 strip

units=50
src=$TMPDIR/src
mkdir "$src"
# What BINLOG() is said to record is printed beside it, each with file, line and function.
cat >"$src/shared.h" <<'X'
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include "binlog/pr.h"

extern FILE *text_;
#define TEXT(fmt, ...) fprintf(text_, "%s:%d %s " fmt, __FILE__, __LINE__, __func__, ##__VA_ARGS__)
#define BOTH(level, fmt, ...) (BINLOG(level, fmt, ##__VA_ARGS__), TEXT(fmt, ##__VA_ARGS__))

/* Names of a project's own, two floors of them. */
#define log_at(level, area, fmt, ...) BOTH(level, "[" area "] " fmt "\n", ##__VA_ARGS__)
#define log_error(fmt, ...) log_at(BINLOG_ERR, AREA, fmt, ##__VA_ARGS__)
#define log_value(x) log_at(BINLOG_DEBUG, AREA, #x " = %" PRIu64, (uint64_t)(x))
#define CHECK(cond) ((cond) ? (void)0 : (void)log_error("failed: %s", #cond))
#define EACH(m, a, b, c) m(a), m(b), m(c)

/* A function of a header: in each unit its own copy, each with its own site. */
static inline int header_function(int unit, const char *name)
{
	BOTH(BINLOG_INFO, "header of unit %d: %s\n", unit, name);
	return unit + 1;
}

/* As one of every unit's that is not inlined is the linker's choice. */
__attribute__((weak, noinline)) void weak_function(int n)
{
	BOTH(BINLOG_WARN, "weak %d\n", n);
}
X
for ((u = 0; u < units; u++)); do
	cat >"$src/unit_$u.c" <<-X
		#define AREA "area $u"
		#include "shared.h"
		struct thing { unsigned bits : 7; const char *name; };
		static void inner(struct thing t) { BOTH(4, "inner %u %s\n", t.bits, t.name); }
		void unit_$u(int n);
		void unit_$u(int n)
		{
			struct thing t = {(unsigned)(n * $u) % 128, "name of $u"};
			BOTH(3, "one %d\n", n); BOTH(3, "two %d\n", n + 1); BOTH(3, "three %d\n", n + 2);
			if (n % 2) BOTH(2, "odd %d\n", n); else BOTH(1, "even %d in %s\n", n, __FILE__);
			n = header_function($u, t.name);
			inner(t);
			CHECK(n < 0);
			CHECK(n > 0);
			EACH(log_value, n, n * 2, sizeof(t));
			weak_function(n);
			for (int i = 0; i < 3; i++) log_error("in a loop: %d of %s", i, t.name);
		}
	X
done
{
	printf '#define AREA "plugin"\n#include "shared.h"\nvoid plugin(int n); void plugin(int n) { log_error("plugin %%d", n); log_value(n); }\n'
} >"$src/plugin.c"
{
	echo '#include <dlfcn.h>'
	echo '#define AREA "main"'
	echo '#include "shared.h"'
	echo 'FILE *text_;'
	for ((u = 0; u < units; u++)); do echo "void unit_$u(int n);"; done
	cat <<-'X'
		int main(int argc, char **argv)
		{
			text_ = fopen(argv[2], "w");
			log_error("before the log is open");
			rewind(text_);
			if (binlog_open(argv[1], NULL, NULL) < 0) return 1;
			for (int n = 0; n < 5; n++) {
	X
	for ((u = 0; u < units; u++)); do echo "unit_$u(n);"; done
	cat <<-'X'
			}
			for (int i = 3; i < argc; i++) {
				void *h = dlopen(argv[i], RTLD_NOW);
				void (*f)(int) = h ? (void (*)(int))dlsym(h, "plugin") : NULL;
				if (!f) { puts(dlerror()); return 1; }
				f(i);
				dlclose(h); /* nothing of it may be looked at any more */
				binlog_set_level(BINLOG_ERR);
				binlog_set_level(BINLOG_DEBUG);
			}
			log_error("end of %s", "main");
			binlog_close();
			return fclose(text_);
		}
	X
} >"$src/main.c"

check() { # NAME CC FLAGS...
	local name=$1 cc=$2 dir=$TMPDIR/$1
	shift 2
	library "$cc" "$dir" -fPIC
	compile "$cc" "$dir/units" -I"$src" -w "$@" -- "$src"/unit_*.c "$src/main.c"
	"$cc" -rdynamic -pthread "$@" -o "$dir/prog" "$dir/units"/*.o "$dir/lib"/*.o || die "$name: cannot link"
	for so in 1 2; do # the same object twice under two names: two modules
		"$cc" -shared -fPIC -std=gnu11 -w -D_GNU_SOURCE -I. -I"$src" -o "$dir/plugin$so.so" "$src/plugin.c" ||
			die "$name: cannot link a plugin"
	done
	strip "$dir/prog" "$dir"/*.so || die "$name: strip"
	"$dir/prog" "$dir/log" "$dir/text" "$dir/plugin1.so" "$dir/plugin2.so" || die "$name: the program failed"
	rm -r "${dir:?}"/{prog,units,lib} "$dir"/*.so
	# Elsewhere, with nothing but the log.
	(cd / && "$BINDECODE" -P '%f:%n %F ' -o "$dir/got" "$dir/log") || bad "$name: bindecode"
	same "$name" "$dir/text" "$dir/got"
	[ "$(wc -l <"$dir/got")" = $((units * 5 * 14 + 5)) ] || bad "$name: $(wc -l <"$dir/got") lines"
	"$BINDECODE" --check "$dir/log" >"$dir/check" || bad "$name: $(<"$dir/check")"
}

check gcc gcc -O2 -ffunction-sections -fdata-sections -Wl,--gc-sections
check gcc-lto gcc -O1 -flto=2
check gcc-no-id gcc -O0 -Wl,--build-id=none
check clang clang-14 -O2
finish
