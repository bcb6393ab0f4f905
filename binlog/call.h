/* SPDX-License-Identifier: MIT */
/*
 * What one BINLOG() call compiles to.
 *
 * A call is a static site in the linker section binlog_sites, and a few stores into the ring of its
 * thread. The ring is mapped memory of the log file, so what is stored survives the process.
 *
 *	stream position  0        64 96          131072-64            (a segment is 64 KiB)
 *	                 [header  ][epoch][record][record]...[free: all zero ][header ]...
 *	                                                     ^ pos             ^ limit
 *
 * A call reserves by adding its length to pos: one instruction, so a signal handler on the same
 * thread gets a place of its own, and the two never meet. It marks the place PENDING, fills it, and
 * stores the record word last. Positions never go back and are never used twice, in whatever ring
 * they are (they start at the stream's number times 2^36); a place is good if it lies in the 64 KiB
 * below the limit that was read before it was taken.
 * After a fork, by whatever system call, the child finds struct binlog_thread wiped to zero
 * (MADV_WIPEONFORK, of Linux 4.14): its limit is 0, nothing fits, and the slow path gives it a ring
 * of its own.
 *
 * Nothing here is for callers; binlog/binlog.h is.
 */
#ifndef BINLOG_CALL_H
#define BINLOG_CALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "binlog/counter.h"
#include "binlog/format.h"
#include "binlog/pp.h"

_Static_assert(sizeof(void *) == 8, "binlog is for 64-bit programs");

#define BINLOG_SEG_LEN	65536u
#define BINLOG_NSEGS	2u
#define BINLOG_RING_LEN (BINLOG_SEG_LEN * BINLOG_NSEGS)
#define BINLOG_DYNAMIC	255 /* level of a site whose level is no constant */

/* How the format uses an argument: filled in when the site gets its number. */
enum binlog_use {
	BINLOG_USE_VALUE = 0,	/* as its type says; a char * is a whole string */
	BINLOG_USE_STR = 1,	/* %s with a precision, or with another pointer type */
	BINLOG_USE_POINTER = 2, /* a char * under %p */
	BINLOG_USE_WSTR = 3,	/* %ls */
	BINLOG_USE_WCHAR = 4,	/* %lc */
	BINLOG_USE_NOTHING = 5, /* %n */
};

struct binlog_arg {
	uint8_t type; /* enum binlog_type, perhaps + BINLOG_T_LITERAL: immutable */
	uint8_t use;  /* enum binlog_use */
	int16_t star; /* argument that holds the precision, -1: none */
	int32_t prec; /* precision of %s, -1: none */
	const void *literal;
};

struct binlog_info {
	const char *fmt; /* NULL: no literal */
	const char *file;
	const char *func;
	struct binlog_arg *args; /* in order of the call */
	uint32_t line;
	uint8_t level;
	uint8_t nargs;
};

/* 16 bytes, so that no compiler puts padding between two of them. */
struct binlog_site {
	uint32_t word; /* number << 12: upper half of a record word; 0: take the slow path */
	uint32_t number;
	const struct binlog_info *info; /* immutable */
};
_Static_assert(sizeof(struct binlog_site) == 16, "array stride of the section");

/* One per program or shared object: its part of the section. */
struct binlog_module {
	struct binlog_site *start;
	struct binlog_site *stop;
	uint32_t base;		    /* number of *start; 0: has none yet */
	uint32_t generation;	    /* of the log that holds its dictionary; 0: none */
	struct binlog_module *next; /* all modules that have numbers */
	bool gone;		    /* is being unloaded, or its program ends */
	uint32_t id_len;	    /* what it lies in: found once, and without a lock */
	const uint8_t *id;	    /* build-id */
	const char *name;	    /* NULL: not looked for yet */
};

extern struct binlog_site __start_binlog_sites[] __attribute__((weak, visibility("hidden")));
extern struct binlog_site __stop_binlog_sites[] __attribute__((weak, visibility("hidden")));

/* Weak and hidden: the linker leaves one per program or shared object. */
__attribute__((weak, visibility("hidden"))) struct binlog_module binlog_module = {
	__start_binlog_sites, __stop_binlog_sites, 0, 0, NULL, false, 0, NULL, NULL};

/* The library forgets @mod; what it still has to say takes the slow path. */
void binlog_module_gone(struct binlog_module *mod);

/* dlclose() takes the module away. Weak as above; each unit has it called, once is enough. */
void binlog_module_unload(void);
__attribute__((weak, visibility("hidden"), destructor)) void binlog_module_unload(void)
{
	binlog_module_gone(&binlog_module);
}

/* A page of its own per thread, wiped on fork. Only its thread writes the first group. */
struct binlog_thread {
	uint64_t pos;	 /* next free stream position */
	uint64_t limit;	 /* end of the open segment; 0: no ring */
	char *ring;	 /* data of position 0 of the ring */
	uint64_t anchor; /* ticks of the last EPOCH */
	uint64_t span;	 /* a tick this far from the anchor needs a new one */
};

#define BINLOG_DONE_OFFSET 64 /* before the ring's data: how far records are complete */

/* Points to a thread that is always full until the real one is attached. Never NULL. */
extern __thread struct binlog_thread *binlog_self __attribute__((tls_model("initial-exec")));

/* Highest level that is wanted anywhere, in the file or by the sink; -1: the log is off. */
extern int binlog_gate;

/* Text of errno in libc: a pointer into it is stored as the number. */
extern uintptr_t binlog_errno_low;
extern uintptr_t binlog_errno_len;

struct binlog_place {
	char *at;	/* NULL: lost, and counted */
	uint64_t *done; /* of the ring that holds it */
};

/* Not for callers; see ring.c and encode.c. */
struct binlog_place binlog_overrun(struct binlog_thread *t, uint64_t pos, uint64_t len)
	__attribute__((cold, noinline));
void binlog_epoch(struct binlog_thread *t) __attribute__((cold, noinline));
uint32_t binlog_errno_slot(const char *s) __attribute__((cold, noinline));
void binlog_slow(struct binlog_site *site, struct binlog_module *mod, int level, const char *fmt,
		 ...) __attribute__((cold, noinline));

#define BINLOG_INLINE	 static inline __attribute__((always_inline))
#define BINLOG_LOAD(v)	 __atomic_load_n(&(v), __ATOMIC_RELAXED)
#define BINLOG_BARRIER() __asm__ volatile("" : : : "memory")

#if defined(__SANITIZE_THREAD__)
#define BINLOG_TSAN
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define BINLOG_TSAN
#endif
#endif

/* Adds in a way a signal handler of this thread cannot get between; returns what was there. */
BINLOG_INLINE uint64_t binlog_take(uint64_t *v, uint64_t len)
{
#if defined(__x86_64__)
	__asm__ volatile("xaddq %0, %1" : "+r"(len), "+m"(*v) : : "cc", "memory");
	return len;
#else
	uint64_t old = __atomic_fetch_add(v, len, __ATOMIC_RELAXED);

	BINLOG_BARRIER();
	return old;
#endif
}

/*
 * As above, without the result, where being too small after a handler got between is allowed: then
 * the ring is not trusted to be complete (ring.c). Who reads it on another thread has seen this
 * one end, which orders everything; ThreadSanitizer does not know that and is shown an order.
 */
BINLOG_INLINE void binlog_done(uint64_t *v, uint64_t len)
{
#if defined(BINLOG_TSAN)
	__atomic_store_n(v, BINLOG_LOAD(*v) + len, __ATOMIC_RELEASE);
#elif defined(__x86_64__)
	__asm__ volatile("addq %1, %0" : "+m"(*v) : "r"(len) : "cc", "memory");
#else
	__atomic_store_n(v, BINLOG_LOAD(*v) + len, __ATOMIC_RELAXED);
#endif
}

BINLOG_INLINE struct binlog_place binlog_reserve(uint64_t len, uint64_t *ret_ticks)
{
	struct binlog_thread *t = binlog_self;
	uint64_t ticks = binlog_ticks();

	if (__builtin_expect(ticks - BINLOG_LOAD(t->anchor) >= BINLOG_LOAD(t->span), 0)) {
		binlog_epoch(t);
		t = binlog_self;
		ticks = binlog_ticks();
	}
	/* The order of these three matters: see ring.c. */
	uint64_t limit = BINLOG_LOAD(t->limit);
	char *ring = BINLOG_LOAD(t->ring);
	uint64_t pos = binlog_take(&t->pos, len);
	struct binlog_place place;

	if (__builtin_expect(limit - (pos + len) >= BINLOG_SEG_LEN, 0)) {
		place = binlog_overrun(t, pos, len);
		ticks = binlog_ticks();
		if (!place.at)
			return place;
	} else {
		place.at = ring + (pos & (BINLOG_RING_LEN - 1));
		place.done = (uint64_t *)(void *)(ring - BINLOG_DONE_OFFSET);
	}
	*ret_ticks = ticks;
	__atomic_store_n((uint64_t *)(void *)place.at,
			 binlog_le64((uint64_t)BINLOG_R_PENDING << BINLOG_SITE_SHIFT |
				     len / 8 << BINLOG_LEN_SHIFT),
			 __ATOMIC_RELAXED);
	BINLOG_BARRIER();
	return place;
}

/* @word: upper half of the record word, length included. */
BINLOG_INLINE void binlog_commit(struct binlog_place place, uint32_t word, uint64_t ticks,
				 uint64_t len)
{
	__atomic_store_n((uint64_t *)(void *)place.at,
			 binlog_le64((uint64_t)word << 32 | (uint32_t)ticks), __ATOMIC_RELEASE);
	BINLOG_BARRIER();
	binlog_done(place.done, len);
}

BINLOG_INLINE uint32_t binlog_slot(const char *s)
{
	size_t len;

	if (!s)
		return BINLOG_STR_NULL;
	if ((uintptr_t)s - binlog_errno_low < binlog_errno_len)
		return binlog_errno_slot(s);
	len = strlen(s);
	return len < BINLOG_STR_SPECIAL ? (uint32_t)len : BINLOG_STR_SPECIAL - 1;
}

BINLOG_INLINE uint32_t binlog_slot_len(uint32_t slot)
{
	return slot & BINLOG_STR_SPECIAL ? 0 : slot;
}

BINLOG_INLINE char *binlog_put4(char *p, uint32_t v)
{
	v = binlog_le32(v);
	memcpy(p, &v, 4);
	return p + 4;
}

BINLOG_INLINE char *binlog_put8(char *p, uint64_t v)
{
	v = binlog_le64(v);
	memcpy(p, &v, 8);
	return p + 8;
}

BINLOG_INLINE char *binlog_put_double(char *p, double v)
{
	uint64_t u;

	memcpy(&u, &v, 8);
	return binlog_put8(p, u);
}

__extension__ typedef __int128 binlog_i128;
__extension__ typedef unsigned __int128 binlog_u128;

BINLOG_INLINE char *binlog_put16(char *p, binlog_u128 v)
{
	return binlog_put8(binlog_put8(p, (uint64_t)v), (uint64_t)(v >> 64));
}

/* 16 bytes, as BINLOG.md section 5.2 says. */
BINLOG_INLINE char *binlog_put_ldouble(char *p, long double v)
{
	uint64_t u[2] = {0, 0};

	memcpy(u, &v, sizeof(v));
#if __LDBL_MANT_DIG__ == 64
	u[1] &= 0xffff; /* the padding of a long double is whatever was there */
#elif __LDBL_MANT_DIG__ == 113 && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	uint64_t high = u[0];

	u[0] = u[1];
	u[1] = high;
#endif
	return binlog_put8(binlog_put8(p, u[0]), u[1]);
}

BINLOG_INLINE char *binlog_copy(char *p, const char *s, uint32_t len)
{
	/* A NULL never gets here; the compiler, who may see the NULL, must not warn of it. */
	__asm__("" : "+r"(s));
	memcpy(p, s, len);
	return p + len;
}

/* --- what the C type of an argument says, all constants --------------------------------------- */

/*
 * The selection types: after 1 ? (x) : (x) bit-fields, bool, char, short and enums are int or
 * unsigned, arrays and functions are pointers. What is left in `default` are pointers, and gcc's
 * bit-fields of more than 32 bits, which have a type no _Generic can name.
 */
#ifdef __clang__
#define BINLOG_TYPE_OTHER(a) BINLOG_T_PTR
#else
#define BINLOG_TYPE_OTHER(a)                                   \
	__builtin_choose_expr(                                 \
		__builtin_classify_type(a) == 5, BINLOG_T_PTR, \
		((__typeof__(a))-1 < (__typeof__(a))1 ? BINLOG_T_I64 : BINLOG_T_U64))
#endif

/* clang-format off */
#define BINLOG_TYPE(a)                                                                             \
	_Generic((a),                                                                              \
		int: BINLOG_T_I32, unsigned: BINLOG_T_U32,                                         \
		long: BINLOG_T_I64, unsigned long: BINLOG_T_U64,                                   \
		long long: BINLOG_T_I64, unsigned long long: BINLOG_T_U64,                         \
		binlog_i128: BINLOG_T_I128, binlog_u128: BINLOG_T_U128,                         \
		float: BINLOG_T_F64, double: BINLOG_T_F64, long double: BINLOG_T_LDBL,             \
		char *: BINLOG_T_STR, const char *: BINLOG_T_STR,                                  \
		default: BINLOG_TYPE_OTHER(a))

#define BINLOG_CAN_BE_LITERAL(a)                                                                   \
	_Generic((a),                                                                              \
		int: 1, unsigned: 1, long: 1, unsigned long: 1, long long: 1,                      \
		unsigned long long: 1, char *: 1, const char *: 1, default: 0)

#define BINLOG_IS_COUNTER(a)                                                                       \
	_Generic((a),                                                                              \
		int *: 1, unsigned *: 1, short *: 1, unsigned short *: 1, signed char *: 1,        \
		long *: 1, unsigned long *: 1, long long *: 1, unsigned long long *: 1, default: 0)

#define BINLOG_AS_STR(a)     _Generic((a), char *: (a), const char *: (a), default: (const char *)"")
#define BINLOG_AS_DOUBLE(a)  _Generic((a), float: (a), double: (a), default: 0.0)
#define BINLOG_AS_LDOUBLE(a) _Generic((a), long double: (a), default: 0.0L)
#define BINLOG_AS_INT128(a)  _Generic((a), binlog_i128: (a), binlog_u128: (a), default: 0)
#define BINLOG_AS_WORD(a)    ((uint64_t)(uintptr_t)_Generic((a),                                   \
					float: 0, double: 0, long double: 0, default: (a)))
/* clang-format on */

#define BINLOG_FIELD_LEN(type)                                                                \
	((type)&BINLOG_T_LITERAL							 ? 0  \
	 : (type) <= BINLOG_T_U32 || (type) >= BINLOG_T_STR				 ? 4  \
	 : (type) == BINLOG_T_I128 || (type) == BINLOG_T_U128 || (type) == BINLOG_T_LDBL ? 16 \
											 : 8)

/* --- the maps over the arguments; n counts down ----------------------------------------------- */

/* The cast keeps gcc from finding that two enums are compared. */
#define BINLOG_TYPE_OF(n) ((int)binlog_t##n)

/*
 * Decided by the front end in one place, so that dictionary and record cannot disagree. By no
 * typeof, which would evaluate what has a type of variable length: p++ with int (*p)[n].
 */
#define BINLOG_M_DECLARE(n, x)                                                         \
	__auto_type binlog_a##n = 1 ? (x) : (x);                                       \
	enum {                                                                         \
		binlog_t##n = BINLOG_TYPE(binlog_a##n) |                               \
			      (__builtin_choose_expr(__builtin_constant_p(x), 1, 0) && \
					       BINLOG_CAN_BE_LITERAL(binlog_a##n)      \
				       ? BINLOG_T_LITERAL                              \
				       : 0)                                            \
	};

/* clang-format off */
#define BINLOG_M_ARG(n, x)                                                                         \
	{binlog_t##n, 0, -1, -1,                                                                   \
	 __builtin_choose_expr(BINLOG_TYPE_OF(n) & BINLOG_T_LITERAL,                                     \
			       _Generic(binlog_a##n,                                               \
					char *: (x), const char *: (x), default: (const void *)    \
					(uintptr_t)_Generic(binlog_a##n,                           \
						float: 0, double: 0, long double: 0, default: (x))), \
			       (const void *)0)}
/* clang-format on */

#define BINLOG_M_LEN(n, x)   +BINLOG_FIELD_LEN(BINLOG_TYPE_OF(n))
#define BINLOG_M_TEXT(n, x)  || BINLOG_TYPE_OF(n) == BINLOG_T_STR
#define BINLOG_M_VALUE(n, x) binlog_a##n

#define BINLOG_M_SLOT(n, x) uint32_t binlog_s##n = 0;

#define BINLOG_M_MEASURE(n, x)                                         \
	if (BINLOG_TYPE_OF(n) == BINLOG_T_STR) {                       \
		binlog_s##n = binlog_slot(BINLOG_AS_STR(binlog_a##n)); \
		binlog_len += binlog_slot_len(binlog_s##n);            \
	}

#define BINLOG_M_STORE(n, x)                                                                   \
	if (BINLOG_TYPE_OF(n) & BINLOG_T_LITERAL)                                              \
		;                                                                              \
	else if (BINLOG_TYPE_OF(n) == BINLOG_T_STR)                                            \
		binlog_p = binlog_put4(binlog_p, binlog_s##n);                                 \
	else if (BINLOG_TYPE_OF(n) == BINLOG_T_F64)                                            \
		binlog_p = binlog_put_double(binlog_p, BINLOG_AS_DOUBLE(binlog_a##n));         \
	else if (BINLOG_TYPE_OF(n) == BINLOG_T_LDBL)                                           \
		binlog_p = binlog_put_ldouble(binlog_p, BINLOG_AS_LDOUBLE(binlog_a##n));       \
	else if (BINLOG_FIELD_LEN(BINLOG_TYPE_OF(n)) == 16)                                    \
		binlog_p = binlog_put16(binlog_p, (binlog_u128)BINLOG_AS_INT128(binlog_a##n)); \
	else if (BINLOG_FIELD_LEN(BINLOG_TYPE_OF(n)) == 4)                                     \
		binlog_p = binlog_put4(binlog_p, (uint32_t)BINLOG_AS_WORD(binlog_a##n));       \
	else                                                                                   \
		binlog_p = binlog_put8(binlog_p, BINLOG_AS_WORD(binlog_a##n));

#define BINLOG_M_COPY(n, x)                                                    \
	if (BINLOG_TYPE_OF(n) == BINLOG_T_STR && binlog_slot_len(binlog_s##n)) \
		binlog_p = binlog_copy(binlog_p, BINLOG_AS_STR(binlog_a##n),   \
				       binlog_slot_len(binlog_s##n));

#define BINLOG_M_COUNTER(n, x) || BINLOG_IS_COUNTER(binlog_a##n)

/* --- what the compiler checks ----------------------------------------------------------------- */

/* An __int128 goes under ll: printf has no modifier for it. */
#define BINLOG_M_CHECK(n, x)                             \
	__builtin_choose_expr(                           \
		BINLOG_TYPE_OF(n) == BINLOG_T_I128, 0ll, \
		__builtin_choose_expr(BINLOG_TYPE_OF(n) == BINLOG_T_U128, 0ull, (x)))

__attribute__((format(printf, 1, 2))) static inline void binlog_check_format(const char *fmt, ...)
{
	(void)fmt;
}

#ifdef __clang__
/* clang refuses %n in this format family, as an error. */
__attribute__((format(os_log, 1, 2))) static inline void binlog_refuse_n(const char *fmt, ...)
{
	(void)fmt;
}
#define BINLOG_REFUSE_N(n, fmt, ...) \
	binlog_refuse_n(fmt BINLOG_PP_LIST(n, BINLOG_M_CHECK, __VA_ARGS__))
#else
#define BINLOG_REFUSE_N(n, fmt, ...)                                                              \
	_Static_assert(!((0 BINLOG_PP_MAP(n, BINLOG_M_COUNTER, __VA_ARGS__)) &&                   \
			 __builtin_choose_expr(__builtin_constant_p(fmt), BINLOG_HAS_N(fmt), 0)), \
		       "%n is not for a log; if this is %%n, cast the pointer to void *")
#define BINLOG_HAS_N(fmt)                                                           \
	(__builtin_strstr(fmt, "%n") != 0 || __builtin_strstr(fmt, "%hn") != 0 ||   \
	 __builtin_strstr(fmt, "%hhn") != 0 || __builtin_strstr(fmt, "%ln") != 0 || \
	 __builtin_strstr(fmt, "%lln") != 0 || __builtin_strstr(fmt, "%jn") != 0 || \
	 __builtin_strstr(fmt, "%zn") != 0 || __builtin_strstr(fmt, "%tn") != 0)
#endif

/* --- the call --------------------------------------------------------------------------------- */

#define BINLOG_CALL(lv, ...) BINLOG_CALL_COUNTED(BINLOG_PP_COUNT(__VA_ARGS__), lv, __VA_ARGS__)
#define BINLOG_CALL_COUNTED(n, lv, ...)                       \
	BINLOG_PP_CAT(BINLOG_CALL_, BINLOG_PP_FEW_OR_MANY(n)) \
	(n, lv, BINLOG_PP_FIRST(__VA_ARGS__), __VA_ARGS__)

/* The arguments are used and checked, so that the compiler has nothing else to say. */
#define BINLOG_CALL_binlog_many(n, lv, format, ...)                                           \
	(__extension__({                                                                      \
		_Static_assert(0, "a log call takes at most 32 arguments behind its format"); \
		(void)(lv);                                                                   \
		binlog_check_format(__VA_ARGS__);                                             \
	}))

/*
 * @n arguments, the format among @... as well. __extension__: -pedantic need not look in here. And
 * -Wshadow has nothing to say when one of @... is a call as well: its names are its own.
 */
#define BINLOG_CALL_binlog_few(n, lv, format, ...)                                                 \
	(__extension__({                                                                           \
		_Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wshadow\"")      \
			const int binlog_lv = (lv);                                                \
		const char *const binlog_f = (format);                                             \
		BINLOG_PP_MAP(n, BINLOG_M_DECLARE, __VA_ARGS__)                                    \
		BINLOG_CHECK(n, format, __VA_ARGS__);                                              \
		static struct binlog_arg binlog_args[] = {                                         \
			{0, 0, 0, 0, NULL} BINLOG_PP_LIST(n, BINLOG_M_ARG, __VA_ARGS__)};          \
		static const struct binlog_info binlog_i = {                                       \
			__builtin_choose_expr(__builtin_constant_p(format), (format),              \
					      (const char *)0),                                    \
			__FILE__,                                                                  \
			__func__,                                                                  \
			binlog_args + 1,                                                           \
			__LINE__,                                                                  \
			__builtin_choose_expr(__builtin_constant_p(lv), (lv), BINLOG_DYNAMIC),     \
			n};                                                                        \
		static struct binlog_site binlog_site                                              \
			__attribute__((section("binlog_sites"), aligned(16))) = {0, 0, &binlog_i}; \
		if (__builtin_expect(binlog_lv <= __atomic_load_n(&binlog_gate, __ATOMIC_RELAXED), \
				     1)) {                                                         \
			const uint32_t binlog_word =                                               \
				__atomic_load_n(&binlog_site.word, __ATOMIC_RELAXED);              \
			uint64_t binlog_len = 8 BINLOG_PP_MAP(n, BINLOG_M_LEN, __VA_ARGS__);       \
			bool binlog_slowly = __builtin_expect(!binlog_word, 0);                    \
			BINLOG_PP_MAP(n, BINLOG_M_SLOT, __VA_ARGS__)                               \
			if (!binlog_slowly) {                                                      \
				BINLOG_PP_MAP(n, BINLOG_M_MEASURE, __VA_ARGS__)                    \
				binlog_len = (binlog_len + 7) & ~7ull;                             \
				binlog_slowly =                                                    \
					(0 BINLOG_PP_MAP(n, BINLOG_M_TEXT, __VA_ARGS__)) &&        \
					__builtin_expect(binlog_len > BINLOG_RECORD_MAX, 0);       \
			}                                                                          \
			if (__builtin_expect(!binlog_slowly, 1)) {                                 \
				uint64_t binlog_now;                                               \
				struct binlog_place binlog_at =                                    \
					binlog_reserve(binlog_len, &binlog_now);                   \
				if (__builtin_expect(!!binlog_at.at, 1)) {                         \
					char *binlog_p = binlog_at.at + 8;                         \
					BINLOG_PP_MAP(n, BINLOG_M_STORE, __VA_ARGS__)              \
					BINLOG_PP_MAP(n, BINLOG_M_COPY, __VA_ARGS__)               \
					(void)binlog_p;                                            \
					binlog_commit(binlog_at,                                   \
						      binlog_word + (uint32_t)(binlog_len / 8),    \
						      binlog_now, binlog_len);                     \
				}                                                                  \
			} else {                                                                   \
				binlog_slow(                                                       \
					&binlog_site, &binlog_module, binlog_lv,                   \
					binlog_f BINLOG_PP_LIST(n, BINLOG_M_VALUE, __VA_ARGS__));  \
			}                                                                          \
		}                                                                                  \
		(void)binlog_f;                                                                    \
		_Pragma("GCC diagnostic pop")                                                      \
	}))

#define BINLOG_CHECK(n, format, ...)                                                    \
	do {                                                                            \
		if (0) {                                                                \
			binlog_check_format(                                            \
				format BINLOG_PP_LIST(n, BINLOG_M_CHECK, __VA_ARGS__)); \
			BINLOG_REFUSE_N(n, format, __VA_ARGS__);                        \
		}                                                                       \
	} while (0)

#endif
