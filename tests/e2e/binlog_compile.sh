#!/bin/bash
# SPDX-License-Identifier: MIT
# What the compiler refuses in a log call, and what it takes without a word.
. "$(dirname "$0")/../lib/e2e.sh"
. tests/lib/binlog.sh
need_program gcc clang-14

try() { # CC TEXT: compiles a function with that body
	printf '#include <stdint.h>\n#include <inttypes.h>\n#include "binlog/pr.h"\nextern int i; extern long l; extern char *s; extern const char *f;
		struct bits { unsigned b5 : 5; }; extern struct bits bits; int fn(void); void body(void);\nvoid body(void)\n{\n%s\n}\n' "$2" >"$TMPDIR/t.c"
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

taken() {
	local cc
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
many=$(printf '%.0si, ' {1..33})
refused "pr_info(\"$(printf '%.0s%%d' {1..33})\", ${many%, });" 'TOO_MANY'

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
finish
