/* SPDX-License-Identifier: MIT */
/* A mapping by an address is the one that the list has there; code that was found is looked at. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include <errno.h>
#include <sys/uio.h>

#include "arch/arch.h"
#include "src/target/gadget.h"
#include "src/target/mapquery.h"
#include "tests/unit/target/child.h"

static void stands(struct child *c)
{
	c->shared[0] = 1;
}

static void test_every_mapping(void **state)
{
	static char list[1 << 20];
	char name[4096];
	struct child c;
	unsigned n = 0;
	size_t len;
	FILE *f;

	child_start(&c, stands);
	snprintf(name, sizeof(name), "/proc/%d/maps", c.pid);
	f = fopen(name, "re");
	assert_non_null(f);
	len = fread(list, 1, sizeof(list) - 1, f);
	fclose(f);
	assert_true(len > 100);
	for (char *save, *line = strtok_r(list, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		unsigned long start, end, off, ino;
		unsigned major, minor;
		struct mapping m;
		char perm[5];
		int at = 0, ret;

		assert_int_equal(sscanf(line, "%lx-%lx %4s %lx %x:%x %lu %n", &start, &end, perm,
					&off, &major, &minor, &ino, &at),
				 7);
		/* Of no process: the same in all. */
		if (strstr(line, "[vsyscall]"))
			continue;
		ret = map_query(c.pid, end - 1, &m, name, sizeof(name));
		if (ret == -ENOTTY || ret == -EINVAL) {
			child_end(&c);
			skip();
		}
		assert_int_equal(ret, 0);
		assert_int_equal(m.start, start);
		assert_int_equal(m.end, end);
		assert_int_equal(m.pgoff, off);
		assert_int_equal(m.ino, ino);
		assert_int_equal(m.dev, (uint64_t)major << 32 | minor);
		assert_int_equal(m.read, perm[0] == 'r');
		assert_int_equal(m.write, perm[1] == 'w');
		assert_int_equal(m.exec, perm[2] == 'x');
		assert_int_equal(m.shared, perm[3] == 's');
		assert_string_equal(m.name, line + at);
		n++;
	}
	assert_true(n > 10);
	assert_int_equal(map_query(c.pid, 4096, &(struct mapping){0}, name, sizeof(name)), -ENOENT);
	child_end(&c);
	assert_true(map_query(c.pid, 4096, &(struct mapping){0}, name, sizeof(name)) < 0);
}

/* That it is there, and not only was. */
static void expect_code(pid_t pid, uint64_t pc, const struct arch_gadget *g)
{
	uint8_t bytes[16];
	struct iovec l = {bytes, 0}, r = {(void *)(uintptr_t)pc, 0};

	for (; g->len; g++) {
		l.iov_len = r.iov_len = g->len;
		if (process_vm_readv(pid, &l, 1, &r, 1, 0) == (ssize_t)g->len &&
		    !memcmp(bytes, g->bytes, g->len))
			return;
	}
	fail_msg("no such code at %#llx", (unsigned long long)pc);
}

static void becomes_another(struct child *c)
{
	child_sync(c);
	execl("/bin/sleep", "sleep", "60", (char *)NULL);
	_exit(98);
}

/* What was learned of a program that is gone does no harm, and what still holds is found. */
static void test_learned(void **state)
{
	struct gadgets before, after;
	struct child c;
	char go = 1, name[64], exe[64] = "";

	child_start(&c, becomes_another);
	gadgets_learn(c.pid);
	assert_true(gadgets_find(c.pid, &before));
	expect_code(c.pid, before.syscall_pc, arch_inject.syscall_ret);
	expect_code(c.pid, before.sigreturn_pc, arch_inject.sigreturn);
	assert_int_equal(write(c.down[1], &go, 1), 1);
	snprintf(name, sizeof(name), "/proc/%d/exe", c.pid);
	for (int ms = 0; ms < 5000 && !strstr(exe, "sleep"); ms++) {
		memset(exe, 0, sizeof(exe));
		assert_true(readlink(name, exe, sizeof(exe) - 1) > 0);
		usleep(1000);
	}
	assert_non_null(strstr(exe, "sleep"));
	/* Its C library has been mapped by then. */
	usleep(100000);
	assert_true(gadgets_find(c.pid, &after));
	expect_code(c.pid, after.syscall_pc, arch_inject.syscall_ret);
	expect_code(c.pid, after.sigreturn_pc, arch_inject.sigreturn);
	child_end(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_mapping),
		cmocka_unit_test(test_learned),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
