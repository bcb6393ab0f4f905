/* SPDX-License-Identifier: MIT */
/* The texts of maps and smaps, whatever names are in them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "src/image/model.h"
#include "src/target/smaps.h"

static int parse(struct smaps *s, const char *text)
{
	char *copy = strdup(text);
	struct procfs_lines l;
	int ret;

	procfs_lines_text(&l, copy, strlen(copy));
	ret = smaps_parse(s, &l);
	free(copy);
	return ret;
}

static void parse_maps(void **state)
{
	struct smaps s = {0};

	assert_int_equal(
		parse(&s, "1000-2000 r-xp 00003000 fe:00 247134    /a b\\012c (deleted)\n"
			  "2000-3000 rw-s 00000000 00:01 18446744073709551615 /memfd:x\n"
			  "7fff00000000-7fff00001000 ---p 00000000 00:00 0 \n"
			  "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0   [vsyscall]"),
		0);
	assert_int_equal(s.n, 4);
	assert_true(s.v[0].start == 0x1000 && s.v[0].end == 0x2000 && s.v[0].pgoff == 0x3000);
	assert_int_equal(s.v[0].prot, PROT_READ | PROT_EXEC);
	assert_int_equal(s.v[0].major, 0xfe);
	assert_int_equal(s.v[0].ino, 247134);
	assert_false(s.v[0].shared);
	assert_string_equal(smaps_string(&s, s.v[0].name), "/a b\\012c (deleted)");
	assert_true(s.v[1].shared);
	assert_true(s.v[1].ino == UINT64_MAX);
	assert_int_equal(s.v[2].prot, 0);
	assert_string_equal(smaps_string(&s, s.v[2].name), "");
	assert_string_equal(smaps_string(&s, s.v[3].name), "[vsyscall]");
	assert_true(s.v[3].start == 0xffffffffff600000ULL);
	smaps_deinit(&s);
}

static void parse_smaps(void **state)
{
	struct smaps s = {0};

	assert_int_equal(parse(&s, "1000-2000 rw-p 0 00:00 0 \n"
				   "Size: 4 kB\nKernelPageSize:        4 kB\n"
				   "ProtectionKey:         0\n"
				   "VmFlags: rd wr mr mw me gd ac lo \n"
				   "2000-3000 rw-s 0 00:0e 5 /anon_hugepage (deleted)\n"
				   "KernelPageSize:     2048 kB\nTHPeligible: 0\n"
				   "ProtectionKey:        15\n"
				   "VmFlags: rd sh mr mw me ms de ht um zz \n"
				   "3000-4000 rw-p 0 00:00 0 \nVmFlags:\n"),
			 0);
	assert_int_equal(s.n, 3);
	assert_int_equal(s.v[0].flags, M_VMF_GROWSDOWN | M_VMF_ACCOUNT | M_VMF_LOCKED);
	assert_int_equal(s.v[0].page_shift, 12);
	assert_string_equal(smaps_string(&s, s.v[0].vmflags), "rd wr mr mw me gd ac lo");
	assert_int_equal(s.v[1].flags, M_VMF_MAYSHARE | M_VMF_HUGETLB | M_VMF_UFFD);
	assert_int_equal(s.v[1].page_shift, 21);
	assert_true(s.v[1].no_expand && s.v[1].may_write);
	assert_int_equal(s.v[2].flags, 0);
	assert_int_equal(s.v[2].page_shift, 0);
	assert_int_equal(s.v[0].pkey, 0);
	assert_int_equal(s.v[1].pkey, 15);
	assert_int_equal(s.v[2].pkey, 0);
	assert_true(s.keys);
	/* They differ in nothing else, and stay two. */
	assert_int_equal(parse(&s, "1000-2000 rw-p 0 00:00 0 \nProtectionKey: 0\nVmFlags: rd\n"
				   "2000-3000 rw-p 0 00:00 0 \nProtectionKey: 0\nVmFlags: rd\n"),
			 0);
	assert_int_equal(s.n, 2);
	assert_false(s.keys);
	smaps_deinit(&s);
}

static void parse_refuses(void **state)
{
	static const char *const bad[] = {
		"1000-1000 rw-p 0 00:00 0 \n",
		"2000-1000 rw-p 0 00:00 0 \n",
		"1000-2000 rwzp 0 00:00 0 \n",
		"1000-2000 rw-x 0 00:00 0 \n",
		"1000-2000 rw-p 0 00:00\n",
		"1000-2000 rw-p 0 100000000:00 0 \n",
		"1000-2000",
		"1000 2000 rw-p 0 00:00 0 \n",
		"Size: 4 kB\n",
		"1000-3000 rw-p 0 00:00 0 \n2000-4000 rw-p 0 00:00 0 \n",
		"5000-6000 rw-p 0 00:00 0 \n1000-2000 rw-p 0 00:00 0 \n",
		"1000-2000 rw-p 0 00:00 0 \nKernelPageSize: x\n",
		"1000-2000 rw-p 0 00:00 0 \nKernelPageSize: 0 kB\n",
		"1000-2000 rw-p 0 00:00 0 \nProtectionKey: 32\n",
		"1000-2000 rw-p 0 00:00 0 \nProtectionKey: x\n",
		"ProtectionKey: 1\n",
	};
	struct smaps s = {0};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(parse(&s, bad[i]), -EBADMSG);
	assert_int_equal(parse(&s, ""), 0);
	assert_int_equal(s.n, 0);
	smaps_deinit(&s);
}

static void inherit_what_is_the_same(void **state)
{
	static const char head[] = "1000-2000 rw-p 0 00:00 0 \n";
	static const char *const other[] = {
		"1000-3000 rw-p 0 00:00 0 \n",	     "1000-2000 r--p 0 00:00 0 \n",
		"1000-2000 rw-s 0 00:00 0 \n",	     "1000-2000 rw-p 1 00:00 0 \n",
		"1000-2000 rw-p 0 00:01 0 \n",	     "1000-2000 rw-p 0 00:00 1 \n",
		"1000-2000 rw-p 0 00:00 0 [heap]\n", "3000-4000 rw-p 0 00:00 0 \n",
	};
	struct smaps old = {0}, now = {0};

	parse(&old, "800-900 rw-p 0 00:00 0 \nVmFlags: dd\n"
		    "1000-2000 rw-p 0 00:00 0 \nKernelPageSize: 4 kB\nProtectionKey: 3\n"
		    "VmFlags: rd lo mw\n");
	parse(&now, head);
	assert_true(smaps_inherit(&now, &old));
	assert_int_equal(now.v[0].flags, M_VMF_LOCKED);
	assert_int_equal(now.v[0].page_shift, 12);
	assert_int_equal(now.v[0].pkey, 3);
	assert_true(now.keys && now.v[0].may_write);
	assert_string_equal(smaps_string(&now, now.v[0].vmflags), "rd lo mw");
	for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++) {
		parse(&now, other[i]);
		assert_false(smaps_inherit(&now, &old));
	}
	smaps_deinit(&old);
	smaps_deinit(&now);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parse_maps),
		cmocka_unit_test(parse_smaps),
		cmocka_unit_test(parse_refuses),
		cmocka_unit_test(inherit_what_is_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
