/* SPDX-License-Identifier: MIT */
/* Texts of /proc: lines, numbers, stat, status, timers, build ids, whatever a target puts into
 * them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "src/image/model.h"
#include "src/target/buildid.h"
#include "src/target/collect.h"
#include "src/target/idmap.h"
#include "src/target/procfs.h"
#include "src/target/proctext.h"
#include "src/target/timers.h"

static void lines_of_text(void **state)
{
	char text[] = "one\n\ntwo\nno newline";
	struct procfs_lines l;

	procfs_lines_text(&l, text, strlen(text));
	assert_string_equal(procfs_lines_next(&l), "one");
	assert_string_equal(procfs_lines_next(&l), "");
	assert_string_equal(procfs_lines_next(&l), "two");
	assert_string_equal(procfs_lines_next(&l), "no newline");
	assert_null(procfs_lines_next(&l));
}

/* A buffer shorter than the file: every line comes, whole and once. */
static void lines_of_file(void **state)
{
	char small[300], whole[1 << 16], *line;
	ssize_t len = procfs_read(whole, sizeof(whole), "/proc/self/status");
	struct procfs_lines l;
	size_t got = 0;

	assert_true(len > 500);
	assert_int_equal(procfs_lines_open(&l, small, sizeof(small), "/proc/self/status"), 0);
	while ((line = procfs_lines_next(&l)))
		got += strlen(line) + 1;
	procfs_lines_close(&l);
	assert_int_equal(l.error, 0);
	assert_in_range(got, len - 8, len + 8);
	assert_true(procfs_lines_open(&l, small, sizeof(small), "/proc/nonsense") == -ENOENT);
}

static void line_longer_than_the_buffer(void **state)
{
	int fd = memfd_create("lines", 0);
	struct procfs_lines l;
	char buf[64], *line;
	size_t got = 0;

	for (int i = 0; i < 1000; i++)
		assert_int_equal(write(fd, "x", 1), 1);
	assert_int_equal(procfs_lines_open(&l, buf, sizeof(buf), "/proc/self/fd/%d", fd), 0);
	while ((line = procfs_lines_next(&l)))
		got += strlen(line);
	assert_int_equal(got, 1000);
	procfs_lines_close(&l);
	close(fd);
}

static void numbers(void **state)
{
	const char *p = " 18446744073709551615x";
	uint64_t v = 7;

	assert_true(procfs_dec(&p, &v));
	assert_true(v == UINT64_MAX && *p == 'x');
	assert_false(procfs_dec(&p, &v));
	p = "7fffb0e0ffffffff-";
	assert_true(procfs_hex(&p, &v) && v == 0x7fffb0e0ffffffffULL && *p == '-');
	p = "-1";
	assert_false(procfs_hex(&p, &v));
	p = "";
	assert_false(procfs_dec(&p, &v));
}

#define STAT_REST                                                                              \
	" T 11 12 13 34816 -1 4194304 5 0 0 0 250 150 0 0 20 0 3 0 208498 3133440 358 "        \
	"18446744073709551615 1001 1002 1003 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 2001 2002 2003 " \
	"3001 3002 3003 3004 256\n"

static void stat_with_any_name(void **state)
{
	static const char *const names[] = {"sh", ") R 1 2 3", "a) b (c", "", "((((((((((((((("};
	struct procfs_stat st;
	char text[1024];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(text, sizeof(text), "4711 (%s)" STAT_REST, names[i]);
		assert_int_equal(procfs_parse_stat(text, &st), 0);
		assert_string_equal(st.comm, names[i]);
		assert_int_equal(st.pid, 4711);
		assert_int_equal(st.state, 'T');
		assert_int_equal(st.ppid, 11);
		assert_int_equal(st.pgid, 12);
		assert_int_equal(st.sid, 13);
		assert_int_equal(st.utime_ticks, 250);
		assert_int_equal(st.start_time, 208498);
		assert_int_equal(st.start_code, 1001);
		assert_int_equal(st.start_stack, 1003);
		assert_int_equal(st.start_data, 2001);
		assert_int_equal(st.start_brk, 2003);
		assert_int_equal(st.env_end, 3004);
		assert_int_equal(st.exit_code, 256);
	}
}

static void stat_cut_anywhere(void **state)
{
	static const char whole[] = "4711 (sh)" STAT_REST;
	struct procfs_stat st;

	for (size_t len = 0; len < sizeof(whole); len++) {
		char *text = strndup(whole, len);
		int ret = procfs_parse_stat(text, &st);

		assert_true(ret == 0 || ret == -EBADMSG);
		if (len < 60)
			assert_int_equal(ret, -EBADMSG);
		free(text);
	}
	assert_int_equal(procfs_parse_stat("1 )(", &st), -EBADMSG);
}

static void status_keys(void **state)
{
	static const char text[] = "Name:\tUid:\\n1\nUmask:\t0027\nState:\tt (tracing stop)\n"
				   "Tgid:\t42\nPid:\t43\nPPid:\t1\nUid:\t1\t2\t3\t4\n"
				   "Gid:\t5\t6\t7\t8\nGroups:\t9 10 \nNSpid:\t43\t7\n"
				   "CapBnd:\t000001ffffffffff\nNoNewPrivs:\t1\nSeccomp:\t2\n";
	struct procfs_status st;

	assert_int_equal(procfs_parse_status(text, &st), 0);
	assert_int_equal(st.umask, 027);
	assert_int_equal(st.state, 't');
	assert_int_equal(st.tgid, 42);
	assert_int_equal(st.pid, 43);
	assert_int_equal(st.ns_pid, 7);
	assert_int_equal(st.uid[3], 4);
	assert_int_equal(st.gid[0], 5);
	assert_true(st.cap_bnd == 0x1ffffffffffULL);
	assert_int_equal(st.no_new_privs, 1);
	assert_int_equal(st.seccomp, 2);
	assert_memory_equal(st.groups, "\t9 10 \n", 7);
	assert_int_equal(st.shadow | st.shadow_locked, 0);
	assert_true(!st.ignored);
	assert_int_equal(procfs_parse_status("Name:\tx\n", &st), -EBADMSG);
}

/* As Linux 6.6 writes it on x86-64; words that are not known count for nothing. */
static void status_of_shadow_stacks(void **state)
{
	static const struct {
		const char *text;
		uint32_t on, locked;
	} cases[] = {
		{"x86_Thread_features:\tshstk wrss \nx86_Thread_features_locked:\tshstk \n", 3, 1},
		{"x86_Thread_features:\tshstk \nx86_Thread_features_locked:\tshstk wrss \n", 1, 3},
		{"x86_Thread_features:\t\nx86_Thread_features_locked:\t\n", 0, 0},
		{"x86_Thread_features:\tshstk2 wrs new wrss\nx86_Thread_features_locked:\t", 2, 0},
	};
	struct procfs_status st;
	char text[256];

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		snprintf(text, sizeof(text), "Tgid:\t42\nPid:\t43\n%s", cases[i].text);
		assert_int_equal(procfs_parse_status(text, &st), 0);
		assert_int_equal(st.shadow, cases[i].on);
		assert_int_equal(st.shadow_locked, cases[i].locked);
	}
}

/* As Linux 6.4 writes it. */
static void status_of_address_masks(void **state)
{
	static const struct {
		const char *text;
		uint16_t machine;
		bool masks;
	} cases[] = {
		{"", EM_X86_64, false},
		{"untag_mask:\t0xffffffffffffffff\n", EM_X86_64, false},
		{"untag_mask:\t0x81ffffffffffffff\n", EM_X86_64, true},
		{"untag_mask:\t0xffffffffffffff\n", EM_AARCH64, false},
	};
	struct procfs_status st;
	char text[256];

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		snprintf(text, sizeof(text), "Tgid:\t42\nPid:\t43\n%s", cases[i].text);
		assert_int_equal(procfs_parse_status(text, &st), 0);
		assert_int_equal(procfs_masks_addresses(&st, cases[i].machine), cases[i].masks);
	}
}

static void timers_of_all_kinds(void **state)
{
	static const char text[] = "ID: 8\nsignal: 0/0\nnotify: none/pid.1\nClockID: 7\n"
				   "ID: 3\nsignal: 60/00007fff86e452a8\nnotify: signal/pid.2634\n"
				   "ClockID: 0\nID: 7\nsignal: 10/ffffffffffffffff\n"
				   "notify: signal/tid.99\nClockID: -6\nnonsense\n";
	struct model *m = model_new(0);
	struct m_proc p = {0};

	assert_int_equal(timers_parse(m, text, &p), 0);
	assert_int_equal(p.nposix_timers, 3);
	assert_int_equal(p.posix_timers[0].id, 3);
	assert_int_equal(p.posix_timers[0].signo, 60);
	assert_true(p.posix_timers[0].sigval == 0x7fff86e452a8ULL);
	assert_int_equal(p.posix_timers[0].notify, 0);
	assert_int_equal(p.posix_timers[1].notify, 4);
	assert_int_equal(p.posix_timers[1].notify_tid, 99);
	assert_int_equal(p.posix_timers[1].clock_id, -6);
	assert_true(p.posix_timers[1].sigval == UINT64_MAX);
	assert_int_equal(p.posix_timers[2].notify, 1);
	assert_int_equal(p.posix_timers[2].clock_id, 7);
	model_free(m);
}

static void text_grows(void **state)
{
	int fd = memfd_create("text", 0);
	char path[64], block[4096];
	struct proctext t = {0};

	memset(block, 'x', sizeof(block));
	for (int i = 0; i < 100; i++)
		assert_int_equal(write(fd, block, sizeof(block)), sizeof(block));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	assert_int_equal(proctext_read(&t, AT_FDCWD, path), 100 * 4096);
	assert_int_equal(strlen(t.data), 100 * 4096);
	assert_int_equal(proctext_read(&t, AT_FDCWD, "/proc/self/nonsense"), -ENOENT);
	assert_true(proctext_link(&t, AT_FDCWD, path) > 5);
	assert_string_equal(t.data, "/memfd:text (deleted)");
	assert_int_equal(ftruncate(fd, PROCTEXT_MAX), 0);
	assert_int_equal(proctext_read(&t, AT_FDCWD, path), -E2BIG);
	proctext_deinit(&t);
	close(fd);
}

static void findings_are_printable(void **state)
{
	struct model *m = model_new(0);

	assert_int_equal(finding_add(m, 5, "fd %d: %s: x", 3, "a\n\033[31mb\x7f\xc3\xa4"), 0);
	assert_int_equal(m->nfindings, 1);
	assert_int_equal(m->findings[0].pid, 5);
	assert_false(m->findings[0].fatal);
	assert_string_equal(m->findings[0].text, "fd 3: a??[31mb?\xc3\xa4: x");
	model_free(m);
}

static void idmap_finds_all(void **state)
{
	struct idmap map = {0};
	uint32_t v = 0;
	size_t pos;
	int n = 0;

	assert_false(idmap_get(&map, 1, &v));
	for (uint32_t i = 0; i < 5000; i++)
		assert_int_equal(idmap_put(&map, (uint64_t)i << 32, i), 0);
	for (uint32_t i = 0; i < 5000; i++) {
		assert_true(idmap_get(&map, (uint64_t)i << 32, &v));
		assert_int_equal(v, i);
	}
	assert_false(idmap_get(&map, 77, &v));
	for (uint32_t i = 0; i < 10; i++)
		idmap_put(&map, 77, i);
	pos = idmap_start(&map, 77);
	while (idmap_next(&map, 77, &pos, &v))
		n++;
	assert_int_equal(n, 10);
	idmap_deinit(&map);
}

struct tiny_elf {
	Elf64_Ehdr eh;
	Elf64_Phdr ph[2];
	Elf64_Nhdr other;
	char other_name[8];
	uint8_t other_desc[4];
	Elf64_Nhdr nh;
	char name[4];
	uint8_t id[20];
};

enum { OWN_DATA = BYTE_ORDER == LITTLE_ENDIAN ? ELFDATA2LSB : ELFDATA2MSB };

static void tiny_elf(struct tiny_elf *e)
{
	*e = (struct tiny_elf){
		.eh = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, OWN_DATA},
		       .e_phoff = offsetof(struct tiny_elf, ph),
		       .e_phentsize = sizeof(Elf64_Phdr),
		       .e_phnum = 2},
		.ph = {{.p_type = PT_LOAD, .p_filesz = sizeof(*e)},
		       {.p_type = PT_NOTE,
			.p_offset = offsetof(struct tiny_elf, other),
			.p_filesz = sizeof(*e) - offsetof(struct tiny_elf, other)}},
		.other = {.n_namesz = 5, .n_descsz = 3, .n_type = 1},
		.other_name = "abcd",
		.nh = {.n_namesz = 4, .n_descsz = 20, .n_type = NT_GNU_BUILD_ID},
		.name = "GNU",
	};
	for (int i = 0; i < 20; i++)
		e->id[i] = (uint8_t)(i + 1);
}

static int tiny_id(const void *elf, size_t len, uint8_t id[BUILDID_MAX])
{
	int fd = memfd_create("elf", 0), ret;

	assert_int_equal(write(fd, elf, len), len);
	ret = buildid_read(fd, id);
	close(fd);
	return ret;
}

static void build_id_of_elf(void **state)
{
	uint8_t id[BUILDID_MAX], big[sizeof(struct tiny_elf) + 200] = {0};
	struct tiny_elf e;

	tiny_elf(&e);
	assert_int_equal(tiny_id(&e, sizeof(e), id), 20);
	assert_memory_equal(id, e.id, 20);
	/* Cut short: none, and nothing read behind the end. */
	for (size_t len = 0; len < offsetof(struct tiny_elf, id) + sizeof(e.id); len++)
		assert_int_equal(tiny_id(&e, len, id), 0);
	/* Any byte wrong: no crash (under the sanitizers), and at most what there is room for. */
	for (size_t i = 0; i < sizeof(e); i++) {
		struct tiny_elf bad = e;

		((uint8_t *)&bad)[i] ^= 0xff;
		assert_in_range(tiny_id(&bad, sizeof(bad), id), 0, BUILDID_MAX);
	}
	/* Longer than any build id, and there: not taken. */
	e.nh.n_descsz = BUILDID_MAX + 1;
	e.ph[1].p_filesz = sizeof(e) + 100;
	memcpy(big, &e, sizeof(e));
	assert_int_equal(tiny_id(big, sizeof(big), id), 0);
	e.nh.n_descsz = UINT32_MAX;
	assert_int_equal(tiny_id(&e, sizeof(e), id), 0);
	e.other.n_namesz = UINT32_MAX;
	assert_int_equal(tiny_id(&e, sizeof(e), id), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_of_text),
		cmocka_unit_test(lines_of_file),
		cmocka_unit_test(line_longer_than_the_buffer),
		cmocka_unit_test(numbers),
		cmocka_unit_test(stat_with_any_name),
		cmocka_unit_test(stat_cut_anywhere),
		cmocka_unit_test(status_keys),
		cmocka_unit_test(status_of_address_masks),
		cmocka_unit_test(status_of_shadow_stacks),
		cmocka_unit_test(timers_of_all_kinds),
		cmocka_unit_test(text_grows),
		cmocka_unit_test(findings_are_printable),
		cmocka_unit_test(idmap_finds_all),
		cmocka_unit_test(build_id_of_elf),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
