#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Writes C programs that log formats of every shape and print the same with snprintf.

	binlog_formats.py DIR COUNT SEED

DIR gets formats.h and formats_0.c, formats_1.c ...: together one program with COUNT call sites,
which wants the names of the log and of the text, and a number of rounds. Each round has other random
values; the shapes are the same for the same SEED. Given a fourth argument, the text comes out of the
log's own sink instead of snprintf.
"""
import random
import sys

DIR, COUNT, SEED = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
PER_FILE = 200
rnd = random.Random(SEED)
pick = rnd.choice

HEADER = r"""
#include <errno.h>
#include <inttypes.h>
#include <locale.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "base/err.h"
#include "binlog/pr.h"

enum small { SMALL_A, SMALL_B = 7 };
enum negative { NEGATIVE = -3, POSITIVE = 3 };
enum __attribute__((packed)) tiny { TINY = 200 };
struct fields {
	unsigned b5 : 5;
	int s7 : 7;
	bool flag : 1;
};

extern int i_[16];
extern unsigned u_[16];
extern long l_[16];
extern unsigned long ul_[16];
extern long long ll_[16];
extern unsigned long long ull_[16];
extern short s_[16];
extern unsigned short us_[16];
extern signed char sc_[16];
extern unsigned char uc_[16];
extern char c_[16];
extern intmax_t j_[16];
extern size_t z_[16];
extern ptrdiff_t t_[16];
extern double d_[16];
extern float f_[16];
extern long double L_[16];
extern void *p_[16];
extern const char *str_[16];
extern char bare_[16][5]; /* not terminated */
extern const wchar_t *wide_[16];
extern wint_t wc_[16];
extern int w_[16]; /* widths, negative ones too */
extern int q_[16]; /* precisions, negative ones too */
extern bool b_[16];
extern enum small es_[16];
extern enum negative en_[16];
extern enum tiny et_[16];
extern struct fields bf_[16];
extern int e_[16]; /* errno */

extern FILE *text_;
extern char line_[1 << 18];

void say(int n);
__attribute__((format(printf, 1, 2))) void log_va(const char *fmt, ...);

#define LOG(err, ...)                                                    \
	do {                                                             \
		errno = (err);                                           \
		BINLOG(BINLOG_DEBUG, __VA_ARGS__);                       \
		errno = (err);                                           \
		say(snprintf(line_, sizeof(line_), __VA_ARGS__));        \
	} while (0)
/* A macro around a macro, which glues the format. */
#define WRAPPED(err, fmt, ...) LOG(err, "wrapped " fmt, ##__VA_ARGS__)
#define RUNTIME(err, fmt, ...)                                           \
	do {                                                             \
		char copy[] = fmt;                                       \
		LOG(err, copy, ##__VA_ARGS__);                           \
	} while (0)
#define VA(err, fmt, ...)                                                \
	do {                                                             \
		errno = (err);                                           \
		log_va(fmt, ##__VA_ARGS__);                              \
		errno = (err);                                           \
		say(snprintf(line_, sizeof(line_), fmt, ##__VA_ARGS__)); \
	} while (0)
"""

MAIN = r"""
int i_[16]; unsigned u_[16]; long l_[16]; unsigned long ul_[16]; long long ll_[16];
unsigned long long ull_[16]; short s_[16]; unsigned short us_[16]; signed char sc_[16];
unsigned char uc_[16]; char c_[16]; intmax_t j_[16]; size_t z_[16]; ptrdiff_t t_[16]; double d_[16];
float f_[16]; long double L_[16]; void *p_[16]; const char *str_[16]; char bare_[16][5];
const wchar_t *wide_[16]; wint_t wc_[16]; int w_[16]; int q_[16]; bool b_[16]; enum small es_[16];
enum negative en_[16]; enum tiny et_[16]; struct fields bf_[16]; int e_[16];
FILE *text_;
char line_[1 << 18];
static bool by_sink;
static bool utf8; /* a big-endian program cannot read a little-endian machine's locale */

static uint64_t state = %(seed)d;

static uint64_t next(void)
{
	state += 0x9e3779b97f4a7c15;
	uint64_t v = (state ^ state >> 30) * 0xbf58476d1ce4e5b9;
	v = (v ^ v >> 27) * 0x94d049bb133111eb;
	return v ^ v >> 31;
}

/* Of every magnitude. */
static uint64_t number(void)
{
	uint64_t v = next();

	switch (next() %% 8) {
	case 0: return v %% 10;
	case 1: return -(v %% 1000);
	case 2: return 1ull << v %% 64;
	case 3: return (1ull << v %% 64) - 1;
	case 4: return UINT64_MAX - (v & 1);
	default: return v >> next() %% 64;
	}
}

static double real(void)
{
	static const double odd[] = {0.0, -0.0, 1.0, 0.5, 1e300, -1e-300, 5e-324, 2.2250738585072014e-308,
				     1.7976931348623157e308, 0.1, 123456.789, 1e15, 1e16, 1e17, 9.5, 0.00001};
	uint64_t bits = next();
	double v;

	switch (next() %% 8) {
	case 0: return odd[bits %% 16];
	case 1: return __builtin_inf();
	case 2: return -__builtin_nan("");
	case 3: return (double)(int64_t)number() / 1000;
	case 4: return (double)(bits %% 100000) / 100;
	default:
		memcpy(&v, &bits, 8);
		return v;
	}
}

static void randomise(void)
{
	static const char *const strings[] = {"", "a", "abc", "some/path/of/a/file", "with %%s in it",
		"gr\xc3\xbc\xc3\x9f", "\x01\x7f\xff bytes", "0123456789012345678901234567890123456789", NULL};
	static const wchar_t *const wides[] = {L"", L"w", L"gr\u00fc\u00df", L"\u20ac and \U0001f600", L"plain", NULL};
	static const wint_t chars[] = {L'a', L'\u00fc', L'\u20ac', 0x1f600, L' '};
	static char *big;

	if (!big) {
		big = malloc(100001);
		memset(big, 'B', 100000);
		big[100000] = 0;
	}
	for (int i = 0; i < 16; i++) {
		i_[i] = (int)number(); u_[i] = (unsigned)number(); l_[i] = (long)number();
		ul_[i] = number(); ll_[i] = (long long)number(); ull_[i] = number();
		s_[i] = (short)number(); us_[i] = (unsigned short)number();
		sc_[i] = (signed char)number(); uc_[i] = (unsigned char)number();
		do
			c_[i] = (char)number();
		while (!c_[i] || c_[i] == '\n');
		j_[i] = (intmax_t)number(); z_[i] = number(); t_[i] = (ptrdiff_t)number();
		d_[i] = real(); f_[i] = (float)real();
		L_[i] = (long double)real();
		if (next() & 1)
			L_[i] = L_[i] * (long double)real() / 3;
		p_[i] = (void *)(uintptr_t)(i == 3 ? 0 : number());
		str_[i] = next() %% 8 ? strings[next() %% 9] : strerror((int)(next() %% 140));
		for (int k = 0; k < 5; k++)
			bare_[i][k] = (char)('a' + (i + k) %% 26);
		wide_[i] = utf8 ? wides[next() %% 6] : L"no such locale";
		wc_[i] = utf8 ? chars[next() %% 5] : L'a';
		w_[i] = (int)(next() %% 41) - 20; q_[i] = (int)(next() %% 24) - 3;
		b_[i] = next() & 1; es_[i] = next() & 1 ? SMALL_B : SMALL_A;
		en_[i] = next() & 1 ? NEGATIVE : POSITIVE; et_[i] = TINY;
		bf_[i] = (struct fields){(unsigned)next() & 31, (int)(next() %% 100) - 50, next() & 1};
		e_[i] = (int)(next() %% 140);
	}
	if (next() %% 4 == 0)
		str_[5] = big + next() %% 100000;
}

/* What printf would have printed; a zero byte ends nothing. */
void say(int n)
{
	if (n < 0 || n >= (int)sizeof(line_))
		abort();
	if (!by_sink)
		fwrite(line_, 1, (size_t)n, text_);
}

static void sink(void *ctx, const struct binlog_line *line)
{
	fwrite(line->text, 1, line->len, text_);
}

void log_va(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	binlog_vlog(BINLOG_DEBUG, __FILE__, __LINE__, __func__, fmt, ap);
	va_end(ap);
}

int main(int argc, char **argv)
{
	struct err err = {0};

	utf8 = setlocale(LC_CTYPE, "C.UTF-8") != NULL;
	by_sink = argc > 4;
	text_ = fopen(argv[2], "w");
	if (!text_ || binlog_open(argv[1], NULL, &err) < 0) {
		fprintf(stderr, "%%s\n", err.msg);
		return 1;
	}
	if (by_sink)
		binlog_set_sink(sink, NULL, BINLOG_DEBUG);
	for (int i = atoi(argv[3]); i > 0; i--) {
		randomise();
		%(calls)s
	}
	binlog_close();
	return fclose(text_);
}
"""

# modifier: (signed arguments, unsigned arguments)
INTS = {
    "": (["i_[%d]", "s_[%d]", "sc_[%d]", "c_[%d]", "b_[%d]", "bf_[%d].s7", "en_[%d]", "bf_[%d].flag"],
         ["u_[%d]", "us_[%d]", "uc_[%d]", "es_[%d]", "et_[%d]", "bf_[%d].b5"]),
    "hh": (["sc_[%d]", "i_[%d]"], ["uc_[%d]", "u_[%d]"]),
    "h": (["s_[%d]", "i_[%d]"], ["us_[%d]", "u_[%d]"]),
    "l": (["l_[%d]"], ["ul_[%d]"]),
    "ll": (["ll_[%d]"], ["ull_[%d]"]),
    "q": (["ll_[%d]"], ["ull_[%d]"]),
    "j": (["j_[%d]"], ["(uintmax_t)j_[%d]"]),
    "z": (["(ssize_t)z_[%d]"], ["z_[%d]"]),
    "t": (["t_[%d]"], ["(size_t)t_[%d]"]),
}
LITERALS = {"": ["0", "-1", "42", "2147483647", "'x'", "SMALL_B"], "hh": ["-1", "300"], "h": ["70000"],
            "l": ["-1L", "5L"], "ll": ["1LL << 62", "-7LL"], "q": ["3LL"], "j": ["(intmax_t)-9"], "z": ["(ssize_t)-4"],
            "t": ["(ptrdiff_t)77"]}
ULITERALS = {"": ["0u", "4294967295u"], "hh": ["200u"], "h": ["65535u"], "l": ["~0UL", "sizeof(int)"],
             "ll": ["~0ULL"], "q": ["1ULL"], "j": ["(uintmax_t)1"], "z": ["sizeof(long)"], "t": ["(size_t)12"]}


def index(template):
    return template % rnd.randrange(16) if "%d" in template else template


def flags(allowed):
    return "".join(c for c in allowed if rnd.random() < 0.25)


def width(args):
    kind = rnd.randrange(6)
    if kind == 0:
        return str(rnd.randrange(1, 60))
    if kind == 1:
        args.append(index(pick(["w_[%d]", "12", "-7", "0"])))
        return "*"
    return ""


def precision(args, most=30):
    kind = rnd.randrange(7)
    if kind == 0:
        return "." + str(rnd.randrange(most))
    if kind == 1:
        return "."
    if kind == 2:
        args.append(index(pick(["q_[%d]", "5", "-1", "0"])))
        return ".*"
    return ""


def integer(args):
    letter = pick("diouxX")
    signed = letter in "di"
    mod = pick(list(INTS))
    spec = "%" + flags("#0- +" if letter in "oxX" else "0- +'") + width(args) + precision(args)
    if rnd.random() < 0.25:
        args.append(pick((LITERALS if signed else ULITERALS)[mod]))
    else:
        args.append(index(pick(INTS[mod][0 if signed else 1])))
    return spec + mod + letter


def real(args):
    letter = pick("fFeEgGaA")
    spec = "%" + flags("#0- +'") + width(args) + precision(args)
    if rnd.random() < 0.3:
        args.append(index("L_[%d]"))
        return spec + "L" + letter
    args.append(index(pick(["d_[%d]", "d_[%d]", "f_[%d]", "0.1", "-2.5e10"])))
    return spec + letter


def string(args):
    kind = rnd.randrange(8)
    spec = "%" + flags("-") + width(args)
    if kind == 0:  # of an array that has no end
        if rnd.random() < 0.5:
            spec += "." + str(rnd.randrange(6))
        else:
            args.append(pick(["5", "3", "bf_[2].b5 % 6"]))
            spec += ".*"
        args.append(index("bare_[%d]"))
        return spec + "s"
    if kind == 1:
        args.append(pick(['"literal"', "__FILE__", "__func__", '"glued " "literal"', "(char *)NULL", '"%d"']))
    elif kind == 2:
        args.append(pick(["strerror(e_[3])", "strerror(EACCES)", "(const char *)str_[4]", "str_[5]"]))
    else:
        spec += precision(args)
        args.append(index("str_[%d]"))
    return spec + "s"


def wide(args):
    spec = "%" + flags("-") + width(args)
    if rnd.random() < 0.3:
        args.append(index("wc_[%d]"))
        return spec + pick(["lc", "C"])
    spec += precision(args)
    args.append(index("wide_[%d]"))
    return spec + pick(["ls", "S"])


def other(args):
    kind = rnd.randrange(5)
    if kind == 0:
        spec = "%" + flags("-") + width(args)
        args.append(index(pick(["c_[%d]", "'q'", "uc_[%d] | 1"])))
        return spec + "c"
    if kind == 1:
        spec = "%" + flags("-") + width(args)
        args.append(index(pick(["p_[%d]", "(void *)str_[%d]", "(void *)&i_[%d]", "(void *)NULL"])))
        return spec + "p"
    if kind == 2:
        return "%" + flags("-") + width(args) + precision(args) + "m"
    if kind == 3:
        return "%%"
    name, var = pick([("PRIx64", "(uint64_t)ul_[%d]"), ("PRId32", "(int32_t)i_[%d]"), ("PRIu16", "us_[%d]"),
                      ("PRIX8", "uc_[%d]"), ("PRIuPTR", "(uintptr_t)ul_[%d]"), ("PRIdMAX", "j_[%d]"),
                      ("PRIiLEAST32", "(int_least32_t)i_[%d]"), ("PRIoFAST8", "(uint_fast8_t)uc_[%d]")])
    spec = '%' + flags("-") + width(args)
    args.append(index(var))
    return spec + '" ' + name + ' "'


def positions():
    """With %N$: the arguments in any order, some twice."""
    types = [pick([("d", "i_[%d]"), ("s", "str_[%d]"), ("lx", "ul_[%d]"), ("f", "d_[%d]"), ("c", "uc_[%d] | 1"),
                   ("Lg", "L_[%d]"), ("p", "p_[%d]")]) for _ in range(rnd.randrange(1, 6))]
    args = [index(t[1]) for t in types]
    order = list(range(len(types))) + [rnd.randrange(len(types)) for _ in range(rnd.randrange(3))]
    rnd.shuffle(order)
    out = ""
    for i in order:
        star = ""
        if rnd.random() < 0.2:
            args.append(index("w_[%d]"))
            star = "*%d$" % len(args)
        out += pick(["", " ", "<"]) + "%%%d$%s%s" % (i + 1, star, types[i][0])
    return out, args


def call(n):
    if n % 40 == 7:
        fmt, args = positions()
    else:
        args, fmt = [], ""
        for _ in range(pick([0, 1, 1, 1, 2, 2, 3, 4, 6, 9])):
            fmt += pick(["", " ", "x=", ", ", "(", "\\t", "\\xc3\\xbc ", "%%", "\\\\"])
            fmt += pick([integer, integer, integer, real, real, string, string, wide, other])(args)
        if len(args) > 30:
            return call(n)
    kind = pick(["LOG"] * 12 + ["WRAPPED"] * 2 + ["RUNTIME"] + ["VA"])
    if kind == "VA" and "$" in fmt or kind == "RUNTIME" and '"' in fmt:
        kind = "LOG"
    return '\t%s(e_[%d], "%s\\n"%s);\n' % (kind, n % 16, fmt, "".join(", " + a for a in args))


def wide_number(n):
    """__int128: printf has none, so the text is made here."""
    v = rnd.getrandbits(rnd.randrange(1, 129)) if n % 2 else -rnd.getrandbits(rnd.randrange(1, 127))
    letter = pick("di") if n % 2 == 0 else pick("uxXo")
    u = v & (1 << 128) - 1
    digits = {"x": "%x" % u, "X": "%X" % u, "o": "%o" % u}.get(letter, str(v))
    w = rnd.randrange(60)
    left = rnd.random() < 0.5
    text = digits.ljust(w) if left else digits.rjust(w)
    if n % 2 == 0:
        c = "(__int128)((unsigned __int128)0x%xull << 64 | 0x%xull)" % (u >> 64, u & (1 << 64) - 1)
    else:
        c = "((unsigned __int128)0x%xull << 64 | 0x%xull)" % (u >> 64, u & (1 << 64) - 1)
    return ('\tBINLOG(BINLOG_DEBUG, "%d: %%%s%dll%s|\\n", %s);\n'
            '\tsay(snprintf(line_, sizeof(line_), "%d: %s|\\n"));\n'
            % (n, "-" if left else "", w, letter, c, n, text))


files = []
for first in range(0, COUNT, PER_FILE):
    name = "formats_%d" % len(files)
    body = "".join(wide_number(n) if n % 50 == 49 or n % 50 == 48 else call(n)
                   for n in range(first, min(first + PER_FILE, COUNT)))
    open("%s/%s.c" % (DIR, name), "w").write(
        '#include "formats.h"\nvoid %s(void);\nvoid %s(void)\n{\n%s}\n' % (name, name, body))
    files.append(name)
open(DIR + "/formats.h", "w").write(HEADER)
open(DIR + "/formats_main.c", "w").write('#include "formats.h"\n' + "".join("void %s(void);\n" % f for f in files)
    + MAIN % {"seed": SEED, "calls": " ".join(f + "();" for f in files)})
