#!/bin/bash
# SPDX-License-Identifier: MIT
# What the compiler refuses in a log call, and what it takes without a word.
# timeout: 300
. "$(dirname "$0")/../lib/e2e.sh"
. tests/lib/binlog.sh
need_program gcc clang-14

head='#include <stdint.h>
#include <inttypes.h>
#include "binlog/pr.h"
#include "base/err.h"
extern int i; extern long l; extern char *s; extern const char *f;
struct bits { unsigned b5 : 5; }; extern struct bits bits; int fn(void); void body(void);'

try() { # CC TEXT: compiles a function with that body
	printf '%s\nvoid body(void)\n{\n%s\n}\n' "$head" "$2" >"$TMPDIR/t.c"
	"$1" -std=gnu11 -I. -O1 -Wall -Wextra -Wshadow -Wvla -Wconversion -Wmissing-prototypes -Werror -c -o /dev/null \
		"$TMPDIR/t.c" >"$TMPDIR/errors" 2>&1
}

refused() { # TEXT [WHAT THE COMPILER SAYS]
	local cc
	for cc in gcc clang-14; do
		try "$cc" "$1" && bad "$cc takes: $1"
		grep -qE "${2:-format}" "$TMPDIR/errors" || bad "$cc refuses $1 for another reason: $(grep -m 2 error "$TMPDIR/errors")"
	done
}

shapes='' nshapes=0
taken() {
	local cc
	nshapes=$((nshapes + 1))
	shapes+="void body$nshapes(void); void body$nshapes(void)
{
$1
}
"
	for cc in gcc clang-14; do
		try "$cc" "$1" || bad "$cc refuses: $1: $(grep -m 2 -E 'error|warning' "$TMPDIR/errors")"
	done
}

for mod in '' hh h l ll j z t; do
	type=int
	case $mod in hh) type='signed char' ;; h) type=short ;; l) type=long ;; ll) type='long long' ;; j) type=intmax_t ;;
	z) type='long' ;; t) type=ptrdiff_t ;; esac
	refused "$type v; pr_info(\"%${mod}n\\n\", &v);" '%n|size_t|ssize_t|format'
done
refused 'pr_info("%d\n", l);'
refused 'pr_info("%s\n", i);'
refused 'pr_info("%d %d\n", i);'
refused 'pr_info("%d\n", i, i);'
refused 'pr_info("%ld\n", i);'
refused 'pr_info("%y\n", i);'
refused 'pr_info();' 'expected expression|too few|format|expected'
for n in 33 41 126; do
	many=$(printf "%.0si, " $(seq $n))
	refused "pr_info(\"$(printf '%.0s%%d' $(seq $n))\", ${many%, });" 'a log call takes at most 32 arguments behind its format'
	for cc in gcc clang-14; do
		try "$cc" "BINLOG(BINLOG_INFO, \"$(printf '%.0s%%d' $(seq $n))\", ${many%, });"
		[ "$(grep -cE ' (error|warning): ' "$TMPDIR/errors")" = 1 ] ||
			bad "$cc has more to say about $n arguments than that they are too many: $(head -n 5 "$TMPDIR/errors")"
	done
done

taken 'if (i) pr_info("a %d\n", i); else pr_info("b\n");'
taken 'for (; i--; pr_info("in a for: %d\n", i)) pr_debug("x\n");'
taken 'i ? pr_info("yes\n") : pr_info("no\n");'
taken '(void)0, pr_err("comma %s\n", s), pr_warn("and %ld\n", l);'
taken 'switch (i) { case 1: pr_info("1\n"); break; default: pr_info("%d\n", i); }'
taken 'pr_info("%d %ld %s %p %c %5.2f %Lf %u %hhd %zu %jd\n", i, l, s, (void *)s, *s, 1.5, 2.5L, bits.b5, (char)i, sizeof(i), (intmax_t)l);'
taken 'pr_info("nested %d\n", ({ pr_debug("inner %d\n", i); i; }));'
taken 'pr_info("a %d %s\n", ({ pr_info("b %d\n", ({ pr_err("c %s\n", s); i; })); i; }), ({ pr_debug("d %d\n", i); s; }));'
refused 'int binlog_test = 1; pr_info("%d\n", binlog_test); { int i = 2; pr_info("%d\n", i); }' shadow
taken 'pr_info("%d %d\n", fn(), i++);'
taken 'BINLOG(i, "level at run time\n");'
taken 'BINLOG(i ? BINLOG_ERR : BINLOG_DEBUG, "%s\n", s);'
taken 'pr_info("%s\n", i ? "literal" : s); pr_info("%s\n", __func__); pr_info("%.*s\n", i, s);'
taken 'const char binlog[] = "a name like ours"; int level = 3, fmt = 2; pr_info("%s %d %d\n", binlog, level, fmt);'
taken 'pr_info("%" PRIx64 " %" PRId8 "\n", (uint64_t)l, (int8_t)1);'
taken 'label: pr_info("label\n"); if (i) goto label;'
taken 'pr_perror("open %s", s); pr_msg("plain");'
taken "pr_info(\"$(printf '%.0s%%d' {1..32})\", $(printf '%.0si, ' {1..31})i);"
taken 'enum { A, B } e = i ? A : B; pr_info("%d %d\n", e, A); float v = 1; pr_info("%f %s %ls\n", v, __FILE__, (wchar_t *)f);'
taken '__extension__ typedef __int128 wide; wide v = l; pr_info("%lld\n", v); pr_info("%p %p\n", (void *)&v, &i);'
taken 'BINLOG(BINLOG_MSG, f ? "a" : "b"); BINLOG(BINLOG_INFO, "%s: " "%d" "\n", __func__, i);'
taken '
#define log_plain(...) BINLOG(BINLOG_INFO, __VA_ARGS__)
#define log_glued(...) BINLOG(BINLOG_INFO, "net: " __VA_ARGS__)
#define log_func(...) BINLOG(BINLOG_INFO, "%s: " BINLOG_FORMAT(__VA_ARGS__), __func__ BINLOG_ARGS(__VA_ARGS__))
log_plain("a\n"); log_plain("%d\n", i); log_glued("a\n"); log_glued("%d %s\n", i, s); log_func("a\n"); log_func("%d %ld\n", i, l);'
taken '
#undef pr_fmt
#define pr_fmt(fmt) "(%d) %s: " fmt, i, __func__
pr_info("a\n"); pr_info("%d\n", i); pr_warn("%s %ld\n", s, l);
#undef pr_fmt
#define pr_fmt(fmt) fmt
'
taken 'struct err err = {0}; if (binlog_open("x", NULL, &err) < 0 || err_set(&err, i, "read %s", s)) binlog_close();'
taken '
#define FEW 1 +
#define TOO_MANY 1 +
#define n 1 +
#define a 1 +
pr_info("names of ours are ours: %d\n", i);
#undef n
#undef a'

# All of that once more as one unit of an adopter who wants ISO C and no more than what a header asks for: not a word, nor
# from the library itself. A wrong call is still found.
printf '%s\n%s' "$head" "$shapes" >"$TMPDIR/all.c"
[ "$nshapes" -gt 20 ] || bad "only $nshapes shapes"
strict() { # SOURCES...
	local cc std
	for cc in gcc clang-14; do
		for std in c11 'c11 -D_GNU_SOURCE' gnu11; do
			# shellcheck disable=SC2086 # two words
			"$cc" -std=$std -I. -Wall -Wextra -pedantic -Werror -pthread -fsyntax-only "$@" >"$TMPDIR/errors" 2>&1 ||
				bad "$cc -std=$std -pedantic complains of $*: $(grep -m 3 -E 'error|warning' "$TMPDIR/errors")"
		done
	done
}
strict "$TMPDIR/all.c"
strict binlog/*.c
for cc in gcc clang-14; do
	printf '%s\nvoid body(void)\n{\npr_info("%%d\\n", l);\n}\n' "$head" >"$TMPDIR/wrong.c"
	"$cc" -std=c11 -I. -Wall -pedantic -Werror -c -o /dev/null "$TMPDIR/wrong.c" >"$TMPDIR/errors" 2>&1 && bad "$cc -pedantic takes %d of a long"
	grep -q 'error:.*format' "$TMPDIR/errors" || bad "$cc -pedantic refuses %d of a long for another reason: $(<"$TMPDIR/errors")"
	# gnu99 is older than what the headers are written in, and will do.
	"$cc" -std=gnu99 -I. -Wall -Wextra -Werror -c -o /dev/null "$TMPDIR/all.c" >"$TMPDIR/errors" 2>&1 ||
		bad "$cc -std=gnu99: $(grep -m 3 -E 'error|warning' "$TMPDIR/errors")"
done
finish
