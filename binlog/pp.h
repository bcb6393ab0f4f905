/* SPDX-License-Identifier: MIT */
/*
 * Counts the arguments of a log call and maps a macro over them: 0 to 32 behind the format.
 *
 *	BINLOG_PP_COUNT(f, a, b, c)		3
 *	BINLOG_PP_MAP(3, m, f, a, b, c)		m(3, a) m(2, b) m(1, c)
 *	BINLOG_PP_LIST(3, m, f, a, b, c)	, m(3, a), m(2, b), m(1, c)
 *	BINLOG_PP_FIRST(f, a, b, c)		f
 *	BINLOG_PP_REST(f, a, b, c)		, a, b, c
 *
 * The number counts down, so that it names an argument the same way in every map of one call. With
 * nothing behind the format a map, a list and a rest are empty. The format is there in all of them
 * because ISO C wants an argument for each "...", and has no way to take a comma back.
 *
 * From 33 to 126 arguments the count is binlog_too_many, for which BINLOG_PP_FEW_OR_MANY() asks.
 */
#ifndef BINLOG_PP_H
#define BINLOG_PP_H

#define BINLOG_PP_MAX 32

#define BINLOG_PP_COUNT(...)                                                                     \
	BINLOG_PP_COUNT_(__VA_ARGS__, binlog_too_many, binlog_too_many, binlog_too_many,         \
			 binlog_too_many, binlog_too_many, binlog_too_many, binlog_too_many,     \
			 binlog_too_many, binlog_too_many, binlog_too_many, binlog_too_many,     \
			 binlog_too_many, binlog_too_many, binlog_too_many, binlog_too_many,     \
			 binlog_too_many, binlog_too_many, binlog_too_many, binlog_too_many,     \
			 binlog_too_many, binlog_too_many, binlog_too_many, binlog_too_many,     \
			 binlog_too_many, binlog_too_many, binlog_too_many, binlog_too_many,     \
			 binlog_too_many, binlog_too_many, binlog_too_many, binlog_too_many,     \
			 binlog_too_many, binlog_too_many, binlog_too_many, binlog_too_many,     \
			 binlog_too_many, binlog_too_many, binlog_too_many, binlog_too_many,     \
			 binlog_too_many, binlog_too_many, binlog_too_many, binlog_too_many,     \
			 binlog_too_many, binlog_too_many, binlog_too_many, binlog_too_many,     \
			 binlog_too_many, binlog_too_many, binlog_too_many, binlog_too_many,     \
			 binlog_too_many, binlog_too_many, binlog_too_many, binlog_too_many,     \
			 binlog_too_many, binlog_too_many, binlog_too_many, binlog_too_many,     \
			 binlog_too_many, binlog_too_many, binlog_too_many, binlog_too_many,     \
			 binlog_too_many, binlog_too_many, binlog_too_many, binlog_too_many,     \
			 binlog_too_many, binlog_too_many, binlog_too_many, binlog_too_many,     \
			 binlog_too_many, binlog_too_many, binlog_too_many, binlog_too_many,     \
			 binlog_too_many, binlog_too_many, binlog_too_many, binlog_too_many,     \
			 binlog_too_many, binlog_too_many, binlog_too_many, binlog_too_many,     \
			 binlog_too_many, binlog_too_many, binlog_too_many, binlog_too_many,     \
			 binlog_too_many, binlog_too_many, binlog_too_many, binlog_too_many,     \
			 binlog_too_many, binlog_too_many, binlog_too_many, 32, 31, 30, 29, 28,  \
			 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, \
			 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, ~)
#define BINLOG_PP_COUNT_(                                                                         \
	f, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17, a18,   \
	a19, a20, a21, a22, a23, a24, a25, a26, a27, a28, a29, a30, a31, a32, a33, a34, a35, a36, \
	a37, a38, a39, a40, a41, a42, a43, a44, a45, a46, a47, a48, a49, a50, a51, a52, a53, a54, \
	a55, a56, a57, a58, a59, a60, a61, a62, a63, a64, a65, a66, a67, a68, a69, a70, a71, a72, \
	a73, a74, a75, a76, a77, a78, a79, a80, a81, a82, a83, a84, a85, a86, a87, a88, a89, a90, \
	a91, a92, a93, a94, a95, a96, a97, a98, a99, a100, a101, a102, a103, a104, a105, a106,    \
	a107, a108, a109, a110, a111, a112, a113, a114, a115, a116, a117, a118, a119, a120, a121, \
	a122, a123, a124, a125, n, ...)                                                           \
	n

#define BINLOG_PP_FIRST(...)	     BINLOG_PP_FIRST_(__VA_ARGS__, ~)
#define BINLOG_PP_FIRST_(f, ...)     f
#define BINLOG_PP_SECOND(...)	     BINLOG_PP_SECOND_(__VA_ARGS__)
#define BINLOG_PP_SECOND_(a, b, ...) b

#define BINLOG_PP_CAT(a, b)  BINLOG_PP_CAT_(a, b)
#define BINLOG_PP_CAT_(a, b) a##b

/* binlog_few or binlog_many, of a count. */
#define BINLOG_PP_FEW_OR_MANY(n)     BINLOG_PP_SECOND(BINLOG_PP_CAT(BINLOG_PP_IS_, n), binlog_few, ~)
#define BINLOG_PP_IS_binlog_too_many ~, binlog_many

#define BINLOG_PP_MAP(n, m, ...)  BINLOG_PP_CAT(BINLOG_PP_MAP_, n)(m, __VA_ARGS__)
#define BINLOG_PP_LIST(n, m, ...) BINLOG_PP_CAT(BINLOG_PP_LIST_, n)(m, __VA_ARGS__)

/* However many. */
#define BINLOG_PP_REST(...)                                                                  \
	BINLOG_PP_CAT(BINLOG_PP_REST_, BINLOG_PP_SOME_OR_NONE(BINLOG_PP_COUNT(__VA_ARGS__))) \
	(__VA_ARGS__)
#define BINLOG_PP_REST_binlog_some(f, ...) , __VA_ARGS__
#define BINLOG_PP_REST_binlog_none(f)
#define BINLOG_PP_SOME_OR_NONE(n) \
	BINLOG_PP_SECOND(BINLOG_PP_CAT(BINLOG_PP_NONE_, n), binlog_some, ~)
#define BINLOG_PP_NONE_0 ~, binlog_none

/* clang-format off */
#define BINLOG_PP_MAP_0(m, f)
#define BINLOG_PP_MAP_1(m, f, a) m(1, a)
#define BINLOG_PP_MAP_2(m, f, a, ...) m(2, a) BINLOG_PP_MAP_1(m, f, __VA_ARGS__)
#define BINLOG_PP_MAP_3(m, f, a, ...) m(3, a) BINLOG_PP_MAP_2(m, f, __VA_ARGS__)
#define BINLOG_PP_MAP_4(m, f, a, ...) m(4, a) BINLOG_PP_MAP_3(m, f, __VA_ARGS__)
#define BINLOG_PP_MAP_5(m, f, a, ...) m(5, a) BINLOG_PP_MAP_4(m, f, __VA_ARGS__)
#define BINLOG_PP_MAP_6(m, f, a, ...) m(6, a) BINLOG_PP_MAP_5(m, f, __VA_ARGS__)
#define BINLOG_PP_MAP_7(m, f, a, ...) m(7, a) BINLOG_PP_MAP_6(m, f, __VA_ARGS__)
#define BINLOG_PP_MAP_8(m, f, a, ...) m(8, a) BINLOG_PP_MAP_7(m, f, __VA_ARGS__)
#define BINLOG_PP_MAP_9(m, f, a, ...) m(9, a) BINLOG_PP_MAP_8(m, f, __VA_ARGS__)
#define BINLOG_PP_MAP_10(m, f, a, ...) m(10, a) BINLOG_PP_MAP_9(m, f, __VA_ARGS__)
#define BINLOG_PP_MAP_11(m, f, a, ...) m(11, a) BINLOG_PP_MAP_10(m, f, __VA_ARGS__)
#define BINLOG_PP_MAP_12(m, f, a, ...) m(12, a) BINLOG_PP_MAP_11(m, f, __VA_ARGS__)
#define BINLOG_PP_MAP_13(m, f, a, ...) m(13, a) BINLOG_PP_MAP_12(m, f, __VA_ARGS__)
#define BINLOG_PP_MAP_14(m, f, a, ...) m(14, a) BINLOG_PP_MAP_13(m, f, __VA_ARGS__)
#define BINLOG_PP_MAP_15(m, f, a, ...) m(15, a) BINLOG_PP_MAP_14(m, f, __VA_ARGS__)
#define BINLOG_PP_MAP_16(m, f, a, ...) m(16, a) BINLOG_PP_MAP_15(m, f, __VA_ARGS__)
#define BINLOG_PP_MAP_17(m, f, a, ...) m(17, a) BINLOG_PP_MAP_16(m, f, __VA_ARGS__)
#define BINLOG_PP_MAP_18(m, f, a, ...) m(18, a) BINLOG_PP_MAP_17(m, f, __VA_ARGS__)
#define BINLOG_PP_MAP_19(m, f, a, ...) m(19, a) BINLOG_PP_MAP_18(m, f, __VA_ARGS__)
#define BINLOG_PP_MAP_20(m, f, a, ...) m(20, a) BINLOG_PP_MAP_19(m, f, __VA_ARGS__)
#define BINLOG_PP_MAP_21(m, f, a, ...) m(21, a) BINLOG_PP_MAP_20(m, f, __VA_ARGS__)
#define BINLOG_PP_MAP_22(m, f, a, ...) m(22, a) BINLOG_PP_MAP_21(m, f, __VA_ARGS__)
#define BINLOG_PP_MAP_23(m, f, a, ...) m(23, a) BINLOG_PP_MAP_22(m, f, __VA_ARGS__)
#define BINLOG_PP_MAP_24(m, f, a, ...) m(24, a) BINLOG_PP_MAP_23(m, f, __VA_ARGS__)
#define BINLOG_PP_MAP_25(m, f, a, ...) m(25, a) BINLOG_PP_MAP_24(m, f, __VA_ARGS__)
#define BINLOG_PP_MAP_26(m, f, a, ...) m(26, a) BINLOG_PP_MAP_25(m, f, __VA_ARGS__)
#define BINLOG_PP_MAP_27(m, f, a, ...) m(27, a) BINLOG_PP_MAP_26(m, f, __VA_ARGS__)
#define BINLOG_PP_MAP_28(m, f, a, ...) m(28, a) BINLOG_PP_MAP_27(m, f, __VA_ARGS__)
#define BINLOG_PP_MAP_29(m, f, a, ...) m(29, a) BINLOG_PP_MAP_28(m, f, __VA_ARGS__)
#define BINLOG_PP_MAP_30(m, f, a, ...) m(30, a) BINLOG_PP_MAP_29(m, f, __VA_ARGS__)
#define BINLOG_PP_MAP_31(m, f, a, ...) m(31, a) BINLOG_PP_MAP_30(m, f, __VA_ARGS__)
#define BINLOG_PP_MAP_32(m, f, a, ...) m(32, a) BINLOG_PP_MAP_31(m, f, __VA_ARGS__)
#define BINLOG_PP_LIST_0(m, f)
#define BINLOG_PP_LIST_1(m, f, a) , m(1, a)
#define BINLOG_PP_LIST_2(m, f, a, ...) , m(2, a) BINLOG_PP_LIST_1(m, f, __VA_ARGS__)
#define BINLOG_PP_LIST_3(m, f, a, ...) , m(3, a) BINLOG_PP_LIST_2(m, f, __VA_ARGS__)
#define BINLOG_PP_LIST_4(m, f, a, ...) , m(4, a) BINLOG_PP_LIST_3(m, f, __VA_ARGS__)
#define BINLOG_PP_LIST_5(m, f, a, ...) , m(5, a) BINLOG_PP_LIST_4(m, f, __VA_ARGS__)
#define BINLOG_PP_LIST_6(m, f, a, ...) , m(6, a) BINLOG_PP_LIST_5(m, f, __VA_ARGS__)
#define BINLOG_PP_LIST_7(m, f, a, ...) , m(7, a) BINLOG_PP_LIST_6(m, f, __VA_ARGS__)
#define BINLOG_PP_LIST_8(m, f, a, ...) , m(8, a) BINLOG_PP_LIST_7(m, f, __VA_ARGS__)
#define BINLOG_PP_LIST_9(m, f, a, ...) , m(9, a) BINLOG_PP_LIST_8(m, f, __VA_ARGS__)
#define BINLOG_PP_LIST_10(m, f, a, ...) , m(10, a) BINLOG_PP_LIST_9(m, f, __VA_ARGS__)
#define BINLOG_PP_LIST_11(m, f, a, ...) , m(11, a) BINLOG_PP_LIST_10(m, f, __VA_ARGS__)
#define BINLOG_PP_LIST_12(m, f, a, ...) , m(12, a) BINLOG_PP_LIST_11(m, f, __VA_ARGS__)
#define BINLOG_PP_LIST_13(m, f, a, ...) , m(13, a) BINLOG_PP_LIST_12(m, f, __VA_ARGS__)
#define BINLOG_PP_LIST_14(m, f, a, ...) , m(14, a) BINLOG_PP_LIST_13(m, f, __VA_ARGS__)
#define BINLOG_PP_LIST_15(m, f, a, ...) , m(15, a) BINLOG_PP_LIST_14(m, f, __VA_ARGS__)
#define BINLOG_PP_LIST_16(m, f, a, ...) , m(16, a) BINLOG_PP_LIST_15(m, f, __VA_ARGS__)
#define BINLOG_PP_LIST_17(m, f, a, ...) , m(17, a) BINLOG_PP_LIST_16(m, f, __VA_ARGS__)
#define BINLOG_PP_LIST_18(m, f, a, ...) , m(18, a) BINLOG_PP_LIST_17(m, f, __VA_ARGS__)
#define BINLOG_PP_LIST_19(m, f, a, ...) , m(19, a) BINLOG_PP_LIST_18(m, f, __VA_ARGS__)
#define BINLOG_PP_LIST_20(m, f, a, ...) , m(20, a) BINLOG_PP_LIST_19(m, f, __VA_ARGS__)
#define BINLOG_PP_LIST_21(m, f, a, ...) , m(21, a) BINLOG_PP_LIST_20(m, f, __VA_ARGS__)
#define BINLOG_PP_LIST_22(m, f, a, ...) , m(22, a) BINLOG_PP_LIST_21(m, f, __VA_ARGS__)
#define BINLOG_PP_LIST_23(m, f, a, ...) , m(23, a) BINLOG_PP_LIST_22(m, f, __VA_ARGS__)
#define BINLOG_PP_LIST_24(m, f, a, ...) , m(24, a) BINLOG_PP_LIST_23(m, f, __VA_ARGS__)
#define BINLOG_PP_LIST_25(m, f, a, ...) , m(25, a) BINLOG_PP_LIST_24(m, f, __VA_ARGS__)
#define BINLOG_PP_LIST_26(m, f, a, ...) , m(26, a) BINLOG_PP_LIST_25(m, f, __VA_ARGS__)
#define BINLOG_PP_LIST_27(m, f, a, ...) , m(27, a) BINLOG_PP_LIST_26(m, f, __VA_ARGS__)
#define BINLOG_PP_LIST_28(m, f, a, ...) , m(28, a) BINLOG_PP_LIST_27(m, f, __VA_ARGS__)
#define BINLOG_PP_LIST_29(m, f, a, ...) , m(29, a) BINLOG_PP_LIST_28(m, f, __VA_ARGS__)
#define BINLOG_PP_LIST_30(m, f, a, ...) , m(30, a) BINLOG_PP_LIST_29(m, f, __VA_ARGS__)
#define BINLOG_PP_LIST_31(m, f, a, ...) , m(31, a) BINLOG_PP_LIST_30(m, f, __VA_ARGS__)
#define BINLOG_PP_LIST_32(m, f, a, ...) , m(32, a) BINLOG_PP_LIST_31(m, f, __VA_ARGS__)
/* clang-format on */

#define BINLOG_PP_TEST_(n, a)	   +(n)*100 + (a)
#define BINLOG_PP_TEST_LIST_(n, a) (n) * 10 + (a)
#define BINLOG_PP_TEST_binlog_few  1
#define BINLOG_PP_TEST_binlog_many 2
#define BINLOG_PP_TEST_SIZE(...) \
	BINLOG_PP_CAT(BINLOG_PP_TEST_, BINLOG_PP_FEW_OR_MANY(BINLOG_PP_COUNT(__VA_ARGS__)))
_Static_assert(BINLOG_PP_COUNT(f) == 0, "no argument");
_Static_assert(BINLOG_PP_COUNT(f, a) == 1, "one argument");
_Static_assert(BINLOG_PP_COUNT(f, (a, b), c) == 2, "a comma in parentheses does not count");
_Static_assert(BINLOG_PP_COUNT(f, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19,
			       20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32) == 32,
	       "as many as there may be");
_Static_assert(BINLOG_PP_TEST_SIZE(f, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18,
				   19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32) == 1,
	       "32 are few");
_Static_assert(BINLOG_PP_TEST_SIZE(f, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18,
				   19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33) == 2,
	       "33 are many");
_Static_assert(0 BINLOG_PP_MAP(0, BINLOG_PP_TEST_, f) == 0, "nothing to map");
_Static_assert(0 BINLOG_PP_MAP(3, BINLOG_PP_TEST_, f, 1, 2, 3) == 606, "the number counts down");
_Static_assert(0 BINLOG_PP_MAP(32, BINLOG_PP_TEST_, f, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
			       1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1) == 52832,
	       "all 32 are mapped");
_Static_assert(sizeof((char[]){0 BINLOG_PP_LIST(3, BINLOG_PP_TEST_LIST_, f, 1, 2, 3)}) == 4,
	       "a list");
_Static_assert(sizeof((char[]){BINLOG_PP_FIRST(1, 2, 3) BINLOG_PP_REST(f)
				       BINLOG_PP_REST(1, 2, 3)}) == 3,
	       "first and rest");

#endif
