/* SPDX-License-Identifier: MIT */
/*
 * Counts the arguments of a macro and maps a macro over them: 0 to 32 of them.
 *
 *	BINLOG_PP_COUNT(a, b, c)	3
 *	BINLOG_PP_MAP(m, a, b, c)	m(3, a) m(2, b) m(1, c)
 *	BINLOG_PP_LIST(m, a, b, c)	, m(3, a), m(2, b), m(1, c)
 *
 * The number counts down, so that it names an argument the same way in every map of one call. With
 * no argument a map is empty. More than 32 arguments do not compile: BINLOG_PP_TOO_MANY appears.
 */
#ifndef BINLOG_PP_H
#define BINLOG_PP_H

#include <assert.h>

#define BINLOG_PP_MAX 32

#define BINLOG_PP_COUNT(...)                                                                       \
	BINLOG_PP_COUNT_(0, ##__VA_ARGS__, TOO_MANY, TOO_MANY, TOO_MANY, TOO_MANY, TOO_MANY,       \
			 TOO_MANY, TOO_MANY, TOO_MANY, 32, 31, 30, 29, 28, 27, 26, 25, 24, 23, 22, \
			 21, 20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2,   \
			 1, 0)
#define BINLOG_PP_COUNT_(z, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, \
			 a16, a17, a18, a19, a20, a21, a22, a23, a24, a25, a26, a27, a28, a29,    \
			 a30, a31, a32, a33, a34, a35, a36, a37, a38, a39, n, ...)                \
	n

#define BINLOG_PP_CAT(a, b)  BINLOG_PP_CAT_(a, b)
#define BINLOG_PP_CAT_(a, b) a##b

#define BINLOG_PP_MAP(m, ...) \
	BINLOG_PP_CAT(BINLOG_PP_MAP_, BINLOG_PP_COUNT(__VA_ARGS__))(m, ##__VA_ARGS__)
#define BINLOG_PP_LIST(m, ...) \
	BINLOG_PP_CAT(BINLOG_PP_LIST_, BINLOG_PP_COUNT(__VA_ARGS__))(m, ##__VA_ARGS__)

/* clang-format off */
#define BINLOG_PP_MAP_0(m)
#define BINLOG_PP_MAP_1(m, a) m(1, a)
#define BINLOG_PP_MAP_2(m, a, ...) m(2, a) BINLOG_PP_MAP_1(m, __VA_ARGS__)
#define BINLOG_PP_MAP_3(m, a, ...) m(3, a) BINLOG_PP_MAP_2(m, __VA_ARGS__)
#define BINLOG_PP_MAP_4(m, a, ...) m(4, a) BINLOG_PP_MAP_3(m, __VA_ARGS__)
#define BINLOG_PP_MAP_5(m, a, ...) m(5, a) BINLOG_PP_MAP_4(m, __VA_ARGS__)
#define BINLOG_PP_MAP_6(m, a, ...) m(6, a) BINLOG_PP_MAP_5(m, __VA_ARGS__)
#define BINLOG_PP_MAP_7(m, a, ...) m(7, a) BINLOG_PP_MAP_6(m, __VA_ARGS__)
#define BINLOG_PP_MAP_8(m, a, ...) m(8, a) BINLOG_PP_MAP_7(m, __VA_ARGS__)
#define BINLOG_PP_MAP_9(m, a, ...) m(9, a) BINLOG_PP_MAP_8(m, __VA_ARGS__)
#define BINLOG_PP_MAP_10(m, a, ...) m(10, a) BINLOG_PP_MAP_9(m, __VA_ARGS__)
#define BINLOG_PP_MAP_11(m, a, ...) m(11, a) BINLOG_PP_MAP_10(m, __VA_ARGS__)
#define BINLOG_PP_MAP_12(m, a, ...) m(12, a) BINLOG_PP_MAP_11(m, __VA_ARGS__)
#define BINLOG_PP_MAP_13(m, a, ...) m(13, a) BINLOG_PP_MAP_12(m, __VA_ARGS__)
#define BINLOG_PP_MAP_14(m, a, ...) m(14, a) BINLOG_PP_MAP_13(m, __VA_ARGS__)
#define BINLOG_PP_MAP_15(m, a, ...) m(15, a) BINLOG_PP_MAP_14(m, __VA_ARGS__)
#define BINLOG_PP_MAP_16(m, a, ...) m(16, a) BINLOG_PP_MAP_15(m, __VA_ARGS__)
#define BINLOG_PP_MAP_17(m, a, ...) m(17, a) BINLOG_PP_MAP_16(m, __VA_ARGS__)
#define BINLOG_PP_MAP_18(m, a, ...) m(18, a) BINLOG_PP_MAP_17(m, __VA_ARGS__)
#define BINLOG_PP_MAP_19(m, a, ...) m(19, a) BINLOG_PP_MAP_18(m, __VA_ARGS__)
#define BINLOG_PP_MAP_20(m, a, ...) m(20, a) BINLOG_PP_MAP_19(m, __VA_ARGS__)
#define BINLOG_PP_MAP_21(m, a, ...) m(21, a) BINLOG_PP_MAP_20(m, __VA_ARGS__)
#define BINLOG_PP_MAP_22(m, a, ...) m(22, a) BINLOG_PP_MAP_21(m, __VA_ARGS__)
#define BINLOG_PP_MAP_23(m, a, ...) m(23, a) BINLOG_PP_MAP_22(m, __VA_ARGS__)
#define BINLOG_PP_MAP_24(m, a, ...) m(24, a) BINLOG_PP_MAP_23(m, __VA_ARGS__)
#define BINLOG_PP_MAP_25(m, a, ...) m(25, a) BINLOG_PP_MAP_24(m, __VA_ARGS__)
#define BINLOG_PP_MAP_26(m, a, ...) m(26, a) BINLOG_PP_MAP_25(m, __VA_ARGS__)
#define BINLOG_PP_MAP_27(m, a, ...) m(27, a) BINLOG_PP_MAP_26(m, __VA_ARGS__)
#define BINLOG_PP_MAP_28(m, a, ...) m(28, a) BINLOG_PP_MAP_27(m, __VA_ARGS__)
#define BINLOG_PP_MAP_29(m, a, ...) m(29, a) BINLOG_PP_MAP_28(m, __VA_ARGS__)
#define BINLOG_PP_MAP_30(m, a, ...) m(30, a) BINLOG_PP_MAP_29(m, __VA_ARGS__)
#define BINLOG_PP_MAP_31(m, a, ...) m(31, a) BINLOG_PP_MAP_30(m, __VA_ARGS__)
#define BINLOG_PP_MAP_32(m, a, ...) m(32, a) BINLOG_PP_MAP_31(m, __VA_ARGS__)
#define BINLOG_PP_LIST_0(m)
#define BINLOG_PP_LIST_1(m, a) , m(1, a)
#define BINLOG_PP_LIST_2(m, a, ...) , m(2, a) BINLOG_PP_LIST_1(m, __VA_ARGS__)
#define BINLOG_PP_LIST_3(m, a, ...) , m(3, a) BINLOG_PP_LIST_2(m, __VA_ARGS__)
#define BINLOG_PP_LIST_4(m, a, ...) , m(4, a) BINLOG_PP_LIST_3(m, __VA_ARGS__)
#define BINLOG_PP_LIST_5(m, a, ...) , m(5, a) BINLOG_PP_LIST_4(m, __VA_ARGS__)
#define BINLOG_PP_LIST_6(m, a, ...) , m(6, a) BINLOG_PP_LIST_5(m, __VA_ARGS__)
#define BINLOG_PP_LIST_7(m, a, ...) , m(7, a) BINLOG_PP_LIST_6(m, __VA_ARGS__)
#define BINLOG_PP_LIST_8(m, a, ...) , m(8, a) BINLOG_PP_LIST_7(m, __VA_ARGS__)
#define BINLOG_PP_LIST_9(m, a, ...) , m(9, a) BINLOG_PP_LIST_8(m, __VA_ARGS__)
#define BINLOG_PP_LIST_10(m, a, ...) , m(10, a) BINLOG_PP_LIST_9(m, __VA_ARGS__)
#define BINLOG_PP_LIST_11(m, a, ...) , m(11, a) BINLOG_PP_LIST_10(m, __VA_ARGS__)
#define BINLOG_PP_LIST_12(m, a, ...) , m(12, a) BINLOG_PP_LIST_11(m, __VA_ARGS__)
#define BINLOG_PP_LIST_13(m, a, ...) , m(13, a) BINLOG_PP_LIST_12(m, __VA_ARGS__)
#define BINLOG_PP_LIST_14(m, a, ...) , m(14, a) BINLOG_PP_LIST_13(m, __VA_ARGS__)
#define BINLOG_PP_LIST_15(m, a, ...) , m(15, a) BINLOG_PP_LIST_14(m, __VA_ARGS__)
#define BINLOG_PP_LIST_16(m, a, ...) , m(16, a) BINLOG_PP_LIST_15(m, __VA_ARGS__)
#define BINLOG_PP_LIST_17(m, a, ...) , m(17, a) BINLOG_PP_LIST_16(m, __VA_ARGS__)
#define BINLOG_PP_LIST_18(m, a, ...) , m(18, a) BINLOG_PP_LIST_17(m, __VA_ARGS__)
#define BINLOG_PP_LIST_19(m, a, ...) , m(19, a) BINLOG_PP_LIST_18(m, __VA_ARGS__)
#define BINLOG_PP_LIST_20(m, a, ...) , m(20, a) BINLOG_PP_LIST_19(m, __VA_ARGS__)
#define BINLOG_PP_LIST_21(m, a, ...) , m(21, a) BINLOG_PP_LIST_20(m, __VA_ARGS__)
#define BINLOG_PP_LIST_22(m, a, ...) , m(22, a) BINLOG_PP_LIST_21(m, __VA_ARGS__)
#define BINLOG_PP_LIST_23(m, a, ...) , m(23, a) BINLOG_PP_LIST_22(m, __VA_ARGS__)
#define BINLOG_PP_LIST_24(m, a, ...) , m(24, a) BINLOG_PP_LIST_23(m, __VA_ARGS__)
#define BINLOG_PP_LIST_25(m, a, ...) , m(25, a) BINLOG_PP_LIST_24(m, __VA_ARGS__)
#define BINLOG_PP_LIST_26(m, a, ...) , m(26, a) BINLOG_PP_LIST_25(m, __VA_ARGS__)
#define BINLOG_PP_LIST_27(m, a, ...) , m(27, a) BINLOG_PP_LIST_26(m, __VA_ARGS__)
#define BINLOG_PP_LIST_28(m, a, ...) , m(28, a) BINLOG_PP_LIST_27(m, __VA_ARGS__)
#define BINLOG_PP_LIST_29(m, a, ...) , m(29, a) BINLOG_PP_LIST_28(m, __VA_ARGS__)
#define BINLOG_PP_LIST_30(m, a, ...) , m(30, a) BINLOG_PP_LIST_29(m, __VA_ARGS__)
#define BINLOG_PP_LIST_31(m, a, ...) , m(31, a) BINLOG_PP_LIST_30(m, __VA_ARGS__)
#define BINLOG_PP_LIST_32(m, a, ...) , m(32, a) BINLOG_PP_LIST_31(m, __VA_ARGS__)
/* clang-format on */

#define BINLOG_PP_TEST_(n, a)	   +(n)*100 + (a)
#define BINLOG_PP_TEST_LIST_(n, a) (n) * 10 + (a)
static_assert(BINLOG_PP_COUNT() == 0, "no argument");
static_assert(BINLOG_PP_COUNT(a) == 1, "one argument");
static_assert(BINLOG_PP_COUNT((a, b), c) == 2, "a comma in parentheses does not count");
static_assert(BINLOG_PP_COUNT(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20,
			      21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32) == 32,
	      "as many as there may be");
static_assert(0 BINLOG_PP_MAP(BINLOG_PP_TEST_) == 0, "nothing to map");
static_assert(0 BINLOG_PP_MAP(BINLOG_PP_TEST_, 1, 2, 3) == 606, "the number counts down");
static_assert(0 BINLOG_PP_MAP(BINLOG_PP_TEST_, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
			      1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1) == 52832,
	      "all 32 are mapped");
static_assert(sizeof((char[]){0 BINLOG_PP_LIST(BINLOG_PP_TEST_LIST_, 1, 2, 3)}) == 4, "a list");

#endif
